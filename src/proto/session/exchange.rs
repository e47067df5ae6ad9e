//! The exchange: the session hears the application, lets what arrived act, and says what goes out.

use std::collections::VecDeque;
use std::time::Instant;

use super::life::{Farewell, Life, Said};
use super::owed::Frames;
use super::wishes::{CloseWish, Exchange, Flush, Output, Room, Wishes};
use super::{BACKLOG, Session};
use crate::error::ConnectionError;
use crate::proto::frame::Control;
use crate::proto::inbound::{Due, Effects};
use crate::proto::outbound::Outbound;
use crate::proto::segment::{Segment, Spare};
use crate::proto::violation::Violation;

impl Session {
    /// What the application wants and what arrived act on the sending half, and what is to be sent
    /// comes out. To be called after every input, with the send queue locked.
    pub(crate) fn exchange<S: Spare>(&mut self, wishes: &mut Wishes, exchange: Exchange<'_, S>) {
        let Exchange { now, outbound, flushes, room, spare, segments, output } = exchange;
        self.hear_application(wishes);
        self.apply_effects(now, outbound, spare, output);
        if let Some(cause) = &self.ended {
            // With the queue locked: what is accepted before goes out, or is known not to have.
            output.ended = Some(cause.clone());
        }
        self.check_flushes(outbound, flushes);
        while let Some(Due { channel, credit, report_at }) = self.inbound.poll_due() {
            output.reports.push((channel, report_at));
            if let Some(bytes) = credit {
                self.owed.credit(channel, bytes);
            }
        }
        if let Room::Bytes(most) = room {
            let under_way = self.stream.unacknowledged();
            if under_way == 0 {
                self.flight.begin(now, self.stream.sent);
            }
            if let Some(at) = self.flight.probe_at()
                && under_way >= at
            {
                self.owed.pings.want_behind(self.stream.peer_has + at);
            }
            let kept = if self.resumable { under_way } else { 0 };
            let left = self.stream.limit.saturating_sub(kept);
            let left = left.min(self.flight.window().saturating_sub(under_way));
            self.transmit(now, outbound, most.min(left.try_into().unwrap_or(usize::MAX)), spare, segments);
            output.held = left == 0;
            if !flushes.is_empty() {
                // What was only said now is covered too, and asked for behind it.
                self.check_flushes(outbound, flushes);
                self.transmit(now, outbound, 0, spare, segments);
            }
        }
    }

    fn hear_application(&mut self, wishes: &mut Wishes) {
        // Mostly there is one thing or none, for which a loop is cheaper than a drain.
        while let Some(taken) = wishes.taken.pop() {
            self.inbound.handle_taken(taken);
        }
        if !wishes.stops.is_empty() {
            wishes.stops.drain(..).for_each(|stop| self.owed.stop(stop));
        }
        if !wishes.reads.is_empty() {
            wishes.reads.drain(..).for_each(|reads| self.owed.reader(reads));
        }
        if std::mem::take(&mut wishes.interrupt) {
            self.owed.interrupt();
        }
        match wishes.close.take() {
            Some(CloseWish::Behind { farewell, .. }) => {
                self.ended.get_or_insert(ConnectionError::Closed { code: farewell.code });
                self.life.close(farewell);
            }
            Some(CloseWish::Now(farewell)) => {
                self.ended.get_or_insert(ConnectionError::Closed { code: farewell.code });
                self.life.hurry(farewell);
            }
            None => {}
        }
    }

    /// Lets what arrived act on the sending half.
    fn apply_effects(
        &mut self,
        now: Instant,
        outbound: &mut Outbound,
        spare: &mut impl Spare,
        output: &mut Output,
    ) {
        let wants_ack = self.inbound.take_wants_ack();
        if wants_ack && self.resumable {
            self.acks.owe(now);
        }
        let effects = self.inbound.take_effects();
        let arrived = wants_ack || effects.is_some();
        if let Some(effects) = effects {
            self.apply(effects, now, outbound, spare, output);
        }
        let unacknowledged = self.stream.unacknowledged();
        if arrived && self.resumable && unacknowledged > self.stream.limit + BACKLOG {
            self.fail(&Violation::Unacknowledged(unacknowledged));
        }
    }

    fn apply(
        &mut self,
        effects: Effects,
        now: Instant,
        outbound: &mut Outbound,
        spare: &mut impl Spare,
        output: &mut Output,
    ) {
        if let Some(number) = effects.ping {
            self.owed.pong(number);
        }
        if let Some(number) = effects.pong
            && let Some((offset, rtt)) = self.owed.pings.handle_pong(number, now)
        {
            self.rtt = Some(rtt);
            self.flight.handle_rtt(rtt);
            self.handle_peer_has(offset, now);
        }
        for (channel, bytes) in effects.credits {
            match outbound.handle_credit(channel, bytes, spare) {
                Ok(place) => output.room.extend(place),
                Err(violation) => self.fail(&violation),
            }
        }
        for stop in effects.stops {
            if let Some(place) = outbound.handle_stop(stop, spare) {
                output.stopped.push(place);
                self.news.stopped.push((stop.channel, stop.code));
            }
        }
        for waiting in effects.waiting {
            outbound.handle_waiting(waiting);
            self.news.waiting.push(waiting);
        }
        match effects.ack {
            Some(offset) if offset > self.stream.sent => {
                self.fail(&Violation::AckOutOfRange { offset, sent: self.stream.sent });
            }
            Some(offset) => self.handle_peer_has(offset, now),
            None => {}
        }
        self.news.interrupt |= effects.interrupt;
        if let Some((code, reason)) = effects.close {
            self.ended.get_or_insert(ConnectionError::ClosedByPeer { code, reason });
            self.life.answer();
            self.acks.owe_now(now);
        }
    }

    /// The peer has told that it has so much of our stream.
    fn handle_peer_has(&mut self, offset: u64, now: Instant) {
        if offset > self.stream.peer_has {
            self.stream.peer_has = offset;
            let left = self.stream.unacknowledged();
            self.flight.handle_progress(now, offset, left, self.stream.limit);
        }
    }

    fn check_flushes(&mut self, outbound: &mut Outbound, flushes: &mut Vec<Flush>) {
        flushes.retain_mut(|flush| {
            if flush.offset.is_none() && !self.owed.has_words() && outbound.has_passed(&mut flush.mark) {
                flush.offset = Some(self.stream.sent);
            }
            let Some(offset) = flush.offset else { return true };
            let waits = self.stream.peer_has < offset;
            if waits {
                // An ACK may take its time; a PING is answered at once, behind everything before it.
                self.owed.pings.want_behind(offset);
            }
            waits
        });
    }

    /// The next segments for the socket: control first, then what is urgent, then about `most`
    /// bytes of the rest; with a `most` of 0 control alone, whatever is urgent.
    fn transmit(
        &mut self,
        now: Instant,
        outbound: &mut Outbound,
        most: usize,
        spare: &mut impl Spare,
        out: &mut VecDeque<Segment>,
    ) {
        let (farewell, said) = match &self.life {
            Life::Running | Life::Draining(_) => {
                self.send_control(now, spare, out);
                if most > 0 {
                    self.stream.sent += outbound.take(most, spare, out) as u64;
                }
                match &self.life {
                    Life::Draining(farewell) if outbound.is_flushed() => {
                        (farewell, Said { end: 0, complete: true, resumable: true })
                    }
                    _ => return,
                }
            }
            Life::Answering(farewell) => {
                let complete = outbound.is_flushed();
                outbound.clear();
                (farewell, Said { end: 0, complete, resumable: true })
            }
            Life::Parting(farewell) => {
                outbound.clear();
                (farewell, Said { end: 0, complete: false, resumable: false })
            }
            Life::Said(_) => return self.send_ack(now, spare, out),
            Life::Broken => return,
        };
        let Farewell { code, reason } = farewell.clone();
        self.send_ack(now, spare, out);
        let mut bytes = spare.take(512);
        Control::Close { code, reason }.encode(&mut bytes);
        self.stream.push(bytes, out);
        self.life = Life::Said(Said { end: self.stream.sent, ..said });
    }

    /// An ACK alone, if one is due.
    fn send_ack(&mut self, now: Instant, spare: &mut impl Spare, out: &mut VecDeque<Segment>) {
        if self.is_ack_due(now) {
            let received = self.inbound.received();
            let mut bytes = spare.take(16);
            Control::Ack(received).encode(&mut bytes);
            self.stream.push(bytes, out);
            self.acks.tell(received);
        }
    }

    fn send_control(&mut self, now: Instant, spare: &mut impl Spare, out: &mut VecDeque<Segment>) {
        let mut frames = Frames::new(spare);
        self.owed.encode(&self.inbound, &mut frames);
        if self.must_acknowledge() && self.acks.is_due(now, self.inbound.received()) {
            frames.put(&Control::Ack(self.inbound.received()));
            self.acks.tell(self.inbound.received());
        }
        if self.owed.encode_ping(self.stream.sent, now, &mut frames) {
            self.liveness.handle_asked(now);
        }
        if let Some(bytes) = frames.into_bytes() {
            self.stream.push(bytes, out);
        }
    }
}
