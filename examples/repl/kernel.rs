//! The kernel: the interpreter and the threads that answer while it is busy.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, Select, unbounded};
use trunkline::{
    AcceptError, BindError, ChannelError, CloseCode, Config, ConfigError, Connection, Event, EventError,
    Events, Key, KeyError, Listener, Priority, Receiver, RecvError, Sender,
};

use crate::Failure;
use crate::interpreter::Interpreter;
use crate::interrupts::Interrupts;
use crate::layout::{CONTROL, Control, INTROSPECTION};
use crate::names::Names;
use crate::session::Session;

/// How long a console whose link is lost keeps its place while another waits for it.
const MOMENT: Duration = Duration::from_secs(3);

/// What a console is told whose place another has taken.
const TAKEN: &str = "another console came while the link was lost";

/// Where a kernel on its own is to be found, and by whom.
pub struct Place {
    pub listen: String,
    pub key_file: PathBuf,
    /// How long the session of a console whose link is lost is kept.
    pub grace: Duration,
    pub allow_plaintext: bool,
}

/// Serves one console after another, with one interpreter: who comes next finds the variables of
/// who was there before. A console that comes while another is served waits for its turn.
pub fn listen(place: &Place) -> Result<(), Failure> {
    let Place { listen, key_file, grace, allow_plaintext } = place;
    let (key, fresh) = match Key::from_file(key_file) {
        Ok(key) => (key, false),
        Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            (Key::generate(), true)
        }
        Err(error) => return Err(crate::about_key(&error, key_file)),
    };
    let config = Config::new(key.clone()).resume_grace(*grace).allow_plaintext(*allow_plaintext);
    let listener = Listener::bind(listen, config).map_err(|error| match error {
        BindError::Config(ConfigError::Plaintext(address)) => format!(
            "--listen {listen}: {address} can be reached from other machines, and nothing on the way is encrypted; listen \
             on 127.0.0.1 and use a tunnel (ssh -L), or add --allow-plaintext if the network is trusted"
        ),
        error => format!("--listen {listen}: {error}"),
    })?;
    // Only now, so that a kernel that cannot listen leaves no file behind.
    if fresh {
        key.write_new_file(key_file)?;
    }
    announce(&listener)?;

    let (arrivals, consoles) = unbounded();
    thread::spawn(move || {
        for arrival in listener.incoming() {
            let over = arrival.is_err();
            if arrivals.send(arrival).is_err() || over {
                return;
            }
        }
    });
    let names = Names::default();
    let mut interpreter = Interpreter::new(names.clone());
    for console in &consoles {
        let console = console?;
        let (watched, others) = (console.clone(), consoles.clone());
        thread::spawn(move || watch(&watched, &others));
        // A console that is gone again by now has no channels; the next may have.
        if let Err(error) = serve(console, &mut interpreter, &names) {
            eprintln!("repl kernel: {error}");
        }
    }
    Ok(())
}

/// Where those stand who wait to be served.
type Queue = Inbox<Result<Connection, AcceptError>>;

/// Ends a console whose link is lost when another waits for its place: its process may be dead.
fn watch(console: &Connection, others: &Queue) {
    let events = console.events();
    let mut lost = console.is_suspended();
    loop {
        let event = if lost && waits_before(&events, others) {
            match events.recv_timeout(MOMENT) {
                Err(EventError::Empty) => {
                    // Whether the console hears of it makes no difference here.
                    drop(console.close(CloseCode::SHUTTING_DOWN, TAKEN));
                    return;
                }
                event => event.ok(),
            }
        } else {
            events.recv().ok()
        };
        match event {
            Some(Event::Suspended { .. }) => lost = true,
            Some(Event::Resumed { .. }) => lost = false,
            Some(_) => {}
            None => return,
        }
    }
}

/// Waits for another console or an event; whether it was a console.
fn waits_before(events: &Events, others: &Queue) -> bool {
    let happened = events.ready();
    let mut select = Select::new();
    // What is ready is not taken: the console is for the loop that serves.
    select.recv(others);
    let event = select.recv(&happened);
    select.ready() != event
}

/// Serves the console that has started this process, and ends with it. The key comes on stdin,
/// which nobody else can read: a command line or a file could be seen by others.
pub fn serve_parent() -> Result<(), Failure> {
    let mut text = String::new();
    io::stdin().lock().read_line(&mut text)?;
    let key: Key = text.parse()?;
    // The two end together, so there is nothing to come back to.
    let listener = Listener::bind("127.0.0.1:0", Config::new(key).resume_grace(Duration::ZERO))?;
    announce(&listener)?;

    // A parent that dies before it connects would leave this process waiting for ever.
    let connected = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&connected);
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        if !seen.load(Ordering::SeqCst) {
            std::process::exit(1);
        }
    });
    let console = listener.accept()?;
    connected.store(true, Ordering::SeqCst);
    drop(listener);

    let names = Names::default();
    serve(console, &mut Interpreter::new(names.clone()), &names)?;
    Ok(())
}

/// The line that says where to connect to.
fn announce(listener: &Listener) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {}", listener.local_addr())?;
    stdout.flush()
}

/// Serves a console until it closes the connection.
fn serve(console: Connection, interpreter: &mut Interpreter, names: &Names) -> Result<(), ChannelError> {
    let session = Rc::new(Session::new(&console)?);

    let control = console.receiver(CONTROL)?;
    let interrupts = Arc::clone(&session.interrupts);
    let (gone, until_gone) = mpsc::channel::<()>();
    thread::spawn(move || {
        obey(&control, &interrupts);
        drop(gone);
    });

    let requests = console.receiver(INTROSPECTION)?;
    let answers = console.sender_with(INTROSPECTION, Priority::Urgent)?;
    let names = names.clone();
    thread::spawn(move || answer(&requests, &answers, &names));

    interpreter.serve(&session);
    // Everything was run, and the console reads the end of the output. It closes the connection
    // when it has shown everything; closing it here would set it a time limit.
    session.finish();
    let _ = until_gone.recv();
    Ok(())
}

/// The control thread: it obeys at once, whatever the interpreter does.
fn obey(control: &Receiver, interrupts: &Interrupts) {
    loop {
        match control.recv() {
            Ok(message) => match String::from_utf8_lossy(&message).parse() {
                Ok(Control::Interrupt(line)) => interrupts.interrupt(line),
                Err(why) => eprintln!("repl kernel: {why}"),
            },
            Err(RecvError::ConnectionLost(_)) => return interrupts.abandon(),
            // The console wants nothing at the moment.
            Err(_) => {}
        }
    }
}

/// The introspection thread: it answers at once, whatever the interpreter does.
fn answer(requests: &Receiver, answers: &Sender, names: &Names) {
    loop {
        match requests.recv() {
            Ok(request) => {
                if answers.send(names.answer(&String::from_utf8_lossy(&request))).is_err() {
                    return;
                }
            }
            Err(RecvError::ConnectionLost(_)) => return,
            Err(_) => {}
        }
    }
}
