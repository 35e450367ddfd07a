//! The logical plan: what the compiler hands on. Flat, id-linked, in topological order, versioned
//! and serialisable. It says *what* holds at a time t; `split` says where each part runs.
//!
//! Operators are generic over what they scan: a compiled plan scans tables ([`Scan`]); the plan of the
//! cluster part scans what nodes send (`split`). What a plan *is*, whatever it was made from and in which
//! order, `canonical` says.
//!
//! Meaning, for the engine and for the model evaluator alike:
//!
//! * `Scan` holds the admitted rows of a table whose `time_` lies in the window at t.
//! * `Filter`, `Map` are row-wise; `Map` is a full projection (its relation names the outputs).
//! * `Aggregate` with groups has a row per group that has rows; without groups always one row.
//! * `Join` multiplies duplicates; a missing side is filled with zeros (`how`). Empty keys: cross.
//! * `Union` adds multisets; the inputs already agree in names, types and order.
//! * `Limit` keeps the greatest n rows by (`time_`, packed row); without `time_` the smallest n.

use serde::{Deserialize, Serialize};

use crate::expr::Expr;
use crate::schema::Relation;
use crate::value::{DataType, Value};

/// Raised with every change of the serialised form.
pub const PLAN_VERSION: u32 = 2;

/// Position of an operator in its plan.
pub type OpId = usize;

const SEC_NS: i64 = 1_000_000_000;
/// Pane widths that a window may be cut into, in nanoseconds.
pub const PANE_WIDTHS_NS: [i64; 6] =
    [SEC_NS / 10, SEC_NS, 10 * SEC_NS, 60 * SEC_NS, 300 * SEC_NS, 3600 * SEC_NS];
/// A window is cut into at most this many panes, as long as the pane widths allow.
pub const WINDOW_PANES_MAX: i64 = 300;

/// The lower end of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StartBound {
    /// No `start_time`: all rows that are kept (the retention slides where there is one).
    Beginning,
    /// `now − window_ns < time_`; `window_ns` > 0 is what the script said, before rounding to panes.
    Relative { window_ns: i64 },
    /// `time_ ≥ start`.
    Absolute { start_unix_ns: i64 },
    /// Where a window of this length began at a time of the past. Whoever asks for it wants what was in it then, and not
    /// for long: it does not slide, and no retention cuts it.
    Then { window_ns: i64, at_unix_ns: i64 },
}

/// The upper end of a scan; always also `time_ ≤ now`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndBound {
    Now,
    /// `time_ ≤ now − before_ns`; `before_ns` > 0.
    Relative {
        before_ns: i64,
    },
    /// `time_ ≤ end`.
    Absolute {
        end_unix_ns: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    pub start: StartBound,
    pub end: EndBound,
}

impl Window {
    /// The window as it was at a time: between set ends, which are those that it had then.
    #[must_use]
    pub fn as_of(&self, at_unix_ns: i64) -> Window {
        let start = match self.start {
            StartBound::Relative { window_ns } => StartBound::Then { window_ns, at_unix_ns },
            start => start,
        };
        let end_unix_ns = match self.end {
            EndBound::Now => at_unix_ns,
            EndBound::Relative { before_ns } => at_unix_ns.saturating_sub(before_ns),
            EndBound::Absolute { end_unix_ns } => end_unix_ns.min(at_unix_ns),
        };
        Window { start, end: EndBound::Absolute { end_unix_ns } }
    }

    /// The least event time that is in it, where that is a set one.
    #[must_use]
    pub fn first_unix_ns(&self) -> Option<i64> {
        match self.start {
            StartBound::Absolute { start_unix_ns } => Some(start_unix_ns),
            StartBound::Then { window_ns, at_unix_ns } => {
                Some(SlidingWindow::of(window_ns).first_unix_ns_at(at_unix_ns))
            }
            StartBound::Beginning | StartBound::Relative { .. } => None,
        }
    }

    /// The sliding window's length rounded up to whole panes, and its pane width, both in ns.
    /// `retention_ns` bounds a scan without a start. `None`: rows never expire.
    #[must_use]
    pub fn sliding(&self, retention_ns: Option<i64>) -> Option<SlidingWindow> {
        match self.start {
            StartBound::Relative { window_ns } => Some(SlidingWindow::of(window_ns)),
            StartBound::Beginning | StartBound::Absolute { .. } => {
                retention_ns.map(SlidingWindow::of)
            }
            StartBound::Then { .. } => None,
        }
    }
}

/// A window made of panes (k·pane, (k+1)·pane].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlidingWindow {
    pub window_ns: i64,
    pub pane_ns: i64,
}

impl SlidingWindow {
    #[must_use]
    pub fn of(window_ns: i64) -> SlidingWindow {
        let window_ns = window_ns.max(1);
        let pane_ns = PANE_WIDTHS_NS
            .into_iter()
            .find(|&pane_ns| {
                i128::from(pane_ns) * i128::from(WINDOW_PANES_MAX) >= i128::from(window_ns)
            })
            .unwrap_or(PANE_WIDTHS_NS[PANE_WIDTHS_NS.len() - 1]);
        let panes = (window_ns - 1) / pane_ns + 1;
        SlidingWindow { window_ns: panes.saturating_mul(pane_ns), pane_ns }
    }
    /// The pane that holds event time `time_unix_ns`: the k with k·pane < time ≤ (k+1)·pane.
    #[must_use]
    pub fn pane_of(&self, time_unix_ns: i64) -> i64 {
        (time_unix_ns.saturating_sub(1)).div_euclid(self.pane_ns)
    }
    /// The window's exclusive start at time `now_unix_ns`: ⌊(now − w)/p⌋·p.
    #[must_use]
    pub fn start_at(&self, now_unix_ns: i64) -> i64 {
        self.first_pane_at(now_unix_ns).saturating_mul(self.pane_ns)
    }
    /// The least event time that is inside the window at `now_unix_ns`.
    #[must_use]
    pub fn first_unix_ns_at(&self, now_unix_ns: i64) -> i64 {
        self.start_at(now_unix_ns).saturating_add(1)
    }
    /// The first pane that is still inside the window at `now_unix_ns`.
    #[must_use]
    pub fn first_pane_at(&self, now_unix_ns: i64) -> i64 {
        now_unix_ns.saturating_sub(self.window_ns).div_euclid(self.pane_ns)
    }
}

/// One aggregate function applied to columns of the input.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AggCall {
    /// Name in the function registry: `count`, `sum`, `quantiles`, …
    pub func: String,
    /// Input columns.
    pub args: Vec<usize>,
    pub arg_types: Vec<DataType>,
    /// The result's type; its name stands in the operator's relation after the group columns.
    pub data_type: DataType,
    /// The input's `time_`, where it has one: `any` prefers the earliest row.
    pub time: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JoinKind {
    Inner,
    /// A right join is compiled as a left join with its inputs and output columns exchanged.
    Left,
    Outer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Side {
    Left,
    Right,
}

/// What is read of a table. Columns by name, in the order of the operator's relation; `time_` always, so
/// that rows can be put into panes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scan {
    pub table: String,
    pub columns: Vec<String>,
    pub window: Window,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OpKind<L = Scan> {
    /// Rows from outside.
    Scan(L),
    /// A table function with its literal arguments, in declared order.
    TableFunction {
        name: String,
        args: Vec<(String, Value)>,
    },
    Filter {
        predicate: Expr,
    },
    Map {
        exprs: Vec<Expr>,
    },
    Aggregate {
        group: Vec<usize>,
        aggs: Vec<AggCall>,
    },
    Join {
        how: JoinKind,
        left_on: Vec<usize>,
        right_on: Vec<usize>,
        columns: Vec<(Side, usize)>,
    },
    Union,
    Limit {
        rows_max: u64,
    },
}

/// One operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Op<L = Scan> {
    pub kind: OpKind<L>,
    /// Positions of its inputs, each smaller than its own.
    pub inputs: Vec<OpId>,
    pub relation: Relation,
}

/// A named result.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Output {
    pub table: String,
    pub op: OpId,
}

/// A compiled script.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plan<L = Scan> {
    pub version: u32,
    pub ops: Vec<Op<L>>,
    pub outputs: Vec<Output>,
}

impl<L> Op<L> {
    /// As many inputs as its kind takes, each of them before `at`, where it stands.
    #[must_use]
    pub fn inputs_fit(&self, at: OpId) -> bool {
        let count = self.inputs.len();
        self.kind.arity().map_or(count > 0, |arity| count == arity)
            && self.inputs.iter().all(|&input| input < at)
    }
}

impl<L> OpKind<L> {
    /// How many inputs it has; `None`: at least one.
    #[must_use]
    pub fn arity(&self) -> Option<usize> {
        match self {
            OpKind::Scan(_) | OpKind::TableFunction { .. } => Some(0),
            OpKind::Filter { .. }
            | OpKind::Map { .. }
            | OpKind::Aggregate { .. }
            | OpKind::Limit { .. } => Some(1),
            OpKind::Join { .. } => Some(2),
            OpKind::Union => None,
        }
    }

    /// The same operator in a plan that scans something else; `None` for a scan.
    #[must_use]
    pub fn above_scans<M>(&self) -> Option<OpKind<M>> {
        Some(match self {
            OpKind::Scan(_) => return None,
            OpKind::TableFunction { name, args } => {
                OpKind::TableFunction { name: name.clone(), args: args.clone() }
            }
            OpKind::Filter { predicate } => OpKind::Filter { predicate: predicate.clone() },
            OpKind::Map { exprs } => OpKind::Map { exprs: exprs.clone() },
            OpKind::Aggregate { group, aggs } => {
                OpKind::Aggregate { group: group.clone(), aggs: aggs.clone() }
            }
            OpKind::Join { how, left_on, right_on, columns } => OpKind::Join {
                how: *how,
                left_on: left_on.clone(),
                right_on: right_on.clone(),
                columns: columns.clone(),
            },
            OpKind::Union => OpKind::Union,
            OpKind::Limit { rows_max } => OpKind::Limit { rows_max: *rows_max },
        })
    }

    /// Its row expressions.
    #[must_use]
    pub fn expressions(&self) -> &[Expr] {
        match self {
            OpKind::Filter { predicate } => std::slice::from_ref(predicate),
            OpKind::Map { exprs } => exprs,
            _ => &[],
        }
    }
}

impl Plan {
    /// Per operator: some output reads it.
    pub(crate) fn read(&self) -> Vec<bool> {
        let mut read = vec![false; self.ops.len()];
        self.outputs.iter().for_each(|output| read[output.op] = true);
        for id in (0..self.ops.len()).rev() {
            if read[id] {
                self.ops[id].inputs.iter().for_each(|&input| read[input] = true);
            }
        }
        read
    }

    /// Takes away the operators that no output reads. The others keep their order.
    pub fn drop_unread(&mut self) {
        let read = self.read();
        let mut kept = 0;
        let numbers: Vec<OpId> = read
            .iter()
            .map(|&is_read| {
                kept += usize::from(is_read);
                kept.saturating_sub(1)
            })
            .collect();
        let mut is_read = read.into_iter();
        self.ops.retain(|_| is_read.next().unwrap_or(false));
        let inputs = self.ops.iter_mut().flat_map(|op| &mut op.inputs);
        inputs.for_each(|input| *input = numbers[*input]);
        self.outputs.iter_mut().for_each(|output| output.op = numbers[output.op]);
    }

    /// All scans: (table, window).
    pub fn scans(&self) -> impl Iterator<Item = (&str, Window)> {
        self.ops.iter().filter_map(|op| match &op.kind {
            OpKind::Scan(scan) => Some((scan.table.as_str(), scan.window)),
            _ => None,
        })
    }

    /// What the plan answers about a time of the past: see [`Window::as_of`].
    pub fn set_as_of(&mut self, at_unix_ns: i64) {
        for op in &mut self.ops {
            if let OpKind::Scan(scan) = &mut op.kind {
                scan.window = scan.window.as_of(at_unix_ns);
            }
        }
    }

    /// True if a row expression reads the clock: such a plan refreshes at most once a second.
    #[must_use]
    pub fn reads_now(&self) -> bool {
        self.ops.iter().flat_map(|op| op.kind.expressions()).any(Expr::reads_now)
    }

    /// How often the view refreshes unless asked otherwise: 1 s for windows of a minute and more
    /// (and for scans without a start), else the tick. A multiple of the tick.
    #[must_use]
    pub fn default_refresh_ms(&self, tick_ms: u64) -> u64 {
        let long = self.scans().any(|(_, window)| match window.start {
            StartBound::Relative { window_ns } => window_ns >= 60 * SEC_NS,
            StartBound::Beginning | StartBound::Absolute { .. } | StartBound::Then { .. } => true,
        });
        let wanted_ms = if long || self.reads_now() { 1000 } else { tick_ms };
        wanted_ms.div_ceil(tick_ms.max(1)) * tick_ms.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window as of a time holds the rows that the sliding one held then, also where that is within a pane; what is
    /// set already stays, but nothing after that time is in it.
    #[test]
    fn windows_as_of_a_time_are_those_of_then() {
        let at = 1_234_567_890_123_456_789;
        for window_ns in [1, SEC_NS, 90 * SEC_NS, 3_600 * SEC_NS, 10 * 86_400 * SEC_NS] {
            let sliding = SlidingWindow::of(window_ns);
            let start = StartBound::Relative { window_ns };
            let then = Window { start, end: EndBound::Now }.as_of(at);
            assert_eq!(then.sliding(Some(SEC_NS)), None, "nothing leaves it");
            let start_unix_ns = then.first_unix_ns().expect("a set start");
            // The first row that is in it, and the last that is not.
            assert!(sliding.pane_of(start_unix_ns) >= sliding.first_pane_at(at), "{window_ns}");
            assert!(sliding.pane_of(start_unix_ns - 1) < sliding.first_pane_at(at), "{window_ns}");
            assert_eq!(then.end, EndBound::Absolute { end_unix_ns: at });
        }
        let start = StartBound::Absolute { start_unix_ns: 5 };
        for (end, wanted) in [
            (EndBound::Relative { before_ns: 3 }, at - 3),
            (EndBound::Absolute { end_unix_ns: 9 }, 9),
            (EndBound::Absolute { end_unix_ns: i64::MAX }, at),
        ] {
            let then = Window { start, end }.as_of(at);
            assert_eq!(then, Window { start, end: EndBound::Absolute { end_unix_ns: wanted } });
        }
        let all = Window { start: StartBound::Beginning, end: EndBound::Now }.as_of(at);
        assert_eq!(all.start, StartBound::Beginning);
    }

    /// The pane rule of the architecture, by its examples: catches a wrong rounding direction.
    #[test]
    fn panes_follow_the_rule() {
        let five_min = SlidingWindow::of(300 * SEC_NS);
        assert_eq!((five_min.window_ns, five_min.pane_ns), (300 * SEC_NS, SEC_NS));
        let week = SlidingWindow::of(7 * 86_400 * SEC_NS);
        assert_eq!(week.pane_ns, 3600 * SEC_NS);
        let odd = SlidingWindow::of(SEC_NS + 1);
        assert_eq!((odd.window_ns, odd.pane_ns), (SEC_NS + SEC_NS / 10, SEC_NS / 10));
        assert_eq!(five_min.pane_of(SEC_NS), 0);
        assert_eq!(five_min.pane_of(SEC_NS + 1), 1);
        assert_eq!(five_min.start_at(1000 * SEC_NS), 700 * SEC_NS);
        assert_eq!(five_min.start_at(1000 * SEC_NS + 1), 700 * SEC_NS);
        // A row at the exclusive start is out, one nanosecond later is in.
        let first = five_min.first_pane_at(1000 * SEC_NS);
        assert!(five_min.pane_of(700 * SEC_NS) < first);
        assert_eq!(five_min.pane_of(700 * SEC_NS + 1), first);
    }
}
