//! What a sink takes in: outputs that scripts display, or, for OpenTelemetry, what they export.

use std::collections::BTreeMap;
use std::path::Path;

use weir_cluster::planner::{self, Allowance, PlanError, ScriptRequest};
use weir_cluster::service::{InputSpec, read_by};
use weir_pxl::{Compiled, Export, NamedView, OtelAttribute, OtelData, OtelEndpoint, OtelValue};
use weir_sinks::delivery::OutputInfo;
use weir_sinks::otel::spec::{Attribute, Signal, Source, Spec};

use crate::config::bounded;
use crate::config::keys::{Input, Kind, SinkConfig};
use crate::script;

/// No script is longer; what is read of one.
const SCRIPT_BYTES_MAX: u64 = planner::SCRIPT_BYTES_MAX as u64;

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

/// What all inputs show. `views`: recorded ones, which they may read.
pub(super) fn found(
    config: &SinkConfig,
    base: &Path,
    views: &[NamedView],
) -> Result<Found, String> {
    let mut found = Found::default();
    for input in &config.inputs {
        let request = request(input, base, views)?;
        let exports = match config.kind {
            Kind::Opentelemetry => exports_of(&request)?,
            _ => Vec::new(),
        };
        if exports.is_empty() {
            let compiled = compiled(&request)?;
            let outputs = planner::output_infos(&compiled);
            let output = planner::wanted_output(&outputs, input.table.as_deref())?;
            found.outputs.push(output.clone());
            found.specs.push(InputSpec { request, table: input.table.clone() });
            continue;
        }
        for (at, export) in exports.into_iter().enumerate() {
            let request = ScriptRequest { export: Some(at), ..request.clone() };
            let number = u16::try_from(found.specs.len()).unwrap_or(u16::MAX);
            found.outputs.extend(planner::output_infos(&compiled(&request)?));
            found.exports.insert(number, spec_of(&export));
            if !export.endpoint.url.is_empty() {
                found.endpoints.push(export.endpoint);
            }
            found.specs.push(InputSpec { request, table: None });
        }
    }
    if found.has_exports() && found.exports.len() < found.specs.len() {
        return Err("of the inputs, either all export (`px.export`) or none does".to_string());
    }
    Ok(found)
}

fn request(input: &Input, base: &Path, views: &[NamedView]) -> Result<ScriptRequest, String> {
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
    let (script, func) = (script.clone(), func.clone());
    // Only those: when another one changes, the sink goes on.
    let views = text.as_deref().map(|text| read_by(views, text)).unwrap_or_default();
    Ok(ScriptRequest { script, text, func, args, views, ..ScriptRequest::default() })
}

/// The script that shows a recorded view as it is.
fn of_view(view: &str, views: &[NamedView]) -> Result<String, String> {
    if !views.iter().any(|have| have.name == view) {
        return Err(format!("no rule of `rules` records a view `{view}`"));
    }
    Ok(format!("import px\npx.display(px.DataFrame('{view}'), '{view}')\n"))
}

fn said(error: &PlanError) -> String {
    match error.diagnostics().first() {
        Some(first) => format!("{error}: {}:{}: {}", first.line, first.column, first.message),
        None => error.to_string(),
    }
}

fn compiled(request: &ScriptRequest) -> Result<Compiled, String> {
    let allowance =
        Allowance { deadline: Some(script::compile_deadline()), ..Allowance::default() };
    let compiled = planner::compile(request, None, &allowance);
    Ok(compiled.map_err(|error| said(&error))?.1)
}

/// What a script exports, if it does.
fn exports_of(request: &ScriptRequest) -> Result<Vec<Export>, String> {
    let request = ScriptRequest { export: Some(0), ..request.clone() };
    Ok(compiled(&request)?.exports)
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
