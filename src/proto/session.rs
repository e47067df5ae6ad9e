//! A session: frames, credit, liveness and close, put together. The driver talks to this.
//!
//! The driver's contract, after every input:
//!
//! ```text
//! session.handle_input(now, bytes, &mut deliver)     or handle_payload / handle_taken / handle_timeout
//! session.apply(now, &mut outbound, …)               what arrived changes what may be sent
//! session.poll_transmit(now, &mut outbound, …)       until nothing comes out
//! session.take_notices(), session.ended(), session.deadline()
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::credit::Credit;
use super::frame::{Control, Violation};
use super::inbound::{Deliver, Inbound, Taken};
use super::liveness::{Heartbeat, Liveness};
use super::outbound::{Conflict, Outbound};
use super::segment::{Segment, Spare};
use crate::error::{CloseCode, ConnectionError};
use crate::id::{ChannelId, ChannelSet};

/// What is acknowledged at once (protocol, section 6).
const ACK_BYTES: u64 = 128 * 1024;
/// PINGs that are not the heartbeat's have numbers above this.
const QUESTION: u64 = 1 << 63;
/// When the rest is acknowledged (protocol, section 6).
const ACK_DELAY: Duration = Duration::from_millis(200);

/// Both sides' grants and rights, as the handshake settled them.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) our_window: u32,
    pub(crate) our_max_message: u32,
    pub(crate) peer_window: u32,
    pub(crate) peer_max_message: u32,
    pub(crate) we_may_send: ChannelSet,
    pub(crate) peer_may_send: ChannelSet,
    pub(crate) we_may_interrupt: bool,
    pub(crate) peer_may_interrupt: bool,
    pub(crate) send_queue: usize,
    pub(crate) heartbeat: Option<(Duration, Duration)>,
    /// The session outlives a lost socket.
    pub(crate) resumable: bool,
}

/// What the peer says to the application outside the channels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Notice {
    Interrupt,
    Waiting(ChannelSet),
    Gap { channel: ChannelId, messages: u64, bytes: u64 },
}

#[derive(Debug)]
struct Closing {
    code: CloseCode,
    reason: String,
    /// What still waits is dropped instead of sent first.
    at_once: bool,
}

#[derive(Debug)]
pub(crate) struct Session {
    inbound: Inbound,
    liveness: Liveness,
    heartbeat_timeout: Duration,
    stops: Vec<(ChannelId, u32)>,
    interrupt: bool,
    pong: Option<u64>,
    ping: Option<u64>,
    notices: Vec<Notice>,
    /// Bytes of our stream handed to the driver.
    sent: u64,
    /// Up to where we have acknowledged the peer's stream, and when we do next.
    acknowledged: u64,
    ack_at: Option<Instant>,
    wants_ack: bool,
    /// How much of our stream the peer has told that it has.
    peer_has: u64,
    /// The PING whose PONG shows that the peer has everything before it: its number, and where.
    question: Option<(u64, u64)>,
    questions: u64,
    resumable: bool,
    /// There is no socket: nobody is expected to answer.
    suspended: bool,
    /// The socket is to be given up: nothing was heard for too long.
    silent: bool,
    closing: Option<Closing>,
    /// Where in our stream the last of what the application sent ends.
    data_end: u64,
    close_sent: bool,
    close_received: bool,
    /// All that the application sent went out before our CLOSE.
    complete: bool,
    ended: Option<ConnectionError>,
}

impl Session {
    /// A session and its sending half.
    pub(crate) fn new(now: Instant, settings: &Settings) -> (Self, Outbound) {
        let clamp = |window| Credit::new(window).unwrap_or_default();
        let inbound = Inbound::new(
            clamp(settings.our_window),
            settings.our_max_message,
            settings.peer_may_send,
            settings.peer_may_interrupt,
        );
        let outbound = Outbound::new(
            settings.we_may_send,
            clamp(settings.peer_window),
            settings.peer_max_message,
            settings.send_queue,
        );
        let (interval, timeout) = match settings.heartbeat {
            Some((interval, timeout)) => (Some(interval), timeout),
            None => (None, Duration::MAX),
        };
        let mut session = Self {
            inbound,
            liveness: Liveness::new(now, interval, timeout),
            heartbeat_timeout: timeout,
            stops: Vec::new(),
            interrupt: false,
            pong: None,
            ping: None,
            notices: Vec::new(),
            sent: 0,
            acknowledged: 0,
            ack_at: None,
            wants_ack: false,
            peer_has: 0,
            question: None,
            questions: QUESTION,
            resumable: settings.resumable,
            suspended: false,
            silent: false,
            closing: None,
            data_end: 0,
            close_sent: false,
            close_received: false,
            complete: false,
            ended: None,
        };
        if Credit::new(settings.peer_window).is_none() {
            session.fail(&Violation::CreditOverflow(ChannelId::new(0)));
        }
        (session, outbound)
    }

    /// Takes the next bytes of the peer's stream, cut anywhere.
    pub(crate) fn handle_input(&mut self, now: Instant, bytes: &[u8], out: &mut impl Deliver) {
        self.liveness.handle_alive(now);
        if self.is_listening() {
            let result = self.inbound.handle(bytes, out);
            self.settle(result);
        }
    }

    /// See [`Inbound::expects_large`].
    pub(crate) fn expects_large(&self) -> bool {
        self.inbound.expects_large()
    }

    /// The buffer of a large payload that is arriving: see [`Inbound::payload_buffer`].
    pub(crate) fn payload_buffer(&mut self) -> Option<&mut Vec<u8>> {
        if self.is_listening() { self.inbound.payload_buffer() } else { None }
    }

    /// Takes what the driver appended to the payload buffer: `new` bytes.
    pub(crate) fn handle_payload(&mut self, now: Instant, new: usize, out: &mut impl Deliver) {
        self.liveness.handle_alive(now);
        let result = self.inbound.handle_payload(new, out);
        self.settle(result);
    }

    /// After a violation, or the peer's CLOSE, nothing that comes counts.
    fn is_listening(&self) -> bool {
        !self.close_received && !self.closing.as_ref().is_some_and(|closing| closing.at_once)
    }

    fn settle(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.fail(&violation);
        }
        self.close_received = self.inbound.is_closed();
    }

    /// The socket took bytes again after it was full, so the peer's side lives.
    pub(crate) fn handle_write_progress(&mut self, now: Instant) {
        self.liveness.handle_alive(now);
    }

    pub(crate) fn handle_taken(&mut self, taken: Taken) {
        self.inbound.handle_taken(taken);
    }

    /// The application wants no more of what the peer sends on a channel now.
    pub(crate) fn handle_stop(&mut self, channel: ChannelId, code: u32) {
        self.stops.push((channel, code));
    }

    /// The application wants to interrupt the peer.
    pub(crate) fn handle_interrupt(&mut self) {
        self.interrupt = true;
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.suspended {
            return;
        }
        match self.liveness.poll(now) {
            Heartbeat::Idle => {}
            Heartbeat::Ping(number) => self.ping = Some(number),
            Heartbeat::Dead if self.resumable => self.silent = true,
            Heartbeat::Dead => self.end(
                ConnectionError::HeartbeatLost(self.heartbeat_timeout),
                CloseCode::HEARTBEAT_LOST,
                "nothing was heard from you",
            ),
        }
    }

    /// Lets what arrived act on the sending half. `woken` gets the places of the channels whose
    /// senders may go on or must hear of an end.
    pub(crate) fn apply(
        &mut self,
        now: Instant,
        outbound: &mut Outbound,
        spare: &mut impl Spare,
        woken: &mut Vec<usize>,
    ) {
        let effects = self.inbound.take_effects();
        self.wants_ack |= effects.wants_ack;
        self.pong = effects.ping.or(self.pong);
        if let Some(number) = effects.pong {
            self.liveness.handle_pong(now, number);
            if let Some((asked, offset)) = self.question
                && asked == number
            {
                self.peer_has = self.peer_has.max(offset);
            }
        }
        for (channel, bytes) in effects.credits {
            match outbound.handle_credit(channel, bytes, spare) {
                Ok(place) => woken.extend(place),
                Err(violation) => self.fail(&violation),
            }
        }
        for (channel, code) in effects.stops {
            woken.extend(outbound.handle_stop(channel, code, spare));
        }
        match effects.ack {
            Some(offset) if offset > self.sent => {
                self.fail(&Violation::AckOutOfRange { offset, sent: self.sent });
            }
            Some(offset) => self.peer_has = self.peer_has.max(offset),
            None => {}
        }
        if effects.interrupt {
            self.notices.push(Notice::Interrupt);
        }
        if effects.waiting_changed {
            self.notices.push(Notice::Waiting(self.inbound.waiting()));
        }
        for (channel, messages, bytes) in effects.gaps {
            self.notices.push(Notice::Gap { channel, messages, bytes });
        }
        if let Some((code, reason)) = effects.close {
            self.end(ConnectionError::ClosedByPeer { code, reason }, CloseCode::NORMAL, "");
        }
        self.schedule_ack(now);
    }

    fn schedule_ack(&mut self, now: Instant) {
        if self.wants_ack && self.ack_at.is_none() && self.inbound.received() > self.acknowledged {
            self.ack_at = Some(now + ACK_DELAY);
        }
    }

    fn fail(&mut self, violation: &Violation) {
        let (code, what) = (violation.close_code(), violation.to_string());
        let reason = format!("you sent {what}");
        self.end(ConnectionError::ProtocolViolation { code, what }, code, &reason);
    }

    /// Ends the session now: CLOSE goes ahead of all that waits.
    fn end(&mut self, cause: ConnectionError, code: CloseCode, reason: &str) {
        self.ended.get_or_insert(cause);
        match &mut self.closing {
            Some(closing) => closing.at_once = true,
            none => *none = Some(Closing { code, reason: reason.to_owned(), at_once: true }),
        }
    }

    /// The application closes: what was accepted goes first, then CLOSE.
    pub(crate) fn close(&mut self, code: CloseCode, reason: String) {
        self.ended.get_or_insert(ConnectionError::Closed { code });
        self.closing.get_or_insert(Closing { code, reason, at_once: false });
    }

    /// The next segments for the socket: control first, then what is urgent, then about `most`
    /// bytes of the rest; with a `most` of 0 control alone, whatever is urgent. Whether anything
    /// came.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        outbound: &mut Outbound,
        most: usize,
        spare: &mut impl Spare,
        out: &mut VecDeque<Segment>,
    ) -> bool {
        if self.close_sent {
            return false;
        }
        let at_once = self.closing.as_ref().is_some_and(|closing| closing.at_once);
        if at_once {
            outbound.clear();
        }
        let mut sent = 0;
        let mut control = Vec::new();
        if !at_once {
            self.encode_control(now, spare, &mut control);
            if !control.is_empty() {
                sent += control.len() as u64;
                out.push_back(Segment::Frames(std::mem::take(&mut control)));
            }
            if most > 0 {
                let taken = outbound.take(most, out) as u64;
                sent += taken;
                if taken > 0 {
                    self.data_end = self.sent + sent;
                }
            }
        }
        if let Some(closing) = &self.closing
            && outbound.is_flushed()
        {
            Control::Close { code: closing.code, reason: closing.reason.clone() }.encode(&mut control);
            sent += control.len() as u64;
            out.push_back(Segment::Frames(control));
            self.close_sent = true;
            self.complete = !closing.at_once;
        }
        self.sent += sent;
        sent > 0
    }

    fn encode_control(&mut self, now: Instant, spare: &mut impl Spare, out: &mut Vec<u8>) {
        let mut put = |control: Control| {
            if out.capacity() == 0 {
                *out = spare.take(256);
            }
            control.encode(out);
        };
        if std::mem::take(&mut self.interrupt) {
            put(Control::Interrupt);
        }
        if let Some(number) = self.pong.take() {
            put(Control::Pong(number));
        }
        if let Some(number) = self.ping.take() {
            put(Control::Ping(number));
        }
        for (channel, code) in self.stops.drain(..) {
            put(Control::Stop { channel, code });
        }
        while let Some((channel, bytes)) = self.inbound.poll_credit() {
            put(Control::Credit { channel, bytes });
        }
        let received = self.inbound.received();
        // An ACK alone asks for no ACK, or two idle peers would answer each other for ever.
        let due = self.wants_ack && self.ack_at.is_some_and(|at| now >= at);
        if due || received - self.acknowledged >= ACK_BYTES {
            put(Control::Ack(received));
            self.acknowledged = received;
            self.ack_at = None;
            self.wants_ack = false;
        }
    }

    /// When `handle_timeout` or, if the driver can send (`writable`), `poll_transmit` wants to be
    /// called, if nothing happens before. What cannot be sent is not waited for by the clock.
    pub(crate) fn deadline(&self, writable: bool) -> Option<Instant> {
        if self.close_sent {
            return None;
        }
        if self.suspended {
            return None;
        }
        let ack_at = self.ack_at.filter(|_| writable);
        let heartbeat = self.liveness.deadline().filter(|_| self.ended.is_none());
        [heartbeat, ack_at].into_iter().flatten().min()
    }

    /// Whether the peer has stopped something that the application may still send to.
    pub(crate) fn has_stops(&self) -> bool {
        self.inbound.has_stops()
    }

    /// Whether the socket is to be given up, and with it nothing else.
    pub(crate) fn take_silent(&mut self) -> bool {
        std::mem::take(&mut self.silent)
    }

    /// The socket is lost; the session waits for another. It takes in and sends nothing, and time
    /// does not count.
    pub(crate) fn handle_suspended(&mut self) {
        self.suspended = true;
    }

    /// There is a socket again. Each side knows from the handshake what the other has received: the
    /// peer so much of our stream.
    pub(crate) fn handle_resumed(&mut self, now: Instant, peer_has: u64) {
        self.peer_has = self.peer_has.max(peer_has);
        self.suspended = false;
        self.silent = false;
        self.liveness.restart(now);
        self.acknowledged = self.inbound.received();
        self.ack_at = None;
        self.wants_ack = false;
    }

    /// The peer is there, of which the session knew nothing so far: these are its terms. The
    /// channels whose messages wait for credit now.
    pub(crate) fn meet(
        &mut self,
        now: Instant,
        settings: &Settings,
        outbound: &mut Outbound,
        spare: &mut impl Spare,
    ) -> Result<Vec<ChannelId>, Conflict> {
        self.resumable = settings.resumable;
        self.inbound.settle(settings.peer_may_send);
        self.announce(now);
        let Some(window) = Credit::new(settings.peer_window) else {
            self.fail(&Violation::CreditOverflow(ChannelId::new(0)));
            return Ok(Vec::new());
        };
        outbound.settle(settings.we_may_send, window, settings.peer_max_message, spare)
    }

    /// The two cannot go on together: the peer is told so, ahead of all that waits.
    pub(crate) fn refuse(&mut self, cause: ConnectionError, reason: &str) {
        self.end(cause, CloseCode::NORMAL, reason);
    }

    /// From now on a lost socket is the end: there is no way to another.
    pub(crate) fn set_resumable(&mut self, resumable: bool) {
        self.resumable = resumable;
    }

    /// The first frame of a client: it tells the server that the Accept came through, without
    /// which the session is soon forgotten.
    pub(crate) fn announce(&mut self, now: Instant) {
        self.wants_ack = true;
        self.ack_at = Some(now);
    }

    /// How many bytes of our stream were handed to the driver.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// How much of our stream the peer has told that it has.
    pub(crate) fn peer_has(&self) -> u64 {
        self.peer_has
    }

    /// Somebody waits for the peer to have all that was sent so far. An ACK may take its time; a
    /// PING is answered at once, and behind everything before it.
    pub(crate) fn ask(&mut self) {
        if self.question.is_none_or(|(_, offset)| offset <= self.peer_has) {
            self.questions += 1;
            self.question = Some((self.questions, self.sent));
            self.ping = Some(self.questions);
        }
    }

    /// Whether another socket could still be of use: nothing has ended the session but perhaps a
    /// CLOSE of ours that goes behind what was sent.
    pub(crate) fn may_resume(&self) -> bool {
        self.resumable && self.is_listening()
    }

    /// What the peer says to the application outside the channels.
    pub(crate) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Why the session is over, once it is: nothing more will be delivered.
    pub(crate) fn ended(&self) -> Option<&ConnectionError> {
        self.ended.as_ref()
    }

    /// Whether our CLOSE has been handed to the driver: the last thing that it sends.
    pub(crate) fn close_sent(&self) -> bool {
        self.close_sent
    }

    /// Whether the peer's CLOSE has come: nothing follows it.
    pub(crate) fn close_received(&self) -> bool {
        self.close_received
    }

    /// Whether the peer has all that the application sent: it has acknowledged it, or answered a
    /// CLOSE that went behind all of it. Only after a close of ours.
    pub(crate) fn is_delivered(&self, outbound: &Outbound) -> bool {
        let closes = self.closing.as_ref().is_some_and(|closing| !closing.at_once);
        // If nothing was sent at all, nothing was acknowledged either.
        let all = outbound.is_flushed() && (1..=self.peer_has).contains(&self.data_end);
        let acknowledged = closes && all;
        self.complete && self.close_received || acknowledged
    }

    /// The last round trip that was measured.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.liveness.rtt()
    }

    pub(crate) fn set_rtt(&mut self, rtt: Duration) {
        self.liveness.set_rtt(rtt);
    }

    /// Channels with a run of the peer's that has begun and not ended.
    pub(crate) fn open_runs(&self) -> ChannelSet {
        self.inbound.open()
    }

    pub(crate) fn inbound(&self) -> &Inbound {
        &self.inbound
    }
}
