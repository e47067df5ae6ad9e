//! The bodies of the fuzz targets in `fuzz/`: each takes any bytes and panics if the library does
//! with them what it must not. The tests run them over a small corpus.

mod frames;
mod handshake;
mod input;
mod peer;
mod session;
mod sink;
#[cfg(test)]
mod tests;
mod transmit;

pub use frames::frames;
pub use handshake::handshake;
pub use session::session;
