//! Who is at the other end of a Unix socket, as the system tells it (protocol, section 9).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::place::Place;
use crate::error::HandshakeError;
use crate::peer_process::PeerProcess;

/// Refuses other users than this process's own and root.
pub(crate) fn check_user(socket: &impl AsFd) -> Result<(), HandshakeError> {
    let own = rustix::process::geteuid().as_raw();
    match user(socket) {
        // Ids of another namespace that have none in this one all look like this one.
        Ok(user) if (user == own || user == 0) && user != unmapped() => Ok(()),
        Ok(user) => Err(HandshakeError::ForeignUser { user: Some(user) }),
        Err(_) => Err(HandshakeError::ForeignUser { user: None }),
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn user(socket: &impl AsFd) -> nix::Result<u32> {
    nix::sys::socket::getsockopt(socket, nix::sys::socket::sockopt::PeerCredentials).map(|peer| peer.uid())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn user(socket: &impl AsFd) -> nix::Result<u32> {
    nix::unistd::getpeereid(socket).map(|(user, _)| user.as_raw())
}

/// The id that stands for all users that have none in this process's namespace.
fn unmapped() -> u32 {
    static UNMAPPED: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *UNMAPPED.get_or_init(|| {
        let told = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
        told.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(65_534)
    })
}

/// The process, where the system tells it and pins it: Linux from 6.5 on.
#[cfg(target_os = "linux")]
pub(crate) fn process(socket: &impl AsFd) -> Option<PeerProcess> {
    use nix::sys::socket::{getsockopt, sockopt};
    // First the pin, so that the number below is that of the process that is pinned.
    let pin = getsockopt(socket, sockopt::PeerPidfd).ok()?;
    let id = getsockopt(socket, sockopt::PeerCredentials).ok()?.pid();
    // 0: it lives in another namespace, where it has a number, and has none here.
    let id = u32::try_from(id).ok().filter(|&id| id != 0)?;
    Some(PeerProcess::new(id, pin))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn process(_: &impl AsFd) -> Option<PeerProcess> {
    None
}

/// Tells when a process ends, even if a child of it still holds its socket.
#[derive(Debug)]
pub(crate) struct Watch {
    /// A copy of its own, which leaves the poll when it is closed.
    pin: OwnedFd,
}

impl Watch {
    pub(crate) fn new(process: &PeerProcess) -> io::Result<Self> {
        Ok(Self { pin: process.as_fd().try_clone_to_owned()? })
    }

    pub(crate) fn register(&self, registry: &Registry, place: Place) -> io::Result<()> {
        SourceFd(&self.pin.as_raw_fd()).register(registry, place.second_token(), Interest::READABLE)
    }
}
