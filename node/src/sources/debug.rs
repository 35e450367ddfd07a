//! How much is known of names, as JSON: what `_DebugMDState` shows.

use weir_sources::dns::DnsCounters;

use crate::metadata::Metadata;

pub(super) fn state(metadata: &Metadata, dns: DnsCounters) -> String {
    let published = metadata.published();
    let snapshot = &published.snapshot;
    let counters = metadata.counters();
    let DnsCounters { found_total, missed_total, evicted_total, left_out_total } = dns;
    format!(
        "{{\"processes\":{},\"pods\":{},\"services\":{},\"containers\":{},\"sockets\":{},\
         \"dropped\":{},\"processes_refused\":{},\"processes_forgotten\":{},\
         \"ends_refused\":{},\"ends_forgotten\":{},\
         \"dns\":{{\"names\":{},\"found\":{found_total},\"missed\":{missed_total},\
         \"evicted\":{evicted_total},\"left_out\":{}}}}}",
        snapshot.processes.len(),
        snapshot.pods.len(),
        snapshot.services.len(),
        snapshot.containers.len(),
        snapshot.connections.ends.len(),
        metadata.observer().dropped_total(),
        counters.processes_refused_total,
        counters.processes_forgotten_total,
        counters.ends.refused_total,
        counters.ends.forgotten_total,
        snapshot.dns.len(),
        left_out_total,
    )
}
