//! A client that does one thing and leaves.

use std::time::{Duration, Instant};

use crossbeam_channel::{after, never, select};
use trunkline::{
    ChannelError, ChannelId, ChannelSet, CloseCode, Connection, ConnectionError, Priority, Received,
    Receiver, Sender, TryRecvError,
};
use trunkline_kernel::layout::{ROSTER, Roster, RosterAnswer, Status};

use crate::arguments::Reach;
use crate::failure::{Failure, NO_PERMISSION, TEMPORARY, UNAVAILABLE};
use crate::reach::Place;

/// How long a hub may take for an answer: a link may be lost meanwhile, and come back.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the hub is given to hear of the end.
const LEAVING: Duration = Duration::from_secs(2);
/// One access takes the input from the same client no more often than that.
const TAKE_PAUSE: Duration = Duration::from_millis(1100);

/// A connection to a host.
#[derive(Debug)]
pub struct Client {
    pub place: Place,
    pub connection: Connection,
    roster: Receiver,
}

impl Client {
    pub fn connect(reach: &Reach) -> Result<Self, Failure> {
        let place = Place::find(reach)?;
        let connection = place.connect()?;
        let roster = connection.receiver(ROSTER).map_err(|error| no_hub(&place, &error))?;
        Ok(Self { place, connection, roster })
    }

    /// Begins to receive channels.
    pub fn receiver(&self, channels: impl Into<ChannelSet>) -> Result<Receiver, Failure> {
        self.connection.receiver(channels).map_err(|error| no_hub(&self.place, &error))
    }

    /// A sender; the key must permit it.
    pub fn sender(&self, channel: ChannelId, priority: Priority) -> Result<Sender, Failure> {
        self.connection.sender_with(channel, priority).map_err(|error| self.not_permitted(&error))
    }

    pub fn not_permitted(&self, error: &ChannelError) -> Failure {
        match error {
            ChannelError::NotPermitted { .. } | ChannelError::InterruptNotPermitted => {
                let text = "the host does not let this key do that; use a key that does not only watch";
                self.place.failure(NO_PERMISSION, text)
            }
            error => self.place.lost(error),
        }
    }

    /// The next note of the hub that is read.
    pub fn note(&self) -> Result<Roster, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(received) = self.receive(&self.roster, Some(deadline))? else {
                let text =
                    format!("no answer within {} s; is that a host of `trunkline host`?", PATIENCE.as_secs());
                return Err(self.place.failure(UNAVAILABLE, text));
            };
            // What this version does not understand is no note for it.
            if let Received::Message(message) = received
                && let Ok(note) = Roster::try_from(&message[..])
            {
                return Ok(note);
            }
        }
    }

    /// A note of the hub that has come.
    pub fn try_note(&self) -> Result<Roster, TryRecvError> {
        loop {
            if let Received::Message(message) = self.roster.try_recv_any()?
                && let Ok(note) = Roster::try_from(&message[..])
            {
                return Ok(note);
            }
        }
    }

    /// Takes the input, even from another client.
    pub fn take(&self) -> Result<(), Failure> {
        let requests = self.sender(ROSTER, Priority::Normal)?;
        for last in [false, true] {
            requests.send(r#"{"take":true}"#).map_err(|error| self.place.lost(error))?;
            let RosterAnswer { done, why, .. } = loop {
                if let Some(answer) = self.note()?.answer {
                    break answer;
                }
            };
            let why = why.unwrap_or_default();
            if done {
                return Ok(());
            }
            if why.contains("less than a second") && !last {
                std::thread::sleep(TAKE_PAUSE);
            } else if why.contains("key") {
                let text = format!("{}; use a key that may", crate::plain(&why));
                return Err(self.place.failure(NO_PERMISSION, text));
            } else {
                return Err(self.place.failure(TEMPORARY, format!("{}; try again", crate::plain(&why))));
            }
        }
        Ok(())
    }

    /// Lets go of the input, so that the next client gets it when this returns.
    pub fn release(&self) -> Result<(), Failure> {
        let requests = self.sender(ROSTER, Priority::Normal)?;
        requests.send(r#"{"release":true}"#).map_err(|error| self.place.lost(error))?;
        // One that has lost the input meanwhile has nothing to let go of.
        while self.note()?.answer.is_none() {}
        Ok(())
    }

    /// What comes next; `None` at the deadline.
    pub fn receive(&self, receiver: &Receiver, until: Option<Instant>) -> Result<Option<Received>, Failure> {
        loop {
            match receiver.try_recv_any() {
                Ok(received) => return Ok(Some(received)),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected(cause)) => return Err(self.place.lost(cause)),
            }
            let time =
                until.map_or_else(never, |until| after(until.saturating_duration_since(Instant::now())));
            select! {
                recv(receiver.ready()) -> _ => {}
                recv(time) -> _ => return Ok(None),
            }
        }
    }

    /// Returns `true` if the program has ended, and the host has told so in order.
    pub fn is_over(&self) -> bool {
        matches!(
            self.connection.close_reason(),
            Some(ConnectionError::ClosedByPeer { code: CloseCode::NORMAL, .. })
        )
    }

    /// Returns `true` if the connection is over, for whatever reason.
    pub fn is_lost(&self) -> bool {
        self.connection.close_reason().is_some()
    }

    /// Leaves; what was sent arrives.
    pub fn leave(&self) -> Result<(), Failure> {
        let closed = self.connection.close_timeout(CloseCode::NORMAL, "", LEAVING);
        closed.map_err(|error| {
            self.place.failure(UNAVAILABLE, format!("the host may not have heard it: {error}"))
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // An end that the host knows of already is no error here.
        let _ = self.connection.close_timeout(CloseCode::NORMAL, "", LEAVING);
    }
}

fn no_hub(place: &Place, error: &ChannelError) -> Failure {
    place.failure(UNAVAILABLE, format!("{error}; is a host of `trunkline host` there?"))
}

/// The exit status that stands for the end of the program; `None` while it runs.
pub fn exit_code(status: &Status) -> Option<u8> {
    match status {
        Status::Exited(code) => Some(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        Status::Killed(name) => {
            let number = name.as_str().parse().map(trunkline_host::Signal::number);
            Some(u8::try_from(128 + number.unwrap_or(127)).unwrap_or(u8::MAX))
        }
        _ => None,
    }
}
