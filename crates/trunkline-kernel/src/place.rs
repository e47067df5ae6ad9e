//! Where a kernel is to be found: an address, and the file with the key.

use std::io;
use std::path::{Path, PathBuf};

use trunkline::{
    BindError, Config, ConfigError, ConnectError, Connection, HandshakeError, Key, KeyError, Listener,
};

/// Why a kernel cannot listen at a place, or a console cannot connect there. Each text begins with the file or
/// the address that it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// There is no key file.
    #[error("{}: there is no such file; a kernel makes it, and a console needs a copy", .file.display())]
    NoKey {
        /// The file.
        file: PathBuf,
    },
    /// The key file cannot be read or written, or has no key in it.
    #[error("{}: {source}", .file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// The reason.
        source: KeyError,
    },
    /// The kernel does not accept this key.
    #[error("{}: {address}: {source}", .file.display())]
    NotAuthorised {
        /// The file.
        file: PathBuf,
        /// The address.
        address: String,
        /// The reason.
        source: ConnectError,
    },
    /// Other machines reach this address, and plaintext is not allowed.
    #[error(
        "{address}: {reached} can be reached from other machines, and nothing on the way is encrypted; seal the connections (the feature `sealed` of trunkline does by default), listen on 127.0.0.1 and use a tunnel (ssh -L), or allow plaintext if the network is trusted"
    )]
    Plaintext {
        /// The address.
        address: String,
        /// What it stands for.
        reached: std::net::SocketAddr,
    },
    /// It cannot be listened on.
    #[error("{address}: {source}")]
    Bind {
        /// The address.
        address: String,
        /// The reason.
        source: BindError,
    },
    /// It cannot be connected to.
    #[error("{address}: {source}")]
    Connect {
        /// The address.
        address: String,
        /// The reason.
        source: ConnectError,
    },
}

impl PlaceError {
    /// Returns `true` if it is about the key file, and `false` if it is about the address.
    #[must_use]
    pub fn is_about_key(&self) -> bool {
        matches!(self, Self::NoKey { .. } | Self::Key { .. } | Self::NotAuthorised { .. })
    }

    fn key(file: &Path, source: KeyError) -> Self {
        let file = file.to_owned();
        match source {
            KeyError::File { source, .. } if source.kind() == io::ErrorKind::NotFound => Self::NoKey { file },
            source => Self::Key { file, source },
        }
    }
}

/// Listens with the key of a file. If there is none, a new key is written there once the address is found to be
/// good, so that a kernel that cannot listen leaves no file behind. `set` changes the configuration.
///
/// # Errors
///
/// See [`PlaceError`].
///
/// ```
/// use trunkline_kernel::{connect, listen};
///
/// # let folder = tempfile::tempdir()?;
/// # let file = folder.path().join("kernel.key");
/// let listener = listen("127.0.0.1:0", &file, |config| config)?; // makes the key
/// let console = connect(&listener.local_addr().to_string(), &file, |config| config)?;
/// # let _ = console;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn listen(
    address: &str,
    key_file: impl AsRef<Path>,
    set: impl FnOnce(Config) -> Config,
) -> Result<Listener, PlaceError> {
    let file = key_file.as_ref();
    let (key, is_new) = match Key::from_file(file).map_err(|error| PlaceError::key(file, error)) {
        Ok(key) => (key, false),
        Err(PlaceError::NoKey { .. }) => (Key::generate(), true),
        Err(error) => return Err(error),
    };
    let listener = Listener::bind(address, set(Config::new(key.clone()))).map_err(|source| match source {
        BindError::Config(ConfigError::Plaintext(reached)) => {
            PlaceError::Plaintext { address: address.to_owned(), reached }
        }
        source => PlaceError::Bind { address: address.to_owned(), source },
    })?;
    if is_new {
        key.write_new_file(file).map_err(|error| PlaceError::Key { file: file.to_owned(), source: error })?;
    }
    Ok(listener)
}

/// Connects with the key of a file. `set` changes the configuration.
///
/// # Errors
///
/// See [`PlaceError`].
pub fn connect(
    address: &str,
    key_file: impl AsRef<Path>,
    set: impl FnOnce(Config) -> Config,
) -> Result<Connection, PlaceError> {
    let file = key_file.as_ref();
    let key = Key::from_file(file).map_err(|error| PlaceError::key(file, error))?;
    let name = address.to_owned();
    Connection::connect(address, set(Config::new(key))).map_err(|source| match source {
        ConnectError::Handshake(HandshakeError::NotAuthorised) => {
            PlaceError::NotAuthorised { file: file.to_owned(), address: name, source }
        }
        source => PlaceError::Connect { address: name, source },
    })
}
