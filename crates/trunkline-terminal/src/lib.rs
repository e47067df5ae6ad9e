//! A console for a remote interpreter: what a person, or a script, sees of a kernel.
//!
//! The kernel runs in another process, and keeps the layout of [`trunkline_kernel`]. This crate is the other
//! end: [`attend`] gives the kernel the lines that are typed or stand in a script, and shows what it says.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use trunkline::{Config, Connection, Key};
//! use trunkline_terminal::{Options, attend, configure};
//!
//! fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
//!     let config = configure(Config::new(Key::from_file("kernel.key")?));
//!     let connection = Connection::connect("127.0.0.1:4000", config)?;
//!     let options = Options::new("console").banner("Ctrl-C interrupts, Ctrl-D ends, Tab completes.");
//!     Ok(attend(connection, &options).into())
//! }
//! ```
//!
//! # Three faces
//!
//! [`Mode::Auto`] chooses by what the standard streams are.
//!
//! | input and output | face |
//! |---|---|
//! | a terminal | a line editor that is always there, and output above the line that is edited |
//! | a terminal that only prints: `TERM` is unset or `dumb`, or the shell buffer of an editor | lines and prompts, no sequences |
//! | anything else | a script: lines in, output out, and then the end |
//!
//! # At a terminal
//!
//! The prompt tells what the kernel does: `>` idle, `.` it waits for the rest of a statement, `*` busy, `?` a
//! program waits for input. If the program has written a prompt of its own, the line stands behind that.
//!
//! - What is typed while a statement runs comes next. Each line of a paste is a line.
//! - Ctrl-C drops the line that is typed, and stops what runs. Keys that arrive behind it are kept. If the
//!   terminal is behind with output of the statement that was stopped, the rest is left out, and the console
//!   says how much.
//! - Tab asks the kernel, and no key waits for the answer. Ctrl-R searches the history, which has no answers to
//!   programs in it. The keys are those of Emacs.
//! - What a program asks for in secret, as a password, is not shown while it is typed. It is no command of the
//!   console's, stands in no history, and is dropped if the program waits for it no longer.
//! - The kernel is told how large the terminal is.
//! - Ctrl-D ends the input of a program that waits, or else the session: the kernel finishes what it was given.
//! - Ctrl-Z stops the process, and `fg` goes on. SIGTERM, SIGHUP, SIGQUIT and a panic of the thread restore the
//!   terminal.
//! - While the link is lost, `[link lost, trying…]` stands behind the line. Lines and interrupts wait for it.
//! - Standard error that leads elsewhere gets what the kernel writes to it.
//! - While the kernel takes no lines, 1 MiB of them waits in the console and the rest in the terminal.
//!
//! In a terminal that only prints, the system reads the line, so Ctrl-C does not drop what was typed of it:
//! Ctrl-U does.
//!
//! # In a script
//!
//! At most 64 lines are before the kernel. A line of any length is given on in pieces of 256 KiB. A line that
//! is not UTF-8 is told, and sent with U+FFFD in place of what cannot be read, so that the numbers of the
//! others stay right. Streams may be non-blocking.
//!
//! # Lines for the console
//!
//! | line | does |
//! |---|---|
//! | `:complete CODE` | shows what could stand at its end |
//! | `:inspect CODE` | shows what the thing at its end is |
//! | `:status` | shows what the kernel does |
//! | `:interrupt` | stops what runs; in a script the line before it, once the kernel has read it, and goes on when that is over |
//! | `:take` | takes the input of a kernel that several consoles share |
//! | `:quit` | ends the script or the session |
//! | `::LINE` | is `:LINE` for the kernel |
//!
//! A script asks when the lines before are done, or after a second if they take longer.
//!
//! # Pictures
//!
//! A terminal that knows Kitty's or iTerm2's protocol, by what the environment says, or that answers that it
//! has sixel, shows them. Others, and scripts, show the text that came with a picture and the name of the file
//! it was saved in. Nothing that is shown is run. What is `text/plain` is shown as output is.
//!
//! # Exit statuses
//!
//! [`Ending::status`] lists them: 0, 1 for a statement that failed if the caller asks to be told, 2 for wrong
//! use, 3 for a kernel or link that is gone, 128 + N for a signal, and 141 for a reader of the output that is
//! gone.
//!
//! # Limits
//!
//! | what | limit |
//! |---|---|
//! | a line that is typed | 1 MiB |
//! | the history | 1,000 lines |
//! | output that the terminal has not taken | 32 KiB and one message; then the kernel waits |
//! | a picture in the terminal | 8 MiB; sixel 4 million pixels |
//! | saved pictures | 1,000 for each console |
//!
//! Only one console at a time may have a terminal. On Windows there is no line editor: a terminal there only
//! prints.
#![doc = include_str!("docs/editor.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod ending;
mod lines;
mod meta;
mod options;
mod pictures;
mod questions;
mod run;
mod script;
mod sharing;
mod sys;
#[cfg(unix)]
mod terminal;

pub use ending::Ending;
pub use options::{Mode, Options};
pub use run::{attend, configure};
