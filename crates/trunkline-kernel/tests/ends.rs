//! A kernel and its console over a socket: the end of the input, of a script and of the output.

mod support;

use support::{Console, LONG, pair};
use trunkline::{Config, Connection, Key, RecvTimeoutError};
use trunkline_kernel::layout::{DISPLAY, ROSTER, STATUS, STDERR, STDIN, STDOUT, Status};

/// The console gets the kernel back.
#[track_caller]
fn works(console: &mut Console) {
    console.stdout.clear();
    let number = console.send("say still here");
    console.until_over(number);
    assert_eq!(console.shown(), "still here\n");
}

#[test]
fn the_end_of_input_is_told_to_the_program_and_then_to_the_kernel() {
    let (mut console, kernel) = pair();
    let number = console.send("ask ");
    console.until_status(Status::Waiting(1));
    console.session.end_of_input().unwrap();
    console.until_over(number);
    assert_eq!(console.stderr, "error: there is no more input\n");
    works(&mut console);
    console.send("begin");
    console.session.finish().unwrap();
    console.until("the end", |console| console.finished);
    assert!(console.stderr.ends_with("error: the last statement is incomplete\n"), "{}", console.stderr);
    assert!(console.session.close());
    kernel.join().unwrap();
}

#[test]
fn each_end_of_input_is_told_also_behind_another() {
    let (mut console, _kernel) = pair();
    let number = console.send("asks 2");
    for reads in 1..=2 {
        console.until("it waits", |console| {
            console.statuses.iter().filter(|status| **status == "waiting 1").count() == reads
        });
        console.session.end_of_input().unwrap();
    }
    console.until_over(number);
    assert_eq!(console.shown(), "none\nnone\n");
}

#[test]
fn a_script_ends_for_each_read_of_a_program() {
    let (mut console, kernel) = pair();
    console.send("asks 3");
    console.session.finish().unwrap();
    console.until("the end", |console| console.finished);
    assert_eq!(console.shown(), "none\nnone\nnone\n");
    console.session.close();
    kernel.join().unwrap();
}

#[test]
fn what_is_printed_behind_the_last_status_comes_before_the_end() {
    let (here, there) = Connection::pair(Config::new(Key::generate())).unwrap();
    let mut console = Console::new(here);
    let [stdout, status] = [STDOUT, STATUS].map(|channel| there.sender(channel).unwrap());
    status.send("idle 0").unwrap();
    console.session.finish().unwrap();
    // The console is told of the status, and has nothing else to be told.
    console.until_status(Status::Idle(0));
    assert!(console.session.try_next().is_none());
    stdout.send("late\n").unwrap();
    for channel in [STDERR, DISPLAY] {
        there.sender(channel).unwrap().finish().unwrap();
    }
    drop((stdout, status));
    console.until("the end", |console| console.finished);
    assert_eq!(console.shown(), "late\n");
}

#[test]
fn a_message_of_no_bytes_is_an_end_for_a_program_and_for_a_statement_that_has_begun() {
    let (mut console, _kernel) = pair();
    let number = console.send("asks 2");
    console.session.try_send("").unwrap();
    console.session.try_send("").unwrap();
    console.until_over(number + 2);
    assert_eq!(console.shown(), "none\nnone\n");
    console.session.try_send("").unwrap();
    console.until_status(Status::Idle(4));
    // But a statement that has begun has no more lines.
    console.send("begin");
    console.send("one");
    let number = console.session.try_send("").unwrap();
    console.until_status(Status::Idle(number));
    assert!(console.statuses.contains(&format!("failed {number}")), "{:?}", console.statuses);
    assert_eq!(console.stderr, "the input has ended within a statement, which was not run\n");
    console.stderr.clear();
    // An interrupt of such a message is one of the program that it was for.
    let number = console.send("ask ");
    console.until_status(Status::Waiting(number));
    console.interrupt_message(number + 1);
    console.session.try_send("").unwrap();
    console.until_over(number + 1);
    assert_eq!(console.stderr, "interrupted\n");
    works(&mut console);
}

/// The end of a run would be that of the console's turn.
#[test]
fn behind_a_hub_the_end_of_input_is_a_message() {
    let (here, there) = Connection::pair(Config::new(Key::generate())).unwrap();
    let mut console = Console::new(here);
    let [stdout, status, roster] = [STDOUT, STATUS, ROSTER].map(|channel| there.sender(channel).unwrap());
    let stdin = there.receiver(STDIN).unwrap();
    roster.send(r#"{"you":"c1"}"#).unwrap();
    status.send("idle 0").unwrap();
    console.until_status(Status::Idle(0));
    let number = console.send("ask");
    let read = |expected: &[u8]| assert_eq!(&*stdin.recv_timeout(LONG).unwrap(), expected);
    read(b"ask\n");
    roster.send(r#"{"line":{"own":1,"input":1}}"#).unwrap();
    status.send("waiting 1").unwrap();
    console.until_status(Status::Waiting(1));
    console.session.end_of_input().unwrap();
    read(b"");
    // And each read behind the end of a script has its end.
    console.session.finish().unwrap();
    assert!(stdin.recv_timeout(LONG).is_err_and(|end| !matches!(end, RecvTimeoutError::Timeout)));
    for own in 2..5 {
        roster.send(format!(r#"{{"line":{{"own":{own},"input":{own}}}}}"#)).unwrap();
        status.send(format!("waiting {own}")).unwrap();
        console.until_status(Status::Waiting(own));
        assert!(console.session.try_next().is_none());
        read(b"");
    }
    stdout.send("said\n").unwrap();
    roster.send(r#"{"line":{"own":5,"input":5}}"#).unwrap();
    status.send("idle 5").unwrap();
    console.until("the end", |console| console.finished);
    assert!(console.session.console().is_over(number) && console.shown() == "said\n");
}

/// A script that ends in a program's `input()`: the kernel never sees the end, and the console does.
#[test]
fn the_end_of_a_script_that_a_program_has_read_is_an_end() {
    let (mut console, kernel) = pair();
    console.send("ask ");
    console.session.finish().unwrap();
    console.until("the end", |console| console.finished);
    console.session.close();
    kernel.join().unwrap();
}

#[test]
fn a_hub_that_is_known_late_is_told_the_end_in_its_way() {
    let (here, there) = Connection::pair(Config::new(Key::generate())).unwrap();
    let mut console = Console::new(here);
    let [status, roster] = [STATUS, ROSTER].map(|channel| there.sender(channel).unwrap());
    let stdin = there.receiver(STDIN).unwrap();
    console.send("ask");
    console.session.finish().unwrap();
    status.send("waiting 1").unwrap();
    console.until_status(Status::Waiting(1));
    assert!(console.session.try_next().is_none());
    roster.send(r#"{"line":{"own":1,"input":1}}"#).unwrap();
    let program = std::thread::spawn(move || {
        while stdin
            .recv_timeout(LONG)
            .map_or_else(|end| end != RecvTimeoutError::Timeout, |line| !line.is_empty())
        {}
        status.send("idle 2").unwrap();
        status
    });
    console.until("the end", |console| console.finished);
    drop(program.join());
}

/// A hub that refuses the input says so over and over: the console asks once for each of its notes.
#[test]
fn a_script_asks_for_the_input_once_for_each_thing_that_it_hears_of_it() {
    let (here, there) = Connection::pair(Config::new(Key::generate())).unwrap();
    let mut console = Console::new(here);
    let [status, roster] = [STATUS, ROSTER].map(|channel| there.sender(channel).unwrap());
    let (stdin, requests) = (there.receiver(STDIN).unwrap(), there.receiver(ROSTER).unwrap());
    roster.send(r#"{"you":1}"#).unwrap();
    roster.send(r#"{"input":6}"#).unwrap();
    status.send("idle 6").unwrap();
    console.until_status(Status::Idle(6));
    console.send("ask");
    assert_eq!(&*stdin.recv_timeout(LONG).unwrap(), b"ask\n");
    console.session.finish().unwrap();
    roster.send(r#"{"line":{"own":1,"input":7}}"#).unwrap();
    status.send("waiting 7").unwrap();
    console.until_status(Status::Waiting(7));
    assert!(console.session.try_next().is_none());
    assert!(matches!(stdin.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected(_))));
    assert_eq!(&*stdin.recv_timeout(LONG).unwrap(), b"");
    stdin.stop(256);
    roster.send(r#"{"lost":{"last_passed":1}}"#).unwrap();
    // A status says that what was sent before it has come.
    let mut read = 7;
    let mut hears = |console: &mut Console, note: &str| {
        read += 1;
        roster.send(note).unwrap();
        status.send(format!("waiting {read}")).unwrap();
        console.until_status(Status::Waiting(read));
        assert!(console.session.try_next().is_none());
        console.session.connection().flush().unwrap();
        std::iter::from_fn(|| requests.try_recv().ok()).count()
    };
    let refused = r#"{"answer":{"done":false,"why":"client 2 has the input"},"input":6}"#;
    while hears(&mut console, refused) == 0 {}
    for _ in 0..5 {
        assert_eq!(hears(&mut console, refused), 0);
    }
    let mut asked = hears(&mut console, r#"{"clients":[]}"#);
    while asked == 0 {
        asked = hears(&mut console, refused);
    }
    assert_eq!(asked, 1);
    // It is granted, and the program is told.
    hears(&mut console, r#"{"answer":{"done":true}}"#);
    assert_eq!(&*there.receiver(STDIN).map_or(stdin, |again| again).recv_timeout(LONG).unwrap(), b"");
}

/// Other channels of the application may take all the room there is: the end goes when there is some again.
#[cfg(unix)]
#[test]
fn an_end_that_finds_no_room_goes_later() {
    use trunkline::{ChannelId, Listener};

    let key = Key::generate();
    let config = || Config::new(key.clone()).window(64 << 20);
    let listener = Listener::bind("127.0.0.1:0", config()).unwrap();
    let dam = support::dam::Dam::before(listener.local_addr());
    let there = Connection::connect(dam.address, config()).unwrap();
    let connection = listener.accept().unwrap();
    let bulk = connection.sender(ChannelId::new(7)).unwrap();
    let mut console = Console::new(connection);
    let [status, roster] = [STATUS, ROSTER].map(|channel| there.sender(channel).unwrap());
    let (stdin, bulk_there) = (there.receiver(STDIN).unwrap(), there.receiver(ChannelId::new(7)).unwrap());
    roster.send(r#"{"you":1}"#).unwrap();
    status.send("idle 0").unwrap();
    console.until_status(Status::Idle(0));
    console.send("ask");
    assert_eq!(&*stdin.recv_timeout(LONG).unwrap(), b"ask\n");
    roster.send(r#"{"line":{"own":1,"input":1}}"#).unwrap();
    console.session.finish().unwrap();
    assert!(matches!(stdin.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected(_))));
    dam.hold(true);
    let block = vec![7; 64 * 1024];
    // Until nothing moves.
    while bulk.send_timeout(&block, std::time::Duration::from_millis(200)).is_ok() {}
    status.send("waiting 1").unwrap();
    console.until_status(Status::Waiting(1));
    assert!(console.session.try_next().is_none());
    assert_eq!(console.session.console().sent(), 1, "there is room");
    dam.hold(false);
    std::thread::spawn(move || while bulk_there.recv_timeout(LONG).is_ok() {});
    let program = std::thread::spawn(move || {
        assert_eq!(&*stdin.recv_timeout(LONG).unwrap(), b"");
        status.send("idle 2").unwrap();
    });
    console.until("the end", |console| console.finished);
    program.join().unwrap();
}
