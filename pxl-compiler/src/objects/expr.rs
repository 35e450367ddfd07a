//! Expressions: names, literals, operators, attributes and subscripts. Calls are in `call`.

use std::collections::HashSet;
use std::rc::Rc;

use ruff_python_ast::{
    Expr, ExprAttribute, ExprBinOp, ExprBoolOp, ExprCompare, ExprDict, ExprNumberLiteral,
    ExprSubscript, ExprUnaryOp, Number, UnaryOp,
};
use ruff_text_size::Ranged;
use weir_types::Value;

use super::args::Arg;
use super::eval::{At, Evaluator};
use super::{Frame, Items, Method, Module, Object, fold, pandas, px, trace};
use crate::codes::Code;
use crate::diag::{Diag, Res, Span, Stop, fail};
use crate::hint;
use crate::ir::{IrKind, NameAt, Sym, SymKind, SymRef, shared};
use crate::registry;
use crate::syntax::literals;
use crate::syntax::restrict::{
    boolean_function, comparison_function, operator_function, unary_function,
};

impl<'a> Evaluator<'a> {
    pub(crate) fn expression(&mut self, expr: &Expr, at: At) -> Res<Object<'a>> {
        let span = Span::new(at.source, expr.range());
        self.enter(span)?;
        let result = self.expression_inner(expr, span, at);
        self.leave();
        result
    }

    fn expression_inner(&mut self, expr: &Expr, span: Span, at: At) -> Res<Object<'a>> {
        match expr {
            Expr::Name(name) => self.lookup(at.scope, name.id.as_str(), span),
            Expr::StringLiteral(literal) => {
                self.text(literals::string_bytes(literal, self.text_of(at.source)), span)
            }
            Expr::BytesLiteral(literal) => {
                self.text(literals::bytes_literal(literal, self.text_of(at.source)), span)
            }
            Expr::NumberLiteral(literal) => number(literal, false, span),
            Expr::BooleanLiteral(literal) => {
                Ok(Object::literal(Value::Boolean(literal.value), span))
            }
            Expr::NoneLiteral(_) => Ok(Object::None),
            Expr::List(list) => Ok(Object::List(self.items(&list.elts, span, at)?)),
            Expr::Tuple(tuple) => Ok(Object::Tuple(self.items(&tuple.elts, span, at)?)),
            Expr::Dict(dict) => self.dict(dict, span, at),
            Expr::BinOp(inner) => self.binary(inner, span, at),
            Expr::UnaryOp(inner) => self.unary(inner, span, at),
            Expr::BoolOp(inner) => self.boolean(inner, span, at),
            Expr::Compare(inner) => self.compare(inner, span, at),
            Expr::Attribute(inner) => self.attribute(inner, at),
            Expr::Subscript(inner) => self.subscript(inner, span, at),
            Expr::Call(inner) => self.call(inner, span, at),
            // `restrict` has refused everything else; values from outside come without it.
            other => {
                let name = crate::syntax::restrict::expression_name(other);
                let message = format!("Can't parse expression of type {name}");
                fail(Code::ExpressionNotSupported, span, message)
            }
        }
    }

    fn items(&mut self, elts: &[Expr], span: Span, at: At) -> Res<Rc<Items<Object<'a>>>> {
        let items: Res<Vec<Object<'a>>> = elts.iter().map(|elt| self.expression(elt, at)).collect();
        let items = items?;
        let depth = items.iter().map(Object::depth).max().unwrap_or(0);
        Items::new(items, depth, span)
    }

    fn dict(&mut self, dict: &ExprDict, span: Span, at: At) -> Res<Object<'a>> {
        let mut entries = Vec::new();
        for item in &dict.items {
            let Some(key) = &item.key else { return Err(Stop::Poisoned) };
            entries.push((self.expression(key, at)?, self.expression(&item.value, at)?));
        }
        let depth = entries.iter().map(|(key, value)| key.depth().max(value.depth())).max();
        Ok(Object::Dict(Items::new(entries, depth.unwrap_or(0), span)?))
    }

    /// An operand: any row expression.
    fn operand(&mut self, expr: &Expr, operator: &str, at: At) -> Res<SymRef> {
        let value = self.expression(expr, at)?;
        match value {
            Object::Expr(sym) if matches!(sym.kind, SymKind::Poison) => Err(Stop::Poisoned),
            Object::Expr(sym) => Ok(sym),
            Object::Poison => Err(Stop::Poisoned),
            other => {
                let span = Span::new(at.source, expr.range());
                let kind = other.type_name();
                let message = format!("Expected 'Expression' for '{operator}', received '{kind}'");
                fail(Code::ArgumentType, span, message)
            }
        }
    }

    fn binary(&mut self, inner: &ExprBinOp, span: Span, at: At) -> Res<Object<'a>> {
        let Some(func) = operator_function(inner.op) else { return Err(Stop::Poisoned) };
        let left = self.operand(&inner.left, inner.op.as_str(), at)?;
        let right = self.operand(&inner.right, inner.op.as_str(), at)?;
        Ok(Object::Expr(fold::operator(func, vec![left, right], span, self.budget)?))
    }

    fn unary(&mut self, inner: &ExprUnaryOp, span: Span, at: At) -> Res<Object<'a>> {
        if let (UnaryOp::USub, Expr::NumberLiteral(literal)) = (inner.op, &*inner.operand) {
            return number(literal, true, span);
        }
        let operand = self.operand(&inner.operand, inner.op.as_str(), at)?;
        match unary_function(inner.op) {
            None => Ok(Object::Expr(operand)),
            Some(func) => Ok(Object::Expr(fold::operator(func, vec![operand], span, self.budget)?)),
        }
    }

    fn boolean(&mut self, inner: &ExprBoolOp, span: Span, at: At) -> Res<Object<'a>> {
        let op = inner.op.as_str();
        let operands: Res<Vec<SymRef>> =
            inner.values.iter().map(|value| self.operand(value, op, at)).collect();
        let func = boolean_function(inner.op);
        Ok(Object::Expr(fold::operator(func, operands?, span, self.budget)?))
    }

    fn compare(&mut self, inner: &ExprCompare, span: Span, at: At) -> Res<Object<'a>> {
        let (Some(op), Some(right)) = (inner.ops.first(), inner.comparators.first()) else {
            return Err(Stop::Poisoned);
        };
        let Some(func) = comparison_function(*op) else { return Err(Stop::Poisoned) };
        let left = self.operand(&inner.left, op.as_str(), at)?;
        let right = self.operand(right, op.as_str(), at)?;
        Ok(Object::Expr(fold::operator(func, vec![left, right], span, self.budget)?))
    }

    fn attribute(&mut self, inner: &ExprAttribute, at: At) -> Res<Object<'a>> {
        let base = self.expression(&inner.value, at)?;
        let name = inner.attr.as_str();
        let span = Span::new(at.source, inner.attr.range());
        if let Some(own) = self.assigned_attribute(&base, name) {
            return Ok(own);
        }
        match base {
            Object::Frame(_) if name == "ctx" => Ok(Object::Ctx),
            Object::Frame(frame) => Ok(match Method::find(name) {
                Some(method) => Object::Method(frame, method),
                None => {
                    let kind = SymKind::Column { name: name.to_string(), frame: None };
                    Object::Expr(shared(Sym::leaf(kind, span)))
                }
            }),
            Object::Grouped(frame, by) if name == "agg" => Ok(Object::GroupedAgg(frame, by)),
            Object::Grouped(frame, by) if name == "rolling" => {
                Ok(Object::GroupedRolling(frame, by))
            }
            Object::Rolling(frame) if name == "agg" => Ok(Object::GroupedAgg(frame, Rc::from([]))),
            Object::Rolling(frame) if name == "groupby" => Ok(Object::RollingGroupby(frame)),
            Object::Rolling(_) => {
                let message = format!("'Rolling' object has no attribute '{name}'");
                let hint = "only `.agg(...)` and `.groupby(...)` can follow `.rolling(...)`";
                Err(Diag::error(Code::GroupbyUse, span, message).hint(hint).into())
            }
            Object::Function(function) if name == "__doc__" => {
                let doc = doc_of(&function.def.body, self.text_of(function.source));
                doc.map_or(Ok(Object::None), |bytes| self.text(bytes, span))
            }
            Object::Grouped(..) => {
                let message = format!("'GroupBy' object has no attribute '{name}'");
                let hint = pandas::OF_GROUPS;
                Err(Diag::error(Code::GroupbyUse, span, message).hint(hint).into())
            }
            Object::Module(module) => self.module_attribute(module, name, span),
            Object::Poison => Err(Stop::Poisoned),
            other => {
                let kind = other.type_name();
                let message = format!("'{kind}' object has no attribute '{name}'");
                let hint = match other {
                    Object::Expr(_) => pandas::of_expression(name)
                        .unwrap_or("expressions have no methods; use functions of `px`"),
                    _ => "",
                };
                Err(Diag::error(Code::AttributeNotFound, span, message).hint(hint).into())
            }
        }
    }

    pub(crate) fn module_attribute(
        &mut self,
        module: Module,
        name: &str,
        span: Span,
    ) -> Res<Object<'a>> {
        if let Some(own) = self.assigned_attribute(&Object::Module(module), name) {
            return Ok(own);
        }
        let found = match module {
            Module::Px => self.px_attribute(name),
            Module::PxVis => (name == "vega").then_some(Object::Px(px::PxFunction::Vega)),
            Module::PxPlugin => self.plugin_time(name, span)?,
            Module::PxOtel | Module::PxOtelMetric | Module::PxOtelTrace => {
                super::otel::attribute(module, name, span)
            }
            Module::PxTrace | Module::PxConfig => {
                trace::TraceFunction::find(module, name).map(Object::Trace)
            }
            Module::PxViews => self.view(name),
        };
        found.ok_or_else(|| {
            let module_name = module.name();
            let message = format!("'{module_name}' object has no attribute '{name}'");
            let fallback = match module {
                Module::Px => "`weir funcs` lists all functions",
                _ => "",
            };
            let habit = (module == Module::Px).then(|| pandas::of_px(name)).flatten();
            let hint = habit.map_or_else(
                || hint::did_you_mean(name, self.attribute_names(module), fallback),
                str::to_string,
            );
            Diag::error(Code::AttributeNotFound, span, message)
                .label("not in this module")
                .hint(hint)
                .into()
        })
    }

    /// What a module has, for hints.
    pub(crate) fn attribute_names(&self, module: Module) -> Vec<&str> {
        match module {
            Module::Px => registry::names().chain(px::names()).collect(),
            Module::PxViews => self.view_names(),
            Module::PxOtel | Module::PxOtelMetric | Module::PxOtelTrace => {
                super::otel::names(module)
            }
            Module::PxVis => vec!["vega"],
            Module::PxPlugin => vec!["start_time", "end_time"],
            Module::PxTrace | Module::PxConfig => trace::names(module).collect(),
        }
    }

    fn px_attribute(&self, name: &str) -> Option<Object<'a>> {
        if let Some(found) = px::PxFunction::find(name) {
            return Some(Object::Px(found));
        }
        if let Some(found) = super::types::PX_TYPES.iter().find(|found| found.name == name) {
            return Some(Object::Type(*found));
        }
        match name {
            "vis" => return Some(Object::Module(Module::PxVis)),
            "plugin" => return Some(Object::Module(Module::PxPlugin)),
            "otel" => return Some(Object::Module(Module::PxOtel)),
            _ => {}
        }
        registry::name_of(name).map(Object::Registry)
    }

    fn subscript(&mut self, inner: &ExprSubscript, span: Span, at: At) -> Res<Object<'a>> {
        let base = self.expression(&inner.value, at)?;
        let index_span = Span::new(at.source, inner.slice.range());
        if matches!(base, Object::Poison) {
            return Err(Stop::Poisoned);
        }
        let index = Arg { value: self.expression(&inner.slice, at)?, span: index_span };
        match base {
            Object::Frame(frame) => self.frame_subscript(frame, &inner.value, index, span),
            Object::Ctx => {
                let frame = match &*inner.value {
                    Expr::Attribute(attribute) => variable_name(&attribute.value),
                    _ => None,
                };
                let key = index.text("ctx", "key")?;
                let kind = SymKind::Metadata { key, frame };
                Ok(Object::Expr(shared(Sym::leaf(kind, span))))
            }
            Object::List(items) => element("List", &items, &index),
            Object::Tuple(items) => element("Tuple", &items, &index),
            other => {
                let kind = other.type_name();
                let message = format!("'{kind}' object is not subscriptable");
                let hint = match &other {
                    Object::Grouped(..) => pandas::OF_GROUPS,
                    Object::Expr(sym) => match &sym.kind {
                        SymKind::Column { name, .. } => pandas::of_frame(name).unwrap_or(""),
                        _ => "",
                    },
                    _ => "",
                };
                Err(Diag::error(Code::IndexType, span, message).hint(hint).into())
            }
        }
    }

    fn frame_subscript(
        &mut self,
        frame: Frame,
        base: &Expr,
        index: Arg<'a>,
        span: Span,
    ) -> Res<Object<'a>> {
        match &index.value {
            Object::Expr(sym) => match sym.as_text() {
                Some(name) => {
                    let name = name.to_string();
                    let kind = SymKind::Column { name, frame: variable_name(base) };
                    Ok(Object::Expr(shared(Sym::leaf(kind, span))))
                }
                None => {
                    let op = self.graph.add(IrKind::Filter(sym.clone()), vec![frame.op], span)?;
                    Ok(Object::Frame(Frame { op }))
                }
            },
            Object::List(_) | Object::Tuple(_) => {
                let names = index.texts("subscript", "columns")?;
                if let Some(twice) = first_repeated(&names) {
                    let message = "cannot specify the same column name more than once when \
                                   filtering by cols.";
                    return fail(Code::ColumnTwice, twice.span, message);
                }
                let op = self.graph.add(IrKind::Select(names), vec![frame.op], span)?;
                Ok(Object::Frame(Frame { op }))
            }
            Object::Poison => Err(Stop::Poisoned),
            other => {
                let kind = other.type_name();
                let message =
                    format!("DataFrame indices must be columns or conditions, not {kind}");
                fail(Code::IndexType, index.span, message)
            }
        }
    }
}

/// The text at the start of a function's body.
fn doc_of(body: &[ruff_python_ast::Stmt], text: &str) -> Option<Vec<u8>> {
    match body.first() {
        Some(ruff_python_ast::Stmt::Expr(first)) => match &*first.value {
            Expr::StringLiteral(doc) => Some(literals::string_bytes(doc, text)),
            _ => None,
        },
        _ => None,
    }
}

/// The variable behind a subscript base, if it is one.
fn variable_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Name(name) => Some(name.id.as_str().to_string()),
        _ => None,
    }
}

pub(crate) fn first_repeated(names: &[NameAt]) -> Option<&NameAt> {
    let mut before: HashSet<&str> = HashSet::new();
    names.iter().find(|name| !before.insert(&name.name))
}

fn element<'a>(kind: &str, items: &[Object<'a>], index: &Arg<'a>) -> Res<Object<'a>> {
    let at = match &index.value {
        Object::Expr(sym) => match sym.as_literal() {
            Some(Value::Int64(at)) => Some(*at),
            _ => None,
        },
        Object::Poison => return Err(Stop::Poisoned),
        _ => None,
    };
    let Some(at) = at else {
        let other = index.value.type_name();
        let message = format!("{kind} indices must be integers, not {other}");
        return fail(Code::IndexType, index.span, message);
    };
    let found = usize::try_from(at).ok().and_then(|at| items.get(at));
    found.cloned().ok_or_else(|| {
        let message = format!("{kind} index out of range");
        let hint = format!("it has {} elements", items.len());
        Diag::error(Code::IndexRange, index.span, message).hint(hint).into()
    })
}

fn number<'a>(literal: &ExprNumberLiteral, negative: bool, span: Span) -> Res<Object<'a>> {
    let value = match &literal.value {
        Number::Int(int) => match int.as_u64() {
            Some(size) if negative && size <= i64::MIN.unsigned_abs() => {
                Value::Int64(0_i64.wrapping_sub_unsigned(size))
            }
            Some(size) if !negative && i64::try_from(size).is_ok() => {
                Value::Int64(i64::try_from(size).unwrap_or(i64::MAX))
            }
            _ => {
                let message = "integer does not fit into 64 bits".to_string();
                return fail(Code::NumberRange, span, message);
            }
        },
        Number::Float(value) => Value::Float64(if negative { -value } else { *value }),
        Number::Complex { .. } => {
            let message = "Can't parse expression of type Complex".to_string();
            return fail(Code::ExpressionNotSupported, span, message);
        }
    };
    Ok(Object::literal(value, span))
}
