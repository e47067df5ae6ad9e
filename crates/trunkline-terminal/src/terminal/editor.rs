//! What keys do to the line that is edited. The line itself is rustyline's.

use rustyline::line_buffer::{ChangeListener, DeleteListener, Direction, LineBuffer};
use rustyline::{At, Movement, Word};

use super::history::History;
use super::keys::Key;

/// The longest line that can be typed or pasted, in bytes.
pub(super) const MAX_LINE: usize = 1 << 20;
/// How many changes can be undone.
const UNDO: usize = 100;
/// A longer line is not kept for each word, in bytes.
const UNDO_LINE: usize = 4096;
/// What an undo may remember in all, in bytes.
const UNDO_BYTES: usize = 4 << 20;

/// What a key asks of the console.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Action {
    None,
    /// A line is complete.
    Accept(String),
    /// Ctrl-C, and the line that it drops.
    Interrupt(String),
    /// Ctrl-D where there is no line.
    End,
    /// Ctrl-\.
    Quit,
    /// Tab.
    Complete,
    /// Ctrl-L.
    Clear,
    /// The terminal has said whether it can show sixel.
    Abilities(bool),
    /// The key does nothing here.
    Beep,
}

pub(super) struct Editor {
    line: LineBuffer,
    pub(super) history: History,
    killed: String,
    undo: Vec<(String, usize)>,
    /// Where in the history the line comes from, and what was typed before that.
    browsing: Option<(usize, String)>,
    search: Option<Search>,
    pasting: bool,
    /// The line is not to be seen.
    secret: bool,
}

/// Ctrl-R.
struct Search {
    text: String,
    found: Option<(usize, usize)>,
    /// What was typed before.
    before: String,
}

impl Editor {
    pub(super) fn new() -> Self {
        Self {
            line: LineBuffer::with_capacity(256),
            history: History::default(),
            killed: String::new(),
            undo: Vec::new(),
            browsing: None,
            search: None,
            pasting: false,
            secret: false,
        }
    }

    pub(super) fn text(&self) -> &str {
        self.line.as_str()
    }

    /// Where the cursor is in [`text`](Editor::text), in bytes.
    pub(super) fn cursor(&self) -> usize {
        self.line.pos()
    }

    /// Forgets what was typed, and what was killed of it.
    pub(super) fn forget(&mut self) {
        let history = std::mem::take(&mut self.history);
        *self = Self { history, pasting: self.pasting, secret: self.secret, ..Self::new() };
    }

    pub(super) fn is_secret(&self) -> bool {
        self.secret
    }

    /// The line is not to be seen, or is again. Meanwhile nothing comes from the history, and a search of it, which
    /// shows what is typed, ends.
    pub(super) fn set_secret(&mut self, secret: bool) {
        self.secret = secret;
        if secret && let Some(search) = self.search.take() {
            self.set(&search.before, search.before.len());
        }
    }

    /// What stands in the place of the prompt while the history is searched.
    pub(super) fn search_prompt(&self) -> Option<String> {
        self.search.as_ref().map(|search| {
            let failed = if search.found.is_none() && !search.text.is_empty() { "failed " } else { "" };
            format!("({failed}search){}: ", search.text)
        })
    }

    pub(super) fn press(&mut self, key: Key) -> Action {
        if self.search.is_some()
            && let Some(action) = self.press_in_search(key)
        {
            return action;
        }
        if self.pasting {
            return self.paste(key);
        }
        let done = match key {
            Key::Char(c) => return self.insert(c),
            Key::Enter => return Action::Accept(self.take()),
            Key::Tab => return Action::Complete,
            Key::Ctrl('C') => return Action::Interrupt(self.take()),
            Key::Ctrl('D') if self.line.is_empty() => return Action::End,
            Key::Ctrl('\\') => return Action::Quit,
            Key::Ctrl('L') => return Action::Clear,
            Key::Abilities(sixel) => return Action::Abilities(sixel),
            Key::Other => return Action::None,
            Key::PasteBegins => {
                self.remember();
                self.pasting = true;
                true
            }
            Key::PasteEnds => true,
            Key::Left | Key::Ctrl('B') => self.line.move_backward(1),
            Key::Right | Key::Ctrl('F') => self.line.move_forward(1),
            Key::Home | Key::Ctrl('A') => {
                self.line.move_home();
                true
            }
            Key::End | Key::Ctrl('E') => {
                self.line.move_end();
                true
            }
            Key::WordLeft | Key::Alt('b') => self.line.move_to_prev_word(Word::Emacs, 1),
            Key::WordRight | Key::Alt('f') => self.line.move_to_next_word(At::AfterEnd, Word::Emacs, 1),
            Key::Backspace => self.change(|line, kills| line.backspace(1, kills), false),
            Key::Delete | Key::Ctrl('D') => self.change(|line, kills| line.delete(1, kills).is_some(), false),
            Key::Ctrl('W') => self.change(|line, kills| line.delete_prev_word(Word::Big, 1, kills), true),
            Key::AltBackspace => {
                self.change(|line, kills| line.delete_prev_word(Word::Emacs, 1, kills), true)
            }
            Key::Alt('d') => {
                self.change(|line, kills| line.delete_word(At::AfterEnd, Word::Emacs, 1, kills), true)
            }
            Key::Ctrl('K') => self.change(|line, kills| line.kill(&Movement::EndOfLine, kills), true),
            Key::Ctrl('U') => self.change(|line, kills| line.kill(&Movement::BeginningOfLine, kills), true),
            Key::Ctrl('T') => self.change(|line, kills| line.transpose_chars(kills), false),
            Key::Ctrl('Y') => {
                let killed = self.killed.clone();
                self.remember();
                return self.insert_text(&killed);
            }
            Key::Ctrl('_') => self.undo(),
            Key::Up | Key::Down | Key::Ctrl('P' | 'N' | 'R') | Key::Alt('<' | '>') if self.secret => false,
            Key::Up | Key::Ctrl('P') => self.browse(true),
            Key::Down | Key::Ctrl('N') => self.browse(false),
            Key::Alt('<') => self.browse_to(Some(0)),
            Key::Alt('>') => self.browse_to(None),
            Key::Ctrl('R') => {
                self.search =
                    Some(Search { text: String::new(), found: None, before: self.line.as_str().to_owned() });
                true
            }
            Key::Ctrl(_) | Key::Alt(_) => false,
        };
        if done { Action::None } else { Action::Beep }
    }

    /// Puts a completion in the place of the text between two places, in bytes.
    pub(super) fn replace(&mut self, from: usize, to: usize, text: &str) {
        let now = self.line.as_str();
        if from <= to && now.is_char_boundary(from) && now.is_char_boundary(to) && to <= now.len() {
            let whole = [&now[..from], text, &now[to..]].concat();
            self.remember();
            self.set(&whole, from + text.len());
        }
    }

    fn take(&mut self) -> String {
        self.browsing = None;
        self.search = None;
        self.undo.clear();
        std::mem::replace(&mut self.line, LineBuffer::with_capacity(256)).into_string()
    }

    fn set(&mut self, text: &str, cursor: usize) {
        let text = &text[..text.floor_char_boundary(MAX_LINE)];
        self.line = LineBuffer::with_capacity(text.len().max(256));
        self.line.update(text, cursor.min(text.len()), &mut Kills::default());
    }

    fn insert(&mut self, c: char) -> Action {
        // One undo takes back a word, or all of a line that is too long to be kept for each.
        if c.is_whitespace() && self.line.len() < UNDO_LINE || self.undo.is_empty() {
            self.remember();
        }
        let mut buffer = [0; 4];
        self.insert_text(c.encode_utf8(&mut buffer))
    }

    /// rustyline's line never grows above the room that it was made with.
    fn insert_text(&mut self, text: &str) -> Action {
        let whole = self.line.len() + text.len();
        if whole > MAX_LINE {
            return Action::Beep;
        }
        if self.line.yank(text, 1, &mut Kills::default()).is_none() && !text.is_empty() {
            let now = std::mem::replace(&mut self.line, LineBuffer::with_capacity((2 * whole).min(MAX_LINE)));
            self.line.update(now.as_str(), now.pos(), &mut Kills::default());
            self.line.yank(text, 1, &mut Kills::default());
        }
        Action::None
    }

    fn change(&mut self, change: impl FnOnce(&mut LineBuffer, &mut Kills) -> bool, kill: bool) -> bool {
        let before = (self.line.as_str().to_owned(), self.line.pos());
        let mut kills = Kills::default();
        let done = change(&mut self.line, &mut kills);
        if done {
            self.push_undo(before);
            if kill {
                self.killed = kills.text;
            }
        }
        done
    }

    fn remember(&mut self) {
        self.push_undo((self.line.as_str().to_owned(), self.line.pos()));
    }

    fn push_undo(&mut self, state: (String, usize)) {
        self.undo.push(state);
        let bytes = |undo: &[(String, usize)]| undo.iter().map(|(text, _)| text.len()).sum::<usize>();
        while self.undo.len() > UNDO || bytes(&self.undo) > UNDO_BYTES {
            self.undo.remove(0);
        }
    }

    fn undo(&mut self) -> bool {
        let Some((text, cursor)) = self.undo.pop() else { return false };
        self.set(&text, cursor);
        true
    }

    /// In a paste only its end and what ends a line is a key; the rest is text.
    fn paste(&mut self, key: Key) -> Action {
        match key {
            Key::PasteEnds => self.pasting = false,
            // A terminal that does not end what it began.
            Key::Ctrl('C') => {
                self.pasting = false;
                return Action::Interrupt(self.take());
            }
            Key::Enter => return Action::Accept(self.take()),
            Key::Tab => return self.insert_text("\t"),
            Key::Char(c) => return self.insert_text(c.encode_utf8(&mut [0; 4])),
            _ => {}
        }
        Action::None
    }

    fn browse(&mut self, back: bool) -> bool {
        let end = self.history.len();
        let at = self.browsing.as_ref().map_or(end, |(at, _)| *at);
        match (back, at) {
            (true, 0) => false,
            (true, at) => self.browse_to(Some(at - 1)),
            (false, at) if at + 1 < end => self.browse_to(Some(at + 1)),
            (false, at) if at < end => self.browse_to(None),
            (false, _) => false,
        }
    }

    /// Shows an entry of the history, or what was typed before.
    fn browse_to(&mut self, at: Option<usize>) -> bool {
        match at {
            Some(at) => {
                let Some(line) = self.history.get(at).map(str::to_owned) else { return false };
                let typed = match self.browsing.take() {
                    Some((_, typed)) => typed,
                    None => self.line.as_str().to_owned(),
                };
                self.browsing = Some((at, typed));
                self.set(&line, line.len());
            }
            None => {
                let Some((_, typed)) = self.browsing.take() else { return false };
                self.set(&typed, typed.len());
            }
        }
        true
    }

    /// `None` if the key ends the search and means what it always does.
    fn press_in_search(&mut self, key: Key) -> Option<Action> {
        let search = self.search.as_mut()?;
        let end = search.found.map_or(self.history.len(), |(at, _)| at);
        let found = match key {
            Key::Char(c) => {
                search.text.push(c);
                self.history.search(&search.text, end.saturating_add(1))
            }
            Key::Backspace => {
                search.text.pop();
                self.history.search(&search.text, self.history.len())
            }
            Key::Ctrl('R') => self.history.search(&search.text, end),
            Key::Ctrl('G') => {
                let before = std::mem::take(&mut search.before);
                self.search = None;
                self.set(&before, before.len());
                return Some(Action::None);
            }
            _ => {
                self.search = None;
                return None;
            }
        };
        if search.text.is_empty() {
            search.found = None;
            return Some(Action::None);
        }
        let Some((at, place)) = found else {
            if search.found.is_none() || key != Key::Ctrl('R') {
                search.found = None;
            }
            return Some(Action::Beep);
        };
        search.found = Some((at, place));
        let line = self.history.get(at).unwrap_or_default().to_owned();
        self.set(&line, place);
        Some(Action::None)
    }
}

/// What a change deletes.
#[derive(Default)]
struct Kills {
    text: String,
}

impl DeleteListener for Kills {
    fn delete(&mut self, _at: usize, text: &str, direction: Direction) {
        match direction {
            Direction::Forward => self.text.push_str(text),
            Direction::Backward => self.text.insert_str(0, text),
        }
    }
}

impl ChangeListener for Kills {
    fn insert_char(&mut self, _at: usize, _c: char) {}

    fn insert_str(&mut self, _at: usize, _text: &str) {}

    fn replace(&mut self, _at: usize, _old: &str, _new: &str) {}
}

#[cfg(test)]
mod tests {
    use super::super::keys::Keys;
    use super::*;

    /// What keys do, and the line that is left.
    fn press(editor: &mut Editor, keys: &str) -> (Vec<Action>, String) {
        let mut pressed = Vec::new();
        Keys::new().feed(keys.as_bytes(), |key| pressed.push(key));
        let actions = pressed
            .into_iter()
            .map(|key| editor.press(key))
            .filter(|action| *action != Action::None)
            .collect();
        (actions, editor.text().to_owned())
    }

    #[test]
    fn keys_edit_the_line() {
        for (keys, line) in [
            ("abc\x01x\x05y", "xabcy"),
            ("one two\x1bbX", "one Xtwo"),
            ("one two\x17", "one "),
            ("one two\x15", ""),
            ("one two\x01\x0b\x19\x19", "one twoone two"),
            ("naïve\x7f\x7f", "naï"),
            ("ab\x1b[D\x1b[3~", "a"),
            ("ab\x14", "ba"),
            ("one two\x1b\x7f\x1f", "one two"),
            ("👩‍👩‍👧x\x7f\x7f", ""),
        ] {
            let (actions, left) = press(&mut Editor::new(), keys);
            assert_eq!((left.as_str(), actions), (line, Vec::new()), "{keys:?}");
        }
    }

    #[test]
    fn keys_behind_ctrl_c_are_kept() {
        let mut editor = Editor::new();
        let (actions, line) = press(&mut editor, "abc\x03def\rghi");
        assert_eq!(actions, [Action::Interrupt("abc".to_owned()), Action::Accept("def".to_owned())]);
        assert_eq!(line, "ghi");
    }

    #[test]
    fn each_line_of_a_paste_is_a_line() {
        let (actions, line) = press(&mut Editor::new(), "\x1b[200~one\r:two\r\tthr\x04ee\x1b[201~\x01x");
        assert_eq!(actions, [Action::Accept("one".to_owned()), Action::Accept(":two".to_owned())]);
        assert_eq!(line, "x\tthree");
    }

    #[test]
    fn the_history_is_browsed_and_searched() {
        let mut editor = Editor::new();
        for line in ["let a = 1", "print(a)", "let b = 2"] {
            editor.history.add(line, None);
        }
        assert_eq!(press(&mut editor, "typed\x1b[A\x1b[A").1, "print(a)");
        assert_eq!(press(&mut editor, "\x1b[B\x1b[B").1, "typed");
        assert_eq!(press(&mut editor, "\x12let").1, "let b = 2");
        assert_eq!(editor.search_prompt().unwrap(), "(search)let: ");
        assert_eq!(press(&mut editor, "\x12").1, "let a = 1");
        assert_eq!(press(&mut editor, "\x07").1, "typed");
        assert_eq!(press(&mut editor, "\x12nt(\r").0, [Action::Accept("print(a)".to_owned())]);
    }

    #[test]
    fn a_line_grows_to_its_bound_and_not_above() {
        let mut editor = Editor::new();
        let mut beeps = 0;
        for _ in 0..MAX_LINE + 10 {
            beeps += usize::from(editor.press(Key::Char('x')) == Action::Beep);
        }
        assert_eq!((editor.text().len(), beeps), (MAX_LINE, 10));
        assert!(editor.line.as_str().len() <= MAX_LINE);
    }
}
