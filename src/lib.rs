#![doc = include_str!("docs/guide.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod config;
mod connection;
pub mod docs;
mod error;
mod event;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod id;
mod io;
mod key;
mod listener;
mod message;
mod proto;
mod queue;
mod reader;
mod receiver;
mod sender;
mod stats;
mod writer;

pub use config::{Access, Config};
pub use connection::Connection;
pub use error::*;
pub use event::Event;
pub use id::{ChannelId, ChannelIdError, ChannelSet};
pub use io::IoThread;
pub use key::Key;
pub use listener::Listener;
pub use message::Message;
pub use proto::outbound::Priority;
pub use reader::{Interrupter, Reader};
pub use receiver::Receiver;
pub use sender::Sender;
pub use stats::{ChannelStats, Stats};
pub use writer::Writer;

/// The README's programs compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
