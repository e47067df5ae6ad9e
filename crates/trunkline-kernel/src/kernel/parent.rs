//! A kernel that its console has started.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use trunkline::{AcceptError, BindError, Config, Connection, Key, KeyError, Listener};

/// Why a kernel cannot serve the console that has started it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParentError {
    /// The standard input or output of the process is not what its parent should have made it.
    #[error("cannot talk to the console that has started this kernel: {0}")]
    Pipes(#[from] io::Error),
    /// The first line of the standard input is not a key.
    #[error("the first line of the standard input is not a key: {0}")]
    Key(#[from] KeyError),
    /// There is no port to listen on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The console did not connect.
    #[error("the console that has started this kernel did not connect: {0}")]
    Accept(#[from] AcceptError),
}

/// Takes the key from standard input, says on standard output where this process listens, and waits for the
/// console that has started it. If that ends before, so does the process, with exit code 3.
pub(super) fn connect() -> Result<Connection, ParentError> {
    // Not a byte more than the line, and no more bytes than a key has.
    let mut line = Vec::new();
    let mut stdin = io::stdin().lock();
    let mut byte = [0];
    while line.len() < 256 && stdin.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    drop(stdin);
    let key: Key = String::from_utf8_lossy(&line).parse()?;
    // The two end together, so there is nothing to come back to.
    let listener = Listener::bind("127.0.0.1:0", Config::new(key).resume_grace(Duration::ZERO))?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {}", listener.local_addr())?;
    stdout.flush()?;
    drop(stdout);

    // A parent that dies before it connects would leave this process waiting for ever.
    let connected = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&connected);
    thread::Builder::new().name("trunkline-parent".to_owned()).spawn(move || {
        drop(io::copy(&mut io::stdin().lock(), &mut io::sink()));
        if !seen.load(Ordering::SeqCst) {
            std::process::exit(3);
        }
    })?;
    let console = listener.accept()?;
    connected.store(true, Ordering::SeqCst);
    Ok(console)
}
