//! Scripts: lines from pipes and files, output to pipes and files, and exit statuses.
#![cfg(target_os = "linux")]

mod support;

use std::fs::{File, OpenOptions};
use std::io::{PipeReader, Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use support::pipes::{Outcome, Pipes, status};
use support::{Kernel, Place, most_memory};
use trunkline::{RecvError, RecvTimeoutError};
use trunkline_kernel::layout::ROSTER;

/// Starts a script, whose kernel is idle.
fn start(options: &[&str]) -> (Place, Pipes, Kernel) {
    let place = Place::new();
    let console = Pipes::start(&place, options);
    let kernel = place.kernel();
    kernel.status("idle 0");
    (place, console, kernel)
}

fn is_nonblocking(fd: impl std::os::fd::AsFd) -> impl std::os::fd::AsFd {
    let flags = fcntl_getfl(&fd).unwrap();
    fcntl_setfl(&fd, flags | OFlags::NONBLOCK).unwrap();
    fd
}

#[test]
fn lines_go_in_and_output_comes_out() {
    let (_place, mut console, kernel) = start(&[]);
    console.write("one\r\n\ntwo");
    console.finish();
    for (number, line) in [(1, "one"), (2, ""), (3, "two")] {
        assert_eq!(kernel.line(), line);
        kernel.status(&format!("busy {number}"));
        kernel.print(format!("{line}!\n"));
        kernel.complain("?\n");
        kernel.status(&format!("idle {number}"));
    }
    kernel.finish();
    assert_eq!(console.end(), Outcome::new(0, "one!\n!\ntwo!\n", "?\n?\n?\n"));
}

#[test]
fn a_kernel_that_ends_with_its_script_is_heard_until_it_has_ended() {
    for (ending, outcome) in [
        ("exited 0", Outcome::new(0, "one\nlate\n", "")),
        ("exited 4", Outcome::new(3, "one\nlate\n", "console: the kernel has ended with exit code 4\n")),
    ] {
        let (_place, mut console, kernel) = start(&["--ends"]);
        // As behind a hub, whose kernel stays.
        let roster = kernel.connection.sender(ROSTER).unwrap();
        roster.send(r#"{"you":1,"line":{"own":1,"input":1}}"#).unwrap();
        console.write("1\n");
        console.finish();
        assert_eq!(kernel.line(), "1");
        kernel.print("one\n");
        kernel.status("idle 1");
        assert_eq!(kernel.command(), "exit");
        // A thread still reads, and each of its reads has an end.
        kernel.end_of_run();
        kernel.status("waiting 1");
        assert_eq!(kernel.line(), "");
        kernel.print("late\n");
        kernel.status(ending);
        assert_eq!(console.end(), outcome);
    }
}

#[test]
fn a_script_may_end_the_kernel_that_ends_with_it() {
    for (ending, outcome) in [
        ("exited 0", Outcome::new(0, "", "")),
        ("exited 3", Outcome::new(3, "", "console: the kernel has ended with exit code 3\n")),
    ] {
        let (_place, mut console, kernel) = start(&["--ends"]);
        console.write("exit()\nmore\n");
        assert_eq!(kernel.line(), "exit()");
        kernel.status(ending);
        assert_eq!(console.end(), outcome);
    }
}

#[test]
fn the_input_of_a_shared_kernel_is_asked_for_and_a_refusal_is_told() {
    let (_place, mut console, kernel) = start(&[]);
    let roster = kernel.connection.sender(ROSTER).unwrap();
    let requests = kernel.connection.receiver(ROSTER).unwrap();
    roster.send(r#"{"you":1}"#).unwrap();
    for (done, said) in [(false, "console: another has it\n"), (true, "")] {
        kernel.status("idle 0");
        console.write(":take\n");
        // Each is a run of its own.
        let request = loop {
            match requests.recv_timeout(support::LONG) {
                Err(RecvTimeoutError::Disconnected(RecvError::Finished)) => {}
                request => break request.unwrap(),
            }
        };
        assert_eq!(&*request, br#"{"take":true,"own":0}"#);
        roster
            .send(format!(r#"{{"answer":{{"take":true,"done":{done},"why":"another has it"}},"input":0}}"#))
            .unwrap();
        if !done {
            assert_eq!(console.error_line(), said);
        }
    }
    console.finish();
    kernel.finish();
    assert_eq!(console.end(), Outcome::new(0, "", ""));
}

#[test]
fn a_statement_that_failed_is_told_to_a_caller_that_asked() {
    for (options, status) in [(&["--failures"][..], 1), (&[], 0)] {
        let (_place, mut console, kernel) = start(options);
        console.write("1\n2\n");
        console.finish();
        kernel.line();
        kernel.status("busy 1");
        kernel.complain("error\n");
        kernel.status("failed 1");
        kernel.status("idle 1");
        kernel.run_lines(2, &["2"]);
        kernel.finish();
        assert_eq!(console.end(), Outcome::new(status, "", "error\n"));
    }
}

#[test]
fn wrong_use_is_status_2() {
    let place = Place::new();
    for options in [&["--nonsense"][..], &["--grace", "soon"]] {
        let outcome = Pipes::start(&place, options).end();
        assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(2), ""));
        assert!(outcome.stderr.contains("console: "), "{}", outcome.stderr);
    }
}

#[test]
fn standard_input_that_cannot_be_read_is_told() {
    let place = Place::new();
    let unreadable = [
        File::open(place.folder.path()).unwrap(),
        OpenOptions::new().write(true).open(place.key_file()).unwrap(),
    ];
    for stdin in unreadable {
        let mut command = place.console(&[]);
        command.stdin(Stdio::from(stdin));
        let console = Pipes::with(command);
        let _connection = place.listener.accept_timeout(support::LONG).unwrap();
        let outcome = console.end();
        assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(2), ""));
        assert!(
            outcome.stderr.starts_with("console: the standard input cannot be read: "),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn non_blocking_input_loses_nothing() {
    let place = Place::new();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = place.console(&[]);
    is_nonblocking(&reader);
    command.stdin(reader);
    let console = Pipes::with(command);
    let kernel = place.kernel();
    kernel.status("idle 0");
    // The console looks before anything is there.
    kernel.complain("ready\n");
    assert_eq!(console.error_line(), "ready\n");
    for number in 1..=200 {
        writer.write_all(format!("line {number}\n").as_bytes()).unwrap();
        kernel.run_lines(number, &[&format!("line {number}")]);
    }
    drop(writer);
    kernel.finish();
    assert_eq!(console.end(), Outcome::new(0, "", ""));
}

#[test]
fn non_blocking_output_loses_nothing() {
    for stderr in [false, true] {
        let place = Place::new();
        let (mut reader, writer) = std::io::pipe().unwrap();
        is_nonblocking(&writer);
        let mut command = place.console(&[]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        if stderr {
            command.stderr(writer);
        } else {
            command.stdout(writer);
        }
        let mut child = command.spawn().unwrap();
        drop(command);
        let kernel = place.kernel();
        kernel.status("idle 0");
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        assert_eq!(kernel.line(), "go");
        kernel.status("busy 1");
        let line = format!("{}\n", "x".repeat(999));
        let printer = thread::spawn(move || {
            for _ in 0..4000 {
                if stderr {
                    kernel.complain(&line);
                } else {
                    kernel.print(&line);
                }
            }
            kernel.status("idle 1");
            kernel.finish();
        });
        let mut all = Vec::new();
        let mut buffer = [0; 777];
        // Slowly at first: the pipe is full.
        for _ in 0..50 {
            let read = reader.read(&mut buffer).unwrap();
            all.extend_from_slice(&buffer[..read]);
            thread::yield_now();
        }
        reader.read_to_end(&mut all).unwrap();
        printer.join().unwrap();
        assert_eq!((status(&mut child), all.len()), (Some(0), 4_000_000));
    }
}

fn reader_gone(
    set: impl FnOnce(&mut Command, std::io::PipeWriter),
) -> (Place, std::process::Child, Kernel, PipeReader) {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = place.console(&[]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    set(&mut command, writer);
    let child = command.spawn().unwrap();
    drop(command);
    let kernel = place.kernel();
    kernel.status("idle 0");
    (place, child, kernel, reader)
}

#[test]
fn a_reader_of_the_output_that_goes_away_ends_it_quietly() {
    let (_place, mut child, kernel, mut reader) = reader_gone(|command, writer| {
        command.stdout(writer).stderr(Stdio::piped());
    });
    kernel.print("one\n");
    reader.read_exact(&mut [0; 4]).unwrap();
    drop(reader);
    kernel.print("two\n");
    assert_eq!(status(&mut child), Some(141));
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "");
    kernel.gone();
}

#[test]
fn a_reader_of_the_errors_that_goes_away_ends_it_quietly() {
    let (_place, mut child, kernel, reader) = reader_gone(|command, writer| {
        command.stderr(writer);
    });
    drop(reader);
    kernel.complain("error\n");
    assert_eq!(status(&mut child), Some(141));
    kernel.gone();
}

#[test]
fn input_that_is_not_utf_8_is_counted_and_told() {
    let (_place, mut console, kernel) = start(&[]);
    console.write(b"one\n\xFFtwo\n:interrupt\nthree\n");
    console.finish();
    kernel.run_lines(1, &["one"]);
    assert_eq!(kernel.line(), "\u{FFFD}two");
    kernel.status("busy 2");
    // The numbers are right.
    assert_eq!(kernel.command(), "interrupt 2");
    kernel.status("idle 2");
    kernel.run_lines(3, &["three"]);
    kernel.finish();
    let told = "console: line 2 is not UTF-8; what cannot be read is sent as U+FFFD\n";
    assert_eq!(console.end(), Outcome::new(0, "", told));
}

#[test]
fn a_huge_line_of_a_script_takes_little_memory_and_arrives_whole() {
    let (_place, mut console, kernel) = start(&[]);
    let size = 64 << 20;
    let mut stdin = console.child.stdin.take().unwrap();
    let writer = thread::spawn(move || {
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..64 {
            stdin.write_all(&piece).unwrap();
        }
        stdin.write_all(b"\nnext\n").unwrap();
    });
    let (mut got, mut pieces) = (0, 0);
    loop {
        let (piece, ends) = kernel.piece();
        pieces += 1;
        assert!(piece.iter().all(|&byte| byte == b'x'));
        got += piece.len();
        if ends {
            break;
        }
    }
    assert_eq!(got, size);
    writer.join().unwrap();
    kernel.status(&format!("busy {pieces}"));
    kernel.status(&format!("idle {pieces}"));
    assert_eq!(kernel.line(), "next");
    let most = most_memory(console.child.id());
    assert!(most < 64 << 20, "{} MiB", most >> 20);
}

#[test]
fn a_line_of_128_mb_of_output_takes_little_memory() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = place.console(&[]);
    command.stdin(Stdio::piped()).stdout(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let kernel = place.kernel();
    kernel.status("idle 0");
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    kernel.line();
    kernel.status("busy 1");
    let counter = thread::spawn(move || std::io::copy(&mut { reader }, &mut std::io::sink()).unwrap());
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..2048 {
        kernel.print(&piece);
    }
    kernel.status("idle 1");
    let most = most_memory(child.id());
    drop(child.stdin.take());
    kernel.finish();
    assert_eq!((status(&mut child), counter.join().unwrap()), (Some(0), 128 << 20));
    assert!(most < 64 << 20, "{} MiB", most >> 20);
}

#[test]
fn a_kernel_that_dies_is_status_3_and_its_last_words_are_shown() {
    let (_place, mut console, kernel) = start(&["--grace", "0"]);
    console.write("die\n");
    kernel.line();
    kernel.print("last words");
    kernel.connection.flush().unwrap();
    kernel.connection.abandon();
    let outcome = console.end();
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(3), "last words"));
    assert!(outcome.stderr.starts_with("console: the kernel is gone"), "{}", outcome.stderr);
}

#[test]
fn a_kernel_behind_a_host_tells_how_it_has_ended() {
    for (said, told) in [("exited 7", "exit code 7"), ("killed KILL", "was killed by SIGKILL")] {
        let (_place, console, kernel) = start(&[]);
        kernel.print("last\n");
        kernel.status(said);
        let outcome = console.end();
        assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(3), "last\n"));
        assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
    }
}

#[test]
fn no_kernel_is_status_3() {
    let place = Place::new();
    let console = place.console(&["--grace", "0"]);
    drop(place.listener);
    let outcome = Pipes::with(console).end();
    assert_eq!(outcome.status, Some(3), "{}", outcome.stderr);
}

#[test]
fn a_signal_ends_a_script_as_it_ends_any_program() {
    let (_place, mut console, kernel) = start(&[]);
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&console.child),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert_eq!(status(&mut console.child), Some(143));
    kernel.leave();
}

#[test]
fn commands_wait_for_the_lines_before_them_or_a_second() {
    let (_place, mut console, kernel) = start(&[]);
    console.write("1\n:status\n:inspect a\n:complete na\n::x\n:nonsense\n:quit\nnever\n");
    assert_eq!(kernel.line(), "1");
    kernel.status("busy 1");
    // It takes longer than a second.
    assert_eq!(console.line(), "busy\n");
    assert_eq!(kernel.request(), r#"{"id":1,"op":"inspect","code":"a","cursor":1}"#);
    kernel.answer(r#"{"id":1,"text":"a is 1"}"#);
    assert_eq!(console.line(), "a is 1\n");
    kernel.request();
    kernel.answer(r#"{"id":2,"matches":["name","nation"],"start":0,"end":2}"#);
    assert_eq!((console.line(), console.line()), ("name\n".to_owned(), "nation\n".to_owned()));
    kernel.status("idle 1");
    kernel.run_lines(2, &[":x"]);
    assert!(console.error_line().starts_with(":nonsense: there are only"));
    kernel.finish();
    assert_eq!(console.end(), Outcome::new(0, "", ""));
}

#[test]
fn output_that_the_kernel_has_cut_is_told_and_the_next_text_stands_alone() {
    let (_place, mut console, kernel) = start(&[]);
    console.write("flood\n");
    kernel.line();
    kernel.status("busy 1");
    kernel.print("half of a li");
    kernel.gap(3, 3000);
    kernel.status("idle 1");
    kernel.print("next\n");
    console.finish();
    kernel.finish();
    let told = "[output was cut here: 3 messages, 3000 bytes]\n";
    assert_eq!(console.end(), Outcome::new(0, "half of a li\nnext\n", told));
}

#[test]
fn a_picture_is_its_text_and_a_file() {
    let place = Place::new();
    let folder = place.folder.path().to_str().unwrap();
    let mut console = Pipes::start(&place, &["--pictures", folder]);
    let kernel = place.kernel();
    kernel.status("idle 0");
    kernel.show(&trunkline_kernel::layout::Picture::new("image/png", "png").text("<Figure>"));
    let line = console.line();
    let file = line.strip_prefix("<Figure> [").and_then(|line| line.strip_suffix("]\n")).unwrap();
    assert_eq!(std::fs::read(file).unwrap(), b"png");
    console.finish();
    kernel.finish();
    assert_eq!(console.end().status, Some(0));
}

#[test]
fn what_is_shown_as_plain_text_is_output() {
    let place = Place::new();
    let mut console = Pipes::start(&place, &[]);
    let kernel = place.kernel();
    kernel.status("idle 0");
    kernel.show(&trunkline_kernel::layout::Picture::new("text/plain", "two\nlines\n").text("two lines"));
    kernel.print("and what follows\n");
    console.finish();
    kernel.finish();
    assert_eq!(console.end(), Outcome::new(0, "two\nlines\nand what follows\n", ""));
}

#[test]
fn a_console_that_waits_for_its_turn_says_so() {
    let place = Place::new();
    let mut console = Pipes::start(&place, &[]);
    console.write("line\n");
    let kernel = place.kernel();
    assert_eq!(console.error_line(), "console: waiting for the kernel, which serves another console\n");
    kernel.no_line();
    kernel.status("idle 0");
    kernel.run_lines(1, &["line"]);
}
