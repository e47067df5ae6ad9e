#![doc = include_str!("docs/guide.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod access;
mod address;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod closing;
mod config;
mod connecting;
mod connection;
pub mod docs;
mod error;
mod event;
mod events;
mod flushing;
#[cfg(feature = "futures")]
mod futures;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod id;
mod interrupter;
mod io;
mod key;
mod listener;
mod listener_event;
mod listener_events;
mod message;
mod options;
mod patience;
mod peer_process;
mod proto;
mod queue;
mod reader;
mod receiver;
mod sealing;
mod sender;
mod session_info;
mod stats;
mod stream;
mod writer;

pub use access::Access;
pub use address::Address;
pub use closing::Closing;
pub use config::Config;
pub use connecting::Connecting;
pub use connection::Connection;
pub use error::*;
pub use event::Event;
pub use events::{EventError, Events, Interrupts};
pub use flushing::Flushing;
#[cfg(feature = "futures")]
pub use futures::SenderSink;
pub use id::{ChannelId, ChannelIdError, ChannelSet, Channels};
pub use interrupter::Interrupter;
pub use io::thread::shutdown;
pub use io::{IoThread, IoThreadBuilder};
pub use key::Key;
pub use listener::Listener;
pub use listener_event::ListenerEvent;
pub use listener_events::ListenerEvents;
pub use message::Message;
pub use peer_process::PeerProcess;
pub use proto::outbound::Priority;
pub use reader::Reader;
pub use receiver::{Messages, Received, Receiver};
pub use sealing::Sealing;
pub use sender::Sender;
pub use session_info::SessionInfo;
pub use stats::{ChannelStats, Held, Stats};
pub use stream::Stream;
pub use writer::Writer;

/// The README's programs compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
