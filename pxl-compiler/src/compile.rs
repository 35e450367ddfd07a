//! The whole way: text and vis.json to a plan, or to diagnostics.
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;
use weir_types::plan::{Output, StartBound};
use weir_types::{Diagnostic, Plan, Relation};

use crate::budget::{Budget, Cancel, Deadline};
use crate::codes::Code;
use crate::diag::{Diag, Findings, SourceId, Span, Texts};
use crate::explain::{self, Trace};
use crate::export::{Export, OtelEndpoint};
use crate::hint;
use crate::ir::{ExportIr, Graph, IrId, IrKind, Sink};
use crate::limits::{EXPLAIN_BYTES_MAX, STACK_BYTES};
use crate::objects::eval::{Evaluator, Settings};
use crate::objects::exec::ExecCall;
use crate::objects::named::{self, NamedBody, ViewIndex};
use crate::objects::trace::{AgentConfig, Tracepoint};
use crate::passes::{self, checked};
use crate::row_key;
use crate::syntax;
use crate::syntax::lines::LineIndex;
use crate::syntax::pragmas::Pragmas;
use crate::vis::{self, CallOptions, Variable, Vis};

/// What is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a> {
    /// File name or bundle name, for diagnostics.
    pub name: &'a str,
    pub text: &'a str,
    /// Text of the vis.json, if there is one.
    pub vis: Option<&'a str>,
}

#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    /// `run --now`: positions that need a constant take this for `px.now()`. Windows and row
    /// expressions still move with the engine's clock.
    pub now_unix_ns: Option<i64>,
    /// Script arguments by name.
    pub args: Vec<(String, String)>,
    /// Run only this function (or, failing that, the call with this output name).
    pub func: Option<String>,
    /// `weir check`: fill required arguments with placeholders.
    pub placeholders: bool,
    /// Tables besides those of the registry.
    pub tables: Vec<(String, Relation)>,
    /// Where exports go that name no endpoint.
    pub otel_endpoint: Option<OtelEndpoint>,
    /// `px.plugin.start_time` and `.end_time`, of a scheduled run.
    pub plugin_times_unix_ns: Option<(i64, i64)>,
    /// Tables that have a source here; others get the warning `no_source`. `None`: do not check.
    pub sources: Option<Vec<String>>,
    /// Ends the compile from another thread.
    pub cancel: Cancel,
    /// When it has to be done; `None`: its work is bounded, its time is not looked at.
    pub deadline: Option<Deadline>,
    /// Instead of [`crate::limits::WORK_MAX`].
    pub work_max: Option<u64>,
    /// Recorded views: tables that scripts may read by these names.
    pub views: Arc<[NamedView]>,
    /// Only the passes that are part of the language: a plan that says what the script says, for
    /// judges of the others.
    pub unoptimised: bool,
}

/// A view that scripts read as `px.DataFrame('NAME')`, in place of a table. Those of one name are one, with the rows
/// of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedView {
    pub name: String,
    /// PxL that displays one table.
    pub text: String,
    /// Columns that it has besides, or in place of its own: one text in all rows.
    pub labels: BTreeMap<String, String>,
}

/// A compiled script. Vectors are per output, in the plan's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    pub plan: Plan,
    /// `{name, position, displaySpec}` of the widgets that show the output.
    pub widgets: Vec<Vec<Json>>,
    pub args: Vec<Variable>,
    pub warnings: Vec<Diagnostic>,
    /// What the script said for the start of the widest window below; empty: no start. `None`: no
    /// table is read.
    pub window_text: Vec<Option<String>>,
    /// Group columns, where the output is an aggregate.
    pub key: Vec<Vec<String>>,
    /// What `px.export` declares.
    pub exports: Vec<Export>,
    pub tracepoints: Vec<Tracepoint>,
    /// Names of tracepoints to remove.
    pub tracepoints_deleted: Vec<String>,
    pub agent_configs: Vec<AgentConfig>,
    pub pragmas: Pragmas,
}

/// Compiles a script.
///
/// # Errors
/// What is wrong with it, sorted by place, errors before warnings.
pub fn compile(script: &Script<'_>, options: &CompileOptions) -> Result<Compiled, Vec<Diagnostic>> {
    compile_traced(script, options, None)
}

pub(crate) fn compile_traced(
    script: &Script<'_>,
    options: &CompileOptions,
    trace: Option<&mut Trace>,
) -> Result<Compiled, Vec<Diagnostic>> {
    on_large_stack(|| compile_here(script, options, trace))
}

/// Runs what recurses as deeply as the limits allow: the caller's stack need not be large.
pub(crate) fn on_large_stack<T>(work: impl FnOnce() -> T) -> T {
    // Within another such call there is nearly all of it.
    const SPARE_BYTES: usize = 1 << 20;
    stacker::maybe_grow(STACK_BYTES - SPARE_BYTES, STACK_BYTES, work)
}

fn compile_here(
    script: &Script<'_>,
    options: &CompileOptions,
    trace: Option<&mut Trace>,
) -> Result<Compiled, Vec<Diagnostic>> {
    let findings = Findings::default();
    let budget = Budget::new(options.cancel.clone(), options.deadline.clone())
        .with_work_max(options.work_max);
    let views = ViewIndex::new(Arc::clone(&options.views));
    let wanted = named::wanted(&views, script.text, &findings);
    let named = named::parse(&wanted, &findings).filter(|_| !findings.has_errors());
    let compiled = named.as_deref().and_then(|named| {
        run(script, named, &Context { options, findings: &findings, budget: &budget }, trace)
    });
    // What ran out may have left anything behind.
    let is_over = budget.report(Span::NONE, &findings);
    let compiled = compiled.filter(|_| !is_over);
    let texts = Texts {
        file: script.name,
        script: LineIndex::new(script.text),
        vis: script.vis.map(LineIndex::new),
        named: wanted.iter().map(|view| view.name.as_str()).collect(),
    };
    let failed = findings.has_errors();
    let found: Vec<Diagnostic> =
        findings.take().iter().map(|diag| texts.diagnostic(diag)).collect();
    match compiled {
        Some(compiled) if !failed => Ok(Compiled { warnings: found, ..compiled }),
        _ => Err(found),
    }
}

fn run(
    script: &Script<'_>,
    named: &[NamedBody<'_>],
    context: &Context<'_>,
    mut trace: Option<&mut Trace>,
) -> Option<Compiled> {
    let Context { options, findings, budget } = *context;
    let pragmas = syntax::pragmas::read(script.text, findings);
    let vis = match script.vis {
        Some(text) => Some(vis::parse_into(text, findings)?),
        None => None,
    };
    let body = syntax::parse_module(script.text, SourceId::Script, findings)?;
    if let Some(trace) = trace.as_deref_mut() {
        trace.ast = explain::ast::module(&body);
    }
    let views_text = crate::bundle::PXVIEWS;
    let mut texts = named.iter().map(|view| view.text).chain([script.text]);
    let uses_views = texts.any(|text| text.contains("pxviews"));
    let views = match uses_views {
        true => syntax::parse_module(views_text, SourceId::Views, findings),
        false => None,
    };
    let calls = calls_of(options, vis.as_ref(), findings)?;
    if findings.has_errors() {
        return None;
    }
    let settings = Settings {
        now_unix_ns: options.now_unix_ns,
        tables: options.tables.clone(),
        exec_mode: !calls.is_empty(),
        otel_endpoint: options.otel_endpoint.clone(),
        plugin_times: options.plugin_times_unix_ns,
    };
    let views = views.as_ref().map(|body| (views_text, body.as_slice()));
    let mut evaluator = Evaluator::new(findings, budget, settings, script.text, views, named);
    evaluator.run_module(&body);
    for (number, call) in calls.iter().enumerate() {
        evaluator.run_call(number, call);
    }
    if budget.is_over() || findings.is_full() {
        return None;
    }
    if let Some(trace) = trace.as_deref_mut() {
        note_evaluated(trace, &evaluator);
    }
    let Evaluator { graph, settings, tracepoints, tracepoints_deleted, agent_configs, .. } =
        evaluator;
    shows_something(&graph, findings);
    passes::streams_checked::run(&graph, findings);
    passes::copies_bounded::run(&graph, findings);
    let (plan, exports) = planned(&graph, &settings, context, &pragmas, trace)?;
    no_source(&graph, &plan, options, findings);
    if let Some(vis) = &vis {
        widget_columns(vis, &calls, &graph, &plan, findings);
    }
    let widgets = |sink: &Sink| -> Vec<Json> {
        let (Some(vis), Some(call)) = (&vis, sink.call) else { return Vec::new() };
        calls[call].widgets.iter().map(|&at| vis.widgets[at].to_json()).collect()
    };
    Some(Compiled {
        widgets: graph.sinks.iter().map(widgets).collect(),
        window_text: graph.sinks.iter().map(|sink| window_text(&graph, sink.op)).collect(),
        key: plan.outputs.iter().map(|output| row_key::of(&plan, output.op, budget)).collect(),
        args: vis.map(|vis| vis.variables).unwrap_or_default(),
        warnings: Vec::new(),
        exports,
        tracepoints,
        tracepoints_deleted,
        agent_configs,
        pragmas,
        plan,
    })
}

/// What evaluation gave, for `explain`.
fn note_evaluated(trace: &mut Trace, evaluator: &Evaluator<'_>) {
    let mut bytes = 0;
    for (name, held) in &evaluator.variables() {
        let text = explain::ir::object(held);
        bytes += name.len() + text.len();
        trace.frames.push((name.clone(), text));
        if bytes > EXPLAIN_BYTES_MAX {
            break;
        }
    }
    trace.ir = explain::ir::graph(&evaluator.graph);
}

/// A script without any output is an error.
fn shows_something(graph: &Graph, findings: &Findings) {
    if graph.sinks.is_empty() && graph.exports.is_empty() && !findings.has_errors() {
        let message = "query does not output a result, please add a px.display() call";
        let hint = "or give the script a vis.json that calls its functions";
        findings.push(Diag::error(Code::NoOutput, Span::NONE, message).hint(hint));
    }
}

/// The function calls to make; none: the module's own `px.display` counts.
fn calls_of(
    options: &CompileOptions,
    vis: Option<&Vis>,
    findings: &Findings,
) -> Option<Vec<ExecCall>> {
    match (vis, &options.func) {
        (Some(vis), func) if vis.has_calls() || func.is_some() => {
            let options = CallOptions {
                args: &options.args,
                func: func.as_deref(),
                placeholders: options.placeholders,
            };
            Some(vis::plan_calls(vis, &options, findings))
        }
        (_, Some(func)) => Some(vec![ExecCall {
            func: func.clone(),
            args: options.args.clone(),
            output: func.clone(),
            ..ExecCall::default()
        }]),
        (_, None) => {
            if let Some((name, _)) = options.args.first() {
                let message = format!("the script has no argument '{name}'");
                let hint = "a script without vis.json takes no arguments";
                findings.push(Diag::error(Code::ArgumentUnknown, Span::NONE, message).hint(hint));
                return None;
            }
            Some(Vec::new())
        }
    }
}

/// What all of planning needs.
struct Context<'a> {
    options: &'a CompileOptions,
    findings: &'a Findings,
    budget: &'a Budget,
}

fn planned(
    graph: &Graph,
    settings: &Settings,
    context: &Context<'_>,
    pragmas: &Pragmas,
    mut trace: Option<&mut Trace>,
) -> Option<(Plan, Vec<Export>)> {
    let Context { options, findings, budget } = *context;
    let typed = passes::typed::run(graph, &settings.tables, findings, budget);
    if findings.has_errors() || budget.is_over() {
        return None;
    }
    let exports = exported(graph, &typed, context);
    let names = passes::outputs_unique::run(graph.sinks.iter().map(|sink| sink.name.as_str()));
    let outputs = graph.sinks.iter().zip(names);
    let outputs =
        outputs.map(|(sink, table)| Output { table, op: typed.of_graph[sink.op] }).collect();
    let mut plan = passes::reachable(typed.plan(outputs));
    if checked::IS_ON {
        is_checked(checked::plan(&plan), findings)?;
    }
    if let Some(rows_max) = pragmas.max_output_rows_per_table {
        plan = passes::outputs_capped::run(plan, rows_max);
    }
    let mut note = |name: &'static str, plan: &Plan| {
        if let Some(trace) = trace.as_deref_mut() {
            trace.passes.push((name, plan.clone()));
        }
    };
    note("typed", &plan);
    let passes = if options.unoptimised { passes::LANGUAGE } else { passes::PASSES };
    let plan = passed_through(plan, passes, context, &mut note)?;
    // What a judge evaluates runs nowhere.
    if !options.unoptimised {
        passes::placement_checked::run(&plan, &typed.sites, findings);
    }
    Some((plan, exports))
}

/// The plan behind all passes. `None`: the budget is over, or a pass broke what it promises.
fn passed_through(
    mut plan: Plan,
    passes: &[passes::Pass],
    context: &Context<'_>,
    note: &mut dyn FnMut(&'static str, &Plan),
) -> Option<Plan> {
    for pass in passes {
        let before = checked::IS_ON.then(|| plan.clone());
        plan = pass.run(plan, context.budget);
        if context.budget.is_over() {
            return None;
        }
        if let Some(before) = before {
            is_checked(pass.check(&before, &plan), context.findings)?;
        }
        note(pass.name, &plan);
    }
    Some(plan)
}

/// A plan that does not hold is a bug of the compiler's, and reported as one.
fn is_checked(checked: checked::Checked, findings: &Findings) -> Option<()> {
    let broken = checked.err();
    if let Some(broken) = &broken {
        let hint = "this is a bug in the compiler, not in the script";
        findings.push(Diag::error(Code::Internal, Span::NONE, broken.clone()).hint(hint));
    }
    broken.is_none().then_some(())
}

/// What the script exports, each with a plan of its own.
fn exported(graph: &Graph, typed: &passes::typed::Typed, context: &Context<'_>) -> Vec<Export> {
    let Context { findings, budget, .. } = *context;
    let one = |export: &ExportIr| -> Option<Export> {
        let op = typed.of_graph[export.op];
        let spec = passes::exports_typed::run(export, &typed.ops[op].relation, findings);
        let output = Output { table: "export".to_string(), op };
        budget.spend(typed.columns);
        let plan = passes::reachable(typed.plan(vec![output]));
        let plan = passed_through(plan, passes::PASSES, context, &mut |_, _| {})?;
        passes::placement_checked::run(&plan, &typed.sites, findings);
        let message = "only a sink sends what is exported".to_string();
        let hint = "name the script as an input of a sink of `type: opentelemetry` in weir.yaml";
        findings.push(Diag::warning(Code::NoExporter, export.span, message).hint(hint));
        Some(Export { plan, endpoint: spec.endpoint, resource: spec.resource, data: spec.data })
    };
    graph.exports.iter().map_while(one).collect()
}

fn no_source(graph: &Graph, plan: &Plan, options: &CompileOptions, findings: &Findings) {
    let Some(sources) = &options.sources else { return };
    for (table, _) in plan.scans() {
        if !sources.iter().any(|have| have == table) {
            let message = format!("no source of this machine produces table '{table}'");
            let hint = "`weir doctor` says which sources work here and why others do not";
            let read = graph.ops.iter().find_map(|op| match &op.kind {
                IrKind::Source { table: read, .. } if read.name == *table => Some(read.span),
                _ => None,
            });
            let span = read.unwrap_or(Span::NONE);
            findings.push(Diag::warning(Code::NoSource, span, message).hint(hint));
        }
    }
}

/// Widgets name columns that their outputs have.
fn widget_columns(vis: &Vis, calls: &[ExecCall], graph: &Graph, plan: &Plan, findings: &Findings) {
    for (sink, output) in graph.sinks.iter().zip(&plan.outputs) {
        // A list of frames has outputs of other names, which no widget shows.
        let Some(call) = sink.call.map(|call| &calls[call]).filter(|call| call.output == sink.name)
        else {
            continue;
        };
        let relation = &plan.ops[output.op].relation;
        let names: Vec<&str> = relation.columns.iter().map(|column| column.name.as_str()).collect();
        for widget in call.widgets.iter().map(|&at| &vis.widgets[at]) {
            if findings.has_all_warnings() {
                return;
            }
            for (name, span) in &widget.columns {
                if !names.contains(&name.as_str()) {
                    let message = format!("output '{}' has no column '{name}'", sink.name);
                    let all = format!("it has {}", names.join(", "));
                    let hint = hint::did_you_mean(name, names.iter().copied(), &all);
                    findings.push(Diag::warning(Code::VisColumn, *span, message).hint(hint));
                }
            }
            if vis::specs::needs_time(widget.kind()) && relation.time_idx().is_none() {
                let span = call.span.unwrap_or(Span::NONE);
                let message = format!("output '{}' has no time_ for its chart", sink.name);
                let hint = format!("a {} draws over the column `time_` (TIME64NS)", widget.kind());
                findings.push(Diag::warning(Code::VisColumn, span, message).hint(hint));
            }
        }
    }
}

/// The start text of the widest window that an operator reads.
fn window_text(graph: &Graph, op: IrId) -> Option<String> {
    let mut widest: Option<(i64, &String)> = None;
    for op in graph.below(op) {
        let IrKind::Source { window, window_text, .. } = &op.kind else { continue };
        let width_ns = match window.start {
            StartBound::Relative { window_ns } => window_ns,
            StartBound::Absolute { .. } | StartBound::Then { .. } => i64::MAX - 1,
            StartBound::Beginning => i64::MAX,
        };
        if widest.is_none_or(|(have_ns, _)| width_ns > have_ns) {
            widest = Some((width_ns, window_text));
        }
    }
    widest.map(|(_, text)| text.clone())
}
