//! Questions about the program, and the answers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest request, in bytes.
pub const MAX_REQUEST: usize = 1 << 20;
/// The longest answer that a console reads and a kernel sends, in bytes.
pub const MAX_ANSWER: usize = 4 << 20;
/// The longest text of a [`Variable`], in characters.
pub const MAX_TEXT: usize = 200;

/// A question: one message on [`INTROSPECTION`](super::INTROSPECTION).
///
/// ```
/// use trunkline_kernel::layout::{Operation, Request};
///
/// let request: Request = br#"{"id":1,"op":"complete","code":"imp","cursor":3}"#.as_slice().try_into()?;
/// assert_eq!(request.operation, Operation::Complete { code: "imp".to_owned(), cursor: 3 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Request {
    /// The number that the answer has too.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub operation: Operation,
}

/// What a [`Request`] asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Operation {
    /// What could stand at the cursor.
    Complete {
        /// The code that was typed.
        code: String,
        /// Where in it the cursor stands, in characters (Unicode scalar values) from its beginning.
        cursor: usize,
    },
    /// What the thing at the cursor is.
    Inspect {
        /// The code that was typed.
        code: String,
        /// Where in it the cursor stands, in characters from its beginning.
        cursor: usize,
    },
    /// The variables of the program.
    Variables,
    /// Where the threads of the program are.
    Stack,
    /// What the kernel is.
    Info,
}

/// An answer: one message on [`INTROSPECTION`](super::INTROSPECTION).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The number of the request; `None` if the request was such that it could not be read.
    pub id: Option<u64>,
    /// The answer itself.
    #[serde(flatten)]
    pub reply: Reply,
}

/// What an [`Answer`] says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Reply {
    /// Why there is no answer.
    Error {
        /// The reason, for people to read.
        error: String,
    },
    /// To [`Operation::Complete`].
    Complete {
        /// What could stand there, in the order in which it is to be shown.
        matches: Vec<String>,
        /// Where in the code a match begins, in characters.
        start: usize,
        /// Where the text ends that a match replaces, in characters.
        end: usize,
    },
    /// To [`Operation::Inspect`].
    Inspect {
        /// For people to read.
        text: String,
    },
    /// To [`Operation::Variables`].
    Variables {
        /// In the order in which they are to be shown.
        variables: Vec<Variable>,
    },
    /// To [`Operation::Stack`].
    Stack {
        /// The threads of the program.
        threads: Vec<Thread>,
    },
    /// To [`Operation::Info`].
    Info {
        /// The language, as `python`.
        language: String,
        /// The version of the interpreter.
        version: String,
        /// What a console shows first.
        banner: String,
        /// The id of the process that runs the program.
        pid: u32,
    },
}

/// A variable of the program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// The name of its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// How large it is, in the language's own terms, as `3` or `640×480`; empty if that says nothing.
    #[serde(default)]
    pub size: String,
    /// The beginning of its value, at most [`MAX_TEXT`] characters.
    pub text: String,
}

/// A thread of the program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Thread {
    /// Its name.
    pub name: String,
    /// Its calls, the innermost first.
    pub frames: Vec<Frame>,
}

/// A call of a [`Thread`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Frame {
    /// The file.
    pub file: String,
    /// The line in it, from 1.
    pub line: u64,
    /// The function.
    pub function: String,
}

/// A message on the introspection channel is not a request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{why}")]
#[non_exhaustive]
pub struct RequestError {
    /// The number of the request, if that could be read.
    pub id: Option<u64>,
    /// What is wrong.
    pub why: String,
}

/// A message on the introspection channel is not an answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an answer of the kernel cannot be read: {0}")]
pub struct AnswerError(String);

impl Variable {
    /// Makes a variable; a text of more than [`MAX_TEXT`] characters is cut, and ends with `…` then.
    pub fn new(
        name: impl Into<String>,
        kind: impl Into<String>,
        size: impl Into<String>,
        text: &str,
    ) -> Self {
        let text = match text.char_indices().nth(MAX_TEXT) {
            None => text.to_owned(),
            Some(_) => text.chars().take(MAX_TEXT - 1).chain(['…']).collect(),
        };
        Self { name: name.into(), kind: kind.into(), size: size.into(), text }
    }
}

/// The name at the cursor of a question; see [`Operation::name_at_cursor`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Name {
    /// Where in the code it begins, in characters.
    pub start: usize,
    /// The part before the cursor.
    pub before: String,
    /// All of it.
    pub whole: String,
}

impl Operation {
    /// Returns the name at the cursor: the characters around it of which `belongs` says that they belong to a
    /// name. Without a cursor, the name is empty. A cursor behind the end of the code is at its end.
    ///
    /// ```
    /// use trunkline_kernel::layout::Operation;
    ///
    /// let question = Operation::Inspect { code: "print(counter)".to_owned(), cursor: 8 };
    /// let name = question.name_at_cursor(char::is_alphanumeric);
    /// assert_eq!((name.start, name.before.as_str(), name.whole.as_str()), (6, "co", "counter"));
    /// ```
    #[must_use]
    pub fn name_at_cursor(&self, belongs: impl Fn(char) -> bool) -> Name {
        let (Self::Complete { code, cursor } | Self::Inspect { code, cursor }) = self else {
            return Name::default();
        };
        let at = code.char_indices().nth(*cursor).map_or(code.len(), |(at, _)| at);
        let (left, right) = code.split_at(at);
        let before = &left[left.trim_end_matches(&belongs).len()..];
        let after = &right[..right.len() - right.trim_start_matches(&belongs).len()];
        let start = left.chars().count() - before.chars().count();
        Name { start, before: before.to_owned(), whole: format!("{before}{after}") }
    }
}

/// Returns the beginning of a text that is formatted, `most` characters at most, with `…` if that is not all. What
/// comes behind is not formatted, so a value of a million items costs no more than the first ones.
///
/// ```
/// use trunkline_kernel::layout::beginning;
///
/// let large = vec![7; 1_000_000];
/// assert_eq!(beginning(format_args!("{large:?}"), 8), "[7, 7, 7…");
/// ```
#[must_use]
pub fn beginning(text: fmt::Arguments<'_>, most: usize) -> String {
    /// Fails when enough is written.
    struct Limited {
        text: String,
        left: usize,
    }
    impl fmt::Write for Limited {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for c in text.chars() {
                self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
                self.text.push(c);
            }
            Ok(())
        }
    }
    let mut limited = Limited { text: String::new(), left: most };
    if fmt::Write::write_fmt(&mut limited, text).is_err() {
        limited.text.push('…');
    }
    limited.text
}

/// The part of a request that tells the others apart.
#[derive(Deserialize)]
struct Envelope {
    id: u64,
    op: String,
}

const OPERATIONS: [&str; 5] = ["complete", "inspect", "variables", "stack", "info"];

impl TryFrom<&[u8]> for Request {
    type Error = RequestError;

    /// Reads a message. Fields that are not known here are ignored.
    fn try_from(message: &[u8]) -> Result<Self, RequestError> {
        let none = |why: String| RequestError { id: None, why };
        if message.len() > MAX_REQUEST {
            return Err(none(format!("a request of {} bytes; there may be {MAX_REQUEST}", message.len())));
        }
        let Envelope { id, op } = serde_json::from_slice(message).map_err(|error| {
            none(format!("a request is a JSON object with a number `id` and a name `op`: {error}"))
        })?;
        if !OPERATIONS.contains(&op.as_str()) {
            let op = super::word::excerpt(op.as_bytes());
            let why = format!("{op} is not an operation; there are {}", OPERATIONS.join(", "));
            return Err(RequestError { id: Some(id), why });
        }
        match serde_json::from_slice(message) {
            Ok(operation) => Ok(Self { id, operation }),
            Err(error) => Err(RequestError { id: Some(id), why: format!("`{op}`: {error}") }),
        }
    }
}

impl Request {
    /// Returns the message for the introspection channel.
    #[must_use]
    pub fn to_message(&self) -> Vec<u8> {
        // Numbers and strings always have a form in JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl TryFrom<&[u8]> for Answer {
    type Error = AnswerError;

    /// Reads a message. Fields that are not known here are ignored, and texts of variables that are too long
    /// are cut.
    fn try_from(message: &[u8]) -> Result<Self, AnswerError> {
        if message.len() > MAX_ANSWER {
            return Err(AnswerError(format!("it has {} bytes, more than {MAX_ANSWER}", message.len())));
        }
        let mut answer: Self =
            serde_json::from_slice(message).map_err(|error| AnswerError(error.to_string()))?;
        if let Reply::Variables { variables } = &mut answer.reply {
            for variable in variables {
                let Variable { name, kind, size, text } = std::mem::take(variable);
                *variable = Variable::new(name, kind, size, &text);
            }
        }
        Ok(answer)
    }
}

impl Default for Variable {
    fn default() -> Self {
        Self::new("", "", "", "")
    }
}

impl Answer {
    /// Makes an answer that says why there is none.
    pub fn error(id: Option<u64>, why: impl Into<String>) -> Self {
        Self { id, reply: Reply::Error { error: why.into() } }
    }

    /// Returns the message for the introspection channel. An answer of more than [`MAX_ANSWER`] bytes becomes
    /// an error that says so.
    #[must_use]
    pub fn to_message(&self) -> Vec<u8> {
        // Numbers and strings always have a form in JSON.
        let message = serde_json::to_vec(self).unwrap_or_default();
        if message.len() <= MAX_ANSWER {
            return message;
        }
        let why = format!("the answer has {} bytes, more than the {MAX_ANSWER} that are sent", message.len());
        serde_json::to_vec(&Self::error(self.id, why)).unwrap_or_default()
    }
}
