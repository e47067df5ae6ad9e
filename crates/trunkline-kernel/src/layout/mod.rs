//! Which channel carries what, and the words on each.
//!
//! | channel | name | direction | priority | carries |
//! |---|---|---|---|---|
//! | 0 | [`STDIN`] | to the kernel | normal | bytes: one message for each line, or for several lines that belong together; a message without a newline is a piece of a line, and one of no bytes between lines tells a program that reads, or else a statement whose rest is missing, that there is no more |
//! | 1 | [`STDOUT`] | from the kernel | normal | bytes |
//! | 2 | [`STDERR`] | from the kernel | normal | bytes |
//! | 3 | [`CONTROL`] | to the kernel | urgent | one [`Control`] in each message |
//! | 4 | [`STATUS`] | from the kernel | normal | one [`Status`] in each message, on every change |
//! | 5 | [`INTROSPECTION`] | both | urgent | JSON: one [`Request`] in each message, and one [`Answer`] |
//! | 6 | [`DISPLAY`] | from the kernel | normal | one [`Picture`] in each message |
//! | 7–63 | | | | free for the application |
//! | 64–126 | | | | private channels of a hub |
//! | 127 | [`ROSTER`] | both | normal | a hub's notes: [`Roster`] |
//!
//! Standard output, standard error, status and display have one priority, and a console receives them as one
//! stream. So a console that has read `idle 7` has all output of message 7.
//!
//! Everything here is read from bytes that a peer sent. A text that is not as it should be is an error that
//! says what was expected; it never panics, and reading it takes memory in proportion to its length at most.
//! The lengths are bounded: [`MAX_WORD`], [`MAX_REQUEST`], [`MAX_ANSWER`], [`MAX_HEADER`].

mod control;
mod display;
mod introspection;
mod roster;
mod status;
#[cfg(test)]
mod tests;
mod word;

use trunkline::ChannelId;

pub use control::{Control, ControlError, Target};
pub use display::{MAX_HEADER, Picture, PictureError};
pub use introspection::{
    Answer, AnswerError, Frame, MAX_ANSWER, MAX_REQUEST, MAX_TEXT, Name, Operation, Reply, Request,
    RequestError, Thread, Variable, beginning,
};
pub use roster::{Answer as RosterAnswer, Client, Line, Lost, Roster, RosterError};
pub use status::{Status, StatusError};
pub use word::{MAX_WORD, SignalName, SignalNameError};

/// Lines for the kernel.
pub const STDIN: ChannelId = ChannelId::new(0);
/// What the program prints.
pub const STDOUT: ChannelId = ChannelId::new(1);
/// Errors of the program, and what the kernel has to say.
pub const STDERR: ChannelId = ChannelId::new(2);
/// Commands that the kernel obeys while a program runs.
pub const CONTROL: ChannelId = ChannelId::new(3);
/// What the kernel does.
pub const STATUS: ChannelId = ChannelId::new(4);
/// Questions that the kernel answers while a program runs.
pub const INTROSPECTION: ChannelId = ChannelId::new(5);
/// Pictures and other rich results.
pub const DISPLAY: ChannelId = ChannelId::new(6);
/// The notes of a hub, if there is one before the kernel.
pub const ROSTER: ChannelId = ChannelId::new(127);
