//! What runs in the cluster part: feeds, which keep the windows of sources, and queries, which read them.

use std::sync::Arc;

use weir_functions::aggregate::Input;
use weir_types::plan::{Op, OpId, OpKind, SlidingWindow};
use weir_types::schema::Relation;
use weir_types::split::{ClusterPlan, ExchangeId, Source};
use weir_types::value::DataType;

use super::Settings;
use super::specs::{AggSpec, JoinSpec, LimitSpec, RowSpec, ShapeSpec, agg_spec};
use crate::api::{FeedExchange, Intake, QueryId};

/// The receiving end of a source.
#[derive(Clone)]
pub(crate) struct ReceiveSpec {
    pub(crate) table: Arc<str>,
    pub(crate) shape: ShapeSpec,
    pub(crate) sliding: Option<SlidingWindow>,
    /// The event time of what is sent, and its columns' types.
    pub(crate) time: usize,
    pub(crate) types: Vec<DataType>,
}

impl ReceiveSpec {
    pub(super) fn new(source: &Source, settings: &Settings) -> Result<ReceiveSpec, String> {
        let sent = source.sent();
        let (shape, types) = (ShapeSpec::new(&source.shape, &sent)?, sent.types());
        let is_of_rows = !matches!(shape, ShapeSpec::Partial(_));
        if is_of_rows && types.get(source.time) != Some(&DataType::Time64Ns) {
            return Err(format!("column {} is not an event time", source.time));
        }
        let sliding = source.window().sliding(settings.retention_ns);
        let table = source.table().into();
        Ok(ReceiveSpec { table, shape, sliding, time: source.time, types })
    }
}

/// Windows that queries read.
pub(crate) struct FeedProgram {
    /// By the number of their exchange.
    pub(crate) receives: Vec<ReceiveSpec>,
}

impl FeedProgram {
    pub(super) fn new(sources: &[Source], settings: &Settings) -> Result<FeedProgram, String> {
        let receives = sources.iter().map(|source| ReceiveSpec::new(source, settings));
        Ok(FeedProgram { receives: receives.collect::<Result<_, _>>()? })
    }
}

#[derive(Clone)]
pub(crate) struct QueryProgram {
    pub(crate) ops: Vec<QueryOp>,
    /// What is shown, and where it comes from.
    pub(crate) outputs: Vec<(OpId, Arc<str>)>,
    /// The feeds that it reads, each once.
    pub(crate) feeds: Vec<QueryId>,
}

/// An operator with its inputs, each an earlier one.
#[derive(Clone)]
pub(crate) enum QueryOp {
    /// The rows of a feed.
    Import(FeedExchange),
    /// The rows of a source of its own.
    Receive(ExchangeId, ReceiveSpec),
    TableFunction,
    Rows(OpId, RowSpec),
    Union(Vec<OpId>),
    Aggregate(OpId, AggSpec),
    Join([OpId; 2], JoinSpec),
    Limit(OpId, LimitSpec),
    /// It is a part of the operator above it.
    Nothing,
}

impl QueryOp {
    pub(super) fn inputs(&self) -> Vec<OpId> {
        match self {
            QueryOp::Import(_)
            | QueryOp::Receive(..)
            | QueryOp::TableFunction
            | QueryOp::Nothing => Vec::new(),
            QueryOp::Rows(input, _) | QueryOp::Aggregate(input, _) | QueryOp::Limit(input, _) => {
                vec![*input]
            }
            QueryOp::Union(inputs) => inputs.clone(),
            QueryOp::Join(inputs, _) => inputs.to_vec(),
        }
    }
}

impl QueryProgram {
    pub(super) fn new(
        plan: &ClusterPlan,
        sources: &[Intake],
        settings: &Settings,
    ) -> Result<QueryProgram, String> {
        let mut ops = Vec::with_capacity(plan.ops.len());
        for (pos, op) in plan.ops.iter().enumerate() {
            if !op.inputs_fit(pos) {
                return Err(format!("operator {pos} has wrong inputs"));
            }
            let inputs: Vec<&Relation> =
                op.inputs.iter().map(|&input| &plan.ops[input].relation).collect();
            let op = prepared(op, &inputs, sources, settings);
            ops.push(op.map_err(|why| format!("operator {pos}: {why}"))?);
        }
        if plan.outputs.iter().any(|output| output.op >= ops.len()) {
            return Err("an output shows what is not there".to_string());
        }
        let outputs = plan.outputs.iter();
        let outputs = outputs.map(|output| (output.op, output.table.as_str().into())).collect();
        let mut program = QueryProgram { ops, outputs, feeds: Vec::new() };
        program.count_feeds();
        program.fuse();
        Ok(program)
    }

    /// Once it is known where its sources are.
    pub(super) fn count_feeds(&mut self) {
        let feeds = self.ops.iter().filter_map(|op| match op {
            QueryOp::Import(FeedExchange { feed, .. }) => Some(*feed),
            _ => None,
        });
        self.feeds = feeds.collect();
        self.feeds.sort_unstable();
        self.feeds.dedup();
    }
}

fn prepared(
    op: &Op<ExchangeId>,
    inputs: &[&Relation],
    sources: &[Intake],
    settings: &Settings,
) -> Result<QueryOp, String> {
    Ok(match (&op.kind, op.inputs.as_slice(), inputs) {
        (OpKind::Scan(exchange), ..) => match sources.get(*exchange as usize) {
            Some(Intake::Feed(at)) => QueryOp::Import(*at),
            Some(Intake::Own(source)) => {
                QueryOp::Receive(*exchange, ReceiveSpec::new(source, settings)?)
            }
            None => return Err(format!("there is no source {exchange}")),
        },
        (OpKind::TableFunction { .. }, ..) => QueryOp::TableFunction,
        (OpKind::Filter { predicate }, &[at], [input]) => {
            QueryOp::Rows(at, RowSpec::of_filter(predicate, input, settings)?)
        }
        (OpKind::Map { exprs }, &[at], [input]) => {
            QueryOp::Rows(at, RowSpec::of_map(exprs, input, &op.relation, settings)?)
        }
        (OpKind::Aggregate { group, aggs }, &[at], [input]) => {
            QueryOp::Aggregate(at, agg_spec(group, aggs, input, Input::Retractable)?)
        }
        (OpKind::Join { how, left_on, right_on, columns }, &[left, right], [of_left, of_right]) => {
            let on: [&[usize]; 2] = [left_on, right_on];
            QueryOp::Join([left, right], JoinSpec::new(*how, on, columns, of_left, of_right)?)
        }
        (OpKind::Union, inputs, _) => QueryOp::Union(inputs.to_vec()),
        (OpKind::Limit { rows_max }, &[at], [input]) => {
            let (time, types) = (input.time_idx(), input.types());
            QueryOp::Limit(at, LimitSpec { rows_max: *rows_max, time, types })
        }
        _ => return Err("it has wrong inputs".to_string()),
    })
}
