//! What to look at: the maps that steer the programs, changeable while they run.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError};
use weir_bpf::abi::{self, Config, ListenerKey, PairKey};

use super::EbpfConfig;
use super::can_run::CannotRun;
use crate::capture::PAYLOAD_BYTES_MAX;

/// Keys for which every list has room (`maps/filters.h` of `weir-bpf`).
const LIST_KEYS_MAX: usize = 1_024;

/// Which calls to look at. With no allow list all processes are; with several, a call passes if it
/// matches any of them. Denied processes never pass.
///
/// Filters by process look at calls, not connections: of a socket shared by two processes, only
/// the bytes moved by the listed one are seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filters {
    pub pids: BTreeSet<u32>,
    /// Local or remote.
    pub ports: BTreeSet<u16>,
    /// cgroup v2 ids, not their descendants.
    pub cgroup_ids: BTreeSet<u64>,
    pub denied_pids: BTreeSet<u32>,
    pub tcp: bool,
    pub udp: bool,
    pub unix: bool,
}

impl Default for Filters {
    fn default() -> Filters {
        Filters {
            pids: BTreeSet::new(),
            ports: BTreeSet::new(),
            cgroup_ids: BTreeSet::new(),
            denied_pids: BTreeSet::new(),
            tcp: true,
            udp: true,
            unix: true,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// Also when the list is full: the maximum of each is in `weir-bpf`'s `maps/filters.h`.
    #[error("could not change the kernel's {list}")]
    Map {
        list: &'static str,
        #[source]
        source: MapError,
    },
}

/// Lets plain structs into aya's maps.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Pod<T: abi::Plain>(pub(super) T);
// SAFETY: a `Plain` type consists of integers without padding.
#[expect(unsafe_code, reason = "aya's marker for types that are their bytes")]
unsafe impl<T: abi::Plain> aya::Pod for Pod<T> {}

type Set<K> = HashMap<MapData, K, u8>;

pub(super) struct FilterMaps {
    config_map: Array<MapData, Pod<Config>>,
    config: Config,
    filters: Filters,
    pids: Set<u32>,
    denied_pids: Set<u32>,
    ports: Set<u16>,
    cgroup_ids: Set<u64>,
    pairs: Set<Pod<PairKey>>,
    listeners: Set<Pod<ListenerKey>>,
    stopped: Set<Pod<abi::ConnKey>>,
}

impl FilterMaps {
    /// Not yet enabled.
    pub(super) fn new(ebpf: &mut Ebpf, config: &EbpfConfig) -> Result<FilterMaps, CannotRun> {
        let map = ebpf.take_map("config").ok_or(CannotRun::BadObject("config"))?;
        let config_map =
            Array::try_from(map).map_err(|source| CannotRun::Map { map: "config", source })?;
        let mut maps = FilterMaps {
            config_map,
            config: Config {
                wake_bytes: u64::from(config.ring_bytes / 4),
                filter_generation: 1,
                stop_generation: 1,
                own_pid: std::process::id(),
                own_netns: std::fs::metadata("/proc/self/ns/net").map_or(0, |ns| ns.ino() as u32),
                payload_max_bytes: config.payload_bytes_max.min(PAYLOAD_BYTES_MAX as u32),
                ..Config::default()
            },
            filters: Filters::default(),
            pids: take_set(ebpf, "allowed_pids")?,
            denied_pids: take_set(ebpf, "denied_pids")?,
            ports: take_set(ebpf, "allowed_ports")?,
            cgroup_ids: take_set(ebpf, "allowed_cgroups")?,
            pairs: take_set(ebpf, "excluded_pairs")?,
            listeners: take_set(ebpf, "excluded_listeners")?,
            stopped: take_set(ebpf, "stopped_conns")?,
        };
        maps.set_filters(&config.filters)?;
        Ok(maps)
    }

    pub(super) fn enable(&mut self) -> Result<(), FilterError> {
        self.config.enabled = 1;
        self.write_config()
    }

    pub(super) fn disable(&mut self) -> Result<(), FilterError> {
        self.config.enabled = 0;
        self.write_config()
    }

    /// All of it, or nothing: what was looked at before is looked at still if this fails.
    pub(super) fn set_filters(&mut self, filters: &Filters) -> Result<(), FilterError> {
        let before = self.filters.clone();
        let set = self.make_room(&before, filters).and_then(|()| self.add_to_lists(filters));
        if let Err(error) = set {
            // There is room for what was in them.
            drop(self.remove_from_lists(filters, &before));
            drop(self.add_to_lists(&before));
            drop(self.filters_changed());
            return Err(error);
        }
        // New keys are in the lists, the former ones still: at no time does what stays wanted go unseen.
        let when = |condition: bool, flag: u32| if condition { flag } else { 0 };
        self.config.allow = when(!filters.pids.is_empty(), abi::ALLOW_PIDS)
            | when(!filters.ports.is_empty(), abi::ALLOW_PORTS)
            | when(!filters.cgroup_ids.is_empty(), abi::ALLOW_CGROUPS);
        self.config.deny = u32::from(!filters.denied_pids.is_empty());
        self.config.sockets = when(filters.tcp, abi::SOCKETS_TCP)
            | when(filters.udp, abi::SOCKETS_UDP)
            | when(filters.unix, abi::SOCKETS_UNIX);
        self.filters = filters.clone();
        self.filters_changed()?;
        self.remove_from_lists(&before, filters)?;
        self.filters_changed()
    }

    /// If both do not fit into the lists, the former goes first, but for what both have.
    fn make_room(&mut self, before: &Filters, filters: &Filters) -> Result<(), FilterError> {
        let both = [
            before.pids.union(&filters.pids).count(),
            before.denied_pids.union(&filters.denied_pids).count(),
            before.ports.union(&filters.ports).count(),
            before.cgroup_ids.union(&filters.cgroup_ids).count(),
        ];
        if both.into_iter().all(|keys| keys <= LIST_KEYS_MAX) {
            return Ok(());
        }
        self.remove_from_lists(before, filters)
    }

    fn add_to_lists(&mut self, filters: &Filters) -> Result<(), FilterError> {
        add(&mut self.pids, "allowed pids", &filters.pids)?;
        add(&mut self.denied_pids, "denied pids", &filters.denied_pids)?;
        add(&mut self.ports, "allowed ports", &filters.ports)?;
        add(&mut self.cgroup_ids, "allowed cgroups", &filters.cgroup_ids)
    }

    /// What only the first of both has.
    fn remove_from_lists(&mut self, of: &Filters, but: &Filters) -> Result<(), FilterError> {
        take(&mut self.pids, "allowed pids", &of.pids - &but.pids)?;
        take(&mut self.denied_pids, "denied pids", &of.denied_pids - &but.denied_pids)?;
        take(&mut self.ports, "allowed ports", &of.ports - &but.ports)?;
        take(&mut self.cgroup_ids, "allowed cgroups", &of.cgroup_ids - &but.cgroup_ids)
    }

    /// `value`: `abi::STOP_*`.
    pub(super) fn stop_copying(&mut self, key: abi::ConnKey, value: u8) -> Result<(), FilterError> {
        let list = "stopped sockets";
        self.stopped
            .insert(Pod(key), value, 0)
            .map_err(|source| FilterError::Map { list, source })?;
        self.config.stop_generation = self.config.stop_generation.wrapping_add(1);
        self.write_config()
    }

    pub(super) fn exclude_listener(&mut self, addr: SocketAddr) -> Result<(), FilterError> {
        let key = ListenerKey { addr: addr_bytes(addr.ip()), port: addr.port(), _pad: 0 };
        insert(&mut self.listeners, "excluded listeners", Pod(key))?;
        self.config.exclusions = 1;
        self.filters_changed()
    }

    pub(super) fn exclude_pair(&mut self, a: SocketAddr, b: SocketAddr) -> Result<(), FilterError> {
        insert(&mut self.pairs, "excluded pairs", Pod(pair_key(a, b)))?;
        self.config.exclusions = 1;
        self.filters_changed()
    }

    pub(super) fn forget_pair(&mut self, a: SocketAddr, b: SocketAddr) -> Result<(), FilterError> {
        remove(&mut self.pairs, "excluded pairs", Pod(pair_key(a, b)))?;
        self.filters_changed()
    }

    /// TLS is looked for; another number has sockets looked at anew.
    /// `memos`: what programs remember of their connections is looked for.
    pub(super) fn set_tls(&mut self, generation: u32, memos: bool) -> Result<(), FilterError> {
        let memos = u32::from(memos);
        if self.config.tls_generation == generation && self.config.memos == memos {
            return Ok(());
        }
        (self.config.tls_generation, self.config.memos) = (generation, memos);
        self.write_config()
    }

    fn filters_changed(&mut self) -> Result<(), FilterError> {
        self.config.filter_generation = self.config.filter_generation.wrapping_add(1);
        self.write_config()
    }

    fn write_config(&mut self) -> Result<(), FilterError> {
        self.config_map
            .set(0, Pod(self.config), 0)
            .map_err(|source| FilterError::Map { list: "configuration", source })
    }
}

/// IPv4 as IPv6-mapped; the unspecified address of either family as all zero.
pub(super) fn addr_bytes(ip: IpAddr) -> [u8; 16] {
    match ip.to_canonical() {
        ip if ip.is_unspecified() => [0; 16],
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn pair_key(a: SocketAddr, b: SocketAddr) -> PairKey {
    PairKey {
        a_addr: addr_bytes(a.ip()),
        b_addr: addr_bytes(b.ip()),
        a_port: a.port(),
        b_port: b.port(),
    }
}

fn take_set<K: aya::Pod>(ebpf: &mut Ebpf, name: &'static str) -> Result<Set<K>, CannotRun> {
    let map = ebpf.take_map(name).ok_or(CannotRun::BadObject(name))?;
    HashMap::try_from(map).map_err(|source| CannotRun::Map { map: name, source })
}

fn insert<K: aya::Pod>(set: &mut Set<K>, list: &'static str, key: K) -> Result<(), FilterError> {
    set.insert(key, 1, 0).map_err(|source| FilterError::Map { list, source })
}

fn remove<K: aya::Pod>(set: &mut Set<K>, list: &'static str, key: K) -> Result<(), FilterError> {
    match set.remove(&key) {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        Err(source) => Err(FilterError::Map { list, source }),
    }
}

fn add<K: aya::Pod>(
    set: &mut Set<K>,
    list: &'static str,
    keys: &BTreeSet<K>,
) -> Result<(), FilterError> {
    keys.iter().try_for_each(|key| insert(set, list, *key))
}

fn take<K: aya::Pod>(
    set: &mut Set<K>,
    list: &'static str,
    keys: BTreeSet<K>,
) -> Result<(), FilterError> {
    keys.into_iter().try_for_each(|key| remove(set, list, key))
}
