//! `trunkline send`.

use std::thread;
use std::time::{Duration, Instant};

use trunkline::{Disconnect, Priority, SendError, Sender};
use trunkline_hub::code;
use trunkline_kernel::layout::STDIN;

use crate::arguments::{self, Reach};
use crate::client::Client;
use crate::failure::{Failure, Outcome, TEMPORARY, UNAVAILABLE, USAGE};
use crate::typed_key::TypedKey;

/// How much later the reason of a refusal may come.
const LATER: Duration = Duration::from_secs(2);
/// How much of a message is sent at once.
const PIECE: usize = 16 * 1024;

pub fn run(arguments: &arguments::Send) -> Outcome {
    let (reach, typed) = read(arguments, std::env::var("TRUNKLINE_ADDR").ok())?;
    let client = Client::connect(&reach)?;
    let stdin = client.sender(STDIN, Priority::Normal)?;
    if arguments.take {
        client.take()?;
    }
    match type_in(&client, &stdin, &typed) {
        // What was typed can be what has ended it.
        Err(_) if has_ended(&client, &stdin) => Ok(0),
        // Nothing was passed on, so nothing is typed twice.
        Err(failure) if !arguments.take && stdin.stopped() == Some(code::NOT_OWNER) => {
            drop(client);
            after_a_ghost(&reach, &typed, failure)
        }
        Err(failure) => Err(failure),
        Ok(()) => Ok(0),
    }
}

/// Returns `true` if the program has ended. That its input is no more is told a moment before.
fn has_ended(client: &Client, stdin: &Sender) -> bool {
    let until = Instant::now() + LATER;
    while matches!(stdin.stopped(), Some(0 | trunkline_host::INPUT_CLOSED))
        && !client.is_lost()
        && Instant::now() < until
    {
        thread::sleep(Duration::from_millis(1));
    }
    client.is_over()
}

/// What this person's own client has whose process was killed, or whose link is lost, is given back to them at once.
fn after_a_ghost(reach: &Reach, typed: &[u8], refused: Failure) -> Outcome {
    let client = Client::connect(reach)?;
    let (you, roster) = crate::status::roster(&client)?;
    let clients = roster.clients.unwrap_or_default();
    let me = clients.iter().find(|other| Some(other.id) == you);
    let owner = clients.iter().find(|other| other.owner);
    if !owner.zip(me).is_some_and(|(owner, me)| owner.suspended && owner.name == me.name) {
        return Err(refused);
    }
    let stdin = client.sender(STDIN, Priority::Normal)?;
    client.take()?;
    match type_in(&client, &stdin, typed) {
        Err(failure) if !has_ended(&client, &stdin) => Err(failure),
        _ => Ok(0),
    }
}

/// Sends, until everything was passed on, and lets go of the input.
fn type_in(client: &Client, stdin: &Sender, typed: &[u8]) -> Result<(), Failure> {
    let mut sent = 0;
    for piece in typed.chunks(PIECE) {
        match stdin.send(piece) {
            Ok(()) => sent += 1,
            Err(SendError::Disconnected { cause: Disconnect::Stopped(why), .. }) => {
                return Err(refusal(client, why));
            }
            Err(error) => return Err(client.place.lost(error)),
        }
    }
    let confirmed = confirm(client, sent, || stdin.stopped());
    // Leaving is not the end of the program's input.
    let _ = stdin.reset(0);
    confirmed?;
    // It was passed on, whatever becomes of the rest: it may have ended the program.
    let _ = client.release();
    Ok(())
}

/// Waits until the hub has passed all messages on, or refused some.
fn confirm(client: &Client, sent: u64, stopped: impl Fn() -> Option<u32>) -> Result<(), Failure> {
    let (mut line, mut passed) = (None, 0);
    loop {
        let note = client.note()?;
        line = note.line.or(line);
        passed = note.input.unwrap_or(passed);
        if note.lost.is_some_and(|lost| lost.last_passed < sent) {
            // Why comes on another channel, a moment earlier or later.
            let until = Instant::now() + LATER;
            while stopped().is_none() && Instant::now() < until {
                thread::sleep(Duration::from_millis(1));
            }
            return Err(refusal(client, stopped().unwrap_or(code::NOT_OWNER)));
        }
        if let Some(why) = stopped() {
            return Err(refusal(client, why));
        }
        // The client's own message `line.own` is the program's message `line.input`.
        if line.is_some_and(|line| passed + line.own >= line.input + sent) {
            return Ok(());
        }
    }
}

fn refusal(client: &Client, why: u32) -> Failure {
    let place = &client.place;
    match why {
        code::NOT_OWNER | code::TAKEN => {
            place.failure(TEMPORARY, "another client has the input; --take takes it, if the key permits that")
        }
        trunkline_host::INPUT_CLOSED => place.failure(UNAVAILABLE, "the program has closed its input"),
        // Without a code the program is over.
        0 => place.failure(UNAVAILABLE, "the program has ended"),
        other => place.failure(UNAVAILABLE, format!("the host refuses input (code {other})")),
    }
}

/// Which host is meant, and what is typed there.
fn read(arguments: &arguments::Send, variable: Option<String>) -> Result<(Reach, Vec<u8>), Failure> {
    let (address, text) = match (&arguments.first, &arguments.second, variable) {
        (Some(address), Some(text), _) => (address.clone(), Some(text)),
        // Named once more, it is not what is typed.
        (Some(text), None, Some(address)) if *text == address => (address, None),
        (text, None, Some(address)) => (address, text.as_ref()),
        (Some(address), None, None) => (address.clone(), None),
        (None, ..) => {
            return Err(Failure::new(USAGE, "where to? Give the address of a host, or set TRUNKLINE_ADDR"));
        }
    };
    let mut typed = Vec::new();
    let (before, after) = arguments.keys.split_at(arguments.keys_before_text);
    typed.extend(before.iter().flat_map(TypedKey::bytes));
    typed.extend(text.into_iter().flat_map(|text| text.bytes()));
    typed.extend(after.iter().flat_map(TypedKey::bytes));
    if typed.is_empty() {
        return Err(Failure::new(USAGE, "nothing to type; give a text, or keys as --key Enter"));
    }
    Ok((Reach { address, key_file: arguments.key_file.clone() }, typed))
}
