//! The hub's thread: carries what the router says between the handles of upstream and those of the clients.
//!
//! It sleeps until a token comes. A turn for one token, and a turn of one client, is bounded; what is left goes to the
//! back. Upstream's log is read when every client that has room had its turn.

mod clients;
mod link;
mod queue;
mod upstream;
mod upward;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;
use trunkline::{ChannelId, ChannelSet, CloseCode, Connection, ConnectionError, Listener};

use crate::route::{Action, Router};
use link::Links;
use queue::{Queue, Token};
use upstream::Upstream;

/// A turn ends after so many messages, or bytes.
const TURN_MESSAGES: usize = 64;
const TURN_BYTES: usize = 64 << 10;

/// What the hub's thread shares with the handle of the caller.
#[derive(Default)]
pub(crate) struct Control {
    queue: Arc<Queue>,
    ask: Mutex<Option<(CloseCode, String)>>,
    pub(crate) clients: AtomicUsize,
    pub(crate) log: AtomicUsize,
    pub(crate) end: Mutex<Option<ConnectionError>>,
}

impl Control {
    /// Ends the hub.
    pub(crate) fn shut_down(&self, code: CloseCode, reason: &str) {
        self.ask.lock().get_or_insert_with(|| (code, reason.to_owned()));
        self.queue.put(Token::Asked);
    }
}

/// Is told of each client that joins.
pub(crate) type Aside = Box<dyn Fn(Connection) + Send>;

/// What the thread owns.
pub(crate) struct Driver {
    aside: Option<Aside>,
    control: Arc<Control>,
    listener: Arc<Listener>,
    router: Router,
    /// The channels of the log, by slot.
    slots: Vec<ChannelId>,
    urgent: ChannelSet,
    upstream: Upstream,
    /// The slots of which only the newest message is kept.
    latest: Vec<bool>,
    links: Links,
    ids: u64,
    /// Tokens whose turn was too short for them.
    back: VecDeque<Token>,
    accepting: bool,
    accept: std::task::Waker,
    now: Instant,
}

impl Driver {
    pub(crate) fn new(
        control: Arc<Control>,
        listener: Arc<Listener>,
        connection: Connection,
        router: Router,
        slots: Vec<ChannelId>,
        urgent: ChannelSet,
        aside: Option<Aside>,
    ) -> Result<Self, trunkline::ChannelError> {
        let queue = Arc::clone(&control.queue);
        let upstream = Upstream::new(connection, router.plan(), &slots, urgent, &queue)?;
        let accept = queue.bell(Token::Accept);
        let router_latest = (0..slots.len()).map(|slot| router.is_latest(slot)).collect();
        Ok(Self {
            control,
            listener,
            router,
            slots,
            urgent,
            upstream,
            latest: router_latest,
            links: Links::default(),
            ids: 0,
            back: VecDeque::new(),
            aside,
            accepting: true,
            accept,
            now: Instant::now(),
        })
    }

    /// Runs until upstream is over and no client is left.
    pub(crate) fn run(mut self) {
        // Nothing has rung yet.
        self.back.push_back(Token::Accept);
        self.back.extend(Upstream::tokens().map(Token::Upstream));
        let mut tokens = Vec::new();
        while !self.router.is_done() {
            let busy = !self.back.is_empty() || self.router.has_ready() || self.upstream_can_be_read();
            let until = if busy { Some(self.now) } else { self.router.next_timeout() };
            self.control.queue.take(&mut tokens, until);
            self.now = Instant::now();
            for token in self.back.split_off(0).into_iter().chain(tokens.drain(..)) {
                self.serve(token);
                self.act();
            }
            for _ in 0..self.router.ready_len() {
                let Some(key) = self.router.next_ready() else { break };
                self.turn(key);
                self.act();
            }
            self.read_log();
            self.act();
            if self.router.next_timeout().is_some_and(|due| due <= self.now) {
                self.router.handle_timeout(self.now);
                self.act();
            }
            self.control.clients.store(self.links.len(), Relaxed);
            self.control.log.store(self.router.log_cost(), Relaxed);
        }
        *self.control.end.lock() = self.upstream.cause();
    }

    /// Upstream is read when every client that has room has had its turn, and the I/O thread has come to all that its
    /// turn has given it: so what makes a gap is never the hub's own slowness.
    fn upstream_can_be_read(&mut self) -> bool {
        self.upstream.log_is_readable()
            && !self.links.hurries()
            && !self.router.would_lose()
            && self.router.may_read(self.now)
    }

    fn serve(&mut self, token: Token) {
        match token {
            Token::Asked => {
                let asked = self.control.ask.lock().clone();
                if let Some((code, reason)) = asked {
                    self.upstream.close(code, &reason);
                    self.over(code, &reason);
                }
            }
            Token::Accept => self.accept(),
            Token::Upstream(part) => self.serve_upstream(part),
            Token::Client(key, id, part) => {
                // The place may belong to another client by now.
                if self.links.get(key).is_some_and(|link| link.id == id) {
                    self.serve_client(key, part);
                }
            }
        }
    }

    fn over(&mut self, code: CloseCode, reason: &str) {
        let linger = self.router.plan().settings.linger;
        self.router.handle_over(code, reason, linger, self.now);
    }

    /// Does what the router asks for.
    fn act(&mut self) {
        while let Some(action) = self.router.next_action() {
            match action {
                Action::Pass { channel, message } => self.pass(channel, upstream::Out::Message(message)),
                Action::Say { channel } => {
                    if self.upstream.has_room(channel) {
                        self.router.handle_say_room(channel);
                    }
                }
                Action::EndUpstream { channel, end } => self.pass(channel, upstream::Out::End(end)),
                Action::GapUpstream { channel, messages, bytes } => {
                    self.pass(channel, upstream::Out::Gap(messages, bytes));
                }
                Action::InterruptUpstream => self.upstream.interrupt(),
                Action::Refuse { key, channel, code } => self.refuse(key, channel, code),
                Action::Skip { key, channel, code } => self.skip(key, channel, code),
                Action::Prompt { key, waiting, count } => {
                    if let Some(input) = self.links.get(key).and_then(|link| link.input.as_ref()) {
                        input.set_waiting(waiting, count);
                    }
                }
                Action::Look { key, channel } => self.look(key, channel),
                Action::Close { key, code, reason } => self.close(key, code, &reason),
            }
        }
    }
}
