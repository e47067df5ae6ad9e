//! A channel as standard input and output.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::thread;
use std::time::Duration;

use crate::support::{LONG, pair};
use trunkline::*;

const STDIN: ChannelId = ChannelId::new(0);

fn stdin() -> (Connection, Sender, Reader, Connection) {
    let (here, there) = pair(|config| config);
    let sender = here.sender(STDIN).unwrap();
    let reader = there.receiver(STDIN).unwrap().into_reader();
    (here, sender, reader, there)
}

fn line(reader: &mut Reader) -> String {
    reader.read_line_timeout(LONG).unwrap().unwrap()
}

/// Trap 13.
#[test]
fn trap_13_lines_are_lines_however_they_were_sent() {
    let (_here, sender, mut reader, _there) = stdin();
    for part in ["one\ntwo\n", "thr", "", "ee\nfo", "ur\n\n", "last"] {
        sender.send(part).unwrap();
    }
    drop(sender);
    for expected in ["one\n", "two\n", "three\n", "four\n", "\n", "last"] {
        assert_eq!(line(&mut reader), expected);
    }
    // The end is told once; what follows it is the next run.
    assert_eq!(reader.try_read_line().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    for _ in 0..3 {
        assert_eq!(reader.try_read_line().unwrap(), None);
    }
}

/// Trap 13: the rest of a long line is not dropped.
#[test]
fn trap_13_a_long_line_comes_whole() {
    let (_here, sender, mut reader, _there) = stdin();
    let long = "x".repeat(3_000_000);
    let expected = format!("{long}\n");
    let writer = thread::spawn(move || {
        sender.send(&long).unwrap();
        sender.send("\nshort\n").unwrap();
    });
    assert!(line(&mut reader) == expected);
    assert_eq!(line(&mut reader), "short\n");
    writer.join().unwrap();
}

#[test]
fn try_read_line_never_waits_and_loses_nothing() {
    let (_here, sender, mut reader, _there) = stdin();
    assert_eq!(reader.try_read_line().unwrap(), None);
    sender.send("half a ").unwrap();
    while !reader.pending() {
        thread::yield_now();
    }
    assert_eq!(reader.try_read_line().unwrap(), None);
    assert_eq!(reader.read_line_timeout(Duration::from_millis(1)).unwrap(), None);
    sender.send("line\nand more").unwrap();
    assert_eq!(line(&mut reader), "half a line\n");
    sender.finish().unwrap();
    // The std calls go on where the others stopped.
    let mut rest = String::new();
    assert_eq!(reader.read_line(&mut rest).unwrap(), 8);
    assert_eq!(rest, "and more");
    // The end is told once, at its place, and what follows is the next run.
    assert_eq!(reader.read_line(&mut rest).unwrap(), 0);
    sender.send("again\n").unwrap();
    sender.finish().unwrap();
    assert_eq!(reader.read_line(&mut rest).unwrap(), 6);
    assert_eq!(rest, "and moreagain\n");
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(reader.try_read_line().unwrap(), None);
}

#[test]
fn mixed_calls_read_one_stream() {
    let (_here, sender, mut reader, _there) = stdin();
    sender.send("ab\ncd\nef").unwrap();
    sender.send("gh\nij").unwrap();
    sender.finish().unwrap();
    let mut two = [0; 2];
    reader.read_exact(&mut two).unwrap();
    assert_eq!(&two, b"ab");
    assert_eq!(line(&mut reader), "\n");
    let mut text = String::new();
    reader.read_line(&mut text).unwrap();
    assert_eq!(text, "cd\n");
    assert_eq!(line(&mut reader), "efgh\n");
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"ij");
    // The next run is read by the same reader.
    sender.send("next\n").unwrap();
    while reader.receiver().is_empty() {
        thread::yield_now();
    }
    assert_eq!(line(&mut reader), "next\n");
}

/// End-of-file means finished, and nothing else does.
#[test]
fn only_finish_is_the_end_of_the_file() {
    let (here, sender, mut reader, _there) = stdin();
    sender.send("cut").unwrap();
    sender.reset(3).unwrap();
    let mut text = String::new();
    assert_eq!(reader.read_to_string(&mut text).unwrap_err().kind(), ErrorKind::ConnectionReset);
    here.close(CloseCode::NORMAL, "").unwrap();
    let error = reader.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
    assert_eq!(reader.try_read_line().unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[test]
fn bytes_that_are_no_text_stay_to_be_read_as_bytes() {
    let (_here, sender, mut reader, _there) = stdin();
    sender.send(b"\xff\xfe\nok\n").unwrap();
    assert_eq!(reader.read_line_timeout(LONG).unwrap_err().kind(), ErrorKind::InvalidData);
    let mut bytes = Vec::new();
    reader.read_until(b'\n', &mut bytes).unwrap();
    assert_eq!(bytes, b"\xff\xfe\n");
    assert_eq!(line(&mut reader), "ok\n");
}

#[test]
fn an_interrupt_ends_a_blocked_read_and_only_one() {
    let (_here, sender, mut reader, _there) = stdin();
    let interrupter = reader.interrupter();
    let (interrupted, wait) = std::sync::mpsc::channel();
    let reading = thread::spawn(move || {
        let error = reader.read_line(&mut String::new()).unwrap_err();
        assert!(is_interrupted(&error), "{error}");
        // One that came while nothing was read waits for the next read that would block.
        reader.interrupter().interrupt();
        let error = reader.read_line_timeout(LONG).unwrap_err();
        assert!(is_interrupted(&error), "{error}");
        reader.interrupter().interrupt();
        reader.clear_interrupt();
        interrupted.send(()).unwrap();
        line(&mut reader)
    });
    interrupter.interrupt();
    wait.recv().unwrap();
    sender.send("after all\n").unwrap();
    assert_eq!(reading.join().unwrap(), "after all\n");
}

#[test]
fn a_writer_sends_lines_and_the_rest_on_flush_and_drop() {
    let (here, there) = pair(|config| config);
    let receiver = there.receiver(STDIN).unwrap();
    let mut writer = here.sender(STDIN).unwrap().writer();
    write!(writer, "{} and {}", 1, 2).unwrap();
    write!(writer, " make {}\nthen", 3).unwrap();
    assert_eq!(&*receiver.recv().unwrap(), b"1 and 2 make 3\n");
    writer.flush().unwrap();
    assert_eq!(&*receiver.recv().unwrap(), b"then");
    write!(writer, "bye").unwrap();
    drop(writer);
    assert_eq!(&*receiver.recv().unwrap(), b"bye");
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Finished);
}
