//! The books: what the library sends, checked against the page.

use super::stream::{WireError, violation};
use super::*;

impl RawPeer {
    pub(super) fn note(&mut self, frame: &Frame) -> Result<(), WireError> {
        if self.closed.is_some() && !matches!(frame, Frame::Ack(_)) {
            return violation(format!("{frame:?} after CLOSE"));
        }
        match frame {
            Frame::Data { channel, more, payload } => self.note_data(*channel, *more, payload.len())?,
            Frame::Credit { channel, amount } => self.note_credit(*channel, *amount)?,
            Frame::Finish { channel } => {
                self.may_they_send(*channel, "FINISH")?;
                self.note_outside(*channel, "FINISH")?;
                self.ends_received[usize::from(*channel)] += 1;
            }
            Frame::Reset { channel, .. } => {
                self.may_they_send(*channel, "RESET")?;
                self.assembly[usize::from(*channel)] = None;
                self.ends_received[usize::from(*channel)] += 1;
            }
            Frame::Gap { channel, .. } => {
                self.may_they_send(*channel, "GAP")?;
                self.note_outside(*channel, "GAP")?;
            }
            Frame::Stop { channel, run, .. } => {
                self.may_we_send(*channel, "STOP")?;
                self.note_stop(*channel, *run)?;
            }
            Frame::Waiting { channel, count, .. } => {
                self.may_we_send(*channel, "WAITING")?;
                self.note_count(*channel, *count)?;
            }
            Frame::Pong(number) => self.note_pong(*number)?,
            Frame::Ack(offset) => self.note_ack(*offset)?,
            Frame::Interrupt => {
                if self.role == Role::Server && !self.accept.may_interrupt() {
                    return violation("INTERRUPT from a client that may not");
                }
            }
            Frame::Close { code, reason } => {
                if (code::SHUTTING_DOWN + 1..code::FIRST_OF_APPLICATION).contains(code) {
                    return violation(format!("CLOSE {code}, which means nothing"));
                }
                self.closed = Some((*code, reason.clone()));
            }
            Frame::Extension { opcode, .. } => {
                return violation(format!("version 1 sent extension {opcode:#04x}"));
            }
            Frame::Ping(_) => {}
        }
        Ok(())
    }

    fn may_they_send(&self, channel: u8, what: &str) -> Result<(), WireError> {
        match self.accept.may_receive >> channel & 1 {
            0 => violation(format!("{what} on channel {channel}, on which it may not send")),
            _ => Ok(()),
        }
    }

    fn may_we_send(&self, channel: u8, what: &str) -> Result<(), WireError> {
        match self.accept.may_send >> channel & 1 {
            0 => violation(format!("{what} for channel {channel}, on which we may not send")),
            _ => Ok(()),
        }
    }

    fn note_outside(&self, channel: u8, what: &str) -> Result<(), WireError> {
        match self.assembly[usize::from(channel)] {
            Some(_) => violation(format!("channel {channel}: {what} inside a message")),
            None => Ok(()),
        }
    }

    fn note_data(&mut self, channel: u8, more: bool, len: usize) -> Result<(), WireError> {
        let at = usize::from(channel);
        self.data_frames += 1;
        self.may_they_send(channel, "data")?;
        if more && len == 0 {
            return violation(format!("channel {channel}: an empty fragment"));
        }
        self.receive_credit[at] -= (len + FRAME_COST) as i64;
        if self.receive_credit[at] < 0 {
            return violation(format!(
                "channel {channel}: {} more than the credit",
                -self.receive_credit[at]
            ));
        }
        let whole = self.assembly[at].unwrap_or(0) + len;
        if whole > self.max_message as usize {
            return violation(format!("channel {channel}: a message of {whole} bytes"));
        }
        self.assembly[at] = more.then_some(whole);
        self.messages_received[at] += u32::from(!more);
        Ok(())
    }

    /// The account of section 3, as far as it is seen from here: what is held is not.
    fn note_credit(&mut self, channel: u8, amount: u32) -> Result<(), WireError> {
        let at = usize::from(channel);
        self.may_we_send(channel, "CREDIT")?;
        if amount == 0 {
            return violation(format!("channel {channel}: CREDIT 0"));
        }
        self.send_credit[at] += i64::from(amount);
        if self.ledger.lost {
            // What was sent is not known.
            return Ok(());
        }
        let window = i64::from(self.accept.window);
        if self.send_credit[at] > window {
            return violation(format!(
                "channel {channel}: a credit of {} with a window of {window}",
                self.send_credit[at]
            ));
        }
        if 2 * i64::from(amount) < window {
            return violation(format!("channel {channel}: CREDIT {amount}, less than half of {window}"));
        }
        Ok(())
    }

    fn note_stop(&mut self, channel: u8, run: u32) -> Result<(), WireError> {
        let at = usize::from(channel);
        if self.ledger.lost {
            return Ok(());
        }
        if run > self.ends_sent[at] || run < self.last_stop[at] {
            let (sent, last) = (self.ends_sent[at], self.last_stop[at]);
            return violation(format!("channel {channel}: STOP of run {run} after {last}; {sent} ended"));
        }
        self.last_stop[at] = run;
        Ok(())
    }

    fn note_count(&mut self, channel: u8, count: u32) -> Result<(), WireError> {
        let at = usize::from(channel);
        if self.ledger.lost {
            return Ok(());
        }
        if count > self.messages_sent[at] || count < self.last_count[at] {
            let (sent, last) = (self.messages_sent[at], self.last_count[at]);
            return violation(format!("channel {channel}: WAITING counts {count} after {last}; {sent} sent"));
        }
        self.last_count[at] = count;
        Ok(())
    }

    /// Pongs may be left out, and none comes twice or out of nothing.
    fn note_pong(&mut self, number: u64) -> Result<(), WireError> {
        if self.ledger.lost {
            return Ok(());
        }
        match self.pings.iter().position(|ping| *ping == number) {
            Some(at) => {
                self.pings.drain(..=at);
                Ok(())
            }
            None => violation(format!("PONG {number} was not asked for")),
        }
    }

    fn note_ack(&mut self, offset: u64) -> Result<(), WireError> {
        if offset > self.sent {
            return violation(format!("ACK {offset}, sent {}", self.sent));
        }
        let before = self.acked.unwrap_or(0);
        if offset < before {
            // A replay may bring old ones again.
            return if self.resumed { Ok(()) } else { violation(format!("ACK {offset} after {before}")) };
        }
        self.acked = Some(offset);
        Ok(())
    }
}
