//! What tests expect of the other side.

use std::time::{Duration, Instant};

use super::stream::{WireError, violation};
use super::*;

impl RawPeer {
    /// What happens next on `channel`, or CLOSE.
    pub fn next_on(&mut self, channel: u8, timeout: Duration) -> Result<Event, WireError> {
        self.wait_for(timeout, |event| {
            event.of_channel() == Some(channel) || matches!(event, Event::Close(..))
        })
    }

    /// The next message on `channel`; panics if the run ends or the peer closes instead.
    #[track_caller]
    pub fn expect_message(&mut self, channel: u8) -> Vec<u8> {
        match self.next_on(channel, PATIENCE) {
            Ok(Event::Message(_, payload)) => payload,
            other => panic!("wanted a message on channel {channel}, got {other:?}"),
        }
    }

    /// Exactly this, next on its channel: a message, a gap, or the end of a run.
    #[track_caller]
    pub fn expect_next(&mut self, wanted: Event) {
        let channel = wanted.of_channel().expect("an event of a channel");
        match self.next_on(channel, PATIENCE) {
            Ok(event) if event == wanted => {}
            other => panic!("wanted {wanted:?}, got {other:?}"),
        }
    }

    /// The next STOP of `channel`: its code and its run.
    #[track_caller]
    pub fn expect_stop(&mut self, channel: u8) -> (u32, u32) {
        let event = self.wait_for(PATIENCE, |event| match event {
            Event::Stop(c, ..) => *c == channel,
            Event::Close(..) => true,
            _ => false,
        });
        match event {
            Ok(Event::Stop(_, code, run)) => (code, run),
            other => panic!("wanted STOP of channel {channel}, got {other:?}"),
        }
    }

    /// Waits until the peer has acknowledged everything up to `offset`.
    #[track_caller]
    pub fn expect_acked(&mut self, offset: u64) {
        self.acked_within(offset, PATIENCE).unwrap_or_else(|error| {
            panic!("wanted ACK {offset}, got {error} after {:?}", self.acked);
        });
    }

    /// The same, with a time.
    pub fn acked_within(&mut self, offset: u64, time: Duration) -> Result<(), WireError> {
        let deadline = Instant::now() + time;
        while self.acked.unwrap_or(0) < offset {
            let event = self.event_from_wire(deadline)?;
            if !matches!(event, Event::Ack(_)) {
                self.stash.push_back(event);
            }
        }
        Ok(())
    }

    #[track_caller]
    pub fn expect_pong(&mut self, number: u64) {
        let event = self.wait_for(PATIENCE, |event| matches!(event, Event::Pong(_) | Event::Close(..)));
        match event {
            Ok(Event::Pong(n)) if n == number => {}
            other => panic!("wanted PONG {number}, got {other:?}"),
        }
    }

    /// PING and its PONG: everything sent before has been looked at, and the peer has not closed.
    #[track_caller]
    pub fn expect_alive(&mut self) {
        let number = u64::from_be_bytes(random());
        self.try_send_bytes(&ping(number));
        self.expect_pong(number);
    }

    /// CLOSE with this code, and then the end of the stream. Gives the reason.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) -> String {
        self.expect_close_in(&[code]).1
    }

    #[track_caller]
    pub fn expect_close_in(&mut self, codes: &[u16]) -> (u16, String) {
        match self.read_close() {
            Ok((code, reason)) if codes.contains(&code) => (code, reason),
            other => panic!("wanted CLOSE with one of {codes:?} and the end, got {other:?}"),
        }
    }

    /// Reads to CLOSE, and not further.
    #[track_caller]
    pub fn expect_close_frame(&mut self) -> (u16, String) {
        match self.wait_for(PATIENCE, |event| matches!(event, Event::Close(..))) {
            Ok(Event::Close(code, reason)) => (code, reason),
            other => panic!("wanted CLOSE, got {other:?}"),
        }
    }

    /// Reads to CLOSE and then to the end of the stream, with nothing but ACKs between them.
    pub fn read_close(&mut self) -> Result<(u16, String), WireError> {
        if self.closed.is_none() {
            self.wait_for(PATIENCE, |event| matches!(event, Event::Close(..)))?;
        }
        self.read_end()?;
        Ok(self.closed.clone().expect("CLOSE has come"))
    }

    /// Reads to the end of the stream, whatever comes before.
    fn read_end(&mut self) -> Result<(), WireError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.event_from_wire(deadline) {
                Ok(event) => self.stash.push_back(event),
                Err(WireError::End { partial: 0 }) | Err(WireError::Reset) => return Ok(()),
                Err(WireError::End { partial }) if self.closed.is_some() => {
                    return violation(format!("{partial} bytes of a frame after CLOSE"));
                }
                Err(error) if error.is_end() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The end of the stream, with or without CLOSE and whatever comes before.
    #[track_caller]
    pub fn expect_end(&mut self) {
        if let Err(error) = self.read_end() {
            panic!("wanted the end of the stream, got {error}");
        }
    }

    /// The peer has closed, or is about to: takes its CLOSE, confirms it, closes too, and sees the
    /// confirmation and the end. Gives the peer's code.
    #[track_caller]
    pub fn answer_close(&mut self) -> u16 {
        if self.closed.is_none() {
            self.expect_close_frame();
        }
        self.acknowledge();
        if self.sent_close.is_none() {
            self.try_send_bytes(&close(code::NORMAL, b""));
        }
        self.shutdown_write();
        self.expect_end();
        assert!(self.is_confirmed(), "CLOSE ends at {:?}, ACK {:?}", self.sent_close, self.acked);
        self.closed.as_ref().expect("it has come").0
    }

    /// Closes first, and sees all that section 7 asks for. Gives the peer's code.
    #[track_caller]
    pub fn close_and_finish(&mut self, code: u16, reason: &[u8]) -> u16 {
        self.try_send_bytes(&close(code, reason));
        self.answer_close()
    }

    /// Whether the peer has acknowledged our CLOSE.
    pub fn is_confirmed(&self) -> bool {
        self.sent_close.is_some_and(|end| self.acked.is_some_and(|acked| acked >= end))
    }

    /// Nothing on `channel` (messages, fragments, gaps, ends) for as long as a PING takes and then
    /// `quiet` longer.
    #[track_caller]
    pub fn expect_silence(&mut self, channel: u8, quiet: Duration) {
        let frames = self.data_frames;
        self.expect_alive();
        match self.next_on(channel, quiet) {
            Err(WireError::Timeout) if self.data_frames == frames => {}
            Err(WireError::Timeout) => panic!("data came on some channel"),
            other => panic!("wanted silence on channel {channel}, got {other:?}"),
        }
    }

    /// No event that `unwanted` likes for `quiet`; what comes is kept.
    #[track_caller]
    pub fn expect_none(&mut self, quiet: Duration, unwanted: impl FnMut(&Event) -> bool) {
        match self.wait_for(quiet, unwanted) {
            Err(WireError::Timeout) => {}
            other => panic!("wanted nothing of this kind, got {other:?}"),
        }
    }
}
