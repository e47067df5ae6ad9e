//! The process of the clients.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{DATA, LAST, Load, WARM, nats, trunk, zmqs};

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

/// What all clients together have got.
pub struct Counts {
    warm: Vec<bool>,
    missing_warm: usize,
    got: Vec<u64>,
    messages: u64,
    open: usize,
}

impl Counts {
    fn new(clients: usize, messages: u64) -> Self {
        Self { warm: vec![false; clients], missing_warm: clients, got: vec![0; clients], messages, open: clients }
    }

    /// A client got a message that begins like that. Returns `true` once all have the last.
    #[inline]
    pub fn count(&mut self, client: usize, first: u8) -> bool {
        match first {
            DATA => self.got[client] += 1,
            LAST => {
                self.got[client] += 1;
                self.open -= 1;
            }
            WARM if !self.warm[client] => {
                self.warm[client] = true;
                self.missing_warm -= 1;
                if self.missing_warm == 0 {
                    println!("ready");
                    let _ = std::io::stdout().flush();
                }
            }
            _ => {}
        }
        self.open == 0
    }

    fn lost(&self) -> u64 {
        self.got.iter().map(|got| self.messages - got).sum()
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
