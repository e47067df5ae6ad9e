//! One side of the model: a session with its socket, and what its application does and has heard.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::fuzzing::ledger::Ledger;
use crate::id::{ChannelId, ChannelSet};
use crate::proto::credit::cost;
use crate::proto::frame::{Control, WORD, Word};
use crate::proto::handshake::Terms;
use crate::proto::inbound::{Budget, Deliver, Taken};
use crate::proto::outbound::Outbound;
use crate::proto::replay::Replay;
use crate::proto::segment::Fresh;
use crate::proto::session::{Exchange, Output, Room, Session, Settings, Wishes};

pub(super) const CHANNELS: usize = 3;
/// What a server remembers of its stream's end.
pub(super) const TAIL: usize = 16 * 1024;

/// One end: its protocol state, what it keeps for replay, and its socket.
pub(super) struct Side {
    pub(super) session: Session,
    pub(super) outbound: Outbound,
    pub(super) wishes: Wishes,
    pub(super) replay: Replay,
    pub(super) inbox: Inbox,
    /// By channel.
    pub(super) senders: [Claim; CHANNELS],
    /// Channels whose run a STOP has ended just now.
    pub(super) stopped: Vec<usize>,
    pub(super) socket: Socket,
    /// What the socket has taken and not delivered.
    pub(super) flying: Vec<u8>,
}

/// A sender's place and generation, and whether it has ended its run and sent nothing since.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    pub(super) place: usize,
    pub(super) generation: u32,
    pub(super) ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Socket {
    /// `finished`: nothing more is written.
    Connected {
        finished: bool,
    },
    /// It looks as if there were one, but what is written goes nowhere.
    Dead,
    Away,
    /// The connection has ended.
    Over,
}

/// What has come, and was not taken; and what is to come.
pub(super) struct Inbox {
    pub(super) ledgers: [Ledger; CHANNELS],
    pub(super) waiting: VecDeque<Taken>,
    pub(super) checks: bool,
}

impl Side {
    pub(super) fn new(
        now: Instant,
        ours: Terms,
        theirs: Terms,
        replay_limit: u64,
        heartbeat: Option<(Duration, Duration)>,
    ) -> Self {
        let settings = Settings {
            ours,
            theirs,
            we_may_send: ChannelSet::ALL,
            peer_may_send: ChannelSet::ALL,
            peer_may_interrupt: true,
            send_queue: 20_000,
            reserves: cost(ours.max_message as usize).into(),
            excess: 1 << 20,
            heartbeat,
            replay_limit,
            resumable: true,
        };
        let (session, mut outbound) = Session::new(now, &settings);
        let senders = std::array::from_fn(|channel| claim(&mut outbound, channel));
        Self {
            session,
            outbound,
            wishes: Wishes::default(),
            replay: Replay::new(true),
            inbox: Inbox { ledgers: Default::default(), waiting: VecDeque::new(), checks: true },
            senders,
            stopped: Vec::new(),
            socket: Socket::Connected { finished: false },
            flying: Vec::new(),
        }
    }

    pub(super) fn received(&self) -> u64 {
        self.session.inbound().received()
    }

    /// As the driver does it: exchange, acknowledge, take what there is room for, write. How much
    /// that was.
    pub(super) fn pump(&mut self, now: Instant, room: usize, server: bool) -> usize {
        if self.socket == Socket::Over {
            return 0;
        }
        let attached = self.socket != Socket::Away;
        self.exchange(now, if attached && self.replay.is_written() { Room::Bytes(room) } else { Room::None });
        let Self { session, replay, .. } = self;
        session.inbound().check_invariants();
        let mut written = 0;
        if attached {
            let room = room.max(1);
            for part in replay.unwritten() {
                let part = &part[..part.len().min(room - written)];
                written += part.len();
                if self.socket != Socket::Dead {
                    self.flying.extend_from_slice(part);
                }
            }
            replay.advance(written, &mut Fresh);
        } else if session.ended().is_some() && !session.may_resume() || server && self.is_settled(true) {
            self.socket = Socket::Over;
        }
        written
    }

    pub(super) fn exchange(&mut self, now: Instant, room: Room) {
        let mut output = Output::default();
        let Self { session, outbound, wishes, replay, inbox, .. } = self;
        replay.extend(|segments| {
            let (flushes, spare, output) = (&mut Vec::new(), &mut Fresh, &mut output);
            session.exchange(wishes, Exchange { now, outbound, flushes, room, spare, segments, output });
            session.sent()
        });
        for &place in &output.stopped {
            self.stopped.extend(self.senders.iter().position(|claim| claim.place == place));
        }
        if session.has_merged() {
            session.poll_merged(inbox);
        }
        let _ = session.take_news();
        replay.acknowledge(session.peer_has(), &mut Fresh);
    }

    pub(super) fn receive(&mut self, now: Instant, mut bytes: &[u8], direct: bool) {
        let Self { session, inbox, .. } = self;
        while !bytes.is_empty() {
            match session.payload_buffer() {
                Some(buffer) if direct => {
                    let taken = bytes.len().min(buffer.capacity() - buffer.len());
                    buffer.extend_from_slice(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    session.handle_payload(now, taken, inbox);
                }
                _ => session.handle_input(now, &mut bytes, &mut Budget::pass(), inbox),
            }
        }
    }

    pub(super) fn take_one(&mut self) -> bool {
        let taken = self.inbox.waiting.pop_front();
        self.wishes.taken.extend(taken);
        taken.is_some()
    }

    pub(super) fn has_exchanged_closes(&self) -> bool {
        self.session.close_received() && self.session.close_said()
    }

    /// There is nothing to come back for.
    pub(super) fn is_settled(&self, server: bool) -> bool {
        let told = if server { self.replay.tail(TAIL).is_some() } else { self.session.is_confirmed() };
        self.has_exchanged_closes() && told
    }

    pub(super) fn lose(&mut self, server: bool) {
        let goes_on = self.session.may_resume() && !self.is_settled(server);
        self.socket = if goes_on { Socket::Away } else { Socket::Over };
    }

    /// A new socket; the peer has received up to `offset`.
    pub(super) fn go_on(&mut self, now: Instant, offset: u64, honest: bool) -> bool {
        let goes_on = self.replay.rewind(offset, &mut Fresh);
        assert!(goes_on || !honest, "{offset} is out of range: {:?}", self.replay);
        self.flying.clear();
        if goes_on {
            self.socket = Socket::Connected { finished: false };
            self.session.handle_resumed(now, offset);
        } else {
            self.socket = Socket::Over;
        }
        goes_on
    }

    /// `half_ended`: nothing more comes on this socket.
    pub(super) fn look_for_end(&mut self, now: Instant, half_ended: bool, server: bool) {
        if half_ended && matches!(self.socket, Socket::Connected { .. }) {
            // A driver looks after it has let what came act.
            self.exchange(now, Room::None);
        }
        let Socket::Connected { finished } = &mut self.socket else { return };
        let session = &self.session;
        if half_ended && !session.close_received() && (session.ended().is_none() || session.may_resume()) {
            return self.lose(server);
        }
        if session.ended().is_none() {
            return;
        }
        if session.is_broken() {
            self.socket = Socket::Over;
        } else if session.is_done_sending() && self.replay.is_written() {
            *finished = true;
            if half_ended {
                self.socket = Socket::Over;
            }
        }
    }
}

impl Deliver for Inbox {
    fn frames(&mut self, channel: ChannelId, mut frames: &[u8], messages: u32) {
        let mut count = 0;
        while let Some(word) = Word::first_of(frames) {
            let (frame, rest) = frames.split_at(WORD + word.len());
            frames = rest;
            if !word.is_control() {
                count += 1;
                self.keep(channel, &frame[WORD..]);
                continue;
            }
            self.waiting.push_back(Taken { free_notes: word.has_more().into(), ..Taken::none(channel) });
            let control = Control::decode(channel, &frame[WORD..]);
            let Some(ledger) = self.ledgers.get_mut(channel.index()).filter(|_| self.checks) else {
                continue;
            };
            match control {
                Ok(Control::End { end, .. }) => ledger.hear_end(end),
                Ok(Control::Gap { messages, bytes, .. }) => ledger.hear_gap(messages, bytes),
                other => panic!("{other:?} is neither an end nor a gap"),
            }
        }
        assert_eq!(count, messages);
    }

    fn message(&mut self, channel: ChannelId, payload: Vec<u8>) {
        self.keep(channel, &payload);
    }
}

impl Inbox {
    pub(super) fn keep(&mut self, channel: ChannelId, payload: &[u8]) {
        if let Some(ledger) = self.ledgers.get_mut(channel.index()).filter(|_| self.checks) {
            ledger.hear_message(payload);
        }
        self.waiting.push_back(Taken { cost: cost(payload.len()), messages: 1, ..Taken::none(channel) });
    }
}

/// There is always a sender, so that a STOP is noticed.
pub(super) fn claim(outbound: &mut Outbound, channel: usize) -> Claim {
    let claim = outbound.claim(ChannelId::new(channel as u8), None);
    let (place, generation) = claim.expect("there are no others");
    Claim { place, generation, ended: false }
}
