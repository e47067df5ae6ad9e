//! What stands on the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use trunkline_host::Size;

const EXIT: &str = "\
Exit status:
  0 done, or detached    2 wrong usage    69 cannot connect, link or host lost
  71 a fault of the system    73 a file cannot be made    77 not authorised    78 a key file cannot be used
  `host` and `attach` end with the program's status, or with 128 and the number of the signal that ended it.";

const EXAMPLES: &str = "\
Examples:
  trunkline key session.key
  trunkline host --listen 127.0.0.1:4000 --key-file session.key -- bash
  trunkline attach 127.0.0.1:4000 --key-file session.key     (Ctrl-] d detaches)

  export TRUNKLINE_ADDR=127.0.0.1:4000 TRUNKLINE_KEY_FILE=session.key
  echo 'make test' | trunkline attach --detach-on-eof";

/// Share a program: run it under a host, attach to it from anywhere, detach, come back.
#[derive(Parser, Debug)]
#[command(name = "trunkline", version, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT}"))]
struct Trunkline {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a key file that only you can read; an existing file is left alone
    Key(Key),
    /// Run a program for clients to attach to
    Host(Host),
    /// Use a program that runs under a host
    Attach(Attach),
    /// Stop what the program runs, as Ctrl-C does
    Interrupt(Interrupt),
    /// Print what completes this command in a shell
    Completions(Completions),
    /// Write the manual's pages
    Man(Man),
}

#[derive(Args, Debug)]
pub struct Interrupt {
    /// The host's address
    #[arg(value_name = "ADDR", env = "TRUNKLINE_ADDR")]
    pub address: String,
    /// The key
    #[arg(long, value_name = "FILE", env = "TRUNKLINE_KEY_FILE")]
    pub key_file: PathBuf,
}

#[derive(Args, Debug)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub struct Man {
    /// The directory to write to, one file for each command
    pub directory: PathBuf,
}

#[derive(Args, Debug)]
pub struct Key {
    /// Where to write the key
    pub file: PathBuf,
}

/// Runs a program in a pseudo-terminal, or with pipes, and serves it to every client that has the key. Prints
/// `listening on ADDRESS`, and ends with the program's status.
#[derive(Args, Debug)]
pub struct Host {
    /// Address to listen at; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: String,
    /// The key of those that may use the program
    #[arg(long, value_name = "FILE", env = "TRUNKLINE_KEY_FILE")]
    pub key_file: PathBuf,
    /// The key of those that may only watch
    #[arg(long, value_name = "FILE")]
    pub watch_key_file: Option<PathBuf>,
    /// Let other machines connect, although nothing is encrypted
    #[arg(long)]
    pub allow_plaintext: bool,
    /// Give the program a terminal, also if this command has none
    #[arg(long, conflicts_with = "pipes")]
    pub pty: bool,
    /// Give the program pipes
    #[arg(long)]
    pub pipes: bool,
    /// With pipes: how much output is kept for those that join, 524288 at least [default: 4194304]
    #[arg(long, value_name = "BYTES", conflicts_with = "pty")]
    pub history: Option<usize>,
    /// Record what is shown in a new file that `asciinema play` plays
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Whose size the terminal has: owner, latest, or a fixed one as 80x24
    #[arg(long, value_name = "SIZE", default_value = "owner")]
    pub size: Sizing,
    /// How long clients can still join after the program has ended, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub linger_after_exit: Duration,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub program: Vec<OsString>,
}

/// Shows what the program shows and types what you type. From a pipe, it sends that, and goes on printing
/// until the program ends.
#[derive(Args, Debug)]
pub struct Attach {
    /// The host's address
    #[arg(value_name = "ADDR", env = "TRUNKLINE_ADDR")]
    pub address: String,
    /// The key
    #[arg(long, value_name = "FILE", env = "TRUNKLINE_KEY_FILE")]
    pub key_file: PathBuf,
    /// Take the input from another client, if the key permits it
    #[arg(long)]
    pub take: bool,
    /// The key that begins a command, such as d for detach
    #[arg(long, value_name = "KEY", default_value = "^]")]
    pub detach_key: DetachKey,
    /// Detach at the end of standard input, once everything was delivered
    #[arg(long)]
    pub detach_on_eof: bool,
    /// Pass the end of standard input on: close the program's pipe, or type the end-of-file character
    #[arg(long)]
    pub send_eof: bool,
}

/// Whose size the terminal has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sizing {
    Owner,
    Latest,
    Fixed(Size),
}

impl FromStr for Sizing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "owner" => Ok(Self::Owner),
            "latest" => Ok(Self::Latest),
            size => size
                .parse()
                .map(Self::Fixed)
                .map_err(|error| format!("write owner or latest; or a size: {error}")),
        }
    }
}

/// A control character: Ctrl and a letter, or one of `[ \ ] ^ _`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DetachKey(pub u8);

impl FromStr for DetachKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            // Ctrl-[ is the Escape that every arrow key begins with; Ctrl-M and Ctrl-J are Return.
            [b'^', key] if matches!(key.to_ascii_uppercase(), b'A'..=b'Z' | b'\\'..=b'_') => {
                let code = key.to_ascii_uppercase() & 0x1f;
                if matches!(code, b'\r' | b'\n') {
                    Err("Return cannot be the key".to_owned())
                } else {
                    Ok(Self(code))
                }
            }
            _ => Err("write ^ and a letter or one of \\ ] ^ _, as ^] or ^A".to_owned()),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "write a number of seconds, as 10 or 0.5")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// The command line, for what is written about it.
pub fn command() -> clap::Command {
    Trunkline::command()
}

/// Reads the command line; a mistake ends the process with 2.
pub fn parse() -> Command {
    Trunkline::parse().command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Trunkline::command().debug_assert();
    }

    #[test]
    fn keys_and_sizes_are_read() {
        assert_eq!("^]".parse(), Ok(DetachKey(0x1d)));
        assert_eq!("^a".parse(), Ok(DetachKey(1)));
        for wrong in ["", "]", "^", "^[", "^M", "^J", "^]x"] {
            assert!(wrong.parse::<DetachKey>().is_err(), "{wrong}");
        }
        assert_eq!("100x30".parse(), Ok(Sizing::Fixed(Size::new(100, 30))));
        assert!("biggest".parse::<Sizing>().is_err());
    }
}
