//! The frame: a 4-byte word and its payload (protocol, section 2).

use super::violation::Violation;
use crate::error::CloseCode;
use crate::id::ChannelId;

/// Bytes of the word in front of every payload.
pub(crate) const WORD: usize = 4;
/// The longest payload of a data frame.
pub(crate) const MAX_DATA: usize = 65_536;
/// The longest payload of a control frame.
pub(crate) const MAX_CONTROL: usize = 1024;
/// What a data frame costs above its length.
pub(crate) const FRAME_COST: u32 = 32;
/// How many frames of a connection are handled before others have their turn, by weight.
pub(crate) const MAX_FRAME_BUDGET: u32 = 32 * 1024;
/// The longest reason that a CLOSE may carry.
pub(crate) const MAX_REASON: usize = 255;

const CONTROL: u32 = 1 << 31;
const MORE: u32 = 1 << 23;
const LENGTH: u32 = MORE - 1;

/// The word, read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Word(u32);

impl Word {
    pub(crate) fn data(channel: ChannelId, more: bool, len: usize) -> Self {
        debug_assert!(len <= MAX_DATA);
        Self(u32::from(channel.get()) << 24 | if more { MORE } else { 0 } | len as u32)
    }

    fn control(channel: ChannelId, len: usize) -> Self {
        debug_assert!((1..=MAX_CONTROL).contains(&len));
        Self(CONTROL | u32::from(channel.get()) << 24 | len as u32)
    }

    pub(crate) const fn to_bytes(self) -> [u8; WORD] {
        self.0.to_be_bytes()
    }

    pub(crate) const fn from_bytes(bytes: [u8; WORD]) -> Self {
        Self(u32::from_be_bytes(bytes))
    }

    /// The word at the start of `bytes`, if it is there whole.
    pub(crate) fn first_of(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(|word| Self::from_bytes(*word))
    }

    pub(crate) const fn is_control(self) -> bool {
        self.0 & CONTROL != 0
    }

    pub(crate) const fn has_more(self) -> bool {
        self.0 & MORE != 0
    }

    pub(crate) const fn channel(self) -> ChannelId {
        ChannelId::from_low_bits((self.0 >> 24) as u8)
    }

    pub(crate) const fn len(self) -> usize {
        (self.0 & LENGTH) as usize
    }

    /// A data frame that is a whole message: neither C nor M is set.
    pub(crate) const fn is_whole_message(self) -> bool {
        self.0 & (CONTROL | MORE) == 0
    }

    /// Checks what the word alone can show, before anything is kept or allocated for the frame.
    pub(crate) fn check(self) -> Result<(), Violation> {
        if !self.is_control() {
            if self.len() > MAX_DATA {
                return Err(Violation::DataTooLong(self.len()));
            }
            if self.has_more() && self.len() == 0 {
                return Err(Violation::EmptyFragment(self.channel()));
            }
        } else if self.has_more() {
            return Err(Violation::ReservedBit);
        } else if self.len() == 0 || self.len() > MAX_CONTROL {
            return Err(Violation::ControlLength(self.len()));
        }
        Ok(())
    }
}

/// How a run of a channel ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Finish,
    Reset(u32),
}

/// A control frame, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Control {
    Credit {
        channel: ChannelId,
        bytes: u32,
    },
    End {
        channel: ChannelId,
        end: End,
    },
    Stop {
        channel: ChannelId,
        code: u32,
        run: u32,
    },
    Ping(u64),
    Pong(u64),
    Ack(u64),
    Waiting {
        channel: ChannelId,
        waiting: bool,
        count: u32,
    },
    Interrupt,
    Close {
        code: CloseCode,
        reason: String,
    },
    Gap {
        channel: ChannelId,
        messages: u64,
        bytes: u64,
    },
    /// An opcode of the range that is ignored by a peer that does not know it.
    Extension,
}

mod opcode {
    pub(super) const CREDIT: u8 = 0x01;
    pub(super) const FINISH: u8 = 0x02;
    pub(super) const RESET: u8 = 0x03;
    pub(super) const STOP: u8 = 0x04;
    pub(super) const PING: u8 = 0x05;
    pub(super) const PONG: u8 = 0x06;
    pub(super) const ACK: u8 = 0x07;
    pub(super) const WAITING: u8 = 0x08;
    pub(super) const INTERRUPT: u8 = 0x09;
    pub(super) const CLOSE: u8 = 0x0A;
    pub(super) const GAP: u8 = 0x0B;
    pub(super) const FIRST_EXTENSION: u8 = 0x80;
}

impl Control {
    /// Appends the frame as [`encode`](Control::encode) does, marked as one that costs no credit. The
    /// mark, the bit that is M in data frames, is for the receive queues and never on the wire.
    pub(crate) fn encode_free(&self, out: &mut Vec<u8>) {
        let start = out.len();
        self.encode(out);
        out[start + 1] |= (MORE >> 16) as u8;
    }

    /// Appends the frame, word and all.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let zero = ChannelId::new(0);
        match *self {
            Self::Credit { channel, bytes } => put(out, channel, opcode::CREDIT, &[&bytes.to_be_bytes()]),
            Self::End { channel, end: End::Finish } => put(out, channel, opcode::FINISH, &[]),
            Self::End { channel, end: End::Reset(code) } => {
                put(out, channel, opcode::RESET, &[&code.to_be_bytes()])
            }
            Self::Stop { channel, code, run } => {
                put(out, channel, opcode::STOP, &[&code.to_be_bytes(), &run.to_be_bytes()]);
            }
            Self::Ping(number) => put(out, zero, opcode::PING, &[&number.to_be_bytes()]),
            Self::Pong(number) => put(out, zero, opcode::PONG, &[&number.to_be_bytes()]),
            Self::Ack(offset) => put(out, zero, opcode::ACK, &[&offset.to_be_bytes()]),
            Self::Waiting { channel, waiting, count } => {
                put(out, channel, opcode::WAITING, &[&[u8::from(waiting)], &count.to_be_bytes()]);
            }
            Self::Interrupt => put(out, zero, opcode::INTERRUPT, &[]),
            Self::Close { code, ref reason } => {
                put(out, zero, opcode::CLOSE, &[&u16::from(code).to_be_bytes(), shorten(reason).as_bytes()]);
            }
            Self::Gap { channel, messages, bytes } => {
                put(out, channel, opcode::GAP, &[&messages.to_be_bytes(), &bytes.to_be_bytes()]);
            }
            Self::Extension => put(out, zero, opcode::FIRST_EXTENSION, &[]),
        }
    }

    /// Reads the payload of a control frame whose word has passed [`Word::check`].
    pub(crate) fn decode(channel: ChannelId, payload: &[u8]) -> Result<Self, Violation> {
        let (&opcode, body) = payload.split_first().ok_or(Violation::ControlLength(0))?;
        let wrong = Violation::BodySize { opcode, size: body.len() };
        let u32_body = || body.try_into().map(u32::from_be_bytes).map_err(|_| wrong.clone());
        let u64_body = || body.try_into().map(u64::from_be_bytes).map_err(|_| wrong.clone());
        let empty = || if body.is_empty() { Ok(()) } else { Err(wrong.clone()) };

        let control = match opcode {
            opcode::CREDIT => Self::Credit { channel, bytes: u32_body()? },
            opcode::FINISH => empty().map(|()| Self::End { channel, end: End::Finish })?,
            opcode::RESET => Self::End { channel, end: End::Reset(u32_body()?) },
            opcode::STOP => {
                let both = u64_body()?;
                Self::Stop { channel, code: (both >> 32) as u32, run: both as u32 }
            }
            opcode::PING => Self::Ping(u64_body()?),
            opcode::PONG => Self::Pong(u64_body()?),
            opcode::ACK => Self::Ack(u64_body()?),
            opcode::WAITING => match *body {
                [waiting @ (0 | 1), ref count @ ..] if count.len() == 4 => {
                    let count = count.try_into().map_or(0, u32::from_be_bytes);
                    Self::Waiting { channel, waiting: waiting == 1, count }
                }
                [_, _, _, _, _] => return Err(Violation::BadValue { opcode }),
                _ => return Err(wrong),
            },
            opcode::INTERRUPT => empty().map(|()| Self::Interrupt)?,
            opcode::CLOSE => {
                let (code, reason) = body.split_first_chunk().ok_or(wrong.clone())?;
                if reason.len() > MAX_REASON {
                    return Err(wrong);
                }
                let reason = std::str::from_utf8(reason).map_err(|_| Violation::BadValue { opcode })?;
                Self::Close { code: CloseCode::from(u16::from_be_bytes(*code)), reason: reason.to_owned() }
            }
            opcode::GAP => {
                let (messages, bytes) = body.split_first_chunk().ok_or(wrong.clone())?;
                let bytes: &[u8; 8] = bytes.try_into().map_err(|_| wrong)?;
                Self::Gap {
                    channel,
                    messages: u64::from_be_bytes(*messages),
                    bytes: u64::from_be_bytes(*bytes),
                }
            }
            opcode::FIRST_EXTENSION.. => Self::Extension,
            _ => return Err(Violation::UnknownOpcode(opcode)),
        };
        let wants_no_channel = matches!(
            control,
            Self::Ping(_) | Self::Pong(_) | Self::Ack(_) | Self::Interrupt | Self::Close { .. }
        );
        if wants_no_channel && channel.get() != 0 {
            return Err(Violation::StrayChannel { opcode, channel });
        }
        Ok(control)
    }
}

fn put(out: &mut Vec<u8>, channel: ChannelId, opcode: u8, body: &[&[u8]]) {
    let len = 1 + body.iter().map(|part| part.len()).sum::<usize>();
    out.extend_from_slice(&Word::control(channel, len).to_bytes());
    out.push(opcode);
    for part in body {
        out.extend_from_slice(part);
    }
}

/// The longest beginning of a reason that fits into a CLOSE and ends between two characters.
pub(crate) fn shorten(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> Result<Control, Violation> {
        let word = Word::first_of(bytes).unwrap();
        word.check()?;
        assert_eq!(word.len(), bytes.len() - WORD);
        Control::decode(word.channel(), &bytes[WORD..])
    }

    /// Written down from the protocol's tables, not from the code.
    #[test]
    fn frames_are_as_the_protocol_writes_them() {
        let ch = ChannelId::new(5);
        let cases: &[(Control, &[u8])] = &[
            (Control::Credit { channel: ch, bytes: 0x0102_0304 }, &[0x85, 0, 0, 5, 1, 1, 2, 3, 4]),
            (Control::End { channel: ch, end: End::Finish }, &[0x85, 0, 0, 1, 2]),
            (Control::End { channel: ch, end: End::Reset(9) }, &[0x85, 0, 0, 5, 3, 0, 0, 0, 9]),
            (Control::Stop { channel: ch, code: 7, run: 258 }, &[0x85, 0, 0, 9, 4, 0, 0, 0, 7, 0, 0, 1, 2]),
            (Control::Ping(258), &[0x80, 0, 0, 9, 5, 0, 0, 0, 0, 0, 0, 1, 2]),
            (Control::Pong(1), &[0x80, 0, 0, 9, 6, 0, 0, 0, 0, 0, 0, 0, 1]),
            (Control::Ack(2), &[0x80, 0, 0, 9, 7, 0, 0, 0, 0, 0, 0, 0, 2]),
            (Control::Waiting { channel: ch, waiting: true, count: 259 }, &[0x85, 0, 0, 6, 8, 1, 0, 0, 1, 3]),
            (Control::Interrupt, &[0x80, 0, 0, 1, 9]),
            (
                Control::Close { code: CloseCode::from(300), reason: "ok".into() },
                &[0x80, 0, 0, 5, 10, 1, 44, b'o', b'k'],
            ),
        ];
        for (control, bytes) in cases {
            let mut out = Vec::new();
            control.encode(&mut out);
            assert_eq!(&out, bytes);
            assert_eq!(decode(bytes).as_ref(), Ok(control));
        }
        assert_eq!(Word::data(ChannelId::new(127), true, 65_536).to_bytes(), [0x7f, 0x81, 0, 0]);
    }

    /// Trap 6: the length is refused by the word alone, before anything could be allocated.
    #[test]
    fn an_oversized_frame_is_refused_by_its_word() {
        assert_eq!(Word::from_bytes([0x01, 0x01, 0, 1]).check(), Err(Violation::DataTooLong(65_537)));
        assert_eq!(Word::from_bytes([0x81, 0, 4, 1]).check(), Err(Violation::ControlLength(1025)));
        assert_eq!(Word::from_bytes([0x81, 0, 0, 0]).check(), Err(Violation::ControlLength(0)));
        assert_eq!(Word::from_bytes([0x81, 0x80, 0, 1]).check(), Err(Violation::ReservedBit));
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let reason = "é".repeat(200);
        let mut out = Vec::new();
        Control::Close { code: CloseCode::NORMAL, reason }.encode(&mut out);
        let Ok(Control::Close { reason, .. }) = decode(&out) else { panic!("not a CLOSE") };
        assert_eq!(reason, "é".repeat(127));
    }

    proptest! {
        #[test]
        fn any_payload_is_read_or_refused(channel in 0u8..128, payload in prop::collection::vec(any::<u8>(), 1..300)) {
            let channel = ChannelId::new(channel);
            if let Ok(control) = Control::decode(channel, &payload)
                && control != Control::Extension
            {
                let mut out = Vec::new();
                control.encode(&mut out);
                prop_assert_eq!(decode(&out), Ok(control));
            }
        }
    }
}
