//! The commands of clients on the control channel, and whose size the terminal has.

use bytes::Bytes;
use trunkline_host::{Size, SizePolicy, Sizes};
use trunkline_hub::{Judge, News, Origin, Verdict, kernel};
use trunkline_kernel::layout::{Control, STDIN};

/// Judges commands. No client resizes the terminal itself: each says how large its own is, and what follows from all of them
/// goes to the program.
pub struct Commands {
    sizes: Sizes,
    /// The size that the program was told last.
    said: Size,
}

impl Commands {
    pub fn new(policy: SizePolicy) -> Self {
        let sizes = Sizes::new(policy);
        Self { said: sizes.size(), sizes }
    }
}

impl Judge for Commands {
    fn judge(&mut self, origin: &Origin<'_>, message: &[u8]) -> Verdict {
        match Control::try_from(message) {
            Ok(Control::Resize { columns, rows }) => {
                // One that only watches sees as much as there is room for.
                if origin.access().may_send().contains(STDIN) {
                    self.sizes.set(origin.client(), Size::new(columns.get(), rows.get()));
                }
                Verdict::Drop
            }
            _ => kernel::control_filter(origin, message),
        }
    }

    fn hear(&mut self, news: &News<'_>) {
        match *news {
            News::Lost { client, .. } => self.sizes.set_lost(client, true),
            News::Back { client, .. } => self.sizes.set_lost(client, false),
            News::Left { client, .. } => self.sizes.remove(client),
            News::Owner { client, .. } => self.sizes.set_owner(client),
            _ => {}
        }
    }

    fn say(&mut self) -> Option<Bytes> {
        let size = self.sizes.size();
        if std::mem::replace(&mut self.said, size) == size {
            return None;
        }
        Some(format!("resize {} {}", size.columns(), size.rows()).into())
    }
}
