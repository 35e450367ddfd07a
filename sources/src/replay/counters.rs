//! What a replay counts, as its last line says it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::flow::TcpCounters;
use crate::socket::CaptureCounters;

/// Of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableCounts {
    pub rows: u64,
    /// Not lost: requests that nobody answered in the capture.
    pub unanswered: u64,
    /// Not lost: responses that nobody had asked for.
    pub unasked: u64,
    /// Reason → exchanges or events; only what was lost.
    pub lost: BTreeMap<&'static str, u64>,
}

impl TableCounts {
    fn add(&mut self, other: &TableCounts) {
        self.rows += other.rows;
        self.unanswered += other.unanswered;
        self.unasked += other.unasked;
        for (reason, count) in &other.lost {
            *self.lost.entry(reason).or_default() += count;
        }
    }
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayCounters {
    pub files: u64,
    pub packets: u64,
    /// As on the wire.
    pub bytes: u64,
    /// Reason → packets that were not looked at further.
    pub skipped: BTreeMap<&'static str, u64>,
    pub tcp: TcpCounters,
    pub fragments_dropped: u64,
    pub datagram_flows_evicted: u64,
    /// By `--loss`.
    pub events_dropped: u64,
    /// Times that a capture's clock went back.
    pub clock_restarts: u64,
    pub tables: BTreeMap<&'static str, TableCounts>,
}

impl ReplayCounters {
    /// What a tracer counted; `conn_stats` is of ends that are watched, which a capture has none of.
    pub(crate) fn add_tables(&mut self, tables: &[CaptureCounters]) {
        for counted in tables.iter().filter(|counted| counted.table != "conn_stats") {
            let lost = counted.lost.iter().filter(|(_, count)| *count > 0);
            self.tables.entry(counted.table).or_default().add(&TableCounts {
                rows: counted.rows,
                unanswered: counted.unanswered,
                unasked: counted.unasked,
                lost: lost.map(|(reason, count)| (*reason, *count)).collect(),
            });
        }
    }

    /// Those of another file.
    pub fn add(&mut self, other: &ReplayCounters) {
        self.files += other.files;
        self.packets += other.packets;
        self.bytes += other.bytes;
        for (reason, count) in &other.skipped {
            *self.skipped.entry(reason).or_default() += count;
        }
        self.tcp.add(&other.tcp);
        self.fragments_dropped += other.fragments_dropped;
        self.datagram_flows_evicted += other.datagram_flows_evicted;
        self.events_dropped += other.events_dropped;
        self.clock_restarts += other.clock_restarts;
        for (name, counted) in &other.tables {
            self.tables.entry(name).or_default().add(counted);
        }
    }
}
