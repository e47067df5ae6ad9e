//! The shared secret of two peers.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::KeyError;

/// 32 random bytes that both peers have and no other program knows.
///
/// Nothing of it is ever on the wire. `Debug` prints nothing of it, and it wipes itself when it is dropped.
///
/// ```
/// use trunkline::Key;
///
/// let key = Key::generate();
/// assert_eq!(format!("{key:?}"), "Key(..)");
/// assert!("too short".parse::<Key>().is_err());
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl Key {
    /// Creates a fresh key from the system's random numbers.
    ///
    /// # Panics
    ///
    /// If the system gives no random numbers.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the system gives random numbers");
        Self(bytes)
    }

    /// Reads a key from a file that only its owner can read and that holds 64 hex digits.
    ///
    /// ```
    /// use trunkline::{Key, KeyError};
    ///
    /// # let folder = std::env::temp_dir().join(format!("trunkline-key-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// let path = folder.join("kernel.key");
    /// Key::generate().write_new_file(&path)?;
    /// let _key = Key::from_file(&path)?;
    /// // A key that is in use is not overwritten.
    /// assert!(matches!(Key::generate().write_new_file(&path), Err(KeyError::File { .. })));
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`KeyError::Exposed`] if other users can read or change the file (checked on Unix only),
    /// [`KeyError::NotHex`] if it holds no key, [`KeyError::File`] if it is no regular file or cannot be
    /// read.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        // Looked at before it is opened: a pipe would wait for a writer.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
        }
        let file = std::fs::File::open(path).map_err(failed)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(KeyError::Exposed { path: path.to_owned(), mode });
            }
        }
        let mut text = Zeroizing::new(String::new());
        // A key file is one short line; more than that is none, whatever its size.
        io::Read::read_to_string(&mut io::Read::take(file, 1024), &mut text).map_err(failed)?;
        text.parse()
    }

    /// Reads the key in a file, or makes a new one and writes it there if there is no such file: for a
    /// server, which is there first.
    ///
    /// # Errors
    ///
    /// As [`from_file`](Key::from_file) and [`write_new_file`](Key::write_new_file).
    pub fn from_file_or_new(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        match Self::from_file(path) {
            Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let key = Self::generate();
        match key.write_new_file(path) {
            Ok(()) => Ok(key),
            // Another program was faster.
            Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                Self::from_file(path)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads a key from an environment variable that holds 64 hex digits.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotSet`] if the variable is not set, [`KeyError::NotHex`] if it holds no key.
    pub fn from_env(variable: &str) -> Result<Self, KeyError> {
        match std::env::var(variable) {
            Ok(text) => Zeroizing::new(text).parse(),
            Err(std::env::VarError::NotPresent) => Err(KeyError::NotSet(variable.to_owned())),
            Err(std::env::VarError::NotUnicode(_)) => Err(KeyError::NotHex),
        }
    }

    /// Writes the key into a new file that only its owner can read (mode 0600 on Unix).
    ///
    /// # Errors
    ///
    /// [`KeyError::File`] if the file cannot be written or exists already: a key that is in use is not
    /// overwritten.
    pub fn write_new_file(&self, path: impl AsRef<Path>) -> Result<(), KeyError> {
        let path = path.as_ref();
        self.write_whole(path).map_err(|source| KeyError::File { path: path.to_owned(), source })
    }

    /// The file is there whole or not at all, so a program that reads it at the same time never finds the
    /// beginning of a key.
    fn write_whole(&self, path: &Path) -> io::Result<()> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        // Not made from the file's name, which may be as long as a name can be.
        let draft = path.with_file_name(format!(".key-{:016x}", u64::from_ne_bytes(random)));
        // Unlike a rename, a link replaces nothing.
        let written = self.write_to(&draft).and_then(|()| std::fs::hard_link(&draft, path));
        let _ = std::fs::remove_file(&draft);
        match written {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) =>
            {
                // A file system without links.
                self.write_to(path)
            }
            other => other,
        }
    }

    fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        writeln!(options.open(path)?, "{}", *self.expose_hex())
    }

    /// Returns the key as 64 hex digits, for a process that may have it. The text wipes itself when it is
    /// dropped. Do not print it, log it or put it on a command line.
    #[must_use]
    pub fn expose_hex(&self) -> Zeroizing<String> {
        let mut hex = Zeroizing::new(String::with_capacity(64));
        for byte in self.0 {
            for digit in [byte >> 4, byte & 15] {
                hex.push(char::from_digit(u32::from(digit), 16).unwrap_or_default());
            }
        }
        hex
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the client names its key by (protocol, section 1).
    pub(crate) fn id(&self) -> [u8; 8] {
        let hash = Sha256::new().chain_update(b"trunkline key id").chain_update(self.0).finalize();
        *hash.first_chunk().unwrap_or(&[0; 8])
    }
}

impl From<[u8; 32]> for Key {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let digits: &[u8; 64] = text.trim().as_bytes().try_into().map_err(|_| KeyError::NotHex)?;
        let mut key = Self([0; 32]);
        for (byte, pair) in key.0.iter_mut().zip(digits.chunks_exact(2)) {
            for &digit in pair {
                let value = char::from(digit).to_digit(16).ok_or(KeyError::NotHex)?;
                *byte = *byte << 4 | value as u8;
            }
        }
        Ok(key)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file_and_a_readable_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = Key::generate();
        key.write_new_file(&path).unwrap();
        assert_eq!(Key::from_file(&path).unwrap().bytes(), key.bytes());
        assert!(matches!(key.write_new_file(&path), Err(KeyError::File { .. })), "never overwritten");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
            assert!(matches!(Key::from_file(&path), Err(KeyError::Exposed { mode: 0o640, .. })));
        }
    }

    #[test]
    fn only_64_hex_digits_are_a_key() {
        for text in ["", "12", &"g".repeat(64), &"1".repeat(63), &"1".repeat(65), &"é".repeat(32)] {
            assert!(matches!(text.parse::<Key>(), Err(KeyError::NotHex)), "{text}");
        }
        let key: Key = format!(" {}\n", "aB".repeat(32)).parse().unwrap();
        assert_eq!(key.bytes(), &[0xab; 32]);
        assert_eq!(*key.expose_hex(), "ab".repeat(32));
    }
}
