//! Statements that a session has prepared, by the number that the server gave them.

use std::collections::{BTreeMap, VecDeque};

use super::values::Type;

/// Statements that are remembered; servers allow 16,382 in all, drivers keep some hundreds. Beyond it the
/// one that was prepared first is forgotten.
const STATEMENTS_MAX: usize = 2_048;
const STATEMENTS_BYTES_MAX: usize = 2 << 20;
/// Values of one statement that were sent in pieces.
const LONG_VALUES_MAX: usize = 64;

/// A statement.
#[derive(Debug, Default)]
pub(super) struct Statement {
    pub(super) text: Vec<u8>,
    /// How many parameters it has; `None` if that is not known.
    pub(super) parameters: Option<usize>,
    /// As they were declared last: an execution may leave that out.
    pub(super) types: Vec<Type>,
    /// Values that were sent in pieces, by their parameter.
    pub(super) long_values: BTreeMap<u16, Vec<u8>>,
}

impl Statement {
    fn held_bytes(&self) -> usize {
        let long: usize = self.long_values.values().map(|value| value.capacity() + 64).sum();
        self.text.capacity()
            + self.types.capacity() * size_of::<Type>()
            + long
            + 2 * size_of::<Statement>()
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Session {
    statements: BTreeMap<u32, Statement>,
    order: VecDeque<u32>,
    held_bytes: usize,
}

impl Session {
    pub(super) fn prepare(&mut self, id: u32, text: Vec<u8>, parameters: Option<usize>) {
        self.close(id);
        let statement = Statement { text, parameters, ..Statement::default() };
        self.held_bytes += statement.held_bytes();
        self.statements.insert(id, statement);
        self.order.push_back(id);
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.statements.len() > STATEMENTS_MAX || self.held_bytes > STATEMENTS_BYTES_MAX {
            let Some(id) = self.order.front().copied() else { return };
            self.close(id);
        }
    }

    pub(super) fn close(&mut self, id: u32) {
        if let Some(statement) = self.statements.remove(&id) {
            self.held_bytes -= statement.held_bytes();
            if let Some(at) = self.order.iter().position(|known| *known == id) {
                self.order.remove(at);
            }
        }
    }

    /// One that was prepared last.
    pub(super) fn last(&self) -> Option<u32> {
        self.order.back().copied()
    }

    pub(super) fn get(&self, id: u32) -> Option<&Statement> {
        self.statements.get(&id)
    }

    /// Changes a statement, and one that was not seen to be prepared comes to be known.
    pub(super) fn change<R>(&mut self, id: u32, change: impl FnOnce(&mut Statement) -> R) -> R {
        if !self.statements.contains_key(&id) {
            self.prepare(id, Vec::new(), None);
        }
        let statement = self.statements.entry(id).or_default();
        let before = statement.held_bytes();
        let result = change(statement);
        let after = statement.held_bytes();
        self.held_bytes = self.held_bytes - before + after;
        self.make_room();
        result
    }

    /// A piece of a value; so many bytes of it are kept.
    pub(super) fn add_long_value(
        &mut self,
        id: u32,
        parameter: u16,
        bytes: &[u8],
        bytes_max: usize,
    ) {
        self.change(id, |statement| {
            if statement.long_values.len() >= LONG_VALUES_MAX
                && !statement.long_values.contains_key(&parameter)
            {
                return;
            }
            let value = statement.long_values.entry(parameter).or_default();
            let room = bytes_max.saturating_sub(value.len());
            value.extend_from_slice(&bytes[..bytes.len().min(room)]);
        });
    }

    pub(super) fn clear(&mut self) {
        *self = Session::default();
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes + self.order.capacity() * size_of::<u32>()
    }
}
