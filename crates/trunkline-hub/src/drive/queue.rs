//! What wakes the hub's thread: tokens of handles that may be ready, each once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::task::{Wake, Waker};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Something that may be ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token {
    /// Another thread wants the hub to end, or to know something.
    Asked,
    Accept,
    Upstream(Upstream),
    /// A client: its place, its number, and what of it.
    Client(usize, u64, Part),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Upstream {
    Log,
    Answers,
    Roster,
    Events,
    /// There is room on a channel.
    Room(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Events,
    /// There is room on one of its channels.
    Room,
    Input,
    Roster,
    Private,
    /// Shared channels, and those on which clients do not send.
    Others,
}

#[derive(Default)]
struct State {
    list: VecDeque<(Token, Option<Arc<Bell>>)>,
    sleeps: bool,
}

/// The tokens, and the thread that waits for them.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    come: Condvar,
}

/// Rings for one token. It is in the queue once, however often it rings.
pub(super) struct Bell {
    token: Token,
    queue: Arc<Queue>,
    queued: AtomicBool,
}

impl Queue {
    /// A waker that puts this token on the queue.
    pub(super) fn bell(self: &Arc<Self>, token: Token) -> Waker {
        Arc::new(Bell { token, queue: Arc::clone(self), queued: AtomicBool::new(false) }).into()
    }

    /// Puts a token on the queue.
    pub(super) fn put(&self, token: Token) {
        self.push(token, None);
    }

    fn push(&self, token: Token, bell: Option<Arc<Bell>>) {
        let mut state = self.state.lock();
        state.list.push_back((token, bell));
        let sleeps = std::mem::take(&mut state.sleeps);
        drop(state);
        if sleeps {
            self.come.notify_one();
        }
    }

    /// Moves all tokens to a list that is empty. If there are none and `until` lies ahead, waits for one, `None` as long as it
    /// takes.
    pub(super) fn take(&self, tokens: &mut Vec<Token>, until: Option<Instant>) {
        let mut state = self.state.lock();
        while state.list.is_empty() {
            state.sleeps = true;
            match until {
                None => self.come.wait(&mut state),
                Some(until) => {
                    if Instant::now() >= until || self.come.wait_until(&mut state, until).timed_out() {
                        break;
                    }
                }
            }
        }
        state.sleeps = false;
        for (token, bell) in state.list.drain(..) {
            if let Some(bell) = bell {
                // From now on it rings again; what it tells of is looked at after this.
                bell.queued.swap(false, AcqRel);
            }
            tokens.push(token);
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, AcqRel) {
            let queue = Arc::clone(&self.queue);
            let token = self.token;
            queue.push(token, Some(self));
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Arc::clone(self).wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_in_the_queue_once_and_again_after_it_was_taken() {
        let queue = Arc::<Queue>::default();
        let (one, two) = (queue.bell(Token::Accept), queue.bell(Token::Upstream(Upstream::Log)));
        let mut tokens = Vec::new();
        for _ in 0..2 {
            for _ in 0..3 {
                one.wake_by_ref();
                two.wake_by_ref();
            }
            queue.take(&mut tokens, None);
            assert_eq!(tokens, [Token::Accept, Token::Upstream(Upstream::Log)]);
            tokens.clear();
        }
        queue.take(&mut tokens, Some(Instant::now()));
        assert_eq!(tokens, []);
    }
}
