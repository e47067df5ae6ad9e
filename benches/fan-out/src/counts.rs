//! What all clients together have got.

use std::io::Write as _;

use crate::{DATA, LAST, WARM};

/// What all clients together have got.
pub struct Counts {
    warm: Vec<bool>,
    missing_warm: usize,
    got: Vec<u64>,
    messages: u64,
    open: usize,
}

impl Counts {
    pub fn new(clients: usize, messages: u64) -> Self {
        Self {
            warm: vec![false; clients],
            missing_warm: clients,
            got: vec![0; clients],
            messages,
            open: clients,
        }
    }

    /// A client got a message that begins like that. Returns `true` once all have the last.
    #[inline]
    pub fn count(&mut self, client: usize, first: u8) -> bool {
        match first {
            DATA => self.got[client] += 1,
            LAST => {
                self.got[client] += 1;
                self.open -= 1;
            }
            WARM if !self.warm[client] => {
                self.warm[client] = true;
                self.missing_warm -= 1;
                if self.missing_warm == 0 {
                    println!("ready");
                    let _ = std::io::stdout().flush();
                }
            }
            _ => {}
        }
        self.open == 0
    }

    pub fn lost(&self) -> u64 {
        self.got.iter().map(|got| self.messages - got).sum()
    }
}
