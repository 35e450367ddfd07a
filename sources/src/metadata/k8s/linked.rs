//! A [`Store`] and what was linked of it last, for those who need to know what changed. Changes wait in the store:
//! linking costs as much as there is.

use std::sync::Arc;

use weir_types::metadata::{EntityChange, MetadataSnapshot, PodMeta};

use super::{Change, Store};

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Linked {
    store: Store,
    /// Something of it is not linked yet.
    is_due: bool,
    snapshot: MetadataSnapshot,
}

impl Linked {
    /// Takes in what the watches told at that time.
    pub fn apply(&mut self, changes: Vec<Change>, now_unix_ns: i64) {
        self.is_due |= !changes.is_empty();
        for change in changes {
            self.store.apply(change, now_unix_ns);
        }
    }

    /// Forgets what was gone before that time.
    pub fn forget(&mut self, before_unix_ns: i64) {
        self.is_due |= self.store.forget(before_unix_ns);
    }

    /// What was linked last.
    #[must_use]
    pub fn snapshot(&self) -> &MetadataSnapshot {
        &self.snapshot
    }

    #[must_use]
    pub fn refused_total(&self) -> u64 {
        self.store.refused_total()
    }

    /// Links all that there is, if anything came in: the former snapshot, and what makes the present one of it.
    pub fn link(&mut self) -> Option<(MetadataSnapshot, Vec<EntityChange>)> {
        if !std::mem::take(&mut self.is_due) {
            return None;
        }
        let mut linked = self.store.snapshot();
        keep_services(&mut linked, &self.snapshot);
        let changes = linked.differences(&self.snapshot);
        Some((std::mem::replace(&mut self.snapshot, linked), changes))
    }
}

/// Endpoints lose a pod as soon as it ends: what it served then, it did until its end.
fn keep_services(linked: &mut MetadataSnapshot, former: &MetadataSnapshot) {
    let is_over = |pod: &PodMeta| {
        pod.stop_unix_ns != 0 || matches!(pod.phase.as_str(), "Succeeded" | "Failed")
    };
    let over = linked.pods.values().filter(|pod| pod.service_ids.is_empty() && is_over(pod));
    let kept = over.filter_map(|pod| {
        let service_ids = former.pods.get(&pod.id)?.service_ids.clone();
        (!service_ids.is_empty()).then(|| PodMeta { service_ids, ..(**pod).clone() })
    });
    for pod in kept.collect::<Vec<_>>() {
        linked.pods.insert(pod.id.clone(), Arc::new(pod));
    }
}
