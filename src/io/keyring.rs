//! The keys that a listener accepts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::access::Access;
use crate::key::Key;
use crate::proto::handshake::server;

/// One key of a listener. A session belongs to it, not to its place in a list.
#[derive(Clone)]
pub(crate) struct Credential(Arc<Entry>);

struct Entry {
    key: Key,
    id: [u8; 8],
    access: Access,
    /// Connections of its holders that are not over. Changed only by the thread that runs the loop, and
    /// handing that role on orders the changes, so no ordering of its own is needed.
    connections: AtomicUsize,
}

/// The key of a connection, which counts until this is dropped.
pub(crate) struct Tenant(Credential);

impl Credential {
    fn new(key: Key, access: Access) -> Self {
        Self(Arc::new(Entry { id: key.id(), key, access, connections: AtomicUsize::new(0) }))
    }

    pub(crate) fn access(&self) -> &Access {
        &self.0.access
    }

    /// Returns `true` if its holders have as many connections as they may.
    pub(crate) fn is_used_up(&self) -> bool {
        let most = self.access().quotas.connections;
        most.is_some_and(|most| self.0.connections.load(Ordering::Relaxed) >= most)
    }

    /// Counts one connection more.
    pub(crate) fn admit(&self) -> Tenant {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
        Tenant(self.clone())
    }
}

impl Tenant {
    pub(crate) fn credential(&self) -> &Credential {
        &self.0
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.0.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PartialEq for Credential {
    /// The same key as it was given, not one that is equal.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl server::Credential for Credential {
    fn key(&self) -> &Key {
        &self.0.key
    }
}

#[derive(Default)]
pub(crate) struct Keyring(Vec<Credential>);

impl Keyring {
    pub(crate) fn new(keys: impl IntoIterator<Item = (Key, Access)>) -> Self {
        Self(keys.into_iter().map(|(key, access)| Credential::new(key, access)).collect())
    }

    /// The key that a client names.
    pub(crate) fn find(&self, id: &[u8; 8]) -> Option<Credential> {
        self.0.iter().find(|credential| credential.0.id == *id).cloned()
    }

    pub(crate) fn contains(&self, credential: &Credential) -> bool {
        self.0.contains(credential)
    }

    /// Adds a key; the one that it replaces, if the same was there.
    pub(crate) fn add(&mut self, key: Key, access: Access) -> Option<Credential> {
        let replaced = self.remove(&key);
        self.0.push(Credential::new(key, access));
        replaced
    }

    /// Removes a key.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Credential> {
        let id = key.id();
        let at = self.0.iter().position(|credential| credential.0.id == id)?;
        Some(self.0.remove(at))
    }
}
