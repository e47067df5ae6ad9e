//! `examples/echo` over links that are cut again and again: not a byte is lost or comes twice.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use crate::support::chaos::{Chaos, Cut};
use crate::support::process::{Outcome, Process, example};
use crate::support::{LONG, wire};
use trunkline::Key;

/// A server, and a proxy before it.
struct Server {
    _process: Process,
    chaos: Chaos,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        let seed = std::env::var("TRUNKLINE_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from_be_bytes(wire::random()));
        let folder = tempfile::tempdir().unwrap();
        Key::generate().write_new_file(folder.path().join("key")).unwrap();
        let serve = ["serve", "--listen", "127.0.0.1:0", "--heartbeat", "150", "--key-file"];
        let mut command = example("echo");
        command.args(serve).arg(folder.path().join("key")).args(options).stdin(Stdio::null());
        let process = Process::start(&mut command);
        let chaos = Chaos::with_seed(process.address(), seed);
        // A cut within the first handshake is a failure to connect, and nothing to go on with.
        chaos.plan([[20_000, 20_000]]);
        Self { _process: process, chaos, folder }
    }

    fn load(&self, messages: u64, size: u64, options: &[&str]) -> Process {
        load(self.chaos.addr, &self.folder.path().join("key"), messages, size, options)
    }
}

/// On all channels.
fn load(address: SocketAddr, key_file: &Path, messages: u64, size: u64, options: &[&str]) -> Process {
    let mut command = example("echo");
    command.args(["load", "--channels", "128", "--heartbeat", "150", "--connect", &address.to_string()]);
    command.args(["--messages", &messages.to_string(), "--size", &size.to_string(), "--key-file"]);
    Process::start(command.arg(key_file).args(options).stdin(Stdio::null()))
}

/// How often it has resumed.
#[track_caller]
fn expect_resumes(load: Process, messages: u64) -> u64 {
    let Outcome { code, stdout, stderr } = load.end();
    let verified = format!("verified {} messages on 128 channels, ", 128 * messages);
    let resumes = stdout.strip_prefix(&verified).and_then(|rest| rest.strip_suffix(" resumes\n"));
    let resumes = resumes.unwrap_or_else(|| panic!("exit code {code:?}: {stdout:?}, {stderr:?}"));
    // On stderr it may have complained of a long outage.
    assert_eq!(code, Some(0), "{stderr}");
    resumes.parse().unwrap()
}

#[test]
fn every_byte_is_verified_over_hundreds_of_cuts() {
    let server = Server::start(&[]);
    // About 12 MB each way, and a cut after every 60 kB or so; either way may come first.
    server.chaos.rough(60_000);
    let messages = 90;
    let resumes = expect_resumes(server.load(messages, 1000, &["--reconnect"]), messages);
    println!("{} cuts, {resumes} resumes", server.chaos.cuts());
    // A cut within a handshake is an attempt and no resume.
    assert!(resumes >= 200, "{resumes} resumes");
}

/// What is to be sent again is up to 4 MiB, and a link carries 40 kB before it is cut.
#[test]
fn a_link_too_slow_for_a_whole_replay_gets_on_all_the_same() {
    let server = Server::start(&[]);
    server.chaos.throttle(1_000_000);
    server.chaos.rough(40_000);
    let messages = 20;
    let resumes = expect_resumes(server.load(messages, 1000, &["--reconnect"]), messages);
    println!("{} cuts, {resumes} resumes", server.chaos.cuts());
    assert!(resumes > 20, "{resumes}");
}

#[test]
fn a_run_that_is_stretched_over_time_goes_on_after_a_cut_of_each_kind() {
    let server = Server::start(&[]);
    // Two seconds, so that there is time for them.
    let messages = 40;
    let load = server.load(messages, 10, &["--reconnect", "--rate", "20"]);
    let chaos = &server.chaos;
    thread::scope(|scope| {
        scope.spawn(|| {
            for cut in [Cut::Fin, Cut::Reset, Cut::Silence] {
                chaos.wait_for_link(LONG);
                chaos.cut(cut);
            }
        });
        // A machine that stands still for half a second makes it one more.
        assert!(expect_resumes(load, messages) >= 3);
    });
}

#[test]
fn a_lost_link_is_a_failure_unless_both_sides_want_to_go_on() {
    for (grace, options, why) in
        [("60", &[][..], "the connection was lost"), ("0", &["--reconnect"], "the connection was lost")]
    {
        let server = Server::start(&["--grace", grace]);
        let Outcome { code, stdout, stderr } = server.load(1 << 30, 1000, options).end();
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.contains(why), "{stderr}");
    }
}

/// Runs and closes of many connections, over links that are also stalled and split, with attempts to
/// connect that come late and twice.
#[test]
fn a_short_soak_finds_no_difference() {
    let seed = u64::from_be_bytes(wire::random()).to_string();
    let mut command = example("echo");
    command.args(["soak", "--minutes", "1", "--cuts", "60", "--seed", &seed]).stdin(Stdio::null());
    let Outcome { code, stdout, stderr } = Process::start(&mut command).end();
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let survived = stdout.strip_prefix(&format!("seed {seed}\nsurvived "));
    let survived = survived.unwrap_or_else(|| panic!("{stdout}"));
    let cuts: u64 = survived.split(' ').next().unwrap().parse().unwrap();
    assert!(cuts >= 60, "{stdout}");
}
