//! A server that adds up the numbers in each line. Each client has a thread.
//!
//! ```sh
//! cargo run --example server -- 127.0.0.1:4000 sum.key
//! ```
//!
//! The server writes the key file if there is none; `client` takes the same address and file. The line
//! `quit` ends the server.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::thread;

use trunkline::{ChannelId, Config, Connection, Key, Listener};

const STDIN: ChannelId = ChannelId::new(0);
const STDOUT: ChannelId = ChannelId::new(1);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, key_file] = &arguments[..] else { return Err("usage: server ADDRESS KEY-FILE".into()) };
    if !Path::new(key_file).exists() {
        Key::generate().write_new_file(key_file)?;
    }
    let listener = Listener::bind(address, Config::new(Key::from_file(key_file)?))?;
    println!("listening on {}", listener.local_addr());

    thread::scope(|scope| {
        // Ends when the listener is closed.
        for client in listener.incoming().flatten() {
            let listener = &listener;
            scope.spawn(move || {
                if let Err(error) = serve(&client, listener) {
                    eprintln!("a client is gone: {error}");
                }
            });
        }
    });
    Ok(())
}

/// Answers the lines of one client until it has finished.
fn serve(client: &Connection, listener: &Listener) -> Result<(), Box<dyn Error>> {
    let stdin = client.receiver(STDIN)?.into_reader();
    let mut stdout = client.sender(STDOUT)?.into_writer();
    for line in stdin.lines() {
        let line = line?;
        if line == "quit" {
            listener.close();
        } else {
            let numbers = line.split('+').filter_map(|number| number.trim().parse::<i64>().ok());
            writeln!(stdout, "{}", numbers.sum::<i64>())?;
        }
    }
    // Dropping the writer ends the answers; dropping the connection waits until the client has them.
    Ok(())
}
