//! Processes by UPID: who they are and which pod they belong to.

use std::cell::RefCell;

use arrow_array::ArrayRef;
use weir_types::metadata::{Address, MetadataSnapshot, PodMeta, ProcessMeta, reads};
use weir_types::{SemanticType, Upid};

use super::super::{ScalarDef, def, overloads};
use super::{coded, lookup, pods};
use crate::operand::Call;
use crate::output;
use crate::{Placement, json};

/// A function of a UPID that only its node can answer.
macro_rules! upid_lookup {
    ($name:literal => $result:ident, $kernel:expr, $doc:literal) => {
        lookup!($name, U => $result, "upid", $kernel, $doc).placed(Placement::Node)
    };
}

pub(in crate::scalar) const DEFS: &[ScalarDef] = &[
    def(
        "upid",
        overloads![I I => U, upid_here; I I I => U, upid_of],
        &["asid", "pid", "start_ticks"],
        "The UPID of a process, of this agent if none is given",
        "df.upid = px.upid(px.asid(), df.pid, df.start)",
    )
    .reads_context(),
    def(
        "upid_to_asid",
        overloads![U => I, upid_to_asid],
        &["upid"],
        "Short id of the process's agent",
        "df.asid = px.upid_to_asid(df.upid)",
    )
    .tag(SemanticType::Asid),
    def(
        "upid_to_pid",
        overloads![U => I, upid_to_pid],
        &["upid"],
        "Process id",
        "df.pid = px.upid_to_pid(df.upid)",
    ),
    def(
        "upid_to_start_ts",
        overloads![U => T, upid_to_start],
        &["upid"],
        "When the process started, in clock ticks after boot",
        "df.started = px.upid_to_start_ts(df.upid)",
    ),
    def(
        "upid_to_string",
        overloads![U => S, upid_to_string],
        &["upid"],
        "The UPID as asid:pid:start",
        "df.upid = px.upid_to_string(df.upid)",
    ),
    upid_lookup!("upid_to_container_id" => S, upid_to_container_id, "Id of the process's container"),
    upid_lookup!(
        "upid_to_container_name" => S, upid_to_container_name, "Name of the process's container"
    )
    .tag(SemanticType::ContainerName),
    upid_lookup!("upid_to_cmdline" => S, upid_to_cmdline, "Command line of the process"),
    upid_lookup!("upid_to_pod_id" => S, |call| of_pod(call, pods::push_id), "Id of the process's pod"),
    upid_lookup!(
        "upid_to_pod_name" => S, |call| of_pod(call, pods::push_name), "Pod of the process"
    )
    .tag(SemanticType::PodName),
    upid_lookup!(
        "upid_to_namespace" => S, |call| of_pod(call, pods::push_namespace),
        "Namespace of the process's pod"
    )
    .tag(SemanticType::NamespaceName),
    upid_lookup!(
        "upid_to_node_name" => S, |call| of_pod(call, pods::push_node),
        "Node of the process's pod"
    )
    .tag(SemanticType::NodeName),
    upid_lookup!(
        "upid_to_hostname" => S, |call| of_pod(call, pods::push_hostname),
        "Host name of the process's pod"
    ),
    upid_lookup!(
        "upid_to_service_id" => S, |call| of_pod(call, pods::push_service_ids),
        "Ids of the running services of the process's pod"
    ),
    upid_lookup!(
        "upid_to_service_name" => S, |call| of_pod(call, pods::push_service_names),
        "Running services of the process's pod"
    )
    .tag(SemanticType::ServiceName),
    upid_lookup!(
        "upid_to_replicaset_id" => S, |call| of_pod(call, pods::push_live_replicaset_id),
        "Id of the running replica set of the process's pod"
    ),
    upid_lookup!(
        "upid_to_replicaset_name" => S, |call| of_pod(call, pods::push_live_replicaset_name),
        "Running replica set of the process's pod"
    ),
    upid_lookup!(
        "upid_to_deployment_id" => S, |call| of_pod(call, pods::push_live_deployment_id),
        "Id of the running deployment of the process's pod"
    ),
    upid_lookup!(
        "upid_to_deployment_name" => S, |call| of_pod(call, pods::push_live_deployment_name),
        "Running deployment of the process's pod"
    ),
    upid_lookup!(
        "upid_to_pod_qos" => S, |call| of_pod(call, pods::push_qos),
        "Quality-of-service class of the process's pod"
    ),
    upid_lookup!("upid_to_pod_status" => S, upid_to_pod_status, "Status of the process's pod, JSON")
        .tag(SemanticType::PodStatus),
    def(
        "_upid_to_podname_local_addr_fallback",
        overloads![U S T => S, pod_name_or_local_addr],
        &["upid", "local_addr", "time"],
        "Pod of the process, else the pod that had the address at that time; what `ctx['pod']` \
         compiles to",
        "df.pod = df.ctx['pod']",
    )
    .reads_context()
    .tag(SemanticType::PodName)
    .placed(Placement::Node),
    upid_lookup!(
        "_upid_to_exec_hostname" => S, upid_to_exec_hostname,
        "Host that the process runs on; what `_exec_hostname` means for a row"
    ),
    upid_lookup!(
        "_upid_to_exec_num_cpus" => I, upid_to_exec_num_cpus,
        "CPUs of the host that the process runs on; what `_exec_host_num_cpus` means for a row"
    ),
    def(
        "_peer_upid",
        overloads![S I => U, peer_by_address; S I T => U, peer_by_address_at],
        &["remote_addr", "remote_port", "time"],
        "The process on this node at the other end of the row's connection, at the row's time or that \
         one; none where it is not known. Behind an aggregate: the process that has the address for \
         itself",
        "df.peer = px._peer_upid(df.remote_addr, df.remote_port, df.time_)",
    )
    .reads_context()
    .tag(SemanticType::Upid)
    .placed(Placement::Node),
    def(
        "_upid_to_connection_peer",
        overloads![U S I S I T => U, connection_peer],
        &["upid", "local_addr", "local_port", "remote_addr", "remote_port", "time"],
        "What `_peer_upid` means for a row that has both ends of its connection",
        "df.peer = px._peer_upid(df.remote_addr, df.remote_port)",
    )
    .reads_context()
    .tag(SemanticType::Upid)
    .placed(Placement::Node),
    def(
        "_upid_to_peer_met",
        overloads![U S I T => U, peer_met],
        &["upid", "remote_addr", "remote_port", "time"],
        "What `_peer_upid` means for a row that has only the other end of its connections",
        "df.peer = px._peer_upid(df.remote_addr, df.remote_port)",
    )
    .reads_context()
    .tag(SemanticType::Upid)
    .placed(Placement::Node),
    upid_lookup!(
        "shared_libraries" => S, shared_libraries,
        "Libraries mapped by the process, a JSON array; empty until they have been read"
    ),
];

fn upid_here(call: &Call<'_>) -> ArrayRef {
    let (pid, start) = (call.int(0), call.int(1));
    let asid = call.ctx.metadata.asid;
    output::u128s(call.rows, |row| Upid::new(asid, pid.get(row) as u32, start.get(row) as u64).0)
}
fn upid_of(call: &Call<'_>) -> ArrayRef {
    let (asid, pid, start) = (call.int(0), call.int(1), call.int(2));
    output::u128s(call.rows, |row| {
        Upid::new(asid.get(row) as u32, pid.get(row) as u32, start.get(row) as u64).0
    })
}

fn upid_to_asid(call: &Call<'_>) -> ArrayRef {
    let upid = call.u128(0);
    output::ints((0..call.rows).map(|row| i64::from(Upid(upid.get(row)).asid())).collect())
}
fn upid_to_pid(call: &Call<'_>) -> ArrayRef {
    let upid = call.u128(0);
    output::ints((0..call.rows).map(|row| i64::from(Upid(upid.get(row)).pid())).collect())
}
fn upid_to_start(call: &Call<'_>) -> ArrayRef {
    let upid = call.u128(0);
    output::times((0..call.rows).map(|row| Upid(upid.get(row)).start_ticks() as i64).collect())
}
fn upid_to_string(call: &Call<'_>) -> ArrayRef {
    let upid = call.u128(0);
    coded(
        call.rows,
        |row| upid.get(row),
        |upid, out| out.extend_from_slice(Upid(upid).to_string().as_bytes()),
    )
}

fn of_process(
    call: &Call<'_>,
    write: impl Fn(&MetadataSnapshot, &ProcessMeta, &mut Vec<u8>),
) -> ArrayRef {
    let upid = call.u128(0);
    let metadata = &*call.ctx.metadata;
    coded(
        call.rows,
        |row| upid.get(row),
        |upid, out| {
            if let Some(process) = metadata.process(Upid(upid)) {
                write(metadata, process, out);
            }
        },
    )
}

fn of_pod(call: &Call<'_>, write: impl Fn(&MetadataSnapshot, &PodMeta, &mut Vec<u8>)) -> ArrayRef {
    let upid = call.u128(0);
    let metadata = &*call.ctx.metadata;
    coded(
        call.rows,
        |row| upid.get(row),
        |upid, out| {
            if let Some(pod) = metadata.pod_of(Upid(upid)) {
                write(metadata, pod, out);
            }
        },
    )
}

fn upid_to_container_id(call: &Call<'_>) -> ArrayRef {
    of_process(call, |_, process, out| out.extend_from_slice(process.container_id.as_bytes()))
}
fn upid_to_container_name(call: &Call<'_>) -> ArrayRef {
    of_process(call, |metadata, process, out| {
        if let Some(container) = metadata.container(&process.container_id) {
            out.extend_from_slice(container.name.as_bytes());
        }
    })
}
fn upid_to_cmdline(call: &Call<'_>) -> ArrayRef {
    of_process(call, |_, process, out| out.extend_from_slice(process.cmdline.as_bytes()))
}

fn shared_libraries(call: &Call<'_>) -> ArrayRef {
    let upid = call.u128(0);
    let known = &call.ctx.metadata.libraries;
    let asked = RefCell::new(Vec::new());
    let texts = coded(
        call.rows,
        |row| upid.get(row),
        |upid, out| {
            // It is to be noted again and again, for as long as somebody wants to know.
            reads::note_always();
            asked.borrow_mut().push(Upid(upid));
            if let Some(text) = known.get(&Upid(upid)) {
                out.extend_from_slice(text.as_bytes());
            }
        },
    );
    call.ctx.wants.libraries_of(&asked.into_inner());
    texts
}

fn upid_to_pod_status(call: &Call<'_>) -> ArrayRef {
    let upid = call.u128(0);
    let metadata = &*call.ctx.metadata;
    coded(
        call.rows,
        |row| upid.get(row),
        |upid, out| pods::push_status(out, metadata.pod_of(Upid(upid)).map(|pod| &**pod)),
    )
}

fn pod_name_or_local_addr(call: &Call<'_>) -> ArrayRef {
    let (upid, addr, time) = (call.u128(0), call.str(1), call.int(2));
    let metadata = &*call.ctx.metadata;
    let name = |row| -> &str {
        let pod = metadata.pod_of(Upid(upid.get(row))).or_else(|| {
            let addr = std::str::from_utf8(addr.get(row)).ok()?;
            metadata.pod_by_ip(addr, Some(time.get(row)))
        });
        pod.map_or("", |pod| pod.name.as_str())
    };
    coded(call.rows, name, |name, out| out.extend_from_slice(name.as_bytes()))
}

fn upid_to_exec_hostname(call: &Call<'_>) -> ArrayRef {
    let upid = call.u128(0);
    let metadata = &*call.ctx.metadata;
    coded(
        call.rows,
        |row| upid.get(row),
        |upid, out| {
            let host = match metadata.process(Upid(upid)) {
                Some(process) => &process.node,
                // A process that is gone already, of the agent that made the snapshot.
                None if is_local(metadata, upid) => &metadata.hostname,
                None => return,
            };
            out.extend_from_slice(host.as_bytes());
        },
    )
}

fn upid_to_exec_num_cpus(call: &Call<'_>) -> ArrayRef {
    let upid = call.u128(0);
    let metadata = &*call.ctx.metadata;
    let cpus = |row| {
        reads::of_row(row);
        match metadata.process(Upid(upid.get(row))) {
            Some(process) => process.node_num_cpus,
            None if is_local(metadata, upid.get(row)) => metadata.num_cpus,
            None => 0,
        }
    };
    output::ints((0..call.rows).map(cpus).collect())
}

fn is_local(metadata: &MetadataSnapshot, upid: u128) -> bool {
    upid != 0 && Upid(upid).asid() == metadata.asid
}

fn peer_by_address(call: &Call<'_>) -> ArrayRef {
    let (addr, port) = (call.str(0), call.int(1));
    let user = |row| {
        reads::of_row(row);
        let address = Address::of_row(addr.get(row), port.get(row));
        call.ctx.metadata.user(address, None)
    };
    output::u128s(call.rows, |row| user(row).map_or(0, |upid| upid.0))
}

fn peer_by_address_at(call: &Call<'_>) -> ArrayRef {
    let (addr, port, time) = (call.str(0), call.int(1), call.int(2));
    let user = |row| {
        reads::of_row(row);
        let address = Address::of_row(addr.get(row), port.get(row));
        call.ctx.metadata.user(address, Some(time.get(row)))
    };
    output::u128s(call.rows, |row| user(row).map_or(0, |upid| upid.0))
}

fn connection_peer(call: &Call<'_>) -> ArrayRef {
    let (upid, time) = (call.u128(0), call.int(5));
    let (local_addr, local_port) = (call.str(1), call.int(2));
    let (remote_addr, remote_port) = (call.str(3), call.int(4));
    let peer = |row| {
        reads::of_row(row);
        let local = Address::of_row(local_addr.get(row), local_port.get(row));
        let remote = Address::of_row(remote_addr.get(row), remote_port.get(row));
        call.ctx.metadata.peer(Upid(upid.get(row)), local, remote, time.get(row))
    };
    output::u128s(call.rows, |row| peer(row).map_or(0, |upid| upid.0))
}

fn peer_met(call: &Call<'_>) -> ArrayRef {
    let (upid, addr, port, time) = (call.u128(0), call.str(1), call.int(2), call.int(3));
    let peer = |row| {
        reads::of_row(row);
        let remote = Address::of_row(addr.get(row), port.get(row));
        call.ctx.metadata.peer_met(Upid(upid.get(row)), remote, time.get(row))
    };
    output::u128s(call.rows, |row| peer(row).map_or(0, |upid| upid.0))
}

/// Kept here for the statuses of pods and containers.
pub(super) fn push_flag(out: &mut Vec<u8>, key: &str, value: bool) {
    out.push(b',');
    json::push_quoted(out, key.as_bytes());
    out.extend_from_slice(if value { b":true" } else { b":false" });
}
