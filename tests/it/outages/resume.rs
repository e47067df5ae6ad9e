//! A connection outlives its socket (protocol, section 6).

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::{ask, status};
use crate::support::chaos::{Chaos, Cut};
use crate::support::line::{Line, eventually, next, on};
use crate::support::wire::{self, ClientHandshake, Noise, RawKey, RawPeer};
use crate::support::{LONG, free_address};
use trunkline::{
    ChannelId, ChannelSet, CloseCode, ConnectError, Connection, ConnectionError, Disconnect, Event, Fault,
    FlushError, HandshakeError, IoThread, Key, Listener, RecvError, RecvTimeoutError, SendError,
};

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);

#[test]
fn an_outage_is_nothing_but_two_events() {
    for cut in [Cut::Fin, Cut::Reset] {
        let line = Line::new(|config| config);
        let (sender, receiver) = (line.client.sender(A).unwrap(), line.server.receiver(A).unwrap());
        let (back, answers) = (line.server.sender(B).unwrap(), line.client.receiver(B).unwrap());
        let events = [line.client.events(), line.server.events()];
        sender.send("before").unwrap();
        assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"before");
        let blocked = thread::spawn(move || receiver.recv_timeout(LONG).map(|message| message.to_vec()));
        line.chaos.refuse(true);
        line.chaos.cut(cut);
        for events in &events {
            assert!(matches!(next(events), Event::Suspended { .. }));
        }
        assert!(line.client.is_suspended() && line.server.is_suspended());
        // What is sent waits.
        sender.send("during").unwrap();
        back.send("during, too").unwrap();
        thread::sleep(Duration::from_millis(200));
        line.chaos.refuse(false);
        for events in &events {
            match next(events) {
                Event::Resumed { after, attempts } => {
                    assert!(after >= Duration::from_millis(150) && attempts >= 1, "{after:?}, {attempts}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(blocked.join().unwrap().unwrap(), b"during");
        assert_eq!(&*answers.recv_timeout(LONG).unwrap(), b"during, too");
        assert!(!line.client.is_suspended() && !line.server.is_suspended());
        assert_eq!(line.client.close(CloseCode::NORMAL, ""), Ok(()));
    }
}

/// A link cut by silence, with no FIN and no RST: only the heartbeat notices.
#[test]
fn a_half_open_socket_is_noticed_and_resumed() {
    let line = Line::new(|config| config.heartbeat(Duration::from_millis(100), Duration::from_millis(300)));
    let (sender, receiver) = (line.client.sender(A).unwrap(), line.server.receiver(A).unwrap());
    let events = line.client.events();
    sender.send("1").unwrap();
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"1");
    line.chaos.cut(Cut::Silence);
    sender.send("2").unwrap();
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"2");
    assert!(matches!(next(&events), Event::Suspended { .. }));
    assert!(matches!(next(&events), Event::Resumed { .. }));
}

/// The peer's process was restarted: said at the first reconnect, not after the grace period.
#[test]
fn a_restarted_server_is_session_unknown_at_once() {
    let line = Line::new(|config| config.resume_grace(Duration::MAX));
    let restarted = Listener::bind(free_address(), on(line.key.clone())).unwrap();
    let events = line.client.events();
    let receiver = line.client.receiver(A).unwrap();
    let sender = line.client.sender(A).unwrap();
    line.chaos.lead_to(restarted.local_addr());
    let begun = Instant::now();
    line.chaos.cut(Cut::Reset);
    let cause = ConnectionError::SessionUnknown;
    assert_eq!(
        receiver.recv_timeout(LONG).unwrap_err(),
        RecvTimeoutError::Disconnected(RecvError::ConnectionLost(cause.clone()))
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(matches!(
        sender.send("x"),
        Err(SendError::Disconnected { cause: Disconnect::ConnectionLost(c), .. }) if c == cause
    ));
    assert!(matches!(next(&events), Event::Suspended { .. }));
    assert_eq!(next(&events), Event::Closed(cause.clone()));
    assert_eq!(line.client.close_reason(), Some(cause.clone()));
    assert_eq!(cause.fault(), Fault::Network);
}

#[test]
fn after_the_grace_period_everybody_hears_why() {
    let line = Line::new(|config| config.resume_grace(Duration::from_millis(500)));
    let (here, there) = (line.client.receiver(A).unwrap(), line.server.receiver(A).unwrap());
    // The server must have heard of the client, or the session counts for less.
    line.client.sender(A).unwrap().send("x").unwrap();
    assert_eq!(&*there.recv_timeout(LONG).unwrap(), b"x");
    assert!(matches!(
        there.recv_timeout(LONG).unwrap_err(),
        RecvTimeoutError::Disconnected(RecvError::Finished)
    ));
    line.chaos.refuse(true);
    line.chaos.cut(Cut::Reset);
    let cause = |end| match end {
        RecvTimeoutError::Disconnected(RecvError::ConnectionLost(cause)) => cause,
        other => panic!("{other:?}"),
    };
    assert_eq!(cause(here.recv_timeout(LONG).unwrap_err()), ConnectionError::PeerUnreachable);
    assert_eq!(cause(there.recv_timeout(LONG).unwrap_err()), ConnectionError::SessionExpired);
}

#[test]
fn a_client_that_comes_too_late_is_told_so() {
    let key = Key::generate();
    let grace = Duration::from_millis(200);
    // The server soon notices that the link is silent; the client waits, and has the whole of its
    // grace period when it notices.
    let config = on(key.clone()).resume_grace(grace);
    let impatient = config.heartbeat(Duration::from_millis(20), Duration::from_millis(100));
    let listener = Listener::bind(free_address(), impatient).unwrap();
    let chaos = Chaos::new(listener.local_addr());
    let client = Connection::connect(chaos.addr, on(key)).unwrap();
    let server = listener.accept().unwrap();
    client.sender(A).unwrap().send("x").unwrap();
    server.receiver(A).unwrap().recv_timeout(LONG).unwrap();
    chaos.cut(Cut::Silence);
    eventually("the session expires", || server.close_reason().is_some());
    chaos.cut(Cut::Reset);
    eventually("the client hears of it", || client.close_reason().is_some());
    assert_eq!(client.close_reason(), Some(ConnectionError::SessionExpired));
}

/// Zero on the listener turns it off for both.
#[test]
fn without_a_grace_period_a_lost_socket_is_the_end_for_both() {
    let key = Key::generate();
    let listener = Listener::bind(free_address(), on(key.clone()).resume_grace(Duration::ZERO)).unwrap();
    let chaos = Chaos::new(listener.local_addr());
    let client = Connection::connect(chaos.addr, on(key)).unwrap();
    let server = listener.accept().unwrap();
    chaos.cut(Cut::Reset);
    for end in [&client, &server] {
        eventually("it is over", || end.close_reason().is_some());
        // The client learns it when it comes back.
        let cause = end.close_reason();
        assert!(
            matches!(cause, Some(ConnectionError::Lost { .. } | ConnectionError::SessionUnknown)),
            "{cause:?}"
        );
    }
}

/// The limit of what is kept for replay holds back data only, never the ACK that would make room.
#[test]
fn two_peers_with_full_replay_buffers_go_on() {
    let line = Line::new(|config| config.replay_limit(256 << 10).send_queue(4096));
    let ways = [(&line.client, &line.server), (&line.server, &line.client)];
    thread::scope(|scope| {
        for (from, to) in ways {
            scope.spawn(move || {
                let sender = from.sender(A).unwrap();
                for number in 0..100u32 {
                    sender.send([&number.to_be_bytes()[..], &[7; 200_000]].concat()).unwrap();
                }
            });
            let receiver = to.receiver(A).unwrap();
            scope.spawn(move || {
                for number in 0..100u32 {
                    assert_eq!(receiver.recv_timeout(LONG).unwrap()[..4], number.to_be_bytes());
                }
            });
        }
    });
}

#[test]
fn close_during_an_outage_waits_for_the_link_and_says_how_it_went() {
    for heals in [true, false] {
        let line = Line::new(|config| config.linger(Duration::from_secs(if heals { 30 } else { 1 })));
        let (sender, receiver) = (line.client.sender(A).unwrap(), line.server.receiver(A).unwrap());
        line.chaos.refuse(true);
        line.chaos.cut(Cut::Reset);
        eventually("the outage is noticed", || line.client.is_suspended());
        sender.send("the last words").unwrap();
        let chaos = &line.chaos;
        let begun = Instant::now();
        let closed = thread::scope(|scope| {
            if heals {
                scope.spawn(|| {
                    thread::sleep(Duration::from_millis(300));
                    chaos.refuse(false);
                });
            }
            line.client.close(CloseCode::NORMAL, "")
        });
        if heals {
            assert_eq!(closed, Ok(()));
            assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"the last words");
        } else {
            assert!(closed.is_err());
            let waited = begun.elapsed();
            assert!(waited > Duration::from_millis(900) && waited < Duration::from_secs(5), "{waited:?}");
        }
    }
}

#[test]
fn flush_waits_until_the_peer_has_everything() {
    let line = Line::new(|config| config.window(8192));
    let soon = Duration::from_millis(300);
    let (sender, receiver) = (line.client.sender(A).unwrap(), line.server.receiver(A).unwrap());
    assert_eq!(line.client.flush_timeout(LONG), Ok(()), "nothing was sent");
    sender.send("x").unwrap();
    let begun = Instant::now();
    assert_eq!(line.client.flush_timeout(LONG), Ok(()));
    assert!(begun.elapsed() < Duration::from_millis(150), "{:?}: that was the ACK", begun.elapsed());
    // What waits for credit counts as well.
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"x");
    sender.send([1; 3000]).unwrap();
    sender.send([2; 10_000]).unwrap();
    assert_eq!(line.client.flush_timeout(LONG), Ok(()));
    assert_eq!(*receiver.recv_timeout(LONG).unwrap(), [1; 3000]);
    assert_eq!(*receiver.recv_timeout(LONG).unwrap(), [2; 10_000]);
    // During an outage nobody confirms anything, and after it they do.
    line.chaos.refuse(true);
    line.chaos.cut(Cut::Reset);
    eventually("the outage is noticed", || line.client.is_suspended());
    sender.send("y").unwrap();
    assert_eq!(line.client.flush_timeout(soon), Err(FlushError::Suspended));
    line.chaos.refuse(false);
    assert_eq!(line.client.flush_timeout(LONG), Ok(()));
    line.server.close(CloseCode::NORMAL, "").unwrap();
    eventually("the client hears of it", || line.client.close_reason().is_some());
    assert!(matches!(line.client.flush_timeout(LONG), Err(FlushError::ConnectionLost(_))));
}

/// Sessions without a socket are kept within limits, the one that waits for longest goes first.
#[test]
fn too_many_suspended_sessions_make_room() {
    let key = Key::generate();
    let config = || on(key.clone());
    let listener = Listener::bind(free_address(), config().max_suspended(2, 1 << 19)).unwrap();
    let chaos = Chaos::new(listener.local_addr());
    let mut pairs = Vec::new();
    for _ in 0..3 {
        let client = Connection::connect(chaos.addr, config()).unwrap();
        let server = listener.accept().unwrap();
        client.sender(A).unwrap().send("x").unwrap();
        server.receiver(A).unwrap().recv_timeout(LONG).unwrap();
        pairs.push((client, server));
    }
    chaos.refuse(true);
    chaos.cut(Cut::Reset);
    eventually("one goes", || pairs.iter().any(|(_, server)| server.close_reason().is_some()));
    eventually("two wait", || pairs.iter().filter(|(_, server)| server.is_suspended()).count() >= 2);
    let expired = pairs.iter().filter(|(_, server)| server.close_reason().is_some());
    assert_eq!(
        expired.map(|(_, server)| server.close_reason()).collect::<Vec<_>>(),
        [Some(ConnectionError::SessionExpired)]
    );
    // What one holds counts as well.
    let (_, server) = pairs.iter().find(|(_, server)| server.close_reason().is_none()).unwrap();
    let sender = server.sender(B).unwrap();
    while sender.try_send([0; 50_000]).is_ok() {}
    eventually("bytes are counted", || pairs.iter().filter(|(_, s)| s.close_reason().is_some()).count() > 1);
}

// ---------------------------------------------------------------------------
// On the wire

fn raw(key: &RawKey) -> Key {
    Key::from(*key)
}

/// A client from the protocol's page alone goes on at any offset that it names, mid-frame too; who
/// names one out of range, or proves another key, is refused and disturbs nobody.
#[test]
fn a_session_goes_on_at_exactly_the_offset() {
    let (key, other): (RawKey, RawKey) = (wire::random(), wire::random());
    let config = on(raw(&key)).with_key(raw(&other), trunkline::Access::full()).no_heartbeat();
    let listener = Listener::bind(free_address(), config).unwrap();
    let addr = listener.local_addr();
    let mut peer = RawPeer::connect(addr, &key);
    let session = peer.accept.session;
    let server = listener.accept().unwrap();
    let events = server.events();
    peer.send_data(1, false, b"hello");
    let heard = server.receiver(A).unwrap();
    assert_eq!(&*heard.recv_timeout(LONG).unwrap(), b"hello");
    let sender = server.sender(B).unwrap();
    sender.send("0123456789").unwrap();
    assert_eq!(peer.expect_message(2), b"0123456789");
    let sent = peer.sent;
    peer.expect_acked(sent);
    let received = peer.received;

    // Others cannot, and nothing happens.
    assert_eq!(status(ask(addr, &other, session, received, 1)), wire::status::SESSION_UNKNOWN);
    assert_eq!(status(ask(addr, &key, session, received + 1000, 1)), 6);
    assert_eq!(status(ask(addr, &key, session, u64::MAX, 1)), 6);
    peer.expect_alive();
    assert!(events.try_iter().all(|event| !matches!(event, Event::Suspended { .. })));
    let received = peer.received;
    let sent = peer.sent;

    // From the middle of the data frame, while the old socket is still there: it is let go of.
    let mut resumed = peer.come_back(addr);
    resumed.proof.offset = received - 5;
    let accept = resumed.shake().unwrap();
    assert_eq!((accept.session, accept.offset), (session, sent));
    let mut old = peer.stream.try_clone().unwrap();
    peer.go_on(resumed, &accept).unwrap();
    wire::read_to_end_by(&mut old, Instant::now() + LONG).unwrap();
    // What it acknowledged once, by an offset, it cannot ask for again.
    assert_eq!(status(ask(addr, &key, session, received - 6, 2)), 6);
    // The session goes on in both directions.
    peer.send_data(1, false, b"again");
    assert_eq!(&*heard.recv_timeout(LONG).unwrap(), b"again");
    sender.send("more").unwrap();
    assert_eq!(peer.expect_message(2), b"more");
}

#[test]
fn of_two_resumes_at_once_exactly_one_wins() {
    let key: RawKey = wire::random();
    let listener = Listener::bind(free_address(), on(raw(&key))).unwrap();
    let addr = listener.local_addr();
    let mut peer = RawPeer::connect(addr, &key);
    let session = peer.accept.session;
    let server = listener.accept().unwrap();
    peer.send_data(1, false, b"x");
    let receiver = server.receiver(A).unwrap();
    receiver.recv_timeout(LONG).unwrap();
    drop(peer);
    let peers: Vec<_> = thread::scope(|scope| {
        let asking: Vec<_> =
            (1..=8).map(|attempt| scope.spawn(move || ask(addr, &key, session, 0, attempt))).collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let mut alive = 0;
    for mut peer in peers.into_iter().flatten() {
        peer.try_send_bytes(&wire::ping(7));
        alive += usize::from(
            peer.wait_for(Duration::from_secs(5), |event| matches!(event, wire::Event::Pong(7))).is_ok(),
        );
    }
    assert_eq!(alive, 1);
    assert_eq!(server.close_reason(), None);
}

/// A client whose handshake is cut before it has the Accept is kept for its grace period, because it
/// may have read it; it is never offered, and leaves nothing behind.
#[test]
fn a_client_that_never_spoke_is_soon_forgotten() {
    let key: RawKey = wire::random();
    let config = on(raw(&key)).resume_grace(Duration::from_millis(300));
    let listener = Listener::bind(free_address(), config).unwrap();
    let ghost = ClientHandshake::new(listener.local_addr(), &key).silent().finish().unwrap();
    let session = ghost.accept.session;
    drop(ghost);
    thread::sleep(Duration::from_millis(1000));
    assert_eq!(status(ask(listener.local_addr(), &key, session, 0, 1)), wire::status::SESSION_UNKNOWN);
    // Nor is it accepted any more.
    let mut real = RawPeer::connect(listener.local_addr(), &key);
    real.send_data(1, false, b"real");
    let server = listener.accept().unwrap();
    assert_eq!(&*server.receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"real");
}

// ---------------------------------------------------------------------------
// Everything at once

/// Echoes every channel until the client has finished.
fn echo(server: &Connection) {
    thread::scope(|scope| {
        for pair in 0..8u8 {
            let channels: ChannelSet = (pair..128).step_by(8).map(ChannelId::new).collect();
            scope.spawn(move || {
                let receiver = server.receiver(channels).unwrap();
                let senders: Vec<_> =
                    channels.iter().map(|channel| server.sender(channel).unwrap()).collect();
                while let Ok(message) = receiver.recv() {
                    let at = senders.iter().position(|sender| sender.channel() == message.channel()).unwrap();
                    senders[at].send_bytes(message.into_bytes()).unwrap();
                }
            });
        }
    });
}

/// 128 channels, 8 threads each way, every byte checked, while the link is cut again and again.
#[test]
fn hundreds_of_cuts_lose_and_repeat_nothing() {
    let seed = std::env::var("TRUNKLINE_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from_be_bytes(wire::random()));
    let cuts = std::env::var("TRUNKLINE_CHAOS_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(200);
    let key = Key::generate();
    let config = || {
        on(key.clone())
            .heartbeat(Duration::from_millis(100), Duration::from_millis(400))
            .handshake_timeout(Duration::from_millis(500))
    };
    // The server is more patient, so that a slow handshake leaves nothing undecided for it.
    let listener = Listener::bind(free_address(), config()).unwrap();
    let chaos = Chaos::with_seed(listener.local_addr(), seed);
    let client = Connection::connect(chaos.addr, config()).unwrap();
    let server = listener.accept().unwrap();
    chaos.rough(60_000);
    chaos.cut(Cut::Reset);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| echo(&server));
        let mut threads = Vec::new();
        for pair in 0..8u8 {
            let channels: ChannelSet = (pair..128).step_by(8).map(ChannelId::new).collect();
            let (client, done, chaos) = (&client, &done, &chaos);
            threads.push(scope.spawn(move || {
                let receiver = client.receiver(channels).unwrap();
                let senders: Vec<_> =
                    channels.iter().map(|channel| client.sender(channel).unwrap()).collect();
                let mut noise = Noise(u64::from(pair));
                let mut round = 0u64;
                while chaos.cuts() < cuts && !done.load(SeqCst) {
                    let mut sent = Vec::new();
                    for sender in &senders {
                        let size = noise.below(if round.is_multiple_of(5) { 9000 } else { 300 });
                        let mut message = round.to_be_bytes().to_vec();
                        message.extend(noise.bytes(size));
                        sender.send(&message).unwrap();
                        sent.push(message);
                    }
                    for _ in &senders {
                        let message = receiver.recv_timeout(LONG).unwrap();
                        let at =
                            senders.iter().position(|sender| sender.channel() == message.channel()).unwrap();
                        assert!(*message == *sent[at], "channel {}, round {round}", message.channel());
                    }
                    round += 1;
                }
                round
            }));
        }
        let rounds: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        done.store(true, SeqCst);
        chaos.calm();
        assert_eq!(client.close(CloseCode::NORMAL, ""), Ok(()));
        println!("{} cuts, rounds {rounds:?}", chaos.cuts());
        assert!(rounds.iter().all(Result::is_ok));
    });
}

/// Cut after every number of bytes of the handshake of a resume, and a little more, in either
/// direction.
#[test]
fn a_resume_that_is_cut_anywhere_is_tried_again() {
    let line = Line::new(|config| config);
    let (sender, receiver) = (line.client.sender(A).unwrap(), line.server.receiver(A).unwrap());
    let (back, answers) = (line.server.sender(B).unwrap(), line.client.receiver(B).unwrap());
    let mut number = 0u32;
    for budget in (0..=140).map(|n| [n, u64::MAX]).chain((0..=200).map(|n| [u64::MAX, n])) {
        line.chaos.plan([budget]);
        line.chaos.cut(Cut::Reset);
        number += 1;
        sender.send([&number.to_be_bytes()[..], &[1; 100]].concat()).unwrap();
        back.send([&number.to_be_bytes()[..], &[2; 100]].concat()).unwrap();
        for receiver in [&receiver, &answers] {
            let message = receiver.recv_timeout(LONG).unwrap();
            assert_eq!((&message[..4], message.len()), (&number.to_be_bytes()[..], 104), "{budget:?}");
        }
    }
    let _ = &line.listener;
}

/// The first handshake is cut after every number of bytes, and a little more, in either direction:
/// the client tries again, and the server has exactly one connection of it.
#[test]
fn a_first_connect_that_is_cut_anywhere_is_tried_again() {
    let cuts = |n| [[n, u64::MAX], [u64::MAX, n]];
    thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || {
                let key = Key::generate();
                let config = || on(key.clone()).handshake_timeout(Duration::from_secs(20));
                let listener = Listener::bind(free_address(), config()).unwrap();
                let chaos = Chaos::new(listener.local_addr());
                let mut number = 0u32;
                for budget in (0..=200).skip(part).step_by(4).flat_map(cuts) {
                    chaos.plan([budget]);
                    let client = Connection::connect(chaos.addr, config()).unwrap();
                    // A ghost would be the one that is accepted, and never say a word.
                    let server = listener.accept().unwrap();
                    number += 1;
                    client.sender(A).unwrap().send(number.to_be_bytes()).unwrap();
                    let heard = server.receiver(A).unwrap().recv_timeout(LONG);
                    assert_eq!(heard.as_deref(), Ok(&number.to_be_bytes()[..]), "{budget:?}");
                    // Whatever becomes of the CLOSE and its answer, the peer has everything.
                    assert_eq!(client.flush_timeout(LONG), Ok(()), "{budget:?}");
                    assert_eq!(client.close(CloseCode::NORMAL, ""), Ok(()), "{budget:?}");
                }
            });
        }
    });
}

/// Cut in the middle of the handshake, and refused the next time: the refusal is what is told.
#[test]
fn a_refusal_after_a_cut_handshake_is_told_at_once() {
    let key = Key::generate();
    let (right, wrong) = (on(key.clone()), on(Key::generate()));
    let listeners = [right, wrong].map(|config| Listener::bind(free_address(), config).unwrap());
    let chaos = Chaos::new(listeners[0].local_addr());
    chaos.plan([[u64::MAX, 100]]);
    chaos.then_lead_to(listeners[1].local_addr());
    let refused = Connection::connect(chaos.addr, on(key)).unwrap_err();
    assert!(matches!(refused, ConnectError::Handshake(HandshakeError::NotAuthorised)), "{refused}");
}

/// Who always hangs up is no trunkline server, or has no time: the client does not insist for long.
#[test]
fn a_server_that_always_hangs_up_is_reported() {
    let listener = TcpListener::bind(free_address()).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    let config = on(Key::generate()).connect_timeout(Duration::from_secs(3600));
    let failed = Connection::connect(addr, config).unwrap_err();
    assert!(matches!(failed, ConnectError::Handshake(HandshakeError::Disconnected)), "{failed}");
}

/// Nobody listens where the kernel was: the connection tries until its time is over.
#[test]
fn a_server_that_is_gone_is_unreachable() {
    let thread = IoThread::new().unwrap();
    let key = Key::generate();
    let gone = TcpListener::bind(free_address()).unwrap().local_addr().unwrap();
    let listener = Listener::bind(free_address(), on(key.clone()).io_thread(&thread)).unwrap();
    let chaos = Chaos::new(listener.local_addr());
    let config = on(key).resume_grace(Duration::from_millis(700));
    let client = Connection::connect(chaos.addr, config).unwrap();
    chaos.lead_to(gone);
    chaos.cut(Cut::Reset);
    eventually("it gives up", || client.close_reason().is_some());
    assert_eq!(client.close_reason(), Some(ConnectionError::PeerUnreachable));
}
