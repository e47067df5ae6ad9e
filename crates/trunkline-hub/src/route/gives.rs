//! What a client gets, and on which of its handles.

use bytes::Bytes;

use super::log::End;

/// The handle on which a client gets something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// A channel of the log, by its slot.
    Log(usize),
    Private,
    Roster,
}

/// What a client gets next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Gives<'a> {
    Message(&'a Bytes),
    /// It is made for this client.
    Owned(Bytes),
    /// To be sent only when there is room for a message: just before the next thing.
    Gap {
        messages: u64,
        bytes: u64,
    },
    End(End),
}
