//! The machine and the cluster that a function runs in.

use arrow_array::ArrayRef;
use weir_types::SemanticType;

use super::super::{ScalarDef, def, overloads};
use crate::operand::Call;
use crate::output;

pub(in crate::scalar) const DEFS: &[ScalarDef] = &[
    def(
        "asid",
        overloads![=> I, asid],
        &[],
        "Short id of the agent that runs the function",
        "df.asid = px.asid()",
    )
    .reads_context()
    .tag(SemanticType::Asid),
    def(
        "_exec_hostname",
        overloads![=> S, exec_hostname],
        &[],
        "Host name of the agent that runs the function",
        "df.host = px._exec_hostname()",
    )
    .reads_context(),
    def(
        "_exec_host_num_cpus",
        overloads![=> I, exec_host_num_cpus],
        &[],
        "CPUs of the host that runs the function",
        "df.cpus = px._exec_host_num_cpus()",
    )
    .reads_context(),
    def(
        "vizier_id",
        overloads![=> S, vizier_id],
        &[],
        "Id of the cluster",
        "df.cluster_id = px.vizier_id()",
    )
    .reads_context(),
    def(
        "vizier_name",
        overloads![=> S, vizier_name],
        &[],
        "Name of the cluster",
        "df.cluster = px.vizier_name()",
    )
    .reads_context(),
    def(
        "vizier_namespace",
        overloads![=> S, vizier_namespace],
        &[],
        "Namespace that the agents run in; empty outside Kubernetes",
        "df.namespace = px.vizier_namespace()",
    )
    .reads_context(),
];

fn asid(call: &Call<'_>) -> ArrayRef {
    output::ints(vec![i64::from(call.ctx.metadata.asid); call.rows])
}
fn exec_hostname(call: &Call<'_>) -> ArrayRef {
    output::strings(call.rows, |_, out| {
        out.extend_from_slice(call.ctx.metadata.hostname.as_bytes());
    })
}
fn exec_host_num_cpus(call: &Call<'_>) -> ArrayRef {
    output::ints(vec![call.ctx.metadata.num_cpus; call.rows])
}
fn vizier_id(call: &Call<'_>) -> ArrayRef {
    output::strings(call.rows, |_, out| {
        out.extend_from_slice(call.ctx.metadata.cluster_id.as_bytes());
    })
}
fn vizier_name(call: &Call<'_>) -> ArrayRef {
    output::strings(call.rows, |_, out| {
        out.extend_from_slice(call.ctx.metadata.cluster_name.as_bytes());
    })
}
fn vizier_namespace(call: &Call<'_>) -> ArrayRef {
    output::strings(call.rows, |_, _| {})
}
