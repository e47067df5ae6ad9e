use super::client::{ClientHandshake, Step as ClientStep};
use super::server::{Credential, ServerHandshake, Step as ServerStep};
use super::*;

const PLAIN: Takes = Takes { plain: true, sealed: false };

#[derive(Clone, PartialEq, Debug)]
struct Numbered(usize, [u8; 32]);

impl Credential for Numbered {
    fn key(&self) -> &Key {
        // Leaked: a handful of keys in a test.
        Box::leak(Box::new(Key::from(self.1)))
    }
}

fn find(keys: &[[u8; 32]]) -> impl Fn(&[u8; 8]) -> Option<Numbered> {
    let keys: Vec<_> = keys.iter().enumerate().map(|(n, key)| Numbered(n, *key)).collect();
    move |id| keys.iter().find(|credential| credential.key().id() == *id).cloned()
}

fn asked() -> Asked {
    let terms = Terms { window: 1000, max_message: 2000, grace: Grace(60_000) };
    Asked { session: SessionId::NONE, offset: 0, terms, attempt: 0 }
}

fn granted() -> Granted {
    Granted {
        session: SessionId([9; 16]),
        offset: 0,
        terms: Terms { window: 70, max_message: 8, grace: Grace(5000) },
        rights: Rights { interrupt: true, send: ChannelSet::from_bits(5), receive: ChannelSet::ALL },
    }
}

/// Runs both sides, `cut` bytes at a time: the key that was proved, and what the client heard.
fn shake(
    client_key: [u8; 32],
    server_keys: &[[u8; 32]],
    asked: Asked,
    answer: Result<Granted, Status>,
    cut: usize,
) -> (Option<usize>, Result<Granted, HandshakeError>) {
    let client_key = Key::from(client_key);
    let (mut client, hello) = ClientHandshake::new(&client_key, [1; 32]);
    let mut server = ServerHandshake::new([2; 32], PLAIN);
    let mut to_server = hello.to_vec();
    let mut to_client = Vec::new();
    let mut proved = None;
    for _ in 0..1000 {
        for mut input in std::mem::take(&mut to_server).chunks(cut) {
            while !input.is_empty() {
                match server.handle(&mut input, find(server_keys)) {
                    ServerStep::More => {}
                    ServerStep::Reply(reply) => to_client.extend(reply),
                    ServerStep::Owed(_) => panic!("a plain client"),
                    ServerStep::HangUp(_) => return (None, Err(HandshakeError::NotTrunkline)),
                    ServerStep::Refuse(refusal) => to_client.extend(refusal.bytes()),
                    ServerStep::Proved(mut client) => {
                        assert_eq!(client.asked, asked);
                        proved = Some(client.credential.0);
                        to_client.extend(client.accept(answer.as_ref().map_err(|status| *status)));
                    }
                }
            }
        }
        for mut input in std::mem::take(&mut to_client).chunks(cut) {
            while !input.is_empty() {
                match client.handle(&mut input, &client_key) {
                    ClientStep::More => {}
                    ClientStep::ServerProved => to_server.extend(client.prove(&client_key, &asked).unwrap()),
                    ClientStep::Failed { error, .. } => return (proved, Err(error)),
                    ClientStep::Accepted(granted) => return (proved, Ok(granted)),
                }
            }
        }
    }
    panic!("the handshake hangs");
}

#[test]
fn two_peers_with_one_key_come_together_however_the_bytes_are_cut() {
    for cut in 1..=120 {
        let result = shake([4; 32], &[[3; 32], [4; 32]], asked(), Ok(granted()), cut);
        assert_eq!(result, (Some(1), Ok(granted())));
    }
}

#[test]
fn another_key_is_not_authorised() {
    let result = shake([5; 32], &[[3; 32]], asked(), Ok(granted()), 1000);
    assert_eq!(result, (None, Err(HandshakeError::NotAuthorised)));
}

#[test]
fn a_refusal_of_a_proved_client_is_verified() {
    for (status, error) in [
        (Status::NotAuthorised, HandshakeError::NotAuthorised),
        (Status::TooBusy, HandshakeError::TooBusy),
        (Status::SessionUnknown, HandshakeError::SessionUnknown),
        (Status::SessionExpired, HandshakeError::SessionExpired),
        (Status::BadTerms, HandshakeError::TermsChanged),
    ] {
        let result = shake([3; 32], &[[3; 32]], asked(), Err(status), 1000);
        assert_eq!(result, (Some(0), Err(error)));
    }
}

#[test]
fn windows_that_the_protocol_does_not_allow_are_refused() {
    for (window, legal) in [(0, true), (1, false), (63, false), (64, true), (Credit::MAX, true)]
        .into_iter()
        .chain([(Credit::MAX + 1, false), (u32::MAX, false)])
    {
        let ask = Asked { terms: Terms { window, ..asked().terms }, ..asked() };
        let (_, result) = shake([3; 32], &[[3; 32]], ask, Ok(granted()), 1000);
        assert_eq!(result, if legal { Ok(granted()) } else { Err(HandshakeError::TermsChanged) });
        let grant = Granted { terms: Terms { window, ..granted().terms }, ..granted() };
        let (_, result) = shake([3; 32], &[[3; 32]], asked(), Ok(grant), 1000);
        assert_eq!(result, if legal { Ok(grant) } else { Err(HandshakeError::Malformed) });
    }
}

#[test]
fn a_new_session_begins_at_attempt_and_offset_0() {
    for ask in [Asked { attempt: 1, ..asked() }, Asked { offset: 1, ..asked() }] {
        let (_, result) = shake([3; 32], &[[3; 32]], ask, Ok(granted()), 1000);
        assert_eq!(result, Err(HandshakeError::TermsChanged));
    }
    let again = Asked { session: SessionId([1; 16]), offset: 5, attempt: 7, ..asked() };
    assert_eq!(shake([3; 32], &[[3; 32]], again, Ok(granted()), 1000).1, Ok(granted()));
}

#[test]
fn reserved_fields_and_unknown_rights_of_an_accept_are_malformed() {
    let good = write_accept(Ok(&granted()));
    assert_eq!(read_accept(&good), Ok(granted()));
    for (at, byte) in [(1, 2), (1, 3), (2, 1), (3, 1), (0, 1), (0, 7), (0, 9), (0, 2)] {
        let mut bad = good;
        bad[at] = byte;
        assert_eq!(read_accept(&bad), Err(HandshakeError::Malformed), "byte {at} is {byte}");
    }
    let no_grace = Granted { terms: Terms { grace: Grace::NONE, ..granted().terms }, ..granted() };
    assert_eq!(read_accept(&write_accept(Ok(&no_grace))), Err(HandshakeError::Malformed));
}

#[test]
fn statuses_that_are_not_legal_in_a_hello_mean_nothing() {
    let key = Key::from([3; 32]);
    for status in 1..=9 {
        let (mut client, _) = ClientHandshake::new(&key, [1; 32]);
        let mut reply = [0; SERVER_HELLO];
        reply[..4].copy_from_slice(&MAGIC);
        (reply[4], reply[5]) = (VERSION, status);
        let ClientStep::Failed { error, verified } = client.handle(&mut &reply[..], &key) else {
            panic!("status {status} goes on");
        };
        assert!(!verified);
        assert_eq!(error == HandshakeError::Malformed, matches!(status, 4..=6 | 9), "{status}: {error}");
    }
}

#[test]
fn http_and_tls_fail_at_their_first_byte() {
    for first in [b"G", b"\x16"] {
        let mut server = ServerHandshake::new([0; 32], PLAIN);
        let step = server.handle(&mut &first[..], find(&[]));
        assert!(matches!(step, ServerStep::HangUp(_)));
    }
}

#[test]
fn a_sealed_hello_is_answered_in_its_size_once_all_of_it_is_there() {
    let mut hello = [7; SEALED_HELLO];
    hello[..8].copy_from_slice(&[0xF4, b'T', b'L', b'N', 1, 1, 0, 1]);
    for (flags, status) in [([0, 1], 8), ([0, 3], 1), ([1, 1], 1)] {
        hello[6..8].copy_from_slice(&flags);
        let mut server = ServerHandshake::new([0; 32], PLAIN);
        for byte in &hello[..63] {
            assert!(matches!(server.handle(&mut &[*byte][..], find(&[])), ServerStep::More));
        }
        let ServerStep::Refuse(refusal) = server.handle(&mut &hello[63..], find(&[])) else {
            panic!("a sealed hello goes on");
        };
        let mut expected = [0; SEALED_HELLO];
        expected[..8].copy_from_slice(&[0xF4, b'T', b'L', b'N', 1, status, 0, 1]);
        assert_eq!(refusal.bytes(), expected);
    }
}

#[test]
fn unknown_flags_of_a_plain_hello_are_another_version() {
    let (_, mut hello) = ClientHandshake::new(&Key::from([3; 32]), [1; 32]);
    hello[7] = 2;
    let mut server = ServerHandshake::new([0; 32], PLAIN);
    let ServerStep::Refuse(refusal) = server.handle(&mut &hello[..], find(&[[3; 32]])) else {
        panic!("unknown flags go on");
    };
    assert_eq!((refusal.bytes().len(), refusal.bytes()[5]), (SERVER_HELLO, 1));
}

/// Every bit of every message counts: one that was changed on the way is noticed.
#[test]
fn a_message_changed_on_the_way_is_noticed() {
    let key = Key::from([3; 32]);
    let accepts = |flip: Option<(usize, usize)>| {
        let damage = |number: usize, message: &mut [u8]| {
            if let Some((which, bit)) = flip
                && which == number
                && bit / 8 < message.len()
            {
                message[bit / 8] ^= 1 << (bit % 8);
            }
        };
        let (mut client, mut hello) = ClientHandshake::new(&key, [1; 32]);
        damage(0, &mut hello);
        let mut server = ServerHandshake::new([2; 32], PLAIN);
        let ServerStep::Reply(mut reply) = server.handle(&mut &hello[..], find(&[[3; 32]])) else {
            return false;
        };
        damage(1, &mut reply);
        let ClientStep::ServerProved = client.handle(&mut &reply[..], &key) else { return false };
        let mut client_proof = client.prove(&key, &asked()).unwrap();
        damage(2, &mut client_proof);
        let ServerStep::Proved(mut proved) = server.handle(&mut &client_proof[..], find(&[])) else {
            return false;
        };
        let mut accept = proved.accept(Ok(&granted()));
        damage(3, &mut accept);
        matches!(client.handle(&mut &accept[..], &key), ClientStep::Accepted(_))
    };
    assert!(accepts(None));
    for (number, size) in [CLIENT_HELLO, SERVER_HELLO, CLIENT_PROOF, ACCEPT].into_iter().enumerate() {
        for bit in 0..size * 8 {
            assert!(!accepts(Some((number, bit))), "message {number}, bit {bit}");
        }
    }
}

#[test]
fn a_grace_on_the_wire_is_rounded_up_and_saturates() {
    assert_eq!(Grace::new(Duration::ZERO), Grace::NONE);
    assert_eq!(Grace::new(Duration::from_nanos(1)), Grace(1));
    assert_eq!(Grace::new(Duration::from_secs(60)), Grace(60_000));
    assert_eq!(Grace::new(Duration::MAX).time(), None);
    assert_eq!(Grace(60_000).time(), Some(Duration::from_secs(60)));
}
