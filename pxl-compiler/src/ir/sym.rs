//! Symbolic row expressions: columns by name, resolved against whatever frame they are used on.
//! Shared by reference; size and depth are kept so that none grows without bound.

use std::cell::Cell;
use std::rc::Rc;

use weir_types::{DataType, SemanticType, Value};

use crate::codes::Code;
use crate::diag::{Diag, Res, Span};
use crate::limits::{EXPR_DEPTH_MAX, EXPR_NODES_MAX};

pub(crate) type SymRef = Rc<Sym>;

/// `factor · now + offset_ns`; `time` if it is a TIME64NS, else an INT64. `factor` is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Affine {
    pub(crate) factor: i64,
    pub(crate) offset_ns: i64,
    pub(crate) time: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum SymKind {
    Column {
        name: String,
        /// The variable it was subscripted from (`other['x']`); attribute access has none.
        frame: Option<String>,
    },
    /// `df.ctx['key']`
    Metadata {
        key: String,
        frame: Option<String>,
    },
    Literal(Value),
    Now(Affine),
    Call {
        func: String,
        args: Vec<SymRef>,
    },
    /// Stands where an expression failed: what uses it stays silent.
    Poison,
}

/// A semantic cast `px.Bytes(x)`: checks the data type, sets the tag.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CastTo {
    pub(crate) name: &'static str,
    pub(crate) data_type: DataType,
    pub(crate) semantic: SemanticType,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) struct Sym {
    pub(crate) kind: SymKind,
    pub(crate) span: Span,
    /// Set in place, as Pixie does: other uses of the same expression see the tag.
    pub(crate) cast: Cell<Option<CastTo>>,
    /// Nodes, counted as a tree.
    nodes: usize,
    depth: usize,
}

impl Sym {
    pub(crate) fn leaf(kind: SymKind, span: Span) -> Sym {
        Sym { kind, span, cast: Cell::new(None), nodes: 1, depth: 1 }
    }

    pub(crate) fn literal(value: Value, span: Span) -> SymRef {
        Rc::new(Sym::leaf(SymKind::Literal(value), span))
    }

    pub(crate) fn poison(span: Span) -> SymRef {
        Rc::new(Sym::leaf(SymKind::Poison, span))
    }

    /// A function call; fails if the expression grows too large.
    pub(crate) fn call(func: &str, args: Vec<SymRef>, span: Span) -> Res<SymRef> {
        let nodes = args.iter().fold(1_usize, |sum, arg| sum.saturating_add(arg.nodes));
        let depth = 1 + args.iter().map(|arg| arg.depth).max().unwrap_or(0);
        if nodes > EXPR_NODES_MAX || depth > EXPR_DEPTH_MAX {
            let message = "the expression grows too large".to_string();
            let hint = "assign parts of it to columns first";
            return Err(Diag::error(Code::TooComplex, span, message).hint(hint).into());
        }
        let kind = SymKind::Call { func: func.to_string(), args };
        Ok(Rc::new(Sym { kind, span, cast: Cell::new(None), nodes, depth }))
    }

    pub(crate) fn as_literal(&self) -> Option<&Value> {
        match &self.kind {
            SymKind::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// The text of a STRING literal that is UTF-8.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self.as_literal() {
            Some(Value::String(bytes)) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

/// Source-like text for `explain`.
impl std::fmt::Display for Sym {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kind {
            SymKind::Column { name, .. } => write!(f, "{name}"),
            SymKind::Metadata { key, .. } => write!(f, "ctx[{key}]"),
            SymKind::Literal(value) => f.write_str(&crate::explain::text::value(value)),
            SymKind::Now(now) => f.write_str(&crate::explain::text::now(now.factor, now.offset_ns)),
            SymKind::Call { func, args } => {
                write!(f, "{func}(")?;
                for (at, arg) in args.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{arg}")?;
                }
                f.write_str(")")
            }
            SymKind::Poison => f.write_str("<error>"),
        }
    }
}
