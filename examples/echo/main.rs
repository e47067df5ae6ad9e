//! A server that sends everything back, and a client that checks that it does.
//!
//! ```text
//! cargo run --release --example echo -- key --key-file /tmp/key
//! cargo run --release --example echo -- serve --listen 127.0.0.1:0 --key-file /tmp/key
//! cargo run --release --example echo -- load --connect 127.0.0.1:PORT --key-file /tmp/key \
//!     --channels 128 --messages 1000 --size 4096
//! cargo run --release --example echo -- serve --unix /tmp/mine/echo.sock --key-file /tmp/key --sealed
//! cargo run --release --example echo -- soak --minutes 10 --cuts 10000
//! ```
//!
//! It exits with 0 if all went well, 1 if something failed, 2 if it was called wrongly.

mod content;
mod load;
mod proxy;
mod serve;
mod soak;

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use lexopt::prelude::*;
use trunkline::{Config, ConnectError, HandshakeError, Key, KeyError, Sealing};

const HELP: &str = "\
Sends messages over up to 128 channels of one socket and back.

  echo key   --key-file F
      Writes a fresh key into the new file F, for its owner only.
  echo serve (--listen ADDR | --unix PATH) --key-file F [--grace S]
             [--heartbeat MS] [--sealed | --allow-plaintext]
      Echoes every message on the channel it came on. Prints `listening on ADDR`
      with the port that it got: with 127.0.0.1:0 the system chooses one. With
      --unix it listens on a Unix socket at PATH. A client whose link is lost has
      S seconds to come back (60; 0: none). On this machine it takes clients that
      encrypt and clients that do not; at an address that other machines reach, or
      with --sealed, only the former. --allow-plaintext says that the network is
      trusted: then nothing is encrypted, and clients need --plain.
  echo load  (--connect ADDR | --unix PATH) --key-file F --channels C
             --messages N --size S [--rate R] [--reconnect] [--heartbeat MS]
             [--sealed | --plain]
      Sends N messages of S bytes on each of C channels (1 to 128), and checks
      every byte that comes back, and the order. --rate: at most R messages a
      second on each channel. --reconnect: goes on when the link is lost and
      comes back within 60 seconds, and says how often that was; without, that
      is a failure. --sealed encrypts, as is the default over TCP; --plain does
      not.
  echo soak  --minutes N [--cuts N] [--seed N]
      Both sides in one process, and between them a proxy that cuts links, stalls
      and splits what they carry, and lets attempts to connect arrive late and
      twice. Checks every byte, and that what a close has confirmed has arrived.
      Ends after N minutes, or after N cuts if that comes first. The seed decides
      what is sent and how the links are treated, not the order of the threads.
  echo --help

--heartbeat: a peer that was silent for MS milliseconds is asked whether it is
there, and after three times as long its link counts as lost (10000).

Both sides need the same key file. Exit status: 0 if all went well, 1 if
something failed, 2 if the arguments are wrong.
";

/// The largest message.
const LARGEST: u32 = 1 << 30;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let command = match parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("echo: {error}\nTry `echo --help`.");
            return ExitCode::from(2);
        }
    };
    let done = match command {
        Command::Help => say(HELP.trim_end()),
        Command::Key { key_file } => {
            Key::generate().write_new_file(&key_file).map_err(|error| no_new_key(error, &key_file))
        }
        Command::Serve { at, key_file, link, terms } => {
            config(&key_file, &link).and_then(|config| serve::run(&at, config, terms))
        }
        Command::Soak(plan) => soak::run(plan),
        Command::Load { at, key_file, link, plan } => config(&key_file, &link).and_then(|config| {
            load::run(&at, config, plan).map_err(|error| match error.downcast_ref() {
                Some(ConnectError::Handshake(HandshakeError::NotAuthorised)) => {
                    format!("--key-file {}: {error}", key_file.display()).into()
                }
                Some(ConnectError::Handshake(HandshakeError::SealedOnly | HandshakeError::PlainOnly)) => {
                    format!("{error} (see --sealed and --plain)").into()
                }
                Some(_) => {
                    let (option, at) = match &at {
                        Place::Tcp(address) => ("--connect", address),
                        Place::Unix(path) => ("--unix", path),
                    };
                    format!("{option} {at}: {error}; `echo serve` prints the address to give here").into()
                }
                None => error,
            })
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Where the two sides meet.
#[derive(Debug)]
pub(crate) enum Place {
    Tcp(String),
    Unix(String),
}

/// What both sides set.
#[derive(Debug)]
struct Link {
    heartbeat: Option<u64>,
    sealing: Sealing,
}

#[derive(Debug)]
enum Command {
    Help,
    Key { key_file: PathBuf },
    Serve { at: Place, key_file: PathBuf, link: Link, terms: serve::Terms },
    Load { at: Place, key_file: PathBuf, link: Link, plan: load::Plan },
    Soak(soak::Plan),
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, lexopt::Error> {
    let mut parser = lexopt::Parser::from_iter(args);
    let (mut verb, mut listen, mut connect, mut unix, mut key_file) = (None, None, None, None, None);
    let (mut channels, mut messages, mut size) = (None, None, None);
    let (mut rate, mut reconnect) = (None, false);
    let (mut minutes, mut cuts, mut seed) = (None, None, None);
    let (mut grace, mut heartbeat, mut allow_plaintext) = (None, None, false);
    let mut sealing = Sealing::Auto;
    while let Some(arg) = parser.next()? {
        let verb_now = verb.as_deref();
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Value(value) if verb.is_none() => verb = Some(value.string()?),
            Long("key-file") => key_file = Some(parser.value()?.into()),
            Long("listen") if verb_now == Some("serve") => listen = Some(parser.value()?.string()?),
            Long("connect") if verb_now == Some("load") => connect = Some(parser.value()?.string()?),
            Long("unix") if matches!(verb_now, Some("serve" | "load")) => {
                unix = Some(parser.value()?.string()?);
            }
            Long("sealed") if matches!(verb_now, Some("serve" | "load")) => sealing = Sealing::Always,
            Long("plain") if verb_now == Some("load") => sealing = Sealing::Never,
            Long("channels") if verb_now == Some("load") => {
                channels = Some(number("channels", &mut parser, 1..=128)?)
            }
            Long("messages") if verb_now == Some("load") => {
                messages = Some(number("messages", &mut parser, 0..=u64::MAX >> 8)?);
            }
            Long("size") if verb_now == Some("load") => {
                size = Some(number("size", &mut parser, 0..=LARGEST.into())?)
            }
            Long("rate") if verb_now == Some("load") => {
                rate = Some(number("rate", &mut parser, 1..=1_000_000)?);
            }
            Long("grace") if verb_now == Some("serve") => {
                grace = Some(number("grace", &mut parser, 0..=u64::MAX >> 1)?);
            }
            Long("allow-plaintext") if verb_now == Some("serve") => allow_plaintext = true,
            Long("heartbeat") if matches!(verb_now, Some("serve" | "load")) => {
                heartbeat = Some(number("heartbeat", &mut parser, 1..=86_400_000)?);
            }
            Long("minutes") if verb_now == Some("soak") => {
                minutes = Some(number("minutes", &mut parser, 1..=100_000)?);
            }
            Long("cuts") if verb_now == Some("soak") => {
                cuts = Some(number("cuts", &mut parser, 1..=u64::MAX)?);
            }
            Long("seed") if verb_now == Some("soak") => {
                seed = Some(number("seed", &mut parser, 0..=u64::MAX)?);
            }
            Long("reconnect") if verb_now == Some("load") => reconnect = true,
            other => return Err(other.unexpected()),
        }
    }
    let place = |tcp: Option<String>, missing: &'static str| match (tcp, unix) {
        (Some(_), Some(_)) => Err("--unix takes the place of the address; give one of the two"),
        (Some(address), None) => Ok(Place::Tcp(address)),
        (None, Some(path)) => Ok(Place::Unix(path)),
        (None, None) => Err(missing),
    };
    if allow_plaintext && sealing == Sealing::Always {
        return Err("--sealed encrypts and --allow-plaintext does not; give one of the two".into());
    }
    let link = Link { heartbeat, sealing };
    let key_file = || key_file.ok_or("--key-file is missing; `echo key --key-file F` makes one");
    match verb.as_deref() {
        Some("key") => Ok(Command::Key { key_file: key_file()? }),
        Some("serve") => Ok(Command::Serve {
            at: place(listen, "--listen is missing; 127.0.0.1:0 takes any free port")?,
            key_file: key_file()?,
            link,
            terms: serve::Terms { grace: Duration::from_secs(grace.unwrap_or(60)), allow_plaintext },
        }),
        Some("load") => Ok(Command::Load {
            at: place(connect, "--connect is missing: the address that `echo serve` printed")?,
            key_file: key_file()?,
            link,
            plan: load::Plan {
                channels: channels.ok_or("--channels is missing: 1 to 128")? as u8,
                messages: messages.ok_or("--messages is missing: how many on each channel")?,
                size: size.ok_or("--size is missing: the bytes of a message")? as usize,
                rate,
                reconnect,
            },
        }),
        Some("soak") => Ok(Command::Soak(soak::Plan {
            time: Duration::from_secs(60 * minutes.ok_or("--minutes is missing: how long it may take")?),
            cuts,
            seed,
        })),
        Some(other) => {
            Err(format!("there is no command `{other}`; there are `key`, `serve`, `load` and `soak`").into())
        }
        None => Err("what to do is missing: `key`, `serve`, `load` or `soak`".into()),
    }
}

fn number(
    name: &str,
    parser: &mut lexopt::Parser,
    range: std::ops::RangeInclusive<u64>,
) -> Result<u64, lexopt::Error> {
    let value = parser.value()?;
    let number = value.to_str().and_then(|value| value.parse().ok());
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        format!("--{name} is {}; it must be a whole number, {least} to {most}", value.display()).into()
    })
}

/// What both sides have in common.
fn config(key_file: &Path, link: &Link) -> Result<Config, Failure> {
    let key = Key::from_file(key_file).map_err(|error| -> Failure {
        match &error {
            KeyError::File { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                format!("{error}; `echo key --key-file {}` makes one", key_file.display()).into()
            }
            KeyError::File { .. } | KeyError::Exposed { .. } => error.into(),
            _ => format!("--key-file {}: {error}", key_file.display()).into(),
        }
    })?;
    // The largest that there is: the limit is that of `load`.
    let config = Config::new(key).max_message(LARGEST);
    let config = config.sealing(link.sealing);
    Ok(match link.heartbeat.map(Duration::from_millis) {
        Some(interval) => config.heartbeat(interval, interval * 3),
        None => config,
    })
}

fn no_new_key(error: KeyError, file: &Path) -> Failure {
    match &error {
        KeyError::File { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => format!(
            "{} is already there, and a key in use is not overwritten; name another file, or remove this one first",
            file.display()
        )
        .into(),
        _ => error.into(),
    }
}

/// A line on stdout, at once; a reader that is gone is an error and no panic.
fn say(line: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(|error| format!("cannot write to stdout: {error}").into())
}
