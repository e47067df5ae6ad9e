//! A console at a pseudo-terminal of its own, and what is to be seen there.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use super::{LONG, Place};

/// A terminal and the program at it. The screen is that of an emulator.
pub struct Terminal {
    pub child: Child,
    pub keys: File,
    /// The side of the program, held so that its modes can be looked at.
    pub slave: File,
    seen: Arc<Seen>,
}

struct Seen {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    emulator: vt100::Parser,
    /// All that came.
    bytes: Vec<u8>,
    count: usize,
    /// Nothing is read while this is set: the terminal is stopped.
    stopped: bool,
    /// The emulator is left out: a flood is only counted.
    counts: bool,
    /// What is answered to the question for the terminal's abilities.
    abilities: Option<&'static str>,
    /// The reader is to end.
    closed: bool,
    over: bool,
}

impl Terminal {
    /// Starts a console at a terminal of 80 columns and 24 rows.
    pub fn start(place: &Place, options: &[&str]) -> Self {
        Self::with(place.console(options), |command| {
            command.env("TERM", "xterm");
        })
    }

    pub fn with(mut command: Command, set: impl FnOnce(&mut Command)) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let side = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(side()).stdout(side()).stderr(side());
        set(&mut command);
        let child = command.spawn().unwrap();
        drop(command);
        let keys = File::from(master);
        let (rows, columns) = (NonZeroU16::new(24).unwrap(), NonZeroU16::new(80).unwrap());
        let seen = Arc::new(Seen {
            state: Mutex::new(State {
                emulator: vt100::Parser::new(rows, columns, 10_000),
                bytes: Vec::new(),
                count: 0,
                stopped: false,
                counts: false,
                abilities: None,
                closed: false,
                over: false,
            }),
            changed: Condvar::new(),
        });
        let (output, watched) = (keys.try_clone().unwrap(), Arc::clone(&seen));
        thread::spawn(move || watched.watch(output));
        Self { child, keys, slave, seen }
    }

    pub fn press(&mut self, keys: impl AsRef<[u8]>) {
        self.keys.write_all(keys.as_ref()).unwrap();
    }

    /// The terminal answers so from now on.
    pub fn answer_abilities(&self, abilities: &'static str) {
        self.seen.state.lock().abilities = Some(abilities);
    }

    /// The terminal takes nothing more, or goes on.
    pub fn stop(&self, stop: bool) {
        self.seen.state.lock().stopped = stop;
        self.seen.changed.notify_all();
    }

    /// The terminal goes away.
    pub fn hang_up(&mut self) {
        self.seen.state.lock().closed = true;
        // Something has to come, so that the reader sees it.
        self.press("x");
        let mut state = self.seen.state.lock();
        while !state.over {
            self.seen.changed.wait(&mut state);
        }
        self.keys = File::open("/dev/null").unwrap();
    }

    /// What comes is only counted from now on.
    pub fn only_count(&self, counts: bool) {
        self.seen.state.lock().counts = counts;
    }

    pub fn count(&self) -> usize {
        self.seen.state.lock().count
    }

    /// All that came, as it came.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.seen.state.lock().bytes).into_owned()
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(&self.keys, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
            .unwrap();
        let (rows, columns) = (NonZeroU16::new(rows).unwrap(), NonZeroU16::new(columns).unwrap());
        self.seen.state.lock().emulator.screen_mut().set_size(rows, columns);
        // Without a controlling terminal there is no signal of the system's own.
        self.signal(rustix::process::Signal::WINCH);
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Returns `true` if a signal has stopped the console.
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
    }

    /// Waits until the screen is as wanted.
    #[track_caller]
    pub fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        let mut state = self.seen.state.lock();
        loop {
            let text = screen(&state.emulator);
            if wanted(&text) {
                return;
            }
            assert!(begun.elapsed() < LONG, "{what}; the screen is:\n{text}\n");
            assert!(!state.over, "{what}; the terminal is over, the screen is:\n{text}\n");
            self.seen.changed.wait_for(&mut state, Duration::from_millis(100));
        }
    }

    /// Waits until the last lines of the screen are these. The line in which the cursor is ends there.
    #[track_caller]
    pub fn expect(&self, lines: &str) {
        self.wait(&format!("not shown: {lines:?}"), |screen| {
            screen == lines || screen.ends_with(&format!("\n{lines}"))
        });
    }

    #[track_caller]
    pub fn expect_anywhere(&self, text: &str) {
        self.wait(&format!("not shown: {text:?}"), |screen| screen.contains(text));
    }

    /// Waits until this is shown in the rows of the screen, also behind the cursor.
    #[track_caller]
    pub fn expect_in_rows(&self, text: &str) {
        self.wait_state(&format!("not shown: {text:?}"), |state| {
            state.emulator.screen().contents().contains(text)
        });
    }

    /// Waits for something among the bytes that came.
    #[track_caller]
    pub fn expect_raw(&self, text: &str) {
        self.wait_state(&format!("did not come: {text:?}"), |state| {
            state.bytes.windows(text.len()).any(|part| part == text.as_bytes())
        });
    }

    #[track_caller]
    pub fn expect_count(&self, count: usize) {
        self.wait_state(&format!("fewer than {count} bytes"), |state| state.count >= count);
    }

    #[track_caller]
    fn wait_state(&self, what: &str, wanted: impl Fn(&State) -> bool) {
        let begun = Instant::now();
        let mut state = self.seen.state.lock();
        while !wanted(&state) {
            assert!(begun.elapsed() < LONG, "{what}; the screen is:\n{}\n", screen(&state.emulator));
            self.seen.changed.wait_for(&mut state, Duration::from_millis(100));
        }
    }

    pub fn modes(&self) -> Termios {
        tcgetattr(&self.slave).unwrap()
    }

    pub fn is_raw(&self) -> bool {
        !self.modes().local_modes.intersects(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    /// Its exit status, and that the terminal is as it was: not raw, and without the marks of a paste.
    #[track_caller]
    pub fn end(&mut self) -> i32 {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < LONG, "it does not end; the screen is:\n{}", self.screen());
            thread::sleep(Duration::from_millis(5));
        };
        let modes = self.modes().local_modes;
        assert!(modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG), "{modes:?}");
        let raw = self.raw();
        assert!(!raw.contains("panicked"), "{raw}");
        if raw.contains("\x1b[?2004h") {
            self.expect_raw("\x1b[?2004l");
        }
        status.code().unwrap_or_else(|| panic!("{status}"))
    }

    pub fn screen(&self) -> String {
        screen(&self.seen.state.lock().emulator)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.stop(false);
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Seen {
    fn watch(&self, mut output: File) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            self.changed.wait_while(&mut self.state.lock(), |state| state.stopped);
            // It fails when the program has ended, and no side is open any more.
            let Ok(read @ 1..) = output.read(&mut buffer) else { break };
            let mut state = self.state.lock();
            if state.closed {
                break;
            }
            state.count += read;
            if !state.counts {
                state.bytes.extend_from_slice(&buffer[..read]);
                state.emulator.process(&buffer[..read]);
            }
            if let Some(abilities) = state.abilities
                && buffer[..read].windows(3).any(|part| part == b"\x1b[c")
            {
                output.write_all(abilities.as_bytes()).unwrap();
            }
            drop(state);
            self.changed.notify_all();
        }
        drop(output);
        self.state.lock().over = true;
        self.changed.notify_all();
    }
}

/// The lines down to the one of the cursor, which ends there; other lines without the spaces at their ends.
fn screen(emulator: &vt100::Parser) -> String {
    let screen = emulator.screen();
    let (row, column) = screen.cursor_position();
    let columns = screen.size().1.get();
    let mut lines: Vec<String> = screen.rows(0, columns).take(usize::from(row)).collect();
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    let last = screen.rows(0, column).nth(usize::from(row)).unwrap_or_default();
    // The emulator leaves out spaces that were never written.
    let width = unicode_width::UnicodeWidthStr::width(last.as_str());
    lines.push(last + &" ".repeat(usize::from(column).saturating_sub(width)));
    lines.join("\n")
}
