//! The console's side: what it knows of the kernel, and a connection that feeds it.
//!
//! [`Console`] is a value without threads, sockets or a clock. It is told what was sent and what came, and it
//! answers: what does the kernel do, and since when; may the next line of a script go; which message is an
//! interrupt for. [`Session`] is a connection with a `Console` beside it, which is told everything that
//! passes. [`Child`] is a kernel that the console has started as a process of its own.

mod child;
mod numbers;
mod session;
mod state;
#[cfg(test)]
mod tests;
mod unsent;

pub use child::{Child, ChildError};
pub use session::{Ready, Said, Session};
pub use state::{Activity, Console, Nonsense};
pub use unsent::Unsent;
