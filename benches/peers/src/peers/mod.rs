//! One module for each peer: how it is set up and how one message is sent and taken.

mod async_smux;
mod byte_stream;
mod chmux;
mod h2;
mod raw;
pub mod tls;
mod trunkline;
mod yamux;
mod zmq;

use anyhow::Result;

use crate::child::Role;
use crate::plan::Plan;
use crate::plan::rows::PeerName;
use crate::worlds::{asynchronous, blocking};

pub fn run(role: Role, plan: &Plan) -> Result<()> {
    match plan.peer {
        PeerName::Raw => blocking::run::<raw::Raw>(role, plan),
        PeerName::Tls => blocking::run::<tls::Tls>(role, plan),
        PeerName::Zmq => blocking::run::<zmq::Zmq>(role, plan),
        PeerName::Trunkline => blocking::run::<trunkline::Trunkline>(role, plan),
        PeerName::Yamux => asynchronous::run::<yamux::Yamux>(role, plan),
        PeerName::H2 => asynchronous::run::<h2::H2>(role, plan),
        PeerName::Chmux => asynchronous::run::<chmux::Chmux>(role, plan),
        PeerName::AsyncSmux => asynchronous::run::<async_smux::AsyncSmux>(role, plan),
    }
}

/// The versions measured, for the head of the table.
pub fn versions() -> String {
    let (major, minor, patch) = ::zmq::version();
    let lock = include_str!("../../Cargo.lock");
    let of = |name: &str| {
        let entry = lock.split("[[package]]").find(|p| p.contains(&format!("\nname = \"{name}\"\n")));
        let version = entry.and_then(|p| p.split("version = \"").nth(1)?.split('"').next());
        format!("{name} {}", version.unwrap_or("?"))
    };
    let crates = ["rustls", "yamux", "h2", "remoc", "async_smux", "trunkline"].map(of).join(", ");
    format!("libzmq {major}.{minor}.{patch}, {crates}")
}
