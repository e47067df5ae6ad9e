//! One connection on the I/O thread: its socket, its session, and the way between them and the
//! queues. It knows no channel semantics: it moves bytes and tells the session the time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::accept::Offer;
use super::driver::{Context, Place, Why};
use super::outbox::{Outbox, Wrote};
use super::pace::Pace;
use super::resume::{Outage, Resumption, Side};
use super::shared::Shared;
use super::socket::Socket;
use super::timer::Alarm;
use crate::error::ConnectionError;
use crate::event::Event;
use crate::id::ChannelSet;
use crate::proto::session::{Notice, Session};
use crate::queue::recv::Routes;
use crate::stats::{ChannelStats, Stats};

mod outage;

/// Reads of one connection before the others, and what is to be written, have their turn.
const READS: usize = 2;
/// Writes of one connection before the others have their turn.
const WRITES: usize = 2;
/// How much to read where a large message may begin.
const BEGINNING: usize = 2048;
/// How long a peer that broke the protocol has to read why.
const PARTING: Duration = Duration::from_secs(1);

/// Whether a connection goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// When something happens.
    Wait,
    /// There is more to write, after the others.
    Writable,
    /// There is more to read, after the others.
    Readable,
    /// It has lost its socket: begin an [attempt](Conn::attempt) to connect again.
    Reconnect,
    /// It is over; let it go.
    Done,
}

pub(crate) struct Conn {
    /// None during an outage.
    socket: Option<Socket>,
    session: Session,
    /// How it goes on when the socket is lost; without, that is the end.
    resumption: Option<Resumption>,
    outage: Option<Outage>,
    /// To be accepted as soon as the client is known to know of it.
    offer: Option<Offer>,
    replay_limit: u64,
    shared: Arc<Shared>,
    routes: Routes,
    outbox: Outbox,
    place: Place,
    /// The listener that accepted it.
    pub(crate) owner: Option<Place>,
    readable: bool,
    /// The peer's side of the socket has ended, or will: read to the end.
    hung_up: bool,
    writable: bool,
    /// There is more to write than this pass's share.
    more: bool,
    pace: Pace,
    /// What the kernel was last told that it may keep unsent.
    unsent: u32,
    alarm: Alarm,
    /// When the wait for the peer to have everything, or to hang up, is over.
    deadline: Option<Instant>,
    /// Everything is written and the socket told so; only the peer's end is waited for.
    finished: bool,
    /// The peer's side of the socket has ended.
    peer_finished: bool,
    waiting: ChannelSet,
    reads: u64,
    writes: u64,
    bytes_read: u64,
    bytes_written: u64,
}

impl Conn {
    /// `unsent` goes ahead of the session's stream.
    pub(crate) fn new(
        socket: Option<Socket>,
        session: Session,
        shared: Arc<Shared>,
        resumption: Option<Resumption>,
        replay_limit: u32,
        unsent: Vec<u8>,
    ) -> Self {
        let pace = Pace::new(session.rtt());
        let limit = pace.unsent();
        if let Some(socket) = &socket {
            socket.limit_unsent(limit);
        }
        let outbox = Outbox::new(unsent, resumption.is_some());
        Self {
            socket,
            session,
            resumption,
            outage: None,
            offer: None,
            replay_limit: replay_limit.into(),
            place: shared.place,
            shared,
            routes: Routes::default(),
            outbox,
            owner: None,
            // Until the socket says otherwise.
            readable: true,
            hung_up: false,
            writable: true,
            more: false,
            pace,
            unsent: limit,
            alarm: Alarm::default(),
            deadline: None,
            finished: false,
            peer_finished: false,
            waiting: ChannelSet::EMPTY,
            reads: 0,
            writes: 0,
            bytes_read: 0,
            bytes_written: 0,
        }
    }

    /// Bytes that came behind the handshake.
    pub(crate) fn handle_early(&mut self, bytes: &[u8], ctx: &mut Context) {
        if !bytes.is_empty() {
            self.deliver(ctx, |session, now, staging| session.handle_input(now, bytes, staging));
        }
    }

    /// Reads and writes what can be; then waits.
    pub(crate) fn serve(&mut self, why: Why<'_>, ctx: &mut Context) -> Next {
        match why {
            Why::Called => {}
            Why::Due => {
                self.alarm.fired(ctx.now);
                if self.deadline.is_some_and(|at| at <= ctx.now) {
                    return Next::Done;
                }
                self.session.handle_timeout(ctx.now);
                if self.session.take_silent() {
                    self.suspend(ctx.now);
                }
            }
            Why::Ready(_) if self.socket.is_none() => {}
            Why::Ready(event) => {
                self.hung_up |= event.is_read_closed() || event.is_error();
                self.readable |= event.is_readable() || self.hung_up;
                if event.is_writable() && !self.writable {
                    self.writable = true;
                    self.session.handle_write_progress(ctx.now);
                }
            }
        }
        if self.outage.is_some() {
            return self.wait_for_socket(ctx);
        }
        let read = self.read(ctx);
        self.confirm(ctx.now);
        let result = read.and_then(|()| {
            self.write(ctx).or_else(|error| {
                // The peer may have said why before it went.
                self.readable = true;
                self.hung_up = true;
                self.read(ctx)?;
                self.exchange(ctx);
                Err(error)
            })
        });
        let next = match result {
            Ok(()) => self.next(ctx),
            Err(error) => {
                // A CLOSE may have come with the last bytes.
                self.exchange(ctx);
                if self.may_resume() && !self.is_done() {
                    self.suspend(ctx.now);
                    return self.wait_for_socket(ctx);
                }
                self.lost(&error);
                Next::Done
            }
        };
        if next != Next::Done {
            let writable = self.writable && self.outbox.is_empty();
            let offer = self.offer.as_ref().map(|offer| offer.at);
            let deadlines = [self.session.deadline(writable), self.deadline, offer];
            let deadline = deadlines.into_iter().flatten().min();
            self.alarm.set(deadline, self.place, &mut ctx.timers);
        }
        next
    }

    fn read(&mut self, ctx: &mut Context) -> io::Result<()> {
        for _ in 0..READS {
            let Some(socket) = self.socket.as_mut().filter(|_| self.readable) else { return Ok(()) };
            let Context { scratch, .. } = ctx;
            let large = self.session.expects_large();
            let (room, read) = match self.session.payload_buffer() {
                Some(buffer) => (buffer.capacity() - buffer.len(), socket.read_spare(buffer)),
                None => {
                    // What follows a large message is probably one too: its beginning is enough,
                    // the rest goes straight into a buffer of its own.
                    let room = if large { BEGINNING } else { scratch.len() };
                    (room, socket.read(&mut scratch[..room]))
                }
            };
            self.reads += 1;
            let read = match read {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            if read == 0 {
                return self.ended();
            }
            self.bytes_read += read as u64;
            ctx.received = true;
            if self.session.payload_buffer().is_some() {
                self.deliver(ctx, |session, now, staging| session.handle_payload(now, read, staging));
            } else {
                let scratch = std::mem::take(&mut ctx.scratch);
                self.deliver(ctx, |session, now, staging| {
                    session.handle_input(now, &scratch[..read], staging)
                });
                ctx.scratch = scratch;
            }
            // Less than there was room for: the socket is empty, and tells when it is not. It has
            // told already if the peer has hung up, and on other systems it tells only one who
            // has read to the end.
            if cfg!(unix) && read < room && !self.hung_up {
                self.readable = false;
            }
        }
        Ok(())
    }

    /// Not to be accepted before it is certain that the client knows of the connection.
    pub(crate) fn hold_back(&mut self, offer: Offer) {
        self.offer = Some(offer);
    }

    /// Whether the client is known to know of the connection; then it can be accepted.
    fn confirm(&mut self, now: Instant) {
        if let Some(Resumption { side: Side::Server { unconfirmed }, .. }) = &mut self.resumption
            && self.session.inbound().received() > 0
        {
            *unconfirmed = None;
        }
        if let Some(offer) =
            self.offer.take_if(|offer| offer.at <= now || self.session.inbound().received() > 0)
        {
            offer.make();
        }
    }

    /// Lets the session take bytes, and hands over what came out.
    fn deliver(
        &mut self,
        ctx: &mut Context,
        handle: impl FnOnce(&mut Session, Instant, &mut crate::queue::route::Staging),
    ) {
        self.shared.inbox.route(&mut ctx.staging, &mut self.routes);
        handle(&mut self.session, ctx.now, &mut ctx.staging);
        if self.session.has_stops() {
            // Before anybody can answer what came behind the STOP: the answer is a new run.
            self.exchange(ctx);
        }
        let open = self.session.open_runs();
        self.shared.inbox.hand_over(&mut ctx.staging, &mut self.routes, open, &ctx.core.pool);
    }

    /// The peer's side of the socket has ended.
    fn ended(&mut self) -> io::Result<()> {
        self.readable = false;
        // Whatever ended the session in the same read, what is to be said of it is still written. But
        // who only closes behind what was sent may have to say it again.
        if self.session.close_received() || self.session.ended().is_some() && !self.may_resume() {
            self.peer_finished = true;
            return Ok(());
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Whether nothing is left to be said to a client but the CLOSE, which it can hear from the
    /// listener if it comes back.
    fn is_done(&self) -> bool {
        self.owner.is_some() && self.session.close_sent() && self.is_delivered()
    }

    /// Whether the peer has all that the application sent before it closed.
    fn is_delivered(&self) -> bool {
        let nothing = self.is_lazy() && self.session.ended().is_some();
        self.shared
            .send
            .read(|outbound| self.session.is_delivered(outbound) || nothing && outbound.is_flushed())
    }

    fn lost(&mut self, error: &io::Error) {
        let cause = match self.session.ended() {
            Some(cause) => cause.clone(),
            None => ConnectionError::Lost { kind: error.kind() },
        };
        self.shared.end(&cause);
    }

    /// Lets what arrived act on the send queue, and writes what that has.
    fn write(&mut self, ctx: &mut Context) -> io::Result<()> {
        self.more = false;
        for _ in 0..WRITES {
            self.exchange(ctx);
            let Some(socket) = self.socket.as_mut().filter(|_| self.writable) else { return Ok(()) };
            if self.outbox.is_empty() {
                self.pace.idle();
                return Ok(());
            }
            self.writes += 1;
            match self.outbox.write(socket, &mut &*ctx.core.pool)? {
                Wrote::All(bytes) => {
                    self.bytes_written += bytes as u64;
                    self.pace.took_all(bytes);
                }
                Wrote::Part(bytes) => {
                    self.bytes_written += bytes as u64;
                    self.pace.took_part(ctx.now, bytes);
                    self.writable = false;
                    let unsent = self.pace.unsent();
                    if std::mem::replace(&mut self.unsent, unsent) != unsent {
                        socket.limit_unsent(unsent);
                    }
                }
            }
        }
        // The senders rely on it that this one comes back.
        self.more = self.writable;
        Ok(())
    }

    fn exchange(&mut self, ctx: &mut Context) {
        let Self { session, shared, outbox, writable, pace, deadline, replay_limit, socket, .. } = self;
        shared.send.exchange(|outbound, wishes, woken| {
            // With the send queue locked: what was stopped before something was sent goes first.
            shared.inbox.collect(&mut ctx.taken, &mut ctx.stops);
            for taken in ctx.taken.drain(..) {
                session.handle_taken(taken);
            }
            for (channel, code) in ctx.stops.drain(..) {
                session.handle_stop(channel, code);
            }
            if let Some((code, reason)) = wishes.close.take() {
                session.close(code, reason);
                *deadline = ctx.now.checked_add(shared.facts.linger);
            }
            if wishes.interrupt {
                session.handle_interrupt();
            }
            outbound.limit_frames(pace.frame());
            session.apply(ctx.now, outbound, &mut &*ctx.core.pool, woken);
            outbox.acknowledge(session.peer_has(), &mut &*ctx.core.pool);
            wishes.flushes.retain_mut(|flush| {
                if flush.offset.is_none() && outbound.has_passed(&mut flush.mark) {
                    flush.offset = Some(session.sent());
                }
                let Some(offset) = flush.offset else { return true };
                let waits = session.peer_has() < offset;
                if waits {
                    session.ask();
                }
                waits
            });
            let mut held = false;
            if outbox.is_empty() && *writable {
                let room = replay_limit.saturating_sub(outbox.replay().unacknowledged());
                held = room == 0;
                let most = pace.bite().min(room.try_into().unwrap_or(usize::MAX));
                outbox.extend(|segments| {
                    session.poll_transmit(ctx.now, outbound, most, &mut &*ctx.core.pool, segments);
                    session.sent()
                });
            }
            // What is still there is fetched when the socket has taken what the outbox has, or
            // the peer has acknowledged some of it. During an outage every sender calls: what is
            // held is counted.
            socket.is_some() && (!outbox.is_empty() || outbound.queued() > 0 || held)
        });
    }

    fn next(&mut self, ctx: &Context) -> Next {
        self.tell_notices();
        if let Some(rtt) = self.session.rtt() {
            self.shared.rtt.store(rtt.as_nanos().try_into().unwrap_or(u64::MAX), Relaxed);
        }
        if let Some(cause) = self.session.ended() {
            self.shared.end(cause);
            if self.session.close_sent() && self.outbox.is_empty() {
                if self.peer_finished || self.session.close_received() {
                    return Next::Done;
                }
                if !self.finished {
                    self.finished = true;
                    if let Some(socket) = &self.socket {
                        socket.finish();
                    }
                }
            }
            if !matches!(cause, ConnectionError::Closed { .. }) {
                self.deadline.get_or_insert(ctx.now + PARTING);
            }
        }
        if self.more {
            Next::Writable
        } else if self.readable {
            Next::Readable
        } else {
            Next::Wait
        }
    }

    fn tell_notices(&mut self) {
        for notice in self.session.take_notices() {
            self.tell(notice);
        }
    }

    fn tell(&mut self, notice: Notice) {
        let inbox = &self.shared.inbox;
        match notice {
            Notice::Interrupt => inbox.tell(&Event::Interrupt),
            Notice::Gap { channel, messages, bytes } => inbox.tell(&Event::Gap { channel, messages, bytes }),
            Notice::Waiting(now) => {
                let before = std::mem::replace(&mut self.waiting, now);
                for channel in ((now - before) | (before - now)).iter() {
                    inbox.tell(&Event::Waiting { channel, waiting: now.contains(channel) });
                }
            }
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut channels: Vec<ChannelStats> = Vec::new();
        let mut entry = |channel| {
            let at = channels.binary_search_by_key(&channel, |stats: &ChannelStats| stats.channel);
            at.unwrap_or_else(|at| {
                channels.insert(at, ChannelStats::new(channel));
                at
            })
        };
        let received: Vec<_> = self.session.inbound().counts().collect();
        let (sent, queued) =
            self.shared.send.read(|outbound| (outbound.counts().collect::<Vec<_>>(), outbound.queued()));
        let places: Vec<_> = received
            .iter()
            .map(|r| r.channel)
            .chain(sent.iter().map(|s| s.channel))
            .map(&mut entry)
            .collect();
        drop(places);
        for stats in &mut channels {
            if let Some(sent) = sent.iter().find(|sent| sent.channel == stats.channel) {
                stats.messages_sent = sent.messages;
                stats.bytes_sent = sent.bytes;
                stats.send_credit = sent.credit;
                stats.staged = sent.staged;
            }
            if let Some(received) = received.iter().find(|received| received.channel == stats.channel) {
                let unreported = self.shared.inbox.unreported(stats.channel);
                stats.messages_received = received.messages;
                stats.bytes_received = received.bytes;
                stats.receive_credit = received.credit;
                stats.unread = received.unread_messages.saturating_sub(unreported.messages.into());
                let cost = received.unread_cost.saturating_sub(unreported.cost.into());
                stats.unread_bytes =
                    cost.saturating_sub(stats.unread * u64::from(crate::proto::frame::FRAME_COST));
            }
        }
        Stats {
            messages_sent: channels.iter().map(|c| c.messages_sent).sum(),
            messages_received: channels.iter().map(|c| c.messages_received).sum(),
            channels,
            bytes_written: self.bytes_written,
            bytes_read: self.bytes_read,
            queued: queued as u64,
            rtt: self.shared.rtt(),
            wakes: self.shared.core.schedule.wakes(),
            reads: self.reads,
            writes: self.writes,
        }
    }
}

/// However a connection leaves the I/O thread, its handles hear of it.
impl Drop for Conn {
    fn drop(&mut self) {
        let cause = self.session.ended().cloned().unwrap_or_else(|| {
            self.shared
                .send
                .ended()
                .or_else(|| self.shared.inbox.ended())
                .unwrap_or(ConnectionError::IoThreadStopped)
        });
        if let Some(offer) = self.offer.take() {
            offer.withdraw();
        }
        self.shared.suspended.store(false, Relaxed);
        *self.shared.last_stats.lock() = Some(self.stats());
        self.shared.inbox.end(&cause);
        let delivered = self.is_delivered();
        self.shared.send.set_gone(&cause, delivered);
    }
}
