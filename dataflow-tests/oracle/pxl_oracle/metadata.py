"""The Kubernetes objects, processes and names of a rows directory, indexed for lookups.

Entities never change during a run. Pods are addressed by uid, `namespace/name` or IP; what is not
found is an empty text or zero, decided by the callers.
"""

import json
import uuid
from collections import defaultdict
from pathlib import Path

from .jsontext import to_text
from .values import time_from_text


def _time(text):
    return time_from_text(text) if text else 0


class Entity:
    """Any named object: uid, `namespace/name`, life time, owners."""

    def __init__(self, item):
        meta = item.get("metadata", {})
        self.item, self.uid = item, meta.get("uid", "")
        self.namespace = meta.get("namespace", "")
        self.short_name = meta.get("name", "")
        self.name = f"{self.namespace}/{self.short_name}" if self.namespace else self.short_name
        self.start = _time(meta.get("creationTimestamp"))
        self.stop = _time(meta.get("deletionTimestamp"))
        self.owners = meta.get("ownerReferences", [])
        self.labels = meta.get("labels", {})
        self.spec, self.status = item.get("spec", {}), item.get("status", {})

    def owner_references(self):
        return "[" + ",".join(
            to_text({"uid": o["uid"], "kind": o["kind"], "name": o["name"]}) for o in self.owners
        ) + "]"

    def owner_uid(self, kind):
        return next((owner["uid"] for owner in self.owners if owner["kind"] == kind), "")


class Pod(Entity):
    def phase(self):
        phase = self.status.get("phase", "Unknown")
        if self.stop and phase not in ("Failed", "Succeeded"):
            return "Terminated"
        return phase

    def ready(self):
        return any(c.get("type") == "Ready" and c.get("status") == "True"
                   for c in self.status.get("conditions", []))

    def containers(self):
        return self.status.get("containerStatuses", [])


class Metadata:
    """Empty without files; `processes` maps a UPID to (cmdline, container id, node)."""

    def __init__(self, directory):
        directory = Path(directory)
        self.by_kind = defaultdict(list)
        objects = directory / "objects.json"
        if objects.exists():
            for item in json.loads(objects.read_text())["items"]:
                kind = item["kind"]
                self.by_kind[kind].append(Pod(item) if kind == "Pod" else Entity(item))
        self.uids = {kind: {e.uid: e for e in entities} for kind, entities in self.by_kind.items()}
        self.named = {kind: {e.name: e for e in entities} for kind, entities in self.by_kind.items()}
        self.containers = {}  # container id -> (container status, pod)
        self.pods_by_ip = defaultdict(list)
        for pod in self.by_kind["Pod"]:
            for container in pod.containers():
                short = container.get("containerID", "").split("://")[-1]
                if short:
                    self.containers[short] = (container, pod)
            ip = pod.status.get("podIP")
            if ip and ip != pod.status.get("hostIP"):
                self.pods_by_ip[ip].append(pod)
        self.services_of_pod = self._services_of_pod()
        self.processes = self._processes(directory / "processes.jsonl")
        names = directory / "dns.json"
        self.dns = json.loads(names.read_text()) if names.exists() else {}

    def _services_of_pod(self):
        services = defaultdict(list)
        for endpoints in self.by_kind["Endpoints"]:
            service = self.named.get("Service", {}).get(endpoints.name)
            if service is None or service.stop:
                continue
            for subset in endpoints.item.get("subsets") or []:
                for address in subset.get("addresses") or []:
                    target = address.get("targetRef") or {}
                    if target.get("kind") == "Pod":
                        pod = self.named.get("Pod", {}).get(
                            f"{target.get('namespace', endpoints.namespace)}/{target.get('name')}")
                        if pod is not None and service not in services[pod.uid]:
                            services[pod.uid].append(service)
        return services

    @staticmethod
    def _processes(path):
        processes = {}
        if path.exists():
            for line in path.read_text().splitlines():
                if line.strip():
                    row = json.loads(line)
                    container = row.get("container_id", "").split("://")[-1]
                    processes[uuid.UUID(row["upid"]).int] = (
                        row.get("cmdline", ""), container, row.get("node", ""))
        return processes

    def entity(self, kind, key, by):
        index = self.uids if by == "id" else self.named
        if by == "name" and kind not in ("Namespace", "Node") and "/" not in key:
            return None
        return index.get(kind, {}).get(key)

    def pod_of_process(self, upid):
        container = self.processes.get(upid, ("", "", ""))[1]
        return self.containers.get(container, (None, None))[1]

    def pod_with_ip(self, ip, before=None):
        pods = [p for p in self.pods_by_ip.get(ip, []) if before is None or p.start <= before]
        return max(pods, key=lambda pod: pod.start, default=None)

    def service_with_ip(self, ip):
        return next((s for s in self.by_kind["Service"]
                     if s.spec.get("clusterIP") == ip and ip not in ("", "None")), None)
