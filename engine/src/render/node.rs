//! The node part: batches from scans through filters and maps to sends.

use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::Scope;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use weir_types::figures::OperatorPlace;
use weir_types::split::ExchangeId;

use super::teams::{Team, only};
use super::{BatchStream, ScanInput, Sources, rowwise, scan, send, send_newest};
use crate::prepare::{NodeProgram, NodeStep, ShapeSpec};
use crate::query::Env;

pub(super) fn render<'s>(
    scope: Scope<'s, u64>,
    env: &Rc<Env>,
    program: &NodeProgram,
    probe: &ProbeHandle<u64>,
    sources: &mut Sources,
) {
    let team = Team::of(env.local, env.engine.config.workers, program.sends.len());
    sources.team = team;
    let uses = team.steps(program);
    let mut done: Vec<BatchStream<'s>> = Vec::with_capacity(program.steps.len());
    for (at, step) in program.steps.iter().enumerate() {
        env.build_alike(OperatorPlace::Op(at), uses[at].counts);
        let stream = match step {
            NodeStep::Scan(spec) => {
                let (stream, handle) = scan::scan(scope, env, spec, uses[at].counts);
                let table = Arc::clone(&spec.table);
                sources.scans.push(ScanInput { table, handle, is_used: uses[at].is_used });
                stream
            }
            NodeStep::Rows { below, spec } => {
                let rows = only(env, team, done[*below].clone(), uses[at].is_used);
                rowwise::on_batches(env, rows, spec)
            }
        };
        done.push(stream);
    }
    for (exchange, spec) in (0 as ExchangeId..).zip(&program.sends) {
        env.build(OperatorPlace::Exchange(exchange));
        let stream = only(env, team, done[spec.from].clone(), team.folds(exchange as usize));
        let packer = || send::RowPacker {
            types: spec.types.clone(),
            time: spec.time,
            sliding: spec.sliding,
        };
        let sent = match &spec.shape {
            ShapeSpec::Rows => send::rows(env, stream, exchange, packer()),
            ShapeSpec::Newest(newest) => {
                send_newest::newest(env, stream, exchange, packer(), *newest)
            }
            ShapeSpec::Partial(agg) => {
                send::partials(env, stream, exchange, agg, spec.time, spec.sliding)
            }
        };
        sent.probe_with(probe);
    }
}
