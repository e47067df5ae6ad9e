//! A client of `server`: sends each argument as a line and prints the answers.
//!
//! ```sh
//! cargo run --example client -- 127.0.0.1:4000 sum.key "1 + 2 + 39" "6 + 7"
//! ```

use std::io;

use trunkline::{ChannelId, Config, Connection, Key};

const STDIN: ChannelId = ChannelId::new(0);
const STDOUT: ChannelId = ChannelId::new(1);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(key_file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: client ADDRESS KEY-FILE LINE...".into());
    };
    let server = Connection::connect(address, Config::new(Key::from_file(key_file)?))?;

    let stdin = server.sender(STDIN)?;
    for line in arguments {
        stdin.send(line + "\n")?;
    }
    // The server reads the end of its input, and finishes its answers.
    drop(stdin);

    // Copies until the server has finished. A lost connection is an error.
    io::copy(&mut server.receiver(STDOUT)?.into_reader(), &mut io::stdout())?;
    Ok(())
}
