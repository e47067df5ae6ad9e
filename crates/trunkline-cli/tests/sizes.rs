//! Whose size the program's terminal has, with several terminals attached.

mod support;

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::proxy::Proxy;
use support::*;
use trunkline_host::Size;

const SAYS_ITS_SIZE: &str = "while :; do stty size; sleep 0.05; done";

/// What the program says last of its terminal, as `stty size` does: rows and columns.
fn says(host: &Host) -> String {
    let (_, text, _) = host.run("key", &["screen"]);
    text.lines().rev().find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

#[track_caller]
fn becomes(host: &Host, size: &str) {
    eventually(size, || says(host) == size);
}

/// It does not change, or has changed back, when everything that was sent has arrived.
fn stays(host: &Host, terminal: &mut Terminal, size: &str) {
    terminal.pass(Duration::from_millis(300));
    becomes(host, size);
}

fn kill(terminal: &Terminal) {
    let pid = terminal.program.pid().unwrap().try_into().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn the_smallest_of_those_attached_is_what_every_one_of_them_sees_whole() {
    let host = Host::start(&["--pty", "--size", "smallest"], SAYS_ITS_SIZE);
    becomes(&host, "24 80");
    let mut wide = host.terminal("key", Size::new(120, 40));
    wide.shows("40 120");
    // Width and height each for itself.
    let mut high = host.terminal("key", Size::new(100, 50));
    high.shows("40 100");
    becomes(&host, "40 100");
    // One that only watches makes nothing smaller.
    let mut watcher = host.terminal("watch", Size::new(60, 10));
    watcher.shows("40 100");
    stays(&host, &mut watcher, "40 100");
    // One that has the input, and one that has not.
    wide.program.resize(Size::new(90, 45));
    wide.shows("45 90");
    high.program.resize(Size::new(70, 20));
    high.shows("20 70");
    becomes(&host, "20 70");
    // It leaves in order.
    high.keys("\x1dd");
    assert_eq!(high.end().code(), 0);
    wide.shows("45 90");
    becomes(&host, "45 90");
    // The last one leaves, and the terminal stays as it was.
    wide.keys("\x1dd");
    assert_eq!(wide.end().code(), 0);
    stays(&host, &mut watcher, "45 90");
}

/// It counts for ten seconds more, since it may come back, and then no longer, although its session is kept for an hour.
#[test]
fn a_terminal_that_is_killed_or_cut_off_makes_the_others_small_only_for_a_while() {
    let host = Host::start(&["--pty", "--size", "smallest"], SAYS_ITS_SIZE);
    let mut wide = host.terminal("key", Size::new(120, 40));
    wide.shows("40 120");
    let mut killed = host.terminal("key", Size::new(100, 30));
    killed.shows("30 100");
    let proxy = Proxy::new(&host.address, None);
    let mut command = trunkline();
    command.arg("attach").arg(proxy.address.to_string()).arg("--key-file").arg(host.key("key"));
    let mut far = Terminal::of(command, Size::new(70, 20));
    far.shows("20 70");
    kill(&killed);
    // A short outage changes nothing.
    proxy.lose();
    far.shows("link lost, trying");
    wide.pass(Duration::from_millis(500));
    assert_eq!(says(&host), "20 70");
    proxy.heal();
    far.until(|text| text.contains("20 70") && !text.contains("link lost"));
    assert_eq!(says(&host), "20 70");
    // A long one does, until it is over.
    proxy.lose();
    far.shows("link lost, trying");
    becomes(&host, "40 120");
    proxy.heal();
    far.until(|text| text.contains("20 70") && !text.contains("link lost"));
    becomes(&host, "20 70");
}

#[test]
fn the_latest_that_attached_or_changed_is_the_one_that_counts() {
    let host = Host::start(&["--pty", "--size", "latest"], SAYS_ITS_SIZE);
    let mut wide = host.terminal("key", Size::new(120, 40));
    wide.shows("40 120");
    let mut small = host.terminal("key", Size::new(70, 20));
    small.shows("20 70");
    becomes(&host, "20 70");
    wide.program.resize(Size::new(110, 41));
    wide.shows("41 110");
    becomes(&host, "41 110");
}

/// At once when it takes the input, and not before.
#[test]
fn the_owner_of_the_input_has_the_terminal_at_its_size() {
    let host = Host::start(&["--pty"], SAYS_ITS_SIZE);
    let mut wide = host.terminal("key", Size::new(120, 40));
    wide.shows("40 120");
    let mut small = host.terminal("key", Size::new(70, 20));
    small.shows("40 120");
    small.program.resize(Size::new(80, 22));
    stays(&host, &mut small, "40 120");
    small.keys("\x1dt");
    small.shows("22 80");
    wide.keys("\x1dt");
    wide.shows("40 120");
    becomes(&host, "40 120");
}
