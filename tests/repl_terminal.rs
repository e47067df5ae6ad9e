//! The example `repl` on a terminal: keys in, and what is on the screen.
#![cfg(target_os = "linux")]

mod support;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use support::LONG;
use support::chaos::{Chaos, Cut};
use support::delay::Delay;
use support::kernel::Kernel;
use support::process::{example, lines, rest};

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const RECONNECTING: &str = "  [link lost, trying…]";

/// A console on a terminal of 80 columns.
struct Screen {
    child: Child,
    keys: File,
    shown: mpsc::Receiver<Vec<u8>>,
    /// What was shown and not yet looked at.
    text: Vec<u8>,
    stderr: mpsc::Receiver<String>,
}

impl Screen {
    fn start(address: SocketAddr, kernel: &Kernel, options: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut command = example("repl");
        command.args(["console", "--connect", &address.to_string(), "--key-file"]);
        command.arg(kernel.key_file()).args(options).env("TERM", "xterm");
        let mut child = command
            .stdin(Stdio::from(terminal.try_clone().unwrap()))
            .stdout(Stdio::from(terminal))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It has the other end of the terminal, and would keep it open.
        drop(command);
        let stderr = lines(child.stderr.take().unwrap());
        let keys = File::from(master);
        let mut output = keys.try_clone().unwrap();
        let (sender, shown) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It fails when the console has ended.
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, shown, text: Vec::new(), stderr }
    }

    /// Its standard error is not the terminal.
    #[track_caller]
    fn expect_error(&self, line: &str) {
        assert_eq!(self.stderr.recv_timeout(LONG).as_deref(), Ok(line));
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until this is shown, behind all that was waited for before.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        loop {
            if let Some(at) = self.text.windows(text.len()).position(|shown| shown == text.as_bytes()) {
                self.text.drain(..at + text.len());
                return;
            }
            match self.shown.recv_timeout(LONG) {
                Ok(more) => self.text.extend(more),
                Err(error) => panic!(
                    "{text:?} is not shown ({error}), but {:?}; {:?}",
                    String::from_utf8_lossy(&self.text),
                    self.stderr.try_iter().collect::<String>()
                ),
            }
        }
    }

    /// Its exit code, and what it wrote to stderr.
    fn end(&mut self) -> (Option<i32>, String) {
        let stderr = rest(&self.stderr);
        (self.child.wait().unwrap().code(), stderr)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(kernel: &Kernel) -> (Chaos, Screen) {
    let chaos = Chaos::new(kernel.address);
    let mut screen = Screen::start(chaos.addr, kernel, &[]);
    screen.expect("> ");
    (chaos, screen)
}

fn lose(chaos: &Chaos, screen: &mut Screen) {
    chaos.refuse(true);
    chaos.cut(Cut::Reset);
    screen.expect(RECONNECTING);
}

#[test]
fn a_lost_link_is_shown_behind_the_line_and_what_is_typed_is_kept() {
    let kernel = Kernel::start();
    let (chaos, mut screen) = start(&kernel);
    screen.press("let a = 40");
    lose(&chaos, &mut screen);
    // Another line, half of the next, and then the link is back.
    screen.press("\ra +");
    screen.expect(&format!("a +{RECONNECTING}"));
    chaos.refuse(false);
    screen.expect("> a +");
    screen.press(" 2\r");
    screen.expect("\n42");
    screen.press(CTRL_D);
    assert_eq!(screen.end(), (Some(0), String::new()));
}

#[test]
fn ctrl_c_while_the_link_is_lost_interrupts_when_it_is_back() {
    let kernel = Kernel::start();
    let (chaos, mut screen) = start(&kernel);
    screen.press("loop {}\r");
    screen.expect("* ");
    lose(&chaos, &mut screen);
    screen.press(CTRL_C);
    screen.press("\"next\"\r");
    chaos.refuse(false);
    screen.expect_error("interrupted\n");
    // As it was typed, and then as it is shown.
    screen.expect("* \"next\"");
    screen.expect("\"next\"\r\n");
    screen.press(CTRL_D);
    assert_eq!(screen.end().0, Some(0));
}

#[test]
fn ctrl_d_while_the_link_is_lost_leaves() {
    let kernel = Kernel::start();
    let (chaos, mut screen) = start(&kernel);
    lose(&chaos, &mut screen);
    screen.press(CTRL_D);
    let (code, stderr) = screen.end();
    assert_eq!(code, Some(3));
    assert!(stderr.contains("left while the link was lost"), "{stderr}");
}

#[test]
fn a_kernel_that_is_started_again_ends_the_console_while_a_line_is_typed() {
    let mut kernel = Kernel::start();
    let (chaos, mut screen) = start(&kernel);
    screen.press("half a l");
    screen.expect("half a l");
    chaos.refuse(true);
    kernel.start_again();
    screen.expect(RECONNECTING);
    chaos.lead_to(kernel.address);
    chaos.refuse(false);
    let (code, stderr) = screen.end();
    assert_eq!(code, Some(3));
    assert!(stderr.contains("it was started again"), "{stderr}");
}

/// A person is faster than a link with 300 ms of round trip: the kernel has not read the line that is interrupted.
#[test]
fn ctrl_c_over_a_slow_link_stops_its_line_and_no_other() {
    let kernel = Kernel::start();
    let delay = Delay::new(kernel.address, Duration::from_millis(300));
    let mut screen = Screen::start(delay.addr, &kernel, &[]);
    screen.expect("> ");
    // In one read.
    screen.press("loop {}\r\x03print(\"two\")\r");
    screen.expect_error("interrupted\n");
    screen.expect("two\r\n");
    screen.expect("> ");
    // As fast as a person sees what was typed.
    screen.press("loop {}\r");
    screen.expect("loop {}");
    screen.press(CTRL_C);
    screen.expect_error("interrupted\n");
    screen.expect("> ");
    // A paste: all of its lines are sent, and the first is what is stopped.
    screen.press("loop {}\rprint(\"four\")\rprint(\"five\")\r\x03");
    screen.expect_error("interrupted\n");
    screen.expect("four\r\n");
    screen.expect("five\r\n");
    screen.expect("> ");
    // A line that is over when its interrupt comes was stopped or was not; the next is not hit.
    screen.press("0\r\x03print(\"six\")\r");
    screen.expect("six\r\n");
    screen.press(CTRL_D);
    assert_eq!(screen.end().0, Some(0));
}

/// The moment in which a line is given to the kernel, and no line is edited.
#[test]
fn keys_count_between_two_lines_as_well() {
    let kernel = Kernel::start();
    let (_chaos, mut screen) = start(&kernel);
    screen.press("loop {}\r");
    screen.expect("\n");
    screen.press(CTRL_C);
    screen.expect_error("interrupted\n");
    screen.expect("> ");
    screen.press("sleep(300); \"slept\"\r");
    screen.expect("\n");
    screen.press(CTRL_D);
    screen.expect("\"slept\"");
    assert_eq!(screen.end(), (Some(0), String::new()));
}
