//! A connection of a listener on its way to the application.

use std::sync::Arc;

use super::shared::Shared;
use crate::error::CloseCode;
use crate::proto::session::{CloseWish, Farewell};

/// A connection that was not accepted yet. Should it never be, because the listener is gone, the
/// peer is told.
pub(crate) struct Accepted(Option<Arc<Shared>>);

impl Accepted {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(Some(shared))
    }

    pub(crate) fn accept(mut self) -> Option<Arc<Shared>> {
        self.0.take()
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            let reason = "nothing accepts connections here any more".to_owned();
            let farewell = Farewell { code: CloseCode::SHUTTING_DOWN, reason };
            shared.send.close(CloseWish::Behind { farewell, linger: shared.facts.linger });
        }
    }
}
