//! `trunkline screen`.

use std::time::{Duration, Instant};

use trunkline::Received;
use trunkline_host::{Screen, Size};
use trunkline_kernel::layout::STDOUT;

use crate::arguments;
use crate::client::Client;
use crate::failure::{Outcome, USAGE};
use crate::output::print;

/// How long the screen may take, which the host sends at once.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn run(arguments: &arguments::Screen) -> Outcome {
    let client = Client::connect(&arguments.reach)?;
    let output = client.receiver(STDOUT)?;
    let until = Instant::now() + PATIENCE;
    // The first message of a terminal stands for all that came before it.
    let first = loop {
        match client.receive(&output, Some(until))? {
            Some(Received::Message(message)) => break Some(message),
            Some(_) => {}
            None => break None,
        }
    };
    let Some(first) = first.filter(|message| is_terminal(message)) else {
        let text = "the program is on pipes and has no screen; `trunkline watch` shows what it writes";
        return Err(client.place.failure(USAGE, text));
    };
    let mut screen = Screen::new(Size::default());
    screen.follow(&first);
    let mut text = screen.text();
    text.push('\n');
    print(text)?;
    Ok(0)
}

/// Returns `true` for the first message of a terminal, which begins with its size.
pub fn is_terminal(first: &[u8]) -> bool {
    first.starts_with(b"\x1b_trunkline size ")
}
