//! The compile-time functions of `px`: they yield literals, sinks and frames.

use std::rc::Rc;

use weir_types::{DataType, Value, json};

use super::args::{Arg, CallArgs, Constant, constant, wrong_type};
use super::eval::Evaluator;
use super::frame::frame_of;
use super::{Decorator, Object, fold, strptime as formats, time};
use crate::budget::Budget;
use crate::codes::Code;
use crate::diag::{Diag, Res, Span, Stop, fail};
use crate::ir::sym::Affine;
use crate::ir::{Sink, Sym, SymKind, SymRef, shared};
use crate::limits::OUTPUTS_MAX;

macro_rules! px_functions {
    ($($variant:ident => $name:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum PxFunction { $($variant),* }
        impl PxFunction {
            const ALL: &'static [PxFunction] = &[$(PxFunction::$variant),*];
            pub(crate) fn name(self) -> &'static str {
                match self { $(PxFunction::$variant => $name),* }
            }
        }
    };
}

px_functions! {
    DataFrame => "DataFrame",
    Display => "display",
    Debug => "debug",
    Export => "export",
    Now => "now",
    Days => "days",
    Hours => "hours",
    Minutes => "minutes",
    Seconds => "seconds",
    Milliseconds => "milliseconds",
    Microseconds => "microseconds",
    ParseDuration => "parse_duration",
    FormatDuration => "format_duration",
    ParseTime => "parse_time",
    Strptime => "strptime",
    Uint128 => "uint128",
    MakeUpid => "make_upid",
    EqualsAny => "equals_any",
    ScriptReference => "script_reference",
    Vega => "vega",
}

impl PxFunction {
    pub(crate) fn find(name: &str) -> Option<PxFunction> {
        PxFunction::ALL
            .iter()
            .copied()
            .find(|function| function.name() == name && *function != PxFunction::Vega)
    }
}

/// Names of attributes of `px` that are not in the registry, for hints.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PxFunction::ALL
        .iter()
        .map(|function| function.name())
        .chain(super::types::PX_TYPES.iter().map(|found| found.name))
}

impl<'a> Evaluator<'a> {
    pub(crate) fn call_px(&mut self, func: PxFunction, args: CallArgs<'a>) -> Res<Object<'a>> {
        let span = args.span;
        let name = func.name();
        match func {
            PxFunction::DataFrame => self.data_frame(args),
            PxFunction::Display | PxFunction::Debug => self.display(func, args),
            PxFunction::ScriptReference => self.script_reference(args),
            PxFunction::EqualsAny => equals_any(args, self.budget),
            PxFunction::Export => self.export(args),
            PxFunction::Strptime => strptime(args),
            PxFunction::Vega => {
                only(args, name, "spec")?.text(name, "spec")?;
                Ok(Object::Decorator(Rc::new(Decorator::Vega)))
            }
            PxFunction::Now => {
                args.bind(name, &[], 0)?;
                let now = Affine { factor: 1, offset_ns: 0, time: false };
                Ok(Object::Expr(shared(Sym::leaf(SymKind::Now(now), span))))
            }
            PxFunction::Days => unit(args, name, 86_400_000_000_000),
            PxFunction::Hours => unit(args, name, 3_600_000_000_000),
            PxFunction::Minutes => unit(args, name, 60_000_000_000),
            PxFunction::Seconds => unit(args, name, 1_000_000_000),
            PxFunction::Milliseconds => unit(args, name, 1_000_000),
            PxFunction::Microseconds => unit(args, name, 1_000),
            PxFunction::ParseDuration => {
                let arg = only(args, name, "duration")?;
                let text = arg.text(name, "duration")?;
                let ns =
                    time::parse_duration(&text).ok_or_else(|| time::bad_time(arg.span, &text))?;
                Ok(Object::literal(Value::Int64(ns), span))
            }
            PxFunction::FormatDuration => {
                let ns = only(args, name, "duration")?.int(name, "duration")?;
                Ok(Object::literal(Value::str(&time::format_duration(ns)), span))
            }
            PxFunction::ParseTime => parse_time(&only(args, name, "time")?, span),
            PxFunction::Uint128 => {
                let arg = only(args, name, "uuid")?;
                let text = arg.text(name, "uuid")?;
                let Some(value) = json::parse_uuid(&text) else {
                    let message = format!("'{text}' is not a UUID");
                    return fail(Code::ArgumentValue, arg.span, message);
                };
                Ok(Object::literal(Value::Uint128(value), span))
            }
            PxFunction::MakeUpid => make_upid(args),
        }
    }

    /// `px.plugin.start_time`, `px.plugin.end_time`: from the request.
    pub(crate) fn plugin_time(&self, name: &str, span: Span) -> Res<Option<Object<'a>>> {
        if !matches!(name, "start_time" | "end_time") {
            return Ok(None);
        }
        let Some((start_ns, end_ns)) = self.settings.plugin_times else {
            let message = format!("no plugin config found for px.plugin.{name}");
            let hint = "only a scheduled run brings one; use px.now() in a view";
            return Err(Diag::error(Code::NoRequestConfig, span, message).hint(hint).into());
        };
        let ns = if name == "start_time" { start_ns } else { end_ns };
        Ok(Some(Object::literal(Value::Int64(ns), span)))
    }

    fn display(&mut self, func: PxFunction, args: CallArgs<'a>) -> Res<Object<'a>> {
        let span = args.span;
        let slots = args.bind(func.name(), &["out", "name", "cols"], 1)?;
        let [Some(out), name, cols] =
            <[Option<Arg<'a>>; 3]>::try_from(slots).unwrap_or([const { None }; 3])
        else {
            return Err(Stop::Poisoned);
        };
        let frame = frame_of(&out, func.name(), "out")?;
        if let Some(cols) = cols {
            let message = format!("{}(): 'cols' has no effect", func.name());
            let hint = "select columns of the frame: `df[['a', 'b']]`";
            self.findings.push(Diag::warning(Code::NoEffect, cols.span, message).hint(hint));
        }
        let name = match &name {
            Some(name) => name.text(func.name(), "name")?,
            None => "output".to_string(),
        };
        if self.named_state.is_open() {
            if !matches!(func, PxFunction::Debug) {
                self.named_state.displayed.push(frame.op);
            }
            return Ok(Object::None);
        }
        let name = match func {
            PxFunction::Debug => format!("_{name}"),
            _ if self.settings.exec_mode => return Ok(Object::None),
            _ => name,
        };
        // Widgets show what the called function returns, never what it displays on its way.
        self.sink(name, frame.op, None, span)?;
        Ok(Object::None)
    }

    pub(crate) fn sink(
        &mut self,
        name: String,
        op: usize,
        call: Option<usize>,
        span: Span,
    ) -> Res<()> {
        if self.graph.sinks.len() >= OUTPUTS_MAX {
            self.stop_all();
            let message = format!("the script has more than {OUTPUTS_MAX} outputs");
            return fail(Code::OutputsMax, span, message);
        }
        super::args::name_fits(&name, span)?;
        self.graph.sinks.push(Sink { name, op, call });
        Ok(())
    }
}

fn only<'a>(args: CallArgs<'a>, func: &str, name: &str) -> Res<Arg<'a>> {
    args.bind(func, &[name], 1)?.into_iter().next().flatten().ok_or(Stop::Poisoned)
}

fn unit<'a>(args: CallArgs<'a>, func: &str, factor: i64) -> Res<Object<'a>> {
    let span = args.span;
    let arg = only(args, func, "unit")?;
    let count = arg.int(func, "unit")?;
    let Some(ns) = count.checked_mul(factor) else {
        let message = format!("{func}({count}) does not fit into 64 bits of nanoseconds");
        return fail(Code::ArgumentValue, arg.span, message);
    };
    Ok(Object::literal(Value::Int64(ns), span))
}

/// Integer nanoseconds, a time, a relative or an absolute string → TIME64NS; relative ones move.
fn parse_time<'a>(arg: &Arg<'a>, span: Span) -> Res<Object<'a>> {
    if let Object::Expr(sym) = &arg.value
        && let Some(Constant::Now(now)) = constant(sym)
    {
        let kind = SymKind::Now(Affine { time: true, ..now });
        return Ok(Object::Expr(shared(Sym::leaf(kind, span))));
    }
    let kind = match time::point(arg, "parse_time", "time")? {
        time::Point::Absolute { unix_ns } => SymKind::Literal(Value::Time64Ns(unix_ns)),
        time::Point::Relative { offset_ns } => {
            SymKind::Now(Affine { factor: 1, offset_ns, time: true })
        }
    };
    Ok(Object::Expr(shared(Sym::leaf(kind, span))))
}

/// `px.strptime(date_string, format)`
fn strptime<'a>(args: CallArgs<'a>) -> Res<Object<'a>> {
    let span = args.span;
    let slots = args.bind("strptime", &["date_string", "format"], 2)?;
    let [Some(text_arg), Some(format_arg)] = &slots[..] else { return Err(Stop::Poisoned) };
    let text = text_arg.text("strptime", "date_string")?;
    let format = format_arg.text("strptime", "format")?;
    let Some(unix_ns) = formats::parse(&text, &format) else {
        let message = format!("strptime(): '{text}' does not fit the format '{format}'");
        let hint = "for example `px.strptime('2026-01-01 00:00:00', '%Y-%m-%d %H:%M:%S')`";
        return Err(Diag::error(Code::TimeFormat, text_arg.span, message).hint(hint).into());
    };
    Ok(Object::literal(Value::Time64Ns(unix_ns), span))
}

/// `px.make_upid(asid, pid, ts_ns)`
fn make_upid<'a>(args: CallArgs<'a>) -> Res<Object<'a>> {
    let span = args.span;
    let slots = args.bind("make_upid", &["asid", "pid", "ts_ns"], 3)?;
    let mut parts = Vec::new();
    for (slot, name) in slots.iter().flatten().zip(["asid", "pid", "ts_ns"]) {
        let value = slot.int("make_upid", name)?;
        let fits = name == "ts_ns" || u32::try_from(value).is_ok();
        if !fits {
            let message = format!("make_upid(): '{name}' must fit into 32 bits");
            return fail(Code::ArgumentValue, slot.span, message);
        }
        parts.push(u128::from(value.cast_unsigned()));
    }
    let [asid, pid, start] = parts[..] else { return Err(Stop::Poisoned) };
    Ok(Object::literal(Value::Uint128(asid << 96 | pid << 64 | start), span))
}

/// `px.equals_any(value, [a, b])`: `value == a or value == b`.
fn equals_any<'a>(args: CallArgs<'a>, budget: &Budget) -> Res<Object<'a>> {
    let span = args.span;
    let slots = args.bind("equals_any", &["value", "comparisons"], 2)?;
    let [Some(value), Some(list)] =
        <[Option<Arg<'a>>; 2]>::try_from(slots).unwrap_or([const { None }; 2])
    else {
        return Err(Stop::Poisoned);
    };
    let value = value.sym("equals_any", "value")?;
    let items = match &list.value {
        Object::List(items) | Object::Tuple(items) => items.clone(),
        _ => return wrong_type(&list, "equals_any", "comparisons", "List"),
    };
    let mut found: Option<SymRef> = None;
    for item in items.iter() {
        let item = Arg { value: item.clone(), span: list.span }.sym("equals_any", "comparisons")?;
        let equal = fold::operator("equal", vec![value.clone(), item], span, budget)?;
        found = Some(match found {
            None => equal,
            Some(before) => fold::operator("logicalOr", vec![before, equal], span, budget)?,
        });
    }
    found.map(Object::Expr).ok_or_else(|| {
        let message = "equals_any(): 'comparisons' must not be empty";
        Diag::error(Code::ArgumentValue, list.span, message).into()
    })
}

/// The type of an affine constant.
pub(crate) fn affine_type(now: Affine) -> DataType {
    if now.time { DataType::Time64Ns } else { DataType::Int64 }
}
