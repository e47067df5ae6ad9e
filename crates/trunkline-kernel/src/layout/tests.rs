//! What is said is understood, and what cannot be understood is an error.

use std::num::NonZeroU16;

use proptest::prelude::*;

use super::*;

fn signal() -> impl Strategy<Value = SignalName> {
    "[A-Z][A-Z0-9+-]{0,15}".prop_filter_map("it begins as SIG", |name| name.parse().ok())
}

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![
        any::<u64>().prop_map(Status::Idle),
        any::<u64>().prop_map(Status::Incomplete),
        any::<u64>().prop_map(Status::Busy),
        any::<u64>().prop_map(Status::Waiting),
        any::<u64>().prop_map(Status::Secret),
        any::<u64>().prop_map(Status::Interrupting),
        any::<u64>().prop_map(Status::Hung),
        any::<u64>().prop_map(Status::Failed),
        any::<i32>().prop_map(Status::Exited),
        signal().prop_map(Status::Killed),
    ]
}

fn control() -> impl Strategy<Value = Control> {
    let size = || any::<NonZeroU16>();
    prop_oneof![
        Just(Control::Interrupt(Target::Running)),
        any::<u64>().prop_map(|number| Control::Interrupt(Target::Message(number))),
        any::<u64>().prop_map(|number| Control::Interrupt(Target::Own(number))),
        (size(), size()).prop_map(|(columns, rows)| Control::Resize { columns, rows }),
        signal().prop_map(Control::Signal),
        Just(Control::Exit),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (any::<String>(), any::<usize>()).prop_map(|(code, cursor)| Operation::Complete { code, cursor }),
        (any::<String>(), any::<usize>()).prop_map(|(code, cursor)| Operation::Inspect { code, cursor }),
        Just(Operation::Variables),
        Just(Operation::Stack),
        Just(Operation::Info),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let text = any::<String>;
    let variable = (text(), text(), text(), text())
        .prop_map(|(name, kind, size, text)| Variable::new(name, kind, size, &text));
    let frame =
        (text(), any::<u64>(), text()).prop_map(|(file, line, function)| Frame { file, line, function });
    let frames = prop::collection::vec(frame, 0..3);
    let thread = (text(), frames).prop_map(|(name, frames)| Thread { name, frames });
    prop_oneof![
        text().prop_map(|error| Reply::Error { error }),
        (prop::collection::vec(text(), 0..4), any::<usize>(), any::<usize>())
            .prop_map(|(matches, start, end)| Reply::Complete { matches, start, end }),
        text().prop_map(|text| Reply::Inspect { text }),
        prop::collection::vec(variable, 0..3).prop_map(|variables| Reply::Variables { variables }),
        prop::collection::vec(thread, 0..3).prop_map(|threads| Reply::Stack { threads }),
        (text(), text(), text(), any::<u32>()).prop_map(|(language, version, banner, pid)| Reply::Info {
            language,
            version,
            banner,
            pid
        }),
    ]
}

/// Words of the layout, torn and put together, and noise.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        status().prop_map(|status| status.to_string().into_bytes()),
        control().prop_map(|control| control.to_string().into_bytes()),
        operation().prop_map(|operation| Request { id: 1, operation }.to_message()),
        reply().prop_map(|reply| Answer { id: None, reply }.to_message()),
        Just(br#"{"mime":"image/png","text":"#.to_vec()),
        Just(br#"{"line":{"own":1,"input":2}}"#.to_vec()),
        Just(vec![b'['; 1000]),
        Just(b"18446744073709551616".to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    (prop::collection::vec(word, 1..4), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(words, at, cut)| {
            let mut bytes = words.concat();
            if cut && !bytes.is_empty() {
                bytes.truncate(at.index(bytes.len()));
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_said_is_understood(
        status in status(), control in control(), id in any::<u64>(), operation in operation(), reply in reply()
    ) {
        prop_assert_eq!(Status::try_from(status.to_string().as_bytes()), Ok(status));
        prop_assert_eq!(Control::try_from(control.to_string().as_bytes()), Ok(control));
        let request = Request { id, operation };
        prop_assert_eq!(Request::try_from(&*request.to_message()), Ok(request));
        let answer = Answer { id: Some(id), reply };
        prop_assert_eq!(Answer::try_from(&*answer.to_message()), Ok(answer));
    }

    #[test]
    fn a_picture_is_understood(
        mime in "[a-z]{1,9}/[a-z]{1,9}", id in any::<Option<String>>(), replaces in any::<bool>(),
        text in any::<String>(), body in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let picture = Picture { mime, id, replaces, text, body: body.into() };
        prop_assert_eq!(Picture::from_message(picture.to_message()), Ok(picture));
    }

    /// Nothing panics, each error is short and has no control characters, and what is understood is said the same
    /// way: there is one text for each meaning.
    #[test]
    fn what_a_peer_makes_up_is_understood_or_refused(bytes in hostile()) {
        let mut errors = Vec::new();
        match Status::try_from(&*bytes) {
            Ok(status) => prop_assert_eq!(status.to_string().into_bytes(), bytes.clone()),
            Err(error) => errors.push(error.to_string()),
        }
        match Control::try_from(&*bytes) {
            Ok(control) => {
                let said = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
                let control = control.to_string();
                prop_assert_eq!(control.as_bytes(), said);
            }
            Err(error) => errors.push(error.to_string()),
        }
        errors.extend(Request::try_from(&*bytes).err().map(|error| error.to_string()));
        errors.extend(Answer::try_from(&*bytes).err().map(|error| error.to_string()));
        errors.extend(Roster::try_from(&*bytes).err().map(|error| error.to_string()));
        errors.extend(Picture::from_message(bytes).err().map(|error| error.to_string()));
        for error in errors {
            prop_assert!(error.len() < 600 && !error.contains(char::is_control), "{error:?}");
        }
    }
}

#[test]
fn a_word_is_written_in_one_way() {
    for text in [
        "idle 07",
        "idle +7",
        "idle -7",
        "idle 7 ",
        " idle 7",
        "idle  7",
        "IDLE 7",
        "idle 7\n",
        "exited -0",
        "idle",
    ] {
        assert!(text.parse::<Status>().is_err(), "{text:?}");
    }
    for text in [
        "interrupt 07",
        "interrupt own",
        "interrupt  7",
        "interrupt 7 7",
        "resize 0 24",
        "resize 80",
        "exit 3",
    ] {
        assert!(text.parse::<Control>().is_err(), "{text:?}");
    }
    for text in ["resize 65536 1", "signal SIGTERM", "signal term", "signal ", "signal A B", "interrupt\n\n"]
    {
        assert!(text.parse::<Control>().is_err(), "{text:?}");
    }
    // By hand, with a newline.
    assert_eq!("interrupt own 3\n".parse(), Ok(Control::Interrupt(Target::Own(3))));
}

/// The examples of the specification, byte by byte.
#[test]
fn messages_are_those_of_the_layout() {
    let request = br#"{"id":1,"op":"complete","code":"imp","cursor":3}"#;
    assert_eq!(Request::try_from(&request[..]).unwrap().to_message(), request);
    for (reply, message) in [
        (
            Reply::Complete { matches: vec!["import".to_owned()], start: 0, end: 3 },
            r#"{"id":1,"matches":["import"],"start":0,"end":3}"#,
        ),
        (Reply::Error { error: "…".to_owned() }, r#"{"id":1,"error":"…"}"#),
        (Reply::Inspect { text: "…".to_owned() }, r#"{"id":1,"text":"…"}"#),
        (
            Reply::Variables { variables: vec![Variable::new("a", "int", "", "1")] },
            r#"{"id":1,"variables":[{"name":"a","type":"int","size":"","text":"1"}]}"#,
        ),
        (
            Reply::Stack {
                threads: vec![Thread {
                    name: "main".to_owned(),
                    frames: vec![Frame { file: "a.py".to_owned(), line: 3, function: "f".to_owned() }],
                }],
            },
            r#"{"id":1,"threads":[{"name":"main","frames":[{"file":"a.py","line":3,"function":"f"}]}]}"#,
        ),
    ] {
        let answer = Answer { id: Some(1), reply };
        assert_eq!(String::from_utf8(answer.to_message()).unwrap(), message);
    }
    let header = r#"{"mime":"image/png","id":"fig-3","replaces":false,"text":"<Figure 640x480>"}"#;
    let picture = Picture::new("image/png", &b"\x89PNG"[..]).id("fig-3").text("<Figure 640x480>");
    assert_eq!(&picture.to_message()[..], [header.as_bytes(), b"\n\x89PNG"].concat());
}

#[test]
fn lengths_have_bounds() {
    let long = "x".repeat(MAX_REQUEST);
    let request = Request { id: 1, operation: Operation::Complete { code: long.clone(), cursor: 0 } };
    assert!(Request::try_from(&*request.to_message()).unwrap_err().why.contains("there may be 1048576"));
    assert!(Status::try_from(format!("idle {}", "1".repeat(MAX_WORD)).as_bytes()).is_err());
    assert!(Control::try_from(format!("signal {long}").as_bytes()).is_err());

    // An answer that is too large becomes an error, and one that comes is refused.
    let answer = Answer { id: Some(7), reply: Reply::Inspect { text: "x".repeat(MAX_ANSWER) } };
    let sent = Answer::try_from(&*answer.to_message()).unwrap();
    assert!(
        matches!(sent, Answer { id: Some(7), reply: Reply::Error { error } } if error.contains("4194304"))
    );
    let raw = format!(r#"{{"id":7,"text":"{}"}}"#, "x".repeat(MAX_ANSWER));
    assert!(Answer::try_from(raw.as_bytes()).is_err());

    // Texts of variables are cut, also those that come.
    let text = "…".repeat(MAX_TEXT + 1);
    assert_eq!(Variable::new("a", "b", "", &text).text.chars().count(), MAX_TEXT);
    let raw = format!(r#"{{"id":1,"variables":[{{"name":"a","type":"b","text":"{text}"}}]}}"#);
    let Reply::Variables { variables } = Answer::try_from(raw.as_bytes()).unwrap().reply else { panic!() };
    assert_eq!(variables[0].text.chars().count(), MAX_TEXT);

    // A header has its bound whatever the text is made of.
    let picture =
        Picture::new("image/png", "body").text("\0".repeat(MAX_HEADER)).id("\u{1}".repeat(MAX_HEADER));
    let message = picture.to_message();
    assert!(message.len() < MAX_HEADER && Picture::from_message(message).unwrap().text.len() > 1000);
    assert_eq!(Picture::from_message(vec![b'x'; MAX_HEADER + 10]), Err(PictureError::NoHeader));
    assert!(Roster::try_from(&*vec![b'['; 10 << 20]).is_err());
}

#[test]
fn a_cursor_that_is_nowhere_is_at_the_end() {
    for (code, cursor, start, before, whole) in [
        ("", 0, 0, "", ""),
        ("", 9, 0, "", ""),
        ("äb cd", 1, 0, "ä", "äb"),
        ("äb cd", 2, 0, "äb", "äb"),
        ("äb cd", 3, 3, "", "cd"),
        ("äb cd", usize::MAX, 3, "cd", "cd"),
        ("++", 1, 1, "", ""),
    ] {
        let name =
            Operation::Complete { code: code.to_owned(), cursor }.name_at_cursor(char::is_alphanumeric);
        let expected = Name { start, before: before.to_owned(), whole: whole.to_owned() };
        assert_eq!(name, expected, "{code:?} {cursor}");
    }
    assert_eq!(Operation::Stack.name_at_cursor(|_| true), Name::default());
}
