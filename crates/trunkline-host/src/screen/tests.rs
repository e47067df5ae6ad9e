//! The screen against terminals that are fed otherwise.

use proptest::prelude::*;

use super::*;

fn screen_of(size: Size, output: &[u8]) -> (Screen, Vec<u8>, Vec<u8>) {
    let mut screen = Screen::new(size);
    let mut answers = Vec::new();
    let shown = screen.take_output(output, &mut answers);
    (screen, shown.to_vec(), answers)
}

/// Everything that a viewer can see or be asked for, and the same after leaving the alternate screen.
fn state(screen: &Screen) -> Vec<String> {
    let drawn = &screen.drawn;
    let one = |screen: &vt100::Screen| {
        let (rows, columns) = screen.size();
        let cells = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
        let cells: Vec<_> = cells.filter_map(|(row, column)| screen.cell(row, column)).map(look).collect();
        format!("{cells:?} {:?}", screen.cursor_position())
    };
    let now = drawn.parser.screen();
    let mut left = vt100::Parser::new(now.size().0, now.size().1, 0);
    *left.screen_mut() = now.clone();
    left.process(b"\x1b[?1049l");
    let mut modes = drawn.modes.clone();
    // What `ESC 7` has kept of the character sets is not in a snapshot.
    modes.save_cursor();
    vec![
        one(now),
        one(left.screen()),
        now.input_mode_formatted(),
        now.attributes_formatted(),
        now.hide_cursor().to_string(),
        format!("{modes:?}"),
        drawn.panics.to_string(),
    ]
}

/// What is seen of a cell.
fn look(cell: &vt100::Cell) -> String {
    let contents = if cell.has_contents() { cell.contents() } else { " " };
    let colours = (cell.fgcolor(), cell.bgcolor(), cell.inverse(), cell.bold(), cell.underline());
    if contents == " "
        && colours.0 == vt100::Color::Default
        && colours == (colours.0, colours.0, false, false, false)
    {
        return " ".to_owned();
    }
    format!("{contents}{colours:?}")
}

fn joined(screen: &Screen) -> Screen {
    // The joiner's terminal has been used before.
    let mut copy = Screen::new(Size::new(33, 7));
    copy.follow(b"\x1b[?1049h\x1b[2;4r\x1b[?6h\x1b[?1003h\x1b[?1004h\x1b[>5u\x1b[4h\x1b(0\x1b[31mold\x1b[?25l\x1b]2;old\x07");
    copy.drawn.modes.title.clear();
    copy.follow(&screen.snapshot());
    copy
}

#[test]
fn a_snapshot_has_every_mode_of_input() {
    let modes = [
        ("\x1b[?1049h", 1049),
        ("\x1b[?1002h", 1002),
        ("\x1b[?1006h", 1006),
        ("\x1b[?2004h", 2004),
        ("\x1b[?1004h", 1004),
        ("\x1b[?1h", 1),
        ("\x1b[?1000h", 1000),
        ("\x1b[?1003h", 1003),
        ("\x1b[?1015h", 1015),
    ];
    for (sequence, mode) in modes {
        let (screen, ..) = screen_of(Size::default(), sequence.as_bytes());
        assert_eq!(screen.drawn.mode(mode), Some(true));
        let snapshot = screen.snapshot();
        let at = memchr::memmem::rfind(&snapshot, sequence.as_bytes());
        assert!(at.is_some(), "{sequence:?} is not in {snapshot:?}");
        assert_eq!(joined(&screen).drawn.mode(mode), Some(true), "{sequence:?}");
        let (screen, ..) = screen_of(Size::default(), b"");
        assert_eq!(joined(&screen).drawn.mode(mode), Some(false), "{sequence:?}");
    }
    let (screen, ..) = screen_of(Size::default(), b"\x1b[>1u\x1b[?1049h\x1b[>3u\x1b[>9u");
    let copy = joined(&screen);
    assert_eq!(copy.drawn.modes, screen.drawn.modes);
    assert_eq!(copy.drawn.modes.keyboard_flags(false), 1);
    assert_eq!(copy.drawn.modes.keyboard_flags(true), 9);
}

#[test]
fn both_screens_and_the_region_are_in_a_snapshot() {
    let output = "one\r\ntwo\x1b[1;31m\x1b[?1049h\x1b[32m\x1b[2;5r\x1b[3;3Hvi\x1b]2;title\x07\x1b[?25l";
    let (mut screen, ..) = screen_of(Size::new(40, 10), output.as_bytes());
    let mut copy = joined(&screen);
    assert_eq!(state(&copy), state(&screen));
    assert_eq!(copy.title(), "title");
    // What follows has the same effect, in the region and after the way back.
    for more in ["\n\n\n\n\nx", "\x1b[?1049l", "three", "\x1b[H\x1bM"] {
        screen.take_output(more.as_bytes(), &mut Vec::new());
        copy.follow(more.as_bytes());
        assert_eq!(state(&copy), state(&screen), "{more:?}");
    }
    assert_eq!(screen.text(), "\none\ntwothree".to_owned());
}

#[test]
fn a_snapshot_asks_nothing_and_rings_no_bell() {
    let output =
        b"a\x07\x1b[6n\x1b[c\x1b]11;?\x07\x1b]52;c;?\x07\x1b]52;c;aGk=\x07\x1b[>q\x1b[?u\x1bP$qm\x1b\\";
    let (screen, shown, answers) = screen_of(Size::default(), output);
    assert_eq!(shown, b"a\x07\x1b]52;c;aGk=\x07");
    let snapshot = screen.snapshot();
    assert!(!snapshot.contains(&7) && memchr::memmem::find(&snapshot, b"]52").is_none());
    let (_, again, more) = screen_of(Size::default(), &snapshot);
    assert_eq!(more, b"");
    assert!(again.len() < snapshot.len()); // without the mark of the size, and nothing else
    assert_eq!(
        String::from_utf8(answers).unwrap(),
        format!(
            "\x1b[1;2R\x1b[?62;22c\x1b]11;rgb:0000/0000/0000\x1b\\\x1bP>|trunkline {}\x1b\\\x1b[?0u\x1bP0$r\x1b\\",
            env!("CARGO_PKG_VERSION")
        )
    );
}

#[test]
fn a_question_that_comes_in_pieces_is_answered_once_and_shown_to_no_viewer() {
    for question in
        ["\x1b[6n", "\x1b[c", "\x1b[>c", "\x1b]11;?\x1b\\", "\x1b]4;7;?\x07", "\x1bP+q544e\x1b\\", "\x1bZ"]
    {
        let (_, _, expected) = screen_of(Size::default(), question.as_bytes());
        assert!(!expected.is_empty(), "{question:?}");
        for cut in 0..question.len() {
            let mut screen = Screen::new(Size::default());
            let mut answers = Vec::new();
            let (one, two) = question.as_bytes().split_at(cut);
            assert_eq!(screen.take_output(one, &mut answers), b"".as_slice());
            assert_eq!(answers, b"");
            assert_eq!(screen.take_output(two, &mut answers), b"".as_slice());
            assert_eq!(answers, expected, "{question:?} cut at {cut}");
        }
    }
}

#[test]
fn what_a_program_asks_about_its_title_and_the_clipboard_is_not_answered_by_anything() {
    let asks =
        "\x1b]2;;rm -rf ~;\x07\x1b[21t\x1b[20t\x1b]52;c;?\x07\x1b]52;;?\x1b\\\x1b]1337;ReportCellSize\x07";
    let (_, shown, answers) = screen_of(Size::default(), asks.as_bytes());
    assert_eq!(answers, b"");
    assert_eq!(shown, "\x1b]2;;rm -rf ~;\x07".as_bytes());
}

#[test]
fn a_program_does_not_forge_a_size_and_does_not_make_viewers_report() {
    let (screen, shown, _) = screen_of(
        Size::default(),
        b"\x1b_trunkline size 5 5\x1b\\\x1b[8;5;5t\x1b[?2048h\x1b[?1004;2048;2004h",
    );
    assert_eq!(screen.size(), Size::default());
    assert_eq!(shown, b"\x1b[?1004;2004h");
}

#[test]
fn wide_characters_at_the_edge_and_widths_down_to_one_are_survived() {
    for text in [
        "\x1b[1;80H中",
        "\x1b[1;79H中文",
        "\x1b[1;80H❤\u{fe0f}⌚\u{fe0e}",
        "中\u{301}\u{fe0f}👩‍👩‍👧",
        "\x1b[?7l\x1b[1;80H中中中",
        "\x1b[1;80H\u{301}e\u{fe0f}",
    ] {
        for tail in [
            "\x1b[K",
            "\x1b[1K",
            "\x1b[P",
            "\x1b[@",
            "\x1b[X",
            "\x1b[J",
            "\x1b[1J",
            "\x1b[3b",
            "\x08x",
            "\x1b[L\x1b[M",
        ] {
            let mut screen = Screen::new(Size::default());
            for width in [80, 79, 2, 1, 2, 80] {
                screen.resize(Size::new(width, if width == 2 { 1 } else { 24 }));
                screen.take_output(text.as_bytes(), &mut Vec::new());
                screen.take_output(tail.as_bytes(), &mut Vec::new());
                assert_eq!(state(&joined(&screen)), state(&screen), "{text:?} {tail:?} {width}");
                assert_eq!(screen.drawn.panics, 0, "{text:?} {tail:?} {width}");
            }
        }
    }
}

#[test]
fn a_panic_of_the_model_costs_the_screen_and_nothing_else() {
    let one = NonZeroU16::MIN;
    let mut screen = Screen::new(Size::new(1, 2));
    // A width and a text that `vt100` 0.18 does not stand; neither gets to it otherwise.
    screen.drawn.parser = vt100::Parser::new(one, one, 0);
    let mut answers = Vec::new();
    screen.drawn.process("0\u{fe0f}\u{fe0f}".as_bytes());
    assert_eq!(screen.drawn.panics, 1);
    screen.take_output(b"\x1b[2J\x1b[Hx\x1b[6n", &mut answers);
    assert_eq!((screen.text(), answers), ("x".to_owned(), b"\x1b[1;1R".to_vec()));
    assert_eq!(screen.drawn.parser.screen().size(), cells(Size::new(1, 2)));
}

#[test]
fn lines_and_corners_are_drawn() {
    let (mut screen, ..) = screen_of(Size::new(10, 3), b"\x1b(0lqk\x1b(Bq\r\n\x1b)0x\x0ex");
    assert_eq!(screen.text(), "┌─┐q\nx│");
    let mut copy = joined(&screen);
    copy.follow(b"xx\x0fx");
    screen.take_output(b"xx\x0fx", &mut Vec::new());
    assert_eq!((copy.text(), screen.text()), ("┌─┐q\nx│││x".to_owned(), "┌─┐q\nx│││x".to_owned()));
}

#[test]
fn a_joiner_in_the_middle_of_a_long_string_shows_nothing_of_it() {
    for (start, end) in [("\x1bPq", "\x1b\\"), ("\x1b]1337;File=", "\x07"), ("\x1b_G", "\x1b\\")] {
        let mut screen = Screen::new(Size::default());
        screen.take_output(b"before ", &mut Vec::new());
        let mut image = start.as_bytes().to_vec();
        image.resize(100_000, b'A');
        screen.take_output(&image, &mut Vec::new());
        let mut copy = joined(&screen);
        let rest = format!("AAAA{end}after");
        copy.follow(&screen.take_output(rest.as_bytes(), &mut Vec::new()));
        assert_eq!(copy.text(), "before after");
        assert_eq!(screen.text(), "before after");
    }
}

#[test]
fn repeating_a_character_costs_a_screen_at_most() {
    let start = std::time::Instant::now();
    let (screen, ..) = screen_of(Size::new(10, 2), "x\x1b[65535b".repeat(5000).as_bytes());
    assert_eq!(screen.text().len(), 20);
    assert!(start.elapsed() < std::time::Duration::from_secs(10));
}

/// Output that hits edges: few columns, wide characters, every sequence that the screen knows.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let text = prop::sample::select(vec![
        "a",
        "0",
        "xyz",
        "中",
        "é",
        "e\u{301}",
        "👍",
        "\u{fe0f}",
        "❤\u{fe0f}",
        "⌚",
        "\u{fe0e}",
        "\r\n",
        "\n",
        "\r",
        "\t",
        "\x08",
        "\x0e",
        "\x0f",
        "\u{7f}",
    ]);
    let fixed = prop::sample::select(vec![
        "\x1b7",
        "\x1b8",
        "\x1bM",
        "\x1bD",
        "\x1bE",
        "\x1b(0",
        "\x1b(B",
        "\x1b)0",
        "\x1b=",
        "\x1b>",
        "\x1b[?1049h",
        "\x1b[?1049l",
        "\x1b[?47h",
        "\x1b[?47l",
        "\x1b[?6h",
        "\x1b[?6l",
        "\x1b[?25l",
        "\x1b[?25h",
        "\x1b[?1002h",
        "\x1b[?1006h",
        "\x1b[?1004h",
        "\x1b[?2004h",
        "\x1b[?1h",
        "\x1b[>1u",
        "\x1b[<u",
        "\x1b[=5;1u",
        "\x1b]2;t\x07",
        "\x1b[31m",
        "\x1b[44m",
        "\x1b[1m",
        "\x1b[m",
        "\x1b[!p",
        "\x1b[s",
        "\x1b[u",
        "\x1b[5 q",
        "\x1b[4h",
        "\x1b[?7l",
    ]);
    let moves = (prop::sample::select(b"@ABCDEFGHJKLMPSTXZ`abdefr".to_vec()), 0..9_u16, 0..9_u16)
        .prop_map(|(last, one, two)| format!("\x1b[{one};{two}{}", char::from(last)));
    let piece = prop_oneof![
        6 => text.prop_map(str::to_owned),
        3 => fixed.prop_map(str::to_owned),
        4 => moves,
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
}

fn size() -> impl Strategy<Value = Size> {
    (1..9_u16, 1..6_u16).prop_map(|(columns, rows)| Size::new(columns, rows))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the program has set, a terminal that leaves has none of it.
    #[test]
    fn a_terminal_that_leaves_has_its_modes_back(start in size(), output in output()) {
        let mut screen = Screen::new(start);
        screen.take_output(&output, &mut Vec::new());
        let leave = screen.leave();
        screen.follow(&leave);
        let drawn = &screen.drawn;
        let mut modes = Modes::new();
        // The title and what is set on a screen that is not shown mean nothing there.
        modes.set_title(screen.title().as_bytes());
        let mut left = drawn.modes.clone();
        left.save_cursor();
        if left.has_keyboard(true) {
            left.keyboard(&Csi::read(b"\x1b[<99u").unwrap(), true);
        }
        prop_assert_eq!(left, modes);
        let now = drawn.parser.screen();
        let fresh = vt100::Parser::new(now.size().0, now.size().1, 0);
        prop_assert_eq!(now.input_mode_formatted(), fresh.screen().input_mode_formatted());
        prop_assert!(!now.alternate_screen() && !now.hide_cursor());
        prop_assert_eq!(now.attributes_formatted(), "\x1b[m");
    }

    /// Whatever the bytes, the screen lives, and a viewer that has all of the output has the same screen.
    #[test]
    fn a_viewer_that_follows_has_the_same_screen(
        start in size(),
        parts in prop::collection::vec((output(), size(), any::<[u8; 6]>()), 0..4),
        cut in 0..400_usize,
    ) {
        let mut screen = Screen::new(start);
        let mut copy = Screen::new(start);
        for (mut output, size, noise) in parts {
            output.extend_from_slice(&noise);
            let (one, two) = output.split_at(cut.min(output.len()));
            for part in [one, two] {
                copy.follow(&screen.take_output(part, &mut Vec::new()));
            }
            copy.follow(&screen.resize(size));
        }
        copy.follow(&screen.finish_output());
        prop_assert_eq!(state(&copy), state(&screen));
        prop_assert_eq!(screen.drawn.panics, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_joiner_has_the_same_screen(start in size(), then in size(), one in output(), two in output()) {
        let mut screen = Screen::new(start);
        screen.take_output(&one, &mut Vec::new());
        screen.resize(then);
        screen.take_output(&two, &mut Vec::new());
        // A cursor that counts from the top of the region and stands outside of it cannot be put there.
        prop_assume!(!snapshot::is_lost(screen.drawn.parser.screen()));
        let copy = joined(&screen);
        prop_assert_eq!(copy.size(), screen.size());
        prop_assert_eq!(state(&copy), state(&screen));
        prop_assert_eq!(screen.drawn.panics, 0);
    }
}
