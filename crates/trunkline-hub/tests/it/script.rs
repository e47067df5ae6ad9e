//! Scripts whose input ends, at a kernel behind a hub.

use std::thread::JoinHandle;
use std::time::Instant;

use trunkline::{Config, Connection, Key};
use trunkline_kernel::console::{Said, Session};
use trunkline_kernel::kernel::{Kernel, Settings};

use crate::hub::{Client, STDIN, STDOUT, World, before};
use crate::support::LONG;
use crate::tiny;

fn kernel() -> (World, JoinHandle<()>) {
    let (there, upstream) = Connection::pair(Config::new(Key::generate())).unwrap();
    let kernel = Kernel::on(there.clone(), Settings::new()).unwrap();
    let interpreter = std::thread::spawn(move || tiny::interpret(kernel));
    (World::serve(there, before(upstream), |config| config), interpreter)
}

struct Script {
    session: Session,
    shown: String,
    statuses: Vec<String>,
    /// The input is free.
    free: bool,
    finished: bool,
}

impl Script {
    fn begin(world: &World, lines: &[&str]) -> Self {
        let connection = Connection::connect(world.addr, Config::new(world.desk.clone())).unwrap();
        let session = Session::new(connection).unwrap();
        let (shown, statuses) = (String::new(), Vec::new());
        let mut script = Self { session, shown, statuses, free: false, finished: false };
        // The script before may not be gone yet.
        script.until("its turn", |script| script.free && script.session.console().is_served());
        for line in lines {
            script.session.try_send((*line).to_owned()).unwrap();
        }
        script
    }

    #[track_caller]
    fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LONG;
        while !is(self) {
            match self.session.next_timeout(deadline.saturating_duration_since(Instant::now())) {
                Some(Said::Output(text)) => self.shown += &String::from_utf8_lossy(&text),
                Some(Said::Status(status)) => self.statuses.push(status.to_string()),
                Some(Said::Roster(roster)) => {
                    if let Some(clients) = roster.clients {
                        self.free = clients.iter().all(|client| !client.owner);
                    }
                }
                Some(Said::Finished) => self.finished = true,
                Some(_) => {}
                None => panic!("{what}: not in time; {:?}, and {:?} was shown", self.statuses, self.shown),
            }
        }
    }

    /// Returns what is shown in all.
    #[track_caller]
    fn ends(mut self) -> String {
        self.session.finish().unwrap();
        self.until("the end", |script| script.finished);
        self.shown
    }
}

#[test]
fn a_script_that_ends_within_a_statement_or_a_line_ends() {
    let (world, _kernel) = kernel();
    assert_eq!(Script::begin(&world, &["say a\n", "say b"]).ends(), "a\nb\n");
    let shown = Script::begin(&world, &["begin\n", "one\n"]).ends();
    assert!(shown.ends_with("the input has ended within a statement, which was not run\n"), "{shown:?}");
    let shown = Script::begin(&world, &["asks 2\n", "half"]).ends();
    assert!(shown.ends_with("half\nnone\n"), "{shown:?}");
}

/// The outer hub does not know at once that what the script has sent was its own, and refuses the first end.
#[test]
fn a_script_ends_behind_two_hubs() {
    for (lines, end) in
        [(&["asks 3\n", "one\n"], "none\nnone\n"), (&["begin\n", "one\n"], "which was not run\n")]
    {
        let (world, _kernel) = kernel();
        let upstream = Connection::connect(world.addr, Config::new(world.home.clone())).unwrap();
        let outer = World::serve(upstream.clone(), before(upstream), |config| config);
        let shown = Script::begin(&outer, lines).ends();
        assert!(shown.ends_with(end), "{shown:?}");
    }
}

/// What others do is nothing to wait for.
#[test]
fn a_script_that_is_over_ends_while_anothers_statement_runs() {
    let (world, _kernel) = kernel();
    let mut script = Script::begin(&world, &["say mine\n"]);
    script.until("its line is over", |script| script.session.console().is_over(1));
    let mut other = world.client(&world.home);
    other.takes(r#"{"take":true}"#);
    other.sender(STDIN).send("loop others\n").unwrap();
    script.until("another's line", |script| script.shown.ends_with("others"));
    // Its input was taken, so it cannot be told that it ends.
    let _ = script.session.finish();
    script.until("the end", |script| script.finished);
    other.connection.interrupt().unwrap();
}

/// It was the other's program then; now it is nobody's.
#[test]
fn a_script_ends_though_another_has_typed_and_left() {
    let (world, _kernel) = kernel();
    let mut script = Script::begin(&world, &["asks 4\n"]);
    script.until("it reads", |script| script.statuses.contains(&"waiting 1".to_owned()));
    let mut other = world.client(&world.home);
    other.takes(r#"{"take":true}"#);
    let input = other.sender(STDIN);
    input.send("theirs\n").unwrap();
    let output = other.receiver(STDOUT);
    while &*output.recv_timeout(LONG).unwrap() != b"theirs\n" {}
    let _ = script.session.finish();
    script.until("it reads on", |script| script.statuses.contains(&"waiting 2".to_owned()));
    // While the other has the input, the program is the other's.
    input.send("more\n").unwrap();
    while &*output.recv_timeout(LONG).unwrap() != b"more\n" {}
    leave(other);
    script.until("the end", |script| script.finished);
    assert_eq!(script.shown, "theirs\nmore\nnone\nnone\n");
}

fn leave(client: Client) {
    client.connection.close(trunkline::CloseCode::NORMAL, "").unwrap();
}
