//! What a person types: keys, lines, and the commands of this console.

use std::time::Instant;

use bytes::Bytes;
use trunkline_kernel::console::{Activity, Unsent};
use trunkline_kernel::layout::Operation;

use super::area::View;
use super::editor::Action;
use super::{QUICK, Terminal};
use crate::ending::{Ending, lost};
use crate::meta::{self, Meta};
use crate::questions::Purpose;
use crate::sys::{Read, tty, unreadable};

impl Terminal<'_> {
    pub(super) fn read_keys(&mut self) -> Result<(), Ending> {
        let mut buffer = [0; 4096];
        let read = match self.source.read(&mut buffer) {
            Ok(Read::Bytes(read)) => read,
            Ok(Read::Nothing) => return Ok(()),
            // The terminal is gone.
            Ok(Read::End) => return Err(Ending::Signal(signal_hook::consts::SIGHUP)),
            Err(error) => return Err(Ending::Unusable(unreadable(&error))),
        };
        // More is there, as of a paste: it is drawn when all is read.
        self.hurries = self.source.has_more();
        let mut pressed = Vec::new();
        self.keys.feed(&buffer[..read], |key| pressed.push(key));
        for key in pressed {
            if self.suspend == Some(key) {
                // Without a shell nothing would let it go on.
                if tty::has_shell() {
                    self.stop(true);
                }
                continue;
            }
            match self.editor.press(key) {
                Action::None => {}
                Action::Accept(line) => self.accept(&line)?,
                Action::Interrupt(dropped) => {
                    let dropped = if self.editor.is_secret() { "" } else { &dropped };
                    self.screen.commit(&View { text: format!("{dropped}^C"), ..self.view() });
                    self.interrupt()?;
                }
                Action::End => self.end()?,
                Action::Quit => return Err(Ending::Signal(signal_hook::consts::SIGQUIT)),
                Action::Complete => self.complete(),
                Action::Clear => self.screen.clear(),
                Action::Abilities(sixel) => self.abilities(sixel),
                Action::Beep => self.screen.beep(),
            }
        }
        Ok(())
    }

    /// The kernel begins to wait for what is not to be seen, or waits for that no longer.
    pub(super) fn look_for_secret(&mut self) {
        let was = self.editor.is_secret();
        self.editor.set_secret(self.session.console().is_secret());
        if was && !self.editor.is_secret() {
            // It would be seen now, or be sent to something else.
            self.editor.forget();
        }
    }

    fn accept(&mut self, line: &str) -> Result<(), Ending> {
        if self.editor.is_secret() {
            return self.accept_secret(line);
        }
        self.screen.commit(&View { text: line.to_owned(), ..self.view() });
        if self.leaving {
            self.say("[the input has ended; this line is not sent]");
            return Ok(());
        }
        match meta::parse(line) {
            Meta::Line(text) => {
                self.queued += text.len() + 1;
                self.queue.push_back((Bytes::from(text + "\n"), line.to_owned()));
                self.quiet = Some(Instant::now() + QUICK);
                // At once, so that an interrupt that comes next knows the line.
                self.send()?;
            }
            command => {
                self.editor.history.add(line, None);
                self.command(command)?;
            }
        }
        Ok(())
    }

    /// Whatever it is, it is the answer, and nothing keeps it.
    fn accept_secret(&mut self, line: &str) -> Result<(), Ending> {
        self.screen.commit(&self.view());
        if self.leaving {
            self.say("[the input has ended; this line is not sent]");
            return Ok(());
        }
        self.editor.forget();
        self.queued += line.len() + 1;
        self.queue.push_back((Bytes::from(format!("{line}\n")), String::new()));
        self.quiet = Some(Instant::now() + QUICK);
        self.send()?;
        self.editor.set_secret(self.session.console().is_secret());
        Ok(())
    }

    fn command(&mut self, command: Meta) -> Result<(), Ending> {
        match command {
            Meta::Quit => self.end()?,
            Meta::Interrupt => self.interrupt()?,
            Meta::Take => match self.session.take_input() {
                Ok(()) => self.takes = true,
                Err(Unsent::Over(cause)) => return Err(lost(&cause)),
                Err(error) => self.say(&format!("[{error}]")),
            },
            Meta::Status => {
                let link = if self.link_lost { ", as far as is known: the link is lost" } else { "" };
                self.say(&format!("{}{link}", self.session.console().activity().describe()));
            }
            Meta::Complete(code) => {
                let cursor = code.chars().count();
                self.ask(Operation::Complete { code, cursor });
            }
            Meta::Inspect(code) => {
                let cursor = code.chars().count();
                self.ask(Operation::Inspect { code, cursor });
            }
            Meta::Line(line) | Meta::Unknown(line) => self.say(&meta::unknown(&line)),
        }
        Ok(())
    }

    fn ask(&mut self, operation: Operation) {
        match self.session.request(operation) {
            Ok(id) => self.questions.ask(id, Purpose::Command),
            Err(Unsent::NotNow) if self.link_lost => {
                self.say("[the link is lost; ask again when it is back]");
            }
            Err(error) => self.say(&format!("[{error}]")),
        }
    }

    fn complete(&mut self) {
        let (text, cursor) = (self.editor.text().to_owned(), self.editor.cursor());
        if self.editor.is_secret() {
            // Another would see it.
            return self.screen.beep();
        }
        if text[..cursor].trim().is_empty() {
            self.editor.replace(cursor, cursor, "    ");
            return;
        }
        let characters = text[..cursor].chars().count();
        match self.session.request(Operation::Complete { code: text.clone(), cursor: characters }) {
            Ok(id) => self.questions.ask(id, Purpose::Tab { text, cursor }),
            // It serves another console, or the link is lost: nothing is completed.
            Err(_) => self.screen.beep(),
        }
    }

    pub(super) fn interrupt(&mut self) -> Result<(), Ending> {
        if self.link_lost {
            self.say("[the link is lost; the interrupt waits for it like all else, Ctrl-D leaves]");
        }
        match self.session.interrupt() {
            Ok(true) => {
                self.quiet = Some(Instant::now() + QUICK);
                self.skipped.get_or_insert(0);
            }
            Ok(false) => {}
            Err(Unsent::Full) => self.say("[the kernel takes no commands]"),
            Err(Unsent::Over(cause)) => return Err(lost(&cause)),
            Err(error) => self.say(&format!("[{error}]")),
        }
        Ok(())
    }

    /// No more lines: the kernel finishes what it was given.
    fn end(&mut self) -> Result<(), Ending> {
        if self.leaving {
            return Err(Ending::Lost("left before the kernel has finished".to_owned()));
        }
        if self.link_lost {
            return Err(Ending::Lost(
                "left while the link was lost; the kernel may not have read the last lines".to_owned(),
            ));
        }
        if self.session.console().activity() == Activity::Waiting && self.queue.is_empty() {
            // The program that waits is told that there is no more, and the session goes on.
            let view = self.view();
            self.screen.commit(&view);
            return match self.session.end_of_input() {
                Ok(()) | Err(Unsent::Over(_)) => Ok(()),
                Err(error) => {
                    self.say(&format!("[{error}]"));
                    Ok(())
                }
            };
        }
        self.leaving = true;
        Ok(())
    }
}
