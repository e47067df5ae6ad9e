//! What can go wrong, one type per call.
//!
//! Errors of a whole connection are a [`ConnectionError`]; all handles of a connection report the
//! same one. [`ConnectionError::fault`] says which side or part failed.

mod channel;
mod connect;
mod connection;
mod interrupted;
mod key;

pub use channel::*;
pub use connect::*;
pub use connection::*;
pub use interrupted::*;
pub use key::*;
