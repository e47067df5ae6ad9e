//! What a console asks of the kernel on the control channel.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use super::word::{MAX_WORD, SignalName, excerpt, number};

/// Which message of the standard input an interrupt is meant for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// What runs when the interrupt arrives, whatever that is.
    Running,
    /// Message N of the standard input, and no other. It is stopped as soon as it begins, if it has not yet.
    Message(u64),
    /// The console's own message K. A hub turns it into the kernel's number; without a hub both are the same.
    Own(u64),
}

/// A command for the kernel: one message on [`CONTROL`](super::CONTROL).
///
/// ```
/// use trunkline_kernel::layout::{Control, Target};
///
/// assert_eq!("interrupt 7".parse(), Ok(Control::Interrupt(Target::Message(7))));
/// assert_eq!(Control::Interrupt(Target::Own(2)).to_string(), "interrupt own 2");
/// let error = "dance".parse::<Control>().unwrap_err();
/// assert!(error.to_string().starts_with("\"dance\" is not a command"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Control {
    /// `interrupt`, `interrupt N` or `interrupt own K`: stop it.
    Interrupt(Target),
    /// `resize COLUMNS ROWS`: the size of the console's terminal.
    Resize {
        /// Its width in characters.
        columns: NonZeroU16,
        /// Its height in lines.
        rows: NonZeroU16,
    },
    /// `signal NAME`: give the program this signal.
    Signal(SignalName),
    /// `exit`: end the kernel.
    Exit,
}

/// A message on the control channel is not a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0} is not a command; there are `interrupt`, `interrupt N`, `interrupt own K`, `resize COLUMNS ROWS`, `signal NAME` and `exit`"
)]
pub struct ControlError(String);

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupt(Target::Running) => write!(f, "interrupt"),
            Self::Interrupt(Target::Message(number)) => write!(f, "interrupt {number}"),
            Self::Interrupt(Target::Own(number)) => write!(f, "interrupt own {number}"),
            Self::Resize { columns, rows } => write!(f, "resize {columns} {rows}"),
            Self::Signal(name) => write!(f, "signal {name}"),
            Self::Exit => write!(f, "exit"),
        }
    }
}

impl TryFrom<&[u8]> for Control {
    type Error = ControlError;

    /// Reads a message. One newline at its end is let pass, since people type commands by hand.
    fn try_from(message: &[u8]) -> Result<Self, ControlError> {
        let line = message.strip_suffix(b"\n").unwrap_or(message);
        let text = std::str::from_utf8(line).ok().filter(|text| text.len() <= MAX_WORD);
        text.and_then(parse).ok_or_else(|| ControlError(excerpt(message)))
    }
}

impl FromStr for Control {
    type Err = ControlError;

    fn from_str(text: &str) -> Result<Self, ControlError> {
        Self::try_from(text.as_bytes())
    }
}

fn parse(text: &str) -> Option<Control> {
    let mut words = text.split(' ');
    let command = match (words.next()?, words.next(), words.next()) {
        ("interrupt", None, None) => Control::Interrupt(Target::Running),
        ("interrupt", Some("own"), Some(own)) => Control::Interrupt(Target::Own(number(own)?)),
        ("interrupt", Some(line), None) => Control::Interrupt(Target::Message(number(line)?)),
        ("resize", Some(columns), Some(rows)) => {
            Control::Resize { columns: size(columns)?, rows: size(rows)? }
        }
        ("signal", Some(name), None) => Control::Signal(name.parse().ok()?),
        ("exit", None, None) => Control::Exit,
        _ => return None,
    };
    words.next().is_none().then_some(command)
}

fn size(text: &str) -> Option<NonZeroU16> {
    NonZeroU16::new(number(text)?.try_into().ok()?)
}
