//! Operators on constants: literals are computed while compiling, and arithmetic with `px.now()`
//! stays `a · now + b` as long as it is linear. Everything else becomes a row expression.

use weir_types::{DataType, Value};

use super::args::{Constant, constant};
use super::eval::value_fits;
use crate::budget::Budget;
use crate::codes::Code;
use crate::diag::{Diag, Res, Span, Stop};
use crate::ir::sym::Affine;
use crate::ir::{Sym, SymKind, SymRef};
use crate::limits::VALUE_BYTES_MAX;
use crate::registry;

/// The expression for an operator's function applied to operands.
pub(crate) fn operator(
    func: &str,
    operands: Vec<SymRef>,
    span: Span,
    budget: &Budget,
) -> Res<SymRef> {
    let constants: Vec<Constant<'_>> = operands.iter().filter_map(constant).collect();
    if constants.len() == operands.len() {
        if let Some(folded) = affine(func, &constants) {
            return Ok(crate::ir::shared(Sym::leaf(folded, span)));
        }
        let values: Option<Vec<Value>> = constants
            .iter()
            .map(|constant| match constant {
                Constant::Literal(value) => Some((*value).clone()),
                Constant::Now(_) => None,
            })
            .collect();
        if let Some(values) = values {
            return literal(func, &values, span, budget);
        }
    }
    Sym::call(func, operands, span)
}

fn literal(func: &str, values: &[Value], span: Span, budget: &Budget) -> Res<SymRef> {
    // The only operator whose result can be longer than its operands.
    if func == "add" {
        value_fits(values.iter().map(value_bytes).sum(), span)?;
    }
    if let Some(value) = within(func, values, budget) {
        return Ok(Sym::literal(value, span));
    }
    if budget.is_over() {
        return Err(Stop::Poisoned);
    }
    let types: Vec<DataType> = values.iter().map(Value::data_type).collect();
    Err(no_overload(func, &types, span).into())
}

/// The value of a function of constants, as long as there is room for it and it is not too long.
pub(crate) fn within(func: &str, values: &[Value], budget: &Budget) -> Option<Value> {
    let bytes: usize = values.iter().map(value_bytes).sum();
    if !budget.spend(CALL_WORK + bytes / 4) {
        return None;
    }
    let value = registry::fold(func, values)?;
    let bytes = value_bytes(&value);
    (bytes <= VALUE_BYTES_MAX && budget.folded(bytes)).then_some(value)
}

/// Bytes of a constant's text.
pub(crate) fn value_bytes(value: &Value) -> usize {
    match value {
        Value::String(bytes) => bytes.len(),
        _ => 0,
    }
}

/// Work of computing one function, whatever its arguments.
const CALL_WORK: usize = 50;

/// "Could not find UDF …", with the overloads there are.
pub(crate) fn no_overload(func: &str, types: &[DataType], span: Span) -> Diag {
    let names: Vec<&str> = types.iter().map(|data_type| data_type.name()).collect();
    let message = format!("Could not find UDF '{func}' with arguments [{}].", names.join(", "));
    let signatures = registry::scalar_signatures(func);
    let mut hint = String::new();
    if !signatures.is_empty() {
        hint = format!("there are no implicit conversions; it takes {}", signatures.join(" or "));
    }
    Diag::error(Code::NoOverload, span, message).label("no such overload").hint(hint)
}

/// Linear arithmetic where at least one operand is `now`.
fn affine(func: &str, operands: &[Constant<'_>]) -> Option<SymKind> {
    if operands.iter().all(|operand| matches!(operand, Constant::Literal(_))) {
        return None;
    }
    match (func, operands) {
        ("negate", [a]) => {
            let a = line(a)?;
            (!a.time).then(|| made(-1, a.factor, 0, 0, a.offset_ns, false))
        }
        ("add", [a, b]) => {
            let (a, b) = (line(a)?, line(b)?);
            let time = a.time || b.time;
            (!(a.time && b.time))
                .then(|| made(1, a.factor, b.factor, b.offset_ns, a.offset_ns, time))
        }
        ("subtract", [a, b]) => {
            let (a, b) = (line(a)?, line(b)?);
            let time = a.time && !b.time;
            let (factor, offset) = (b.factor.wrapping_neg(), b.offset_ns.wrapping_neg());
            Some(made(1, a.factor, factor, offset, a.offset_ns, time))
        }
        ("multiply", [a, b]) => {
            let (a, b) = (line(a)?, line(b)?);
            let (now, by) = if b.factor == 0 { (a, b.offset_ns) } else { (b, a.offset_ns) };
            let linear = (a.factor == 0 || b.factor == 0) && !a.time && !b.time;
            linear.then(|| made(by, now.factor, 0, 0, now.offset_ns, false))
        }
        _ => None,
    }
}

/// An integer or time constant as a line; a literal has factor 0.
fn line(constant: &Constant<'_>) -> Option<Affine> {
    match constant {
        Constant::Now(now) => Some(*now),
        Constant::Literal(Value::Int64(value)) => {
            Some(Affine { factor: 0, offset_ns: *value, time: false })
        }
        Constant::Literal(Value::Time64Ns(value)) => {
            Some(Affine { factor: 0, offset_ns: *value, time: true })
        }
        Constant::Literal(_) => None,
    }
}

/// `scale · (factor · now + offset) + (factor2 · now + offset2)`; a literal where `now` cancels.
fn made(scale: i64, factor: i64, factor2: i64, offset2: i64, offset: i64, time: bool) -> SymKind {
    let factor = scale.wrapping_mul(factor).wrapping_add(factor2);
    let offset_ns = scale.wrapping_mul(offset).wrapping_add(offset2);
    match (factor, time) {
        (0, true) => SymKind::Literal(Value::Time64Ns(offset_ns)),
        (0, false) => SymKind::Literal(Value::Int64(offset_ns)),
        _ => SymKind::Now(Affine { factor, offset_ns, time }),
    }
}
