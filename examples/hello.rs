//! Two ends, one message. Both are in this program; `server` and `client` are two programs.
//!
//! Run it with `cargo run --example hello`.

use trunkline::{ChannelId, Config, Connection, Key, Listener};

/// A channel is a number. Both sides agree on what it carries.
const GREETING: ChannelId = ChannelId::new(1);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Both sides have the same key, and prove it to each other.
    let key = Key::generate();
    let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone()))?;
    let client = Connection::connect(listener.local_addr(), Config::new(key))?;
    let server = listener.accept()?;

    // What one side sends on a channel, the other receives on the channel of the same number.
    client.sender(GREETING)?.send("hello, world")?;
    let message = server.receiver(GREETING)?.recv()?;
    println!("{}", String::from_utf8_lossy(&message));
    Ok(())
}
