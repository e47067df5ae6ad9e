//! trunkline with its default configuration. Under *flood* and on the *slow* link the pings are
//! urgent, which is what the class is for; a second row has them in the flood's own.

use std::net::SocketAddr;
use std::time::Duration;

use ::trunkline::{
    ChannelId, ChannelSet, Config, Connection, Key, Listener, Priority, Receiver, Sealing, Sender,
};
use anyhow::{Result, anyhow, bail, ensure};
use bytes::Bytes;

use crate::child;
use crate::plan::Plan;
use crate::plan::rows::Way;
use crate::plan::workload::Workload;
use crate::work::message::Head;
use crate::worlds::blocking::{Channel, Fan, Peer};
use crate::worlds::sockets::LOOPBACK;

pub struct Trunkline {
    connection: Connection,
    /// Only where it was accepted.
    listener: Option<Listener>,
}

impl Peer for Trunkline {
    type Channel = Line;
    type Fan = Lines;

    fn serve(plan: &Plan) -> Result<Self> {
        let listener = Listener::bind(LOOPBACK, config(plan)?)?;
        child::announce(&[listener.local_addr()]);
        Ok(Self { connection: listener.accept()?, listener: Some(listener) })
    }

    fn connect(plan: &Plan, to: &[SocketAddr]) -> Result<Self> {
        Ok(Self { connection: Connection::connect(to[0], config(plan)?)?, listener: None })
    }

    fn channels(&mut self, plan: &Plan) -> Result<Vec<Line>> {
        let pings_beside_flood = matches!(plan.workload, Workload::Flood | Workload::Slow);
        let line = |index| {
            let channel = ChannelId::try_from(u8::try_from(index)?)?;
            let urgent = pings_beside_flood && index == 0 && matches!(plan.way, Way::Natural | Way::Sealed);
            let priority = if urgent { Priority::Urgent } else { Priority::Normal };
            Ok(Line {
                sender: self.connection.sender_with(channel, priority)?,
                receiver: self.connection.receiver(channel)?,
                copied: plan.way == Way::Copied,
            })
        };
        (0..plan.channels).map(line).collect()
    }

    fn fan(&mut self, _plan: &Plan) -> Result<Lines> {
        if self.listener.is_some() {
            return Ok(Lines::Receiver(Box::new(self.connection.receiver(ChannelSet::ALL)?)));
        }
        let senders = ChannelSet::ALL.iter().map(|channel| self.connection.sender(channel));
        Ok(Lines::Senders(senders.collect::<Result<_, _>>()?))
    }
}

/// Both processes are ours and live for a few seconds, so the key may be known.
fn config(plan: &Plan) -> Result<Config> {
    let config = Config::new("5a".repeat(32).parse::<Key>()?);
    let config = config.sealing(if plan.way == Way::Sealed { Sealing::Always } else { Sealing::Never });
    Ok(match plan.way {
        Way::ResumeOn => config.resume_grace(Duration::from_secs(60)),
        Way::Bulk => config.bulk(),
        Way::Interactive => config.interactive(),
        Way::ResumeOff => config.resume_grace(Duration::ZERO),
        _ => config,
    })
}

pub struct Line {
    sender: Sender,
    receiver: Receiver,
    copied: bool,
}

impl Channel for Line {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        self.sender.send(message).map_err(|error| anyhow!("{error}"))
    }

    fn send_large(&mut self, message: &Bytes) -> Result<()> {
        if self.copied {
            return self.send(message);
        }
        Ok(self.sender.send_bytes(message.clone())?)
    }

    #[inline]
    fn recv(&mut self, len: usize) -> Result<Head> {
        Head::of_message(&self.receiver.recv()?, len)
    }
}

pub enum Lines {
    Senders(Vec<Sender>),
    Receiver(Box<Receiver>),
}

impl Fan for Lines {
    #[inline]
    fn send_on(&mut self, channel: u32, message: &[u8]) -> Result<()> {
        let Self::Senders(senders) = self else { bail!("a receiving end") };
        senders[channel as usize].send(message).map_err(|error| anyhow!("{error}"))
    }

    #[inline]
    fn recv_any(&mut self, len: usize) -> Result<Head> {
        let Self::Receiver(receiver) = self else { bail!("a sending end") };
        let message = receiver.recv()?;
        let head = Head::of_message(&message, len)?;
        ensure!(head.channel == u32::from(message.channel().get()), "a message on another's channel");
        Ok(head)
    }
}
