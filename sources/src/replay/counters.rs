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

/// Of the reassembly of TCP; see [`TcpCounters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TcpCounts {
    pub connections: u64,
    pub joined: u64,
    pub retransmitted_segments: u64,
    pub out_of_order_segments: u64,
    pub foreign_segments: u64,
    pub missing_bytes: u64,
    pub cut_bytes: u64,
    pub full_bytes: u64,
    pub resets: u64,
    pub evicted: u64,
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
    pub tcp: TcpCounts,
    pub fragments_dropped: u64,
    pub datagram_flows_evicted: u64,
    /// By `--loss`.
    pub events_dropped: u64,
    /// Times that a capture's clock went back.
    pub clock_restarts: u64,
    pub tables: BTreeMap<&'static str, TableCounts>,
}

impl From<TcpCounters> for TcpCounts {
    fn from(tcp: TcpCounters) -> TcpCounts {
        TcpCounts {
            connections: tcp.connections,
            joined: tcp.joined,
            retransmitted_segments: tcp.retransmitted_segments,
            out_of_order_segments: tcp.out_of_order_segments,
            foreign_segments: tcp.foreign_segments,
            missing_bytes: tcp.missing_bytes,
            cut_bytes: tcp.cut_bytes,
            full_bytes: tcp.full_bytes,
            resets: tcp.resets,
            evicted: tcp.evicted,
        }
    }
}

impl TcpCounts {
    fn add(&mut self, other: &TcpCounts) {
        self.connections += other.connections;
        self.joined += other.joined;
        self.retransmitted_segments += other.retransmitted_segments;
        self.out_of_order_segments += other.out_of_order_segments;
        self.foreign_segments += other.foreign_segments;
        self.missing_bytes += other.missing_bytes;
        self.cut_bytes += other.cut_bytes;
        self.full_bytes += other.full_bytes;
        self.resets += other.resets;
        self.evicted += other.evicted;
    }
}

impl ReplayCounters {
    /// What a tracer counted; `conn_stats` is of ends that are watched, which a capture has none of.
    pub(super) fn add_tables(&mut self, tables: &[CaptureCounters]) {
        for counted in tables.iter().filter(|counted| counted.table != "conn_stats") {
            let table = self.tables.entry(counted.table).or_default();
            table.rows += counted.rows;
            table.unanswered += counted.unanswered;
            table.unasked += counted.unasked;
            for (reason, count) in counted.lost.iter().filter(|(_, count)| *count > 0) {
                *table.lost.entry(reason).or_default() += count;
            }
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
            let table = self.tables.entry(name).or_default();
            table.rows += counted.rows;
            table.unanswered += counted.unanswered;
            table.unasked += counted.unasked;
            for (reason, count) in &counted.lost {
                *table.lost.entry(reason).or_default() += count;
            }
        }
    }
}
