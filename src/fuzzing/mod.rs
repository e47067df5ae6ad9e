//! The bodies of the fuzz targets in `fuzz/`: each takes any bytes and panics if the library does
//! with them what it must not. The tests run them over the corpus that is kept there.

mod frames;
mod handshake;
mod input;
mod ledger;
mod peer;
mod replay;
mod resume;
mod session;
mod sink;
#[cfg(test)]
mod tests;
mod transmit;

pub use frames::frames;
pub use handshake::handshake;
pub use replay::replay;
pub use resume::resume;
pub use session::session;
