//! The console of a person at a terminal: a line editor that is always there, and output above it.
//!
//! One thread does it all: it waits by `poll(2)` for keys, signals, the kernel and the terminal at once. So no
//! key waits for the kernel, and Ctrl-C is a key like any other.

mod area;
mod column;
mod editor;
mod escapes;
mod hearing;
mod history;
mod keys;
mod protocols;
mod screen;
mod typing;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use area::View;
use bytes::Bytes;
use editor::Editor;
use keys::{Key, Keys};
use protocols::Protocol;
use screen::Screen;
use signal_hook::consts::{SIGCONT, SIGINT, SIGTSTP, SIGWINCH};
use trunkline_kernel::console::{Activity, Session, Unsent};
use trunkline_kernel::layout::Picture;

use crate::ending::Ending;
use crate::options::Options;
use crate::pictures::Files;
use crate::questions::{NO_ANSWER, Questions};
use crate::sys::tty::{self, Manner, Tty};
use crate::sys::{Bell, Signals, Sink, Source, in_order, unreadable, wait};

/// How long a line has until the next prompt is drawn: what is done by then has its output before the prompt
/// and not above it.
const QUICK: Duration = Duration::from_millis(200);
/// Behind the line while the link is lost.
const TRYING: &str = "  [link lost, trying…]";
/// Lines that the kernel has not taken, in bytes; while there are more, no key is read.
const QUEUE: usize = 1 << 20;
/// How long the terminal has to say whether it can show pictures.
const ABILITIES: Duration = Duration::from_secs(1);
/// Output for a redirected standard error that it has not taken.
const STDERR_ROOM: usize = 64 * 1024;
/// How much of a line is looked at on each side of the cursor, in bytes.
const IN_VIEW: usize = 16 * 1024;
/// So many names are listed at Tab.
const LISTED: usize = 100;
/// A line that found no room is tried again so much later, if nothing says when there is.
const RETRY: Duration = Duration::from_millis(10);
/// Of a message of output so much is shown at a time.
const PIECE: usize = 16 * 1024;
/// How long a signal may take that is sure to come. The process waits for no other.
const DELIVERY: Duration = Duration::from_secs(1);
/// How long the last output may take if the terminal takes nothing.
const LAST: Duration = Duration::from_secs(2);

struct Terminal<'a> {
    session: &'a mut Session,
    options: &'a Options,
    tty: Tty,
    signals: Signals,
    /// Signals that came while the process was stopped.
    late: Vec<i32>,
    bell: Arc<Bell>,
    source: Source,
    keys: Keys,
    /// The key that stops the process, mostly Ctrl-Z.
    suspend: Option<Key>,
    editor: Editor,
    screen: Screen,
    /// Where the kernel's standard error goes, if not to the terminal.
    stderr: Option<Sink>,
    /// Lines that the kernel has not taken yet, and as they were typed.
    queue: VecDeque<(Bytes, String)>,
    queued: usize,
    questions: Questions,
    pictures: Pictures,
    /// No prompt is drawn until then: the kernel may be done at once.
    quiet: Option<Instant>,
    /// What is not shown yet of a message of output, and where it goes.
    rest: Bytes,
    rest_is_error: bool,
    /// There is more of what the kernel says, which had no room.
    more: bool,
    /// When a line is tried again that found no room.
    retry: Option<Instant>,
    /// What the kernel said last: whether a statement runs, and how many lines it had read.
    last: (bool, u64),
    /// Output that was not shown since the interrupt, in bytes.
    skipped: Option<u64>,
    link_lost: bool,
    /// The person has ended the input.
    leaving: bool,
    failed: bool,
    told_of_turn: Option<Instant>,
    /// The kernel was told that there are no more lines.
    has_finished: bool,
    /// Nothing is drawn yet, since more keys are there.
    hurries: bool,
    /// No key is read.
    paused: bool,
    /// How large the kernel knows the terminal to be.
    told_size: Option<(usize, usize)>,
    /// The input of a kernel that is shared was asked for.
    takes: bool,
    /// The client that owns the input, as the roster of a hub said last, if it did.
    owner: Option<Option<u64>>,
}

struct Pictures {
    protocol: Option<Protocol>,
    /// The terminal was asked, and what waits for its answer.
    asked: Option<(Instant, Picture)>,
    answered: bool,
    files: Files,
}

/// Is the console of a kernel until one of the two ends.
///
/// # Errors
///
/// If standard input or output is no terminal, or the system has no descriptors left.
pub(crate) fn run(session: &mut Session, options: &Options) -> io::Result<Ending> {
    let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let signals = Signals::take()?;
    let tty = Tty::enter(stdin, Manner::Keys)?;
    let to_file = !rustix::termios::isatty(rustix::stdio::stderr());
    let mut terminal = Terminal {
        suspend: tty.suspend_key().map(|byte| Key::Ctrl((byte | 0x40).into())),
        tty,
        signals,
        late: Vec::new(),
        bell: Bell::new()?,
        source: Source::new(tty::reopen(stdin)?),
        keys: Keys::new(),
        editor: Editor::new(),
        screen: Screen::new(tty::reopen(stdout)?, tty::size(stdout)),
        stderr: if to_file { Some(Sink::stderr(true)?) } else { None },
        queue: VecDeque::new(),
        queued: 0,
        questions: Questions::default(),
        pictures: Pictures {
            protocol: protocols::known(),
            asked: None,
            answered: false,
            files: Files::new(options.pictures.clone()),
        },
        quiet: Some(Instant::now() + QUICK),
        rest: Bytes::new(),
        rest_is_error: false,
        more: true,
        retry: None,
        last: (false, 0),
        skipped: None,
        link_lost: false,
        leaving: false,
        failed: false,
        told_of_turn: Some(Instant::now() + Duration::from_secs(1)),
        has_finished: false,
        hurries: false,
        paused: false,
        told_size: None,
        takes: false,
        owner: None,
        session,
        options,
    };
    Ok(terminal.run())
}

impl Terminal<'_> {
    fn run(&mut self) -> Ending {
        if !self.options.banner.is_empty() {
            self.say(&self.options.banner);
        }
        let ending = match self.work() {
            Ok(never) => match never {},
            Err(ending) => ending,
        };
        self.last_words(&ending);
        ending
    }

    fn work(&mut self) -> Result<std::convert::Infallible, Ending> {
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut context = Context::from_waker(&waker);
        let mut something = false;
        loop {
            self.take_signals()?;
            if something {
                self.read_keys()?;
            }
            self.send()?;
            // There is room for a short line, but not for this one; otherwise the bell rings when there is.
            let cramped = !self.queue.is_empty() && self.session.poll_ready(&mut context).is_ready();
            self.retry = cramped.then(|| Instant::now() + RETRY);
            self.listen(&mut context)?;
            self.look_for_secret();
            self.paint();
            self.flush()?;
            something = self.wait()?;
        }
    }

    fn wait(&mut self) -> Result<bool, Ending> {
        let now = Instant::now();
        let deadlines = [
            self.quiet,
            self.retry,
            self.screen.deadline().filter(|at| *at > now),
            self.questions.deadline(),
            self.told_of_turn,
            self.pictures.asked.as_ref().map(|(asked, _)| *asked + ABILITIES),
        ];
        let at_once = (self.more && self.may_show()).then_some(now);
        let deadline = deadlines.into_iter().chain([at_once]).flatten().min();
        if deadline.is_some_and(|deadline| deadline <= now) {
            self.expire(now);
        }
        // While the kernel takes nothing, keys wait in the terminal, and Ctrl-C is a signal.
        let pause = self.queued > QUEUE;
        if pause != self.paused {
            self.paused = pause;
            self.tty.set_signals(pause);
        }
        let source = (!pause).then_some(&self.source);
        let mut sinks = vec![self.screen.sink()];
        sinks.extend(&self.stderr);
        wait(&self.bell, Some(&self.signals), source, &sinks, deadline)
            .map_err(|error| Ending::Unusable(unreadable(&error)))
    }

    fn expire(&mut self, now: Instant) {
        if self.quiet.is_some_and(|until| until <= now) {
            self.quiet = None;
        }
        if self.told_of_turn.is_some_and(|at| at <= now) {
            self.told_of_turn = None;
            if self.session.console().activity() == Activity::Unserved {
                self.say("[waiting for the kernel, which serves another console]");
            }
        }
        for _ in 0..self.questions.expire(now) {
            self.say(NO_ANSWER);
        }
        if self.pictures.asked.as_ref().is_some_and(|(asked, _)| *asked + ABILITIES <= now) {
            self.abilities(false);
        }
    }

    // -- Signals -------------------------------------------------------------------------------------------

    fn take_signals(&mut self) -> Result<(), Ending> {
        let mut signals = std::mem::take(&mut self.late);
        signals.extend(self.signals.pending());
        for signal in in_order(signals) {
            match signal {
                SIGINT => self.interrupt()?,
                SIGWINCH => {
                    self.screen.resize(tty::size(rustix::stdio::stdout()));
                    self.tell_size();
                }
                SIGTSTP => self.stop(false),
                SIGCONT => self.go_on(),
                signal => return Err(Ending::Signal(signal)),
            }
        }
        Ok(())
    }

    /// Stops the process, and all others that the shell has started with it if a key of the terminal asks for it.
    fn stop(&mut self, all: bool) {
        self.screen.leave();
        // A terminal that takes nothing now shows it later.
        drop(self.screen.flush());
        self.tty.restore();
        // Signals can come on any thread of the process, later than what they do to it. The one that stops the
        // others must not stop this process twice, and the one that lets it go on comes before anything is drawn.
        if all {
            tty::stop_group();
            self.await_signal(SIGTSTP);
        }
        self.late.extend(self.signals.pending());
        self.late.retain(|signal| *signal != SIGCONT);
        tty::stop_alone();
        self.await_signal(SIGCONT);
        self.go_on();
    }

    /// Waits for a signal that is sure to come, and takes it out of those that came.
    fn await_signal(&mut self, signal: i32) {
        let deadline = Instant::now() + DELIVERY;
        loop {
            self.late.extend(self.signals.pending());
            let there = self.late.len();
            self.late.retain(|late| *late != signal);
            let has_come = self.late.len() < there;
            if has_come
                || Instant::now() >= deadline
                || wait(&self.bell, Some(&self.signals), None, &[], Some(deadline)).is_err()
            {
                return;
            }
        }
    }

    /// The process was stopped, by itself or by another, and goes on.
    fn go_on(&mut self) {
        // One that is gone is noticed when a key is read.
        drop(self.tty.resume());
        self.screen.come_back(tty::size(rustix::stdio::stdout()));
        self.tell_size();
    }

    // -- The kernel ----------------------------------------------------------------------------------------

    fn send(&mut self) -> Result<(), Ending> {
        while let Some((message, line)) = self.queue.pop_front() {
            match self.session.try_send(message.clone()) {
                Ok(number) => {
                    self.queued -= message.len();
                    self.editor.history.add(&line, Some(number));
                }
                Err(Unsent::Full) => {
                    self.queue.push_front((message, line));
                    return Ok(());
                }
                Err(Unsent::Over(_)) => {
                    // Why, is told behind the output.
                    self.queue.clear();
                    self.queued = 0;
                }
                Err(error) => {
                    self.queued -= message.len();
                    self.say(&format!("[this line was not sent: {error}]"));
                }
            }
        }
        if self.leaving && !self.has_finished {
            self.has_finished = true;
            match self.session.finish() {
                // Why the connection is over, is told behind the output.
                Ok(()) | Err(Unsent::Stopped | Unsent::Over(_)) => {}
                Err(error) => return Err(Ending::Lost(error.to_string())),
            }
        }
        Ok(())
    }

    /// Says something of the console's own.
    fn say(&mut self, text: &str) {
        self.screen.note(text, self.session.console().activity() == Activity::Waiting);
    }

    fn view(&self) -> View {
        let activity = self.session.console().activity();
        let inline = activity == Activity::Waiting && self.screen.has_begun_line();
        let prompt = match (self.editor.search_prompt(), inline) {
            (Some(search), _) => search,
            (None, true) => String::new(),
            (None, false) => prompt(activity).to_owned(),
        };
        // Of a very long line only what is around the cursor: no screen has more.
        let (text, cursor) =
            if self.editor.is_secret() { ("", 0) } else { (self.editor.text(), self.editor.cursor()) };
        let begin = text.floor_char_boundary(cursor.saturating_sub(IN_VIEW));
        let end = text.ceil_char_boundary((cursor + IN_VIEW).min(text.len()));
        View {
            inline: inline && self.editor.search_prompt().is_none(),
            prompt,
            text: text[begin..end].to_owned(),
            cursor: cursor - begin,
            hint: if self.link_lost { TRYING.to_owned() } else { String::new() },
        }
    }

    fn paint(&mut self) {
        if std::mem::take(&mut self.hurries) {
            return;
        }
        let is_quiet = self.quiet.is_some() && self.editor.text().is_empty() && !self.link_lost;
        if is_quiet || self.leaving {
            self.screen.paint(None);
        } else {
            let view = self.view();
            self.screen.paint(Some(&view));
        }
    }

    fn flush(&mut self) -> Result<(), Ending> {
        if let Some(stderr) = &mut self.stderr {
            stderr.flush().map_err(|error| not_written(&error, "standard error"))?;
        }
        match self.screen.flush() {
            Ok(_) => Ok(()),
            // Both mean that the terminal is gone.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                Err(Ending::Signal(signal_hook::consts::SIGHUP))
            }
            Err(error) => Err(not_written(&error, "terminal")),
        }
    }

    /// Writes what is left, and leaves the cursor at the beginning of a row.
    fn last_words(&mut self, ending: &Ending) {
        if !self.editor.text().is_empty() && !self.editor.is_secret() {
            // What was typed and not sent can still be read.
            self.screen.commit(&View { text: self.editor.text().to_owned(), ..self.view() });
        }
        if let Some(message) = ending.message().filter(|_| self.stderr.is_some()) {
            // It is told on standard error too, which leads elsewhere.
            self.screen.note(message, false);
        }
        self.screen.end();
        let deadline = Instant::now() + LAST;
        while let Ok(false) = self.screen.flush() {
            let sinks = [self.screen.sink()];
            if Instant::now() >= deadline || wait(&self.bell, None, None, &sinks, Some(deadline)).is_err() {
                return;
            }
        }
        if let Some(stderr) = &mut self.stderr {
            drop(stderr.flush());
        }
    }
}

fn prompt(activity: Activity) -> &'static str {
    match activity {
        Activity::Idle => "> ",
        Activity::Incomplete => ". ",
        Activity::Waiting => "? ",
        _ => "* ",
    }
}

fn not_written(error: &io::Error, what: &str) -> Ending {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Ending::ReaderGone
    } else {
        Ending::Unusable(format!("the {what} cannot be written: {error}"))
    }
}
