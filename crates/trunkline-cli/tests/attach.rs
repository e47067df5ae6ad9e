//! `trunkline attach` at `trunkline host`, at real terminals.

mod support;

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::*;
use trunkline_host::{Ending, Size};
use trunkline_kernel::layout::{ROSTER, STATUS, STDIN, STDOUT};

#[test]
fn a_shell_is_used_left_and_found_as_it_was() {
    let mut host = Host::start(&["--pty"], "exec sh -i");
    let mut desk = host.terminal("key", Size::new(100, 30));
    desk.shows("$");
    ask_until(&mut desk, "stty size\r", "30 100");
    desk.keys("echo mark-$((6*7))\r");
    desk.shows("mark-42");
    desk.keys("\x1d");
    desk.pass(Duration::from_millis(50));
    desk.keys("d");
    assert_eq!(desk.end(), Ending::Exited(0));

    let mut home = host.terminal("key", Size::new(90, 20));
    home.shows("mark-42");
    ask_until(&mut home, "stty size\r", "20 90");
    home.keys("exit 3\r");
    assert_eq!(home.end(), Ending::Exited(3));
    assert_eq!(host.end(), Some(3));
}

#[test]
fn the_first_terminal_gives_its_size_before_a_key_is_typed() {
    let host = Host::start(&["--pty"], "while :; do stty size; sleep 0.1; done");
    let mut desk = host.terminal("key", Size::new(100, 30));
    desk.shows("24 80");
    desk.shows("30 100");
    // Another does not change it, and the first goes on to.
    let mut home = host.terminal("key", Size::new(90, 20));
    home.shows("30 100");
    home.pass(Duration::from_millis(500));
    assert!(!home.text().contains("20 90"));
    desk.program.resize(Size::new(70, 12));
    desk.shows("12 70");
}

#[test]
fn a_fixed_size_is_not_changed_by_a_terminal() {
    let host = Host::start(&["--pty", "--size", "60x15"], "while :; do stty size; sleep 0.1; done");
    let mut desk = host.terminal("key", Size::new(100, 30));
    desk.shows("15 60");
    // Until this terminal has the input, and long after.
    desk.pass(Duration::from_secs(2));
    assert!(!desk.text().contains("30 100") && !desk.text().contains("24 80"), "{}", desk.text());
}

/// Types a line until what it says is on the screen: a size takes a moment to arrive.
#[track_caller]
fn ask_until(terminal: &mut Terminal, line: &str, text: &str) {
    for _ in 0..20 {
        terminal.keys(line);
        terminal.pass(Duration::from_millis(300));
        if terminal.text().contains(text) {
            return;
        }
    }
    panic!("no {text:?} in:\n{}", terminal.text());
}

#[test]
fn ctrl_c_reaches_what_runs() {
    let host =
        Host::start(&["--pty"], "trap 'echo stopped; exit 7' INT; echo ready; while :; do sleep 0.05; done");
    let mut desk = host.terminal("key", Size::default());
    desk.shows("ready");
    desk.keys("\x03");
    assert_eq!(desk.end(), Ending::Exited(7));
    assert!(desk.text().contains("^Cstopped"), "{}", desk.text());
}

#[test]
fn a_question_of_the_program_is_answered_once_whoever_is_attached() {
    let script = "stty raw -echo; echo ready; head -c1 >/dev/null; printf '\\033[6n\\033[c'; sleep 0.5; printf done; \
                  dd bs=1000 count=1 2>/dev/null | tr '\\033' E; head -c1 >/dev/null";
    let host = Host::start(&["--pty"], script);
    let mut desk = host.terminal("key", Size::default());
    desk.shows("ready");
    eventually("the owner", || host.run("key", &["status"]).1.contains("has the input"));
    let mut others: Vec<_> = ["key", "key", "watch"].map(|key| host.terminal(key, Size::default())).into();
    for other in &mut others {
        other.shows("ready");
    }
    desk.keys("x");
    desk.shows("E[2;6RE[?62;22c");
    // A joiner's terminal is asked nothing either, and no answer stands at the prompt.
    let mut joiner = host.terminal("key", Size::default());
    joiner.shows("E[2;6RE[?62;22c");
    assert_eq!(desk.text().matches("62;22c").count(), 1);
    for terminal in others.iter_mut().chain([&mut desk, &mut joiner]) {
        terminal.pass(Duration::from_millis(100));
        assert!(!terminal.written.windows(4).any(|bytes| bytes == b"\x1b[6n"));
    }
}

#[test]
fn the_terminal_is_restored_whatever_ends_it() {
    let modes = "\\033[?1049h\\033[?1002h\\033[?1006h\\033[?2004h\\033[?1004h\\033[>1u\\033[?25l";
    let script = format!("printf '{modes}in the program'; cat");
    for way in ["detach", "host", "TERM"] {
        let mut host = Host::start(&["--pty"], &script);
        // A shell around it says in which mode the terminal is before and after.
        let inner = format!(
            "stty -g >{0:?}/before; {1:?} attach {2} --key-file {3:?}; echo \"status $?\"; stty -g >{0:?}/after; echo over; cat",
            host.directory.path(),
            env!("CARGO_BIN_EXE_trunkline"),
            host.address,
            host.key("key"),
        );
        let mut command = command("sh");
        command.args(["-c", &inner]);
        let mut desk = Terminal::of(command, Size::default());
        desk.shows("in the program");
        assert!(desk.program.screen().unwrap().is_alternate());
        let status = match way {
            "detach" => {
                desk.keys("\x1dd");
                "status 0"
            }
            "host" => {
                host.process.kill().unwrap();
                "status 69"
            }
            _ => {
                let children = std::fs::read_to_string(format!(
                    "/proc/{0}/task/{0}/children",
                    desk.program.pid().unwrap()
                ))
                .unwrap();
                let attach = children.split_whitespace().next().unwrap().parse().unwrap();
                rustix::process::kill_process(
                    rustix::process::Pid::from_raw(attach).unwrap(),
                    rustix::process::Signal::TERM,
                )
                .unwrap();
                "status 143"
            }
        };
        desk.shows(status);
        desk.shows("over");
        let mode = |name: &str| std::fs::read_to_string(host.directory.path().join(name)).unwrap();
        assert_eq!(mode("before"), mode("after"), "{way}");
        // No mode of the program is left: a snapshot of the terminal equals one that never had them.
        let screen = desk.program.screen().unwrap();
        let left = String::from_utf8_lossy(&screen.snapshot()).into_owned();
        assert!(!screen.is_alternate(), "{way}");
        for mode in ["?1002h", "?1006h", "?2004h", "?1004h", "[=1u", "[>1u"] {
            assert!(!left.contains(mode), "{way}: {mode} is left");
        }
        assert!(left.contains("?25h"), "{way}");
    }
}

#[test]
fn a_read_only_key_sees_everything_and_types_nothing() {
    let host = Host::start(&["--pty"], "echo ready; read x; echo got $x; read y");
    let mut desk = host.terminal("key", Size::default());
    desk.shows("ready");
    let mut watcher = host.terminal("watch", Size::new(40, 10));
    watcher.shows("ready");
    watcher.keys("forged\r\x03");
    watcher.shows("watching");
    desk.keys("honest\r");
    desk.shows("got honest");
    watcher.shows("got honest");
    assert!(!desk.text().contains("forged"));
}

#[test]
fn the_input_is_taken_and_its_owner_is_told() {
    let host = Host::start(&["--pty"], "echo ready; while read x; do echo got $x; done");
    let mut desk = host.terminal("key", Size::default());
    desk.shows("ready");
    desk.keys("one\r");
    desk.shows("got one");
    let mut home = host.terminal("key", Size::default());
    home.shows("got one");
    home.keys("two");
    home.shows("another client has the input");
    home.keys("\x1dt");
    desk.shows("has taken the input");
    home.keys("three\r");
    home.shows("got three");
    desk.shows("got three");
    assert!(!home.text().contains("two"));
}

#[test]
fn what_comes_from_a_pipe_is_delivered_and_the_status_is_the_program_s() {
    let host = Host::start(&["--pipes"], "wc -c; echo to standard error >&2; exit 9");
    let mut attach = host
        .attach("key", &["--send-eof"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = attach.stdin.take().unwrap();
    for _ in 0..100 {
        stdin.write_all(&[b'x'; 100_000]).unwrap();
    }
    drop(stdin);
    let output = attach.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "10000000\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "to standard error\n");
    assert_eq!(output.status.code(), Some(9));
}

#[test]
fn leaving_is_not_the_end_of_the_input() {
    let mut host = Host::start(&["--pipes"], "while read x; do echo got $x; done; echo end");
    for line in ["one", "two"] {
        let mut attach = host
            .attach("key", &["--detach-on-eof"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        writeln!(attach.stdin.take().unwrap(), "{line}").unwrap();
        assert!(attach.wait().unwrap().success());
    }
    let output = host.attach("key", &["--send-eof"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "got one\ngot two\nend\n");
    assert_eq!(host.end(), Some(0));
}

#[test]
fn every_byte_of_a_long_output_is_printed() {
    let script = "read x; seq 2000000";
    // The log is smaller than the output: the program waits for the owner of its input.
    let host = Host::start(&["--pipes", "--history", "100000"], script);
    let mut attach = host.attach("key", &[]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    attach.stdin.take().unwrap().write_all(b"go\n").unwrap();
    // A reader that is late, when the program has long ended.
    std::thread::sleep(Duration::from_secs(1));
    let output = attach.wait_with_output().unwrap();
    assert!(output.status.success());
    let expected: String = (1..=2_000_000).map(|number| format!("{number}\n")).collect();
    assert!(output.stdout == expected.as_bytes(), "{} of {} bytes", output.stdout.len(), expected.len());
}

#[test]
fn a_host_that_is_asked_to_end_ends_its_program_and_says_so() {
    let mut host = Host::start(&["--pty"], "trap 'exit 4' HUP; echo ready; while :; do sleep 0.05; done");
    let mut desk = host.terminal("key", Size::default());
    desk.shows("ready");
    let pid = rustix::process::Pid::from_child(&host.process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(desk.end(), Ending::Exited(4));
    assert_eq!(host.end(), Some(4));
}

#[test]
fn what_runs_is_interrupted_from_elsewhere_but_not_by_a_watcher() {
    let mut host = Host::start(
        &["--pipes"],
        "trap 'echo stopped; exit 6' INT; echo ready; while :; do sleep 0.05; done",
    );
    let interrupt = |host: &Host, key: &str| {
        let output = trunkline()
            .arg("interrupt")
            .arg(&host.address)
            .arg("--key-file")
            .arg(host.key(key))
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // It must be there to be interrupted, and its trap set.
    let mut desk = host.terminal("key", Size::default());
    desk.shows("ready");
    let (code, text) = interrupt(&host, "watch");
    assert!(code == Some(77) && text.contains("watch"), "{text}");
    assert_eq!(interrupt(&host, "key"), (Some(0), String::new()));
    assert_eq!(desk.end(), Ending::Exited(6));
    assert_eq!(host.end(), Some(6));
}

#[test]
fn completions_and_pages_are_written() {
    for (shell, has) in
        [("bash", "complete -F"), ("zsh", "#compdef trunkline"), ("fish", "complete -c trunkline")]
    {
        let output = trunkline().args(["completions", shell]).output().unwrap();
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains(has), "{shell}");
    }
    let directory = tempfile::tempdir().unwrap();
    // No user has it before the first program that brings pages.
    let pages = directory.path().join("share/man/man1");
    assert!(trunkline().arg("man").arg(&pages).status().unwrap().success());
    let page = std::fs::read_to_string(pages.join("trunkline-attach.1")).unwrap();
    assert!(page.contains("detach"), "{page}");
    let script = trunkline().args(["completions", "bash"]).output().unwrap().stdout;
    let script = String::from_utf8(script).unwrap();
    for call in [
        "key",
        "host",
        "new",
        "ls",
        "attach",
        "watch",
        "status",
        "send",
        "screen",
        "wait",
        "interrupt",
        "take",
        "forward",
        "top",
    ] {
        let page = std::fs::read_to_string(pages.join(format!("trunkline-{call}.1"))).unwrap();
        assert!(page.contains("Example"), "{page}");
        assert!(
            script.contains(&format!("trunkline__subcmd__{call}"))
                || script.contains(&format!("trunkline,{call}")),
            "{call}"
        );
    }
    let below_a_file = pages.join("trunkline-attach.1/man");
    assert_eq!(trunkline().arg("man").arg(below_a_file).output().unwrap().status.code(), Some(73));
}

#[test]
fn a_program_does_not_attach_to_itself() {
    let mut host =
        Host::start(&["--pty"], "echo ready; read command; eval \"$command\"; echo status $?; read x");
    let mut desk = host.terminal("key", Size::new(150, 24));
    desk.shows("ready");
    desk.keys(&format!(
        "{} attach {} --key-file {}\r",
        env!("CARGO_BIN_EXE_trunkline"),
        host.address,
        host.key("key").display()
    ));
    desk.shows("status 2");
    assert!(desk.text().contains("attach from another"), "{}", desk.text());
    desk.keys("\r");
    assert_eq!(desk.end(), Ending::Exited(0));
    assert_eq!(host.end(), Some(0));
}

#[test]
fn after_a_stop_the_terminal_is_raw_again() {
    let host = Host::start(&["--pty"], "trap 'echo stopped' INT; echo ready; while :; do sleep 0.05; done");
    let mut command = command("bash");
    command.args(["--norc", "--noprofile", "-i"]).env("PS1", "outer> ");
    let mut desk = Terminal::of(command, Size::default());
    desk.shows("outer>");
    desk.keys(&format!(
        "{} attach {} --key-file {}\r",
        env!("CARGO_BIN_EXE_trunkline"),
        host.address,
        host.key("key").display()
    ));
    desk.shows("ready");
    let shell = desk.program.pid().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    let attach = rustix::process::Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(attach, rustix::process::Signal::STOP).unwrap();
    desk.shows("outer>");
    // The shell has its own mode back, and gives the terminal away again.
    desk.keys("fg\r");
    desk.until(|text| text.contains("ready") && !text.contains("outer>"));
    desk.keys("\x03");
    desk.shows("stopped");
    desk.keys("\x1dd");
    desk.shows("[detached]");
}

#[test]
fn mistakes_say_what_to_do_and_have_their_status() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    let run = |arguments: &[&str]| {
        let output = trunkline().args(arguments).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let key = key.to_str().unwrap();
    let (code, text) = run(&["attach", "127.0.0.1:1", "--key-file", key]);
    assert!(code == Some(78) && text.contains("trunkline key"), "{text}");
    assert_eq!(run(&["key", key]).0, Some(0));
    let (code, text) = run(&["key", key]);
    assert!(code == Some(73) && text.contains("another name"), "{text}");
    let (code, text) = run(&["key", &format!("{key}/below")]);
    assert!(code == Some(73) && text.contains("a directory that you can write"), "{text}");
    // `trunkline key` would not replace any of these.
    let loose = format!("{key}.loose");
    std::fs::copy(key, &loose).unwrap();
    std::fs::set_permissions(&loose, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let wrong = format!("{key}.wrong");
    std::fs::copy(key, &wrong).unwrap();
    std::fs::write(&wrong, "no key").unwrap();
    for (file, advice) in [(&*loose, "chmod 600"), (&wrong, &wrong), ("/dev/null", "not a regular file")] {
        for call in
            [&["attach", "127.0.0.1:1", "--key-file", file][..], &["host", "--key-file", file, "--", "true"]]
        {
            let (code, text) = run(call);
            assert!(code == Some(78) && text.contains(advice) && !text.contains("makes one"), "{text}");
        }
    }
    let (code, text) = run(&["host", "--", "true"]);
    assert!(code == Some(2) && text.contains("trunkline key FILE") && text.contains("--name"), "{text}");
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    for (listen, advice) in [(&*address, "another port"), ("work", "HOST:PORT"), ("192.0.2.1:0", "0.0.0.0")] {
        let (code, text) = run(&["host", "--listen", listen, "--key-file", key, "--", "true"]);
        assert!(code == Some(69) && text.contains(advice), "{text}");
    }
    let (code, text) = run(&["attach", "127.0.0.1:1", "--key-file", key]);
    assert!(code == Some(69) && text.contains("is the host running"), "{text}");
    assert_eq!(run(&["attach"]).0, Some(2));
    let (code, text) = run(&["host", "--key-file", key, "--", "no-such-program"]);
    assert!(code == Some(127) && text.contains("PATH"), "{text}");

    let host = Host::start(&["--pipes"], "read x");
    let (code, text) = run(&["attach", &host.address, "--key-file", key]);
    assert!(code == Some(77) && text.contains("use the key file"), "{text}");
}

/// Such a program has no terminal of its own, so this one edits and echoes lines, as it does for `cat`.
#[test]
fn a_program_on_pipes_is_used_from_a_terminal() {
    let script = "trap 'echo stopped' INT; seq 3; while :; do read x; s=$?; [ $s = 0 ] && echo \"got $x\"; [ $s = 1 ] && break; done; exit 5";
    let mut host = Host::start_program(&["--pipes"], &["bash", "-c", script]);
    let mut desk = host.terminal("key", Size::default());
    desk.until(|text| text.starts_with("1\n2\n3"));
    desk.keys("one\r");
    desk.shows("one\ngot one");
    desk.keys("twx\x7fo\r");
    desk.shows("got two");
    desk.keys("\x03");
    desk.shows("stopped");
    desk.keys("\x1d");
    desk.shows("^]");
    desk.keys("d");
    assert_eq!(desk.end().code(), 0);
    assert!(desk.text().contains("\n[detached]"), "{}", desk.text());

    let mut watcher = host.terminal("watch", Size::default());
    watcher.until(|text| text.starts_with("1\n2\n3\ngot one"));
    let mut home = host.terminal("key", Size::default());
    home.shows("got two");
    // Both come at once, and no command is meant: the Return is the end of a line.
    home.keys("\x1d\rthree\r");
    home.shows("got three");
    watcher.shows("got three");
    home.keys("\x04");
    for terminal in [&mut home, &mut watcher] {
        assert_eq!(terminal.end().code(), 5);
    }
    assert_eq!(host.end(), Some(5));
}

/// Any console works with any kernel, and one of these asks for passwords.
#[test]
fn what_a_kernel_asks_for_in_secret_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (key, file) = (trunkline::Key::generate(), folder.path().join("key"));
    key.write_new_file(&file).unwrap();
    let listener = trunkline::Listener::bind("127.0.0.1:0", trunkline::Config::new(key)).unwrap();
    let mut command = trunkline();
    command.arg("attach").arg(listener.local_addr().to_string()).arg("--key-file").arg(file);
    let mut desk = Terminal::of(command, Size::default());
    let kernel = listener.accept_timeout(Duration::from_secs(60)).unwrap();
    let (stdin, status) = (kernel.receiver(STDIN).unwrap(), kernel.sender(STATUS).unwrap());
    let stdout = kernel.sender(STDOUT).unwrap();
    let say = |state: &str, text: &str| {
        status.send(state).unwrap();
        stdout.send(text).unwrap();
    };
    let line = |desk: &mut Terminal, keys: &str| {
        desk.keys(keys);
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            // The terminal passes keys on meanwhile.
            desk.pass(Duration::from_millis(10));
            match stdin.try_recv() {
                Ok(line) => return line,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
        }
    };
    say("idle 0", "> ");
    desk.shows("> ");
    assert_eq!(line(&mut desk, "ask()\r"), "ask()\n");
    say("waiting 1 secret", "password? ");
    desk.shows("password? ");
    assert_eq!(line(&mut desk, "hunter2\r"), "hunter2\n");
    say("idle 2", "done ");
    desk.shows("done ");
    assert_eq!(line(&mut desk, "seen\r"), "seen\n");
    desk.shows("done seen");
    assert!(!desk.text().contains("hunter2"), "{}", desk.text());
    status.send("exited 4").unwrap();
    assert_eq!(desk.end().code(), 4);
}

/// The hub before it keeps the end of a run to itself: it is that of the client's turn.
#[test]
fn ctrl_d_at_a_kernel_ends_the_input_of_its_program_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let (key, file) = (trunkline::Key::generate(), folder.path().join("key"));
    key.write_new_file(&file).unwrap();
    let listener = trunkline::Listener::bind("127.0.0.1:0", trunkline::Config::new(key)).unwrap();
    let (program, upstream) =
        trunkline::Connection::pair(trunkline::Config::new(trunkline::Key::generate())).unwrap();
    let hub = trunkline_hub::Hub::new(upstream)
        .broadcast(STDOUT, trunkline_hub::History::bytes(1 << 20))
        .recent(STATUS, 4096)
        .input(STDIN)
        .roster(ROSTER)
        .serve(listener)
        .unwrap();
    let mut command = trunkline();
    command.arg("attach").arg(hub.listener().address().to_string()).arg("--key-file").arg(file);
    let mut desk = Terminal::of(command, Size::default());
    let (stdin, stdout) = (program.receiver(STDIN).unwrap(), program.sender(STDOUT).unwrap());
    let expect = |desk: &mut Terminal, keys: &str, message: &str| {
        desk.keys(keys);
        let until = Instant::now() + Duration::from_secs(60);
        let line = loop {
            // The terminal passes keys on meanwhile.
            desk.pass(Duration::from_millis(10));
            match stdin.try_recv() {
                Ok(line) => break line,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
        };
        assert_eq!(line, message);
    };
    stdout.send("> ").unwrap();
    desk.shows("> ");
    for _ in 0..2 {
        expect(&mut desk, "ask()\r", "ask()\n");
        expect(&mut desk, "\x04", "");
        expect(&mut desk, "\x04", "");
    }
    let status = program.sender(STATUS).unwrap();
    status.send("exited 4").unwrap();
    assert_eq!(desk.end().code(), 4);
}

#[test]
fn ctrl_d_ends_the_input_of_a_program_on_pipes_also_as_the_first_key() {
    let mut host = Host::start(&["--pipes"], "cat; exit 3");
    let mut desk = host.terminal("key", Size::default());
    eventually("the owner", || host.run("key", &["status"]).1.contains("has the input"));
    desk.keys("\x04");
    assert_eq!((desk.end().code(), host.end()), (3, Some(3)));
}

/// A window that is closed is not the end of the program's input.
#[test]
fn a_program_on_pipes_outlives_a_terminal_that_hangs_up() {
    let host = Host::start(&["--pipes"], "echo ready; while read x; do echo got $x; done");
    let mut desk = host.terminal("key", Size::default());
    desk.shows("ready");
    desk.keys("one\r");
    desk.shows("got one");
    drop(desk);
    let mut home = host.terminal("key", Size::default());
    home.shows("got one");
    // It was this person's own, so it is given back to them.
    eventually("the owner", || {
        let text = host.run("key", &["status"]).1;
        text.lines().any(|line| line.contains("has the input") && !line.contains("link lost"))
    });
    home.keys("two\r");
    home.shows("got two");
}

/// A file or a pipe is no terminal: what the screen shows is text there, and what comes goes on behind it.
#[test]
fn a_pipe_gets_what_the_screen_shows_as_text() {
    let host = Host::start(&["--pty"], "printf '\\033[1mhello\\033[0m\\n\\n'; read x; echo got $x; read x");
    assert_eq!(host.run("key", &["wait", "--for", "hello"]).0, 0);
    let got = host.run("key", &["attach", "--detach-on-eof"]);
    assert_eq!(got, (0, "hello\n\n".to_owned(), String::new()));
    let mut watch = host.call("watch", &["watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut attach = host.attach("key", &[]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut outputs = [watch.stdout.take().unwrap(), attach.stdout.take().unwrap()];
    for output in &mut outputs {
        let mut screen = [0; 7];
        output.read_exact(&mut screen).unwrap();
        assert_eq!(&screen, b"hello\n\n");
    }
    // What is typed before a client has the screen may be in it.
    attach.stdin.take().unwrap().write_all(b"one\rtwo\r").unwrap();
    for mut output in outputs {
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("one\r\n") && text.contains("got one\r\n"), "{text:?}");
        assert!(!text.contains('\x1b'), "{text:?}");
    }
    for mut process in [watch, attach] {
        process.wait().unwrap();
    }
}
