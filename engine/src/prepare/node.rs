//! What a node runs: scans, row-wise steps above them, sends at their ends.

use weir_types::DataType;
use weir_types::plan::{OpId, SlidingWindow};
use weir_types::schema::Relation;
use weir_types::split::{NodeOp, NodePlan, Send, Step, mapped, scanned};

use super::Settings;
use super::specs::{Depends, RowSpec, ScanSpec, ShapeSpec};

pub(crate) struct NodeProgram {
    pub(crate) steps: Vec<NodeStep>,
    /// By the number of their exchange.
    pub(crate) sends: Vec<SendSpec>,
}

pub(crate) enum NodeStep {
    Scan(ScanSpec),
    /// Of the rows of an earlier step.
    Rows {
        below: OpId,
        spec: RowSpec,
    },
}

pub(crate) struct SendSpec {
    pub(crate) from: OpId,
    pub(crate) time: usize,
    pub(crate) sliding: Option<SlidingWindow>,
    pub(crate) shape: ShapeSpec,
    /// Of the rows that are sent.
    pub(crate) types: Vec<DataType>,
}

/// The rows of a step.
struct Rows {
    relation: Relation,
    sliding: Option<SlidingWindow>,
}

impl NodeProgram {
    pub(super) fn new(plan: &NodePlan, settings: &Settings) -> Result<NodeProgram, String> {
        let (mut steps, mut rows) = (Vec::new(), Vec::new());
        for (pos, op) in plan.ops.iter().enumerate() {
            let (step, given) = prepared(op, &rows, settings)
                .map_err(|why| format!("operator {pos} of the node part: {why}"))?;
            steps.push(step);
            rows.push(given);
        }
        let send = |(exchange, send): (usize, &Send)| {
            send_spec(send, &rows).map_err(|why| format!("exchange {exchange}: {why}"))
        };
        let sends = plan.sends.iter().enumerate().map(send).collect::<Result<_, _>>()?;
        Ok(NodeProgram { steps, sends })
    }
}

fn prepared(op: &NodeOp, rows: &[Rows], settings: &Settings) -> Result<(NodeStep, Rows), String> {
    match op {
        NodeOp::Scan(table) => {
            if table.types.len() != table.scan.columns.len() {
                return Err("a column has no type".to_string());
            }
            let sliding = table.scan.window.sliding(settings.retention_ns);
            let given = Rows { relation: scanned(table), sliding };
            Ok((NodeStep::Scan(ScanSpec::new(&table.scan, settings)), given))
        }
        NodeOp::Step { below, step } => {
            let input = rows.get(*below).ok_or("its input is not below it")?;
            let sliding = input.sliding;
            let (spec, relation) = match &**step {
                Step::Filter(predicate) => {
                    let spec = RowSpec::of_filter(predicate, &input.relation, settings)?;
                    (spec, input.relation.clone())
                }
                Step::Map { exprs, labels } => {
                    let relation = mapped(exprs, labels);
                    (RowSpec::of_map(exprs, &input.relation, &relation, settings)?, relation)
                }
            };
            if spec.depends == Depends::Clock {
                let why = "px.now() in a row expression does not run in the node part";
                return Err(why.to_string());
            }
            Ok((NodeStep::Rows { below: *below, spec }, Rows { relation, sliding }))
        }
    }
}

fn send_spec(send: &Send, rows: &[Rows]) -> Result<SendSpec, String> {
    let Rows { relation, sliding } = rows.get(send.from).ok_or("it sends what is not there")?;
    let types = relation.types();
    if types.get(send.time) != Some(&DataType::Time64Ns) {
        return Err(format!("column {} is not an event time", send.time));
    }
    let shape = ShapeSpec::new(&send.shape, relation)?;
    Ok(SendSpec { from: send.from, time: send.time, sliding: *sliding, shape, types })
}
