//! The session tested as a pair, with virtual time: whatever the two applications do and however
//! the bytes are cut, every message arrives once, whole and in order, credit is never exceeded
//! (the receiving side would call it a violation) and no queue is left stuck.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::frame::{Control, End, WORD, Word};
use super::handshake::{Grace, Terms};
use super::inbound::{Budget, Deliver, Stop, Taken};
use super::outbound::{Outbound, Payload, Priority, Refused};
use super::segment::{Fresh, Segment};
use super::session::{CloseWish, Exchange, Farewell, Flush, Output, Room, Session, Settings, Wishes};
use crate::error::{CloseCode, ConnectionError};
use crate::id::{ChannelId, ChannelSet};

mod account;
mod closing;
mod resume;
mod runs;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Got {
    Message(Vec<u8>),
    End(End),
    Gap(u64, u64),
}

/// What a peer has received and not read, per channel.
#[derive(Default)]
struct Mailbox {
    /// Each with whether it cost no credit.
    unread: BTreeMap<ChannelId, VecDeque<(Got, bool)>>,
}

impl Deliver for Mailbox {
    fn frames(&mut self, channel: ChannelId, mut frames: &[u8], messages: u32) {
        let queue = self.unread.entry(channel).or_default();
        let mut count = 0;
        while let Some(word) = Word::first_of(frames) {
            assert_eq!(word.channel(), channel);
            let (frame, rest) = frames.split_at(WORD + word.len());
            frames = rest;
            if word.is_control() {
                let free = word.has_more();
                match Control::decode(channel, &frame[WORD..]) {
                    Ok(Control::End { end, .. }) => queue.push_back((Got::End(end), free)),
                    Ok(Control::Gap { messages, bytes, .. }) => {
                        queue.push_back((Got::Gap(messages, bytes), free));
                    }
                    other => panic!("{other:?} is neither an end nor a gap"),
                }
            } else {
                assert!(word.is_whole_message());
                count += 1;
                queue.push_back((Got::Message(frame[WORD..].to_vec()), false));
            }
        }
        assert_eq!(count, messages);
        assert!(frames.is_empty());
    }

    fn message(&mut self, channel: ChannelId, payload: Vec<u8>) {
        self.unread.entry(channel).or_default().push_back((Got::Message(payload), false));
    }
}

struct Peer {
    session: Session,
    outbound: Outbound,
    mailbox: Mailbox,
    /// What the application wants.
    wishes: Wishes,
    flushes: Vec<Flush>,
    /// Bytes on their way to the other peer.
    wire: VecDeque<u8>,
    senders: BTreeMap<ChannelId, (usize, u32)>,
    /// What was accepted, per channel: what the other must read.
    accepted: BTreeMap<ChannelId, Vec<Got>>,
    read: BTreeMap<ChannelId, Vec<Got>>,
}

impl Peer {
    fn new(now: Instant, settings: &Settings) -> Self {
        let (session, outbound) = Session::new(now, settings);
        Self {
            session,
            outbound,
            mailbox: Mailbox::default(),
            wishes: Wishes::default(),
            flushes: Vec::new(),
            wire: VecDeque::new(),
            senders: BTreeMap::new(),
            accepted: BTreeMap::new(),
            read: BTreeMap::new(),
        }
    }

    fn sender(&mut self, channel: ChannelId) -> (usize, u32) {
        let outbound = &mut self.outbound;
        *self.senders.entry(channel).or_insert_with(|| outbound.claim(channel, None).unwrap())
    }

    fn send(&mut self, channel: ChannelId, message: Vec<u8>, shared: bool) -> bool {
        let (place, generation) = self.sender(channel);
        let bytes = Bytes::from(message.clone());
        let payload = if shared { Payload::Shared(&bytes) } else { Payload::Slice(&bytes) };
        match self.outbound.offer(place, generation, payload, false, &mut Fresh) {
            Ok(()) => {
                self.accepted.entry(channel).or_default().push(Got::Message(message));
                true
            }
            Err(Refused::Credit | Refused::QueueFull) => false,
            Err(other) => panic!("{other:?}"),
        }
    }

    fn finish(&mut self, channel: ChannelId) {
        let (place, generation) = self.sender(channel);
        let open = matches!(self.accepted.entry(channel).or_default().last(), Some(Got::Message(_)));
        let first = self.accepted[&channel].is_empty();
        self.outbound.end(place, generation, End::Finish, &mut Fresh).unwrap();
        if open || first {
            self.accepted.entry(channel).or_default().push(Got::End(End::Finish));
        }
    }

    /// One exchange; what is to be sent.
    fn exchange(&mut self, now: Instant, room: Room) -> (VecDeque<Segment>, Output) {
        let mut segments = VecDeque::new();
        let mut output = Output::default();
        let exchange = Exchange {
            now,
            outbound: &mut self.outbound,
            flushes: &mut self.flushes,
            room,
            spare: &mut Fresh,
            segments: &mut segments,
            output: &mut output,
        };
        self.session.exchange(&mut self.wishes, exchange);
        if self.session.has_merged() {
            self.session.poll_merged(&mut self.mailbox);
        }
        (segments, output)
    }

    /// Lets what arrived and the application act on each other, and puts what there is to send on
    /// the wire.
    fn pump(&mut self, now: Instant) {
        loop {
            let (segments, _) = self.exchange(now, Room::Bytes(10_000));
            if segments.is_empty() {
                break;
            }
            for segment in &segments {
                for part in segment.parts() {
                    self.wire.extend(part);
                }
            }
        }
        self.session.inbound().check_invariants();
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        let farewell = Farewell { code, reason: reason.to_owned() };
        self.wishes.close = Some(CloseWish::Behind { farewell, linger: Duration::from_secs(5) });
    }

    /// The application reads up to so many things of a channel.
    fn read(&mut self, channel: ChannelId, most: usize) {
        let queue = self.mailbox.unread.entry(channel).or_default();
        for (got, free) in queue.drain(..most.min(queue.len())) {
            let mut taken = Taken { free_notes: free.into(), ..Taken::none(channel) };
            if let Got::Message(message) = &got {
                taken.cost = message.len() as u32 + 32;
                taken.messages = 1;
            }
            self.wishes.taken.push(taken);
            self.read.entry(channel).or_default().push(got);
        }
    }
}

fn settings(ours: u32, theirs: u32, max_message: u32) -> Settings {
    let terms = |window| Terms { window, max_message, grace: Grace::NONE };
    Settings {
        ours: terms(ours),
        theirs: terms(theirs),
        we_may_send: ChannelSet::ALL,
        peer_may_send: ChannelSet::ALL,
        peer_may_interrupt: true,
        send_queue: 100_000,
        reserves: u64::from(max_message) + 32,
        excess: 1 << 20,
        heartbeat: Some((Duration::from_secs(10), Duration::from_secs(30))),
        replay_limit: 1 << 20,
        resumable: false,
    }
}

/// Two peers and the wire between them.
struct Pair {
    now: Instant,
    peers: [Peer; 2],
}

impl Pair {
    fn new(windows: [u32; 2], max_message: u32) -> Self {
        Self::with(windows, max_message, |_| {})
    }

    fn with(windows: [u32; 2], max_message: u32, set: impl Fn(&mut Settings)) -> Self {
        let now = Instant::now();
        let peer = |ours: u32, theirs: u32| {
            let mut settings = settings(ours, theirs, max_message);
            set(&mut settings);
            Peer::new(now, &settings)
        };
        Self { now, peers: [peer(windows[0], windows[1]), peer(windows[1], windows[0])] }
    }

    /// Lets up to `len` bytes from peer `from` arrive, into the payload buffer if `direct`.
    fn arrive(&mut self, from: usize, len: usize, direct: bool) -> bool {
        let [a, b] = &mut self.peers;
        let (from, to) = if from == 0 { (a, b) } else { (b, a) };
        let len = len.min(from.wire.len());
        if len == 0 {
            return false;
        }
        match to.session.payload_buffer() {
            Some(buffer) if direct => {
                let len = len.min(buffer.capacity() - buffer.len());
                buffer.extend(from.wire.drain(..len));
                to.session.handle_payload(self.now, len, &mut to.mailbox);
            }
            _ => {
                let bytes: Vec<u8> = from.wire.drain(..len).collect();
                let mut budget = Budget::pass();
                to.session.handle_input(self.now, &mut &bytes[..], &mut budget, &mut to.mailbox);
                assert!(!budget.is_spent(), "more frames than a test sends");
            }
        }
        true
    }

    fn pump(&mut self) {
        for peer in &mut self.peers {
            peer.pump(self.now);
            assert_eq!(peer.session.ended(), None);
        }
    }

    /// Jumps to the next deadline.
    fn wait(&mut self) {
        let next = self.peers.iter().filter_map(|peer| peer.session.deadline(true)).min();
        self.now = self.now.max(next.unwrap_or(self.now));
        for peer in &mut self.peers {
            peer.session.handle_timeout(self.now).unwrap();
        }
        self.pump();
        // Nothing is on the wire for longer than a heartbeat.
        for from in 0..2 {
            while self.arrive(from, 4096, false) {}
        }
    }

    /// Lets everything arrive and be read; fails if something is stuck.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "the pair never settles");
            self.pump();
            let mut moved = false;
            for from in 0..2 {
                while self.arrive(from, 4096, round % 2 == 0) {
                    moved = true;
                }
            }
            for peer in &mut self.peers {
                for channel in peer.mailbox.unread.keys().copied().collect::<Vec<_>>() {
                    moved |= !peer.mailbox.unread[&channel].is_empty();
                    peer.read(channel, usize::MAX);
                }
            }
            if !moved {
                break;
            }
        }
        for (from, to) in [(0, 1), (1, 0)] {
            assert!(self.peers[from].outbound.is_flushed(), "something is left in the queue of peer {from}");
            for (channel, accepted) in &self.peers[from].accepted {
                let read = self.peers[to].read.get(channel).cloned().unwrap_or_default();
                assert!(&read == accepted, "channel {channel}: {} of {}", read.len(), accepted.len());
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send { from: usize, channel: u8, len: usize, shared: bool },
    Finish { from: usize, channel: u8 },
    Arrive { from: usize, len: usize, direct: bool },
    Read { at: usize, channel: u8, most: usize },
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![4 => 0usize..100, 2 => 0usize..5000, 1 => 60_000usize..200_000];
    let cut = prop_oneof![3 => 1usize..10, 3 => 1usize..1000, 1 => 1usize..100_000];
    prop_oneof![
        5 => (0..2usize, 0..4u8, len, any::<bool>())
            .prop_map(|(from, channel, len, shared)| Step::Send { from, channel, len, shared }),
        1 => (0..2usize, 0..4u8).prop_map(|(from, channel)| Step::Finish { from, channel }),
        8 => (0..2usize, cut, any::<bool>()).prop_map(|(from, len, direct)| Step::Arrive { from, len, direct }),
        3 => (0..2usize, 0..4u8, 0usize..20).prop_map(|(at, channel, most)| Step::Read { at, channel, most }),
        1 => Just(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_message_arrives_once_whole_and_in_order(
        windows in prop::array::uniform2(prop_oneof![Just(1024u32), 1024u32..20_000, Just(1 << 20)]),
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let mut pair = Pair::new(windows, 300_000);
        let mut number = 0u8;
        for step in steps {
            match step {
                Step::Send { from, channel, len, shared } => {
                    number = number.wrapping_add(1);
                    pair.peers[from].send(ChannelId::new(channel), vec![number; len], shared);
                }
                Step::Finish { from, channel } => pair.peers[from].finish(ChannelId::new(channel)),
                Step::Arrive { from, len, direct } => {
                    pair.arrive(from, len, direct);
                }
                Step::Read { at, channel, most } => pair.peers[at].read(ChannelId::new(channel), most),
                Step::Wait => pair.wait(),
            }
            pair.pump();
        }
        pair.settle();
    }

    /// Random bytes end in a violation or are taken; nothing else.
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), cut in 1usize..500) {
        let mut pair = Pair::new([5000, 5000], 10_000);
        pair.peers[1].wire.extend(bytes);
        while pair.arrive(1, cut, true) {
            pair.peers[0].pump(pair.now);
        }
    }
}

/// Trap 5: a message larger than the window goes through, whatever the window is.
#[test]
fn a_message_larger_than_the_window_goes_through() {
    for window in [1024, 5000, 70_000] {
        let mut pair = Pair::new([window; 2], 300_000);
        assert!(pair.peers[0].send(ChannelId::new(1), vec![7; 300_000], false));
        assert!(!pair.peers[0].send(ChannelId::new(1), vec![8], false), "the next one waits");
        assert!(pair.peers[0].send(ChannelId::new(2), vec![9], false), "others do not");
        pair.settle();
    }
}

/// Whatever is unread below half the window, and however long frames may be on the link, a message
/// that has begun is finished without the reader.
#[test]
fn a_message_that_has_begun_needs_no_reader_to_be_finished() {
    for longest in [1024, 1500, 2000, 3000, 3750, 4096, 5000, 65_536] {
        for unread in (0..3960).step_by(40) {
            let mut pair = Pair::new([8192; 2], 100_000);
            pair.peers[0].outbound.limit_frames(longest);
            assert!(pair.peers[0].send(ChannelId::new(1), vec![1; unread], false));
            assert!(pair.peers[0].send(ChannelId::new(1), vec![2; 10_000], false));
            for _ in 0..10 {
                pair.pump();
                while pair.arrive(0, 4096, false) {}
                pair.pump();
                while pair.arrive(1, 4096, false) {}
            }
            let whole = pair.peers[1].mailbox.unread[&ChannelId::new(1)].len();
            assert_eq!(whole, 2, "{unread} bytes unread, frames of {longest}");
        }
    }
}

/// A peer that sends only messages of a fragment and a byte would hold the window many times over
/// if fragments were always credited back.
#[test]
fn completed_messages_count_whole_against_the_window() {
    let mut pair = Pair::new([70_000, 70_000], 100_000);
    let mut accepted = 0;
    for _ in 0..100 {
        accepted += usize::from(pair.peers[0].send(ChannelId::new(1), vec![1; 65_537], false));
        pair.pump();
        while pair.arrive(0, 4096, false) {}
        pair.pump();
        while pair.arrive(1, 4096, false) {}
    }
    let unread: usize = pair.peers[1].mailbox.unread[&ChannelId::new(1)].len();
    assert!(unread <= 2, "{unread} messages of 65,537 bytes wait in a window of 70,000");
    assert!((unread..unread + 2).contains(&accepted));
    pair.settle();
}

/// Trap 8: a link that is busy with our bulk answers late; progress of the socket is life too.
#[test]
fn a_busy_link_is_not_given_up() {
    let mut pair = Pair::new([5000; 2], 10_000);
    let peer = &mut pair.peers[0];
    for second in 1..100 {
        let now = pair.now + Duration::from_secs(second);
        peer.session.handle_write_progress(now);
        peer.session.handle_timeout(now).unwrap();
    }
    assert_eq!(peer.session.ended(), None);
    for second in [111, 140] {
        peer.session.handle_timeout(pair.now + Duration::from_secs(second)).unwrap();
    }
    assert_eq!(peer.session.ended(), Some(&ConnectionError::HeartbeatLost(Duration::from_secs(30))));
}

/// Two idle peers acknowledge what came and then are silent.
#[test]
fn an_acknowledgement_asks_for_none() {
    let mut pair = Pair::with([5000; 2], 10_000, |settings| settings.resumable = true);
    pair.peers[0].send(ChannelId::new(1), vec![1; 10], false);
    pair.settle();
    let mut acks = 0;
    for _ in 0..20 {
        // Less than a heartbeat.
        pair.now += Duration::from_millis(300);
        pair.pump();
        for from in 0..2 {
            while pair.arrive(from, 1000, false) {
                acks += 1;
            }
        }
    }
    assert_eq!(acks, 1);
}

#[test]
fn urgent_messages_go_first_and_keep_their_order() {
    let mut pair = Pair::new([100_000; 2], 10_000);
    let [urgent, normal] = [ChannelId::new(1), ChannelId::new(2)];
    let peer = &mut pair.peers[0];
    let claim = peer.outbound.claim(urgent, Some(Priority::Urgent)).unwrap();
    peer.senders.insert(urgent, claim);
    assert!(peer.outbound.claim(urgent, Some(Priority::Normal)).is_none(), "one priority at a time");
    for number in 0..3 {
        assert!(peer.send(normal, vec![number], false));
        assert!(peer.send(urgent, vec![10 + number], false));
    }
    let (segments, _) = peer.exchange(pair.now, Room::Bytes(1000));
    let payloads: Vec<u8> = segments
        .iter()
        .flat_map(|segment| match segment {
            Segment::Frames(frames) => frames.chunks(5).map(|frame| frame[4]).collect::<Vec<_>>(),
            Segment::Large { .. } => Vec::new(),
        })
        .collect();
    assert_eq!(payloads, [10, 11, 12, 0, 1, 2]);
}

/// Small messages have a path of their own, which once forgot the limit.
#[test]
fn a_small_message_above_a_smaller_limit_is_refused() {
    let mut pair = Pair::new([100_000; 2], 100);
    let mut bytes = Word::data(ChannelId::new(1), false, 101).to_bytes().to_vec();
    bytes.extend([0; 101]);
    pair.peers[1].wire.extend(bytes);
    while pair.arrive(1, 1000, false) {}
    pair.peers[0].pump(pair.now);
    let ended = pair.peers[0].session.ended().cloned();
    assert!(
        matches!(&ended, Some(ConnectionError::ProtocolViolation { code: CloseCode::MESSAGE_TOO_LARGE, .. })),
        "{ended:?}"
    );
    assert!(pair.peers[0].mailbox.unread.is_empty());
}
