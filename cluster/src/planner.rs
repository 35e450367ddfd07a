//! From a request (bundle name or text, function, arguments) to something that can be installed:
//! compiled, outputs without a source set apart, split. Pure but for the bundle's text, which is
//! part of the program.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_proto::message::KEPT_FROM_NS;
use weir_pxl::{Cancel, CompileOptions, Compiled, Deadline, NamedView, OtelEndpoint, Script};
use weir_types::canonical::PlanIdentity;
use weir_types::plan::{OpId, OpKind, Plan, Scan, SlidingWindow, StartBound};
use weir_types::split::SplitPlan;
use weir_types::{Diagnostic, Relation};

use crate::view::OutputInfo;

/// Longest script text.
pub const SCRIPT_BYTES_MAX: usize = 1 << 20;
/// Shortest refresh that may be asked for.
const REFRESH_MS_MIN: u64 = 10;
const REFRESH_MS_MAX: u64 = 3_600_000;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub struct ScriptRequest {
    /// Name in the bundle.
    pub script: Option<String>,
    /// Or the text itself, with its vis.json if it has one.
    pub text: Option<String>,
    #[serde(default)]
    pub vis: Option<String>,
    #[serde(default)]
    pub func: Option<String>,
    #[serde(default)]
    pub args: BTreeMap<String, String>,
    #[serde(default)]
    pub refresh_ms: Option<u64>,
    /// Recorded views that its text may read: the server says which, never a client.
    #[serde(skip)]
    pub views: Arc<[NamedView]>,
    /// The answer as it was at this time, about what is still held: windows end there, and do not slide. Names are
    /// those of now.
    #[serde(default)]
    pub at_unix_ns: Option<i64>,
    /// Views that its text may read besides those of the server, or in place of them.
    #[serde(default)]
    pub with_views: Vec<ViewText>,
    /// `run` only: the answer at the last frontier of a view that is there, at once, however old it is.
    #[serde(default)]
    pub stale_ok: bool,
    /// It is to run even if it is expected to cost more than the server lets readers ask for.
    #[serde(default)]
    pub accept_cost: bool,
    /// Not what the script displays, but what this one of its `px.export`s does, as the only output.
    #[serde(skip)]
    pub export: Option<usize>,
}

/// A recorded view that is not the server's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ViewText {
    pub name: String,
    pub text: String,
    /// Columns of one text in all rows.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl From<&ViewText> for NamedView {
    fn from(view: &ViewText) -> NamedView {
        let ViewText { name, text, labels } = view.clone();
        NamedView { name, text, labels }
    }
}

impl From<&NamedView> for ViewText {
    fn from(view: &NamedView) -> ViewText {
        let NamedView { name, text, labels } = view.clone();
        ViewText { name, text, labels }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("there is no script `{name}`; `weir scripts list` names all{hint}")]
    UnknownScript { name: String, hint: String },
    #[error("give either `script` (a name of the bundle) or `text`")]
    NoScript,
    #[error("the script is longer than {SCRIPT_BYTES_MAX} bytes")]
    TooLong,
    #[error("refresh must be between {REFRESH_MS_MIN} ms and {REFRESH_MS_MAX} ms")]
    Refresh,
    #[error("the script reads the clock: what it said at another time is not known")]
    ReadsClock,
    #[error("the script does not compile")]
    Compile(Vec<Diagnostic>),
    #[error("{}", no_source_text(table))]
    NoSource { table: String },
}

/// Why there are no rows of a table, or of a table function.
#[must_use]
pub fn no_source_text(table: &str) -> String {
    match weir_pxl::table_functions::find(table).and_then(|function| function.refusal()) {
        Some(reason) => format!("`{table}()` cannot be answered: {reason}"),
        None => format!("no source on this server produces `{table}`"),
    }
}

impl PlanError {
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            PlanError::UnknownScript { .. } => "script_not_found",
            PlanError::NoScript => "bad_request",
            PlanError::TooLong => "script_too_large",
            PlanError::Refresh => "bad_refresh",
            PlanError::ReadsClock => "reads_clock",
            PlanError::Compile(_) => "compile_error",
            PlanError::NoSource { .. } => "no_source",
        }
    }
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            PlanError::Compile(diagnostics) => diagnostics,
            _ => &[],
        }
    }
}

/// Ready to be installed.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub name: String,
    /// Without the outputs that were left out.
    pub plan: Arc<Plan>,
    /// What readers share: equal plans, equal views.
    pub identity: Arc<PlanIdentity>,
    pub split: Arc<SplitPlan>,
    pub outputs: Vec<OutputInfo>,
    pub refresh_ms: u64,
    /// Outputs that were left out, with the table that nothing produces.
    pub without_source: Vec<(String, String)>,
    /// Tables that the script's tracepoints declare.
    pub declared_tables: Vec<(String, Relation)>,
    pub warnings: Vec<Diagnostic>,
}

/// Text, name and vis.json of what is asked for.
fn resolve(request: &ScriptRequest) -> Result<(String, String, Option<String>), PlanError> {
    if let Some(text) = &request.text {
        if text.len() > SCRIPT_BYTES_MAX {
            return Err(PlanError::TooLong);
        }
        let name = request.script.clone().unwrap_or_else(|| "script".to_string());
        return Ok((name, text.clone(), request.vis.clone()));
    }
    let name = request.script.as_deref().ok_or(PlanError::NoScript)?;
    let Some(found) = weir_pxl::bundle::find(name) else {
        let known: Vec<&str> = weir_pxl::bundle::scripts().iter().map(|each| each.name).collect();
        let hint = weir_pxl::suggest(name, &known)
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        return Err(PlanError::UnknownScript { name: name.to_string(), hint });
    };
    Ok((name.to_string(), found.pxl.to_string(), found.vis.map(str::to_string)))
}

/// What a compile may take besides its bounded work: until when, and as long as somebody waits.
#[derive(Clone, Debug, Default)]
pub struct Allowance {
    pub cancel: Cancel,
    pub deadline: Option<Deadline>,
    /// Units of work; without it as many as the compiler allows by itself.
    pub work_max: Option<u64>,
}

/// Compiles what is asked for, without splitting it.
pub fn compile(
    request: &ScriptRequest,
    now_unix_ns: Option<i64>,
    allowance: &Allowance,
) -> Result<(String, Compiled), PlanError> {
    let (name, text, vis) = resolve(request)?;
    let script = Script { name: &name, text: &text, vis: vis.as_deref() };
    let options = CompileOptions {
        now_unix_ns: now_unix_ns.or(request.at_unix_ns),
        args: request.args.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        func: request.func.clone(),
        cancel: allowance.cancel.clone(),
        deadline: allowance.deadline.clone(),
        work_max: allowance.work_max,
        // Whoever asks for an export knows where it goes.
        otel_endpoint: request.export.map(|_| OtelEndpoint {
            url: String::new(),
            headers: Vec::new(),
            insecure: true,
            timeout_s: 0,
        }),
        views: Arc::clone(&request.views),
        ..CompileOptions::default()
    };
    let mut compiled = weir_pxl::compile(&script, &options).map_err(PlanError::Compile)?;
    if let Some(at) = request.export
        && let Some(plan) = plan_of_export(&compiled, at)
    {
        // Rows of an export are added, never looked up.
        (compiled.key, compiled.window_text, compiled.widgets) = Default::default();
        compiled.plan = plan;
    }
    if let Some(at_unix_ns) = request.at_unix_ns {
        if compiled.plan.reads_now() {
            return Err(PlanError::ReadsClock);
        }
        compiled.plan.set_as_of(at_unix_ns);
    }
    Ok((name, compiled))
}

/// How many seconds apart times of the past are that a plan can be asked about, whatever has become of its rows: the
/// widest pane of what nodes keep of it.
#[must_use]
pub fn pane_s_of(plan: &Plan) -> i64 {
    let panes = plan.scans().filter_map(|(_, window)| match window.start {
        StartBound::Relative { window_ns } if window_ns > KEPT_FROM_NS => {
            Some(SlidingWindow::of(window_ns).pane_ns / 1_000_000_000)
        }
        _ => None,
    });
    panes.max().unwrap_or(1)
}

fn plan_of_export(compiled: &Compiled, at: usize) -> Option<Plan> {
    let mut plan = compiled.exports.get(at)?.plan.clone();
    for output in &mut plan.outputs {
        output.table = export_name(at);
    }
    Some(plan)
}

/// What the rows of an export are called.
fn export_name(at: usize) -> String {
    if at == 0 { "export".to_string() } else { format!("export_{}", at + 1) }
}

/// Calls `visit` with the operators at and below one, each once: a plan is a graph, and the ways
/// through it can be more than its operators by powers of two.
fn visit_below(plan: &Plan, op: OpId, mut visit: impl FnMut(&OpKind)) {
    let mut seen = vec![false; plan.ops.len()];
    let mut open = vec![op];
    while let Some(at) = open.pop() {
        if !std::mem::replace(&mut seen[at], true) {
            visit(&plan.ops[at].kind);
            open.extend(&plan.ops[at].inputs);
        }
    }
}

/// The tables and table functions below an operator.
fn tables_below(plan: &Plan, op: OpId, found: &mut Vec<String>) {
    visit_below(plan, op, |kind| {
        if let OpKind::Scan(Scan { table: name, .. }) | OpKind::TableFunction { name, .. } = kind {
            found.push(name.clone());
        }
    });
}

/// Takes away the outputs that read a table which `has_table` denies, with all that only they read: nothing of
/// it would ever come, and nobody is to wait for it.
fn set_apart_without_source(
    plan: &mut Plan,
    has_table: &dyn Fn(&str) -> bool,
) -> Vec<(String, String)> {
    let mut apart = Vec::new();
    let ops = Plan { outputs: Vec::new(), ..plan.clone() };
    plan.outputs.retain(|output| {
        let mut tables = Vec::new();
        tables_below(&ops, output.op, &mut tables);
        match tables.into_iter().find(|table| !has_table(table)) {
            Some(table) => {
                apart.push((output.table.clone(), table));
                false
            }
            None => true,
        }
    });
    if !apart.is_empty() {
        plan.drop_unread();
    }
    apart
}

/// How often a plan refreshes for who asks so: what is asked for, else what fits the plan.
pub(crate) fn refresh_ms(
    request: &ScriptRequest,
    plan: &Plan,
    tick_ms: u64,
) -> Result<u64, PlanError> {
    match request.refresh_ms {
        None => Ok(plan.default_refresh_ms(tick_ms)),
        Some(wanted) if !(REFRESH_MS_MIN..=REFRESH_MS_MAX).contains(&wanted) => {
            Err(PlanError::Refresh)
        }
        Some(wanted) => Ok(wanted.div_ceil(tick_ms) * tick_ms),
    }
}

/// As [`prepare_within`], for callers that wait for the end.
pub fn prepare(
    request: &ScriptRequest,
    tick_ms: u64,
    now_unix_ns: Option<i64>,
    has_table: &dyn Fn(&str) -> bool,
) -> Result<Prepared, PlanError> {
    prepare_within(request, tick_ms, now_unix_ns, has_table, &Allowance::default())
}

/// The whole way. `tick_ms`: the server's tick; a refresh is a multiple of it.
pub fn prepare_within(
    request: &ScriptRequest,
    tick_ms: u64,
    now_unix_ns: Option<i64>,
    has_table: &dyn Fn(&str) -> bool,
    allowance: &Allowance,
) -> Result<Prepared, PlanError> {
    let (name, mut compiled) = compile(request, now_unix_ns, allowance)?;
    let mut outputs = output_infos(&compiled);
    let without_source = set_apart_without_source(&mut compiled.plan, has_table);
    if compiled.plan.outputs.is_empty()
        && let Some((_, table)) = without_source.first()
    {
        return Err(PlanError::NoSource { table: table.clone() });
    }
    let refresh_ms = refresh_ms(request, &compiled.plan, tick_ms)?;
    outputs.retain(|info| compiled.plan.outputs.iter().any(|o| o.table == info.table));
    let split = weir_pxl::split(&compiled.plan);
    let declared_tables =
        compiled.tracepoints.into_iter().map(|point| (point.table, point.relation)).collect();
    Ok(Prepared {
        name,
        identity: Arc::new(compiled.plan.identity()),
        plan: Arc::new(compiled.plan),
        split: Arc::new(split),
        outputs,
        refresh_ms,
        without_source,
        declared_tables,
        warnings: compiled.warnings,
    })
}

/// The output that is to be taken: the one that is named, or the only one.
///
/// # Errors
/// There is none of that name; or there are several, and none is named.
pub fn wanted_output<'a>(
    outputs: &'a [OutputInfo],
    table: Option<&str>,
) -> Result<&'a OutputInfo, String> {
    let found = match table {
        Some(table) => outputs.iter().find(|output| output.table == table),
        None if outputs.len() == 1 => outputs.first(),
        None => None,
    };
    found.ok_or_else(|| {
        let shown: Vec<&str> = outputs.iter().map(|output| output.table.as_str()).collect();
        let shown = shown.join("`, `");
        match table {
            Some(table) => format!("the script shows `{shown}`, not `{table}`"),
            None => format!("the script shows `{shown}`: name one with `table:`"),
        }
    })
}

/// What subscribers to one of the exports are told of it, of a script that was compiled for any of them.
#[must_use]
pub fn export_infos(compiled: &Compiled, at: usize) -> Vec<OutputInfo> {
    plan_of_export(compiled, at).map_or_else(Vec::new, |plan| infos_of(&plan, compiled, false))
}

/// What subscribers are told of each output.
#[must_use]
pub fn output_infos(compiled: &Compiled) -> Vec<OutputInfo> {
    infos_of(&compiled.plan, compiled, true)
}

/// `is_shown`: keys, windows and widgets are those of the plan's outputs.
fn infos_of(plan: &Plan, compiled: &Compiled, is_shown: bool) -> Vec<OutputInfo> {
    plan.outputs
        .iter()
        .enumerate()
        .map(|(number, output)| {
            let idx = if is_shown { number } else { usize::MAX };
            let (mut pane_ns, mut narrowest) = (0, None::<SlidingWindow>);
            visit_below(plan, output.op, |kind| {
                if let OpKind::Scan(Scan { window, .. }) = kind
                    && let Some(sliding) = window.sliding(None)
                {
                    pane_ns = pane_ns.max(sliding.pane_ns);
                    if narrowest.is_none_or(|window| sliding.window_ns < window.window_ns) {
                        narrowest = Some(sliding);
                    }
                }
            });
            OutputInfo {
                table: output.table.clone(),
                relation: plan.ops[output.op].relation.clone(),
                key: compiled.key.get(idx).cloned().unwrap_or_default(),
                window_from: compiled.window_text.get(idx).cloned().flatten().unwrap_or_default(),
                pane_ms: u64::try_from(pane_ns / 1_000_000).unwrap_or(0),
                window: narrowest,
                widgets: compiled.widgets.get(idx).cloned().unwrap_or_default(),
            }
        })
        .collect()
}

/// A script's arguments, as lists show them.
#[must_use]
pub fn arguments_json(vis: Option<&str>) -> serde_json::Value {
    let variables = vis.and_then(|vis| weir_pxl::vis::parse(vis).ok()).map(|vis| vis.variables);
    let arguments = variables.unwrap_or_default().into_iter().map(|variable| {
        let mut argument = serde_json::json!({
            "name": variable.name,
            "type": variable.kind,
            "description": variable.description,
        });
        if let Some(default) = variable.default {
            argument["default"] = default.into();
        }
        if !variable.valid_values.is_empty() {
            argument["validValues"] = variable.valid_values.into();
        }
        argument
    });
    arguments.collect()
}

/// Every function that is listed, or the one of that name even if it is not: what
/// `weir funcs -o json` prints.
#[must_use]
pub fn functions_json(name: Option<&str>) -> Vec<serde_json::Value> {
    weir_pxl::describe::describe()
        .into_iter()
        .filter(|function| name.map_or(!function.hidden, |name| function.name == name))
        .filter_map(|function| {
            let mut json = serde_json::to_value(&function).ok()?;
            json["signatures"] = function.signatures().into();
            Some(json)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use weir_types::testing::misfits;

    /// Of a script's outputs those go that read a table without a source, and with them all that only they
    /// read: no fragment waits for rows that cannot come. Catches operators without a reader.
    #[test]
    fn what_has_no_source_is_read_by_nobody() {
        let script = "import px\n\
            a = px.DataFrame('http_events', start_time='-1m')\n\
            px.display(a.groupby('req_path').agg(n=('latency', px.count)), 'a')\n\
            b = px.DataFrame('network_stats', start_time='-1m')\n\
            px.display(b.groupby('pod_id').agg(n=('rx_bytes', px.max)), 'b')\n\
            px.display(a.head(3), 'c')\n";
        for (denied, left) in [("network_stats", 2), ("http_events", 1), ("dns_events", 3)] {
            let request =
                super::ScriptRequest { text: Some(script.to_string()), ..Default::default() };
            let prepared = super::prepare(&request, 100, None, &|table| table != denied).unwrap();
            assert_eq!(prepared.plan.outputs.len(), left, "without {denied}");
            assert_eq!(prepared.without_source.len(), 3 - left);
            assert!(prepared.plan.scans().all(|(table, _)| table != denied));
            assert!(prepared.split.sources.iter().all(|source| source.table() != denied));
            assert_eq!(prepared.outputs.len(), left);
        }
    }

    /// Arguments are listed as the schema publishes them. Catches `valid_values`, which the page looked for
    /// while the server said `validValues`.
    #[test]
    fn arguments_are_what_is_published() {
        let text = include_str!("../../docs/api/messages.schema.json");
        let schema: serde_json::Value = serde_json::from_str(text).unwrap();
        let mut choices = 0;
        for script in weir_pxl::bundle::scripts() {
            for argument in super::arguments_json(script.vis).as_array().unwrap() {
                let part = &schema["$defs"]["ScriptArg"];
                assert_eq!(misfits(&schema, part, argument), [""; 0], "{}", script.name);
                choices += usize::from(argument["validValues"].is_array());
            }
        }
        assert!(choices > 0, "some argument has a list of choices");
    }
}
