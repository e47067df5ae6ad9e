//! Where a host is, and a connection to it.

pub mod names;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use trunkline::{Address, Config, ConnectError, Connection, HandshakeError, Key, KeyError};

use crate::arguments::Reach;
use crate::failure::{CONFIG, Failure, NO_PERMISSION, UNAVAILABLE, USAGE};
use names::Name;

/// How long a link may be lost before that is the end.
pub const GRACE: Duration = Duration::from_secs(3600);

/// How long a silent link is believed in. The keyboard of a machine that sleeps is given away after this, and a person that
/// types sees as soon that nothing arrives.
pub const HEARTBEAT: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(10));

/// The variable in which a program finds the address that it is served at. Attaching there from within would show its
/// output to itself, for ever.
pub const INSIDE: &str = "TRUNKLINE_INSIDE";

/// A host as it was named, and where that is.
#[derive(Debug)]
pub struct Place {
    /// As it was named, for what the person is told.
    pub name: String,
    address: Address,
    key_file: PathBuf,
}

/// What the text of an address is.
pub enum Written<'a> {
    /// It has a slash.
    Path(&'a Path),
    /// It has a colon.
    Socket(&'a str),
    Name(Name),
}

impl<'a> Written<'a> {
    pub fn read(address: &'a str) -> Result<Self, Failure> {
        if address.contains('/') {
            Ok(Self::Path(Path::new(address)))
        } else if address.contains(':') {
            Ok(Self::Socket(address))
        } else {
            let name = address.parse();
            name.map(Self::Name).map_err(|error| {
                let text = format!(
                    "{address:?} is no address: write HOST:PORT as the host has printed it, the path of a Unix socket \
                     with a slash in it, or a name that `trunkline ls` lists ({error})"
                );
                Failure::new(USAGE, text)
            })
        }
    }
}

impl Place {
    /// Finds out where a host is.
    pub fn find(reach: &Reach) -> Result<Self, Failure> {
        let name = reach.address.clone();
        let (address, own_key) = match Written::read(&reach.address)? {
            Written::Path(path) => (Address::unix(path), None),
            Written::Socket(text) => (Address::from(text), None),
            Written::Name(name) => {
                let entry = names::look_up(&name)?;
                (address_of(&entry.address), Some(entry.key_file))
            }
        };
        // The variable is for the address of its session, and a host with a name says which key it has.
        let from_variable =
            reach.key_file.as_deref().map(Path::as_os_str) == std::env::var_os(KEY_FILE).as_deref();
        let given = reach.key_file.clone();
        let key_file = if from_variable { own_key.or(given) } else { given.or(own_key) };
        let key_file = key_file.ok_or_else(|| {
            let text = format!("{name}: which key? Give --key-file FILE, or set {KEY_FILE}");
            Failure::new(USAGE, text)
        })?;
        Ok(Self { name, address, key_file })
    }

    /// Returns `true` if this process runs in the program that is served there.
    pub fn is_around_us(&self) -> bool {
        std::env::var_os(INSIDE).is_some_and(|inside| is_same(&inside, &self.address.to_string()))
    }

    /// Connects. The host is asked once: one that is not there is an error at once.
    pub fn connect(&self) -> Result<Connection, Failure> {
        let name = &self.name;
        let config = Config::new(read_key(&self.key_file)?)
            .interactive()
            .resume_grace(GRACE)
            .heartbeat(HEARTBEAT.0, HEARTBEAT.1);
        Connection::connect(&self.address, config).map_err(|error| match error {
            ConnectError::Handshake(
                HandshakeError::NotAuthorised | HandshakeError::BadProof | HandshakeError::ForeignUser { .. },
            ) => Failure::new(
                NO_PERMISSION,
                format!("{name}: {error}; use the key file that the host was started with"),
            ),
            ConnectError::Handshake(
                HandshakeError::NoCommonVersion { .. } | HandshakeError::NotTrunkline,
            ) => {
                let version = env!("CARGO_PKG_VERSION");
                Failure::new(UNAVAILABLE, format!("{name}: {error} (this is trunkline {version})"))
            }
            error => Failure::new(UNAVAILABLE, format!("{name}: {error}; is the host running there?")),
        })
    }

    /// A failure that begins with the name of the host.
    pub fn failure(&self, code: u8, text: impl std::fmt::Display) -> Failure {
        Failure::new(code, format!("{}: {text}", self.name))
    }

    /// The connection is over before what was asked for was done.
    pub fn lost(&self, cause: impl std::fmt::Display) -> Failure {
        self.failure(UNAVAILABLE, format!("the host is gone, or the link to it: {cause}"))
    }
}

const KEY_FILE: &str = "TRUNKLINE_KEY_FILE";

/// The address that a host has printed.
fn address_of(text: &str) -> Address {
    if text.contains('/') { Address::unix(text) } else { Address::from(text) }
}

/// Returns `true` if two texts stand for one address, as far as that can be seen.
fn is_same(one: &OsStr, other: &str) -> bool {
    let file = |path: &OsStr| Path::new(path).canonicalize().ok();
    one == other || (other.contains('/') && file(one).is_some_and(|one| Some(one) == file(other.as_ref())))
}

/// Reads a key file.
pub fn read_key(file: &Path) -> Result<Key, Failure> {
    Key::from_file(file).map_err(|error| {
        let file = file.display();
        let text = match &error {
            KeyError::File { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                format!("{error}; `trunkline key {file}` makes one, for the host and a copy for each client")
            }
            KeyError::File { .. } | KeyError::Exposed { .. } => error.to_string(),
            // `trunkline key` replaces nothing.
            _ => format!("{file}: {error}; name the file that `trunkline key` has made"),
        };
        Failure::new(CONFIG, text)
    })
}
