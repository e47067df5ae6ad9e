//! A build without the feature `sealed`: `cargo test --no-default-features --test unsealed`.

#![cfg(not(feature = "sealed"))]

mod support;

use std::io::Write;
use std::time::Instant;

use support::free_address;
use support::wire::*;
use trunkline::*;

#[test]
fn it_answers_a_sealed_hello_with_status_8_and_goes_on() {
    let key: RawKey = random();
    let listener = Listener::bind(free_address(), Config::new(Key::from(key))).unwrap();
    match SealedClient::new(listener.local_addr(), &key).shake() {
        Err(WireError::Refused(status::ONLY_PLAIN)) => {}
        other => panic!("{other:?}"),
    }
    // Whatever the tag is: it is not looked at.
    let mut stream = dial(listener.local_addr());
    stream.write_all(&SealedHello::forged(&key).encode()).unwrap();
    let told = read_sealed_refusal(&mut stream, Instant::now() + PATIENCE).unwrap();
    assert_eq!(told, status::ONLY_PLAIN);
    RawPeer::connect(listener.local_addr(), &key).expect_alive();
}

#[test]
fn auto_is_plain_and_always_is_an_error_that_names_the_feature() {
    let key = Key::generate();
    let config = || Config::new(key.clone());
    let listener = Listener::bind(free_address(), config()).unwrap();
    assert!(!Connection::connect(listener.local_addr(), config()).unwrap().is_sealed());
    let always = || config().sealing(Sealing::Always);
    let errors = [
        Listener::bind(free_address(), always()).unwrap_err().to_string(),
        Connection::connect(listener.local_addr(), always()).unwrap_err().to_string(),
        Connection::pair(always()).unwrap_err().to_string(),
    ];
    for error in errors {
        assert!(error.contains("feature `sealed`"), "{error}");
    }
}

/// Nothing that is not encrypted leaves the machine without a word.
#[test]
fn an_address_that_others_reach_needs_a_word() {
    let config = || Config::new(Key::generate());
    match Listener::bind("0.0.0.0:0", config()) {
        Err(BindError::Config(ConfigError::Plaintext(_))) => {}
        other => panic!("{other:?}"),
    }
    Listener::bind("0.0.0.0:0", config().allow_plaintext(true)).unwrap();
}

/// A server that seals only is told from one that is not there.
#[test]
fn a_server_that_seals_only_refuses_and_the_error_says_what_to_do() {
    let key: RawKey = random();
    let server = std::net::TcpListener::bind(free_address()).unwrap();
    let address = server.local_addr().unwrap();
    let refusing = std::thread::spawn(move || {
        let mut handshake = ServerHandshake::accept(&server, &key);
        handshake.read_hello().unwrap();
        handshake.hello.status = status::ONLY_SEALED;
        handshake.send_hello().unwrap();
    });
    let error = Connection::connect(address, Config::new(Key::from(key))).unwrap_err();
    assert!(error.to_string().contains("feature `sealed`"), "{error}");
    refusing.join().unwrap();
}
