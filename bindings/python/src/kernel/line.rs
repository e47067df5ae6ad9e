//! The line of a stream that has no end yet: it is not written, and not lost.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed, Ordering::Release};

use memmap2::MmapRaw;
use parking_lot::Mutex;
use trunkline_host::interpreter::ROOM;

/// Where the length stands before the text.
const LENGTH: usize = 4;

/// Memory that the host shares. What stands there when the process has ended, the host says.
pub(crate) struct LastWords {
    memory: MmapRaw,
    /// A forked process must not write there.
    off: AtomicBool,
}

impl LastWords {
    pub(crate) fn of(file: &File) -> std::io::Result<Arc<Self>> {
        let memory = MmapRaw::map_raw(file)?;
        if memory.len() < 2 * ROOM {
            return Err(std::io::Error::other("the memory that the host shares is too small"));
        }
        Ok(Arc::new(Self { memory, off: AtomicBool::new(false) }))
    }

    pub(crate) fn turn_off(&self) {
        self.off.store(true, Relaxed);
    }

    /// Replaces what stands there for a stream, 0 or 1: `kept` bytes of it are the same as before.
    #[allow(unsafe_code)]
    fn set(&self, stream: usize, text: &[u8], kept: usize) {
        debug_assert!(stream < 2 && text.len() <= ROOM - LENGTH && kept <= text.len());
        if self.off.load(Relaxed) {
            return;
        }
        // SAFETY: the memory has two parts of ROOM bytes, which are aligned as pages are. No reference to them is made, and
        // the caller, who holds the lock of the stream's line, is the only one that writes to this part. The host reads
        // when this process is over.
        unsafe {
            let part = self.memory.as_mut_ptr().add(stream * ROOM);
            std::ptr::copy_nonoverlapping(
                text.as_ptr().add(kept),
                part.add(LENGTH + kept),
                text.len() - kept,
            );
            // What is said to be there is there.
            let length = AtomicU32::from_ptr(part.cast());
            length.store((text.len() as u32).to_le(), Release);
        }
    }
}

/// What was written of a line. Pieces of it come without anything in between, so they become one write.
#[derive(Default)]
pub(crate) struct Line {
    text: Mutex<Vec<u8>>,
    words: Option<Arc<LastWords>>,
}

impl Line {
    pub(crate) fn new(words: Option<Arc<LastWords>>) -> Self {
        Self { text: Mutex::default(), words }
    }

    /// Adds to the line. Returns what is to be written now: up to the end of a line, or more than there is room for.
    pub(crate) fn add(&self, stream: usize, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut text = self.text.lock();
        let kept = text.len();
        text.extend_from_slice(bytes);
        let ends = bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
        if ends || text.len() > ROOM - LENGTH {
            return Some(self.clear(stream, &mut text));
        }
        if let Some(words) = &self.words {
            words.set(stream, &text, kept);
        }
        None
    }

    /// Returns what there is of the line.
    pub(crate) fn take(&self, stream: usize) -> Option<Vec<u8>> {
        let mut text = self.text.lock();
        (!text.is_empty()).then(|| self.clear(stream, &mut text))
    }

    fn clear(&self, stream: usize, text: &mut Vec<u8>) -> Vec<u8> {
        if let Some(words) = &self.words {
            words.set(stream, &[], 0);
        }
        std::mem::take(text)
    }
}
