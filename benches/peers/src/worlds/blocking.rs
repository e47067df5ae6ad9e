//! The workloads for peers whose calls block.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;

use crate::child::{self, Role, Values};
use crate::child::{usage, watchdog};
use crate::plan::workload::Workload;
use crate::plan::{PING_SIZE, Plan};
use crate::work::beside::{FILL_AT_MOST, flood_values, unread_values};
use crate::work::clock::{RoundTrips, Span};
use crate::work::message::{FLOODED, HELLO, Head, LAST, Messages, is_large};

/// A peer: one conversation of two processes.
pub trait Peer: Sized {
    type Channel: Channel;
    type Fan: Fan;

    /// Binds, announces where, and waits for the other process.
    fn serve(plan: &Plan) -> Result<Self>;
    fn connect(plan: &Plan, to: &[SocketAddr]) -> Result<Self>;
    /// The plan's channels, one handle each.
    fn channels(&mut self, plan: &Plan) -> Result<Vec<Self::Channel>>;
    /// The plan's channels in one hand.
    fn fan(&mut self, plan: &Plan) -> Result<Self::Fan>;
}

/// One end of a channel, in one thread's hands.
pub trait Channel: Send + 'static {
    fn send(&mut self, message: &[u8]) -> Result<()>;
    /// Sends a message that the program holds in a shared buffer.
    fn send_large(&mut self, message: &Bytes) -> Result<()> {
        self.send(message)
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    /// Takes the next message. Those that carry bytes, not messages, need to know its length.
    fn recv(&mut self, len: usize) -> Result<Head>;
}

/// Many channels that one thread sends to, or receives from.
pub trait Fan {
    fn send_on(&mut self, channel: u32, message: &[u8]) -> Result<()>;
    fn flush_all(&mut self) -> Result<()> {
        Ok(())
    }
    fn recv_any(&mut self, len: usize) -> Result<Head>;
}

pub fn run<P: Peer>(role: Role, plan: &Plan) -> Result<()> {
    // The peer's handles stay until the process ends: see `child::finish`.
    let (values, _peer) = match role {
        Role::Server => {
            let mut peer = P::serve(plan)?;
            (serve(&mut peer, plan)?, peer)
        }
        Role::Client(to) => {
            let mut peer = P::connect(plan, &to)?;
            (drive(&mut peer, plan)?, peer)
        }
    };
    child::result(&values);
    child::finish()
}

fn serve<P: Peer>(peer: &mut P, plan: &Plan) -> Result<Values> {
    if plan.workload == Workload::Many {
        let mut fan = peer.fan(plan)?;
        ensure!(fan.recv_any(plan.size)?.is(HELLO), "no hello");
        child::connected(plan)?;
        let values = take_many(&mut fan, plan);
        std::mem::forget(fan);
        return values;
    }
    let mut channels = peer.channels(plan)?;
    for (channel, index) in channels.iter_mut().zip(0..) {
        let head = channel.recv(PING_SIZE)?;
        ensure!(head.is(HELLO) && head.channel == index, "{head:?} is no hello on {index}");
        if plan.is_duplex(index) {
            say_hello(channel, index)?;
        }
    }
    child::connected(plan)?;
    let mut channels = channels.into_iter();
    let mut next = || channels.next().expect("as many channels as planned");
    match plan.workload {
        Workload::Small | Workload::Large => take(next(), plan),
        Workload::Ping | Workload::PingOneCore => {
            watchdog::stage("answering pings");
            let mut channel = next();
            echo(&mut channel, |_| {})?;
            std::mem::forget(channel);
            Ok(Values::new())
        }
        Workload::Flood | Workload::Slow => take_flood(next(), next()),
        Workload::Unread => take_beside_unread(next(), next(), plan),
        Workload::Many => unreachable!("above"),
    }
}

fn drive<P: Peer>(peer: &mut P, plan: &Plan) -> Result<Values> {
    if plan.workload == Workload::Many {
        let mut fan = peer.fan(plan)?;
        let mut messages = Messages::new(plan.size, 0);
        fan.send_on(0, messages.small(0, 0, HELLO))?;
        fan.flush_all()?;
        child::connected(plan)?;
        send_many(&mut fan, plan)?;
        std::mem::forget(fan);
        return Ok(Values::new());
    }
    let mut channels = peer.channels(plan)?;
    for (channel, index) in channels.iter_mut().zip(0..) {
        say_hello(channel, index)?;
    }
    for (channel, index) in channels.iter_mut().zip(0..) {
        if plan.is_duplex(index) {
            ensure!(channel.recv(PING_SIZE)?.is(HELLO), "no hello came back");
        }
    }
    child::connected(plan)?;
    let mut channels = channels.into_iter();
    let mut next = || channels.next().expect("as many channels as planned");
    match plan.workload {
        Workload::Small | Workload::Large => {
            let mut channel = next();
            send(&mut channel, plan)?;
            std::mem::forget(channel);
            Ok(Values::new())
        }
        Workload::Ping | Workload::PingOneCore => ping(next(), plan),
        Workload::Flood | Workload::Slow => flood_and_ping(next(), next(), plan),
        Workload::Unread => send_beside_unread(next(), next(), plan),
        Workload::Many => unreachable!("above"),
    }
}

fn say_hello(channel: &mut impl Channel, index: u32) -> Result<()> {
    let mut messages = Messages::new(PING_SIZE, index);
    channel.send(messages.small(0, index, HELLO))?;
    channel.flush()
}

fn send(channel: &mut impl Channel, plan: &Plan) -> Result<()> {
    watchdog::stage("sending");
    let mut messages = Messages::new(plan.size, 0);
    let start = Instant::now();
    for seq in 0.. {
        let late = plan.clock_due(seq) && start.elapsed() > plan.limit;
        let last = seq + 1 >= plan.count || late;
        if is_large(plan.size) {
            channel.send_large(messages.large(seq, last))?;
        } else {
            channel.send(messages.small(seq, 0, if last { LAST } else { 0 }))?;
        }
        watchdog::progress(seq + 1);
        if last {
            break;
        }
    }
    channel.flush()
}

fn take(mut channel: impl Channel, plan: &Plan) -> Result<Values> {
    watchdog::stage("receiving");
    let span = receive(&mut channel, plan)?;
    std::mem::forget(channel);
    Ok(span.into_values(plan.size))
}

fn receive(channel: &mut impl Channel, plan: &Plan) -> Result<Span> {
    let mut span = Span::default();
    for seq in 0.. {
        let head = channel.recv(plan.size)?;
        if seq == 0 {
            span.first();
        }
        head.check(seq, plan.size)?;
        watchdog::progress(seq + 1);
        if head.is(LAST) {
            span.last(seq + 1);
            break;
        }
    }
    Ok(span)
}

fn send_many(fan: &mut impl Fan, plan: &Plan) -> Result<()> {
    watchdog::stage("sending round robin");
    let mut messages = Messages::new(plan.size, 0);
    let start = Instant::now();
    for seq in 0.. {
        let last = seq + 1 >= plan.count || start.elapsed() > plan.limit;
        for channel in 0..plan.channels {
            fan.send_on(channel, messages.small(seq, channel, if last { LAST } else { 0 }))?;
        }
        watchdog::progress(seq + 1);
        if last {
            break;
        }
    }
    fan.flush_all()
}

fn take_many(fan: &mut impl Fan, plan: &Plan) -> Result<Values> {
    watchdog::stage("receiving from all channels");
    let mut span = Span::default();
    let mut due = vec![0; plan.channels as usize];
    let mut open = plan.channels;
    for message in 1.. {
        let head = fan.recv_any(plan.size)?;
        if message == 1 {
            span.first();
        }
        let due = &mut due[head.channel as usize];
        head.check(*due, plan.size)?;
        *due += 1;
        watchdog::progress(message);
        open -= u32::from(head.is(LAST));
        if open == 0 {
            span.last(message);
            break;
        }
    }
    Ok(span.into_values(plan.size))
}

/// Answers until the last ping; `seen` looks at each before it is answered.
fn echo(channel: &mut impl Channel, mut seen: impl FnMut(Head)) -> Result<()> {
    let mut messages = Messages::new(PING_SIZE, 0);
    for answered in 1.. {
        let head = channel.recv(PING_SIZE)?;
        seen(head);
        channel.send(messages.small(head.seq, head.channel, head.flags))?;
        channel.flush()?;
        watchdog::progress(answered);
        if head.is(LAST) {
            break;
        }
    }
    Ok(())
}

struct Pinger<C> {
    channel: C,
    messages: Messages,
    seq: u64,
}

impl<C: Channel> Pinger<C> {
    fn new(channel: C) -> Self {
        Self { channel, messages: Messages::new(PING_SIZE, 0), seq: 0 }
    }

    fn ping(&mut self, flags: u32) -> Result<Duration> {
        let start = Instant::now();
        self.channel.send(self.messages.small(self.seq, 0, flags))?;
        self.channel.flush()?;
        let head = self.channel.recv(PING_SIZE)?;
        let time = start.elapsed();
        ensure!(head.seq == self.seq, "the answer to another ping");
        self.seq += 1;
        watchdog::progress(self.seq);
        Ok(time)
    }
}

fn ping(channel: impl Channel, plan: &Plan) -> Result<Values> {
    watchdog::stage("pinging");
    let mut pinger = Pinger::new(channel);
    for _ in 0..plan.warm_up {
        pinger.ping(0)?;
    }
    let mut times = RoundTrips::new();
    for left in (0..plan.count).rev() {
        times.record(pinger.ping(if left == 0 { LAST } else { 0 })?);
    }
    std::mem::forget(pinger);
    let mut values = Values::new();
    times.report("", &mut values)?;
    Ok(values)
}

fn flood_and_ping<C: Channel>(pings: C, mut flood: C, plan: &Plan) -> Result<Values> {
    watchdog::stage("pinging before the flood");
    let mut pinger = Pinger::new(pings);
    let (mut idle, mut flooded) = (RoundTrips::new(), RoundTrips::new());
    for _ in 0..plan.warm_up {
        idle.record(pinger.ping(0)?);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let size = plan.size;
    // Not joined: a flood that is stuck must not keep us.
    thread::spawn(move || {
        let messages = Messages::new(size, 1);
        for seq in 0.. {
            let last = stopped.load(Relaxed);
            if flood.send_large(messages.large(seq, last)).is_err() {
                return;
            }
            watchdog::beside((seq + 1) * size as u64);
            if last {
                break;
            }
        }
        flood.flush().ok();
        std::mem::forget(flood);
    });
    thread::sleep(plan.alone);
    watchdog::stage("pinging under the flood");
    let start = Instant::now();
    let mut time = Duration::ZERO;
    // The last ping is the one that would outlast the time: where each takes seconds, a further
    // one would double the wait.
    loop {
        let last = start.elapsed() + time >= plan.together;
        time = pinger.ping(if last { FLOODED | LAST } else { FLOODED })?;
        flooded.record(time);
        if last {
            break;
        }
    }
    stop.store(true, Relaxed);
    std::mem::forget(pinger);
    let mut values = Values::new();
    idle.report("idle_", &mut values)?;
    flooded.report("", &mut values)?;
    Ok(values)
}

fn take_flood<C: Channel>(mut pings: C, mut flood: C) -> Result<Values> {
    watchdog::stage("answering pings beside the flood");
    let size = 64 << 10;
    let taken = Arc::new(AtomicU64::new(0));
    let count = taken.clone();
    let begin = Arc::new(std::sync::OnceLock::new());
    let began = begin.clone();
    thread::spawn(move || {
        while let Ok(head) = flood.recv(size) {
            began.get_or_init(Instant::now);
            let taken = count.fetch_add(1, Relaxed) + 1;
            watchdog::beside(taken * size as u64);
            if head.is(LAST) {
                break;
            }
        }
        std::mem::forget(flood);
    });
    let mut marks: Vec<(Instant, u64)> = Vec::new();
    echo(&mut pings, |head| {
        if head.is(FLOODED) {
            // The first and the newest.
            marks.truncate(1);
            marks.push((Instant::now(), taken.load(Relaxed)));
        }
    })?;
    std::mem::forget(pings);
    Ok(flood_values(begin.get().copied(), &marks, size))
}

fn send_beside_unread<C: Channel>(mut moving: C, mut unread: C, plan: &Plan) -> Result<Values> {
    // Twice: the first time warms up buffers and windows.
    send(&mut moving, plan)?;
    send(&mut moving, plan)?;
    watchdog::stage("filling the unread channel");
    let size = plan.size;
    let filled = Arc::new(AtomicU64::new(0));
    let count = filled.clone();
    thread::spawn(move || {
        let messages = Messages::new(size, 1);
        for seq in 0..FILL_AT_MOST / size as u64 {
            if unread.send_large(messages.large(seq, false)).is_err() {
                return;
            }
            count.store((seq + 1) * size as u64, Relaxed);
            watchdog::beside((seq + 1) * size as u64);
        }
        unread.flush().ok();
        std::mem::forget(unread);
    });
    wait_until_full(&filled);
    send(&mut moving, plan)?;
    std::mem::forget(moving);
    Ok(Values::from([("filled".into(), filled.load(Relaxed) as f64)]))
}

fn wait_until_full(filled: &AtomicU64) {
    let mut before = u64::MAX;
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(50));
        let now = filled.load(Relaxed);
        if now == before {
            break;
        }
        before = now;
    }
}

fn take_beside_unread<C: Channel>(mut moving: C, unread: C, plan: &Plan) -> Result<Values> {
    watchdog::stage("receiving before the other channel is filled");
    receive(&mut moving, plan)?;
    let alone = receive(&mut moving, plan)?;
    let before = usage::rss_mib();
    watchdog::stage("receiving beside the unread channel");
    let beside = receive(&mut moving, plan)?;
    std::mem::forget((moving, unread));
    Ok(unread_values(&alone, &beside, before, plan))
}
