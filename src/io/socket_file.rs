//! The file of a listening Unix socket (protocol, section 9): made so that there is no moment at which
//! another user could connect, taken over only from a listener that is gone, and removed only if it is
//! still this one's.
//!
//! A lock file beside it, `NAME.lock`, is locked for as long as the listener lives. What holds the lock is
//! the only one that may touch the socket file, so of many starters at one path exactly one listens.

use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::address::check_path;
use crate::error::SocketFileError;

/// A herd of clients that comes at once must not wait for the system to ask again.
const BACKLOG: i32 = 4096;
const MODE: u32 = 0o600;
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode of what was made there.
    made: (u64, u64),
    lock: Lock,
    /// The process that made it: one that was forked from it owns nothing.
    owner: u32,
}

impl SocketFile {
    /// Listens at a path.
    pub(crate) fn bind(path: &Path) -> Result<(UnixListener, Self), SocketFileError> {
        let path = settle(path)?;
        let lock = Lock::take(&path)?;
        make_room(&path)?;
        let (listener, made) = listen(&path).map_err(failed(&path))?;
        Ok((listener, Self { path, made, lock, owner: std::process::id() }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns `true` if the file is still there, so that clients find it.
    fn is_in_place(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|file| identity(&file) == self.made)
    }

    /// Makes the file again, and what listens there, after it was removed.
    fn bind_again(&mut self) -> Result<UnixListener, SocketFileError> {
        let settled = settle(&self.path)?;
        if !self.lock.is_in_place() {
            self.lock = Lock::take(&settled)?;
        }
        make_room(&settled)?;
        let (listener, made) = listen(&settled).map_err(failed(&settled))?;
        (self.path, self.made) = (settled, made);
        Ok(listener)
    }
}

/// The file of a listener, which takes it away when it is closed, whichever thread that is.
#[derive(Clone, Debug)]
pub(crate) struct SharedFile(Arc<Mutex<Option<SocketFile>>>);

impl SharedFile {
    pub(crate) fn new(file: SocketFile) -> Self {
        Self(Arc::new(Mutex::new(Some(file))))
    }

    pub(crate) fn remove(&self) {
        drop(self.0.lock().take());
    }

    /// Makes the file again if something else has removed it, and what listens there.
    pub(crate) fn keep(&self) -> Option<Result<UnixListener, SocketFileError>> {
        let mut file = self.0.lock();
        let file = file.as_mut().filter(|file| !file.is_in_place())?;
        Some(file.bind_again())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.owner == std::process::id() && self.lock.is_in_place() {
            if self.is_in_place() {
                let _ = fs::remove_file(&self.path);
            }
            // Still locked: a starter that has it open finds that it is not the one at the path.
            let _ = fs::remove_file(&self.lock.path);
        }
    }
}

#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    fn take(socket: &Path) -> Result<Self, SocketFileError> {
        let mut name = socket.file_name().unwrap_or_default().to_owned();
        name.push(".lock");
        let path = socket.with_file_name(name);
        loop {
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(MODE);
            let file = options.open(&path).map_err(failed(&path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(SocketFileError::InUse { path: socket.to_owned() });
                }
                Err(TryLockError::Error(error)) => return Err(failed(&path)(error)),
            }
            let lock = Self { path: path.clone(), file };
            if lock.is_in_place() {
                return Ok(lock);
            }
            // The one before removed it meanwhile.
        }
    }

    /// Returns `true` if another starter would meet this lock.
    fn is_in_place(&self) -> bool {
        let here = self.file.metadata().map(|file| identity(&file));
        let there = fs::symlink_metadata(&self.path).map(|file| identity(&file));
        matches!((here, there), (Ok(here), Ok(there)) if here == there)
    }
}

/// The path without symbolic links, once its directories are known to be safe.
fn settle(path: &Path) -> Result<PathBuf, SocketFileError> {
    check_path(path).map_err(failed(path))?;
    let Some(name) = path.file_name() else {
        return Err(failed(path)(io::Error::new(io::ErrorKind::InvalidInput, "it names no file")));
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = parent.canonicalize().map_err(failed(parent))?;
    for (level, directory) in parent.ancestors().enumerate() {
        let found = fs::metadata(directory).map_err(failed(directory))?;
        let mode = found.mode() & 0o7777;
        // Above the socket's own directory, others may make files beside the way, but not move it.
        let safe = if level == 0 {
            mode & WRITABLE_BY_OTHERS == 0
        } else {
            mode & WRITABLE_BY_OTHERS == 0 || mode & STICKY != 0
        };
        let directory = directory.to_owned();
        if !safe {
            return Err(SocketFileError::Exposed { directory, mode });
        }
        if found.uid() != 0 && found.uid() != rustix::process::geteuid().as_raw() {
            return Err(SocketFileError::ForeignDirectory { directory, user: found.uid() });
        }
    }
    let settled = parent.join(name);
    check_path(&settled).map_err(failed(&settled))?;
    Ok(settled)
}

/// Removes a file that a listener has left behind. To be called with the lock.
fn make_room(path: &Path) -> Result<(), SocketFileError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(path)(error)),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(SocketFileError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    // A listener without our lock is another program's, or another version's. One whose queue is full
    // lets nothing in and lives all the same.
    let probe = || {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&socket2::SockAddr::unix(path)?)
    };
    match probe() {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(failed(path)(error)),
        _ => return Err(SocketFileError::InUse { path: path.to_owned() }),
    }
    fs::remove_file(path).map_err(failed(path))
}

fn listen(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let socket = bind_private(socket, path)?;
    // Nothing can connect before.
    socket.listen(BACKLOG)?;
    let made = identity(&fs::symlink_metadata(path)?);
    Ok((OwnedFd::from(socket).into(), made))
}

/// Makes the file with its mode, whatever the process's umask is. On Linux it takes that of the socket.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn bind_private(socket: socket2::Socket, path: &Path) -> io::Result<socket2::Socket> {
    let file = File::from(OwnedFd::from(socket));
    file.set_permissions(Permissions::from_mode(MODE))?;
    let socket = socket2::Socket::from(OwnedFd::from(file));
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    Ok(socket)
}

/// Makes the file where no other user can reach it, and moves it when its mode is right.
#[cfg(any(test, not(any(target_os = "linux", target_os = "android"))))]
#[cfg_attr(any(target_os = "linux", target_os = "android"), allow(dead_code))]
mod elsewhere {
    use std::os::unix::fs::DirBuilderExt;

    use super::*;

    pub(super) fn bind_private(socket: socket2::Socket, path: &Path) -> io::Result<socket2::Socket> {
        let mut random = [0; 4];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let private = path.with_file_name(format!(".{:08x}", u32::from_ne_bytes(random)));
        fs::DirBuilder::new().mode(0o700).create(&private)?;
        let draft = private.join("s");
        let moved = socket
            .bind(&socket2::SockAddr::unix(&draft)?)
            .and_then(|()| fs::set_permissions(&draft, Permissions::from_mode(MODE)))
            .and_then(|()| fs::rename(&draft, path));
        if moved.is_err() {
            let _ = fs::remove_file(&draft);
        }
        let _ = fs::remove_dir(&private);
        moved.map(|()| socket)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
use elsewhere::bind_private;

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn failed(path: &Path) -> impl Fn(io::Error) -> SocketFileError {
    move |source| SocketFileError::Io { path: path.to_owned(), source }
}

#[cfg(all(test, not(trunkline_loom)))]
mod tests {
    use super::*;

    /// Where the system does not take a mode from the socket, the file appears at its path with it.
    #[test]
    fn a_socket_that_is_moved_into_place_can_be_reached_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("moved");
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        let socket = elsewhere::bind_private(socket, &path).unwrap();
        socket.listen(1).unwrap();
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
