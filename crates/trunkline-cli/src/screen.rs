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
    let mut text = screen_of(&first).text();
    text.push('\n');
    print(text)?;
    Ok(0)
}

/// Returns `true` if a message of a terminal begins with its size: the first, which stands for what came before it, and one
/// that says that the size has changed.
pub fn is_terminal(message: &[u8]) -> bool {
    message.starts_with(b"\x1b_trunkline size ")
}

/// A screen as a message shows it that stands for what came before.
pub fn screen_of(snapshot: &[u8]) -> Screen {
    let mut screen = Screen::new(Size::default());
    screen.follow(snapshot);
    screen
}

/// What a screen shows, as lines that go on where the cursor is. Empty for a size alone.
pub fn lines_of(screen: &Screen) -> String {
    let mut text = screen.text();
    let missing = usize::from(screen.cursor().1).saturating_sub(text.matches('\n').count());
    text.extend(std::iter::repeat_n('\n', missing));
    text
}
