//! The examples, run as their users run them: as processes.

mod echo;
mod echo_chaos;
mod small;
