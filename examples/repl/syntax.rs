//! Is a statement complete, or does it need another line?

use rhai::{AST, Engine, ParseError, ParseErrorType, Position};

pub enum Parsed {
    Complete(AST),
    /// It is right so far; more lines may complete it.
    Incomplete,
    Wrong(ParseError),
}

/// Parses a statement, of which more lines may follow.
pub fn parse(engine: &Engine, source: &str) -> Parsed {
    if ends_inside_text(source) {
        return Parsed::Incomplete;
    }
    match engine.compile(source) {
        Ok(ast) => Parsed::Complete(ast),
        Err(error) if wants_more(&error) && reaches_the_end(engine, source) => Parsed::Incomplete,
        Err(error) => Parsed::Wrong(error),
    }
}

/// Whether the error is one that the next token may mend.
fn wants_more(error: &ParseError) -> bool {
    use ParseErrorType as E;
    matches!(
        error.err_type(),
        E::UnexpectedEOF
            | E::MissingToken(..)
            | E::MissingSymbol(_)
            | E::ExprExpected(_)
            | E::VariableExpected
            | E::PropertyExpected
            | E::FnMissingName
            | E::FnMissingParams(_)
            | E::FnMissingBody(_)
    )
}

/// Whether the parser finds nothing wrong before the end: with a token there that is wrong
/// everywhere, it is that token which it complains about.
fn reaches_the_end(engine: &Engine, source: &str) -> bool {
    let line = source.trim_end().lines().count() + 1;
    let marked = format!("{}\n\u{1}", source.trim_end());
    let Err(error) = engine.compile(marked) else { return false };
    u16::try_from(line).is_ok_and(|line| error.position() == Position::new(line, 1))
}

/// Whether the source ends inside a comment or a string that may go on in the next line. The
/// parser alone does not say: to it, a comment may end with the file.
fn ends_inside_text(source: &str) -> bool {
    // What is open: `{` for code in braces, '`' for text in which `${` begins code again.
    let mut open = Vec::new();
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let in_text = open.last() == Some(&'`');
        let skip = match next {
            '`' if in_text => pop(&mut open),
            '$' if in_text && rest.starts_with("${") => push(&mut open, '{') + 1,
            _ if in_text => next.len_utf8(),
            '`' | '{' => push(&mut open, next),
            '}' => pop(&mut open),
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => match comment(rest) {
                Some(length) => length,
                None => return true,
            },
            '#' | '"' => match quoted(rest) {
                Some(length) => length,
                None => return true,
            },
            '\'' => character(rest),
            _ => next.len_utf8(),
        };
        rest = &rest[skip..];
    }
    open.contains(&'`')
}

fn push(open: &mut Vec<char>, what: char) -> usize {
    open.push(what);
    1
}

fn pop(open: &mut Vec<char>) -> usize {
    open.pop();
    1
}

/// The length of a comment, in which others may be nested; `None` if it has no end.
fn comment(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    None
}

/// The length of a `"string"` or `#"raw string"#`; `None` if it goes on in the next line.
fn quoted(text: &str) -> Option<usize> {
    let hashes = text.len() - text.trim_start_matches('#').len();
    if !text[hashes..].starts_with('"') {
        // A map.
        return Some(hashes);
    }
    let start = hashes + 1;
    if hashes > 0 {
        let end = format!("\"{}", "#".repeat(hashes));
        return text[start..].find(&end).map(|at| start + at + end.len());
    }
    let mut bytes = text.bytes().enumerate().skip(start);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at + 1),
            // It ends with its line; the parser says what is wrong.
            b'\n' => return Some(at),
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    // After a backslash at the end of the line it goes on.
    (!text.trim_end_matches(['\r', '\n']).ends_with('\\')).then_some(text.len())
}

/// The length of a `'c'` or `'\n'`, or of a single quote that is neither.
fn character(text: &str) -> usize {
    let inner = &text[1..];
    let end = match inner.strip_prefix('\\') {
        Some(escape) => escape.char_indices().skip(1).find(|(_, c)| *c == '\'').map(|(at, _)| at + 2),
        None => inner.chars().next().map(|c| c.len_utf8() + 1),
    };
    match end {
        Some(end) if text[end..].starts_with('\'') => end + 1,
        _ => 1,
    }
}
