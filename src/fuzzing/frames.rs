//! The frame decoder.

use crate::proto::frame::{Control, MAX_CONTROL, MAX_DATA, WORD, Word};

/// Reads a stream of frames: what is accepted is encoded as it was, and within its limits.
pub fn frames(data: &[u8]) {
    let mut rest = data;
    while let Some(word) = Word::first_of(rest) {
        if word.check().is_err() {
            return;
        }
        let (channel, len) = (word.channel(), word.len());
        if !word.is_control() {
            assert!(len <= MAX_DATA);
            assert_eq!(Word::data(channel, word.has_more(), len).to_bytes(), rest[..WORD]);
            assert_eq!(word.is_whole_message(), !word.has_more());
        }
        let Some((frame, after)) = rest.split_at_checked(WORD + len) else { return };
        if word.is_control() {
            assert!((1..=MAX_CONTROL).contains(&len) && !word.has_more());
            let Ok(control) = Control::decode(channel, &frame[WORD..]) else { return };
            let mut encoded = Vec::new();
            control.encode(&mut encoded);
            // Nothing of an unknown extension is kept.
            if control != Control::Extension {
                assert_eq!(encoded, frame);
            }
        }
        rest = after;
    }
}
