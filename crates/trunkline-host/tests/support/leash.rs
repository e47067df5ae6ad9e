//! Nothing that a test starts outlives the tests, whatever happens to them.
//!
//! Every process that a test starts carries a mark in its environment, and so does what that starts, be it in another
//! session, an orphan, or deaf to signals. A guard waits in a process of its own for the end of this one, an abort and a
//! SIGKILL included, and kills what carries the mark, by its process id.

use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// The variable that has the mark.
pub const NAME: &str = "TRUNKLINE_TEST_MARK";

/// `$1` is the mark. The last look finds nothing: what was starting another process meanwhile is found by the next look.
const GUARD: &str = r#"
read -r _
while
    found=$(grep -lsz "^$1\$" /proc/[0-9]*/environ | tr -dc '0-9\n')
    [ -n "$found" ]
do
    kill -KILL $found 2>/dev/null
    sleep 0.02
done
"#;

struct Leash {
    mark: String,
    /// Its standard input is closed when this process ends. A process that is on a leash itself needs none.
    _guard: Option<Child>,
}

static LEASH: LazyLock<Leash> = LazyLock::new(|| {
    if let Ok(mark) = std::env::var(NAME) {
        return Leash { mark, _guard: None };
    }
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let mark = format!("{}-{time}", std::process::id());
    let mut guard = Command::new("sh");
    guard.args(["-c", GUARD, "guard", &format!("{NAME}={mark}")]).env_remove(NAME);
    // Ctrl-C at the terminal of the tests is for the tests.
    std::os::unix::process::CommandExt::process_group(&mut guard, 0);
    let guard = guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    Leash { mark, _guard: Some(guard) }
});

/// Begins a command whose process, with all that come of it, ends with this one at the latest.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env(NAME, &LEASH.mark);
    command
}
