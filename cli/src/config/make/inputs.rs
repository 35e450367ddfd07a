//! What a sink takes in: outputs that scripts display, or, for OpenTelemetry, what they export.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use weir_cluster::planner::{self, Allowance, PlanError, ScriptRequest};
use weir_cluster::service::{InputSpec, read_by};
use weir_pxl::{Compiled, Export, OtelAttribute, OtelData, OtelEndpoint, OtelValue, ViewIndex};
use weir_rules::file::reading;
use weir_sinks::delivery::OutputInfo;
use weir_sinks::otel::spec::{Attribute, Signal, Source, Spec};

use crate::config::bounded;
use crate::config::keys::{Input, Kind, SinkConfig};
use crate::script;

/// No script is longer; what is read of one.
const SCRIPT_BYTES_MAX: u64 = planner::SCRIPT_BYTES_MAX as u64;

/// Each is a reader of its own.
pub(super) const INPUTS_MAX: usize = 16;

/// What the inputs of a sink come to.
#[derive(Default)]
pub(super) struct Found {
    pub(super) specs: Vec<InputSpec>,
    /// Of each of them.
    pub(super) outputs: Vec<OutputInfo>,
    /// What becomes of rows of those that are exports.
    pub(super) exports: BTreeMap<u16, Spec>,
    /// Where the scripts say that exports go, if they do.
    pub(super) endpoints: Vec<OtelEndpoint>,
}

impl Found {
    pub(super) fn has_exports(&self) -> bool {
        !self.exports.is_empty()
    }
}

/// What all inputs of the sink of that name show. `views`: recorded ones, which they may read. A script is compiled
/// once, however many inputs and exports are of it.
pub(super) fn found(
    name: &str,
    config: &SinkConfig,
    base: &Path,
    views: &ViewIndex,
) -> Result<Found, String> {
    let (mut found, mut known) = (Found::default(), Vec::new());
    for input in &config.inputs {
        let request = request(name, input, base, views)?;
        // Without exports this is what it is without being asked for one.
        let export = (config.kind == Kind::Opentelemetry).then_some(0);
        let asked = ScriptRequest { export, ..request.clone() };
        let compiled = compiled(asked, &mut known)?;
        if export.is_none() || compiled.exports.is_empty() {
            let outputs = planner::output_infos(&compiled);
            let output = planner::wanted_output(&outputs, input.table.as_deref())?;
            found.outputs.push(output.clone());
            found.specs.push(InputSpec { request, table: input.table.clone() });
            continue;
        }
        if found.specs.len() + compiled.exports.len() > INPUTS_MAX {
            return Err(format!("a sink has 1 to {INPUTS_MAX} inputs, each export being one"));
        }
        for (at, export) in compiled.exports.iter().enumerate() {
            let request = ScriptRequest { export: Some(at), ..request.clone() };
            let number = u16::try_from(found.specs.len()).unwrap_or(u16::MAX);
            found.outputs.extend(planner::export_infos(&compiled, at));
            found.exports.insert(number, spec_of(export));
            if !export.endpoint.url.is_empty() {
                found.endpoints.push(export.endpoint.clone());
            }
            found.specs.push(InputSpec { request, table: None });
        }
    }
    if found.has_exports() && found.exports.len() < found.specs.len() {
        return Err("of the inputs, either all export (`px.export`) or none does".to_string());
    }
    Ok(found)
}

fn request(
    name: &str,
    input: &Input,
    base: &Path,
    views: &ViewIndex,
) -> Result<ScriptRequest, String> {
    let Input { script, text, file, view, func, args, table } = input;
    let text = match (script, text, file, view) {
        (Some(_), None, None, None) => None,
        (None, Some(text), None, None) => Some(text.clone()),
        (None, None, Some(file), None) => Some(bounded(&base.join(file), SCRIPT_BYTES_MAX)?),
        (None, None, None, Some(view)) => {
            if func.is_some() || table.is_some() || !args.is_empty() {
                return Err("an input `view` takes no `func`, `args` or `table`".to_string());
            }
            Some(of_view(view, views)?)
        }
        _ => return Err("an input is one of `script`, `text`, `file` and `view`".to_string()),
    };
    let args = args.iter().map(|(name, value)| (name.clone(), value.text())).collect();
    // Where views are listed, one that has no name of its own is called what it is for.
    let script = script.clone().or_else(|| Some(format!("sink {name}")));
    let func = func.clone();
    // Only those: when another one changes, the sink goes on.
    let views = text.as_deref().map(|text| read_by(views, text)).unwrap_or_default();
    Ok(ScriptRequest { script, text, func, args, views, ..ScriptRequest::default() })
}

fn of_view(view: &str, views: &ViewIndex) -> Result<String, String> {
    if !views.views().iter().any(|have| have.name == view) {
        return Err(format!("no rule of `rules` records a view `{view}`"));
    }
    Ok(reading(view))
}

fn said(error: &PlanError) -> String {
    match error.diagnostics().first() {
        Some(first) => format!("{error}: {}:{}: {}", first.line, first.column, first.message),
        None => error.to_string(),
    }
}

/// What was compiled for this sink.
type Known = Vec<(ScriptRequest, Rc<Compiled>)>;

fn compiled(request: ScriptRequest, known: &mut Known) -> Result<Rc<Compiled>, String> {
    if let Some((_, compiled)) = known.iter().find(|(have, _)| *have == request) {
        return Ok(Rc::clone(compiled));
    }
    let allowance =
        Allowance { deadline: Some(script::compile_deadline()), ..Allowance::default() };
    let compiled = planner::compile(&request, None, &allowance);
    let compiled = Rc::new(compiled.map_err(|error| said(&error))?.1);
    known.push((request, Rc::clone(&compiled)));
    Ok(compiled)
}

fn source(value: &OtelValue) -> Source {
    match value {
        OtelValue::Literal(text) => Source::Literal(text.clone()),
        OtelValue::Column { name, json_array } => {
            Source::Column { name: name.clone(), is_json_array: *json_array }
        }
    }
}

fn attributes(all: &[OtelAttribute]) -> Vec<Attribute> {
    let one = |it: &OtelAttribute| Attribute { name: it.name.clone(), value: source(&it.value) };
    all.iter().map(one).collect()
}

fn spec_of(export: &Export) -> Spec {
    Spec {
        resource: attributes(&export.resource),
        signals: export.data.iter().map(signal).collect(),
    }
}

fn signal(data: &OtelData) -> Signal {
    match data.clone() {
        OtelData::Gauge { name, description, unit, value, attributes: all } => Signal::Gauge {
            name,
            description,
            unit: unit.unwrap_or_default(),
            value,
            attributes: attributes(&all),
        },
        OtelData::Summary { name, description, unit, count, sum, quantiles, attributes: all } => {
            Signal::Summary {
                name,
                description,
                unit: unit.unwrap_or_default(),
                count,
                sum,
                quantiles,
                attributes: attributes(&all),
            }
        }
        OtelData::Span {
            name,
            start_time,
            end_time,
            trace_id,
            span_id,
            parent_span_id,
            kind,
            attributes: all,
        } => Signal::Span {
            name: source(&name),
            start_time,
            end_time,
            trace_id,
            span_id,
            parent_span_id,
            // In the order of OTLP's numbers.
            kind: kind as i32,
            attributes: attributes(&all),
        },
    }
}
