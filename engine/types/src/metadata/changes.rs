//! Changes of the metadata as plain values: what a node tells of its entities, entry by entry. Each map of
//! a snapshot is listed here once ([`EntityKey`]); what is not listed does not travel.
//!
//! Not here: who tells whom when (`weir-node`), and how what several nodes tell is put together
//! (`weir-cluster`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::connections::{ConnectionEnd, Holder, Pair, UnixEnd};
use super::{
    ContainerMeta, ControllerMeta, MetadataSnapshot, NamespaceMeta, PodMeta, ProcessMeta,
    ServiceMeta,
};
use crate::upid::Upid;

/// What is known of a node's machine as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub asid: u32,
    pub hostname: String,
    pub num_cpus: i64,
    pub cluster_id: String,
    pub cluster_name: String,
    pub own_netns: u32,
    pub cidrs: Vec<String>,
    pub service_cidr: String,
}

/// What functions were asked and could not answer at once: somebody has to find it out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Whose names are asked for, each once.
    pub addresses: Vec<IpAddr>,
    /// Whose libraries are, each once.
    pub processes: Vec<Upid>,
}

macro_rules! entities {
    ($($kind:ident($key:ty => $value:ty) $($field:ident).+;)+) => {
        /// Which entry of a snapshot.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum EntityKey {
            $($kind($key),)+
        }

        /// An entry as it is now; `None`: it is over.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum EntityChange {
            $($kind($key, Option<$value>),)+
        }

        impl EntityKey {
            /// That the entry is over.
            #[must_use]
            pub fn over(&self) -> EntityChange {
                match self {
                    $(EntityKey::$kind(key) => EntityChange::$kind(key.clone(), None),)+
                }
            }
        }

        impl EntityChange {
            #[must_use]
            pub fn key(&self) -> EntityKey {
                match self {
                    $(EntityChange::$kind(key, _) => EntityKey::$kind(key.clone()),)+
                }
            }
        }

        impl MetadataSnapshot {
            /// Writes down from now on which entries are changed.
            pub fn follow(&mut self) {
                $(self.$($field).+.follow();)+
            }

            /// The entries that were changed since the last call, some more than once.
            pub fn take_touched(&mut self) -> Vec<EntityKey> {
                let mut touched = Vec::new();
                $(touched.extend(self.$($field).+.take_touched().into_iter().map(EntityKey::$kind));)+
                touched
            }

            /// How an entry is now.
            #[must_use]
            pub fn entity(&self, key: &EntityKey) -> EntityChange {
                match key {
                    $(EntityKey::$kind(key) => {
                        EntityChange::$kind(key.clone(), self.$($field).+.get(key).cloned())
                    })+
                }
            }

            #[must_use]
            pub fn has_entity(&self, key: &EntityKey) -> bool {
                match key {
                    $(EntityKey::$kind(key) => self.$($field).+.contains_key(key),)+
                }
            }

            /// All entries.
            pub fn entities(&self) -> impl Iterator<Item = EntityChange> {
                std::iter::empty()
                    $(.chain(self.$($field).+.iter().map(|(key, value)| {
                        EntityChange::$kind(key.clone(), Some(value.clone()))
                    })))+
            }

            /// What makes this one of `former`.
            #[must_use]
            pub fn differences(&self, former: &MetadataSnapshot) -> Vec<EntityChange> {
                let mut found = Vec::new();
                $(for (key, value) in self.$($field).+.iter() {
                    if former.$($field).+.get(key) != Some(value) {
                        found.push(EntityChange::$kind(key.clone(), Some(value.clone())));
                    }
                }
                for key in former.$($field).+.keys() {
                    if !self.$($field).+.contains_key(key) {
                        found.push(EntityChange::$kind(key.clone(), None));
                    }
                })+
                found
            }

            /// How many entries there are.
            #[must_use]
            pub fn entity_count(&self) -> usize {
                0 $(+ self.$($field).+.len())+
            }

            /// Puts an entry in, or removes it.
            pub fn apply(&mut self, change: EntityChange) {
                match change {
                    $(EntityChange::$kind(key, Some(value)) => self.$($field).+.insert(key, value),
                    EntityChange::$kind(key, None) => {
                        self.$($field).+.remove(&key);
                    })+
                }
            }
        }
    };
}

entities! {
    Process(Upid => Arc<ProcessMeta>) processes;
    Pod(String => Arc<PodMeta>) pods;
    PodName(String => String) pod_names;
    Service(String => Arc<ServiceMeta>) services;
    ServiceName(String => String) service_names;
    Container(String => Arc<ContainerMeta>) containers;
    ContainerName(String => String) container_names;
    ReplicaSet(String => Arc<ControllerMeta>) replicasets;
    ReplicaSetName(String => String) replicaset_names;
    Deployment(String => Arc<ControllerMeta>) deployments;
    DeploymentName(String => String) deployment_names;
    Namespace(String => Arc<NamespaceMeta>) namespaces;
    PodIp(String => Vec<(i64, String)>) pod_ips;
    ServiceIp(String => String) service_ips;
    DnsName(String => String) dns;
    Libraries(Upid => String) libraries;
    End(Pair => Arc<[ConnectionEnd]>) connections.ends;
    Met((Upid, SocketAddr) => Arc<[Holder]>) connections.met;
    User(IpAddr => Arc<[Holder]>) connections.users;
    UnixEnd(u64 => Arc<[UnixEnd]>) connections.unix;
}

impl EntityKey {
    /// It means something on its own node only: of several nodes each has its own.
    #[must_use]
    pub fn is_of_machine(&self) -> bool {
        matches!(
            self,
            EntityKey::End(_) | EntityKey::Met(_) | EntityKey::User(_) | EntityKey::UnixEnd(_)
        )
    }
}

impl MetadataSnapshot {
    #[must_use]
    pub fn machine(&self) -> Machine {
        Machine {
            asid: self.asid,
            hostname: self.hostname.clone(),
            num_cpus: self.num_cpus,
            cluster_id: self.cluster_id.clone(),
            cluster_name: self.cluster_name.clone(),
            own_netns: self.connections.own_netns,
            cidrs: self.cidrs.clone(),
            service_cidr: self.service_cidr.clone(),
        }
    }

    pub fn set_machine(&mut self, machine: Machine) {
        let Machine { asid, hostname, num_cpus, cluster_id, cluster_name, .. } = machine;
        (self.asid, self.hostname, self.num_cpus) = (asid, hostname, num_cpus);
        (self.cluster_id, self.cluster_name) = (cluster_id, cluster_name);
        self.connections.own_netns = machine.own_netns;
        (self.cidrs, self.service_cidr) = (machine.cidrs, machine.service_cidr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> EntityChange {
        let upid = Upid::new(1, pid, 1);
        let meta = ProcessMeta { upid, ..ProcessMeta::default() };
        EntityChange::Process(upid, Some(Arc::new(meta)))
    }

    /// What was touched is told, and nothing else, however much is there; applied elsewhere it makes the
    /// same. Catches a map that is left out, and work that grows with what is remembered.
    #[test]
    fn what_was_touched_travels() {
        let mut here = MetadataSnapshot::default();
        (1..=1_000).for_each(|pid| here.apply(process(pid)));
        here.follow();
        let mut there = here.clone();
        here.apply(process(7_000));
        here.dns.insert("10.0.0.1".to_string(), "db".to_string());
        here.connections.unix.insert(4, Arc::from(vec![]));
        let Some((&gone, _)) = here.processes.iter().next() else { panic!() };
        here.processes.remove(&gone);
        here.processes.remove(&Upid::new(9, 9, 9));
        let touched = here.take_touched();
        assert_eq!(touched.len(), 4, "{touched:?}");
        assert!(here.take_touched().is_empty());
        touched.iter().for_each(|key| there.apply(here.entity(key)));
        let all = |of: &MetadataSnapshot| {
            let mut all: Vec<String> = of.entities().map(|one| format!("{one:?}")).collect();
            all.sort();
            all
        };
        assert_eq!(all(&there), all(&here));
        assert_eq!(here.entity_count(), 1_002);
        let mut former = MetadataSnapshot::default();
        former.apply(process(8_000));
        former.dns.insert("10.0.0.1".to_string(), "cache".to_string());
        here.differences(&former).into_iter().for_each(|change| former.apply(change));
        assert_eq!(all(&former), all(&here));
        assert!(here.differences(&former).is_empty());
        assert!(!there.has_entity(&EntityKey::Process(gone)));
    }
}
