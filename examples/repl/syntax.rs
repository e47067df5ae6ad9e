//! Is a statement complete, or does it need another line?

use rhai::{AST, Engine, ParseError, ParseErrorType, Position};

pub enum Parsed {
    Complete(AST),
    /// It is right so far; more lines may complete it.
    Incomplete,
    Wrong(ParseError),
}

/// A statement that comes line by line.
#[derive(Default)]
pub struct Statement {
    source: String,
    scan: Scan,
    /// How long it was when it was last parsed.
    parsed: usize,
}

/// A block up to so long is parsed at every line, so that an error is told at once.
const SHORT: usize = 4096;

impl Statement {
    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// Takes another line. Whatever ends the statement leaves it empty.
    pub fn push(&mut self, engine: &Engine, line: &str) -> Parsed {
        self.source.push_str(line);
        self.scan.line(line);
        // The parser alone does not say that a text goes on: to it, a comment may end with the file.
        // And a long block is parsed only now and then, or its lines would cost more and more.
        let wait = !self.scan.open.is_empty() && self.source.len() < self.parsed + self.parsed / 4;
        let is_in_text = self.scan.within != Within::Code || self.scan.open.contains(&'`');
        if is_in_text || wait {
            return Parsed::Incomplete;
        }
        self.parsed = if self.source.len() < SHORT { 0 } else { self.source.len() };
        let parsed = parse(engine, &self.source);
        if !matches!(parsed, Parsed::Incomplete) {
            self.clear();
        }
        parsed
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

fn parse(engine: &Engine, source: &str) -> Parsed {
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

/// Where the lines so far end.
#[derive(Default)]
struct Scan {
    /// What is open: brackets, and '`' for text in which `${` begins code again.
    open: Vec<char>,
    within: Within,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Within {
    /// Or in text between backticks.
    #[default]
    Code,
    /// So deep, as comments may be nested.
    Comment(usize),
    /// A string in double quotes that goes on after a backslash.
    Quoted,
    /// A raw string with so many hashes.
    Raw(usize),
}

impl Scan {
    fn line(&mut self, line: &str) {
        let mut rest = line;
        while !rest.is_empty() {
            let skip = match self.within {
                Within::Code => self.code(rest),
                Within::Comment(depth) => self.comment(rest, depth),
                Within::Quoted => self.quoted(rest),
                Within::Raw(hashes) => self.raw(rest, hashes),
            };
            rest = &rest[skip..];
        }
    }

    /// Each of these takes in a beginning of the line, and says how long it is.
    fn code(&mut self, rest: &str) -> usize {
        let Some(next) = rest.chars().next() else { return 0 };
        match next {
            '`' if self.open.last() == Some(&'`') => drop(self.open.pop()),
            '$' if self.open.last() == Some(&'`') && rest.starts_with("${") => {
                self.open.push('{');
                return 2;
            }
            _ if self.open.last() == Some(&'`') => {}
            '`' | '{' | '(' | '[' => self.open.push(next),
            '}' | ')' | ']' => drop(self.open.pop()),
            '/' if rest.starts_with("//") => return rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => {
                self.within = Within::Comment(1);
                return 2;
            }
            '#' => {
                let hashes = rest.len() - rest.trim_start_matches('#').len();
                if !rest[hashes..].starts_with('"') {
                    // A map.
                    return hashes;
                }
                self.within = Within::Raw(hashes);
                return hashes + 1;
            }
            '"' => self.within = Within::Quoted,
            '\'' => return character(rest),
            _ => {}
        }
        next.len_utf8()
    }

    fn comment(&mut self, rest: &str, depth: usize) -> usize {
        let Some(at) = rest.find(['/', '*']) else { return rest.len() };
        let depth = match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => depth + 1,
            [b'*', b'/', ..] => depth - 1,
            _ => return at + 1,
        };
        self.within = if depth == 0 { Within::Code } else { Within::Comment(depth) };
        at + 2
    }

    fn quoted(&mut self, rest: &str) -> usize {
        let Some(at) = rest.find(['"', '\\', '\n']) else {
            self.within = Within::Code;
            return rest.len();
        };
        if rest.as_bytes()[at] == b'\\' {
            let after = &rest[at + 1..];
            let escaped =
                if after.starts_with("\r\n") { 2 } else { after.chars().next().map_or(0, char::len_utf8) };
            return at + 1 + escaped;
        }
        // It ends with its line at the latest; the parser says what is wrong.
        self.within = Within::Code;
        at + 1
    }

    fn raw(&mut self, rest: &str, hashes: usize) -> usize {
        let end = format!("\"{}", "#".repeat(hashes));
        let Some(at) = rest.find(&end) else { return rest.len() };
        self.within = Within::Code;
        at + end.len()
    }
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
