//! What the short texts of control and status are made of.

use std::fmt;
use std::str::FromStr;

/// The longest message on the control and the status channel, in bytes.
pub const MAX_WORD: usize = 128;

/// The longest name of a signal.
const MAX_NAME: usize = 16;

/// A whole number as it is written: digits, no sign, no zero in front.
pub(super) fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// What is shown of a text that is no word: its beginning, without control characters.
pub(super) fn excerpt(text: &[u8]) -> String {
    const SHOWN: usize = 40;
    let shown = String::from_utf8_lossy(&text[..text.len().min(SHOWN)]);
    let more = if text.len() > SHOWN { "…" } else { "" };
    format!("{:?}", format!("{shown}{more}"))
}

/// The name of a signal without `SIG`, as `TERM` or `HUP`: up to 16 letters `A` to `Z`, digits, `+` and `-`.
///
/// ```
/// use trunkline_kernel::layout::SignalName;
///
/// let term: SignalName = "TERM".parse()?;
/// assert_eq!(term.as_str(), "TERM");
/// assert!("SIGTERM; rm".parse::<SignalName>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SignalName(String);

/// A text is not the name of a signal.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0} is not the name of a signal; write it without SIG and in capitals, as TERM or HUP")]
pub struct SignalNameError(String);

impl SignalName {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SignalName {
    type Err = SignalNameError;

    fn from_str(text: &str) -> Result<Self, SignalNameError> {
        let known =
            |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'+' || byte == b'-';
        if text.is_empty() || text.len() > MAX_NAME || text.starts_with("SIG") || !text.bytes().all(known) {
            return Err(SignalNameError(excerpt(text.as_bytes())));
        }
        Ok(Self(text.to_owned()))
    }
}
