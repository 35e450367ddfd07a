//! Arguments of calls: binding them to parameters by position and name, and reading them as the
//! constants that most compile-time functions need.

use weir_types::{DataType, Value};

use super::Object;
use super::fold::value_bytes;
use crate::codes::Code;
use crate::diag::{Diag, Res, Span, Stop, fail};
use crate::hint;
use crate::ir::sym::Affine;
use crate::ir::{NameAt, SymKind, SymRef};
use crate::limits::{FRAME_COLUMNS_MAX, NAME_BYTES_MAX};

#[derive(Clone, Debug)]
pub(crate) struct Arg<'a> {
    pub(crate) value: Object<'a>,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) struct CallArgs<'a> {
    pub(crate) positional: Vec<Arg<'a>>,
    pub(crate) keywords: Vec<(NameAt, Arg<'a>)>,
    /// The whole call.
    pub(crate) span: Span,
}

impl<'a> CallArgs<'a> {
    /// One slot per parameter; the first `required` are filled. An optional parameter that is given
    /// `None` counts as not given.
    pub(crate) fn bind(
        self,
        func: &str,
        names: &[&str],
        required: usize,
    ) -> Res<Vec<Option<Arg<'a>>>> {
        let given = self.positional.len() + self.keywords.len();
        if self.positional.len() > names.len() {
            let (takes, span) = (names.len(), self.positional[names.len()].span);
            let message = format!("{func}() takes {takes} arguments but {given} were given.");
            return Err(Diag::error(Code::ArgumentCount, span, message)
                .hint(signature(func, names, required))
                .into());
        }
        let mut slots: Vec<Option<Arg<'a>>> = self.positional.into_iter().map(Some).collect();
        slots.resize(names.len(), None);
        for (name, arg) in self.keywords {
            let Some(at) = names.iter().position(|have| *have == name.name) else {
                let message =
                    format!("{func}() got an unexpected keyword argument '{}'", name.name);
                let hint = hint::did_you_mean(
                    &name.name,
                    names.iter().copied(),
                    &signature(func, names, required),
                );
                return Err(Diag::error(Code::ArgumentUnknown, name.span, message)
                    .hint(hint)
                    .into());
            };
            if slots[at].is_some() {
                let message = format!("{func}() got multiple values for argument '{}'", name.name);
                return fail(Code::ArgumentCount, name.span, message);
            }
            slots[at] = Some(arg);
        }
        let missing: Vec<&str> =
            (0..required).filter(|&at| slots[at].is_none()).map(|at| names[at]).collect();
        if !missing.is_empty() {
            let plural = if missing.len() == 1 { "argument" } else { "arguments" };
            let message = format!(
                "{func}() missing {} required positional {plural}: '{}'",
                missing.len(),
                missing.join("', '")
            );
            return Err(Diag::error(Code::ArgumentCount, self.span, message)
                .hint(signature(func, names, required))
                .into());
        }
        for slot in slots.iter_mut().skip(required) {
            if matches!(slot, Some(Arg { value: Object::None, .. })) {
                *slot = None;
            }
        }
        Ok(slots)
    }
}

fn signature(func: &str, names: &[&str], required: usize) -> String {
    let names: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(at, name)| if at < required { (*name).to_string() } else { format!("[{name}]") })
        .collect();
    format!("it is `{func}({})`", names.join(", "))
}

/// A wrong kind of argument.
pub(crate) fn wrong_type<T>(arg: &Arg<'_>, func: &str, name: &str, wanted: &str) -> Res<T> {
    if matches!(arg.value, Object::Poison) {
        return Err(Stop::Poisoned);
    }
    let received = arg.value.type_name();
    let message = format!("{func}(): Expected '{wanted}' in arg '{name}', received '{received}'");
    fail(Code::ArgumentType, arg.span, message)
}

impl<'a> Arg<'a> {
    pub(crate) fn sym(&self, func: &str, name: &str) -> Res<SymRef> {
        match &self.value {
            Object::Expr(sym) => Ok(sym.clone()),
            _ => wrong_type(self, func, name, "Expression"),
        }
    }

    /// A literal; `now` is not one.
    pub(crate) fn literal(&self, func: &str, name: &str, wanted: DataType) -> Res<Value> {
        let sym = match &self.value {
            Object::Expr(sym) => sym,
            _ => return wrong_type(self, func, name, wanted.name()),
        };
        match &sym.kind {
            SymKind::Literal(value) if value.data_type() == wanted => Ok(value.clone()),
            SymKind::Literal(_) => wrong_type(self, func, name, wanted.name()),
            SymKind::Now(_) => fail_now(self.span, func, name),
            SymKind::Poison => Err(Stop::Poisoned),
            SymKind::Column { .. } | SymKind::Metadata { .. } | SymKind::Call { .. } => {
                let message = format!("{func}(): arg '{name}' must be a constant");
                let hint = "rows are not known while the script is compiled; use a literal, a \
                            script argument or a compile-time function such as `px.seconds(5)`";
                Err(Diag::error(Code::NotConstant, self.span, message).hint(hint).into())
            }
        }
    }

    pub(crate) fn text(&self, func: &str, name: &str) -> Res<String> {
        match self.literal(func, name, DataType::String)? {
            Value::String(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            _ => Err(Stop::Poisoned),
        }
    }

    pub(crate) fn int(&self, func: &str, name: &str) -> Res<i64> {
        match self.literal(func, name, DataType::Int64)? {
            Value::Int64(value) => Ok(value),
            _ => Err(Stop::Poisoned),
        }
    }

    /// Names: a string, or a list or tuple of strings.
    pub(crate) fn texts(&self, func: &str, name: &str) -> Res<Vec<NameAt>> {
        match &self.value {
            Object::List(items) | Object::Tuple(items) if items.len() > FRAME_COLUMNS_MAX => {
                let message = format!("{func}(): '{name}' has more than {FRAME_COLUMNS_MAX} names");
                fail(Code::ColumnsMax, self.span, message)
            }
            Object::List(items) | Object::Tuple(items) => items
                .iter()
                .map(|item| {
                    let span = match item {
                        Object::Expr(sym) => sym.span,
                        _ => self.span,
                    };
                    let arg = Arg { value: item.clone(), span };
                    Ok(NameAt { name: arg.name(func, name)?, span })
                })
                .collect(),
            _ => Ok(vec![NameAt { name: self.name(func, name)?, span: self.span }]),
        }
    }

    /// The name of a column or a table.
    pub(crate) fn name(&self, func: &str, name: &str) -> Res<String> {
        let text = self.text(func, name)?;
        name_fits(&text, self.span)?;
        Ok(text)
    }

    /// Bytes of the constant texts in it.
    pub(crate) fn text_bytes(&self) -> usize {
        match &self.value {
            Object::Expr(sym) => sym.as_literal().map_or(0, value_bytes),
            Object::Dict(pairs) => pairs
                .iter()
                .flat_map(|(key, value)| [key, value])
                .filter_map(|object| match object {
                    Object::Expr(sym) => sym.as_literal().map(value_bytes),
                    _ => None,
                })
                .sum(),
            _ => 0,
        }
    }
}

/// Names go with every operator behind them.
pub(crate) fn name_fits(name: &str, span: Span) -> Res<()> {
    if name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    let message = format!("a name of {} bytes; the limit is {NAME_BYTES_MAX}", name.len());
    fail(Code::NameTooLong, span, message)
}

pub(crate) fn fail_now<T>(span: Span, func: &str, name: &str) -> Res<T> {
    let message = format!("{func}(): arg '{name}' needs a constant, and px.now() moves");
    let hint = "px.now() can bound a window, or stand in a row expression; a difference of two \
                times is a constant";
    Err(Diag::error(Code::NowNotConstant, span, message)
        .label("depends on px.now()")
        .hint(hint)
        .into())
}

/// What an expression is at compile time.
pub(crate) enum Constant<'s> {
    Literal(&'s Value),
    Now(Affine),
}

/// The compile-time value of an expression, if it has one.
pub(crate) fn constant(sym: &SymRef) -> Option<Constant<'_>> {
    match &sym.kind {
        SymKind::Literal(value) => Some(Constant::Literal(value)),
        SymKind::Now(now) => Some(Constant::Now(*now)),
        _ => None,
    }
}
