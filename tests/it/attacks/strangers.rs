//! Strangers that say nothing, or not enough.

use std::thread;
use std::time::Duration;

use crate::support::attack::{Victim, silent_connects};
use crate::support::delay::Delay;
use crate::support::wire::*;

/// As many a second as there are places and half as many again, beside honest clients that need a
/// tenth of a second for their handshake.
#[test]
fn silent_connects_keep_no_client_out_that_is_far_away() {
    const PLACES: usize = 100;
    let victim = Victim::start(|config| config.pending_handshakes(PLACES));
    let far = Delay::new(victim.addr, Duration::from_millis(50));
    let attack = silent_connects(&victim, 150, 400);
    while attack.count.load(std::sync::atomic::Ordering::SeqCst) < PLACES as u64 {
        thread::sleep(Duration::from_millis(5));
    }
    let clients: Vec<_> = thread::scope(|scope| {
        let connecting: Vec<_> = (0..24).map(|_| scope.spawn(|| victim.client(far.addr))).collect();
        connecting.into_iter().map(|client| client.join().expect("it gets in")).collect()
    });
    println!(
        "{} silent ones, {} handshakes for 24 clients",
        attack.count.load(std::sync::atomic::Ordering::SeqCst),
        far.links()
    );
    drop(clients);
}

/// A handshake that has named a known key is never turned away for one that has said nothing, and a
/// proved one for nothing at all.
#[test]
fn a_handshake_that_has_shown_something_is_not_evicted_for_one_that_has_not() {
    const PLACES: usize = 20;
    let long = Duration::from_secs(600);
    let victim = Victim::start(|config| config.pending_handshakes(PLACES).handshake_timeout(long));
    let client = || ClientHandshake::new(victim.addr, &victim.key);
    let mut proved = client().finish().unwrap();
    let mut named: Vec<_> = (0..PLACES)
        .map(|_| {
            let mut client = client();
            client.send_hello().unwrap();
            client.read_server_hello().unwrap();
            client
        })
        .collect();
    let _silent: Vec<_> = (0..PLACES * 20).map(|_| dial(victim.addr)).collect();
    // Refused ones are no reason either.
    let _refused: Vec<_> = (0..PLACES * 3)
        .map(|_| {
            let mut stranger = ClientHandshake::new(victim.addr, &random());
            stranger.send_hello().unwrap();
            assert_eq!(stranger.read_server_hello().unwrap_err().refusal(), Some(status::NOT_AUTHORISED));
            stranger
        })
        .collect();
    proved.expect_alive();
    for client in &mut named {
        client.send_proof().unwrap();
        client.read_accept().expect("it was kept");
    }
    proved.expect_alive();
}
