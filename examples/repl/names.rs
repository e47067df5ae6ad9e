//! What questions are answered from: the names as of the last statement.
//!
//! The interpreter's own values belong to its thread, so it writes their names and the beginning
//! of each value down here whenever a statement is done.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use rhai::{AST, Dynamic, Scope};
use trunkline_kernel::kernel::Introspect;
use trunkline_kernel::layout::{Operation, Reply, Variable};

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
pub struct Names(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    names: BTreeMap<String, String>,
    variables: Vec<Variable>,
}

impl Names {
    /// Writes down what there is now.
    pub fn update(&self, scope: &Scope<'_>, functions: &AST) {
        let mut known = Known::default();
        // The newest come first; they hide older ones of the same name.
        for (name, constant, value) in scope.iter_raw() {
            if !known.names.contains_key(name) {
                let (kind, text) = (short_type(value), shown(value));
                let keyword = if constant { "const" } else { "let" };
                known.names.insert(name.to_owned(), format!("{keyword} {name}: {kind} = {text}"));
                known.variables.push(Variable::new(name, kind, "", &text));
            }
        }
        for function in functions.iter_functions() {
            // Closures have names too, that nobody can write.
            if !function.name.contains('$') {
                let parameters = function.params.join(", ");
                let describe = || format!("fn {}({parameters})", function.name);
                known.names.entry(function.name.to_owned()).or_insert_with(describe);
            }
        }
        *self.0.lock() = known;
    }

    fn complete(&self, prefix: &str) -> Vec<String> {
        let known = self.0.lock();
        let built_in = BUILT_IN.iter().map(|(name, _)| *name).chain(KEYWORDS.iter().copied());
        let all = known.names.keys().map(String::as_str).chain(built_in);
        let mut found: Vec<String> = all.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect();
        found.sort();
        found.dedup();
        found
    }

    fn inspect(&self, name: &str) -> String {
        if let Some(description) = self.0.lock().names.get(name) {
            return description.clone();
        }
        match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((_, description)) => (*description).to_owned(),
            None if KEYWORDS.contains(&name) => format!("{name}: a keyword"),
            None => format!("nothing is called {name:?}"),
        }
    }
}

impl Introspect for Names {
    fn answer(&self, operation: &Operation) -> Result<Reply, String> {
        let in_name = |c: &char| c.is_alphanumeric() || *c == '_';
        Ok(match operation {
            Operation::Complete { code, cursor } => {
                let before: Vec<char> = code.chars().take(*cursor).collect();
                let start = before.iter().rposition(|c| !in_name(c)).map_or(0, |at| at + 1);
                let matches = self.complete(&before[start..].iter().collect::<String>());
                Reply::Complete { matches, start, end: before.len() }
            }
            Operation::Inspect { code, cursor } => {
                let all: Vec<char> = code.chars().collect();
                let (before, after) = all.split_at((*cursor).min(all.len()));
                let start = before.iter().rposition(|c| !in_name(c)).map_or(0, |at| at + 1);
                let name = before[start..].iter().chain(after.iter().take_while(|c| in_name(c)));
                Reply::Inspect { text: self.inspect(&name.collect::<String>()) }
            }
            Operation::Variables => Reply::Variables { variables: self.0.lock().variables.clone() },
            Operation::Info => Reply::Info {
                language: "rhai".to_owned(),
                version: "1".to_owned(),
                banner: String::new(),
                pid: std::process::id(),
            },
            other => return Err(format!("Rhai has no answer to {other:?}")),
        })
    }
}

/// The beginning of a value, as it is written in a program.
fn shown(value: &Dynamic) -> String {
    let mut text = String::new();
    if write!(Limited(&mut text), "{value:?}").is_err() {
        text.push('…');
    }
    text
}

fn short_type(value: &Dynamic) -> &str {
    let name = value.type_name();
    name.rsplit("::").next().unwrap_or(name)
}

/// Fails when enough is written, so that a value of a million items costs no more than the first.
struct Limited<'a>(&'a mut String);

impl Write for Limited<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = SHOWN - self.0.len();
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}
