//! What is known, as the snapshot that metadata functions read.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hashbrown::HashMap;
use weir_types::Upid;
use weir_types::metadata::{
    ContainerMeta, MetadataSnapshot, NamespaceMeta, PodMeta, ProcessMeta, ServiceMeta, SocketMeta,
};

use super::past::MakePart;
use super::sockets::SocketTable;
use super::{ProcessInfo, local_pod_id};

/// The facts about the machine that every snapshot repeats.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) asid: u32,
    pub(super) hostname: String,
    pub(super) num_cpus: i64,
    pub(super) boot_unix_ns: i64,
    pub(super) ticks_per_second: u64,
}

/// Builds what is over: beside the sockets that are there.
pub(super) struct Over<'a> {
    pub(super) machine: &'a Machine,
    pub(super) now: &'a SocketTable,
}

impl MakePart for Over<'_> {
    fn processes(&self, ended: &[Arc<ProcessInfo>]) -> MetadataSnapshot {
        self.machine.build(ended.iter(), true)
    }

    fn sockets(&self, closed: &[(SocketAddr, SocketMeta)]) -> MetadataSnapshot {
        let mut snapshot = MetadataSnapshot::default();
        let owners = closed.iter().copied();
        let now: HashMap<IpAddr, Upid> =
            self.now.owners().map(|(local, owned)| (local.ip(), owned.owner)).collect();
        let usable = |local: IpAddr, owner| {
            !self.now.is_machine_address(local) && now.get(&local).is_none_or(|have| *have == owner)
        };
        for (ip, owned) in add_owners(&mut snapshot, owners, usable) {
            let pod_id = local_pod_id(owned.owner.pid(), owned.owner.start_ticks());
            snapshot.pod_ips.insert(ip, vec![(owned.since_unix_ns, pod_id)]);
        }
        snapshot
    }
}

impl Machine {
    /// What is there: live processes and open sockets.
    pub(super) fn present<'a>(
        &self,
        processes: impl Iterator<Item = &'a Arc<ProcessInfo>>,
        sockets: &SocketTable,
    ) -> MetadataSnapshot {
        let mut snapshot = self.build(processes, false);
        let usable = |local, _| !sockets.is_machine_address(local);
        for (ip, owned) in add_owners(&mut snapshot, sockets.owners(), usable) {
            let pod_id = local_pod_id(owned.owner.pid(), owned.owner.start_ticks());
            if let Some(pod) = snapshot.pods.get_mut(&pod_id) {
                Arc::make_mut(pod).ip.clone_from(&ip);
                snapshot.pod_ips.insert(ip, vec![(pod.start_unix_ns, pod_id)]);
            }
        }
        snapshot
    }

    fn build<'a>(
        &self,
        processes: impl Iterator<Item = &'a Arc<ProcessInfo>>,
        ended: bool,
    ) -> MetadataSnapshot {
        let mut snapshot = MetadataSnapshot {
            asid: self.asid,
            hostname: self.hostname.clone(),
            num_cpus: self.num_cpus,
            ..MetadataSnapshot::default()
        };
        let mut pods: HashMap<String, PodMeta> = HashMap::new();
        for info in processes {
            self.add(&mut snapshot, &mut pods, info, ended);
        }
        snapshot.pods = pods.into_iter().map(|(id, pod)| (id, Arc::new(pod))).collect();
        snapshot
    }

    fn add(
        &self,
        snapshot: &mut MetadataSnapshot,
        pods: &mut HashMap<String, PodMeta>,
        info: &ProcessInfo,
        ended: bool,
    ) {
        let ProcessInfo { namespace, container_id, .. } = info;
        let pod_id = local_pod_id(info.pid, info.start_ticks);
        let start_unix_ns = self.start_unix_ns(info.start_ticks);
        let service_name = format!("{namespace}/{}", info.service);
        let service_id = format!("local-service-{service_name}");
        snapshot.processes.insert(
            info.upid,
            Arc::new(ProcessMeta {
                upid: info.upid,
                cmdline: info.cmdline.clone(),
                comm: info.comm.clone(),
                exe: info.exe.clone(),
                container_id: container_id.clone(),
                pod_id: pod_id.clone(),
                node: info.node.clone(),
                node_num_cpus: self.num_cpus,
            }),
        );
        snapshot.pod_names.insert(info.pod.clone(), pod_id.clone());
        snapshot.service_names.insert(service_name.clone(), service_id.clone());
        snapshot.services.entry(service_id.clone()).or_insert_with(|| {
            Arc::new(ServiceMeta {
                id: service_id.clone(),
                name: service_name,
                namespace: namespace.clone(),
                start_unix_ns,
                ..ServiceMeta::default()
            })
        });
        let name = namespace.clone();
        snapshot
            .namespaces
            .entry(name.clone())
            .or_insert_with(|| Arc::new(NamespaceMeta { id: name.clone(), name }));
        if !container_id.is_empty() {
            snapshot.container_names.insert(info.container.clone(), container_id.clone());
            snapshot.containers.insert(
                container_id.clone(),
                Arc::new(ContainerMeta {
                    id: container_id.clone(),
                    name: info.container.clone(),
                    pod_id: pod_id.clone(),
                    state: if ended { "Terminated" } else { "Running" }.to_string(),
                    start_unix_ns,
                    ..ContainerMeta::default()
                }),
            );
        }
        pods.insert(
            pod_id.clone(),
            PodMeta {
                id: pod_id,
                name: info.pod.clone(),
                namespace: namespace.clone(),
                node: info.node.clone(),
                hostname: info.node.clone(),
                start_unix_ns,
                // When exactly it ended is not known; that it did is in the phase.
                phase: if ended { "Terminated" } else { "Running" }.to_string(),
                ready: !ended,
                service_ids: vec![service_id],
                ..PodMeta::default()
            },
        );
    }

    /// When a process began that began so many ticks after boot.
    pub(super) fn start_unix_ns(&self, start_ticks: u64) -> i64 {
        let tick_ns = 1_000_000_000 / self.ticks_per_second.max(1);
        let since_boot_ns = start_ticks.saturating_mul(tick_ns);
        self.boot_unix_ns.saturating_add(i64::try_from(since_boot_ns).unwrap_or(i64::MAX))
    }
}

/// Adds sockets' owners; and gives the addresses that belong to one process alone: never the
/// machine's own, which everybody shares, whoever happens to use them now.
fn add_owners(
    snapshot: &mut MetadataSnapshot,
    owners: impl Iterator<Item = (SocketAddr, SocketMeta)>,
    usable: impl Fn(IpAddr, Upid) -> bool,
) -> Vec<(String, SocketMeta)> {
    let mut alone: HashMap<IpAddr, Option<SocketMeta>> = HashMap::new();
    for (local, owned) in owners {
        let ip = local.ip();
        if usable(ip, owned.owner) {
            let have = alone.entry(ip).or_insert(Some(owned));
            *have = have.filter(|have| have.owner == owned.owner).map(|have| SocketMeta {
                since_unix_ns: have.since_unix_ns.min(owned.since_unix_ns),
                ..have
            });
        }
        let of_socket = snapshot.sockets.entry((ip.to_string(), i64::from(local.port())));
        let of_socket = of_socket.or_default();
        let at = of_socket.partition_point(|have| have.since_unix_ns <= owned.since_unix_ns);
        of_socket.insert(at, owned);
    }
    let mut found = Vec::new();
    for (ip, owned) in alone {
        let Some(owned) = owned else { continue };
        // Port 0 stands for any: a peer of this address is that process, whatever its port.
        snapshot.sockets.insert((ip.to_string(), 0), vec![owned]);
        found.push((ip.to_string(), owned));
    }
    found
}
