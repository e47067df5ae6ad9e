//! What a peer can do that the protocol forbids, and the code that tells it so.

use crate::error::CloseCode;
use crate::id::ChannelId;

/// What a peer did that the protocol forbids.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Violation {
    #[error("a data frame of {0} bytes; the most is 65536")]
    DataTooLong(usize),
    #[error("a fragment without a byte on channel {0}")]
    EmptyFragment(ChannelId),
    #[error("a control frame of {0} bytes; they have 1 to 1024")]
    ControlLength(usize),
    #[error("a control frame with the reserved bit 23 set")]
    ReservedBit,
    #[error("the unknown opcode {0:#04x}")]
    UnknownOpcode(u8),
    #[error("opcode {opcode:#04x} with a body of {size} bytes, which is not its size")]
    BodySize { opcode: u8, size: usize },
    #[error("opcode {opcode:#04x} with a value that it cannot have")]
    BadValue { opcode: u8 },
    #[error("opcode {opcode:#04x} on channel {channel}; it belongs to no channel and has 0 there")]
    StrayChannel { opcode: u8, channel: ChannelId },
    #[error("the end of channel {0} in the middle of a message")]
    EndInsideMessage(ChannelId),
    #[error("a gap of channel {0} in the middle of a message")]
    GapInsideMessage(ChannelId),
    #[error("{cost} bytes of credit spent on channel {channel}, where {credit} were left")]
    NoCredit { channel: ChannelId, cost: u32, credit: u32 },
    #[error("credit above 2147483647 on channel {0}")]
    CreditOverflow(ChannelId),
    #[error("a message of more than {limit} bytes on channel {channel}")]
    MessageTooLarge { channel: ChannelId, limit: u32 },
    #[error("something on channel {0}, where this peer may not send")]
    MayNotSend(ChannelId),
    #[error("credit, a stop or a waiting reader on channel {0}, which this peer may not receive")]
    MayNotReceive(ChannelId),
    #[error("an interrupt from a peer that may not")]
    MayNotInterrupt,
    #[error("an acknowledgement of {offset} bytes where {sent} were sent")]
    AckOutOfRange { offset: u64, sent: u64 },
    #[error("frames while {0} bytes sent to it were not acknowledged; acknowledge at least every 128 KiB")]
    Unacknowledged(u64),
    #[error("something else than an acknowledgement after its CLOSE")]
    AfterClose,
}

impl Violation {
    /// The code of the CLOSE that answers it (protocol, section 2).
    pub(crate) fn close_code(&self) -> CloseCode {
        match self {
            Self::NoCredit { .. } | Self::CreditOverflow(_) => CloseCode::FLOW_CONTROL,
            Self::MessageTooLarge { .. } => CloseCode::MESSAGE_TOO_LARGE,
            Self::MayNotSend(_) | Self::MayNotReceive(_) | Self::MayNotInterrupt => CloseCode::NOT_PERMITTED,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}
