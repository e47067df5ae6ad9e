//! The mode of this terminal: raw while attached, and restored whatever happens.

use std::io::{self, IsTerminal};
use std::sync::Once;

use parking_lot::Mutex;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use trunkline_host::Size;

/// What a panic restores.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// As long as it lives, each key comes as it is, and nothing is echoed.
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Changes the mode of the terminal on standard input, if that is one and standard output too.
    pub fn enter() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(None);
        }
        let original = tcgetattr(io::stdin())?;
        let mut raw = original.clone();
        raw.make_raw();
        *SAVED.lock() = Some(original);
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(Self(())))
    }

    /// Changes the mode again, after this process was stopped and goes on.
    pub fn again(&self) {
        let original = SAVED.lock().clone();
        if let Some(mut raw) = original {
            raw.make_raw();
            // A terminal that is gone is noticed by a read.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &raw);
        }
    }
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
