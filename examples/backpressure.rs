//! A slow reader holds up its own channel and no other, and the sender chooses what to do about it.
//!
//! A channel takes as much as the receiver's window allows; each message counts its length + 32.
//!
//! Run it with `cargo run --example backpressure`.

use std::error::Error;
use std::time::Duration;

use trunkline::{ChannelId, Config, Connection, Key, RecvError, SendTimeoutError, TrySendError};

const LOG: ChannelId = ChannelId::new(1);
const RESULTS: ChannelId = ChannelId::new(2);

/// Counts 1000 in the window.
const LINE: [u8; 968] = [b'.'; 968];

fn main() -> Result<(), Box<dyn Error>> {
    // A small window, so that it is soon full. The default is 896 KiB.
    let config = Config::new(Key::generate()).window(4096);
    let (program, reader) = Connection::pair(config)?;
    let log = program.sender(LOG)?;
    let received = reader.receiver(LOG)?;

    // Never wait: count what does not fit, and leave it out.
    let mut left_out = 0;
    for _ in 0..10 {
        match log.try_send(LINE) {
            Ok(()) => {}
            Err(TrySendError::Full { .. }) => left_out += 1,
            Err(error) => return Err(error.into()),
        }
    }
    log.gap(left_out, left_out * LINE.len() as u64)?;
    println!("sent {} lines, left out {left_out}", 10 - left_out);

    // Wait a little: a send that times out has sent nothing of its message.
    match log.send_timeout(LINE, Duration::from_millis(10)) {
        Err(SendTimeoutError::Timeout { .. }) => println!("not in time"),
        other => other?,
    }

    // The other channels go on meanwhile.
    program.sender(RESULTS)?.send("42")?;
    println!("a result: {}", String::from_utf8_lossy(&reader.receiver(RESULTS)?.recv()?));

    // The reader sees where something is missing.
    loop {
        match received.recv() {
            Ok(line) => println!("a line of {} bytes", line.len()),
            Err(RecvError::Gap { messages, bytes, .. }) => {
                println!("{messages} lines are missing, {bytes} bytes");
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }

    // Wait as long as it takes: the reader has read, so there is room again.
    log.send("the last line")?;
    println!("{}", String::from_utf8_lossy(&received.recv()?));
    Ok(())
}
