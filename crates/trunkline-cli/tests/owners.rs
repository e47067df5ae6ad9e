//! Several people at one program, and links that are lost.

mod support;

use std::time::Duration;

use support::proxy::Proxy;
use support::*;
use trunkline_host::{Ending, Size};

const LINES: &str = "echo ready; while read x; do echo got $x; done";

/// An attached terminal behind a link that can be lost.
fn behind(proxy: &Proxy, host: &Host) -> Terminal {
    let mut command = trunkline();
    command.arg("attach").arg(proxy.address.to_string()).arg("--key-file").arg(host.key("key"));
    Terminal::of(command, Size::default())
}

fn owner(host: &Host) -> String {
    let text = host.run("key", &["status"]).1;
    text.lines().find(|line| line.contains("has the input")).unwrap_or_default().to_owned()
}

#[test]
fn what_is_typed_during_an_outage_arrives_when_it_is_over() {
    let host = Host::start(&["--pty"], LINES);
    let proxy = Proxy::new(&host.address, None);
    let mut desk = behind(&proxy, &host);
    desk.shows("ready");
    desk.keys("one\r");
    desk.shows("got one");
    proxy.lose();
    desk.shows("link lost, trying");
    desk.keys("two\r");
    desk.pass(Duration::from_millis(300));
    proxy.heal();
    desk.shows("got two");
    // Again and again while it is typed: nothing is lost, and nothing comes twice.
    for round in 0..10 {
        desk.keys(&format!("round {round}\r"));
        proxy.cut();
    }
    desk.shows("got round 9");
    let (_, text, _) = host.run("key", &["screen"]);
    for round in 0..10 {
        assert_eq!(text.matches(&format!("got round {round}\n")).count(), 1, "{text}");
    }
}

#[test]
fn what_was_typed_during_an_outage_does_not_run_after_another_has_taken_the_input() {
    let host = Host::start(&["--pty"], LINES);
    let proxy = Proxy::new(&host.address, None);
    let mut desk = behind(&proxy, &host);
    desk.shows("ready");
    desk.keys("one\r");
    desk.shows("got one");
    proxy.lose();
    desk.shows("link lost, trying");
    desk.keys("rm -rf half-typed\r");
    desk.pass(Duration::from_millis(200));
    assert_eq!(host.run("key", &["send", "--take", "theirs\n"]), (0, String::new(), String::new()));
    proxy.heal();
    desk.shows("what you typed last was not passed on");
    desk.shows("got theirs");
    desk.pass(Duration::from_millis(300));
    assert_eq!(host.run("key", &["wait", "--for", "got theirs"]).0, 0);
    let (_, text, _) = host.run("key", &["screen"]);
    assert!(!text.contains("half-typed"), "{text}");
    // What is typed from now on is meant for what is seen now. The first key may be refused, and that is told.
    desk.keys("\x1dt");
    eventually("the owner", || !owner(&host).is_empty());
    desk.keys("mine\r");
    desk.shows("got mine");
}

/// A machine that sleeps keeps no keyboard: its person comes from another place, with the same key.
#[test]
fn the_ghost_of_a_terminal_gives_the_input_to_the_same_key_elsewhere() {
    let host = Host::start(&["--pty"], LINES);
    let proxy = Proxy::new(&host.address, None);
    let mut desk = behind(&proxy, &host);
    desk.shows("ready");
    eventually("the owner", || !owner(&host).is_empty());
    proxy.lose();
    eventually("the ghost", || owner(&host).contains("link lost"));
    let mut home = host.terminal("key", Size::default());
    home.shows("ready");
    eventually("the new owner", || {
        owner(&host).contains("has the input") && !owner(&host).contains("link lost")
    });
    home.keys("from home\r");
    home.shows("got from home");
}

#[test]
fn the_input_is_taken_a_hundred_times_and_the_one_it_was_taken_from_keeps_watching() {
    let host = Host::start(&["--pty"], LINES);
    let mut desk = host.terminal("key", Size::default());
    desk.shows("ready");
    eventually("the owner", || !owner(&host).is_empty());
    let mut other = host.terminal("key", Size::default());
    other.shows("ready");
    other.keys("\x1dt");
    // By name.
    desk.shows("key has taken the input");
    // At once, while others take it and leave: each ends, and one of them at most says that another was faster.
    let mut takers: Vec<_> = (0..100)
        .map(|_| {
            let mut command = host.call("key", &["attach", "--take", "--detach-on-eof"]);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for taker in &mut takers {
        assert!(taker.wait().unwrap().success());
    }
    assert_eq!(host.run("key", &["send", "--take", "after all\n"]), (0, String::new(), String::new()));
    for terminal in [&mut desk, &mut other] {
        terminal.shows("got after all");
    }
}

#[test]
fn each_process_is_killed_in_turn_and_the_others_say_so() {
    // The client: the program lives on, and another finds it as it was.
    let mut host = Host::start(&["--pty"], LINES);
    let mut desk = host.terminal("key", Size::default());
    desk.shows("ready");
    desk.keys("one\r");
    desk.shows("got one");
    drop(desk);
    let mut home = host.terminal("key", Size::default());
    home.shows("got one");
    eventually("the new owner", || {
        owner(&host).contains("has the input") && !owner(&host).contains("link lost")
    });
    home.keys("two\r");
    home.shows("got two");

    // The program: its end is told with the signal.
    let pid = host.run("key", &["status"]).0;
    assert_eq!(pid, 0);
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", host.process.id())).unwrap();
    let program =
        rustix::process::Pid::from_raw(children.split_whitespace().next().unwrap().parse().unwrap());
    rustix::process::kill_process(program.unwrap(), rustix::process::Signal::KILL).unwrap();
    assert_eq!(home.end(), Ending::Exited(137));
    assert_eq!(host.end(), Some(137));

    // The host: its clients say that it is gone, its program hears the hang-up, its address is free.
    let mut host = Host::start(
        &["--pty", "--unix", "{}/s"],
        "trap 'echo hung up >\"$0\"; exit' HUP; echo ready; while :; do sleep 0.05; done",
    );
    let mut desk = host.terminal("key", Size::default());
    desk.shows("ready");
    host.process.kill().unwrap();
    assert_eq!(desk.end(), Ending::Exited(69));
    assert!(desk.text().contains("the host is gone"), "{}", desk.text());
    let (code, _, text) = host.run("key", &["status"]);
    assert!(code == 69 && text.contains("is the host running"), "{text}");
    let key = host.key("key");
    let again = ["host", "--unix", &host.address, "--key-file", key.to_str().unwrap(), "--", "true"];
    assert_eq!(host.run("key", &again).0, 0);
}

/// A note stands over what the program shows, and what it says does not hold for ever.
#[test]
fn a_note_is_taken_away_when_it_is_no_longer_so_and_after_a_while() {
    let host = Host::start(&["--pty"], LINES);
    let mut desk = host.terminal("key", Size::default());
    desk.shows("ready");
    eventually("the owner", || !owner(&host).is_empty());
    let mut home = host.terminal("key", Size::default());
    home.shows("ready");
    home.keys("x");
    home.shows("another client has the input");
    home.keys("\x1dt");
    home.until(|text| text.contains("ready") && !text.contains("another client"));
    home.keys("mine\r");
    home.shows("got mine");
    desk.until(|text| text.contains("got mine") && text.contains("has taken the input"));
    // The one who only looks on has read it.
    desk.until(|text| text.contains("got mine") && !text.contains("has taken the input"));
    desk.keys("y");
    desk.shows("another client has the input");
    desk.keys("\x1dd");
    assert_eq!(desk.end().code(), 0);
    assert!(!desk.text().contains("another client"), "{}", desk.text());
}

#[test]
fn a_watcher_is_told_again_after_the_note_was_taken_away() {
    let host = Host::start(&["--pty"], LINES);
    let mut watcher = host.terminal("watch", Size::default());
    watcher.shows("ready");
    watcher.keys("x");
    watcher.shows("you are watching");
    watcher.until(|text| !text.contains("you are watching"));
    watcher.keys("x");
    watcher.shows("you are watching");
}

/// As `attach` does, for a script after a crash.
#[test]
fn the_input_of_a_killed_terminal_is_given_back_to_a_call_with_the_same_key() {
    let host = Host::start(&["--pty"], LINES);
    let mut desk = host.terminal("key", Size::default());
    desk.shows("ready");
    eventually("the owner", || owner(&host).contains("has the input"));
    assert_eq!(host.run("key", &["send", "alive", "--key", "Enter"]).0, 75, "it is no ghost");
    let pid = desk.program.pid().unwrap().try_into().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("the ghost", || owner(&host).contains("link lost"));
    assert_eq!(host.run("key", &["send", "mine", "--key", "Enter"]), (0, String::new(), String::new()));
    assert_eq!(host.run("key", &["wait", "--for", "got mine"]).0, 0);
    assert_eq!(owner(&host), "", "the input is free again");
}
