//! A hub before a kernel: the filter of its control channel.

use trunkline_kernel::layout::{Control, Target};

use crate::code;
use crate::filter::{Line, Origin, Verdict};

/// Judges the commands of a kernel's control channel; for [`Hub::shared_with`](crate::Hub::shared_with).
///
/// | command | passes |
/// |---|---|
/// | `interrupt own K` | as `interrupt N` when the client's own message K is passed on as N |
/// | `interrupt N` | if N was passed on already |
/// | `interrupt` | if the access may interrupt |
/// | `resize` | from the owner of the input; from others it is dropped, because it is their own affair |
/// | `signal`, `exit` | if the access may take the input |
/// | anything else | refused: the kernel would not know it either |
///
/// ```
/// use trunkline::{ChannelId, Config, Connection, Key};
/// use trunkline_hub::{Hub, kernel};
///
/// let (_kernel, upstream) = Connection::pair(Config::new(Key::generate()))?;
/// let hub = Hub::new(upstream).shared_with(ChannelId::new(3), kernel::control_filter);
/// # let _ = hub;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn control_filter(origin: &Origin<'_>, message: &[u8]) -> Verdict {
    let Ok(control) = Control::try_from(message) else { return Verdict::Refuse(code::NOT_SENT_HERE) };
    match control {
        Control::Interrupt(target) if origin.access().may_interrupt() => interrupt(origin, target),
        Control::Resize { .. } if origin.owns_input() => Verdict::Pass,
        Control::Resize { .. } => Verdict::Drop,
        Control::Signal(_) | Control::Exit if origin.access().may_take_input() => Verdict::Pass,
        _ => Verdict::Refuse(code::NOT_SENT_HERE),
    }
}

fn interrupt(origin: &Origin<'_>, target: Target) -> Verdict {
    match target {
        Target::Running => Verdict::Pass,
        // No client stops lines that others have not sent yet.
        Target::Message(number) if number <= origin.passed() => Verdict::Pass,
        Target::Message(_) => Verdict::Refuse(code::NOT_SENT_HERE),
        Target::Own(own) => match origin.line(own) {
            Line::Passed(number) => {
                let control = Control::Interrupt(Target::Message(number));
                Verdict::Rewrite(control.to_string().into())
            }
            Line::Coming => Verdict::Hold(own),
            Line::Gone => Verdict::Drop,
        },
    }
}
