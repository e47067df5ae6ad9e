//! Which connections are sealed.

/// Which connections are sealed: encrypted and protected against changes on the way, with keys that are made
/// for each socket (protocol, section 8). See [`Config::sealing`](crate::Config::sealing).
///
/// What a side is set to is never negotiated: a client that seals takes nothing else, and a listener that
/// does not take a kind says so.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Sealing {
    /// A client seals every TCP connection, and none over a Unix socket. A listener on a loopback address or a
    /// Unix socket takes both kinds, any other only sealed ones. This is the default.
    ///
    /// In a build without the feature `sealed` it is the same as [`Never`](Sealing::Never).
    #[default]
    Auto,
    /// A client seals every connection, and a listener takes no others.
    Always,
    /// A client seals no connection, and a listener takes only plain ones. A listener on an address that other
    /// machines reach also needs [`Config::allow_plaintext`](crate::Config::allow_plaintext).
    Never,
}
