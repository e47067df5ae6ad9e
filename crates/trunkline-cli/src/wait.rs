//! `trunkline wait`.

use std::time::{Duration, Instant};

use trunkline::{ChannelId, Received};
use trunkline_host::{Screen, Size};
use trunkline_kernel::layout::{STATUS, STDERR, STDOUT, Status};

use crate::arguments;
use crate::client::{Client, exit_code};
use crate::failure::{Failure, Outcome, UNAVAILABLE};
use crate::output;
use crate::screen::is_terminal;

/// The status if the time was too short.
const TOO_LONG: u8 = 1;
/// A program that says nothing of itself is idle when it has written nothing for so long.
const QUIET: Duration = Duration::from_secs(1);

pub fn run(arguments: &arguments::Wait) -> Outcome {
    let client = Client::connect(&arguments.reach)?;
    let output = client.receiver(STDOUT | STDERR | STATUS)?;
    let deadline = arguments.timeout.map(|time| Instant::now() + time);
    let until = &arguments.until;
    let mut looks = until.shown.as_deref().map(Looks::new);
    // A kernel says when it is idle. Another program is busy from its beginning to its end.
    let (mut silent, mut quiet_at) = (true, Instant::now() + QUIET);
    loop {
        let quiet = (until.idle && silent).then_some(quiet_at);
        let Some(received) = client.receive(&output, [deadline, quiet].into_iter().flatten().min())? else {
            if quiet.is_some_and(|quiet| quiet <= Instant::now()) {
                return Ok(0);
            }
            output::tell(format!("trunkline: {}: waited for too long", client.place.name));
            return Ok(TOO_LONG);
        };
        match received {
            Received::Message(message) if message.channel() == STATUS => {
                let Ok(status) = Status::try_from(&message[..]) else { continue };
                if let Some(code) = exit_code(&status) {
                    return ended(&client, until, code);
                }
                silent = matches!(status, Status::Busy(0));
                if until.idle && matches!(status, Status::Idle(_)) {
                    return Ok(0);
                }
            }
            Received::Message(message) => {
                quiet_at = Instant::now() + QUIET;
                if looks.as_mut().is_some_and(|looks| looks.see(message.channel(), &message)) {
                    return Ok(0);
                }
            }
            Received::Gap { channel, .. } => {
                if let Some(looks) = &mut looks {
                    looks.forget(channel);
                }
            }
            _ => {}
        }
    }
}

/// The program has ended.
fn ended(client: &Client, until: &arguments::Until, code: u8) -> Result<u8, Failure> {
    if until.exit {
        return Ok(code);
    }
    if until.idle {
        return Ok(0);
    }
    Err(client.place.failure(UNAVAILABLE, "the program has ended, and has not shown it"))
}

/// Looks for a text.
struct Looks<'a> {
    wanted: &'a str,
    /// What a terminal shows; `None` for pipes.
    screen: Option<Screen>,
    /// The ends of what was written to standard output and error, in which the text may begin.
    tails: [Vec<u8>; 2],
    first: bool,
}

impl<'a> Looks<'a> {
    fn new(wanted: &'a str) -> Self {
        Self { wanted, screen: None, tails: [Vec::new(), Vec::new()], first: true }
    }

    /// Takes output in. Returns `true` if the text is there.
    fn see(&mut self, channel: ChannelId, bytes: &[u8]) -> bool {
        if channel == STDOUT && std::mem::take(&mut self.first) && is_terminal(bytes) {
            self.screen = Some(Screen::new(Size::default()));
        }
        if let (Some(screen), STDOUT) = (&mut self.screen, channel) {
            // Line by line, so that nothing scrolls past between two looks.
            return bytes.split_inclusive(|byte| *byte == b'\n').any(|line| {
                screen.follow(line);
                screen.text().contains(self.wanted)
            });
        }
        let tail = &mut self.tails[usize::from(channel == STDERR)];
        tail.extend_from_slice(bytes);
        let found = memchr::memmem::find(tail, self.wanted.as_bytes()).is_some();
        let keep = tail.len().min(self.wanted.len() - 1);
        tail.drain(..tail.len() - keep);
        found
    }

    /// Something was left out.
    fn forget(&mut self, channel: ChannelId) {
        self.tails[usize::from(channel == STDERR)].clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_however_it_is_cut_and_not_across_a_gap_or_two_streams() {
        for at in 0..=4 {
            let mut looks = Looks::new("word");
            assert!(looks.see(STDOUT, &b"word"[..at]) || looks.see(STDOUT, &b"word"[at..]));
        }
        let mut looks = Looks::new("word");
        assert!(!looks.see(STDOUT, b"wo"));
        looks.forget(STDOUT);
        assert!(!looks.see(STDOUT, b"rd wo") && !looks.see(STDERR, b"rd"));
        assert!(looks.see(STDOUT, b"rd"));
    }

    #[test]
    fn what_scrolls_past_a_screen_in_one_message_was_shown() {
        let mut looks = Looks::new("passed by");
        let lines = "\r\n".repeat(100);
        assert!(!looks.see(STDOUT, b"\x1b_trunkline size 80 24\x1b\\"));
        assert!(looks.see(STDOUT, format!("{lines}\x1b[1mpassed\x1b[0m by{lines}").as_bytes()));
    }
}
