//! What one `send` carries and one `recv` returns.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

use crate::id::ChannelId;

/// How many bytes a message holds in itself: as many as make it no larger than one that refers to
/// a buffer.
pub(crate) const INLINE: usize = 32;

/// A whole message, and the channel that it came on.
///
/// It derefs to its bytes. A message of up to 32 bytes holds them itself. A longer one refers to the buffer
/// that it arrived in, of which up to 16 KiB are shared with its neighbours. To keep a message for long
/// without them, call [`to_vec`](slice::to_vec); to pass it on without a copy, [`Message::into_bytes`].
///
/// ```
/// # use trunkline::{ChannelId, Config, Connection, Key};
/// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// const LOG: ChannelId = ChannelId::new(7);
/// here.sender(LOG)?.send("ready")?;
/// let message = there.receiver(LOG)?.recv()?;
/// assert_eq!(message, "ready");
/// assert_eq!(&*message, b"ready");
/// assert_eq!(message.channel(), LOG);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Message {
    body: Body,
    channel: ChannelId,
    /// Of an inline body.
    len: u8,
}

/// All parts are whole machine words. Else a message that is passed on is copied in parts that
/// overlap those it was written in, and the processor waits for each: that was half the cost of
/// receiving a small one.
#[derive(Clone)]
#[repr(u64)]
enum Body {
    Inline(Short),
    Shared(Bytes),
}

#[derive(Clone)]
#[repr(align(8))]
struct Short([u8; INLINE]);

impl Message {
    /// A message that holds its bytes itself, if they are few enough.
    pub(crate) fn inline(channel: ChannelId, payload: &[u8]) -> Option<Self> {
        if payload.len() > INLINE {
            return None;
        }
        let mut bytes = [0; INLINE];
        bytes[..payload.len()].copy_from_slice(payload);
        Self::inline_from(channel, &bytes, payload.len())
    }

    /// The same for a payload at the start of `bytes`, of which there are enough to copy a fixed
    /// number: that is quicker than to copy exactly the payload.
    #[inline(always)]
    pub(crate) fn inline_from(channel: ChannelId, bytes: &[u8; INLINE], len: usize) -> Option<Self> {
        (len <= INLINE).then(|| Self { body: Body::Inline(Short(*bytes)), channel, len: len as u8 })
    }

    pub(crate) fn shared(channel: ChannelId, bytes: Bytes) -> Self {
        Self { body: Body::Shared(bytes), channel, len: 0 }
    }

    /// Returns the channel that the message came on.
    #[inline]
    #[must_use]
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// Returns the bytes, without a copy if there are more than 32.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.body {
            Body::Inline(Short(bytes)) => Bytes::copy_from_slice(&bytes[..usize::from(self.len)]),
            Body::Shared(bytes) => bytes,
        }
    }
}

impl Deref for Message {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.body {
            Body::Inline(Short(bytes)) => &bytes[..usize::from(self.len)],
            Body::Shared(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Message {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Message> for Bytes {
    fn from(message: Message) -> Bytes {
        message.into_bytes()
    }
}

impl PartialEq for Message {
    /// Two messages are equal if their bytes and their channels are.
    fn eq(&self, other: &Self) -> bool {
        self.channel == other.channel && **self == **other
    }
}

impl Eq for Message {}

impl Hash for Message {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.channel.hash(state);
        (**self).hash(state);
    }
}

impl From<Message> for Vec<u8> {
    /// Copies nothing if the message has its memory for itself.
    fn from(message: Message) -> Self {
        message.into_bytes().into()
    }
}

impl std::borrow::Borrow<[u8]> for Message {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq<Vec<u8>> for Message {
    fn eq(&self, other: &Vec<u8>) -> bool {
        **self == **other
    }
}

impl PartialEq<&[u8]> for Message {
    fn eq(&self, other: &&[u8]) -> bool {
        **self == **other
    }
}

impl PartialEq<[u8]> for Message {
    fn eq(&self, bytes: &[u8]) -> bool {
        **self == *bytes
    }
}

impl<const N: usize> PartialEq<[u8; N]> for Message {
    fn eq(&self, bytes: &[u8; N]) -> bool {
        **self == *bytes
    }
}

impl PartialEq<str> for Message {
    fn eq(&self, text: &str) -> bool {
        **self == *text.as_bytes()
    }
}

impl PartialEq<&str> for Message {
    fn eq(&self, text: &&str) -> bool {
        **self == *text.as_bytes()
    }
}

/// How much of a message its `Debug` shows.
const SHOWN: usize = 32;

impl fmt::Debug for Message {
    /// Shows the channel, the length, and a short beginning.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self[..self.len().min(SHOWN)];
        let more = if shown.len() < self.len() { ".." } else { "" };
        f.debug_struct("Message")
            .field("channel", &self.channel.get())
            .field("len", &self.len())
            .field("bytes", &format_args!("b\"{}\"{more}", shown.escape_ascii()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_large_message_is_short() {
        let message = Message::shared(ChannelId::new(3), Bytes::from(vec![0; 1 << 20]));
        let text = format!("{message:?}");
        assert!(text.len() < 250, "{}", text.len());
        assert!(text.contains("len: 1048576") && text.ends_with(".. }"), "{text}");
        let short = Message::inline(ChannelId::new(3), b"o\"k\n").unwrap();
        assert_eq!(format!("{short:?}"), r#"Message { channel: 3, len: 4, bytes: b"o\"k\n" }"#);
    }
}
