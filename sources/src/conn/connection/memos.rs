//! What a program remembers of a connection, until there is a parser to tell it to. What it means is not known here.

use weir_protocols::Side;
use weir_protocols::protocol::Parser;

use super::{Connection, State};
use crate::capture::Direction;

/// Those that wait; beyond it the oldest is dropped.
const MEMOS_MAX: usize = 4;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Memos(Vec<(Direction, u64, Vec<u8>)>);

impl Memos {
    fn keep(&mut self, direction: Direction, position: u64, bytes: &[u8]) {
        if self.0.len() == MEMOS_MAX {
            self.0.remove(0);
        }
        self.0.push((direction, position, bytes.to_vec()));
    }

    /// `requests`: which way they go.
    fn tell(&mut self, parser: &mut dyn Parser, requests: Direction) {
        for (direction, position, bytes) in std::mem::take(&mut self.0) {
            let side = if direction == requests { Side::Request } else { Side::Response };
            parser.memo(side, position, &bytes);
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.0.iter().map(|(_, _, bytes)| bytes.capacity()).sum()
    }
}

impl Connection {
    /// What the program remembers of a direction that is said over TLS.
    pub(in crate::conn) fn remember(&mut self, direction: Direction, position: u64, bytes: &[u8]) {
        if !self.is_encrypted || !matches!(self.state, State::Ignored) {
            self.memos.keep(direction, position, bytes);
        }
        self.tell_memos();
    }

    /// To its parser, once that is there.
    pub(super) fn tell_memos(&mut self) {
        if let (State::Known { parser, requests, .. }, true) = (&mut self.state, self.is_encrypted)
        {
            self.memos.tell(parser.as_mut(), *requests);
        }
    }
}
