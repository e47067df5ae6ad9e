//! The library against an independent peer.
//!
//! `support::wire` was written from the protocol's page alone and never from the library's sources.
//! Where these tests and the library disagree, one of them has a bug. A comment in quotation marks
//! is the sentence of the page that a test is about.

mod ack;
mod as_client;
mod client_close;
mod client_handshake;
mod client_resume;
mod close;
mod flow;
mod frames;
mod gap;
mod handshake;
mod library;
mod liveness;
mod lost_while_closing;
mod noise;
mod refusals;
mod resume;
mod resume_refused;
mod runs;
mod sealed;
mod speaker;
mod violations;
mod waiting;
