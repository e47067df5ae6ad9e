//! The soak test, for a moment: `examples/soak.rs` runs for a minute with 1,000 clients.

#[path = "../../../tests/support/mod.rs"]
mod support;

use support::process::{Process, example};

#[test]
fn clients_that_join_and_leave_leave_nothing() {
    // The machine may be busy, so only what hangs is too slow.
    let soak = ["--seconds", "2", "--clients", "60", "--limit-ms", "10000"];
    let outcome = Process::start(example("soak").args(soak)).end();
    print!("{}", outcome.stdout);
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
}
