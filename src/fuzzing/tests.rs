//! Each body over the corpus in `fuzz/corpus/`, over what is written out here, and over noise.

use std::path::Path;

use super::*;

/// How many pseudo-random inputs each body gets: more by `TRUNKLINE_FUZZ_INPUTS`.
fn inputs() -> usize {
    std::env::var("TRUNKLINE_FUZZ_INPUTS").ok().and_then(|inputs| inputs.parse().ok()).unwrap_or(2000)
}

/// What the fuzzer has found worth keeping for a target.
fn over_corpus(target: &str, body: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    // The packaged crate is without it.
    if !fuzz.exists() {
        return;
    }
    let files = std::fs::read_dir(fuzz.join("corpus").join(target)).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    assert!(files.len() > 10, "{} inputs for {target}", files.len());
    files.iter().for_each(|file| body(&std::fs::read(file).unwrap()));
}

/// Written from the protocol's tables: each frame there is, and what lies next to it.
const FRAMES: &[&[u8]] = &[
    b"\x05\x00\x00\x03abc",
    b"\x05\x00\x00\x00",
    b"\x05\x80\x00\x01a\x05\x00\x00\x01b",
    b"\x05\x01\x00\x00",
    b"\x05\x01\x00\x01",
    b"\x85\x00\x00\x05\x01\x00\x00\x10\x00",
    b"\x85\x00\x00\x05\x01\x7f\xff\xff\xff",
    b"\x85\x00\x00\x01\x02",
    b"\x85\x00\x00\x05\x03\x00\x00\x00\x07",
    b"\x85\x00\x00\x09\x04\x00\x00\x00\x07\x00\x00\x00\x00",
    b"\x80\x00\x00\x09\x05\x00\x00\x00\x00\x00\x00\x00\x01",
    b"\x80\x00\x00\x09\x06\x00\x00\x00\x00\x00\x00\x00\x01",
    b"\x80\x00\x00\x09\x07\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x85\x00\x00\x06\x08\x01\x00\x00\x00\x01",
    b"\x85\x00\x00\x06\x08\x02\x00\x00\x00\x01",
    b"\x80\x00\x00\x01\x09",
    b"\x80\x00\x00\x06\x0a\x01\x00bye",
    b"\x80\x00\x00\x04\x0a\x01\x00\xff",
    b"\x85\x00\x00\x11\x0b\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02",
    b"\x80\x00\x00\x03\x80hi",
    b"\x80\x00\x00\x01\x0c",
    b"\x80\x00\x00\x00",
    b"\x80\x80\x00\x01\x09",
    b"\x80\x00\x04\x01",
    b"\x81\x00\x00\x09\x05\x00\x00\x00\x00\x00\x00\x00\x01",
];

/// Xorshift64*, so that every run tries the same.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = self.next() % 600;
        (0..len).map(|_| (self.next() >> 32) as u8).collect()
    }
}

#[test]
fn frames_over_a_corpus() {
    over_corpus("frames", frames);
    for seed in FRAMES {
        for end in 0..=seed.len() {
            frames(&seed[..end]);
        }
    }
    frames(&FRAMES.concat());
    let mut noise = Noise(1);
    for _ in 0..inputs() {
        let mut bytes = noise.bytes();
        frames(&bytes);
        // Short frames, so that there is more than one.
        for word in bytes.chunks_mut(4) {
            word[1..].iter_mut().take(2).for_each(|byte| *byte = 0);
        }
        frames(&bytes);
    }
}

#[test]
fn handshake_over_a_corpus() {
    over_corpus("handshake", handshake);
    // Nothing changed, one byte of each message changed, and HTTP.
    for cut in [0, 1, 5, 255] {
        handshake(&[2, 0, cut]);
    }
    for message in 0..4 {
        for at in 0..100 {
            handshake(&[2, 1, message, at, 0x80, 13]);
        }
    }
    handshake(b"\x00\x01\x10GET / HTTP/1.1\r\n");
    handshake(b"\x00\x01\x30\xF4TLN\x01\x01\x00\x00");
    handshake(b"\x01\x01\x30\xF4TLN\x01\x00\x00\x00");
    let mut noise = Noise(2);
    for _ in 0..inputs() {
        handshake(&noise.bytes());
    }
}

#[test]
fn session_over_a_corpus() {
    over_corpus("session", session);
    for seed in FRAMES {
        for (ours, theirs) in [(2, 2), (0, 0), (4, 7), (5, 5)] {
            // Settings, and then the bytes as they are, whole and cut in two.
            let settings = [0, ours, 4, theirs, 4];
            let len = seed.len() as u8;
            session(&[&settings[..], &[0, len], seed, &[0, len], seed, &[12, 3]].concat());
            let (a, b) = seed.split_at(seed.len() / 2);
            session(&[&settings[..], &[0, a.len() as u8], a, &[0, b.len() as u8], b, &[12, 3]].concat());
        }
    }
    let mut noise = Noise(3);
    for _ in 0..inputs() {
        session(&noise.bytes());
    }
}

#[test]
fn replay_over_a_corpus() {
    over_corpus("replay", replay);
    let mut noise = Noise(4);
    for _ in 0..inputs() {
        replay(&noise.bytes());
    }
}

#[test]
fn resume_over_a_corpus() {
    over_corpus("resume", resume);
    let mut noise = Noise(5);
    for _ in 0..inputs() {
        resume(&noise.bytes());
    }
}
