//! The process that starts the pairs: one run, the rounds of a workload, and the system calls.

pub mod pair;
pub mod proxy;
pub mod rounds;
pub mod syscalls;
