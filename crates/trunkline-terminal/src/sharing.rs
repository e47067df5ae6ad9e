//! What is said about a kernel that several consoles share.

use trunkline_kernel::console::Console;
use trunkline_kernel::layout::Roster;

/// The input is refused.
pub(crate) fn deaf(console: &Console) -> &'static str {
    if console.is_behind_hub() {
        "another console has the input; :take takes it"
    } else {
        "the kernel reads no more lines"
    }
}

/// Returns why `:take` did not take the input. `takes`: it was asked for, and nothing was heard of it.
pub(crate) fn not_taken(roster: &Roster, takes: &mut bool) -> Option<String> {
    let answer = roster.answer.as_ref()?;
    if !std::mem::take(takes) || answer.done {
        return None;
    }
    Some(answer.why.clone().unwrap_or_else(|| "the input was not taken".to_owned()))
}
