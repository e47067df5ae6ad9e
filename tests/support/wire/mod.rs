//! Both halves of the Trunkline wire protocol, version 1, written from the protocol's page alone.
//!
//! Blocking, std-only (but for the hash), and strict: what the library sends is checked frame by
//! frame against the page, so every test that reads with a [`RawPeer`] is a conformance test of what
//! it reads. What a test *sends* is not checked at all; that is the point. It is followed all the
//! same, because what the library may answer depends on it.

mod books;
mod client;
mod expect;
mod frames;
mod keys;
mod ledger;
mod messages;
mod noise;
mod peer;
mod reading;
pub mod seal;
mod sealed;
mod server;
mod stream;

use std::time::Duration;

pub use client::ClientHandshake;
pub use frames::*;
pub use keys::{RawKey, key_id, mac, random};
pub use messages::*;
pub use noise::Noise;
pub use peer::{RawPeer, Role};
pub use reading::Event;
pub use seal::RawSeal;
pub use sealed::{SEALED_HELLO, SEALED_REPLY, SealedClient, SealedHello, read_sealed_refusal};
pub use server::{Hello, ServerHandshake};
pub use stream::{WireError, dial, read_exact_by, read_to_end_by};

/// How long anything may take before a test calls it stuck.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const MAGIC: [u8; 4] = [0xF4, 0x54, 0x4C, 0x4E];
pub const VERSION: u8 = 1;
/// The largest payload of a data frame.
pub const MAX_DATA: usize = 65_536;
/// The largest payload of a control frame.
pub const MAX_CONTROL: usize = 1_024;
/// What a data frame costs besides its payload, and what a message that waits counts besides its
/// length.
pub const FRAME_COST: usize = 32;
/// The most credit a channel can hold.
pub const MAX_CREDIT: i64 = (1 << 31) - 1;
/// The smallest window but 0.
pub const MIN_WINDOW: u32 = 64;
/// "For ever", as a grace period.
pub const FOR_EVER: u32 = u32::MAX;
/// How long an ACK may wait.
pub const ACK_TIME: Duration = Duration::from_millis(200);
/// After so many bytes an ACK does not wait at all.
pub const ACK_BYTES: u64 = 128 * 1024;

/// Values of the two status fields.
pub mod status {
    pub const OK: u8 = 0;
    pub const NO_COMMON_VERSION: u8 = 1;
    pub const NOT_AUTHORISED: u8 = 2;
    pub const TOO_BUSY: u8 = 3;
    pub const SESSION_UNKNOWN: u8 = 4;
    pub const SESSION_EXPIRED: u8 = 5;
    pub const OUT_OF_RANGE: u8 = 6;
    pub const ONLY_SEALED: u8 = 7;
    pub const ONLY_PLAIN: u8 = 8;
}

/// Codes of CLOSE.
pub mod code {
    pub const NORMAL: u16 = 0;
    pub const PROTOCOL: u16 = 1;
    pub const FLOW_CONTROL: u16 = 2;
    pub const TOO_LARGE: u16 = 3;
    pub const NOT_PERMITTED: u16 = 4;
    pub const HEARTBEAT: u16 = 5;
    pub const SHUTTING_DOWN: u16 = 6;
    pub const FIRST_OF_APPLICATION: u16 = 256;
}

/// Opcodes of control frames.
pub mod opcode {
    pub const CREDIT: u8 = 0x01;
    pub const FINISH: u8 = 0x02;
    pub const RESET: u8 = 0x03;
    pub const STOP: u8 = 0x04;
    pub const PING: u8 = 0x05;
    pub const PONG: u8 = 0x06;
    pub const ACK: u8 = 0x07;
    pub const WAITING: u8 = 0x08;
    pub const INTERRUPT: u8 = 0x09;
    pub const CLOSE: u8 = 0x0A;
    pub const GAP: u8 = 0x0B;
    pub const FIRST_UNKNOWN: u8 = 0x0C;
    pub const FIRST_EXTENSION: u8 = 0x80;
}

/// Whether `window` is one that a handshake may name.
pub fn window_is_legal(window: u32) -> bool {
    window == 0 || (MIN_WINDOW..=MAX_CREDIT as u32).contains(&window)
}
