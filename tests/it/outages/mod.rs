//! Connections that outlive their socket (protocol, section 6).

mod peers;
mod resume;
mod tampering;
mod told;
