//! The console of a person at a terminal: a line editor that is always there, and output above it.
//!
//! One thread does it all: it waits by `poll(2)` for keys, signals, the kernel and the terminal at once. So no
//! key waits for the kernel, and Ctrl-C is a key like any other.

mod area;
mod column;
mod editor;
mod escapes;
mod history;
mod keys;
mod screen;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use area::View;
use bytes::Bytes;
use editor::{Action, Editor};
use keys::{Key, Keys};
use screen::Screen;
use signal_hook::consts::{SIGCONT, SIGINT, SIGTSTP, SIGWINCH};
use trunkline_kernel::console::{Activity, Said, Session, Unsent};
use trunkline_kernel::layout::{Answer, Operation, Picture, Reply, STDERR, Status};

use crate::ending::{Ending, lost};
use crate::meta::{self, Meta};
use crate::options::Options;
use crate::pictures::{self, Files, Protocol};
use crate::questions::{self, NO_ANSWER, Purpose, Questions};
use crate::sys::tty::{self, Manner, Tty};
use crate::sys::{Bell, Read, Signals, Sink, Source, unreadable, wait};

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
            protocol: pictures::known(),
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
        for signal in signals {
            match signal {
                SIGINT => self.interrupt()?,
                SIGWINCH => self.screen.resize(tty::size(rustix::stdio::stdout())),
                SIGTSTP => self.stop(tty::stop_alone),
                SIGCONT => self.go_on(),
                signal => return Err(Ending::Signal(signal)),
            }
        }
        Ok(())
    }

    fn stop(&mut self, stop: fn()) {
        self.screen.leave();
        // A terminal that takes nothing now shows it later.
        drop(self.screen.flush());
        self.tty.restore();
        stop();
        // The signal that has stopped it does so once.
        self.late = self.signals.pending();
        self.late.retain(|signal| ![SIGTSTP, SIGCONT].contains(signal));
        self.go_on();
    }

    /// The process was stopped, by itself or by another, and goes on.
    fn go_on(&mut self) {
        // One that is gone is noticed when a key is read.
        drop(self.tty.resume());
        self.screen.resize(tty::size(rustix::stdio::stdout()));
        self.screen.come_back();
    }

    // -- Keys ----------------------------------------------------------------------------------------------

    fn read_keys(&mut self) -> Result<(), Ending> {
        let mut buffer = [0; 4096];
        let read = match self.source.read(&mut buffer) {
            Ok(Read::Bytes(read)) => read,
            Ok(Read::Nothing) => return Ok(()),
            // The terminal is gone.
            Ok(Read::End) => return Err(Ending::Signal(signal_hook::consts::SIGHUP)),
            Err(error) => return Err(Ending::Unusable(unreadable(&error))),
        };
        // More is there, as of a paste: it is drawn when all is read.
        self.hurries = self.source.has_more();
        let mut pressed = Vec::new();
        self.keys.feed(&buffer[..read], |key| pressed.push(key));
        for key in pressed {
            if self.suspend == Some(key) {
                self.stop(tty::stop);
                continue;
            }
            match self.editor.press(key) {
                Action::None => {}
                Action::Accept(line) => self.accept(&line)?,
                Action::Interrupt(dropped) => {
                    self.screen.commit(&View { text: dropped + "^C", ..self.view() });
                    self.interrupt()?;
                }
                Action::End => self.end()?,
                Action::Quit => return Err(Ending::Signal(signal_hook::consts::SIGQUIT)),
                Action::Complete => self.complete(),
                Action::Clear => self.screen.clear(),
                Action::Abilities(sixel) => self.abilities(sixel),
                Action::Beep => self.screen.beep(),
            }
        }
        Ok(())
    }

    fn accept(&mut self, line: &str) -> Result<(), Ending> {
        self.screen.commit(&View { text: line.to_owned(), ..self.view() });
        if self.leaving {
            self.say("[the input has ended; this line is not sent]");
            return Ok(());
        }
        match meta::parse(line) {
            Meta::Line(text) => {
                self.queued += text.len() + 1;
                self.queue.push_back((Bytes::from(text + "\n"), line.to_owned()));
                self.quiet = Some(Instant::now() + QUICK);
                // At once, so that an interrupt that comes next knows the line.
                self.send()?;
            }
            command => {
                self.editor.history.add(line, None);
                self.command(command)?;
            }
        }
        Ok(())
    }

    fn command(&mut self, command: Meta) -> Result<(), Ending> {
        match command {
            Meta::Quit => self.end()?,
            Meta::Interrupt => self.interrupt()?,
            Meta::Status => {
                let link = if self.link_lost { ", as far as is known: the link is lost" } else { "" };
                self.say(&format!("{}{link}", self.session.console().activity().describe()));
            }
            Meta::Complete(code) => {
                let cursor = code.chars().count();
                self.ask(Operation::Complete { code, cursor });
            }
            Meta::Inspect(code) => {
                let cursor = code.chars().count();
                self.ask(Operation::Inspect { code, cursor });
            }
            Meta::Line(line) | Meta::Unknown(line) => self.say(&meta::unknown(&line)),
        }
        Ok(())
    }

    fn ask(&mut self, operation: Operation) {
        match self.session.request(operation) {
            Ok(id) => self.questions.ask(id, Purpose::Command),
            Err(Unsent::NotNow) if self.link_lost => {
                self.say("[the link is lost; ask again when it is back]");
            }
            Err(error) => self.say(&format!("[{error}]")),
        }
    }

    fn complete(&mut self) {
        let (text, cursor) = (self.editor.text().to_owned(), self.editor.cursor());
        if text[..cursor].trim().is_empty() {
            self.editor.replace(cursor, cursor, "    ");
            return;
        }
        let characters = text[..cursor].chars().count();
        match self.session.request(Operation::Complete { code: text.clone(), cursor: characters }) {
            Ok(id) => self.questions.ask(id, Purpose::Tab { text, cursor }),
            // It serves another console, or the link is lost: nothing is completed.
            Err(_) => self.screen.beep(),
        }
    }

    fn interrupt(&mut self) -> Result<(), Ending> {
        if self.link_lost {
            self.say("[the link is lost; the interrupt waits for it like all else, Ctrl-D leaves]");
        }
        match self.session.interrupt() {
            Ok(true) => {
                self.quiet = Some(Instant::now() + QUICK);
                self.skipped.get_or_insert(0);
            }
            Ok(false) => {}
            Err(Unsent::Full) => self.say("[the kernel takes no commands]"),
            Err(Unsent::Over(cause)) => return Err(lost(&cause)),
            Err(error) => self.say(&format!("[{error}]")),
        }
        Ok(())
    }

    /// No more lines: the kernel finishes what it was given.
    fn end(&mut self) -> Result<(), Ending> {
        if self.leaving {
            return Err(Ending::Lost("left before the kernel has finished".to_owned()));
        }
        if self.link_lost {
            return Err(Ending::Lost(
                "left while the link was lost; the kernel may not have read the last lines".to_owned(),
            ));
        }
        if self.session.console().activity() == Activity::Waiting && self.queue.is_empty() {
            // The program that waits is told that there is no more, and the session goes on.
            let view = self.view();
            self.screen.commit(&view);
            return match self.session.end_of_input() {
                Ok(()) | Err(Unsent::Over(_)) => Ok(()),
                Err(error) => {
                    self.say(&format!("[{error}]"));
                    Ok(())
                }
            };
        }
        self.leaving = true;
        Ok(())
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

    /// Takes what the kernel says, as long as there is room for it.
    fn listen(&mut self, context: &mut Context<'_>) -> Result<(), Ending> {
        while self.may_show() {
            if !self.rest.is_empty() {
                let piece = self.rest.split_to(self.rest.len().min(PIECE));
                self.show(&piece);
                continue;
            }
            match self.session.poll_next(context) {
                Poll::Ready(Some(said)) => self.hear(said)?,
                Poll::Ready(None) | Poll::Pending => {
                    self.more = false;
                    return Ok(());
                }
            }
        }
        // No bell rings for what is there already.
        self.more = true;
        Ok(())
    }

    fn show(&mut self, piece: &[u8]) {
        if self.rest_is_error
            && let Some(stderr) = &mut self.stderr
        {
            stderr.push(piece);
        } else if self.rest_is_error || !self.skips(piece.len()) {
            self.screen.output(piece);
        }
    }

    fn may_show(&self) -> bool {
        self.pictures.asked.is_none()
            && (self.screen.has_room() || self.skipped.is_some() && self.screen.sink().len() < STDERR_ROOM)
            && self.stderr.as_ref().is_none_or(|sink| sink.len() < STDERR_ROOM)
    }

    fn hear(&mut self, said: Said) -> Result<(), Ending> {
        match said {
            Said::Output(message) => {
                self.rest_is_error = message.channel() == STDERR;
                self.rest = message.into_bytes();
            }
            Said::Cut { messages, bytes, .. } => {
                let what = format!("[output was cut here: {messages} messages, {bytes} bytes]");
                self.screen.note(&what, false);
            }
            Said::Picture(picture) => self.picture(picture),
            Said::Status(status) => self.status(&status)?,
            Said::Answer(answer) => self.answer(answer),
            Said::Nonsense(what) => self.say(&format!("[{what}]")),
            Said::Deaf => self.say("[the kernel reads no more lines]"),
            Said::LinkLost(_) => {
                self.link_lost = true;
                if self.leaving {
                    self.say("[link lost, trying]");
                }
            }
            Said::LinkBack(_) => {
                self.link_lost = false;
                if self.leaving {
                    self.say("[the link is back]");
                }
            }
            Said::Finished => return Err(self.finished()),
            Said::Over(cause) => return Err(lost(&cause)),
            // It changes the prompt at most.
            _ => {}
        }
        Ok(())
    }

    /// Returns `true` if output is not to be shown: the statement that wrote it was interrupted, and the terminal
    /// is behind.
    fn skips(&mut self, bytes: usize) -> bool {
        let Some(skipped) = &mut self.skipped else { return false };
        // Once output was left out, all is, until the terminal has taken what came before.
        let is_behind = !self.screen.has_room() || *skipped > 0 && self.screen.sink().len() > 0;
        if is_behind {
            *skipped += bytes as u64;
        } else if *skipped > 0 {
            self.tell_skipped();
        }
        is_behind
    }

    fn tell_skipped(&mut self) {
        if let Some(bytes) = self.skipped.take().filter(|bytes| *bytes > 0) {
            self.say(&format!("[interrupted: {bytes} bytes of output are not shown]"));
        }
    }

    fn finished(&self) -> Ending {
        match (self.leaving, self.failed && self.options.report_failures) {
            (false, _) => Ending::Lost("the kernel has ended".to_owned()),
            (true, true) => Ending::StatementFailed,
            (true, false) => Ending::Finished,
        }
    }

    fn status(&mut self, status: &Status) -> Result<(), Ending> {
        self.told_of_turn = None;
        let settled = self.session.console().is_settled();
        if settled {
            self.quiet = None;
            self.tell_skipped();
        }
        let read = self.session.console().read();
        let (ran, before) = self.last;
        let runs = !matches!(status, Status::Idle(_) | Status::Incomplete(_));
        if read > before {
            // What a statement reads while it runs is an answer; what is read before one is a command.
            self.editor.history.settle(before + 1..=before + 1, ran);
            self.editor.history.settle(before + 2..=read, true);
        }
        if status.read().is_some() {
            self.last = (runs, read);
        }
        match status {
            Status::Hung(seconds) => {
                self.say(&format!("[the statement has not reacted to the interrupt for {seconds} s]"));
            }
            Status::Failed(_) => self.failed = true,
            Status::Exited(code) => {
                return Err(Ending::Lost(format!("the kernel has ended with exit code {code}")));
            }
            Status::Killed(signal) => {
                return Err(Ending::Lost(format!("the kernel was killed by SIG{signal}")));
            }
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, answer: Answer) {
        match (self.questions.answered(answer.id), answer.reply) {
            (Some(Purpose::Tab { text, cursor }), reply) => {
                // For another line than the one that stands there now.
                if text == self.editor.text() && cursor == self.editor.cursor() {
                    self.completed(&text, reply);
                }
            }
            (Some(Purpose::Command), reply) => {
                let (Ok(text) | Err(text)) = questions::words(reply);
                self.say(&text);
            }
            (None, _) => {}
        }
    }

    fn completed(&mut self, text: &str, reply: Reply) {
        let Reply::Complete { matches, start, end } = reply else { return self.screen.beep() };
        let byte = |characters: usize| text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
        let (start, end) = (byte(start), byte(end));
        let matches: Vec<String> =
            matches.into_iter().map(|it| it.chars().filter(|c| !c.is_control()).collect()).collect();
        let Some(first) = matches.first().filter(|_| start <= end) else { return self.screen.beep() };
        let common = matches.iter().fold(first.as_str(), |common, it| {
            let same = common.chars().zip(it.chars()).take_while(|(a, b)| a == b);
            &common[..same.map(|(a, _)| a.len_utf8()).sum()]
        });
        if matches.len() == 1 || common.chars().count() > text[start..end].chars().count() {
            let common = common.to_owned();
            self.editor.replace(start, end, &common);
            return;
        }
        let mut list = matches[..matches.len().min(LISTED)].join("  ");
        if matches.len() > LISTED {
            list += &format!("  … and {} more", matches.len() - LISTED);
        }
        self.say(&list);
    }

    fn picture(&mut self, picture: Picture) {
        match self.pictures.protocol {
            None if !self.pictures.answered => {
                self.screen.ask_abilities();
                // Output waits, so that the picture stands where it was made.
                self.pictures.asked = Some((Instant::now(), picture));
            }
            protocol => match protocol.and_then(|protocol| pictures::encode(protocol, &picture)) {
                Some(bytes) => self.screen.picture(&bytes),
                None => {
                    if let Some(line) = self.pictures.files.save(&picture) {
                        self.say(&line);
                    }
                }
            },
        }
    }

    /// The terminal has said whether it can show sixel, or has said nothing in time.
    fn abilities(&mut self, sixel: bool) {
        self.pictures.answered = true;
        if let Some((_, picture)) = self.pictures.asked.take() {
            self.pictures.protocol = sixel.then_some(Protocol::Sixel);
            self.picture(picture);
        }
    }

    // -- The terminal --------------------------------------------------------------------------------------

    fn view(&self) -> View {
        let activity = self.session.console().activity();
        let inline = activity == Activity::Waiting && self.screen.has_begun_line();
        let prompt = match (self.editor.search_prompt(), inline) {
            (Some(search), _) => search,
            (None, true) => String::new(),
            (None, false) => prompt(activity).to_owned(),
        };
        // Of a very long line only what is around the cursor: no screen has more.
        let (text, cursor) = (self.editor.text(), self.editor.cursor());
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
        if !self.editor.text().is_empty() {
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
