//! Methods of frames that take no aggregates and no second frame.

use ruff_text_size::TextRange;

use super::args::{Arg, CallArgs, fail_now};
use super::eval::Evaluator;
use super::{Frame, Method, Object};
use crate::codes::Code;
use crate::diag::{Diag, Res, Span, Stop, fail};
use crate::ir::{IrKind, SymKind};
use crate::limits::APPEND_FRAMES_MAX;

impl<'a> Evaluator<'a> {
    pub(crate) fn call_method(
        &mut self,
        frame: Frame,
        method: Method,
        args: CallArgs<'a>,
    ) -> Res<Object<'a>> {
        match method {
            Method::Filter => self.filter(frame, args),
            Method::Drop => self.drop_columns(frame, args),
            Method::Head => self.head(frame, args),
            Method::Groupby => self.groupby(frame, args),
            Method::Agg => self.aggregate(frame, None, args),
            Method::Merge => self.merge(frame, args),
            Method::Append => self.append(frame, args),
            Method::Map => {
                let message = "dataframe has no method 'map'".to_string();
                let hint = "assign a column: `df.name = expression`";
                Err(Diag::error(Code::MethodNotFound, args.span, message).hint(hint).into())
            }
            Method::Rolling => self.rolling(frame, args).map(Object::Rolling),
            Method::Stream => {
                let span = args.span;
                args.bind("stream", &[], 0)?;
                self.add(IrKind::Stream, frame, span)
            }
        }
    }

    fn add(&mut self, kind: IrKind, frame: Frame, span: Span) -> Res<Object<'a>> {
        let op = self.graph.add(kind, vec![frame.op], span)?;
        Ok(Object::Frame(Frame { op }))
    }

    fn filter(&mut self, frame: Frame, args: CallArgs<'a>) -> Res<Object<'a>> {
        let span = args.span;
        let slots = args.bind("filter", &["cond"], 1)?;
        let Some(cond) = slots.into_iter().next().flatten() else { return Err(Stop::Poisoned) };
        self.add(IrKind::Filter(cond.sym("filter", "cond")?), frame, span)
    }

    fn drop_columns(&mut self, frame: Frame, args: CallArgs<'a>) -> Res<Object<'a>> {
        let span = args.span;
        let slots = args.bind("drop", &["columns"], 1)?;
        let Some(columns) = slots.into_iter().next().flatten() else { return Err(Stop::Poisoned) };
        self.add(IrKind::Drop(columns.texts("drop", "columns")?), frame, span)
    }

    fn head(&mut self, frame: Frame, args: CallArgs<'a>) -> Res<Object<'a>> {
        let span = args.span;
        let slots = args.bind("head", &["n", "_pem_only"], 0)?;
        let rows_max = match &slots[0] {
            None => 5,
            Some(n) => self.count(n, "head", "n")?,
        };
        self.add(IrKind::Limit(rows_max), frame, span)
    }

    /// A constant that is not negative. With `run --now` the clock is one, too.
    fn count(&mut self, arg: &Arg<'a>, func: &str, name: &str) -> Res<u64> {
        let value = match (&arg.value, self.settings.now_unix_ns) {
            (Object::Expr(sym), Some(now_unix_ns)) => match sym.kind {
                SymKind::Now(now) if !now.time => {
                    now.factor.wrapping_mul(now_unix_ns).wrapping_add(now.offset_ns)
                }
                _ => arg.int(func, name)?,
            },
            (Object::Expr(sym), None) if matches!(sym.kind, SymKind::Now(_)) => {
                return fail_now(arg.span, func, name);
            }
            _ => arg.int(func, name)?,
        };
        u64::try_from(value).map_err(|_| {
            let message = format!("{func}(): '{name}' must not be negative, it is {value}");
            Diag::error(Code::ArgumentValue, arg.span, message).into()
        })
    }

    pub(crate) fn groupby(&mut self, frame: Frame, args: CallArgs<'a>) -> Res<Object<'a>> {
        let slots = args.bind("groupby", &["by"], 1)?;
        let Some(by) = slots.into_iter().next().flatten() else { return Err(Stop::Poisoned) };
        let names = by.texts("groupby", "by")?;
        if let Some(twice) = super::expr::first_repeated(&names) {
            let message = format!("groupby(): column '{}' is given twice", twice.name);
            return fail(Code::ColumnTwice, twice.span, message);
        }
        Ok(Object::Grouped(frame, names.into()))
    }

    fn append(&mut self, frame: Frame, args: CallArgs<'a>) -> Res<Object<'a>> {
        let span = args.span;
        let slots = args.bind("append", &["objs"], 1)?;
        let Some(objs) = slots.into_iter().next().flatten() else { return Err(Stop::Poisoned) };
        let mut inputs = vec![frame.op];
        match &objs.value {
            Object::List(items) | Object::Tuple(items) if items.len() > APPEND_FRAMES_MAX => {
                let message = format!("append(): more than {APPEND_FRAMES_MAX} frames");
                return fail(Code::TooComplex, objs.span, message);
            }
            Object::List(items) | Object::Tuple(items) => {
                for item in items.iter() {
                    let item = Arg { value: item.clone(), span: objs.span };
                    inputs.push(frame_of(&item, "append", "objs")?.op);
                }
            }
            _ => inputs.push(frame_of(&objs, "append", "objs")?.op),
        }
        // Typing looks at the columns of each.
        self.budget.spend(50 * inputs.len());
        let op = self.graph.add(IrKind::Append, inputs, span)?;
        Ok(Object::Frame(Frame { op }))
    }
}

pub(crate) fn frame_of(arg: &Arg<'_>, func: &str, name: &str) -> Res<Frame> {
    match &arg.value {
        Object::Frame(frame) => Ok(*frame),
        _ => super::args::wrong_type(arg, func, name, "DataFrame"),
    }
}

/// A span that covers two.
pub(crate) fn cover(a: Span, b: Span) -> Span {
    let range = TextRange::new(a.start.min(b.start).into(), a.end.max(b.end).into());
    Span::new(a.source, range)
}
