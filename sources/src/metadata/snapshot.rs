//! What is known, as the snapshot that metadata functions read.

use std::sync::Arc;

use hashbrown::HashMap;
use weir_types::metadata::{
    ContainerMeta, MetadataSnapshot, NamespaceMeta, PodMeta, ProcessMeta, ServiceMeta,
};

use super::sockets::SocketTable;
use super::{ProcessInfo, local_pod_id};

pub(super) struct Builder<'a> {
    pub(super) asid: u32,
    pub(super) hostname: &'a str,
    pub(super) num_cpus: i64,
    pub(super) boot_unix_ns: i64,
    pub(super) ticks_per_second: u64,
}

impl Builder<'_> {
    /// `processes`: with whether they ended.
    pub(super) fn build<'a>(
        &self,
        processes: impl Iterator<Item = (&'a Arc<ProcessInfo>, bool)>,
        sockets: &SocketTable,
    ) -> MetadataSnapshot {
        let mut snapshot = MetadataSnapshot {
            asid: self.asid,
            hostname: self.hostname.to_string(),
            num_cpus: self.num_cpus,
            ..MetadataSnapshot::default()
        };
        let mut pods: HashMap<String, PodMeta> = HashMap::new();
        for (info, ended) in processes {
            self.add(&mut snapshot, &mut pods, info, ended);
        }
        self.add_sockets(&mut snapshot, &mut pods, sockets);
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

    /// Socket owners, and addresses that belong to one process alone: never the machine's own, which
    /// everybody shares, whoever happens to use them now.
    fn add_sockets(
        &self,
        snapshot: &mut MetadataSnapshot,
        pods: &mut HashMap<String, PodMeta>,
        sockets: &SocketTable,
    ) {
        let mut alone: HashMap<String, Option<weir_types::Upid>> = HashMap::new();
        for (local, owner) in sockets.owners() {
            let ip = local.ip().to_string();
            if !sockets.is_machine_address(local.ip()) {
                let owners = alone.entry(ip.clone()).or_insert(Some(owner));
                *owners = owners.filter(|have| *have == owner);
            }
            snapshot.sockets.insert((ip, i64::from(local.port())), owner);
        }
        for (ip, owner) in alone {
            let Some(owner) = owner else { continue };
            let pod_id = local_pod_id(owner.pid(), owner.start_ticks());
            // Port 0 stands for any: a peer of this address is that process, whatever its port.
            snapshot.sockets.insert((ip.clone(), 0), owner);
            if let Some(pod) = pods.get_mut(&pod_id) {
                pod.ip.clone_from(&ip);
                snapshot.pod_ips.insert(ip, vec![(pod.start_unix_ns, pod_id)]);
            }
        }
    }

    fn start_unix_ns(&self, start_ticks: u64) -> i64 {
        let tick_ns = 1_000_000_000 / self.ticks_per_second.max(1);
        let since_boot_ns = start_ticks.saturating_mul(tick_ns);
        self.boot_unix_ns.saturating_add(i64::try_from(since_boot_ns).unwrap_or(i64::MAX))
    }
}
