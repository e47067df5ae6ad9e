//! The rows in which the edited line stands.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// What is to be seen of the edited line.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct View {
    /// Before the line.
    pub(super) prompt: String,
    /// The line stands behind what the program has written, which is the prompt.
    pub(super) inline: bool,
    pub(super) text: String,
    /// In bytes.
    pub(super) cursor: usize,
    /// Behind the line.
    pub(super) hint: String,
}

/// Rows of text, and where in them the cursor is.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Layout {
    pub(super) rows: Vec<String>,
    /// In `rows`.
    pub(super) cursor_row: usize,
    pub(super) cursor_column: usize,
    /// The first rows were left out, since there are more than the screen has.
    pub(super) cut: bool,
}

/// Lays out a view, beginning in column `start` of a screen with so many columns, in at most `most` rows.
pub(super) fn lay_out(view: &View, start: usize, columns: usize, most: usize) -> Layout {
    let columns = columns.max(2);
    let mut rows = vec![String::new()];
    let mut at = start.min(columns);
    let mut cursor = (0, at);
    let mut put = |text: &str, width: usize, rows: &mut Vec<String>| {
        if at + width > columns {
            rows.push(String::new());
            at = 0;
        }
        if let Some(row) = rows.last_mut() {
            row.push_str(text);
        }
        at += width;
        // Behind a full row the cursor is in the next.
        if at >= columns { (rows.len(), 0) } else { (rows.len() - 1, at) }
    };
    for grapheme in view.prompt.graphemes(true) {
        let (text, width) = visible(grapheme, cursor.1);
        cursor = put(&text, width, &mut rows);
    }
    let mut end = cursor;
    for (byte, grapheme) in view.text.grapheme_indices(true) {
        let (text, width) = visible(grapheme, end.1);
        end = put(&text, width, &mut rows);
        if byte < view.cursor {
            cursor = end;
        }
    }
    for grapheme in view.hint.graphemes(true) {
        let (text, width) = visible(grapheme, end.1);
        end = put(&text, width, &mut rows);
    }
    // The last row may be full.
    while rows.len() <= end.0.max(cursor.0) {
        rows.push(String::new());
    }
    let most = most.max(1);
    let first = (cursor.0 + 1).saturating_sub(most);
    let cut = first > 0;
    rows.drain(..first);
    rows.truncate(most);
    Layout { rows, cursor_row: cursor.0 - first, cursor_column: cursor.1, cut }
}

/// A line as it is shown when it was given: without control characters.
pub(super) fn shown(text: &str) -> String {
    let mut at = 0;
    text.graphemes(true)
        .map(|grapheme| {
            let (text, width) = visible(grapheme, at);
            at += width;
            text
        })
        .collect()
}

/// What is shown for a character, and how wide it is.
fn visible(grapheme: &str, at: usize) -> (std::borrow::Cow<'_, str>, usize) {
    match grapheme.chars().next() {
        Some('\t') => {
            let width = 8 - at % 8;
            (" ".repeat(width).into(), width)
        }
        Some(c) if c.is_control() => {
            let name = if (c as u32) < 0x80 { char::from((c as u8) ^ 0x40) } else { '?' };
            (format!("^{name}").into(), 2)
        }
        _ => (grapheme.into(), grapheme.width()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(prompt: &str, text: &str, cursor: usize) -> View {
        View { prompt: prompt.to_owned(), text: text.to_owned(), cursor, ..View::default() }
    }

    #[test]
    fn a_line_wraps_and_the_cursor_is_behind_a_full_row() {
        let layout = lay_out(&view("> ", "abcdefgh", 8), 0, 10, 5);
        assert_eq!(layout.rows, ["> abcdefgh", ""]);
        assert_eq!((layout.cursor_row, layout.cursor_column), (1, 0));
        let layout = lay_out(&view("", "漢字漢", 3), 5, 8, 5);
        assert_eq!(layout.rows, ["漢", "字漢"]);
        assert_eq!((layout.cursor_row, layout.cursor_column), (0, 7));
    }

    #[test]
    fn more_rows_than_the_screen_has_are_cut_around_the_cursor() {
        let text = "x".repeat(95);
        let layout = lay_out(&view("", &text, 95), 0, 10, 4);
        assert_eq!((layout.rows.len(), layout.cursor_row, layout.cursor_column, layout.cut), (4, 3, 5, true));
        let layout = lay_out(&view("", &text, 0), 0, 10, 4);
        assert_eq!((layout.rows.len(), layout.cursor_row, layout.cut), (4, 0, false));
    }

    #[test]
    fn control_characters_are_shown_and_not_sent() {
        let layout = lay_out(&view("> ", "a\tb\x1bc", 0), 0, 80, 4);
        assert_eq!(layout.rows, ["> a     b^[c"]);
        assert_eq!(shown("\x07\t|"), "^G      |");
    }
}
