//! Section 6: who may not resume a session, and that it disturbs nothing.

use std::io::Write;

use trunkline::{Access, Connection, Event as Happened, Events, Key, Receiver};

use super::library::*;
use super::refusals::assert_refused;
use crate::support::wire::*;

struct Session {
    server: Server,
    peer: RawPeer,
    connection: Connection,
    receiver: Receiver,
    events: Events,
}

impl Session {
    fn begin(server: Server) -> Self {
        let (mut peer, connection) = server.pair(server.client());
        let events = connection.events();
        let receiver = connection.receiver(channel(1)).unwrap();
        peer.send_data(1, false, b"hello");
        assert_eq!(take(&receiver), b"hello");
        connection.sender(channel(2)).unwrap().send("0123456789").unwrap();
        assert_eq!(peer.expect_message(2), b"0123456789");
        peer.expect_alive();
        Self { server, peer, connection, receiver, events }
    }

    /// A client with the right key and terms, and the next attempt.
    fn client(&self) -> ClientHandshake {
        let (session, heard) = (self.peer.session(), self.peer.heard());
        self.server.client().session(session, heard, self.peer.attempt + 1)
    }

    /// The old socket is the socket, and the session goes on over it.
    #[track_caller]
    fn assert_undisturbed(&mut self) {
        self.peer.send_data(1, false, b"undisturbed");
        assert_eq!(take(&self.receiver), b"undisturbed");
        self.peer.expect_alive();
        let disturbed = self.events.try_iter().find(|event| !matches!(event, Happened::Opened(_)));
        assert_eq!(disturbed, None);
    }

    /// Without a socket it is as it was, too.
    #[track_caller]
    fn assert_resumes(&mut self) {
        self.peer.cut();
        eventually("the outage is noticed", || self.connection.is_suspended());
        self.peer.resume(self.server.addr).unwrap();
        self.peer.send_data(1, false, b"again");
        assert_eq!(take(&self.receiver), b"again");
    }

    /// Refused while there is a socket and while there is none, and then the session goes on.
    #[track_caller]
    fn assert_refuses(&mut self, edit: impl Fn(&mut ClientProof), status: u8) {
        let ask = |this: &Self| {
            let mut client = this.client();
            edit(&mut client.proof);
            assert_refused(client, status);
        };
        ask(self);
        self.assert_undisturbed();
        self.peer.cut();
        eventually("the outage is noticed", || self.connection.is_suspended());
        ask(self);
        assert!(self.connection.is_suspended());
        self.peer.resume(self.server.addr).unwrap();
        self.events.try_iter().for_each(drop);
        self.assert_undisturbed();
    }
}

/// "A resuming ClientProof repeats the client's window, largest message and grace, and other values
/// are refused with status 6."
#[test]
fn other_terms_are_refused() {
    type Edit = fn(&mut ClientProof);
    let edits: [Edit; 8] = [
        |proof| proof.window += 1,
        |proof| proof.window = 0,
        |proof| proof.window = 1,
        |proof| proof.max_message -= 1,
        |proof| proof.max_message = 0,
        |proof| proof.grace += 1,
        |proof| proof.grace = 0,
        |proof| proof.grace = FOR_EVER,
    ];
    let mut session = Session::begin(Server::start(|config| config));
    for edit in edits {
        session.assert_refuses(edit, status::OUT_OF_RANGE);
    }
}

/// What is repeated is what was asked for, and not what was granted.
#[test]
fn the_grace_that_was_granted_is_no_term() {
    let server = Server::start(|config| config.resume_grace(std::time::Duration::from_secs(30)));
    let mut session = Session::begin(server);
    assert_eq!((session.peer.grace, session.peer.accept.grace), (60_000, 30_000));
    session.assert_refuses(|proof| proof.grace = 30_000, status::OUT_OF_RANGE);
    session.assert_resumes();
}

/// "An attempt whose number is not above the highest that the server has accepted for the session is
/// a late or doubled one: it is refused with status 6 on its own socket and disturbs nothing."
#[test]
fn a_late_attempt_is_refused() {
    let mut session = Session::begin(Server::start(|config| config));
    session.assert_refuses(|proof| proof.attempt = 0, status::OUT_OF_RANGE);
    session.peer.cut();
    session.peer.attempt = 6;
    session.peer.resume(session.server.addr).unwrap();
    session.events.try_iter().for_each(drop);
    for late in [0, 1, 6, 7] {
        assert_refused(
            {
                let mut client = session.client();
                client.proof.attempt = late;
                client
            },
            status::OUT_OF_RANGE,
        );
        session.assert_undisturbed();
    }
    session.assert_resumes();
}

/// Only what is accepted raises the number.
#[test]
fn a_refused_attempt_does_not_raise_the_number() {
    let mut session = Session::begin(Server::start(|config| config));
    session.assert_refuses(
        |proof| (proof.attempt, proof.window) = (FOR_EVER, proof.window + 1),
        status::OUT_OF_RANGE,
    );
    session.assert_refuses(
        |proof| (proof.attempt, proof.offset) = (FOR_EVER, proof.offset + 1_000_000),
        status::OUT_OF_RANGE,
    );
    session.assert_resumes();
}

/// Below it was acknowledged, and above it was never sent.
#[test]
fn an_offset_outside_what_is_unacknowledged_is_refused() {
    let mut session = Session::begin(Server::start(|config| config));
    session.peer.acknowledge();
    session.assert_undisturbed();
    session.assert_refuses(|proof| proof.offset = 0, status::OUT_OF_RANGE);
    session.assert_refuses(|proof| proof.offset += 1_000, status::OUT_OF_RANGE);
    session.assert_refuses(|proof| proof.offset = u64::MAX, status::OUT_OF_RANGE);
}

/// "The offsets in ClientProof and Accept count as ACKs."
#[test]
fn an_offset_that_was_accepted_is_an_ack() {
    let mut session = Session::begin(Server::start(|config| config));
    let peer = &mut session.peer;
    peer.auto_ack = false;
    peer.cut();
    peer.resume(session.server.addr).unwrap();
    let named = peer.heard();
    peer.expect_alive();
    let mut client = session.client();
    client.proof.offset = named - 1;
    assert_refused(client, status::OUT_OF_RANGE);
    let mut handshake = session.peer.come_back(session.server.addr);
    handshake.proof.offset = named;
    let accept = handshake.shake().unwrap();
    session.peer.go_on(handshake, &accept).unwrap();
    session.peer.expect_alive();
}

/// "A session belongs to the key that opened it, to its kind … and to its listener; any other hears
/// status 4."
#[test]
fn another_key_or_another_listener_does_not_know_the_session() {
    let (key, other) = (random(), random());
    let with_both = || config(&key).with_key(Key::from(other), Access::full());
    let mut session = Session::begin(Server::with_config(key, with_both()));
    let elsewhere = Server::with_config(key, with_both());
    let (id, heard) = (session.peer.session(), session.peer.heard());
    for suspended in [false, true] {
        if suspended {
            session.peer.cut();
            eventually("the outage is noticed", || session.connection.is_suspended());
        }
        let thief = ClientHandshake::new(session.server.addr, &other);
        assert_refused(thief.session(id, heard, 1), status::SESSION_UNKNOWN);
        assert_refused(elsewhere.client().session(id, heard, 1), status::SESSION_UNKNOWN);
        if !suspended {
            session.assert_undisturbed();
        }
    }
    session.peer.resume(session.server.addr).unwrap();
    session.events.try_iter().for_each(drop);
    session.assert_undisturbed();
}

/// Who has seen the id and has not the key gets nowhere, and neither does a recording.
#[test]
fn who_has_not_the_key_disturbs_nothing() {
    let mut session = Session::begin(Server::start(|config| config));
    // A resume, recorded on its way.
    let mut resume = session.peer.come_back(session.server.addr);
    let accept = resume.shake().unwrap();
    let (recorded, proof) = (resume.hello_bytes, resume.proof_bytes);
    session.peer.go_on(resume, &accept).unwrap();
    session.peer.expect_alive();
    session.events.try_iter().for_each(drop);

    let mut replay = session.server.client();
    replay.hello_bytes = recorded;
    replay.stream.write_all(&recorded).unwrap();
    replay.ignore_server_proof = true;
    replay.read_server_hello().unwrap();
    replay.proof_bytes = proof;
    replay.stream.write_all(&proof).unwrap();
    let refused = replay.read_accept().unwrap_err();
    assert_eq!(refused.refusal(), Some(status::NOT_AUTHORISED), "{refused}");
    session.assert_undisturbed();

    // The right id of the key, the right session, and a proof with another key.
    let mut forged = ClientHandshake::new(session.server.addr, &random()).session(
        session.peer.session(),
        session.peer.heard(),
        session.peer.attempt + 1,
    );
    forged.hello.key_id = key_id(&session.server.key);
    forged.ignore_server_proof = true;
    assert!(forged.finish().is_err());
    session.assert_undisturbed();
    session.assert_resumes();
}

/// "2 and 3 in an Accept end no session, do not raise the highest attempt": a proof that is wrong on
/// its way is tried again with the number that it had.
#[test]
fn a_proof_that_was_damaged_may_be_repeated() {
    let mut session = Session::begin(Server::start(|config| config));
    session.peer.cut();
    let mut damaged = session.client();
    damaged.flip_proof = Some((60, 1));
    assert_refused(damaged, status::NOT_AUTHORISED);
    session.peer.resume(session.server.addr).unwrap();
    assert_eq!(session.peer.attempt, 1);
    session.peer.expect_alive();
}
