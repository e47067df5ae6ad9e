//! The example `repl` over links that are lost: what a script sees of it.

mod support;

use support::chaos::{Chaos, Cut};
use support::kernel::Kernel;
use support::process::{Outcome, Process};

const LOST: &str = "repl: link lost, trying\n";
const BACK: &str = "repl: the link is back\n";

/// A console whose link leads through a proxy; the kernel runs a first line of it.
fn line(kernel: &Kernel, options: &[&str]) -> (Chaos, Process) {
    let chaos = Chaos::new(kernel.address);
    let mut console = kernel.console_at(chaos.addr, options);
    console.write("print(\"up\")\n");
    assert_eq!(console.line(), "up\n");
    (chaos, console)
}

fn lose(chaos: &Chaos, console: &Process, cut: Cut) {
    chaos.refuse(true);
    chaos.cut(cut);
    assert_eq!(console.error_line(), LOST);
}

#[track_caller]
fn expect_failure(console: Process, why: &str) {
    let Outcome { code, stdout, stderr } = console.end();
    assert_eq!((code, stdout.as_str()), (Some(3), ""));
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("repl: ") && last.contains(why), "{stderr}");
}

#[test]
fn output_that_is_cut_in_the_middle_comes_whole_and_once() {
    let kernel = Kernel::start();
    let chaos = Chaos::new(kernel.address);
    // After so many bytes from the kernel, and some of the cuts within its handshake.
    let cuts = [20_000, 30_000, 100, 1, 5_000, 200, 12_345];
    chaos.plan(cuts.map(|bytes| [u64::MAX, bytes]));
    let mut console = kernel.console_at(chaos.addr, &[]);
    console.write("for i in 0..20000 { print(i); if i % 100 == 0 { debug(i) } }\n\"after\"\n");
    console.finish();
    let Outcome { code, stdout, stderr } = console.end();
    let numbers: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    assert!(stdout == numbers + "\"after\"\n", "{} bytes", stdout.len());
    let (notes, debugged): (Vec<&str>, Vec<&str>) = stderr.lines().partition(|line| line.starts_with("repl"));
    let hundreds: Vec<String> = (0..200).map(|number| format!("{}", number * 100)).collect();
    assert_eq!((code, debugged), (Some(0), hundreds.iter().map(String::as_str).collect()));
    // A cut within a handshake is part of the outage that it should have ended.
    assert!(notes.len() >= 4 && notes.chunks(2).all(|pair| pair == [LOST.trim(), BACK.trim()]), "{notes:?}");
    assert_eq!(chaos.cuts(), cuts.len() as u64);
}

#[test]
fn what_input_waits_for_can_be_typed_while_the_link_is_lost() {
    for cut in [Cut::Fin, Cut::Reset] {
        let kernel = Kernel::start();
        let (chaos, mut console) = line(&kernel, &[]);
        console.write("let name = input(\"\")\n:status\n");
        assert_eq!(console.line(), "waiting for input\n");
        lose(&chaos, &console, cut);
        console.write("Ada\nname\n:inspect name\n");
        chaos.refuse(false);
        assert_eq!(console.error_line(), BACK);
        console.finish();
        let stdout = "\"Ada\"\nlet name: string = \"Ada\"\n".to_owned();
        assert_eq!(console.end(), Outcome { code: Some(0), stdout, stderr: String::new() });
    }
}

#[test]
fn an_interrupt_waits_for_the_link_and_stops_what_runs() {
    let kernel = Kernel::start();
    let (chaos, mut console) = line(&kernel, &[]);
    console.write("print(\"in\"); loop {}\n:status\n");
    assert_eq!((console.line(), console.line()), ("in\n".to_owned(), "busy\n".to_owned()));
    lose(&chaos, &console, Cut::Reset);
    console.write(":interrupt\n1 + 1\n");
    console.finish();
    chaos.refuse(false);
    let stderr = format!("{BACK}interrupted\n");
    assert_eq!(console.end(), Outcome { code: Some(0), stdout: "2\n".to_owned(), stderr });
}

#[test]
fn a_kernel_that_was_started_again_is_told_at_once() {
    let mut kernel = Kernel::start();
    // It would try for an hour.
    let (chaos, console) = line(&kernel, &["--grace", "3600"]);
    chaos.refuse(true);
    kernel.start_again();
    assert_eq!(console.error_line(), LOST);
    chaos.lead_to(kernel.address);
    chaos.refuse(false);
    expect_failure(console, "does not know this session any more: it was started again");
}

#[test]
fn a_kernel_that_was_killed_is_given_up_after_the_grace() {
    for (grace, why) in [("1", "was not reached again in time"), ("0", "the connection was lost")] {
        let mut kernel = Kernel::start();
        let (_chaos, console) = line(&kernel, &["--grace", grace]);
        kernel.process.kill();
        // Its stdin is open: it waits for the next line.
        expect_failure(console, why);
    }
}

#[test]
fn a_console_gives_up_when_the_kernel_has_given_up_its_session() {
    let kernel = Kernel::with(&["--grace", "1"]);
    let (chaos, first) = line(&kernel, &[]);
    lose(&chaos, &first, Cut::Fin);
    // It is served when the first is given up.
    let mut second = kernel.console();
    second.write("1\n");
    assert_eq!(second.line(), "1\n");
    // The kernel has told it how long that would be.
    expect_failure(first, "was not reached again in time");
}

#[test]
fn a_console_that_comes_while_the_link_is_lost_has_the_place() {
    let kernel = Kernel::with(&["--grace", "3600"]);
    let (chaos, mut first) = line(&kernel, &[]);
    first.write("let mine = 7\nprint(\"in\"); loop {}\n");
    assert_eq!(first.line(), "in\n");
    lose(&chaos, &first, Cut::Fin);
    let mut second = kernel.console();
    second.write("mine\n");
    assert_eq!(second.line(), "7\n");
    chaos.refuse(false);
    expect_failure(first, "another console came");
}

#[test]
fn a_short_outage_costs_nobody_the_place() {
    let kernel = Kernel::start();
    let (chaos, mut first) = line(&kernel, &[]);
    let mut second = kernel.console();
    assert_eq!(second.error_line(), "repl: waiting for the kernel, which serves another console\n");
    lose(&chaos, &first, Cut::Reset);
    chaos.refuse(false);
    assert_eq!(first.error_line(), BACK);
    first.write("let mine = 7\n");
    first.finish();
    let nothing = |code| Outcome { code: Some(code), stdout: String::new(), stderr: String::new() };
    assert_eq!(first.end(), nothing(0));
    second.write("mine\n");
    assert_eq!(second.line(), "7\n");
    second.finish();
    assert_eq!(second.end(), nothing(0));
}
