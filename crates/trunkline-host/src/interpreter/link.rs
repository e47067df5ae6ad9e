//! What goes between the two connections of a host as it is: input, commands, questions and answers.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use trunkline::{
    ChannelError, ChannelId, ChannelSet, Connection, ConnectionError, Disconnect, Priority, Received,
    Receiver, RecvError, Sender, TrySendError,
};

/// Passes on what comes on some channels: message for message, end for end, on the same channels. It takes something only
/// when what it took before was passed on.
pub(super) struct Passage {
    from: Receiver,
    to: Connection,
    priority: Priority,
    senders: BTreeMap<ChannelId, Sender>,
    held: Option<(ChannelId, Piece)>,
}

enum Piece {
    Message(Bytes),
    Gap { messages: u64, bytes: u64 },
    Finish,
    Reset(u32),
}

/// Why a passage is over.
pub(super) enum Over {
    /// The connection that it takes from.
    From(ConnectionError),
    /// The connection that it passes on to.
    To(ConnectionError),
}

impl Passage {
    pub(super) fn new(
        from: &Connection,
        to: &Connection,
        channels: impl Into<ChannelSet>,
        priority: Priority,
    ) -> Result<Self, ChannelError> {
        Ok(Self {
            from: from.receiver(channels)?,
            to: to.clone(),
            priority,
            senders: BTreeMap::new(),
            held: None,
        })
    }

    /// The receiving end.
    pub(super) fn from(&self) -> &Receiver {
        &self.from
    }

    /// What was on its way, for the other side to hear that it is not taken, only when the caller lets go of it.
    pub(super) fn into_receiver(self) -> Receiver {
        self.from
    }

    /// Passes on what there is. Each message is shown to `judge` first, which returns `false` for one that goes no
    /// further.
    pub(super) fn pass(
        &mut self,
        bell: &Waker,
        mut judge: impl FnMut(ChannelId, &Bytes) -> bool,
    ) -> Result<(), Over> {
        let mut context = Context::from_waker(bell);
        loop {
            if let Some((channel, piece)) = self.held.take()
                && let Some(piece) = self.send(channel, piece, &mut context)?
            {
                self.held = Some((channel, piece));
                return Ok(());
            }
            match self.from.poll_recv_any(&mut context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(Received::Message(message))) => {
                    let (channel, bytes) = (message.channel(), message.into_bytes());
                    if judge(channel, &bytes) {
                        self.held = Some((channel, Piece::Message(bytes)));
                    }
                }
                Poll::Ready(Ok(Received::Gap { channel, messages, bytes })) => {
                    self.held = Some((channel, Piece::Gap { messages, bytes }));
                }
                Poll::Ready(Ok(Received::Finished(channel))) => self.held = Some((channel, Piece::Finish)),
                Poll::Ready(Ok(Received::Reset { channel, code })) => {
                    self.held = Some((channel, Piece::Reset(code)));
                }
                Poll::Ready(Err(RecvError::ConnectionLost(cause))) => return Err(Over::From(cause)),
                Poll::Ready(_) => {}
            }
        }
    }

    /// Returns what there is no room for.
    fn send(
        &mut self,
        channel: ChannelId,
        piece: Piece,
        context: &mut Context<'_>,
    ) -> Result<Option<Piece>, Over> {
        if !self.senders.contains_key(&channel) {
            match self.to.sender_with(channel, self.priority) {
                Ok(sender) => drop(self.senders.insert(channel, sender)),
                Err(ChannelError::ConnectionLost(cause)) => return Err(Over::To(cause)),
                // The other side has no such channel, so there is nothing to tell it.
                Err(_) => return Ok(None),
            }
        }
        let Some(sender) = self.senders.get(&channel) else { return Ok(None) };
        let ends = matches!(piece, Piece::Finish | Piece::Reset(_));
        let sent = match piece {
            Piece::Message(bytes) => match sender.try_send_bytes(bytes) {
                Err(TrySendError::Full { message }) => {
                    if sender.poll_ready(context).is_ready() {
                        // There is room since then.
                        return self.send(channel, Piece::Message(message), context);
                    }
                    return Ok(Some(Piece::Message(message)));
                }
                // It is told as what it is: left out.
                Err(TrySendError::TooLarge { message, .. }) => sender.gap(1, message.len() as u64),
                Err(TrySendError::Disconnected { cause, .. }) => Err(cause),
                Ok(()) => Ok(()),
            },
            Piece::Gap { messages, bytes } => sender.gap(messages, bytes),
            Piece::Finish => sender.finish(),
            Piece::Reset(code) => sender.reset(code),
        };
        match sent {
            Err(Disconnect::ConnectionLost(cause)) => Err(Over::To(cause)),
            // The other side wants no more of this run; it may want the next. And each run is told of, also one
            // without a message: with a sender of its own.
            Ok(()) | Err(_) => {
                if ends || sent.is_err() {
                    self.senders.remove(&channel);
                }
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use trunkline::{Config, Key, RecvTimeoutError};

    use super::*;

    #[test]
    fn each_end_of_a_run_is_passed_on_also_one_without_a_message() {
        const INPUT: ChannelId = ChannelId::new(0);
        let pair = || Connection::pair(Config::new(Key::generate())).unwrap();
        let ((console, from), (to, program)) = (pair(), pair());
        let mut passage = Passage::new(&from, &to, INPUT, Priority::Normal).unwrap();
        let input = program.receiver(INPUT).unwrap();
        for _ in 0..3 {
            console.sender(INPUT).unwrap().finish().unwrap();
            console.flush().unwrap();
            let end = loop {
                assert!(passage.pass(Waker::noop(), |_, _| true).is_ok());
                match input.recv_timeout(std::time::Duration::from_millis(20)) {
                    Err(RecvTimeoutError::Timeout) => {}
                    end => break end,
                }
            };
            assert_eq!(end, Err(RecvTimeoutError::Disconnected(RecvError::Finished)));
        }
    }
}
