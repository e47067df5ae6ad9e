//! The small examples, run as their readers run them, and what they print.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

#[cfg(unix)]
use crate::support::process::Outcome;
use crate::support::process::{Process, example, lines, rest};

/// Runs an example to its end, and returns its lines. It may panic in a thread, as `tasks` does.
#[track_caller]
fn run(name: &str) -> Vec<String> {
    struct Guard(Child);
    impl Drop for Guard {
        fn drop(&mut self) {
            // It has ended by itself, unless the test fails.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let mut child = Guard(example(name).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let stdout = rest(&lines(child.0.stdout.take().unwrap()));
    assert!(child.0.wait().unwrap().success(), "{name} fails; so far it has written:\n{stdout}");
    stdout.lines().map(str::to_owned).collect()
}

/// An example that is two programs; the server makes the key file.
struct Server {
    process: Process,
    address: String,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(name: &str, mode: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = example(name);
        command.args(mode).arg("127.0.0.1:0").arg(folder.path().join("key"));
        let process = Process::start(&mut command);
        Self { address: process.address().to_string(), process, folder }
    }

    fn key_file(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    fn client(&self, name: &str, mode: &[&str], arguments: &[&str]) -> Process {
        client(name, mode, &self.address, &self.key_file(), arguments)
    }
}

fn client(name: &str, mode: &[&str], address: &str, key_file: &Path, arguments: &[&str]) -> Process {
    Process::start(example(name).args(mode).arg(address).arg(key_file).args(arguments))
}

#[track_caller]
fn expect(client: Process, code: i32, stdout: &str) {
    let ended = client.end();
    assert_eq!((ended.code, &*ended.stdout), (Some(code), stdout), "{}", ended.stderr);
}

/// The lines of several programs come in any order.
#[cfg(unix)]
#[track_caller]
fn sorted(ended: &Outcome) -> Vec<&str> {
    let mut lines: Vec<&str> = ended.stdout.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn hello() {
    assert_eq!(run("hello"), ["hello, world"]);
}

#[test]
#[cfg(unix)]
fn unix() {
    let lines = run("unix");
    let said = &lines[lines.len() - 2..];
    assert_eq!(said, ["program: reload", "control: done"]);
}

#[test]
fn server_and_client() {
    let server = Server::start("server", &[]);
    expect(server.client("client", &[], &["1 + 2 + 39", "6 + 7"]), 0, "42\n13\n");
    expect(server.client("client", &[], &["quit"]), 0, "");
    expect(server.process, 0, "");
}

#[test]
fn stdin() {
    assert_eq!(run("stdin"), ["What is your name?", "Hello, Ada."]);
}

#[test]
fn select() {
    assert_eq!(run("select"), ["job: paint", "interrupted", "control: stop"]);
}

#[test]
fn backpressure() {
    let line = "a line of 968 bytes";
    let first = ["sent 4 lines, left out 6", "not in time", "a result: 42"];
    let last = ["6 lines are missing, 5808 bytes", "the last line"];
    assert_eq!(run("backpressure"), [&first[..], &[line; 4], &last].concat());
}

#[test]
fn outage() {
    assert_eq!(
        run("outage"),
        ["100000 numbers arrived, each once and in order", "the link was cut", "the connection went on"]
    );
}

#[test]
fn tasks() {
    let mut lines = run("tasks");
    // Each task's lines are in order; the sort is by channel and stable.
    lines.sort_by_key(|line| line[..2].to_owned());
    let expected = [
        "16: 1",
        "16: 2",
        "16: 3",
        "16: done",
        "17: there is no such file",
        "17: failed with code 2",
        "18: this task has a bug",
        "18: panicked",
    ];
    assert_eq!(lines, expected);
}

#[cfg(unix)]
#[test]
fn process_host() {
    let server = Server::start("process_host", &["serve"]);
    let mut client =
        server.client("process_host", &["run"], &["echo one", "ls /nothing", "cat", "sleep 100", "no-such"]);
    client.write("2 typed\n2\n3 !\n");
    let ended = client.end();
    let mut lines = sorted(&ended);
    // In as many pieces as it is written in.
    lines.retain(|line| !line.starts_with("1 error: "));
    assert_eq!((ended.code, lines.len()), (Some(0), 7), "{ended:?}");
    assert!(ended.stdout.contains("1 error: ls:"), "{ended:?}");
    assert_eq!(lines[..2], ["0 end: exit status: 0", "0 output: one"]);
    assert!(lines[2].starts_with("1 end: exit status: "), "{lines:?}");
    assert_eq!(lines[3..5], ["2 end: exit status: 0", "2 output: typed"]);
    assert!(
        lines[5].starts_with("3 end: signal: 9") && lines[6].starts_with("4 end: no-such: "),
        "{lines:?}"
    );
}

#[cfg(unix)]
#[test]
fn process_host_kills_the_programs_of_a_client_that_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let server = Server::start("process_host", &["serve"]);
    let mut client =
        server.client("process_host", &["run"], &[&format!("tail -f /dev/null {}", fifo.display())]);
    // Opens as soon as the program reads it, and breaks once that is dead.
    let mut held = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    client.kill();
    let (dead, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        use std::io::Write;
        while held.write_all(b"x").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        dead.send(())
    });
    ended.recv_timeout(crate::support::LONG).expect("the program is killed");
}

#[cfg(unix)]
#[test]
fn build_runner() {
    let server = Server::start("build_runner", &["serve"]);
    let ended = server.client("build_runner", &["run"], &["echo one", "echo two"]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines = sorted(&ended);
    assert_eq!(lines[2..], ["echo one: one", "echo two: two"]);
    // Which of them ends first is open.
    assert!(lines[0].starts_with("[1 of 2: echo ") && lines[1].starts_with("[2 of 2: echo "), "{lines:?}");

    // One that fails ends the others, whether they run or wait.
    let jobs = ["sleep 100", "ls /nothing", "sleep 100", "sleep 100"];
    let ended = server.client("build_runner", &["run"], &jobs).end();
    assert_eq!((ended.code, ended.stdout.matches(" of 4: ").count()), (Some(1), 4), "{ended:?}");
    assert!(ended.stderr.contains("ls /nothing failed with code "), "{}", ended.stderr);
}

#[test]
fn ide() {
    let mut command = example("ide");
    // The kernel is found as a user finds it: by its path.
    command.arg(example("repl").get_program()).arg("own-kernel");
    let mut ide = Process::start(&mut command);
    let shows = |ide: &Process, line: &str| while ide.line().trim_end() != line {};
    shows(&ide, "[idle 0]");
    ide.write("let x = 6;\nx *\\n 7\n?pri\n");
    shows(&ide, "42");
    ide.write("?pri\n");
    shows(&ide, "[print private]");
    ide.write("print(\"endless\"); loop {}\nprint(\"after\")\n");
    shows(&ide, "endless");
    ide.write("!\n");
    shows(&ide, "error: interrupted");
    shows(&ide, "after");
    ide.write("print(input(\"\"))\n");
    shows(&ide, "[waiting 5]");
    ide.write("an answer\n");
    shows(&ide, "an answer");

    // The kernel is killed in the middle of a statement; what it had written is there, and a new one comes.
    ide.write("for i in 0..1000 { print(i) } print(\"the last words\"); loop {}\n");
    shows(&ide, "the last words");
    ide.write("!!\n");
    shows(&ide, "[a new kernel]");
    ide.write("1 + 1\n");
    shows(&ide, "2");
    ide.finish();
    let ended = ide.end();
    let last: Vec<&str> = ended.stdout.lines().rev().take(2).collect();
    assert_eq!((ended.code, last[1]), (Some(0), "[idle 1]"), "{ended:?}");
    assert!(last[0].starts_with("[the kernel has ended: exit "), "{ended:?}");
}
