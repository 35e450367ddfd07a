//! Services by id, name or address, and membership in the lists that other lookups give.

use arrow_array::ArrayRef;
use weir_types::SemanticType;
use weir_types::metadata::{MetadataSnapshot, ServiceMeta};

use super::super::{ScalarDef, def, overloads};
use super::{lookup, namespace_of, pods, push_array, text_of};
use crate::Placement;
use crate::json::{self, JsonKind};
use crate::operand::Call;
use crate::output;

pub(in crate::scalar) const DEFS: &[ScalarDef] = &[
    lookup!(
        "service_id_to_service_name", S => S, "service_id",
        |call| by_id(call, |service, out| out.extend_from_slice(service.name.as_bytes())),
        "Name of the service"
    )
    .tag(SemanticType::ServiceName),
    lookup!(
        "service_id_to_cluster_ip", S => S, "service_id",
        |call| by_id(call, |service, out| out.extend_from_slice(service.cluster_ip.as_bytes())),
        "Cluster address of the service"
    )
    .tag(SemanticType::IpAddress),
    lookup!(
        "service_id_to_external_ips", S => S, "service_id", |call| by_id(call, push_external_ips),
        "External addresses of the service, JSON"
    ),
    lookup!(
        "service_name_to_service_id", S => S, "service_name",
        |call| text_of(call, |metadata, name, out| {
            if let Some(id) = metadata.service_names.get(name) {
                out.extend_from_slice(id.as_bytes());
            }
        }),
        "Id of the service"
    ),
    def(
        "service_name_to_namespace",
        overloads![S => S, namespace],
        &["service_name"],
        "What stands before the `/` of the name",
        "df.namespace = px.service_name_to_namespace(df.service)",
    )
    .tag(SemanticType::NamespaceName),
    lookup!(
        "ip_to_service_id", S => S, "ip", ip_to_service_id,
        "Id of the service with that cluster address, else of the services of the pod that has it"
    )
    .placed(Placement::Cluster),
    def(
        "has_service_name",
        overloads![S S => B, has_value],
        &["service", "name"],
        "True if the service, or the JSON array of services, is or has the name",
        "df = df[px.has_service_name(df.service, 'shop/cart')]",
    ),
    def(
        "has_service_id",
        overloads![S S => B, has_value],
        &["service_id", "id"],
        "True if the id, or the JSON array of ids, is or has the other",
        "df = df[px.has_service_id(df.service_id, id)]",
    ),
    def(
        "has_value",
        overloads![S S => B, has_value],
        &["value_or_array", "value"],
        "True if the text, or the JSON array of texts, is or has the other",
        "df = df[px.has_value(df.tags, 'canary')]",
    ),
    lookup!(
        "namespace_name_to_namespace_id", S => S, "namespace",
        |call| text_of(call, |metadata, name, out| {
            if let Some(namespace) = metadata.namespaces.get(name) {
                out.extend_from_slice(namespace.id.as_bytes());
            }
        }),
        "Id of the namespace"
    ),
];

fn by_id(call: &Call<'_>, write: impl Fn(&ServiceMeta, &mut Vec<u8>)) -> ArrayRef {
    text_of(call, |metadata, id, out| {
        if let Some(service) = metadata.service(id) {
            write(service, out);
        }
    })
}

fn push_external_ips(service: &ServiceMeta, out: &mut Vec<u8>) {
    let mut ips: Vec<&str> = service.external_ips.iter().map(String::as_str).collect();
    ips.sort_unstable();
    push_array(out, &ips);
}

fn namespace(call: &Call<'_>) -> ArrayRef {
    text_of(call, |_, name, out| {
        out.extend_from_slice(namespace_of(name).unwrap_or_default().as_bytes());
    })
}

fn ip_to_service_id(call: &Call<'_>) -> ArrayRef {
    text_of(call, |metadata: &MetadataSnapshot, ip, out| {
        if let Some(id) = metadata.service_ips.get(ip) {
            out.extend_from_slice(id.as_bytes());
        } else if let Some(pod) = metadata.pod_by_ip(ip, None) {
            pods::push_service_ids(metadata, pod, out);
        }
    })
}

fn has_value(call: &Call<'_>) -> ArrayRef {
    let (texts, value) = (call.str(0), call.str(1));
    output::bools(call.rows, |row| is_or_has(texts.get(row), value.get(row)))
}

/// Membership if `texts` is a JSON array, else equality. What stands behind an element that is no
/// text does not count.
fn is_or_has(texts: &[u8], value: &[u8]) -> bool {
    // Names never begin like an array; this saves them the scan.
    let first = texts.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'[') {
        return texts == value;
    }
    let (mut found, mut all_texts) = (false, true);
    let mut decoded = Vec::new();
    let read = json::for_elements(texts, |token| {
        all_texts &= matches!(token.kind, JsonKind::Text { .. });
        if all_texts && !found {
            decoded.clear();
            json::push_text(&mut decoded, token);
            found = decoded == value;
        }
    });
    match read {
        Some(()) => found,
        None => texts == value,
    }
}
