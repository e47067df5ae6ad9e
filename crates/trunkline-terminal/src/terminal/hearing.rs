//! What a terminal does with what the kernel says.

use std::num::NonZeroU16;
use std::task::{Context, Poll};
use std::time::Instant;

use trunkline_kernel::console::Said;
use trunkline_kernel::layout::{Answer, Control, Picture, Reply, Roster, STDERR, Status};

use super::protocols::{Protocol, encode};
use super::{LISTED, PIECE, STDERR_ROOM, Terminal};
use crate::ending::{Ending, lost};
use crate::questions::{self, Purpose};
use crate::sharing::{deaf, not_taken};
use crate::sys::tty;

impl Terminal<'_> {
    /// Takes what the kernel says, as long as there is room for it.
    pub(super) fn listen(&mut self, context: &mut Context<'_>) -> Result<(), Ending> {
        while self.may_show() {
            if !self.rest.is_empty() {
                let piece = self.rest.split_to(self.rest.len().min(PIECE));
                self.show(&piece);
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

    pub(super) fn show(&mut self, piece: &[u8]) {
        if self.rest_is_error
            && let Some(stderr) = &mut self.stderr
        {
            stderr.push(piece);
        } else if self.rest_is_error || !self.skips(piece.len()) {
            self.screen.output(piece);
        }
    }

    pub(super) fn may_show(&self) -> bool {
        self.pictures.asked.is_none()
            && (self.screen.has_room() || self.skipped.is_some() && self.screen.sink().len() < STDERR_ROOM)
            && self.stderr.as_ref().is_none_or(|sink| sink.len() < STDERR_ROOM)
    }

    pub(super) fn hear(&mut self, said: Said) -> Result<(), Ending> {
        match said {
            Said::Output(message) => {
                self.rest_is_error = message.channel() == STDERR;
                self.rest = message.into_bytes();
            }
            Said::Cut { messages, bytes, .. } => {
                let what = format!("[output was cut here: {messages} messages, {bytes} bytes]");
                self.screen.note(&what, false);
            }
            // It is text in its place, as output is.
            Said::Picture(picture) if picture.mime == "text/plain" => {
                self.rest_is_error = false;
                self.rest = picture.body;
            }
            Said::Picture(picture) => self.picture(picture),
            Said::Status(status) => self.status(&status)?,
            Said::Answer(answer) => self.answer(answer),
            Said::Roster(roster) => self.hear_roster(&roster),
            Said::Nonsense(what) => self.say(&format!("[{what}]")),
            Said::Deaf => self.say(&format!("[{}]", deaf(self.session.console()))),
            Said::LinkLost(_) => {
                self.link_lost = true;
                if self.leaving {
                    self.say("[link lost, trying]");
                }
            }
            Said::LinkBack(_) => {
                self.link_lost = false;
                if self.leaving {
                    self.say("[the link is back]");
                }
                self.tell_size();
            }
            Said::Finished => return Err(self.finished()),
            Said::Over(cause) => return Err(lost(&cause)),
            // It changes the prompt at most.
            _ => {}
        }
        Ok(())
    }

    /// Returns `true` if output is not to be shown: the statement that wrote it was interrupted, and the terminal
    /// is behind.
    pub(super) fn skips(&mut self, bytes: usize) -> bool {
        let Some(skipped) = &mut self.skipped else { return false };
        // Once output was left out, all is, until the terminal has taken what came before.
        let is_behind = !self.screen.has_room() || *skipped > 0 && self.screen.sink().len() > 0;
        if is_behind {
            *skipped += bytes as u64;
        } else if *skipped > 0 {
            self.tell_skipped();
        }
        is_behind
    }

    pub(super) fn tell_skipped(&mut self) {
        if let Some(bytes) = self.skipped.take().filter(|bytes| *bytes > 0) {
            self.say(&format!("[interrupted: {bytes} bytes of output are not shown]"));
        }
    }

    pub(super) fn finished(&self) -> Ending {
        match (self.leaving, self.failed && self.options.report_failures) {
            (false, _) => Ending::Lost("the kernel has ended".to_owned()),
            (true, true) => Ending::StatementFailed,
            (true, false) => Ending::Finished,
        }
    }

    pub(super) fn status(&mut self, status: &Status) -> Result<(), Ending> {
        self.told_of_turn = None;
        if self.told_size.is_none() {
            self.tell_size();
        }
        let settled = self.session.console().is_settled();
        if settled {
            self.quiet = None;
            self.tell_skipped();
        }
        let read = self.session.console().read();
        let (ran, before) = self.last;
        let runs = !matches!(status, Status::Idle(_) | Status::Incomplete(_));
        if read > before {
            // What a statement reads while it runs is an answer; what is read before one is a command.
            self.editor.history.settle(before + 1..=before + 1, ran);
            self.editor.history.settle(before + 2..=read, true);
        }
        if status.read().is_some() {
            self.last = (runs, read);
        }
        match status {
            Status::Hung(seconds) => {
                self.say(&format!("[the statement has not reacted to the interrupt for {seconds} s]"));
            }
            Status::Failed(_) => self.failed = true,
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

    /// Tells the kernel how large the terminal is, if it does not know. While the link is lost it waits: no number of sizes
    /// is to take the room of an interrupt.
    pub(super) fn tell_size(&mut self) {
        let size = tty::size(rustix::stdio::stdout());
        let fits = |size: usize| u16::try_from(size).ok().and_then(NonZeroU16::new);
        if self.session.console().may_ask()
            && self.told_size != Some(size)
            && let (Some(columns), Some(rows)) = (fits(size.0), fits(size.1))
            // A kernel that takes no commands now is told the next time.
            && self.session.command(&Control::Resize { columns, rows }).is_ok()
        {
            self.told_size = Some(size);
        }
    }

    /// Before a hub only the owner's size counts, so the kernel is told again when the owner changes.
    fn hear_roster(&mut self, roster: &Roster) {
        if let Some(why) = not_taken(roster, &mut self.takes) {
            self.say(&format!("[{why}]"));
        }
        let Some(clients) = &roster.clients else { return };
        let owner = clients.iter().find(|client| client.owner).map(|client| client.id);
        // The list is cut when there are many, and the owner may be one of the others.
        let unknown = owner.is_none() && roster.count.is_some_and(|count| count > clients.len() as u64);
        if self.owner.replace(owner) != Some(owner) || unknown {
            self.told_size = None;
            self.tell_size();
        }
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        match (self.questions.answered(answer.id), answer.reply) {
            (Some(Purpose::Tab { text, cursor }), reply) => {
                // For another line than the one that stands there now, or for one that is not to be seen by now.
                if !self.editor.is_secret() && text == self.editor.text() && cursor == self.editor.cursor() {
                    self.completed(&text, reply);
                }
            }
            (Some(Purpose::Command), reply) => {
                let (Ok(text) | Err(text)) = questions::words(reply);
                self.say(&text);
            }
            (None, _) => {}
        }
    }

    pub(super) fn completed(&mut self, text: &str, reply: Reply) {
        let Reply::Complete { matches, start, end } = reply else { return self.screen.beep() };
        let byte = |characters: usize| text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
        let (start, end) = (byte(start), byte(end));
        let matches: Vec<String> =
            matches.into_iter().map(|it| it.chars().filter(|c| !c.is_control()).collect()).collect();
        let Some(first) = matches.first().filter(|_| start <= end) else { return self.screen.beep() };
        let common = matches.iter().fold(first.as_str(), |common, it| {
            let same = common.chars().zip(it.chars()).take_while(|(a, b)| a == b);
            &common[..same.map(|(a, _)| a.len_utf8()).sum()]
        });
        if matches.len() == 1 || common.chars().count() > text[start..end].chars().count() {
            let common = common.to_owned();
            self.editor.replace(start, end, &common);
            return;
        }
        let mut list = matches[..matches.len().min(LISTED)].join("  ");
        if matches.len() > LISTED {
            list += &format!("  … and {} more", matches.len() - LISTED);
        }
        self.say(&list);
    }

    pub(super) fn picture(&mut self, picture: Picture) {
        match self.pictures.protocol {
            None if !self.pictures.answered => {
                self.screen.ask_abilities();
                // Output waits, so that the picture stands where it was made.
                self.pictures.asked = Some((Instant::now(), picture));
            }
            protocol => match protocol.and_then(|protocol| encode(protocol, &picture)) {
                Some(bytes) => self.screen.picture(&bytes),
                None => {
                    if let Some(line) = self.pictures.files.save(&picture) {
                        self.say(&line);
                    }
                }
            },
        }
    }

    /// The terminal has said whether it can show sixel, or has said nothing in time.
    pub(super) fn abilities(&mut self, sixel: bool) {
        self.pictures.answered = true;
        if let Some((_, picture)) = self.pictures.asked.take() {
            self.pictures.protocol = sixel.then_some(Protocol::Sixel);
            self.picture(picture);
        }
    }

    // -- The terminal --------------------------------------------------------------------------------------
}
