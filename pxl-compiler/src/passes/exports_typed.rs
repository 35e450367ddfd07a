//! Afterwards every export names columns of types that OpenTelemetry can take, has units, and knows
//! which resource columns may hold lists.

use weir_types::{Relation, SemanticType};

use crate::codes::Code;
use crate::diag::{Diag, Findings};
use crate::export::{ExportSpec, OtelData, OtelValue};
use crate::ir::ExportIr;

/// The specification, completed by what the frame's columns are.
pub(crate) fn run(export: &ExportIr, relation: &Relation, findings: &Findings) -> ExportSpec {
    for need in &export.needs {
        let column = relation.columns.iter().find(|column| column.name == need.column.name);
        // What is missing was reported when the columns were selected.
        let Some(column) = column else { continue };
        if !need.types.contains(&column.data_type) {
            let wanted: Vec<&str> = need.types.iter().map(|each| each.name()).collect();
            let message = format!(
                "{} must be a column of type {}, '{}' is {}",
                need.what,
                wanted.join(" or "),
                column.name,
                column.data_type
            );
            findings.push(Diag::error(Code::Otel, need.column.span, message));
        }
    }
    let mut spec = export.spec.clone();
    let semantic = |name: &str| {
        relation.index_of(name).map_or(SemanticType::None, |idx| relation.columns[idx].semantic)
    };
    for attribute in &mut spec.resource {
        if let OtelValue::Column { name, json_array } = &mut attribute.value {
            *json_array = semantic(name) == SemanticType::ServiceName;
        }
    }
    for data in &mut spec.data {
        let (unit, column) = match data {
            OtelData::Gauge { unit, value, .. } => (unit, Some(&*value)),
            OtelData::Summary { unit, quantiles, .. } => {
                (unit, quantiles.first().map(|(_, column)| column))
            }
            OtelData::Span { .. } => continue,
        };
        let default = column.map_or("", |column| unit_of(semantic(column)));
        unit.get_or_insert_with(|| default.to_string());
    }
    spec
}

/// The unit of a value by its meaning, as UCUM writes it.
fn unit_of(semantic: SemanticType) -> &'static str {
    match semantic {
        SemanticType::DurationNs => "ns",
        SemanticType::Bytes => "By",
        SemanticType::Percent | SemanticType::ThroughputPerNs => "/ns",
        SemanticType::ThroughputBytesPerNs => "By/ns",
        _ => "",
    }
}
