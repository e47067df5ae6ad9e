//! What questions are answered from: the names as of the last statement.
//! The interpreter's own values belong to its thread, which writes down their names and beginnings here.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rhai::{AST, Scope};
use trunkline_kernel::kernel::Introspect;
use trunkline_kernel::layout::{Operation, Reply, Variable, beginning};

/// How much of a value is kept, in characters.
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
                let (kind, text) = (value.type_name(), beginning(format_args!("{value:?}"), SHOWN));
                let kind = kind.rsplit("::").next().unwrap_or(kind);
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
        let name = operation.name_at_cursor(|c| c.is_alphanumeric() || c == '_');
        Ok(match operation {
            Operation::Complete { cursor, .. } => {
                Reply::Complete { matches: self.complete(&name.before), start: name.start, end: *cursor }
            }
            Operation::Inspect { .. } => Reply::Inspect { text: self.inspect(&name.whole) },
            Operation::Variables => Reply::Variables { variables: self.0.lock().variables.clone() },
            Operation::Info => Reply::Info {
                language: "rhai".to_owned(),
                version: "1".to_owned(),
                banner: "Rhai".to_owned(),
                pid: std::process::id(),
            },
            other => return Err(format!("Rhai has no answer to {other:?}")),
        })
    }
}
