//! The host's ends of a terminal or of pipes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::termios::{LocalModes, QueueSelector, SpecialCodeIndex, Termios};

use super::Stream;
use super::setup::{Wires, open_slave, winsize};
use crate::size::Size;

/// How often a terminal is looked at that no process has open, while the program lives and may open it again.
const AGAIN: Duration = Duration::from_millis(50);
/// What a terminal is set to that has switched a character off.
const OFF: u8 = 0;

/// The ends, as long as they are open.
pub(super) enum Ends {
    Terminal { master: Option<OwnedFd>, retry: Option<Instant> },
    Pipes { input: Option<OwnedFd>, outputs: [Option<OwnedFd>; 2] },
}

/// What is behind what was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Read {
    /// More may come.
    Open,
    /// No more comes.
    Over,
}

impl Ends {
    pub(super) fn new(wires: Wires) -> Self {
        match wires {
            Wires::Terminal { master, .. } => Self::Terminal { master: Some(master), retry: None },
            Wires::Pipes { stdin, stdout, stderr } => {
                Self::Pipes { input: stdin, outputs: [Some(stdout), Some(stderr)] }
            }
        }
    }

    /// The descriptor of a stream that can have something.
    pub(super) fn output(&self, stream: Stream) -> Option<BorrowedFd<'_>> {
        let output = match self {
            Self::Terminal { master, retry: None } if stream == Stream::Stdout => master.as_ref(),
            Self::Terminal { .. } => None,
            Self::Pipes { outputs, .. } => outputs[stream as usize].as_ref(),
        };
        output.map(AsFd::as_fd)
    }

    pub(super) fn input(&self) -> Option<BorrowedFd<'_>> {
        let input = match self {
            Self::Terminal { master, retry: None } => master.as_ref(),
            Self::Terminal { .. } => None,
            Self::Pipes { input, .. } => input.as_ref(),
        };
        input.map(AsFd::as_fd)
    }

    /// Reads what is there, as much as there is room for. `ended` if the program has, and will not open a
    /// terminal again.
    pub(super) fn read(&mut self, stream: Stream, buffer: &mut [u8], ended: bool) -> (usize, Read) {
        let mut read = 0;
        while let Some(descriptor) = self.output(stream) {
            if read == buffer.len() {
                return (read, Read::Open);
            }
            match rustix::io::read(descriptor, &mut buffer[read..]) {
                Ok(more) if more > 0 => read += more,
                Err(Errno::AGAIN) => return (read, Read::Open),
                Err(Errno::INTR) => {}
                // A terminal that no process has open says EIO; everything that was written has come before.
                Ok(_) | Err(_) => match self {
                    Self::Terminal { retry, .. } if !ended => {
                        *retry = Some(Instant::now() + AGAIN);
                        return (read, Read::Open);
                    }
                    Self::Terminal { master, .. } => *master = None,
                    Self::Pipes { outputs, .. } => outputs[stream as usize] = None,
                },
            }
        }
        (read, Read::Over)
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        match self {
            Self::Terminal { retry, .. } => *retry,
            Self::Pipes { .. } => None,
        }
    }

    pub(super) fn retry(&mut self, now: Instant) {
        if let Self::Terminal { retry, .. } = self
            && retry.is_some_and(|then| then <= now)
        {
            *retry = None;
        }
    }

    /// The program has ended: what a closed terminal says now is the last of it.
    pub(super) fn retry_now(&mut self) {
        if let Self::Terminal { retry, .. } = self {
            *retry = None;
        }
    }

    /// No process has the terminal open.
    pub(super) fn hung_up(&self) -> bool {
        matches!(self, Self::Terminal { retry: Some(_), .. } | Self::Terminal { master: None, .. })
    }

    /// Every stream has ended.
    pub(super) fn all_over(&self) -> bool {
        match self {
            Self::Terminal { master, .. } => master.is_none(),
            Self::Pipes { outputs, .. } => outputs.iter().all(Option::is_none),
        }
    }

    pub(super) fn close(&mut self) {
        match self {
            Self::Terminal { master, .. } => *master = None,
            Self::Pipes { input, outputs } => {
                *input = None;
                *outputs = [None, None];
            }
        }
    }

    /// Closes the input of pipes. A terminal's is its output too.
    pub(super) fn close_input(&mut self) {
        if let Self::Pipes { input, .. } = self {
            *input = None;
        }
    }

    fn master(&self) -> Option<&OwnedFd> {
        match self {
            Self::Terminal { master, .. } => master.as_ref(),
            Self::Pipes { .. } => None,
        }
    }

    fn modes(&self) -> Option<Termios> {
        self.master().and_then(|master| rustix::termios::tcgetattr(master).ok())
    }

    /// What ends the input on a terminal; `None` for pipes. Ctrl-D if the program has switched it off, since
    /// it reads keys then.
    pub(super) fn end_of_file(&self) -> Option<u8> {
        const CTRL_D: u8 = 4;
        let code = self.master()?;
        let modes = rustix::termios::tcgetattr(code).ok();
        let code = modes.map_or(OFF, |modes| modes.special_codes[SpecialCodeIndex::VEOF]);
        Some(if code == OFF { CTRL_D } else { code })
    }

    /// The character that the terminal makes a signal of.
    pub(super) fn interrupt_character(&self) -> Option<u8> {
        let modes = self.modes()?;
        let code = modes.special_codes[SpecialCodeIndex::VINTR];
        (modes.local_modes.contains(LocalModes::ISIG) && code != OFF).then_some(code)
    }

    /// The group that the terminal's keys are for.
    pub(super) fn foreground(&self) -> Option<Pid> {
        self.master().and_then(|master| rustix::termios::tcgetpgrp(master).ok())
    }

    /// Drops what the program has not read.
    pub(super) fn flush_input(&self) {
        if let Some(slave) = self.master().and_then(|master| open_slave(master).ok()) {
            let _ = rustix::termios::tcflush(slave, QueueSelector::IFlush);
        }
    }

    /// Types a character before everything else. Returns `false` if the terminal has no room.
    pub(super) fn type_now(&self, character: u8) -> bool {
        self.master().is_some_and(|master| rustix::io::write(master, &[character]) == Ok(1))
    }

    pub(super) fn resize(&self, size: Size) {
        if let Some(master) = self.master() {
            let _ = rustix::termios::tcsetwinsize(master, winsize(size));
        }
    }
}
