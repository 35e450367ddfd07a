//! `pxtrace` and `pxconfig`: declarations. Tables of tracepoints get a schema (from the program's
//! printf formats, or from what a probe records), so that the frames over them type-check; deploying
//! them is not the compiler's work.

mod bpftrace;
mod probe;
mod target;

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use weir_types::Relation;

pub use probe::{FunctionProbe, ProbeOutput};
pub use target::TraceTarget;

use super::args::{Arg, CallArgs, wrong_type};
use super::eval::Evaluator;
use super::otel::declarations_fit;
use super::{Decorator, Module, Object, time};
use crate::codes::Code;
use crate::diag::{Diag, Res, Stop, fail};
use crate::hint;

/// A tracepoint that a script declares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tracepoint {
    pub name: String,
    pub table: String,
    pub ttl_ns: i64,
    pub target: TraceTarget,
    pub body: TraceBody,
    pub relation: Relation,
}

/// What runs when a tracepoint is hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TraceBody {
    /// Each host takes the first program whose selectors fit.
    Bpftrace(Vec<TraceProgram>),
    Function(FunctionProbe),
}

/// A bpftrace program and the hosts that it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceProgram {
    pub text: String,
    /// `min_kernel`, `max_kernel`, `host_name` → value.
    pub selectors: Vec<(String, String)>,
}

/// A setting of an agent that a script asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentConfig {
    pub agent_pod_name: String,
    pub key: String,
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TraceFunction {
    UpsertTracepoint,
    DeleteTracepoint,
    TraceProgram,
    Kprobe,
    PodProcess,
    LabelSelector,
    SharedObject,
    Probe,
    ArgExpr,
    RetExpr,
    FunctionLatency,
    SetAgentConfig,
}

#[derive(Clone, Debug)]
pub(crate) enum TraceValue {
    Program(TraceProgram),
    Target(TraceTarget),
    Output(ProbeOutput),
}

const FUNCTIONS: [(Module, &str, TraceFunction); 12] = [
    (Module::PxTrace, "UpsertTracepoint", TraceFunction::UpsertTracepoint),
    (Module::PxTrace, "DeleteTracepoint", TraceFunction::DeleteTracepoint),
    (Module::PxTrace, "TraceProgram", TraceFunction::TraceProgram),
    (Module::PxTrace, "kprobe", TraceFunction::Kprobe),
    (Module::PxTrace, "PodProcess", TraceFunction::PodProcess),
    (Module::PxTrace, "LabelSelector", TraceFunction::LabelSelector),
    (Module::PxTrace, "SharedObject", TraceFunction::SharedObject),
    (Module::PxTrace, "probe", TraceFunction::Probe),
    (Module::PxTrace, "ArgExpr", TraceFunction::ArgExpr),
    (Module::PxTrace, "RetExpr", TraceFunction::RetExpr),
    (Module::PxTrace, "FunctionLatency", TraceFunction::FunctionLatency),
    (Module::PxConfig, "set_agent_config", TraceFunction::SetAgentConfig),
];
const SELECTORS: [&str; 3] = ["min_kernel", "max_kernel", "host_name"];

/// Names of a module, for hints.
pub(crate) fn names(module: Module) -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().filter(move |(have, ..)| *have == module).map(|(_, name, _)| *name)
}

impl TraceFunction {
    pub(crate) fn find(module: Module, name: &str) -> Option<TraceFunction> {
        let found = FUNCTIONS.iter().find(|(have, called, _)| *have == module && *called == name);
        found.map(|(_, _, function)| *function)
    }
}

fn value<'a>(value: TraceValue) -> Object<'a> {
    Object::TraceValue(Rc::new(value))
}

impl<'a> Evaluator<'a> {
    pub(crate) fn call_trace(
        &mut self,
        function: TraceFunction,
        args: CallArgs<'a>,
    ) -> Res<Object<'a>> {
        let output = |args: CallArgs<'a>, func: &str, make: fn(String) -> ProbeOutput| -> Res<_> {
            let slots = args.bind(func, &["expr"], 1)?;
            let expr = target::required(slots[0].as_ref(), func, "expr")?;
            Ok(value(TraceValue::Output(make(expr))))
        };
        let span = args.span;
        Ok(match function {
            TraceFunction::UpsertTracepoint => self.upsert(args)?,
            TraceFunction::DeleteTracepoint => {
                let slots = args.bind("DeleteTracepoint", &["name"], 1)?;
                let name = target::required(slots[0].as_ref(), "DeleteTracepoint", "name")?;
                self.tracepoints.retain(|have| have.name != name);
                declarations_fit(self.tracepoints_deleted.len(), "deletions", span)?;
                self.tracepoints_deleted.push(name);
                Object::None
            }
            TraceFunction::SetAgentConfig => {
                let func = "set_agent_config";
                declarations_fit(self.agent_configs.len(), "settings of agents", span)?;
                let slots = args.bind(func, &["agent_pod_name", "key", "value"], 3)?;
                self.agent_configs.push(AgentConfig {
                    agent_pod_name: target::required(slots[0].as_ref(), func, "agent_pod_name")?,
                    key: target::required(slots[1].as_ref(), func, "key")?,
                    value: slots[2]
                        .as_ref()
                        .map_or(Err(Stop::Poisoned), |a| a.text(func, "value"))?,
                });
                Object::None
            }
            TraceFunction::TraceProgram => value(TraceValue::Program(trace_program(args)?)),
            TraceFunction::Kprobe => {
                args.bind("kprobe", &[], 0)?;
                value(TraceValue::Target(TraceTarget::Kernel))
            }
            TraceFunction::PodProcess => value(TraceValue::Target(target::pod_process(args)?)),
            TraceFunction::LabelSelector => {
                value(TraceValue::Target(target::label_selector(args)?))
            }
            TraceFunction::SharedObject => value(TraceValue::Target(target::shared_object(args)?)),
            TraceFunction::Probe => {
                let slots = args.bind("probe", &["symbol"], 1)?;
                let symbol = target::required(slots[0].as_ref(), "probe", "symbol")?;
                Object::Decorator(Rc::new(Decorator::Probe(symbol)))
            }
            TraceFunction::ArgExpr => output(args, "ArgExpr", ProbeOutput::Argument)?,
            TraceFunction::RetExpr => output(args, "RetExpr", ProbeOutput::Result)?,
            TraceFunction::FunctionLatency => {
                args.bind("FunctionLatency", &[], 0)?;
                value(TraceValue::Output(ProbeOutput::Latency))
            }
        })
    }

    /// `pxtrace.UpsertTracepoint(name, table_name, probe_fn, target, ttl)`
    fn upsert(&mut self, args: CallArgs<'a>) -> Res<Object<'a>> {
        let func = "UpsertTracepoint";
        let names = ["name", "table_name", "probe_fn", "target", "ttl"];
        let slots = args.bind(func, &names, 5)?;
        let [Some(name), Some(table), Some(probe), Some(target), Some(ttl)] =
            <[Option<Arg<'a>>; 5]>::try_from(slots).unwrap_or([const { None }; 5])
        else {
            return Err(Stop::Poisoned);
        };
        declarations_fit(self.tracepoints.len(), "tracepoints", probe.span)?;
        let name = target::required(Some(&name), func, "name")?;
        let table = target::required(Some(&table), func, "table_name")?;
        let to = target::target(&target)?;
        let ttl_text = ttl.text(func, "ttl")?;
        let ttl_ns =
            time::parse_duration(&ttl_text).ok_or_else(|| time::bad_time(ttl.span, &ttl_text))?;
        if ttl_ns <= 0 {
            let message = format!("{func}(): 'ttl' must be longer than nothing");
            return fail(Code::Tracepoint, ttl.span, message);
        }
        let (body, relation) = match &probe.value {
            Object::Function(function) => {
                if to == TraceTarget::Kernel {
                    let message = "a probe of a function needs processes as its target";
                    let hint = "use pxtrace.PodProcess, LabelSelector, SharedObject or a UPID";
                    return Err(Diag::error(Code::Tracepoint, target.span, message)
                        .hint(hint)
                        .into());
                }
                let probe = self.function_probe(&function.clone(), &probe)?;
                let relation = probe.relation();
                (TraceBody::Function(probe), relation)
            }
            _ => {
                let programs = programs(&probe)?;
                let relation = common_columns(&programs, &probe)?;
                (TraceBody::Bpftrace(programs), relation)
            }
        };
        // Who traces may have declared the table already, with its true types.
        let declared = self.settings.tables.iter().find(|(have, _)| *have == table);
        let relation = match (&body, declared) {
            (TraceBody::Function(_), Some((_, declared))) => declared.clone(),
            _ => relation,
        };
        self.settings.tables.retain(|(have, _)| *have != table);
        self.settings.tables.push((table.clone(), relation.clone()));
        self.tracepoints.retain(|have| have.name != name);
        self.tracepoints.push(Tracepoint { name, table, ttl_ns, target: to, body, relation });
        Ok(Object::None)
    }
}

/// `pxtrace.TraceProgram(program, min_kernel=, max_kernel=, host_name=)`
fn trace_program(args: CallArgs<'_>) -> Res<TraceProgram> {
    let func = "TraceProgram";
    if let Some((unknown, _)) = args
        .keywords
        .iter()
        .find(|(name, _)| name.name != "program" && !SELECTORS.contains(&name.name.as_str()))
    {
        let message = format!("{func}(): unknown selector '{}'", unknown.name);
        let all = format!("selectors are {}", SELECTORS.join(", "));
        let hint = hint::did_you_mean(&unknown.name, SELECTORS, &all);
        return Err(Diag::error(Code::Tracepoint, unknown.span, message).hint(hint).into());
    }
    let slots = args.bind(func, &["program", SELECTORS[0], SELECTORS[1], SELECTORS[2]], 1)?;
    let mut program = TraceProgram {
        text: target::required(slots[0].as_ref(), func, "program")?,
        ..TraceProgram::default()
    };
    for (slot, name) in slots[1..].iter().zip(SELECTORS) {
        if slot.is_some() {
            let text = target::required(slot.as_ref(), func, name)?;
            program.selectors.push((name.to_string(), text));
        }
    }
    Ok(program)
}

/// One for each range of kernels and the like.
const PROGRAMS_MAX: usize = 16;

fn programs(probe: &Arg<'_>) -> Res<Vec<TraceProgram>> {
    let wrong = || wrong_type(probe, "UpsertTracepoint", "probe_fn", "TraceProgram");
    match &probe.value {
        Object::List(items) | Object::Tuple(items) if items.len() > PROGRAMS_MAX => {
            let message = format!("a tracepoint has at most {PROGRAMS_MAX} programs");
            fail(Code::Tracepoint, probe.span, message)
        }
        Object::List(items) | Object::Tuple(items) if !items.is_empty() => {
            let all: Option<Vec<TraceProgram>> = items.iter().map(program).collect();
            all.map_or_else(wrong, Ok)
        }
        other => program(other).map_or_else(wrong, |program| Ok(vec![program])),
    }
}

/// The columns that all programs print.
fn common_columns(programs: &[TraceProgram], probe: &Arg<'_>) -> Res<Relation> {
    let mut relation: Option<Relation> = None;
    for program in programs {
        let columns = bpftrace::columns(&program.text).map_err(|message| {
            let hint = "columns come from the format: `printf(\"time_:%llu pid:%d comm:%s\", …)`";
            Stop::from(Diag::error(Code::Tracepoint, probe.span, message).hint(hint))
        })?;
        if relation.as_ref().is_some_and(|have| *have != columns) {
            let message = "the programs of a tracepoint must print the same columns";
            return fail(Code::Tracepoint, probe.span, message);
        }
        relation = Some(columns);
    }
    relation.ok_or(Stop::Poisoned)
}

fn program(value: &Object<'_>) -> Option<TraceProgram> {
    match value {
        Object::TraceValue(value) => match &**value {
            TraceValue::Program(program) => Some(program.clone()),
            TraceValue::Target(_) | TraceValue::Output(_) => None,
        },
        Object::Expr(sym) => {
            sym.as_text().map(|text| TraceProgram { text: text.to_string(), selectors: Vec::new() })
        }
        _ => None,
    }
}
