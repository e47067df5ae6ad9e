//! What is to be seen at a pseudo-terminal.
#![cfg(target_os = "linux")]

mod support;

use std::process::Stdio;

use support::terminal::Terminal;
use support::{Kernel, Place, most_memory};
use trunkline_kernel::layout::Picture;

const CTRL_C: &str = "\x03";

fn start() -> (Place, Terminal, Kernel) {
    let place = Place::new();
    let terminal = Terminal::start(&place, &[]);
    let kernel = place.kernel();
    kernel.status("idle 0");
    terminal.expect("> ");
    (place, terminal, kernel)
}

/// Gives the kernel a line, which it begins to run.
fn run(terminal: &mut Terminal, kernel: &Kernel, number: u64) {
    terminal.press(format!("line {number}\r"));
    assert_eq!(kernel.line(), format!("line {number}"));
    kernel.status(&format!("busy {number}"));
}

#[test]
fn a_prompt_of_a_program_is_shown_as_it_is_whatever_it_looks_like() {
    let (_place, mut terminal, kernel) = start();
    let long = format!("{}? ", "how long is a prompt ".repeat(17));
    let prompts = ["> ", "* ", "? ", ". ", "\x1b[1;32mname\x1b[0m: ", "漢字 ", "x", "two\nlines: ", &long];
    for (number, prompt) in (1..).zip(prompts) {
        let (line, answer) = (2 * number - 1, 2 * number);
        run(&mut terminal, &kernel, line);
        kernel.print(prompt);
        kernel.status(&format!("waiting {line}"));
        let mut emulator = vt100_of(prompt);
        terminal.expect(&emulator);
        // What is typed stands behind it, and can be edited.
        terminal.press("answwer\x1b[D\x1b[D\x7f");
        emulator = vt100_of(&format!("{prompt}answ"));
        terminal.expect(&emulator);
        terminal.press("\r");
        assert_eq!(kernel.line(), "answer");
        kernel.status(&format!("busy {answer}"));
        kernel.print(format!("got {number}\n"));
        kernel.status(&format!("idle {answer}"));
        terminal.expect(&format!("{}\ngot {number}\n> ", vt100_of(&format!("{prompt}answer"))));
    }
}

/// What an 80-column terminal shows of a text that begins at the left.
fn vt100_of(text: &str) -> String {
    let mut emulator = vt100::Parser::new(24.try_into().unwrap(), 80.try_into().unwrap(), 0);
    emulator.process(text.replace('\n', "\r\n").as_bytes());
    let (row, column) = emulator.screen().cursor_position();
    let mut lines: Vec<String> =
        emulator.screen().rows(0, 80).take(usize::from(row)).map(|line| line.trim_end().to_owned()).collect();
    let last = emulator.screen().rows(0, column).nth(usize::from(row)).unwrap();
    let width = unicode_width::UnicodeWidthStr::width(last.as_str());
    lines.push(last + &" ".repeat(usize::from(column) - width));
    lines.join("\n")
}

#[test]
fn output_comes_above_the_line_that_is_typed() {
    let (_place, mut terminal, kernel) = start();
    run(&mut terminal, &kernel, 1);
    terminal.press("typed");
    terminal.expect("* typed");
    kernel.print("one\ntw");
    terminal.expect("one\ntw\n* typed");
    kernel.print("o, and \x1b[31mred");
    terminal.expect("one\ntwo, and red\n* typed");
    // A line that is written again, as a progress bar does.
    kernel.print("\rTWO");
    terminal.expect("one\nTWO, and red\n* typed");
    kernel.print("\r");
    kernel.complain("");
    kernel.status("idle 1");
    terminal.expect("one\nTWO, and red\n> typed");
    kernel.print("\x1b[Kthree");
    terminal.expect("one\nthree\n> typed");
    // To the bottom of the screen and beyond it.
    let lines: String = (0..100).map(|n| format!("\nline {n}")).collect();
    kernel.print(lines);
    terminal.expect("line 98\nline 99\n> typed");
    kernel.print(".");
    terminal.expect("line 98\nline 99.\n> typed");
    terminal.press("\r");
    assert_eq!(kernel.line(), "typed");
}

#[test]
fn characters_and_sequences_that_are_cut_between_messages_are_whole() {
    let (_place, mut terminal, kernel) = start();
    terminal.press("typed");
    for byte in "─漢\x1b[32mé\x1b]0;title\x07!\x1b[0m".bytes() {
        // The line is drawn anew behind each of them.
        kernel.print([byte]);
        kernel.answer(r#"{"id":99,"text":""}"#);
        std::thread::yield_now();
    }
    terminal.expect("─漢é!\n> typed");
    // The rest comes late: the line is drawn in between.
    let mut shown = "─漢é!".to_owned();
    for (number, (begin, rest)) in
        [(&b"\xE2\x94"[..], &b"\x80"[..]), (b"\x1b[3", b"2m"), (b"\x1b", b"[0m")].into_iter().enumerate()
    {
        kernel.print(begin);
        kernel.complain("");
        terminal.press(number.to_string());
        terminal.expect(&format!("{shown}\n> typed{}", &"012"[..=number]));
        kernel.print(rest);
        kernel.print(".");
        shown += if number == 0 { "─." } else { "." };
        terminal.expect(&format!("{shown}\n> typed{}", &"012"[..=number]));
    }
    assert!(!terminal.screen().contains('\u{FFFD}'));
}

#[test]
fn a_sequence_without_an_end_hides_the_line_for_a_moment_only() {
    let (_place, mut terminal, kernel) = start();
    kernel.print(format!("\x1b]0;{}", "x".repeat(1000)));
    terminal.press("typed");
    terminal.expect("> typed");
}

#[test]
fn long_lines_wrap_and_are_edited_at_any_place() {
    let (_place, mut terminal, kernel) = start();
    let text: String = ('a'..='z').cycle().take(200).collect();
    terminal.press(&text);
    terminal.press("\x01X\x05Y");
    let shown = vt100_of(&format!("> X{text}Y"));
    terminal.expect(&shown);
    terminal.press("\x15漢字");
    terminal.expect("> 漢字");
    // Exactly to the margin.
    terminal.press("\x15");
    terminal.press(&text[..78]);
    terminal.expect(&format!("> {}\n", &text[..78]));
    terminal.press("!\x7f\r");
    assert_eq!(kernel.line(), text[..78]);
    // More rows than the screen has.
    kernel.status("busy 1");
    kernel.status("idle 1");
    terminal.expect("> ");
    terminal.press(format!("\x1b[200~{}\x1b[201~end", "y".repeat(3000)));
    terminal.wait("the end is in sight", |screen| screen.ends_with("yend"));
    terminal.press("\x01begin");
    terminal.wait("the beginning is in sight", |screen| screen.contains("> begin"));
    terminal.press("\r");
    assert_eq!(kernel.line(), format!("begin{}end", "y".repeat(3000)));
}

#[test]
fn another_size_of_the_terminal_draws_the_line_anew() {
    let (_place, mut terminal, kernel) = start();
    let text: String = ('a'..='z').cycle().take(60).collect();
    terminal.press(&text);
    terminal.expect(&format!("> {text}"));
    terminal.resize(40, 10);
    terminal.press("!");
    terminal.expect(&format!("> {}\n{}!", &text[..38], &text[38..]));
    terminal.resize(100, 30);
    terminal.press("?");
    terminal.expect(&format!("> {text}!?"));
    terminal.press("\r");
    assert_eq!(kernel.line(), format!("{text}!?"));
}

#[test]
fn a_line_of_128_mb_takes_little_memory() {
    // In many messages, and in few: the largest that a console takes.
    for (size, count, most) in [(64 * 1024, 2048, 32), (16 << 20, 3, 80)] {
        let (_place, mut terminal, kernel) = start();
        run(&mut terminal, &kernel, 1);
        terminal.press("typed");
        terminal.expect("* typed");
        terminal.only_count(true);
        let piece = vec![b'x'; size];
        for _ in 0..count {
            kernel.print(&piece);
        }
        kernel.status("idle 1");
        terminal.expect_count(count * size);
        terminal.only_count(false);
        terminal.press("!\r");
        assert_eq!(kernel.line(), "typed!");
        let used = most_memory(terminal.child.id()) >> 20;
        assert!(used < most, "{used} MiB in messages of {size} bytes");
    }
}

#[test]
fn an_interrupt_of_a_flood_gives_a_prompt_soon_and_says_what_is_not_shown() {
    let (_place, mut terminal, kernel) = start();
    run(&mut terminal, &kernel, 1);
    // The terminal takes nothing, as over a link that is full.
    terminal.stop(true);
    let sent = kernel.flood(&[&[b'y'; 1023][..], b"\n"].concat());
    terminal.press(CTRL_C);
    assert_eq!(kernel.command(), "interrupt 1");
    kernel.complain("interrupted\n");
    kernel.status("idle 1");
    terminal.press("next\r");
    assert_eq!(kernel.line(), "next");
    kernel.status("busy 2");
    kernel.status("idle 2");
    terminal.stop(false);
    terminal.expect_anywhere("interrupted");
    terminal.expect_anywhere("bytes of output are not shown]");
    terminal.expect("> ");
    assert!(terminal.count() < sent / 2, "{} of {sent} bytes", terminal.count());
    // Output of the next statement is shown whole.
    run(&mut terminal, &kernel, 3);
    kernel.print("all of it\n");
    kernel.status("idle 3");
    terminal.expect("all of it\n> ");
}

#[test]
fn output_that_the_kernel_has_cut_is_told_on_a_line_of_its_own() {
    let (_place, mut terminal, kernel) = start();
    run(&mut terminal, &kernel, 1);
    kernel.print("half of a li");
    terminal.expect_anywhere("half of a li");
    kernel.gap(3, 3000);
    kernel.complain("interrupted\n");
    kernel.status("idle 1");
    terminal.expect("half of a li\n[output was cut here: 3 messages, 3000 bytes]\ninterrupted\n> ");
}

#[test]
fn standard_error_that_is_redirected_gets_the_kernels() {
    let place = Place::new();
    let file = place.folder.path().join("errors");
    let mut terminal = Terminal::with(place.console(&[]), |command| {
        command.env("TERM", "xterm").stderr(Stdio::from(std::fs::File::create(&file).unwrap()));
    });
    let kernel = place.kernel();
    kernel.status("idle 0");
    terminal.expect("> ");
    run(&mut terminal, &kernel, 1);
    kernel.print("out\n");
    kernel.complain("error of the program\n");
    kernel.status("idle 1");
    terminal.expect("out\n> ");
    assert!(!terminal.screen().contains("error of"), "{}", terminal.screen());
    terminal.press("\x04");
    kernel.finish();
    assert_eq!(terminal.end(), 0);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "error of the program\n");
}

#[test]
fn output_to_a_terminal_that_another_process_makes_non_blocking_is_whole() {
    let (_place, mut terminal, kernel) = start();
    run(&mut terminal, &kernel, 1);
    let flags = rustix::fs::fcntl_getfl(&terminal.slave).unwrap();
    rustix::fs::fcntl_setfl(&terminal.slave, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    terminal.stop(true);
    let lines: Vec<String> = (0..20_000).map(|n| format!("line {n}\n")).collect();
    for piece in lines.chunks(100) {
        kernel.print(piece.concat());
    }
    kernel.status("idle 1");
    terminal.stop(false);
    terminal.expect("line 19999\n> ");
    let raw = terminal.raw();
    let mut rest = raw.as_str();
    for line in &lines {
        let line = line.replace('\n', "\r\n");
        rest = rest.split_once(&line).unwrap_or_else(|| panic!("lost, or out of order: {line}")).1;
    }
}

#[test]
fn pictures_are_shown_as_the_terminal_can() {
    let png = Picture::new("image/png", "not really").text("<Figure>");
    let place = Place::new();
    let mut terminal = Terminal::with(place.console(&[]), |command| {
        command.env("TERM", "xterm-kitty");
    });
    let kernel = place.kernel();
    kernel.status("idle 0");
    run(&mut terminal, &kernel, 1);
    kernel.print("before\n");
    kernel.show(&png);
    kernel.print("after\n");
    kernel.status("idle 1");
    terminal.expect_raw("before\r\n\x1b_Ga=T,f=100,q=2,m=0;bm90IHJlYWxseQ==\x1b\\\r\nafter\r\n");
}

#[test]
fn pictures_are_shown_in_the_words_of_iterm_if_the_environment_says_so() {
    for (name, value) in
        [("TERM_PROGRAM", "iTerm.app"), ("TERM_PROGRAM", "WezTerm"), ("LC_TERMINAL", "iTerm2")]
    {
        let place = Place::new();
        let mut terminal = Terminal::with(place.console(&[]), |command| {
            command.env("TERM", "xterm-256color").env(name, value);
        });
        let kernel = place.kernel();
        kernel.status("idle 0");
        run(&mut terminal, &kernel, 1);
        kernel.print("before\n");
        kernel.show(&Picture::new("image/jpeg", "not really").text("<Figure>"));
        kernel.print("after\n");
        kernel.status("idle 1");
        terminal.expect_raw("before\r\n\x1b]1337;File=inline=1;size=10:bm90IHJlYWxseQ==\x07\r\nafter\r\n");
        terminal.press("x\r");
        assert_eq!(kernel.line(), "x");
    }
}

#[cfg(feature = "sixel")]
#[test]
fn pictures_are_shown_as_sixel_to_a_terminal_that_answers_that_it_has_it() {
    use base64::Engine as _;

    // One pixel.
    const PNG: &str =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    let png = base64::engine::general_purpose::STANDARD.decode(PNG).unwrap();
    let place = Place::new();
    let mut terminal = Terminal::start(&place, &[]);
    terminal.answer_abilities("\x1b[?62;4;22c");
    let kernel = place.kernel();
    kernel.status("idle 0");
    run(&mut terminal, &kernel, 1);
    for _ in 0..2 {
        kernel.print("before\n");
        kernel.show(&Picture::new("image/png", png.clone()).text("<Figure>"));
        kernel.print("after\n");
    }
    kernel.print("the end\n");
    kernel.status("idle 1");
    terminal.expect_raw("the end\r\n");
    // The answer of the terminal is no key.
    terminal.press("typed\r");
    assert_eq!(kernel.line(), "typed");
    let raw = terminal.raw();
    let shown: Vec<&str> = raw.split("before\r\n").skip(1).collect();
    for shown in &shown {
        let picture = shown.split_once("\x1b\\\r\nafter\r\n").unwrap_or_else(|| panic!("{raw:?}")).0;
        assert!(
            picture.contains("\x1bP") && picture.contains('q') && !picture.contains("<Figure>"),
            "{picture:?}"
        );
    }
    // The question was asked once.
    assert_eq!((shown.len(), raw.matches("\x1b[c").count()), (2, 1));
}

#[test]
fn a_terminal_that_shows_no_pictures_gets_the_text_and_a_file() {
    // One that answers that it has no sixel, and one that answers nothing.
    for abilities in [Some("\x1b[?62;22c"), None] {
        let place = Place::new();
        let folder = place.folder.path().to_str().unwrap();
        let mut terminal = Terminal::start(&place, &["--pictures", folder]);
        if let Some(abilities) = abilities {
            terminal.answer_abilities(abilities);
        }
        let kernel = place.kernel();
        kernel.status("idle 0");
        run(&mut terminal, &kernel, 1);
        kernel.show(&Picture::new("text/plain", "plain\ntext\n"));
        kernel.show(&Picture::new("image/svg+xml", "<svg/>").text("<Figure 1>"));
        kernel.print("after\n");
        kernel.status("idle 1");
        terminal.wait("the text, the file and what follows", |screen| {
            let text = screen.replace('\n', "");
            screen.contains("plain\ntext\n") && text.contains("<Figure 1> [") && text.contains(".svg]after> ")
        });
        let saved = std::fs::read_dir(place.folder.path()).unwrap();
        let svg =
            saved.filter_map(|it| it.ok()).find(|it| it.path().extension().is_some_and(|it| it == "svg"));
        assert_eq!(std::fs::read(svg.unwrap().path()).unwrap(), b"<svg/>");
        // The answer of the terminal, or none, is no key.
        terminal.press("x\r");
        assert_eq!(kernel.line(), "x");
    }
}
