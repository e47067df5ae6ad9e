//! The client: sends messages, and checks every byte that comes back, and the order.
//!
//! Threads in pairs, one that sends on some of the channels and one that receives on them: a
//! client that sent everything before it read would wait for a server that waits for it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use trunkline::{
    ChannelId, ChannelSet, CloseCode, Config, Connection, ConnectionError, Disconnect, Event, Receiver,
    RecvError, SendError, Sender,
};

use crate::content::fill;
use crate::{Failure, Place};

/// How many pairs of threads there are at most.
const PAIRS: u8 = 8;
/// When a check has failed there is nothing to wait for.
const LINGER: Duration = Duration::from_secs(1);
/// An outage that is shorter is not worth a word.
const BRIEF: Duration = Duration::from_secs(1);
/// How long a link that is lost may be away.
const GRACE: Duration = Duration::from_secs(60);

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) channels: u8,
    /// On each channel.
    pub(crate) messages: u64,
    /// Of each message, in bytes.
    pub(crate) size: usize,
    /// At most so many messages a second on each channel.
    pub(crate) rate: Option<u64>,
    /// Go on when the link is lost and comes back.
    pub(crate) reconnect: bool,
}

pub(crate) fn run(at: &Place, config: Config, plan: Plan) -> Result<(), Failure> {
    let grace = if plan.reconnect { GRACE } else { Duration::ZERO };
    let config = config.linger(LINGER).resume_grace(grace);
    let connection = match at {
        Place::Tcp(address) => Connection::connect(address, config)?,
        #[cfg(unix)]
        Place::Unix(path) => Connection::connect_unix(path, config)?,
        #[cfg(not(unix))]
        Place::Unix(_) => return Err("--unix: this system has no Unix sockets".into()),
    };

    let (events, resumes) = (connection.events(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&resumes);
    thread::spawn(move || {
        let mut event = events.recv();
        while let Ok(happened) = event {
            counted.fetch_add(u64::from(matches!(happened, Event::Resumed { .. })), SeqCst);
            event = events.recv_timeout(BRIEF).or_else(|_| {
                if matches!(happened, Event::Suspended { .. }) {
                    eprintln!("echo: the link is lost; reconnecting for {} seconds at most", GRACE.as_secs());
                }
                events.recv()
            });
        }
    });
    let ways: Vec<_> = (0..plan.channels.min(PAIRS))
        .map(|pair| {
            let numbers = (pair..plan.channels).step_by(usize::from(PAIRS)).map(ChannelId::new);
            let senders =
                numbers.clone().map(|channel| connection.sender(channel)).collect::<Result<Vec<_>, _>>()?;
            Ok((senders, connection.receiver(numbers.collect::<ChannelSet>())?))
        })
        .collect::<Result<_, Failure>>()?;

    let failed = OnceLock::new();
    // The first failure counts, and closing makes the other threads end.
    let fail = |failure: Difference| {
        if failed.set(failure).is_ok() {
            // The failure is what there is to tell.
            let _ = connection.close(CloseCode::application(0), "the check failed");
        }
    };
    thread::scope(|scope| {
        for (senders, receiver) in ways {
            scope.spawn(|| send_all(senders, plan).unwrap_or_else(fail));
            scope.spawn(|| check_all(receiver, plan).unwrap_or_else(fail));
        }
    });
    if let Some(failure) = failed.into_inner() {
        return Err(failure.to_string().into());
    }
    let total = u128::from(plan.channels) * u128::from(plan.messages);
    let resumes = if plan.reconnect { format!(", {} resumes", resumes.load(SeqCst)) } else { String::new() };
    crate::say(&format!("verified {total} messages on {} channels{resumes}", plan.channels))
}

/// Sends all messages of some channels in turn; dropping the senders finishes the channels.
fn send_all(senders: Vec<Sender>, plan: Plan) -> Result<(), Difference> {
    let mut content = Vec::with_capacity(plan.size);
    let begun = Instant::now();
    for number in 0..plan.messages {
        if let Some(rate) = plan.rate {
            let at = begun + Duration::from_secs_f64(number as f64 / rate as f64);
            thread::sleep(at.saturating_duration_since(Instant::now()));
        }
        for sender in &senders {
            let channel = sender.channel();
            fill(&mut content, seed(channel, number), plan.size);
            match sender.send(&content) {
                Ok(()) => {}
                // The thread that receives hears of it as well.
                Err(SendError::Disconnected { cause: Disconnect::ConnectionLost(_), .. }) => return Ok(()),
                Err(error) => return Err(Difference::NotSent { channel, number, why: error.to_string() }),
            }
        }
    }
    Ok(())
}

/// Receives what was sent on some channels and checks it.
fn check_all(receiver: Receiver, plan: Plan) -> Result<(), Difference> {
    let mut came = [0; ChannelId::COUNT];
    let mut expected = Vec::with_capacity(plan.size);
    loop {
        match receiver.recv() {
            Ok(message) => {
                let channel = message.channel();
                let number = &mut came[usize::from(channel.get())];
                if *number == plan.messages {
                    return Err(Difference::TooMany { channel, messages: plan.messages });
                }
                fill(&mut expected, seed(channel, *number), plan.size);
                if *message != *expected {
                    return Err(Difference::content(channel, *number, &message, &expected));
                }
                *number += 1;
            }
            Err(RecvError::Finished) => break,
            Err(RecvError::Reset { channel, code }) => return Err(Difference::Reset { channel, code }),
            Err(RecvError::Gap { channel, messages, .. }) => {
                return Err(Difference::LeftOut { channel, messages });
            }
            // This program interrupts no call.
            Err(RecvError::Interrupted) => {}
            Err(RecvError::ConnectionLost(cause)) => return Err(Difference::Lost(cause)),
        }
    }
    match receiver.channels().iter().find(|channel| came[usize::from(channel.get())] < plan.messages) {
        Some(channel) => {
            let came = came[usize::from(channel.get())];
            Err(Difference::TooFew { channel, came, messages: plan.messages })
        }
        None => Ok(()),
    }
}

/// The seed of a message: two that are mixed up differ in every few bytes.
fn seed(channel: ChannelId, number: u64) -> u64 {
    u64::from(channel.get()) << 56 ^ number
}

/// What differed from what should be.
#[derive(Debug)]
enum Difference {
    NotSent { channel: ChannelId, number: u64, why: String },
    Length { channel: ChannelId, number: u64, len: usize, expected: usize },
    Byte { channel: ChannelId, number: u64, at: usize, byte: u8, expected: u8 },
    TooMany { channel: ChannelId, messages: u64 },
    TooFew { channel: ChannelId, came: u64, messages: u64 },
    Reset { channel: ChannelId, code: u32 },
    LeftOut { channel: ChannelId, messages: u64 },
    Lost(ConnectionError),
}

impl Difference {
    fn content(channel: ChannelId, number: u64, message: &[u8], expected: &[u8]) -> Self {
        match message.iter().zip(expected).position(|(byte, expected)| byte != expected) {
            Some(at) => Self::Byte { channel, number, at, byte: message[at], expected: expected[at] },
            None => Self::Length { channel, number, len: message.len(), expected: expected.len() },
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent { channel, number, why } => {
                write!(f, "channel {channel}, message {number}: it could not be sent: {why}")
            }
            Self::Length { channel, number, len, expected } => {
                write!(f, "channel {channel}, message {number}: {len} bytes came back, {expected} were sent")
            }
            Self::Byte { channel, number, at, byte, expected } => write!(
                f,
                "channel {channel}, message {number}: byte {at} came back as {byte:#04x}, it was sent as {expected:#04x}; \
                 the message was changed, lost or overtaken"
            ),
            Self::TooMany { channel, messages } => {
                write!(f, "channel {channel}: more came back than the {messages} messages that were sent")
            }
            Self::TooFew { channel, came, messages } => {
                write!(f, "channel {channel}: it ended after {came} messages, {messages} were sent")
            }
            Self::Reset { channel, code } => {
                write!(f, "channel {channel}: the server abandoned it (code {code})")
            }
            Self::LeftOut { channel, messages } => {
                write!(
                    f,
                    "channel {channel}: the server left out {messages} messages, though none was left out here"
                )
            }
            Self::Lost(cause) => write!(f, "{cause}; not all messages had come back"),
        }
    }
}
