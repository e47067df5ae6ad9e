//! Where a listener is.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};
#[cfg(unix)]
use std::path::{Path, PathBuf};

/// Where a client finds its listener: socket addresses, or a name that is looked up for each attempt.
///
/// Everything that [`TcpStream::connect`](std::net::TcpStream::connect) takes converts into it, so a
/// program seldom names the type. A name may stand for several addresses; all of them are tried.
///
/// ```
/// use trunkline::Address;
///
/// let name = Address::from("localhost:4000");
/// let number = Address::from(([127, 0, 0, 1], 4000));
/// assert_eq!(number, Address::from("127.0.0.1:4000"));
/// assert_ne!(name, number);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address(Kind);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Kind {
    Sockets(Vec<SocketAddr>),
    /// `host:port`.
    Text(String),
    Host(String, u16),
    #[cfg(unix)]
    Unix(PathBuf),
}

/// What a socket connects to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(PathBuf),
}

impl Target {
    /// The other end is on this machine.
    pub(crate) fn is_here(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            #[cfg(unix)]
            Self::Unix(_) => true,
        }
    }
}

impl Address {
    /// The address of a Unix socket: the file that [`Listener::bind_unix`](crate::Listener::bind_unix) has
    /// made.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use trunkline::Address;
    ///
    /// assert_eq!(Address::unix("/run/user/1000/kernel.sock").to_string(), "/run/user/1000/kernel.sock");
    /// # }
    /// ```
    #[cfg(unix)]
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self(Kind::Unix(path.into()))
    }

    pub(crate) fn is_unix(&self) -> bool {
        match &self.0 {
            #[cfg(unix)]
            Kind::Unix(_) => true,
            _ => false,
        }
    }

    /// The targets, if no name has to be looked up.
    pub(crate) fn known(&self) -> Option<Vec<Target>> {
        match &self.0 {
            Kind::Sockets(addresses) => Some(addresses.iter().copied().map(Target::Tcp).collect()),
            #[cfg(unix)]
            Kind::Unix(path) => Some(vec![Target::Unix(path.clone())]),
            Kind::Text(_) | Kind::Host(..) => None,
        }
    }

    /// Checks what can be seen without a look at the network.
    pub(crate) fn check(&self) -> io::Result<()> {
        let wrong = match &self.0 {
            Kind::Sockets(addresses) => addresses.is_empty(),
            Kind::Text(text) => text.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()),
            Kind::Host(..) => false,
            #[cfg(unix)]
            Kind::Unix(path) => return check_path(path),
        };
        let message = || format!("{self} is no address: it takes the form host:port");
        if wrong { Err(io::Error::new(io::ErrorKind::InvalidInput, message())) } else { Ok(()) }
    }

    /// Looks the name up, which may take as long as the system likes.
    pub(crate) fn look_up(&self) -> io::Result<Vec<SocketAddr>> {
        let found = match &self.0 {
            Kind::Sockets(addresses) => Ok(addresses.clone()),
            Kind::Text(text) => text.to_socket_addrs().map(Iterator::collect),
            Kind::Host(host, port) => (&**host, *port).to_socket_addrs().map(Iterator::collect),
            #[cfg(unix)]
            Kind::Unix(_) => Ok(Vec::new()),
        };
        let found: Vec<SocketAddr> =
            found.map_err(|error| io::Error::new(error.kind(), format!("cannot look up {self}: {error}")))?;
        if found.is_empty() {
            let message = format!("{self} stands for no address");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(found)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Sockets(addresses) => {
                for (at, address) in addresses.iter().enumerate() {
                    if at > 0 {
                        f.write_str(", ")?;
                    }
                    address.fmt(f)?;
                }
                Ok(())
            }
            Kind::Text(text) => f.write_str(text),
            Kind::Host(host, port) => write!(f, "{host}:{port}"),
            #[cfg(unix)]
            Kind::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The longest path of a Unix socket, in bytes.
#[cfg(unix)]
pub(crate) const LONGEST_PATH: usize =
    if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };

/// Checks that a path can be that of a Unix socket.
#[cfg(unix)]
pub(crate) fn check_path(path: &Path) -> io::Result<()> {
    let bytes = path.as_os_str().len();
    let wrong = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    if bytes > LONGEST_PATH {
        let path = path.display();
        return wrong(format!(
            "the path of a Unix socket may have {LONGEST_PATH} bytes on this system, and {path} has {bytes}; \
             choose a shorter directory, such as $XDG_RUNTIME_DIR"
        ));
    }
    if bytes == 0 || std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).contains(&0) {
        // That of an abstract name, which has neither an owner nor a mode.
        return wrong("the path of a Unix socket is empty or has a zero byte in it".to_owned());
    }
    Ok(())
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        Self(match text.parse() {
            Ok(address) => Kind::Sockets(vec![address]),
            Err(_) => Kind::Text(text.to_owned()),
        })
    }
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        Self::from(&*text)
    }
}

impl From<&String> for Address {
    fn from(text: &String) -> Self {
        Self::from(&**text)
    }
}

impl From<&[SocketAddr]> for Address {
    fn from(addresses: &[SocketAddr]) -> Self {
        Self(Kind::Sockets(addresses.to_vec()))
    }
}

impl From<Vec<SocketAddr>> for Address {
    fn from(addresses: Vec<SocketAddr>) -> Self {
        Self(Kind::Sockets(addresses))
    }
}

impl<const N: usize> From<[SocketAddr; N]> for Address {
    fn from(addresses: [SocketAddr; N]) -> Self {
        Self(Kind::Sockets(addresses.to_vec()))
    }
}

impl<const N: usize> From<&[SocketAddr; N]> for Address {
    fn from(addresses: &[SocketAddr; N]) -> Self {
        Self(Kind::Sockets(addresses.to_vec()))
    }
}

impl From<(&str, u16)> for Address {
    fn from((host, port): (&str, u16)) -> Self {
        match host.parse::<IpAddr>() {
            Ok(address) => Self::from((address, port)),
            Err(_) => Self(Kind::Host(host.to_owned(), port)),
        }
    }
}

impl From<(String, u16)> for Address {
    fn from((host, port): (String, u16)) -> Self {
        Self::from((&*host, port))
    }
}

macro_rules! from_numbers {
    ($($from:ty),*) => {
        $(impl From<$from> for Address {
            fn from(address: $from) -> Self {
                Self(Kind::Sockets(vec![address.into()]))
            }
        })*
    };
}

from_numbers!(SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

impl From<([u8; 4], u16)> for Address {
    fn from(address: ([u8; 4], u16)) -> Self {
        Self(Kind::Sockets(vec![address.into()]))
    }
}

impl From<&SocketAddr> for Address {
    fn from(address: &SocketAddr) -> Self {
        Self::from(*address)
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Self {
        address.clone()
    }
}
