//! A client's way to a server: the addresses that its name stands for, tried side by side, and
//! again where that can help.
//!
//! Addresses are tried in the order of happy eyeballs (RFC 8305): the families take turns, and each
//! begins a little after the one before, or as soon as that has failed. The first server that
//! proves its key is the one; only then is anything asked for.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::client_handshake::Failure;
use super::conn::{Home, Refusal};
use super::env::{Env, Reasons};
use super::place::Place;
use super::reply::Reply;
use crate::address::{Address, Target};
use crate::error::{ConnectError, HandshakeError};

/// How long an address has before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);
/// So many rounds end in a server that hangs up before that is the answer: one that is full does it
/// to a stranger by chance, and something else than a server does it every time.
const HANG_UPS: u32 = 6;

/// What an attempt is for.
pub(crate) enum Goal {
    /// A new connection, for which a thread or a task waits.
    New(Reply),
    /// A connection that is there and has no socket.
    Conn(Place),
}

/// What an attempt wants after a pass.
pub(crate) enum Step {
    Wait,
    /// The name is to be looked up, by a thread that may block.
    LookUp(Address),
    /// A handshake is to be begun at this address, for so long at most.
    Try {
        target: Target,
        deadline: Instant,
    },
    /// There is no connection.
    Failed(Refusal),
}

enum Phase {
    /// The name is being looked up.
    LookingUp,
    /// Addresses are being tried; the next one at `next`.
    Trying { next: Instant },
    /// A server has proved its key, and is asked.
    Asking,
    /// A new round begins then.
    PausingUntil(Instant),
}

/// Whether another round may do better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hope {
    None,
    /// A server hung up in the middle of a handshake, or fell silent after it had proved its key.
    HangUp,
    /// A server said that it has no room now.
    Busy,
    /// So many wait at a Unix socket that the system takes no more.
    Full,
}

/// The longest pause before a client tries a full Unix socket again: the listener may take all that wait at
/// any moment, and trying costs one call.
const FULL: Duration = Duration::from_millis(100);

pub(crate) struct Dial {
    pub(crate) home: Home,
    pub(crate) goal: Goal,
    phase: Phase,
    /// Addresses that are still to be tried in this round.
    left: VecDeque<Target>,
    /// Handshakes under way.
    racing: Vec<Place>,
    /// When all of it is over.
    deadline: Instant,
    backoff: Backoff,
    /// The error that says most.
    error: Option<ConnectError>,
    /// What ended in this round for a reason that may be gone in the next one.
    hope: Hope,
    hang_ups: u32,
    /// Nothing listens at any address, and all of them are on this machine.
    nothing_listens: bool,
}

impl Dial {
    pub(crate) fn new(home: Home, goal: Goal, now: Instant) -> Self {
        Self {
            deadline: now + home.options.connect_timeout,
            home,
            goal,
            phase: Phase::PausingUntil(now),
            left: VecDeque::new(),
            racing: Vec::new(),
            backoff: Backoff::default(),
            error: None,
            hope: Hope::None,
            hang_ups: 0,
            nothing_listens: false,
        }
    }

    /// What is to be done next. To be called until it wants nothing.
    pub(crate) fn serve(&mut self, reasons: Reasons, place: Place, env: &mut Env) -> Step {
        let now = env.now;
        if reasons.due && self.deadline <= now {
            let timed_out = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return self.fail(ConnectError::Io(timed_out));
        }
        let step = match self.phase {
            Phase::PausingUntil(at) if at <= now => self.begin(now),
            Phase::Trying { next } if next <= now || self.racing.is_empty() => self.try_next(now),
            _ => Step::Wait,
        };
        let next = match self.phase {
            Phase::PausingUntil(at) => at.min(self.deadline),
            Phase::Trying { next } if !self.left.is_empty() => next.min(self.deadline),
            _ => self.deadline,
        };
        env.timers.set(place, Some(next));
        step
    }

    /// A round begins.
    fn begin(&mut self, now: Instant) -> Step {
        self.hope = Hope::None;
        match self.home.address.known() {
            Some(targets) => {
                self.handle_targets(targets, now);
                self.try_next(now)
            }
            None => {
                self.phase = Phase::LookingUp;
                Step::LookUp(self.home.address.clone())
            }
        }
    }

    /// The name was looked up.
    pub(crate) fn handle_resolved(&mut self, found: std::io::Result<Vec<SocketAddr>>, now: Instant) {
        match found {
            Ok(addresses) => {
                return self.handle_targets(addresses.into_iter().map(Target::Tcp).collect(), now);
            }
            Err(error) => {
                self.error = Some(error.into());
                // What cannot be looked up now may be later, and a connection has time.
                self.nothing_listens = false;
            }
        }
        self.phase = Phase::Trying { next: now };
    }

    fn handle_targets(&mut self, targets: Vec<Target>, now: Instant) {
        self.nothing_listens = !targets.is_empty() && targets.iter().all(Target::is_here);
        self.left = in_turns(targets);
        self.phase = Phase::Trying { next: now };
    }

    fn try_next(&mut self, now: Instant) -> Step {
        match self.left.pop_front() {
            Some(target) => {
                self.phase = Phase::Trying { next: now + STAGGER };
                Step::Try { target, deadline: self.deadline }
            }
            None if self.racing.is_empty() => self.round_over(now),
            None => Step::Wait,
        }
    }

    /// All addresses have failed.
    fn round_over(&mut self, now: Instant) -> Step {
        let pause = self.backoff.pause();
        let at = now + if self.hope == Hope::Full { pause.min(FULL) } else { pause };
        let again = match self.hope {
            Hope::None => false,
            Hope::HangUp => {
                self.hang_ups += 1;
                self.hang_ups < HANG_UPS
            }
            Hope::Busy | Hope::Full => true,
        };
        // A connection that is there has pauses of its own.
        if again && at < self.deadline && matches!(self.goal, Goal::New(_)) {
            self.phase = Phase::PausingUntil(at);
            return Step::Wait;
        }
        let error = self.error.take().unwrap_or_else(|| ConnectError::Io(no_address()));
        self.fail(error)
    }

    fn fail(&mut self, error: ConnectError) -> Step {
        // Of a time that ran out, what happened before says more.
        let error = match (self.error.take(), error) {
            (Some(before @ ConnectError::Handshake(_)), ConnectError::Io(_)) => before,
            (_, error) => error,
        };
        Step::Failed(Refusal { error, verified: false, nothing_listens: self.nothing_listens })
    }

    /// A handshake has begun.
    pub(crate) fn handle_begun(&mut self, place: Place) {
        self.racing.push(place);
    }

    /// A server has proved its key. `Some`: it is the one, and these handshakes are to be dropped;
    /// `None`: another was faster.
    pub(crate) fn handle_proved(&mut self, place: Place) -> Option<Vec<Place>> {
        if !self.racing.contains(&place) {
            return None;
        }
        let others = std::mem::take(&mut self.racing);
        self.racing.push(place);
        self.phase = Phase::Asking;
        Some(others.into_iter().filter(|other| *other != place).collect())
    }

    /// A handshake came to nothing, or could not be begun. `Some`: so does the attempt.
    pub(crate) fn handle_failed(
        &mut self,
        place: Option<Place>,
        failure: Failure,
        now: Instant,
    ) -> Option<Refusal> {
        self.racing.retain(|racing| Some(*racing) != place);
        let proved = matches!(self.phase, Phase::Asking);
        if proved {
            // The other addresses of this round were given up for this one.
            self.phase = Phase::Trying { next: now };
        }
        match failure {
            Failure::Unreachable(error) => {
                match error.kind() {
                    ErrorKind::ConnectionRefused => {
                        self.hope = self.hope.max(hope_of_refused(&self.home.address))
                    }
                    // There is no file of that name.
                    ErrorKind::NotFound => {}
                    ErrorKind::WouldBlock => {
                        self.nothing_listens = false;
                        self.hope = Hope::Full;
                    }
                    _ => self.nothing_listens = false,
                }
                // A server that speaks says more than one that is not there.
                if !matches!(self.error, Some(ConnectError::Handshake(_))) {
                    self.error = Some(error.into());
                }
                None
            }
            Failure::Handshake { error, verified } => {
                self.nothing_listens = false;
                // The server's word is final: it is the right one. But it may have room later.
                if verified && error != HandshakeError::TooBusy {
                    let error = error.into();
                    return Some(Refusal { error, verified, nothing_listens: false });
                }
                let hope = match error {
                    HandshakeError::TooBusy => Hope::Busy,
                    HandshakeError::Disconnected => Hope::HangUp,
                    HandshakeError::TimedOut if proved => Hope::HangUp,
                    _ => Hope::None,
                };
                self.hope = self.hope.max(hope);
                self.error = Some(error.into());
                None
            }
        }
    }

    /// All handshakes under way, for one that is given up.
    pub(crate) fn take_racing(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.racing)
    }
}

/// Some systems refuse where so many wait at a Unix socket that they take no more, as they do where nothing
/// listens.
fn hope_of_refused(address: &Address) -> Hope {
    let full = !cfg!(any(target_os = "linux", target_os = "android")) && address.is_unix();
    if full { Hope::HangUp } else { Hope::None }
}

/// The families in turns, that of the first address first.
fn in_turns(targets: Vec<Target>) -> VecDeque<Target> {
    let is_v6 = |target: &Target| matches!(target, Target::Tcp(address) if address.is_ipv6());
    let first_is_v6 = targets.first().is_some_and(is_v6);
    let mut turns = VecDeque::with_capacity(targets.len());
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        targets.into_iter().partition(|target| is_v6(target) == first_is_v6);
    while !first.is_empty() || !second.is_empty() {
        turns.extend(first.pop_front());
        turns.extend(second.pop_front());
    }
    turns
}

fn no_address() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidInput, "the name stands for no address")
}

#[cfg(all(test, not(trunkline_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_families_of_a_name_take_turns() {
        let address = |text: &str| Target::Tcp(text.parse().unwrap());
        let all = ["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"].map(address);
        let expected = ["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"].map(address);
        assert_eq!(in_turns(all.into()), expected);
        assert!(in_turns(Vec::new()).is_empty());
    }
}
