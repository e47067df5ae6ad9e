//! One program and many clients: trunkline's hub beside libzmq PUB/SUB and a NATS server. See README.md.

mod child;
mod counts;
mod nats;
mod trunk;
mod zmqs;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use child::Clients;
use lexopt::prelude::*;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub size: usize,
    pub clients: usize,
    pub messages: u64,
}

/// One of those that are compared, on the program's side.
pub trait Publisher {
    /// Where clients connect.
    fn address(&self) -> String;

    /// Sends a message, or lets it go out later.
    fn send(&mut self, message: &[u8]) -> Result<()>;

    /// Lets all that was sent go out.
    fn flush(&mut self) -> Result<()>;
}

/// The first byte of a message says what it is.
pub const WARM: u8 = b'w';
pub const DATA: u8 = b'd';
pub const LAST: u8 = b'e';

pub const SYSTEMS: [&str; 3] = ["trunkline", "libzmq", "nats"];

fn main() -> Result<()> {
    let mut rounds = 3;
    let mut scale = 1;
    let mut only = None;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("rounds") => rounds = parser.value()?.parse()?,
            Long("quick") => scale = 10,
            Long("only") => only = Some(parser.value()?.string()?),
            Long("clients-of") => {
                let system = parser.value()?.string()?;
                let address = parser.value()?.string()?;
                let (clients, messages) = (parser.value()?.parse()?, parser.value()?.parse()?);
                return child::run(&system, &address, clients, messages);
            }
            other => bail!("{}", other.unexpected()),
        }
    }
    println!("{:>9} {:>8} {:>10} {:>14} {:>10} {:>6}", "bytes", "clients", "", "messages/s", "MB/s", "lost");
    for size in [256, 64 << 10] {
        for clients in [1, 10, 100] {
            let all = if size == 256 { 4_000_000 } else { 64_000 };
            let messages = all / scale / clients as u64 / if clients == 1 { 2 } else { 1 };
            let load = Load { size, clients, messages };
            for system in SYSTEMS {
                if only.as_ref().is_some_and(|only| only != system) {
                    continue;
                }
                let mut rate = 0f64;
                let mut lost = 0;
                for _ in 0..rounds {
                    let (took, missing) = round(system, load)?;
                    rate = rate.max((messages * clients as u64 - missing) as f64 / took.as_secs_f64());
                    lost += missing;
                }
                let bytes = rate * size as f64 / 1e6;
                println!("{size:>9} {clients:>8} {system:>10} {rate:>14.0} {bytes:>10.0} {lost:>6}");
            }
        }
    }
    Ok(())
}

/// How long it took, and how many messages were missing at the end.
fn round(system: &str, load: Load) -> Result<(Duration, u64)> {
    let mut publisher: Box<dyn Publisher> = match system {
        "trunkline" => Box::new(trunk::Program::new()?),
        "libzmq" => Box::new(zmqs::Program::new()?),
        _ => Box::new(nats::Program::new()?),
    };
    let clients = Clients::start(system, &publisher.address(), load)?;
    // Until all of them are there.
    while !clients.are_ready()? {
        publisher.send(&[WARM])?;
        publisher.flush()?;
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut message = vec![0; load.size];
    let begun = Instant::now();
    for n in 0..load.messages {
        message[0] = if n + 1 == load.messages { LAST } else { DATA };
        publisher.send(&message)?;
    }
    publisher.flush()?;
    let lost = clients.wait()?;
    let took = begun.elapsed();
    ensure!(took > Duration::ZERO);
    Ok((took, lost))
}
