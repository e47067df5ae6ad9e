//! The console of a person: line editing, history, Tab, Ctrl-C and Ctrl-D.
//!
//! The line editor is there all the time, also while the kernel is busy, so that Ctrl-C is a key
//! like any other and lines can be typed ahead. What the kernel says appears above the line that
//! is being edited. The prompt shows what the kernel does: `>` idle, `.` it waits for the rest of
//! a statement, `*` busy, `?` waiting for input.

use std::borrow::Cow;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{ColorMode, CompletionType, Config, Context, Editor, ExternalPrinter, Helper};

use crate::Failure;
use crate::console::{Console, Ending, Introspection, Said};
use crate::layout::Activity;
use crate::meta::{self, Meta};

/// How long a line has until the next prompt is shown: what is done by then has its output before
/// the prompt and not above it.
const QUICK: Duration = Duration::from_millis(200);

pub struct Terminal {
    editor: Editor<Assistant, DefaultHistory>,
    screen: Arc<Mutex<Screen>>,
}

/// What the thread that follows the kernel and the line editor share.
struct Screen {
    printer: Box<dyn ExternalPrinter + Send>,
    activity: Activity,
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
        let printer = Box::new(editor.create_external_printer()?);
        let screen =
            Screen { printer, activity: Activity::Idle, partial: Vec::new(), editing: false, gone: false };
        Ok(Self { editor, screen: Arc::new(Mutex::new(screen)) })
    }

    /// Shows what the kernel says.
    pub fn show(&self) -> impl FnMut(Said<'_>) -> io::Result<()> + Send + 'static {
        let screen = Arc::clone(&self.screen);
        move |said| screen.lock().show(said)
    }

    pub fn run(mut self, console: &mut Console) -> Ending {
        let introspection = Rc::clone(&console.introspection);
        self.editor.set_helper(Some(Assistant { introspection, screen: Arc::clone(&self.screen) }));
        println!(
            "Rhai in another process. Ctrl-C interrupts, Ctrl-D ends, Tab completes; :inspect NAME, :status."
        );
        match self.feed(console).and_then(|()| console.finish()) {
            Ok(()) => console.ending(),
            Err(ending) => ending,
        }
    }

    fn feed(&mut self, console: &mut Console) -> Result<(), Ending> {
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
                        Meta::Line(line) => console.send(line)?,
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
        let prompt = self.screen.lock().begin_editing()?;
        let line = catch_unwind(AssertUnwindSafe(|| self.editor.readline(&prompt)));
        let mut screen = self.screen.lock();
        screen.editing = false;
        match line {
            Ok(line) => Some(line),
            Err(_) if screen.gone => None,
            Err(panic) => resume_unwind(panic),
        }
    }
}

fn interrupt(console: &mut Console) -> Result<(), Ending> {
    if console.state().activity != Activity::Idle {
        console.interrupt(None)?;
        console.wait(Some(QUICK), |state| state.activity == Activity::Idle)?;
    }
    Ok(())
}

impl Screen {
    fn show(&mut self, said: Said<'_>) -> io::Result<()> {
        match said {
            Said::Text(_, text) => {
                let lines = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                if lines > 0 {
                    self.partial.extend_from_slice(&text[..lines]);
                    self.flush()?;
                }
                self.partial.extend_from_slice(&text[lines..]);
                Ok(())
            }
            Said::State(state) => {
                let changed = self.activity != state.activity;
                self.activity = state.activity;
                // The prompt of an `input()` becomes the editor's, unless that shows one already.
                let keep =
                    self.activity == Activity::Busy || self.activity == Activity::Waiting && !self.editing;
                if !self.partial.is_empty() && !keep {
                    self.flush()
                } else if changed && self.editing {
                    self.repaint()
                } else {
                    Ok(())
                }
            }
            Said::Over(ending) => {
                self.gone = true;
                if !self.partial.is_empty() {
                    self.flush()?;
                }
                if self.editing && !matches!(ending, Ending::Finished) { self.repaint() } else { Ok(()) }
            }
        }
    }

    /// Shows the lines that there are, and the beginning of one as a line.
    fn flush(&mut self) -> io::Result<()> {
        let mut text = String::from_utf8_lossy(&self.partial).into_owned();
        self.partial.clear();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        self.print(text)
    }

    /// Lets the editor draw its prompt again: it does so after something was printed, which here
    /// goes up one line and down again.
    fn repaint(&mut self) -> io::Result<()> {
        self.print("\x1b[A\n".to_owned())
    }

    fn print(&mut self, text: String) -> io::Result<()> {
        self.printer.print(text).map_err(io::Error::other)
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
    screen: Arc<Mutex<Screen>>,
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
        let screen = self.screen.lock();
        if screen.gone {
            // The kernel is gone, and the editor would wait for a key. It has no other way out that
            // leaves the terminal as it was; no panic hook is called.
            drop(screen);
            resume_unwind(Box::new(()));
        }
        let all = [Activity::Idle, Activity::Incomplete, Activity::Busy, Activity::Waiting];
        if all.iter().any(|&activity| prompt(activity) == shown) {
            prompt(screen.activity).into()
        } else {
            shown.into()
        }
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Validator for Assistant {}

impl Helper for Assistant {}
