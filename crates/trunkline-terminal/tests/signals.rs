//! However a console ends or stops, the terminal is as it was before.
#![cfg(target_os = "linux")]

mod support;

use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;
use rustix::termios::{LocalModes, OptionalActions, tcsetattr};
use support::terminal::Terminal;
use support::{Kernel, LONG, Place};

fn start() -> (Place, Terminal, Kernel) {
    let place = Place::new();
    let terminal = Terminal::start(&place, &[]);
    let kernel = place.kernel();
    kernel.status("idle 0");
    terminal.expect("> ");
    (place, terminal, kernel)
}

#[track_caller]
fn eventually(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < LONG, "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn signals_end_it_and_restore_the_terminal() {
    for (signal, status) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::QUIT, 131)] {
        let (_place, mut terminal, kernel) = start();
        terminal.press("half a l");
        terminal.expect("> half a l");
        assert!(terminal.is_raw());
        terminal.signal(signal);
        assert_eq!(terminal.end(), status, "{signal:?}");
        kernel.gone();
    }
}

#[test]
fn ctrl_backslash_quits() {
    let (_place, mut terminal, _kernel) = start();
    terminal.press("half\x1c");
    assert_eq!(terminal.end(), 131);
}

#[test]
fn signals_end_it_while_the_terminal_takes_nothing() {
    let (_place, mut terminal, kernel) = start();
    terminal.stop(true);
    kernel.flood(&[b'x'; 1000]);
    terminal.signal(Signal::TERM);
    assert_eq!(support::pipes::status(&mut terminal.child), Some(143));
    assert!(!terminal.is_raw());
}

#[test]
fn ctrl_z_stops_it_and_fg_goes_on() {
    let place = Place::new();
    let mut shell = Command::new("setsid");
    shell.args(["--ctty", "bash", "--norc", "--noprofile", "--noediting", "-i"]);
    let mut terminal = Terminal::with(shell, |command| {
        command.env("TERM", "xterm").env("PS1", "shell: ").env("HISTFILE", "/dev/null");
    });
    terminal.expect("shell: ");
    let console = place.console(&[]);
    let words: Vec<&str> = std::iter::once(console.get_program())
        .chain(console.get_args())
        .map(|it| it.to_str().unwrap())
        .collect();
    terminal.press(words.join(" ") + "\n");
    let kernel = place.kernel();
    kernel.status("idle 0");
    terminal.expect("> ");
    terminal.press("half a");
    terminal.expect("> half a");
    terminal.press("\x1a");
    terminal.wait("the shell is back", |screen| screen.contains("Stopped") && screen.ends_with("shell: "));
    let modes = terminal.modes().local_modes;
    assert!(modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG), "{modes:?}");
    // What the kernel says meanwhile is shown later.
    kernel.print("meanwhile\n");
    terminal.press("fg\n");
    terminal.expect("meanwhile\n> half a");
    assert!(terminal.is_raw());
    terminal.press(" line\r\x04");
    assert_eq!(kernel.line(), "half a line");
    kernel.status("busy 1");
    kernel.status("idle 1");
    kernel.finish();
    terminal.expect("shell: ");
    terminal.press("exit $?\n");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn a_console_that_was_stopped_by_another_is_raw_again() {
    let (_place, mut terminal, kernel) = start();
    terminal.press("typed");
    terminal.expect("> typed");
    terminal.signal(Signal::STOP);
    // As a shell does that finds a job stopped.
    let mut modes = terminal.modes();
    modes.local_modes |= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
    tcsetattr(&terminal.slave, OptionalActions::Now, &modes).unwrap();
    terminal.signal(Signal::CONT);
    eventually("raw again", || terminal.is_raw());
    terminal.press("!\r");
    assert_eq!(kernel.line(), "typed!");
    // A signal that stops it, from elsewhere, restores the terminal first.
    terminal.signal(Signal::TSTP);
    eventually("stopped", || terminal.is_stopped());
    assert!(terminal.modes().local_modes.contains(LocalModes::ECHO));
    terminal.signal(Signal::CONT);
    eventually("raw again", || terminal.is_raw());
    terminal.press("next\r");
    assert_eq!(kernel.line(), "next");
}

/// It comes late, when the line is drawn already, or to a process that was not stopped.
#[test]
fn a_signal_to_go_on_leaves_one_line_and_what_the_program_has_begun() {
    let (_place, mut terminal, kernel) = start();
    terminal.press("half a");
    terminal.expect("> half a");
    let go_on = |terminal: &Terminal, times: usize| {
        terminal.signal(Signal::CONT);
        eventually("drawn anew", || terminal.raw().matches("\x1b[?2004h").count() > times);
    };
    go_on(&terminal, 1);
    kernel.print("meanwhile\n");
    terminal.expect("Ctrl-C interrupts, Ctrl-D ends, Tab completes.\nmeanwhile\n> half a");
    // The rest of a character and of a sequence comes after the signal, at a prompt and above a line.
    terminal.press("\r");
    assert_eq!(kernel.line(), "half a");
    kernel.status("busy 1");
    kernel.print(b"caf\xC3");
    kernel.status("waiting 1");
    terminal.expect("> half a\ncaf");
    go_on(&terminal, 2);
    terminal.press("x");
    terminal.expect("> half a\ncafx");
    kernel.print([b"\xA9? ", &b"\x1b[3"[..]].concat());
    terminal.expect("> half a\ncafé? x");
    terminal.press("y");
    terminal.expect("> half a\ncafé? xy");
    go_on(&terminal, 3);
    kernel.print("2mname: ");
    terminal.expect("> half a\ncafé? name: xy");
    terminal.press("\r");
    assert_eq!(kernel.line(), "xy");
    kernel.status("idle 2");
    terminal.expect("café? name: xy\n> ");
}

#[test]
fn ctrl_z_without_a_shell_stops_nothing() {
    let (_place, mut terminal, kernel) = start();
    terminal.press("a");
    terminal.expect("> a");
    terminal.press("\x1ab");
    terminal.wait("nothing else is drawn", |screen| screen.ends_with("completes.\n> ab"));
    terminal.press("\r");
    assert_eq!(kernel.line(), "ab");
}

/// As in a container: its session and its group were begun outside, and have no number inside.
#[test]
fn ctrl_z_in_a_pid_namespace_stops_nothing() {
    let unshare = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child"];
    if !Command::new("unshare").args(unshare).arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("this machine lets no process make a PID namespace: nothing was tested");
        return;
    }
    let place = Place::new();
    let console = place.console(&[]);
    let mut command = Command::new("unshare");
    command.args(unshare).arg(console.get_program()).args(console.get_args());
    let mut terminal = Terminal::with(command, |command| {
        command.env("TERM", "xterm");
    });
    let kernel = place.kernel();
    kernel.status("idle 0");
    terminal.expect("> ");
    terminal.press("a\x1ab");
    terminal.wait("nothing else is drawn", |screen| screen.ends_with("completes.\n> ab"));
    terminal.press("\r");
    assert_eq!(kernel.line(), "ab");
}

#[test]
fn a_terminal_that_goes_away_ends_it() {
    let (_place, mut terminal, kernel) = start();
    terminal.hang_up();
    assert_eq!(support::pipes::status(&mut terminal.child), Some(129));
    kernel.gone();
}
