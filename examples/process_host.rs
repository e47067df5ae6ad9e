//! Runs programs for its clients, several at a time. Each has four channels of its own: standard input,
//! output, error, and how it ended.
//!
//! ```sh
//! cargo run --example process_host -- serve 127.0.0.1:4000 host.key
//! cargo run --example process_host -- run 127.0.0.1:4000 host.key "ls /" "ls /nothing" cat
//! ```
//!
//! Program `n` of a client has the channels 4n+1 to 4n+4. Channel 0 carries the orders: a byte with the
//! number, then the command, or nothing to kill it. The programs of a client that is gone are killed.

use std::error::Error;
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use trunkline::{ChannelId, ChannelSet, CloseCode, Config, Connection, Key, Listener, Sender};

const ORDERS: ChannelId = ChannelId::new(0);
const PROGRAMS: u8 = 31;
/// How long a client has to come back whose link is lost. One that was killed looks the same.
const GRACE: Duration = Duration::from_secs(2);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The channels of a program: standard input, output, error, and its end.
fn channels(program: u8) -> [ChannelId; 4] {
    [1, 2, 3, 4].map(|stream| ChannelId::new(4 * program + stream))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_at_checked(3) {
        Some(([mode, address, key_file], [])) if mode == "serve" => serve(address, key_file),
        Some(([mode, address, key_file], commands)) if mode == "run" && commands.len() <= PROGRAMS.into() => {
            run(address, key_file, commands)
        }
        _ => Err("usage: process_host (serve | run) ADDRESS KEY-FILE [up to 31 COMMANDs]".into()),
    }
}

// ---------------------------------------------------------------------------
// The host

fn serve(address: &str, key_file: &str) -> Result<()> {
    let config = Config::new(Key::from_file_or_new(key_file)?).resume_grace(GRACE);
    let listener = Listener::bind(address, config)?;
    println!("listening on {}", listener.local_addr());
    for client in listener.incoming().flatten() {
        thread::spawn(move || take_orders(&client));
    }
    Ok(())
}

fn take_orders(client: &Connection) -> Result<()> {
    let killed = [const { AtomicBool::new(false) }; PROGRAMS as usize];
    let orders = client.receiver(ORDERS)?;
    thread::scope(|scope| {
        // Ends when the client has no more orders, or is gone.
        for order in orders {
            let Some((&program @ 0..PROGRAMS, command)) = order.split_first() else { continue };
            let command = String::from_utf8_lossy(command).into_owned();
            let killed = &killed[usize::from(program)];
            if command.is_empty() {
                killed.store(true, Ordering::Relaxed);
            } else {
                killed.store(false, Ordering::Relaxed);
                scope.spawn(move || -> Result<()> {
                    let end = host(client, program, &command, killed);
                    let end = end.unwrap_or_else(|error| format!("{command}: {error}"));
                    Ok(client.sender(channels(program)[3])?.send(end)?)
                });
            }
        }
    });
    Ok(())
}

/// Runs a program and returns how it ended, behind its output.
fn host(client: &Connection, program: u8, command: &str, killed: &AtomicBool) -> Result<String> {
    let [stdin, stdout, stderr, _] = channels(program);
    let mut stdin = client.receiver(stdin)?.into_reader();
    let (stdout, stderr) = (client.sender(stdout)?, client.sender(stderr)?);
    let mut words = command.split_whitespace();
    let mut child = Command::new(words.next().unwrap_or_default())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let interrupter = stdin.interrupter();
    thread::scope(|scope| {
        // Until the client has finished, the program reads no more, or it is over.
        scope.spawn(move || input.map(|mut input| io::copy(&mut stdin, &mut input)));
        scope.spawn(move || pump(output, &stdout));
        scope.spawn(move || pump(errors, &stderr));
        loop {
            if let Some(status) = child.try_wait()? {
                interrupter.interrupt();
                return Ok(status.to_string());
            }
            if killed.load(Ordering::Relaxed) || client.close_reason().is_some() {
                child.kill()?;
            }
            thread::sleep(Duration::from_millis(10));
        }
    })
}

/// Passes output on as it comes. A `Writer` would keep a prompt, which has no newline.
fn pump(from: Option<impl Read>, to: &Sender) -> Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            read => to.send(&buffer[..read])?,
        }
    }
}

// ---------------------------------------------------------------------------
// A client

/// Runs some commands at once and prints what they write. A line `1 text` of the own input is input for
/// the second command, `1` alone the end of its input, and `1 !` kills it.
fn run(address: &str, key_file: &str, commands: &[String]) -> Result<()> {
    let host = Connection::connect(address, Config::new(Key::from_file(key_file)?))?;
    let orders = host.sender(ORDERS)?;
    let mut outputs = ChannelSet::EMPTY;
    let mut inputs = Vec::new();
    for (program, command) in (0..PROGRAMS).zip(commands) {
        let [stdin, stdout, stderr, end] = channels(program);
        outputs |= stdout | stderr | end;
        inputs.push(host.sender(stdin)?);
        orders.send([&[program], command.as_bytes()].concat())?;
    }
    let mut running = inputs.len();
    thread::spawn(move || -> Result<()> {
        for line in io::stdin().lines() {
            let line = line?;
            let (program, text) = line.split_once(' ').unwrap_or((&line, ""));
            let program: u8 = program.parse()?;
            let input = inputs.get(usize::from(program)).ok_or("there is no such program")?;
            match text {
                "" => input.finish()?,
                "!" => orders.send([program])?,
                text => input.send(format!("{text}\n"))?,
            }
        }
        Ok(())
    });
    let outputs = host.receiver(outputs)?;
    while running > 0 {
        let message = outputs.recv()?;
        let place = message.channel().get() - 1;
        let stream = ["input", "output", "error", "end"][usize::from(place % 4)];
        println!("{} {stream}: {}", place / 4, String::from_utf8_lossy(&message).trim_end());
        running -= usize::from(place % 4 == 3);
    }
    // The thread that reads the input still has some of the handles.
    Ok(host.close(CloseCode::NORMAL, "")?)
}
