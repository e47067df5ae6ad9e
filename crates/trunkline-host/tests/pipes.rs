//! Programs on real pipes.
#![cfg(unix)]

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use support::*;
use trunkline_host::{Ending, Happened, Setup, Signal, Stream};

#[test]
fn a_command_that_exits_fast_loses_no_tail() {
    let expected = seq(20_000, "\n");
    for round in 0..200 {
        let (ending, written) = run(on_pipes("seq 20000"));
        assert_eq!(ending, Ending::Exited(0));
        assert!(
            written.text() == expected,
            "round {round}: {} of {} bytes",
            written.text().len(),
            expected.len()
        );
    }
}

#[test]
fn a_background_child_that_holds_the_pipes_does_not_hold_up_the_end() {
    let start = Instant::now();
    let (ending, written) = run(on_pipes("sleep 20 & echo last; echo words >&2; exit 3"));
    assert_eq!(ending, Ending::Exited(3));
    assert_eq!((&written.stdout[..], &written.stderr[..]), (&b"last\n"[..], &b"words\n"[..]));
    assert!(start.elapsed() < Duration::from_secs(15));
}

/// Of what lies in both pipes when the host looks, standard output comes first; and nothing comes after the end.
#[test]
fn the_order_of_the_streams_is_as_documented() {
    let program = on_pipes("echo a; echo b >&2; echo c; exit 0");
    // All of it is there before the host looks.
    let deadline = Instant::now() + PATIENCE;
    while !std::fs::read_to_string(format!("/proc/{}/stat", program.pid().unwrap())).unwrap().contains(") Z ")
    {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let (ending, written) = run(program);
    assert_eq!(ending, Ending::Exited(0));
    assert_eq!(written.both, [(Stream::Stdout, b"a\nc\n".to_vec()), (Stream::Stderr, b"b\n".to_vec())]);

    // What is written after the host has read the one before keeps its order.
    let (_, written) = run(on_pipes("for i in 1 2 3; do echo out; sleep 0.1; echo err >&2; sleep 0.1; done"));
    let order: Vec<_> = written.both.iter().map(|(stream, _)| *stream).collect();
    assert_eq!(order, [Stream::Stdout, Stream::Stderr].repeat(3));
}

#[test]
fn a_large_input_comes_back_and_its_end_is_passed_on() {
    let mut program = on_pipes("cat; echo end >&2");
    let mut written = Written::default();
    let message = b"0123456789abcdef".repeat(4096);
    for _ in 0..160 {
        let mut input = Some(message.clone().into());
        while let Some(message) = input.take() {
            if let Err(back) = program.input(message) {
                input = Some(back);
                assert_eq!(next(&mut program, &mut written), Happened::Room);
            }
        }
    }
    program.finish_input();
    assert_eq!(end(&mut program, &mut written), Ending::Exited(0));
    assert!(written.stdout == message.repeat(160), "{} bytes", written.stdout.len());
    assert_eq!(written.stderr, b"end\n");
}

#[test]
fn a_large_input_that_is_not_read_holds_nothing_up() {
    let mut program = on_pipes("trap 'echo alive' USR1; echo ready; while :; do sleep 0.05; done");
    let mut written = Written::default();
    until(&mut program, &mut written, "ready");
    let mut accepted = 0;
    while program.input(vec![b'x'; 10_000].into()).is_ok() {
        accepted += 10_000;
        assert!(accepted < 1_000_000);
    }
    program.signal("USR1".parse().unwrap()).unwrap();
    until(&mut program, &mut written, "alive");
    program.interrupt();
    assert_eq!(end(&mut program, &mut written), Ending::Killed(Signal::INT));
}

#[test]
fn a_program_that_closes_its_input_is_told_of_once_and_goes_on() {
    let mut program = on_pipes("exec <&-; echo closed; sleep 2; echo more");
    let mut written = Written::default();
    // Nothing is written, and it is told all the same.
    assert_eq!(next(&mut program, &mut written), Happened::Deaf);
    program.input("for nothing\n".into()).unwrap();
    assert_eq!(end(&mut program, &mut written), Ending::Exited(0));
    assert_eq!(written.text(), "closed\nmore\n");
}

#[test]
fn a_program_that_ends_is_not_said_to_have_closed_its_input() {
    for _ in 0..20 {
        let mut program = on_pipes("exit 3");
        while program.ending().is_none() {
            let happened = program.next(Some(Instant::now() + Duration::from_millis(1))).unwrap();
            assert_ne!(happened, Happened::Deaf);
            program.input("for nothing\n".into()).unwrap();
        }
        let mut written = Written::default();
        assert_eq!(next(&mut program, &mut written), Happened::Ended(Ending::Exited(3)));
    }
}

#[test]
fn a_stream_that_is_held_up_holds_up_nothing_else() {
    let mut program = on_pipes("(seq 100000; echo out >&2) & read x; echo got $x >&2; wait");
    program.hold_up(Stream::Stdout, true);
    let mut written = Written::default();
    program.input("word\n".into()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while written.stderr != b"got word\n" {
        match program.next(Some(deadline)).unwrap() {
            Happened::Output(Stream::Stderr, bytes) => written.stderr.extend_from_slice(&bytes),
            other => panic!("{other:?}"),
        }
    }
    program.hold_up(Stream::Stdout, false);
    assert_eq!(end(&mut program, &mut written), Ending::Exited(0));
    assert_eq!(written.text(), seq(100_000, "\n"));
}

#[test]
fn what_was_written_before_the_end_waits_for_a_reader_that_is_held_up() {
    let mut program = on_pipes("echo last words; exit 0");
    program.hold_up(Stream::Stdout, true);
    // Longer than the linger.
    let until = Instant::now() + Duration::from_millis(1500);
    assert_eq!(program.next(Some(until)).unwrap(), Happened::Timeout);
    assert_eq!(program.ending(), Some(Ending::Exited(0)));
    program.hold_up(Stream::Stdout, false);
    assert_eq!(run(program).1.text(), "last words\n");
}

#[test]
fn the_bell_ends_a_wait_from_another_thread() {
    let mut program = on_pipes("sleep 30");
    let bell = program.bell();
    let thread = std::thread::spawn(move || bell.waker().wake());
    assert_eq!(program.next(Some(Instant::now() + PATIENCE)).unwrap(), Happened::Bell);
    thread.join().unwrap();
    // It rings again, and once for many.
    for _ in 0..3 {
        program.bell().ring();
    }
    assert_eq!(program.next(Some(Instant::now() + PATIENCE)).unwrap(), Happened::Bell);
    assert_eq!(program.next(Some(Instant::now())).unwrap(), Happened::Timeout);
}

#[test]
fn a_program_without_input_reads_its_end_and_may_inherit_one_socket() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut command = command("bash");
    command.args(["-c", "cat; n=0; for f in {0..99}; do [ -e /proc/$$/fd/$f ] && n=$((n+1)); done; echo $n; read line <&$CHANNEL; echo $line >&$CHANNEL"]);
    let setup = Setup::pipes_without_input(command).inherit("CHANNEL", theirs.into());
    let program = setup.start().unwrap();
    ours.write_all(b"over the socket\n").unwrap();
    let (ending, written) = run(program);
    assert_eq!((ending, written.text().as_str()), (Ending::Exited(0), "4\n"));
    // The host has no copy of the program's end.
    let mut answer = String::new();
    ours.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "over the socket\n");
}

#[test]
fn a_signal_reaches_the_group_and_an_end_by_a_signal_is_told() {
    let mut program =
        on_pipes("sh -c 'trap \"echo inner; exit\" TERM; echo ready; while :; do sleep 0.05; done' & wait");
    let mut written = Written::default();
    until(&mut program, &mut written, "ready");
    program.signal(Signal::TERM).unwrap();
    assert_eq!(end(&mut program, &mut written), Ending::Killed(Signal::TERM));
    assert!(written.text().ends_with("inner\n"));
    assert_eq!(program.ending().unwrap().code(), 143);
    assert!(program.signal(Signal::TERM).is_err());
    assert_eq!(program.pid(), None);
}
