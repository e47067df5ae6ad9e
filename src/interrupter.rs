//! Ending a wait of another thread.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::io::shared::Shared;

/// Ends a call that waits in another thread: a read of a [`Reader`](crate::Reader), a
/// [`recv`](crate::Receiver::recv), a [`send`](crate::Sender::send) or a write of a
/// [`Writer`](crate::Writer). So a control channel can wake an `input()`, and stop a `print()` whose output
/// is not taken. It does not keep the connection open.
///
/// ```
/// # use trunkline::{ChannelId, Config, Connection, Key};
/// use std::io::BufRead;
///
/// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// let mut stdin = there.receiver(ChannelId::new(0))?.into_reader();
/// let interrupter = stdin.interrupter();
/// std::thread::spawn(move || interrupter.interrupt());
/// let error = stdin.read_line(&mut String::new()).unwrap_err();
/// assert!(trunkline::is_interrupted(&error));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Interrupter {
    shared: Weak<Shared>,
    target: Target,
}

/// What it ends.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// What a receiver waits for; the serial tells it from an earlier one with the same number.
    Receives { number: u8, serial: u64 },
    /// What the senders of a channel wait for.
    Sends { place: usize },
}

impl Interrupter {
    pub(crate) fn new(shared: &Arc<Shared>, target: Target) -> Self {
        Self { shared: Arc::downgrade(shared), target }
    }

    /// Ends the call that waits, or else the next one that would wait, with
    /// [`Interrupted`](crate::Interrupted). Nothing that was sent is lost. Interrupts that no call has
    /// returned merge into one.
    pub fn interrupt(&self) {
        let Some(shared) = self.shared.upgrade().filter(|shared| !shared.is_forked()) else { return };
        match self.target {
            Target::Receives { number, serial } => shared.receive.interrupt(number, serial),
            Target::Sends { place } => shared.send.interrupt_sends(place),
        }
    }
}

impl fmt::Debug for Interrupter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupter")
    }
}
