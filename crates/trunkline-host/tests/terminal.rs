//! Programs on a real pseudo-terminal.
#![cfg(unix)]

mod support;

use std::time::{Duration, Instant};

use support::*;
use trunkline_host::{Ending, Happened, Setup, Signal, Size};

#[test]
fn a_command_that_exits_fast_loses_no_tail() {
    let expected = seq(3000, "\r\n");
    for round in 0..200 {
        let (ending, written) = run(on_terminal("seq 3000"));
        assert_eq!(ending, Ending::Exited(0));
        assert!(
            written.text() == expected,
            "round {round}: {} of {} bytes",
            written.text().len(),
            expected.len()
        );
    }
}

#[test]
fn a_long_output_loses_nothing() {
    let expected = seq(200_000, "\r\n");
    for _ in 0..2 {
        let (ending, written) = run(on_terminal("seq 200000"));
        assert_eq!(ending, Ending::Exited(0));
        assert!(written.text() == expected, "{} of {} bytes", written.text().len(), expected.len());
    }
}

#[test]
fn a_background_child_that_holds_the_terminal_does_not_hold_up_the_end() {
    // It ignores the hang-up, as a daemon does.
    let start = Instant::now();
    let (ending, written) = run(on_terminal("trap '' HUP; sleep 20 & echo last words; exit 3"));
    assert_eq!(ending, Ending::Exited(3));
    assert_eq!(written.text(), "last words\r\n");
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_background_child_that_goes_on_writing_is_heard_for_the_linger() {
    let script = "trap '' HUP; (while :; do echo more; sleep 0.02; done) & exit 4";
    let program =
        Setup::terminal(sh(script), Size::default()).linger(Duration::from_millis(300)).start().unwrap();
    let (ending, written) = run(program);
    assert_eq!(ending, Ending::Exited(4));
    assert!(written.text().contains("more"));
}

#[test]
fn only_the_standard_descriptors_are_inherited_and_no_process_but_the_program_has_the_terminal() {
    // A descriptor that other code has opened for its own children.
    let file = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let (_, written) = run(on_terminal(
        "f=0; while [ $f -lt 100 ]; do [ -e /proc/$$/fd/$f ] && printf \"$f \"; f=$((f+1)); done",
    ));
    assert_eq!(written.text(), "0 1 2 ");
    // The host has no copy of the slave: once the program has closed it, that is the end of its output.
    let mut program = on_terminal("exec <&- >&- 2>&-; exec sleep 0.3");
    let mut written = Written::default();
    assert_eq!(end(&mut program, &mut written), Ending::Exited(0));
}

#[test]
fn a_program_that_closes_its_terminal_and_opens_it_again_goes_on() {
    let script = "t=$(tty); exec <&- >&- 2>&-; sleep 0.3; exec <$t >$t 2>&1; echo again";
    let (ending, written) = run(on_terminal(script));
    assert_eq!((ending, written.text().as_str()), (Ending::Exited(0), "again\r\n"));
}

#[test]
fn the_terminal_is_the_controlling_one_and_keys_make_signals() {
    let script = "echo pid $$; ps -o pid=,sid=,tpgid= -p $$; trap 'echo interrupted; exit 7' INT; echo to the terminal >/dev/tty; read x";
    let mut program = on_terminal(script);
    let mut written = Written::default();
    until(&mut program, &mut written, "to the terminal");
    let text = written.text();
    let numbers: Vec<u32> =
        text.lines().nth(1).unwrap().split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert_eq!(numbers, [program.pid().unwrap(); 3]);
    program.input("\x03".into()).unwrap();
    assert_eq!(end(&mut program, &mut written), Ending::Exited(7));
    assert!(written.text().ends_with("^Cinterrupted\r\n"), "{:?}", written.text());
}

#[test]
fn signals_that_the_host_ignores_are_not_ignored_by_the_program() {
    // A shell that starts the host in the background ignores these for it.
    let mut command = command("sh");
    command.args(["-c", "exec grep -E 'Sig(Ign|Blk)' /proc/self/status"]);
    let ignored = IgnoredSignal::new();
    let (_, written) = run(Setup::terminal(command, Size::default()).start().unwrap());
    drop(ignored);
    let text = written.text();
    let mut sets =
        text.lines().map(|line| u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap());
    // 32 and 33 are the C library's own, which lets no program change them.
    assert_eq!(sets.next(), Some(0), "{text:?}");
    assert_eq!(sets.next().unwrap() & !(0b11 << 31), 0, "{text:?}");
}

/// SIGUSR2 is ignored as long as it lives: no other test uses it.
struct IgnoredSignal(libc::sighandler_t);

impl IgnoredSignal {
    fn new() -> Self {
        // SAFETY: ignoring is no code of ours.
        Self(unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) })
    }
}

impl Drop for IgnoredSignal {
    fn drop(&mut self) {
        // SAFETY: this is what was set before.
        unsafe { libc::signal(libc::SIGUSR2, self.0) };
    }
}

#[test]
fn a_large_paste_into_cat_comes_back() {
    const LINES: usize = 160_000;
    let mut program = on_terminal("stty -echo; echo ready; cat | wc -c; sleep 0");
    let mut written = Written::default();
    until(&mut program, &mut written, "ready");
    let line = [&[b'x'; 63][..], b"\n"].concat();
    let mut sent = 0;
    while sent < LINES {
        let message = line.repeat(100);
        let mut message = Some(message.into());
        while let Some(input) = message.take() {
            if let Err(back) = program.input(input) {
                message = Some(back);
                assert_eq!(next(&mut program, &mut written), Happened::Room);
            }
        }
        sent += 100;
    }
    program.finish_input();
    assert_eq!(end(&mut program, &mut written), Ending::Exited(0));
    assert!(written.text().ends_with(&format!("{}\r\n", LINES * 64)), "{:?}", written.text());
}

#[test]
fn a_large_paste_that_is_not_read_holds_nothing_up() {
    let mut program = on_terminal("trap 'echo got it' USR1; echo ready; while :; do sleep 0.1; done");
    let mut written = Written::default();
    until(&mut program, &mut written, "ready");
    // The program reads nothing, and the terminal echoes.
    let mut accepted = 0;
    let until_full = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until_full {
        match program.input(b"0123456789\n".repeat(1000).into()) {
            Ok(()) => accepted += 11_000,
            Err(_) => match program.next(Some(until_full)).unwrap() {
                Happened::Output(..) | Happened::Room | Happened::Timeout => {}
                other => panic!("{other:?}"),
            },
        }
    }
    // 64 KiB and a message here, and what the system holds.
    assert!(accepted < 400_000, "{accepted} bytes accepted");
    program.signal("USR1".parse().unwrap()).unwrap();
    until(&mut program, &mut written, "got it");
    // It waits for events, and does not turn: what a second takes of the processor is little.
    let before = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let idle = Instant::now() + Duration::from_secs(1);
    while program.next(Some(idle)).unwrap() != Happened::Timeout {}
    let after = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let spent = Duration::try_from(after - before).unwrap();
    assert!(spent < Duration::from_millis(300), "{spent:?} in a second");
    // An interrupt is not held up by it either, and drops what was not read.
    program.interrupt();
    assert_eq!(end(&mut program, &mut written), Ending::Killed(Signal::INT));
}

#[test]
fn an_interrupt_drops_a_paste_that_was_not_read() {
    let left =
        "stty -echo -icanon min 0 time 5; echo left $(dd bs=100000 count=1 2>/dev/null | wc -c); exit 0";
    let mut program = on_terminal(&format!("trap '{left}' INT; echo ready; while :; do sleep 0.05; done"));
    let mut written = Written::default();
    until(&mut program, &mut written, "ready");
    while program.input(b"rm -rf ~\n".repeat(1000).into()).is_ok() {}
    program.interrupt();
    assert_eq!(end(&mut program, &mut written), Ending::Exited(0));
    assert!(written.text().ends_with("left 0\r\n"), "{:?}", written.text().lines().last());
}

#[test]
fn an_interrupt_reaches_a_program_that_reads_keys_too() {
    let mut program = on_terminal(
        "stty raw -echo; trap 'echo by signal; exit 5' INT; echo ready; while :; do sleep 0.05; done",
    );
    let mut written = Written::default();
    until(&mut program, &mut written, "ready");
    program.interrupt();
    assert_eq!(end(&mut program, &mut written), Ending::Exited(5));
    assert!(written.text().contains("by signal"));
}

#[test]
fn questions_are_answered_at_once_although_no_terminal_is_attached() {
    // `read` gives up after a second, so an answer that never comes is not waited for.
    let script = "stty raw -echo; printf '\\033[6n'; dd bs=6 count=1 2>/dev/null | od -An -c; printf '\\033[c'; dd bs=9 count=1 2>/dev/null | od -An -c";
    let (ending, written) = run(on_terminal(script));
    assert_eq!(ending, Ending::Exited(0));
    let text: String = written.text().split_whitespace().collect();
    assert_eq!(text, "033[1;1R033[?62;22c");
}

#[test]
fn answers_that_are_not_read_hold_nothing_up_and_take_no_memory() {
    let script = "stty raw -echo; i=0; while [ $i -lt 1000 ]; do printf '\\033[6n\\033[6n\\033[6n\\033[6n\\033[6n\\033[6n\\033[6n\\033[6n\\033[6n\\033[6n'; i=$((i+1)); done; echo done";
    let (ending, written) = run(on_terminal(script));
    assert_eq!((ending, written.text().as_str()), (Ending::Exited(0), "done\n"));
}

#[test]
fn the_size_is_there_from_the_beginning_and_a_burst_of_changes_becomes_few() {
    let (_, written) = run(on_terminal("stty size"));
    assert_eq!(written.text(), "24 80\r\n");

    let script = "n=0; trap 'n=$((n+1)); stty size' WINCH; echo ready; while [ \"$(stty size)\" != '50 299' ]; do sleep 0.02; done; echo changes $n";
    let mut program = on_terminal(script);
    let mut written = Written::default();
    until(&mut program, &mut written, "ready");
    for step in 0..200 {
        program.resize(Size::new(100 + step, 50));
        let until = Instant::now() + Duration::from_millis(2);
        while !matches!(program.next(Some(until)).unwrap(), Happened::Timeout) {}
    }
    assert_eq!(end(&mut program, &mut written), Ending::Exited(0));
    let text = written.text();
    let changes: u32 = text.lines().last().unwrap().strip_prefix("changes ").unwrap().parse().unwrap();
    assert!((1..60).contains(&changes), "{changes} changes");
    assert_eq!(program.screen().unwrap().size(), Size::new(299, 50));
}

#[test]
fn a_program_without_a_locale_writes_utf_8_and_a_character_is_not_cut() {
    let mut command = sh("locale charmap; echo $TERM; printf '\\303'; sleep 0.2; printf '\\244\\n'");
    command
        .env_remove("LANG")
        .env_remove("LC_ALL")
        .env_remove("LC_CTYPE")
        .env_remove("TERM")
        .env_remove("LANGUAGE");
    let mut program = Setup::terminal(command, Size::default()).start().unwrap();
    let mut whole = Vec::new();
    loop {
        match program.next(None).unwrap() {
            Happened::Output(_, bytes) => whole.push(String::from_utf8(bytes.to_vec()).unwrap()),
            Happened::Ended(ending) => break assert_eq!(ending, Ending::Exited(0)),
            other => panic!("{other:?}"),
        }
    }
    assert!(whole.concat().ends_with("UTF-8\r\nxterm-256color\r\nä\r\n"), "{whole:?}");
}

#[test]
fn the_end_of_the_input_ends_what_reads_lines() {
    let mut program = on_terminal("cat; echo status $?");
    program.input("a line\n".into()).unwrap();
    program.finish_input();
    let (ending, written) = run(program);
    assert_eq!(ending, Ending::Exited(0));
    assert!(written.text().ends_with("a line\r\nstatus 0\r\n"), "{:?}", written.text());
}

#[test]
fn a_program_that_is_asked_to_end_hears_the_hang_up_and_one_that_does_not_listen_is_killed() {
    let mut program = on_terminal("trap 'echo bye; exit 6' HUP; echo ready; while :; do sleep 0.05; done");
    let mut written = Written::default();
    until(&mut program, &mut written, "ready");
    program.end();
    assert_eq!(end(&mut program, &mut written), Ending::Exited(6));
    assert!(written.text().ends_with("bye\r\n"));

    let mut program = on_terminal("trap '' HUP TERM; echo ready; while :; do sleep 0.05; done");
    let mut written = Written::default();
    until(&mut program, &mut written, "ready");
    program.end();
    assert_eq!(end(&mut program, &mut written), Ending::Killed(Signal::KILL));
}

#[test]
fn a_program_that_is_dropped_is_killed_with_its_group_and_reaped() {
    let mut program = on_terminal("sleep 30 & echo child $!; wait");
    let mut written = Written::default();
    until(&mut program, &mut written, "child ");
    until(&mut program, &mut written, "\n");
    let child: i32 = written.text().trim().strip_prefix("child ").unwrap().parse().unwrap();
    let shell = program.pid().unwrap();
    drop(program);
    assert!(!std::path::Path::new(&format!("/proc/{shell}")).exists());
    let deadline = Instant::now() + PATIENCE;
    while rustix::process::test_kill_process(rustix::process::Pid::from_raw(child).unwrap()).is_ok() {
        // A zombie of another parent is as dead.
        let status = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        if status.contains(") Z ") {
            break;
        }
        assert!(Instant::now() < deadline, "the child lives");
        std::thread::yield_now();
    }
}

#[test]
fn what_cannot_be_started_says_what_to_do() {
    let error = Setup::terminal(command("no-such-program"), Size::default()).start().unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("cannot start \"no-such-program\": ") && text.contains("PATH"), "{text}");
}
