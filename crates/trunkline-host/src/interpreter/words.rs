//! The last words of an interpreter: what it has printed and not given to the system yet, because the line has no end.
//! It stands in memory that the host shares, so that it is there however the process ends.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use crate::program::Stream;

/// So much of a stream has room: its length in 4 bytes, least first, and then the text. Standard error's part follows
/// standard output's.
pub const ROOM: usize = 4096;

/// The memory, as the host has it.
#[derive(Debug)]
pub(super) struct LastWords(Option<File>);

impl LastWords {
    /// Returns the interpreter's end as well. A system without such memory has no last words of this kind.
    pub(super) fn share() -> io::Result<(Self, Option<OwnedFd>)> {
        let Some(file) = memory()? else { return Ok((Self(None), None)) };
        file.set_len(2 * ROOM as u64)?;
        let theirs = OwnedFd::from(file.try_clone()?);
        Ok((Self(Some(file)), Some(theirs)))
    }

    /// Returns what the process has left. It is over.
    pub(super) fn take(&self, stream: Stream) -> Option<Bytes> {
        let begin = if stream == Stream::Stdout { 0 } else { ROOM as u64 };
        let file = self.0.as_ref()?;
        let mut part = [0; ROOM];
        // A process that has made it shorter has nothing to say.
        file.read_exact_at(&mut part, begin).ok()?;
        let (length, text) = part.split_at(4);
        let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
        text.get(..length).filter(|text| !text.is_empty()).map(Bytes::copy_from_slice)
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn memory() -> io::Result<Option<File>> {
    let memory = rustix::fs::memfd_create("trunkline-last-words", rustix::fs::MemfdFlags::CLOEXEC)?;
    Ok(Some(File::from(memory)))
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn memory() -> io::Result<Option<File>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_process_leaves_is_at_most_its_room() {
        let (words, theirs) = LastWords::share().unwrap();
        let theirs = File::from(theirs.unwrap());
        assert_eq!((words.take(Stream::Stdout), words.take(Stream::Stderr)), (None, None));
        theirs.write_all_at(b"\x04\0\0\0last words", 0).unwrap();
        theirs.write_all_at(b"\x05\0\0\0error", ROOM as u64).unwrap();
        assert_eq!(words.take(Stream::Stdout).unwrap(), "last");
        assert_eq!(words.take(Stream::Stderr).unwrap(), "error");
        for length in [ROOM as u32 - 3, u32::MAX] {
            theirs.write_all_at(&length.to_le_bytes(), 0).unwrap();
            assert_eq!(words.take(Stream::Stdout), None, "{length}");
        }
        theirs.write_all_at(&(ROOM as u32 - 4).to_le_bytes(), 0).unwrap();
        assert_eq!(words.take(Stream::Stdout).unwrap().len(), ROOM - 4);
        theirs.set_len(7).unwrap();
        assert_eq!((words.take(Stream::Stdout), words.take(Stream::Stderr)), (None, None));
    }
}
