//! The codes with which a hub stops what a client sends.
//!
//! A client's `send` fails with [`Disconnect::Stopped`](trunkline::Disconnect::Stopped) and one of these.
//! Its next sender begins a new run, which is judged anew.

/// The private conversation is over: the client has stopped its answers, or the program has ended them before it has read
/// the end of the question.
pub const OVER: u32 = 0;
/// The client does not own the input: another client does, or has sent since this client last knew what
/// was sent.
pub const NOT_OWNER: u32 = 256;
/// Another client has taken the input, or this client has released it. What was not passed on is refused.
pub const TAKEN: u32 = 257;
/// All private channels are in use.
pub const NO_PRIVATE_CHANNEL: u32 = 258;
/// Clients do not send on this channel, or the hub's own connection may not.
pub const NOT_SENT_HERE: u32 = 259;
/// The client leaves too much unread, or too many of its commands wait.
pub const UNREAD: u32 = 260;
/// What judges the channel's messages has panicked over this one, which was not passed on.
pub const FAULT: u32 = 261;
