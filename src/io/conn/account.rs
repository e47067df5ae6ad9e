//! What a connection holds, and its counts.

use super::{Attachment, Conn};
use crate::id::ChannelId;
use crate::proto::frame::FRAME_COST;
use crate::stats::{ChannelStats, Held, Stats};

/// What went through the sockets of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    reads: u64,
    writes: u64,
    bytes_read: u64,
    bytes_written: u64,
    /// Sockets that were given up because a record did not open.
    pub(super) tampered: u64,
}

impl Traffic {
    pub(super) fn read(&mut self, bytes: usize) {
        self.reads += 1;
        self.bytes_read += bytes as u64;
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.writes += 1;
        self.bytes_written += bytes as u64;
    }
}

impl Conn {
    /// The account of the connection: everything that its peer can make this side hold, in bytes.
    pub(crate) fn account(&self) -> Held {
        let unread = self.session.inbound().counts().map(|count| count.unread_cost).sum::<u64>();
        let (unhandled, link) = match &self.attachment {
            Attachment::Attached(link) => (link.unhandled.len(), link.memory()),
            Attachment::Away(_) => (0, 0),
        };
        let (queued, waiting) =
            self.shared.send.read(|outbound| (outbound.queued_memory(), outbound.waiting_bytes()));
        Held {
            unread,
            unfinished: (self.session.inbound().assembled() + unhandled) as u64,
            queued: (queued + link) as u64,
            waiting: waiting as u64,
            replay: self.replay.memory() as u64,
        }
    }

    /// The sum of its account, with what a connection has once its channels are used. What is unread
    /// counts what is allocated for it, if that is more: a byte in each of many queues has a piece of
    /// its own.
    pub(super) fn held(&self) -> usize {
        let held = self.account();
        let air = (self.shared.receive.memory() as u64).saturating_sub(held.unread);
        let tables = self.session.inbound().table() + self.shared.send.read(|outbound| outbound.table());
        (held.total() + air + tables as u64).try_into().unwrap_or(usize::MAX)
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut channels: Vec<ChannelStats> = Vec::new();
        for received in self.session.inbound().counts() {
            let stats = entry(&mut channels, received.channel);
            let unreported = self.shared.receive.unreported(received.channel);
            stats.messages_received = received.messages;
            stats.bytes_received = received.bytes;
            stats.receive_credit = received.credit;
            stats.unread = received.unread_messages.saturating_sub(unreported.messages.into());
            let cost = received.unread_cost.saturating_sub(unreported.cost.into());
            stats.unread_bytes = cost.saturating_sub(stats.unread * u64::from(FRAME_COST));
        }
        let sent = self.shared.send.read(|outbound| outbound.counts().collect::<Vec<_>>());
        for sent in sent {
            let stats = entry(&mut channels, sent.channel);
            stats.messages_sent = sent.messages;
            stats.bytes_sent = sent.bytes;
            stats.send_credit = sent.credit;
            stats.staged = sent.staged;
        }
        let held = self.account();
        Stats {
            messages_sent: channels.iter().map(|c| c.messages_sent).sum(),
            messages_received: channels.iter().map(|c| c.messages_received).sum(),
            channels,
            bytes_written: self.traffic.bytes_written,
            bytes_read: self.traffic.bytes_read,
            queued: self.shared.send.read(|outbound| outbound.queued()) as u64,
            held,
            rtt: self.shared.rtt(),
            wakes: 0,
            reads: self.traffic.reads,
            writes: self.traffic.writes,
            tampered: self.traffic.tampered,
        }
    }
}

/// The counts of a channel, in ascending order of the channels.
fn entry(channels: &mut Vec<ChannelStats>, channel: ChannelId) -> &mut ChannelStats {
    let at = channels.binary_search_by_key(&channel, |stats| stats.channel).unwrap_or_else(|at| {
        channels.insert(at, ChannelStats::new(channel));
        at
    });
    &mut channels[at]
}
