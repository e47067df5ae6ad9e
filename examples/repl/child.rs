//! The kernel as a process of the console's own.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use trunkline::Key;

use crate::Failure;

/// How long a kernel may take to end once its console is gone.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Kernel {
    /// As long as it is open, the kernel has a parent.
    _stdin: ChildStdin,
    exit: Receiver<io::Result<ExitStatus>>,
}

impl Kernel {
    /// Starts this program again as a kernel that has a key which nobody else has seen.
    pub fn start() -> Result<(Self, SocketAddr, Key), Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["kernel", "--key-stdin"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C on the terminal is for the console, which tells the kernel itself.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;

        let key = Key::generate();
        match hand_over(&mut child, &key) {
            Ok((stdin, address)) => Ok((Self { _stdin: stdin, exit: reap(child) }, address, key)),
            Err(error) => {
                // It has said why on stderr, which is ours; or it hangs.
                let _ = child.kill();
                let status = child.wait()?;
                Err(format!("the kernel did not start ({status}): {error}").into())
            }
        }
    }

    /// How the kernel process has ended, if it does in time.
    pub fn wait(&self) -> Result<ExitStatus, Failure> {
        match self.exit.recv_timeout(PATIENCE) {
            Ok(status) => Ok(status?),
            Err(_) => Err(format!("the kernel process has not ended within {PATIENCE:?}").into()),
        }
    }
}

/// The key goes to the kernel's stdin, a pipe that only the two processes have; the address comes
/// back from its stdout.
fn hand_over(child: &mut Child, key: &Key) -> Result<(ChildStdin, SocketAddr), Failure> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("it has no pipes".into());
    };
    stdin.write_all(key.expose_hex().as_bytes())?;
    stdin.write_all(b"\n")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let address = line.trim().strip_prefix("listening on ").ok_or("it did not say where it listens")?;
    Ok((stdin, address.parse()?))
}

fn reap(mut child: Child) -> Receiver<io::Result<ExitStatus>> {
    let (exited, exit) = bounded(1);
    thread::spawn(move || drop(exited.send(child.wait())));
    exit
}
