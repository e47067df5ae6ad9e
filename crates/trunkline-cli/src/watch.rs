//! `trunkline watch`.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crossbeam_channel::select;
use serde_json::{Value, json};
use trunkline::{ChannelId, Event, Events, Received};
use trunkline_kernel::layout::{DISPLAY, Picture, STATUS, STDERR, STDOUT, Status};

use crate::arguments;
use crate::attach;
use crate::client::{Client, exit_code};
use crate::failure::{Failure, Outcome, READER_GONE};
use crate::output;
use crate::screen::{is_terminal, lines_of, screen_of};

pub fn run(arguments: arguments::Watch) -> Outcome {
    if !arguments.json {
        return attach::run(&attach::Options::watching(arguments.reach));
    }
    let client = Client::connect(&arguments.reach)?;
    let received = client.receiver(STDOUT | STDERR | STATUS | DISPLAY)?;
    let events = client.connection.events();
    let mut objects = Objects::default();
    let gone = output::reader_gone()?;
    loop {
        tell_link(&events);
        // An event of the link is no reason to wake up: what it tells is told before the next message.
        select! {
            recv(received.ready()) -> _ => {}
            recv(gone) -> _ => return Ok(READER_GONE),
        }
        let received = match client.receive(&received, Some(Instant::now())) {
            Ok(Some(received)) => received,
            Ok(None) => continue,
            Err(lost) => {
                print(&objects.rest())?;
                return Err(lost);
            }
        };
        tell_link(&events);
        let (lines, end) = objects.of(received);
        print(&lines)?;
        if let Some(code) = end {
            return Ok(code);
        }
    }
}

/// Says on standard error when the link is lost, and when it is back.
fn tell_link(events: &Events) {
    while let Ok(event) = events.try_recv() {
        match event {
            Event::Suspended { .. } => output::tell("trunkline: link lost, trying"),
            Event::Resumed { .. } => output::tell("trunkline: the link is back"),
            _ => {}
        }
    }
}

/// Prints objects, each as it comes.
fn print(objects: &[Value]) -> Result<(), Failure> {
    let lines: String = objects.iter().map(|object| format!("{object}\n")).collect();
    output::print(lines)
}

/// Makes an object of each message. A character that two messages share goes with the second.
#[derive(Default)]
struct Objects {
    /// The beginnings of characters on standard output and error.
    begun: [Vec<u8>; 2],
    past: Past,
}

/// What stands for the output that came before.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Past {
    /// Nothing has come yet.
    #[default]
    Unknown,
    /// Nothing does: the program is on pipes.
    Output,
    /// The next message of a terminal, which shows its screen.
    ScreenNext,
    /// Such a message has come.
    Screen,
}

impl Objects {
    /// The objects for what was received, and the exit status if it is the program's end.
    fn of(&mut self, received: Received) -> (Vec<Value>, Option<u8>) {
        match received {
            Received::Message(message) => match message.channel() {
                STATUS => {
                    let text = String::from_utf8_lossy(&message).into_owned();
                    let end = Status::try_from(&message[..]).ok().as_ref().and_then(exit_code);
                    // What the program has written stands before what became of it.
                    let mut objects = if end.is_some() { self.rest() } else { Vec::new() };
                    objects.push(json!({ "time": now(), "status": text }));
                    (objects, end)
                }
                DISPLAY => (vec![display(&message)], None),
                STDOUT => (self.stdout(&message), None),
                channel => (self.text(channel, &message).into_iter().collect(), None),
            },
            Received::Gap { channel, messages, bytes } => {
                let mut objects: Vec<_> = self.flush(channel).into_iter().collect();
                let gap = json!({ "messages": messages, "bytes": bytes });
                objects.push(json!({ "time": now(), "channel": name(channel), "gap": gap }));
                (objects, None)
            }
            Received::Finished(channel) | Received::Reset { channel, .. } => {
                if channel == STDOUT && self.past == Past::Screen {
                    self.past = Past::ScreenNext;
                }
                (self.flush(channel).into_iter().collect(), None)
            }
            _ => (Vec::new(), None),
        }
    }

    /// The screen of a terminal is a text without escape sequences; what the program writes from then on is as it writes it.
    fn stdout(&mut self, bytes: &[u8]) -> Vec<Value> {
        if self.past == Past::Unknown {
            self.past = if is_terminal(bytes) { Past::ScreenNext } else { Past::Output };
        }
        if self.past == Past::Output || !is_terminal(bytes) {
            return self.text(STDOUT, bytes).into_iter().collect();
        }
        let screen = screen_of(bytes);
        let (columns, rows) = (screen.size().columns(), screen.size().rows());
        let mut object = json!({ "time": now(), "channel": "screen", "columns": columns, "rows": rows });
        if std::mem::replace(&mut self.past, Past::Screen) == Past::ScreenNext {
            object["text"] = lines_of(&screen).into();
        }
        self.flush(STDOUT).into_iter().chain([object]).collect()
    }

    fn text(&mut self, channel: ChannelId, bytes: &[u8]) -> Option<Value> {
        let begun = self.begun(channel)?;
        begun.extend_from_slice(bytes);
        let whole = whole(begun);
        let rest = begun.split_off(whole);
        let bytes = std::mem::replace(begun, rest);
        (!bytes.is_empty()).then(|| object(channel, &bytes))
    }

    /// What waits for the rest of a character that does not come.
    fn flush(&mut self, channel: ChannelId) -> Option<Value> {
        let bytes = std::mem::take(self.begun(channel)?);
        (!bytes.is_empty()).then(|| object(channel, &bytes))
    }

    fn rest(&mut self) -> Vec<Value> {
        [STDOUT, STDERR].into_iter().filter_map(|channel| self.flush(channel)).collect()
    }

    fn begun(&mut self, channel: ChannelId) -> Option<&mut Vec<u8>> {
        match channel {
            STDOUT => Some(&mut self.begun[0]),
            STDERR => Some(&mut self.begun[1]),
            _ => None,
        }
    }
}

/// How many of the bytes are not the beginning of a character.
fn whole(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        // Only the end of the text is missing.
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => (1..=3.min(bytes.len()))
            .find(|back| {
                std::str::from_utf8(&bytes[bytes.len() - back..])
                    .is_err_and(|error| error.error_len().is_none() && error.valid_up_to() == 0)
            })
            .map_or(bytes.len(), |back| bytes.len() - back),
    }
}

fn object(channel: ChannelId, bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({ "time": now(), "channel": name(channel), "text": text }),
        Err(_) => json!({ "time": now(), "channel": name(channel), "base64": STANDARD.encode(bytes) }),
    }
}

fn display(message: &[u8]) -> Value {
    match Picture::from_message(bytes::Bytes::copy_from_slice(message)) {
        Ok(picture) => {
            let display = json!({
                "mime": picture.mime, "id": picture.id, "replaces": picture.replaces, "text": picture.text,
                "base64": STANDARD.encode(&picture.body),
            });
            json!({ "time": now(), "display": display })
        }
        Err(_) => object(DISPLAY, message),
    }
}

fn name(channel: ChannelId) -> &'static str {
    match channel {
        STDOUT => "stdout",
        STDERR => "stderr",
        _ => "display",
    }
}

/// Seconds since 1970, to the millisecond.
fn now() -> f64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (time.as_secs_f64() * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trunkline_host::{Screen, Size};

    use super::*;

    #[test]
    fn the_beginning_of_a_character_waits_and_nothing_else_does() {
        for (bytes, expected) in [
            (&b""[..], 0),
            (b"plain", 5),
            ("ä".as_bytes(), 2),
            (b"a\xc3", 1),
            (b"a\xe2\x94", 1),
            (b"\xf0\x9f\x98", 0),
            (b"\xff\xc3", 1),
            (b"\xff", 1),
            (b"\xc3a", 2),
            (b"\x80\x80", 2),
        ] {
            assert_eq!(whole(bytes), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn a_screen_stands_for_the_past_of_a_terminal_and_a_size_for_itself() {
        let text = |objects: &[Value]| {
            let of = |object: &Value| {
                format!("{} {}", object["channel"], object.get("text").unwrap_or(&Value::Null))
            };
            objects.iter().map(of).collect::<Vec<_>>().join("; ")
        };
        let mut host = Screen::new(Size::new(40, 10));
        let _ = host.take_output(b"\x1b[1mone\r\ntwo", &mut Vec::new());
        let mut objects = Objects::default();
        assert_eq!(text(&objects.stdout(&host.snapshot())), r#""screen" "one\ntwo""#);
        assert_eq!(text(&objects.stdout(b"a\xe2\x94")), r#""stdout" "a""#);
        // What a character lacks does not come behind another size.
        let changed = objects.stdout(&host.resize(Size::new(50, 12)));
        assert_eq!((&changed[1]["columns"], &changed[1]["rows"]), (&50.into(), &12.into()));
        assert_eq!(text(&changed), r#""stdout" null; "screen" null"#);
        // It was too slow.
        assert!(objects.of(Received::Reset { channel: STDOUT, code: 0 }).0.is_empty());
        assert_eq!(text(&objects.stdout(&host.snapshot())), r#""screen" "one\ntwo""#);

        // On pipes what looks like it is output.
        let mut objects = Objects::default();
        assert_eq!(text(&objects.stdout(b"first")), r#""stdout" "first""#);
        assert!(text(&objects.stdout(&host.snapshot())).starts_with(r#""stdout" "\u001b"#));
    }

    proptest! {
        /// However output is cut, all bytes come, in order, and what is a text when it is whole is text in each object.
        #[test]
        fn every_byte_comes_and_text_stays_text(
            text in "[aä─😀\n]{0,20}", noise in prop::collection::vec(any::<u8>(), 0..6), cuts in prop::collection::vec(1..4_usize, 0..99),
        ) {
            for (input, is_text) in [(text.clone().into_bytes(), true), ([text.as_bytes(), &noise].concat(), false)] {
                let mut objects = Objects::default();
                let mut got = Vec::new();
                let mut at = 0;
                let mut cuts = cuts.iter().copied();
                let mut all = Vec::new();
                while at < input.len() {
                    let next = (at + cuts.next().unwrap_or(5)).min(input.len());
                    all.extend(objects.text(STDOUT, &input[at..next]));
                    at = next;
                }
                all.extend(objects.rest());
                for object in all {
                    match object["text"].as_str() {
                        Some(text) => got.extend_from_slice(text.as_bytes()),
                        None => {
                            prop_assert!(!is_text, "{object}");
                            got.extend(STANDARD.decode(object["base64"].as_str().unwrap()).unwrap());
                        }
                    }
                }
                prop_assert_eq!(got, input);
            }
        }
    }
}
