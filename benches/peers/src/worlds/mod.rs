//! The two worlds in which peers live: threads and blocking calls, and tasks on tokio.

pub mod asynchronous;
pub mod blocking;
pub mod sockets;
