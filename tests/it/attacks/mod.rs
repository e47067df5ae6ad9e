//! Attacks from outside on a server, by topic. Those that are told by the memory of the process are in
//! `tests/memory/wire.rs`, and the targets in time in `benches/attacks.rs`: here the limits are generous,
//! since other programs load the machine.

mod fairness;
mod herds;
mod replays;
mod strangers;
