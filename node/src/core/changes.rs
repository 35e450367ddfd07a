//! What the engine hands out, cut into messages that the bus takes.

use weir_proto::{FromNode, Place, QueryId};
use weir_types::split::Change;

use super::NodeCore;

/// Changes that go into one message.
const CHANGES_PER_MESSAGE: usize = 16_384;
/// And their bytes, well below what a message may have.
const CHANGES_BYTES_PER_MESSAGE: usize = 16 << 20;

impl NodeCore {
    pub(super) fn send_changes(
        &mut self,
        id: QueryId,
        exchange: u32,
        tick_ms: u64,
        changes: Vec<Change>,
    ) {
        let mut rest = changes;
        while !rest.is_empty() {
            let tail = rest.split_off(in_one_message(&rest));
            let Some(entry) = self.queries.get_mut(&id) else { return };
            let place = Place { epoch: entry.epoch, sequence: entry.sequence };
            entry.sequence += 1;
            let query = entry.name;
            let update = FromNode::Update { query, place, exchange, tick_ms, changes: rest };
            if let Err(error) = self.sender.send(self.life, update) {
                self.fail(id, &format!("the node could not send its changes: {error}"));
                return;
            }
            rest = tail;
        }
    }
}

/// How many of the changes go into the next message; at least one.
fn in_one_message(changes: &[Change]) -> usize {
    let mut bytes = 0;
    let fits = |change: &&Change| {
        bytes += change.content_bytes();
        bytes <= CHANGES_BYTES_PER_MESSAGE
    };
    changes.iter().take(CHANGES_PER_MESSAGE).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use weir_types::PackedRow;

    use super::*;

    /// Messages are bounded in bytes too: catches rows with large bodies, sixteen thousand of which
    /// are more than a message may have. A single one goes alone, however large.
    #[test]
    fn large_rows_are_split() {
        let rows = |count: usize, bytes: usize| -> Vec<Change> {
            let row = PackedRow(vec![0; bytes]);
            (0..count).map(|_| Change::Row { row: row.clone(), pane: 0, diff: 1 }).collect()
        };
        assert_eq!(in_one_message(&rows(20_000, 8)), CHANGES_PER_MESSAGE);
        assert_eq!(in_one_message(&rows(100, 1 << 20)), 16);
        assert_eq!(in_one_message(&rows(2, 17 << 20)), 1);
    }
}
