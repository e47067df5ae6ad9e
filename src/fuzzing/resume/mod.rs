//! Two sessions whose socket is lost again and again, up to the close of one or both.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{CloseCode, ConnectionError};
use crate::fuzzing::input::Input;
use crate::fuzzing::ledger::{Ledger, STOP, content};
use crate::id::ChannelId;
use crate::proto::frame::{End, MAX_DATA};
use crate::proto::handshake::{Grace, Terms};
use crate::proto::inbound::Stop;
use crate::proto::outbound::{Payload, Refused};
use crate::proto::segment::Fresh;
use crate::proto::session::{CloseWish, Farewell, Reads};

mod side;

use side::{CHANNELS, Claim, Side, Socket, TAIL, claim};

/// Runs a client (0) and a server (1) as their drivers would, over sockets that are lost anywhere:
/// what was sent arrives once, whole and in order, what is confirmed has arrived, and an offset at
/// which the peer cannot stand changes nothing.
pub fn resume(data: &[u8]) {
    let mut input = Input(data);
    let mut world = World::new(&mut input);
    while !input.0.is_empty() {
        world.step(&mut input);
    }
    world.settle();
    world.check();
}

struct World {
    now: Instant,
    sides: [Side; 2],
    /// No side has named an offset at which it does not stand.
    honest: bool,
    /// Which side has closed by itself, and whether one did so at once.
    closed: [bool; 2],
    hurried: bool,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let window = |choice: u8| [64, 65, 1024, 5000, 70_000, 1 << 20][usize::from(choice % 6)];
        // A message takes few fragments, or it would take all the time there is.
        let largest =
            |choice: u8, window| [1, 100, 1000, 5000, 70_000][usize::from(choice % 5)].min(window * 8);
        let limit = |choice: u8| [256 << 10, 4096, 600, 20_000][usize::from(choice % 4)];
        let [a, b] = [0; 2].map(|_| {
            let (size, other) = (input.byte(), input.byte());
            let window = window(size);
            let terms = Terms { window, max_message: largest(size / 6, window), grace: Grace(60_000) };
            (
                terms,
                limit(other),
                (other & 4 == 0).then_some((Duration::from_secs(10), Duration::from_secs(30))),
            )
        });
        let now = Instant::now();
        let side = |ours: (Terms, u64, _), theirs: Terms| Side::new(now, ours.0, theirs, ours.1, ours.2);
        let sides = [side(a, b.0), side(b, a.0)];
        Self { now, sides, honest: true, closed: [false; 2], hurried: false }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let byte = input.byte();
        let at = usize::from(byte >> 7);
        match byte % 16 {
            0..=2 => {
                let (channel, len, shared) = (channel_of(input), length_of(input), byte & 64 == 0);
                self.send(at, channel, len, shared);
            }
            3 => self.end(at, input),
            4..=7 => {
                let most = usize::from(input.byte()) << (byte >> 4 & 7);
                self.arrive(at, most, byte & 4 == 0);
            }
            8 => {
                for _ in 0..=input.byte() % 32 {
                    self.sides[at].take_one();
                }
            }
            9 => self.pass_time(Duration::from_millis(u64::from(input.byte()) * 40)),
            10 | 11 => {
                let room = usize::from(input.byte()) << (byte >> 4 & 7);
                self.pump(at, room);
            }
            12 => match byte >> 4 & 3 {
                0 | 1 => self.cut([true; 2]),
                2 => self.cut([true, false]),
                _ => self.cut([false, true]),
            },
            13 => self.connect(byte & 64 == 0, usize::from(input.byte()) << (byte >> 4 & 3)),
            14 => {
                let offset = self.offset(at, input);
                self.lie(at, offset);
            }
            _ => self.wish(at, input),
        }
    }

    // ---- the application

    fn send(&mut self, at: usize, channel: usize, len: usize, shared: bool) {
        let (side, ledgers) = self.sender(at);
        if side.session.ended().is_some() {
            return;
        }
        let Claim { place, generation, .. } = side.senders[channel];
        let message = content(ledgers[channel].next(), len);
        let bytes = Bytes::copy_from_slice(&message);
        let payload = if shared { Payload::Shared(&bytes) } else { Payload::Slice(&message) };
        match side.outbound.offer(place, generation, payload, false, &mut Fresh) {
            Ok(()) => {
                ledgers[channel].send(len);
                side.senders[channel].ended = false;
            }
            Err(Refused::TooLarge(limit)) => assert!(len > limit as usize),
            Err(Refused::Stopped(_)) => {
                side.senders[channel] = claim(&mut side.outbound, channel);
            }
            Err(Refused::Credit | Refused::QueueFull) => {}
        }
    }

    fn end(&mut self, at: usize, input: &mut Input<'_>) {
        let (channel, what) = (channel_of(input), input.byte());
        let (side, ledgers) = self.sender(at);
        if side.session.ended().is_some() {
            return;
        }
        let Claim { place, generation, ended } = side.senders[channel];
        let end = if what & 1 == 0 { End::Finish } else { End::Reset((what >> 4).into()) };
        let done = if what & 2 == 0 {
            side.outbound.end(place, generation, end, &mut Fresh).map(|_| {
                if !ended {
                    ledgers[channel].end(end);
                }
                side.senders[channel].ended = true;
                if what & 4 == 0 {
                    // The next one can end a run in which nothing was sent.
                    side.outbound.release(place, generation, end, &mut Fresh);
                    side.senders[channel] = claim(&mut side.outbound, channel);
                }
            })
        } else {
            let (messages, bytes) = (u64::from(what >> 4), u64::from(what));
            let done = side.outbound.gap(place, generation, messages, bytes);
            done.map(|()| ledgers[channel].leave_out(messages, bytes))
        };
        if done.is_err() {
            side.senders[channel] = claim(&mut side.outbound, channel);
        }
    }

    /// A STOP that has come ends the run of a side's senders.
    fn note_stops(&mut self) {
        let honest = self.honest;
        for at in 0..2 {
            let (side, ledgers) = self.sender(at);
            for channel in std::mem::take(&mut side.stopped) {
                let Claim { place, generation, .. } = side.senders[channel];
                // Else the run had been ended before.
                if honest && side.outbound.stopped(place, generation).is_some() {
                    ledgers[channel].end_stopped();
                }
            }
        }
    }

    /// A side, and what the other one expects of it.
    fn sender(&mut self, at: usize) -> (&mut Side, &mut [Ledger; CHANNELS]) {
        let [a, b] = &mut self.sides;
        let (from, to) = if at == 0 { (a, b) } else { (b, a) };
        (from, &mut to.inbox.ledgers)
    }

    fn wish(&mut self, at: usize, input: &mut Input<'_>) {
        let channel = channel_of(input);
        let side = &mut self.sides[at];
        let id = ChannelId::new(channel as u8);
        match input.byte() % 16 {
            0..=3 => side.wishes.interrupt = true,
            4..=7 => {
                let (waiting, count) = (input.byte().is_multiple_of(2), None);
                side.wishes.reads.push(Reads { channel: id, waiting, count });
            }
            // Those that were merged are not told yet, but count.
            8..=11 if !side.session.has_merged() => {
                let run = side.session.inbound().run(id);
                side.wishes.stops.push(Stop { channel: id, code: STOP, run });
                side.inbox.ledgers[channel].stop();
            }
            8..=11 => {}
            what => {
                let farewell = Farewell { code: CloseCode::NORMAL, reason: "done".to_owned() };
                let now = what == 15;
                let ours = side.session.ended().is_none();
                side.wishes.close = Some(if now {
                    CloseWish::Now(farewell)
                } else {
                    CloseWish::Behind { farewell, linger: Duration::from_secs(5) }
                });
                self.closed[at] |= ours;
                self.hurried |= now;
            }
        }
    }

    // ---- the sockets

    /// One pass of a driver.
    fn pump(&mut self, at: usize, room: usize) -> usize {
        let written = self.sides[at].pump(self.now, room, at == 1);
        self.note_stops();
        self.look_for_ends();
        written
    }

    /// Lets so many bytes of a side's arrive.
    fn arrive(&mut self, from: usize, most: usize, direct: bool) -> usize {
        let now = self.now;
        let (honest, [a, b]) = (self.honest, &mut self.sides);
        let (from, to) = if from == 0 { (a, b) } else { (b, a) };
        if !matches!(to.socket, Socket::Connected { .. }) {
            return 0;
        }
        let len = most.min(from.flying.len());
        let later = from.flying.split_off(len);
        let bytes = std::mem::replace(&mut from.flying, later);
        to.receive(now, &bytes, direct);
        if honest {
            let ended = to.session.ended();
            assert!(!matches!(ended, Some(ConnectionError::ProtocolViolation { .. })), "{ended:?}");
        }
        self.look_for_ends();
        len
    }

    /// The socket is lost, and these sides notice.
    fn cut(&mut self, notice: [bool; 2]) {
        for (at, notices) in notice.into_iter().enumerate() {
            let side = &mut self.sides[at];
            match side.socket {
                Socket::Connected { .. } | Socket::Dead if notices => side.lose(at == 1),
                Socket::Connected { .. } => side.socket = Socket::Dead,
                _ => {}
            }
            side.flying.clear();
        }
    }

    /// Ends of halves, and of connections.
    fn look_for_ends(&mut self) {
        for at in [0, 1, 0] {
            let [a, b] = &mut self.sides;
            let (side, other) = if at == 0 { (a, b) } else { (b, a) };
            let half_ended = other.flying.is_empty()
                && matches!(other.socket, Socket::Over | Socket::Connected { finished: true });
            side.look_for_end(self.now, half_ended, at == 1);
        }
        self.note_stops();
    }

    fn pass_time(&mut self, time: Duration) {
        self.now += time;
        for (at, side) in self.sides.iter_mut().enumerate() {
            let attached = matches!(side.socket, Socket::Connected { .. } | Socket::Dead);
            if attached && side.session.handle_timeout(self.now).is_err() {
                side.lose(at == 1);
                side.flying.clear();
            }
        }
        // One that has given up is not written to.
        let [a, b] = [0, 1].map(|at: usize| self.sides[at].socket);
        if a == Socket::Away || b == Socket::Away {
            for side in &mut self.sides {
                if matches!(side.socket, Socket::Connected { .. }) {
                    side.socket = Socket::Dead;
                    side.flying.clear();
                }
            }
        }
    }

    /// The client connects again. `whole`: it gets the Accept; else the server goes on, into a
    /// socket that is lost again.
    fn connect(&mut self, whole: bool, room: usize) {
        let now = self.now;
        let [client, server] = &mut self.sides;
        if client.socket == Socket::Dead {
            client.lose(false);
        }
        if client.socket != Socket::Away {
            return;
        }
        client.flying.clear();
        server.flying.clear();
        let (asked, told) = (client.received(), server.received());
        if server.socket == Socket::Over {
            match server.replay.tail(TAIL).filter(|_| server.has_exchanged_closes()) {
                // It tells what it remembers of its stream's end, and nothing else.
                Some((from, tail)) => {
                    let place = asked.checked_sub(from).map(|skip| tail.get(skip as usize..));
                    let Some(Some(rest)) = place else {
                        assert!(!self.honest, "the end of the stream at {asked} is not at {from}");
                        return client.socket = Socket::Over;
                    };
                    if whole && client.go_on(now, told, self.honest) {
                        server.flying.extend_from_slice(rest);
                        client.session.announce(now);
                    }
                }
                None => client.socket = Socket::Over,
            }
            return;
        }
        if !server.session.may_resume() {
            return client.socket = Socket::Over;
        }
        if !server.go_on(now, asked, self.honest) {
            return client.socket = Socket::Over;
        }
        if whole {
            if client.go_on(now, told, self.honest) {
                client.session.announce(now);
            }
        } else {
            server.socket = Socket::Dead;
            server.pump(now, room, true);
            server.lose(true);
            self.note_stops();
        }
    }

    /// An offset around one that means something.
    fn offset(&self, at: usize, input: &mut Input<'_>) -> u64 {
        let [this, other] = [at, 1 - at].map(|at| &self.sides[at]);
        let near = match input.byte() % 5 {
            0 => other.received(),
            1 => this.session.peer_has(),
            2 => this.session.sent(),
            3 => 0,
            _ => return input.number(),
        };
        (near + u64::from(input.byte() % 8)).saturating_sub(u64::from(input.byte() % 8))
    }

    /// The peer of a side names an offset that is not where it stands.
    fn lie(&mut self, at: usize, offset: u64) {
        let truth = self.sides[1 - at].received();
        let side = &mut self.sides[at];
        if offset == truth || matches!(side.socket, Socket::Over) {
            return;
        }
        let before = (side.replay.is_written(), side.replay.unwritten().map(<[u8]>::len).sum::<usize>());
        if !side.replay.reaches(offset) {
            assert!(!side.replay.rewind(offset, &mut Fresh));
            let after = (side.replay.is_written(), side.replay.unwritten().map(<[u8]>::len).sum::<usize>());
            assert_eq!(before, after);
            return;
        }
        if side.socket == Socket::Away && side.session.may_resume() && offset.is_multiple_of(4) {
            // What it names it could have; from now on nothing can be said of what arrives.
            self.honest = false;
            self.sides.iter_mut().for_each(|side| side.inbox.checks = false);
            self.sides[at].go_on(self.now, offset, false);
        }
    }

    // ---- the end

    /// Lets everything arrive.
    fn settle(&mut self) {
        self.cut([true; 2]);
        let mut idle = 0;
        for round in 0.. {
            assert!(round < 20_000, "it never settles");
            self.connect(true, 0);
            let mut moved = false;
            for at in 0..2 {
                moved |= self.pump(at, usize::MAX) > 0;
                while self.arrive(at, 9000, round % 2 == 0) > 0 {
                    moved = true;
                }
                while self.sides[at].take_one() {
                    moved = true;
                }
            }
            idle = if moved { 0 } else { idle + 1 };
            if idle > 2 || !self.honest && round > 200 {
                break;
            }
            // Perhaps an ACK is due, which makes room.
            self.pass_time(Duration::from_millis(if moved { 1 } else { 250 }));
        }
    }

    fn check(&self) {
        if !self.honest {
            return;
        }
        for at in 0..2 {
            let [this, other] = [at, 1 - at].map(|at| &self.sides[at]);
            let delivered = this.session.is_delivered();
            if delivered || self.closed == [false; 2] {
                assert!(delivered || this.outbound.is_flushed(), "something is left");
                other.inbox.ledgers.iter().for_each(Ledger::check_complete);
            }
            if self.hurried || self.closed == [false; 2] {
                continue;
            }
            let session = &this.session;
            assert!(session.close_said() && session.close_received(), "it does not end: {session:?}");
            // A client comes back until it knows; a server whose client closes too may not hear.
            if at == 0 || !self.closed[0] {
                assert!(session.is_confirmed(), "its end is not confirmed: {session:?}");
            }
            if self.closed[at] && !self.closed[1 - at] {
                assert!(delivered, "what it sent is not confirmed: {session:?}");
            }
        }
    }
}

fn channel_of(input: &mut Input<'_>) -> usize {
    usize::from(input.byte()) % CHANNELS
}

/// Mostly short.
fn length_of(input: &mut Input<'_>) -> usize {
    let byte = input.byte();
    match byte % 16 {
        0..=10 => usize::from(byte),
        11..=13 => usize::from(byte) << 4,
        14 => 5000 - usize::from(byte),
        _ => MAX_DATA + 128 - usize::from(byte),
    }
}
