//! A kernel and its console over a socket: statements, their output, and what stops them.

mod support;

use std::time::{Duration, Instant};

use support::{Console, Listening, pair, pair_with};
use trunkline::{Config, Connection, Key};
use trunkline_kernel::console::Activity;
use trunkline_kernel::kernel::{Kernel, Next, Run, Settings};
use trunkline_kernel::layout::{CONTROL, STDERR, STDIN, STDOUT, Status};

/// The console gets the kernel back.
#[track_caller]
fn works(console: &mut Console) {
    console.stdout.clear();
    let number = console.send("say still here");
    console.until_over(number);
    assert_eq!(console.shown(), "still here\n");
}

#[test]
fn statuses_come_on_every_change_among_the_output() {
    let (mut console, _kernel) = pair();
    console.send("say one");
    console.send("begin");
    console.send("two");
    console.send("end");
    console.until_over(4);
    console.send("ask who?");
    console.until_status(Status::Waiting(5));
    assert_eq!(console.session.console().activity(), Activity::Waiting);
    assert_eq!(console.shown(), "one\ntwo\nwho?");
    console.send("Ada");
    console.until_over(6);
    assert_eq!(console.shown(), "one\ntwo\nwho?you said Ada\n");
    let statuses = [
        "idle 0",
        "busy 1",
        "idle 1",
        "incomplete 2",
        "incomplete 3",
        "busy 4",
        "idle 4",
        "busy 5",
        "waiting 5",
        "busy 6",
        "idle 6",
    ];
    assert_eq!(console.statuses, statuses);
}

#[test]
fn a_message_of_several_lines_is_one_number() {
    let (mut console, _kernel) = pair();
    console.send("say a\nask \nfor the question\nsay b");
    console.send("say c");
    console.until_over(2);
    assert_eq!(console.shown(), "a\nyou said for the question\nb\nc\n");
}

#[test]
fn an_interrupt_stops_a_loop_a_wait_for_input_and_a_block() {
    let (mut console, _kernel) = pair();
    for statement in ["loop", "ask ", "begin"] {
        let number = console.send(statement);
        console.until("it has begun", |console| {
            console.session.console().read() == number && !console.session.console().is_over(number)
        });
        console.interrupt();
        console.until_over(number);
        assert_eq!(std::mem::take(&mut console.stderr), "interrupted\n", "{statement}");
    }
    works(&mut console);
}

#[test]
fn an_interrupt_given_before_the_kernel_has_read_the_line_stops_it() {
    let (mut console, _kernel) = pair();
    console.until_status(Status::Idle(0));
    // In this order on the wire: the command is there first.
    console.interrupt_message(1);
    console.interrupt_message(3);
    console.session.connection().flush().unwrap();
    console.send("loop");
    console.send("say two");
    console.send("loop");
    console.send("say four");
    console.until_over(4);
    assert_eq!(
        (console.shown().as_str(), console.stderr.as_str()),
        ("two\nfour\n", "interrupted\ninterrupted\n")
    );
}

#[test]
fn an_interrupt_of_a_line_that_is_over_hits_no_other() {
    let (mut console, _kernel) = pair();
    let number = console.send("say one");
    console.until_over(number);
    let reading = console.send("ask ");
    console.until_status(Status::Waiting(reading));
    console.interrupt_message(number);
    console.session.connection().flush().unwrap();
    let answer = console.send("an answer");
    console.until_over(answer);
    assert_eq!((console.shown().as_str(), console.stderr.as_str()), ("one\nyou said an answer\n", ""));
}

#[test]
fn an_interrupt_of_a_pasted_block_drops_the_rest_of_it_and_no_more() {
    let (mut console, _kernel) = pair();
    console.send("say one\nloop\nsay three");
    console.send("say next");
    console.until_status(Status::Busy(1));
    console.until("the first line is shown", |console| console.shown() == "one\n");
    console.interrupt_message(1);
    console.until_over(2);
    assert_eq!((console.shown().as_str(), console.stderr.as_str()), ("one\nnext\n", "interrupted\n"));
}

/// The promise on which every console builds, for a console whose windows are small and which reads slowly.
#[test]
fn a_console_that_has_read_idle_has_all_output_of_the_line() {
    for window in [1_024, 5_000, 70_000, 262_144] {
        let (mut console, _kernel) = pair_with(Settings::new(), |config| config.window(window));
        let mut expected = 0;
        for bytes in [1, 1_000, 4_096, 5_000, 65_536, 100_000, 300_000] {
            let number = console.send(&format!("flood {bytes}"));
            console.until_over(number);
            expected += bytes;
            assert_eq!(console.stdout.len(), expected, "{bytes} bytes with a window of {window}");
        }
        let number = console.send("picture 200000");
        console.until_over(number);
        assert_eq!(console.pictures, [200_000], "with a window of {window}");
        // What the kernel itself says is no exception.
        let number = console.send(&format!("panic {}", "x".repeat(300_000)));
        console.until_over(number);
        let told = "the interpreter panicked: \n".len() + 300_000;
        assert_eq!(console.stderr.len(), told, "with a window of {window}");
    }
}

/// The same for a statement whose threads write to one stream at once: each goes by the room that it has found.
#[test]
fn a_console_that_has_read_idle_has_all_output_of_the_threads_of_the_line() {
    const BYTES: usize = 300_000;
    let kernel = Listening::with(
        Settings::new(),
        |config| config,
        |mut kernel| {
            let stdio = kernel.stdio();
            loop {
                match kernel.next() {
                    Next::Line(_) => drop(kernel.run(|| {
                        std::thread::scope(|scope| {
                            for _ in 0..4 {
                                scope.spawn(|| stdio.write_stdout("x".repeat(BYTES)));
                            }
                        });
                    })),
                    Next::Over => return,
                    _ => {}
                }
            }
        },
    );
    let mut console = kernel.console_with(kernel.address, |config| config.window(70_000));
    for round in 1..=20 {
        let number = console.send("flood");
        console.until_over(number);
        assert_eq!(console.stdout.len(), 4 * BYTES * round);
    }
}

/// What one statement prints in one call, and its console reads nothing meanwhile.
#[test]
fn an_interrupt_during_16_mb_of_output_cuts_it_at_a_message_and_says_so() {
    const BYTES: usize = 16 << 20;
    for slow in [true, false] {
        let (mut console, _kernel) = pair();
        let number = console.send(&format!("flood {BYTES}"));
        if slow {
            // Until the window is full.
            let full = |console: &Console| {
                console
                    .session
                    .connection()
                    .stats()
                    .channels
                    .iter()
                    .map(|channel| channel.unread_bytes)
                    .sum::<u64>()
            };
            let mut before = 0;
            while before == 0 || full(&console) > before {
                before = full(&console);
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        } else {
            console.until("some of it has come", |console| console.stdout.len() > 1 << 20);
        }
        console.interrupt_message(number);
        console.until_over(number);
        assert_eq!(console.stderr, "interrupted\n");
        let (messages, bytes) = console.cut;
        // Every byte is accounted for.
        assert_eq!(console.stdout.len() as u64 + bytes, BYTES as u64, "{messages} messages were left out");
        assert!(messages > 0);
        assert!(console.stdout.iter().all(|byte| *byte == b'x'));
        if slow {
            assert!(console.stdout.len() < 4 << 20, "{} bytes came", console.stdout.len());
        }
        works(&mut console);
    }
}

/// The end of a picture waits in the kernel while the console does not take it.
#[cfg(unix)]
#[test]
fn an_interrupt_at_any_time_of_a_picture_on_a_slow_link_stops_it() {
    let kernel = Listening::new(Settings::new(), |config| config);
    let dam = support::dam::Dam::before(kernel.address);
    let mut console = kernel.console_with(dam.address, |config| config.window(65_536));
    for round in 1..=4 {
        let number = console.send("picture 4000000");
        console.until_status(Status::Busy(number));
        let pictures = console.pictures.len();
        dam.hold(true);
        // In some of the rounds all room is used by now.
        std::thread::sleep(std::time::Duration::from_millis(10 * round));
        console.interrupt_message(number);
        std::thread::sleep(std::time::Duration::from_millis(20));
        dam.hold(false);
        console.until_over(number);
        // On a machine that is slow here, it was there before the interrupt.
        let came = console.pictures.len() > pictures;
        let told = &console.stderr;
        assert!(told == "interrupted\n" || came && told.contains("had ended before"), "{round}: {told}");
        console.stderr.clear();
        works(&mut console);
    }
}

/// The output of a statement that has ended is not the output of the one that is stopped.
#[cfg(unix)]
#[test]
fn an_interrupt_takes_back_nothing_of_an_earlier_statement() {
    const BYTES: usize = 1 << 20;
    let (begun, has_begun) = std::sync::mpsc::channel();
    let kernel = Listening::with(
        Settings::new(),
        |config| config,
        move |mut kernel| {
            let stdio = kernel.stdio();
            loop {
                match kernel.next() {
                    Next::Line(line) if line == "flood\n" => {
                        let _ = kernel.run(|| stdio.write_stdout("x".repeat(BYTES)));
                    }
                    Next::Line(_) => drop(kernel.run(|| {
                        drop(stdio.write_stdout("this is not on its way"));
                        begun.send(()).unwrap();
                        while !stdio.stop_requested() {
                            std::thread::yield_now();
                        }
                        // And is stopped: what is not on its way is taken back by now.
                        begun.send(()).unwrap();
                    })),
                    Next::Over => return,
                    _ => {}
                }
            }
        },
    );
    let dam = support::dam::Dam::before(kernel.address);
    let mut console = kernel.console_with(dam.address, |config| config.window(8 << 20));
    console.until_status(Status::Idle(0));
    dam.hold(true);
    console.send("flood");
    let endless = console.send("loop");
    has_begun.recv_timeout(support::LONG).unwrap();
    console.interrupt_message(endless);
    has_begun.recv_timeout(support::LONG).unwrap();
    dam.hold(false);
    console.until_over(endless);
    assert_eq!((console.cut, console.stdout.len()), ((1, 22), BYTES));
    assert!(console.stdout.iter().take(BYTES).all(|byte| *byte == b'x'));
    assert_eq!(console.stderr, "interrupted\n");
}

#[test]
fn a_statement_that_panics_is_told_and_the_kernel_lives() {
    let (mut console, _kernel) = pair();
    let number = console.send("panic all is lost");
    console.until_over(number);
    assert_eq!(console.stderr, "the interpreter panicked: all is lost\n");
    assert_eq!(console.statuses, ["idle 0", "busy 1", "failed 1", "idle 1"]);
    works(&mut console);
}

#[test]
fn input_that_is_not_utf8_is_counted_and_told_and_never_run() {
    let (mut console, _kernel) = pair();
    console.session.try_send(&b"say \xff\n"[..]).unwrap();
    console.until_over(1);
    assert_eq!(console.stderr, "message 1 is not UTF-8 at byte 5 of its line, which was not run\n");
    // As an answer, it is an error of the program.
    console.stderr.clear();
    console.send("ask ");
    let answer = console.session.try_send(&b"\xc3\n"[..]).unwrap();
    console.until_over(answer);
    assert_eq!(console.stderr, "error: a line of the input is not UTF-8 at byte 1\n");
    // In a block it spoils the block, of which no line is run.
    console.stderr.clear();
    console.send("begin");
    let spoiled = console.session.try_send(&b"\x80\n"[..]).unwrap();
    console.until_over(spoiled);
    console.stdout.clear();
    works(&mut console);
    assert_eq!(console.stderr, "message 5 is not UTF-8 at byte 1 of its line, which was not run\n");
}

#[test]
fn a_reader_of_output_that_goes_away_never_wedges_the_kernel() {
    let (console, _kernel) = pair();
    // A console of fewer words: it stops its standard output and error.
    let connection = console.session.connection().clone();
    drop(console);
    drop(connection);
    let (here, there) =
        trunkline::Connection::pair(trunkline::Config::new(trunkline::Key::generate())).unwrap();
    let kernel = trunkline_kernel::kernel::Kernel::on(there, Settings::new()).unwrap();
    let _interpreter = std::thread::spawn(move || support::tiny::interpret(kernel));
    let stdin = here.sender(STDIN).unwrap();
    let status = here.receiver(trunkline_kernel::layout::STATUS).unwrap();
    let (stdout, stderr) = (here.receiver(STDOUT).unwrap(), here.receiver(STDERR).unwrap());
    stdin.send("count 1000000000\n").unwrap();
    stdout.recv().unwrap();
    stdout.stop(1);
    stderr.stop(1);
    let control = here.sender_with(CONTROL, trunkline::Priority::Urgent).unwrap();
    let mut last = String::new();
    while last != "busy 1" {
        last = String::from_utf8_lossy(&status.recv_timeout(support::LONG).unwrap()).into_owned();
    }
    control.send("interrupt 1").unwrap();
    control.send("what").unwrap();
    stdin.send("say again\n").unwrap();
    while last != "idle 2" {
        last = String::from_utf8_lossy(&status.recv_timeout(support::LONG).unwrap()).into_owned();
    }
    // The next statement speaks to a console that listens again.
    stdin.send("say and again\n").unwrap();
    let next = loop {
        match stdout.recv_timeout(support::LONG) {
            Ok(text) if &*text == b"and again\n" => break text,
            Ok(_) | Err(trunkline::RecvTimeoutError::Disconnected(trunkline::RecvError::Reset { .. })) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(&*next, b"and again\n");
}

#[test]
fn a_console_that_reads_nothing_does_not_stop_its_own_commands() {
    let (mut console, _kernel) = pair_with(Settings::new(), |config| config.window(4096));
    let number = console.send("count 1000000000");
    let answer_bound = 10_000;
    for _ in 0..answer_bound {
        // Each unknown word is answered on standard error, which is full.
        console
            .session
            .connection()
            .sender_with(CONTROL, trunkline::Priority::Urgent)
            .unwrap()
            .send("dance")
            .unwrap();
    }
    console.interrupt_message(number);
    console.until_over(number);
    assert!(console.stderr.contains("\"dance\" is not a command"), "{}", console.stderr);
    assert!(console.stderr.matches("dance").count() < answer_bound);
    works(&mut console);
}

#[test]
fn a_statement_that_does_not_react_is_said_to_hang_and_ends_as_it_likes() {
    let (mut console, _kernel) = pair();
    let number = console.send("deaf 2500");
    console.until_status(Status::Busy(1));
    console.interrupt();
    console.until_status(Status::Interrupting(1));
    assert_eq!(console.session.console().activity(), Activity::Interrupting);
    console.until_status(Status::Hung(2));
    console.until_over(number);
    assert_eq!(console.stderr, "the statement had ended before the interrupt reached it\n");
    works(&mut console);
}

#[test]
fn a_line_that_is_not_to_be_seen_is_asked_for_as_that() {
    let (mut console, _kernel) = pair();
    let number = console.send("secret password?");
    console.until_status(Status::Secret(1));
    assert!(console.session.console().is_secret());
    console.send("hunter2");
    console.until_over(number);
    assert!(!console.session.console().is_secret());
    let reading = console.send("ask ");
    console.until_status(Status::Waiting(3));
    assert!(!console.session.console().is_secret());
    console.send("seen");
    console.until_over(reading);
    assert!(console.shown().ends_with("7 bytes\nyou said seen\n"));
}

/// A piece of a line is read while the statement waits for its rest: what the console names then is the statement.
#[test]
fn a_statement_that_waits_for_its_rest_is_interrupted_by_what_was_read_last() {
    let (mut console, _kernel) = pair();
    console.send("begin");
    let number = console.session.try_send("half").unwrap();
    console.until_status(Status::Incomplete(number));
    console.interrupt();
    console.until_status(Status::Idle(number));
    console.send(" a line");
    works(&mut console);
    assert_eq!(console.stderr, "interrupted\n");
}

#[test]
fn ten_thousand_lines_come_out_in_order() {
    let (mut console, _kernel) = pair();
    let mut expected = String::new();
    for number in 0..10_000 {
        let line = format!("say {number}\n");
        expected += &line[4..];
        while console.session.try_send(line.clone()).is_err() {
            let before = console.stdout.len();
            console.until("it goes on", |console| console.stdout.len() > before);
        }
    }
    console.until_over(10_000);
    assert!(console.shown() == expected);
}

#[test]
fn interrupts_that_follow_their_lines_at_once_hit_them() {
    let kernel = Listening::new(Settings::new(), |config| config);
    let mut console = kernel.console();
    for _ in 0..3 {
        let number = console.send("loop");
        console.interrupt();
        console.until_over(number);
    }
    assert_eq!(console.stderr, "interrupted\n".repeat(3));
}

fn by_hand(settings: Settings) -> (Console, Kernel) {
    let (here, there) = Connection::pair(Config::new(Key::generate())).unwrap();
    let mut kernel = Kernel::on(there, settings).unwrap();
    assert_eq!(kernel.next(), Next::Arrived);
    (Console::new(here), kernel)
}

#[test]
fn a_message_of_several_lines_is_one_statement_if_it_is_to_be() {
    let (mut console, mut kernel) = by_hand(Settings::new().blocks(true));
    console.send("one\ntwo");
    console.send("three");
    console.send("an answer\nand a statement\nof two lines");
    assert_eq!(kernel.next(), Next::Line("one\ntwo\n".to_owned()));
    assert_eq!(kernel.next(), Next::Line("three\n".to_owned()));
    // A program that reads gets one line, and the loop what is left of the message.
    let stdio = kernel.stdio();
    assert_eq!(stdio.read_line().unwrap(), "an answer\n");
    assert_eq!(kernel.next(), Next::Line("and a statement\nof two lines\n".to_owned()));
}

#[test]
fn a_reader_keeps_its_place_between_two_waits() {
    let (mut console, mut kernel) = by_hand(Settings::new());
    console.send("first");
    assert_eq!(kernel.next(), Next::Line("first\n".to_owned()));
    let stdio = kernel.stdio();
    let soon = || Some(Instant::now() + Duration::from_millis(20));
    let done = kernel.run(|| {
        let (mut one, mut other) = (stdio.reading(), stdio.reading());
        assert!(one.next(soon()).is_none());
        console.send("for the first");
        console.send("for the second");
        assert!(other.next(soon()).is_none());
        let line = one.next(None).unwrap().unwrap();
        // One that gives up makes room.
        drop(one);
        let third = stdio.reading();
        let second = other.next(None).unwrap().unwrap();
        drop(third);
        (line, second)
    });
    let expected = (b"for the first\n".to_vec(), b"for the second\n".to_vec());
    assert_eq!(done, Run::Done(expected));
    console.until_status(Status::Waiting(1));
    console.send("statement");
    assert_eq!(kernel.next(), Next::Line("statement\n".to_owned()));
}

/// A debugger catches the interrupt, and asks for its next command.
#[test]
fn a_program_that_was_stopped_and_reads_again_waits() {
    let (mut console, mut kernel) = by_hand(Settings::new());
    console.send("debug");
    assert_eq!(kernel.next(), Next::Line("debug\n".to_owned()));
    let stdio = kernel.stdio();
    let done = kernel.run(|| {
        let mut reading = stdio.reading();
        assert!(reading.next(Some(Instant::now())).is_none());
        console.until_status(Status::Waiting(1));
        console.interrupt();
        assert!(reading.next(None).unwrap().is_err());
        console.until_status(Status::Interrupting(1));
        console.statuses.clear();
        let mut reading = stdio.reading();
        assert!(reading.next(Some(Instant::now())).is_none());
        console.until_status(Status::Waiting(1));
        console.send("go on");
        reading.next(None)
    });
    assert_eq!(done, Run::Done(Some(Ok(b"go on\n".to_vec()))));
}

#[test]
fn an_interrupt_that_was_swallowed_is_told_once_more() {
    let (mut console, mut kernel) = by_hand(Settings::new());
    console.send("loop");
    assert_eq!(kernel.next(), Next::Line("loop\n".to_owned()));
    let stdio = kernel.stdio();
    kernel.run(|| {
        // It is for what was stopped, and there is nothing.
        stdio.stop_again();
        assert!(!stdio.is_stopping());
        console.until_status(Status::Busy(1));
        console.interrupt();
        while !stdio.stop_requested() {
            std::thread::yield_now();
        }
        assert!(!stdio.stop_requested());
        stdio.stop_again();
        assert!(stdio.stop_requested() && !stdio.stop_requested());
    });
    assert_eq!(kernel.try_next(), None);
    console.until_over(1);
    assert_eq!(console.stderr, "interrupted\n");
}
