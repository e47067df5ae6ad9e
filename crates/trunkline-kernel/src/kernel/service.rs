//! The thread that listens to the console while the interpreter runs: standard input, control, interrupts,
//! the link, the clock, and the consoles that wait.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver as Token, Select, Sender as Outlet, unbounded};
use trunkline::{
    AcceptError, ChannelError, CloseCode, Connection, Event, Events, Interrupts, Listener, Received,
    Receiver, RecvError, TryRecvError,
};

use super::input::Break;
use super::introspection::Introspection;
use super::panic_text::panic_text;
use super::settings::Settings;
use super::shared::{Call, Shared};
use super::wire::Wire;
use crate::layout::{CONTROL, Control, STDIN, Target};

/// How many consoles may wait for their turn.
const MOST_WAITING: usize = 64;
/// How many commands are obeyed before something else has a turn.
const TURN: usize = 64;
/// How long the end of the process may take, before it is ended by force.
const END: Duration = Duration::from_secs(2);

/// What a console is told whose place another has taken.
const TAKEN: &str = "another console came while the link was lost";
/// What a console is told that finds too many others.
const CROWDED: &str = "too many consoles wait for this kernel";
/// What a console is told when the kernel ends.
const ENDED: &str = "the kernel has ended";

/// Where consoles come from.
pub(super) enum Source {
    /// One, and no other.
    One(Box<Connection>),
    /// One after the other.
    Listener(Listener),
    /// There will be no more.
    None,
}

pub(super) struct Service {
    shared: Arc<Shared>,
    source: Source,
    called: Token<()>,
    waiting: VecDeque<Connection>,
    current: Option<Current>,
    introspection: Introspection,
    hooks: Outlet<Call>,
}

/// The console that is served.
struct Current {
    connection: Connection,
    stdin: Receiver,
    control: Receiver,
    interrupts: Interrupts,
    events: Events,
    /// Since when its link is lost.
    lost: Option<Instant>,
    /// It is being closed, since another has its place.
    given_up: bool,
}

impl Service {
    /// Starts the threads.
    pub(super) fn start(
        shared: Arc<Shared>,
        source: Source,
        called: Token<()>,
    ) -> std::io::Result<thread::JoinHandle<()>> {
        let introspection = Introspection::new(&shared.settings);
        let hooks = start_hooks(Arc::clone(&shared))?;
        let mut service =
            Self { shared, source, called, waiting: VecDeque::new(), current: None, introspection, hooks };
        thread::Builder::new().name("trunkline-kernel".to_owned()).spawn(move || {
            // A panic here is a fault of this crate. It ends the turn, and never the kernel.
            while catch_unwind(AssertUnwindSafe(|| service.turn())).unwrap_or(true) {}
            service.end();
        })
    }

    /// Does what there is to do, then waits for more. Returns `false` at the end.
    fn turn(&mut self) -> bool {
        if self.shared.serving(|state| state.closing) {
            return false;
        }
        self.accept();
        self.begin();
        self.listen();
        self.keep_time();
        self.answer_calls();
        self.wait();
        true
    }

    // -- Consoles ----------------------------------------------------------------------------------------

    fn accept(&mut self) {
        match &self.source {
            Source::None => return,
            Source::One(_) => {
                if let Source::One(connection) = std::mem::replace(&mut self.source, Source::None) {
                    self.waiting.push_back(*connection);
                }
            }
            Source::Listener(listener) => {
                for _ in 0..TURN {
                    match listener.try_accept() {
                        Ok(connection) if self.waiting.len() < MOST_WAITING => {
                            self.waiting.push_back(connection)
                        }
                        Ok(connection) => dismiss(connection, CROWDED),
                        Err(AcceptError::Empty) => break,
                        Err(error) => {
                            (self.shared.settings.log)(&format!("no more consoles can come: {error}"));
                            self.source = Source::None;
                            break;
                        }
                    }
                }
            }
        }
        // One that has left while it waited needs no turn.
        self.waiting.retain(|connection| connection.close_reason().is_none());
    }

    fn begin(&mut self) {
        if !self.shared.serving(|state| state.machine.is_free()) {
            return;
        }
        // The console before has been let go by the loop.
        if let Some(current) = self.current.take() {
            self.shared.serving(|state| state.wire = None);
            drop(current);
        }
        while let Some(connection) = self.waiting.pop_front() {
            match self.open(connection) {
                Ok(current) => {
                    self.current = Some(current);
                    return;
                }
                // It has left while it waited.
                Err(ChannelError::ConnectionLost(_)) => {}
                Err(error) => (self.shared.settings.log)(&format!("a console cannot be served: {error}")),
            }
        }
        if matches!(self.source, Source::None) {
            self.shared.serving(|state| {
                state.no_more = true;
                state.machine.wake();
            });
        }
    }

    fn open(&mut self, connection: Connection) -> Result<Current, ChannelError> {
        let wire = Wire::new(connection.clone())?;
        let current = Current {
            stdin: connection.receiver(STDIN)?,
            control: connection.receiver(CONTROL)?,
            interrupts: connection.interrupts(),
            events: connection.events(),
            lost: connection.is_suspended().then(Instant::now),
            given_up: false,
            connection,
        };
        self.introspection.serve(&current.connection)?;
        self.shared.serving(|state| {
            state.wire = Some(Arc::new(wire));
            state.machine.handle_arrival();
        });
        Ok(current)
    }

    /// Takes in what the console says.
    fn listen(&mut self) {
        let Some(current) = &mut self.current else { return };
        let now = Instant::now();
        while let Ok(event) = current.events.try_recv() {
            match event {
                Event::Suspended { .. } => current.lost = Some(now),
                Event::Resumed { .. } => current.lost = None,
                _ => {}
            }
        }
        // Commands first: one may be for a line that comes with it.
        if current.interrupts.take() {
            self.shared.serving(|state| state.machine.handle_interrupt(Target::Running, now));
        }
        let mut gone = false;
        for _ in 0..TURN {
            match current.control.try_recv() {
                Ok(message) => match Control::try_from(&*message) {
                    Ok(control) => self.shared.serving(|state| state.machine.handle_control(control, now)),
                    Err(error) => self.shared.serving(|state| state.machine.say(error.to_string())),
                },
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected(RecvError::ConnectionLost(_))) => {
                    gone = true;
                    break;
                }
                // The console wants nothing at the moment.
                Err(_) => {}
            }
        }
        if gone {
            self.shared.serving(|state| state.machine.handle_gone(now));
            return;
        }
        while self.shared.serving(|state| state.machine.takes_input()) {
            let found = match current.stdin.try_recv_any() {
                Ok(Received::Message(message)) => {
                    self.shared.serving(|state| state.machine.handle_message(message.into_bytes()));
                    continue;
                }
                Ok(Received::Gap { messages, .. }) => Break::Gap { messages },
                Ok(Received::Finished(_)) => Break::Finished,
                Ok(_) => Break::Reset,
                Err(TryRecvError::Disconnected(RecvError::Finished)) => continue,
                Err(_) => break,
            };
            self.shared.serving(|state| state.machine.handle_break(found));
        }
    }

    // -- The clock ---------------------------------------------------------------------------------------

    fn keep_time(&mut self) {
        let now = Instant::now();
        self.shared.serving(|state| state.machine.handle_timeout(now));
        if self.is_to_give_way().is_some_and(|at| at <= now)
            && let Some(current) = &mut self.current
        {
            current.given_up = true;
            dismiss(current.connection.clone(), TAKEN);
        }
    }

    /// When the console loses its place to another, since its link is lost.
    fn is_to_give_way(&self) -> Option<Instant> {
        let current =
            self.current.as_ref().filter(|current| !current.given_up && !self.waiting.is_empty())?;
        current.lost?.checked_add(self.shared.settings.place_grace)
    }

    // -- What the machine asks for -----------------------------------------------------------------------

    fn answer_calls(&mut self) {
        for call in self.shared.serving(|state| {
            self.shared.flush(state);
            std::mem::take(&mut state.calls)
        }) {
            match call {
                Call::Waiting(waiting, read) => {
                    if let Some(current) = &self.current {
                        #[expect(clippy::cast_possible_truncation, reason = "the count is modulo 2³²")]
                        current.stdin.set_waiting(waiting, read as u32);
                    }
                }
                Call::End => end_process(&self.shared.settings),
                // The thread of the hooks ends after this one.
                call => drop(self.hooks.send(call)),
            }
        }
    }

    fn wait(&self) {
        let mut tokens = vec![self.called.clone()];
        if let Source::Listener(listener) = &self.source {
            tokens.push(listener.ready());
        }
        let mut deadline = self.is_to_give_way();
        self.shared.serving(|state| {
            deadline = [deadline, state.machine.poll_timeout()].into_iter().flatten().min();
            if let Some(current) = &self.current
                && !state.machine.is_gone()
            {
                tokens.extend([current.control.ready(), current.interrupts.ready()]);
                if !self.waiting.is_empty() || current.lost.is_some() {
                    tokens.push(current.events.ready());
                }
                state.listens = state.machine.takes_input();
                if state.listens {
                    tokens.push(current.stdin.ready());
                }
            } else {
                state.listens = false;
            }
            if let Some(output) = Shared::held_up(state) {
                tokens.push(output.sender().ready());
            }
        });
        let mut select = Select::new();
        for token in &tokens {
            select.recv(token);
        }
        let fired = match deadline {
            Some(deadline) => select.select_deadline(deadline).ok(),
            None => Some(select.select()),
        };
        if let Some(fired) = fired {
            let token = &tokens[fired.index()];
            // A token, or an end: which, the next turn sees.
            let _ = fired.recv(token);
        }
    }

    fn end(&mut self) {
        self.shared.serving(|state| state.wire = None);
        for connection in self.waiting.drain(..) {
            dismiss(connection, ENDED);
        }
        if let Some(current) = self.current.take() {
            drop(current.connection.close(CloseCode::NORMAL, ENDED));
        }
    }
}

/// Closes a connection, which may take a while.
fn dismiss(connection: Connection, why: &'static str) {
    let close = move || drop(connection.close(CloseCode::SHUTTING_DOWN, why));
    // Without a thread it is closed without a word, when the handle is dropped.
    drop(thread::Builder::new().name("trunkline-dismiss".to_owned()).spawn(close));
}

/// Ends the process, of which nothing else can be had.
fn end_process(settings: &Settings) {
    (settings.log)("the console is gone and the statement does not stop: the kernel ends");
    // What is to be done at the end may wait for the statement, which does not end.
    drop(thread::Builder::new().name("trunkline-end".to_owned()).spawn(|| process::exit(3)));
    thread::sleep(END);
    process::abort();
}

/// The thread that calls the application's hooks, which may block or panic.
fn start_hooks(shared: Arc<Shared>) -> std::io::Result<Outlet<Call>> {
    let (outlet, calls) = unbounded::<Call>();
    thread::Builder::new().name("trunkline-hooks".to_owned()).spawn(move || {
        for call in calls {
            let hooks = &shared.settings.hooks;
            let obeyed = catch_unwind(AssertUnwindSafe(|| {
                match &call {
                    // One that came too late is for nothing.
                    Call::Interrupt if shared.stopping() => hooks.interrupt(),
                    Call::Insist if shared.stopping() => hooks.insist(),
                    Call::Command(Control::Resize { columns, rows }) => hooks.resize(*columns, *rows),
                    Call::Command(Control::Signal(signal)) => return hooks.signal(signal),
                    _ => {}
                }
                Ok(())
            }));
            let why = match obeyed {
                Ok(Ok(())) => continue,
                Ok(Err(why)) => why,
                Err(panic) => format!("the kernel panicked over a command: {}", panic_text(&*panic)),
            };
            shared.with(|state| state.machine.say(why));
        }
    })?;
    Ok(outlet)
}
