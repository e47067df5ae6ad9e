//! The workloads for peers whose calls block.
//!
//! Peers and channels are never dropped, since how a peer closes is not measured: see
//! `child::finish`.

use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::thread;

use anyhow::{Result, ensure};
use bytes::Bytes;

use crate::child::{self, Role, Values, usage};
use crate::plan::workload::Workload;
use crate::plan::{PING_SIZE, Plan};
use crate::work::clock::Span;
use crate::work::flood::{self, Flood, LOOK, LOOKS, Marks, Taken};
use crate::work::message::{Head, hello, is_large};
use crate::work::pinging::{Answers, Pings};
use crate::work::receiving::{InOneHand, Receiving};
use crate::work::sending::{RoundRobin, Sending};

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
    let values = match role {
        Role::Server => serve(&mut *ManuallyDrop::new(P::serve(plan)?), plan)?,
        Role::Client(to) => drive(&mut *ManuallyDrop::new(P::connect(plan, &to)?), plan)?,
    };
    child::result(&values);
    child::finish()
}

fn serve<P: Peer>(peer: &mut P, plan: &Plan) -> Result<Values> {
    if plan.workload == Workload::Many {
        let mut fan = ManuallyDrop::new(peer.fan(plan)?);
        fan.recv_any(plan.size)?.hello()?;
        child::connected(plan)?;
        return take_many(&mut *fan, plan);
    }
    let mut channels = kept(peer.channels(plan)?);
    for (channel, index) in channels.iter_mut().zip(0..) {
        let said = channel.recv(PING_SIZE)?.hello()?;
        ensure!(said == index, "the hello of {said} on {index}");
        if plan.is_duplex(index) {
            say_hello(&mut **channel, index)?;
        }
    }
    child::connected(plan)?;
    let mut channels = channels.into_iter();
    let mut next = || channels.next().expect("as many channels as planned");
    let mut first = next();
    match plan.workload {
        Workload::Small | Workload::Large => {
            Ok(receive(&mut *first, "receiving", plan)?.into_values(plan.size))
        }
        Workload::Ping | Workload::PingOneCore => {
            answer(&mut *first, Answers::start("answering pings"), |_| {})?;
            Ok(Values::new())
        }
        Workload::Flood | Workload::Slow => take_flood(&mut *first, next(), plan),
        Workload::Unread => take_beside_unread(&mut *first, plan),
        Workload::Many => unreachable!("above"),
    }
}

fn drive<P: Peer>(peer: &mut P, plan: &Plan) -> Result<Values> {
    if plan.workload == Workload::Many {
        let mut fan = ManuallyDrop::new(peer.fan(plan)?);
        fan.send_on(0, &hello(0, plan.size))?;
        fan.flush_all()?;
        child::connected(plan)?;
        send_many(&mut *fan, plan)?;
        return Ok(Values::new());
    }
    let mut channels = kept(peer.channels(plan)?);
    for (channel, index) in channels.iter_mut().zip(0..) {
        say_hello(&mut **channel, index)?;
    }
    for (channel, index) in channels.iter_mut().zip(0..) {
        if plan.is_duplex(index) {
            channel.recv(PING_SIZE)?.hello()?;
        }
    }
    child::connected(plan)?;
    let mut channels = channels.into_iter();
    let mut next = || channels.next().expect("as many channels as planned");
    let mut first = next();
    match plan.workload {
        Workload::Small | Workload::Large => {
            send(&mut *first, plan)?;
            Ok(Values::new())
        }
        Workload::Ping | Workload::PingOneCore => ping(&mut *first, plan),
        Workload::Flood | Workload::Slow => flood_and_ping(&mut *first, next(), plan),
        Workload::Unread => send_beside_unread(&mut *first, next(), plan),
        Workload::Many => unreachable!("above"),
    }
}

fn kept<C>(channels: Vec<C>) -> Vec<ManuallyDrop<C>> {
    channels.into_iter().map(ManuallyDrop::new).collect()
}

fn say_hello(channel: &mut impl Channel, index: u32) -> Result<()> {
    channel.send(&hello(index, PING_SIZE))?;
    channel.flush()
}

fn send(channel: &mut impl Channel, plan: &Plan) -> Result<()> {
    let mut sending = Sending::start(plan);
    if is_large(plan.size) {
        while let Some(message) = sending.next_large() {
            channel.send_large(message)?;
        }
    } else {
        while let Some(message) = sending.next_small() {
            channel.send(message)?;
        }
    }
    channel.flush()
}

fn receive(channel: &mut impl Channel, stage: &'static str, plan: &Plan) -> Result<Span> {
    let mut receiving = Receiving::start(stage, plan);
    while !receiving.take(channel.recv(plan.size)?)? {}
    Ok(receiving.into_span())
}

fn send_many(fan: &mut impl Fan, plan: &Plan) -> Result<()> {
    let mut sending = RoundRobin::start(plan);
    while let Some((channel, message)) = sending.next() {
        fan.send_on(channel, message)?;
    }
    fan.flush_all()
}

fn take_many(fan: &mut impl Fan, plan: &Plan) -> Result<Values> {
    let mut receiving = InOneHand::start(plan);
    while !receiving.take(fan.recv_any(plan.size)?)? {}
    Ok(receiving.into_values())
}

fn exchange(channel: &mut impl Channel, pings: &mut Pings) -> Result<()> {
    while let Some(ping) = pings.next() {
        channel.send(ping)?;
        channel.flush()?;
        pings.take(channel.recv(PING_SIZE)?)?;
    }
    Ok(())
}

/// `seen` looks at each ping before it is answered.
fn answer(channel: &mut impl Channel, mut answers: Answers, mut seen: impl FnMut(Head)) -> Result<()> {
    loop {
        let ping = channel.recv(PING_SIZE)?;
        seen(ping);
        channel.send(answers.to(ping))?;
        channel.flush()?;
        if answers.sent() {
            return Ok(());
        }
    }
}

fn ping(channel: &mut impl Channel, plan: &Plan) -> Result<Values> {
    let mut pings = Pings::alone(plan);
    exchange(channel, &mut pings)?;
    pings.into_values()
}

fn flood_and_ping<C: Channel>(pinged: &mut C, flooded: ManuallyDrop<C>, plan: &Plan) -> Result<Values> {
    let mut idle = Pings::before_flood(plan);
    exchange(pinged, &mut idle)?;
    let flood = Flood::until_stopped(plan);
    let gauge = flood.gauge();
    // Not joined: a flood that is stuck must not keep this thread.
    thread::spawn(move || pour(flooded, flood));
    thread::sleep(plan.alone);
    let mut together = Pings::under_flood(plan);
    exchange(pinged, &mut together)?;
    gauge.stop();
    together.into_values_beside(&idle)
}

fn pour<C: Channel>(mut channel: ManuallyDrop<C>, mut flood: Flood) {
    while let Some(message) = flood.next() {
        if channel.send_large(message).is_err() {
            return;
        }
    }
    channel.flush().ok();
}

fn take_flood<C: Channel>(pinged: &mut C, mut flooded: ManuallyDrop<C>, plan: &Plan) -> Result<Values> {
    let taken = Taken::new(plan);
    let (count, size) = (taken.clone(), plan.size);
    thread::spawn(move || while flooded.recv(size).is_ok_and(|head| !count.take(head)) {});
    let mut marks = Marks::new(taken);
    answer(pinged, Answers::start("answering pings beside the flood"), |ping| marks.see(ping))?;
    Ok(marks.into_values())
}

fn send_beside_unread<C: Channel>(moving: &mut C, unread: ManuallyDrop<C>, plan: &Plan) -> Result<Values> {
    // Twice: the first time warms up buffers and windows.
    send(moving, plan)?;
    send(moving, plan)?;
    let flood = Flood::until_full(plan);
    let gauge = flood.gauge();
    thread::spawn(move || pour(unread, flood));
    for _ in 0..LOOKS {
        thread::sleep(LOOK);
        if gauge.stands_still() {
            break;
        }
    }
    send(moving, plan)?;
    Ok(gauge.filled())
}

fn take_beside_unread(moving: &mut impl Channel, plan: &Plan) -> Result<Values> {
    let before_it = "receiving before the other channel is filled";
    receive(moving, before_it, plan)?;
    let alone = receive(moving, before_it, plan)?;
    let rss = usage::rss_mib();
    let beside = receive(moving, "receiving beside the unread channel", plan)?;
    Ok(flood::unread_values(&alone, &beside, rss, plan))
}
