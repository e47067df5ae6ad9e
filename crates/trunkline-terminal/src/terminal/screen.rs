//! The terminal: what the program writes, and below it the line that is edited.
//!
//! Before the line is drawn, the terminal saves the place where the output ended, with its colours; before more
//! output is written, it goes back there and clears what is below. So nothing of the output is kept here.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::area::{Layout, View, lay_out, shown};
use super::column::Column;
use crate::sys::Sink;

/// Output that the terminal has not taken; while there is more, the kernel is not asked for more.
const ROOM: usize = 32 * 1024;
/// A beginning of a character or sequence is held back until the rest comes, if it is not longer.
const HELD: usize = 32;
/// How long the line is not drawn inside of a longer sequence.
const PATIENCE: Duration = Duration::from_millis(200);

pub(super) struct Screen {
    sink: Sink,
    columns: usize,
    rows: usize,
    column: Column,
    held: Vec<u8>,
    /// Since when a long sequence is being written.
    inside: Option<Instant>,
    drawn: Option<Drawn>,
}

struct Drawn {
    view: View,
    layout: Layout,
    /// In which column of its first row the line begins.
    start: usize,
    /// The line stands in the row below that of the output.
    below: bool,
}

impl Screen {
    pub(super) fn new(terminal: OwnedFd, (columns, rows): (usize, usize)) -> Self {
        Self {
            sink: Sink::new(terminal, false),
            columns,
            rows,
            column: Column::new(columns),
            held: Vec::new(),
            inside: None,
            drawn: None,
        }
    }

    pub(super) fn sink(&self) -> &Sink {
        &self.sink
    }

    pub(super) fn flush(&mut self) -> io::Result<bool> {
        self.sink.flush()
    }

    /// Returns `true` if the terminal has taken nearly everything.
    pub(super) fn has_room(&self) -> bool {
        self.sink.len() < ROOM
    }

    /// Returns `true` if the program has begun a line.
    pub(super) fn has_begun_line(&self) -> bool {
        self.column.is_used()
    }

    /// Returns when a line that was not drawn may be.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.inside.map(|since| since + PATIENCE)
    }

    /// Writes what the program writes.
    pub(super) fn output(&mut self, bytes: &[u8]) {
        self.lift();
        let complete = self.column.follow(bytes);
        let unfinished = if self.column.is_between() {
            0
        } else if complete == 0 {
            // It may have begun before.
            self.held.len() + bytes.len()
        } else {
            bytes.len() - complete
        };
        if self.column.is_between() {
            self.inside = None;
        }
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        if unfinished > HELD || self.inside.is_some() {
            if !self.column.is_between() {
                self.inside.get_or_insert_with(Instant::now);
            }
            self.sink.push(&all);
        } else {
            let end = all.len() - unfinished;
            self.sink.push(&all[..end]);
            self.held = all.split_off(end);
        }
    }

    /// Says something of the console's own, in lines of its own. If the program waits at a prompt, that stands
    /// behind it again.
    pub(super) fn note(&mut self, text: &str, at_prompt: bool) {
        self.lift();
        let tail = self.begin_line();
        for line in text.lines() {
            self.sink.push(shown(line).as_bytes());
            self.sink.push(b"\n");
        }
        self.go_on_behind(if at_prompt { &tail } else { "" });
    }

    /// Writes a picture, in the terminal's own words.
    pub(super) fn picture(&mut self, bytes: &[u8]) {
        self.lift();
        self.begin_line();
        self.sink.push(bytes);
        self.sink.push(b"\n");
        self.go_on_behind("");
    }

    /// Asks the terminal what it can.
    pub(super) fn ask_abilities(&mut self) {
        self.sink.push(b"\x1b[c");
    }

    pub(super) fn beep(&mut self) {
        self.sink.push(b"\x07");
    }

    /// The line was given: it stays where it is, and output comes below it.
    pub(super) fn commit(&mut self, view: &View) {
        self.lift();
        if !view.inline {
            self.begin_line();
        }
        self.plain();
        self.sink.push(shown(&view.prompt).as_bytes());
        self.sink.push(shown(&view.text).as_bytes());
        self.sink.push(b"\n");
        self.column.begin_row();
        self.go_on_behind("");
    }

    /// Draws the line, if it is not drawn so already. `None` draws none.
    pub(super) fn paint(&mut self, view: Option<&View>) {
        let Some(view) = view else {
            self.lift();
            return;
        };
        if let Some(since) = self.inside {
            if since.elapsed() < PATIENCE {
                return;
            }
            // The rest does not come: it is ended here.
            self.end_sequence();
            self.column.begin_row();
        }
        match &mut self.drawn {
            Some(drawn) if drawn.view == *view => return,
            Some(drawn) => {
                if let Some(more) = drawn.appended(view, self.columns) {
                    self.sink.push(more.as_bytes());
                    return;
                }
            }
            None => {}
        }
        self.lift();
        self.draw(view);
    }

    fn draw(&mut self, view: &View) {
        if self.column.at() == self.columns {
            // Where the cursor is at a full row differs between terminals.
            self.sink.push(b"\n");
            self.column.wrap();
        }
        let at = self.column.at();
        let mut start = if view.inline { at } else { 0 };
        let mut below = !view.inline && self.column.is_used();
        let most = self.rows.saturating_sub(1 + usize::from(below)).max(1);
        let mut layout = lay_out(view, start, self.columns, most);
        if layout.cut && start > 0 {
            below = true;
            start = 0;
            layout = lay_out(view, 0, self.columns, most.saturating_sub(1).max(1));
        }
        let down = layout.rows.len() - 1 + usize::from(below);
        if down > 0 {
            // The screen scrolls now, so that the place that is saved stays true. A vertical tab goes one row down
            // and keeps the column; the system makes a new line of a newline.
            self.sink.push(&vec![0x0B; down]);
            self.sink.push(format!("\x1b[{down}A").as_bytes());
        }
        self.sink.push(b"\x1b7");
        self.plain_here();
        if below {
            self.sink.push(b"\n");
        }
        self.sink.push(layout.rows.join("\n").as_bytes());
        let up = layout.rows.len() - 1 - layout.cursor_row;
        if up > 0 {
            self.sink.push(format!("\x1b[{up}A").as_bytes());
        }
        let end = lay_out(
            &View { cursor: view.text.len(), hint: String::new(), ..view.clone() },
            start,
            self.columns,
            most,
        );
        let is_there = view.hint.is_empty()
            && view.cursor == view.text.len()
            && (end.cursor_row, end.cursor_column) == (layout.cursor_row, layout.cursor_column)
            && layout.cursor_column > 0;
        if !is_there {
            self.sink.push(b"\r");
            if layout.cursor_column > 0 {
                self.sink.push(format!("\x1b[{}C", layout.cursor_column).as_bytes());
            }
        }
        self.drawn = Some(Drawn { view: view.clone(), layout, start, below });
    }

    /// Takes the line away, and goes back to where the output ended.
    fn lift(&mut self) {
        match self.drawn.take() {
            // What stands behind the cursor in the row of the output stays, as behind a progress bar.
            Some(drawn) if drawn.below => self.sink.push(b"\x1b8\n\x1b[J\x1b8"),
            Some(_) => self.sink.push(b"\x1b8\x1b[J"),
            None => {}
        }
    }

    /// Begins a line if the program is inside of one; returns what it has written of it.
    fn begin_line(&mut self) -> String {
        self.end_sequence();
        self.plain();
        let tail = self.column.tail().to_owned();
        if self.column.is_used() {
            self.sink.push(b"\n");
        }
        self.column.begin_row();
        tail
    }

    /// The output goes on in a row that is free, behind the end of its line if that is to be seen there, and behind
    /// what is held back: its rest comes next.
    fn go_on_behind(&mut self, tail: &str) {
        let held = std::mem::take(&mut self.held);
        self.output(tail.as_bytes());
        self.output(&held);
    }

    /// Ends a long sequence, whose rest does not come now.
    fn end_sequence(&mut self) {
        if self.inside.take().is_some() {
            self.sink.push(b"\x1b\\");
        }
    }

    fn plain(&mut self) {
        if self.column.is_styled() {
            self.sink.push(b"\x1b[m");
            self.column.follow(b"\x1b[m");
        }
    }

    /// For the line alone: the output goes on in its colours.
    fn plain_here(&mut self) {
        if self.column.is_styled() {
            self.sink.push(b"\x1b[m");
        }
    }

    /// The terminal has another size. Terminals move what they show, each in its own way; the line is drawn
    /// anew where it must be now.
    pub(super) fn resize(&mut self, (columns, rows): (usize, usize)) {
        if (self.columns, self.rows) == (columns, rows) {
            return;
        }
        (self.columns, self.rows) = (columns, rows);
        self.column.resize(columns);
        if let Some(drawn) = self.drawn.take() {
            let now = lay_out(&drawn.view, drawn.start.min(columns), columns, rows.saturating_sub(1));
            self.sink.push(b"\r");
            if now.cursor_row > 0 {
                self.sink.push(format!("\x1b[{}A", now.cursor_row).as_bytes());
            }
            self.sink.push(b"\x1b[J");
            let tail = self.column.tail().to_owned();
            self.column.begin_row();
            self.go_on_behind(if drawn.start > 0 { &tail } else { "" });
        }
    }

    /// Leaves the line as it is, and goes below it: the process is about to be stopped.
    pub(super) fn leave(&mut self) {
        self.end_sequence();
        if let Some(drawn) = self.drawn.take() {
            let down = drawn.layout.rows.len() - 1 - drawn.layout.cursor_row;
            if down > 0 {
                self.sink.push(format!("\x1b[{down}B").as_bytes());
            }
            self.sink.push(b"\n");
        } else if self.column.is_used() {
            self.sink.push(b"\n");
        }
        self.plain();
    }

    /// The process goes on, at a terminal of maybe another size. Where the cursor is, is not known: others may have
    /// written meanwhile, or the process was not stopped at all and the line stands there still. So all that is
    /// taken away is in the cursor's row and below; what stands above may belong to others.
    pub(super) fn come_back(&mut self, (columns, rows): (usize, usize)) {
        self.end_sequence();
        self.sink.push(b"\r\x1b[J");
        (self.columns, self.rows) = (columns, rows);
        self.column.resize(columns);
        self.begin_again();
    }

    /// Clears the screen.
    pub(super) fn clear(&mut self) {
        self.end_sequence();
        self.sink.push(b"\x1b[H\x1b[2J");
        self.begin_again();
    }

    /// The cursor is in a row that is free, and what was drawn is not there any more.
    fn begin_again(&mut self) {
        self.drawn = None;
        let tail = self.column.tail().to_owned();
        self.column.begin_row();
        self.go_on_behind(&tail);
    }

    /// Nothing more comes. The shell's prompt is to stand at the beginning of a row.
    pub(super) fn end(&mut self) {
        self.lift();
        let held = std::mem::take(&mut self.held);
        self.sink.push(&held);
        self.begin_line();
    }
}

impl Drawn {
    /// What has to be written if the new view has nothing but more at its end.
    fn appended(&mut self, view: &View, columns: usize) -> Option<String> {
        let old = &self.view;
        let is_end = |view: &View| view.cursor == view.text.len() && view.hint.is_empty();
        let same = old.prompt == view.prompt && old.inline == view.inline && is_end(old) && is_end(view);
        let more = view.text.strip_prefix(old.text.as_str()).filter(|more| same && more.is_ascii())?;
        let at = self.layout.cursor_column + more.len();
        if more.bytes().any(|byte| byte.is_ascii_control()) || at >= columns || self.layout.cursor_column == 0
        {
            return None;
        }
        self.layout.cursor_column = at;
        let more = more.to_owned();
        self.view = view.clone();
        Some(more)
    }
}
