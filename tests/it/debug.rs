//! What `Debug` shows: of a message little, of a secret nothing.

use std::io::Write;

use bytes::Bytes;
use trunkline::*;

use crate::support::{free_address, pair};

const A: ChannelId = ChannelId::new(1);
/// Long enough to show a megabyte, or a key.
const SHORT: usize = 1000;

#[track_caller]
fn is_short(value: &impl std::fmt::Debug) -> String {
    for text in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(text.len() < SHORT, "{} characters: {}", text.len(), &text[..SHORT.min(text.len())]);
    }
    format!("{value:?}{value:#?}")
}

#[test]
fn debug_of_a_large_message_is_short_wherever_it_is() {
    let (here, there) = pair(|config| config);
    let receiver = there.receiver(A).unwrap();
    here.sender(A).unwrap().send(vec![0x5a; 1 << 20]).unwrap();
    let message = receiver.recv().unwrap();
    let shown = is_short(&message);
    assert!(shown.contains("1048576") && shown.contains("ZZZ"), "its length and a beginning: {shown}");
    is_short(&Received::Message(message.clone()));
    is_short(&Some(&message));
    // And what did not get away.
    let (here, _there) = pair(|config| config.max_message(1000));
    let sender = here.sender(A).unwrap();
    let large = || Bytes::from(vec![0x5a; 1 << 20]);
    is_short(&sender.send_bytes(large()).unwrap_err());
    is_short(&sender.try_send_bytes(large()).unwrap_err());
    is_short(&sender.send_bytes_timeout(large(), crate::support::LONG).unwrap_err());
}

/// What was written and not sent, or fetched and not read, is as private as a message.
#[test]
fn debug_of_a_handle_shows_none_of_what_goes_through_it() {
    let (here, there) = pair(|config| config);
    let mut writer = here.sender(A).unwrap().into_writer();
    write!(writer, "hunter2{}", "x".repeat(8_000)).unwrap();
    let shown = is_short(&writer);
    assert!(!shown.contains("hunter2") && !shown.contains("104"), "{shown}");
    writer.flush().unwrap();
    let mut reader = there.receiver(A).unwrap().into_reader();
    std::io::BufRead::fill_buf(&mut reader).unwrap();
    assert!(!is_short(&reader).contains("hunter2"));
    is_short(reader.receiver());
    is_short(writer.sender());
}

/// All public types that hold a key, and the errors that may come of one.
#[test]
fn debug_of_what_holds_a_key_shows_none_of_it() {
    let bytes = [0x5a; 32];
    let hex = "5a".repeat(32);
    let key = Key::from(bytes);
    let config = Config::new(key.clone()).with_key(Key::from([0xb7; 32]), Access::read_only().named("desk"));
    let listener = Listener::bind(free_address(), config.clone()).unwrap();
    let client = Connection::connect(listener.local_addr(), Config::new(key.clone())).unwrap();
    let server = listener.accept().unwrap();
    let mut shown = Vec::new();
    let mut show = |value: &dyn std::fmt::Debug| shown.extend([format!("{value:?}"), format!("{value:#?}")]);
    show(&key);
    show(&config);
    show(&listener);
    show(&client);
    show(&server);
    show(&server.access());
    show(&client.events());
    show(&client.interrupts());
    show(&client.stats());
    show(&client.flushing());
    show(&IoThread::new().unwrap());
    show(&config.io_thread(&IoThread::new().unwrap()));
    show(&hex[..63].parse::<Key>().unwrap_err());
    show(
        &Listener::bind(free_address(), Config::new(key.clone()).with_key(key.clone(), Access::full()))
            .unwrap_err(),
    );
    show(&Connection::connect(listener.local_addr(), Config::new(Key::from([0x5b; 32]))).unwrap_err());
    // As hex, as a list of numbers, or as characters.
    for text in shown {
        let flat: String = text.split_whitespace().collect();
        for secret in ["5a5a", "b7b7", "90,90", "183,183", "ZZZ", "\\xb7\\xb7", "0x5a"] {
            assert!(!flat.contains(secret), "{secret} in {text}");
        }
    }
}
