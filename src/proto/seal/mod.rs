//! Sealed connections (protocol, section 8): the Noise handshake and the records. Bytes in, bytes out.
//!
//! The handshake is snow's, with ring's primitives; the records are sealed and opened in place, with the two
//! keys that the handshake ends with. In a build without the feature `sealed` there is no [`Seal`], and
//! nothing can make one.

#[cfg(feature = "sealed")]
mod noise;
#[cfg(feature = "sealed")]
mod record;

#[cfg(feature = "sealed")]
pub(crate) use noise::{Initiator, Responder};
#[cfg(feature = "sealed")]
pub(crate) use record::Seal;

#[cfg(not(feature = "sealed"))]
mod absent;
#[cfg(not(feature = "sealed"))]
pub(crate) use absent::{Initiator, Responder, Seal};

/// The plaintext of the largest record, and what a record has besides.
pub(crate) const MOST: usize = 65_535 - TAG;
pub(crate) const OVERHEAD: usize = LENGTH + TAG;
/// The length before each record, and the tag at its end.
const LENGTH: usize = 2;
const TAG: usize = 16;

/// Noise message 1, with an empty payload, and message 2, with one of 8 bytes.
pub(crate) const MESSAGE_1: usize = 32 + TAG;
pub(crate) const MESSAGE_2: usize = 32 + 8 + TAG;

/// This build can seal.
pub(crate) const IS_BUILT: bool = cfg!(feature = "sealed");

/// A record does not open, or cannot be one: the socket was tampered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tampered;

/// What stands at the front of what was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Front {
    /// Not enough of a record.
    Part,
    /// A record of so many bytes, its length included.
    Record(usize),
}

/// Looks at the length of the next record.
pub(crate) fn front(bytes: &[u8]) -> Result<Front, Tampered> {
    let Some(length) = bytes.first_chunk::<LENGTH>() else { return Ok(Front::Part) };
    let length = usize::from(u16::from_be_bytes(*length));
    match length {
        0..=TAG => Err(Tampered),
        _ if bytes.len() < LENGTH + length => Ok(Front::Part),
        _ => Ok(Front::Record(LENGTH + length)),
    }
}
