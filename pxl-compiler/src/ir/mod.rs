//! The operator graph as the script builds it: operators refer to columns by name, nothing is typed
//! yet. `passes::typed` turns it into a [`weir_types::Plan`].

pub(crate) mod sym;

use std::rc::Rc;

use weir_types::plan::Window;
use weir_types::{DataType, Value};

use crate::codes::Code;
use crate::diag::{Diag, Res, Span};
use crate::export::ExportSpec;
use crate::limits::GRAPH_OPS_MAX;
pub(crate) use sym::{Sym, SymKind, SymRef};

/// Position of an operator in its graph.
pub(crate) type IrId = usize;

/// A column name and where it is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NameAt {
    pub(crate) name: String,
    pub(crate) span: Span,
}

/// One output of an aggregate.
#[derive(Clone, Debug)]
pub(crate) struct AggOut {
    pub(crate) out: NameAt,
    pub(crate) columns: Vec<NameAt>,
    pub(crate) func: NameAt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MergeKind {
    Inner,
    Left,
    Right,
    Outer,
}

impl MergeKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            MergeKind::Inner => "inner",
            MergeKind::Left => "left",
            MergeKind::Right => "right",
            MergeKind::Outer => "outer",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Merge {
    pub(crate) how: MergeKind,
    pub(crate) left_on: Vec<NameAt>,
    pub(crate) right_on: Vec<NameAt>,
    pub(crate) suffixes: (String, String),
}

#[derive(Clone, Debug)]
pub(crate) enum IrKind {
    Source {
        table: NameAt,
        /// What the script said for `start_time`, for people.
        window_text: String,
        window: Window,
        /// The window lies in the future: the frame is empty.
        empty: bool,
    },
    TableFunction {
        name: String,
        args: Vec<(String, Value)>,
    },
    Filter(SymRef),
    /// The column moves to the end.
    Assign {
        name: NameAt,
        expr: SymRef,
        /// The variable that the frame is bound to: the only one whose subscripts may be read.
        frame: String,
    },
    Select(Vec<NameAt>),
    Drop(Vec<NameAt>),
    Aggregate {
        group: Vec<NameAt>,
        outs: Vec<AggOut>,
    },
    Merge(Merge),
    Append,
    /// Frames as one: where a frame has not a text that others have, it is empty.
    Unite,
    Limit(u64),
    /// `df.stream()`: marks its frame, changes nothing.
    Stream,
}

#[derive(Clone, Debug)]
pub(crate) struct IrOp {
    pub(crate) kind: IrKind,
    pub(crate) inputs: Vec<IrId>,
    pub(crate) span: Span,
}

/// A result of the script, before names are made unique.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    pub(crate) name: String,
    pub(crate) op: IrId,
    /// The vis function call that it came from, by position in the list of calls.
    pub(crate) call: Option<usize>,
}

/// A column that an export reads, and the types that it may have.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    pub(crate) column: NameAt,
    pub(crate) types: &'static [DataType],
    /// Who needs it, for messages.
    pub(crate) what: String,
}

/// A `px.export`: the frame with the columns that it needs.
#[derive(Clone, Debug)]
pub(crate) struct ExportIr {
    pub(crate) op: IrId,
    pub(crate) spec: ExportSpec,
    pub(crate) needs: Vec<Need>,
    pub(crate) span: Span,
}

/// The graph under construction. Operators are only added, so a frame is just a position.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    pub(crate) ops: Vec<IrOp>,
    pub(crate) sinks: Vec<Sink>,
    pub(crate) exports: Vec<ExportIr>,
}

impl Graph {
    pub(crate) fn add(&mut self, kind: IrKind, inputs: Vec<IrId>, span: Span) -> Res<IrId> {
        if self.ops.len() >= GRAPH_OPS_MAX {
            let message = format!("the script makes more than {GRAPH_OPS_MAX} operators");
            return Err(Diag::error(Code::TooComplex, span, message).into());
        }
        self.ops.push(IrOp { kind, inputs, span });
        Ok(self.ops.len() - 1)
    }

    /// An operator and all below it, each once, deeper ones first where ways part.
    pub(crate) fn below(&self, top: IrId) -> impl Iterator<Item = &IrOp> {
        let mut seen = vec![false; self.ops.len()];
        let mut open = vec![top];
        std::iter::from_fn(move || {
            loop {
                let id = open.pop()?;
                if !std::mem::replace(&mut seen[id], true) {
                    open.extend(&self.ops[id].inputs);
                    return Some(&self.ops[id]);
                }
            }
        })
    }
}

/// Shorthand for building symbolic expressions.
pub(crate) fn shared(sym: Sym) -> SymRef {
    Rc::new(sym)
}
