//! Symbolic expressions to typed ones, against one relation: columns by position, the exact
//! overload of each function, semantic tags, casts.

use std::cell::Cell;
use std::collections::HashSet;

use weir_functions::Placement;
use weir_types::{DataType, Expr, Relation, SemanticType};

use super::metadata_keys;
use super::placement_checked::Site;
use crate::budget::Budget;
use crate::codes::Code;
use crate::diag::{Diag, Res, Span, Stop, fail};
use crate::hint;
use crate::ir::{Sym, SymKind, SymRef};
use crate::limits::TYPED_NODES_MAX;
use crate::objects::{fold, pandas, px};
use crate::registry;

/// Work of typing one node.
const NODE_WORK: usize = 30;

/// What expressions are typed against.
pub(crate) struct Input<'a> {
    pub(crate) relation: &'a Relation,
    /// Columns whose expression failed: what reads them stays silent.
    pub(crate) bad: &'a HashSet<String>,
    /// The variable that is assigned to: subscripts of others are refused.
    pub(crate) frame: Option<&'a str>,
    pub(crate) nodes: &'a Cell<usize>,
    pub(crate) budget: &'a Budget,
    pub(crate) sites: &'a mut Vec<Site>,
    /// The input is behind a blocking operator.
    pub(crate) blocked: bool,
}

impl Input<'_> {
    pub(crate) fn column(&self, name: &str, span: Span) -> Res<usize> {
        if self.bad.contains(name) {
            return Err(Stop::Poisoned);
        }
        find_column(self.relation, name, span)
    }

    pub(crate) fn expr(&mut self, sym: &SymRef) -> Res<(Expr, SemanticType)> {
        self.nodes.set(self.nodes.get() + 1);
        if self.nodes.get() > TYPED_NODES_MAX {
            let message = "the expressions of the script are too large in all".to_string();
            return fail(Code::TooComplex, sym.span, message);
        }
        if !self.budget.spend(NODE_WORK) {
            return Err(Stop::Poisoned);
        }
        let (expr, semantic) = self.untagged(sym)?;
        match sym.cast.get() {
            None => Ok((expr, semantic)),
            Some(cast) if cast.data_type == expr.data_type() => Ok((expr, cast.semantic)),
            Some(cast) => {
                let (from, to) = (expr.data_type(), cast.name);
                let message = format!(
                    "Cannot cast from '{from}' to '{to}'. Only semantic type casts are allowed."
                );
                let hint = format!("px.{to} sets the meaning of a {} value", cast.data_type);
                Err(Diag::error(Code::Cast, cast.span, message)
                    .label(format!("this is {from}"))
                    .hint(hint)
                    .into())
            }
        }
    }

    fn untagged(&mut self, sym: &SymRef) -> Res<(Expr, SemanticType)> {
        match &sym.kind {
            SymKind::Literal(value) => {
                if !self.budget.planned(fold::value_bytes(value)) {
                    return Err(Stop::Poisoned);
                }
                Ok((Expr::Literal(value.clone()), SemanticType::None))
            }
            SymKind::Now(now) => {
                let expr = Expr::Now { factor: now.factor, offset_ns: now.offset_ns };
                let time = px::affine_type(*now) == DataType::Time64Ns;
                let expr =
                    if time { call("int64_to_time", vec![expr], DataType::Time64Ns) } else { expr };
                Ok((expr, SemanticType::None))
            }
            SymKind::Column { name, frame } => {
                self.check_frame(frame.as_deref(), sym)?;
                let idx = self.column(name, sym.span)?;
                let column = &self.relation.columns[idx];
                Ok((Expr::Column { idx, data_type: column.data_type }, column.semantic))
            }
            SymKind::Metadata { key, frame } => {
                self.check_frame(frame.as_deref(), sym)?;
                self.metadata(key, sym)
            }
            SymKind::Call { func, args } => self.call(func, args, sym),
            SymKind::Poison => Err(Stop::Poisoned),
        }
    }

    fn check_frame(&self, frame: Option<&str>, sym: &Sym) -> Res<()> {
        match (frame, self.frame) {
            (Some(frame), Some(target)) if frame != target => {
                let message = format!("name '{frame}' is not available in this context");
                let hint =
                    format!("only columns of '{target}' can be read here; merge the frames first");
                Err(Diag::error(Code::ColumnOfOtherFrame, sym.span, message).hint(hint).into())
            }
            _ => Ok(()),
        }
    }

    fn metadata(&mut self, key: &str, sym: &Sym) -> Res<(Expr, SemanticType)> {
        let lookup = metadata_keys::resolve(key, self.relation, sym.span)?;
        let args: Vec<Expr> = lookup
            .columns
            .iter()
            .map(|&idx| Expr::Column { idx, data_type: self.relation.columns[idx].data_type })
            .collect();
        let poisoned =
            lookup.columns.iter().any(|&idx| self.bad.contains(&self.relation.columns[idx].name));
        if poisoned {
            return Err(Stop::Poisoned);
        }
        let types: Vec<DataType> = args.iter().map(Expr::data_type).collect();
        let Some(data_type) = registry::scalar_result(&lookup.func, &types) else {
            return Err(fold::no_overload(&lookup.func, &types, sym.span).into());
        };
        self.placed(&lookup.func, sym.span);
        Ok((call(&lookup.func, args, data_type), lookup.semantic))
    }

    fn call(&mut self, func: &str, args: &[SymRef], sym: &Sym) -> Res<(Expr, SemanticType)> {
        let mut exprs = Vec::with_capacity(args.len());
        let mut tags = Vec::with_capacity(args.len());
        for arg in args {
            let (expr, tag) = self.expr(arg)?;
            exprs.push(expr);
            tags.push(tag);
        }
        let types: Vec<DataType> = exprs.iter().map(Expr::data_type).collect();
        let Some(data_type) = registry::scalar_result(func, &types) else {
            return Err(fold::no_overload(func, &types, sym.span).into());
        };
        for &at in registry::const_args(func) {
            let literal = exprs.get(at).is_none_or(|expr| matches!(expr, Expr::Literal(_)));
            if !literal {
                let message = format!("{func}(): argument {} must be a constant", at + 1);
                let hint = "it is prepared once, before any row is seen; use a literal";
                return Err(Diag::error(Code::NotConstant, args[at].span, message)
                    .hint(hint)
                    .into());
            }
        }
        self.count_pattern(func, &exprs)?;
        self.placed(func, sym.span);
        let semantic = registry::scalar_semantic(func, &tags, &types);
        Ok((call(func, exprs, data_type), semantic))
    }

    /// Patterns are compiled before the first row, each by itself.
    fn count_pattern(&self, func: &str, args: &[Expr]) -> Res<()> {
        let literals = registry::const_args(func).iter().filter_map(|&at| args.get(at));
        for literal in literals {
            let bytes = match literal {
                Expr::Literal(value) => fold::value_bytes(value),
                _ => 0,
            };
            if !self.budget.pattern(bytes) {
                return Err(Stop::Poisoned);
            }
        }
        Ok(())
    }

    /// Remembers where functions stand that need the row's node.
    fn placed(&mut self, func: &str, span: Span) {
        if registry::placement(func) == Placement::Node {
            let func = func.to_string();
            self.sites.push(Site { func, span, blocked: self.blocked });
        }
    }
}

pub(crate) fn find_column(relation: &Relation, name: &str, span: Span) -> Res<usize> {
    relation.index_of(name).ok_or_else(|| {
        let known: Vec<&str> = relation.columns.iter().map(|each| each.name.as_str()).collect();
        let all = if metadata_keys::is_key(name) {
            format!("it is metadata: assign it first, `df.{name} = df.ctx['{name}']`")
        } else if let Some(habit) = pandas::of_frame(name) {
            habit.to_string()
        } else {
            format!("it has {}", known.join(", "))
        };
        let hint = hint::did_you_mean(name, known, &all);
        Diag::error(
            Code::ColumnNotFound,
            span,
            format!("Column '{name}' not found in parent dataframe"),
        )
        .label("no such column")
        .hint(hint)
        .into()
    })
}

fn call(func: &str, args: Vec<Expr>, data_type: DataType) -> Expr {
    Expr::Call { func: func.to_string(), args, data_type }
}
