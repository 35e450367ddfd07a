//! The cluster part: the windows of feeds, and the rows of queries from there to their outputs.

use std::collections::BTreeMap;
use std::rc::Rc;

use timely::dataflow::Scope;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use timely::dataflow::operators::{Concatenate, Probe};
use weir_types::figures::OperatorPlace;
use weir_types::plan::OpId;
use weir_types::split::ExchangeId;

use super::publish::Publisher;
use super::{
    Feeds, RowStream, Sources, aggregate, join, limit, newest_window, output, pane_window,
    row_window, rowwise, source, union,
};
use crate::prepare::{FeedProgram, QueryOp, QueryProgram, ReceiveSpec, ShapeSpec};
use crate::query::Env;

/// A feed's windows, which tell their changes to readers.
pub(super) fn feed(
    scope: Scope<'_, u64>,
    env: &Rc<Env>,
    program: &FeedProgram,
    probe: &ProbeHandle<u64>,
    sources: &mut Sources,
) {
    for (exchange, spec) in (0 as ExchangeId..).zip(&program.receives) {
        env.build(OperatorPlace::Exchange(exchange));
        receive(scope, env, exchange, spec, true, sources).probe_with(probe);
    }
}

/// The windows of a source: of its rows or groups, and of what overflows. Those of a feed have readers.
fn receive<'s>(
    scope: Scope<'s, u64>,
    env: &Rc<Env>,
    exchange: ExchangeId,
    spec: &ReceiveSpec,
    is_feed: bool,
    sources: &mut Sources,
) -> RowStream<'s> {
    let (stream, handle) = source::changes(scope, env);
    sources.exchanges.push((exchange, handle));
    let mut publisher = || {
        let publisher = is_feed.then(Rc::<Publisher>::default);
        sources.publishers.extend(publisher.iter().map(|there| (exchange, Rc::clone(there))));
        publisher
    };
    match &spec.shape {
        ShapeSpec::Rows => row_window::row_window(env, stream, spec.sliding, publisher()),
        ShapeSpec::Newest(newest) => {
            newest_window::newest_window(env, stream, spec, *newest, publisher())
        }
        ShapeSpec::Partial(agg) => {
            let of = (exchange, agg);
            pane_window::pane_window(scope, env, stream, of, spec.sliding, publisher)
        }
    }
}

pub(super) fn query<'s>(
    scope: Scope<'s, u64>,
    env: &Rc<Env>,
    program: &QueryProgram,
    feeds: Feeds<'_>,
    probe: &ProbeHandle<u64>,
    sources: &mut Sources,
) {
    let mut done: Vec<Option<RowStream<'s>>> = Vec::with_capacity(program.ops.len());
    for (pos, op) in program.ops.iter().enumerate() {
        env.build(OperatorPlace::Op(pos));
        let rows = |input: OpId| rows_of(&done, input);
        let stream = match op {
            QueryOp::Nothing => {
                done.push(None);
                continue;
            }
            QueryOp::Import(at) => import(scope, env, &feeds(*at)),
            QueryOp::Receive(exchange, spec) => {
                receive(scope, env, *exchange, spec, false, sources)
            }
            QueryOp::TableFunction => {
                let (stream, handle) = source::table_function(scope, env);
                sources.table_functions.push((pos, handle));
                stream
            }
            QueryOp::Rows(input, spec) => rowwise::on_rows(env, rows(*input), spec),
            QueryOp::Union(inputs) => united(scope, env, inputs, &done),
            QueryOp::Aggregate(input, spec) => aggregate::aggregate(env, rows(*input), spec),
            QueryOp::Join([left, right], spec) => join::join(env, rows(*left), rows(*right), spec),
            // All of its rows meet on one worker; different limits on different ones.
            QueryOp::Limit(input, spec) => limit::limit(env, rows(*input), spec, pos as u64),
        };
        done.push(Some(stream));
    }
    for (at, (op, table)) in program.outputs.iter().enumerate() {
        env.build(OperatorPlace::Output(at));
        output::output(env, rows_of(&done, *op), table).probe_with(probe);
    }
}

/// What the windows of a feed's exchange tell. Without a feed the query has failed already.
fn import<'s>(scope: Scope<'s, u64>, env: &Rc<Env>, publishers: &[Rc<Publisher>]) -> RowStream<'s> {
    let told = publishers.iter().map(|publisher| {
        let (stream, handle) = source::import(scope, env);
        publisher.add_reader(&env.query, handle);
        stream
    });
    scope.concatenate(told.collect::<Vec<_>>())
}

fn rows_of<'s>(done: &[Option<RowStream<'s>>], op: OpId) -> RowStream<'s> {
    done[op].clone().expect("what became a part of its one reader is read by nobody else")
}

/// An input that is read several times is read once, with a weight: frames that were appended to
/// themselves thirty times are a count of a billion, not a billion rows.
fn united<'s>(
    scope: Scope<'s, u64>,
    env: &Rc<Env>,
    inputs: &[OpId],
    done: &[Option<RowStream<'s>>],
) -> RowStream<'s> {
    let mut copies: BTreeMap<OpId, i64> = BTreeMap::new();
    for &input in inputs {
        *copies.entry(input).or_default() += 1;
    }
    let one = |(input, copies): (OpId, i64)| union::rows(env, rows_of(done, input), copies);
    scope.concatenate(copies.into_iter().map(one).collect::<Vec<_>>())
}
