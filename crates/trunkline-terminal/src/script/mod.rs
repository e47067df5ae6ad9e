//! Lines from a pipe or file, and lines that a person types at a terminal that only prints.

mod hearing;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use trunkline_kernel::console::{Activity, Session, Unsent};
use trunkline_kernel::layout::Operation;

use crate::ending::{Ending, lost};
use crate::lines::{Lines, PIECE, Piece};
use crate::meta::{self, Meta};
use crate::options::Options;
use crate::pictures::Files;
use crate::questions::{NO_ANSWER, Purpose, Questions};
#[cfg(unix)]
use crate::sys::tty::{Manner, Tty};
use crate::sys::{Bell, Read, Signals, Sink, Source, unreadable, wait};

/// So many lines are before the kernel at most.
const AHEAD: u64 = 64;
/// So many lines are before it of a script that was not read yet.
const MOST_STEPS: usize = 128;
/// How long a question waits for the lines before it. A line that takes longer is one that is asked about while
/// it runs.
const SETTLE: Duration = Duration::from_secs(1);
/// A line that found no room is tried again so much later, if nothing says when there is.
const RETRY: Duration = Duration::from_millis(10);
/// Output that was not taken; while there is more, the kernel is not asked for more.
const ROOM: usize = 64 * 1024;

/// What a script has next to do.
#[derive(Debug)]
enum Step {
    /// A message for the kernel. If it `begins` a line, it waits for its turn.
    Send {
        message: Bytes,
        begins: bool,
    },
    Command(Meta),
    /// The line before is interrupted, and was read already or not.
    Interrupted {
        number: u64,
        sent: bool,
    },
    /// The answer to a question is awaited.
    Answer,
}

struct Script<'a> {
    session: &'a mut Session,
    options: &'a Options,
    bell: Arc<Bell>,
    /// Of a person. A script dies of signals as any program does.
    signals: Option<Signals>,
    source: Source,
    stdout: Sink,
    stderr: Sink,
    lines: Lines,
    /// Whether the piece before was a part of a line.
    inside: bool,
    count: u64,
    steps: VecDeque<Step>,
    /// Since when the first step waits.
    since: Instant,
    /// What is not shown yet of a message of output, and where it goes.
    rest: Bytes,
    rest_is_error: bool,
    /// There is more of what the kernel says, which had no room.
    more: bool,
    /// When a line is tried again that found no room.
    retry: Option<Instant>,
    /// No more lines come.
    ended: bool,
    finished: bool,
    /// The kernel was asked to end.
    asked_to_end: bool,
    questions: Questions,
    files: Files,
    /// The program is inside of a line, on standard output.
    begun: bool,
    /// A prompt stands there, for this activity.
    prompted: Option<Activity>,
    failed: bool,
    link_lost: bool,
    told_of_turn: bool,
    /// Something was said on the status channel since the interrupt was sent.
    waits_again: bool,
    /// What is typed is an answer that the terminal does not show.
    secret: bool,
    /// The input of a kernel that is shared was asked for.
    takes: bool,
    #[cfg(unix)]
    tty: Option<Tty>,
}

/// Is the console of a script, or of a person (`prompts`) at a terminal that only prints.
///
/// # Errors
///
/// If the system has no descriptors left.
pub(crate) fn run(session: &mut Session, options: &Options, prompts: bool) -> io::Result<Ending> {
    let mut script = Script {
        bell: Bell::new()?,
        signals: if prompts { Some(Signals::take()?) } else { None },
        source: Source::stdin()?,
        stdout: Sink::stdout()?,
        stderr: Sink::stderr(false)?,
        lines: Lines::default(),
        inside: false,
        count: 0,
        steps: VecDeque::new(),
        since: Instant::now(),
        rest: Bytes::new(),
        rest_is_error: false,
        more: true,
        retry: None,
        ended: false,
        finished: false,
        asked_to_end: false,
        questions: Questions::default(),
        files: Files::new(options.pictures.clone()),
        begun: false,
        prompted: None,
        failed: false,
        link_lost: false,
        told_of_turn: false,
        waits_again: false,
        secret: false,
        takes: false,
        #[cfg(unix)]
        tty: if prompts { Tty::enter(rustix::stdio::stdin(), Manner::Lines).ok() } else { None },
        session,
        options,
    };
    if prompts && !options.banner.is_empty() {
        script.stdout.push(format!("{}\n", options.banner).as_bytes());
    }
    Ok(match script.work() {
        Ok(never) => match never {},
        Err(ending) => script.end(ending),
    })
}

impl Script<'_> {
    fn is_person(&self) -> bool {
        self.signals.is_some()
    }

    fn work(&mut self) -> Result<std::convert::Infallible, Ending> {
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut context = Context::from_waker(&waker);
        let mut something = false;
        loop {
            self.take_signals()?;
            if something {
                self.read()?;
            }
            self.split();
            self.step(&mut context)?;
            self.listen(&mut context)?;
            // What was heard may let the next step go.
            self.step(&mut context)?;
            self.look_for_secret();
            self.prompt()?;
            self.flush()?;
            something = self.wait()?;
        }
    }

    /// The terminal shows what a person types, unless the kernel waits for what is not to be seen.
    fn look_for_secret(&mut self) {
        let secret = self.is_person() && self.session.console().is_secret();
        if secret == std::mem::replace(&mut self.secret, secret) {
            return;
        }
        #[cfg(unix)]
        if let Some(tty) = &mut self.tty {
            tty.hide(secret);
        }
    }

    fn wait(&mut self) -> Result<bool, Ending> {
        let now = Instant::now();
        for _ in 0..self.questions.expire(now) {
            self.answered(Err(NO_ANSWER.to_owned()));
        }
        let turn = (!self.told_of_turn && self.session.console().activity() == Activity::Unserved)
            .then(|| self.session.console().since() + Duration::from_secs(1));
        if turn.is_some_and(|at| at <= now) {
            self.told_of_turn = true;
            self.say("waiting for the kernel, which serves another console");
        }
        let question = matches!(self.steps.front(), Some(Step::Command(_))).then(|| self.since + SETTLE);
        let at_once = (self.more && self.may_show()).then_some(now);
        let deadlines = [
            at_once,
            self.retry.take(),
            question.filter(|at| *at > now),
            turn.filter(|at| *at > now),
            self.questions.deadline(),
        ];
        let reads = !self.ended && self.steps.len() < MOST_STEPS && self.lines.len() <= PIECE;
        let source = reads.then_some(&self.source);
        let sinks = [&self.stdout, &self.stderr];
        wait(&self.bell, self.signals.as_ref(), source, &sinks, deadlines.into_iter().flatten().min())
            .map_err(|error| Ending::Unusable(unreadable(&error)))
    }

    fn take_signals(&mut self) -> Result<(), Ending> {
        let signals = self.signals.as_ref().map(Signals::pending).unwrap_or_default();
        #[cfg(unix)]
        let signals = crate::sys::in_order(signals);
        for signal in signals {
            #[cfg(unix)]
            match signal {
                signal_hook::consts::SIGINT => {
                    self.prompted = None;
                    self.begun = true;
                    self.interrupt()?;
                }
                signal_hook::consts::SIGWINCH => {}
                signal_hook::consts::SIGTSTP => {
                    if let Some(tty) = &self.tty {
                        tty.restore();
                    }
                    crate::sys::tty::stop_alone();
                    // The shell has written behind the prompt.
                    self.prompted = None;
                }
                signal_hook::consts::SIGCONT => {
                    if let Some(tty) = &self.tty {
                        drop(tty.resume());
                    }
                }
                signal => return Err(Ending::Signal(signal)),
            }
            #[cfg(not(unix))]
            return Err(Ending::Signal(signal));
        }
        Ok(())
    }

    // -- Lines -----------------------------------------------------------------------------------------------

    fn read(&mut self) -> Result<(), Ending> {
        let mut buffer = [0; 64 * 1024];
        match self.source.read(&mut buffer) {
            Ok(Read::Bytes(read)) => self.lines.feed(&buffer[..read]),
            Ok(Read::Nothing) => {}
            // On a terminal it is the end for the program that waits, and more may come.
            Ok(Read::End) if self.is_person() && self.session.console().activity() == Activity::Waiting => {
                self.prompted = None;
                if let Err(error) = self.session.end_of_input() {
                    self.say(&error.to_string());
                }
            }
            Ok(Read::End) => self.ended = true,
            Err(error) => return Err(Ending::Unusable(unreadable(&error))),
        }
        Ok(())
    }

    /// Makes steps of lines.
    fn split(&mut self) {
        while self.steps.len() < MOST_STEPS {
            let piece = match self.lines.next() {
                Some(piece) => piece,
                None if self.ended => match self.lines.rest() {
                    Some(rest) => rest,
                    None => return,
                },
                None => return,
            };
            if self.steps.is_empty() {
                self.since = Instant::now();
            }
            let begins = !self.inside;
            let (bytes, ends) = match piece {
                Piece::Line(bytes) => (bytes, true),
                Piece::Part(bytes) => (bytes, false),
            };
            self.inside = !ends;
            self.count += u64::from(ends);
            // The echo of what a person types has ended the line.
            if self.is_person() {
                (self.prompted, self.begun) = (None, false);
            }
            let text = self.text(&bytes);
            let parsed = if self.secret { Meta::Line(text.clone()) } else { meta::parse(&text) };
            let step = match parsed {
                // What goes on with a line is no command.
                Meta::Line(line) if begins => Step::Send { message: message(&line, ends), begins },
                _ if !begins || !ends => Step::Send { message: message(&text, ends), begins },
                Meta::Quit => {
                    self.ended = true;
                    self.lines = Lines::default();
                    return;
                }
                command => Step::Command(command),
            };
            self.steps.push_back(step);
        }
    }

    /// A line as text. One that is none is told, and goes all the same, so that the lines behind it keep their
    /// places.
    fn text(&mut self, bytes: &[u8]) -> String {
        match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                let line = self.count + u64::from(self.inside);
                self.say(&format!("line {line} is not UTF-8; what cannot be read is sent as U+FFFD"));
                String::from_utf8_lossy(bytes).into_owned()
            }
        }
    }

    /// Does what can be done now.
    fn step(&mut self, context: &mut Context<'_>) -> Result<(), Ending> {
        while let Some(step) = self.steps.pop_front() {
            if let Some(step) = self.try_step(step, context)? {
                self.steps.push_front(step);
                return Ok(());
            }
            self.since = Instant::now();
        }
        if self.ended && !self.finished && self.lines.len() == 0 {
            self.finished = true;
            match self.session.finish() {
                // Why the connection is over, is told behind the output.
                Ok(()) | Err(Unsent::Stopped | Unsent::Over(_)) => {}
                Err(error) => return Err(Ending::Lost(error.to_string())),
            }
        }
        Ok(())
    }

    /// Returns the step if it has to wait, or what is left of it.
    fn try_step(&mut self, step: Step, context: &mut Context<'_>) -> Result<Option<Step>, Ending> {
        match step {
            Step::Send { message, begins } => {
                if begins && !self.session.console().may_send(AHEAD) {
                    return Ok(Some(Step::Send { message, begins }));
                }
                match self.session.try_send(message.clone()) {
                    Ok(_) => Ok(None),
                    Err(Unsent::Full) => {
                        // There is room for a short line, but not for this one; otherwise the bell rings.
                        let cramped = self.session.poll_ready(context).is_ready();
                        self.retry = cramped.then(|| Instant::now() + RETRY);
                        Ok(Some(Step::Send { message, begins }))
                    }
                    Err(Unsent::TooLarge { limit }) => self.divide(message, limit, begins),
                    // Why, is told behind the output.
                    Err(Unsent::Over(_) | Unsent::Stopped) => Ok(None),
                    Err(error) => Err(Ending::Lost(error.to_string())),
                }
            }
            Step::Command(Meta::Interrupt) if self.is_person() => self.interrupt().map(|()| None),
            Step::Command(Meta::Interrupt) => {
                let number = self.session.console().sent();
                self.try_step(Step::Interrupted { number, sent: false }, context)
            }
            Step::Command(command) => {
                let waits = !self.is_person()
                    && !self.session.console().is_settled()
                    && self.since.elapsed() < SETTLE;
                // A kernel that serves another console, or a link that is lost, cannot answer.
                let cannot = !self.is_person()
                    && !self.session.console().may_ask()
                    && self.session.console().activity() != Activity::Over;
                if waits || cannot {
                    return Ok(Some(Step::Command(command)));
                }
                self.command(command);
                Ok(self.questions.has_command().then_some(Step::Answer))
            }
            Step::Answer => Ok(self.questions.has_command().then_some(Step::Answer)),
            Step::Interrupted { number, sent } => self.interrupted(number, sent),
        }
    }

    /// A kernel that takes smaller messages gets smaller pieces.
    fn divide(&mut self, mut message: Bytes, limit: u32, begins: bool) -> Result<Option<Step>, Ending> {
        let limit = limit as usize;
        if limit == 0 || message.len() <= limit {
            return Err(Ending::Lost("the kernel takes no lines".to_owned()));
        }
        let rest = message.split_off(limit);
        self.steps.push_front(Step::Send { message: rest, begins: false });
        Ok(Some(Step::Send { message, begins }))
    }

    /// The line before is stopped once the kernel has read it, if it runs still. The number keeps the interrupt
    /// from another line, and what comes next waits until it is over.
    fn interrupted(&mut self, number: u64, sent: bool) -> Result<Option<Step>, Ending> {
        let console = self.session.console();
        if number == 0 || console.is_over(number) || console.activity() == Activity::Over {
            return Ok(None);
        }
        if sent {
            // A statement may go on in spite of it, and ask for more lines.
            return Ok((!self.waits_again).then_some(Step::Interrupted { number, sent }));
        }
        if console.read() < number {
            return Ok(Some(Step::Interrupted { number, sent }));
        }
        let command = console.interrupt_message(number);
        match self.session.command(&command) {
            Ok(()) => {
                self.waits_again = false;
                Ok(Some(Step::Interrupted { number, sent: true }))
            }
            // It takes commands at once, or it is stopped.
            Err(Unsent::Full) => Ok(Some(Step::Interrupted { number, sent })),
            Err(_) => Ok(None),
        }
    }

    /// Of a person: what is seen running is stopped.
    fn interrupt(&mut self) -> Result<(), Ending> {
        if self.link_lost {
            self.say("the link is lost; the interrupt waits for it");
        }
        match self.session.interrupt() {
            Ok(_) => {}
            Err(Unsent::Over(cause)) => return Err(lost(&cause)),
            Err(error) => self.say(&error.to_string()),
        }
        Ok(())
    }

    fn command(&mut self, command: Meta) {
        let request = |code: String, make: fn(String, usize) -> Operation| {
            let cursor = code.chars().count();
            make(code, cursor)
        };
        let operation = match command {
            Meta::Status => {
                self.answered(Ok(format!("{}\n", self.session.console().activity().describe())));
                return;
            }
            Meta::Complete(code) => request(code, |code, cursor| Operation::Complete { code, cursor }),
            Meta::Inspect(code) => request(code, |code, cursor| Operation::Inspect { code, cursor }),
            Meta::Line(line) | Meta::Unknown(line) => {
                self.answered(Err(meta::unknown(&line)));
                return;
            }
            Meta::Take => {
                match self.session.take_input() {
                    Ok(()) => self.takes = true,
                    Err(error) => self.answered(Err(error.to_string())),
                }
                return;
            }
            Meta::Interrupt | Meta::Quit => return,
        };
        match self.session.request(operation) {
            Ok(id) => self.questions.ask(id, Purpose::Command),
            Err(error) => self.answered(Err(error.to_string())),
        }
    }

    fn answered(&mut self, words: Result<String, String>) {
        match words {
            Ok(text) => self.stdout.push(text.as_bytes()),
            Err(text) => self.stderr.push(format!("{text}\n").as_bytes()),
        }
        self.prompted = None;
    }

    // -- The kernel ------------------------------------------------------------------------------------------

    /// Writes what the other stream has, so that the order is that of the kernel where both lead to one place.
    fn order(&mut self, to_stderr: bool) -> Result<(), Ending> {
        let other = if to_stderr { &mut self.stdout } else { &mut self.stderr };
        // One that takes nothing now is later.
        other.flush().map(drop).map_err(|error| not_written(&error))
    }

    fn flush(&mut self) -> Result<(), Ending> {
        // What was said first is written first, as far as it is known.
        self.stdout.flush().map_err(|error| not_written(&error))?;
        self.stderr.flush().map_err(|error| not_written(&error))?;
        Ok(())
    }

    /// The console's own words.
    fn say(&mut self, what: &str) {
        let line =
            if self.is_person() { format!("[{what}]\n") } else { format!("{}: {what}\n", self.options.name) };
        self.stderr.push(line.as_bytes());
        self.prompted = None;
    }

    /// For a person: shows that the kernel waits for a line.
    fn prompt(&mut self) -> Result<(), Ending> {
        let activity = self.session.console().activity();
        if !self.is_person() || self.finished || self.prompted == Some(activity) {
            return Ok(());
        }
        let prompt = match activity {
            Activity::Idle => "> ",
            Activity::Incomplete => ". ",
            // The program's own prompt stands there already.
            Activity::Waiting if self.begun => "",
            Activity::Waiting => "? ",
            _ => return Ok(()),
        };
        self.order(false)?;
        if activity != Activity::Waiting && (self.begun || self.prompted.is_some()) {
            self.stdout.push(b"\n");
            self.begun = false;
        }
        self.stdout.push(prompt.as_bytes());
        self.prompted = Some(activity);
        Ok(())
    }

    /// Output begins behind a prompt that nothing was typed at: it gets a line of its own.
    fn unprompt(&mut self) {
        if self.prompted.take().is_some_and(|at| at != Activity::Waiting) {
            self.stdout.push(b"\n");
        }
    }

    /// Writes what is left. Signals end a person's console all the same; a script dies of them.
    fn end(&mut self, ending: Ending) -> Ending {
        if self.is_person() && self.begun {
            self.stdout.push(b"\n");
        }
        loop {
            match self.stdout.flush().and_then(|out| Ok(out & self.stderr.flush()?)) {
                Ok(true) => return ending,
                Ok(false) => {}
                // A second reason is no better.
                Err(_) if !matches!(ending, Ending::Finished | Ending::StatementFailed) => return ending,
                Err(error) => return not_written(&error),
            }
            let sinks = [&self.stdout, &self.stderr];
            if let Err(error) = wait(&self.bell, self.signals.as_ref(), None, &sinks, None) {
                return Ending::Unusable(error.to_string());
            }
            if let Some(signals) = &self.signals
                && let Some(signal) = signals.pending().first()
            {
                return Ending::Signal(*signal);
            }
        }
    }
}

fn message(line: &str, ends: bool) -> Bytes {
    let mut message = BytesMut::with_capacity(line.len() + 1);
    message.extend_from_slice(line.as_bytes());
    if ends {
        message.extend_from_slice(b"\n");
    }
    message.freeze()
}

fn not_written(error: &io::Error) -> Ending {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Ending::ReaderGone
    } else {
        Ending::Unusable(format!("the output cannot be written: {error}"))
    }
}
