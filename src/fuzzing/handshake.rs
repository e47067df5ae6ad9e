//! The handshake, both sides of it.

use super::input::Input;
use crate::key::Key;
use crate::proto::handshake::client::{ClientHandshake, Step as ClientStep};
use crate::proto::handshake::sealed_client::SealedClient;
use crate::proto::handshake::server::{Credential, ServerHandshake, Step as ServerStep};
use crate::proto::handshake::{Asked, Grace, Granted, Rights, SessionId, Takes, Terms};
use crate::proto::seal;

/// Feeds both sides with noise, and with each other's messages changed on the way: no client is
/// accepted unless every byte came as it was sent.
pub fn handshake(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 3 {
        0 => noise_to_server(input),
        1 => noise_to_client(input),
        _ => changed_on_the_way(input),
    }
}

const KEYS: [[u8; 32]; 2] = [[1; 32], [2; 32]];

/// A key by its number.
#[derive(Clone, Copy)]
struct Numbered(usize, &'static Key);

impl Credential for Numbered {
    fn key(&self) -> &Key {
        self.1
    }
}

fn keys() -> &'static [Key; 2] {
    static ALL: std::sync::OnceLock<[Key; 2]> = std::sync::OnceLock::new();
    ALL.get_or_init(|| KEYS.map(Key::from))
}

fn find(id: &[u8; 8]) -> Option<Numbered> {
    let at = keys().iter().position(|key| key.id() == *id)?;
    Some(Numbered(at, &keys()[at]))
}

const TAKES: Takes = Takes { plain: true, sealed: seal::IS_BUILT };

fn noise_to_server(mut input: Input<'_>) {
    let mut server = ServerHandshake::new([3; 32], TAKES);
    // Half of the time, get beyond the first message.
    match input.byte() % 4 {
        0 => {
            let (_, hello) = ClientHandshake::new(&keys()[1], [4; 32]);
            assert!(matches!(server.handle(&mut &hello[..], find), ServerStep::Reply(_)));
        }
        1 if seal::IS_BUILT => {
            let (_, hello) = SealedClient::new(&keys()[1]).expect("the system has random numbers");
            assert!(matches!(server.handle(&mut &hello[..], find), ServerStep::Owed(_)));
            assert!(server.answer().is_some());
        }
        _ => {}
    }
    while let Some(mut piece) = input.piece() {
        while !piece.is_empty() {
            let before = piece.len();
            match server.handle(&mut piece, find) {
                ServerStep::More => assert!(piece.is_empty()),
                ServerStep::Reply(_) => assert!(piece.len() < before),
                ServerStep::Owed(_) => panic!("a tag without the key"),
                ServerStep::HangUp(_) => return,
                ServerStep::Refuse(refusal) => {
                    let bytes = refusal.bytes();
                    let status = if bytes.len() == 104 { bytes[0] } else { bytes[5] };
                    assert!(matches!((bytes.len(), status), (64 | 72, 1 | 2 | 8) | (104, 2 | 6)));
                    return;
                }
                ServerStep::Proved(_) => panic!("accepted without a proof"),
            }
        }
    }
}

fn noise_to_client(mut input: Input<'_>) {
    let key = &keys()[0];
    let (mut client, hello) = ClientHandshake::new(key, [4; 32]);
    let choice = input.byte() % 4;
    if choice == 1 && seal::IS_BUILT {
        return noise_to_sealed_client(input);
    }
    if choice == 0 {
        let mut server = ServerHandshake::new([3; 32], TAKES);
        let ServerStep::Reply(reply) = server.handle(&mut &hello[..], find) else {
            panic!("a right hello is refused");
        };
        assert!(matches!(client.handle(&mut &reply[..], key), ClientStep::ServerProved));
        assert!(client.prove(key, &Asked::default()).is_some());
    }
    while let Some(mut piece) = input.piece() {
        while !piece.is_empty() {
            match client.handle(&mut piece, key) {
                ClientStep::More => assert!(piece.is_empty()),
                ClientStep::ServerProved => panic!("a server without the key was taken for one that has it"),
                ClientStep::Failed { verified, .. } => return assert!(!verified),
                ClientStep::Accepted(_) => panic!("accepted without a proof"),
            }
        }
    }
}

fn noise_to_sealed_client(mut input: Input<'_>) {
    let (mut client, hello) = SealedClient::new(&keys()[0]).expect("the system has random numbers");
    if input.byte().is_multiple_of(2) {
        let mut server = ServerHandshake::new([3; 32], TAKES);
        assert!(matches!(server.handle(&mut &hello[..], find), ServerStep::Owed(_)));
        let reply = server.answer().expect("a right hello is answered");
        assert!(matches!(client.handle(&mut &reply[..]), ClientStep::ServerProved));
        assert!(client.prove(&Asked::default()).is_some());
    }
    while let Some(mut piece) = input.piece() {
        while !piece.is_empty() {
            match client.handle(&mut piece) {
                ClientStep::More => assert!(piece.is_empty()),
                ClientStep::ServerProved => panic!("a server without the key was taken for one that has it"),
                ClientStep::Failed { verified, .. } => return assert!(!verified),
                ClientStep::Accepted(_) => panic!("accepted without a proof"),
            }
        }
    }
}

/// A whole handshake over a link that flips bits and cuts as the input says.
fn changed_on_the_way(mut input: Input<'_>) {
    let mut masks = [vec![0; 48], vec![0; 72], vec![0; 72], vec![0; 104]];
    for _ in 0..input.byte() % 4 {
        let mask: &mut Vec<u8> = &mut masks[usize::from(input.byte() % 4)];
        let at = usize::from(input.byte()) % mask.len();
        mask[at] ^= input.byte();
    }
    // How many of the messages came through before the first that did not.
    let whole = masks.iter().take_while(|mask| mask.iter().all(|&byte| byte == 0)).count();
    let cut = usize::from(input.byte()).max(1);
    let terms = |input: &mut Input<'_>| Terms {
        window: 64 + (input.number() as u32 >> 2),
        max_message: input.number() as u32,
        grace: Grace(1 + (input.number() as u32 >> 1)),
    };
    let asked = Asked {
        session: SessionId([input.byte() | 1; 16]),
        offset: input.number(),
        terms: terms(&mut input),
        attempt: input.number() as u32,
    };
    let rights =
        Rights { interrupt: input.byte() % 2 == 1, send: input.channels(), receive: input.channels() };
    let granted = Granted { session: SessionId([9; 16]), offset: 3, terms: terms(&mut input), rights };

    let key = &keys()[1];
    let (mut client, hello) = ClientHandshake::new(key, [4; 32]);
    let mut server = ServerHandshake::new([3; 32], TAKES);
    let change = |message: &[u8], mask: &[u8]| -> Vec<u8> {
        message.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
    };

    let to_server = change(&hello, &masks[0]);
    let step = in_pieces(&to_server, cut, |piece| match server.handle(piece, find) {
        ServerStep::More => None,
        step => Some(step),
    });
    let Some(ServerStep::Reply(reply)) = step else { return assert!(whole < 1, "a right hello is refused") };
    let to_client = change(&reply, &masks[1]);
    let step = in_pieces(&to_client, cut, |piece| match client.handle(piece, key) {
        ClientStep::More => None,
        step => Some(step),
    });
    let Some(ClientStep::ServerProved) = step else { return assert!(whole < 2, "a right server is refused") };
    assert!(whole >= 2, "the client took what was changed");
    let proof = client.prove(key, &asked).expect("the server has proved its key");
    let to_server = change(&proof, &masks[2]);
    let step = in_pieces(&to_server, cut, |piece| match server.handle(piece, find) {
        ServerStep::More => None,
        step => Some(step),
    });
    let Some(ServerStep::Proved(mut proved)) = step else {
        return assert!(whole < 3, "a right proof is refused");
    };
    assert!(whole >= 3, "the server took what was changed");
    assert_eq!((proved.credential.0, proved.asked), (1, asked));
    let accept = change(&proved.accept(Ok(&granted)), &masks[3]);
    let step = in_pieces(&accept, cut, |piece| match client.handle(piece, key) {
        ClientStep::More => None,
        step => Some(step),
    });
    match step {
        Some(ClientStep::Accepted(told)) => {
            assert!(whole == 4, "the client took what was changed");
            assert_eq!(told, granted);
        }
        _ => assert!(whole < 4, "a right Accept is refused"),
    }
}

/// Hands a message over in pieces, until one of them makes something happen.
fn in_pieces<S>(message: &[u8], cut: usize, mut handle: impl FnMut(&mut &[u8]) -> Option<S>) -> Option<S> {
    message.chunks(cut).find_map(|mut piece| handle(&mut piece))
}
