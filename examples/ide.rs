//! The IDE's side of a kernel: sends selections, shows output and status, interrupts, and survives a
//! lost link. The kernel is that of the example `repl`.
//!
//! ```sh
//! cargo run --example repl -- kernel --listen 127.0.0.1:4000 --key-file kernel.key
//! cargo run --example ide -- 127.0.0.1:4000 kernel.key
//! ```
//!
//! Each line of the standard input is a selection that the user runs, with `\n` for a newline; `!` is
//! the button that interrupts. At the end of the input the program waits until the kernel is idle.

use std::error::Error;
use std::io;
use std::thread;

use crossbeam_channel::{bounded, never, select};
use trunkline::{ChannelId, Config, Connection, Event, Key, Priority, TryRecvError};

const STDIN: ChannelId = ChannelId::new(0);
const STDOUT: ChannelId = ChannelId::new(1);
const STDERR: ChannelId = ChannelId::new(2);
const CONTROL: ChannelId = ChannelId::new(3);
const STATUS: ChannelId = ChannelId::new(4);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, key_file] = &arguments[..] else { return Err("usage: ide ADDRESS KEY-FILE".into()) };
    let kernel = Connection::connect(address, Config::new(Key::from_file(key_file)?))?;
    let stdin = kernel.sender(STDIN)?;
    let control = kernel.sender_with(CONTROL, Priority::Urgent)?;
    // One receiver, so that the status keeps its place among the output.
    let output = kernel.receiver(STDOUT | STDERR | STATUS)?;
    let events = kernel.events();

    let (user, mut actions) = bounded(0);
    thread::spawn(move || io::stdin().lines().map_while(Result::ok).try_for_each(|line| user.send(line)));

    let (output_ready, events_ready) = (output.ready(), events.ready());
    // How many lines were sent, how many of them the kernel has read, and whether the user goes on.
    let (mut sent, mut read, mut idle, mut more) = (0_u64, 0, true, true);
    while more || !idle || read < sent {
        select! {
            recv(actions) -> action => match action.as_deref() {
                // By its number, so that it never stops what comes next.
                Ok("!") => control.send(format!("interrupt {read}"))?,
                Ok(selection) => {
                    let selection = selection.replace("\\n", "\n") + "\n";
                    sent += selection.lines().count() as u64;
                    stdin.send(selection)?;
                }
                // A disconnected channel is always ready: without this the loop would spin.
                Err(_) => (more, actions) = (false, never()),
            },
            recv(output_ready) -> _ => match output.try_recv() {
                Ok(message) => {
                    let text = String::from_utf8_lossy(&message);
                    match message.channel() {
                        STATUS => {
                            let (word, lines) = text.split_once(' ').unwrap_or((&text, "0"));
                            (idle, read) = (word == "idle", lines.parse()?);
                            println!("[{word}]");
                        }
                        STDERR => print!("error: {text}"),
                        _ => print!("{text}"),
                    }
                }
                Err(TryRecvError::Empty) => {}
                Err(end) => return Err(end.into()),
            },
            recv(events_ready) -> _ => match events.try_recv() {
                Ok(Event::Suspended { .. }) => println!("[the link is lost]"),
                Ok(Event::Resumed { .. }) => println!("[the link is back]"),
                _ => {}
            },
        }
    }
    Ok(())
}
