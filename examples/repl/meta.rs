//! Lines that are for the console and not for the kernel.

use crate::console::Console;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meta<'a> {
    /// For the kernel.
    Line(&'a str),
    Complete(&'a str),
    Inspect(&'a str),
    Status,
    Interrupt,
    Quit,
    Unknown(&'a str),
}

/// A line that begins with a colon is for the console; one with two is for the kernel, without the
/// first of them.
pub fn parse(line: &str) -> Meta<'_> {
    let Some(command) = line.strip_prefix(':') else { return Meta::Line(line) };
    if command.starts_with(':') {
        return Meta::Line(command);
    }
    let (name, argument) = command.split_once(' ').unwrap_or((command, ""));
    match (name.trim(), argument.trim()) {
        ("complete", prefix) => Meta::Complete(prefix),
        ("inspect", name) if !name.is_empty() => Meta::Inspect(name),
        ("status", "") => Meta::Status,
        ("interrupt", "") => Meta::Interrupt,
        ("quit", "") => Meta::Quit,
        _ => Meta::Unknown(line),
    }
}

/// What is to be shown for a question: text with its last line's end, for stdout or for stderr.
pub fn answer(console: &Console, meta: Meta<'_>) -> Result<String, String> {
    let lines = |text: String| if text.is_empty() { text } else { text + "\n" };
    let asked = match meta {
        Meta::Complete(prefix) => console.introspection.ask(&format!("complete {prefix}")),
        Meta::Inspect(name) => console.introspection.ask(&format!("inspect {name}")),
        Meta::Status => Ok(console.state().activity.describe().to_owned()),
        Meta::Unknown(line) => Err(format!(
            "{line}: there are only :complete PREFIX, :inspect NAME, :status, :interrupt and :quit (:: begins a line \
             with a colon)"
        )),
        Meta::Line(_) | Meta::Interrupt | Meta::Quit => Ok(String::new()),
    };
    asked.map(lines).map_err(lines)
}
