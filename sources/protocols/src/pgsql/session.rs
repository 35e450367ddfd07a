//! What a session has prepared: statements and portals by name, as far as they were seen.
//!
//! Requests are read before their responses, and a client goes on as if all succeeded: a statement counts
//! from its Parse on, and no longer once that was refused. Of one that was prepared before the connection
//! was watched, or in a gap, nothing is known: its text is empty.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;

use super::types::Column;

/// Statements that are remembered; drivers keep some hundreds. Beyond it the oldest is forgotten.
const STATEMENTS_MAX: usize = 2_048;
/// Replaced ones, whose results may still come.
const REPLACED_MAX: usize = 256;
/// Portals, likewise: most sessions have the unnamed one.
const PORTALS_MAX: usize = 256;
/// What statements hold together, and portals.
const STATEMENTS_BYTES_MAX: usize = 2 << 20;
const PORTALS_BYTES_MAX: usize = 512 << 10;
/// Columns of a result whose types are remembered; servers allow 1,664.
pub(super) const COLUMNS_MAX: usize = 1_664;

#[derive(Debug, Default)]
struct Statement {
    name: Vec<u8>,
    text: Vec<u8>,
    parameters: Vec<u32>,
    columns: Vec<u32>,
    /// What had its name before.
    before: u64,
}

impl Statement {
    fn held_bytes(&self) -> usize {
        // Its name stands twice.
        2 * self.name.capacity()
            + self.text.capacity()
            + 4 * (self.parameters.capacity() + self.columns.capacity())
            + 2 * size_of::<Statement>()
    }
}

/// A statement with its values.
#[derive(Clone, Debug)]
pub(super) struct Portal {
    pub(super) text: Arc<[u8]>,
    pub(super) statement: u64,
    pub(super) formats: Arc<[u16]>,
}

impl Portal {
    fn held_bytes(&self) -> usize {
        self.text.len() + 2 * self.formats.len() + 2 * size_of::<Portal>()
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// By number, so by age.
    statements: BTreeMap<u64, Statement>,
    names: HashMap<Vec<u8>, u64, foldhash::fast::RandomState>,
    replaced: VecDeque<u64>,
    portals: VecDeque<(Vec<u8>, Portal)>,
    held_bytes: usize,
    portals_bytes: usize,
    last_number: u64,
}

impl Session {
    /// A statement is prepared; its number.
    pub(super) fn prepare(&mut self, name: &[u8], text: Vec<u8>, parameters: Vec<u32>) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        let before = self.names.insert(name.to_vec(), number).unwrap_or_default();
        if before != 0 {
            self.replaced.push_back(before);
        }
        let statement =
            Statement { name: name.to_vec(), text, parameters, columns: Vec::new(), before };
        self.held_bytes += statement.held_bytes();
        self.statements.insert(number, statement);
        if self.replaced.len() > REPLACED_MAX
            && let Some(number) = self.replaced.pop_front()
        {
            self.forget(number);
        }
        while self.statements.len() > STATEMENTS_MAX || self.held_bytes > STATEMENTS_BYTES_MAX {
            let Some((&number, _)) = self.statements.first_key_value() else { break };
            self.forget(number);
        }
        number
    }

    fn forget(&mut self, number: u64) {
        let Some(statement) = self.statements.remove(&number) else { return };
        self.held_bytes -= statement.held_bytes();
        if self.names.get(&statement.name) == Some(&number) {
            self.names.remove(&statement.name);
        }
    }

    /// The server did not prepare it: what had its name before still has it, unless it had none.
    pub(super) fn refused(&mut self, number: u64) {
        let Some(statement) = self.statements.get(&number) else { return };
        let (name, before) = (statement.name.clone(), statement.before);
        let is_it = self.names.get(&name) == Some(&number);
        self.forget(number);
        if is_it && !name.is_empty() && self.statements.contains_key(&before) {
            self.names.insert(name, before);
            self.replaced.retain(|replaced| *replaced != before);
        }
    }

    /// The number of a statement; 0 if it is not known.
    pub(super) fn number(&self, name: &[u8]) -> u64 {
        self.names.get(name).copied().unwrap_or_default()
    }

    pub(super) fn text(&self, number: u64) -> &[u8] {
        self.statements.get(&number).map_or(&[], |statement| &statement.text)
    }

    /// The type of a statement's parameter; 0 if it is not known.
    pub(super) fn parameter(&self, number: u64, idx: usize) -> u32 {
        let statement = self.statements.get(&number);
        statement.and_then(|statement| statement.parameters.get(idx)).copied().unwrap_or_default()
    }

    pub(super) fn set_parameters(&mut self, number: u64, types: Vec<u32>) {
        self.change(number, |statement| statement.parameters = types);
    }

    pub(super) fn set_columns(&mut self, number: u64, columns: &[Column]) {
        let types = columns.iter().map(|column| column.type_id).collect();
        self.change(number, |statement| statement.columns = types);
    }

    fn change(&mut self, number: u64, change: impl FnOnce(&mut Statement)) {
        let Some(statement) = self.statements.get_mut(&number) else { return };
        self.held_bytes -= statement.held_bytes();
        change(statement);
        self.held_bytes += statement.held_bytes();
    }

    /// The columns of an execution's rows, as far as their types are known.
    pub(super) fn columns(&self, number: u64, formats: &[u16], out: &mut Vec<Column>) {
        let types: &[u32] =
            self.statements.get(&number).map_or(&[], |statement| &statement.columns);
        out.clear();
        let is_binary = |idx: usize| match formats {
            [one] => *one == 1,
            each => each.get(idx) == Some(&1),
        };
        let count = types.len().max(formats.len()).min(COLUMNS_MAX);
        out.extend((0..count).map(|idx| Column {
            type_id: types.get(idx).copied().unwrap_or_default(),
            is_binary: is_binary(idx),
        }));
    }

    pub(super) fn bind(&mut self, name: &[u8], portal: Portal) {
        self.unbind(name);
        self.portals_bytes += name.len() + portal.held_bytes();
        self.portals.push_back((name.to_vec(), portal));
        while self.portals.len() > PORTALS_MAX || self.portals_bytes > PORTALS_BYTES_MAX {
            let Some((name, portal)) = self.portals.pop_front() else { break };
            self.portals_bytes -= name.len() + portal.held_bytes();
        }
    }

    pub(super) fn unbind(&mut self, name: &[u8]) {
        // Named ones are few, and the newest is asked for most.
        if let Some(at) = self.portals.iter().rposition(|(known, _)| known == name)
            && let Some((name, portal)) = self.portals.remove(at)
        {
            self.portals_bytes -= name.len() + portal.held_bytes();
        }
    }

    pub(super) fn portal(&self, name: &[u8]) -> Option<&Portal> {
        self.portals.iter().rev().find(|(known, _)| known == name).map(|(_, portal)| portal)
    }

    /// A statement's name is free again.
    pub(super) fn close(&mut self, name: &[u8]) {
        if let Some(number) = self.names.remove(name) {
            // Its results may still come.
            self.replaced.push_back(number);
        }
    }

    /// Requests are missing: what has the names that come again and again is not known.
    pub(super) fn requests_lost(&mut self) {
        self.close(b"");
        self.portals.clear();
        self.portals_bytes = 0;
    }

    /// Nothing is known any more.
    pub(super) fn clear(&mut self) {
        *self = Session { last_number: self.last_number, ..Session::default() };
    }

    pub(super) fn held_bytes(&self) -> usize {
        let entry = size_of::<(Vec<u8>, u64)>() + 1;
        self.held_bytes
            + self.portals_bytes
            + self.names.capacity() * entry
            + self.replaced.capacity() * size_of::<u64>()
            + self.portals.capacity() * size_of::<(Vec<u8>, Portal)>()
    }
}
