//! A channel to write to: what it splits, what it keeps, and how long it waits.

use std::io::{BufWriter, LineWriter, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use trunkline::*;

use crate::support::chaos::Cut;
use crate::support::line::{Line, next};
use crate::support::{LONG, free_address, pair};

const A: ChannelId = ChannelId::new(1);

/// Does something that must not wait for ever.
#[track_caller]
fn in_time<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || done.send(act()));
    wait.recv_timeout(LONG).expect("it waits for ever")
}

/// A peer that does not read, and all of whose credit is used up.
fn unread() -> (Connection, Connection, Sender) {
    let (here, there) = pair(|config| config.window(2000).linger(Duration::from_millis(100)));
    let sender = here.sender(A).unwrap();
    while sender.try_send([0; 100]).is_ok() {}
    while sender.try_send([]).is_ok() {}
    (here, there, sender)
}

type Layer = fn(Writer) -> Box<dyn Write + Send>;

const LAYERS: [Layer; 4] = [
    |writer| Box::new(writer),
    |writer| Box::new(BufWriter::new(writer)),
    |writer| Box::new(BufWriter::with_capacity(1 << 20, writer)),
    |writer| Box::new(LineWriter::new(writer)),
];

/// Every wait of a drop is bounded, also of one that wraps the writer, and in a panic.
#[test]
fn a_drop_waits_no_longer_than_linger_for_a_peer_that_does_not_read() {
    for layer in LAYERS {
        for text in ["half a line", "a line\n", "a line\nand a half"] {
            for panics in [false, true] {
                let (here, there, used_up) = unread();
                let mut writer = layer(here.sender(A).unwrap().into_writer());
                writer.write_all(text.as_bytes()).unwrap();
                let joined = in_time(move || {
                    let dropping = move || {
                        let _kept = (writer, here);
                        if panics {
                            panic!("as the test wants it");
                        }
                    };
                    thread::spawn(dropping).join()
                });
                assert_eq!(joined.is_err(), panics);
                drop((used_up, there));
            }
        }
    }
}

/// In a panic nothing waits for ever, whatever stands before it.
#[test]
fn whatever_is_written_in_a_panic_waits_no_longer_than_linger() {
    struct Log(Writer);
    impl Drop for Log {
        fn drop(&mut self) {
            for _ in 0..3 {
                let _ = writeln!(self.0, "the program ends here");
            }
            let _ = self.0.flush();
        }
    }
    let (here, _there, _used_up) = unread();
    let log = Log(here.sender(A).unwrap().into_writer());
    in_time(move || {
        let panicking = move || {
            let _log = log;
            panic!("as the test wants it");
        };
        thread::spawn(panicking).join().unwrap_err();
    });
}

#[test]
fn a_drop_waits_no_longer_than_linger_in_an_outage() {
    for (layer, text) in
        LAYERS.iter().flat_map(|layer| [(layer, "the beginning of a line"), (layer, "a line\n")])
    {
        let line = Line::new(|config| config.linger(Duration::from_millis(100)));
        let events = line.client.events();
        line.chaos.refuse(true);
        line.chaos.cut(Cut::Reset);
        assert!(matches!(next(&events), Event::Suspended { .. }));
        let sender = line.client.sender(A).unwrap();
        while sender.try_send([0; 10_000]).is_ok() {}
        let mut writer = layer(sender.into_writer());
        writer.write_all(text.as_bytes()).unwrap();
        in_time(move || drop(writer));
        in_time(move || drop(line));
    }
}

/// It splits at what the peer takes, whatever that is: nothing is refused, and nothing kept makes
/// later writes fail.
#[test]
fn it_splits_at_what_the_peer_takes() {
    for limit in [1, 2, 10, 1000, 16 * 1024, 64 * 1024, 79 * 1024, 80 * 1024, 16 << 20] {
        let (here, there) = pair(|config| config.max_message(limit));
        let mut receiver = there.receiver(A).unwrap();
        let amount = if limit < 1000 { 3_000 } else { 300_000 };
        let text: Vec<u8> =
            (0..amount).map(|n| if n % 7001 == 7000 { b'\n' } else { b'a' + (n % 26) as u8 }).collect();
        for layer in LAYERS {
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut writer = layer(here.sender(A).unwrap().into_writer());
                    writer.write_all(&text).unwrap();
                    // One piece of a line at a time, gathered or not.
                    for piece in text.chunks(777) {
                        writer.write_all(piece).unwrap();
                    }
                    writer.flush().unwrap();
                });
                let mut read = Vec::new();
                loop {
                    match receiver.recv_timeout(LONG) {
                        Ok(message) => {
                            assert!(message.len() <= limit as usize);
                            read.extend_from_slice(&message);
                        }
                        Err(end) => break assert_eq!(end, RecvError::Finished.into()),
                    }
                }
                assert!(read == [&text[..], &text[..]].concat(), "limit {limit}");
            });
        }
        let _ = &mut receiver;
    }
}

/// The same for a peer that was not there yet, and takes less than this side thought.
#[test]
fn it_splits_at_what_a_peer_takes_that_comes_later() {
    let key = Key::generate();
    let listener = Listener::bind(free_address(), Config::new(key.clone()).max_message(500)).unwrap();
    let client = Connection::connect_lazily(listener.local_addr(), Config::new(key)).unwrap();
    let server = listener.accept().unwrap();
    let receiver = server.receiver(A).unwrap();
    let mut writer = client.sender(A).unwrap().into_writer();
    writer.write_all(&[b'x'; 5_000]).unwrap();
    drop(writer);
    let lengths: Vec<_> = receiver.iter().map(|message| message.len()).collect();
    assert_eq!(lengths, [500; 10]);
}

/// A write that fails has written nothing of what it was given and not accepted: what is tried again
/// comes once.
#[test]
fn a_write_that_fails_in_a_panic_keeps_only_what_it_accepted() {
    let (here, there, used_up) = unread();
    let mut writer = here.sender(A).unwrap().into_writer();
    write!(writer, "begin ").unwrap();
    writeln!(writer, "ahead").unwrap();
    // Some of it goes ahead of its credit; a thread that panics gives up where no more does.
    let writer = thread::spawn(move || {
        struct Try(Option<Writer>, mpsc::Sender<(Writer, usize, std::io::ErrorKind)>);
        impl Drop for Try {
            fn drop(&mut self) {
                let mut writer = self.0.take().unwrap();
                let mut written = 0;
                while let Ok(bytes) = writer.write(b"again\n") {
                    written += bytes;
                }
                let error = writer.write(b"again\n").unwrap_err().kind();
                let _ = self.1.send((writer, written, error));
            }
        }
        let (out, back) = mpsc::channel();
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _try = Try(Some(writer), out);
            panic!("as the test wants it");
        }));
        let (writer, written, error) = back.recv().unwrap();
        assert_eq!(error, std::io::ErrorKind::TimedOut);
        (writer, written)
    });
    let (mut writer, written) = writer.join().unwrap();
    assert!(written < 100_000, "what goes ahead is bounded");
    let receiver = there.receiver(A).unwrap();
    let reading = thread::spawn(move || {
        let all = receiver.iter().filter(|message| message.first().is_some_and(|&byte| byte > 0));
        all.flat_map(|message| message.to_vec()).collect::<Vec<_>>()
    });
    writeln!(writer, "again").unwrap();
    let expected = format!("begin ahead\n{}", "again\n".repeat(written / 6 + 1));
    drop((writer, used_up));
    assert_eq!(String::from_utf8(reading.join().unwrap()).unwrap(), expected);
    drop(there);
}
