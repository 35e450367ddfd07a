//! Answers of a time of the past out of what is kept: a window that ended then is made of panes that the store holds for
//! the one that slides, which stay for a while after they have left it. Nothing is kept for such a reader's sake.

use weir_types::clock::tick_unix_ns;
use weir_types::split::{Change, NodePlan, Source};

use super::super::NodeCore;
use super::{Keeping, Kept};
use crate::store::keeper::LoadId;
use crate::store::{Identity, Keeper, KeptSource};

/// Panes stay for so long after they have left their window: as far as rules are looked at unless somebody asks for
/// more. Where room is short these go first.
pub(super) const PAST_NS: i64 = 3_600_000_000_000;

/// An exchange that reads what is kept, and of which time: of now, unless set.
pub(super) struct Reads {
    pub(super) exchange: usize,
    pub(super) identity: Identity,
    pub(super) at_unix_ns: Option<i64>,
}

impl Reads {
    pub(super) fn now((exchange, identity): &(usize, Identity)) -> Reads {
        Reads { exchange: *exchange, identity: Identity::clone(identity), at_unix_ns: None }
    }

    /// The first pane that is wanted, and the first one after that which is not.
    pub(super) fn panes(&self, kept: &Kept, now_ms: u64) -> (i64, Option<i64>) {
        let sliding = kept.source.sliding;
        match self.at_unix_ns {
            Some(at) => (sliding.first_pane_at(at), Some(at.div_euclid(sliding.pane_ns))),
            None => (sliding.first_pane_at(tick_unix_ns(now_ms)), None),
        }
    }
}

impl Keeping {
    /// Which of a plan's exchanges are of a time of the past, and can be read here.
    pub(super) fn past_of<'a>(&'a self, plan: &'a NodePlan) -> impl Iterator<Item = Reads> + 'a {
        (0..plan.sends.len()).filter_map(|exchange| {
            let (source, at_unix_ns) = KeptSource::of_past(plan.source(exchange)?)?;
            let (identity, kept) = self.kept.get_key_value(source.identity()?.as_slice())?;
            let is_there = at_unix_ns >= kept.past_from(source.sliding.window_ns);
            let identity = Identity::clone(identity);
            is_there.then_some(Reads { exchange, identity, at_unix_ns: Some(at_unix_ns) })
        })
    }

    /// Of a source of the past: the kept one, and since when that has all panes.
    fn past_kept(&self, source: &Source) -> Option<(&Kept, i64)> {
        let (source, _) = KeptSource::of_past(source.clone())?;
        let kept = self.kept.get(source.identity()?.as_slice())?;
        let first =
            kept.past_from(source.sliding.window_ns).saturating_sub(source.sliding.window_ns);
        Some((kept, first.saturating_add(1)))
    }
}

impl NodeCore {
    /// The store may have dropped what is read of the past, before it was read: nobody relies on that.
    pub(super) fn is_void(&self, load: LoadId) -> bool {
        let loading = self.keeping.loads.get(&load);
        let keeps_past = self.keeping.keeper.as_ref().is_some_and(Keeper::keeps_past);
        loading.is_some_and(|loading| loading.until_pane.is_some()) && !keeps_past
    }

    pub(super) fn covers_exchange(&self, table: &str, had_to_ms: u64, source: &Source) -> i64 {
        let by_history = self.covers_from(table);
        let has_rest =
            self.history.as_ref().is_none_or(|history| history.has_all_after(table, had_to_ms));
        if had_to_ms == 0 || !has_rest {
            return by_history;
        }
        let identity = KeptSource::of(source.clone()).and_then(|source| source.identity());
        let kept = identity.and_then(|identity| self.keeping.kept.get(identity.as_slice()));
        let kept = kept.map(|kept| (kept, i64::MIN)).or_else(|| self.keeping.past_kept(source));
        let since = self.covers_from_unix_ns.get(table).copied().unwrap_or(self.started_unix_ns);
        let covers =
            |(kept, from): (&Kept, i64)| kept.covers_from_unix_ns.unwrap_or(since).max(from);
        kept.map_or(by_history, covers)
    }
}

impl Kept {
    /// The earliest time of which a window of this length may be whole.
    fn past_from(&self, window_ns: i64) -> i64 {
        let panes_ns = PAST_NS / self.source.sliding.pane_ns * self.source.sliding.pane_ns;
        let first = self.source.sliding.start_at(tick_unix_ns(self.sealed_ms));
        first.saturating_add(window_ns).saturating_sub(panes_ns)
    }
}

/// Of a page what is before a pane. The reader has one pane for all.
pub(super) fn until(changes: Vec<Change>, until_pane: i64) -> Vec<Change> {
    let before = changes.into_iter().filter_map(|change| match change {
        Change::Partial { key, pane, rows, accs } if pane < until_pane => {
            Some(Change::Partial { key, pane: 0, rows, accs })
        }
        _ => None,
    });
    before.collect()
}
