//! What is forwarded, and what may be reached.

use std::fmt;
use std::str::FromStr;

/// A port of this machine, and where it leads, as seen from the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    pub local: u16,
    pub target: String,
}

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: write LOCAL_PORT:HOST:PORT, as 8080:localhost:80");
        let (local, target) = text.split_once(':').ok_or_else(wrong)?;
        let local = local.parse().map_err(|_| wrong())?;
        split(target).filter(|(host, port)| *host != "*" && port.parse::<u16>().is_ok()).ok_or_else(wrong)?;
        Ok(Self { local, target: target.to_owned() })
    }
}

/// What clients may reach: a host and a port, either of them any with `*`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allowed {
    host: String,
    port: Option<u16>,
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write HOST:PORT, as localhost:80; * stands for any host or any port".to_owned();
        let (host, port) = split(text).ok_or_else(wrong)?;
        let port = if port == "*" { None } else { Some(port.parse().map_err(|_| wrong())?) };
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match self.port {
            Some(port) => write!(f, "{host}:{port}"),
            None => write!(f, "{host}:*"),
        }
    }
}

impl Allowed {
    /// Returns `true` if a target is one of these. A host counts as it is written: what it stands for is looked up here.
    pub fn covers(&self, target: &str) -> bool {
        split(target).is_some_and(|(host, port)| {
            (self.host == "*" || self.host == host.to_ascii_lowercase())
                && port.parse().is_ok_and(|port: u16| self.port.is_none_or(|allowed| allowed == port))
        })
    }
}

/// The host, without brackets, and the port of `HOST:PORT`.
pub fn split(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    // An address with colons has brackets; a name has nothing in it that is none.
    let fits = !host.is_empty()
        && !host.contains(|c: char| c.is_control() || c.is_whitespace() || "[]/".contains(c));
    (fits && (bare.is_some() || !host.contains(':'))).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read() {
        for (text, local, target) in [
            ("8080:localhost:80", 8080, "localhost:80"),
            ("0:[::1]:443", 0, "[::1]:443"),
            ("1:10.0.0.1:2", 1, "10.0.0.1:2"),
        ] {
            assert_eq!(text.parse(), Ok(Route { local, target: target.to_owned() }));
        }
        for wrong in [
            "",
            "80",
            "80:80",
            "x:host:80",
            "70000:host:80",
            "1:host:x",
            "1::80",
            "1:::1:80",
            "1:*:80",
            "1:a b:80",
            "[::1]:80",
        ] {
            assert!(wrong.parse::<Route>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_is_allowed_is_covered() {
        let covers = |allowed: &str, target: &str| allowed.parse::<Allowed>().unwrap().covers(target);
        assert!(covers("localhost:80", "LOCALHOST:80") && covers("[::1]:80", "[::1]:80"));
        assert!(covers("*:80", "any:80") && covers("db:*", "db:5432") && covers("*:*", "any:1"));
        for (allowed, target) in [
            ("localhost:80", "localhost:81"),
            ("localhost:80", "127.0.0.1:80"),
            ("localhost:80", "localhost.evil:80"),
            ("localhost:80", "evil:localhost:80"),
            ("*:80", "any:8080"),
            ("db:*", "db2:1"),
            ("db:*", "db:*"),
            ("*:*", "db"),
            ("*:*", "db:99999"),
        ] {
            assert!(!covers(allowed, target), "{allowed} covers {target}");
        }
        for text in ["[::1]:80", "db:*", "*:1"] {
            assert_eq!(text.parse::<Allowed>().unwrap().to_string(), text);
        }
        for wrong in ["", "x", "x:", "x:y", ":80", "x:80:y"] {
            assert!(wrong.parse::<Allowed>().is_err(), "{wrong}");
        }
    }
}
