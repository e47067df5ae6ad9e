//! The bodies of the fuzz targets in `fuzz/`: each takes any bytes and panics if the library does
//! with them what it must not. The tests below run them over a small corpus.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{CloseCode, ConnectionError};
use crate::id::{ChannelId, ChannelSet};
use crate::key::Key;
use crate::proto::credit::cost;
use crate::proto::frame::{Control, End, MAX_CONTROL, MAX_DATA, WORD, Word};
use crate::proto::handshake::client::{ClientHandshake, Step as ClientStep};
use crate::proto::handshake::server::{Credential, ServerHandshake, Step as ServerStep};
use crate::proto::handshake::{Asked, Grace, Granted, Rights, SessionId, Terms};
use crate::proto::inbound::{Budget, Deliver, Stop, Taken};
use crate::proto::outbound::{Outbound, Payload, Refused};
use crate::proto::segment::{Segment, Spare};
use crate::proto::session::{CloseWish, Exchange, Farewell, Output, Room, Session, Settings, Wishes};

// ---- the frame decoder

/// Reads a stream of frames: what is accepted is encoded as it was, and within its limits.
pub fn frame(data: &[u8]) {
    let mut rest = data;
    while let Some(word) = Word::first_of(rest) {
        if word.check().is_err() {
            return;
        }
        let (channel, len) = (word.channel(), word.len());
        if !word.is_control() {
            assert!(len <= MAX_DATA);
            assert_eq!(Word::data(channel, word.has_more(), len).to_bytes(), rest[..WORD]);
            assert_eq!(word.is_whole_message(), !word.has_more());
        }
        let Some((frame, after)) = rest.split_at_checked(WORD + len) else { return };
        if word.is_control() {
            assert!((1..=MAX_CONTROL).contains(&len) && !word.has_more());
            let Ok(control) = Control::decode(channel, &frame[WORD..]) else { return };
            let mut encoded = Vec::new();
            control.encode(&mut encoded);
            // Nothing of an unknown extension is kept.
            if control != Control::Extension {
                assert_eq!(encoded, frame);
            }
        }
        rest = after;
    }
}

// ---- the handshake

/// Feeds both sides with noise, and with each other's messages changed on the way: no client is
/// accepted unless every byte came as it was sent.
pub fn handshake(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 3 {
        0 => noise_to_server(input),
        1 => noise_to_client(input),
        _ => changed_on_the_way(input),
    }
}

const KEYS: [[u8; 32]; 2] = [[1; 32], [2; 32]];

/// A key by its number.
#[derive(Clone, Copy)]
struct Numbered(usize, &'static Key);

impl Credential for Numbered {
    fn key(&self) -> &Key {
        self.1
    }
}

fn keys() -> &'static [Key; 2] {
    static ALL: std::sync::OnceLock<[Key; 2]> = std::sync::OnceLock::new();
    ALL.get_or_init(|| KEYS.map(Key::from))
}

fn find(id: &[u8; 8]) -> Option<Numbered> {
    let at = keys().iter().position(|key| key.id() == *id)?;
    Some(Numbered(at, &keys()[at]))
}

fn noise_to_server(mut input: Input<'_>) {
    let mut server = ServerHandshake::new([3; 32]);
    // Half of the time, get beyond the first message.
    if input.byte().is_multiple_of(2) {
        let (_, hello) = ClientHandshake::new(&keys()[1], [4; 32]);
        assert!(matches!(server.handle(&mut &hello[..], find), ServerStep::Reply(_)));
    }
    while let Some(mut piece) = input.piece() {
        while !piece.is_empty() {
            let before = piece.len();
            match server.handle(&mut piece, find) {
                ServerStep::More => assert!(piece.is_empty()),
                ServerStep::Reply(_) => assert!(piece.len() < before),
                ServerStep::HangUp => return,
                ServerStep::Refuse(refusal) => {
                    let bytes = refusal.bytes();
                    let status = if bytes.len() == 104 { bytes[0] } else { bytes[5] };
                    assert!(matches!((bytes.len(), status), (64 | 72, 1 | 2 | 8) | (104, 2 | 6)));
                    return;
                }
                ServerStep::Proved(_) => panic!("accepted without a proof"),
            }
        }
    }
}

fn noise_to_client(mut input: Input<'_>) {
    let key = &keys()[0];
    let (mut client, hello) = ClientHandshake::new(key, [4; 32]);
    if input.byte().is_multiple_of(2) {
        let mut server = ServerHandshake::new([3; 32]);
        let ServerStep::Reply(reply) = server.handle(&mut &hello[..], find) else {
            panic!("a right hello is refused");
        };
        assert!(matches!(client.handle(&mut &reply[..], key), ClientStep::ServerProved));
        assert!(client.prove(key, &Asked::default()).is_some());
    }
    while let Some(mut piece) = input.piece() {
        while !piece.is_empty() {
            match client.handle(&mut piece, key) {
                ClientStep::More => assert!(piece.is_empty()),
                ClientStep::ServerProved => panic!("a server without the key was taken for one that has it"),
                ClientStep::Failed { verified, .. } => return assert!(!verified),
                ClientStep::Accepted(_) => panic!("accepted without a proof"),
            }
        }
    }
}

/// A whole handshake over a link that flips bits and cuts as the input says.
fn changed_on_the_way(mut input: Input<'_>) {
    let mut masks = [vec![0; 48], vec![0; 72], vec![0; 72], vec![0; 104]];
    for _ in 0..input.byte() % 4 {
        let mask: &mut Vec<u8> = &mut masks[usize::from(input.byte() % 4)];
        let at = usize::from(input.byte()) % mask.len();
        mask[at] ^= input.byte();
    }
    // How many of the messages came through before the first that did not.
    let whole = masks.iter().take_while(|mask| mask.iter().all(|&byte| byte == 0)).count();
    let cut = usize::from(input.byte()).max(1);
    let terms = |input: &mut Input<'_>| Terms {
        window: 64 + (input.number() as u32 >> 2),
        max_message: input.number() as u32,
        grace: Grace(1 + (input.number() as u32 >> 1)),
    };
    let asked = Asked {
        session: SessionId([input.byte() | 1; 16]),
        offset: input.number(),
        terms: terms(&mut input),
        attempt: input.number() as u32,
    };
    let rights =
        Rights { interrupt: input.byte() % 2 == 1, send: input.channels(), receive: input.channels() };
    let granted = Granted { session: SessionId([9; 16]), offset: 3, terms: terms(&mut input), rights };

    let key = &keys()[1];
    let (mut client, hello) = ClientHandshake::new(key, [4; 32]);
    let mut server = ServerHandshake::new([3; 32]);
    let change = |message: &[u8], mask: &[u8]| -> Vec<u8> {
        message.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
    };

    let to_server = change(&hello, &masks[0]);
    let step = in_pieces(&to_server, cut, |piece| match server.handle(piece, find) {
        ServerStep::More => None,
        step => Some(step),
    });
    let Some(ServerStep::Reply(reply)) = step else { return assert!(whole < 1, "a right hello is refused") };
    let to_client = change(&reply, &masks[1]);
    let step = in_pieces(&to_client, cut, |piece| match client.handle(piece, key) {
        ClientStep::More => None,
        step => Some(step),
    });
    let Some(ClientStep::ServerProved) = step else { return assert!(whole < 2, "a right server is refused") };
    assert!(whole >= 2, "the client took what was changed");
    let proof = client.prove(key, &asked).expect("the server has proved its key");
    let to_server = change(&proof, &masks[2]);
    let step = in_pieces(&to_server, cut, |piece| match server.handle(piece, find) {
        ServerStep::More => None,
        step => Some(step),
    });
    let Some(ServerStep::Proved(proved)) = step else {
        return assert!(whole < 3, "a right proof is refused");
    };
    assert!(whole >= 3, "the server took what was changed");
    assert_eq!((proved.credential.0, proved.asked), (1, asked));
    let accept = change(&proved.accept(Ok(&granted)), &masks[3]);
    let step = in_pieces(&accept, cut, |piece| match client.handle(piece, key) {
        ClientStep::More => None,
        step => Some(step),
    });
    match step {
        Some(ClientStep::Accepted(told)) => {
            assert!(whole == 4, "the client took what was changed");
            assert_eq!(told, granted);
        }
        _ => assert!(whole < 4, "a right Accept is refused"),
    }
}

/// Hands a message over in pieces, until one of them makes something happen.
fn in_pieces<S>(message: &[u8], cut: usize, mut handle: impl FnMut(&mut &[u8]) -> Option<S>) -> Option<S> {
    message.chunks(cut).find_map(|mut piece| handle(&mut piece))
}

// ---- the session

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

/// The receive queues: what was delivered and not taken.
struct Sink {
    may_receive: ChannelSet,
    max_message: usize,
    waiting: VecDeque<Taken>,
    /// What waits of each channel, in cost.
    held: Vec<u64>,
    /// Ends and gaps that cost no credit and wait, of each channel.
    free_notes: Vec<u32>,
}

/// What came out, read as a strict peer would.
struct Transmit {
    may_receive: ChannelSet,
    max_message: usize,
    /// The credit that the peer has granted, by channel, less what was spent.
    credit: Vec<u64>,
    /// Bytes of a message that is not complete.
    partial: Vec<Option<usize>>,
    closed: bool,
    /// Credit granted to the peer, by channel.
    granted: Vec<u64>,
}

struct Buffers;

impl Spare for Buffers {
    fn take(&mut self, room: usize) -> Vec<u8> {
        Vec::with_capacity(room)
    }

    fn put(&mut self, _: Vec<u8>) {}
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
            sink: Sink {
                may_receive: settings.peer_may_send,
                max_message: settings.ours.max_message as usize,
                waiting: VecDeque::new(),
                held: vec![0; ChannelId::COUNT],
                free_notes: vec![0; ChannelId::COUNT],
            },
            senders: vec![None; ChannelId::COUNT],
            transmit: Transmit {
                may_receive: settings.we_may_send,
                max_message: settings.theirs.max_message as usize,
                credit: vec![settings.theirs.window.into(); ChannelId::COUNT],
                partial: vec![None; ChannelId::COUNT],
                closed: false,
                granted: vec![settings.ours.window.into(); ChannelId::COUNT],
            },
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
        match self.outbound.offer(place, generation, payload, false, &mut Buffers) {
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
            0 => self.outbound.end(place, generation, End::Finish, &mut Buffers).map(drop),
            1 => self.outbound.end(place, generation, End::Reset(5), &mut Buffers).map(drop),
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
            self.outbound.release(place, generation, End::Finish, &mut Buffers);
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
            spare: &mut Buffers,
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

impl Deliver for Sink {
    fn frames(&mut self, channel: ChannelId, frames: &[u8], messages: u32) {
        assert!(self.may_receive.contains(channel));
        let mut rest = frames;
        let mut counted = 0;
        while !rest.is_empty() {
            let word = Word::first_of(rest).expect("whole frames");
            let (frame, after) = rest.split_at_checked(WORD + word.len()).expect("whole frames");
            assert_eq!(word.channel(), channel);
            if word.is_control() {
                let free_notes = u32::from(word.has_more());
                match Control::decode(channel, &frame[WORD..]) {
                    Ok(Control::End { channel: id, .. } | Control::Gap { channel: id, .. }) => {
                        assert_eq!(id, channel);
                    }
                    other => panic!("{other:?} is neither an end nor a gap"),
                }
                self.free_notes[channel.index()] += free_notes;
                self.waiting.push_back(Taken { free_notes, ..Taken::none(channel) });
            } else {
                assert_eq!(word.check(), Ok(()));
                assert!(word.is_whole_message() && word.len() <= self.max_message);
                counted += 1;
                self.keep(channel, word.len());
            }
            rest = after;
        }
        assert_eq!(counted, messages);
    }

    fn message(&mut self, channel: ChannelId, payload: Vec<u8>) {
        assert!(self.may_receive.contains(channel));
        assert!(payload.len() <= self.max_message);
        self.keep(channel, payload.len());
    }
}

impl Sink {
    fn keep(&mut self, channel: ChannelId, len: usize) {
        self.held[channel.index()] += u64::from(cost(len));
        self.waiting.push_back(Taken { cost: cost(len), messages: 1, ..Taken::none(channel) });
    }
}

impl Transmit {
    /// Reads a segment; it ends where a frame ends.
    fn read(&mut self, mut bytes: &[u8], mut note: impl FnMut(&Control)) {
        while !bytes.is_empty() {
            let word = Word::first_of(bytes).expect("whole frames");
            assert_eq!(word.check(), Ok(()));
            let (frame, rest) = bytes.split_at_checked(WORD + word.len()).expect("whole frames");
            bytes = rest;
            if word.is_control() {
                let control = Control::decode(word.channel(), &frame[WORD..]).expect("a legal control frame");
                let ack = matches!(control, Control::Ack(_));
                assert!(!self.closed || ack, "something else than an ACK after CLOSE");
                self.read_control(&control);
                note(&control);
            } else {
                assert!(!self.closed, "data after CLOSE");
                self.read_data(word);
            }
        }
    }

    fn read_data(&mut self, word: Word) {
        let at = word.channel().index();
        assert!(self.may_receive.contains(word.channel()));
        let left = self.credit[at].checked_sub(cost(word.len()).into());
        self.credit[at] = left.expect("a data frame without credit");
        let whole = self.partial[at].take().unwrap_or(0) + word.len();
        assert!(whole <= self.max_message);
        if word.has_more() {
            self.partial[at] = Some(whole);
        }
    }

    fn read_control(&mut self, control: &Control) {
        match control {
            Control::End { channel, end } => {
                let partial = self.partial[channel.index()].take();
                assert!(partial.is_none() || *end != End::Finish, "FINISH inside a message");
            }
            Control::Credit { channel, bytes } => {
                assert!(*bytes > 0);
                let granted = &mut self.granted[channel.index()];
                *granted += u64::from(*bytes);
            }
            Control::Close { .. } => self.closed = true,
            _ => {}
        }
    }
}

/// Frames that a peer might send: most of them legal, some of them not.
fn peer_frames(input: &mut Input<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..=input.byte() % 8 {
        let channel = input.channel();
        match input.byte() % 16 {
            0..=4 => {
                let len = input.length().min(MAX_DATA);
                out.extend_from_slice(&Word::data(channel, input.byte().is_multiple_of(2), len).to_bytes());
                out.resize(out.len() + len, 7);
            }
            5 => {
                // A flood of small ones.
                let len = usize::from(input.byte() % 3);
                for _ in 0..input.byte() {
                    out.extend_from_slice(&Word::data(channel, false, len).to_bytes());
                    out.resize(out.len() + len, 7);
                }
            }
            6 => Control::Credit { channel, bytes: input.number() as u32 >> (input.byte() % 32) }
                .encode(&mut out),
            7 => Control::End { channel, end: End::Finish }.encode(&mut out),
            8 => Control::End { channel, end: End::Reset(input.byte().into()) }.encode(&mut out),
            9 => Control::Stop { channel, code: input.byte().into(), run: (input.byte() % 4).into() }
                .encode(&mut out),
            10 => {
                for number in 0..input.byte() {
                    Control::Ping(number.into()).encode(&mut out);
                }
            }
            11 => Control::Pong(input.byte().into()).encode(&mut out),
            12 => Control::Ack(input.number() >> (input.byte() % 64)).encode(&mut out),
            13 => Control::Waiting {
                channel,
                waiting: input.byte().is_multiple_of(2),
                count: input.byte().into(),
            }
            .encode(&mut out),
            14 => Control::Gap { channel, messages: input.number(), bytes: input.number() }.encode(&mut out),
            _ => match input.byte() % 4 {
                0 => Control::Interrupt.encode(&mut out),
                1 => Control::Extension.encode(&mut out),
                2 => Control::Close { code: CloseCode::from(256), reason: "enough".to_owned() }
                    .encode(&mut out),
                // The word of something that does not exist.
                _ => out.extend_from_slice(&(input.number() as u32).to_be_bytes()),
            },
        }
    }
    out
}

/// The fuzzer's bytes, read as decisions; zeros follow behind their end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// Mostly one of a few channels, so that things happen on the same.
    fn channel(&mut self) -> ChannelId {
        let byte = self.byte();
        ChannelId::from_low_bits(if byte & 0x80 == 0 { byte % 3 } else { byte })
    }

    fn channels(&mut self) -> ChannelSet {
        ChannelSet::from_bits(u128::from(self.number()) << (self.byte() % 65))
    }

    /// A length around the places where something changes.
    fn length(&mut self) -> usize {
        let near = [0, 0, 1, 1, 8, 32, 33, 100, 100, 1000, 1000, 4096, 4096, 5000, MAX_DATA, 200_000];
        let near = near[usize::from(self.byte() % 16)];
        (near + usize::from(self.byte() % 4)).saturating_sub(1)
    }

    /// The next bytes as they are; `None` at the end.
    fn piece(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let len = usize::from(self.byte()).min(self.0.len());
        let (piece, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written from the protocol's tables: each frame there is, and what lies next to it.
    /// How many pseudo-random inputs each body gets: more by `TRUNKLINE_FUZZ_INPUTS`.
    fn inputs() -> usize {
        std::env::var("TRUNKLINE_FUZZ_INPUTS").ok().and_then(|inputs| inputs.parse().ok()).unwrap_or(2000)
    }

    const FRAMES: &[&[u8]] = &[
        b"\x05\x00\x00\x03abc",
        b"\x05\x00\x00\x00",
        b"\x05\x80\x00\x01a\x05\x00\x00\x01b",
        b"\x05\x01\x00\x00",
        b"\x05\x01\x00\x01",
        b"\x85\x00\x00\x05\x01\x00\x00\x10\x00",
        b"\x85\x00\x00\x05\x01\x7f\xff\xff\xff",
        b"\x85\x00\x00\x01\x02",
        b"\x85\x00\x00\x05\x03\x00\x00\x00\x07",
        b"\x85\x00\x00\x09\x04\x00\x00\x00\x07\x00\x00\x00\x00",
        b"\x80\x00\x00\x09\x05\x00\x00\x00\x00\x00\x00\x00\x01",
        b"\x80\x00\x00\x09\x06\x00\x00\x00\x00\x00\x00\x00\x01",
        b"\x80\x00\x00\x09\x07\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x85\x00\x00\x06\x08\x01\x00\x00\x00\x01",
        b"\x85\x00\x00\x06\x08\x02\x00\x00\x00\x01",
        b"\x80\x00\x00\x01\x09",
        b"\x80\x00\x00\x06\x0a\x01\x00bye",
        b"\x80\x00\x00\x04\x0a\x01\x00\xff",
        b"\x85\x00\x00\x11\x0b\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02",
        b"\x80\x00\x00\x03\x80hi",
        b"\x80\x00\x00\x01\x0c",
        b"\x80\x00\x00\x00",
        b"\x80\x80\x00\x01\x09",
        b"\x80\x00\x04\x01",
        b"\x81\x00\x00\x09\x05\x00\x00\x00\x00\x00\x00\x00\x01",
    ];

    /// Xorshift64*, so that every run tries the same.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
        }

        fn bytes(&mut self) -> Vec<u8> {
            let len = self.next() % 600;
            (0..len).map(|_| (self.next() >> 32) as u8).collect()
        }
    }

    #[test]
    fn frame_over_a_corpus() {
        for seed in FRAMES {
            for end in 0..=seed.len() {
                frame(&seed[..end]);
            }
        }
        frame(&FRAMES.concat());
        let mut noise = Noise(1);
        for _ in 0..inputs() {
            let mut bytes = noise.bytes();
            frame(&bytes);
            // Short frames, so that there is more than one.
            for word in bytes.chunks_mut(4) {
                word[1..].iter_mut().take(2).for_each(|byte| *byte = 0);
            }
            frame(&bytes);
        }
    }

    #[test]
    fn handshake_over_a_corpus() {
        // Nothing changed, one byte of each message changed, and HTTP.
        for cut in [0, 1, 5, 255] {
            handshake(&[2, 0, cut]);
        }
        for message in 0..4 {
            for at in 0..100 {
                handshake(&[2, 1, message, at, 0x80, 13]);
            }
        }
        handshake(b"\x00\x01\x10GET / HTTP/1.1\r\n");
        handshake(b"\x00\x01\x30\xF4TLN\x01\x01\x00\x00");
        handshake(b"\x01\x01\x30\xF4TLN\x01\x00\x00\x00");
        let mut noise = Noise(2);
        for _ in 0..inputs() {
            handshake(&noise.bytes());
        }
    }

    #[test]
    fn session_over_a_corpus() {
        for seed in FRAMES {
            for (ours, theirs) in [(2, 2), (0, 0), (4, 7), (5, 5)] {
                // Settings, and then the bytes as they are, whole and cut in two.
                let settings = [0, ours, 4, theirs, 4];
                let len = seed.len() as u8;
                session(&[&settings[..], &[0, len], seed, &[0, len], seed, &[12, 3]].concat());
                let (a, b) = seed.split_at(seed.len() / 2);
                session(&[&settings[..], &[0, a.len() as u8], a, &[0, b.len() as u8], b, &[12, 3]].concat());
            }
        }
        let mut noise = Noise(3);
        for _ in 0..inputs() {
            session(&noise.bytes());
        }
    }
}
