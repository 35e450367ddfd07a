//! What was changed between two snapshots of which one came from the other: as hashes of keys, as they are written down
//! where they are asked for ([`super::reads`]). It does not tell what they were changed to.

use std::sync::Arc;

use super::connections::Connections;
use super::{MetadataSnapshot, reads};

/// Changed keys; `None` once something was changed of which it cannot be told who asked for it, or too much was.
struct Changed {
    keys: Option<Vec<u64>>,
    keys_max: usize,
}

impl Changed {
    /// `keys`: those of a map, no more than it is asked for.
    fn add(&mut self, keys: impl FnOnce(usize) -> Option<Vec<u64>>) {
        let Some(all) = &mut self.keys else { return };
        match keys(self.keys_max.saturating_sub(all.len())) {
            Some(keys) => all.extend(keys),
            None => self.keys = None,
        }
    }

    fn require(&mut self, is_same: bool) {
        if !is_same {
            self.keys = None;
        }
    }

    fn connections(&mut self, now: &Connections, then: &Connections) {
        // All of its parts, so that none is forgotten.
        let Connections { ends, met, own_netns, users, unix } = now;
        self.require(*own_netns == then.own_netns);
        self.add(|max| ends.changed_since(&then.ends, max));
        self.add(|max| met.changed_since(&then.met, max));
        self.add(|max| users.changed_since(&then.users, max));
        self.add(|max| unix.changed_since(&then.unix, max));
    }

    fn nodes(&mut self, now: &MetadataSnapshot, then: &MetadataSnapshot) {
        if Arc::ptr_eq(&now.by_node, &then.by_node) {
            return;
        }
        self.require(now.by_node.keys().eq(then.by_node.keys()));
        for (node, connections) in now.by_node.iter() {
            if let Some(former) = then.by_node.get(node) {
                self.connections(connections, former);
            }
        }
    }
}

impl MetadataSnapshot {
    /// The keys that were changed since it was `former`, each once and in order, with
    /// [`ALWAYS`](reads::ALWAYS). `None`: anything may be another, or there are more than `keys_max`, those that
    /// were changed several times counted as often.
    #[must_use]
    pub fn changed_since(&self, former: &MetadataSnapshot, keys_max: usize) -> Option<Vec<u64>> {
        let mut changed = Changed { keys: Some(vec![reads::ALWAYS]), keys_max };
        // All of its parts, so that none is forgotten.
        let MetadataSnapshot {
            asid,
            hostname,
            num_cpus,
            cluster_id,
            cluster_name,
            processes,
            pods,
            pod_names,
            services,
            service_names,
            containers,
            container_names,
            replicasets,
            replicaset_names,
            deployments,
            deployment_names,
            namespaces,
            pod_ips,
            service_ips,
            connections,
            by_node: _,
            cidrs,
            service_cidr,
            dns,
            libraries,
        } = self;
        changed.require((*asid, *num_cpus) == (former.asid, former.num_cpus));
        changed.require(*hostname == former.hostname);
        changed.require(*cluster_id == former.cluster_id && *cluster_name == former.cluster_name);
        changed.require(*cidrs == former.cidrs && *service_cidr == former.service_cidr);
        changed.connections(connections, &former.connections);
        changed.nodes(self, former);
        changed.add(|max| processes.changed_since(&former.processes, max));
        changed.add(|max| libraries.changed_since(&former.libraries, max));
        changed.add(|max| pods.changed_since(&former.pods, max));
        changed.add(|max| services.changed_since(&former.services, max));
        changed.add(|max| containers.changed_since(&former.containers, max));
        changed.add(|max| namespaces.changed_since(&former.namespaces, max));
        changed.add(|max| pod_ips.changed_since(&former.pod_ips, max));
        for (map, former) in
            [(replicasets, &former.replicasets), (deployments, &former.deployments)]
        {
            changed.add(|max| map.changed_since(former, max));
        }
        for (map, former) in [
            (pod_names, &former.pod_names),
            (service_names, &former.service_names),
            (container_names, &former.container_names),
            (replicaset_names, &former.replicaset_names),
            (deployment_names, &former.deployment_names),
            (service_ips, &former.service_ips),
            (dns, &former.dns),
        ] {
            changed.add(|max| map.changed_since(former, max));
        }
        let mut keys = changed.keys?;
        keys.sort_unstable();
        keys.dedup();
        Some(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::EntityChange;
    use crate::upid::Upid;

    /// What is applied is told as changed, in whichever map; what a machine is, or another machine, is not told by key.
    /// Catches a map that is left out: rows that asked for it would never be looked at again.
    #[test]
    fn changes_of_snapshots() {
        let mut now = MetadataSnapshot::default();
        let upid = Upid::new(1, 2, 3);
        now.apply(EntityChange::Process(upid, Some(Arc::default())));
        let first = now.clone();
        now.apply(EntityChange::Process(Upid::new(1, 9, 3), Some(Arc::default())));
        now.dns.insert("10.0.0.1".to_string(), "db".to_string());
        now.connections.unix.insert(4, Arc::from(vec![]));
        let mut keys = vec![
            reads::ALWAYS,
            reads::hash_of(&Upid::new(1, 9, 3)),
            reads::hash_of("10.0.0.1"),
            reads::hash_of(&4_u64),
        ];
        keys.sort_unstable();
        assert_eq!(now.changed_since(&first, usize::MAX), Some(keys));
        assert_eq!(now.changed_since(&now.clone(), usize::MAX), Some(vec![reads::ALWAYS]));
        assert_eq!(
            now.changed_since(&first, 3),
            None,
            "with the one that is always, there are four"
        );
        let renamed = MetadataSnapshot { hostname: "b".to_string(), ..now.clone() };
        assert_eq!(renamed.changed_since(&now, usize::MAX), None);
        let nodes = [(7, now.connections.clone())];
        let there = MetadataSnapshot { by_node: Arc::new(nodes.into()), ..now.clone() };
        assert_eq!(there.changed_since(&now, usize::MAX), None);
        let mut connections = now.connections.clone();
        connections.unix.remove(&4);
        let later =
            MetadataSnapshot { by_node: Arc::new([(7, connections)].into()), ..now.clone() };
        let mut keys = vec![reads::ALWAYS, reads::hash_of(&4_u64)];
        keys.sort_unstable();
        assert_eq!(later.changed_since(&there, usize::MAX), Some(keys));
    }
}
