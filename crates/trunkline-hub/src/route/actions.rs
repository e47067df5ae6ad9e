//! What is to be done, besides what clients pull.

use bytes::Bytes;
use trunkline::{ChannelId, CloseCode};

use super::Key;
use super::log::End;

/// Something to do before the next event goes in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Send upstream as soon as there is room, in order.
    Pass { channel: ChannelId, message: Bytes },
    /// A judge may have something to say on this channel: call [`Router::handle_say_room`](super::Router::handle_say_room)
    /// if there is room.
    Say { channel: ChannelId },
    /// End this side's run of a channel upstream.
    EndUpstream { channel: ChannelId, end: End },
    /// Tell upstream what the owner of the input has left out.
    GapUpstream { channel: ChannelId, messages: u64, bytes: u64 },
    /// Send INTERRUPT upstream.
    InterruptUpstream,
    /// Drop what a client has sent as input and was not taken, and stop its run if one is open; then say how many
    /// were dropped so far.
    Refuse { key: Key, channel: ChannelId, code: u32 },
    /// Drop what is left of the run that is being taken from a client on a channel, and stop it if it is open. What the
    /// client has sent behind it stays.
    Skip { key: Key, channel: ChannelId, code: u32 },
    /// Tell a client that the program waits for its input, or no longer.
    Prompt { key: Key, waiting: bool, count: u32 },
    /// Look whether a client has sent something on a way up: it can be taken now.
    Look { key: Key, channel: ChannelId },
    /// Close a client's connection behind what was sent.
    Close { key: Key, code: CloseCode, reason: String },
}
