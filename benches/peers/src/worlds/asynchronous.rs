//! The workloads for peers on tokio: the same as in `blocking`, with tasks for threads, and with
//! a task per channel where a blocking peer has one receiver for many.

use std::any::Any;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::time::sleep;

use crate::child::{self, Role, Values, usage};
use crate::plan::rows::Way;
use crate::plan::workload::Workload;
use crate::plan::{PING_SIZE, Plan};
use crate::work::clock::Span;
use crate::work::flood::{self, Flood, LOOK, LOOKS, Marks, Taken};
use crate::work::message::{Head, hello, is_large};
use crate::work::pinging::{Answers, Pings};
use crate::work::receiving::{InManyHands, Receiving};
use crate::work::sending::{RoundRobin, Sending};

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

async fn serve<C: Channel>(channels: Vec<C>, plan: Plan) -> Result<Values> {
    // Channels are known by their hellos, in whatever order they were opened.
    let mut known = Vec::new();
    for channel in channels {
        let mut channel = ManuallyDrop::new(channel);
        known.push((channel.recv(PING_SIZE).await?.hello()?, channel));
    }
    known.sort_by_key(|&(index, _)| index);
    for (index, channel) in &mut known {
        if plan.is_duplex(*index) {
            say_hello(&mut **channel, *index).await?;
        }
    }
    child::connected(&plan)?;
    let mut channels = known.into_iter().map(|(_, channel)| channel);
    if plan.workload == Workload::Many {
        return take_many(channels.collect(), &plan).await;
    }
    let mut next = || channels.next().expect("as many channels as planned");
    let mut first = next();
    match plan.workload {
        Workload::Small | Workload::Large => {
            Ok(receive(&mut *first, "receiving", &plan).await?.into_values(plan.size))
        }
        Workload::Ping | Workload::PingOneCore => {
            answer(&mut *first, Answers::start("answering pings"), |_| {}).await?;
            Ok(Values::new())
        }
        Workload::Flood | Workload::Slow => take_flood(&mut *first, next(), &plan).await,
        Workload::Unread => take_beside_unread(&mut *first, &plan).await,
        Workload::Many => unreachable!("above"),
    }
}

async fn drive<C: Channel>(channels: Vec<C>, plan: Plan) -> Result<Values> {
    let mut channels: Vec<_> = channels.into_iter().map(ManuallyDrop::new).collect();
    for (channel, index) in channels.iter_mut().zip(0..) {
        say_hello(&mut **channel, index).await?;
    }
    for (channel, index) in channels.iter_mut().zip(0..) {
        if plan.is_duplex(index) {
            channel.recv(PING_SIZE).await?.hello()?;
        }
    }
    child::connected(&plan)?;
    if plan.workload == Workload::Many {
        send_many(&mut channels, &plan).await?;
        return Ok(Values::new());
    }
    let mut channels = channels.into_iter();
    let mut next = || channels.next().expect("as many channels as planned");
    let mut first = next();
    match plan.workload {
        Workload::Small | Workload::Large => {
            send(&mut *first, &plan).await?;
            Ok(Values::new())
        }
        Workload::Ping | Workload::PingOneCore => ping(&mut *first, &plan).await,
        Workload::Flood | Workload::Slow => flood_and_ping(&mut *first, next(), &plan).await,
        Workload::Unread => send_beside_unread(&mut *first, next(), &plan).await,
        Workload::Many => unreachable!("above"),
    }
}

async fn say_hello(channel: &mut impl Channel, index: u32) -> Result<()> {
    channel.send(&hello(index, PING_SIZE)).await?;
    channel.flush().await
}

async fn send(channel: &mut impl Channel, plan: &Plan) -> Result<()> {
    let mut sending = Sending::start(plan);
    if is_large(plan.size) {
        while let Some(message) = sending.next_large() {
            channel.send_large(message).await?;
        }
    } else {
        while let Some(message) = sending.next_small() {
            channel.send(message).await?;
        }
    }
    channel.flush().await
}

async fn receive(channel: &mut impl Channel, stage: &'static str, plan: &Plan) -> Result<Span> {
    let mut receiving = Receiving::start(stage, plan);
    while !receiving.take(channel.recv(plan.size).await?)? {}
    Ok(receiving.into_span())
}

async fn send_many<C: Channel>(channels: &mut [ManuallyDrop<C>], plan: &Plan) -> Result<()> {
    let mut sending = RoundRobin::start(plan);
    while let Some((channel, message)) = sending.next() {
        channels[channel as usize].send(message).await?;
    }
    for channel in channels {
        channel.flush().await?;
    }
    Ok(())
}

async fn take_many<C: Channel>(channels: Vec<ManuallyDrop<C>>, plan: &Plan) -> Result<Values> {
    let receiving = InManyHands::start(plan);
    let size = plan.size;
    let mut tasks = tokio::task::JoinSet::new();
    for (mut channel, index) in channels.into_iter().zip(0..) {
        let mut hand = receiving.hand(index);
        tasks.spawn(async move {
            while !hand.take(channel.recv(size).await?)? {}
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.context("a task panicked")??;
    }
    receiving.into_values()
}

async fn exchange(channel: &mut impl Channel, pings: &mut Pings) -> Result<()> {
    while let Some(ping) = pings.next() {
        channel.send(ping).await?;
        channel.flush().await?;
        pings.take(channel.recv(PING_SIZE).await?)?;
    }
    Ok(())
}

/// `seen` looks at each ping before it is answered.
async fn answer(channel: &mut impl Channel, mut answers: Answers, mut seen: impl FnMut(Head)) -> Result<()> {
    loop {
        let ping = channel.recv(PING_SIZE).await?;
        seen(ping);
        channel.send(answers.to(ping)).await?;
        channel.flush().await?;
        if answers.sent() {
            return Ok(());
        }
    }
}

async fn ping(channel: &mut impl Channel, plan: &Plan) -> Result<Values> {
    let mut pings = Pings::alone(plan);
    exchange(channel, &mut pings).await?;
    pings.into_values()
}

async fn flood_and_ping<C: Channel>(pinged: &mut C, flooded: ManuallyDrop<C>, plan: &Plan) -> Result<Values> {
    let mut idle = Pings::before_flood(plan);
    exchange(pinged, &mut idle).await?;
    let flood = Flood::until_stopped(plan);
    let gauge = flood.gauge();
    tokio::spawn(pour(flooded, flood));
    sleep(plan.alone).await;
    let mut together = Pings::under_flood(plan);
    exchange(pinged, &mut together).await?;
    gauge.stop();
    together.into_values_beside(&idle)
}

async fn pour<C: Channel>(mut channel: ManuallyDrop<C>, mut flood: Flood) {
    while let Some(message) = flood.next() {
        if channel.send_large(message).await.is_err() {
            return;
        }
    }
    channel.flush().await.ok();
}

async fn take_flood<C: Channel>(pinged: &mut C, mut flooded: ManuallyDrop<C>, plan: &Plan) -> Result<Values> {
    let taken = Taken::new(plan);
    let (count, size) = (taken.clone(), plan.size);
    tokio::spawn(async move { while flooded.recv(size).await.is_ok_and(|head| !count.take(head)) {} });
    let mut marks = Marks::new(taken);
    answer(pinged, Answers::start("answering pings beside the flood"), |ping| marks.see(ping)).await?;
    Ok(marks.into_values())
}

async fn send_beside_unread<C: Channel>(
    moving: &mut C,
    unread: ManuallyDrop<C>,
    plan: &Plan,
) -> Result<Values> {
    // Twice: the first time warms up buffers and windows.
    send(moving, plan).await?;
    send(moving, plan).await?;
    let flood = Flood::until_full(plan);
    let gauge = flood.gauge();
    tokio::spawn(pour(unread, flood));
    for _ in 0..LOOKS {
        sleep(LOOK).await;
        if gauge.stands_still() {
            break;
        }
    }
    send(moving, plan).await?;
    Ok(gauge.filled())
}

async fn take_beside_unread(moving: &mut impl Channel, plan: &Plan) -> Result<Values> {
    let before_it = "receiving before the other channel is filled";
    receive(moving, before_it, plan).await?;
    let alone = receive(moving, before_it, plan).await?;
    let rss = usage::rss_mib();
    let beside = receive(moving, "receiving beside the unread channel", plan).await?;
    Ok(flood::unread_values(&alone, &beside, rss, plan))
}
