//! Links that are lost, and kernels that are gone, while a person types.
#![cfg(target_os = "linux")]

mod support;

use support::pipes::{Outcome, Pipes};
use support::proxy::Proxy;
use support::terminal::Terminal;
use support::{Kernel, Place};

const TRYING: &str = "  [link lost, trying…]";

fn start() -> (Place, Proxy, Terminal, Kernel) {
    let mut place = Place::new();
    let proxy = Proxy::new(place.address);
    place.address = proxy.address;
    let terminal = Terminal::start(&place, &[]);
    let kernel = place.kernel();
    kernel.status("idle 0");
    terminal.expect("> ");
    (place, proxy, terminal, kernel)
}

#[test]
fn a_lost_link_is_shown_and_what_is_typed_is_kept() {
    let (_place, proxy, mut terminal, kernel) = start();
    terminal.press("let a =");
    terminal.expect("> let a =");
    proxy.lose();
    terminal.expect_in_rows(&format!("> let a ={TRYING}"));
    // Another line, half of the next, and then the link is back.
    terminal.press(" 40\ra +");
    terminal.expect_in_rows(&format!("* a +{TRYING}"));
    terminal.press("\x03:status\r:inspect a\ra +");
    terminal.expect_anywhere("the interrupt waits for it");
    terminal.expect_anywhere("[the link is lost; ask again when it is back]");
    proxy.heal();
    assert_eq!(kernel.command(), "interrupt 1");
    assert_eq!(kernel.line(), "let a = 40");
    kernel.status("busy 1");
    kernel.status("idle 1");
    terminal.expect("> a +");
    terminal.press(" 2\r");
    assert_eq!(kernel.line(), "a + 2");
}

#[test]
fn a_size_that_changed_while_the_link_was_lost_is_told_when_it_is_back() {
    let (_place, proxy, mut terminal, kernel) = start();
    assert_eq!(kernel.any_command(), "resize 80 24");
    proxy.lose();
    terminal.expect_in_rows(TRYING);
    terminal.resize(90, 30);
    terminal.signal(rustix::process::Signal::WINCH);
    // It is known to the console now.
    terminal.press("typed");
    terminal.expect_in_rows(&format!("> typed{TRYING}"));
    proxy.heal();
    assert_eq!(kernel.any_command(), "resize 90 30");
}

#[test]
fn ctrl_d_while_the_link_is_lost_leaves() {
    let (_place, proxy, mut terminal, kernel) = start();
    proxy.lose();
    terminal.expect_in_rows(TRYING);
    terminal.press("\x04");
    assert_eq!(terminal.end(), 3);
    kernel.leave();
    assert!(terminal.raw().contains("left while the link was lost"));
}

#[test]
fn a_kernel_that_dies_while_a_line_is_typed_ends_the_console() {
    let place = Place::new();
    let mut terminal = Terminal::start(&place, &["--grace", "0"]);
    let kernel = place.kernel();
    kernel.status("idle 0");
    terminal.expect("> ");
    terminal.press("half a l");
    terminal.expect("> half a l");
    kernel.print("last words");
    kernel.connection.flush().unwrap();
    kernel.connection.abandon();
    assert_eq!(terminal.end(), 3);
    // What was typed can still be read.
    terminal.expect_anywhere("last words\n* half a l\nconsole: the kernel is gone");
}

#[test]
fn why_it_ends_is_told_at_the_terminal_too_if_standard_error_leads_elsewhere() {
    let place = Place::new();
    let file = place.folder.path().join("errors");
    let mut terminal = Terminal::with(place.console(&["--grace", "0"]), |command| {
        command.env("TERM", "xterm").stderr(std::fs::File::create(&file).unwrap());
    });
    let kernel = place.kernel();
    kernel.status("idle 0");
    terminal.expect("> ");
    kernel.connection.abandon();
    assert_eq!(terminal.end(), 3);
    terminal.expect_anywhere("the kernel is gone");
    assert!(std::fs::read_to_string(file).unwrap().starts_with("console: the kernel is gone"));
}

#[test]
fn a_script_says_that_the_link_is_lost_and_goes_on() {
    let mut place = Place::new();
    let proxy = Proxy::new(place.address);
    place.address = proxy.address;
    let mut console = Pipes::start(&place, &[]);
    let kernel = place.kernel();
    kernel.status("idle 0");
    console.write("one\n");
    kernel.run_lines(1, &["one"]);
    proxy.lose();
    assert_eq!(console.error_line(), "console: link lost, trying\n");
    console.write("two\n");
    console.finish();
    proxy.heal();
    assert_eq!(console.error_line(), "console: the link is back\n");
    kernel.run_lines(2, &["two"]);
    kernel.finish();
    assert_eq!(console.end(), Outcome::new(0, "", ""));
}
