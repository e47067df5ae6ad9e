//! A link whose packets are dropped without a word, as of a machine that sleeps: in network namespaces of its own.
//!
//! Where such namespaces are not permitted the test is left out, and says so.
#![cfg(target_os = "linux")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::*;
use trunkline_host::Size;

/// A namespace, as long as the process that holds it lives.
struct Space(Child);

impl Space {
    /// `within`: a command that runs in the namespace that this one is made from.
    fn make(mut within: Command) -> Result<Self, String> {
        within.args(["sh", "-c", "ip link set lo up && echo made && cat"]);
        let piped = within.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = piped.spawn().map_err(|error| error.to_string())?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line == "made\n" {
            return Ok(Self(holder));
        }
        let mut why = String::new();
        holder.stderr.take().unwrap().read_to_string(&mut why).unwrap();
        let _ = holder.kill();
        let _ = holder.wait();
        Err(why.trim().to_owned())
    }

    /// A command in the namespace. Its process is that of the program.
    fn command(&self, program: &str) -> Command {
        let mut enter = command("nsenter");
        enter.args(["--target", &self.0.id().to_string(), "--user", "--net", "--preserve-credentials"]);
        enter.arg(program).env_remove("TRUNKLINE_ADDR").env_remove("TRUNKLINE_KEY_FILE");
        enter
    }

    fn ip(&self, words: &str) -> Result<(), String> {
        let mut ip = self.command("ip");
        ip.args(words.split(' '));
        let (code, _, why) = finish(ip);
        if code == 0 { Ok(()) } else { Err(format!("ip {words}: {}", why.trim())) }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two machines and a cable.
struct Network {
    /// At 10.77.0.1.
    near: Space,
    /// At 10.77.0.2.
    far: Space,
}

impl Network {
    fn make() -> Result<Self, String> {
        let mut own = command("unshare");
        own.args(["--user", "--map-root-user", "--net"]);
        let near = Space::make(own)?;
        let mut other = near.command("unshare");
        other.arg("--net");
        let far = Space::make(other)?;
        near.ip("link add cable0 type veth peer name cable1")?;
        near.ip(&format!("link set cable1 netns {}", far.0.id()))?;
        for (space, cable, address) in [(&near, "cable0", "10.77.0.1"), (&far, "cable1", "10.77.0.2")] {
            space.ip(&format!("address add {address}/24 dev {cable}"))?;
            space.ip(&format!("link set {cable} up"))?;
        }
        Ok(Self { near, far })
    }

    /// Each side sends to a neighbour that does not exist. Neither is told anything.
    fn drop_packets(&self) {
        self.near.ip("neigh replace 10.77.0.2 lladdr 02:00:00:00:00:77 dev cable0 nud permanent").unwrap();
        self.far.ip("neigh replace 10.77.0.1 lladdr 02:00:00:00:00:77 dev cable1 nud permanent").unwrap();
    }

    fn heal(&self) {
        self.near.ip("neigh del 10.77.0.2 dev cable0").unwrap();
        self.far.ip("neigh del 10.77.0.1 dev cable1").unwrap();
    }
}

#[test]
fn the_ghost_of_a_machine_that_sleeps_keeps_no_keyboard() {
    let network = match Network::make() {
        Ok(network) => network,
        Err(why) => {
            // Past what the tests capture, so that it is seen.
            let _ = writeln!(std::io::stderr(), "skipped, no network namespaces here: {why}");
            return;
        }
    };
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    assert!(trunkline().arg("key").arg(&key).status().unwrap().success());
    let binary = env!("CARGO_BIN_EXE_trunkline");
    let mut process = network.near.command(binary);
    process.args(["host", "--pty", "--listen", "0.0.0.0:0", "--key-file"]).arg(&key);
    process.args(["--", "sh", "-c", "echo ready; while read x; do echo got $x; done"]);
    let mut process = process.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().rsplit(':').next().unwrap().to_owned();
    let _host = Host { directory, process, address: format!("127.0.0.1:{port}") };
    let call = |space: &Space, what: &str, at: &str| {
        let mut call = space.command(binary);
        call.args([what, &format!("{at}:{port}"), "--key-file"]).arg(&key);
        call
    };
    let status = || finish(call(&network.near, "status", "127.0.0.1")).1;

    let mut desk = Terminal::of(call(&network.far, "attach", "10.77.0.1"), Size::default());
    desk.shows("ready");
    eventually("the owner", || status().contains("has the input"));
    desk.keys("one\r");
    desk.shows("got one");
    network.drop_packets();
    let asleep = Instant::now();
    desk.keys("typed in the dark\r");
    // The same person, from another place, with the same key.
    let mut home = Terminal::of(call(&network.near, "attach", "127.0.0.1"), Size::default());
    home.shows("got one");
    eventually("the one at home owns the input", || {
        let text = status();
        let mut owners = text.lines().filter(|line| line.contains("has the input"));
        text.contains("link lost") && owners.next().is_some_and(|line| !line.contains("link lost"))
    });
    let took = asleep.elapsed();
    eprintln!("the input is at home after {took:?}");
    // A link that is silent for 10 s is lost.
    assert!(took < Duration::from_secs(25), "{took:?}");
    home.keys("from home\r");
    home.shows("got from home");
    // The machine wakes up. It sees what was done meanwhile, and its half of a line runs after nothing.
    network.heal();
    desk.shows("got from home");
    home.keys("all is well\r");
    desk.shows("got all is well");
    home.shows("got all is well");
    for terminal in [&desk, &home] {
        assert!(!terminal.text().contains("got typed"), "{}", terminal.text());
    }
}
