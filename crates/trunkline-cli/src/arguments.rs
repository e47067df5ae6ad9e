//! What stands on the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use trunkline_host::SizePolicy;

use crate::forward::target::Allowed;
use crate::reach::names::Name;
use crate::typed_key::TypedKey;

const EXIT: &str = "\
Exit status:
    0  done, or detached
    1  `wait` was told to wait no longer
    2  wrong usage
   69  cannot connect or listen; the link or the host was lost
   71  a fault of the system
   73  a file cannot be made
   75  another client has the input
   77  not authorised
   78  a key file cannot be used
  127  the program cannot be started
  141  the reader of the output wants no more
  `host`, `attach`, `watch` and `wait --exit` end with the program's status,
  or with 128 and the number of the signal that ended it.";

const EXAMPLES: &str = "\
Examples:
  trunkline new work -- bash    outlives this terminal; Ctrl-] d detaches
  trunkline attach work         and back

  trunkline key session.key
  trunkline host --listen 127.0.0.1:4000 --key-file session.key -- bash
  export TRUNKLINE_ADDR=127.0.0.1:4000 TRUNKLINE_KEY_FILE=session.key
  trunkline attach
  trunkline send --key C-u 'make test' --key Enter
  trunkline wait --for '$ '";

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
    #[command(after_help = "Example:\n  trunkline key session.key")]
    Key(Key),
    /// Run a program for clients to attach to
    #[command(after_help = HOST_EXAMPLES)]
    Host(Host),
    /// Attach to a host in the background, which is started if there is none of this name
    #[command(
        after_help = "Examples:\n  trunkline new work -- bash\n  trunkline new build --detached --pipes -- make all"
    )]
    New(New),
    /// List the hosts that have a name
    #[command(after_help = "Example:\n  trunkline ls")]
    Ls(Ls),
    /// Use a program that runs under a host
    #[command(after_help = ATTACH_EXAMPLES)]
    Attach(Attach),
    /// Show what a program shows, and type nothing
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(Watch),
    /// Say who is attached, and what the program does
    #[command(
        after_help = "Examples:\n  trunkline status work\n  trunkline status work --json | jq .clients"
    )]
    Status(Status),
    /// Type something
    #[command(after_help = SEND_EXAMPLES)]
    Send(Send),
    /// Print what the program's screen shows
    #[command(after_help = "Example:\n  trunkline screen work | grep error")]
    Screen(Screen),
    /// Wait for something
    #[command(after_help = WAIT_EXAMPLES)]
    Wait(Wait),
    /// Stop what the program runs, as Ctrl-C does
    #[command(after_help = "Example:\n  trunkline interrupt work")]
    Interrupt(Interrupt),
    /// Take the input from the client that has it; the next one that types gets it
    #[command(after_help = "Example:\n  trunkline take work")]
    Take(Take),
    /// Make ports that the host can reach ports of this machine
    #[command(after_help = FORWARD_EXAMPLES, override_usage = FORWARD_USAGE)]
    Forward(Forward),
    /// Show live what the connection carries, and who is attached
    #[command(after_help = "Example:\n  trunkline top work            (q leaves)")]
    Top(Top),
    /// Print what completes this command in a shell
    #[command(
        after_help = "Example:\n  cd ~/.local/share/bash-completion/completions\n  trunkline completions bash >trunkline"
    )]
    Completions(Completions),
    /// Write the manual's pages
    #[command(after_help = "Example:\n  trunkline man ~/.local/share/man/man1")]
    Man(Man),
}

const HOST_EXAMPLES: &str = "\
Examples:
  trunkline host --key-file session.key -- bash
  trunkline host --unix ~/build.sock --key-file session.key --pipes -- make
  trunkline host --name work -- python3         (makes a key of its own)
  trunkline host --listen 0.0.0.0:4000 --key-file session.key -- bash
  trunkline host --key-file session.key --watch-key-file wall.key -- htop";

const ATTACH_EXAMPLES: &str = "\
Examples:
  trunkline attach work
  trunkline attach there:4000 --key-file session.key --take
  echo 'make test' | trunkline attach work --detach-on-eof
  trunkline attach work --send-eof <input >output";

const WATCH_EXAMPLES: &str = "\
Examples:
  trunkline watch work
  trunkline watch build --json | jq -r 'select(.channel == \"stderr\").text'";

const SEND_EXAMPLES: &str = "\
Examples:
  trunkline send work 'make test' --key Enter
  trunkline send work --key C-c
  trunkline send work --key Escape ':wq' --key Enter
  trunkline send build $'one line\\n'      (a program on pipes wants a newline)

Keys:
  Enter, Tab, Escape, Space, Backspace, Insert, Delete, Newline,
  Home, End, PageUp, PageDown, Up, Down, Left, Right, F1 to F12,
  C-a to C-z and C-[ C-\\ C-] C-^ C-_ for Ctrl, M-KEY for Alt";

const FORWARD_USAGE: &str = "trunkline forward [OPTIONS] [ADDR] LOCAL_PORT:HOST:PORT...";

const FORWARD_EXAMPLES: &str = "\
Examples:
  At one machine, and then at another:
  trunkline host --listen 0.0.0.0:4000 --key-file session.key \\
      --allow-forward localhost:8888 -- bash
  trunkline forward there:4000 8888:localhost:8888 --key-file session.key

  Free ports, which it prints:
  trunkline forward work 0:localhost:5432 0:localhost:80";

const WAIT_EXAMPLES: &str = "\
Examples:
  trunkline wait work --for 'tests passed' --timeout 600
  trunkline wait build --exit; echo $?
  trunkline send work 'make' --key Enter
  trunkline wait work --idle && trunkline screen work";

/// Which host, and with which key.
#[derive(Args, Clone, Debug)]
pub struct Reach {
    /// The host: HOST:PORT, the path of a Unix socket, or a name
    #[arg(value_name = "ADDR", env = "TRUNKLINE_ADDR")]
    pub address: String,
    /// The key; a host with a name has one of its own
    #[arg(long, value_name = "FILE", env = "TRUNKLINE_KEY_FILE")]
    pub key_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Interrupt {
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Args, Debug)]
pub struct Take {
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Args, Debug)]
pub struct Screen {
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Args, Debug)]
pub struct Status {
    #[command(flatten)]
    pub reach: Reach,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Shows for each channel of this connection its rates, what is unread, and the credit; and all clients of the host.
#[derive(Args, Debug)]
pub struct Top {
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Args, Debug)]
pub struct Ls {
    /// Print one JSON object for each
    #[arg(long)]
    pub json: bool,
}

/// Shows what the program shows. The keys are not for the program: Ctrl-C, or Ctrl-] and then d, leaves.
///
/// With --json it prints one object for each message: `time` in seconds since 1970, and either `channel` with `text`
/// (or `base64`, of what is not UTF-8) or with `gap` (what this client was too slow for), or `status`, or `display`. Of a
/// terminal, what it shows at first, and again behind a gap, is lines of plain text: `channel` is `screen` then, and with
/// `columns` and `rows` and without `text` it says that the size has changed. What the program writes is as it writes it.
#[derive(Args, Debug)]
pub struct Watch {
    #[command(flatten)]
    pub reach: Reach,
    /// Print one JSON object for each message
    #[arg(long)]
    pub json: bool,
}

/// Types a text and keys, in the order in which they stand here, and returns when the host has passed them to the program.
#[derive(Args, Debug)]
pub struct Send {
    /// The host, as for `attach`; left out if TRUNKLINE_ADDR is set
    #[arg(value_name = "ADDR")]
    pub first: Option<String>,
    /// What is typed
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    pub second: Option<String>,
    /// A key; may be given several times
    #[arg(long = "key", value_name = "NAME", allow_hyphen_values = true)]
    pub keys: Vec<TypedKey>,
    /// Take the input from another client, if the key permits it
    #[arg(long)]
    pub take: bool,
    /// The key file; a host with a name has one of its own
    #[arg(long, value_name = "FILE", env = "TRUNKLINE_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// Where the text stands among the keys.
    #[arg(skip)]
    pub keys_before_text: usize,
}

/// Listens at ports of this machine, on both loopback addresses, and carries each connection to where the host reaches it,
/// which the host has to allow: with --allow-forward. An outage holds them up and costs no byte. 62 connections at a time; more
/// wait until one ends.
#[derive(Args, Debug)]
pub struct Forward {
    /// The host, as for `attach`, unless TRUNKLINE_ADDR is set; and what is forwarded: LOCAL_PORT:HOST:PORT
    #[arg(value_name = "ROUTE", required = true)]
    pub words: Vec<String>,
    /// The key file; a host with a name has one of its own
    #[arg(long, value_name = "FILE", env = "TRUNKLINE_KEY_FILE")]
    pub key_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Wait {
    #[command(flatten)]
    pub reach: Reach,
    #[command(flatten)]
    pub until: Until,
    /// Wait no longer, in seconds; the status is 1 then
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Until {
    /// Until the screen shows this, or a program on pipes has written it
    #[arg(long = "for", value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub shown: Option<String>,
    /// Until the program has ended; the status is the program's
    #[arg(long)]
    pub exit: bool,
    /// Until a kernel has nothing to do, or another program has written nothing for a second
    #[arg(long)]
    pub idle: bool,
}

#[derive(Args, Debug)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub struct Man {
    /// The directory to write to, one file for each command; made if it is not there
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
    /// Address to listen at; port 0 takes a free one [default: 127.0.0.1:0, or a Unix socket with --name]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Listen on a Unix socket, which only you can reach
    #[arg(long, value_name = "PATH", conflicts_with = "listen")]
    pub unix: Option<PathBuf>,
    /// The key of those that may use the program; a host with a name makes one if this is left out
    #[arg(long, value_name = "FILE", env = "TRUNKLINE_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// The key of those that may only watch
    #[arg(long, value_name = "FILE")]
    pub watch_key_file: Option<PathBuf>,
    /// Take clients from other machines also without encryption
    #[arg(long)]
    pub allow_plaintext: bool,
    /// A name by which you find this host on this machine: `trunkline attach NAME`
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
    /// Leave the terminal that it was started at; `trunkline new` says this.
    #[arg(long, hide = true)]
    pub background: bool,
    /// Be there until standard input ends, for a moment at least: `trunkline new` is about to attach.
    #[arg(long, hide = true)]
    pub held: bool,
    #[command(flatten)]
    pub running: Running,
}

/// How a program is run.
#[derive(Args, Debug)]
pub struct Running {
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
    /// Whose size the terminal has: owner; smallest of those attached; latest that attached or changed; or a fixed one as 80x24
    #[arg(long, value_name = "SIZE", default_value = "owner")]
    pub size: SizePolicy,
    /// Let clients reach HOST:PORT from here with `trunkline forward`; * stands for any; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    pub allow_forward: Vec<Allowed>,
    /// How long clients can still join after the program has ended, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub linger_after_exit: Duration,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub program: Vec<OsString>,
}

/// Attaches to the host of this name. If there is none, starts one in the background, with a key of its own: it outlives
/// this terminal, and ends with its program. In a script, --detached starts it and returns.
#[derive(Args, Debug)]
pub struct New {
    /// The name
    pub name: Name,
    /// Start it, and do not attach; a host that runs is an error
    #[arg(long)]
    pub detached: bool,
    #[command(flatten)]
    pub running: Running,
}

/// Shows what the program shows and types what you type. From a pipe, it sends that, and goes on printing
/// until the program ends.
#[derive(Args, Debug)]
pub struct Attach {
    #[command(flatten)]
    pub reach: Reach,
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

impl Attach {
    /// Attaching with no options.
    pub fn plainly(reach: Reach) -> Self {
        let detach_key = DetachKey::default();
        Self { reach, take: false, detach_key, detach_on_eof: false, send_eof: false }
    }
}

/// A control character: Ctrl and a letter, or one of `[ \ ] ^ _`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DetachKey(pub u8);

impl Default for DetachKey {
    fn default() -> Self {
        Self(0x1d)
    }
}

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
    let matches = Trunkline::command().get_matches();
    let mut command = Trunkline::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).command;
    if let (Command::Send(send), Some((_, matches))) = (&mut command, matches.subcommand()) {
        send.keys_before_text = keys_before_text(send, matches);
    }
    command
}

/// How many keys stand before the text.
fn keys_before_text(send: &Send, matches: &ArgMatches) -> usize {
    let text = if send.second.is_some() { "second" } else { "first" };
    let text = matches.indices_of(text).and_then(|mut indices| indices.next());
    let keys = matches.indices_of("keys").into_iter().flatten();
    keys.filter(|key| Some(*key) < text).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Trunkline::command().debug_assert();
    }

    /// Clap wraps what is longer, and then an example cannot be read.
    #[test]
    fn examples_fit_a_terminal() {
        let command = Trunkline::command();
        for command in [&command].into_iter().chain(command.get_subcommands()) {
            for help in [command.get_after_help(), command.get_after_long_help()].into_iter().flatten() {
                for line in help.to_string().lines() {
                    assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
                }
            }
        }
    }

    #[test]
    fn keys_and_sizes_are_read() {
        assert_eq!("^]".parse(), Ok(DetachKey(0x1d)));
        assert_eq!("^a".parse(), Ok(DetachKey(1)));
        for wrong in ["", "]", "^", "^[", "^M", "^J", "^]x"] {
            assert!(wrong.parse::<DetachKey>().is_err(), "{wrong}");
        }
    }
}
