//! What rows become, as `px.export` declares it: names of columns are looked up once, for an output.

use weir_types::schema::Relation;
use weir_types::{DataType, SemanticType};

use crate::delivery::OutputInfo;

/// Where a text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Literal(String),
    Column {
        name: String,
        /// The text may be a JSON array of names: the row stands for one resource each.
        is_json_array: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub name: String,
    pub value: Source,
}

/// What one row becomes. Fields that name columns hold their names.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    Gauge {
        name: String,
        description: String,
        unit: String,
        value: String,
        attributes: Vec<Attribute>,
    },
    Summary {
        name: String,
        description: String,
        unit: String,
        count: String,
        sum: String,
        quantiles: Vec<(f64, String)>,
        attributes: Vec<Attribute>,
    },
    Span {
        name: Source,
        start_time: String,
        end_time: String,
        trace_id: Option<String>,
        span_id: Option<String>,
        parent_span_id: Option<String>,
        /// As OTLP numbers it.
        kind: i32,
        attributes: Vec<Attribute>,
    },
}

/// What the rows of one output become.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub resource: Vec<Attribute>,
    pub signals: Vec<Signal>,
}

fn column(name: &str) -> Source {
    Source::Column { name: name.to_string(), is_json_array: false }
}

/// OpenTelemetry's own names, where the column's meaning has one.
fn semantic_name(semantic: SemanticType) -> Option<&'static str> {
    Some(match semantic {
        SemanticType::ServiceName => "service.name",
        SemanticType::PodName => "k8s.pod.name",
        SemanticType::NamespaceName => "k8s.namespace.name",
        SemanticType::NodeName => "k8s.node.name",
        SemanticType::ContainerName => "k8s.container.name",
        _ => return None,
    })
}

fn unit(semantic: SemanticType) -> &'static str {
    match semantic {
        SemanticType::DurationNs => "ns",
        SemanticType::Bytes => "By",
        SemanticType::Percent => "1",
        SemanticType::ThroughputPerNs => "/ns",
        SemanticType::ThroughputBytesPerNs => "By/ns",
        _ => "",
    }
}

/// The columns of a key as attributes. The first of a meaning has OpenTelemetry's name for it.
fn attributes_of(relation: &Relation, key: &[String]) -> Vec<Attribute> {
    let mut attributes: Vec<Attribute> = Vec::new();
    for name in key {
        let found = relation.index_of(name).map(|at| relation.columns[at].semantic);
        let called = found.and_then(semantic_name).filter(|called| {
            attributes.iter().all(|have| have.name != *called) && !key.iter().any(|k| k == called)
        });
        let called = called.map_or_else(|| name.clone(), str::to_string);
        attributes.push(Attribute { name: called, value: column(name) });
    }
    attributes
}

/// A view without a declaration: each number that is not in its key is a gauge, with the key as attributes. Names
/// are kept as they are.
///
/// # Errors
/// It has no number.
pub fn gauges(service: &str, prefix: &str, info: &OutputInfo) -> Result<Spec, String> {
    let attributes = attributes_of(&info.relation, &info.key);
    let mut signals = Vec::new();
    for each in &info.relation.columns {
        let is_number =
            matches!(each.data_type, DataType::Int64 | DataType::Float64 | DataType::Boolean);
        if is_number && !info.key.contains(&each.name) {
            signals.push(Signal::Gauge {
                name: format!("{prefix}.{}", each.name),
                description: each.desc.clone(),
                unit: unit(each.semantic).to_string(),
                value: each.name.clone(),
                attributes: attributes.clone(),
            });
        }
    }
    if signals.is_empty() {
        return Err(format!("`{}` has no number that is not in its key", info.table));
    }
    let name =
        Attribute { name: "service.name".to_string(), value: Source::Literal(service.to_string()) };
    Ok(Spec { resource: vec![name], signals })
}
