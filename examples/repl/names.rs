//! What the introspection thread answers from: the names as of the last statement.
//!
//! The interpreter's own values belong to its thread, so it writes their names and the beginning
//! of each value down here whenever a statement is done.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use rhai::{AST, Dynamic, Scope};

/// How much of a value is kept.
const SHOWN: usize = 500;

/// What is there without anybody having defined it, and what `inspect` says of it.
const BUILT_IN: &[(&str, &str)] = &[
    ("debug", "debug(value): writes a value to stderr as it is written in a program"),
    ("eval", "eval(text): runs a text as a program"),
    ("input", "input(prompt): shows the prompt and reads a line from stdin"),
    ("parse_float", "parse_float(text): the number that a text stands for"),
    ("parse_int", "parse_int(text): the whole number that a text stands for"),
    ("print", "print(value): writes a value to stdout"),
    ("range", "range(from, to): the numbers from one to before the other"),
    ("sleep", "sleep(ms): does nothing for so many milliseconds"),
    ("sqrt", "sqrt(x): the square root"),
    ("timestamp", "timestamp(): now; `elapsed` of it are the seconds since then"),
    ("type_of", "type_of(value): the name of a value's type"),
];

const KEYWORDS: &[&str] = &[
    "break", "catch", "const", "continue", "do", "else", "export", "false", "fn", "for", "if", "import",
    "in", "let", "loop", "private", "return", "switch", "this", "throw", "true", "try", "until", "while",
];

/// The names that the interpreter's program has defined, each with what `inspect` says of it.
#[derive(Clone, Default)]
pub struct Names(Arc<Mutex<BTreeMap<String, String>>>);

impl Names {
    /// Writes down what there is now.
    pub fn update(&self, scope: &Scope<'_>, functions: &AST) {
        let mut names = BTreeMap::new();
        // The newest come first; they hide older ones of the same name.
        for (name, constant, value) in scope.iter_raw() {
            names.entry(name.to_owned()).or_insert_with(|| describe(name, constant, value));
        }
        for function in functions.iter_functions() {
            // Closures have names too, that nobody can write.
            if !function.name.contains('$') {
                let parameters = function.params.join(", ");
                let describe = || format!("fn {}({parameters})", function.name);
                names.entry(function.name.to_owned()).or_insert_with(describe);
            }
        }
        *self.0.lock() = names;
    }

    /// Answers a request of the introspection channel.
    pub fn answer(&self, request: &str) -> String {
        match request.trim().split_once(' ').unwrap_or((request.trim(), "")) {
            ("complete", prefix) => self.complete(prefix.trim()).join("\n"),
            ("inspect", name) => self.inspect(name.trim()),
            _ => format!("{request:?} is no request; there are `complete PREFIX` and `inspect NAME`"),
        }
    }

    fn complete(&self, prefix: &str) -> Vec<String> {
        let defined = self.0.lock();
        let mut found: Vec<String> = defined
            .keys()
            .map(String::as_str)
            .chain(BUILT_IN.iter().map(|(name, _)| *name))
            .chain(KEYWORDS.iter().copied())
            .filter(|name| name.starts_with(prefix))
            .map(str::to_owned)
            .collect();
        found.sort();
        found.dedup();
        found
    }

    fn inspect(&self, name: &str) -> String {
        if let Some(description) = self.0.lock().get(name) {
            return description.clone();
        }
        match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((_, description)) => (*description).to_owned(),
            None if KEYWORDS.contains(&name) => format!("{name}: a keyword"),
            None => format!("nothing is called {name:?}"),
        }
    }
}

fn describe(name: &str, constant: bool, value: &Dynamic) -> String {
    let keyword = if constant { "const" } else { "let" };
    let mut shown = format!("{keyword} {name}: {} = ", short_type(value));
    let limit = shown.len() + SHOWN;
    if write!(Limited { text: &mut shown, limit }, "{value:?}").is_err() {
        shown.push('…');
    }
    shown
}

fn short_type(value: &Dynamic) -> &str {
    let name = value.type_name();
    name.rsplit("::").next().unwrap_or(name)
}

/// Fails when enough is written, so that a value of a million items costs no more than the first.
struct Limited<'a> {
    text: &'a mut String,
    limit: usize,
}

impl Write for Limited<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.limit - self.text.len();
        self.text.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}
