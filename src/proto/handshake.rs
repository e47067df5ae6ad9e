//! The four messages and their proofs (protocol, section 1).
//!
//! Bytes in, bytes out. Each side collects one fixed-size message at a time in a fixed buffer and
//! allocates nothing for a peer that has proved nothing.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::error::HandshakeError;
use crate::id::ChannelSet;
use crate::key::Key;

const MAGIC: [u8; 4] = [0xF4, b'T', b'L', b'N'];
const VERSION: u8 = 1;

const CLIENT_HELLO: usize = 48;
const SERVER_HELLO: usize = 72;
const CLIENT_PROOF: usize = 64;
const ACCEPT: usize = 100;

/// The status byte of ServerHello and Accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    Ok,
    NoCommonVersion,
    NotAuthorised,
    TooBusy,
    SessionUnknown,
    SessionExpired,
    OffsetOutOfRange,
}

impl Status {
    const ALL: [Self; 7] = [
        Self::Ok,
        Self::NoCommonVersion,
        Self::NotAuthorised,
        Self::TooBusy,
        Self::SessionUnknown,
        Self::SessionExpired,
        Self::OffsetOutOfRange,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    pub(crate) fn error(self) -> Option<HandshakeError> {
        Some(match self {
            Self::Ok => return None,
            Self::NoCommonVersion => HandshakeError::NoCommonVersion,
            Self::NotAuthorised => HandshakeError::NotAuthorised,
            Self::TooBusy => HandshakeError::TooBusy,
            Self::SessionUnknown => HandshakeError::SessionUnknown,
            Self::SessionExpired => HandshakeError::SessionExpired,
            Self::OffsetOutOfRange => HandshakeError::OffsetOutOfRange,
        })
    }
}

/// The name of a session, random; zeros name none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct SessionId(pub(crate) [u8; 16]);

/// What one side tells the other about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) session: SessionId,
    /// How much of the other side's stream was received in that session.
    pub(crate) offset: u64,
    pub(crate) window: u32,
    pub(crate) max_message: u32,
}

/// What the server lets the client do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rights {
    pub(crate) interrupt: bool,
    pub(crate) send: ChannelSet,
    pub(crate) receive: ChannelSet,
}

/// A fixed-size message that is being collected.
#[derive(Debug)]
struct Collect<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Collect<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// Takes what it needs from the front of `input`; the message once it is whole.
    fn fill(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        let take = input.len().min(N - self.len);
        let (front, rest) = input.split_at(take);
        self.bytes[self.len..self.len + take].copy_from_slice(front);
        self.len += take;
        *input = rest;
        (self.len == N).then_some(self.bytes)
    }

    /// Whether what is there so far can be the beginning of a trunkline message.
    fn magic_fits(&self) -> bool {
        let len = self.len.min(MAGIC.len());
        self.bytes[..len] == MAGIC[..len]
    }
}

fn hmac(key: &Key, parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.bytes()).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

fn proof(key: &Key, parts: &[&[u8]]) -> [u8; 32] {
    hmac(key, parts).finalize().into_bytes().into()
}

fn proves(key: &Key, parts: &[&[u8]], tag: &[u8]) -> bool {
    // Compares in constant time.
    hmac(key, parts).verify_slice(tag).is_ok()
}

const SERVER: &[u8] = b"trunkline/1 server";
const CLIENT: &[u8] = b"trunkline/1 client";
const ACCEPTED: &[u8] = b"trunkline/1 accept";

fn write_terms(message: &mut [u8], terms: &Terms) {
    message[..16].copy_from_slice(&terms.session.0);
    message[16..24].copy_from_slice(&terms.offset.to_be_bytes());
    message[24..28].copy_from_slice(&terms.window.to_be_bytes());
    message[28..32].copy_from_slice(&terms.max_message.to_be_bytes());
}

fn read_terms(message: &[u8]) -> Terms {
    let field = |at: usize| u32::from_be_bytes(array(&message[at..]));
    Terms {
        session: SessionId(array(message)),
        offset: u64::from_be_bytes(array(&message[16..])),
        window: field(24),
        max_message: field(28),
    }
}

/// The first `N` bytes of a message whose size is known.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("a handshake message has a fixed size")
}

/// What the server side makes of its input.
#[derive(Debug)]
pub(crate) enum ServerStep {
    /// More bytes are needed.
    More,
    /// Send this and go on.
    Reply([u8; SERVER_HELLO]),
    /// Send this, if there is anything, and hang up.
    Refuse(Option<[u8; SERVER_HELLO]>),
    /// The client has proved key number `key` and asks for this; answer with `accept`.
    Proved { key: usize, terms: Terms },
    /// The client has not proved its key: send this and hang up.
    Unproved([u8; ACCEPT]),
}

#[derive(Debug)]
enum ServerState {
    Hello(Collect<CLIENT_HELLO>),
    Proof {
        key: usize,
        client_hello: [u8; CLIENT_HELLO],
        server_hello: [u8; SERVER_HELLO],
        proof: Collect<CLIENT_PROOF>,
    },
    Done {
        transcript: Transcript,
    },
}

#[derive(Clone, Debug)]
struct Transcript {
    client_hello: [u8; CLIENT_HELLO],
    server_hello: [u8; SERVER_HELLO],
    client_proof: [u8; CLIENT_PROOF],
}

/// The accepting side of one handshake.
#[derive(Debug)]
pub(crate) struct ServerHandshake {
    nonce: [u8; 32],
    state: ServerState,
}

impl ServerHandshake {
    /// `nonce` must be random and never used before.
    pub(crate) fn new(nonce: [u8; 32]) -> Self {
        Self { nonce, state: ServerState::Hello(Collect::new()) }
    }

    /// Takes what it needs from the front of `input`. `key` finds a key by number; it ends at the
    /// first number that has none.
    pub(crate) fn handle<'k>(
        &mut self,
        input: &mut &[u8],
        key: impl Fn(usize) -> Option<&'k Key>,
    ) -> ServerStep {
        match &mut self.state {
            ServerState::Hello(collect) => {
                let whole = collect.fill(input);
                if !collect.magic_fits() {
                    return ServerStep::Refuse(None);
                }
                let Some(hello) = whole else { return ServerStep::More };
                self.handle_hello(hello, key)
            }
            ServerState::Proof { key: number, client_hello, server_hello, proof } => {
                let Some(client_proof) = proof.fill(input) else { return ServerStep::More };
                let number = *number;
                let transcript =
                    Transcript { client_hello: *client_hello, server_hello: *server_hello, client_proof };
                let Some(key) = key(number) else { return ServerStep::Refuse(None) };
                let signed: &[&[u8]] =
                    &[CLIENT, &transcript.client_hello, &transcript.server_hello, &client_proof[..32]];
                let proved = proves(key, signed, &client_proof[32..]);
                self.state = ServerState::Done { transcript };
                if proved {
                    ServerStep::Proved { key: number, terms: read_terms(&client_proof) }
                } else {
                    let none =
                        Rights { interrupt: false, send: ChannelSet::EMPTY, receive: ChannelSet::EMPTY };
                    ServerStep::Unproved(self.accept(key, Status::NotAuthorised, &Terms::default(), &none))
                }
            }
            ServerState::Done { .. } => ServerStep::More,
        }
    }

    fn handle_hello<'k>(
        &mut self,
        hello: [u8; CLIENT_HELLO],
        key: impl Fn(usize) -> Option<&'k Key>,
    ) -> ServerStep {
        let mut reply = [0; SERVER_HELLO];
        reply[..4].copy_from_slice(&MAGIC);
        reply[4] = VERSION;
        reply[8..40].copy_from_slice(&self.nonce);
        let mut refuse = |status: Status| {
            reply[5] = status as u8;
            ServerStep::Refuse(Some(reply))
        };
        // Flags that version 1 does not have ask for something that this side cannot do.
        if !(hello[4]..=hello[5]).contains(&VERSION) || hello[6..8] != [0, 0] {
            return refuse(Status::NoCommonVersion);
        }
        let named: [u8; 8] = array(&hello[8..]);
        let found =
            (0..).map_while(|number| key(number).map(|key| (number, key))).find(|(_, key)| key.id() == named);
        let Some((number, key)) = found else {
            return refuse(Status::NotAuthorised);
        };
        let tag = proof(key, &[SERVER, &hello, &reply[..40]]);
        reply[40..].copy_from_slice(&tag);
        self.state = ServerState::Proof {
            key: number,
            client_hello: hello,
            server_hello: reply,
            proof: Collect::new(),
        };
        ServerStep::Reply(reply)
    }

    /// The Accept message that ends the handshake.
    pub(crate) fn accept(&self, key: &Key, status: Status, terms: &Terms, rights: &Rights) -> [u8; ACCEPT] {
        let mut message = [0; ACCEPT];
        message[0] = status as u8;
        message[1] = u8::from(rights.interrupt);
        write_terms(&mut message[4..36], terms);
        message[36..52].copy_from_slice(&rights.send.bits().to_be_bytes());
        message[52..68].copy_from_slice(&rights.receive.bits().to_be_bytes());
        if let ServerState::Done { transcript: t } = &self.state {
            let tag =
                proof(key, &[ACCEPTED, &t.client_hello, &t.server_hello, &t.client_proof, &message[..68]]);
            message[68..].copy_from_slice(&tag);
        }
        message
    }
}

/// What the client side makes of its input.
#[derive(Debug)]
pub(crate) enum ClientStep {
    /// More bytes are needed.
    More,
    /// Send this and go on.
    Reply([u8; CLIENT_PROOF]),
    /// The server has accepted.
    Accepted { terms: Terms, rights: Rights },
    /// It is over.
    Failed(HandshakeError),
}

#[derive(Debug)]
enum ClientState {
    Hello(Collect<SERVER_HELLO>),
    Accept { server_hello: [u8; SERVER_HELLO], client_proof: [u8; CLIENT_PROOF], accept: Collect<ACCEPT> },
    Done,
}

/// The connecting side of one handshake.
#[derive(Debug)]
pub(crate) struct ClientHandshake {
    hello: [u8; CLIENT_HELLO],
    terms: Terms,
    state: ClientState,
}

impl ClientHandshake {
    /// The handshake and its first message. `nonce` must be random and never used before.
    pub(crate) fn new(key: &Key, nonce: [u8; 32], terms: Terms) -> (Self, [u8; CLIENT_HELLO]) {
        let mut hello = [0; CLIENT_HELLO];
        hello[..4].copy_from_slice(&MAGIC);
        hello[4] = VERSION;
        hello[5] = VERSION;
        hello[8..16].copy_from_slice(&key.id());
        hello[16..].copy_from_slice(&nonce);
        (Self { hello, terms, state: ClientState::Hello(Collect::new()) }, hello)
    }

    /// Whether the server has proved that it has the key.
    pub(crate) fn is_proved(&self) -> bool {
        !matches!(self.state, ClientState::Hello(_))
    }

    /// Takes what it needs from the front of `input`.
    pub(crate) fn handle(&mut self, input: &mut &[u8], key: &Key) -> ClientStep {
        match &mut self.state {
            ClientState::Hello(collect) => {
                let whole = collect.fill(input);
                if !collect.magic_fits() {
                    return ClientStep::Failed(HandshakeError::NotTrunkline);
                }
                let Some(server_hello) = whole else { return ClientStep::More };
                match Status::from_byte(server_hello[5]) {
                    None => return ClientStep::Failed(HandshakeError::NotTrunkline),
                    Some(status) => {
                        if let Some(error) = status.error() {
                            return ClientStep::Failed(error);
                        }
                    }
                }
                if server_hello[4] != VERSION {
                    return ClientStep::Failed(HandshakeError::NoCommonVersion);
                }
                if !proves(key, &[SERVER, &self.hello, &server_hello[..40]], &server_hello[40..]) {
                    return ClientStep::Failed(HandshakeError::BadProof);
                }
                let mut client_proof = [0; CLIENT_PROOF];
                write_terms(&mut client_proof, &self.terms);
                let tag = proof(key, &[CLIENT, &self.hello, &server_hello, &client_proof[..32]]);
                client_proof[32..].copy_from_slice(&tag);
                self.state = ClientState::Accept { server_hello, client_proof, accept: Collect::new() };
                ClientStep::Reply(client_proof)
            }
            ClientState::Accept { server_hello, client_proof, accept } => {
                let Some(accept) = accept.fill(input) else { return ClientStep::More };
                let signed: &[&[u8]] =
                    &[ACCEPTED, &self.hello, &*server_hello, &*client_proof, &accept[..68]];
                if !proves(key, signed, &accept[68..]) {
                    // A server that takes the proof for wrong has the same key or none: with the
                    // same key its answer would be signed.
                    return ClientStep::Failed(HandshakeError::BadProof);
                }
                self.state = ClientState::Done;
                match Status::from_byte(accept[0]).map(Status::error) {
                    None => return ClientStep::Failed(HandshakeError::NotTrunkline),
                    Some(Some(error)) => return ClientStep::Failed(error),
                    Some(None) => {}
                }
                ClientStep::Accepted {
                    terms: read_terms(&accept[4..36]),
                    rights: Rights {
                        interrupt: accept[1] & 1 == 1,
                        send: ChannelSet::from_bits(u128::from_be_bytes(array(&accept[36..]))),
                        receive: ChannelSet::from_bits(u128::from_be_bytes(array(&accept[52..]))),
                    },
                }
            }
            ClientState::Done => ClientStep::More,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms { session: SessionId::default(), offset: 0, window: 1000, max_message: 2000 }
    }

    /// Runs both sides, `cut` bytes at a time.
    fn shake(
        client_key: &Key,
        server_keys: &[Key],
        cut: usize,
    ) -> (Option<usize>, Result<(Terms, Rights), HandshakeError>) {
        let (mut client, hello) = ClientHandshake::new(client_key, [1; 32], terms());
        let mut server = ServerHandshake::new([2; 32]);
        let mut to_server = hello.to_vec();
        let mut to_client = Vec::new();
        let rights = Rights { interrupt: true, send: ChannelSet::from_bits(5), receive: ChannelSet::ALL };
        let granted = Terms { session: SessionId([9; 16]), offset: 0, window: 7, max_message: 8 };
        let mut proved = None;
        for _ in 0..1000 {
            for piece in std::mem::take(&mut to_server).chunks(cut) {
                let mut input = piece;
                while !input.is_empty() {
                    match server.handle(&mut input, |n| server_keys.get(n)) {
                        ServerStep::More => {}
                        ServerStep::Reply(reply) | ServerStep::Refuse(Some(reply)) => to_client.extend(reply),
                        ServerStep::Refuse(None) => return (None, Err(HandshakeError::NotTrunkline)),
                        ServerStep::Unproved(reply) => to_client.extend(reply),
                        ServerStep::Proved { key, terms: asked } => {
                            assert_eq!(asked, terms());
                            proved = Some(key);
                            to_client.extend(server.accept(&server_keys[key], Status::Ok, &granted, &rights));
                        }
                    }
                }
            }
            for piece in std::mem::take(&mut to_client).chunks(cut) {
                let mut input = piece;
                while !input.is_empty() {
                    match client.handle(&mut input, client_key) {
                        ClientStep::More => {}
                        ClientStep::Reply(reply) => to_server.extend(reply),
                        ClientStep::Failed(error) => return (proved, Err(error)),
                        ClientStep::Accepted { terms, rights: told } => {
                            assert_eq!(told, rights);
                            assert_eq!(terms, granted);
                            return (proved, Ok((terms, told)));
                        }
                    }
                }
            }
        }
        panic!("the handshake hangs");
    }

    #[test]
    fn two_peers_with_one_key_come_together_however_the_bytes_are_cut() {
        let keys = [Key::from([3; 32]), Key::from([4; 32])];
        for cut in 1..=120 {
            let (proved, result) = shake(&keys[1], &keys, cut);
            assert_eq!(proved, Some(1));
            assert!(result.is_ok());
        }
    }

    #[test]
    fn another_key_is_not_authorised() {
        let (proved, result) = shake(&Key::from([5; 32]), &[Key::from([3; 32])], 1000);
        assert_eq!((proved, result), (None, Err(HandshakeError::NotAuthorised)));
    }

    #[test]
    fn http_and_tls_fail_at_their_first_byte() {
        for first in [b"G", b"\x16"] {
            let mut server = ServerHandshake::new([0; 32]);
            let step = server.handle(&mut &first[..], |_| None);
            assert!(matches!(step, ServerStep::Refuse(None)));
        }
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
            let (mut client, mut hello) = ClientHandshake::new(&key, [1; 32], terms());
            damage(0, &mut hello);
            let mut server = ServerHandshake::new([2; 32]);
            let ServerStep::Reply(mut reply) = server.handle(&mut &hello[..], |n| (n == 0).then_some(&key))
            else {
                return false;
            };
            damage(1, &mut reply);
            let ClientStep::Reply(mut client_proof) = client.handle(&mut &reply[..], &key) else {
                return false;
            };
            damage(2, &mut client_proof);
            let ServerStep::Proved { .. } =
                server.handle(&mut &client_proof[..], |n| (n == 0).then_some(&key))
            else {
                return false;
            };
            let rights = Rights { interrupt: false, send: ChannelSet::ALL, receive: ChannelSet::ALL };
            let mut accept = server.accept(&key, Status::Ok, &terms(), &rights);
            damage(3, &mut accept);
            matches!(client.handle(&mut &accept[..], &key), ClientStep::Accepted { .. })
        };
        assert!(accepts(None));
        for (number, size) in [CLIENT_HELLO, SERVER_HELLO, CLIENT_PROOF, ACCEPT].into_iter().enumerate() {
            for bit in 0..size * 8 {
                assert!(!accepts(Some((number, bit))), "message {number}, bit {bit}");
            }
        }
    }
}
