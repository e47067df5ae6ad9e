//! Full-screen programs at a terminal of tmux: what is seen through `attach` is what is seen without it.
//!
//! A program that is not installed is left out, and said so.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use support::*;

/// A server of tmux of its own, with one terminal in it.
struct Tmux(tempfile::TempDir);

impl Tmux {
    fn start(shell_command: &str) -> Self {
        let tmux = Self(tempfile::tempdir().unwrap());
        let start = ["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", shell_command];
        assert!(tmux.command().args(start).status().unwrap().success());
        tmux
    }

    fn command(&self) -> Command {
        let mut tmux = command("tmux");
        tmux.arg("-S")
            .arg(self.0.path().join("socket"))
            .env_remove("TMUX")
            .env("LANG", "C.UTF-8")
            .env("PS1", "$ ");
        tmux
    }

    fn keys(&self, keys: &[&str]) {
        assert!(self.command().args(["send-keys", "--"]).args(keys).status().unwrap().success());
    }

    /// The screen, and the place of the cursor.
    fn screen(&self, colours: bool) -> String {
        let shown =
            self.command().args(["capture-pane", if colours { "-pe" } else { "-p" }]).output().unwrap();
        let cursor = self
            .command()
            .args(["display-message", "-p", "#{cursor_x} #{cursor_y} #{alternate_on}"])
            .output()
            .unwrap();
        String::from_utf8(shown.stdout).unwrap() + &String::from_utf8(cursor.stdout).unwrap()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").output();
    }
}

fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|path| Path::new(&path).join(program).exists());
    if !found {
        eprintln!("left out: {program} is not installed");
    }
    found
}

/// The same program twice, with and without the command between.
fn is_the_same(program: &str, colours: bool, steps: &[&[&str]]) {
    if !is_installed("tmux") || !program.split_whitespace().next().is_some_and(is_installed) {
        return;
    }
    let text = tempfile::NamedTempFile::new().unwrap();
    let lines: String =
        (1..200).map(|number| format!("line {number} ä─漢 {}\n", "x".repeat(number % 90))).collect();
    std::fs::write(text.path(), lines).unwrap();
    let program = program.replace("FILE", text.path().to_str().unwrap());
    // The terminal that a host gives its program is of this kind.
    let direct = Tmux::start(&format!("TERM=xterm-256color {program}"));
    let runtime = tempfile::tempdir().unwrap();
    let through = Tmux::start(&format!(
        "XDG_RUNTIME_DIR={} {} new full -- {program}",
        runtime.path().display(),
        env!("CARGO_BIN_EXE_trunkline")
    ));
    for step in std::iter::once(&&[][..]).chain(steps) {
        if !step.is_empty() {
            direct.keys(step);
            through.keys(step);
        }
        // Both come to rest, and show the same.
        let deadline = Instant::now() + PATIENCE;
        let mut before = String::new();
        loop {
            std::thread::sleep(Duration::from_millis(150));
            let (one, other) = (direct.screen(colours), through.screen(colours));
            if one == other && one == before {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{program} after {step:?}:\n{one}\n--- through attach:\n{other}"
            );
            before = one;
        }
    }
}

#[test]
fn vim_is_the_same() {
    // It asks its terminal how many colours it has, and tmux and the host do not say the same.
    let insert = ["i", "typed ä", "Escape"];
    is_the_same(
        "vim -u NONE -i NONE -n --cmd 'set nocp ruler' FILE",
        false,
        &[
            &["G"],
            &["C-u"],
            &["/line 50", "Enter"],
            &insert,
            &["dd"],
            &["u"],
            &[":set number", "Enter"],
            &[":split", "Enter"],
            &["C-w", "w"],
            &["gg"],
        ],
    );
}

#[test]
fn less_is_the_same() {
    is_the_same(
        "less FILE",
        true,
        &[&["Space"], &["G"], &["?line 42", "Enter"], &["b"], &["-S", "Enter"], &["Right"]],
    );
}

#[test]
fn a_shell_with_editing_is_the_same() {
    is_the_same(
        "bash --norc --noprofile",
        true,
        &[
            &["echo one two", "C-a", "Right", "C-e", "Enter"],
            &["Up", "M-b", "X", "Enter"],
            &["C-r", "one", "Enter"],
            &["sleep 50", "Enter", "C-c"],
            &["clear", "Enter"],
        ],
    );
}

#[test]
fn python_is_the_same() {
    is_the_same("python3 -q", true, &[&["6 * 7", "Enter"], &["import sys", "Enter"], &["1/0", "Enter"]]);
}
