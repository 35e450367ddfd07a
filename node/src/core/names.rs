//! What rows are called: what was noticed is told before a tick's progress, and what functions want to know is
//! ordered of the sources.

use weir_proto::FromNode;
use weir_types::clock::tick_unix_ns;
use weir_types::ledger::{METADATA, Reach, Span};
use weir_types::metadata::Wanted;
use weir_types::source::SourceOrder;

use super::NodeCore;
use crate::entities::Told;

impl NodeCore {
    /// What functions of this engine asked for and did not know is the sources' to find out.
    pub(super) fn order_wanted(&mut self) {
        let Wanted { addresses, processes } = self.engine.take_wanted();
        // As many as an order may name.
        if !addresses.is_empty() {
            self.orders.give_unasked(SourceOrder::Resolve { addresses });
        }
        if !processes.is_empty() {
            self.orders.give_unasked(SourceOrder::ListLibraries { processes });
        }
        let total = self.engine.wanted_left_out();
        let left_out = self.engine_meter.added(METADATA, "names_full", total);
        self.note_names("names_full", left_out);
    }

    /// Names that got lost in the tick that is open.
    fn note_names(&self, reason: &str, count: u64) {
        let at_unix_ns = tick_unix_ns(self.last_tick_ms);
        self.ledger.note(
            METADATA,
            reason,
            Reach::Everybody,
            Span::new(at_unix_ns, at_unix_ns),
            count,
        );
    }

    /// What rows of the tick are called is known before its progress.
    pub(super) fn tell_entities(&mut self) {
        self.entities.tell(&mut |told| {
            let Told { sequence, part, machine, changes } = told;
            self.send(FromNode::Entities { sequence, part, machine, changes })
        });
        let total = self.entities.left_out_total();
        let too_large = self.names_meter.added(METADATA, "names_too_large", total);
        self.note_names("names_too_large", too_large);
    }
}
