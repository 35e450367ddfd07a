"""A seeded rows directory: every table, a small awkward cluster, processes and names.

Awkward on purpose: a host-network pod, two pods that had one IP, a deleted pod, one without a
service and one with two; ties and pane edges in `time_`, late and future rows, unknown processes,
addresses of services, of the outside and of nobody.
"""

import json
import random
import uuid
from pathlib import Path

from .schema import REGISTRY_FUNCTIONS, TABLE_FUNCTIONS, TABLES, TRACEPOINT_TABLES
from .values import time_to_text
from .world_payloads import Payloads

EPOCH_NS = 1767225600 * 10**9  # 2026-01-01T00:00:00Z
COUNTERS = {
    "process_stats": ["major_faults", "minor_faults", "cpu_utime_ns", "cpu_ktime_ns",
                      "rchar_bytes", "wchar_bytes", "read_bytes", "write_bytes"],
    "network_stats": ["rx_bytes", "rx_packets", "rx_errors", "rx_drops", "tx_bytes",
                      "tx_packets", "tx_errors", "tx_drops"],
    "jvm_stats": ["young_gc_time", "full_gc_time"],
    "conn_stats": ["conn_open", "conn_close", "bytes_sent", "bytes_recv"],
}
# namespace, name, node, IP, age in s, extra
PODS = [
    ("shop", "cart-5d9-aaa", 0, "10.1.0.11", 4000, {"owner": "cart-5d9"}),
    ("shop", "cart-5d9-bbb", 1, "10.1.1.11", 3000, {"owner": "cart-5d9"}),
    ("shop", "front-77f-ccc", 0, "10.1.0.12", 86400, {"owner": "front-77f", "two": True}),
    ("shop", "kafka-0", 1, "10.1.1.13", 5000, {}),
    ("shop", "old-5d9-zzz", 0, "10.1.0.14", 9000, {"deleted": 300, "owner": "cart-5d9"}),
    ("shop", "reborn-1", 0, "10.1.0.14", 250, {}),
    ("shop", "pending-1", 1, "", 60, {"phase": "Pending"}),
    ("default", "db-0", 1, "10.1.1.20", 700000, {"labels": {"app": "db", "a/b": 'q"x'}}),
    ("default", "lonely", 0, "10.1.0.21", 800, {}),
    ("default", "done-job", 0, "10.1.0.22", 800, {"phase": "Succeeded", "deleted": 100}),
    ("default", "crash", 1, "10.1.1.23", 800, {"phase": "Running", "waiting": True}),
    ("kube-system", "proxy-n0", 0, "192.168.0.10", 900000, {"host": True}),
    ("kube-system", "coredns-x", 1, "10.1.1.53", 900000, {}),
]
# namespace, name, cluster IP, members, extra
SERVICES = [
    ("shop", "cart", "10.96.0.10", ["cart-5d9-aaa", "cart-5d9-bbb", "old-5d9-zzz"], {}),
    ("shop", "front", "10.96.0.11", ["front-77f-ccc"], {"externalIPs": ["203.0.113.7"]}),
    ("shop", "front-admin", "10.96.0.12", ["front-77f-ccc"], {}),
    ("shop", "kafka", "None", ["kafka-0"], {}),
    ("default", "db", "10.96.0.20", ["db-0", "crash"], {}),
    ("kube-system", "dns", "10.96.0.2", ["coredns-x"], {}),
]
NODES = [("node-a", "192.168.0.10", "10.1.0.0/24", "4"), ("node-b", "192.168.0.11",
                                                         "10.1.1.0/24", "8")]
DNS = {"93.184.216.34": "example.com", "10.96.0.10": "cart.shop.svc.cluster.local",
       "8.8.8.8": "dns.google", "10.1.0.11": "cart-aaa.local"}


def _uid(*names):
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, "/".join(names)))


def _stamp(age_s):
    return time_to_text(EPOCH_NS + 600 * 10**9 - age_s * 10**9)[:19] + "Z"


class World:
    """Objects, processes and the values rows are drawn from."""

    def __init__(self, seed, span_s=720):
        self.random = random.Random(seed)
        self.span_ns = span_s * 10**9
        self.processes = []
        self.objects = []
        self._nodes_and_namespaces()
        self._pods()
        self._services()
        for index in range(4):  # processes outside Kubernetes
            self._process(index % 2, "", f"/usr/bin/host{index} --x 'y'")
        self.upids = [upid for upid, _ in self.processes]
        # The last is of the node that tracepoint rows, which have no process, seem to be of.
        self.unknown = [self._upid(9, pid, 5) for pid in (1, 2)] + [self._upid(0, 3, 5)]
        self.flows = self._flows()
        self.addresses = ([pod[3] for pod in PODS if pod[3]] * 4
                          + [service[2] for service in SERVICES if service[2] != "None"] * 2
                          + ["93.184.216.34", "8.8.8.8", "198.51.100.9"] * 3
                          + ["127.0.0.1", "127.0.0.2", "-", "0.0.0.0", "::1", "2001:db8::7",
                             "unix_socket:/run/x.sock", "192.168.0.10", ""])
        self.payloads = Payloads(self.random)

    def pod_ids(self):
        return [_uid("pod", pod[0], pod[1]) for pod in PODS]

    @staticmethod
    def _upid(asid, pid, start):
        return str(uuid.UUID(int=asid << 96 | pid << 64 | start))

    def _process(self, node, container, cmdline):
        pid = 100 + len(self.processes)
        upid = self._upid(node + 1, pid, 1000 + pid)
        self.processes.append((upid, {"upid": upid, "cmdline": cmdline, "container_id": container,
                                      "node": NODES[node][0]}))

    def _object(self, kind, namespace, name, age_s, **fields):
        meta = {"name": name, "uid": _uid(kind.lower(), namespace, name),
                "creationTimestamp": _stamp(age_s)}
        if namespace:
            meta["namespace"] = namespace
        meta.update(fields.pop("metadata", {}))
        self.objects.append({"apiVersion": "v1", "kind": kind, "metadata": meta, **fields})

    def _nodes_and_namespaces(self):
        for name, ip, cidr, cpus in NODES:
            self._object("Node", "", name, 10**6, spec={"podCIDR": cidr, "podCIDRs": [cidr]},
                         status={"capacity": {"cpu": cpus, "memory": "16Gi"},
                                 "addresses": [{"type": "InternalIP", "address": ip}]})
        for name in ("shop", "default", "kube-system", "empty"):
            self._object("Namespace", "", name, 10**6, status={"phase": "Active"})
        for name, deployment in (("cart-5d9", "cart"), ("front-77f", "front")):
            owner = {"kind": "Deployment", "name": deployment,
                     "uid": _uid("deployment", "shop", deployment), "controller": True}
            self._object("ReplicaSet", "shop", name, 90000, spec={"replicas": 2},
                         metadata={"ownerReferences": [owner]}, status={"replicas": 2})
            self._object("Deployment", "shop", deployment, 90001, spec={"replicas": 2},
                         status={"replicas": 2})

    def _pods(self):
        for namespace, name, node, ip, age, extra in PODS:
            statuses = []
            for container in ["main"] + (["side"] if extra.get("two") else []):
                container_id = _uid("container", name, container).replace("-", "") * 2
                state = {"running": {"startedAt": _stamp(age - 1)}}
                if extra.get("waiting"):
                    state = {"waiting": {"reason": "CrashLoopBackOff", "message": 'back "off"'}}
                elif extra.get("phase") == "Succeeded":
                    state = {"terminated": {"reason": "Completed", "exitCode": 0}}
                status = {"name": container, "state": state, "ready": "running" in state}
                if extra.get("phase") != "Pending":
                    status["containerID"] = f"containerd://{container_id}"
                    self._process(node, container_id, f"/bin/java -jar {container} --pod={name}")
                    if container == "main":
                        self._process(node, container_id, f"/bin/worker {name}")
                statuses.append(status)
            meta = {"labels": extra.get("labels", {"app": name})}
            if "deleted" in extra:
                meta["deletionTimestamp"] = _stamp(extra["deleted"])
            if "owner" in extra:
                meta["ownerReferences"] = [{
                    "kind": "ReplicaSet", "name": extra["owner"], "apiVersion": "apps/v1",
                    "uid": _uid("replicaset", "shop", extra["owner"])}]
            phase = extra.get("phase", "Running")
            status = {"phase": phase, "hostIP": NODES[node][1], "qosClass": "Burstable",
                      "containerStatuses": statuses, "conditions": [
                          {"type": "Ready", "status": str(phase == "Running")}]}
            if ip:
                status.update(podIP=ip, podIPs=[{"ip": ip}])
            if extra.get("waiting"):
                status.update(message="containers not ready", reason="ContainersNotReady")
            self._object("Pod", namespace, name, age, metadata=meta, status=status,
                         spec={"nodeName": NODES[node][0], "hostname": name,
                               "hostNetwork": bool(extra.get("host"))})

    def _services(self):
        places = {pod[1]: pod for pod in PODS}
        for namespace, name, ip, members, extra in SERVICES:
            self._object("Service", namespace, name, 10**5, spec={"clusterIP": ip, **extra})
            addresses = [{"ip": places[m][3], "targetRef": {
                "kind": "Pod", "name": m, "namespace": namespace,
                "uid": _uid("pod", namespace, m)}} for m in members]
            self._object("Endpoints", namespace, name, 10**5,
                         subsets=[{"addresses": addresses}, {"notReadyAddresses": []}])

    def _flows(self):
        """Recurring connections: the columns that rows of one share in every table."""
        owner = {}
        for upid, process in self.processes:
            for item in self.objects:
                for status in item.get("status", {}).get("containerStatuses", []):
                    if status.get("containerID", "").endswith(process["container_id"] or "-"):
                        owner[upid] = item
        ends = [(upid, pod["status"].get("podIP", "-")) for upid, pod in owner.items()]
        named = {item["metadata"]["name"]: upid for upid, item in owner.items()}
        flows = [{"upid": named["cart-5d9-aaa"], "local_addr": "10.1.0.11",
                  "remote_addr": "10.1.0.12", "remote_port": 0, "trace_role": 2}]
        for index in range(24):
            client, server = self.random.sample(ends, 2)
            port = 1024 + index
            flow = {"upid": client[0], "local_addr": client[1], "remote_addr": server[1],
                    "remote_port": port, "trace_role": 1}
            if index % 3 == 0:
                flow["remote_addr"] = self.random.choice(["93.184.216.34", "8.8.8.8", "10.96.0.10"])
            elif index % 3 == 1:
                flows.append({"upid": server[0], "local_addr": server[1],
                              "remote_addr": client[1], "remote_port": 0, "trace_role": 2})
            flows.append(flow)
        return flows

    def upid(self):
        if self.random.random() < 0.05:
            return self.random.choice(self.unknown)
        return self.random.choice(self.upids)

    def times(self, count):
        """(time_, arrival or None) pairs in arrival-unrelated order."""
        pairs = []
        for _ in range(count):
            roll, pick = self.random.random(), self.random
            time_ns = EPOCH_NS + pick.randrange(self.span_ns)
            if roll < 0.15:  # on an edge of a pane of any size, or one off it
                edge = pick.choice([10**8, 10**9, 10**10, 60 * 10**9])
                time_ns = time_ns // edge * edge + pick.choice([0, 0, 1, -1])
            elif roll < 0.3 and pairs:
                time_ns = pick.choice(pairs)[0]
            elif roll < 0.34:
                time_ns = EPOCH_NS - pick.randrange(10 * self.span_ns)
            arrival = None
            late = pick.random()
            if late < 0.2:
                arrival = time_ns + pick.choice([1, 10**8, pick.randrange(self.span_ns // 8)])
            elif late < 0.28:
                arrival = time_ns - pick.choice([1, 5 * 10**9, 10**10, 10**10 + 1, 11 * 10**9])
            pairs.append((time_ns, arrival))
        return pairs

    def rows(self, table, count):
        columns = TABLES.get(table) or TRACEPOINT_TABLES[table]
        counters = {}
        pairs = self.times(count)
        if table in COUNTERS:
            pairs.sort(key=lambda pair: pair[0])
        for index, (time_ns, arrival) in enumerate(pairs):
            row = {"time_": time_ns if index % 3 else time_to_text(time_ns)}
            if arrival is not None:
                row["_arrival_"] = arrival
            for name, kind in columns[1:]:
                row[name] = self._field(table, name, kind, row)
            if "remote_addr" in row and self.random.random() < 0.5:
                flow = self.random.choice(self.flows)
                row.update({name: value for name, value in flow.items() if name in row})
            self.payloads.fill(table, row)
            if table in COUNTERS:
                key = (row.get("upid"), row.get("pod_id"), row.get("remote_addr"))
                for name in COUNTERS[table]:
                    held = counters.setdefault((key, name), self.random.randrange(10**6))
                    step = self.random.choice([0, 1, self.random.randrange(10**6)])
                    counters[key, name] = row[name] = held + step
            yield row

    def _field(self, table, name, kind, row):
        pick = self.random
        if name == "upid":
            return self.upid()
        if name in ("remote_addr", "local_addr", "src_ip", "dst_ip"):
            return pick.choice(self.addresses)
        if name == "trace_role":
            return pick.choice([1, 2, 2, 1, 2, 4])
        if name == "pod_id":
            return pick.choice(self.pod_ids() + ["", "nobody"])
        if name == "latency":
            return pick.choice([0, 1, 5, 63, 64, 65, 10**6, -3, pick.randrange(10**9),
                                int(10 ** (pick.random() * 12))])
        if kind == "S":
            return pick.choice(["", "x", "é ü", 'quote " and \\', "a;b", f"{name}-v"])
        if kind == "B":
            return pick.random() < 0.5
        if kind == "U":
            return self.upid()
        if kind == "T":
            return EPOCH_NS + pick.randrange(self.span_ns)
        extreme = pick.choice([2**63 - 1, -(2**63), 2**53 + 1, -1]) if pick.random() < 0.02 else 0
        return extreme or pick.choice([0, 1, 2, 3, pick.randrange(70), pick.randrange(10**9)])

    def function_rows(self, name):
        for index in range(7):
            row = {column: self._field(name, column, kind, {})
                   for column, kind in TABLE_FUNCTIONS[name][1]}
            if "asid" in row:
                row["asid"] = index % 3 + 1
            if name == "GetAgentStatus":
                row["ip_address"] = self.random.choice(self.addresses) + ":56804"
                row["hostname"] = NODES[index % 2][0]
            if "state" in row:
                row["state"] = ["running", "pending", "failed"][index % 3]
            yield row


def _write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write(directory, seed, rows_per_table=300, metadata=True, span_s=720):
    """Writes a world; without metadata only tables."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    world = World(seed, span_s)
    for table in [*TABLES, *TRACEPOINT_TABLES]:
        _write(directory / f"{table}.jsonl", world.rows(table, rows_per_table))
    for name in TABLE_FUNCTIONS.keys() - REGISTRY_FUNCTIONS:
        _write(directory / f"{name}.jsonl", world.function_rows(name))
    if metadata:
        items = {"apiVersion": "v1", "kind": "List", "items": world.objects}
        (directory / "objects.json").write_text(json.dumps(items, indent=1))
        _write(directory / "processes.jsonl", (row for _, row in world.processes))
        (directory / "dns.json").write_text(json.dumps(DNS))


# Values for script arguments by the variable's name or type, drawn from this world.
ARGUMENTS = {
    "namespace": "shop", "pod": "shop/cart-5d9-aaa", "baseline_pod": "shop/front-77f-ccc",
    "requesting_pod": "shop/front-77f-ccc", "responding_pod": "shop/cart-5d9-aaa",
    "service": "shop/cart", "node": "node-a", "ip": "93.184.216.34",
    "query": "SELECT * FROM items WHERE id = $1",
}
FILLED = {
    **ARGUMENTS, "source_filter": "a", "destination_filter": "o", "topic": "orders",
    "requesting_svc": "shop/front", "responding_svc": "shop/cart", "svc": "shop/cart",
    "from_entity_filter": "cart", "to_entity_filter": "10.", "pod_filter": "cart",
    "query_filter": "shop", "dns_server_filter": "10", "ip_filter": "93.",
    "max_num_records": "7", "groupby": "pod", "pct_basis_entity": "pod", "producer": "cart",
    "consumer": "front", "command_filter": "x", "path_filter": "name", "asid": "2",
    "endpoint": "/items/*", "trace_id_filter": "4bf9", "start_time": "-11m",
    "req_path": "/items", "status_code": "404", "node_name": "node-a", "routing_key": "rk",
    "consumer_group_id": "grp-1", "query_name_filter": "shop", "filter_for_not_ssl": "true",
    "use_pixie_dns_resolution": "true", "source_connector_filter": "sock",
    "tracepoint_filter": "tp", "throughput_filter": "0.00001",
}
