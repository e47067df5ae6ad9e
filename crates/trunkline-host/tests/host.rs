//! A program on the channels of a connection.
#![cfg(unix)]

mod support;

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use support::*;
use trunkline::{Config, Connection, Disconnect, Key, Receiver, SendError, Sender};
use trunkline_host::{
    Ending, Host, INPUT_CLOSED, Program, Recording, Screen, ServeError, Served, Setup, Signal, Size,
};
use trunkline_kernel::layout::{CONTROL, STATUS, STDERR, STDIN, STDOUT, Status};

/// A console at a program.
struct Console {
    connection: Connection,
    stdin: Sender,
    control: Sender,
    output: Receiver,
    host: JoinHandle<Result<Served, ServeError>>,
    text: String,
    errors: String,
}

impl Console {
    fn at(program: Program) -> Self {
        Self::with(Host::new(program), Config::new(Key::generate()))
    }

    fn with(host: Host, config: Config) -> Self {
        let (here, there) = Connection::pair(config).unwrap();
        let host = std::thread::spawn(move || host.serve(&here));
        Self {
            stdin: there.sender(STDIN).unwrap(),
            control: there.sender(CONTROL).unwrap(),
            output: there.receiver(STDOUT | STDERR | STATUS).unwrap(),
            connection: there,
            host,
            text: String::new(),
            errors: String::new(),
        }
    }

    /// Receives one message; returns the status if it is one.
    fn receive(&mut self) -> Option<Status> {
        let message = self.output.recv_timeout(PATIENCE).unwrap();
        let text = String::from_utf8(message.to_vec()).unwrap();
        match message.channel() {
            STATUS => return Some(text.parse().unwrap()),
            STDERR => self.errors.push_str(&text),
            _ => self.text.push_str(&text),
        }
        None
    }

    fn until(&mut self, text: &str) {
        while !self.text.contains(text) && !self.errors.contains(text) {
            if let Some(status) = self.receive() {
                assert!(
                    !status.is_end(),
                    "{status} before {text:?}; so far {:?} {:?}",
                    self.text,
                    self.errors
                );
            }
        }
    }

    /// Receives until the last status, behind which nothing comes, and returns how the host saw it.
    fn end(&mut self) -> Status {
        let last = loop {
            if let Some(status) = self.receive().filter(Status::is_end) {
                break status;
            }
        };
        let more = self.output.recv_timeout(Duration::from_millis(50));
        assert!(more.is_err(), "{more:?} behind {last}");
        last
    }
}

#[test]
fn a_shell_is_used_over_a_connection() {
    let mut console = Console::at(on_terminal("stty size; read name; echo hello, $name; stty size; exit 3"));
    console.until("24 80");
    console.control.send("resize 100 30").unwrap();
    console.until("trunkline size 100 30");
    console.stdin.send("Ada\n").unwrap();
    assert_eq!(console.end(), Status::Exited(3));
    assert!(console.text.ends_with("Ada\r\nhello, Ada\r\n30 100\r\n"), "{:?}", console.text);
    assert_eq!(console.host.join().unwrap().unwrap().ending(), Ending::Exited(3));

    // What was sent is enough for a copy of the screen.
    let mut screen = Screen::new(Size::default());
    screen.follow(console.text.as_bytes());
    assert_eq!(
        (screen.size(), screen.text().as_str()),
        (Size::new(100, 30), "24 80\nAda\nhello, Ada\n30 100")
    );
}

#[test]
fn a_program_is_interrupted_signalled_and_ended_by_control() {
    let script =
        "trap 'echo int; exit 4' INT; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done";
    for terminal in [true, false] {
        let start = |script| if terminal { on_terminal(script) } else { on_pipes(script) };
        let mut console = Console::at(start(script));
        console.until("ready");
        console.control.send("signal USR1").unwrap();
        console.until("usr1");
        for (wrong, answer) in
            [("signal NOPE", "no signal \"NOPE\""), ("dance", "\"dance\" is not a command")]
        {
            console.control.send(wrong).unwrap();
            console.until(answer);
        }
        console.connection.interrupt().unwrap();
        assert_eq!(console.end(), Status::Exited(4));

        let mut console = Console::at(start(script));
        console.until("ready");
        console.control.send("interrupt").unwrap();
        assert_eq!(console.end(), Status::Exited(4));

        let mut console = Console::at(start("echo ready; exec sleep 30"));
        console.until("ready");
        console.control.send("exit").unwrap();
        let signal = if terminal { "HUP" } else { "TERM" };
        assert_eq!(console.end(), Status::Killed(signal.parse().unwrap()));
    }
}

#[test]
fn an_interrupt_of_a_message_hits_no_other() {
    let script = "trap 'echo stopped; exit 6' INT; echo ready; while read line; do echo got $line; done";
    let mut console = Console::at(on_pipes(script));
    console.until("ready");
    for line in ["one\n", "two\n"] {
        console.stdin.send(line).unwrap();
    }
    console.until("got two");
    // The first is over, the fourth is to come.
    console.control.send("interrupt 1").unwrap();
    console.control.send("interrupt 4").unwrap();
    console.control.send("dance").unwrap();
    console.until("dance");
    assert!(!console.text.contains("stopped"));
    for line in ["three\n", "four\n", "five\n"] {
        console.stdin.send(line).unwrap();
    }
    console.until("got five");
    assert!(!console.text.contains("got four") && !console.text.contains("stopped"), "{:?}", console.text);
    // The fifth is what runs, as far as the host knows.
    console.control.send("interrupt 5").unwrap();
    console.until("stopped");
    assert_eq!(console.end(), Status::Exited(6));
}

#[test]
fn output_that_is_not_received_holds_up_the_program_and_nothing_else() {
    let config = Config::new(Key::generate()).window(64 * 1024).max_message(64 * 1024);
    let script = "trap 'echo interrupted >&2; exit 5' USR1; (while :; do echo flood; done) & read x; echo got $x >&2; wait";
    let mut console = Console::with(Host::new(on_pipes(script)), config);
    console.stdin.send("word\n").unwrap();
    // Until the window is full. Then signals work all the same.
    let unread =
        || console.connection.stats().channels.iter().map(|channel| channel.unread_bytes).sum::<u64>();
    let deadline = Instant::now() + PATIENCE;
    while unread() < 5000 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(unread() < 200_000, "{} bytes unread", unread());
    console.control.send("signal USR1").unwrap();
    assert_eq!(console.end(), Status::Exited(5));
    assert_eq!(console.errors, "got word\ninterrupted\n");
    assert!(console.text.replace("flood\n", "").is_empty());
}

#[test]
fn a_large_output_is_whole_in_small_messages() {
    let config = Config::new(Key::generate()).window(8 * 1024).max_message(5000);
    let mut console = Console::with(Host::new(on_pipes("seq 100000; seq 1000 >&2")), config);
    assert_eq!(console.end(), Status::Exited(0));
    assert!(console.text == seq(100_000, "\n") && console.errors == seq(1000, "\n"));
}

#[test]
fn nothing_overtakes_output_that_is_larger_than_the_room() {
    let config = Config::new(Key::generate()).window(8 * 1024).max_message(8 * 1024);
    for script in
        ["head -c 6000 /dev/zero; sleep 0.1; head -c 6000 /dev/zero", "head -c 20000 /dev/zero; echo e >&2"]
    {
        let mut console = Console::with(Host::new(on_pipes(script)), config.clone());
        // Nothing is received until the program has ended, and its host would say so.
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(console.end(), Status::Exited(0));
        assert!(console.text.len() >= 12_000);
    }
}

#[test]
fn input_is_pushed_back_and_ends() {
    let mut console = Console::at(on_pipes("sleep 0.3; wc -c"));
    let stdin = console.connection.sender(STDIN).unwrap();
    drop(console.stdin);
    let sender = std::thread::spawn(move || {
        for _ in 0..100 {
            stdin.send([b'x'; 100_000]).unwrap();
        }
    });
    sender.join().unwrap();
    console.stdin = console.connection.sender(STDIN).unwrap();
    console.until("10000000");
    assert_eq!(console.end(), Status::Exited(0));
}

#[test]
fn a_program_that_closes_its_input_stops_the_channel() {
    let mut console =
        Console::at(on_pipes("exec <&-; echo closed; while [ ! -e /dev/null/x ]; do sleep 0.05; done"));
    console.until("closed");
    let deadline = Instant::now() + PATIENCE;
    loop {
        match console.stdin.send("for nothing\n") {
            Err(SendError::Disconnected { cause: Disconnect::Stopped(INPUT_CLOSED), .. }) => break,
            Ok(()) => assert!(Instant::now() < deadline),
            other => panic!("{other:?}"),
        }
    }
    // Another that comes later is told the same.
    for _ in 0..3 {
        let another = console.connection.sender(STDIN).unwrap();
        while another.send("for nothing either\n").is_ok() {
            assert!(Instant::now() < deadline);
        }
        assert_eq!(another.stopped(), Some(INPUT_CLOSED));
    }
    console.control.send("signal KILL").unwrap();
    assert_eq!(console.end(), Status::Killed("KILL".parse().unwrap()));
}

#[test]
fn a_program_is_asked_to_end_from_another_thread() {
    let host = Host::new(on_terminal("trap 'exit 8' HUP; echo ready; while :; do sleep 0.05; done"));
    let stopper = host.stopper();
    let mut console = Console::with(host, Config::new(Key::generate()));
    console.until("ready");
    stopper.stop();
    stopper.stop();
    assert_eq!(console.end(), Status::Exited(8));
}

#[test]
fn a_program_whose_connection_is_over_is_asked_to_end() {
    let mut console =
        Console::at(on_terminal("trap 'exit 9' HUP; echo ready; while :; do echo more; sleep 0.01; done"));
    console.until("ready");
    drop((console.stdin, console.control, console.output));
    console.connection.abandon();
    match console.host.join().unwrap() {
        Err(ServeError::Lost { ending, .. }) => assert_eq!(ending, Ending::Exited(9)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_shown_is_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("session.cast");
    let host = Host::new(on_terminal("read x; stty -echo; echo 'ä'"));
    let host = host.record(Recording::create(&path, Size::default(), "test").unwrap());
    let mut console = Console::with(host, Config::new(Key::generate()));
    console.stdin.send("word\n").unwrap();
    assert_eq!(console.end(), Status::Exited(0));
    let recording = std::fs::read_to_string(path).unwrap();
    let mut lines = recording.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    assert_eq!(lines.next().unwrap()["width"], 80);
    let events: Vec<_> = lines.collect();
    assert_eq!((&events[0][1], &events[0][2]), (&"r".into(), &"80x24".into()));
    let shown: String =
        events.iter().filter(|event| event[1] == "o").map(|event| event[2].as_str().unwrap()).collect();
    assert_eq!(shown, "word\r\nä\r\n");
}

#[test]
fn a_recording_that_cannot_be_written_is_told_and_the_program_goes_on() {
    let full = Setup::pipes(sh("echo one; sleep 0.1; echo two")).start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("session.cast");
    drop(Recording::create(&path, Size::default(), "").unwrap());
    // A file that is full from here on.
    let recording = Recording::new(
        std::fs::File::options().write(true).open("/dev/full").unwrap(),
        Size::default(),
        std::time::UNIX_EPOCH,
        "",
    );
    assert!(recording.is_err());
    let read_only = std::fs::File::open(&path).unwrap();
    let host = Host::new(full).record(Recording::on(read_only));
    let mut console = Console::with(host, Config::new(Key::generate()));
    assert_eq!(console.end(), Status::Exited(0));
    assert_eq!(console.text, "one\ntwo\n");
    assert_eq!(console.errors.matches("the recording ends here").count(), 1);
}

#[test]
fn a_killed_program_is_told_with_its_signal() {
    let mut console = Console::at(on_terminal("kill -SEGV $$"));
    assert_eq!(console.end(), Status::Killed("SEGV".parse().unwrap()));
    assert_eq!(
        console.host.join().unwrap().unwrap().ending(),
        Ending::Killed("SEGV".parse::<Signal>().unwrap())
    );
}
