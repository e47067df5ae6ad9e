//! A channel as standard input: every byte and every end once, at its place, in every call.

use std::io::{self, BufRead, ErrorKind, IoSliceMut, Read};
use std::thread;
use std::time::Duration;

use trunkline::*;

use crate::support::line::eventually;
use crate::support::{LONG, loopback, pair};

const STDIN: ChannelId = ChannelId::new(0);
const MORE: ChannelId = ChannelId::new(3);

/// What is read: the bytes before an end, and the end; `None` is FINISH.
type Runs = Vec<(Vec<u8>, Option<u32>)>;

/// Every way to read a run to its end.
type Whole = fn(&mut Reader) -> (Vec<u8>, io::Result<()>);

fn gather(mut next: impl FnMut(&mut Vec<u8>) -> io::Result<usize>) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    loop {
        match next(&mut bytes) {
            Ok(0) => return (bytes, Ok(())),
            Ok(_) => {}
            Err(error) => return (bytes, Err(error)),
        }
    }
}

/// Reads lines, and takes what is left of one that was cut.
fn lines(
    reader: &mut Reader,
    mut line: impl FnMut(&mut Reader) -> io::Result<Option<String>>,
) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    loop {
        match line(reader) {
            Ok(Some(line)) => bytes.extend(line.into_bytes()),
            Ok(None) => thread::yield_now(),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return (bytes, Ok(())),
            Err(error) => return (bytes, Err(error)),
        }
    }
}

const WHOLE: [(&str, Whole); 14] = [
    ("read", |reader| {
        gather(|bytes| {
            let mut buffer = [0; 3];
            let read = reader.read(&mut buffer)?;
            bytes.extend_from_slice(&buffer[..read]);
            Ok(read)
        })
    }),
    ("read_vectored", |reader| {
        gather(|bytes| {
            let (mut one, mut two) = ([0; 1], [0; 4]);
            let read = reader.read_vectored(&mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)])?;
            bytes.extend_from_slice(&[&one[..], &two[..]].concat()[..read]);
            Ok(read)
        })
    }),
    ("fill_buf", |reader| {
        gather(|bytes| {
            let there = reader.fill_buf()?;
            let read = there.len().min(2);
            bytes.extend_from_slice(&there[..read]);
            reader.consume(read);
            Ok(read)
        })
    }),
    ("bytes", |reader| {
        let mut bytes = Vec::new();
        for byte in reader.by_ref().bytes() {
            match byte {
                Ok(byte) => bytes.push(byte),
                Err(error) => return (bytes, Err(error)),
            }
        }
        (bytes, Ok(()))
    }),
    ("read_to_end", |reader| {
        let mut bytes = Vec::new();
        let result = reader.read_to_end(&mut bytes).map(drop);
        (bytes, result)
    }),
    ("read_to_string", |reader| {
        let mut text = String::new();
        let result = reader.read_to_string(&mut text).map(drop);
        (text.into_bytes(), result)
    }),
    ("read_until", |reader| gather(|bytes| reader.read_until(b'\n', bytes))),
    ("split", |reader| {
        let mut bytes = Vec::new();
        let mut split = reader.by_ref().split(b'\n');
        loop {
            match split.next() {
                Some(Ok(line)) => bytes.extend([&line[..], b"\n"].concat()),
                Some(Err(error)) => return (bytes, Err(error)),
                None => return (bytes, Ok(())),
            }
        }
    }),
    ("read_line", |reader| {
        lines(reader, |reader| {
            let mut line = String::new();
            match reader.read_line(&mut line)? {
                0 => Err(ErrorKind::UnexpectedEof.into()),
                _ => Ok(Some(line)),
            }
        })
    }),
    ("try_read_line", |reader| lines(reader, Reader::try_read_line)),
    ("read_line_timeout", |reader| lines(reader, |reader| reader.read_line_timeout(LONG))),
    ("a short read_line_timeout", |reader| {
        lines(reader, |reader| reader.read_line_timeout(Duration::from_micros(50)))
    }),
    ("read_exact", |reader| {
        gather(|bytes| {
            let mut byte = [0];
            match reader.read_exact(&mut byte) {
                Ok(()) => bytes.push(byte[0]),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) => return Err(error),
            }
            Ok(1)
        })
    }),
    ("io::copy", |reader| {
        let mut bytes = Vec::new();
        let result = io::copy(reader, &mut bytes).map(drop);
        (bytes, result)
    }),
];

/// What is sent: each run in pieces, and how it ends.
fn runs() -> Vec<(Vec<&'static str>, Option<u32>)> {
    vec![
        (vec!["ls", " -l\n"], None),
        (vec!["pwd\n"], None),
        (vec![""], None),
        (vec!["a\nb", "\n", "", "c\n"], None),
        (vec!["caf\u{e9}\n"], Some(3)),
        (vec![""], Some(4)),
        (vec!["", "last\n"], None),
    ]
}

fn send(sender: &Sender, wait: impl Fn()) {
    for (pieces, end) in runs() {
        for piece in pieces {
            sender.send(piece).unwrap();
            wait();
        }
        match end {
            None => sender.finish().unwrap(),
            Some(code) => sender.reset(code).unwrap(),
        }
        wait();
    }
}

fn expected() -> Runs {
    runs().into_iter().map(|(pieces, end)| (pieces.concat().into_bytes(), end)).collect()
}

fn read_all(name: &str, whole: Whole, reader: &mut Reader) {
    for (number, (bytes, end)) in expected().into_iter().enumerate() {
        let (read, result) = whole(reader);
        let what = format!("{name}, run {number}: {:?} {result:?}", String::from_utf8_lossy(&read));
        assert!(read == bytes, "{what}");
        match (end, result) {
            (None, Ok(())) => {}
            (Some(_), Err(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{what}"),
            _ => panic!("{what}"),
        }
    }
    assert!(!reader.pending(), "{name}: nothing more");
    assert_eq!(reader.try_read_line().unwrap(), None, "{name}");
}

/// The end of each run is told once, at its place: whatever is already there when the reader looks,
/// and also if it comes piece by piece while the reader waits.
#[test]
fn every_end_is_told_once_at_its_place_in_every_call() {
    for (name, whole) in WHOLE {
        for there_before in [true, false] {
            let (here, there) = if there_before { pair(|config| config) } else { loopback(|config| config) };
            let sender = here.sender(STDIN).unwrap();
            let mut reader = there.receiver(STDIN).unwrap().into_reader();
            thread::scope(|scope| {
                if there_before {
                    send(&sender, || {});
                    here.flush().unwrap();
                } else {
                    scope.spawn(|| send(&sender, || thread::sleep(Duration::from_micros(300))));
                }
                read_all(name, whole, &mut reader);
            });
        }
    }
}

/// The calls may take turns, run by run.
#[test]
fn calls_that_take_turns_see_one_stream() {
    let (here, there) = pair(|config| config);
    let sender = here.sender(STDIN).unwrap();
    let mut reader = there.receiver(STDIN).unwrap().into_reader();
    for shift in 0..WHOLE.len() {
        send(&sender, || {});
        for (number, (bytes, end)) in expected().into_iter().enumerate() {
            let (name, whole) = WHOLE[(number * 5 + shift) % WHOLE.len()];
            let (read, result) = whole(&mut reader);
            assert!(
                read == bytes && result.is_err() == end.is_some(),
                "{name}, run {number}: {read:?} {result:?}"
            );
        }
    }
}

/// A line without its end is a whole one only if the peer has finished, and is told as cut in every
/// other case; it can be read as bytes then.
#[test]
fn a_line_cut_by_a_reset_is_no_line() {
    for (name, whole) in WHOLE {
        let (here, there) = pair(|config| config);
        let sender = here.sender(STDIN).unwrap();
        let mut reader = there.receiver(STDIN).unwrap().into_reader();
        sender.send("rm -rf /").unwrap();
        sender.reset(9).unwrap();
        sender.send("ls\n").unwrap();
        sender.finish().unwrap();
        let (mut read, result) = whole(&mut reader);
        if read.is_empty() {
            read = reader.fill_buf().unwrap().to_vec();
            reader.consume(read.len());
        }
        assert!(read == b"rm -rf /", "{name}: {read:?}");
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset, "{name}");
        let (read, result) = whole(&mut reader);
        assert!(read == b"ls\n" && result.is_ok(), "{name}: {read:?} {result:?}");
        assert!(!reader.pending());
    }
}

/// An end that a call has told before the bytes in front of it were read is not told again.
#[test]
fn an_end_that_was_told_early_is_not_told_again() {
    type Rest = fn(&mut Reader) -> io::Result<String>;
    let rests: [Rest; 4] = [
        |reader| {
            let mut rest = String::new();
            reader.read_to_string(&mut rest).map(|_| rest)
        },
        |reader| {
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).map(|_| String::from_utf8(rest).unwrap())
        },
        |reader| reader.read_line_timeout(LONG).map(Option::unwrap),
        |reader| {
            let mut rest = [0; 3];
            reader.read_exact(&mut rest).map(|()| String::from_utf8(rest.to_vec()).unwrap())
        },
    ];
    for reset in [false, true] {
        for rest in rests {
            let (here, there) = pair(|config| config);
            let sender = here.sender(STDIN).unwrap();
            let mut reader = there.receiver(STDIN).unwrap().into_reader();
            sender.send("ab").unwrap();
            if reset {
                sender.reset(1).unwrap()
            } else {
                sender.finish().unwrap()
            }
            sender.send("cd\n").unwrap();
            sender.finish().unwrap();
            reader.read_exact(&mut [0; 4]).unwrap_err();
            let mut two = [0; 2];
            assert_eq!(reader.read(&mut two).unwrap(), 2);
            assert_eq!(&two, b"ab");
            assert_eq!(rest(&mut reader).unwrap(), "cd\n");
        }
    }
}

/// A gap is told at its place, and what is on its two sides is not glued.
#[test]
fn a_gap_cuts_a_line() {
    let (here, there) = pair(|config| config);
    let sender = here.sender(STDIN).unwrap();
    let mut reader = there.receiver(STDIN).unwrap().into_reader();
    sender.send("one\nrm ").unwrap();
    sender.gap(5, 50).unwrap();
    sender.send("-rf\nthree\n").unwrap();
    assert_eq!(reader.read_line_timeout(LONG).unwrap().unwrap(), "one\n");
    assert_eq!(reader.read_line_timeout(LONG).unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(reader.read_line_timeout(LONG).unwrap().unwrap(), "-rf\n");
    assert_eq!(reader.read_line_timeout(LONG).unwrap().unwrap(), "three\n");
}

/// What waits for more than is there, and takes it once it is.
type Call = fn(&mut Reader) -> io::Result<Vec<u8>>;

const CALLS: [(&str, Call); 11] = [
    ("read_line", |reader| {
        let mut line = "before ".to_owned();
        let result = reader.read_line(&mut line);
        assert!(result.is_ok() || line == "before ", "{line:?}");
        result.map(|_| line.into_bytes().split_off(7))
    }),
    ("read_line of &mut", |mut reader| {
        let mut line = String::new();
        BufRead::read_line(&mut reader, &mut line).map(|_| line.into_bytes())
    }),
    ("lines", |reader| reader.lines().next().unwrap().map(|line| (line + "\n").into_bytes())),
    ("read_until", |reader| {
        let mut line = b"before ".to_vec();
        let result = reader.read_until(b'\n', &mut line);
        assert!(result.is_ok() || line == b"before ", "{line:?}");
        result.map(|_| line.split_off(7))
    }),
    ("split", |reader| reader.split(b'\n').next().unwrap().map(|line| [&line[..], b"\n"].concat())),
    ("read_exact", |reader| {
        let mut bytes = [0; TEXT.len()];
        reader.read_exact(&mut bytes).map(|()| bytes.to_vec())
    }),
    ("read_to_string", |reader| {
        let mut text = "before ".to_owned();
        let result = reader.read_to_string(&mut text);
        assert!(result.is_ok() || text == "before ", "{text:?}");
        result.map(|_| text.into_bytes().split_off(7))
    }),
    ("read_to_end", |reader| {
        let mut bytes = b"before ".to_vec();
        let result = reader.read_to_end(&mut bytes);
        assert!(result.is_ok() || bytes == b"before ", "{bytes:?}");
        result.map(|_| bytes.split_off(7))
    }),
    ("read_line_timeout", |reader| Ok(reader.read_line_timeout(LONG)?.unwrap().into_bytes())),
    ("skip_until", |reader| {
        // What it skips is not seen; it is that which is skipped whole.
        let skipped = reader.skip_until(b'\n')?;
        assert_eq!(skipped, TEXT.len());
        Ok(TEXT.as_bytes().to_vec())
    }),
    ("read_until, then text", |reader| {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line)?;
        Ok(String::from_utf8(line).unwrap().into_bytes())
    }),
];

const TEXT: &str = "na\u{ef}ve caf\u{e9}\n";

/// Interrupted at every byte, also in the middle of a character, a call takes nothing; nor does one
/// whose time is over. Then it takes the whole.
#[test]
fn an_interrupted_or_late_read_loses_nothing_in_every_call() {
    let (here, there) = pair(|config| config);
    let sender = here.sender(STDIN).unwrap();
    let mut reader = there.receiver(STDIN).unwrap().into_reader();
    for (name, call) in CALLS {
        for cut in 0..TEXT.len() {
            let (head, tail) = TEXT.as_bytes().split_at(cut);
            if !head.is_empty() {
                sender.send(head).unwrap();
                eventually("it is there", || reader.pending());
            }
            for _ in 0..2 {
                reader.interrupter().interrupt();
                let error = call(&mut reader).unwrap_err();
                assert!(is_interrupted(&error), "{name} at {cut}: {error}");
                let late = reader.read_line_timeout(Duration::from_micros(10));
                assert_eq!(late.unwrap(), None, "{name} at {cut}");
                assert_eq!(reader.try_read_line().unwrap(), None, "{name} at {cut}");
            }
            sender.send(tail).unwrap();
            let to_the_end = name.starts_with("read_to");
            if to_the_end {
                sender.finish().unwrap();
            }
            let read = call(&mut reader).unwrap();
            assert_eq!(String::from_utf8(read).unwrap(), TEXT, "{name} at {cut}");
            if !to_the_end {
                assert_eq!(reader.try_read_line().unwrap(), None, "{name} at {cut}");
            }
        }
    }
}

/// Interrupted in the middle of the wait, from another thread, again and again.
#[test]
fn a_read_that_is_interrupted_while_it_waits_loses_nothing() {
    let (here, there) = loopback(|config| config);
    let sender = here.sender(STDIN).unwrap();
    let mut reader = there.receiver(STDIN).unwrap().into_reader();
    let interrupter = reader.interrupter();
    let over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let over = &over;
        scope.spawn(move || {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                interrupter.interrupt();
                thread::sleep(Duration::from_micros(30));
            }
        });
        scope.spawn(|| {
            for number in 0..300 {
                let line = format!("caf\u{e9} {number}\n");
                for piece in line.as_bytes().chunks(1 + number % 4) {
                    sender.send(piece).unwrap();
                }
            }
        });
        for number in 0..300 {
            let mut line = String::new();
            let read = loop {
                match reader.read_line(&mut line) {
                    Ok(read) => break read,
                    Err(error) => assert!(is_interrupted(&error) && line.is_empty(), "{error} {line:?}"),
                }
            };
            assert_eq!((read, &*line), (line.len(), &*format!("caf\u{e9} {number}\n")));
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// `pending` is true exactly if a read would not wait, ends included; so a loop that polls learns of
/// everything and waits for nothing.
#[test]
fn pending_is_true_exactly_if_a_read_would_not_wait() {
    for channels in [ChannelSet::from(STDIN), STDIN | MORE] {
        let merged = channels.len() > 1;
        let (here, there) = pair(|config| config);
        let (sender, more) = (here.sender(STDIN).unwrap(), here.sender(MORE).unwrap());
        let mut reader = there.receiver(channels).unwrap().into_reader();
        let arrived = || here.flush().unwrap();
        // All that was sent has been handed over once the next message of another channel is there.
        assert!(!reader.pending());
        for _ in 0..3 {
            sender.send([]).unwrap();
        }
        arrived();
        assert!(!reader.pending(), "an empty message is nothing to read");
        sender.send("x").unwrap();
        arrived();
        assert!(reader.pending());
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 1);
        assert!(!reader.pending());
        sender.finish().unwrap();
        arrived();
        if merged {
            // The reader's end is that of all of them.
            assert!(!reader.pending(), "one of several has ended, a read waits");
            more.send([]).unwrap();
            more.finish().unwrap();
            arrived();
        }
        assert!(reader.pending(), "a read returns the end at once");
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
        assert!(!reader.pending(), "the end is told once");
        sender.send([]).unwrap();
        sender.reset(1).unwrap();
        arrived();
        assert!(reader.pending());
        assert_eq!(reader.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        sender.gap(1, 1).unwrap();
        arrived();
        assert!(reader.pending());
        assert_eq!(reader.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::InvalidData);
        assert!(!reader.pending());
        // An interrupt that no read has seen: the next one returns at once.
        reader.interrupter().interrupt();
        assert!(reader.pending());
        assert!(is_interrupted(&reader.read(&mut [0; 8]).unwrap_err()));
        assert!(!reader.pending());
        here.close(CloseCode::NORMAL, "").unwrap();
        eventually("the end of the connection", || reader.pending());
        assert_eq!(reader.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert!(reader.pending(), "for good");
    }
}

/// A select on a reader has a token for each line and each end, however they came.
#[test]
fn a_select_finds_every_line_and_every_end() {
    for channels in [ChannelSet::from(STDIN), STDIN | MORE] {
        let (here, there) = pair(|config| config);
        let sender = here.sender(STDIN).unwrap();
        let mut reader = there.receiver(channels).unwrap().into_reader();
        let ready = reader.ready();
        let next = |reader: &mut Reader| loop {
            ready.recv_timeout(LONG).expect("it is slept through");
            match reader.try_read_line() {
                Ok(None) => {}
                Ok(Some(line)) => break Ok(line),
                Err(error) => break Err(error.kind()),
            }
        };
        sender.send("one\ntwo\nthree\nfo").unwrap();
        for expected in ["one\n", "two\n", "three\n"] {
            assert_eq!(next(&mut reader).unwrap(), expected);
        }
        sender.send("ur\n").unwrap();
        assert_eq!(next(&mut reader).unwrap(), "four\n");
        sender.send("cut").unwrap();
        sender.reset(1).unwrap();
        assert_eq!(next(&mut reader), Err(ErrorKind::ConnectionReset));
        sender.send("five\nsix").unwrap();
        sender.finish().unwrap();
        here.sender(MORE).unwrap().finish().unwrap();
        assert_eq!(next(&mut reader).unwrap(), "five\n");
        if channels.len() == 1 {
            assert_eq!(next(&mut reader).unwrap(), "six");
            assert_eq!(next(&mut reader), Err(ErrorKind::UnexpectedEof));
        } else {
            // The reset ended one, and the two finishes the rest: a last line, and the end.
            assert_eq!(next(&mut reader).unwrap(), "six");
            assert_eq!(next(&mut reader), Err(ErrorKind::UnexpectedEof));
        }
        here.close(CloseCode::NORMAL, "").unwrap();
        assert!(matches!(
            ready.recv_timeout(LONG),
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) | Ok(())
        ));
        assert_eq!(reader.try_read_line().unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }
}

/// What a call leaves behind is found by a select, whichever call it was.
#[test]
fn a_select_finds_what_a_call_that_failed_has_left() {
    type Fails = fn(&mut Reader) -> io::Result<()>;
    let fails: [(&str, &[u8], Fails); 4] = [
        ("read_exact", b"ab", |reader| reader.read_exact(&mut [0; 4])),
        ("read_until", b"ab", |reader| reader.read_until(b'\n', &mut Vec::new()).map(drop)),
        ("read_to_string", b"\xff\xff", |reader| reader.read_to_string(&mut String::new()).map(drop)),
        ("read_line", b"ab", |reader| reader.read_line(&mut String::new()).map(drop)),
    ];
    for (name, bytes, fail) in fails {
        let (here, there) = pair(|config| config);
        let sender = here.sender(STDIN).unwrap();
        let mut reader = there.receiver(STDIN).unwrap().into_reader();
        let ready = reader.ready();
        sender.send(bytes).unwrap();
        sender.reset(1).unwrap();
        here.flush().unwrap();
        ready.recv_timeout(LONG).unwrap();
        fail(&mut reader).unwrap_err();
        assert!(reader.pending(), "{name}");
        ready.recv_timeout(LONG).unwrap_or_else(|_| panic!("{name}: no token for what is left"));
        assert_eq!(reader.fill_buf().unwrap(), bytes, "{name}");
    }
}

/// What is not text stays to be read as bytes, in every call that wants text.
#[test]
fn what_is_no_text_stays_in_every_call() {
    let (here, there) = pair(|config| config);
    let sender = here.sender(STDIN).unwrap();
    let mut reader = there.receiver(STDIN).unwrap().into_reader();
    type Text = fn(&mut Reader) -> io::Result<()>;
    let calls: [Text; 5] = [
        |reader| reader.read_line(&mut String::new()).map(drop),
        |reader| reader.lines().next().unwrap().map(drop),
        |reader| reader.read_to_string(&mut String::new()).map(drop),
        |reader| reader.read_line_timeout(LONG).map(drop),
        |reader| reader.try_read_line().map(drop),
    ];
    for call in calls {
        sender.send(b"\xc3\n").unwrap();
        sender.finish().unwrap();
        eventually("it is there", || reader.pending());
        assert_eq!(call(&mut reader).unwrap_err().kind(), ErrorKind::InvalidData);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"\xc3\n");
    }
}

/// A lost connection is told by every call, for good, and behind what had arrived.
#[test]
fn a_lost_connection_is_no_end_of_the_file_in_any_call() {
    for (name, whole) in WHOLE {
        let (here, there) = pair(|config| config);
        let mut reader = there.receiver(STDIN).unwrap().into_reader();
        let keep = here.sender(STDIN).unwrap();
        keep.send("one\n").unwrap();
        here.close(CloseCode::application(1), "").unwrap();
        drop(keep);
        let (read, result) = whole(&mut reader);
        assert!(read == b"one\n" || name == "read_to_string", "{name}: {read:?}");
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionAborted, "{name}");
        let (_, result) = whole(&mut reader);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionAborted, "{name}");
    }
}
