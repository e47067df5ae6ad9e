//! What a caller can choose.

use std::path::PathBuf;

/// How a console meets the world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Mode {
    /// As the standard streams are: [`Terminal`](Mode::Terminal) if input and output are a terminal that can
    /// move its cursor, [`Plain`](Mode::Plain) if it cannot (`TERM` is unset or `dumb`, as in the shell buffer
    /// of an editor), and [`Script`](Mode::Script) otherwise.
    #[default]
    Auto,
    /// Lines in, output out, and then the end. No prompts.
    Script,
    /// Lines and prompts, for a person at a terminal that only prints.
    Plain,
    /// A line editor, and output above the line that is edited. Unix only; elsewhere it is
    /// [`Plain`](Mode::Plain).
    Terminal,
}

/// How a console looks and behaves. All settings have defaults.
///
/// ```
/// use trunkline_terminal::{Mode, Options};
///
/// let options = Options::new("repl").banner("Ctrl-C interrupts, Ctrl-D ends.").mode(Mode::Plain);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) name: String,
    pub(crate) banner: String,
    pub(crate) mode: Mode,
    pub(crate) report_failures: bool,
    pub(crate) ends_kernel: bool,
    pub(crate) pictures: Option<PathBuf>,
}

impl Options {
    /// Returns the defaults, for a console of this name. The name stands before what the console itself says
    /// on standard error.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            banner: String::new(),
            mode: Mode::Auto,
            report_failures: false,
            ends_kernel: false,
            pictures: None,
        }
    }

    /// Sets a line that a person sees first. Nothing by default.
    #[must_use]
    pub fn banner(mut self, banner: impl Into<String>) -> Self {
        self.banner = banner.into();
        self
    }

    /// Sets how the console meets the world. [`Mode::Auto`] by default.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets whether a statement that fails is told by the exit status, [`Ending::StatementFailed`]. Not so by
    /// default: an error of the program is no failure of the console.
    ///
    /// [`Ending::StatementFailed`]: crate::Ending::StatementFailed
    #[must_use]
    pub fn report_failures(mut self, report: bool) -> Self {
        self.report_failures = report;
        self
    }

    /// Sets whether the kernel ends with a script. At the end of its lines the kernel is asked to, and what that prints
    /// until it has ended is shown: of threads that it waits for, and of what it does at its exit. Not so by
    /// default, and in [`Mode::Terminal`] never: a kernel behind a hub serves other consoles, too.
    #[must_use]
    pub fn ends_kernel(mut self, ends: bool) -> Self {
        self.ends_kernel = ends;
        self
    }

    /// Sets the directory for pictures that the terminal cannot show. By default the system's directory for
    /// temporary files. Only the user can read the files; the console does not remove them.
    #[must_use]
    pub fn pictures(mut self, directory: impl Into<PathBuf>) -> Self {
        self.pictures = Some(directory.into());
        self
    }
}
