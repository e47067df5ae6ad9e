//! Control frames of the peer.

use super::Inbound;
use super::effects::{Stop, Waiting};
use crate::id::ChannelId;
use crate::proto::frame::{Control, End};
use crate::proto::inbound::Deliver;
use crate::proto::violation::Violation;

impl Inbound {
    pub(super) fn handle_control(
        &mut self,
        control: Control,
        out: &mut impl Deliver,
    ) -> Result<(), Violation> {
        if self.closed && !matches!(control, Control::Ack(_)) {
            return Err(Violation::AfterClose);
        }
        self.has_effects = true;
        self.wants_ack |= !matches!(control, Control::Ack(_));
        let Self { rights, effects, .. } = self;
        let for_sender = |channel| {
            if rights.receive.contains(channel) { Ok(()) } else { Err(Violation::MayNotReceive(channel)) }
        };
        match control {
            Control::Credit { channel, bytes } => {
                for_sender(channel)?;
                match effects.credits.iter_mut().rfind(|(known, _)| *known == channel) {
                    Some((_, sum)) => {
                        *sum = sum.checked_add(bytes).ok_or(Violation::CreditOverflow(channel))?;
                    }
                    None => effects.credits.push((channel, bytes)),
                }
            }
            Control::End { channel, end } => self.handle_end(channel, end, out)?,
            Control::Stop { channel, code, run } => {
                for_sender(channel)?;
                let stop = Stop { channel, code, run };
                // The first of the newest run: an earlier run is over by then.
                match effects.stops.iter_mut().rfind(|known| known.channel == channel) {
                    Some(known) if known.run == run => {}
                    Some(known) => *known = stop,
                    None => effects.stops.push(stop),
                }
            }
            Control::Ping(number) => effects.ping = Some(number),
            Control::Pong(number) => effects.pong = effects.pong.max(Some(number)),
            Control::Ack(offset) => effects.ack = effects.ack.max(Some(offset)),
            Control::Waiting { channel, waiting, count } => {
                for_sender(channel)?;
                let now = Waiting { channel, waiting, count };
                match effects.waiting.iter_mut().rfind(|known| known.channel == channel) {
                    Some(known) => *known = now,
                    None => effects.waiting.push(now),
                }
            }
            Control::Interrupt if !rights.interrupt => return Err(Violation::MayNotInterrupt),
            Control::Interrupt => effects.interrupt = true,
            Control::Close { code, reason } => {
                effects.close = Some((code, reason));
                self.closed = true;
            }
            Control::Gap { channel, messages, bytes } => self.handle_gap(channel, messages, bytes, out)?,
            Control::Extension => {}
        }
        Ok(())
    }

    fn handle_end(&mut self, id: ChannelId, end: End, out: &mut impl Deliver) -> Result<(), Violation> {
        let place = self.place(id)?;
        let channel = self.accounts.at(place);
        if channel.assembly.take().is_some() {
            if end == End::Finish {
                return Err(Violation::EndInsideMessage(id));
            }
            self.accounts.assembly_over(place);
        }
        self.open.remove(id);
        self.ended.insert(id);
        let mut frame = Vec::with_capacity(16);
        self.accounts.at(place).end(end, &mut frame);
        self.note(place, &frame, out);
        Ok(())
    }

    fn handle_gap(
        &mut self,
        id: ChannelId,
        messages: u64,
        bytes: u64,
        out: &mut impl Deliver,
    ) -> Result<(), Violation> {
        let place = self.place(id)?;
        let channel = self.accounts.at(place);
        if channel.assembly.is_some() {
            return Err(Violation::GapInsideMessage(id));
        }
        let mut frame = Vec::with_capacity(32);
        channel.gap(messages, bytes, &mut frame);
        self.note(place, &frame, out);
        Ok(())
    }

    /// Hands an end or a gap over, unless it was merged with others.
    fn note(&mut self, place: usize, frame: &[u8], out: &mut impl Deliver) {
        let id = self.accounts.at(place).id;
        if frame.is_empty() {
            self.merged.insert(id);
        } else {
            out.frames(id, frame, 0);
        }
    }
}
