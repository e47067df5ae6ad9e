//! A build without the feature `sealed`: none of this can be made.

use super::{MESSAGE_1, MESSAGE_2, Tampered};
use crate::key::Key;

pub(crate) enum Initiator {}

impl Initiator {
    pub(crate) fn new(_: &Key, _: &[u8]) -> Option<(Self, [u8; MESSAGE_1])> {
        None
    }

    pub(crate) fn finish(self, _: &[u8; MESSAGE_2]) -> Option<([u8; 8], Seal)> {
        match self {}
    }
}

pub(crate) enum Responder {}

impl Responder {
    pub(crate) fn new(_: &Key, _: &[u8], _: &[u8; MESSAGE_1]) -> Option<Self> {
        None
    }

    pub(crate) fn answer(self, _: &[u8; 8]) -> Option<([u8; MESSAGE_2], Seal)> {
        match self {}
    }
}

#[derive(Debug)]
pub(crate) enum Seal {}

impl Seal {
    pub(crate) fn seal<'a>(&mut self, _: &mut Vec<u8>, _: usize, _: impl Iterator<Item = &'a [u8]>) -> usize {
        match *self {}
    }

    pub(crate) fn open<'a>(&mut self, _: &'a mut [u8]) -> Result<&'a mut [u8], Tampered> {
        match *self {}
    }
}
