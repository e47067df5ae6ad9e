//! What a host says to the other side: several channels in one order, without waiting.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use bytes::Bytes;
use trunkline::{ChannelError, ChannelId, Connection, ConnectionError, Disconnect, Sender, TrySendError};
use trunkline_kernel::layout::DISPLAY;

/// Sends on several channels in the order in which it was told, as there is room.
pub(crate) struct Outlet {
    /// `None` if the other side has stopped the channel: what it does not want is not sent.
    senders: Vec<(ChannelId, Option<Sender>)>,
    /// What has found no room, in order.
    pending: VecDeque<(ChannelId, Bytes)>,
    /// On which channel the last was sent, and the one whose room is waited for.
    last: Option<ChannelId>,
    blocked: Option<ChannelId>,
    lost: Option<ConnectionError>,
    bell: Waker,
}

impl Outlet {
    /// The bell rings when there may be room again.
    pub(crate) fn new(
        connection: &Connection,
        channels: &[ChannelId],
        bell: Waker,
    ) -> Result<Self, ChannelError> {
        let senders = channels
            .iter()
            .map(|channel| Ok((*channel, Some(connection.sender(*channel)?))))
            .collect::<Result<_, ChannelError>>()?;
        Ok(Self { senders, pending: VecDeque::new(), last: None, blocked: None, lost: None, bell })
    }

    fn of(&mut self, channel: ChannelId) -> Option<&mut Sender> {
        self.senders.iter_mut().find(|(of, _)| *of == channel).and_then(|(_, sender)| sender.as_mut())
    }

    /// Says something behind what was said before.
    pub(crate) fn say(&mut self, channel: ChannelId, bytes: Bytes) {
        self.pending.push_back((channel, bytes));
        self.send();
    }

    /// Returns `true` if something waits for room.
    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Why the connection is over, if it is.
    pub(crate) fn lost(&self) -> Option<&ConnectionError> {
        self.lost.as_ref()
    }

    /// The connection is over, and what is said now is for no other.
    pub(crate) fn lose(&mut self, cause: ConnectionError) {
        self.lost.get_or_insert(cause);
        for (_, sender) in &mut self.senders {
            *sender = None;
        }
        self.pending.clear();
    }

    /// Sends what there is room for.
    pub(crate) fn send(&mut self) {
        self.blocked = None;
        while self.blocked.is_none()
            && let Some((channel, bytes)) = self.pending.pop_front()
        {
            if self.is_overtaking(channel) {
                self.pending.push_front((channel, bytes));
                break;
            }
            let Some(sender) = self.of(channel) else { continue };
            match sender.try_send_bytes(bytes) {
                Ok(()) => self.last = Some(channel),
                Err(TrySendError::Full { message }) => {
                    self.pending.push_front((channel, message));
                    if !self.is_ready(channel) {
                        self.blocked = Some(channel);
                    }
                }
                Err(TrySendError::TooLarge { message, limit }) => self.split(channel, message, limit),
                Err(TrySendError::Disconnected { cause: Disconnect::ConnectionLost(cause), .. }) => {
                    self.lose(cause);
                }
                // The run that was stopped is the only one.
                Err(TrySendError::Disconnected { .. }) => self.stop(channel),
            }
        }
    }

    /// Returns `true` if a message on another channel than the last would overtake that: a message that is larger
    /// than the other side's room is accepted as a whole, and its rest waits.
    fn is_overtaking(&mut self, channel: ChannelId) -> bool {
        let Some(last) = self.last.filter(|last| *last != channel) else { return false };
        let waits = !self.is_ready(last);
        self.blocked = waits.then_some(last);
        waits
    }

    /// Returns `true` if there is room on a channel, behind everything that was accepted. Else the bell rings
    /// when there is.
    fn is_ready(&mut self, channel: ChannelId) -> bool {
        let bell = self.bell.clone();
        self.of(channel).is_none_or(|sender| sender.poll_ready(&mut Context::from_waker(&bell)).is_ready())
    }

    /// Sends the rest, however long that takes: when nothing else is to be done.
    pub(crate) fn send_rest(&mut self) {
        loop {
            self.send();
            let Some(blocked) = self.blocked else { return };
            if let Some(sender) = self.of(blocked) {
                // One that is over is always ready, and `send` hears why.
                let _ = sender.ready().recv();
            }
        }
    }

    /// Puts output that is too large for the other side back in two pieces. A picture in pieces is none.
    fn split(&mut self, channel: ChannelId, mut message: Bytes, limit: u32) {
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        if channel != DISPLAY && most > 0 && most < message.len() {
            let rest = message.split_off(most);
            self.pending.push_front((channel, rest));
            self.pending.push_front((channel, message));
        }
    }

    fn stop(&mut self, channel: ChannelId) {
        for (of, sender) in &mut self.senders {
            if *of == channel {
                *sender = None;
            }
        }
    }
}
