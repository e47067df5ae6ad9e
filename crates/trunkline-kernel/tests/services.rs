//! What answers while a statement runs, and what nothing can end.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use support::{Console, Listening, pair, pair_with, tiny};
use trunkline::{Access, ChannelId, Config, Connection, Key, Priority};
use trunkline_kernel::console::{Activity, Session, Unsent};
use trunkline_kernel::kernel::{Hooks, Settings};
use trunkline_kernel::layout::{
    Answer, CONTROL, Control, INTROSPECTION, Operation, Reply, STATUS, STDOUT, SignalName, Status, Target,
};

fn complete(code: &str) -> Operation {
    Operation::Complete { code: code.to_owned(), cursor: code.chars().count() }
}

fn inspect(code: &str) -> Operation {
    Operation::Inspect { code: code.to_owned(), cursor: 0 }
}

/// Waits for the answer to a request.
#[track_caller]
fn answer(console: &mut Console, id: u64) -> Reply {
    console.until("an answer", |console| console.answers.iter().any(|answer| answer.id == Some(id)));
    console.answers.iter().find(|answer| answer.id == Some(id)).unwrap().reply.clone()
}

#[track_caller]
fn ask(console: &mut Console, operation: Operation) -> Reply {
    let id = console.session.request(operation).unwrap();
    answer(console, id)
}

fn matches(words: &[&str], end: usize) -> Reply {
    Reply::Complete { matches: words.iter().map(|word| (*word).to_owned()).collect(), start: 0, end }
}

#[track_caller]
fn error(reply: Reply) -> String {
    match reply {
        Reply::Error { error } => error,
        other => panic!("{other:?} is no error"),
    }
}

#[test]
fn questions_are_answered_while_a_statement_runs() {
    let (mut console, _kernel) = pair();
    console.send("loop");
    console.until_status(Status::Busy(1));
    assert_eq!(ask(&mut console, complete("d")), matches(&["deaf", "die"], 1));
    assert_eq!(ask(&mut console, inspect("say")), Reply::Inspect { text: "a word: say".to_owned() });
    assert!(
        matches!(ask(&mut console, Operation::Info), Reply::Info { pid, .. } if pid == std::process::id())
    );
    console.interrupt();
    console.until_over(1);
}

/// Nothing that is asked can end the service: not a panic, not an answer that never comes, not a word that is
/// unknown, not what is no JSON.
#[test]
fn every_question_has_an_answer_and_none_is_the_last() {
    let (mut console, _kernel) = pair();
    console.until_status(Status::Idle(0));
    assert_eq!(error(ask(&mut console, inspect("panic"))), "the kernel panicked over it: an answer panics");
    assert_eq!(error(ask(&mut console, Operation::Stack)), "the language has nothing of that kind");
    let requests = console.session.connection().sender_with(INTROSPECTION, Priority::Urgent).unwrap();
    for (request, id, says) in [
        (&b"{\"id\":901,\"op\":\"dance\"}"[..], Some(901), "\"dance\" is not an operation"),
        (b"{\"id\":902,\"op\":\"complete\"}", Some(902), "`complete`: missing field `code`"),
        (b"\xff\xfe", None, "a request is a JSON object"),
        (b"[[[[[[", None, "a request is a JSON object"),
        (b"", None, "a request is a JSON object"),
        (b"{\"id\":-1,\"op\":\"info\"}", None, "a request is a JSON object"),
    ] {
        console.answers.clear();
        requests.send(request).unwrap();
        console.until("an answer", |console| !console.answers.is_empty());
        let Answer { id: of, reply } = console.answers[0].clone();
        let error = error(reply);
        assert!(of == id && error.starts_with(says), "{of:?}: {error}");
    }
    assert_eq!(ask(&mut console, complete("say")), matches(&["say"], 3));
}

#[test]
fn a_question_that_hangs_is_answered_within_two_seconds_and_delays_no_other() {
    let (mut console, _kernel) = pair();
    console.until_status(Status::Idle(0));
    let asked = Instant::now();
    let hung: Vec<u64> = (0..3).map(|_| console.session.request(inspect("hang")).unwrap()).collect();
    assert_eq!(ask(&mut console, complete("say")), matches(&["say"], 3));
    assert!(console.answers.iter().all(|answer| !hung.contains(&answer.id.unwrap())));
    // The last thread that is free hangs too: from here on there is none for anything.
    let more = ["hang", "say"].map(|code| console.session.request(inspect(code)).unwrap());
    for id in hung.into_iter().chain(more) {
        assert_eq!(error(answer(&mut console, id)), "the kernel cannot answer now: nothing within 2 s");
    }
    assert!(asked.elapsed() >= Duration::from_secs(2));
    // The loop and its commands do not mind.
    let number = console.send("loop");
    console.interrupt();
    console.until_over(number);
}

#[test]
fn a_console_that_reads_no_answers_is_told_and_the_kernel_lives() {
    let kernel = Listening::new(Settings::new().introspect(tiny::Words), |config| config.window(2048));
    let mut console = kernel.console_with(kernel.address, |config| config.window(2048));
    console.until_status(Status::Idle(0));
    // A channel that a hub lends, which nothing reads.
    let lent = ChannelId::new(64);
    let connection = console.session.connection().clone();
    let questions = connection.sender_with(lent, Priority::Urgent).unwrap();
    let answers = connection.receiver(lent).unwrap();
    for _ in 0..200 {
        questions.send(b"{\"id\":1,\"op\":\"info\"}").unwrap();
    }
    assert_eq!(ask(&mut console, complete("say")), matches(&["say"], 3));
    let mut answered = 0;
    let code = loop {
        match answers.recv_timeout(support::LONG) {
            Ok(_) => answered += 1,
            Err(trunkline::RecvTimeoutError::Disconnected(trunkline::RecvError::Reset { code, .. })) => {
                break code;
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert!(code == 260 && answered < 200, "{answered} answers, {code}");
}

/// A hub lends a channel to one console after the other: the end of a conversation is answered with an end,
/// behind the last answer.
#[test]
fn a_conversation_on_a_lent_channel_ends_behind_its_last_answer() {
    let (mut console, _kernel) = pair();
    console.until_status(Status::Idle(0));
    let connection = console.session.connection().clone();
    let lent = ChannelId::new(70);
    let answers = connection.receiver(lent).unwrap();
    for questions in [3, 0, 1] {
        let sender = connection.sender_with(lent, Priority::Urgent).unwrap();
        for id in 0..questions {
            sender.send(format!("{{\"id\":{id},\"op\":\"info\"}}")).unwrap();
        }
        sender.finish().unwrap();
        let mut answered = 0;
        let end = loop {
            match answers.recv_timeout(support::LONG) {
                Ok(_) => answered += 1,
                Err(end) => break end,
            }
        };
        assert_eq!(end, trunkline::RecvTimeoutError::Disconnected(trunkline::RecvError::Finished));
        assert_eq!(answered, questions);
    }
}

#[test]
fn commands_that_are_unknown_are_answered_and_change_nothing() {
    let (mut console, _kernel) = pair();
    console.until_status(Status::Idle(0));
    let control = console.session.connection().sender_with(CONTROL, Priority::Urgent).unwrap();
    for command in
        [&b"dance"[..], b"interrupt x", b"", b"\xff", &[b'x'; 5000], b"interrupt 99999999999999999999999"]
    {
        control.send(command).unwrap();
    }
    console.session.command(&Control::Signal("TERM".parse().unwrap())).unwrap();
    let number = console.send("say still here");
    console.until_over(number);
    console.until("every answer", |console| console.stderr.lines().count() == 7);
    assert_eq!(console.stderr.matches("is not a command; there are").count(), 6, "{}", console.stderr);
    assert!(console.stderr.contains("passes on no signals, so not TERM"), "{}", console.stderr);
    assert_eq!(console.shown(), "still here\n");
}

/// Interrupts for lines that never come are remembered up to a bound.
#[test]
fn a_console_that_interrupts_what_it_never_sends_costs_a_bound() {
    let (mut console, _kernel) = pair();
    console.until_status(Status::Idle(0));
    for number in 2..3_000 {
        console.session.command(&Control::Interrupt(Target::Message(number * 1_000_000))).unwrap();
    }
    console.until("the bound is told", |console| {
        console.stderr.contains("was dropped: 1024 interrupts wait for lines that have not come")
    });
    let number = console.send("say still here");
    console.until_over(number);
    assert_eq!(console.shown(), "still here\n");
}

struct Counting {
    interrupts: Arc<AtomicUsize>,
    insists: mpsc::Sender<()>,
}

impl Hooks for Counting {
    fn interrupt(&self) {
        self.interrupts.fetch_add(1, Ordering::SeqCst);
        panic!("a hook panics");
    }

    fn insist(&self) {
        self.insists.send(()).unwrap();
    }

    fn signal(&self, signal: &SignalName) -> Result<(), String> {
        Err(format!("got {signal}"))
    }
}

/// The ladder: at once, after a second by other means, and then the status says it.
#[test]
fn hooks_are_called_in_their_order_and_may_panic() {
    let interrupts = Arc::<AtomicUsize>::default();
    let (insists, insisted) = mpsc::channel();
    let hooks = Counting { interrupts: Arc::clone(&interrupts), insists };
    let (mut console, _kernel) = pair_with(Settings::new().hooks(hooks), |config| config);
    let number = console.send("deaf 1500");
    console.until_status(Status::Busy(1));
    let began = Instant::now();
    console.interrupt();
    console.until("the hook's panic is told", |console| {
        console.stderr.contains("the kernel panicked over a command: a hook panics")
    });
    assert_eq!(interrupts.load(Ordering::SeqCst), 1);
    insisted.recv_timeout(support::LONG).unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    console.until_over(number);
    console.session.command(&Control::Signal("HUP".parse().unwrap())).unwrap();
    console.until("the next command is obeyed", |console| console.stderr.contains("got HUP"));
}

/// Tab: at once, whether or not the kernel has time.
#[test]
fn a_question_to_a_kernel_that_serves_another_is_refused_at_once() {
    let kernel = Listening::new(Settings::new().introspect(tiny::Words), |config| config);
    let mut first = kernel.console();
    first.until_status(Status::Idle(0));
    let mut second = kernel.console();
    assert_eq!(second.session.console().activity(), Activity::Unserved);
    assert_eq!(second.session.request(complete("sa")), Err(Unsent::NotNow));
    first.session.close();
    second.until_status(Status::Idle(0));
    assert_eq!(ask(&mut second, complete("sa")), matches(&["say"], 2));
}

/// A hub refuses a request while it has no channel to lend, and a command that it does not know: that ends one run of
/// the channel, and the next request and the next Ctrl-C arrive.
#[test]
fn what_was_refused_once_is_not_refused_for_ever() {
    let (here, there) = Connection::pair(Config::new(Key::generate())).unwrap();
    let mut session = Session::new(here).unwrap();
    let receiver = |channel| there.receiver(channel).unwrap();
    let (commands, requests) = (receiver(CONTROL), receiver(INTROSPECTION));
    there.sender(STATUS).unwrap().send("idle 0").unwrap();
    while !session.console().may_ask() {
        assert!(session.next_timeout(support::LONG).is_some());
    }
    for round in 0..20 {
        session.request(complete("sa")).unwrap();
        session.command(&Control::Interrupt(Target::Running)).unwrap();
        requests.recv_timeout(support::LONG).unwrap();
        commands.recv_timeout(support::LONG).unwrap();
        requests.stop_channel(INTROSPECTION, 258);
        commands.stop_channel(CONTROL, 260);
        there.flush().unwrap();
        // What it sends before it has heard of that is refused too.
        let sees = |arrived: &mut dyn FnMut() -> bool| {
            let until = Instant::now() + support::LONG;
            while !arrived() {
                assert!(Instant::now() < until, "round {round}");
            }
        };
        sees(&mut || {
            session.request(complete("say")).unwrap();
            requests.recv_timeout(Duration::from_millis(5)).is_ok()
        });
        sees(&mut || {
            session.command(&Control::Interrupt(Target::Running)).unwrap();
            commands.recv_timeout(Duration::from_millis(5)).is_ok()
        });
        while requests.try_recv().is_ok() || commands.try_recv().is_ok() {}
    }
}

/// The frame that needs no channel means "what runs".
#[test]
fn an_interrupt_frame_stops_what_runs() {
    let (mut console, _kernel) = pair();
    console.until_status(Status::Idle(0));
    // When nothing runs, it stops nothing.
    console.session.connection().interrupt().unwrap();
    console.send("say one");
    console.until_over(1);
    console.send("loop");
    console.until_status(Status::Busy(2));
    console.session.connection().interrupt().unwrap();
    console.until_over(2);
    assert_eq!((console.shown().as_str(), console.stderr.as_str()), ("one\n", "interrupted\n"));
}

#[test]
fn exit_ends_the_kernel_and_is_the_last_thing_that_it_says() {
    for busy in [false, true] {
        let (mut console, kernel) = pair();
        console.send("say one");
        console.until_over(1);
        if busy {
            console.send("loop");
            console.until_status(Status::Busy(2));
        }
        console.session.command(&Control::Exit).unwrap();
        console.until("the end", |console| console.over);
        assert_eq!(console.statuses.last().unwrap(), "exited 0");
        assert_eq!(console.stderr, if busy { "interrupted\n" } else { "" });
        kernel.join().unwrap();
    }
}

/// A console that may not use the channels, and a place for notes that panics: the next one is served.
#[test]
fn a_panic_in_the_services_of_a_kernel_is_not_its_end() {
    let guest = Key::generate();
    let settings = Settings::new().log(|_| panic!("the log panics"));
    let access = Access::read_only().receive(STDOUT);
    let kernel = Listening::new(settings, |config| config.with_key(guest.clone(), access));
    for _ in 0..3 {
        let connection = Connection::connect(kernel.address, Config::new(guest.clone())).unwrap();
        assert!(connection.receiver(STDOUT).unwrap().recv().is_err());
    }
    let mut console = kernel.console();
    console.send("say still here");
    console.until_over(1);
    assert_eq!(console.shown(), "still here\n");
}
