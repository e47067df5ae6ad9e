//! A session whose peer does what it likes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::input::Input;
use super::peer::peer_frames;
use super::sink::Sink;
use super::transmit::Transmit;
use crate::error::{CloseCode, ConnectionError};
use crate::id::{ChannelId, ChannelSet};
use crate::proto::credit::cost;
use crate::proto::frame::{Control, End, MAX_DATA, WORD, Word};
use crate::proto::handshake::{Grace, Terms};
use crate::proto::inbound::{Budget, Stop};
use crate::proto::outbound::{Outbound, Payload, Refused};
use crate::proto::segment::{Fresh, Segment};
use crate::proto::session::{CloseWish, Exchange, Farewell, Output, Room, Session, Settings, Wishes};

/// Runs a session as the driver would, with a peer that does what the input says: sends noise, or
/// frames that are nearly right, cut anywhere; while the application sends, takes, ends and stops.
pub fn session(data: &[u8]) {
    let mut input = Input(data);
    let mut world = World::new(&mut input);
    while !input.0.is_empty() {
        world.step(&mut input);
        world.apply();
        world.check();
    }
    world.drain();
}

/// A session, its surroundings, and what must be true of it.
struct World {
    now: Instant,
    settings: Settings,
    session: Session,
    outbound: Outbound,
    wishes: Wishes,
    sink: Sink,
    /// A sender's place and generation, by channel.
    senders: Vec<Option<(usize, u32)>>,
    transmit: Transmit,
    /// The application has ended the session, or the heartbeat has.
    closed_by_us: bool,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let window =
            |choice| [0, 64, 65, 1024, 5000, 70_000, 1 << 20, i32::MAX as u32][usize::from(choice % 8)];
        let largest = |choice| [1, 100, 4096, 5000, 70_000, 300_000][usize::from(choice % 6)];
        let flags = input.byte();
        let terms = |window, max_message| Terms { window, max_message, grace: Grace(60_000) };
        let settings = Settings {
            ours: terms(window(input.byte() % 7), largest(input.byte())),
            theirs: terms(window(input.byte()), largest(input.byte())),
            we_may_send: if flags & 1 == 0 { ChannelSet::ALL } else { input.channels() },
            peer_may_send: if flags & 2 == 0 { ChannelSet::ALL } else { input.channels() },
            peer_may_interrupt: flags & 4 == 0,
            send_queue: 4096 << (flags >> 6),
            reserves: 300_032,
            excess: 100_000,
            heartbeat: (flags & 8 == 0).then_some((Duration::from_secs(10), Duration::from_secs(30))),
            replay_limit: 256 << 10,
            resumable: flags & 16 == 0,
        };
        let now = Instant::now();
        let (session, outbound) = Session::new(now, &settings);
        Self {
            now,
            session,
            outbound,
            wishes: Wishes::default(),
            sink: Sink::new(settings.peer_may_send, settings.ours.max_message),
            senders: vec![None; ChannelId::COUNT],
            transmit: Transmit::new(&settings),
            settings,
            closed_by_us: false,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 | 1 => {
                let piece = input.piece().unwrap_or_default();
                self.feed(piece, MAX_DATA);
            }
            2..=6 => {
                let bytes = peer_frames(input);
                let cut = [1, 3, 7, 64, 4096, 5000, 60_000, 1 << 20][usize::from(input.byte() % 8)];
                // Byte by byte only what is short, or it would take all the time there is.
                let cut = cut.max(bytes.len() / 64);
                self.note_credits(&bytes);
                self.feed(&bytes, cut);
            }
            7 | 8 => self.offer(input),
            9 => self.end(input),
            10 | 11 => {
                for _ in 0..=input.byte() % 32 {
                    self.take_one();
                }
            }
            12 => {
                let most = [1, 1000, 100_000, usize::MAX][usize::from(input.byte() % 4)];
                self.transmit(most);
            }
            13 => {
                self.now += Duration::from_millis(u64::from(input.byte()) * 100);
                let _ = self.session.handle_timeout(self.now);
            }
            14 => match input.byte() % 4 {
                0 => self.wishes.interrupt = true,
                1 => self.session.handle_write_progress(self.now),
                _ => {
                    let (channel, code) = (input.channel(), input.byte().into());
                    let run = self.session.inbound().run(channel);
                    self.wishes.stops.push(Stop { channel, code, run });
                }
            },
            _ => {
                if input.byte().is_multiple_of(8) {
                    let reason = "é".repeat(usize::from(input.byte()));
                    let farewell = Farewell { code: CloseCode::NORMAL, reason };
                    let linger = Duration::from_secs(5);
                    self.wishes.close = Some(if input.byte().is_multiple_of(2) {
                        CloseWish::Behind { farewell, linger }
                    } else {
                        CloseWish::Now(farewell)
                    });
                    self.closed_by_us = true;
                }
            }
        }
    }

    /// The driver's way to hand over what it reads: into the buffer of a large payload if there is
    /// one, else from its own.
    fn feed(&mut self, mut bytes: &[u8], cut: usize) {
        while !bytes.is_empty() {
            let cut = cut.min(bytes.len());
            let most = 2 * (self.settings.ours.max_message as usize + MAX_DATA);
            if let Some(buffer) = self.session.payload_buffer() {
                assert!(buffer.capacity() <= most, "{} bytes for a message", buffer.capacity());
                let room = (buffer.capacity() - buffer.len()).min(cut);
                assert!(room > 0, "a payload buffer without room");
                let (front, rest) = bytes.split_at(room);
                buffer.extend_from_slice(front);
                bytes = rest;
                self.session.handle_payload(self.now, room, &mut self.sink);
            } else {
                let (mut front, rest) = bytes.split_at(cut);
                bytes = rest;
                // As the driver does it: what the budget leaves is for the next pass.
                while !front.is_empty() {
                    let (now, sink) = (self.now, &mut self.sink);
                    self.session.handle_input(now, &mut front, &mut Budget::pass(), sink);
                }
            }
            // The driver does this after every input.
            self.apply();
            self.check();
        }
    }

    /// Keeps account of the credit in frames that are fed whole and right. If they come after
    /// half a frame of noise, they mean something else; then there is more in the account than
    /// the session has, and less is checked.
    fn note_credits(&mut self, mut bytes: &[u8]) {
        while let Some(word) = Word::first_of(bytes) {
            let Some((frame, rest)) = bytes.split_at_checked(WORD + word.len()) else { return };
            if word.is_control()
                && let Ok(Control::Credit { channel, bytes }) =
                    Control::decode(word.channel(), &frame[WORD..])
            {
                self.transmit.credit[channel.index()] += u64::from(bytes);
            }
            bytes = rest;
        }
    }

    fn sender(&mut self, channel: ChannelId) -> Option<(usize, u32)> {
        if !self.settings.we_may_send.contains(channel) {
            return None;
        }
        let place = &mut self.senders[channel.index()];
        *place = place.or_else(|| self.outbound.claim(channel, None));
        *place
    }

    fn offer(&mut self, input: &mut Input<'_>) {
        let channel = input.channel();
        let len = input.length();
        let shared = input.byte().is_multiple_of(2);
        let Some((place, generation)) = self.sender(channel) else { return };
        if self.session.ended().is_some() {
            return;
        }
        let message = vec![7; len];
        let bytes = Bytes::copy_from_slice(&message);
        let payload = if shared { Payload::Shared(&bytes) } else { Payload::Slice(&message) };
        match self.outbound.offer(place, generation, payload, false, &mut Fresh) {
            Ok(()) => assert!(len <= self.settings.theirs.max_message as usize),
            Err(Refused::TooLarge(limit)) => assert!(len > limit as usize),
            // As the handles do: what is stopped is given back, and the next sender is a new one.
            Err(Refused::Stopped(_)) => self.release(channel),
            Err(Refused::Credit | Refused::QueueFull) => {}
        }
    }

    fn end(&mut self, input: &mut Input<'_>) {
        let channel = input.channel();
        let Some((place, generation)) = self.sender(channel) else { return };
        let ended = match input.byte() % 4 {
            0 => self.outbound.end(place, generation, End::Finish, &mut Fresh).map(drop),
            1 => self.outbound.end(place, generation, End::Reset(5), &mut Fresh).map(drop),
            2 => self.outbound.gap(place, generation, input.number(), input.number()),
            _ => {
                self.release(channel);
                Ok(())
            }
        };
        if ended.is_err() {
            self.release(channel);
        }
    }

    fn release(&mut self, channel: ChannelId) {
        if let Some((place, generation)) = self.senders[channel.index()].take() {
            self.outbound.release(place, generation, End::Finish, &mut Fresh);
        }
    }

    fn take_one(&mut self) {
        if let Some(taken) = self.sink.waiting.pop_front() {
            self.sink.held[taken.channel.index()] -= u64::from(taken.cost);
            self.sink.free_notes[taken.channel.index()] -= taken.free_notes;
            self.wishes.taken.push(taken);
        }
    }

    fn apply(&mut self) {
        self.exchange(Room::None);
        // What the peer says is merged, so it is never more than a few things per channel.
        let news = self.session.take_news();
        assert!(news.waiting.len() <= ChannelId::COUNT, "{} waiting", news.waiting.len());
    }

    /// One exchange, as the driver makes it.
    fn exchange(&mut self, room: Room) -> VecDeque<Segment> {
        let mut segments = VecDeque::new();
        let mut output = Output::default();
        let exchange = Exchange {
            now: self.now,
            outbound: &mut self.outbound,
            flushes: &mut Vec::new(),
            room,
            spare: &mut Fresh,
            segments: &mut segments,
            output: &mut output,
        };
        self.session.exchange(&mut self.wishes, exchange);
        assert!(output.room.len() <= ChannelId::COUNT && output.stopped.len() <= ChannelId::COUNT);
        if self.session.has_merged() {
            self.session.poll_merged(&mut self.sink);
        }
        segments
    }

    /// The documented bound: a channel holds at most its window and one largest message, also if
    /// all the credit that the peer has is spent.
    fn check(&self) {
        let settings = &self.settings;
        let bound = u64::from(settings.ours.window) + u64::from(cost(settings.ours.max_message as usize));
        for count in self.session.inbound().counts() {
            let held = self.sink.held[count.channel.index()];
            assert!(held <= count.unread_cost, "the session's account of channel {}", count.channel);
            assert!(held + u64::from(count.credit) <= bound, "{count:?}");
        }
        assert!(self.sink.free_notes.iter().all(|&notes| u64::from(notes) <= 18 + bound / 16));
        self.session.inbound().check_invariants();
        if let Some(ConnectionError::ProtocolViolation { what, .. }) = self.session.ended() {
            assert!(!what.is_empty());
        }
        if let Some(deadline) = self.session.deadline(true) {
            assert!(deadline <= self.now + Duration::from_secs(30));
        }
    }

    fn transmit(&mut self, most: usize) -> bool {
        let segments = self.exchange(Room::Bytes(most));
        let some = !segments.is_empty();
        let mut pongs = 0;
        let mut acks = 0;
        let mut credited = ChannelSet::EMPTY;
        for segment in &segments {
            assert_eq!(segment.len(), segment.parts().concat().len());
            if let Segment::Large { payload, .. } = segment {
                assert!(payload.len() <= MAX_DATA);
            }
            self.transmit.read(&segment.parts().concat(), |control| match *control {
                Control::Pong(_) => pongs += 1,
                Control::Ack(_) => acks += 1,
                Control::Credit { channel, .. } => {
                    assert!(credited.insert(channel), "credit twice in one go")
                }
                _ => {}
            });
        }
        // What is owed in control frames is state that is merged, not a queue.
        assert!(pongs <= 1 && acks <= 1, "{pongs} PONGs, {acks} ACKs");
        if self.transmit.closed {
            assert!(self.session.close_said() || self.session.is_broken());
        }
        some
    }

    /// In the end everything comes out, and after a violation only the CLOSE.
    fn drain(&mut self) {
        while !self.sink.waiting.is_empty() {
            self.take_one();
        }
        for turn in 0.. {
            assert!(turn < 10_000, "it sends for ever");
            if !self.transmit(usize::MAX) {
                break;
            }
        }
        let violated = matches!(self.session.ended(), Some(ConnectionError::ProtocolViolation { .. }));
        if violated && !self.closed_by_us {
            assert!(self.transmit.closed, "a violation is answered with CLOSE");
        }
    }
}
