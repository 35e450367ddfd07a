"""Lookups of processes, pods, services and their kin in a rows directory's metadata."""

import ipaddress

from .jsontext import parse_or, to_text
from .registry import scalar
from .values import time_from_text, wrap


def _text(value):
    return value.encode()


def several(values):
    """No value: empty; one: plain; more: a sorted JSON array."""
    values = sorted(set(values), key=lambda value: value.encode())
    if len(values) < 2:
        return _text(values[0]) if values else b""
    return _text(to_text(values))


# UPIDs

_U64 = (1 << 64) - 1
scalar("asid", ":I", contextual=True)(
    lambda env, upid: upid >> 96 if upid is not None else 0)
scalar("upid_to_asid", "U:I")(lambda upid: upid >> 96)
scalar("upid_to_pid", "U:I")(lambda upid: upid >> 64 & 0xFFFF_FFFF)
scalar("upid_to_start_ts", "U:T")(lambda upid: wrap(upid & _U64))
scalar("upid_to_string", "U:S")(
    lambda upid: b"%d:%d:%d" % (upid >> 96, upid >> 64 & 0xFFFF_FFFF, upid & _U64))
scalar("upid", "III:U")(
    lambda asid, pid, start: (asid & 0xFFFF_FFFF) << 96 | (pid & 0xFFFF_FFFF) << 64 | start & _U64)

# Offline there is no socket table to find a peer in.
scalar("_peer_upid", "SI:U", "SIT:U")(lambda address, port, time=0: 0)

# The executing host, which offline is the scanned row's process's


@scalar("_exec_hostname", ":S", contextual=True)
def exec_hostname(env, upid):
    return _text(env.metadata.processes.get(upid, ("", "", ""))[2])


@scalar("_exec_host_num_cpus", ":I", contextual=True)
def exec_host_num_cpus(env, upid):
    node = env.metadata.entity("Node", exec_hostname(env, upid).decode(), "name")
    return int(node.status.get("capacity", {}).get("cpu", 0)) if node else 0


@scalar("nslookup", "S:S", contextual=True)
def nslookup(env, _upid, ip):
    return _text(env.metadata.dns.get(ip.decode("utf-8", "replace"), "")) or ip


@scalar("get_cidrs", ":S", contextual=True)
def get_cidrs(env, _upid):
    pod_cidrs = []
    for node in env.metadata.by_kind["Node"]:
        cidrs = node.spec.get("podCIDRs") or [node.spec.get("podCIDR")]
        pod_cidrs += [cidr for cidr in cidrs if cidr]
    bridges = [f"{ipaddress.ip_network(cidr, strict=False)[1]}/32" for cidr in pod_cidrs]
    return _text(to_text(pod_cidrs + bridges))


# Entities by one of their keys: the getters take (metadata, entity)

_POD_TEXTS = {
    "pod_id": lambda m, pod: _text(pod.uid),
    "pod_name": lambda m, pod: _text(pod.name),
    "namespace": lambda m, pod: _text(pod.namespace),
    "node_name": lambda m, pod: _text(pod.spec.get("nodeName", "")),
    "hostname": lambda m, pod: _text(pod.spec.get("hostname", "")),
    "service_name": lambda m, pod: several(s.name for s in m.services_of_pod[pod.uid]),
    "service_id": lambda m, pod: several(s.uid for s in m.services_of_pod[pod.uid]),
    "pod_ip": lambda m, pod: _text(pod.status.get("podIP", "")),
    "owner_references": lambda m, pod: _text(pod.owner_references()),
    "pod_labels": lambda m, pod: _text(to_text(dict(sorted(pod.labels.items())))),
    "pod_qos": lambda m, pod: _text("k" + pod.status.get("qosClass", "")),
    "pod_status": lambda m, pod: _pod_status(pod),
    "status": lambda m, pod: _pod_status(pod),
    "replicaset_id": lambda m, pod: _text(_replicaset(m, pod, "uid")),
    "replicaset_name": lambda m, pod: _text(_replicaset(m, pod, "name")),
    "deployment_id": lambda m, pod: _text(_deployment(m, pod, "uid")),
    "deployment_name": lambda m, pod: _text(_deployment(m, pod, "name")),
}


def _pod_status(pod):
    return _text(to_text({
        "phase": pod.phase() if pod else "Unknown",
        "message": pod.status.get("message", "") if pod else "",
        "reason": pod.status.get("reason", "") if pod else "",
        "ready": pod.ready() if pod else False,
    }))


def _replicaset(metadata, pod, attribute):
    replicaset = metadata.entity("ReplicaSet", pod.owner_uid("ReplicaSet"), "id")
    return getattr(replicaset, attribute) if replicaset else ""


def _deployment(metadata, pod, attribute):
    replicaset = metadata.entity("ReplicaSet", pod.owner_uid("ReplicaSet"), "id")
    if replicaset is None:
        return ""
    deployment = metadata.entity("Deployment", replicaset.owner_uid("Deployment"), "id")
    return getattr(deployment, attribute) if deployment else ""


def _entity_lookup(name, kind, by, getter, miss):
    def lookup(env, _upid, key):
        entity = env.metadata.entity(kind, key.decode("utf-8", "replace"), by)
        return getter(env.metadata, entity) if entity else miss

    result = "T" if isinstance(miss, int) else "S"
    scalar(name, f"S:{result}", contextual=True)(lookup)


def _register_pods():
    for name, getter in _POD_TEXTS.items():
        if name in ("pod_ip", "owner_references", "pod_labels", "status"):
            continue
        miss = _pod_status(None) if name == "pod_status" else b""
        scalar(f"upid_to_{name}", "U:S", contextual=True, node_only=True)(
            _by_process(getter, miss))
    for by in ("id", "name"):
        for name, getter in _POD_TEXTS.items():
            miss = _pod_status(None) if name == "status" else b""
            _entity_lookup(f"pod_{by}_to_{name}", "Pod", by, getter, miss)
        _entity_lookup(f"pod_{by}_to_start_time", "Pod", by, lambda m, pod: pod.start, 0)
        _entity_lookup(f"pod_{by}_to_stop_time", "Pod", by, lambda m, pod: pod.stop, 0)


def _by_process(getter, miss):
    def lookup(env, _row_upid, upid):
        pod = env.metadata.pod_of_process(upid)
        return getter(env.metadata, pod) if pod else miss

    return lookup


_register_pods()


def _namespace_of_name(name):
    head, slash, _ = name.partition(b"/")
    return head if slash else b""


for _name in ("pod_name_to_namespace", "service_name_to_namespace",
              "replicaset_name_to_namespace", "deployment_name_to_namespace"):
    scalar(_name, "S:S")(_namespace_of_name)


@scalar("upid_to_container_id", "U:S", contextual=True, node_only=True)
def upid_to_container_id(env, _upid, upid):
    return _text(env.metadata.processes.get(upid, ("", "", ""))[1])


@scalar("upid_to_container_name", "U:S", contextual=True, node_only=True)
def upid_to_container_name(env, _upid, upid):
    container, _ = env.metadata.containers.get(upid_to_container_id(env, None, upid).decode(),
                                               ({}, None))
    return _text(container.get("name", ""))


@scalar("upid_to_cmdline", "U:S", contextual=True, node_only=True)
def upid_to_cmdline(env, _upid, upid):
    return _text(env.metadata.processes.get(upid, ("", "", ""))[0])


@scalar("_upid_to_podname_local_addr_fallback", "UST:S", contextual=True, node_only=True)
def podname_with_fallback(env, _upid, upid, address, time_ns):
    pod = env.metadata.pod_of_process(upid)
    if pod is None:
        pod = env.metadata.pod_with_ip(address.decode("utf-8", "replace"), time_ns)
    return _text(pod.name) if pod else b""


@scalar("ip_to_pod_id", "S:S", "ST:S", contextual=True)
def ip_to_pod_id(env, _upid, ip, time_ns=None):
    pod = env.metadata.pod_with_ip(ip.decode("utf-8", "replace"), time_ns)
    return _text(pod.uid) if pod else b""


@scalar("ip_to_service_id", "S:S", contextual=True)
def ip_to_service_id(env, _upid, ip):
    text = ip.decode("utf-8", "replace")
    service = env.metadata.service_with_ip(text)
    if service:
        return _text(service.uid)
    pod = env.metadata.pod_with_ip(text)
    return several(s.uid for s in env.metadata.services_of_pod[pod.uid]) if pod else b""


# Containers


def _container_status(container):
    if container is None:
        return _text(to_text({"state": "Unknown", "message": "", "reason": ""}))
    for key, state in (("running", "Running"), ("waiting", "Waiting"),
                       ("terminated", "Terminated")):
        if key in container.get("state", {}):
            detail = container["state"][key] or {}
            return _text(to_text({"state": state, "message": detail.get("message", ""),
                                  "reason": detail.get("reason", "")}))
    return _container_status(None)


@scalar("container_id_to_status", "S:S", contextual=True)
def container_id_to_status(env, _upid, container_id):
    return _container_status(
        env.metadata.containers.get(container_id.decode("utf-8", "replace"), (None, None))[0])


def _container_times(name, lookup):
    def start(env, _upid, key):
        container = lookup(env.metadata, key.decode("utf-8", "replace"))
        state = container.get("state", {}) if container else {}
        return container_time(state, "startedAt")

    def stop(env, _upid, key):
        container = lookup(env.metadata, key.decode("utf-8", "replace"))
        return container_time(container.get("state", {}) if container else {}, "finishedAt")

    scalar(f"{name}_to_start_time", "S:T", contextual=True)(start)
    scalar(f"{name}_to_stop_time", "S:T", contextual=True)(stop)


def container_time(state, key):
    text = next((detail[key] for detail in state.values() if detail and detail.get(key)), "")
    return time_from_text(text) if text else 0


_container_times("container_id", lambda m, key: m.containers.get(key, (None, None))[0])

# Services, deployments, namespaces

_SERVICE = {
    "service_name": lambda m, s: _text(s.name),
    "service_id": lambda m, s: _text(s.uid),
    "cluster_ip": lambda m, s: _text(s.spec.get("clusterIP", "")),
    "external_ips": lambda m, s: _text(to_text(s.spec.get("externalIPs") or [])),
}
for _key in ("service_name", "cluster_ip", "external_ips"):
    _entity_lookup(f"service_id_to_{_key}", "Service", "id", _SERVICE[_key], b"")
_entity_lookup("service_name_to_service_id", "Service", "name", _SERVICE["service_id"], b"")
_entity_lookup("namespace_name_to_namespace_id", "Namespace", "name",
               lambda m, n: _text(n.uid), b"")
for _kind, _label in (("ReplicaSet", "replicaset"), ("Deployment", "deployment")):
    for _by in ("id", "name"):
        _prefix = f"{_label}_{_by}_to_"
        _entity_lookup(_prefix + f"{_label}_name", _kind, _by, lambda m, e: _text(e.name), b"")
        _entity_lookup(_prefix + f"{_label}_id", _kind, _by, lambda m, e: _text(e.uid), b"")
        _entity_lookup(_prefix + "start_time", _kind, _by, lambda m, e: e.start, 0)
        _entity_lookup(_prefix + "stop_time", _kind, _by, lambda m, e: e.stop, 0)
    _entity_lookup(_prefix + "owner_references", _kind, "name",
                   lambda m, e: _text(e.owner_references()), b"")
    _entity_lookup(f"{_label}_id_to_owner_references", _kind, "id",
                   lambda m, e: _text(e.owner_references()), b"")
    _entity_lookup(f"{_label}_id_to_namespace", _kind, "id", lambda m, e: _text(e.namespace), b"")


def _deployment_of(attribute):
    def find(metadata, replicaset):
        deployment = metadata.entity("Deployment", replicaset.owner_uid("Deployment"), "id")
        return _text(getattr(deployment, attribute)) if deployment else b""

    return find


for _by in ("id", "name"):
    _entity_lookup(f"replicaset_{_by}_to_deployment_name", "ReplicaSet", _by,
                   _deployment_of("name"), b"")
    _entity_lookup(f"replicaset_{_by}_to_deployment_id", "ReplicaSet", _by,
                   _deployment_of("uid"), b"")


@scalar("has_service_name", "SS:B")
@scalar("has_service_id", "SS:B")
@scalar("has_value", "SS:B")
def has_value(values, wanted):
    listed = parse_or(values, None)
    if isinstance(listed, list):
        return wanted.decode("utf-8", "replace") in listed
    return values == wanted
