//! Lines that are for the console and not for the kernel.

/// A line that was typed, or that stands in a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Meta {
    /// For the kernel.
    Line(String),
    Complete(String),
    Inspect(String),
    Status,
    Interrupt,
    Take,
    Quit,
    Unknown(String),
}

/// A line that begins with a colon is for the console; one with two is for the kernel, without the first of
/// them.
pub(crate) fn parse(line: &str) -> Meta {
    let Some(command) = line.strip_prefix(':') else { return Meta::Line(line.to_owned()) };
    if command.starts_with(':') {
        return Meta::Line(command.to_owned());
    }
    let (name, argument) = command.split_once(' ').unwrap_or((command, ""));
    match (name.trim(), argument.trim()) {
        ("complete", prefix) => Meta::Complete(prefix.to_owned()),
        ("inspect", name) if !name.is_empty() => Meta::Inspect(name.to_owned()),
        ("status", "") => Meta::Status,
        ("interrupt", "") => Meta::Interrupt,
        ("take", "") => Meta::Take,
        ("quit", "") => Meta::Quit,
        _ => Meta::Unknown(line.to_owned()),
    }
}

/// What is said of a line that is no command.
pub(crate) fn unknown(line: &str) -> String {
    let line: String = line.chars().take(80).flat_map(char::escape_debug).collect();
    format!(
        "{line}: there are only :complete CODE, :inspect CODE, :status, :interrupt, :take and :quit (:: begins a line with a colon)"
    )
}
