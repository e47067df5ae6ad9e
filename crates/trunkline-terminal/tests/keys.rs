//! Keys at a pseudo-terminal: what a person types, pastes and asks for.
#![cfg(target_os = "linux")]

mod support;

use support::terminal::Terminal;
use support::{Kernel, Place};
use trunkline_kernel::layout::ROSTER;

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const UP: &str = "\x1b[A";

fn start() -> (Place, Terminal, Kernel) {
    let place = Place::new();
    let terminal = Terminal::start(&place, &[]);
    let kernel = place.kernel();
    kernel.status("idle 0");
    terminal.expect("> ");
    (place, terminal, kernel)
}

#[test]
fn keys_that_arrive_in_one_read_with_ctrl_c_are_kept() {
    let (_place, mut terminal, kernel) = start();
    terminal.press("dropped\x03kept\r");
    assert_eq!(kernel.line(), "kept");
    kernel.status("busy 1");
    terminal.expect("* ");
    // An interrupt, a whole line behind it, and the beginning of another.
    terminal.press("\x03next\rhalf");
    assert_eq!(kernel.command(), "interrupt 1");
    kernel.complain("interrupted\n");
    kernel.status("idle 1");
    assert_eq!(kernel.line(), "next");
    kernel.status("busy 2");
    kernel.status("idle 2");
    terminal.expect("> half");
    terminal.press("\r");
    assert_eq!(kernel.line(), "half");
}

#[test]
fn ctrl_d_finishes_and_all_output_is_shown() {
    let (_place, mut terminal, kernel) = start();
    terminal.press("last\r");
    terminal.press(CTRL_D);
    assert_eq!(kernel.line(), "last");
    kernel.status("busy 1");
    kernel.print("out");
    kernel.status("idle 1");
    kernel.finish();
    assert_eq!(terminal.end(), 0);
    terminal.expect("> last\nout\n");
}

#[test]
fn a_paste_of_lines_and_commands_loses_no_line_and_is_drawn_right() {
    for (begin, end) in [("\x1b[200~", "\x1b[201~"), ("", "")] {
        let (_place, mut terminal, kernel) = start();
        terminal.press(format!("{begin}one\r:interrupt\r\r:status\r::two\r:nonsense\rthree\rhalf{end}"));
        // The kernel reads nothing yet; the interrupt is for the line that was sent before it.
        assert_eq!(kernel.command(), "interrupt 1");
        kernel.run_lines(1, &["one", "", ":two", "three"]);
        terminal.expect("> half");
        let screen = terminal.screen();
        let lines: Vec<&str> = screen.lines().skip_while(|line| !line.ends_with(" one")).collect();
        let shown: Vec<&str> = lines.iter().map(|line| line.get(2..).unwrap_or_default()).collect();
        assert_eq!(shown[..4], ["one", ":interrupt", "", ":status"], "{screen}");
        assert!(screen.contains(":nonsense: there are only"), "{screen}");
        terminal.press("\r");
        kernel.run_lines(5, &["half"]);
        terminal.expect("> half\n> ");
    }
}

#[test]
fn input_that_is_not_utf_8_is_shown_and_sent() {
    let (_place, mut terminal, kernel) = start();
    terminal.press(b"na\xEFve\rnext\r");
    assert_eq!(kernel.line(), "na\u{FFFD}ve");
    assert_eq!(kernel.line(), "next");
    // The emulator leaves it out.
    terminal.expect_raw("na\u{FFFD}ve");
}

#[test]
fn keys_that_mean_nothing_freeze_nothing() {
    let (_place, mut terminal, kernel) = start();
    // Alt-], Alt-P, Alt-_, answers to questions that nothing asked, half a sequence.
    terminal.press("\x1b]\x1bP\x1b_\x1b[?1;2c\x1b[12;40R\x1b[12;\rline\r");
    assert_eq!(kernel.line(), "");
    assert_eq!(kernel.line(), "line");
}

#[test]
fn tab_completes_and_lists() {
    let (_place, mut terminal, kernel) = start();
    terminal.press("1 + naï\t");
    let request = kernel.request();
    assert_eq!(request, r#"{"id":1,"op":"complete","code":"1 + naï","cursor":7}"#);
    kernel.answer(r#"{"id":1,"matches":["naïve"],"start":4,"end":7}"#);
    terminal.expect("> 1 + naïve");
    terminal.press(" pr\t");
    kernel.request();
    kernel.answer(r#"{"id":2,"matches":["print","private"],"start":10,"end":12}"#);
    terminal.expect("> 1 + naïve pri");
    terminal.press("\t");
    kernel.request();
    kernel.answer(r#"{"id":3,"matches":["print","private"],"start":10,"end":13}"#);
    terminal.expect("print  private\n> 1 + naïve pri");
    // Nonsense of the kernel: places beyond the line, or backwards.
    for (id, answer) in [(4, r#""start":99,"end":3"#), (5, r#""start":0,"end":4000000000"#)] {
        terminal.press("\t");
        kernel.request();
        kernel.answer(&format!(r#"{{"id":{id},"matches":["x"],{answer}}}"#));
        kernel.complain(&format!("heard {id}\n"));
        terminal.expect_anywhere(&format!("heard {id}"));
    }
    terminal.press("\r");
    kernel.line();
}

#[test]
fn keys_go_on_while_no_answer_comes_to_tab() {
    let (_place, mut terminal, kernel) = start();
    terminal.press("pri\t");
    let request = kernel.request();
    assert!(request.contains("pri"), "{request}");
    // The kernel is stopped: keys are shown, and a line goes out.
    terminal.press("nt(1)\rmore");
    terminal.expect("* more");
    assert_eq!(kernel.line(), "print(1)");
    // The answer comes for a line that is gone.
    kernel.answer(r#"{"id":1,"matches":["private"],"start":0,"end":3}"#);
    kernel.status("busy 1");
    kernel.status("idle 1");
    terminal.expect("> more");
    terminal.press("!\r");
    assert_eq!(kernel.line(), "more!");
}

#[test]
fn tab_while_the_kernel_serves_another_console_freezes_nothing() {
    let place = Place::new();
    let mut terminal = Terminal::start(&place, &[]);
    let kernel = place.kernel();
    terminal.expect_anywhere("[waiting for the kernel, which serves another console]");
    terminal.press("pri\tnt");
    terminal.expect("* print");
    kernel.status("idle 0");
    terminal.expect("> print");
    terminal.press("\r");
    assert_eq!(kernel.line(), "print");
}

#[test]
fn answers_to_a_program_are_no_commands_of_the_history() {
    let (_place, mut terminal, kernel) = start();
    terminal.press("login()\r");
    kernel.line();
    kernel.status("busy 1");
    kernel.print("password? ");
    kernel.status("waiting 1");
    terminal.expect("password? ");
    terminal.press("secret\r");
    kernel.line();
    kernel.status("busy 2");
    kernel.status("idle 2");
    terminal.expect("> ");
    terminal.press(UP);
    terminal.expect("> login()");
    terminal.press(UP);
    terminal.expect("> login()");
    terminal.press(format!("{CTRL_C}ask()\r"));
    kernel.line();
    kernel.status("busy 3");
    // The answer is there before the program asks: the kernel never waits.
    terminal.press("typed ahead\r");
    kernel.line();
    kernel.status("idle 4");
    terminal.expect("> ");
    terminal.press(UP);
    terminal.expect("> ask()");
}

#[test]
fn an_interrupt_before_the_kernel_has_read_the_line_names_it() {
    let (_place, mut terminal, kernel) = start();
    terminal.press("one\r");
    terminal.press(CTRL_C);
    // Nothing was read: 300 ms of round trip, another console, an outage.
    assert_eq!(kernel.command(), "interrupt 1");
    assert_eq!(kernel.line(), "one");
    kernel.status("busy 1");
    kernel.status("idle 1");
    terminal.expect("* ^C\n> ");
    // Nothing runs, and no interrupt is sent.
    terminal.press(format!("x{CTRL_C}two\r"));
    assert_eq!(kernel.line(), "two");
    kernel.status("busy 2");
    terminal.press(CTRL_C);
    assert_eq!(kernel.command(), "interrupt 2");
}

#[test]
fn more_lines_than_the_kernel_takes_wait_and_none_is_lost() {
    let (_place, terminal, kernel) = start();
    terminal.only_count(true);
    // More than a window and the console's own queue; keys wait in the terminal then.
    let lines: Vec<String> = (0..60).map(|n| format!("{n} {}", "x".repeat(50_000))).collect();
    let mut keys = terminal.keys.try_clone().unwrap();
    let typed = lines.join("\r") + "\r";
    let typist = std::thread::spawn(move || std::io::Write::write_all(&mut keys, typed.as_bytes()).unwrap());
    let interrupts = || terminal.signal(rustix::process::Signal::INT);
    interrupts();
    for (number, line) in lines.iter().enumerate() {
        assert!(kernel.line() == *line, "line {number}");
    }
    typist.join().unwrap();
}

/// The console reads no keys then, and the terminal makes a signal of Ctrl-C, which throws away no key.
#[test]
fn ctrl_c_counts_while_the_kernel_takes_no_lines_and_loses_none() {
    let place = Place::new();
    let console = place.console(&[]);
    let mut shell = std::process::Command::new("setsid");
    shell.args(["--ctty", "--wait"]).arg(console.get_program()).args(console.get_args());
    let mut terminal = Terminal::with(shell, |command| {
        command.env("TERM", "xterm");
    });
    let kernel = place.kernel();
    kernel.status("idle 0");
    terminal.expect("> ");
    terminal.only_count(true);
    let takes_signals =
        |terminal: &Terminal| terminal.modes().local_modes.contains(rustix::termios::LocalModes::ISIG);
    let mut lines = Vec::new();
    while !takes_signals(&terminal) {
        let shown = terminal.count();
        lines.push(format!("{} {}", lines.len(), "x".repeat(2000)));
        terminal.press(format!("{}\r", lines[lines.len() - 1]));
        // A terminal whose buffer is full hands on no Ctrl-C: the console shows each line before the next is typed.
        while terminal.count() < shown + 2000 && !takes_signals(&terminal) {
            std::thread::yield_now();
        }
    }
    // These wait in the terminal.
    let last = ["the last but one", "the last"].map(str::to_owned);
    terminal.press(format!("{}\r{CTRL_C}{}\r", last[0], last[1]));
    assert_eq!(kernel.command(), "interrupt 1");
    // And it is so after the console was stopped, and goes on.
    terminal.signal(rustix::process::Signal::CONT);
    terminal.press(CTRL_C);
    assert_eq!(kernel.command(), "interrupt 1");
    lines.extend(last);
    for (number, line) in lines.iter().enumerate() {
        assert!(kernel.line() == *line, "line {number}");
    }
}

/// Its cost must not grow with the square of its length.
#[test]
fn a_line_of_a_megabyte_is_pasted_whole() {
    let (_place, mut terminal, kernel) = start();
    terminal.only_count(true);
    let line = "word ".repeat(200_000);
    for (begin, end) in [("\x1b[200~", "\x1b[201~"), ("", "")] {
        terminal.press(format!("{begin}{line}{end}\r"));
        assert!(kernel.line() == line);
    }
}

#[test]
fn what_a_program_asks_for_in_secret_is_seen_nowhere() {
    let (_place, mut terminal, kernel) = start();
    terminal.press("ask()\r");
    assert_eq!(kernel.line(), "ask()");
    kernel.status("busy 1");
    kernel.print("password? ");
    kernel.status("waiting 1 secret");
    terminal.expect("password? ");
    // A command of the console's is none here, a key that completes asks nothing, and what is edited is hidden too.
    terminal.press(":quit\t hun\x17hunter2\r");
    assert_eq!(kernel.line(), ":quit hunter2");
    kernel.status("busy 2");
    kernel.status("waiting 2 secret");
    // Another has stopped the program: what was typed must not be seen then, nor go to the next.
    terminal.expect("password?\n? ");
    terminal.press("swordfish");
    kernel.status("idle 2");
    terminal.expect("password?\n> ");
    terminal.press(UP);
    terminal.expect("password?\n> ask()");
    terminal.press("\x15\x19");
    terminal.press(CTRL_C);
    terminal.press("seen\r");
    assert_eq!(kernel.line(), "seen");
    kernel.status("busy 3");
    kernel.status("waiting 3 secret");
    terminal.expect("> seen\n? ");
    terminal.press("letmein");
    terminal.press(CTRL_C);
    assert_eq!(kernel.command(), "interrupt 3");
    kernel.status("idle 3");
    terminal.expect("? ^C\n> ");
    terminal.press(CTRL_D);
    kernel.finish();
    assert_eq!(terminal.end(), 0);
    for secret in ["hunter2", "quit", "hun", "swordfish", "letmein"] {
        assert!(!terminal.raw().contains(secret), "{secret}: {:?}", terminal.raw());
    }
}

#[test]
fn a_search_of_the_history_does_not_show_what_is_asked_for_in_secret() {
    let (_place, mut terminal, kernel) = start();
    terminal.press("ask()\r");
    assert_eq!(kernel.line(), "ask()");
    kernel.status("busy 1");
    terminal.expect("> ask()\n* ");
    // It was begun before, and ends then.
    terminal.press("\x12");
    terminal.expect("(search): ");
    kernel.print("password? ");
    kernel.status("waiting 1 secret");
    terminal.expect("> ask()\npassword? ");
    terminal.press("hun\x12ter2\x1b[A\x1b<\r");
    assert_eq!(kernel.line(), "hunter2");
    kernel.status("busy 2");
    kernel.status("idle 2");
    terminal.expect("> ask()\npassword?\n> ");
    terminal.press("\x12as");
    terminal.expect("> ask()\npassword?\n(search)as: ");
    terminal.press("\x05");
    terminal.expect("> ask()\npassword?\n> ask()");
    terminal.press(CTRL_C);
    terminal.press(CTRL_D);
    kernel.finish();
    assert_eq!(terminal.end(), 0);
    for secret in ["hun", "ter2"] {
        assert!(!terminal.raw().contains(secret), "{secret}: {:?}", terminal.raw());
    }
}

#[test]
fn a_late_completion_changes_nothing_that_is_not_seen() {
    let (_place, mut terminal, kernel) = start();
    terminal.press("pri\t");
    kernel.request();
    kernel.print("password? ");
    kernel.status("waiting 0 secret");
    terminal.expect("password? ");
    // It is urgent, so it comes before what is printed.
    kernel.answer(r#"{"id":1,"matches":["print"],"start":0,"end":3}"#);
    kernel.print("it is ");
    terminal.expect("password? it is ");
    terminal.press("\r");
    assert_eq!(kernel.line(), "pri");
}

#[test]
fn the_kernel_is_told_how_large_the_terminal_is() {
    let (_place, mut terminal, kernel) = start();
    let first = kernel.any_command();
    assert!(first.starts_with("resize "), "{first}");
    terminal.resize(97, 31);
    // What was told before may be told once more.
    while kernel.any_command() != "resize 97 31" {}
    terminal.press(CTRL_D);
    kernel.finish();
    assert_eq!(terminal.end(), 0);
}

#[test]
fn a_kernel_that_served_another_first_is_told_how_large_the_terminal_is() {
    let place = Place::new();
    let terminal = Terminal::start(&place, &[]);
    let kernel = place.kernel();
    terminal.expect_anywhere("waiting for the kernel");
    kernel.status("idle 0");
    assert_eq!(kernel.any_command(), "resize 80 24");
}

#[test]
fn a_size_is_told_once_to_each_owner_whatever_the_roster_says() {
    let (_place, mut terminal, kernel) = start();
    assert_eq!(kernel.any_command(), "resize 80 24");
    let roster = kernel.connection.sender(ROSTER).unwrap();
    for owner in [1; 100].into_iter().chain([2]) {
        let client = format!(r#"{{"id":{owner},"name":"desk","owner":true}}"#);
        roster.send(format!(r#"{{"clients":[{client}],"count":1}}"#)).unwrap();
        roster.send(r#"{"input":0}"#).unwrap();
    }
    for _ in [1, 2] {
        assert_eq!(kernel.any_command(), "resize 80 24");
    }
    kernel.status("busy 0");
    terminal.press("line\r");
    assert_eq!(kernel.line(), "line");
    kernel.status("busy 1");
    terminal.signal(rustix::process::Signal::INT);
    assert!(kernel.any_command().starts_with("interrupt"));
}
