//! Terminals that only print, and the shell buffers of editors.
#![cfg(target_os = "linux")]

mod support;

use std::process::Command;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use support::terminal::Terminal;
use support::{Kernel, Place};

fn start(set: impl FnOnce(&mut Command)) -> (Place, Terminal, Kernel) {
    let place = Place::new();
    let terminal = Terminal::with(place.console(&[]), set);
    let kernel = place.kernel();
    kernel.status("idle 0");
    terminal.expect("Ctrl-C interrupts, Ctrl-D ends, Tab completes.\n> ");
    (place, terminal, kernel)
}

#[test]
fn a_terminal_that_only_prints_gets_lines_and_prompts() {
    for term in [Some("dumb"), Some(""), None] {
        let (_place, mut terminal, kernel) = start(|command| {
            if let Some(term) = term {
                command.env("TERM", term);
            }
        });
        terminal.press("ask()\n");
        assert_eq!(kernel.line(), "ask()");
        kernel.status("busy 1");
        kernel.print("> ");
        kernel.status("waiting 1");
        terminal.expect("> ask()\n> ");
        terminal.press("answer\n");
        assert_eq!(kernel.line(), "answer");
        kernel.status("busy 2");
        kernel.print("no newline");
        kernel.status("idle 2");
        terminal.expect("> ask()\n> answer\nno newline\n> ");
        terminal.press(":status\n");
        terminal.expect("idle\n> ");
        terminal.press(":nonsense\n");
        terminal.wait("what there is", |screen| {
            screen.contains(":nonsense: there are only") && screen.ends_with("> ")
        });
        terminal.press("if\n");
        assert_eq!(kernel.line(), "if");
        kernel.status("incomplete 3");
        terminal.expect("> if\n. ");
        terminal.press("end\n");
        kernel.line();
        kernel.status("busy 4");
        kernel.status("idle 4");
        terminal.press("\x04");
        kernel.finish();
        assert_eq!(terminal.end(), 0);
        assert!(!terminal.raw().contains('\x1b'), "{:?}", terminal.raw());
    }
}

#[test]
fn the_shell_buffer_of_an_editor_sees_no_echo_and_no_sequences() {
    let (_place, mut terminal, kernel) = start(|command| {
        command.env("TERM", "dumb").env("INSIDE_EMACS", "29.1,comint").env("EMACS", "t");
    });
    let mut modes = tcgetattr(&terminal.slave).unwrap();
    modes.local_modes -= LocalModes::ECHO;
    tcsetattr(&terminal.slave, OptionalActions::Now, &modes).unwrap();
    terminal.press("1\n");
    assert_eq!(kernel.line(), "1");
    kernel.status("busy 1");
    kernel.print("1\n");
    kernel.status("idle 1");
    terminal.expect("> 1\n> ");
    assert!(!terminal.raw().contains('\x1b'), "{:?}", terminal.raw());
}

#[test]
fn ctrl_c_interrupts_and_loses_no_line() {
    let place = Place::new();
    let console = place.console(&[]);
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(console.get_program()).args(console.get_args());
    let mut terminal = Terminal::with(command, |command| {
        command.env("TERM", "dumb");
    });
    let kernel = place.kernel();
    kernel.status("idle 0");
    terminal.expect("> ");
    terminal.press("loop\n");
    assert_eq!(kernel.line(), "loop");
    kernel.status("busy 1");
    // A line, Ctrl-C and another line arrive at once.
    terminal.press("one\n\x03two\n");
    assert_eq!(kernel.command(), "interrupt 1");
    kernel.complain("interrupted\n");
    kernel.status("idle 1");
    kernel.run_lines(2, &["one", "two"]);
    terminal.expect("> ");
    terminal.signal(rustix::process::Signal::TERM);
    assert_eq!(terminal.end(), 143);
}

#[test]
fn the_end_of_input_is_for_the_program_that_waits() {
    let (_place, mut terminal, kernel) = start(|command| {
        command.env("TERM", "dumb");
    });
    terminal.press("read()\n");
    kernel.line();
    kernel.status("busy 1");
    kernel.print("? ");
    kernel.status("waiting 1");
    terminal.expect("? ");
    terminal.press("\x04");
    kernel.end_of_run();
    kernel.status("busy 1");
    kernel.status("idle 1");
    terminal.expect("> ");
    terminal.press("still here\n");
    assert_eq!(kernel.line(), "still here");
}

#[test]
fn the_terminal_shows_nothing_of_what_is_asked_for_in_secret() {
    let (_place, mut terminal, kernel) = start(|command| {
        command.env("TERM", "dumb");
    });
    terminal.press("ask()\n");
    assert_eq!(kernel.line(), "ask()");
    kernel.status("busy 1");
    kernel.print("password? ");
    kernel.status("waiting 1 secret");
    terminal.expect("> ask()\npassword? ");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while terminal.modes().local_modes.contains(LocalModes::ECHO) {
        assert!(std::time::Instant::now() < until, "the terminal shows what is typed");
        std::thread::yield_now();
    }
    terminal.press(":quit hunter2\n");
    assert_eq!(kernel.line(), ":quit hunter2");
    kernel.status("busy 2");
    kernel.status("idle 2");
    terminal.expect("> ask()\npassword?\n> ");
    terminal.press("seen\n");
    assert_eq!(kernel.line(), "seen");
    terminal.expect("> ask()\npassword?\n> seen\n");
    terminal.press("\x04");
    kernel.finish();
    assert_eq!(terminal.end(), 0);
    assert!(!terminal.raw().contains("hunter2"), "{:?}", terminal.raw());
}

#[test]
fn a_console_that_was_stopped_hides_again_what_is_not_to_be_seen() {
    let (_place, mut terminal, kernel) = start(|command| {
        command.env("TERM", "dumb");
    });
    let shows = |terminal: &Terminal| terminal.modes().local_modes.contains(LocalModes::ECHO);
    terminal.press("ask()\n");
    assert_eq!(kernel.line(), "ask()");
    kernel.status("busy 1");
    kernel.status("waiting 1 secret");
    while shows(&terminal) {
        std::thread::yield_now();
    }
    terminal.signal(rustix::process::Signal::TSTP);
    while !terminal.is_stopped() {
        std::thread::yield_now();
    }
    assert!(shows(&terminal));
    terminal.signal(rustix::process::Signal::CONT);
    while shows(&terminal) {
        std::thread::yield_now();
    }
    terminal.signal(rustix::process::Signal::TERM);
    assert_eq!(terminal.end(), 143);
    assert!(shows(&terminal));
}
