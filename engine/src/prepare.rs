//! A fragment checked and compiled once, on the thread that installs it: after this, building its
//! dataflow cannot fail, which matters because all workers must build the same thing.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_functions::aggregate::{AggFn, Input};
use weir_functions::eval::CompiledExpr;
use weir_types::expr::Expr;
use weir_types::plan::{
    AggCall, EndBound, JoinKind, OpId, OpKind, Side, SlidingWindow, StartBound, Window,
};
use weir_types::row::PackedRow;
use weir_types::schema::Relation;
use weir_types::split::{ExchangeId, Fragment, FragmentKind, FragmentOp, Shape};
use weir_types::value::{DataType, Value};

use crate::api::{
    FeedExchange, QueryId, TEST_DEATH_LITERAL, TEST_DEATHS_LITERAL, TEST_PANIC_LITERAL,
};

/// Where a fragment runs, told by its operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Node,
    Cluster,
}

/// What a row expression depends on besides its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Depends {
    RowOnly,
    Metadata,
    Clock,
}

#[derive(Clone)]
pub(crate) struct ScanSpec {
    pub(crate) table: Arc<str>,
    pub(crate) columns: Vec<String>,
    pub(crate) window: Window,
    pub(crate) sliding: Option<SlidingWindow>,
}

/// A filter (one expression) or a map (all of them).
#[derive(Clone)]
pub(crate) struct RowSpec {
    pub(crate) exprs: Arc<[CompiledExpr]>,
    pub(crate) filter: bool,
    pub(crate) depends: Depends,
    /// Panics when evaluated, or takes the worker with it: test faults.
    pub(crate) panics: bool,
    pub(crate) kills: bool,
    pub(crate) kills_each_time: bool,
    pub(crate) input: Arc<Relation>,
    pub(crate) output: Arc<Relation>,
}

#[derive(Clone)]
pub(crate) struct AggSpec {
    pub(crate) group: Vec<usize>,
    pub(crate) aggs: Arc<[AggFn]>,
    /// Of the rows that go in.
    pub(crate) input: Arc<Relation>,
    pub(crate) types: Vec<DataType>,
}

#[derive(Clone)]
pub(crate) struct JoinSpec {
    pub(crate) how: JoinKind,
    pub(crate) left_on: Vec<usize>,
    pub(crate) right_on: Vec<usize>,
    pub(crate) columns: Vec<(Side, usize)>,
    pub(crate) left_types: Vec<DataType>,
    pub(crate) right_types: Vec<DataType>,
}

#[derive(Clone)]
pub(crate) struct LimitSpec {
    pub(crate) rows_max: u64,
    /// The event-time column that ranks rows.
    pub(crate) time: Option<usize>,
    pub(crate) types: Vec<DataType>,
}

#[derive(Clone)]
pub(crate) enum Kind {
    Scan(ScanSpec),
    TableFunction,
    Rows(RowSpec),
    Union,
    Aggregate(AggSpec),
    Join(JoinSpec),
    Limit(LimitSpec),
    SendRows {
        exchange: ExchangeId,
        rows_max: Option<u64>,
        time: usize,
        sliding: Option<SlidingWindow>,
        types: Vec<DataType>,
    },
    SendPartial {
        exchange: ExchangeId,
        spec: AggSpec,
        time: usize,
        sliding: Option<SlidingWindow>,
    },
    ReceiveRows {
        exchange: ExchangeId,
        sliding: Option<SlidingWindow>,
    },
    ReceivePartial {
        exchange: ExchangeId,
        spec: AggSpec,
        sliding: Option<SlidingWindow>,
    },
    /// The rows of a feed.
    Import(FeedExchange),
    Output {
        table: Arc<str>,
    },
}

pub(crate) struct PreparedOp {
    pub(crate) kind: Kind,
    pub(crate) inputs: Vec<OpId>,
    pub(crate) hash: u64,
    /// An earlier operator that holds the same rows: it is built once.
    pub(crate) same_as: Option<OpId>,
}

impl PreparedOp {
    fn feed(&self) -> Option<QueryId> {
        match self.kind {
            Kind::Import(FeedExchange { feed, .. }) => Some(feed),
            _ => None,
        }
    }
}

pub(crate) struct Prepared {
    pub(crate) role: Role,
    pub(crate) ops: Vec<PreparedOp>,
    /// Its windows are read by other queries; it hands out nothing itself.
    pub(crate) is_feed: bool,
    /// The feeds that it reads, each once.
    pub(crate) feeds: Vec<QueryId>,
}

impl Prepared {
    /// # Errors
    /// What is wrong with the fragment, in words.
    pub(crate) fn new(
        fragment: &Fragment,
        imports: &BTreeMap<ExchangeId, FeedExchange>,
        retention_ns: Option<i64>,
        test_faults: bool,
    ) -> Result<Prepared, String> {
        let role = role_of(fragment)?;
        let builder = Builder { fragment, imports, role, retention_ns, test_faults };
        let mut ops: Vec<PreparedOp> = Vec::with_capacity(fragment.ops.len());
        for (pos, op) in fragment.ops.iter().enumerate() {
            check_inputs(pos, op)?;
            let kind = builder.kind(op).map_err(|why| format!("operator {pos}: {why}"))?;
            let same_as = find_same(fragment, &ops, pos);
            ops.push(PreparedOp { kind, inputs: op.inputs.clone(), hash: op.hash, same_as });
        }
        let mut feeds: Vec<QueryId> = ops.iter().filter_map(PreparedOp::feed).collect();
        feeds.sort_unstable();
        feeds.dedup();
        let receives = |op: &PreparedOp| {
            matches!(op.kind, Kind::ReceiveRows { .. } | Kind::ReceivePartial { .. })
        };
        let is_feed = !ops.is_empty() && ops.iter().all(receives);
        Ok(Prepared { role, ops, is_feed, feeds })
    }

    /// True for an exchange of a feed.
    pub(crate) fn publishes(&self, exchange: ExchangeId) -> bool {
        let is_it = |op: &PreparedOp| match &op.kind {
            Kind::ReceiveRows { exchange: id, .. } | Kind::ReceivePartial { exchange: id, .. } => {
                *id == exchange
            }
            _ => false,
        };
        self.is_feed && self.ops.iter().any(is_it)
    }

    /// True if a reader of the exchange can come at any time: its window holds what it has told. Rows
    /// that never expire are told once and not kept.
    pub(crate) fn holds(&self, exchange: ExchangeId) -> bool {
        self.ops.iter().any(|op| match &op.kind {
            Kind::ReceiveRows { exchange: id, sliding } => *id == exchange && sliding.is_some(),
            Kind::ReceivePartial { exchange: id, .. } => *id == exchange,
            _ => false,
        })
    }
}

/// A fragment without operators is a node's: it has nothing to say but that it is up to date.
fn role_of(fragment: &Fragment) -> Result<Role, String> {
    let of_node = |op: &FragmentOp| {
        matches!(op.kind, FragmentKind::Send { .. } | FragmentKind::Plan(OpKind::Scan { .. }))
    };
    let of_cluster = |op: &FragmentOp| {
        matches!(op.kind, FragmentKind::Receive { .. } | FragmentKind::Output { .. })
    };
    match (fragment.ops.iter().any(of_node), fragment.ops.iter().any(of_cluster)) {
        (true, true) => Err("the fragment mixes node and cluster operators".to_string()),
        (_, false) => Ok(Role::Node),
        (false, true) => Ok(Role::Cluster),
    }
}

fn check_inputs(pos: OpId, op: &FragmentOp) -> Result<(), String> {
    let wanted = match &op.kind {
        FragmentKind::Receive { .. }
        | FragmentKind::Plan(OpKind::Scan { .. } | OpKind::TableFunction { .. }) => Some(0),
        FragmentKind::Plan(OpKind::Join { .. }) => Some(2),
        FragmentKind::Plan(OpKind::Union) => None,
        FragmentKind::Plan(_) | FragmentKind::Send { .. } | FragmentKind::Output { .. } => Some(1),
    };
    let fits = wanted.map_or(!op.inputs.is_empty(), |wanted| op.inputs.len() == wanted);
    if fits && op.inputs.iter().all(|&input| input < pos) {
        Ok(())
    } else {
        Err(format!("operator {pos} has wrong inputs"))
    }
}

fn find_same(fragment: &Fragment, ops: &[PreparedOp], pos: OpId) -> Option<OpId> {
    let op = &fragment.ops[pos];
    let canonical = |input: OpId| ops[input].same_as.unwrap_or(input);
    if matches!(op.kind, FragmentKind::Send { .. } | FragmentKind::Output { .. }) {
        return None;
    }
    (0..pos).find(|&earlier| {
        let other = &fragment.ops[earlier];
        other.hash == op.hash
            && ops[earlier].same_as.is_none()
            && other.kind == op.kind
            && other.relation == op.relation
            && other.inputs.len() == op.inputs.len()
            && other.inputs.iter().zip(&op.inputs).all(|(&a, &b)| canonical(a) == canonical(b))
    })
}

struct Builder<'a> {
    fragment: &'a Fragment,
    imports: &'a BTreeMap<ExchangeId, FeedExchange>,
    role: Role,
    retention_ns: Option<i64>,
    test_faults: bool,
}

impl Builder<'_> {
    fn relation(&self, op: OpId) -> &Relation {
        &self.fragment.ops[op].relation
    }

    fn sliding(&self, window: &Window) -> Option<SlidingWindow> {
        window.sliding(self.retention_ns)
    }

    fn kind(&self, op: &FragmentOp) -> Result<Kind, String> {
        match &op.kind {
            FragmentKind::Plan(kind) => self.plan_kind(op, kind),
            FragmentKind::Send { exchange, shape, window, time } => {
                self.send(op, *exchange, shape, window, *time)
            }
            FragmentKind::Receive { exchange, shape, window, input } => {
                if let Some(&import) = self.imports.get(exchange) {
                    return Ok(Kind::Import(import));
                }
                let (exchange, sliding) = (*exchange, self.sliding(window));
                match shape {
                    Shape::Rows { .. } => Ok(Kind::ReceiveRows { exchange, sliding }),
                    Shape::Partial { group, aggs } => {
                        let spec = agg_spec(group, aggs, input, Input::AppendOnly)?;
                        Ok(Kind::ReceivePartial { exchange, spec, sliding })
                    }
                }
            }
            FragmentKind::Output { table } => Ok(Kind::Output { table: table.as_str().into() }),
        }
    }

    fn send(
        &self,
        op: &FragmentOp,
        exchange: ExchangeId,
        shape: &Shape,
        window: &Window,
        time: usize,
    ) -> Result<Kind, String> {
        let input = self.relation(op.inputs[0]);
        let sliding = self.sliding(window);
        let is_time = |column: &weir_types::Column| column.data_type == DataType::Time64Ns;
        if !input.columns.get(time).is_some_and(is_time) {
            return Err(format!("column {time} is not an event time"));
        }
        match shape {
            Shape::Rows { rows_max } => Ok(Kind::SendRows {
                exchange,
                rows_max: *rows_max,
                time,
                sliding,
                types: input.types(),
            }),
            Shape::Partial { group, aggs } => {
                let spec = agg_spec(group, aggs, input, Input::AppendOnly)?;
                Ok(Kind::SendPartial { exchange, spec, time, sliding })
            }
        }
    }

    fn plan_kind(&self, op: &FragmentOp, kind: &OpKind) -> Result<Kind, String> {
        let input = op.inputs.first().map(|&input| self.relation(input));
        let blocking = matches!(
            kind,
            OpKind::Aggregate { .. }
                | OpKind::Join { .. }
                | OpKind::Limit { .. }
                | OpKind::TableFunction { .. }
        );
        if blocking && self.role == Role::Node {
            return Err("this operator does not run in the node part".to_string());
        }
        match (kind, input) {
            (OpKind::Scan { table, columns, window }, _) => {
                Ok(Kind::Scan(self.scan(table, columns, window)))
            }
            (OpKind::TableFunction { .. }, _) => Ok(Kind::TableFunction),
            (OpKind::Filter { predicate }, Some(input)) => {
                self.rows(std::slice::from_ref(predicate), true, input, &op.relation)
            }
            (OpKind::Map { exprs }, Some(input)) => self.rows(exprs, false, input, &op.relation),
            (OpKind::Aggregate { group, aggs }, Some(input)) => {
                Ok(Kind::Aggregate(agg_spec(group, aggs, input, Input::Retractable)?))
            }
            (OpKind::Join { how, left_on, right_on, columns }, Some(left)) => {
                let right = self.relation(op.inputs[1]);
                let fits = left_on.len() == right_on.len()
                    && left_on.iter().all(|&idx| idx < left.len())
                    && right_on.iter().all(|&idx| idx < right.len())
                    && columns.iter().all(|&(side, idx)| match side {
                        Side::Left => idx < left.len(),
                        Side::Right => idx < right.len(),
                    });
                if !fits {
                    return Err("a join column is out of range".to_string());
                }
                Ok(Kind::Join(JoinSpec {
                    how: *how,
                    left_on: left_on.clone(),
                    right_on: right_on.clone(),
                    columns: columns.clone(),
                    left_types: left.types(),
                    right_types: right.types(),
                }))
            }
            (OpKind::Union, _) => Ok(Kind::Union),
            (OpKind::Limit { rows_max }, Some(input)) => Ok(Kind::Limit(LimitSpec {
                rows_max: *rows_max,
                time: input.time_idx(),
                types: input.types(),
            })),
            (_, None) => Err("an input is missing".to_string()),
        }
    }

    fn scan(&self, table: &str, columns: &[String], window: &Window) -> ScanSpec {
        ScanSpec {
            table: table.into(),
            columns: columns.to_vec(),
            window: *window,
            sliding: self.sliding(window),
        }
    }

    fn rows(
        &self,
        exprs: &[Expr],
        filter: bool,
        input: &Relation,
        output: &Relation,
    ) -> Result<Kind, String> {
        let depends = exprs.iter().map(depends_on).max().unwrap_or(Depends::RowOnly);
        if depends == Depends::Clock && self.role == Role::Node {
            return Err("px.now() in a row expression does not run in the node part".to_string());
        }
        let in_range = |idx: usize| idx < input.len();
        if !exprs.iter().flat_map(Expr::columns).all(in_range) {
            return Err("a column is out of range".to_string());
        }
        let compiled: Result<Vec<_>, _> = exprs.iter().map(CompiledExpr::new).collect();
        Ok(Kind::Rows(RowSpec {
            exprs: compiled.map_err(|error| error.to_string())?.into(),
            filter,
            depends,
            panics: self.test_faults && exprs.iter().any(|e| holds(e, TEST_PANIC_LITERAL)),
            kills: self.test_faults && exprs.iter().any(|e| holds(e, TEST_DEATH_LITERAL)),
            kills_each_time: self.test_faults
                && exprs.iter().any(|e| holds(e, TEST_DEATHS_LITERAL)),
            input: Arc::new(input.clone()),
            output: Arc::new(output.clone()),
        }))
    }
}

fn agg_spec(
    group: &[usize],
    aggs: &[AggCall],
    input: &Relation,
    mode: Input,
) -> Result<AggSpec, String> {
    let types = input.types();
    let time = aggs.iter().filter_map(|call| call.time);
    let columns = aggs.iter().flat_map(|call| call.args.iter().copied());
    if !group.iter().copied().chain(columns).chain(time).all(|idx| idx < types.len()) {
        return Err("an aggregate's column is out of range".to_string());
    }
    let compiled: Result<Vec<_>, _> = aggs.iter().map(|call| AggFn::new(call, mode)).collect();
    Ok(AggSpec {
        group: group.to_vec(),
        aggs: compiled.map_err(|error| error.to_string())?.into(),
        input: Arc::new(input.clone()),
        types,
    })
}

fn depends_on(expr: &Expr) -> Depends {
    let mut found = Depends::RowOnly;
    expr.walk(&mut |expr| {
        let here = match expr {
            Expr::Now { .. } => Depends::Clock,
            Expr::Call { func, .. } if reads_metadata(func) => Depends::Metadata,
            _ => Depends::RowOnly,
        };
        found = found.max(here);
    });
    found
}

/// True unless the function's result depends on its arguments alone.
fn reads_metadata(func: &str) -> bool {
    weir_functions::scalar::find(func).is_none_or(|def| !def.pure)
}

fn holds(expr: &Expr, literal: &str) -> bool {
    let mut found = false;
    expr.walk(&mut |expr| {
        if let Expr::Literal(Value::String(text)) = expr {
            found |= text == literal.as_bytes();
        }
    });
    found
}

/// The packed zero of each type: what a missing side of a join reads as.
pub(crate) fn packed_zeros(types: &[DataType]) -> Vec<u8> {
    let zeros: Vec<Value> = types.iter().map(|data_type| data_type.zero()).collect();
    PackedRow::pack(&zeros).0
}

/// True if rows of the window are bounded below by something else than panes.
pub(crate) fn absolute_bounds(window: &Window) -> (Option<i64>, Option<i64>, i64) {
    let start = match window.start {
        StartBound::Absolute { start_unix_ns } => Some(start_unix_ns),
        StartBound::Beginning | StartBound::Relative { .. } => None,
    };
    match window.end {
        EndBound::Now => (start, None, 0),
        EndBound::Relative { before_ns } => (start, None, before_ns.max(0)),
        EndBound::Absolute { end_unix_ns } => (start, Some(end_unix_ns), 0),
    }
}
