//! What somebody knows of the whole cluster (Kubernetes' API server): it is of no node, and true of all. What it has
//! a name for means that, whatever nodes tell; what it forgets means again what they say.

use weir_types::metadata::{EntityChange, EntityKey, MetadataSnapshot};

use super::Merged;
use crate::coordinator::Coordinator;

impl Merged {
    /// Takes in what changed of it, or all of it in place of what there was. False: what changed is of something
    /// that is not known here.
    pub(super) fn take_wide(
        &mut self,
        whole: bool,
        cidrs: Vec<String>,
        changes: Vec<EntityChange>,
    ) -> bool {
        if self.wide.is_none() && !whole {
            return false;
        }
        if self.wide.is_none() && self.lives.len() == 1 {
            self.part_machines();
        }
        let former = self.wide.take().unwrap_or_default();
        let mut keys: Vec<EntityKey> = changes.iter().map(EntityChange::key).collect();
        let mut wide = if whole {
            keys.extend(former.entities().map(|change| change.key()));
            MetadataSnapshot::default()
        } else {
            former
        };
        wide.cidrs = cidrs;
        changes.into_iter().for_each(|change| wide.apply(change));
        self.wide = Some(wide);
        self.touched_total += keys.len() as u64;
        keys.iter().filter(|key| !key.is_of_machine()).for_each(|key| self.show(0, key));
        true
    }

    /// Several know something, and it is put together.
    pub(super) fn is_merged(&self) -> bool {
        self.lives.len() > 1 || self.wide.is_some()
    }

    pub(super) fn wide_cidrs(&self) -> impl Iterator<Item = &String> {
        self.wide.iter().flat_map(|wide| &wide.cidrs)
    }
}

impl Coordinator {
    /// What is known of the whole cluster has changed; false: everything is to be told.
    pub fn take_wide_entities(
        &mut self,
        whole: bool,
        cidrs: Vec<String>,
        changes: Vec<EntityChange>,
    ) -> bool {
        let is_same = self.entities.wide_cidrs().eq(cidrs.iter());
        let is_news = whole || !changes.is_empty() || !is_same;
        let taken = self.entities.take_wide(whole, cidrs, changes);
        if taken && is_news {
            self.engine.set_metadata(self.entities.snapshot());
        }
        taken
    }
}
