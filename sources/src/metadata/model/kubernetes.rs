//! What Kubernetes says goes into the snapshot, and which processes are its pods'. A process belongs to
//! the pod of its container; then it stands for no pod and no service of its own. What both sides have a
//! name for is what Kubernetes says it is.
//!
//! Changes wait until [`Model::link_kubernetes`]. Not here: how objects are linked ([`super::super::k8s`]), and where
//! they come from ([`crate::k8s`]).

use std::collections::BTreeSet;

use hashbrown::HashSet;
use weir_types::Upid;
use weir_types::metadata::{EntityChange, EntityKey, MetadataSnapshot};

use super::Model;
use crate::metadata::ProcessInfo;
use crate::metadata::k8s::Linked;

const SEC_NS: i64 = 1_000_000_000;

/// What holds a pod's namespaces; nobody's program.
const PAUSE: &str = "pause";

/// Whose pod a process is: by its container, or, until the pod's state names that, by its control group.
pub(super) fn pod_of(kubernetes: &Linked, info: &ProcessInfo) -> Option<String> {
    let snapshot = kubernetes.snapshot();
    if let Some(container) = snapshot.containers.get(&info.container_id) {
        return Some(container.pod_id.clone());
    }
    let is_pods = info.executable != PAUSE && snapshot.pods.contains_key(&info.pod_uid);
    is_pods.then(|| info.pod_uid.clone())
}

/// What a change of Kubernetes' entities does to processes of this machine.
#[derive(Default)]
struct Touched {
    /// Containers that came, went, or are another pod's.
    containers: BTreeSet<String>,
    /// Pods that came or went.
    pods: BTreeSet<String>,
    /// Names that are free for others now.
    freed: HashSet<EntityKey, foldhash::fast::FixedState>,
}

impl Touched {
    fn of(changes: &[EntityChange], former: &MetadataSnapshot) -> Touched {
        let mut touched = Touched::default();
        for change in changes {
            match change {
                EntityChange::Container(id, now) => {
                    let before = former.containers.get(id).map(|meta| &meta.pod_id);
                    if before != now.as_ref().map(|meta| &meta.pod_id) {
                        touched.containers.insert(id.clone());
                    }
                }
                EntityChange::Pod(id, now) if former.pods.contains_key(id) != now.is_some() => {
                    touched.pods.insert(id.clone());
                }
                EntityChange::PodName(_, None)
                | EntityChange::ServiceName(_, None)
                | EntityChange::ContainerName(_, None)
                | EntityChange::Namespace(_, None) => drop(touched.freed.insert(change.key())),
                _ => {}
            }
        }
        touched
    }

    fn concerns(&self, info: &ProcessInfo, is_pods: bool) -> bool {
        if self.containers.contains(&info.container_id) || self.pods.contains(&info.pod_uid) {
            return true;
        }
        let frees = |key: EntityKey| self.freed.contains(&key);
        !is_pods
            && !self.freed.is_empty()
            && (frees(EntityKey::Namespace(info.namespace.clone()))
                || frees(EntityKey::PodName(info.pod()))
                || frees(EntityKey::ContainerName(info.container.clone()))
                || frees(EntityKey::ServiceName(format!("{}/{}", info.namespace, info.service))))
    }
}

/// Of what both sides have names for.
fn is_shared(key: &EntityKey) -> bool {
    matches!(
        key,
        EntityKey::Pod(_)
            | EntityKey::PodName(_)
            | EntityKey::Service(_)
            | EntityKey::ServiceName(_)
            | EntityKey::Container(_)
            | EntityKey::ContainerName(_)
            | EntityKey::Namespace(_)
    )
}

impl Model {
    /// What is gone for long enough is forgotten.
    pub(super) fn forget_kubernetes(&mut self) {
        let keep_ns = i64::try_from(self.keep_seconds).unwrap_or(i64::MAX).saturating_mul(SEC_NS);
        self.kubernetes.forget(self.now_unix_ns.saturating_sub(keep_ns));
    }

    /// Puts what has changed of Kubernetes into the snapshot, and takes the work of all that it has.
    pub fn link_kubernetes(&mut self) {
        let Some((former, changes)) = self.kubernetes.link() else { return };
        let touched = Touched::of(&changes, &former);
        let concerned = self
            .known
            .values()
            .filter(|known| touched.concerns(&known.info, known.pod_id.is_some()));
        let concerned: Vec<Upid> = concerned.map(|known| known.info.upid).collect();
        for known in concerned.iter().filter_map(|upid| self.known.get(upid)) {
            let is_pods = known.pod_id.is_some();
            self.entities.remove(&mut self.snapshot, &known.info, known.ended, is_pods);
        }
        changes.into_iter().for_each(|change| self.snapshot.apply(change));
        for upid in &concerned {
            let Some(known) = self.known.get_mut(upid) else { continue };
            known.pod_id = pod_of(&self.kubernetes, &known.info);
            let pod_id = known.pod_id.as_deref();
            self.entities.add(&mut self.snapshot, &known.info, known.ended, pod_id);
            self.counters.touched_total += 1;
        }
        let cidrs = &self.kubernetes.snapshot().cidrs;
        if self.snapshot.cidrs != *cidrs {
            self.snapshot.cidrs.clone_from(cidrs);
            self.changed = true;
        }
    }

    /// Names that a process has put in or taken out, and that Kubernetes has, are Kubernetes'.
    pub(super) fn restore_kubernetes(&mut self, touched: &[EntityKey]) {
        let linked = self.kubernetes.snapshot();
        for key in touched.iter().filter(|key| is_shared(key)) {
            if linked.has_entity(key) {
                let entity = linked.entity(key);
                if self.snapshot.entity(key) != entity {
                    self.snapshot.apply(entity);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "kubernetes_tests.rs"]
mod tests;
