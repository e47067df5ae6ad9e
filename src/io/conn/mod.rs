//! One connection on the I/O thread: its session, and the way between its socket and its queues. It
//! knows no channel semantics: it moves bytes and tells the session the time.
//!
//! | file | topic |
//! |---|---|
//! | `mod` | a pass: what the socket has, the exchange with the queues, what goes out |
//! | `ending` | how a connection comes to its end |
//! | `outage` | a connection without a socket: how it waits for another, and goes on with it |
//! | `identity` | by what the two sides know it again |
//! | `sealed` | what a sealed socket has |
//! | `account` | what it holds, and its counts |

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::env::{Env, Reasons};
use super::keyring::{Credential, Tenant};
use super::leaving::Leaving;
use super::link::{Link, NewSocket, Wrote};
use super::place::Place;
use super::sealed::TAMPERED;
use super::shared::Shared;
use super::socket::Read;
use super::trace::ConnTrace;
use crate::error::ConnectionError;
use crate::event::Event;
use crate::proto::handshake::SessionId;
use crate::proto::inbound::Budget;
use crate::proto::replay::Replay;
use crate::proto::session::{CloseWish, Exchange, Room, Session};
use crate::queue::receive::Routes;
use crate::queue::send::Comes;
use crate::queue::staging::Staging;
use crate::session_info::SessionInfo;

mod account;
mod ending;
mod identity;
mod outage;
mod sealed;

use account::Traffic;
pub(crate) use ending::{LastWords, Past};
pub(crate) use identity::{ClientId, Home, Identity, Presence, ServerId, terms};
use outage::Outage;
pub(crate) use outage::Refusal;

/// Reads of one connection before the others, and what is to be written, have their turn.
const READS: usize = 2;
/// Writes of one connection before the others have their turn.
const WRITES: usize = 2;
/// How much to read where a large message may begin.
const BEGINNING: usize = 2048;

/// What a connection wants after a pass.
pub(crate) enum Step {
    /// To be served when something happens.
    Wait,
    /// To be served again, after the others. `pressed`: it has more to write.
    More { pressed: bool },
    /// It has lost its socket, and its peer is to be dialled.
    Dial(Box<Home>),
    /// It has no socket, waits for its client, and holds so many bytes.
    Away { held: usize },
    /// It is over; let it go.
    Over,
}

/// A connection has a socket, or waits for one.
enum Attachment {
    Attached(Link),
    Away(Outage),
}

pub(crate) struct Conn {
    place: Place,
    shared: Arc<Shared>,
    session: Session,
    /// What was taken from the send queue and is not written, or may be asked for again.
    replay: Replay,
    attachment: Attachment,
    identity: Identity,
    /// The listener that it came by, on whose side it is.
    origin: Option<Origin>,
    routes: Routes,
    /// When the wait for the peer to confirm the end is over.
    ending: Option<Instant>,
    /// The peer's half of the socket has ended behind its CLOSE.
    half_ended: bool,
    traffic: Traffic,
    /// The senders were told that only the peer can make room.
    stuck: bool,
    trace: ConnTrace,
    /// Dropped with the connection: what waits for the end of all connections waits for that.
    leaving: Option<Leaving>,
}

/// The listener that a connection came by, and the key that its client has proved.
pub(crate) struct Origin {
    pub(crate) listener: Place,
    pub(crate) tenant: Tenant,
    pub(crate) since: Instant,
}

impl Conn {
    /// A connection with its first socket.
    pub(crate) fn new(
        shared: Arc<Shared>,
        session: Session,
        identity: Identity,
        new: NewSocket,
        place: Place,
        trace: ConnTrace,
    ) -> Self {
        let replay = Replay::new(identity.is_resumable());
        let attachment = Attachment::Attached(Link::new(new));
        Self::with(shared, session, replay, attachment, identity, place, trace)
    }

    fn with(
        shared: Arc<Shared>,
        session: Session,
        replay: Replay,
        attachment: Attachment,
        identity: Identity,
        place: Place,
        trace: ConnTrace,
    ) -> Self {
        let mut conn = Self {
            place,
            shared,
            session,
            replay,
            attachment,
            identity,
            origin: None,
            routes: Routes::default(),
            ending: None,
            half_ended: false,
            traffic: Traffic::default(),
            stuck: false,
            trace,
            leaving: None,
        };
        conn.set_stuck(matches!(conn.attachment, Attachment::Away(_)));
        conn
    }

    /// Has the end of the peer's process told.
    pub(crate) fn watch_peer(&self, registry: &mio::Registry) {
        if let Attachment::Attached(link) = &self.attachment {
            link.watch_peer(registry, self.place);
        }
    }

    /// On a listener's side.
    pub(crate) fn with_origin(self, origin: Origin) -> Self {
        let mut conn = self;
        conn.origin = Some(origin);
        conn
    }

    pub(crate) fn listener(&self) -> Option<Place> {
        self.origin.as_ref().map(|origin| origin.listener)
    }

    /// The session's name, on a listener's side.
    pub(crate) fn session_id(&self) -> Option<SessionId> {
        self.identity.session()
    }

    /// Returns `true` if its client has proved this key of this listener.
    pub(crate) fn is_of(&self, listener: Place, credential: &Credential) -> bool {
        let origin = self.origin.as_ref();
        origin.is_some_and(|origin| origin.listener == listener && origin.tenant.credential() == credential)
    }

    /// How a listener lists it, if it is that listener's.
    pub(crate) fn info(&self, listener: Place) -> Option<SessionInfo> {
        let origin = self.origin.as_ref().filter(|origin| origin.listener == listener)?;
        let agreed = self.shared.agreed.lock().clone();
        Some(SessionInfo {
            access: origin.tenant.credential().access().clone(),
            since: origin.since,
            sealed: agreed.sealed,
            suspended: agreed.suspended,
            peer_addr: agreed.peer_addr,
            peer_process: agreed.peer_process,
        })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// One pass: reads and writes what can be.
    pub(crate) fn serve(&mut self, reasons: Reasons, env: &mut Env) -> Step {
        let step = match &mut self.attachment {
            Attachment::Attached(link) => {
                if link.handle_ready(reasons.ready) {
                    self.session.handle_write_progress(env.now);
                }
                if reasons.due {
                    // What waits in the socket is life; it is looked at before the clock.
                    link.look_again();
                }
                self.serve_attached(reasons.due, env)
            }
            Attachment::Away(_) => self.serve_away(env),
        };
        if !matches!(step, Step::Over) {
            self.set_deadline(env);
        }
        step
    }

    fn serve_attached(&mut self, due: bool, env: &mut Env) -> Step {
        if due && self.is_ending_over(env) {
            return Step::Over;
        }
        let read = self.read(env);
        self.confirm();
        if due && let Err(silence) = self.session.handle_timeout(env.now) {
            return self.lose(&ConnectionError::HeartbeatLost(silence), env);
        }
        let written = read.and_then(|()| {
            self.write(env).or_else(|error| {
                // The peer may have said why before it went.
                if let Attachment::Attached(link) = &mut self.attachment {
                    link.look_again();
                }
                self.read(env)?;
                Err(error)
            })
        });
        self.tell_news();
        match written {
            Ok(more) => self.after_writing(more, env),
            Err(error) => {
                self.exchange(env);
                let cause = match error.kind() {
                    TAMPERED => {
                        self.traffic.tampered += 1;
                        ConnectionError::Tampered
                    }
                    kind => ConnectionError::Lost { kind },
                };
                self.lose(&cause, env)
            }
        }
    }

    /// What follows once all was read and written that could be.
    fn after_writing(&mut self, more: bool, env: &mut Env) -> Step {
        if self.is_over(env) {
            return Step::Over;
        }
        let Attachment::Attached(link) = &self.attachment else { return Step::Wait };
        if more {
            Step::More { pressed: true }
        } else if link.is_readable() {
            Step::More { pressed: false }
        } else {
            Step::Wait
        }
    }

    fn set_deadline(&self, env: &mut Env) {
        let deadline = match &self.attachment {
            Attachment::Attached(link) => {
                self.session.deadline(link.is_writable() && self.replay.is_written())
            }
            Attachment::Away(outage) => outage.deadline(),
        };
        let deadline = [deadline, self.ending].into_iter().flatten().min();
        env.timers.set(self.place, deadline);
    }

    // ---- what the socket has

    fn read(&mut self, env: &mut Env) -> io::Result<()> {
        let mut budget = Budget::pass();
        self.handle_unhandled(&mut budget, env);
        for _ in 0..READS {
            let Attachment::Attached(link) = &mut self.attachment else { return Ok(()) };
            if budget.is_spent() || !link.unhandled.is_empty() {
                return Ok(());
            }
            if link.sealed().is_some() {
                match self.read_sealed(&mut budget, env)? {
                    true => continue,
                    false => return Ok(()),
                }
            }
            let large = self.session.expects_large();
            let payload = self.session.payload_buffer();
            let direct = payload.is_some();
            let read = match payload {
                Some(buffer) => {
                    let room = buffer.capacity() - buffer.len();
                    link.read(room, |socket| socket.read_spare(buffer))?
                }
                None => {
                    // What follows a large message is probably one too: its beginning is enough, the
                    // rest goes straight into a buffer of its own.
                    let room = if large { BEGINNING } else { env.scratch.len() };
                    link.read(room, |socket| socket.read(&mut env.scratch[..room]))?
                }
            };
            let read = match read {
                Read::Bytes(read) => read,
                Read::Nothing => return Ok(()),
                Read::End => return self.handle_end_of_half(),
            };
            self.traffic.read(read);
            env.received = true;
            if direct {
                self.deliver(env, |session, now, staging| session.handle_payload(now, read, staging));
            } else {
                let scratch = std::mem::take(&mut env.scratch);
                self.handle_bytes(&scratch[..read], &mut budget, env);
                env.scratch = scratch;
            }
        }
        Ok(())
    }

    /// What was left when the last pass was over, and what came behind the handshake.
    fn handle_unhandled(&mut self, budget: &mut Budget, env: &mut Env) {
        if let Attachment::Attached(link) = &mut self.attachment
            && !link.unhandled.is_empty()
        {
            let bytes = std::mem::take(&mut link.unhandled);
            self.handle_bytes(&bytes, budget, env);
        }
    }

    fn handle_bytes(&mut self, mut bytes: &[u8], budget: &mut Budget, env: &mut Env) {
        self.deliver(env, |session, now, staging| session.handle_input(now, &mut bytes, budget, staging));
        if let Attachment::Attached(link) = &mut self.attachment {
            link.unhandled.extend_from_slice(bytes);
        }
    }

    /// Lets the session take bytes, and hands over what came out.
    fn deliver(&mut self, env: &mut Env, handle: impl FnOnce(&mut Session, Instant, &mut Staging)) {
        self.shared.receive.route(&mut env.staging, &mut self.routes);
        handle(&mut self.session, env.now, &mut env.staging);
        if self.session.has_stops() {
            // Before any thread can answer what came behind the STOP: the answer is a new run.
            self.act(env);
        }
        self.hand_over(env);
    }

    fn hand_over(&mut self, env: &mut Env) {
        let runs = self.session.take_runs();
        let opened = self.shared.receive.hand_over(&mut env.staging, &mut self.routes, runs, &env.core.pool);
        self.shared.events.tell_opened(opened);
    }

    // ---- the exchange

    /// Lets what arrived and what the application wants act on each other, and writes what there is
    /// to send. `true`: there is more than this pass's share.
    fn write(&mut self, env: &mut Env) -> io::Result<bool> {
        for _ in 0..WRITES {
            self.exchange(env);
            let Attachment::Attached(link) = &mut self.attachment else { return Ok(false) };
            if !link.is_writable() {
                self.set_stuck(true);
                return Ok(false);
            }
            if link.is_clear() && self.replay.is_written() {
                link.pace.idle();
                // What is still there is held until the peer has acknowledged more.
                self.set_stuck(env.output.held);
                return Ok(false);
            }
            let wrote = link.write(&mut self.replay, env.now, &mut &*env.core.pool, &mut env.sealing)?;
            let (Wrote::All(bytes) | Wrote::Part(bytes)) = wrote;
            self.traffic.wrote(bytes);
            let part = matches!(wrote, Wrote::Part(_));
            self.set_stuck(part);
            if part {
                return Ok(false);
            }
        }
        // The senders rely on it that this one comes back.
        Ok(true)
    }

    /// The peer takes no more, or does again.
    fn set_stuck(&mut self, stuck: bool) {
        if std::mem::replace(&mut self.stuck, stuck) != stuck {
            self.shared.send.set_stuck(stuck);
        }
    }

    fn exchange(&mut self, env: &mut Env) {
        self.act(env);
        if self.session.has_merged() {
            self.shared.receive.route(&mut env.staging, &mut self.routes);
            self.session.poll_merged(&mut env.staging);
            self.hand_over(env);
        }
    }

    fn act(&mut self, env: &mut Env) {
        let Self { session, shared, replay, attachment, ending, .. } = self;
        let Env { wishes, output, core, now, .. } = env;
        let now = *now;
        let pool = &*core.pool;
        let link = match attachment {
            Attachment::Attached(link) => Some(&*link),
            Attachment::Away(_) => None,
        };
        shared.send.exchange(wishes, output, |wishes, outbound, flushes, output| {
            // With the send queue locked: what was stopped before something was sent goes first.
            shared.receive.collect(wishes);
            match &wishes.close {
                Some(CloseWish::Behind { linger, .. }) => *ending = now.checked_add(*linger),
                Some(CloseWish::Now(_)) => *ending = now.checked_add(ending::PARTING),
                None => {}
            }
            let mut room = match link {
                Some(link) if link.is_writable() && link.is_clear() && replay.is_written() => {
                    outbound.limit_frames(link.pace.frame().min(session.longest_frame()));
                    Room::Bytes(link.pace.bite())
                }
                _ => Room::None,
            };
            loop {
                replay.extend(|segments| {
                    let (spare, outbound, flushes) = (&mut &*pool, &mut *outbound, &mut *flushes);
                    let output = &mut *output;
                    session
                        .exchange(wishes, Exchange { now, outbound, flushes, room, spare, segments, output });
                    session.sent()
                });
                // What was taken meanwhile may be worth credit already.
                if !shared.receive.publish(&mut output.reports) {
                    break;
                }
                shared.receive.collect(wishes);
                room = if room == Room::None { room } else { Room::Bytes(0) };
            }
            // What is still there is fetched when the socket has taken what was taken before, or the
            // peer has acknowledged some of it. During an outage every sender calls: what is held is
            // counted.
            match link {
                Some(_) if !replay.is_written() || outbound.queued() > 0 || output.held => Comes::Back,
                _ => Comes::WhenCalled,
            }
        });
        // Without a lock: what it frees may be the user's memory.
        replay.acknowledge(session.peer_has(), &mut &*pool);
    }

    /// What the peer says to the application outside the channels.
    fn tell_news(&mut self) {
        let news = self.session.take_news();
        if news.interrupt {
            self.shared.events.tell_interrupt();
        }
        for waiting in news.waiting {
            self.shared.events.tell(&Event::Waiting {
                channel: waiting.channel,
                waiting: waiting.waiting,
                taken: waiting.count,
            });
        }
        for (channel, code) in news.stopped {
            self.shared.events.tell(&Event::Stopped { channel, code });
        }
        if let Some(rtt) = self.session.rtt() {
            // Zero stands for one that is not known.
            self.shared.rtt.store(u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX).max(1), Relaxed);
        }
    }

    /// The client is known to know of the connection once something has come from it; then the
    /// connection can be accepted.
    fn confirm(&mut self) {
        if self.session.inbound().received() > 0 {
            self.identity.confirm(&self.shared);
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
                .or_else(|| self.shared.receive.ended())
                .unwrap_or(ConnectionError::IoThreadStopped)
        });
        self.shared.agreed.lock().suspended = false;
        *self.shared.last_stats.lock() = Some(self.stats());
        self.shared.receive.end(&cause);
        self.shared.events.close(&cause);
        let delivered = self.is_delivered();
        self.shared.send.set_gone(&cause, delivered);
        self.trace.closed(&cause, delivered);
    }
}

/// How long a peer that was not heard of yet is waited for, whatever its grace (protocol, section 6).
const UNCONFIRMED: Duration = Duration::from_secs(60);
