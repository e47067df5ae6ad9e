//! The process of the clients.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::counts::Counts;
use crate::{Load, nats, trunk, zmqs};

/// The clients' process, as the program sees it.
pub struct Clients {
    child: Child,
    said: Receiver<String>,
}

impl Clients {
    pub fn start(system: &str, address: &str, load: Load) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--clients-of", system, address, &load.clients.to_string(), &load.messages.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("it is piped")?;
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, said })
    }

    pub fn are_ready(&self) -> Result<bool> {
        match self.said.try_recv() {
            Ok(line) if line == "ready" => Ok(true),
            Ok(line) => bail!("the clients say {line}"),
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Disconnected) => bail!("the clients have ended"),
        }
    }

    /// Waits until all have the last message; how many are missing.
    pub fn wait(mut self) -> Result<u64> {
        let line = self.said.recv_timeout(Duration::from_secs(120)).context("the clients do not end")?;
        let lost = line.strip_prefix("done ").with_context(|| format!("the clients say {line}"))?.parse()?;
        self.child.wait()?;
        Ok(lost)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process does.
pub fn run(system: &str, address: &str, clients: usize, messages: u64) -> Result<()> {
    let mut counts = Counts::new(clients, messages);
    match system {
        "trunkline" => trunk::watch(address, clients, &mut counts)?,
        "libzmq" => zmqs::watch(address, clients, &mut counts)?,
        _ => nats::watch(address, clients, &mut counts)?,
    }
    println!("done {}", counts.lost());
    Ok(())
}
