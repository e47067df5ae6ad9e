//! The server: every message goes back on the channel it came on.
//!
//! Each connection has a thread that waits for channels to be used, and each channel in use has a
//! thread of its own. So one whose client does not read waits alone.

use std::io;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use trunkline::{
    ChannelError, ChannelId, CloseCode, Config, Connection, Disconnect, Event, Listener, Message, Receiver,
    RecvError, Sealing, SendError, Sender,
};

use crate::{Failure, Place};

/// A channel's thread needs little; there may be 128 of them for each client.
const STACK: usize = 128 * 1024;
/// The code of a RESET for a run that cannot be echoed.
const CANNOT_ECHO: u32 = 1;

#[derive(Debug)]
pub(crate) struct Terms {
    /// How long a client whose link is lost has to come back.
    pub(crate) grace: Duration,
    /// The network is trusted: nothing is encrypted.
    pub(crate) allow_plaintext: bool,
}

pub(crate) fn run(at: &Place, config: Config, terms: Terms) -> Result<(), Failure> {
    let config = config.resume_grace(terms.grace);
    let config = match terms.allow_plaintext {
        true => config.sealing(Sealing::Never).allow_plaintext(true),
        false => config,
    };
    let listener = match at {
        Place::Tcp(listen) => {
            Listener::bind(listen, config).map_err(|error| format!("--listen {listen}: {error}"))?
        }
        #[cfg(unix)]
        Place::Unix(path) => {
            Listener::bind_unix(path, config).map_err(|error| format!("--unix {path}: {error}"))?
        }
        #[cfg(not(unix))]
        Place::Unix(_) => return Err("--unix: this system has no Unix sockets".into()),
    };
    crate::say(&format!("listening on {}", listener.address()))?;
    answer(&listener)
}

/// Serves the clients of a listener.
pub(crate) fn answer(listener: &Listener) -> Result<(), Failure> {
    for connection in listener.incoming() {
        let connection = connection?;
        let spare = connection.clone();
        if let Err(error) = spawn(move || serve(&connection)) {
            refuse(&spare, &error);
        }
    }
    Ok(())
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().stack_size(STACK).spawn(work).map(drop)
}

fn refuse(connection: &Connection, error: &io::Error) {
    eprintln!("echo: no thread for a client ({error}); raise the limit of threads (ulimit -u)");
    // Whether the client hears of it makes no difference here.
    let _ = connection.close(CloseCode::SHUTTING_DOWN, "the server has no thread left");
}

/// Starts a thread for each channel that the client begins to use, until the connection is over.
fn serve(connection: &Connection) {
    for event in connection.events().iter() {
        match event {
            Event::Opened(channel) => {
                let of_channel = connection.clone();
                if let Err(error) = spawn(move || echo_channel(&of_channel, channel)) {
                    return refuse(connection, &error);
                }
            }
            Event::Closed(_) => return,
            _ => {}
        }
    }
}

/// Echoes the runs of a channel one after the other, until the connection is over.
fn echo_channel(connection: &Connection, channel: ChannelId) {
    // It has a receiver already if it was announced twice.
    let Ok(receiver) = connection.receiver(channel) else { return };
    loop {
        match echo_run(connection, &receiver, channel) {
            Ok(()) => {}
            // Clients come and go; that is no news.
            Err(ChannelError::ConnectionLost(_)) => return,
            Err(error) => return eprintln!("echo: {error}"),
        }
    }
}

/// Echoes one run, and ends it as the client does.
fn echo_run(connection: &Connection, receiver: &Receiver, channel: ChannelId) -> Result<(), ChannelError> {
    // A fresh sender for each run: only that can end a run in which nothing was sent. It is made
    // when the run has begun, so that a STOP of the run before is not taken for one of this run.
    let mut echo: Option<Echo> = None;
    let end = loop {
        match receiver.recv() {
            Ok(message) => match &mut echo {
                Some(echo) => echo.pass_on(message),
                none => *none = Some(Echo::begin(connection, channel, message)?),
            },
            Err(RecvError::Gap { messages, bytes, .. }) => {
                if echo.is_none() {
                    echo = Some(Echo::Going(connection.sender(channel)?));
                }
                if let Some(Echo::Going(sender)) = &echo {
                    // As with a message: what is wrong is heard of at the next one.
                    let _ = sender.gap(messages, bytes);
                }
            }
            // This program interrupts no call.
            Err(RecvError::Interrupted) => {}
            Err(RecvError::ConnectionLost(cause)) => return Err(cause.into()),
            Err(RecvError::Finished) => break None,
            Err(RecvError::Reset { code, .. }) => break Some(code),
        }
    };
    let sender = match echo {
        Some(Echo::Going(sender)) => sender,
        // The library has answered the STOP, and so ended the run.
        Some(Echo::Over) => return Ok(()),
        None => connection.sender(channel)?,
    };
    match end.map_or_else(|| sender.finish(), |code| sender.reset(code)) {
        Err(Disconnect::ConnectionLost(cause)) => Err(cause.into()),
        // The client wants no more of it, which ends it as well.
        _ => Ok(()),
    }
}

/// What becomes of the messages of a run.
enum Echo {
    Going(Sender),
    /// The client does not want it, or cannot take it: the rest of the run is read and dropped.
    Over,
}

impl Echo {
    /// Passes the first message of a run on.
    fn begin(connection: &Connection, channel: ChannelId, message: Message) -> Result<Self, ChannelError> {
        let mut message = message.into_bytes();
        loop {
            let mut echo = Self::Going(connection.sender(channel)?);
            match echo.send(message) {
                // Nothing of this run was sent yet, so this is about the run before.
                Err(SendError::Disconnected { message: back, cause: Disconnect::Stopped(_) }) => {
                    message = back
                }
                Err(SendError::Disconnected { cause: Disconnect::ConnectionLost(cause), .. }) => {
                    return Err(cause.into());
                }
                _ => return Ok(echo),
            }
        }
    }

    fn pass_on(&mut self, message: Message) {
        // A lost connection is heard of at the next `recv`.
        let _ = self.send(message.into_bytes());
    }

    fn send(&mut self, message: Bytes) -> Result<(), SendError<Bytes>> {
        let Self::Going(sender) = self else { return Ok(()) };
        let sent = sender.send_bytes(message);
        if let Err(error) = &sent {
            if matches!(error, SendError::TooLarge { .. }) {
                eprintln!("echo: channel {}: {error}", sender.channel());
                // The connection may be over, which is heard of at the next `recv`.
                let _ = sender.reset(CANNOT_ECHO);
            }
            *self = Self::Over;
        }
        sent
    }
}
