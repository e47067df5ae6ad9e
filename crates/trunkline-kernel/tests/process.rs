//! Kernels as processes: their ends, their limits, and what becomes of their streams.

#![cfg(unix)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use support::{Console, LONG};
use trunkline::{Config, Connection, Key};
use trunkline_kernel::console::{Child, ChildError, Session, Unsent};
use trunkline_kernel::layout::{Operation, Status};

/// The kernel of the example, which `cargo test` builds beside the tests.
fn tiny() -> Command {
    let test = std::env::current_exe().unwrap();
    let path: PathBuf = test.ancestors().nth(2).unwrap().join("examples").join("tiny");
    assert!(path.exists(), "{} is missing: `cargo test` builds it", path.display());
    Command::new(path)
}

/// A kernel that listens, with limits.
struct Listening {
    process: Process,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Listening {
    fn start(limits: &[&str], set: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = tiny();
        command.arg("127.0.0.1:0").arg(folder.path().join("key")).args(limits);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        set(&mut command);
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        // What comes after it has no reader.
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { process, address, folder }
    }

    fn console(&self) -> Console {
        let key = Key::from_file(self.folder.path().join("key")).unwrap();
        Console::new(Connection::connect(self.address, Config::new(key)).unwrap())
    }

    #[track_caller]
    fn end(mut self) -> ExitStatus {
        end(&mut self.process)
    }
}

/// How a process ends by itself, in time.
#[track_caller]
fn end(process: &mut Process) -> ExitStatus {
    let id = rustix::process::Pid::from_child(process);
    let (ended, end) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| ended.send(process.wait().unwrap()).unwrap());
        let status = end.recv_timeout(LONG);
        if status.is_err() {
            rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
        }
        status.expect("it ends in time")
    })
}

impl Drop for Listening {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How much memory a process has, in bytes.
#[cfg(target_os = "linux")]
fn memory(process: u32) -> u64 {
    let pages = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// The console dies while the kernel is in a call that grows and reacts to nothing.
#[test]
fn an_orphan_that_grows_ends_after_its_grace() {
    for statement in ["grow", "deaf 100000000"] {
        // What the kernel says then has no reader.
        let (_, nowhere) = std::io::pipe().unwrap();
        let kernel = Listening::start(&["300"], |command| {
            command.stderr(nowhere);
        });
        let mut console = kernel.console();
        console.send(statement);
        console.until_status(Status::Busy(1));
        console.session.connection().clone().abandon();
        let status = kernel.end();
        assert_eq!(status.code(), Some(3), "{statement}: {status}");
    }
}

/// The bound holds with its console there, too, and without a grace.
#[cfg(target_os = "linux")]
#[test]
fn a_kernel_has_no_more_memory_than_it_may() {
    const LIMIT: u64 = 256 << 20;
    for dies in [true, false] {
        let kernel = Listening::start(&["100000000", &LIMIT.to_string()], |command| {
            command.stderr(Stdio::null());
        });
        let process = kernel.process.id();
        let mut console = kernel.console();
        console.send("say before");
        console.send("grow");
        console.until_status(Status::Busy(2));
        assert!(memory(process) < LIMIT);
        if dies {
            console.session.connection().clone().abandon();
        } else {
            console.until("it is over", |console| console.over);
            assert_eq!(console.shown(), "before\n");
        }
        let status = kernel.end();
        assert_eq!(status.signal(), Some(6), "{status}");
    }
}

/// `kernel 2>&1 | head`: nothing reads what the process itself writes.
#[test]
fn a_kernel_whose_own_streams_have_no_reader_serves_on() {
    let (reader, writer) = std::io::pipe().unwrap();
    let kernel = Listening::start(&[], |command| {
        command.stderr(writer);
    });
    drop(reader);
    for _ in 0..3 {
        let mut console = kernel.console();
        console.send("panic over nothing");
        console.send("dance");
        console.send("say hello");
        console.until_over(3);
        assert!(console.stderr.contains("the interpreter panicked: over nothing"), "{}", console.stderr);
        assert_eq!(console.shown(), "hello\n");
        console.session.close();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_kernel_that_waits_takes_no_time() {
    let kernel = Listening::start(&[], |_| {});
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", kernel.process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let mut console = kernel.console();
    console.send("say hello");
    console.until_over(1);
    for waits in ["for a line", "for an answer", "for a console"] {
        match waits {
            "for an answer" => {
                console.send("ask ");
                console.until_status(Status::Waiting(2));
            }
            "for a console" => console.session.connection().clone().abandon(),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(100));
        let before = ticks();
        std::thread::sleep(Duration::from_millis(500));
        // A tick is 10 ms.
        assert!(ticks() - before <= 10, "{} ticks of 50 while it waits {waits}", ticks() - before);
    }
}

fn child() -> (Child, Console) {
    let mut command = tiny();
    command.stderr(Stdio::null());
    let (child, connection) = Child::start(command, |config| config).unwrap();
    (child, Console::new(connection))
}

#[test]
fn a_kernel_that_dies_has_shown_everything_and_its_end_is_known() {
    let (child, mut console) = child();
    console.send("count 20000");
    console.send("say the last words");
    // What a process that crashes has not given to the system is lost with it.
    console.until_over(2);
    console.send("die");
    console.until("the end", |console| console.over);
    let numbers: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    assert!(console.shown() == numbers + "the last words\n", "{} bytes", console.stdout.len());
    let status = child.wait(LONG).unwrap().unwrap();
    assert_eq!(status.signal(), Some(6), "{status}");
    assert!(child.wait(Duration::ZERO).is_none(), "it is told once");
}

#[test]
fn a_kernel_of_its_own_ends_with_its_console() {
    for statement in ["", "loop", "ask ", "count 1000000000"] {
        let (child, mut console) = child();
        console.send(statement);
        console.until("it has begun", |console| console.session.console().read() == 1);
        console.session.connection().clone().abandon();
        let status = child.wait(LONG).unwrap().unwrap();
        assert_eq!(status.code(), Some(0), "{statement}: {status}");
    }
}

#[test]
fn a_kernel_is_killed_with_the_handle_of_its_process() {
    let (child, mut console) = child();
    console.send("deaf 1000000000");
    console.until_status(Status::Busy(1));
    let exited = child.exited();
    drop(child);
    assert_eq!(exited.recv_timeout(LONG).unwrap().unwrap().signal(), Some(9));
}

#[test]
fn a_kernel_that_does_not_react_can_be_killed() {
    let (child, mut console) = child();
    console.send("deaf 1000000000");
    console.until_status(Status::Busy(1));
    child.kill();
    assert_eq!(child.wait(LONG).unwrap().unwrap().signal(), Some(9));
    console.until("the end", |console| console.over);
    child.kill();
}

/// SIGSTOP: nothing that a console calls waits for it, and what was asked is answered when it goes on.
#[test]
fn a_kernel_that_is_stopped_holds_up_no_call_of_its_console() {
    let (child, mut console) = child();
    console.send("loop");
    console.until_status(Status::Busy(1));
    let pid = rustix::process::Pid::from_raw(child.pid().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let began = std::time::Instant::now();
    let question = Operation::Complete { code: "s".to_owned(), cursor: 1 };
    let asked = console.session.request(question.clone()).unwrap();
    for _ in 0..10_000 {
        match console.session.request(question.clone()) {
            Ok(_) | Err(Unsent::Full) => {}
            Err(error) => panic!("{error}"),
        }
    }
    console.interrupt();
    assert!(console.session.next_timeout(Duration::from_millis(200)).is_none());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    console.until_over(1);
    console.until("the answer", |console| console.answers.iter().any(|answer| answer.id == Some(asked)));
}

#[test]
fn a_kernel_that_does_not_start_is_an_error_that_says_why() {
    let start = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stderr(Stdio::null());
        Child::start(command, |config| config).map(|_| ()).unwrap_err().to_string()
    };
    let says = start("exit 7");
    assert!(says.contains("exit status: 7") && says.contains("standard error says why"), "{says}");
    let says = start("echo hello; cat");
    assert!(says.contains("it said \"hello\\n\""), "{says}");
    let says = start("echo listening on nowhere; cat");
    assert!(says.contains("it said \"listening on nowhere\\n\""), "{says}");
    let says = start("head -c 100000 /dev/zero; cat");
    assert!(says.contains("it said \"\\0") && says.len() < 3_000, "{says}");
    let none = Child::start(Command::new("/nowhere/kernel"), |config| config).map(|_| ()).unwrap_err();
    assert!(
        matches!(none, ChildError::Spawn { .. }) && none.to_string().contains("/nowhere/kernel"),
        "{none}"
    );
}

/// A console that is killed between starting its kernel and connecting to it.
#[test]
fn a_kernel_whose_console_never_connects_ends() {
    let mut process =
        tiny().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(Key::generate().expose_hex().as_bytes()).unwrap();
    stdin.write_all(b"\n").unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening on "), "{line}");
    drop(stdin);
    assert_eq!(end(&mut process).code(), Some(3));
}

#[test]
fn a_kernel_that_gets_no_key_says_so() {
    let mut process =
        tiny().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // A line that never ends costs nothing.
    let mut stdin = process.stdin.take().unwrap();
    let _ = stdin.write_all(&[b'x'; 100_000]);
    drop(stdin);
    let mut says = String::new();
    process.stderr.take().unwrap().read_to_string(&mut says).unwrap();
    assert!(says.contains("is not a key"), "{says}");
    assert!(!end(&mut process).success());
}

/// The handles of a session do not keep a kernel that has ended.
#[test]
fn a_session_of_a_kernel_that_has_ended_says_so_to_everything() {
    let (child, console) = child();
    child.kill();
    child.wait(LONG).unwrap().unwrap();
    let mut session: Session = console.session;
    while session.next_timeout(LONG).is_some() {}
    assert!(session.try_send("say\n").is_err());
    assert!(session.finish().is_err());
    assert!(session.request(Operation::Info).is_err());
    assert!(!session.interrupt().unwrap(), "there is nothing to interrupt");
}
