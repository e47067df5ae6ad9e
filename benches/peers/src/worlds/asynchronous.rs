//! The workloads for peers on tokio: the same as in `blocking`, with tasks for threads, and with
//! a task per channel where a blocking peer has one receiver for many.

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tokio::time::sleep;

use crate::child::{self, Role, Values};
use crate::child::{usage, watchdog};
use crate::plan::rows::Way;
use crate::plan::workload::Workload;
use crate::plan::{PING_SIZE, Plan};
use crate::work::beside::{FILL_AT_MOST, flood_values, unread_values};
use crate::work::clock::{RoundTrips, Span};
use crate::work::message::{FLOODED, HELLO, Head, LAST, Messages, is_large};

/// A peer: one conversation of two processes, with the plan's channels open.
pub trait Peer: 'static {
    type Channel: Channel;

    /// Binds, announces where, and waits for the other process to have opened the channels.
    fn serve(plan: &Plan) -> impl Future<Output = Result<Open<Self::Channel>>>;
    fn connect(plan: &Plan, to: SocketAddr) -> impl Future<Output = Result<Open<Self::Channel>>>;
}

pub struct Open<C> {
    pub channels: Vec<C>,
    /// What else must live as long as the channels.
    pub keep: Box<dyn Any>,
}

/// One end of a channel, in one task's hands.
pub trait Channel: Send + 'static {
    fn send(&mut self, message: &[u8]) -> impl Future<Output = Result<()>> + Send;
    /// Sends a message that the program holds in a shared buffer.
    fn send_large(&mut self, message: &Bytes) -> impl Future<Output = Result<()>> + Send {
        self.send(message)
    }
    fn flush(&mut self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }
    /// Takes the next message. Those that carry bytes, not messages, need to know its length.
    fn recv(&mut self, len: usize) -> impl Future<Output = Result<Head>> + Send;
}

pub fn run<P: Peer>(role: Role, plan: &Plan) -> Result<()> {
    let mut builder = match plan.way {
        Way::OneThread => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build()?;
    let plan = plan.clone();
    runtime.block_on(async move {
        let values = match role {
            Role::Server => {
                let open = P::serve(&plan).await?;
                std::mem::forget(open.keep);
                spawn(serve(open.channels, plan)).await?
            }
            Role::Client(to) => {
                let open = P::connect(&plan, to[0]).await?;
                std::mem::forget(open.keep);
                spawn(drive(open.channels, plan)).await?
            }
        };
        child::result(&values);
        // The runtime keeps on turning while this side waits for the other.
        tokio::task::spawn_blocking(|| child::finish()).await?;
        Ok(())
    })
}

/// The main future of the multi-thread runtime has a thread of its own, to and from which every
/// wake-up crosses over; a server's work is in spawned tasks, and so is ours.
async fn spawn<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.context("a task panicked")?
}

async fn serve<C: Channel>(mut channels: Vec<C>, plan: Plan) -> Result<Values> {
    // Channels are known by their hellos, in whatever order they were opened.
    let mut known = Vec::new();
    for mut channel in channels.drain(..) {
        let head = channel.recv(PING_SIZE).await?;
        ensure!(head.is(HELLO), "{head:?} is no hello");
        known.push((head.channel, channel));
    }
    known.sort_by_key(|&(index, _)| index);
    for (index, channel) in &mut known {
        if plan.is_duplex(*index) {
            say_hello(channel, *index).await?;
        }
    }
    child::connected(&plan)?;
    let mut channels = known.into_iter().map(|(_, channel)| channel);
    if plan.workload == Workload::Many {
        return take_many(channels.collect(), plan).await;
    }
    let mut next = || channels.next().expect("as many channels as planned");
    match plan.workload {
        Workload::Small | Workload::Large => take(next(), plan).await,
        Workload::Ping | Workload::PingOneCore => {
            watchdog::stage("answering pings");
            let mut channel = next();
            echo(&mut channel, |_| {}).await?;
            std::mem::forget(channel);
            Ok(Values::new())
        }
        Workload::Flood | Workload::Slow => take_flood(next(), next()).await,
        Workload::Unread => take_beside_unread(next(), next(), plan).await,
        Workload::Many => unreachable!("above"),
    }
}

async fn drive<C: Channel>(mut channels: Vec<C>, plan: Plan) -> Result<Values> {
    for (channel, index) in channels.iter_mut().zip(0..) {
        say_hello(channel, index).await?;
    }
    for (channel, index) in channels.iter_mut().zip(0..) {
        if plan.is_duplex(index) {
            ensure!(channel.recv(PING_SIZE).await?.is(HELLO), "no hello came back");
        }
    }
    child::connected(&plan)?;
    if plan.workload == Workload::Many {
        send_many(&mut channels, &plan).await?;
        std::mem::forget(channels);
        return Ok(Values::new());
    }
    let mut channels = channels.into_iter();
    let mut next = || channels.next().expect("as many channels as planned");
    match plan.workload {
        Workload::Small | Workload::Large => {
            let mut channel = next();
            send(&mut channel, &plan).await?;
            std::mem::forget(channel);
            Ok(Values::new())
        }
        Workload::Ping | Workload::PingOneCore => ping(next(), plan).await,
        Workload::Flood | Workload::Slow => flood_and_ping(next(), next(), plan).await,
        Workload::Unread => send_beside_unread(next(), next(), plan).await,
        Workload::Many => unreachable!("above"),
    }
}

async fn say_hello(channel: &mut impl Channel, index: u32) -> Result<()> {
    let mut messages = Messages::new(PING_SIZE, index);
    channel.send(messages.small(0, index, HELLO)).await?;
    channel.flush().await
}

async fn send(channel: &mut impl Channel, plan: &Plan) -> Result<()> {
    watchdog::stage("sending");
    let mut messages = Messages::new(plan.size, 0);
    let start = Instant::now();
    for seq in 0.. {
        let late = plan.clock_due(seq) && start.elapsed() > plan.limit;
        let last = seq + 1 >= plan.count || late;
        if is_large(plan.size) {
            channel.send_large(messages.large(seq, last)).await?;
        } else {
            channel.send(messages.small(seq, 0, if last { LAST } else { 0 })).await?;
        }
        watchdog::progress(seq + 1);
        if last {
            break;
        }
    }
    channel.flush().await
}

async fn take(mut channel: impl Channel, plan: Plan) -> Result<Values> {
    watchdog::stage("receiving");
    let span = receive(&mut channel, &plan).await?;
    std::mem::forget(channel);
    Ok(span.into_values(plan.size))
}

async fn receive(channel: &mut impl Channel, plan: &Plan) -> Result<Span> {
    let mut span = Span::default();
    for seq in 0.. {
        let head = channel.recv(plan.size).await?;
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

async fn send_many<C: Channel>(channels: &mut [C], plan: &Plan) -> Result<()> {
    watchdog::stage("sending round robin");
    let mut messages = Messages::new(plan.size, 0);
    let start = Instant::now();
    for seq in 0.. {
        let last = seq + 1 >= plan.count || start.elapsed() > plan.limit;
        for (channel, index) in channels.iter_mut().zip(0..) {
            channel.send(messages.small(seq, index, if last { LAST } else { 0 })).await?;
        }
        watchdog::progress(seq + 1);
        if last {
            break;
        }
    }
    for channel in channels {
        channel.flush().await?;
    }
    Ok(())
}

async fn take_many<C: Channel>(channels: Vec<C>, plan: Plan) -> Result<Values> {
    watchdog::stage("receiving from all channels");
    let taken = Arc::new(AtomicU64::new(0));
    let first = Arc::new(OnceLock::new());
    let mut tasks = tokio::task::JoinSet::new();
    for (mut channel, index) in channels.into_iter().zip(0..) {
        let (taken, first, size) = (taken.clone(), first.clone(), plan.size);
        tasks.spawn(async move {
            for seq in 0.. {
                let head = channel.recv(size).await?;
                first.get_or_init(Instant::now);
                head.check(seq, size)?;
                ensure!(head.channel == index, "a message of channel {}", head.channel);
                watchdog::progress(taken.fetch_add(1, Relaxed) + 1);
                if head.is(LAST) {
                    break;
                }
            }
            std::mem::forget(channel);
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.context("a task panicked")??;
    }
    let mut span = Span::since(*first.get().context("no message")?);
    span.last(taken.load(Relaxed));
    Ok(span.into_values(plan.size))
}

/// Answers until the last ping; `seen` looks at each before it is answered.
async fn echo(channel: &mut impl Channel, mut seen: impl FnMut(Head)) -> Result<()> {
    let mut messages = Messages::new(PING_SIZE, 0);
    for answered in 1.. {
        let head = channel.recv(PING_SIZE).await?;
        seen(head);
        channel.send(messages.small(head.seq, head.channel, head.flags)).await?;
        channel.flush().await?;
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

    async fn ping(&mut self, flags: u32) -> Result<Duration> {
        let start = Instant::now();
        self.channel.send(self.messages.small(self.seq, 0, flags)).await?;
        self.channel.flush().await?;
        let head = self.channel.recv(PING_SIZE).await?;
        let time = start.elapsed();
        ensure!(head.seq == self.seq, "the answer to another ping");
        self.seq += 1;
        watchdog::progress(self.seq);
        Ok(time)
    }
}

async fn ping(channel: impl Channel, plan: Plan) -> Result<Values> {
    watchdog::stage("pinging");
    let mut pinger = Pinger::new(channel);
    for _ in 0..plan.warm_up {
        pinger.ping(0).await?;
    }
    let mut times = RoundTrips::new();
    for left in (0..plan.count).rev() {
        times.record(pinger.ping(if left == 0 { LAST } else { 0 }).await?);
    }
    std::mem::forget(pinger);
    let mut values = Values::new();
    times.report("", &mut values)?;
    Ok(values)
}

async fn flood_and_ping<C: Channel>(pings: C, mut flood: C, plan: Plan) -> Result<Values> {
    watchdog::stage("pinging before the flood");
    let mut pinger = Pinger::new(pings);
    let (mut idle, mut flooded) = (RoundTrips::new(), RoundTrips::new());
    for _ in 0..plan.warm_up {
        idle.record(pinger.ping(0).await?);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let size = plan.size;
    tokio::spawn(async move {
        let messages = Messages::new(size, 1);
        for seq in 0.. {
            let last = stopped.load(Relaxed);
            if flood.send_large(messages.large(seq, last)).await.is_err() {
                return;
            }
            watchdog::beside((seq + 1) * size as u64);
            if last {
                break;
            }
        }
        flood.flush().await.ok();
        std::mem::forget(flood);
    });
    sleep(plan.alone).await;
    watchdog::stage("pinging under the flood");
    let start = Instant::now();
    let mut time = Duration::ZERO;
    // The last ping is the one that would outlast the time: where each takes seconds, a further
    // one would double the wait.
    loop {
        let last = start.elapsed() + time >= plan.together;
        time = pinger.ping(if last { FLOODED | LAST } else { FLOODED }).await?;
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

async fn take_flood<C: Channel>(mut pings: C, mut flood: C) -> Result<Values> {
    watchdog::stage("answering pings beside the flood");
    let size = 64 << 10;
    let taken = Arc::new(AtomicU64::new(0));
    let begin = Arc::new(OnceLock::new());
    let (count, began) = (taken.clone(), begin.clone());
    tokio::spawn(async move {
        while let Ok(head) = flood.recv(size).await {
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
    })
    .await?;
    std::mem::forget(pings);
    Ok(flood_values(begin.get().copied(), &marks, size))
}

async fn send_beside_unread<C: Channel>(mut moving: C, mut unread: C, plan: Plan) -> Result<Values> {
    // Twice: the first time warms up buffers and windows.
    send(&mut moving, &plan).await?;
    send(&mut moving, &plan).await?;
    watchdog::stage("filling the unread channel");
    let size = plan.size;
    let filled = Arc::new(AtomicU64::new(0));
    let count = filled.clone();
    tokio::spawn(async move {
        let messages = Messages::new(size, 1);
        for seq in 0..FILL_AT_MOST / size as u64 {
            if unread.send_large(messages.large(seq, false)).await.is_err() {
                return;
            }
            count.store((seq + 1) * size as u64, Relaxed);
            watchdog::beside((seq + 1) * size as u64);
        }
        unread.flush().await.ok();
        std::mem::forget(unread);
    });
    let mut before = u64::MAX;
    for _ in 0..20 {
        sleep(Duration::from_millis(50)).await;
        let now = filled.load(Relaxed);
        if now == before {
            break;
        }
        before = now;
    }
    send(&mut moving, &plan).await?;
    std::mem::forget(moving);
    Ok(Values::from([("filled".into(), filled.load(Relaxed) as f64)]))
}

async fn take_beside_unread<C: Channel>(mut moving: C, unread: C, plan: Plan) -> Result<Values> {
    watchdog::stage("receiving before the other channel is filled");
    receive(&mut moving, &plan).await?;
    let alone = receive(&mut moving, &plan).await?;
    let before = usage::rss_mib();
    watchdog::stage("receiving beside the unread channel");
    let beside = receive(&mut moving, &plan).await?;
    std::mem::forget((moving, unread));
    Ok(unread_values(&alone, &beside, before, &plan))
}
