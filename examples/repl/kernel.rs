//! The kernel: the interpreter and the threads that answer while it is busy.

use std::io::{self, BufRead, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use trunkline::{ChannelError, Config, Connection, Key, Listener, Priority, Receiver, RecvError, Sender};

use crate::Failure;
use crate::interpreter::Interpreter;
use crate::interrupts::Interrupts;
use crate::layout::{CONTROL, Control, INTROSPECTION};
use crate::names::Names;
use crate::session::Session;

/// Serves one console after another, with one interpreter: who comes next finds the variables of
/// who was there before. A console that comes while another is served waits for its turn.
pub fn listen(address: &str, key_file: &Path) -> Result<(), Failure> {
    let key = if key_file.exists() {
        Key::from_file(key_file)?
    } else {
        let key = Key::generate();
        key.write_new_file(key_file)?;
        key
    };
    let listener = Listener::bind(address, config(key))?;
    announce(&listener)?;
    let names = Names::default();
    let mut interpreter = Interpreter::new(names.clone());
    for console in listener.incoming() {
        // A console that is gone again by now has no channels; the next may have.
        if let Err(error) = serve(console?, &mut interpreter, &names) {
            eprintln!("repl kernel: {error}");
        }
    }
    Ok(())
}

/// Serves the console that has started this process, and ends with it. The key comes on stdin,
/// which nobody else can read: a command line or a file could be seen by others.
pub fn serve_parent() -> Result<(), Failure> {
    let mut text = String::new();
    io::stdin().lock().read_line(&mut text)?;
    let key: Key = text.parse()?;
    let listener = Listener::bind("127.0.0.1:0", config(key))?;
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

/// A kernel serves one console after the other, so it does not wait for one that is gone: the next
/// one would wait as well.
fn config(key: Key) -> Config {
    Config::new(key).resume_grace(Duration::ZERO)
}
