//! `df.ctx['key']`: which function of which key column answers it. The first key column that the
//! frame has is used.

use weir_types::{DataType, Relation, SemanticType};

use crate::codes::Code;
use crate::diag::{Diag, Res, Span};
use crate::hint;

/// One property: its names, its canonical name in functions, the key columns in order, its tag.
pub(crate) struct Property {
    pub(crate) keys: &'static [&'static str],
    pub(crate) property: &'static str,
    pub(crate) columns: &'static [&'static str],
    pub(crate) semantic: SemanticType,
}

pub(crate) const PROPERTIES: &[Property] = &[
    property(&["container_id"], "container_id", &["upid"], SemanticType::None),
    property(
        &["container_name", "container"],
        "container_name",
        &["upid"],
        SemanticType::ContainerName,
    ),
    property(
        &["service_id"],
        "service_id",
        &["upid", "service_name", "pod_id", "pod_name"],
        SemanticType::None,
    ),
    property(
        &["service_name", "service"],
        "service_name",
        &["upid", "service_id", "pod_id", "pod_name"],
        SemanticType::ServiceName,
    ),
    property(&["pod_id"], "pod_id", &["upid", "pod_name"], SemanticType::None),
    property(&["pod_name", "pod"], "pod_name", &["upid", "pod_id"], SemanticType::PodName),
    property(
        &["deployment_id"],
        "deployment_id",
        &["upid", "deployment_name", "pod_id", "pod_name", "replicaset_id", "replicaset_name"],
        SemanticType::None,
    ),
    property(
        &["deployment_name", "deployment"],
        "deployment_name",
        &["upid", "deployment_id", "pod_id", "pod_name", "replicaset_id", "replicaset_name"],
        SemanticType::None,
    ),
    property(
        &["replicaset_id", "replica_set_id"],
        "replicaset_id",
        &["upid", "pod_id", "pod_name", "replicaset_name"],
        SemanticType::None,
    ),
    property(
        &["replicaset_name", "replica_set", "replicaset"],
        "replicaset_name",
        &["upid", "pod_id", "pod_name", "replicaset_id"],
        SemanticType::None,
    ),
    property(
        &["namespace"],
        "namespace",
        &["upid", "pod_id", "pod_name", "service_name"],
        SemanticType::NamespaceName,
    ),
    property(&["node_name", "node"], "node_name", &["upid", "pod_id"], SemanticType::NodeName),
    property(&["hostname", "host"], "hostname", &["upid"], SemanticType::None),
    property(&["cmdline", "cmd"], "cmdline", &["upid"], SemanticType::None),
    property(&["asid"], "asid", &["upid"], SemanticType::Asid),
    property(&["pid"], "pid", &["upid"], SemanticType::None),
];

const fn property(
    keys: &'static [&'static str],
    property: &'static str,
    columns: &'static [&'static str],
    semantic: SemanticType,
) -> Property {
    Property { keys, property, columns, semantic }
}

/// The call that answers a key.
#[derive(Debug, PartialEq)]
pub(crate) struct Lookup {
    pub(crate) func: String,
    /// Argument columns, by position.
    pub(crate) columns: Vec<usize>,
    pub(crate) semantic: SemanticType,
}

/// True for the names that `df.ctx` knows.
pub(crate) fn is_key(name: &str) -> bool {
    PROPERTIES.iter().any(|property| property.keys.contains(&name))
}

pub(crate) fn resolve(key: &str, relation: &Relation, span: Span) -> Res<Lookup> {
    let Some(found) = PROPERTIES.iter().find(|property| property.keys.contains(&key)) else {
        let keys = PROPERTIES.iter().flat_map(|property| property.keys.iter().copied());
        let all = "keys are pod, service, namespace, node, container, cmdline, pid and the like";
        let hint = hint::did_you_mean(key, keys, all);
        let message = format!("'{key}' unavailable metadata key.");
        return Err(Diag::error(Code::MetadataKey, span, message).hint(hint).into());
    };
    let key_column =
        found.columns.iter().find_map(|name| relation.index_of(name).map(|idx| (*name, idx)));
    let Some((name, idx)) = key_column else {
        let needed = found.columns.join(", ");
        let message = format!(
            "Can't resolve metadata key '{key}': the frame has none of its key columns [{needed}]."
        );
        let hint = "take the metadata before the column is dropped or aggregated away";
        return Err(Diag::error(Code::MetadataKeyColumn, span, message).hint(hint).into());
    };
    // With an address and a time, a process that is not known falls back to the pod of the address.
    if (name, found.property) == ("upid", "pod_name")
        && let (Some(address), Some(time)) = (relation.index_of("local_addr"), relation.time_idx())
        && relation.columns[address].data_type == DataType::String
    {
        return Ok(Lookup {
            func: "_upid_to_podname_local_addr_fallback".to_string(),
            columns: vec![idx, address, time],
            semantic: found.semantic,
        });
    }
    Ok(Lookup {
        func: format!("{name}_to_{}", found.property),
        columns: vec![idx],
        semantic: found.semantic,
    })
}
