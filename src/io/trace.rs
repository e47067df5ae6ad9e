//! What the feature `tracing` tells of connections and listeners. Without it everything here is empty,
//! and nothing is left of it.
//!
//! A subscriber is the user's code. It is called in the thread that runs the loop, with no lock of this
//! library held but the role itself, and it must not wait for this library. What it panics with ends
//! here.

/// Which end of a connection this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Client,
    /// It came by a listener.
    Server,
    Pair,
}

pub(crate) use told::{ConnTrace, ListenTrace};

#[cfg(not(feature = "tracing"))]
mod told {
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    use super::Side;
    use crate::access::Access;
    use crate::address::Address;
    use crate::error::ConnectionError;

    pub(crate) struct ConnTrace;

    impl ConnTrace {
        #[inline(always)]
        pub(crate) fn new(_side: Side, _access: Option<&Access>) -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn connected(&mut self, _peer: Option<SocketAddr>) {}

        #[inline(always)]
        pub(crate) fn attached(&mut self, _peer: Option<SocketAddr>, _after: Duration, _attempts: u32) {}

        #[inline(always)]
        pub(crate) fn suspended(&self, _cause: &ConnectionError) {}

        #[inline(always)]
        pub(crate) fn closed(&self, _cause: &ConnectionError, _delivered: bool) {}
    }

    pub(crate) struct ListenTrace;

    impl ListenTrace {
        #[inline(always)]
        pub(crate) fn new() -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn bound(&mut self, _address: &Address) {}

        #[cfg(unix)]
        #[inline(always)]
        pub(crate) fn file_gone(&self, _again: bool) {}

        #[inline(always)]
        pub(crate) fn stranger_went(&mut self, _now: Instant) -> Option<Instant> {
            None
        }

        #[inline(always)]
        pub(crate) fn client_refused(&mut self, _now: Instant) -> Option<Instant> {
            None
        }

        #[inline(always)]
        pub(crate) fn sum_up(&mut self, _now: Instant) -> Option<Instant> {
            None
        }
    }
}

#[cfg(feature = "tracing")]
mod told {
    use std::net::SocketAddr;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::{Duration, Instant};

    use tracing::field::Empty;
    use tracing::{Span, dispatcher};

    use super::Side;
    use crate::access::Access;
    use crate::address::Address;
    use crate::error::ConnectionError;

    const TARGET: &str = "trunkline";
    /// A listener tells of those that it has turned away at most so often.
    const PAUSE: Duration = Duration::from_secs(1);

    /// A subscriber that panics ends nothing but its own work.
    fn guarded<R>(tell: impl FnOnce() -> R) -> Option<R> {
        catch_unwind(AssertUnwindSafe(tell)).ok()
    }

    /// A cause as text. A peer's words are in it, which must not end the line of a log.
    fn text(cause: &ConnectionError) -> String {
        let replaced = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        cause.to_string().chars().map(replaced).collect()
    }

    /// The span of a connection, and what is told within it.
    pub(crate) struct ConnTrace {
        span: Span,
        /// The peer was there.
        met: bool,
    }

    impl ConnTrace {
        pub(crate) fn new(side: Side, access: Option<&Access>) -> Self {
            let side = match side {
                Side::Client => "client",
                Side::Server => "server",
                Side::Pair => "pair",
            };
            let span = guarded(|| {
                let span = tracing::info_span!(
                    target: TARGET, parent: None, "connection", side, peer = Empty, access = Empty
                );
                if let Some(name) = access.and_then(Access::name) {
                    span.record("access", name);
                }
                span
            });
            Self { span: span.unwrap_or_else(Span::none), met: false }
        }

        /// Tells with the subscriber that has the span, whichever thread runs the loop.
        fn tell(&self, tell: impl FnOnce(&Span)) {
            guarded(|| match self.span.with_subscriber(|(_, dispatch)| dispatch.clone()) {
                Some(dispatch) => dispatcher::with_default(&dispatch, || tell(&self.span)),
                None => tell(&self.span),
            });
        }

        pub(crate) fn connected(&mut self, peer: Option<SocketAddr>) {
            self.met = true;
            self.tell(|span| {
                if let Some(peer) = peer {
                    span.record("peer", tracing::field::display(peer));
                }
                tracing::info!(target: TARGET, parent: span, "connected");
            });
        }

        /// There is a socket again, or the first.
        pub(crate) fn attached(&mut self, peer: Option<SocketAddr>, after: Duration, attempts: u32) {
            if !self.met {
                return self.connected(peer);
            }
            let peer = peer.map(tracing::field::display);
            self.tell(|span| {
                tracing::info!(target: TARGET, parent: span, peer, attempts, after = ?after, "resumed");
            });
        }

        pub(crate) fn suspended(&self, cause: &ConnectionError) {
            self.tell(|span| {
                tracing::warn!(target: TARGET, parent: span, cause = text(cause), "suspended");
            });
        }

        pub(crate) fn closed(&self, cause: &ConnectionError, delivered: bool) {
            self.tell(|span| {
                tracing::info!(target: TARGET, parent: span, cause = text(cause), delivered, "closed");
            });
        }
    }

    impl Drop for ConnTrace {
        fn drop(&mut self) {
            let span = std::mem::replace(&mut self.span, Span::none());
            guarded(|| drop(span));
        }
    }

    /// What is told of a listener.
    pub(crate) struct ListenTrace {
        /// Once it is bound.
        address: Option<Address>,
        /// Turned away since the last summary: peers that had proved nothing, and clients that had
        /// proved their key.
        strangers: u64,
        clients: u64,
        /// When the next summary may come.
        next: Option<Instant>,
    }

    impl ListenTrace {
        pub(crate) fn new() -> Self {
            Self { address: None, strangers: 0, clients: 0, next: None }
        }

        pub(crate) fn bound(&mut self, address: &Address) {
            self.address = Some(address.clone());
            guarded(|| tracing::info!(target: TARGET, parent: None, %address, "listener bound"));
        }

        /// The file of a Unix socket was removed by something else; `again`: it was made again.
        #[cfg(unix)]
        pub(crate) fn file_gone(&self, again: bool) {
            let Some(address) = &self.address else { return };
            guarded(|| tracing::warn!(target: TARGET, parent: None, %address, again, "socket file removed"));
        }

        /// A stranger is gone, or had to go. Returns when it is to be summed up, if not now.
        pub(crate) fn stranger_went(&mut self, now: Instant) -> Option<Instant> {
            self.strangers += 1;
            self.sum_up(now)
        }

        /// A client that had proved its key was refused. Returns the same.
        pub(crate) fn client_refused(&mut self, now: Instant) -> Option<Instant> {
            self.clients += 1;
            self.sum_up(now)
        }

        /// Tells what there is to tell, if it may now; else when.
        pub(crate) fn sum_up(&mut self, now: Instant) -> Option<Instant> {
            if self.strangers + self.clients == 0 {
                return None;
            }
            if self.next.is_some_and(|next| now < next) {
                return self.next;
            }
            self.next = now.checked_add(PAUSE);
            self.tell_refused();
            None
        }

        fn tell_refused(&mut self) {
            let Some(address) = &self.address else { return };
            let (strangers, clients) =
                (std::mem::take(&mut self.strangers), std::mem::take(&mut self.clients));
            guarded(|| {
                tracing::warn!(target: TARGET, parent: None, %address, strangers, clients, "turned away");
            });
        }
    }

    impl Drop for ListenTrace {
        fn drop(&mut self) {
            if self.strangers + self.clients > 0 {
                self.tell_refused();
            }
            if let Some(address) = &self.address {
                guarded(|| tracing::info!(target: TARGET, parent: None, %address, "listener closed"));
            }
        }
    }
}
