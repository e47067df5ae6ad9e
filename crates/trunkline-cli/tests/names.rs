//! Hosts that have a name, or a path, and those that want the same.

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::*;
use trunkline_host::Size;

/// A runtime directory of its own.
struct Names(tempfile::TempDir);

impl Names {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn call(&self, call: &[&str]) -> Command {
        let mut command = trunkline();
        command.args(call).env("XDG_RUNTIME_DIR", self.0.path()).env("PS1", "$ ");
        command
    }

    fn run(&self, call: &[&str]) -> (i32, String, String) {
        finish(self.call(call))
    }

    fn files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.0.path().join("trunkline")).unwrap().flatten();
        files.map(|file| file.file_name().to_string_lossy().into_owned()).collect()
    }
}

/// The line that a host prints, or `None` if it ends without.
fn first_line(host: &mut Child) -> Option<String> {
    let mut line = String::new();
    BufReader::new(host.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (!line.is_empty()).then_some(line)
}

#[test]
fn a_program_is_started_by_name_found_again_and_outlives_its_terminal() {
    let names = Names::new();
    assert_eq!(names.run(&["ls"]), (0, String::new(), String::new()));
    let (code, _, text) = names.run(&["attach", "work"]);
    assert!(code == 69 && text.contains("trunkline new work"), "{code} {text}");

    let new = [
        "new",
        "work",
        "--",
        "sh",
        "-c",
        "echo ready; while read x; do echo got $x; [ $x = end ] && exit 6; done",
    ];
    let mut desk = Terminal::of(names.call(&new), Size::default());
    desk.shows("ready");
    desk.keys("one\r");
    desk.shows("got one");
    // The terminal closes under it: the hang-up hits everything that belongs to it.
    drop(desk);
    let (code, list, _) = names.run(&["ls"]);
    assert!(code == 0 && list.starts_with("work  ") && list.contains("sh -c"), "{list}");
    let mut home = Terminal::of(names.call(&new), Size::default());
    home.shows("got one");
    // It was this person's own, so it is given back to them at once.
    eventually("the owner", || {
        let text = names.run(&["status", "work"]).1;
        text.lines().any(|line| line.contains("has the input") && !line.contains("link lost"))
    });
    home.keys("two\r");
    home.shows("got two");
    home.keys("\x1dd");
    assert_eq!(home.end().code(), 0);

    let (code, _, text) = names.run(&["new", "work", "--detached", "--", "true"]);
    assert!(code == 69 && text.contains("trunkline attach work"), "{code} {text}");
    let mut wait = names.call(&["wait", "work", "--exit"]).spawn().unwrap();
    eventually("the one that waits", || {
        let text = names.run(&["status", "work"]).1;
        text.lines().any(|line| line.contains(" here ") && !line.contains("link lost"))
    });
    assert_eq!(names.run(&["send", "work", "end", "--key", "Enter"]).0, 0);
    assert_eq!(wait.wait().unwrap().code(), Some(6));
    eventually("nothing left behind", || names.files().is_empty());
    assert_eq!(names.run(&["ls"]).1, "");
}

#[test]
fn a_program_that_cannot_be_started_in_the_background_is_told_in_the_foreground() {
    let names = Names::new();
    let (code, _, text) = names.run(&["new", "x", "--detached", "--", "no-such-program"]);
    assert!(code == 127 && text.contains("PATH"), "{code} {text}");
    assert!(names.files().is_empty());
    assert_eq!(names.run(&["ls"]).1, "");
}

#[test]
fn a_name_that_a_terminal_or_a_path_would_obey_is_refused() {
    let names = Names::new();
    for name in ["\x1b[31mred", "a/b", "..", "-x", "", "a b", "ä", &"x".repeat(33), "a\n"] {
        assert_eq!(names.run(&["new", "--detached", "--pipes", name, "--", "true"]).0, 2, "{name:?}");
    }
    // What a host says of itself is shown without escapes: another program can have written the file.
    let mut host =
        names.call(&["host", "--name", "evil", "--", "sh", "-c", "read x", "\x1b]52;c;?\x07\x1b[31m"]);
    let mut host = host.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    first_line(&mut host).unwrap();
    let (_, list, _) = names.run(&["ls"]);
    assert!(list.starts_with("evil") && !list.contains(['\x1b', '\x07']), "{list:?}");
    host.kill().unwrap();
    host.wait().unwrap();
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let names = Names::new();
    let directory = names.0.path().join("trunkline");
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).unwrap();
    let (code, _, text) = names.run(&["ls"]);
    assert!(code == 73 && text.contains("chmod 700"), "{code} {text}");
    std::fs::remove_dir(&directory).unwrap();
    std::os::unix::fs::symlink(names.0.path(), &directory).unwrap();
    assert_eq!(names.run(&["ls"]).0, 73);
}

/// Of hosts that start at once exactly one gets the name, or the path, and it can be reached there.
#[test]
fn of_two_hosts_that_want_the_same_one_gets_it_and_is_reached() {
    let names = Names::new();
    let key = names.0.path().join("key");
    assert_eq!(names.run(&["key", key.to_str().unwrap()]).0, 0);
    let path = names.0.path().join("path.sock");
    let by_path = ["host", "--unix", path.to_str().unwrap(), "--key-file", key.to_str().unwrap()];
    for round in 0..or_in_full(20, 1000) {
        let by_name = round % 2 == 0;
        let place = if by_name { &["host", "--name", "both"][..] } else { &by_path[..] };
        // Every third time after one that was killed and has left its files.
        let start = || {
            let mut command = names.call(place);
            command.args(["--pipes", "--", "sleep", "60"]);
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
        };
        let mut both = [start(), start()];
        let lines = both.each_mut().map(first_line);
        let winners = lines.iter().flatten().count();
        assert_eq!(winners, 1, "round {round}: {lines:?}");
        let at = if by_name { "both" } else { path.to_str().unwrap() };
        let mut status = names.call(&["status", at]);
        status.env("TRUNKLINE_KEY_FILE", &key);
        let (code, text, error) = finish(status);
        assert!(code == 0, "round {round}: {text} {error}");
        for (host, line) in both.iter_mut().zip(lines) {
            if line.is_none() {
                assert_eq!(host.wait().unwrap().code(), Some(69));
            }
            host.kill().unwrap();
            host.wait().unwrap();
        }
        if by_name {
            assert_eq!(names.run(&["ls"]).1, "", "a dead host is listed");
        }
    }
}

/// A server that speaks another version is not taken for a wrong key or a host that is gone.
#[test]
fn a_host_of_another_version_is_told_as_such() {
    let names = Names::new();
    let key = names.0.path().join("key");
    assert_eq!(names.run(&["key", key.to_str().unwrap()]).0, 0);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The beginning of its answer: the magic, its version, and that there is none in common.
            let mut answer = [0; 104];
            answer[..6].copy_from_slice(&[0xf4, b'T', b'L', b'N', 9, 1]);
            let mut hello = [0; 48];
            let _ = std::io::Read::read_exact(&mut stream, &mut hello);
            answer[7] = hello[7];
            let _ = std::io::Write::write_all(&mut stream, &answer);
            let _ = std::io::Read::read(&mut stream, &mut hello);
        }
    });
    for call in ["attach", "status", "watch"] {
        let (code, _, text) = names.run(&[call, &address, "--key-file", key.to_str().unwrap()]);
        let version = format!("this is trunkline {}", env!("CARGO_PKG_VERSION"));
        let both = "the server speaks protocol version 9, and this side version 1; update this side";
        assert!(code == 69 && text.contains(both) && text.contains(&version), "{code} {text}");
    }
}

#[test]
fn a_named_host_may_listen_elsewhere_with_another_key() {
    let names = Names::new();
    let key = names.0.path().join("session.key");
    assert_eq!(names.run(&["key", key.to_str().unwrap()]).0, 0);
    let mut host = names.call(&["host", "--name", "tcp", "--listen", "127.0.0.1:0", "--key-file"]);
    host.arg(&key).args(["--pipes", "--", "sh", "-c", "read x; echo got $x"]);
    let mut host = host.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let line = first_line(&mut host).unwrap();
    assert!(line.starts_with("listening on 127.0.0.1:"), "{line}");
    // A key of another session that the environment names is not for it.
    let mut send = names.call(&["send", "tcp", "word\n"]);
    send.env("TRUNKLINE_KEY_FILE", Path::new("/no/such/key"));
    assert_eq!(finish(send), (0, String::new(), String::new()));
    assert!(host.wait().unwrap().success());
}

#[test]
fn a_host_whose_program_ends_at_once_gives_its_output_and_its_status() {
    let names = Names::new();
    let mut new = names.call(&[
        "new",
        "short",
        "--pipes",
        "--linger-after-exit",
        "1",
        "--",
        "sh",
        "-c",
        "echo all; exit 7",
    ]);
    new.stdin(Stdio::null());
    let (code, text, _) = finish(new);
    assert_eq!((code, text.as_str()), (7, "all\n"));
    std::thread::sleep(Duration::from_millis(10));
}

/// As after `su`, or in a container.
#[test]
fn a_runtime_directory_that_is_not_there_is_told_with_its_variable() {
    let names = Names::new();
    for call in [&["ls"][..], &["attach", "work"], &["new", "work", "--", "true"]] {
        let mut call = names.call(call);
        call.env("XDG_RUNTIME_DIR", names.0.path().join("no"));
        let (code, _, text) = finish(call);
        assert!(code == 73 && text.contains("XDG_RUNTIME_DIR"), "{code} {text}");
    }
}

/// A client that is slow at the end still gets the output, and the name is free.
#[test]
fn a_name_is_free_as_soon_as_its_program_has_ended() {
    let names = Names::new();
    let script = "read x; seq 300000; exit 4";
    let host = ["host", "--name", "same", "--pipes", "--", "sh", "-c", script];
    let mut host = names.call(&host).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    assert!(first_line(&mut host).is_some());
    let watch = names.call(&["watch", "same"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    eventually("the watcher", || names.run(&["status", "same"]).1.contains("clients  1"));
    assert_eq!(names.run(&["send", "same", "go\n"]).0, 0);
    eventually("the end of the program", || names.run(&["ls"]).1.is_empty());
    let (code, _, error) = names.run(&["new", "same", "--detached", "--pipes", "--", "sh", "-c", "read x"]);
    assert!(host.try_wait().unwrap().is_none(), "the watcher is not slow");
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(names.run(&["send", "same", "end\n"]).0, 0);
    let output = watch.wait_with_output().unwrap();
    assert!(output.stdout.ends_with(b"\n300000\n"), "{} bytes", output.stdout.len());
    assert_eq!((output.status.code(), host.wait().unwrap().code()), (Some(4), Some(4)));
}

/// The program may have ended before `new` has attached.
#[test]
fn a_program_that_ends_at_once_is_seen_by_the_command_that_started_it() {
    let names = Names::new();
    for kind in ["--pty", "--pipes"].repeat(3) {
        let mut new = names.call(&["new", "short", kind, "--", "sh", "-c", "echo all; exit 7"]);
        new.stdin(Stdio::null());
        let (code, text, error) = finish(new);
        assert!(code == 7 && text.contains("all") && error.is_empty(), "{kind}: {code} {text} {error}");
        // It is held for no other.
        eventually("the end of the host", || names.run(&["ls"]).1.is_empty());
    }
}

/// A script that waits unawares is told what to do, and what it started goes on without it.
#[test]
fn new_without_a_terminal_says_that_it_waits() {
    let names = Names::new();
    let mut new = names.call(&["new", "long", "--", "sh", "-c", "read x"]);
    let mut new = new.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(new.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("long runs in the background") && line.contains("--detached"), "{line}");
    rustix::process::kill_process(rustix::process::Pid::from_child(&new), rustix::process::Signal::INT)
        .unwrap();
    assert_eq!(new.wait().unwrap().code(), Some(130));
    assert_eq!(names.run(&["send", "long", "--key", "Enter"]).0, 0);
    eventually("the end", || names.run(&["ls"]).1.is_empty());
}
