//! A recording that `asciinema play` shows.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::program::Stream;
use crate::screen::read_size_mark;
use crate::size::Size;

/// What a program has shown, and when, as asciicast version 2: a line of JSON for each piece of output and each
/// change of the size. Input is not in it, so what is typed at a prompt without echo stays secret.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use trunkline_host::{Recording, Size, Stream};
///
/// let mut file = Vec::new();
/// let mut recording = Recording::new(&mut file, Size::new(80, 24), UNIX_EPOCH, "a demo")?;
/// recording.output(Duration::from_millis(1500), Stream::Stdout, b"hello\r\n")?;
/// let text = String::from_utf8(file)?;
/// assert!(text.starts_with(r#"{"height":24,"timestamp":0,"title":"a demo","version":2,"width":80}"#));
/// assert!(text.ends_with("[1.5,\"o\",\"hello\\r\\n\"]\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Recording<W> {
    to: W,
    /// The beginning of a character whose rest has not come, of each stream.
    cut: [Vec<u8>; 2],
}

impl Recording<File> {
    /// Makes a recording in a new file that only its owner can read.
    ///
    /// # Errors
    ///
    /// If there is a file of this name, or it cannot be written.
    pub fn create(path: impl AsRef<Path>, size: Size, title: &str) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Self::new(options.open(path)?, size, SystemTime::now(), title)
    }
}

impl<W: Write> Recording<W> {
    /// Begins a recording of a program that was started at this time. Each piece is one `write`, so that a file
    /// has everything if the host is killed.
    ///
    /// # Errors
    ///
    /// Those of `write`.
    pub fn new(mut to: W, size: Size, start: SystemTime, title: &str) -> io::Result<Self> {
        let timestamp = start.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let header = json!({
            "version": 2, "width": size.columns(), "height": size.rows(), "timestamp": timestamp, "title": title,
        });
        to.write_all(format!("{header}\n").as_bytes())?;
        Ok(Self::on(to))
    }

    /// Goes on with a recording whose header has been written.
    pub fn on(to: W) -> Self {
        Self { to, cut: Default::default() }
    }

    /// Records what [`Happened::Output`](crate::Happened::Output) has brought, so long after the start. Bytes
    /// that are no text become `�`.
    ///
    /// # Errors
    ///
    /// Those of `write`. The recording is not whole then, and the caller stops it.
    pub fn output(&mut self, after: Duration, stream: Stream, output: &[u8]) -> io::Result<()> {
        if let Some(size) = read_size_mark(output) {
            return self.event(after, "r", &size.to_string());
        }
        let mut bytes = std::mem::take(&mut self.cut[stream as usize]);
        bytes.extend_from_slice(output);
        let mut text = String::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            let rest = chunk.invalid();
            // At the end, what could be the beginning of a character waits for the rest.
            let may_go_on = bytes.ends_with(rest)
                && std::str::from_utf8(rest).is_err_and(|error| error.error_len().is_none());
            if !rest.is_empty() && may_go_on {
                self.cut[stream as usize] = rest.to_vec();
            } else if !rest.is_empty() {
                text.push('\u{fffd}');
            }
        }
        if text.is_empty() { Ok(()) } else { self.event(after, "o", &text) }
    }

    fn event(&mut self, after: Duration, kind: &str, text: &str) -> io::Result<()> {
        let seconds = after.as_micros() as f64 / 1e6;
        self.to.write_all(format!("{}\n", json!([seconds, kind, text])).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::Screen;

    #[test]
    fn a_recording_has_text_sizes_and_whole_characters() {
        let mut file = Vec::new();
        let mut recording = Recording::new(&mut file, Size::default(), UNIX_EPOCH, "").unwrap();
        let mut at = 0;
        let mut output = |stream, bytes: &[u8]| {
            at += 1;
            recording.output(Duration::from_secs(at), stream, bytes).unwrap();
        };
        output(Stream::Stdout, b"a\xc3");
        output(Stream::Stderr, b"err\xff\"\x1b[m");
        output(Stream::Stdout, b"\xa4\xe4");
        output(Stream::Stdout, &Screen::new(Size::default()).resize(Size::new(100, 30)));
        output(Stream::Stdout, b"x");
        let text = String::from_utf8(file).unwrap();
        let lines: Vec<_> = text.lines().skip(1).collect();
        let expected = [
            r#"[1.0,"o","a"]"#,
            r#"[2.0,"o","err�\"\u001b[m"]"#,
            r#"[3.0,"o","ä"]"#,
            r#"[4.0,"r","100x30"]"#,
            r#"[5.0,"o","�x"]"#,
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_recording_does_not_take_the_place_of_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("session.cast");
        drop(Recording::create(&path, Size::default(), "one").unwrap());
        let error = Recording::create(&path, Size::default(), "two").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(std::fs::read_to_string(path).unwrap().contains("one"));
    }
}
