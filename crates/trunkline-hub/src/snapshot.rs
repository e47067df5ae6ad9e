//! What stands for the past of a channel.

use bytes::Bytes;

/// Something that stands for the past of a channel: a terminal's screen, the newest row of each table.
///
/// The hub feeds it every message of the channel, in order. A snapshot is one message that a client can begin with, and
/// what follows in the channel fits behind it. So if a message ends inside an escape sequence or a character, the snapshot
/// ends with what has come of it.
///
/// One that panics is not asked again: clients begin with an empty message from then on.
pub trait Snapshot: Send {
    /// Takes in the next message.
    fn feed(&mut self, message: &[u8]);

    /// Returns what a client begins with that joins, or that has lost something.
    fn snapshot(&mut self) -> Bytes;
}
