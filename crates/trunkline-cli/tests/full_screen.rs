//! Full-screen programs at a terminal of tmux: what is seen through `attach` is what is seen without it.
//!
//! A program that is not installed is left out, and said so.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::*;
use trunkline_host::Size;

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

/// The same program twice, with and without the command between, from when it shows what it begins with.
fn is_the_same(program: &str, begins: &str, colours: bool, steps: &[&[&str]]) {
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
    let of_host = || {
        let mut screen = Command::new(env!("CARGO_BIN_EXE_trunkline"));
        let shown = screen.args(["screen", "full"]).env("XDG_RUNTIME_DIR", runtime.path()).output().unwrap();
        String::from_utf8_lossy(&shown.stdout).into_owned()
    };
    for step in std::iter::once(&&[][..]).chain(steps) {
        if !step.is_empty() {
            direct.keys(step);
            through.keys(step);
        }
        // Both begin; and after each step both come to rest, and show the same.
        let deadline = Instant::now() + PATIENCE;
        let mut before = String::new();
        loop {
            std::thread::sleep(Duration::from_millis(150));
            let (one, other) = (direct.screen(colours), through.screen(colours));
            let has_begun = one.contains(begins) && other.contains(begins);
            if if step.is_empty() { has_begun } else { one == other && one == before } {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{program} after {step:?}:\n{one}\n--- through attach:\n{other}\n--- the host's screen:\n{}",
                of_host()
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
        "199L",
        false,
        &[
            // It may leave its ruler out until then, if its terminal answers its questions late.
            &["C-l"],
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
        "line 1 ",
        true,
        &[&["Space"], &["G"], &["?line 42", "Enter"], &["b"], &["-S", "Enter"], &["Right"]],
    );
}

#[test]
fn a_shell_with_editing_is_the_same() {
    is_the_same(
        "bash --norc --noprofile",
        "bash-",
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
    is_the_same(
        "python3 -q",
        ">>>",
        true,
        &[&["6 * 7", "Enter"], &["import sys", "Enter"], &["1/0", "Enter"]],
    );
}

/// A viewer that stood still is not thrown out, and then sees what one sees that comes new.
#[test]
fn a_viewer_of_a_monitor_that_stood_still_sees_what_a_joiner_sees() {
    let program = if is_installed("htop") {
        ["htop", "-d", "1"]
    } else if is_installed("top") {
        ["top", "-d", "0.1"]
    } else {
        return;
    };
    let host = Host::start_program(&["--pty", "--size", "80x24"], &program);
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", host.process.id())).unwrap();
    let monitor = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    let mut viewer = host.terminal("watch", Size::default());
    viewer.shows("PID");
    let pid = Pid::from_raw(viewer.program.pid().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    std::thread::sleep(or_in_full(Duration::from_secs(2), Duration::from_secs(60)));
    // From here on there is one screen.
    kill_process(monitor, Signal::STOP).unwrap();
    kill_process(pid, Signal::CONT).unwrap();
    let mut shown = String::new();
    eventually("the viewer sees what a joiner sees", || {
        viewer.pass(Duration::from_millis(50));
        shown = viewer.text();
        shown.contains("PID") && host.run("key", &["screen"]).1.trim_end() == shown.trim_end()
    });
    kill_process(monitor, Signal::CONT).unwrap();
    viewer.until(|text| text != shown);
}
