//! Messages of rows: each becomes what its output's [`Spec`] says. Rows of one resource stand together.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use weir_types::json::{time_text, uuid_text};
use weir_types::{PackedRow, Value};

use crate::element::Described;

use super::message::{
    Any, AnyValue, Data, Gauge, KeyValue, Metric, MetricsRequest, NO_RECORDED_VALUE, Number,
    NumberPoint, Quantile, Resource, ResourceMetrics, ResourceSpans, Scope, ScopeMetrics,
    ScopeSpans, Span, Summary, SummaryPoint, TraceRequest,
};
use super::spec::{Attribute, Signal, Source, Spec};

/// Resources that one row may stand for.
const RESOURCES_PER_ROW_MAX: usize = 64;

/// A row as it is looked at.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) output: &'a Described,
    /// Of a row that has gone only the key's are known.
    pub(super) values: &'a [Value],
    pub(super) packed: &'a PackedRow,
    pub(super) time_unix_ns: u64,
    pub(super) is_gone: bool,
}

/// By the attributes of a resource, as they are told apart.
type ByResource<T> = BTreeMap<Vec<(String, String)>, (Resource, T)>;

/// What goes out in one request, or two.
#[derive(Default)]
pub(super) struct Made {
    /// Of a resource, by where they are declared (output, number).
    metrics: ByResource<BTreeMap<(u16, usize), Metric>>,
    spans: ByResource<Vec<Span>>,
    /// Resources that rows stand for beyond what one may.
    pub(super) left_out: u64,
}

fn any(value: &Value) -> Any {
    match value {
        Value::Boolean(value) => Any::Bool(*value),
        Value::Int64(value) => Any::Int(*value),
        Value::Float64(value) => Any::Double(*value),
        Value::String(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Any::Text(text.to_string()),
            Err(_) => Any::Bytes(bytes.clone()),
        },
        Value::Time64Ns(time) => Any::Text(time_text(*time)),
        Value::Uint128(value) => Any::Text(uuid_text(*value)),
    }
}

fn pair(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_string(), value: Some(AnyValue { value: Some(value) }) }
}

fn scope() -> Option<Scope> {
    let version = env!("CARGO_PKG_VERSION").to_string();
    Some(Scope { name: "weir".to_string(), version })
}

impl Row<'_> {
    fn column(&self, name: &str) -> Option<&Value> {
        self.values.get(self.output.info.relation.index_of(name)?)
    }

    fn source(&self, source: &Source) -> Option<Any> {
        match source {
            Source::Literal(text) => Some(Any::Text(text.clone())),
            Source::Column { name, .. } => self.column(name).map(any),
        }
    }

    fn attributes(&self, attributes: &[Attribute]) -> Vec<KeyValue> {
        let one =
            |attribute: &Attribute| Some(pair(&attribute.name, self.source(&attribute.value)?));
        attributes.iter().filter_map(one).collect()
    }

    /// The resources that it stands for, and how many more there would be.
    fn resources(&self, attributes: &[Attribute]) -> (Vec<Resource>, u64) {
        let (mut all, mut count) = (vec![Resource { attributes: Vec::new() }], 1usize);
        for attribute in attributes {
            let Some(value) = self.source(&attribute.value) else { continue };
            let names = match (&attribute.value, &value) {
                (Source::Column { is_json_array: true, .. }, Any::Text(text)) => names_in(text),
                _ => None,
            };
            let values: Vec<Any> = match names {
                Some(names) => names.into_iter().map(Any::Text).collect(),
                None => vec![value],
            };
            let with = |resource: &Resource, value: &Any| {
                let mut resource = resource.clone();
                resource.attributes.push(pair(&attribute.name, value.clone()));
                resource
            };
            count = count.saturating_mul(values.len());
            // No more are made than are kept.
            let more = all.iter().flat_map(|it| values.iter().map(move |value| with(it, value)));
            all = more.take(RESOURCES_PER_ROW_MAX).collect();
        }
        let left_out = count - all.len();
        (all, left_out as u64)
    }

    fn int(&self, name: &str) -> i64 {
        match self.column(name) {
            Some(Value::Int64(value) | Value::Time64Ns(value)) => *value,
            _ => 0,
        }
    }

    fn float(&self, name: &str) -> f64 {
        self.column(name).and_then(crate::series::number).unwrap_or(f64::NAN)
    }

    /// An id of so many bytes: what the column says in hex, or one that is always the same for this row.
    fn id(&self, column: Option<&String>, bytes: usize, made_for: &str) -> Vec<u8> {
        let said = column.and_then(|name| self.column(name)).and_then(|value| match value {
            Value::String(text) => from_hex(text, bytes),
            _ => None,
        });
        said.unwrap_or_else(|| {
            let mut hash = Sha256::new();
            hash.update(made_for.as_bytes());
            hash.update(&self.packed.0);
            hash.finalize()[..bytes].to_vec()
        })
    }
}

/// The names of a JSON array.
fn names_in(text: &str) -> Option<Vec<String>> {
    let names: Vec<String> = serde_json::from_str(text).ok()?;
    (!names.is_empty()).then_some(names)
}

/// Of exactly so many bytes, and not all zero.
fn from_hex(text: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let pairs = text.chunks_exact(2);
    if text.len() != 2 * bytes {
        return None;
    }
    let id: Option<Vec<u8>> =
        pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
    id.filter(|id| id.iter().any(|byte| *byte != 0))
}

/// What tells one resource from another.
fn print_of(resource: &Resource) -> Vec<(String, String)> {
    let one = |it: &KeyValue| (it.key.clone(), format!("{:?}", it.value));
    resource.attributes.iter().map(one).collect()
}

impl Made {
    pub(super) fn push(&mut self, spec: &Spec, row: Row<'_>) {
        let (resources, left_out) = row.resources(&spec.resource);
        self.left_out += left_out;
        for resource in resources {
            for (at, signal) in spec.signals.iter().enumerate() {
                match signal {
                    Signal::Span { .. } => self.push_span(signal, &resource, row),
                    _ => self.push_metric((row.output.input, at), signal, &resource, row),
                }
            }
        }
    }

    fn push_metric(
        &mut self,
        at: (u16, usize),
        signal: &Signal,
        resource: &Resource,
        row: Row<'_>,
    ) {
        let (_, metrics) = self
            .metrics
            .entry(print_of(resource))
            .or_insert_with(|| (resource.clone(), BTreeMap::new()));
        let time_unix_nano = row.time_unix_ns;
        match signal {
            Signal::Gauge { name, description, unit, value, attributes } => {
                let attributes = row.attributes(attributes);
                let flags = if row.is_gone { NO_RECORDED_VALUE } else { 0 };
                let value = match row.column(value) {
                    _ if row.is_gone => None,
                    Some(Value::Int64(value)) => Some(Number::Int(*value)),
                    _ => Some(Number::Double(row.float(value))),
                };
                let metric = metrics.entry(at).or_insert_with(|| {
                    let data = Data::Gauge(Gauge { data_points: Vec::new() });
                    metric(name, description, unit, data)
                });
                if let Some(Data::Gauge(gauge)) = &mut metric.data {
                    gauge.data_points.push(NumberPoint {
                        time_unix_nano,
                        value,
                        attributes,
                        flags,
                    });
                }
            }
            Signal::Summary { name, description, unit, count, sum, quantiles, attributes } => {
                let point = SummaryPoint {
                    time_unix_nano,
                    count: u64::try_from(row.int(count)).unwrap_or(0),
                    sum: row.float(sum),
                    quantile_values: quantiles
                        .iter()
                        .map(|(q, value)| Quantile { quantile: *q, value: row.float(value) })
                        .collect(),
                    attributes: row.attributes(attributes),
                };
                let metric = metrics.entry(at).or_insert_with(|| {
                    let data = Data::Summary(Summary { data_points: Vec::new() });
                    metric(name, description, unit, data)
                });
                if let Some(Data::Summary(summary)) = &mut metric.data {
                    summary.data_points.push(point);
                }
            }
            Signal::Span { .. } => {}
        }
    }

    fn push_span(&mut self, signal: &Signal, resource: &Resource, row: Row<'_>) {
        let Signal::Span { name, start_time, end_time, trace_id, span_id, parent_span_id, .. } =
            signal
        else {
            return;
        };
        let Signal::Span { kind, attributes, .. } = signal else { return };
        let print = print_of(resource);
        let time = |name: &str| u64::try_from(row.int(name)).unwrap_or(0);
        let parent = parent_span_id.as_ref().and_then(|name| match row.column(name) {
            Some(Value::String(text)) => from_hex(text, 8),
            _ => None,
        });
        let span = Span {
            trace_id: row.id(trace_id.as_ref(), 16, "trace"),
            span_id: row.id(span_id.as_ref(), 8, &format!("span{print:?}{name:?}")),
            parent_span_id: parent.unwrap_or_default(),
            name: match row.source(name) {
                Some(Any::Text(text)) => text,
                Some(Any::Bytes(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
                _ => String::new(),
            },
            kind: *kind,
            start_time_unix_nano: time(start_time),
            end_time_unix_nano: time(end_time),
            attributes: row.attributes(attributes),
        };
        self.spans.entry(print).or_insert_with(|| (resource.clone(), Vec::new())).1.push(span);
    }

    pub(super) fn into_requests(self) -> (Option<MetricsRequest>, Option<TraceRequest>) {
        let metrics: Vec<ResourceMetrics> = self
            .metrics
            .into_values()
            .map(|(resource, metrics)| {
                let metrics = metrics.into_values().collect();
                let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics }];
                ResourceMetrics { resource: Some(resource), scope_metrics }
            })
            .collect();
        let spans: Vec<ResourceSpans> = self
            .spans
            .into_values()
            .map(|(resource, spans)| {
                let scope_spans = vec![ScopeSpans { scope: scope(), spans }];
                ResourceSpans { resource: Some(resource), scope_spans }
            })
            .collect();
        let metrics = (!metrics.is_empty()).then_some(MetricsRequest { resource_metrics: metrics });
        let spans = (!spans.is_empty()).then_some(TraceRequest { resource_spans: spans });
        (metrics, spans)
    }
}

fn metric(name: &str, description: &str, unit: &str, data: Data) -> Metric {
    Metric {
        name: name.to_string(),
        description: description.to_string(),
        unit: unit.to_string(),
        data: Some(data),
    }
}
