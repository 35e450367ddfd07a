//! `pxtrace`: tracepoints are declarations. Their tables get a schema from the program's printf
//! formats, so that the frames over them type-check; deploying them is not the compiler's work.

use std::rc::Rc;

use weir_types::{Column, DataType, Relation, SemanticType};

use super::args::{Arg, CallArgs, wrong_type};
use super::eval::Evaluator;
use super::{Module, Object, time};
use crate::codes::Code;
use crate::diag::{Diag, Res, Span, Stop, fail};

/// A tracepoint that a script declares.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracepoint {
    pub name: String,
    pub table: String,
    pub ttl_ns: i64,
    pub programs: Vec<TraceProgram>,
    pub relation: Relation,
}

/// A bpftrace program and the hosts that it is for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceProgram {
    pub text: String,
    /// `min_kernel`, `max_kernel`, `host_name` → value.
    pub selectors: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TraceFunction {
    UpsertTracepoint,
    TraceProgram,
    Kprobe,
    /// Known to Pixie, not built here.
    Other(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) enum TraceValue {
    Program(TraceProgram),
    Kprobe,
}

const OTHERS: [&str; 9] = [
    "DeleteTracepoint",
    "PodProcess",
    "LabelSelector",
    "SharedObject",
    "probe",
    "ArgExpr",
    "RetExpr",
    "FunctionLatency",
    "set_agent_config",
];
const SELECTORS: [&str; 3] = ["min_kernel", "max_kernel", "host_name"];

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ["UpsertTracepoint", "TraceProgram", "kprobe"].into_iter().chain(OTHERS)
}

impl TraceFunction {
    pub(crate) fn find(module: Module, name: &str) -> Option<TraceFunction> {
        let other = OTHERS.iter().find(|other| **other == name).map(|name| Self::Other(name));
        match (module, name) {
            (Module::PxConfig, "set_agent_config") => other,
            (Module::PxConfig, _) | (_, "set_agent_config") => None,
            (_, "UpsertTracepoint") => Some(TraceFunction::UpsertTracepoint),
            (_, "TraceProgram") => Some(TraceFunction::TraceProgram),
            (_, "kprobe") => Some(TraceFunction::Kprobe),
            _ => other,
        }
    }
}

impl<'a> Evaluator<'a> {
    pub(crate) fn call_trace(
        &mut self,
        function: TraceFunction,
        args: CallArgs<'a>,
    ) -> Res<Object<'a>> {
        match function {
            TraceFunction::Kprobe => {
                args.bind("kprobe", &[], 0)?;
                Ok(Object::TraceValue(Rc::new(TraceValue::Kprobe)))
            }
            TraceFunction::TraceProgram => trace_program(args),
            TraceFunction::UpsertTracepoint => self.upsert(args),
            TraceFunction::Other(name) => {
                fail(Code::NotYet, args.span, format!("not yet: {name} is known, but not built"))
            }
        }
    }

    fn upsert(&mut self, args: CallArgs<'a>) -> Res<Object<'a>> {
        let names = ["name", "table_name", "probe_fn", "target", "ttl"];
        let slots = args.bind("UpsertTracepoint", &names, 5)?;
        let [Some(name), Some(table), Some(probe), Some(target), Some(ttl)] =
            <[Option<Arg<'a>>; 5]>::try_from(slots).unwrap_or([const { None }; 5])
        else {
            return Err(Stop::Poisoned);
        };
        let func = "UpsertTracepoint";
        if !matches!(&target.value, Object::TraceValue(value) if matches!(**value, TraceValue::Kprobe))
        {
            let message = "not yet: only the target pxtrace.kprobe() is supported";
            return fail(Code::NotYet, target.span, message);
        }
        let ttl_text = ttl.text(func, "ttl")?;
        let ttl_ns =
            time::parse_duration(&ttl_text).ok_or_else(|| time::bad_time(ttl.span, &ttl_text))?;
        let programs = programs(&probe)?;
        let mut relation: Option<Relation> = None;
        for program in &programs {
            let columns = output_columns(&program.text, probe.span)?;
            if relation.as_ref().is_some_and(|have| *have != columns) {
                let message = "the programs of a tracepoint must print the same columns";
                return fail(Code::ArgumentValue, probe.span, message);
            }
            relation = Some(columns);
        }
        let Some(relation) = relation else { return Err(Stop::Poisoned) };
        let table = table.text(func, "table_name")?;
        self.settings.tables.retain(|(name, _)| *name != table);
        self.settings.tables.push((table.clone(), relation.clone()));
        let name = name.text(func, "name")?;
        self.tracepoints.retain(|have| have.name != name);
        self.tracepoints.push(Tracepoint { name, table, ttl_ns, programs, relation });
        Ok(Object::None)
    }
}

fn trace_program<'a>(args: CallArgs<'a>) -> Res<Object<'a>> {
    let names = ["program", SELECTORS[0], SELECTORS[1], SELECTORS[2]];
    let slots = args.bind("TraceProgram", &names, 1)?;
    let mut program = TraceProgram::default();
    for (slot, name) in slots.iter().zip(names) {
        let Some(arg) = slot else { continue };
        let text = arg.text("TraceProgram", name)?;
        if text.is_empty() {
            let message = format!("TraceProgram(): '{name}' must not be empty");
            return fail(Code::ArgumentValue, arg.span, message);
        }
        if name == "program" {
            program.text = text;
        } else {
            program.selectors.push((name.to_string(), text));
        }
    }
    Ok(Object::TraceValue(Rc::new(TraceValue::Program(program))))
}

fn programs(probe: &Arg<'_>) -> Res<Vec<TraceProgram>> {
    match &probe.value {
        Object::List(items) | Object::Tuple(items) if !items.is_empty() => {
            let one = |item: &Object<'_>| program(item).ok_or(());
            let all: Result<Vec<_>, ()> = items.iter().map(one).collect();
            all.or_else(|()| wrong_type(probe, "UpsertTracepoint", "probe_fn", "TraceProgram"))
        }
        Object::Function(_) => {
            let message = "not yet: probes of functions; use a bpftrace program";
            fail(Code::NotYet, probe.span, message)
        }
        other => match program(other) {
            Some(program) => Ok(vec![program]),
            None => wrong_type(probe, "UpsertTracepoint", "probe_fn", "TraceProgram"),
        },
    }
}

fn program(value: &Object<'_>) -> Option<TraceProgram> {
    match value {
        Object::TraceValue(value) => match &**value {
            TraceValue::Program(program) => Some(program.clone()),
            TraceValue::Kprobe => None,
        },
        Object::Expr(sym) => {
            sym.as_text().map(|text| TraceProgram { text: text.to_string(), selectors: Vec::new() })
        }
        _ => None,
    }
}

/// The columns that a bpftrace program prints: all its formats must be the same; each piece with a
/// `%` is a column, named by what stands before the colon. Integers unless it is `%s`.
fn output_columns(program: &str, span: Span) -> Res<Relation> {
    let formats = printf_formats(program);
    let Some(first) = formats.first() else {
        let message = "the program has no printf that gives the table's columns";
        return fail(Code::ArgumentValue, span, message);
    };
    if formats.iter().any(|format| format != first) {
        let message = "all printf statements of a program must have the same format";
        return fail(Code::ArgumentValue, span, message);
    }
    let mut columns: Vec<Column> = Vec::new();
    for piece in first.split_whitespace().filter(|piece| piece.contains('%')) {
        let (name, spec) = match piece.split_once(':') {
            Some((name, spec)) if !name.is_empty() => (name.to_string(), spec),
            _ => (format!("Column_{}", columns.len()), piece),
        };
        let kind = spec.trim_matches(|c: char| !c.is_ascii_alphabetic());
        let data_type = match (name.as_str(), kind) {
            ("time_", _) => DataType::Time64Ns,
            (_, "s" | "r") => DataType::String,
            _ => DataType::Int64,
        };
        if columns.iter().any(|have| have.name == name) {
            let message = format!("the program prints column '{name}' twice");
            return Err(Diag::error(Code::ColumnTwice, span, message).into());
        }
        columns.push(Column::new(name, data_type, SemanticType::None));
    }
    Ok(Relation::new(columns))
}

/// The format strings of all `printf(` calls.
fn printf_formats(program: &str) -> Vec<String> {
    let mut formats = Vec::new();
    for (at, name) in program.match_indices("printf") {
        let rest = program[at + name.len()..].trim_start();
        let Some(rest) = rest.strip_prefix('(') else { continue };
        let Some(rest) = rest.trim_start().strip_prefix('"') else { continue };
        let mut format = String::new();
        let mut chars = rest.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => match chars.next() {
                    Some('n' | 't' | 'r') | None => format.push(' '),
                    Some(other) => format.push(other),
                },
                other => format.push(other),
            }
        }
        formats.push(format);
    }
    formats
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns and types of a program: catches string columns typed as integers.
    #[test]
    fn columns_of_a_program() {
        let text = r#"kprobe:x { printf("time_:%llu pid:%u comm:%s\n", nsecs, pid, comm); }"#;
        let relation = output_columns(text, Span::NONE).unwrap();
        let types: Vec<(&str, DataType)> =
            relation.columns.iter().map(|c| (c.name.as_str(), c.data_type)).collect();
        let wanted =
            [("time_", DataType::Time64Ns), ("pid", DataType::Int64), ("comm", DataType::String)];
        assert_eq!(types, wanted);
    }
}
