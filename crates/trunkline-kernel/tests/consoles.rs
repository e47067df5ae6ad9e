//! Consoles that come, wait, lose their link, die, and come back.

#![cfg(unix)]

mod support;

use std::sync::mpsc;
use std::time::Duration;

use support::dam::Dam;
use support::{Listening, tiny};
use trunkline::ConnectionError;
use trunkline_kernel::console::{Activity, Said, Session};
use trunkline_kernel::kernel::{Kernel, Next, Settings};
use trunkline_kernel::layout::Status;

fn kernel() -> Listening {
    Listening::new(Settings::new().introspect(tiny::Words), |config| config)
}

#[test]
fn one_console_after_the_other_finds_the_same_kernel() {
    let kernel = kernel();
    for _ in 0..20 {
        let mut console = kernel.console();
        // Each counts from 1.
        assert_eq!(console.send("say hello"), 1);
        console.session.finish().unwrap();
        console.until("the end", |console| console.finished);
        assert_eq!((console.shown().as_str(), console.stderr.as_str()), ("hello\n", ""));
        console.session.close();
    }
}

/// The interrupt is there before the kernel serves the console at all.
#[test]
fn an_interrupt_given_while_the_kernel_serves_another_stops_its_line() {
    let kernel = kernel();
    let mut first = kernel.console();
    first.send("loop");
    first.until_status(Status::Busy(1));
    let mut second = kernel.console();
    let endless = second.send("loop");
    let after = second.send("say after");
    assert_eq!(second.session.console().activity(), Activity::Unserved);
    second.interrupt();
    second.session.connection().flush().unwrap();
    // It stops nothing of the other's.
    first.send("ask ");
    first.interrupt_message(1);
    first.until_status(Status::Waiting(2));
    assert_eq!((first.stderr.as_str(), second.statuses.len()), ("interrupted\n", 0));
    first.session.close();
    second.until_over(after);
    assert!(second.session.console().is_over(endless));
    assert_eq!((second.shown().as_str(), second.stderr.as_str()), ("after\n", "interrupted\n"));
}

#[test]
fn an_interrupt_given_in_an_outage_stops_its_line_when_the_link_is_back() {
    let kernel = kernel();
    let dam = Dam::before(kernel.address);
    let mut console = kernel.console_at(dam.address);
    let running = console.send("loop");
    console.until_status(Status::Busy(1));
    dam.cut();
    console.until("the outage is known", |console| console.session.console().link_lost_since().is_some());
    // One for what runs, and one for what has not been read.
    console.interrupt();
    let next = console.send("loop");
    console.interrupt_message(next);
    let after = console.send("say after");
    dam.mend();
    console.until_over(after);
    assert!(
        console.session.console().is_over(running) && console.session.console().link_lost_since().is_none()
    );
    assert_eq!(
        (console.shown().as_str(), console.stderr.as_str()),
        ("after\n", "interrupted\ninterrupted\n")
    );
}

#[test]
fn a_console_that_dies_in_a_loop_leaves_the_kernel_to_the_next() {
    for statement in ["loop", "ask ", "count 100000000", "deaf 1200", "begin"] {
        let kernel = kernel();
        let mut first = kernel.console();
        first.send(statement);
        first.until("it has begun", |console| console.session.console().read() == 1);
        first.session.connection().clone().abandon();
        drop(first);
        let mut second = kernel.console();
        second.send("say mine");
        second.until_over(1);
        assert_eq!((second.shown().as_str(), second.stderr.as_str()), ("mine\n", ""), "{statement}");
    }
}

/// Its link is lost for longer than the place grace while another waits.
#[test]
fn a_console_whose_link_is_lost_loses_its_place_to_one_that_waits() {
    let settings = Settings::new().place_grace(Duration::from_millis(200));
    let kernel = Listening::new(settings, |config| config.resume_grace(support::LONG));
    let dam = Dam::before(kernel.address);
    let mut first = kernel.console_at(dam.address);
    first.send("loop");
    first.until_status(Status::Busy(1));
    dam.cut();
    let mut second = kernel.console();
    second.send("say mine");
    second.until_over(1);
    dam.mend();
    let why = loop {
        match first.session.next_timeout(support::LONG) {
            Some(Said::Over(why)) => break why,
            Some(_) => {}
            None => panic!("not in time"),
        }
    };
    let ConnectionError::ClosedByPeer { reason, .. } = &why else { panic!("{why}") };
    assert_eq!(reason, "another console came while the link was lost");
}

#[test]
fn more_consoles_than_may_wait_are_told_to_go() {
    let kernel = kernel();
    let mut first = kernel.console();
    first.until_status(Status::Idle(0));
    let mut waiting: Vec<_> = (0..65).map(|_| kernel.console()).collect();
    let mut last = waiting.pop().unwrap();
    last.until("it is told to go", |console| console.over);
    first.session.close();
    waiting[0].send("say mine");
    waiting[0].until_over(1);
}

/// The loop of a program that has other things to do: it is never blocked, and `ready` tells when to look.
#[test]
fn a_loop_that_selects_is_woken_for_each_thing() {
    let (begun, has_begun) = mpsc::channel();
    let language = move |mut kernel: Kernel| {
        let (stdio, ready) = (kernel.stdio(), kernel.ready());
        loop {
            while let Some(next) = kernel.try_next() {
                match next {
                    Next::Line(line) if line == "more\n" => {
                        kernel.incomplete();
                        begun.send(()).unwrap();
                    }
                    Next::Line(line) => drop(kernel.run(|| stdio.write_stdout(&line))),
                    Next::Drop => stdio.write_stdout("dropped\n").unwrap(),
                    Next::Over => return,
                    _ => {}
                }
            }
            ready.recv_timeout(support::LONG).unwrap();
        }
    };
    let kernel = Listening::with(Settings::new(), |config| config, language);
    for _ in 0..3 {
        let mut console = kernel.console();
        console.send("a line");
        console.until_over(1);
        console.send("more");
        has_begun.recv_timeout(support::LONG).unwrap();
        console.interrupt_message(2);
        console.until_over(2);
        assert_eq!(
            (console.shown().as_str(), console.stderr.as_str()),
            ("a line\ndropped\n", "interrupted\n")
        );
        console.session.close();
    }
}

/// Threads of the program read too: in the order in which they began, and before the loop.
#[test]
fn readers_go_before_the_loop_in_their_order() {
    let (reads, has_read) = mpsc::channel::<String>();
    let language = move |mut kernel: Kernel| {
        let stdio = kernel.stdio();
        loop {
            match kernel.next() {
                Next::Line(line) if line.starts_with("reader") => drop(kernel.run(|| {
                    let (stdio, reads) = (stdio.clone(), reads.clone());
                    let began = std::thread::spawn(move || {
                        let got = stdio.read_line();
                        reads.send(format!("{} got {got:?}", line.trim())).unwrap();
                    });
                    drop(began);
                    // Until it reads: the statement is over before its thread is.
                    std::thread::sleep(Duration::from_millis(100));
                })),
                Next::Line(line) => drop(kernel.run(|| stdio.write_stdout(&line))),
                Next::Over => return,
                _ => {}
            }
        }
    };
    let kernel = Listening::with(Settings::new(), |config| config, language);
    let mut console = kernel.console();
    console.send("reader A\nreader B");
    // Both lines are of one message; the second is what the first reader gets.
    assert_eq!(has_read.recv_timeout(support::LONG).unwrap(), "reader A got Ok(\"reader B\\n\")");
    console.send("reader C");
    console.until_status(Status::Waiting(2));
    // The statement is over, and its thread goes before the loop.
    console.send("x");
    console.send("y");
    assert_eq!(has_read.recv_timeout(support::LONG).unwrap(), "reader C got Ok(\"x\\n\")");
    console.until_over(4);
    assert_eq!(console.shown(), "y\n");
}

#[test]
fn a_kernel_that_is_dropped_has_said_everything() {
    let language = |mut kernel: Kernel| {
        let stdio = kernel.stdio();
        while let next = kernel.next()
            && next != Next::Over
        {
            if let Next::Line(_) = next {
                let _ = kernel.run(|| stdio.write_stdout("the last words\n"));
                return;
            }
        }
    };
    let kernel = Listening::with(Settings::new(), |config| config, language);
    let mut console = kernel.console();
    console.send("go");
    console.until("the end", |console| console.over);
    assert_eq!(console.shown(), "the last words\n");
}

/// A kernel that is started again knows nothing of the session: the console learns it, and begins anew.
#[test]
fn a_console_survives_a_kernel_that_was_started_again() {
    let first = kernel();
    let mut console = first.console();
    console.send("say one");
    console.send("loop");
    console.until_status(Status::Busy(2));
    let mut state = console.session.console().clone();
    console.session.connection().clone().abandon();
    let second = kernel();
    // Message 2 is not known to be over.
    assert_eq!(state.handle_new_session(std::time::Instant::now()), 1);
    assert_eq!((state.sent(), state.activity()), (0, Activity::Unserved));
    let mut session: Session = second.console().session;
    session.try_send("say two\n").unwrap();
    loop {
        match session.next_timeout(support::LONG) {
            Some(Said::Output(text)) => break assert_eq!(&*text, b"two\n"),
            Some(_) => {}
            None => panic!("not in time"),
        }
    }
}
