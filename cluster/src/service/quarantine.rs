//! Plans that bring engines down. A death is blamed on the query that ran; one that has done so before, within
//! a while, is ended and not installed again for a while, so that the others can go on. A death that nobody
//! can be blamed for ends no view: engines are started anew, more slowly each time. It ends nothing itself.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_types::canonical::PlanIdentity;

/// The code of a view that was ended for it, and of those that ask for it again.
pub(crate) const CODE: &str = "query_quarantined";
/// The second death within this time ends a plan: one may have been bad luck.
const DEATHS_MAX: usize = 2;
const WITHIN_NS: u64 = 10 * 60 * 1_000_000_000;
/// For so long it is refused.
const REFUSED_NS: u64 = 10 * 60 * 1_000_000_000;
/// Plans that are known at a time; the oldest is forgotten.
const PLANS_MAX: usize = 64;

struct Known {
    plan: Arc<PlanIdentity>,
    /// Monotonic, ascending.
    deaths_ns: Vec<u64>,
    refused_until_ns: Option<u64>,
}

#[derive(Default)]
pub(crate) struct Quarantine(VecDeque<Known>);

impl Quarantine {
    /// An engine died of the plan. True: that was once too often.
    pub(crate) fn blame(&mut self, plan: &Arc<PlanIdentity>, now_ns: u64) -> bool {
        let at = self.0.iter().position(|known| known.plan == *plan);
        let mut known = at.and_then(|at| self.0.remove(at)).unwrap_or_else(|| Known {
            plan: Arc::clone(plan),
            deaths_ns: Vec::new(),
            refused_until_ns: None,
        });
        known.deaths_ns.retain(|death_ns| now_ns.saturating_sub(*death_ns) <= WITHIN_NS);
        known.deaths_ns.push(now_ns);
        let is_over = known.deaths_ns.len() >= DEATHS_MAX;
        if is_over {
            known.refused_until_ns = Some(now_ns.saturating_add(REFUSED_NS));
        }
        if self.0.len() >= PLANS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(known);
        is_over
    }

    /// True if the plan is not to be installed now.
    pub(crate) fn refuses(&self, plan: &PlanIdentity, now_ns: u64) -> bool {
        let refused = |known: &Known| known.refused_until_ns.is_some_and(|until| now_ns < until);
        self.0.iter().any(|known| refused(known) && *known.plan == *plan)
    }
}

/// What its readers are told.
pub(crate) fn message() -> String {
    let minutes = REFUSED_NS / 60_000_000_000;
    format!(
        "an engine died while it worked on this query, for the second time: it is ended, and refused for \
         {minutes} minutes; please report the script"
    )
}

#[cfg(test)]
mod tests {
    use weir_types::Relation;
    use weir_types::plan::{Op, OpKind, Output, Plan};

    use super::*;

    fn plan(table: &str) -> Arc<PlanIdentity> {
        let kind = OpKind::TableFunction { name: table.to_string(), args: Vec::new() };
        let op = Op { kind, inputs: Vec::new(), relation: Relation::default() };
        let output = Output { table: table.to_string(), op: 0 };
        Arc::new(Plan { version: 1, ops: vec![op], outputs: vec![output] }.identity())
    }

    /// One death is forgiven, the second within the time is not, others are not refused, and after a while
    /// it may come again: catches a view that pays for another, and one that brings engines down for ever.
    #[test]
    fn the_second_death_is_too_many() {
        let mut quarantine = Quarantine::default();
        let (fatal, other) = (plan("a"), plan("b"));
        assert!(!quarantine.blame(&fatal, 1));
        assert!(!quarantine.refuses(&fatal, 2));
        assert!(!quarantine.blame(&other, 3), "each is blamed for its own");
        // Equal by value is the same.
        assert!(quarantine.blame(&plan("a"), 4));
        assert!(quarantine.refuses(&fatal, 5) && !quarantine.refuses(&other, 5));
        assert!(!quarantine.refuses(&fatal, 4 + REFUSED_NS));
        assert!(!quarantine.blame(&other, 4 + 2 * WITHIN_NS), "that was long ago");
    }

    /// However many plans kill, few are remembered.
    #[test]
    fn it_is_bounded() {
        let mut quarantine = Quarantine::default();
        for n in 0..1000 {
            quarantine.blame(&plan(&n.to_string()), n);
        }
        assert_eq!(quarantine.0.len(), PLANS_MAX);
    }
}
