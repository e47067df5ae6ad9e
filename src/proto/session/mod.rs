//! A session: frames, credit, liveness and close, put together. The driver talks to this.
//!
//! The driver's contract:
//!
//! ```text
//! session.handle_input(now, bytes, &mut deliver)     what the socket had; or handle_payload, handle_timeout
//! session.exchange(&mut wishes, exchange)            with the send queue locked, after every input:
//!                                                    what the application wants and what arrived act on
//!                                                    each other, and what is to be sent comes out
//! session.take_news(), session.ended(), session.deadline()
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::credit::Credit;
use super::handshake::Terms;
use super::inbound::{Budget, Deliver, Inbound, Limits, PeerRights, Runs, Waiting};
use super::liveness::{Heartbeat, Liveness};
use super::outbound::{Conflict, Outbound};
use super::segment::{Segment, Spare};
use super::violation::Violation;
use crate::error::{CloseCode, ConnectionError};
use crate::id::{ChannelId, ChannelSet};

mod exchange;
mod flight;
mod life;
mod owed;
mod wishes;

use flight::Flight;
pub(crate) use life::Farewell;
use life::{Life, Said};
use owed::{Acks, Owed};
pub(crate) use wishes::{CloseWish, Exchange, Flush, Output, Reads, Room, Wishes};

/// What may go unacknowledged above the replay limit before it breaks the protocol (section 6).
const BACKLOG: u64 = 1 << 20;

/// Both sides' grants and rights, as the handshake settled them, and this side's own limits.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) ours: Terms,
    pub(crate) theirs: Terms,
    pub(crate) we_may_send: ChannelSet,
    pub(crate) peer_may_send: ChannelSet,
    pub(crate) peer_may_interrupt: bool,
    pub(crate) send_queue: usize,
    /// What unfinished, and whole unread, messages may hold above the windows.
    pub(crate) reserves: u64,
    pub(crate) excess: u64,
    pub(crate) heartbeat: Option<(Duration, Duration)>,
    pub(crate) replay_limit: u64,
    /// The session outlives a lost socket.
    pub(crate) resumable: bool,
}

impl Settings {
    fn limits(&self) -> Limits {
        Limits {
            window: Credit::new(self.ours.window).unwrap_or_default(),
            max_message: self.ours.max_message,
            reserves: self.reserves,
            excess: self.excess,
        }
    }

    fn peer_rights(&self) -> PeerRights {
        PeerRights { send: self.peer_may_send, receive: self.we_may_send, interrupt: self.peer_may_interrupt }
    }
}

/// What the peer says to the application outside the channels. Merged, so that it is no queue.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) interrupt: bool,
    pub(crate) waiting: Vec<Waiting>,
    /// Runs of this side's that the peer has stopped, with its code.
    pub(crate) stopped: Vec<(ChannelId, u32)>,
}

/// This side's stream.
#[derive(Debug)]
struct Stream {
    /// Bytes handed to the driver.
    sent: u64,
    /// How much of it the peer has told that it has.
    peer_has: u64,
    /// How much may be unacknowledged before data waits.
    limit: u64,
}

impl Stream {
    fn unacknowledged(&self) -> u64 {
        self.sent - self.peer_has
    }

    fn push(&mut self, bytes: Vec<u8>, out: &mut VecDeque<Segment>) {
        self.sent += bytes.len() as u64;
        out.push_back(Segment::Frames(bytes));
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    inbound: Inbound,
    liveness: Liveness,
    rtt: Option<Duration>,
    stream: Stream,
    flight: Flight,
    acks: Acks,
    owed: Owed,
    news: News,
    /// Both sides have agreed that the session outlives its sockets: they acknowledge.
    resumable: bool,
    /// There is no way to another socket, whatever was agreed.
    mortal: bool,
    life: Life,
    /// Where the peer's stream ends, ACKs aside, once its CLOSE has come.
    peer_end: Option<u64>,
    ended: Option<ConnectionError>,
}

impl Session {
    /// A session and its sending half.
    pub(crate) fn new(now: Instant, settings: &Settings) -> (Self, Outbound) {
        let theirs = Credit::new(settings.theirs.window).unwrap_or_default();
        let outbound =
            Outbound::new(settings.we_may_send, theirs, settings.theirs.max_message, settings.send_queue);
        (Self::with_settings(now, settings), outbound)
    }

    /// A session whose peer is not there yet: what is sent waits, within this side's own limits.
    pub(crate) fn unmet(now: Instant, settings: &Settings) -> (Self, Outbound) {
        let ours = Credit::new(settings.ours.window).unwrap_or_default();
        let outbound = Outbound::unmet(ours, settings.ours.max_message, settings.send_queue);
        (Self::with_settings(now, settings), outbound)
    }

    fn with_settings(now: Instant, settings: &Settings) -> Self {
        Self {
            inbound: Inbound::new(settings.limits(), settings.peer_rights()),
            liveness: Liveness::new(now, settings.heartbeat),
            rtt: None,
            stream: Stream { sent: 0, peer_has: 0, limit: settings.replay_limit },
            flight: Flight::new(),
            acks: Acks::new(),
            owed: Owed::default(),
            news: News::default(),
            resumable: settings.resumable,
            mortal: false,
            life: Life::Running,
            peer_end: None,
            ended: None,
        }
    }

    // ---- what the socket has

    /// Takes the next bytes of the peer's stream, cut anywhere, from the front of `input`. What is
    /// left when the budget is spent is for the next call.
    pub(crate) fn handle_input(
        &mut self,
        now: Instant,
        input: &mut &[u8],
        budget: &mut Budget,
        out: &mut impl Deliver,
    ) {
        self.liveness.handle_alive(now);
        if !self.life.listens() {
            *input = &[];
            return;
        }
        let result = self.inbound.handle(input, budget, out);
        if result.is_err() {
            *input = &[];
        }
        self.handled(result);
    }

    /// See [`Inbound::expects_large`].
    pub(crate) fn expects_large(&self) -> bool {
        self.inbound.expects_large()
    }

    /// The buffer of a large payload that is arriving: see [`Inbound::payload_buffer`].
    pub(crate) fn payload_buffer(&mut self) -> Option<&mut Vec<u8>> {
        if self.life.listens() { self.inbound.payload_buffer() } else { None }
    }

    /// Takes what the driver appended to the payload buffer: `new` bytes.
    pub(crate) fn handle_payload(&mut self, now: Instant, new: usize, out: &mut impl Deliver) {
        self.liveness.handle_alive(now);
        let result = self.inbound.handle_payload(new, out);
        self.handled(result);
    }

    fn handled(&mut self, result: Result<(), Violation>) {
        if self.peer_end.is_none() && self.inbound.is_closed() {
            self.peer_end = Some(self.inbound.received());
        }
        if let Err(violation) = result {
            self.fail(&violation);
        }
    }

    /// The socket took bytes again after it was full, so the peer's side lives.
    pub(crate) fn handle_write_progress(&mut self, now: Instant) {
        self.liveness.handle_alive(now);
    }

    /// Looks at the clock. `Err`: the socket is to be given up, since nothing was heard for so long.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Duration> {
        // A side that has said CLOSE neither asks nor answers.
        if !self.life.sends() {
            return Ok(());
        }
        match self.liveness.poll(now) {
            Heartbeat::Idle => Ok(()),
            Heartbeat::Ask => {
                self.owed.pings.want();
                Ok(())
            }
            Heartbeat::Dead if self.resumable && !self.mortal => Err(self.liveness.timeout()),
            Heartbeat::Dead => {
                let reason = "nothing was heard from you".to_owned();
                self.ended.get_or_insert(ConnectionError::HeartbeatLost(self.liveness.timeout()));
                self.life.part(Farewell { code: CloseCode::HEARTBEAT_LOST, reason });
                Ok(())
            }
        }
    }

    // ---- its end

    fn fail(&mut self, violation: &Violation) {
        let (code, what) = (violation.close_code(), violation.to_string());
        let reason = format!("you sent {what}");
        self.ended.get_or_insert(ConnectionError::ProtocolViolation { code, what });
        self.life.part(Farewell { code, reason });
        // It would be held for as long as the peer may take to read why.
        self.inbound.forget_unfinished();
    }

    /// The two cannot go on together: the peer is told so, ahead of all that waits.
    pub(crate) fn refuse(&mut self, cause: ConnectionError, reason: &str) {
        self.ended.get_or_insert(cause);
        self.life.part(Farewell { code: CloseCode::NORMAL, reason: reason.to_owned() });
    }

    /// What was accepted and is not out yet gets no more time: CLOSE goes now.
    pub(crate) fn hurry(&mut self, farewell: Farewell) {
        self.life.hurry(farewell);
    }

    // ---- what it owes

    fn is_ack_due(&self, now: Instant) -> bool {
        self.must_acknowledge() && self.acks.is_due(now, self.inbound.received())
    }

    /// Sessions that end with their socket need no ACK but that of the peer's CLOSE.
    fn must_acknowledge(&self) -> bool {
        self.resumable || self.peer_end.is_some()
    }

    /// When `handle_timeout` or, if the driver can send (`writable`), `exchange` wants to be
    /// called, if nothing happens before. What cannot be sent is not waited for by the clock.
    pub(crate) fn deadline(&self, writable: bool) -> Option<Instant> {
        let ack = self.acks.deadline().filter(|_| writable && self.must_acknowledge());
        let heartbeat = self.liveness.deadline().filter(|_| self.life.sends());
        [heartbeat, ack].into_iter().flatten().min()
    }

    // ---- one socket after the other

    /// There is a socket again. Each side knows from the handshake what the other has received: the
    /// peer so much of our stream.
    pub(crate) fn handle_resumed(&mut self, now: Instant, peer_has: u64) {
        self.stream.peer_has = self.stream.peer_has.max(peer_has);
        self.liveness.restart(now);
        self.flight.restart();
        self.owed.pings.restart();
        self.acks.tell(self.inbound.received());
    }

    /// The peer is there for the first time, of which the session knew nothing so far.
    pub(crate) fn meet(
        &mut self,
        settings: &Settings,
        outbound: &mut Outbound,
        spare: &mut impl Spare,
    ) -> Result<(), Conflict> {
        self.resumable = settings.resumable;
        self.inbound.meet(settings.peer_rights());
        let window = Credit::new(settings.theirs.window).unwrap_or_default();
        outbound.meet(settings.we_may_send, window, settings.theirs.max_message, spare)
    }

    /// A client's first frame on every socket: an ACK tells the server that the Accept came through.
    pub(crate) fn announce(&mut self, now: Instant) {
        if self.resumable {
            self.acks.owe_now(now);
        }
    }

    /// From now on a lost socket is the end: there is no way to another. The peer does not know, so
    /// it is told what was received as before.
    pub(crate) fn set_mortal(&mut self) {
        self.mortal = true;
    }

    /// Returns `true` if another socket could still be of use.
    pub(crate) fn may_resume(&self) -> bool {
        self.resumable && !self.mortal && self.life.may_resume()
    }

    // ---- what it has come to

    /// What the peer says to the application outside the channels.
    pub(crate) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Why the session is over, once it is: nothing more will be delivered.
    pub(crate) fn ended(&self) -> Option<&ConnectionError> {
        self.ended.as_ref()
    }

    /// Returns `true` once our CLOSE has been handed to the driver.
    pub(crate) fn close_said(&self) -> bool {
        self.life.said().is_some()
    }

    /// Returns `true` once the peer's CLOSE has come.
    pub(crate) fn close_received(&self) -> bool {
        self.peer_end.is_some()
    }

    /// Returns `true` if nothing more is sent on this socket: both CLOSEs were exchanged and the
    /// peer's was acknowledged, or the session broke.
    pub(crate) fn is_done_sending(&self) -> bool {
        match self.life {
            Life::Said(Said { resumable: false, .. }) | Life::Broken => true,
            Life::Said(_) => self.peer_end.is_some_and(|end| self.acks.told() >= end),
            _ => false,
        }
    }

    /// Returns `true` if the peer broke the rules after the end: there is nothing left to wait for.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.life, Life::Broken)
    }

    /// Returns `true` if an ACK covers our CLOSE.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.life.said().is_some_and(|said| self.stream.peer_has >= said.end)
    }

    /// Returns `true` if the peer has all that the application sent.
    pub(crate) fn is_delivered(&self) -> bool {
        self.is_confirmed() && self.life.said().is_some_and(|said| said.complete)
    }

    /// How many bytes of our stream were handed to the driver.
    pub(crate) fn sent(&self) -> u64 {
        self.stream.sent
    }

    /// How much of our stream the peer has told that it has.
    pub(crate) fn peer_has(&self) -> u64 {
        self.stream.peer_has
    }

    /// The last round trip that was measured.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(crate) fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = Some(rtt);
        self.flight.handle_rtt(rtt);
    }

    /// The longest payload of a frame that the link allows.
    pub(crate) fn longest_frame(&self) -> usize {
        self.flight.frame()
    }

    /// The receiving half.
    pub(crate) fn inbound(&self) -> &Inbound {
        &self.inbound
    }

    /// Returns `true` if a STOP has come that has not acted on the sending half.
    pub(crate) fn has_stops(&self) -> bool {
        self.inbound.has_stops()
    }

    /// What the receive queues are told of runs.
    pub(crate) fn take_runs(&mut self) -> Runs {
        self.inbound.take_runs()
    }

    /// Returns `true` if something was merged with others and not handed over yet.
    pub(crate) fn has_merged(&self) -> bool {
        self.inbound.has_merged()
    }

    /// Hands over what was merged with others where enough was read by now.
    pub(crate) fn poll_merged(&mut self, out: &mut impl Deliver) {
        self.inbound.poll_merged(out);
    }
}
