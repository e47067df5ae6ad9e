//! What a source sees while it is served: the time, its timers, memory to work with, and where it
//! registers its socket.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use mio::Registry;

use super::core::Core;
use super::link::Ready;
use super::timer::Timers;
use crate::proto::session::{Output, Wishes};
use crate::queue::staging::Staging;

/// Bytes of one read. More than the processor's nearest caches hold would be read twice from
/// memory; less would cost calls.
const SCRATCH: usize = 256 * 1024;

/// Why a source is served: everything that has happened to it since it was served last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reasons {
    /// Another thread called, or there was more to do.
    pub(crate) called: bool,
    /// Its deadline has passed.
    pub(crate) due: bool,
    /// Its socket is ready.
    pub(crate) ready: Ready,
}

impl Reasons {
    pub(crate) const CALLED: Self = Self { called: true, due: false, ready: Ready::NONE };
    pub(crate) const DUE: Self = Self { called: false, due: true, ..Self::CALLED };

    pub(crate) fn ready(ready: Ready) -> Self {
        Self { called: false, due: false, ready }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.called |= more.called;
        self.due |= more.due;
        self.ready.add(more.ready);
    }
}

pub(crate) struct Env {
    pub(crate) core: Arc<Core>,
    pub(crate) registry: Registry,
    /// The time of this pass.
    pub(crate) now: Instant,
    pub(crate) timers: Timers,
    pub(crate) scratch: Box<[u8]>,
    /// Where records are sealed; nothing is left in it between two writes.
    pub(crate) sealing: Vec<u8>,
    pub(crate) staging: Staging,
    /// Empty between two exchanges; kept, so that an exchange allocates nothing.
    pub(crate) wishes: Wishes,
    pub(crate) output: Output,
    /// Something was received since the last look.
    pub(crate) received: bool,
}

impl Env {
    pub(crate) fn new(core: Arc<Core>, registry: Registry) -> Self {
        Self {
            registry,
            now: Instant::now(),
            timers: Timers::default(),
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            sealing: Vec::new(),
            staging: Staging::new(Arc::clone(&core.pool)),
            wishes: Wishes::default(),
            output: Output::default(),
            received: false,
            core,
        }
    }

    /// Forgets what a source left half done when it panicked.
    pub(crate) fn recover(&mut self) {
        self.staging = Staging::new(Arc::clone(&self.core.pool));
        if self.scratch.len() < SCRATCH {
            self.scratch = vec![0; SCRATCH].into_boxed_slice();
        }
        self.wishes = Wishes::default();
        self.output = Output::default();
    }
}

/// Random bytes, for a nonce or a name.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}
