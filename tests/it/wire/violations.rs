//! Sections 2 and 3: what breaks the protocol, by the client.

use std::time::Duration;

use trunkline::{Access, ChannelSet, Config, ConnectionError, Key, RecvError};

use super::library::*;
use crate::support::wire::*;

/// Sends `bytes` on a connection of its own; CLOSE with one of `codes` and the end follow.
#[track_caller]
fn assert_violation(server: &Server, what: &str, bytes: &[u8], codes: &[u16]) {
    let mut peer = server.connect();
    // Until here all is well.
    peer.expect_alive();
    peer.try_send_bytes(bytes);
    match peer.read_close() {
        Ok((code, _)) if codes.contains(&code) => {}
        other => panic!("{what}: wanted CLOSE with one of {codes:?} and the end, got {other:?}"),
    }
}

#[test]
fn an_unknown_opcode_is_a_protocol_error() {
    let server = Server::echo(|config| config);
    for opcode in std::iter::once(0).chain(opcode::FIRST_UNKNOWN..opcode::FIRST_EXTENSION) {
        let frame = control(0, opcode, &vec![0; usize::from(opcode % 17)]);
        assert_violation(&server, &format!("opcode {opcode:#04x}"), &frame, &[code::PROTOCOL]);
    }
    server.assert_serving();
}

#[test]
fn a_body_of_the_wrong_size_is_a_protocol_error() {
    let server = Server::echo(|config| config);
    let right = |opcode: u8, len: usize| match opcode {
        opcode::CREDIT | opcode::RESET => len == 4,
        opcode::STOP => len == 8,
        opcode::FINISH | opcode::INTERRUPT => len == 0,
        opcode::PING | opcode::PONG | opcode::ACK => len == 8,
        opcode::WAITING => len == 5,
        opcode::CLOSE => (2..=257).contains(&len),
        opcode::GAP => len == 16,
        _ => unreachable!(),
    };
    for opcode in opcode::CREDIT..=opcode::GAP {
        for len in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 257, 258, MAX_CONTROL - 1] {
            if !right(opcode, len) {
                let frame = control(0, opcode, &vec![0; len]);
                let what = format!("opcode {opcode:#04x}, body {len}");
                assert_violation(&server, &what, &frame, &[code::PROTOCOL]);
            }
        }
    }
    server.assert_serving();
}

#[test]
fn a_reserved_bit_that_is_set_is_a_protocol_error() {
    let server = Server::echo(|config| config);
    // M on a control frame.
    for (opcode, body) in [
        (opcode::PING, &[0; 8][..]),
        (opcode::CREDIT, &[0, 0, 0, 1]),
        (opcode::FINISH, &[]),
        (opcode::CLOSE, &[0, 0]),
        (0x80, &[]),
        (0xFF, &[1, 2, 3]),
    ] {
        let mut frame = word(true, 0, true, 1 + body.len() as u32).to_vec();
        frame.push(opcode);
        frame.extend_from_slice(body);
        assert_violation(&server, &format!("opcode {opcode:#04x} with M"), &frame, &[code::PROTOCOL]);
    }
    // "In the others it is 0": the channel field of PING, PONG, ACK, INTERRUPT and CLOSE.
    for (what, opcode, body) in [
        ("PING", opcode::PING, &[0; 8][..]),
        ("PONG", opcode::PONG, &[0; 8]),
        ("ACK", opcode::ACK, &[0; 8]),
        ("CLOSE", opcode::CLOSE, &[0; 2]),
        ("INTERRUPT", opcode::INTERRUPT, &[]),
    ] {
        for channel in [1, 64, 127] {
            let frame = control(channel, opcode, body);
            assert_violation(&server, &format!("{what}, channel {channel}"), &frame, &[code::PROTOCOL]);
        }
    }
    server.assert_serving();
}

#[test]
fn a_waiting_of_neither_0_nor_1_is_a_protocol_error() {
    let server = Server::echo(|config| config);
    for state in [2, 128, 255] {
        assert_violation(&server, "WAITING", &waiting(1, state, 0), &[code::PROTOCOL]);
    }
    server.assert_serving();
}

/// The word alone condemns these: no byte of the payload is sent, and none may be waited for.
#[test]
fn a_length_out_of_bounds_is_refused_by_the_word_alone() {
    let server = Server::echo(|config| config);
    for len in [65_537, 65_568, 100_000, 1 << 20, 0x7F_FFFF] {
        for more in [false, true] {
            let frame = word(false, 1, more, len);
            assert_violation(&server, &format!("data of {len}, M {more}"), &frame, &[code::PROTOCOL]);
        }
    }
    for (channel, len) in [(0, 0), (5, 0), (0, 1025), (5, 1025), (0, 65_536), (127, 0x7F_FFFF)] {
        let frame = word(true, channel, false, len);
        assert_violation(&server, &format!("control of {len}"), &frame, &[code::PROTOCOL]);
    }
    server.assert_serving();
}

/// "All but the last with M set and at least one byte."
#[test]
fn an_empty_fragment_with_more_to_come_is_a_protocol_error() {
    let server = Server::echo(|config| config);
    assert_violation(&server, "the first", &data(1, true, b""), &[code::PROTOCOL]);
    let second = [data(1, true, b"x"), data(1, true, b"")].concat();
    assert_violation(&server, "the second", &second, &[code::PROTOCOL]);
    server.assert_serving();
}

/// "FINISH inside a message is code 1"; GAP is "never inside a message".
#[test]
fn finish_and_gap_inside_a_message_are_protocol_errors() {
    let server = Server::echo(|config| config);
    for (what, frame) in [("FINISH", finish(1)), ("GAP", gap(1, 1, 1))] {
        let inside = [data(1, true, b"part"), frame.clone(), data(1, false, b"+ rest")].concat();
        assert_violation(&server, what, &inside, &[code::PROTOCOL]);
        // Of another channel it is legal.
        let mut peer = server.connect();
        peer.send_bytes(&[data(2, true, b"part"), frame, data(2, false, b"+ rest")].concat()).unwrap();
        assert_eq!(peer.expect_message(2), b"part+ rest");
    }
}

#[test]
fn a_bad_close_is_a_protocol_error() {
    let server = Server::echo(|config| config);
    for (what, reason) in [
        ("256 bytes", &[b'a'; 256][..]),
        ("1021 bytes", &[b'a'; 1021]),
        ("a lone continuation byte", b"\x80"),
        ("an overlong slash", b"\xC0\xAF"),
        ("a surrogate", b"\xED\xA0\x80"),
        ("a character cut short", b"abc\xE2\x82"),
        ("above U+10FFFF", b"\xF4\x90\x80\x80"),
    ] {
        assert_violation(&server, what, &close(0, reason), &[code::PROTOCOL]);
    }
    server.assert_serving();
}

#[test]
fn an_ack_of_what_was_never_sent_is_a_protocol_error() {
    let server = Server::echo(|config| config);
    assert_violation(&server, "the largest", &ack(u64::MAX), &[code::PROTOCOL]);
    // What is under way now is an ACK or two.
    let mut peer = server.connect();
    peer.expect_alive();
    peer.try_send_bytes(&ack(peer.received + 100));
    peer.expect_close(code::PROTOCOL);
    server.assert_serving();
}

#[test]
fn data_without_credit_violates_flow_control() {
    let server = Server::start(|config| config.window(2000));
    // One frame that is larger than the window.
    assert_violation(&server, "one frame", &data(1, false, &[0; 1969]), &[code::FLOW_CONTROL]);
    // Nobody reads, so the window is all there is, to the byte.
    for payload in [0, 1, 68, 468] {
        let mut peer = server.connect();
        while peer.send_credit[1] >= payload + 32 {
            peer.send_data(1, false, &vec![7; payload as usize]);
        }
        if peer.send_credit[1] >= 32 {
            let rest = peer.send_credit[1] as usize - 32;
            peer.send_data(1, false, &vec![7; rest]);
        }
        assert!(peer.send_credit[1] < 32);
        peer.expect_alive();
        peer.send_data(2, false, b"another channel has its own credit");
        peer.expect_alive();
        peer.send_data(1, false, b"");
        peer.expect_close(code::FLOW_CONTROL);
    }
}

/// The peer may be done writing when it is told what it did.
#[test]
fn a_violation_is_answered_though_the_peer_has_ended_its_side() {
    let server = Server::echo(|config| config);
    for n in 0..50 {
        let mut peer = server.connect();
        peer.send_data(1, false, b"fine");
        let mut burst = ping(1);
        burst.extend_from_slice(&control(0, 0x0C, b""));
        burst.resize(burst.len() + n * 100, 0x55);
        peer.send_bytes(&burst).unwrap();
        peer.shutdown_write();
        peer.expect_close(code::PROTOCOL);
    }
}

#[test]
fn the_flow_control_violation_is_answered_in_the_middle_of_a_flood() {
    let server = Server::echo(|config| config.window(2000));
    let mut peer = server.connect();
    let flood = data(3, false, &[0; 1000]).repeat(1000);
    peer.try_send_bytes(&flood);
    // CLOSE is not lost although the peer had not read everything when it was sent.
    peer.expect_close(code::FLOW_CONTROL);
    server.assert_serving();
}

/// "Nothing after the violation is parsed, counted or acknowledged."
#[test]
fn nothing_after_a_violation_is_parsed_or_acknowledged() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    let good = data(1, false, b"before");
    let violation = control(0, 0x0C, b"");
    let after = [data(1, false, b"after"), ping(1), close(300, b"too late")].concat();
    let end = peer.sent + (good.len() + violation.len()) as u64;
    peer.send_bytes(&[good, violation, after].concat()).unwrap();
    peer.expect_close(code::PROTOCOL);
    assert!(peer.acked.is_none_or(|acked| acked <= end), "ACK {:?}, the violation ends at {end}", peer.acked);
    assert_eq!(take(&receiver), b"before");
    match take_end(&receiver) {
        RecvError::ConnectionLost(ConnectionError::ProtocolViolation { code, .. }) => {
            assert_eq!(u16::from(code), code::PROTOCOL);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_above_the_limit_is_too_large() {
    let server = Server::start(|config| config.window(70_000).max_message(10_000));
    assert_violation(&server, "one frame", &data(1, false, &[0; 10_001]), &[code::TOO_LARGE]);
    assert_violation(&server, "one frame, M", &data(1, true, &[0; 10_001]), &[code::TOO_LARGE]);
    let two = [data(1, true, &[0; 5000]), data(1, false, &[0; 5001])].concat();
    assert_violation(&server, "two fragments", &two, &[code::TOO_LARGE]);
}

#[test]
fn a_message_in_fragments_above_the_limit_is_too_large() {
    let server = Server::start(|config| config.window(70_000).max_message(10_000));
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    peer.send_message(1, &[1; 10_000]).unwrap();
    assert_eq!(take(&receiver).len(), 10_000);
    for _ in 0..10 {
        peer.send_data(1, true, &[2; 1000]);
        peer.send_data(2, true, &[3; 500]);
    }
    peer.expect_alive();
    peer.send_data(1, false, b"x");
    peer.expect_close(code::TOO_LARGE);
    // The application gets none of it.
    let end = take_end(&receiver);
    assert!(matches!(end, RecvError::ConnectionLost(ConnectionError::ProtocolViolation { .. })), "{end:?}");
}

/// "What is discarded after STOP is checked for credit and size all the same."
#[test]
fn what_is_discarded_after_a_stop_is_checked_all_the_same() {
    let server = Server::start(|config| config.window(2000).max_message(1000));
    let cases = [
        (data(1, false, &[0; 2000]), [code::FLOW_CONTROL, code::TOO_LARGE]),
        (data(1, true, &[0; 600]).repeat(5), [code::FLOW_CONTROL, code::TOO_LARGE]),
        (data(1, false, &[0; 1001]), [code::TOO_LARGE; 2]),
        ([data(1, true, &[0; 600]), data(1, false, &[0; 401])].concat(), [code::TOO_LARGE; 2]),
        (data(1, true, b""), [code::PROTOCOL; 2]),
        ([data(1, true, b"x"), finish(1)].concat(), [code::PROTOCOL; 2]),
    ];
    for (bytes, codes) in cases {
        let (mut peer, connection) = server.pair(server.client());
        let receiver = connection.receiver(channel(1)).unwrap();
        peer.send_data(1, false, b"first");
        assert_eq!(take(&receiver), b"first");
        receiver.stop(7);
        assert_eq!(peer.expect_stop(1), (7, 0));
        peer.try_send_bytes(&bytes);
        peer.expect_close_in(&codes);
    }
}

#[test]
fn what_the_key_does_not_allow_is_not_permitted() {
    let key = random();
    let access = Access::full().send(channel(1) | channel(2)).receive(channel(1) | channel(2));
    let config = Config::with_access(Key::from(key), access.interrupt(false)).linger(BRIEF);
    let server = Server::with_config(key, config).echoing();
    for number in [0, 3, 127] {
        for (what, frame) in [
            ("data", data(number, false, b"x")),
            ("a fragment", data(number, true, b"x")),
            ("an empty message", data(number, false, b"")),
            ("FINISH", finish(number)),
            ("RESET", reset(number, 1)),
            ("GAP", gap(number, 1, 1)),
            ("CREDIT", credit(number, 1)),
            ("STOP", stop(number, 1, 0)),
            ("WAITING", waiting(number, 1, 0)),
        ] {
            assert_violation(&server, &format!("{what} on {number}"), &frame, &[code::NOT_PERMITTED]);
        }
    }
    // "Else a protocol error": 1 by its words, 4 by its meaning.
    assert_violation(&server, "INTERRUPT", &interrupt(), &[code::NOT_PERMITTED, code::PROTOCOL]);
    server.assert_serving();
}

/// One direction of a channel may be allowed and not the other.
#[test]
fn the_two_directions_of_a_channel_are_permitted_on_their_own() {
    let key = random();
    let access = Access::full().send(channel(1)).receive(ChannelSet::from(channel(2)));
    let server = Server::with_config(key, Config::with_access(Key::from(key), access).linger(BRIEF));
    let legal =
        [data(1, false, b"x"), finish(1), gap(1, 1, 1), credit(2, 1), stop(2, 1, 0), waiting(2, 1, 0)];
    let (mut peer, _connection) = server.pair(server.client());
    for frame in legal {
        peer.send_bytes(&frame).unwrap();
        peer.expect_alive();
    }
    let illegal = [data(2, false, b"x"), finish(2), gap(2, 1, 1), credit(1, 1), stop(1, 1, 0)];
    for frame in illegal {
        assert_violation(&server, "the other direction", &frame, &[code::NOT_PERMITTED]);
    }
}

#[test]
fn the_server_sends_nothing_on_channels_that_the_client_may_not_receive() {
    let key = random();
    let access = Access::full().receive(ChannelSet::from(channel(1)));
    let server = Server::with_config(key, Config::with_access(Key::from(key), access).linger(BRIEF));
    let (mut peer, connection) = server.pair(server.client());
    assert!(connection.sender(channel(2)).is_err());
    connection.sender(channel(1)).unwrap().send(&b"yes"[..]).unwrap();
    assert_eq!(peer.expect_message(1), b"yes");
}

/// "Credit that would exceed 2³¹−1 is a protocol error": 1 by its words, 2 by its section.
#[test]
fn credit_that_overflows_is_an_error() {
    let server = Server::echo(|config| config);
    let codes = [code::PROTOCOL, code::FLOW_CONTROL];
    let rest = (MAX_CREDIT - (1 << 20)) as u32; // the raw client's window is 1 MiB
    assert_violation(&server, "one too many", &credit(1, rest + 1), &codes);
    assert_violation(&server, "2^31 - 1 at once", &credit(1, MAX_CREDIT as u32), &codes);
    assert_violation(&server, "2^32 - 1 at once", &credit(1, u32::MAX), &codes);
    assert_violation(&server, "in two steps", &[credit(1, rest), credit(1, 1)].concat(), &codes);
    assert_violation(&server, "on an unused channel", &[credit(99, rest), credit(99, 1)].concat(), &codes);
    // Exactly up to the limit is legal, on every channel, and the channel still works.
    let mut peer = server.connect();
    for channel in 0..128 {
        peer.grant(channel, rest);
    }
    peer.expect_alive();
    peer.send_data(1, false, b"rich");
    assert_eq!(peer.expect_message(1), b"rich");
    server.assert_serving();
}

/// Whatever ends the stream: the part is never delivered.
#[test]
fn a_part_of_a_message_is_never_delivered() {
    let server = Server::start(|config| config.resume_grace(Duration::ZERO));
    let endings = [finish(4), gap(4, 1, 1), reset(4, 1), close(0, b""), control(0, 0x0C, b""), Vec::new()];
    for ending in endings {
        let (mut peer, connection) = server.pair(server.client());
        let receiver = connection.receiver(channel(4)).unwrap();
        peer.send_data(4, false, b"whole");
        peer.send_data(4, true, b"part");
        peer.try_send_bytes(&ending);
        peer.shutdown_write();
        assert_eq!(take(&receiver), b"whole");
        // An end of the run, perhaps, and then of the connection.
        let mut end = take_end(&receiver);
        if matches!(end, RecvError::Reset { .. }) {
            end = take_end(&receiver);
        }
        assert!(matches!(end, RecvError::ConnectionLost(_)), "{end:?}");
    }
}
