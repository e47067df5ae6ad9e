//! Frames that a peer might send.

use super::input::Input;
use crate::error::CloseCode;
use crate::proto::frame::{Control, End, MAX_DATA, Word};

/// Frames that a peer might send: most of them legal, some of them not.
pub(super) fn peer_frames(input: &mut Input<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..=input.byte() % 8 {
        let channel = input.channel();
        match input.byte() % 16 {
            0..=4 => {
                let len = input.length().min(MAX_DATA);
                out.extend_from_slice(&Word::data(channel, input.byte().is_multiple_of(2), len).to_bytes());
                out.resize(out.len() + len, 7);
            }
            5 => {
                // A flood of small ones.
                let len = usize::from(input.byte() % 3);
                for _ in 0..input.byte() {
                    out.extend_from_slice(&Word::data(channel, false, len).to_bytes());
                    out.resize(out.len() + len, 7);
                }
            }
            6 => Control::Credit { channel, bytes: input.number() as u32 >> (input.byte() % 32) }
                .encode(&mut out),
            7 => Control::End { channel, end: End::Finish }.encode(&mut out),
            8 => Control::End { channel, end: End::Reset(input.byte().into()) }.encode(&mut out),
            9 => Control::Stop { channel, code: input.byte().into(), run: (input.byte() % 4).into() }
                .encode(&mut out),
            10 => {
                for number in 0..input.byte() {
                    Control::Ping(number.into()).encode(&mut out);
                }
            }
            11 => Control::Pong(input.byte().into()).encode(&mut out),
            12 => Control::Ack(input.number() >> (input.byte() % 64)).encode(&mut out),
            13 => Control::Waiting {
                channel,
                waiting: input.byte().is_multiple_of(2),
                count: input.byte().into(),
            }
            .encode(&mut out),
            14 => Control::Gap { channel, messages: input.number(), bytes: input.number() }.encode(&mut out),
            _ => match input.byte() % 4 {
                0 => Control::Interrupt.encode(&mut out),
                1 => Control::Extension.encode(&mut out),
                2 => Control::Close { code: CloseCode::from(256), reason: "enough".to_owned() }
                    .encode(&mut out),
                // The word of something that does not exist.
                _ => out.extend_from_slice(&(input.number() as u32).to_be_bytes()),
            },
        }
    }
    out
}
