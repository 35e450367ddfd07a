//! What is installed, checked and compiled once, on the thread that installs it or ahead of that ([`ahead`]):
//! after this, building its dataflow cannot fail, which matters because all workers must build the same thing. A program for each
//! kind of part, so that each is rendered by what can stand in it.

mod ahead;
mod cluster;
mod fused;
mod node;
mod specs;

pub use ahead::{PlanPrograms, ReadyProgram, preparations_here};
pub(crate) use cluster::{FeedProgram, QueryOp, QueryProgram, ReceiveSpec};
pub(crate) use node::{NodeProgram, NodeStep};
pub(crate) use specs::{
    AggSpec, Depends, JoinSpec, LimitSpec, NewestSpec, RowSpec, ScanSpec, ShapeSpec,
    absolute_bounds, packed_zeros,
};

use weir_types::split::ExchangeId;

use crate::api::{EngineConfig, FeedExchange, Part, QueryId};

/// What of the engine's configuration counts.
pub(crate) struct Settings {
    retention_ns: Option<i64>,
    test_faults: bool,
}

impl Settings {
    pub(crate) fn of(config: &EngineConfig) -> Settings {
        Settings { retention_ns: config.retention_ns, test_faults: config.test_faults }
    }
}

pub(crate) enum Program {
    Node(NodeProgram),
    Feed(FeedProgram),
    Query(QueryProgram),
}

impl Program {
    /// # Errors
    /// What is wrong with the part, in words.
    pub(crate) fn new(part: &Part, settings: &Settings) -> Result<Program, String> {
        ahead::count_preparation();
        Ok(match part {
            Part::Node(plan) => Program::Node(NodeProgram::new(plan, settings)?),
            Part::Feed(sources) => Program::Feed(FeedProgram::new(sources, settings)?),
            Part::Query { plan, sources } => {
                Program::Query(QueryProgram::new(plan, sources, settings)?)
            }
        })
    }

    /// Its ticks are closed by the clock, not by what nodes report.
    pub(crate) fn is_of_node(&self) -> bool {
        matches!(self, Program::Node(_))
    }

    /// Its windows are read by other queries; it hands out nothing itself.
    pub(crate) fn is_feed(&self) -> bool {
        matches!(self, Program::Feed(_))
    }

    /// It has nothing to say but that it is up to date.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Program::Node(program) => program.steps.is_empty(),
            Program::Feed(program) => program.receives.is_empty(),
            Program::Query(program) => program.ops.is_empty(),
        }
    }

    /// What it reads of feeds.
    pub(crate) fn imports(&self) -> impl Iterator<Item = FeedExchange> {
        let ops = match self {
            Program::Query(program) => program.ops.as_slice(),
            Program::Node(_) | Program::Feed(_) => &[],
        };
        ops.iter().filter_map(|op| match op {
            QueryOp::Import(at) => Some(*at),
            _ => None,
        })
    }

    /// The feeds that it reads, each once.
    pub(crate) fn feeds(&self) -> &[QueryId] {
        match self {
            Program::Query(program) => &program.feeds,
            Program::Node(_) | Program::Feed(_) => &[],
        }
    }

    /// What it receives itself, as a query.
    pub(crate) fn receives(&self) -> impl Iterator<Item = (ExchangeId, &ReceiveSpec)> {
        let ops = match self {
            Program::Query(program) => program.ops.as_slice(),
            Program::Node(_) | Program::Feed(_) => &[],
        };
        ops.iter().filter_map(|op| match op {
            QueryOp::Receive(exchange, spec) => Some((*exchange, spec)),
            _ => None,
        })
    }

    pub(crate) fn receive(&self, exchange: ExchangeId) -> Option<&ReceiveSpec> {
        match self {
            Program::Feed(program) => program.receives.get(exchange as usize),
            Program::Node(_) | Program::Query(_) => None,
        }
    }

    /// True for an exchange of a feed.
    pub(crate) fn publishes(&self, exchange: ExchangeId) -> bool {
        self.receive(exchange).is_some()
    }

    /// True if a reader of the exchange can come at any time: its window holds what it has told. Rows
    /// that never expire are told once and not kept.
    pub(crate) fn holds(&self, exchange: ExchangeId) -> bool {
        self.receive(exchange).is_some_and(|receive| match receive.shape {
            ShapeSpec::Rows => receive.sliding.is_some(),
            ShapeSpec::Newest(_) | ShapeSpec::Partial(_) => true,
        })
    }
}
