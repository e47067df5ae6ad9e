//! A channel stands in for standard input.
//!
//! The kernel polls its input for a command, and does other things as long as there is none. A
//! command that needs an answer blocks in `read_line` on the same input, as `input()` does. The console
//! hears that a read waits, and only then asks its user.
//!
//! Run it with `cargo run --example stdin`.

use std::error::Error;
use std::io::{BufRead, ErrorKind, Write};
use std::thread;
use std::time::Duration;

use trunkline::{ChannelId, Config, Connection, Event, Key, Reader, Writer};

const STDIN: ChannelId = ChannelId::new(0);
const STDOUT: ChannelId = ChannelId::new(1);

fn main() -> Result<(), Box<dyn Error>> {
    // Both ends of a connection in one process; a real kernel has a `Listener`.
    let (console, kernel) = Connection::pair(Config::new(Key::generate()))?;
    let kernel = thread::spawn(move || run_kernel(&kernel).map_err(|error| error.to_string()));

    let stdin = console.sender(STDIN)?;
    let events = console.events();
    stdin.send("greet\n")?;
    for event in events.iter() {
        // The program waits for input and has read the command.
        if matches!(event, Event::Waiting { channel: STDIN, waiting: true, taken: 1 }) {
            stdin.send("Ada\n")?;
            break;
        }
    }
    stdin.finish()?;

    for message in console.receiver(STDOUT)? {
        print!("{}", String::from_utf8_lossy(&message));
    }
    kernel.join().expect("the kernel does not panic")?;
    Ok(())
}

fn run_kernel(console: &Connection) -> Result<(), Box<dyn Error>> {
    let mut stdin = console.receiver(STDIN)?.into_reader();
    stdin.announce_waiting(true);
    let mut stdout = console.sender(STDOUT)?.into_writer();
    loop {
        match stdin.try_read_line() {
            Ok(Some(command)) => run(command.trim_end(), &mut stdin, &mut stdout)?,
            Ok(None) => process_other_events(),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn run(command: &str, stdin: &mut Reader, stdout: &mut Writer) -> Result<(), Box<dyn Error>> {
    match command {
        "greet" => {
            writeln!(stdout, "What is your name?")?;
            let mut name = String::new();
            stdin.read_line(&mut name)?;
            writeln!(stdout, "Hello, {}.", name.trim_end())?;
        }
        other => writeln!(stdout, "unknown command: {other}")?,
    }
    Ok(())
}

/// Stands for a window system's events, or whatever else the program looks after.
fn process_other_events() {
    thread::sleep(Duration::from_millis(5));
}
