//! Frames: made of anything, and read strictly.

use super::keys::{be16, be32, be64};
use super::stream::{WireError, violation};
use super::{MAX_CONTROL, MAX_DATA, opcode};

/// The 4-byte word before every payload. Takes nonsense as well: only the bits are masked.
pub fn word(control: bool, channel: u8, more: bool, len: u32) -> [u8; 4] {
    let bits = (u32::from(control) << 31)
        | (u32::from(channel & 0x7F) << 24)
        | (u32::from(more) << 23)
        | (len & 0x7F_FFFF);
    bits.to_be_bytes()
}

/// A data frame, of any size.
pub fn data(channel: u8, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = word(false, channel, more, payload.len() as u32).to_vec();
    out.extend_from_slice(payload);
    out
}

/// A control frame, with any opcode and body.
pub fn control(channel: u8, opcode: u8, body: &[u8]) -> Vec<u8> {
    let mut out = word(true, channel, false, 1 + body.len() as u32).to_vec();
    out.push(opcode);
    out.extend_from_slice(body);
    out
}

pub fn credit(channel: u8, amount: u32) -> Vec<u8> {
    control(channel, opcode::CREDIT, &amount.to_be_bytes())
}

pub fn finish(channel: u8) -> Vec<u8> {
    control(channel, opcode::FINISH, &[])
}

pub fn reset(channel: u8, code: u32) -> Vec<u8> {
    control(channel, opcode::RESET, &code.to_be_bytes())
}

pub fn stop(channel: u8, code: u32, run: u32) -> Vec<u8> {
    control(channel, opcode::STOP, &[code.to_be_bytes(), run.to_be_bytes()].concat())
}

pub fn ping(number: u64) -> Vec<u8> {
    control(0, opcode::PING, &number.to_be_bytes())
}

pub fn pong(number: u64) -> Vec<u8> {
    control(0, opcode::PONG, &number.to_be_bytes())
}

pub fn ack(offset: u64) -> Vec<u8> {
    control(0, opcode::ACK, &offset.to_be_bytes())
}

pub fn waiting(channel: u8, value: u8, count: u32) -> Vec<u8> {
    control(channel, opcode::WAITING, &[&[value][..], &count.to_be_bytes()].concat())
}

pub fn interrupt() -> Vec<u8> {
    control(0, opcode::INTERRUPT, &[])
}

pub fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    let mut body = code.to_be_bytes().to_vec();
    body.extend_from_slice(reason);
    control(0, opcode::CLOSE, &body)
}

pub fn gap(channel: u8, messages: u64, bytes: u64) -> Vec<u8> {
    let mut body = messages.to_be_bytes().to_vec();
    body.extend_from_slice(&bytes.to_be_bytes());
    control(channel, opcode::GAP, &body)
}

/// A frame that obeys section 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Data { channel: u8, more: bool, payload: Vec<u8> },
    Credit { channel: u8, amount: u32 },
    Finish { channel: u8 },
    Reset { channel: u8, code: u32 },
    Stop { channel: u8, code: u32, run: u32 },
    Ping(u64),
    Pong(u64),
    Ack(u64),
    Waiting { channel: u8, waiting: bool, count: u32 },
    Interrupt,
    Close { code: u16, reason: String },
    Gap { channel: u8, messages: u64, bytes: u64 },
    Extension { channel: u8, opcode: u8, body: Vec<u8> },
}

impl Frame {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Data { channel, more, payload } => data(*channel, *more, payload),
            Self::Credit { channel, amount } => credit(*channel, *amount),
            Self::Finish { channel } => finish(*channel),
            Self::Reset { channel, code } => reset(*channel, *code),
            Self::Stop { channel, code, run } => stop(*channel, *code, *run),
            Self::Ping(number) => ping(*number),
            Self::Pong(number) => pong(*number),
            Self::Ack(offset) => ack(*offset),
            Self::Waiting { channel, waiting: w, count } => waiting(*channel, u8::from(*w), *count),
            Self::Interrupt => interrupt(),
            Self::Close { code, reason } => close(*code, reason.as_bytes()),
            Self::Gap { channel, messages, bytes } => gap(*channel, *messages, *bytes),
            Self::Extension { channel, opcode, body } => control(*channel, *opcode, body),
        }
    }

    /// The payload length that `word` announces, if it may.
    pub fn check_word(word: [u8; 4]) -> Result<usize, WireError> {
        let bits = u32::from_be_bytes(word);
        let len = (bits & 0x7F_FFFF) as usize;
        if bits >> 31 == 0 {
            if len > MAX_DATA {
                return violation(format!("a data frame of {len} bytes"));
            }
        } else {
            if bits & (1 << 23) != 0 {
                return violation("a control frame with M set");
            }
            if len == 0 || len > MAX_CONTROL {
                return violation(format!("a control frame of {len} bytes"));
            }
        }
        Ok(len)
    }

    pub fn decode(word: [u8; 4], payload: &[u8]) -> Result<Self, WireError> {
        let len = Self::check_word(word)?;
        assert_eq!(len, payload.len());
        let channel = word[0] & 0x7F;
        if word[0] >> 7 == 0 {
            return Ok(Self::Data { channel, more: word[1] >> 7 == 1, payload: payload.to_vec() });
        }
        let (opcode, body) = (payload[0], &payload[1..]);
        let size = |size: usize| {
            if body.len() == size {
                Ok(())
            } else {
                violation(format!("opcode {opcode:#04x} with a body of {}", body.len()))
            }
        };
        let no_channel = || {
            if channel == 0 {
                Ok(())
            } else {
                violation(format!("opcode {opcode:#04x} on channel {channel}"))
            }
        };
        Ok(match opcode {
            opcode::CREDIT => {
                size(4)?;
                Self::Credit { channel, amount: be32(body) }
            }
            opcode::FINISH => {
                size(0)?;
                Self::Finish { channel }
            }
            opcode::RESET => {
                size(4)?;
                Self::Reset { channel, code: be32(body) }
            }
            opcode::STOP => {
                size(8)?;
                Self::Stop { channel, code: be32(&body[..4]), run: be32(&body[4..]) }
            }
            opcode::PING => {
                size(8)?;
                no_channel()?;
                Self::Ping(be64(body))
            }
            opcode::PONG => {
                size(8)?;
                no_channel()?;
                Self::Pong(be64(body))
            }
            opcode::ACK => {
                size(8)?;
                no_channel()?;
                Self::Ack(be64(body))
            }
            opcode::WAITING => {
                size(5)?;
                match body[0] {
                    0 | 1 => Self::Waiting { channel, waiting: body[0] == 1, count: be32(&body[1..]) },
                    other => return violation(format!("WAITING {other}")),
                }
            }
            opcode::INTERRUPT => {
                size(0)?;
                no_channel()?;
                Self::Interrupt
            }
            opcode::CLOSE => {
                no_channel()?;
                if !(2..=257).contains(&body.len()) {
                    return size(2).map(|()| unreachable!());
                }
                match std::str::from_utf8(&body[2..]) {
                    Ok(reason) => Self::Close { code: be16(&body[..2]), reason: reason.to_owned() },
                    Err(_) => return violation("CLOSE with a reason that is not UTF-8"),
                }
            }
            opcode::GAP => {
                size(16)?;
                Self::Gap { channel, messages: be64(&body[..8]), bytes: be64(&body[8..]) }
            }
            opcode::FIRST_EXTENSION.. => Self::Extension { channel, opcode, body: body.to_vec() },
            _ => return violation(format!("opcode {opcode:#04x}")),
        })
    }
}
