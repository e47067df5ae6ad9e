//! What a sealed socket has: records, which are opened one by one.

use std::io;

use super::{Attachment, Conn};
use crate::io::env::Env;
use crate::io::socket::Read;
use crate::proto::inbound::Budget;

impl Conn {
    /// Reads once, and takes all records that have come whole. `false`: there is no more for now.
    pub(super) fn read_sealed(&mut self, budget: &mut Budget, env: &mut Env) -> io::Result<bool> {
        let Attachment::Attached(link) = &mut self.attachment else { return Ok(false) };
        let read = match link.read_sealed(&mut env.scratch, &mut &*env.core.pool)? {
            Read::Bytes(read) => read,
            Read::Nothing => return Ok(false),
            Read::End => return self.handle_end_of_half().map(|()| false),
        };
        env.received = true;
        let mut scratch = std::mem::take(&mut env.scratch);
        let opened = self.open_records(&mut scratch[..read], budget, env);
        env.scratch = scratch;
        self.traffic.read(opened?);
        Ok(true)
    }

    /// Opens records and takes what is in them, until this pass's share is used up. Returns how much that
    /// was.
    fn open_records(
        &mut self,
        mut bytes: &mut [u8],
        budget: &mut Budget,
        env: &mut Env,
    ) -> io::Result<usize> {
        let mut opened = 0;
        loop {
            let Attachment::Attached(link) = &mut self.attachment else { return Ok(opened) };
            let may_more = link.unhandled.is_empty() && !budget.is_spent();
            let Some(sealed) = link.sealed() else { return Ok(opened) };
            let record = if may_more { sealed.open(bytes)? } else { None };
            let Some((text, length)) = record else {
                sealed.keep(bytes, &mut &*env.core.pool);
                if !may_more {
                    // What was kept may be whole records, of which the socket does not tell again.
                    link.look_again();
                }
                return Ok(opened);
            };
            opened += text.len();
            self.handle_bytes(text, budget, env);
            bytes = &mut std::mem::take(&mut bytes)[length..];
        }
    }
}
