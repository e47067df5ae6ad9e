//! The host as a process: killed, and as the parent of orphans. The tests start this program again in a role.
#![cfg(unix)]

mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::*;
use trunkline_host::{Setup, Size};

const ROLE: &str = "TRUNKLINE_HOST_ROLE";

/// This program as the test of this name, which finds the role.
fn in_role(test: &str, file: &str) -> Command {
    let mut command = command(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, file).stdout(Stdio::piped());
    command
}

fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

#[test]
fn a_host_that_is_killed_hangs_up_on_its_program_and_frees_its_port() {
    if let Some(file) = role() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let script =
            format!("trap 'echo hung up >{file}; exit' HUP; echo ready; while :; do sleep 0.05; done");
        let mut program = Setup::terminal(sh(&script), Size::default()).start().unwrap();
        let mut written = Written::default();
        until(&mut program, &mut written, "ready");
        println!("\nlistening on {}", listener.local_addr().unwrap());
        loop {
            program.next(None).unwrap();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("told");
    let role =
        in_role("a_host_that_is_killed_hangs_up_on_its_program_and_frees_its_port", file.to_str().unwrap())
            .spawn();
    let mut host = role.unwrap();
    let mut lines = BufReader::new(host.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.find_map(|line| line.strip_prefix("listening on ").map(str::to_owned)).unwrap();
    host.kill().unwrap();
    host.wait().unwrap();
    TcpListener::bind(address).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !std::fs::read_to_string(&file).is_ok_and(|text| text == "hung up\n") {
        assert!(Instant::now() < deadline, "the program was not told");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn orphans_do_not_become_zombies() {
    if role().is_some() {
        use trunkline_host::{Ending, Happened};

        // What process 1 is by itself.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let me = std::process::id();
        let script = "for i in 1 2 3 4 5; do (sleep 0.1 & echo orphan $!); done; sleep 0.5; echo waited; read x; exit 3";
        let mut program = Setup::terminal(sh(script), Size::default()).reap_orphans(true).start().unwrap();
        let mut written = Written::default();
        until(&mut program, &mut written, "waited");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let children =
                std::fs::read_to_string(format!("/proc/{me}/task/{me}/children")).unwrap_or_default();
            let zombies = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
                let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                stat.contains(&format!(") Z {me} "))
            });
            if zombies.count() == 0 {
                break;
            }
            assert!(Instant::now() < deadline, "zombies stay among {children}");
            let soon = Instant::now() + Duration::from_millis(20);
            while program.next(Some(soon)).unwrap() != Happened::Timeout {}
        }
        assert_eq!(written.text().matches("orphan").count(), 5);
        program.input("\n".into()).unwrap();
        assert_eq!(end(&mut program, &mut written), Ending::Exited(3));
        return;
    }
    let mut host = in_role("orphans_do_not_become_zombies", "reaper").spawn().unwrap();
    assert!(host.wait().unwrap().success());
}

/// It has ended, and the process that took it over does not look after its children.
fn is_zombie(pid: rustix::process::Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// A test that is killed runs no destructor, and what it has started may ignore every hang-up.
#[test]
fn what_tests_start_ends_with_them_whatever_happens() {
    let deaf = "trap '' HUP INT TERM; echo deaf $$; while :; do sleep 0.05; done";
    if role().is_some() {
        let mut program = on_pipes(&format!("setsid sh -c '{}' & wait", deaf.replace('\'', "'\\''")));
        let mut written = Written::default();
        until(&mut program, &mut written, "\n");
        println!("\n{}", written.text());
        loop {
            program.next(None).unwrap();
        }
    }
    let mut role = in_role("what_tests_start_ends_with_them_whatever_happens", "tests")
        // It is as if it were started by hand.
        .env_remove(leash::NAME)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(role.stdout.take().unwrap()).lines().map(Result::unwrap);
    let deaf = lines.find_map(|line| line.strip_prefix("deaf ")?.parse().ok()).unwrap();
    let deaf = rustix::process::Pid::from_raw(deaf).unwrap();
    role.kill().unwrap();
    role.wait().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while rustix::process::test_kill_process(deaf).is_ok() && !is_zombie(deaf) {
        if Instant::now() > deadline {
            rustix::process::kill_process(deaf, rustix::process::Signal::KILL).unwrap();
            panic!("it outlives the tests");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
