//! Which channel carries what, and the words on them. All text is UTF-8.
//!
//! | channel | from | carries |
//! |---|---|---|
//! | 0 stdin | console | lines: statements, and what `input()` reads |
//! | 1 stdout | kernel | what is printed, values of expressions, prompts of `input()` |
//! | 2 stderr | kernel | errors, `debug()` |
//! | 3 control | console | `interrupt`, or `interrupt 7`: only if line 7 is the last that was read |
//! | 4 status | kernel | a [`State`] on every change, as `busy 7` |
//! | 5 introspection | console | `complete PREFIX` or `inspect NAME`, one request a message |
//! | 5 introspection | kernel | one answer for each request, in their order |
//!
//! Stdout, stderr and status are sent with one priority and received as one stream, so whoever
//! reads `idle 7` has all output of line 7. Control and introspection are urgent.

use std::fmt;
use std::str::FromStr;

use trunkline::ChannelId;

pub const STDIN: ChannelId = ChannelId::new(0);
pub const STDOUT: ChannelId = ChannelId::new(1);
pub const STDERR: ChannelId = ChannelId::new(2);
pub const CONTROL: ChannelId = ChannelId::new(3);
pub const STATUS: ChannelId = ChannelId::new(4);
pub const INTROSPECTION: ChannelId = ChannelId::new(5);

/// What the interpreter does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activity {
    /// It waits for a statement.
    Idle,
    /// It has the beginning of a statement and waits for the rest.
    Incomplete,
    /// It runs a statement.
    Busy,
    /// It runs a statement that is blocked in `input()`.
    Waiting,
}

const WORDS: [(Activity, &str); 4] = [
    (Activity::Idle, "idle"),
    (Activity::Incomplete, "incomplete"),
    (Activity::Busy, "busy"),
    (Activity::Waiting, "waiting"),
];

impl Activity {
    /// For people to read.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Incomplete => "waiting for the rest of a statement",
            Self::Busy => "busy",
            Self::Waiting => "waiting for input",
        }
    }
}

/// A status message: what the interpreter does, and how many lines of this console it has read.
/// The number tells a console which of its lines is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    pub activity: Activity,
    pub lines: u64,
}

impl State {
    /// Whether the interpreter has read so many lines and takes more.
    pub fn settled(self, lines: u64) -> bool {
        self.lines >= lines && self.activity != Activity::Busy
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = WORDS.iter().find(|(activity, _)| *activity == self.activity).map_or("", |(_, word)| word);
        write!(f, "{word} {}", self.lines)
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(' ').and_then(|(word, lines)| {
            let (activity, _) = WORDS.iter().find(|(_, known)| *known == word)?;
            Some(Self { activity: *activity, lines: lines.parse().ok()? })
        });
        parsed.ok_or_else(|| format!("{text:?} is no status"))
    }
}

/// What a console asks of the interpreter on the control channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// Stop what runs; with a number, only if that many lines have been read.
    Interrupt(Option<u64>),
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupt(None) => write!(f, "interrupt"),
            Self::Interrupt(Some(line)) => write!(f, "interrupt {line}"),
        }
    }
}

impl FromStr for Control {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("{text:?} is no control message; there is only `interrupt`");
        match text.trim().strip_prefix("interrupt").ok_or_else(unknown)? {
            "" => Ok(Self::Interrupt(None)),
            line => Ok(Self::Interrupt(Some(line.trim().parse().map_err(|_| unknown())?))),
        }
    }
}
