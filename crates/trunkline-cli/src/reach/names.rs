//! The hosts of this user by name.
//!
//! Each has a file in a directory of the user's own, and holds a lock on it as long as it lives, however it ends. So of
//! several that want one name exactly one has it, and what a dead one has left is known as such.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use trunkline::Key;

use crate::failure::{CANNOT_CREATE, Failure, OS_ERROR, UNAVAILABLE};

/// The longest name: with the directory before it and `.sock.lock` behind it, it is still a path for a socket.
const LONGEST: usize = 32;
/// How long a look of `trunkline ls` may hold a lock at most.
const LOOK: Duration = Duration::from_millis(500);

/// The name of a host. It is shown in terminals and is a part of paths, so it has nothing in it that either would obey.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Name(String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if text.len() <= LONGEST
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.bytes().all(fits)
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "a name has up to {LONGEST} letters, digits, '-', '_' or '.', and begins with a letter or digit"
            ))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a host says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub address: String,
    pub key_file: PathBuf,
    pub pid: u32,
    pub program: String,
}

/// A name that this process has, until it is dropped or the process ends.
#[derive(Debug)]
pub struct Claim {
    name: Name,
    directory: PathBuf,
    /// It is locked.
    file: File,
    /// The key was made for this host.
    own_key: bool,
}

/// The directory of the hosts of this user, which no other user can write.
fn directory() -> Result<PathBuf, Failure> {
    let user = rustix::process::getuid().as_raw();
    let directory = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(runtime) if runtime.is_absolute() => runtime.join("trunkline"),
        _ => std::env::temp_dir().join(format!("trunkline-{user}")),
    };
    let failure = |error: io::Error| Failure::new(CANNOT_CREATE, format!("{}: {error}", directory.display()));
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let text = format!(
                "cannot make the directory {}: {error}; set XDG_RUNTIME_DIR to a directory of yours, or unset it",
                directory.display()
            );
            return Err(Failure::new(CANNOT_CREATE, text));
        }
        _ => {}
    }
    // Not by a link: another user can make one where everybody can write.
    let found = fs::symlink_metadata(&directory).map_err(failure)?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        let text = format!(
            "{}: it must be a directory of yours that others cannot enter; `chmod 700` it, or set XDG_RUNTIME_DIR to another",
            directory.display()
        );
        return Err(Failure::new(CANNOT_CREATE, text));
    }
    Ok(directory)
}

fn file_of(directory: &Path, name: &Name, kind: &str) -> PathBuf {
    directory.join(format!("{name}.{kind}"))
}

impl Claim {
    /// Takes a name.
    pub fn new(name: &Name) -> Result<Self, Failure> {
        let directory = directory()?;
        let path = file_of(&directory, name, "host");
        let failure = |error: io::Error| Failure::new(OS_ERROR, format!("{}: {error}", path.display()));
        let until = Instant::now() + LOOK;
        loop {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
            let file = file.map_err(failure)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => {
                    file.set_len(0).map_err(failure)?;
                    return Ok(Self { name: name.clone(), directory, file, own_key: false });
                }
                // Its last owner has removed it just now.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    let text = format!(
                        "{name}: a host of this name runs; `trunkline attach {name}` attaches to it, or choose another name"
                    );
                    return Err(Failure::new(UNAVAILABLE, text));
                }
                Err(TryLockError::Error(error)) => return Err(failure(error)),
            }
        }
    }

    /// The path for a socket.
    pub fn socket(&self) -> PathBuf {
        file_of(&self.directory, &self.name, "sock")
    }

    /// Makes a key for this host alone.
    pub fn make_key(&mut self) -> Result<PathBuf, Failure> {
        let path = file_of(&self.directory, &self.name, "key");
        // A host that was killed has left it.
        let _ = fs::remove_file(&path);
        Key::generate().write_new_file(&path).map_err(|error| Failure::new(CANNOT_CREATE, error))?;
        self.own_key = true;
        Ok(path)
    }

    /// Says where this host is.
    pub fn announce(&mut self, entry: &Entry) -> Result<(), Failure> {
        // In one piece, so that a reader sees all of it or nothing.
        let text = serde_json::to_vec(entry).map_err(io::Error::from)?;
        Ok(self.file.write_all(&text)?)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.own_key {
            let _ = fs::remove_file(file_of(&self.directory, &self.name, "key"));
        }
        // While it is locked, so that no other's is removed.
        let _ = fs::remove_file(file_of(&self.directory, &self.name, "host"));
    }
}

/// Returns `true` if the file is the one that stands at a path.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// What a host says of itself; `None` if none lives. What a dead one has left is removed.
fn read(directory: &Path, name: &Name) -> Option<Entry> {
    let path = file_of(directory, name, "host");
    let mut file = File::open(&path).ok()?;
    if file.try_lock().is_ok() {
        if is_at(&file, &path) {
            let _ = fs::remove_file(file_of(directory, name, "key"));
            let _ = fs::remove_file(path);
        }
        return None;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    // One that is just starting has not said anything yet.
    serde_json::from_str(&text).ok()
}

/// Returns `true` if a host of this name lives.
pub fn lives(name: &Name) -> Result<bool, Failure> {
    Ok(read(&directory()?, name).is_some())
}

/// Looks a host up.
pub fn look_up(name: &Name) -> Result<Entry, Failure> {
    read(&directory()?, name).ok_or_else(|| {
        let text = format!(
            "{name}: no host of this name runs; `trunkline ls` lists those that do, and `trunkline new {name} -- PROGRAM` starts one"
        );
        Failure::new(UNAVAILABLE, text)
    })
}

/// All hosts that live, by name.
pub fn list() -> Result<Vec<(Name, Entry)>, Failure> {
    let directory = directory()?;
    let files = fs::read_dir(&directory)?.flatten();
    let names = files.filter_map(|file| file.file_name().to_str()?.strip_suffix(".host")?.parse().ok());
    let mut names: Vec<Name> = names.collect();
    names.sort();
    Ok(names.into_iter().filter_map(|name| read(&directory, &name).map(|entry| (name, entry))).collect())
}
