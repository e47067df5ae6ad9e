//! Pictures and other rich results.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The longest header of a [`Picture`], in bytes, without its newline.
pub const MAX_HEADER: usize = 64 * 1024;

/// A picture or another rich result: one message on [`DISPLAY`](super::DISPLAY). On the wire it is a JSON
/// header, a newline, and the body.
///
/// ```
/// use trunkline_kernel::layout::Picture;
///
/// let plot = Picture::new("image/svg+xml", "<svg/>").text("<Figure 640x480>").id("fig-3");
/// let message = plot.to_message();
/// assert_eq!(Picture::from_message(message)?, plot);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Picture {
    /// What the body is: `image/png`, `text/html`; `text/plain` is text as on standard output, with its newline.
    pub mime: String,
    /// Its name within the session, by which a later one can replace it.
    pub id: Option<String>,
    /// `true` if it stands in the place of the last one with its id. With an id that the console has not
    /// seen it is shown as new.
    pub replaces: bool,
    /// What a console without pictures shows.
    pub text: String,
    /// The picture itself.
    pub body: Bytes,
}

/// A message on the display channel is not a picture.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// There is no newline in the first 64 KiB.
    #[error("a picture without a header: no newline in the first {MAX_HEADER} bytes")]
    NoHeader,
    /// The header is not the JSON object that it should be.
    #[error("the header of a picture cannot be read: {0}")]
    Header(String),
}

#[derive(Serialize, Deserialize)]
struct Header {
    mime: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default)]
    replaces: bool,
    #[serde(default)]
    text: String,
}

impl Picture {
    /// Makes a picture without an id and a text.
    pub fn new(mime: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { mime: mime.into(), id: None, replaces: false, text: String::new(), body: body.into() }
    }

    /// Sets what a console without pictures shows.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    /// Sets the name by which a later picture can replace it.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the id, and that it stands in the place of the last picture with this id.
    #[must_use]
    pub fn replacing(self, id: impl Into<String>) -> Self {
        Self { replaces: true, ..self.id(id) }
    }

    /// Reads a message of the display channel. The body is not copied.
    ///
    /// # Errors
    ///
    /// If there is no header of at most [`MAX_HEADER`] bytes, or it is not as it should be. Fields that are
    /// not known here are ignored.
    pub fn from_message(message: impl Into<Bytes>) -> Result<Self, PictureError> {
        let message = message.into();
        let searched = &message[..message.len().min(MAX_HEADER + 1)];
        let end = searched.iter().position(|byte| *byte == b'\n').ok_or(PictureError::NoHeader)?;
        let Header { mime, id, replaces, text } = serde_json::from_slice(&message[..end])
            .map_err(|error| PictureError::Header(error.to_string()))?;
        Ok(Self { mime, id, replaces, text, body: message.slice(end + 1..) })
    }

    /// Returns the message for the display channel. A text that would make the header longer than
    /// [`MAX_HEADER`] is cut.
    #[must_use]
    pub fn to_message(&self) -> Bytes {
        // A character takes 6 bytes of JSON at most (`\u0000`). The other fields are names.
        let room = MAX_HEADER / 6 - 1024;
        let short = |text: &str, room: usize| text[..text.floor_char_boundary(room)].to_owned();
        let header = Header {
            mime: short(&self.mime, 256),
            id: self.id.as_deref().map(|id| short(id, 256)),
            replaces: self.replaces,
            text: short(&self.text, room),
        };
        // Strings and a truth value always have a form in JSON.
        let mut message = serde_json::to_vec(&header).unwrap_or_default();
        message.push(b'\n');
        message.extend_from_slice(&self.body);
        message.into()
    }
}
