//! The end (protocol, section 7).

use super::*;

const CHANNEL: ChannelId = ChannelId::new(1);

/// Lets everything arrive.
fn run(pair: &mut Pair) {
    for _ in 0..200 {
        for peer in &mut pair.peers {
            peer.pump(pair.now);
        }
        for from in 0..2 {
            while pair.arrive(from, 777, false) {}
        }
        pair.peers[1].read(CHANNEL, usize::MAX);
    }
}

/// Trap 9: what was accepted goes out before the CLOSE, also what waits for credit.
#[test]
fn close_goes_behind_what_was_accepted() {
    let mut pair = Pair::new([2000; 2], 100_000);
    pair.peers[0].send(CHANNEL, vec![1; 50_000], false);
    pair.peers[0].finish(CHANNEL);
    pair.peers[0].close(CloseCode::application(3), "done");
    let accepted = pair.peers[0].accepted.clone();
    run(&mut pair);
    assert_eq!(pair.peers[1].read, accepted);
    let closed = ConnectionError::ClosedByPeer { code: CloseCode::application(3), reason: "done".into() };
    assert_eq!(pair.peers[1].session.ended(), Some(&closed));
    for peer in &pair.peers {
        assert!(peer.session.close_said() && peer.session.close_received());
        assert!(peer.session.is_done_sending() && peer.session.is_confirmed());
    }
    assert!(pair.peers[0].session.is_delivered());
}

#[test]
fn both_sides_that_close_at_once_are_both_confirmed() {
    for resumable in [false, true] {
        let mut pair = Pair::with([2000; 2], 100_000, |settings| settings.resumable = resumable);
        for (number, peer) in pair.peers.iter_mut().enumerate() {
            peer.send(CHANNEL, vec![number as u8; 100], false);
            peer.close(CloseCode::NORMAL, "");
            peer.pump(pair.now);
        }
        run(&mut pair);
        for peer in &pair.peers {
            assert!(peer.session.is_delivered(), "{:?}", peer.session);
        }
    }
}

/// The other's CLOSE proves nothing when both close at the same moment on a link that stalls.
#[test]
fn a_close_that_crosses_ours_confirms_nothing() {
    let mut pair = Pair::new([2000; 2], 100_000);
    pair.peers[0].send(CHANNEL, b"never arrives".to_vec(), false);
    for peer in &mut pair.peers {
        peer.close(CloseCode::NORMAL, "");
        peer.pump(pair.now);
    }
    // Only what the second says comes through.
    while pair.arrive(1, 777, false) {}
    pair.peers[0].pump(pair.now);
    assert!(pair.peers[0].session.close_received());
    assert!(!pair.peers[0].session.is_confirmed() && !pair.peers[0].session.is_delivered());
}

#[test]
fn what_an_answering_side_has_not_sent_is_not_delivered() {
    let mut pair = Pair::new([2000; 2], 100_000);
    pair.peers[1].send(CHANNEL, vec![1; 50_000], false);
    pair.pump();
    pair.peers[0].close(CloseCode::NORMAL, "");
    run(&mut pair);
    let answering = &pair.peers[1].session;
    assert!(answering.is_confirmed() && !answering.is_delivered());
}

/// One control frame after the other, alone.
fn after_close(control: &Control) -> Peer {
    let mut pair = Pair::new([2000; 2], 100_000);
    let mut bytes = Vec::new();
    Control::Close { code: CloseCode::NORMAL, reason: String::new() }.encode(&mut bytes);
    control.encode(&mut bytes);
    let [mut peer, _] = pair.peers;
    peer.session.handle_input(pair.now, &mut &bytes[..], &mut Budget::pass(), &mut peer.mailbox);
    peer.pump(pair.now);
    pair.now += Duration::from_millis(1);
    peer
}

#[test]
fn only_acks_may_follow_a_close() {
    let fine = after_close(&Control::Ack(0));
    assert!(matches!(fine.session.ended(), Some(ConnectionError::ClosedByPeer { .. })));
    assert!(fine.session.close_said() && !fine.session.is_broken());
    for control in [
        Control::Ping(1),
        Control::Interrupt,
        Control::Extension,
        Control::End { channel: CHANNEL, end: End::Finish },
        Control::Close { code: CloseCode::NORMAL, reason: String::new() },
    ] {
        let peer = after_close(&control);
        let ended = peer.session.ended();
        assert!(
            matches!(ended, Some(ConnectionError::ProtocolViolation { code: CloseCode::PROTOCOL_ERROR, .. })),
            "{control:?}: {ended:?}"
        );
    }
}

#[test]
fn a_side_that_has_said_close_closes_unconfirmed_when_the_peer_breaks_the_rules() {
    let mut pair = Pair::new([2000; 2], 100_000);
    pair.peers[0].close(CloseCode::NORMAL, "");
    pair.peers[0].pump(pair.now);
    let mut bytes = Vec::new();
    Control::Close { code: CloseCode::NORMAL, reason: String::new() }.encode(&mut bytes);
    Control::Ping(1).encode(&mut bytes);
    pair.peers[1].wire = bytes.into();
    while pair.arrive(1, 1000, false) {}
    pair.peers[0].pump(pair.now);
    assert!(pair.peers[0].session.is_broken() && !pair.peers[0].session.is_delivered());
}

#[test]
fn a_side_that_has_said_close_neither_asks_nor_answers() {
    let mut pair = Pair::with([2000; 2], 100_000, |settings| settings.resumable = true);
    pair.peers[0].close(CloseCode::NORMAL, "");
    pair.peers[0].pump(pair.now);
    pair.peers[0].wire.clear();
    let mut ping = Vec::new();
    Control::Ping(1).encode(&mut ping);
    pair.peers[1].wire = ping.into();
    while pair.arrive(1, 1000, false) {}
    pair.peers[0].pump(pair.now);
    pair.now += Duration::from_secs(60);
    pair.peers[0].session.handle_timeout(pair.now).unwrap();
    pair.peers[0].pump(pair.now);
    let mut ack = Vec::new();
    Control::Ack(13).encode(&mut ack);
    assert!(pair.peers[0].wire.iter().eq(&ack), "{:?}", pair.peers[0].wire);
}

/// Heartbeats and flushes share the PINGs: the answer to one never stands for a later one, and a
/// heartbeat takes nothing from a flush.
#[test]
fn a_heartbeat_and_a_flush_do_not_overwrite_each_other() {
    let mut pair = Pair::with([2000; 2], 100_000, |settings| settings.resumable = true);
    pair.peers[0].send(CHANNEL, b"first".to_vec(), false);
    let flush = |peer: &mut Peer, ticket| {
        let mark = peer.outbound.mark();
        peer.flushes.push(Flush { ticket, mark, offset: None });
    };
    flush(&mut pair.peers[0], 1);
    pair.peers[0].pump(pair.now);
    // The heartbeat asks too, before the first question is answered.
    pair.now += Duration::from_secs(11);
    pair.peers[0].session.handle_timeout(pair.now).unwrap();
    pair.peers[0].send(CHANNEL, b"second".to_vec(), false);
    flush(&mut pair.peers[0], 2);
    pair.peers[0].pump(pair.now);
    assert_eq!(pair.peers[0].flushes.len(), 2);
    for from in [0, 1] {
        while pair.arrive(from, 1000, false) {}
        for peer in &mut pair.peers {
            peer.pump(pair.now);
        }
    }
    assert!(pair.peers[0].flushes.is_empty(), "{:?}", pair.peers[0].flushes);
}
