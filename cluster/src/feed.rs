//! What queries share: which exchanges of a plan hold the same rows, and the fragments of the feeds that
//! provide them. Plain data; who reads what is the coordinator's.
//!
//! A *feed* is what nodes and the cluster engine maintain once for all queries that read it: a node
//! fragment with its sends, and the windows that receive them. Everything above is each query's own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use weir_engine::FeedExchange;
use weir_proto::{Epoch, QueryId};
use weir_types::plan::OpId;
use weir_types::split::{ExchangeId, Fragment, FragmentKind, FragmentOp, SplitPlan};

/// What an exchange holds, whoever reads it. Compared as a whole, so that equal hashes of different
/// plans cannot be mixed up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    refresh_ms: u64,
    /// Ends in the send, of exchange 0.
    node: Fragment,
    /// Of exchange 0.
    receive: FragmentOp,
}

/// The exchanges of a plan, by their numbers there.
pub(crate) fn sources(split: &SplitPlan, refresh_ms: u64) -> Vec<(ExchangeId, Source)> {
    let receives = split.cluster.ops.iter().filter_map(|op| match &op.kind {
        FragmentKind::Receive { exchange, .. } => Some((*exchange, op)),
        _ => None,
    });
    let source = |(exchange, receive): (ExchangeId, &FragmentOp)| {
        let sends = |op: &FragmentOp| matches!(&op.kind, FragmentKind::Send { exchange: sent, .. } if *sent == exchange);
        let send = split.node.ops.iter().position(sends)?;
        let mut node = split.node.below(send);
        node.ops.iter_mut().for_each(|op| renumber(op, 0));
        let mut receive = receive.clone();
        renumber(&mut receive, 0);
        Some((exchange, Source { refresh_ms, node, receive }))
    };
    receives.filter_map(source).collect()
}

/// Gives an operator's exchange another number. Its hash is not needed any more and would tell equal
/// operators of different plans apart.
fn renumber(op: &mut FragmentOp, number: ExchangeId) {
    op.hash = 0;
    if let FragmentKind::Send { exchange, .. } | FragmentKind::Receive { exchange, .. } =
        &mut op.kind
    {
        *exchange = number;
    }
}

/// The fragments of a feed; the exchange of a source is its position in `sources`.
#[derive(Debug, Default)]
pub(crate) struct FeedPlan {
    pub(crate) node: Fragment,
    pub(crate) cluster: Fragment,
    pub(crate) sources: Vec<Source>,
}

/// One feed per set of tables: each table is scanned once for all of them, and how complete a feed is
/// does not depend on tables that its readers do not read.
pub(crate) fn feed_plans(sources: impl IntoIterator<Item = Source>) -> Vec<FeedPlan> {
    let mut plans: BTreeMap<Vec<String>, FeedPlan> = BTreeMap::new();
    for source in sources {
        plans.entry(source.node.scanned_tables()).or_default().add(source);
    }
    plans.into_values().collect()
}

impl FeedPlan {
    fn add(&mut self, source: Source) {
        if self.sources.contains(&source) {
            return;
        }
        let number = ExchangeId::try_from(self.sources.len()).unwrap_or(ExchangeId::MAX);
        let mut placed: HashMap<FragmentOp, OpId> =
            self.node.ops.iter().enumerate().map(|(pos, op)| (op.clone(), pos)).collect();
        let mut positions: Vec<OpId> = Vec::with_capacity(source.node.ops.len());
        for op in &source.node.ops {
            let mut op = op.clone();
            renumber(&mut op, number);
            op.inputs.iter_mut().for_each(|input| *input = positions[*input]);
            let next = self.node.ops.len();
            let pos = *placed.entry(op.clone()).or_insert(next);
            if pos == next {
                self.node.ops.push(op);
            }
            positions.push(pos);
        }
        let mut receive = source.receive.clone();
        renumber(&mut receive, number);
        self.cluster.ops.push(receive);
        self.sources.push(source);
    }
}

/// Where a node stands in one feed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Of its installation there; what belongs to another one is not counted.
    pub(crate) epoch: Epoch,
    /// When it was ordered, monotonic.
    pub(crate) ordered_ms: u64,
    /// Of the next message that counts.
    pub(crate) next_sequence: u64,
    pub(crate) tick_ms: u64,
}

/// A feed that runs.
pub(crate) struct Feed {
    pub(crate) plan: FeedPlan,
    pub(crate) tables: Vec<String>,
    pub(crate) refresh_ms: u64,
    /// The first tick that can be closed.
    pub(crate) start_ms: u64,
    /// The last tick that all live nodes have reported.
    pub(crate) closed_ms: u64,
    pub(crate) nodes: BTreeMap<String, Progress>,
    pub(crate) readers: BTreeSet<QueryId>,
    /// Since when, monotonic, it misses something that was lost on the way: its readers have to be
    /// installed anew.
    pub(crate) broken_ms: Option<u64>,
}

impl Feed {
    pub(crate) fn new(plan: FeedPlan, refresh_ms: u64, start_ms: u64) -> Feed {
        Feed {
            tables: plan.node.scanned_tables(),
            plan,
            refresh_ms,
            start_ms,
            closed_ms: 0,
            broken_ms: None,
            nodes: BTreeMap::new(),
            readers: BTreeSet::new(),
        }
    }

    /// Its sources, and where they are to be had.
    pub(crate) fn exchanges(&self, feed: QueryId) -> impl Iterator<Item = (&Source, FeedExchange)> {
        let at = move |exchange| FeedExchange { feed, exchange };
        self.plan.sources.iter().zip((0..).map(at))
    }
}

/// A feed as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedInfo {
    pub feed: QueryId,
    pub tables: Vec<String>,
    pub exchanges: usize,
    pub refresh_ms: u64,
    /// The queries that read it.
    pub readers: Vec<QueryId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> SplitPlan {
        let script = weir_pxl::Script { name: "test", text, vis: None };
        let compiled = weir_pxl::compile(&script, &weir_pxl::CompileOptions::default());
        weir_pxl::split(&compiled.unwrap().plan)
    }

    const COUNT: &str = "df = df.groupby('service').agg(n=('latency', px.count))\n";

    /// Sends of different scripts that mean the same are one source, whatever is around them; another
    /// window, aggregate or refresh is another. Catches a number of the plan that gets into the key,
    /// and a difference that does not.
    #[test]
    fn equal_sends_are_one_source() {
        let text = |start: &str, rest: &str| {
            format!(
                "import px\ndf = px.DataFrame('let_events', start_time='{start}')\n{COUNT}{rest}"
            )
        };
        let one = sources(&split(&text("-5m", "px.display(df)")), 1000);
        let two = sources(
            &split(&text(
                "-5m",
                "df = df[df.n > 3]\npx.display(df, 'a')\n\
                 raw = px.DataFrame('dns_events', start_time='-5m')\npx.display(raw.head(5), 'b')",
            )),
            1000,
        );
        assert_eq!((one.len(), two.len()), (1, 2));
        assert_eq!(two.iter().filter(|(_, source)| *source == one[0].1).count(), 1);
        for other in [
            sources(&split(&text("-1m", "px.display(df)")), 1000),
            sources(&split(&text("-5m", "px.display(df)")), 2000),
            sources(&split(&text("-5m", "px.display(df)").replace("px.count", "px.sum")), 1000),
        ] {
            assert_ne!(other[0].1, one[0].1);
        }
    }

    /// The sends of a table are one feed with one scan; another table is another feed.
    #[test]
    fn a_feed_per_set_of_tables_scans_once() {
        let text = format!(
            "import px\ndf = px.DataFrame('let_events', start_time='-5m')\nraw = df\n{COUNT}\
             px.display(df, 'a')\nraw = raw.groupby('service').agg(s=('latency', px.sum))\n\
             px.display(raw, 'b')\n\
             d = px.DataFrame('dns_events', start_time='-5m')\npx.display(d.head(3), 'c')"
        );
        let sources = sources(&split(&text), 1000);
        let plans = feed_plans(sources.into_iter().map(|(_, source)| source));
        let sizes: Vec<_> = plans.iter().map(|plan| plan.sources.len()).collect();
        assert_eq!(sizes, [1, 2], "in the order of the tables");
        for plan in &plans {
            let scans = plan.node.ops.iter().filter(|op| op.inputs.is_empty()).count();
            assert_eq!(scans, 1);
            let receives = plan.cluster.ops.iter().enumerate().all(|(pos, op)| {
                matches!(op.kind, FragmentKind::Receive { exchange, .. } if exchange as usize == pos)
            });
            assert!(receives);
        }
    }
}
