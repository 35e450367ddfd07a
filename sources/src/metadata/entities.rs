//! Processes as the entities that scripts ask about: a pod each, services, containers and namespaces
//! as long as a process of theirs is remembered. Every change touches the entries of one process.

use std::sync::Arc;

use hashbrown::HashMap;
use weir_types::metadata::{
    ContainerMeta, MetadataSnapshot, NamespaceMeta, PodMeta, ProcessMeta, ServiceMeta, SharedMap,
};

use super::{Machine, ProcessInfo};

/// Processes that belong to something.
#[derive(Clone, Copy, Debug, Default)]
struct Members {
    all: usize,
    live: usize,
}

type Count = HashMap<String, Members, foldhash::fast::FixedState>;

#[derive(Debug, Default)]
pub(super) struct Entities {
    machine: Machine,
    services: Count,
    containers: Count,
    namespaces: Count,
}

fn service_name(info: &ProcessInfo) -> String {
    format!("{}/{}", info.namespace, info.service)
}

fn service_id(name: &str) -> String {
    format!("local-service-{name}")
}

/// Adds (1) or takes away (-1) a process; `None` once nothing is left.
fn count(members: &mut Count, key: &str, live: bool, by: isize) -> Option<Members> {
    let entry = members.entry_ref(key).or_default();
    entry.all = entry.all.saturating_add_signed(by);
    entry.live = entry.live.saturating_add_signed(if live { by } else { 0 });
    let now = *entry;
    if now.all == 0 {
        members.remove(key);
        return None;
    }
    Some(now)
}

/// Removes a name if it still stands for this id.
fn unname(names: &mut SharedMap<String, String>, name: &str, id: &str) {
    if names.get(name).is_some_and(|have| have == id) {
        names.remove(name);
    }
}

impl Entities {
    pub(super) fn new(machine: Machine) -> Entities {
        Entities { machine, ..Entities::default() }
    }

    pub(super) fn empty_snapshot(&self) -> MetadataSnapshot {
        let Machine { asid, num_cpus, .. } = self.machine;
        let hostname = self.machine.hostname.clone();
        MetadataSnapshot { asid, hostname, num_cpus, ..MetadataSnapshot::default() }
    }

    /// When the process began.
    pub(super) fn start_unix_ns(&self, info: &ProcessInfo) -> i64 {
        self.machine.start_unix_ns(info.upid.start_ticks())
    }

    /// Puts a process in that is not there. `of_pod`: it is one of that pod's, and stands for none.
    pub(super) fn add(
        &mut self,
        to: &mut MetadataSnapshot,
        info: &ProcessInfo,
        ended: bool,
        of_pod: Option<&str>,
    ) {
        if let Some(pod_id) = of_pod {
            to.processes.insert(info.upid, Arc::new(self.process(info, pod_id, ended)));
            return;
        }
        let (pod_id, pod_name) = (info.pod_id(), info.pod());
        let start_unix_ns = self.start_unix_ns(info);
        to.processes.insert(info.upid, Arc::new(self.process(info, &pod_id, ended)));
        to.pod_names.insert(pod_name.clone(), pod_id.clone());
        let name = service_name(info);
        let id = service_id(&name);
        to.pods.insert(pod_id.clone(), Arc::new(self.pod(info, pod_name, &id, ended)));
        count(&mut self.services, &name, !ended, 1);
        if !to.services.contains_key(&id) {
            let namespace = info.namespace.clone();
            let (id, name) = (id.clone(), name.clone());
            let service =
                ServiceMeta { id, name, namespace, start_unix_ns, ..ServiceMeta::default() };
            to.services.insert(service.id.clone(), Arc::new(service));
        }
        to.service_names.insert(name, id);
        let name = &info.namespace;
        count(&mut self.namespaces, name, !ended, 1);
        if !to.namespaces.contains_key(name) {
            let meta = NamespaceMeta { id: name.clone(), name: name.clone() };
            to.namespaces.insert(name.clone(), Arc::new(meta));
        }
        if !info.container_id.is_empty() {
            let members = count(&mut self.containers, &info.container_id, !ended, 1);
            put_container(to, info, pod_id, start_unix_ns, members);
        }
    }

    /// Takes a process out that was added just so.
    pub(super) fn remove(
        &mut self,
        from: &mut MetadataSnapshot,
        info: &ProcessInfo,
        ended: bool,
        is_pods: bool,
    ) {
        from.processes.remove(&info.upid);
        if is_pods {
            return;
        }
        let (pod_id, pod_name) = (info.pod_id(), info.pod());
        from.pods.remove(&pod_id);
        unname(&mut from.pod_names, &pod_name, &pod_id);
        let name = service_name(info);
        if count(&mut self.services, &name, !ended, -1).is_none() {
            let id = service_id(&name);
            from.services.remove(&id);
            unname(&mut from.service_names, &name, &id);
        }
        if count(&mut self.namespaces, &info.namespace, !ended, -1).is_none() {
            from.namespaces.remove(&info.namespace);
        }
        if info.container_id.is_empty() {
            return;
        }
        let id = &info.container_id;
        match count(&mut self.containers, id, !ended, -1) {
            None => {
                from.containers.remove(id);
                unname(&mut from.container_names, &info.container, id);
            }
            Some(members) => {
                // Where it belongs and since when stays as it is.
                let Some(have) = from.containers.get(id) else { return };
                let meta = ContainerMeta { state: state(members), ..(**have).clone() };
                from.containers.insert(id.clone(), Arc::new(meta));
            }
        }
    }

    fn process(&self, info: &ProcessInfo, pod_id: &str, ended: bool) -> ProcessMeta {
        ProcessMeta {
            upid: info.upid,
            cmdline: info.cmdline.clone(),
            comm: info.comm.clone(),
            exe: info.exe.clone(),
            container_id: info.container_id.clone(),
            pod_id: pod_id.to_string(),
            node: self.machine.hostname.clone(),
            node_num_cpus: self.machine.num_cpus,
            netns: info.netns,
            ended,
        }
    }

    fn pod(&self, info: &ProcessInfo, name: String, service_id: &str, ended: bool) -> PodMeta {
        PodMeta {
            id: info.pod_id(),
            name,
            namespace: info.namespace.clone(),
            node: self.machine.hostname.clone(),
            hostname: self.machine.hostname.clone(),
            start_unix_ns: self.start_unix_ns(info),
            // When exactly it ended is not known; that it did is in the phase.
            phase: if ended { "Terminated" } else { "Running" }.to_string(),
            ready: !ended,
            service_ids: vec![service_id.to_string()],
            ..PodMeta::default()
        }
    }
}

/// A container is over with its last process.
fn state(members: Members) -> String {
    if members.live > 0 { "Running" } else { "Terminated" }.to_string()
}

/// It began with its first process, and belongs to that one's pod.
fn put_container(
    to: &mut MetadataSnapshot,
    info: &ProcessInfo,
    pod_id: String,
    start_unix_ns: i64,
    members: Option<Members>,
) {
    let (id, name) = (info.container_id.clone(), info.container.clone());
    let have = to.containers.get(&id).filter(|have| to.pods.contains_key(&have.pod_id));
    let (pod_id, start_unix_ns) = match have.filter(|have| have.start_unix_ns <= start_unix_ns) {
        Some(have) => (have.pod_id.clone(), have.start_unix_ns),
        None => (pod_id, start_unix_ns),
    };
    let state = state(members.unwrap_or_default());
    to.container_names.insert(name.clone(), id.clone());
    let meta = ContainerMeta { id, name, pod_id, state, start_unix_ns, ..ContainerMeta::default() };
    to.containers.insert(meta.id.clone(), Arc::new(meta));
}
