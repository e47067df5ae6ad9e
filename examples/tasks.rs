//! Each task has a channel of its own, for its output and for how it ended.
//!
//! A task that returns finishes its channel, and one that fails resets it with a code. One that panics
//! resets it too, without a line of code for that.
//!
//! Run it with `cargo run --example tasks`.

use std::error::Error;
use std::thread;

use trunkline::{ChannelId, ChannelSet, Config, Connection, Key, Received, RecvError, SendError, Sender};

type Task = fn(&Sender) -> Result<(), Failure>;

const TASKS: [(ChannelId, Task); 3] =
    [(ChannelId::new(16), count), (ChannelId::new(17), fail), (ChannelId::new(18), panic)];

fn main() -> Result<(), Box<dyn Error>> {
    let (client, server) = Connection::pair(Config::new(Key::generate()))?;
    for (channel, task) in TASKS {
        let output = server.sender(channel)?;
        thread::spawn(move || {
            if let Err(Failure(code)) = task(&output) {
                // An error here means that the client is gone.
                let _ = output.reset(code);
            }
            // Dropping the sender finishes the channel.
        });
    }

    // One receiver of all channels; `recv_any` tells the end of each.
    let channels: ChannelSet = TASKS.into_iter().map(|(channel, _)| channel).collect();
    let outputs = client.receiver(channels)?;
    loop {
        match outputs.recv_any() {
            Ok(Received::Message(line)) => {
                println!("{}: {}", line.channel(), String::from_utf8_lossy(&line));
            }
            Ok(Received::Finished(channel)) => println!("{channel}: done"),
            Ok(Received::Reset { channel, code: Sender::PANICKED }) => println!("{channel}: panicked"),
            Ok(Received::Reset { channel, code }) => println!("{channel}: failed with code {code}"),
            Ok(_) => {}
            // All of them have ended.
            Err(RecvError::Finished) => return Ok(()),
            Err(lost) => return Err(lost.into()),
        }
    }
}

/// Why a task fails: a code for the client.
struct Failure(u32);

impl From<SendError> for Failure {
    fn from(_: SendError) -> Self {
        Self(0)
    }
}

fn count(output: &Sender) -> Result<(), Failure> {
    for number in 1..=3 {
        output.send(number.to_string())?;
    }
    Ok(())
}

fn fail(output: &Sender) -> Result<(), Failure> {
    output.send("there is no such file")?;
    Err(Failure(2))
}

fn panic(output: &Sender) -> Result<(), Failure> {
    output.send("this task has a bug")?;
    panic!("the bug of the task");
}
