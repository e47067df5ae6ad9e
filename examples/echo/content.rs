//! What messages are made of.

/// Fills a message. Two messages of different seeds differ in every few bytes.
pub(crate) fn fill(content: &mut Vec<u8>, seed: u64, size: usize) {
    content.clear();
    let mut noise = Noise(seed);
    while content.len() < size {
        let bytes = noise.next().to_le_bytes();
        content.extend_from_slice(&bytes[..bytes.len().min(size - content.len())]);
    }
}

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ word >> 31
    }

    /// A number below this one.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Another, which goes its own way.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }
}
