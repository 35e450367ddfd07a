//! The programs of a plan, made before it is known which feeds are there: off the thread that installs, which
//! then only says where each source is to be had. Nothing here depends on an engine but its settings, so that
//! the programs stay right when an engine is replaced.

use std::cell::Cell;

use weir_types::split::{ExchangeId, Source, SplitPlan};

use super::cluster::{FeedProgram, QueryOp, QueryProgram, ReceiveSpec};
use super::{Program, Settings};
use crate::api::{EngineConfig, FeedExchange, Intake};

thread_local! {
    static PREPARATIONS: Cell<u64> = const { Cell::new(0) };
}

/// How many programs were compiled on this thread, so that a test can say on which none is.
#[doc(hidden)]
#[must_use]
pub fn preparations_here() -> u64 {
    PREPARATIONS.get()
}

pub(super) fn count_preparation() {
    PREPARATIONS.set(PREPARATIONS.get() + 1);
}

/// What a split plan needs in the cluster part: a program for each of its sources, and its own.
pub struct PlanPrograms {
    sources: Vec<(Source, Result<ReceiveSpec, String>)>,
    /// Its sources are from feed 0 still.
    query: Result<QueryProgram, String>,
}

/// A program that was made ahead, or why it cannot be run.
pub struct ReadyProgram(pub(crate) Result<Program, String>);

impl PlanPrograms {
    /// For engines of this configuration.
    #[must_use]
    pub fn new(split: &SplitPlan, config: &EngineConfig) -> PlanPrograms {
        count_preparation();
        let settings = Settings::of(config);
        let received = |source: &Source| (source.clone(), ReceiveSpec::new(source, &settings));
        let unplaced = |exchange| Intake::Feed(FeedExchange { feed: 0, exchange });
        let count = ExchangeId::try_from(split.sources.len()).unwrap_or(ExchangeId::MAX);
        let intakes: Vec<Intake> = (0..count).map(unplaced).collect();
        PlanPrograms {
            sources: split.sources.iter().map(received).collect(),
            query: QueryProgram::new(&split.cluster, &intakes, &settings),
        }
    }

    /// Of a feed with these of the plan's sources, in this order.
    #[must_use]
    pub fn feed(&self, sources: &[Source]) -> ReadyProgram {
        let receive = |source: &Source| {
            let found = self.sources.iter().find(|(known, _)| known == source);
            let (_, receive) = found.ok_or("the plan has no such source")?;
            receive.clone()
        };
        let receives = sources.iter().map(receive).collect::<Result<_, _>>();
        ReadyProgram(receives.map(|receives| Program::Feed(FeedProgram { receives })))
    }

    /// Of the query, which has its sources from here, in their order.
    #[must_use]
    pub fn query(&self, from: &[FeedExchange]) -> ReadyProgram {
        let place = |mut query: QueryProgram| {
            for op in &mut query.ops {
                if let QueryOp::Import(at) = op {
                    let source = at.exchange as usize;
                    *at =
                        *from.get(source).ok_or_else(|| format!("there is no source {source}"))?;
                }
            }
            query.count_feeds();
            Ok(Program::Query(query))
        };
        ReadyProgram(self.query.clone().and_then(place))
    }
}
