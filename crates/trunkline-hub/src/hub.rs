//! What a caller puts together, and what runs then.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use trunkline::{ChannelError, ChannelId, ChannelSet, CloseCode, Connection, ConnectionError, Listener};

use crate::drive::{Aside, Control, Driver};
use crate::filter::{Judge, Origin, Plain, Verdict};
use crate::history::{History, Kind};
use crate::route::{Bench, Keeps, Log, Plan, Router, Screen, Settings, Up, channels};

/// A hub that is being put together: which channel takes which route. [`serve`](Hub::serve) starts it.
///
/// A channel that has no route is refused: what a client sends there is stopped with
/// [`NOT_SENT_HERE`](crate::code::NOT_SENT_HERE), and what upstream sends there is not read.
///
/// ```
/// use trunkline::{ChannelId, Config, Connection, Key, Listener};
/// use trunkline_hub::{History, Hub};
///
/// const STDIN: ChannelId = ChannelId::new(0);
/// const STDOUT: ChannelId = ChannelId::new(1);
///
/// let (program, upstream) = Connection::pair(Config::new(Key::generate()))?;
/// let key = Key::generate();
/// let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone()))?;
/// let hub = Hub::new(upstream).broadcast(STDOUT, History::bytes(1 << 20)).input(STDIN).serve(listener)?;
///
/// program.sender(STDOUT)?.send("before anybody came")?;
/// let address = hub.listener().local_addr();
/// let (desk, home) =
///     (Connection::connect(address, Config::new(key.clone()))?, Connection::connect(address, Config::new(key))?);
/// assert_eq!(desk.receiver(STDOUT)?.recv()?, "before anybody came");
/// assert_eq!(home.receiver(STDOUT)?.recv()?, "before anybody came");
/// desk.sender(STDIN)?.send("a line")?;
/// assert_eq!(program.receiver(STDIN)?.recv()?, "a line");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a hub does nothing before `serve`"]
pub struct Hub {
    upstream: Connection,
    log: Log,
    slots: Vec<ChannelId>,
    down: [Option<u8>; ChannelId::COUNT],
    up: Vec<Up>,
    benches: Vec<Bench>,
    input: Option<ChannelId>,
    private: Option<ChannelId>,
    pool: ChannelSet,
    roster: Option<ChannelId>,
    urgent: ChannelSet,
    routed: ChannelSet,
    aside: Option<Aside>,
    twice: Option<ChannelId>,
    settings: Settings,
}

/// Why a hub cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A channel has two routes, or two that need one channel.
    #[error("channel {0} has two routes; a channel takes one")]
    TwoRoutes(ChannelId),
    /// What keeps its place among the output cannot overtake it.
    #[error(
        "channel {0} is broadcast or latest, so it cannot be urgent: it would overtake the rest of the output"
    )]
    Urgent(ChannelId),
    /// Upstream is over, or a channel of it has a receiver already.
    #[error("upstream: {0}")]
    Upstream(#[from] ChannelError),
    /// The system gives no thread.
    #[error("the system gives no thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl Hub {
    /// Begins a hub before a program: `upstream` is the connection to it. Nothing else may use its channels.
    pub fn new(upstream: Connection) -> Self {
        Self {
            upstream,
            log: Log::default(),
            slots: Vec::new(),
            down: [None; ChannelId::COUNT],
            up: vec![Up::Refused; ChannelId::COUNT],
            benches: Vec::new(),
            input: None,
            private: None,
            pool: ChannelSet::EMPTY,
            roster: None,
            urgent: ChannelSet::EMPTY,
            routed: ChannelSet::EMPTY,
            aside: None,
            twice: None,
            settings: Settings {
                owner_grace: Duration::from_secs(10),
                pass_end_of_input: false,
                wait_for_owner: false,
                unread_answers: 1 << 20,
                linger: Duration::from_secs(5),
            },
        }
    }

    fn claim(&mut self, channels: ChannelSet) {
        self.twice = self.twice.or((self.routed & channels).iter().next());
        self.routed |= channels;
    }

    fn add_slot(&mut self, channel: ChannelId, group: usize, keeps: Keeps) {
        let slot = self.log.add_channel(channel, group, keeps);
        self.slots.push(channel);
        self.down[usize::from(channel.get())] = Some(slot as u8);
    }

    /// Gives what upstream sends on these channels to every client that may receive them, each at its own pace. `history`
    /// is the bound of all of them together; separate calls protect one channel from the flood of another.
    pub fn broadcast(mut self, channels: impl Into<ChannelSet>, history: History) -> Self {
        let channels = channels.into();
        self.claim(channels);
        let History { bound, mut kind } = history;
        let group = self.log.add_group(bound);
        for channel in channels.iter() {
            let keeps = match &mut kind {
                Kind::Bytes => Keeps::History,
                Kind::Nothing => Keeps::Nothing,
                Kind::Snapshot(make) => Keeps::Screen(Screen::new(make(channel))),
            };
            self.add_slot(channel, group, keeps);
        }
        self
    }

    /// Keeps only the newest message of each of these channels, with its place among the broadcast messages. A client gets
    /// it when it has everything that came before it, or a gap instead.
    pub fn latest(self, channels: impl Into<ChannelSet>) -> Self {
        self.recent(channels, 0)
    }

    /// As [`latest`](Hub::latest), and a client that keeps up gets every message: up to so many `bytes` are kept of those
    /// that it has not had, counting length + 32. One that joins gets the newest alone, and one that lags more than that
    /// is told of no gap. For a state that passes quickly and is to be seen all the same.
    ///
    /// ```
    /// use trunkline::{ChannelId, Config, Connection, Key, Listener};
    /// use trunkline_hub::Hub;
    ///
    /// const STATUS: ChannelId = ChannelId::new(4);
    ///
    /// let (program, upstream) = Connection::pair(Config::new(Key::generate()))?;
    /// let key = Key::generate();
    /// let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone()))?;
    /// let hub = Hub::new(upstream).recent(STATUS, 1024).serve(listener)?;
    /// let status = program.sender(STATUS)?;
    /// status.send("idle")?;
    ///
    /// let client = Connection::connect(hub.listener().local_addr(), Config::new(key))?;
    /// let statuses = client.receiver(STATUS)?;
    /// assert_eq!(statuses.recv()?, "idle");
    /// for state in ["busy", "failed", "idle"] {
    ///     status.send(state)?;
    /// }
    /// assert_eq!([statuses.recv()?, statuses.recv()?, statuses.recv()?], ["busy", "failed", "idle"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recent(mut self, channels: impl Into<ChannelSet>, bytes: usize) -> Self {
        let channels = channels.into();
        self.claim(channels);
        for channel in channels.iter() {
            let group = self.log.add_group(bytes as u64);
            self.add_slot(channel, group, Keeps::Latest);
        }
        self
    }

    /// Passes on what the owner of the input sends on this channel. Others are refused: see
    /// [the crate](crate#the-input-has-one-owner).
    pub fn input(mut self, channel: ChannelId) -> Self {
        self.claim(channel.into());
        self.twice = self.twice.or(self.input.replace(channel));
        self.up[usize::from(channel.get())] = Up::Input;
        self
    }

    /// Lets all clients send on these channels, as far as `filter` passes their messages on; what upstream sends there goes
    /// to all. A filter must not block: the hub's thread calls it.
    pub fn shared_with(
        self,
        channels: impl Into<ChannelSet>,
        filter: impl Fn(&Origin<'_>, &[u8]) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.share(channels.into(), Bench::new(Plain(filter), None))
    }

    /// As [`shared_with`](Hub::shared_with), with a [`Judge`] that also hears which clients come and go, remembers, and says
    /// something upstream itself: for what depends on all clients that are there, as the size of a shared terminal.
    ///
    /// ```
    /// use std::collections::BTreeSet;
    ///
    /// use bytes::Bytes;
    /// use trunkline::{ChannelId, Config, Connection, Key, Listener};
    /// use trunkline_hub::{Hub, Judge, News, Origin, Verdict};
    ///
    /// const CONTROL: ChannelId = ChannelId::new(3);
    ///
    /// /// Tells the program how many clients are there.
    /// #[derive(Default)]
    /// struct Count {
    ///     clients: BTreeSet<u64>,
    ///     said: usize,
    /// }
    ///
    /// impl Judge for Count {
    ///     fn judge(&mut self, _origin: &Origin<'_>, _message: &[u8]) -> Verdict {
    ///         Verdict::Pass
    ///     }
    ///
    ///     fn hear(&mut self, news: &News<'_>) {
    ///         match news {
    ///             News::Joined { client, .. } | News::Back { client } => drop(self.clients.insert(*client)),
    ///             News::Lost { client } | News::Left { client } => drop(self.clients.remove(client)),
    ///             _ => {}
    ///         }
    ///     }
    ///
    ///     fn say(&mut self) -> Option<Bytes> {
    ///         let count = self.clients.len();
    ///         (std::mem::replace(&mut self.said, count) != count).then(|| format!("clients {count}").into())
    ///     }
    /// }
    ///
    /// let (program, upstream) = Connection::pair(Config::new(Key::generate()))?;
    /// let key = Key::generate();
    /// let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone()))?;
    /// let hub = Hub::new(upstream).judged_by(CONTROL, Count::default()).serve(listener)?;
    ///
    /// let client = Connection::connect(hub.listener().local_addr(), Config::new(key))?;
    /// let control = program.receiver(CONTROL)?;
    /// assert_eq!(control.recv()?, "clients 1");
    /// drop(client);
    /// assert_eq!(control.recv()?, "clients 0");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn judged_by(self, channel: ChannelId, judge: impl Judge) -> Self {
        self.share(channel.into(), Bench::new(judge, Some(channel)))
    }

    fn share(mut self, channels: ChannelSet, bench: Bench) -> Self {
        for channel in channels.iter() {
            self.up[usize::from(channel.get())] = Up::Shared(self.benches.len());
        }
        self.benches.push(bench);
        self.broadcast(channels, History::none())
    }

    /// Gives each client a conversation of its own with the program: what it sends on `channel` goes to an upstream channel of
    /// the pool, which is lent to it, and back. A pool of 63 serves 63 clients at once; one more is refused with
    /// [`NO_PRIVATE_CHANNEL`](crate::code::NO_PRIVATE_CHANNEL). Numbers above 127 do not count.
    ///
    /// Each run that a client sends is a question, and has one run of answers: the program's, or, if the question was not
    /// passed on, an empty one that is reset with the code of [`code`](crate::code) that says why. A client that stops a run
    /// of answers gets nothing more of it, and what is left of that question is refused; the next question is answered.
    ///
    /// A conversation is one run each way. The program must end its run when it has read the end of the client's, and not
    /// before.
    pub fn private(mut self, channel: ChannelId, pool: RangeInclusive<u8>) -> Self {
        let pool = channels(pool);
        self.claim(pool | channel);
        self.twice = self.twice.or(self.private.replace(channel));
        self.pool = pool;
        self.up[usize::from(channel.get())] = Up::Private;
        self
    }

    /// Tells clients on this channel who is here, who has the input, and what has become of their lines: see
    /// [the crate](crate#the-roster).
    pub fn roster(mut self, channel: ChannelId) -> Self {
        self.claim(channel.into());
        self.twice = self.twice.or(self.roster.replace(channel));
        self.up[usize::from(channel.get())] = Up::Roster;
        self
    }

    /// Leaves these channels of every client to the caller, for what does not concern upstream, such as forwarding. `joins` gets
    /// each client's connection when it joins, in the hub's thread, so it must not block; it may keep the connection, and must use
    /// no other channel of it and no events. The hub closes the connection as it closes every other.
    ///
    /// ```
    /// use trunkline::{ChannelId, Config, Connection, Key, Listener};
    /// use trunkline_hub::Hub;
    ///
    /// const ECHO: ChannelId = ChannelId::new(64);
    ///
    /// let (_program, upstream) = Connection::pair(Config::new(Key::generate()))?;
    /// let key = Key::generate();
    /// let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone()))?;
    /// let (sender, joined) = std::sync::mpsc::channel();
    /// let hub = Hub::new(upstream).aside(ECHO, move |client| drop(sender.send(client))).serve(listener)?;
    ///
    /// let client = Connection::connect(hub.listener().local_addr(), Config::new(key))?;
    /// client.sender(ECHO)?.send("who is there?")?;
    /// let there = joined.recv()?;
    /// assert_eq!(there.receiver(ECHO)?.recv()?, "who is there?");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn aside(
        mut self,
        channels: impl Into<ChannelSet>,
        joins: impl Fn(Connection) + Send + 'static,
    ) -> Self {
        let channels = channels.into();
        self.claim(channels);
        for channel in channels.iter() {
            self.up[usize::from(channel.get())] = Up::Aside;
        }
        self.aside = Some(Box::new(joins));
        self
    }

    /// Sends on these channels with [`Priority::Urgent`](trunkline::Priority::Urgent), both ways: for control, and answers
    /// that a person waits for.
    pub fn urgent(mut self, channels: impl Into<ChannelSet>) -> Self {
        self.urgent |= channels.into();
        self
    }

    /// Sets how long the input is kept for an owner whose socket is lost. Default 10 s.
    pub fn owner_grace(mut self, time: Duration) -> Self {
        self.settings.owner_grace = time;
        self
    }

    /// Sets whether the end of the owner's run is the end of the program's input. By default it is not: leaving is not
    /// end-of-file.
    pub fn pass_end_of_input(mut self, pass: bool) -> Self {
        self.settings.pass_end_of_input = pass;
        self
    }

    /// Sets whether the program waits for the owner of its input, and with it everybody, when the owner lags by half of what
    /// the log keeps. It never waits for an owner whose socket is lost, and for one that takes nothing no longer than 5 s.
    /// Default `false`.
    pub fn wait_for_owner(mut self, wait: bool) -> Self {
        self.settings.wait_for_owner = wait;
        self
    }

    /// Sets how many bytes of private answers a client may leave unread in the hub, beyond its window, before its conversation
    /// is reset with [`UNREAD`](crate::code::UNREAD). Default 1 MiB; one message may always wait.
    pub fn unread_answers(mut self, bytes: usize) -> Self {
        self.settings.unread_answers = bytes;
        self
    }

    /// Sets how long clients get what is left once upstream is over. Default 5 s.
    pub fn linger(mut self, time: Duration) -> Self {
        self.settings.linger = time;
        self
    }

    /// Serves the clients of a listener, in a thread of its own.
    ///
    /// # Errors
    ///
    /// [`HubError::TwoRoutes`] and [`HubError::Urgent`] if the routes contradict each other; [`HubError::Upstream`] if upstream
    /// is over or something else receives from it; [`HubError::Thread`] if the system gives no thread.
    pub fn serve(self, listener: Listener) -> Result<Running, HubError> {
        if let Some(channel) = self.twice {
            return Err(HubError::TwoRoutes(channel));
        }
        // What is shared may be urgent: it has no history.
        let ordered = self.slots.iter().copied().filter(|channel| {
            !matches!(self.up[usize::from(channel.get())], Up::Shared(_)) && self.urgent.contains(*channel)
        });
        if let Some(channel) = ordered.into_iter().next() {
            return Err(HubError::Urgent(channel));
        }
        let plan = Plan {
            down: self.down,
            up: self.up,
            input: self.input,
            private: self.private,
            pool: self.pool,
            roster: self.roster,
            may_send: self.upstream.may_send(),
            may_interrupt: self.upstream.may_interrupt(),
            settings: self.settings,
        };
        let urgent = if self.private.is_some_and(|private| self.urgent.contains(private)) {
            self.urgent | self.pool
        } else {
            self.urgent
        };
        let router = Router::new(plan, self.log, self.benches, Instant::now());
        let control = Arc::<Control>::default();
        let listener = Arc::new(listener);
        let driver = Driver::new(
            Arc::clone(&control),
            Arc::clone(&listener),
            self.upstream,
            router,
            self.slots,
            urgent,
            self.aside,
        )?;
        let thread =
            std::thread::Builder::new().name("trunkline-hub".to_owned()).spawn(move || driver.run())?;
        Ok(Running { control, listener, thread: Some(thread) })
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

/// A hub at work. It ends when upstream is over and every client has what it had room for, or when this is dropped or
/// [shut down](Running::shut_down).
pub struct Running {
    control: Arc<Control>,
    listener: Arc<Listener>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Returns the listener, for its address and its keys.
    #[must_use]
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Returns how many clients there are, with those whose socket is lost.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.control.clients.load(Relaxed)
    }

    /// Returns how many bytes the log holds, where a message counts as its length + 32.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.control.log.load(Relaxed)
    }

    /// Waits until upstream is over and all clients were told. Returns why upstream is over; `None` if the hub's thread has
    /// panicked, which is a fault of this crate.
    pub fn wait(mut self) -> Option<ConnectionError> {
        self.join()
    }

    /// Closes upstream and then the clients, with this code and reason, and waits for them no longer than
    /// [`linger`](Hub::linger). Returns as [`wait`](Running::wait) does.
    pub fn shut_down(mut self, code: CloseCode, reason: &str) -> Option<ConnectionError> {
        self.control.shut_down(code, reason);
        self.join()
    }

    fn join(&mut self) -> Option<ConnectionError> {
        self.thread.take()?.join().ok()?;
        self.control.end.lock().clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.control.shut_down(CloseCode::SHUTTING_DOWN, "the hub has ended");
            self.join();
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("listener", &self.listener).field("clients", &self.clients()).finish()
    }
}
