//! Streams that are cut anywhere, and noise.

use std::collections::BTreeMap;

use super::library::*;
use crate::support::wire::*;

#[test]
fn a_stream_cut_anywhere_hurts_nobody() {
    let server = Server::echo(|config| config);
    let frames = [
        data(1, true, b"abcdef"),
        ping(1),
        data(1, false, b"ghi"),
        credit(1, 4),
        stop(2, 1, 0),
        waiting(1, 1, 1),
        gap(1, 1, 1),
        finish(1),
        close(0, b"done"),
    ];
    let stream = frames.concat();
    for len in 0..stream.len() {
        // Nothing of its own goes between the pieces.
        let mut peer = server.client().silent().finish().unwrap();
        peer.send_bytes(&stream[..len]).unwrap();
        if len % 3 == 0 {
            drop(peer);
        } else {
            peer.shutdown_write();
            peer.expect_end();
        }
    }
    server.assert_serving();
}

/// Each peer sends noise, then ends its side; a CLOSE or the end must follow, and all frames on
/// the way must obey the page.
fn assert_noise_ends(server: &Server, rounds: u64, noise: impl Fn(&mut Noise) -> Vec<u8>) {
    let mut outcomes = BTreeMap::new();
    for seed in 0..rounds {
        let mut peer = server.connect();
        let bytes = noise(&mut Noise(seed));
        peer.try_send_bytes(&bytes);
        peer.shutdown_write();
        peer.expect_end();
        let code = peer.closed.as_ref().map(|(code, _)| *code);
        assert!(code.is_none_or(|code| code <= code::NOT_PERMITTED), "seed {seed}: CLOSE {code:?}");
        *outcomes.entry(code).or_insert(0) += 1;
    }
    println!("{outcomes:?}");
    server.assert_serving();
}

#[test]
fn random_bytes_end_in_close_or_silence() {
    let server = Server::echo(|config| config);
    assert_noise_ends(&server, 200, |noise| {
        let len = [1, 3, 4, 5, 20, 100, 5000][noise.below(7)];
        noise.bytes(len)
    });
}

#[test]
fn random_frames_end_in_close_or_silence() {
    let server = Server::echo(|config| config.window(3000).max_message(500));
    assert_noise_ends(&server, 200, |noise| {
        let mut stream = Vec::new();
        for _ in 0..noise.below(60) + 1 {
            let channel = [0, 1, 2, 127][noise.below(4)];
            let frame = match noise.below(20) {
                0..8 => {
                    let len = [0, 1, 50, 300][noise.below(4)];
                    data(channel, len > 0 && noise.below(2) == 0, &noise.bytes(len))
                }
                8 => credit(channel, noise.below(5000) as u32),
                9 => finish(channel),
                10 => reset(channel, noise.next() as u32),
                11 => stop(channel, noise.next() as u32, noise.below(3) as u32),
                12 => ping(noise.next()),
                13 => pong(noise.next()),
                14 => ack(0),
                15 => waiting(channel, noise.below(2) as u8, noise.below(5) as u32),
                16 => gap(channel, noise.next(), noise.next()),
                17 => interrupt(),
                18 => control(channel, 0x80 | noise.next() as u8, b"any"),
                _ => {
                    let len = noise.below(20);
                    noise.bytes(len)
                }
            };
            stream.extend_from_slice(&frame);
        }
        // One bit in half of the streams.
        if noise.below(2) == 0 {
            let at = noise.below(stream.len());
            stream[at] ^= 1 << noise.below(8);
        }
        stream
    });
}
