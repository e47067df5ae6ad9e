//! The mode of this terminal: raw while attached, and restored whatever happens.

use std::io::{self, IsTerminal};
use std::sync::Once;

use parking_lot::Mutex;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize,
    tcsetattr,
};
use trunkline_host::Size;

/// What a panic restores.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// What a terminal does with keys and with output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Each key comes as it is, nothing is echoed, and output is what the program's own terminal has made of it.
    Raw,
    /// The same for keys, except that Return ends a line; and lines of output begin at the left.
    Quiet,
    /// What is typed is edited and comes as lines. The prefix ends one too. Ctrl-C is a signal.
    Lines,
    /// The same, and what is typed is not shown.
    Hidden,
}

/// As long as it lives, the terminal has a mode for this command.
#[derive(Debug)]
pub struct Raw {
    mode: Mode,
    prefix: u8,
}

impl Raw {
    /// Changes the mode of the terminal on standard input, if that is one and standard output too.
    pub fn enter(prefix: u8) -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(None);
        }
        *SAVED.lock() = Some(tcgetattr(io::stdin())?);
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        let raw = Self { mode: Mode::Quiet, prefix };
        raw.again();
        Ok(Some(raw))
    }

    /// Changes the mode.
    pub fn set(&mut self, mode: Mode) {
        if std::mem::replace(&mut self.mode, mode) != mode {
            self.again();
        }
    }

    pub fn is_for_lines(&self) -> bool {
        matches!(self.mode, Mode::Lines | Mode::Hidden)
    }

    /// Returns `false` if the terminal has hung up.
    pub fn is_there(&self) -> bool {
        is_there()
    }

    /// Changes the mode again, after this process was stopped and goes on.
    pub fn again(&self) {
        let original = SAVED.lock().clone();
        if let Some(mut termios) = original {
            match self.mode {
                Mode::Raw => termios.make_raw(),
                Mode::Quiet => {
                    termios.make_raw();
                    termios.input_modes |= InputModes::ICRNL;
                    termios.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
                }
                Mode::Lines | Mode::Hidden => {
                    termios.input_modes |= InputModes::ICRNL;
                    termios.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
                    termios.local_modes |=
                        LocalModes::ICANON | LocalModes::ECHO | LocalModes::ECHOE | LocalModes::ISIG;
                    termios.special_codes[SpecialCodeIndex::VEOL] = self.prefix;
                    if self.mode == Mode::Hidden {
                        termios.local_modes -= LocalModes::ECHO;
                        termios.local_modes |= LocalModes::ECHONL;
                    }
                    // It would end this process before the terminal is restored.
                    termios.special_codes[SpecialCodeIndex::VQUIT] = 0;
                }
            }
            // A terminal that is gone is noticed by a read.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &termios);
        }
    }
}

/// Returns `true` if standard input is a terminal that has not hung up.
pub fn is_there() -> bool {
    tcgetattr(io::stdin()).is_ok()
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Some(original) = SAVED.lock().take() {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &original);
    }
}

/// The size of the terminal; `None` if it does not say it.
pub fn size() -> Option<Size> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then(|| Size::new(size.ws_col, size.ws_row))
}
