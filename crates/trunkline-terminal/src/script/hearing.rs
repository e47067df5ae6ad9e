//! What the script runner does with what the kernel says.

use std::task::{Context, Poll};

use trunkline::ConnectionError;
use trunkline_kernel::console::Said;
use trunkline_kernel::layout::{Answer, Control, STDERR, STDOUT, Status};

use super::{ROOM, Script};
use crate::ending::{Ending, lost};
use crate::questions::{self};
use crate::sharing::{deaf, not_taken};

impl Script<'_> {
    /// Takes what the kernel says, as long as there is room for it.
    pub(super) fn listen(&mut self, context: &mut Context<'_>) -> Result<(), Ending> {
        while self.may_show() {
            if !self.rest.is_empty() {
                let piece = self.rest.split_to(self.rest.len().min(ROOM));
                self.show(&piece)?;
                continue;
            }
            match self.session.poll_next(context) {
                Poll::Ready(Some(said)) => self.hear(said)?,
                Poll::Ready(None) | Poll::Pending => {
                    self.more = false;
                    return Ok(());
                }
            }
        }
        // No bell rings for what is there already.
        self.more = true;
        Ok(())
    }

    pub(super) fn show(&mut self, piece: &[u8]) -> Result<(), Ending> {
        // What was written to the other stream before comes before.
        self.order(self.rest_is_error)?;
        if self.rest_is_error {
            self.stderr.push(piece);
        } else {
            self.unprompt();
            self.begun = piece.last().map_or(self.begun, |&byte| byte != b'\n');
            self.stdout.push(piece);
        }
        Ok(())
    }

    pub(super) fn may_show(&self) -> bool {
        self.stdout.len() < ROOM && self.stderr.len() < ROOM
    }

    pub(super) fn hear(&mut self, said: Said) -> Result<(), Ending> {
        match said {
            Said::Output(message) => {
                self.rest_is_error = message.channel() == STDERR;
                self.rest = message.into_bytes();
            }
            Said::Cut { channel, messages, bytes } => {
                if channel == STDOUT && self.begun {
                    self.stdout.push(b"\n");
                    self.begun = false;
                }
                self.order(true)?;
                self.stderr
                    .push(format!("[output was cut here: {messages} messages, {bytes} bytes]\n").as_bytes());
            }
            // It is text in its place, as output is.
            Said::Picture(picture) if picture.mime == "text/plain" => {
                self.rest_is_error = false;
                self.rest = picture.body;
            }
            Said::Picture(picture) => {
                if let Some(line) = self.files.save(&picture) {
                    self.order(false)?;
                    self.unprompt();
                    self.stdout.push(format!("{line}\n").as_bytes());
                }
            }
            Said::Status(status) => self.status(&status)?,
            Said::Answer(Answer { id, reply }) if self.questions.answered(id).is_some() => {
                self.answered(questions::words(reply));
            }
            Said::Nonsense(what) => self.say(&what),
            Said::Deaf => self.say(deaf(self.session.console())),
            Said::Roster(roster) => {
                if let Some(why) = not_taken(&roster, &mut self.takes) {
                    self.say(&why);
                }
            }
            Said::LinkLost(_) => {
                self.link_lost = true;
                self.say("link lost, trying");
            }
            Said::LinkBack(_) => {
                self.link_lost = false;
                self.say("the link is back");
            }
            Said::Finished if self.options.ends_kernel && !self.asked_to_end => {
                self.asked_to_end = self.session.command(&Control::Exit).is_ok();
                return if self.asked_to_end { Ok(()) } else { Err(self.is_finished()) };
            }
            Said::Finished => return Err(self.is_finished()),
            Said::Over(ConnectionError::ClosedByPeer { .. }) if self.asked_to_end => {
                return Err(self.is_finished());
            }
            Said::Over(cause) => return Err(lost(&cause)),
            // It changes nothing here.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn is_finished(&self) -> Ending {
        if !self.finished {
            Ending::Lost("the kernel has ended".to_owned())
        } else if self.failed && self.options.report_failures {
            Ending::StatementFailed
        } else {
            Ending::Finished
        }
    }

    pub(super) fn status(&mut self, status: &Status) -> Result<(), Ending> {
        match status {
            Status::Waiting(_) => self.waits_again = true,
            Status::Hung(seconds) => {
                self.say(&format!("the statement has not reacted to the interrupt for {seconds} s"));
            }
            Status::Failed(_) => self.failed = true,
            // The script may have ended it by itself.
            Status::Exited(0) if self.options.ends_kernel => {
                self.finished = true;
                return Err(self.is_finished());
            }
            Status::Exited(code) => {
                return Err(Ending::Lost(format!("the kernel has ended with exit code {code}")));
            }
            Status::Killed(signal) => {
                return Err(Ending::Lost(format!("the kernel was killed by SIG{signal}")));
            }
            _ => {}
        }
        Ok(())
    }

    // -- Output ----------------------------------------------------------------------------------------------
}
