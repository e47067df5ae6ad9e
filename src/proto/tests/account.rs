//! What a peer can make this side hold.

use super::*;

const CHANNEL: ChannelId = ChannelId::new(1);

fn feed(pair: &mut Pair, bytes: Vec<u8>) {
    pair.peers[1].wire.extend(bytes);
    while pair.arrive(1, 1000, false) {}
    pair.peers[0].pump(pair.now);
}

/// Trap 7: however many PINGs come, one PONG is owed.
#[test]
fn many_pings_are_one_pong() {
    let mut pair = Pair::new([5000; 2], 10_000);
    let mut bytes = Vec::new();
    for number in 0..10_000 {
        Control::Ping(number).encode(&mut bytes);
    }
    feed(&mut pair, bytes);
    let mut expected = Vec::new();
    Control::Pong(9_999).encode(&mut expected);
    assert!(pair.peers[0].wire.iter().eq(&expected));
}

/// Trap 7 again: runs without data cost no credit, so their ends must not pile up.
#[test]
fn ends_of_empty_runs_are_merged_and_the_last_is_kept() {
    let mut pair = Pair::new([5000; 2], 10_000);
    let mut bytes = Vec::new();
    for number in 0..10_000 {
        Control::End { channel: CHANNEL, end: End::Reset(number) }.encode(&mut bytes);
    }
    feed(&mut pair, bytes);
    assert!(pair.peers[0].mailbox.unread[&CHANNEL].len() <= 16);
    assert_eq!(pair.peers[0].session.inbound().run(CHANNEL), 10_000, "merged ends count each");
    pair.peers[0].read(CHANNEL, usize::MAX);
    pair.peers[0].pump(pair.now);
    pair.peers[0].read(CHANNEL, usize::MAX);
    let read = &pair.peers[0].read[&CHANNEL];
    assert_eq!((read.len(), read.last()), (17, Some(&Got::End(End::Reset(9_999)))));
}

#[test]
fn gaps_among_merged_ends_are_one_before_the_merged_end() {
    let mut pair = Pair::new([5000; 2], 10_000);
    let mut bytes = Vec::new();
    for _ in 0..5_000 {
        Control::Gap { channel: CHANNEL, messages: 2, bytes: u64::MAX / 100 }.encode(&mut bytes);
        Control::End { channel: CHANNEL, end: End::Finish }.encode(&mut bytes);
    }
    bytes.extend(Word::data(CHANNEL, false, 1).to_bytes());
    bytes.push(7);
    feed(&mut pair, bytes);
    pair.peers[0].read(CHANNEL, usize::MAX);
    let read = &pair.peers[0].read[&CHANNEL];
    let messages: u64 =
        read.iter().map(|got| if let Got::Gap(messages, _) = got { *messages } else { 0 }).sum();
    assert_eq!(messages, 10_000, "none is lost");
    assert!(read.len() < 25, "{}", read.len());
    let last = &read[read.len() - 3..];
    let expected = [Got::Gap(10_000 - 16, u64::MAX), Got::End(End::Finish), Got::Message(vec![7])];
    assert_eq!(last, expected);
}

/// The ends of runs in which something was said are told each, whatever waits.
#[test]
fn ends_of_runs_with_messages_are_never_merged() {
    let mut pair = Pair::new([100_000; 2], 10_000);
    let mut bytes = Vec::new();
    for number in 0..1_000 {
        bytes.extend(Word::data(CHANNEL, false, 0).to_bytes());
        Control::End { channel: CHANNEL, end: End::Reset(number) }.encode(&mut bytes);
    }
    feed(&mut pair, bytes);
    let unread = &pair.peers[0].mailbox.unread[&CHANNEL];
    assert_eq!(unread.len(), 2_000);
    assert!(unread.iter().all(|(_, free)| !free));
}

/// Unfinished messages on many channels hold their windows and one message besides, and all of them
/// are finished in the end.
#[test]
fn unfinished_messages_share_what_is_above_the_windows() {
    const WINDOW: u32 = 10_000;
    const LARGEST: usize = 100_000;
    let mut pair = Pair::with([WINDOW; 2], LARGEST as u32, |settings| settings.send_queue = 10 << 20);
    for channel in 0..32 {
        assert!(pair.peers[0].send(ChannelId::new(channel), vec![channel; LARGEST], true));
    }
    let mut most = 0;
    for _ in 0..100_000 {
        for peer in &mut pair.peers {
            peer.pump(pair.now);
        }
        let moved = [0, 1].map(|from| pair.arrive(from, 3000, false));
        most = most.max(pair.peers[1].session.inbound().assembled());
        for channel in pair.peers[1].mailbox.unread.keys().copied().collect::<Vec<_>>() {
            pair.peers[1].read(channel, usize::MAX);
        }
        if moved == [false; 2] {
            break;
        }
    }
    assert!(most <= 32 * WINDOW as usize + LARGEST, "{most} bytes of unfinished messages");
    pair.settle();
}

/// Whole messages that are larger than the window and are not read let no further ones in.
#[test]
fn unread_messages_above_the_windows_have_a_limit() {
    const LARGEST: usize = 100_000;
    let mut pair = Pair::with([10_000; 2], LARGEST as u32, |settings| {
        settings.excess = 250_000;
        settings.send_queue = 10 << 20;
    });
    for channel in 0..32 {
        assert!(pair.peers[0].send(ChannelId::new(channel), vec![channel; LARGEST], true));
    }
    for _ in 0..100_000 {
        for peer in &mut pair.peers {
            peer.pump(pair.now);
        }
        if [0, 1].map(|from| pair.arrive(from, 3000, false)) == [false; 2] {
            break;
        }
    }
    let unread = pair.peers[1].mailbox.unread.values().map(VecDeque::len).sum::<usize>();
    assert!((2..=4).contains(&unread), "{unread} messages");
    // Nothing is lost: as they are read, the others come.
    pair.settle();
}

/// A peer that takes part and never acknowledges: what is kept for it has a limit.
#[test]
fn a_peer_that_never_acknowledges_breaks_the_protocol() {
    let mut pair = Pair::with([5000; 2], 10_000, |settings| settings.resumable = true);
    let mut sent = 0;
    for number in 0..1_000_000u64 {
        let mut ping = Vec::new();
        Control::Ping(number).encode(&mut ping);
        let peer = &mut pair.peers[0];
        peer.session.handle_input(pair.now, &mut &ping[..], &mut Budget::pass(), &mut peer.mailbox);
        let (segments, _) = peer.exchange(pair.now, Room::Bytes(1000));
        sent += segments.iter().map(Segment::len).sum::<usize>();
        if peer.session.ended().is_some() {
            break;
        }
    }
    let ended = pair.peers[0].session.ended();
    assert!(
        matches!(ended, Some(ConnectionError::ProtocolViolation { code: CloseCode::PROTOCOL_ERROR, .. })),
        "{ended:?}"
    );
    assert!((2 << 20..(2 << 20) + 1000).contains(&sent), "{sent} bytes");
}

/// What the application takes makes credit due at exactly half a window, whenever it is reported.
#[test]
fn credit_is_due_at_exactly_half_a_window() {
    for window in [64u32, 65, 1000, 1024, 70_000] {
        let mut pair = Pair::new([window; 2], 10_000);
        // Messages of no bytes, as many as the window takes.
        while pair.peers[0].send(CHANNEL, Vec::new(), false) {}
        pair.peers[0].pump(pair.now);
        while pair.arrive(0, 1000, false) {}
        let mut reports = BTreeMap::new();
        let mut taken = 0;
        let mut granted = 0;
        while granted == 0 {
            let (segments, output) = pair.peers[1].exchange(pair.now, Room::Bytes(1000));
            reports.extend(output.reports);
            for segment in &segments {
                let frame = segment.parts().concat();
                let word = Word::first_of(&frame).unwrap();
                if let Ok(Control::Credit { bytes, .. }) = Control::decode(word.channel(), &frame[WORD..]) {
                    granted += bytes;
                }
            }
            if granted == 0 {
                pair.peers[1].read(CHANNEL, 1);
                taken += 32;
            }
        }
        let spent = window / 32 * 32;
        assert!(taken >= window.div_ceil(2) && taken < window.div_ceil(2) + 32, "{taken} of {window}");
        assert_eq!(granted, taken);
        assert!(reports[&CHANNEL] <= spent);
    }
}

/// A strict sender may wait until it has more than half a window; a message that needs it is not
/// forgotten, whatever was reported when.
#[test]
fn a_message_that_waits_for_more_than_half_a_window_gets_it() {
    for first in [1u32, 100, 400, 449, 450, 500, 511, 512] {
        let mut pair = Pair::new([1024; 2], 100_000);
        assert!(pair.peers[0].send(CHANNEL, vec![1; first as usize], false));
        assert!(pair.peers[0].send(CHANNEL, vec![2; 5000], false));
        pair.settle();
    }
}

/// The peer may take a while to read why, and must not make this side hold it for so long.
#[test]
fn what_is_unfinished_goes_with_a_violation() {
    for small in [true, false] {
        let mut pair = Pair::new([200_000; 2], 1 << 20);
        let mut bytes = Word::data(CHANNEL, true, 60_000).to_bytes().to_vec();
        bytes.resize(bytes.len() + 60_000, 7);
        if !small {
            bytes.extend(Word::data(CHANNEL, true, 50_000).to_bytes());
            bytes.resize(bytes.len() + 20_000, 7);
        }
        feed(&mut pair, bytes);
        assert!(pair.peers[0].session.inbound().assembled() >= 60_000);
        let mut wrong = Vec::new();
        Control::Ack(u64::MAX).encode(&mut wrong);
        if !small {
            wrong = vec![7; 30_000];
            Control::Ack(u64::MAX).encode(&mut wrong);
        }
        feed(&mut pair, wrong);
        assert!(pair.peers[0].session.ended().is_some());
        assert_eq!(pair.peers[0].session.inbound().assembled(), 0);
        pair.peers[0].session.inbound().check_invariants();
    }
}
