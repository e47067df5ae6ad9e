//! The console of a person: line editing, history, Tab, Ctrl-C and Ctrl-D.
//!
//! The line editor is there all the time, also while the kernel is busy, so that Ctrl-C is a key
//! like any other and lines can be typed ahead. What the kernel says appears above the line that
//! is being edited. The prompt shows what the kernel does: `>` idle, `.` it waits for the rest of
//! a statement, `*` busy, `?` waiting for input. While the link is lost, `[reconnecting…]` stands
//! behind the line.

use std::borrow::Cow;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{ColorMode, CompletionType, Config, Context, Editor, ExternalPrinter, Helper};

use crate::Failure;
use crate::console::{self, Console, Ending, Introspection, Link, Said, Unsent};
use crate::layout::Activity;
use crate::meta::{self, Meta};
use crate::tty::Keys;

/// How long a line has until the next prompt is shown: what is done by then has its output before
/// the prompt and not above it.
const QUICK: Duration = Duration::from_millis(200);

/// Behind the line while the link is lost.
const RECONNECTING: &str = "  [reconnecting…]";

/// How much may wait for the line editor to show it.
const BACKLOG: usize = 1 << 20;

pub struct Terminal {
    editor: Editor<Assistant, DefaultHistory>,
    shared: Arc<Shared>,
}

/// What the thread that follows the kernel and the line editor share.
struct Shared {
    screen: Mutex<Screen>,
    /// There is room for more, or the line editor is gone.
    room: Condvar,
    /// To the thread that wakes the line editor.
    wake: Sender<()>,
}

/// Nobody waits for the line editor with this in his hands: it takes it itself.
struct Screen {
    activity: Activity,
    link: Link,
    /// Lines that the line editor shows when it draws its prompt.
    pending: String,
    /// The beginning of a line: the prompt of an `input()`.
    partial: Vec<u8>,
    /// The line editor shows its prompt.
    editing: bool,
    gone: bool,
}

impl Terminal {
    pub fn new() -> Result<Self, Failure> {
        // The prompt changes while it is shown; that is done by colouring it.
        let config =
            Config::builder().color_mode(ColorMode::Forced).completion_type(CompletionType::List).build();
        let mut editor = Editor::with_config(config)?;
        let printer = editor.create_external_printer()?;
        let (wake, wakes) = bounded(1);
        thread::spawn(move || wake_editor(printer, &wakes));
        let screen = Mutex::new(Screen {
            activity: Activity::Idle,
            link: Link::Back,
            pending: String::new(),
            partial: Vec::new(),
            editing: false,
            gone: false,
        });
        Ok(Self { editor, shared: Arc::new(Shared { screen, room: Condvar::new(), wake }) })
    }

    /// Shows what the kernel says.
    pub fn show(&self) -> impl FnMut(Said<'_>) -> io::Result<()> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move |said| shared.show(said)
    }

    pub fn run(mut self, console: &mut Console) -> Ending {
        let introspection = Rc::clone(&console.introspection);
        self.editor.set_helper(Some(Assistant { introspection, shared: Arc::clone(&self.shared) }));
        println!(
            "Rhai in another process. Ctrl-C interrupts, Ctrl-D ends, Tab completes; :inspect NAME, :status."
        );
        match self.feed(console) {
            // It would wait for the link.
            Ok(()) if console.link_is_lost() => Ending::Left,
            Ok(()) => console.finish().map_or_else(|ending| ending, |()| console.ending()),
            Err(ending) => ending,
        }
    }

    fn feed(&mut self, console: &mut Console) -> Result<(), Ending> {
        let mut keys = keep_keys()?;
        loop {
            let sent = console.sent();
            console.wait(Some(QUICK), |state| state.settled(sent))?;
            let line = self.edit();
            console.catch_up()?;
            match line {
                Some(Ok(line)) => {
                    // Fails only if the history is a file.
                    let _ = self.editor.add_history_entry(&line);
                    match meta::parse(&line) {
                        Meta::Quit => return Ok(()),
                        Meta::Interrupt => interrupt(console)?,
                        Meta::Line(line) => match send(console, line, &mut keys) {
                            Ok(()) => {}
                            Err(Unsent::TooLong(limit)) => eprintln!("{}", console::too_long(limit)),
                            Err(Unsent::Over(ending)) => return Err(ending),
                        },
                        _ if console.link_is_lost() => {
                            eprintln!("[the link is lost; ask again when it is back]");
                        }
                        meta => match meta::answer(console, meta) {
                            Ok(text) => print!("{text}"),
                            Err(text) => eprint!("{text}"),
                        },
                    }
                }
                Some(Err(ReadlineError::Interrupted)) => interrupt(console)?,
                Some(Err(ReadlineError::Eof)) => return Ok(()),
                Some(Err(error)) => return Err(Ending::NotShown(error.to_string())),
                None => return Err(console.ending()),
            }
        }
    }

    /// A line; nothing if the kernel is gone.
    fn edit(&mut self) -> Option<rustyline::Result<String>> {
        let prompt = self.shared.screen.lock().begin_editing()?;
        let line = catch_unwind(AssertUnwindSafe(|| self.editor.readline(&prompt)));
        let mut screen = self.shared.screen.lock();
        screen.editing = false;
        self.shared.room.notify_all();
        if let Err(error) = screen.write() {
            return Some(Err(error.into()));
        }
        match line {
            Ok(line) => Some(line),
            Err(_) if screen.gone => None,
            Err(panic) => resume_unwind(panic),
        }
    }
}

fn keep_keys() -> Result<Option<Keys>, Ending> {
    Keys::keep().map(Some).map_err(|error| Ending::NotShown(error.to_string()))
}

/// Gives the kernel a line. While it takes none, no key is read, so Ctrl-C must be a signal again.
fn send(console: &mut Console, line: &str, keys: &mut Option<Keys>) -> Result<(), Unsent> {
    if !console.try_send(line)? {
        println!("[the kernel has not read what is before this line; Ctrl-C ends the console]");
        *keys = None;
        console.send(line)?;
        *keys = keep_keys()?;
    }
    Ok(())
}

fn interrupt(console: &mut Console) -> Result<(), Ending> {
    if console.link_is_lost() {
        println!("[the link is lost; an interrupt waits for it like all else, Ctrl-D leaves]");
    }
    if console.state().activity != Activity::Idle {
        // It overtakes lines that wait as well.
        console.interrupt(None)?;
        console.wait(Some(QUICK), |state| state.activity == Activity::Idle)?;
    }
    Ok(())
}

/// Lets the editor draw its prompt again, and what is pending above it: it does so after something
/// was printed, which here goes up one line and down again. This waits for the editor while no line
/// is edited, so it is a thread of its own.
fn wake_editor(mut printer: impl ExternalPrinter, wakes: &Receiver<()>) {
    while wakes.recv().is_ok() {
        if printer.print("\x1b[A\n".to_owned()).is_err() {
            return;
        }
    }
}

impl Shared {
    fn show(&self, said: Said<'_>) -> io::Result<()> {
        let mut screen = self.screen.lock();
        let repaint = screen.show(said);
        if !screen.editing {
            return screen.write();
        }
        if repaint || !screen.pending.is_empty() {
            self.wake(&mut screen);
        }
        Ok(())
    }

    fn wake(&self, screen: &mut MutexGuard<'_, Screen>) {
        // One that is full wakes the editor later than now.
        if let Err(TrySendError::Disconnected(())) = self.wake.try_send(()) {
            return;
        }
        while screen.editing && !screen.gone && screen.pending.len() > BACKLOG {
            self.room.wait(screen);
        }
    }
}

impl Screen {
    /// Takes in what the kernel says; whether the editor's prompt has to change.
    fn show(&mut self, said: Said<'_>) -> bool {
        match said {
            Said::Text(_, text) => {
                let lines = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                if lines > 0 {
                    self.partial.extend_from_slice(&text[..lines]);
                    self.flush();
                }
                self.partial.extend_from_slice(&text[lines..]);
                false
            }
            Said::State(state) => {
                let changed = self.activity != state.activity;
                self.activity = state.activity;
                // The prompt of an `input()` becomes the editor's, unless that shows one already.
                let keep =
                    self.activity == Activity::Busy || self.activity == Activity::Waiting && !self.editing;
                if !self.partial.is_empty() && !keep {
                    self.flush();
                }
                changed
            }
            Said::Link(link) => {
                self.link = link;
                // Without a prompt in which it could stand: somebody who has left waits for the rest.
                if !self.editing {
                    self.pending.push_str(match link {
                        Link::Lost => "[the link is lost; reconnecting]\n",
                        Link::Back => "[the link is back]\n",
                    });
                }
                true
            }
            Said::Over(ending) => {
                self.gone = true;
                if !self.partial.is_empty() {
                    self.flush();
                }
                !matches!(ending, Ending::Finished)
            }
        }
    }

    /// Shows the lines that there are, and the beginning of one as a line.
    fn flush(&mut self) {
        self.pending.push_str(&String::from_utf8_lossy(&self.partial));
        self.partial.clear();
        if !self.pending.ends_with('\n') {
            self.pending.push('\n');
        }
    }

    /// Writes what is pending, while no line is edited.
    fn write(&mut self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(std::mem::take(&mut self.pending).as_bytes())?;
        stdout.flush()
    }

    /// The prompt for the next line; nothing if there will be none.
    fn begin_editing(&mut self) -> Option<String> {
        if self.gone {
            return None;
        }
        self.editing = true;
        if self.activity == Activity::Waiting && !self.partial.is_empty() {
            return Some(String::from_utf8_lossy(&std::mem::take(&mut self.partial)).into_owned());
        }
        Some(prompt(self.activity).to_owned())
    }
}

/// All of one width: one is drawn in the place of another.
fn prompt(activity: Activity) -> &'static str {
    match activity {
        Activity::Idle => "> ",
        Activity::Incomplete => ". ",
        Activity::Busy => "* ",
        Activity::Waiting => "? ",
    }
}

/// What the editor asks while a line is edited.
struct Assistant {
    introspection: Rc<Introspection>,
    shared: Arc<Shared>,
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let before = &line[..position];
        let start = before
            .rfind(|c: char| !c.is_alphanumeric() && c != '_')
            .map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
        let prefix = &before[start..];
        // A kernel that does not answer completes nothing.
        let found = if prefix.is_empty() {
            Vec::new()
        } else {
            self.introspection.complete(prefix).unwrap_or_default()
        };
        Ok((start, found))
    }
}

impl Highlighter for Assistant {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, shown: &'p str, _: bool) -> Cow<'b, str> {
        let mut screen = self.shared.screen.lock();
        if screen.gone {
            // The kernel is gone, and the editor would wait for a key. It has no other way out that
            // leaves the terminal as it was; no panic hook is called.
            drop(screen);
            resume_unwind(Box::new(()));
        }
        let all = [Activity::Idle, Activity::Incomplete, Activity::Busy, Activity::Waiting];
        let known = all.iter().any(|&activity| prompt(activity) == shown);
        let now = if known { prompt(screen.activity) } else { shown };
        if screen.pending.is_empty() {
            return now.into();
        }
        // The editor has cleared its lines, and goes on from where its prompt ends.
        let text = std::mem::take(&mut screen.pending) + now;
        self.shared.room.notify_all();
        text.into()
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        match self.shared.screen.lock().link {
            Link::Lost => hint.into(),
            Link::Back => " ".repeat(hint.chars().count()).into(),
        }
    }
}

impl Hinter for Assistant {
    type Hint = LinkHint;

    fn hint(&self, _: &str, _: usize, _: &Context<'_>) -> Option<LinkHint> {
        Some(LinkHint)
    }
}

/// Behind the line, always of one width: like the prompt, one is drawn in the place of another.
struct LinkHint;

impl Hint for LinkHint {
    fn display(&self) -> &str {
        RECONNECTING
    }

    /// It is no part of the line.
    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Validator for Assistant {}

impl Helper for Assistant {}
