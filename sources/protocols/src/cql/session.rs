//! Statements that were prepared, by the ids that servers gave them.
//!
//! Drivers prepare on one connection and execute on all. Ids of sixteen bytes are digests of their
//! statements, so these are remembered for all connections of a thread; others for their own only.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::values::Type;
use crate::protocol::Shared;

/// Length of an id that is a digest.
const DIGEST_BYTES: usize = 16;
/// Statements that are remembered, and what they may hold. Beyond it the one that was prepared first is
/// forgotten.
const STATEMENTS_MAX: usize = 4_096;
const BYTES_MAX: usize = 4 << 20;
/// The same for those of one connection.
const OWN_STATEMENTS_MAX: usize = 512;
const OWN_BYTES_MAX: usize = 1 << 20;
/// Of a statement beside its id, text and types: entries, its id again.
const ENTRY_BYTES: usize = 128;

/// A statement as a row shows it, and its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) text: Vec<u8>,
    pub(super) types: Vec<Type>,
}

fn bytes_of(id: &[u8], statement: &Statement) -> usize {
    let types: usize = statement.types.iter().map(Type::held_bytes).sum();
    2 * id.len() + statement.text.capacity() + types + ENTRY_BYTES
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Statements {
    by_id: HashMap<Vec<u8>, Statement, foldhash::fast::RandomState>,
    order: VecDeque<Vec<u8>>,
    held_bytes: usize,
    statements_max: usize,
    bytes_max: usize,
}

impl Statements {
    fn new(statements_max: usize, bytes_max: usize) -> Statements {
        Statements {
            by_id: HashMap::default(),
            order: VecDeque::new(),
            held_bytes: 0,
            statements_max,
            bytes_max,
        }
    }

    /// Those of one connection.
    pub(super) fn own() -> Statements {
        Statements::new(OWN_STATEMENTS_MAX, OWN_BYTES_MAX)
    }

    fn get(&self, id: &[u8]) -> Option<&Statement> {
        self.by_id.get(id)
    }

    fn prepare(&mut self, id: &[u8], statement: Statement) {
        self.held_bytes += bytes_of(id, &statement);
        match self.by_id.insert(id.to_vec(), statement) {
            Some(before) => self.held_bytes -= bytes_of(id, &before),
            None => self.order.push_back(id.to_vec()),
        }
        while self.by_id.len() > self.statements_max || self.held_bytes > self.bytes_max {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(statement) = self.by_id.remove(&oldest) {
                self.held_bytes -= bytes_of(&oldest, &statement);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Statements::new(self.statements_max, self.bytes_max);
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

/// What the parsers of a thread share.
#[derive(Debug)]
pub(super) struct OfThread {
    statements: Statements,
}

impl Default for OfThread {
    fn default() -> OfThread {
        OfThread { statements: Statements::new(STATEMENTS_MAX, BYTES_MAX) }
    }
}

impl Shared for OfThread {
    fn held_bytes(&self) -> usize {
        self.statements.held_bytes()
    }
}

/// Both, as a connection sees them.
pub(super) struct Known<'a> {
    pub(super) own: &'a mut Statements,
    pub(super) of_thread: &'a mut OfThread,
}

impl Known<'_> {
    pub(super) fn get(&self, id: &[u8]) -> Option<&Statement> {
        match id.len() {
            DIGEST_BYTES => self.of_thread.statements.get(id),
            _ => self.own.get(id),
        }
    }

    pub(super) fn prepare(&mut self, id: &[u8], statement: Statement) {
        match id.len() {
            DIGEST_BYTES => self.of_thread.statements.prepare(id, statement),
            _ => self.own.prepare(id, statement),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is remembered is bounded in number and bytes; a statement that is prepared again costs nothing.
    #[test]
    fn statements_are_bounded() {
        let statement = |length| Statement { text: vec![b's'; length], types: Vec::new() };
        let mut own = Statements::new(3, 10_000);
        for id in 0..10u8 {
            own.prepare(&[id], statement(10));
            own.prepare(&[id], statement(20));
        }
        assert_eq!((own.by_id.len(), own.order.len()), (3, 3));
        assert!(own.get(&[6]).is_none() && own.get(&[7]) == Some(&statement(20)));
        own.prepare(&[70], statement(9_800));
        assert_eq!(own.by_id.len(), 1);
        own.prepare(&[71], statement(20_000));
        assert_eq!((own.by_id.len(), own.held_bytes), (0, 0));
    }
}
