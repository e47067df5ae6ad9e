//! `trunkline host`.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use trunkline::{Access, BindError, ChannelSet, CloseCode, Config, Connection, Key, Listener};
use trunkline_host::{
    Ending, Host, Program, Recording, Screen, ServeError, Served, Setup, Size, SizePolicy, Stopper,
};
use trunkline_hub::{History, Hub, Running, Snapshot};
use trunkline_kernel::layout::{CONTROL, ROSTER, STATUS, STDERR, STDIN, STDOUT};

use crate::arguments;
use crate::commands::Commands;
use crate::failure::{CANNOT_CREATE, Failure, OS_ERROR, Outcome, UNAVAILABLE, USAGE};
use crate::forward::server;
use crate::reach::names::{Claim, Entry};
use crate::reach::{GRACE, HEARTBEAT, INSIDE, read_key};

/// The least. The program waits for the owner of its input when that lags by half of what is kept, and a hub reads up to
/// two of the largest messages before it looks.
const LEAST_HISTORY: usize = 512 * 1024;
/// How much output of pipes is kept for those that join.
const HISTORY: usize = 4 << 20;
/// A command or a note on the roster is short; what is typed is taken in pieces of this size.
const LARGEST: u32 = 64 * 1024;
/// How long a slow client may take for the last output, once the program has ended. One that is lost for good holds the
/// host up for so long.
const LAST_OUTPUT: Duration = Duration::from_secs(60);
/// How long a client of a Unix socket is kept whose link is lost.
const LOCAL_GRACE: Duration = Duration::from_secs(10);
/// How long a host whose program has ended waits for the command that has started it. A command that is stopped does not
/// hold it for longer.
const STARTER: Duration = Duration::from_secs(10);
/// What 127 is to shells: the program was not found.
const NOT_STARTED: u8 = 127;

pub fn run(arguments: arguments::Host) -> Outcome {
    if arguments.background {
        // The end of that terminal is not the end of this.
        rustix::process::setsid().map_err(std::io::Error::from)?;
    }
    let mut claim = arguments.name.as_ref().map(Claim::new).transpose()?;
    let key_file = match (&arguments.key_file, &mut claim) {
        (Some(file), _) => file.clone(),
        (None, Some(claim)) => claim.make_key()?,
        (None, None) => {
            return Err(Failure::new(
                USAGE,
                "which key? `trunkline key FILE` makes one for --key-file FILE; with --name, a host makes one itself",
            ));
        }
    };
    let key_file = std::path::absolute(key_file)?;
    let listener = listen(&arguments, &key_file, claim.as_ref())?;
    let running = &arguments.running;
    let terminal = running.pty || !running.pipes && std::io::stdin().is_terminal();
    let program = start(running, terminal, &listener)?;
    let mut host = Host::new(program);
    if let Some(file) = &running.record {
        let title = running.program[0].to_string_lossy();
        let recording = Recording::create(file, first_size(running), &title);
        host = host.record(
            recording.map_err(|error| Failure::new(CANNOT_CREATE, format!("{}: {error}", file.display())))?,
        );
    }
    end_with_signals(host.stopper())?;
    // Both ends are in this process, so the key is seen by no other.
    let (connection, upstream) = Connection::pair(Config::new(Key::generate()))
        .map_err(|error| Failure::new(OS_ERROR, format!("cannot connect the program to its hub: {error}")))?;
    let hub = serve(running, terminal, upstream, listener)?;
    let address = hub.listener().address().to_string();
    if let Some(claim) = &mut claim {
        let program: Vec<_> = running.program.iter().map(|word| word.to_string_lossy()).collect();
        let program = program.join(" ");
        claim.announce(&Entry { address: address.clone(), key_file, pid: process::id(), program })?;
    }
    // The reader of this line may be gone, and the program is served all the same.
    let _ = writeln!(std::io::stdout(), "listening on {address}").and_then(|()| std::io::stdout().flush());

    let served = match host.serve(&connection) {
        Ok(served) => Ok(served),
        Err(ServeError::Lost { ending, .. }) => Err(ending),
        Err(error) => return Err(Failure::new(OS_ERROR, error)),
    };
    let ending = served.as_ref().map_or_else(|ending| *ending, Served::ending);
    if !running.linger_after_exit.is_zero() {
        thread::sleep(running.linger_after_exit);
    }
    if arguments.held {
        await_starter();
    }
    // No new client finds it by its name, and the next host of that name has the place: clients that are slow may still have
    // this one for a while. At a Unix socket none comes back.
    if address.contains('/') {
        hub.listener().close();
    }
    drop(claim);
    // The hub gives its clients what they have not received yet, and then ends.
    let _ = connection.close(CloseCode::NORMAL, &ending.to_string());
    hub.wait();
    drop(served);
    // Its connections are still sending.
    trunkline::shutdown(LAST_OUTPUT);
    Ok(code(ending))
}

/// Waits until the command that has started this host has attached and ended, or has detached.
fn await_starter() {
    let until = Instant::now() + STARTER;
    let stdin = std::io::stdin();
    loop {
        let rest = until.saturating_duration_since(Instant::now());
        let Ok(rest) = Timespec::try_from(rest) else { return };
        // Nothing is written to it; its end is told unasked.
        match poll(&mut [PollFd::new(&stdin, PollFlags::empty())], Some(&rest)) {
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

fn listen(arguments: &arguments::Host, key_file: &Path, claim: Option<&Claim>) -> Result<Listener, Failure> {
    let access = Access::full().named(name_of(key_file));
    let mut config = Config::with_access(read_key(key_file)?, access)
        // A person waits for the answer to each key.
        .interactive()
        .max_message(LARGEST)
        .linger(LAST_OUTPUT)
        // As long as the other side tries: a person goes home, and the link is lost for a while.
        .resume_grace(GRACE)
        .heartbeat(HEARTBEAT.0, HEARTBEAT.1)
        .allow_plaintext(arguments.allow_plaintext);
    if let Some(file) = &arguments.watch_key_file {
        let access = Access::read_only().receive(ChannelSet::ALL).named(name_of(file));
        config = config.with_key(read_key(file)?, access);
    }
    let path = match (&arguments.unix, &arguments.listen, claim) {
        (Some(path), ..) => Some(std::path::absolute(path)?),
        (None, None, Some(claim)) => Some(claim.socket()),
        _ => None,
    };
    if let Some(path) = path {
        // Within a machine only the death of a process cuts a link, and that one does not come back.
        // The error names the path.
        return Listener::bind_unix(&path, config.resume_grace(LOCAL_GRACE))
            .map_err(|error| Failure::new(UNAVAILABLE, error));
    }
    let address = arguments.listen.as_deref().unwrap_or("127.0.0.1:0");
    Listener::bind(address, config).map_err(|error| {
        let kind = match &error {
            BindError::Io(source) => Some(source.kind()),
            _ => None,
        };
        let advice = match kind {
            Some(ErrorKind::AddrInUse) => "; choose another port, or 0 for a free one",
            Some(ErrorKind::AddrNotAvailable) => {
                "; it must be an address of this machine, or 0.0.0.0 for all"
            }
            Some(ErrorKind::InvalidInput) => "; write HOST:PORT, as 127.0.0.1:4000",
            Some(ErrorKind::PermissionDenied) => "; choose a port above 1023",
            _ => "",
        };
        Failure::new(UNAVAILABLE, format!("{address}: {error}{advice}"))
    })
}

/// What clients with a key are called: the name of its file.
fn name_of(key_file: &Path) -> String {
    let name = key_file.file_stem().unwrap_or_default().to_string_lossy();
    name.chars().filter(|letter| !letter.is_control()).take(32).collect()
}

fn first_size(arguments: &arguments::Running) -> Size {
    if let SizePolicy::Fixed(size) = arguments.size { size } else { Size::default() }
}

fn start(arguments: &arguments::Running, terminal: bool, listener: &Listener) -> Result<Program, Failure> {
    let mut command = process::Command::new(&arguments.program[0]);
    command
        .args(&arguments.program[1..])
        .env_remove("TRUNKLINE_KEY_FILE")
        .env_remove("TRUNKLINE_ADDR")
        .env(INSIDE, listener.address().to_string());
    let setup =
        if terminal { Setup::terminal(command, first_size(arguments)) } else { Setup::pipes(command) };
    // The first process of a container gets the orphans of all others.
    let setup = setup.reap_orphans(process::id() == 1);
    setup.start().map_err(|error| Failure::new(NOT_STARTED, error))
}

fn serve(
    arguments: &arguments::Running,
    terminal: bool,
    upstream: Connection,
    listener: Listener,
) -> Result<Running, Failure> {
    let hub = Hub::new(upstream)
        .latest(STATUS)
        .input(STDIN)
        .judged_by(CONTROL, Commands::new(arguments.size))
        .roster(ROSTER)
        .urgent(CONTROL)
        // Closing a pipe is the end of the input. On a terminal the owner only leaves.
        .pass_end_of_input(!terminal)
        // The owner of a program on pipes gets every byte; a terminal that is slow gets the newest screen.
        .wait_for_owner(!terminal)
        .linger(LAST_OUTPUT);
    let hub = if terminal {
        hub.broadcast(STDOUT, History::snapshot(|_| Box::new(Shown(Screen::new(Size::default())))))
            .broadcast(STDERR, History::none())
    } else {
        hub.broadcast(
            STDOUT | STDERR,
            History::bytes(arguments.history.unwrap_or(HISTORY).max(LEAST_HISTORY)),
        )
    };
    let hub = if arguments.allow_forward.is_empty() {
        hub
    } else {
        hub.aside(server::channels(), server::forwarder(arguments.allow_forward.clone()))
    };
    hub.serve(listener).map_err(|error| Failure::new(OS_ERROR, error))
}

/// What a joiner is shown of a terminal.
struct Shown(Screen);

impl Snapshot for Shown {
    fn feed(&mut self, message: &[u8]) {
        self.0.follow(message);
    }

    fn snapshot(&mut self) -> Bytes {
        self.0.snapshot()
    }
}

/// A signal that asks this process to end asks the program.
fn end_with_signals(stopper: Stopper) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::Builder::new().name("trunkline-signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            stopper.stop();
        }
    })?;
    Ok(())
}

fn code(ending: Ending) -> u8 {
    u8::try_from(ending.code() & 0xff).unwrap_or(u8::MAX)
}
