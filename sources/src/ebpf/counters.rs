//! What the programs count.

use aya::maps::{MapData, PerCpuArray};
use weir_bpf::abi::Counter;

/// Totals since the start. Every call on a socket ends in exactly one of `records`,
/// `lost_records`, `filtered`, `excluded`, `other_sockets`, `conns_failed`, `bad_registers`, or in
/// `stopped_bytes`; calls that moved no bytes in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Handed out by `drain`.
    pub records: u64,
    /// Handed out by `drain`.
    pub payload_bytes: u64,
    /// Records that found the ring full: each is also a hole in its stream's positions.
    pub lost_records: u64,
    /// Bytes moved by the calls of lost records.
    pub lost_bytes: u64,
    /// Bytes moved beyond what records carry.
    pub cut_bytes: u64,
    /// User memory that could not be read: part of `cut_bytes`.
    pub faults: u64,
    pub non_sockets: u64,
    pub other_sockets: u64,
    pub filtered: u64,
    pub excluded: u64,
    pub stopped_bytes: u64,
    /// Sockets that found no place in the kernel's table.
    pub conns_failed: u64,
    pub bad_registers: u64,
    /// Messages beyond the 32nd of one `sendmmsg` or `recvmmsg`.
    pub skipped_messages: u64,
    /// Bytes moved by no call that was looked at (io_uring, for one): each is also a gap in its
    /// stream's positions.
    pub unseen_bytes: u64,
    /// Process starts and ends that found their ring full.
    pub process_lost_records: u64,
    /// Records that could not be decoded: a bug if ever not 0.
    pub malformed_records: u64,
}

impl Counters {
    /// The kernel's part of them.
    pub(super) fn read(map: &PerCpuArray<MapData, u64>) -> Counters {
        let get = |counter: Counter| sum(map, counter as u32);
        Counters {
            lost_records: get(Counter::LostRecords),
            lost_bytes: get(Counter::LostBytes),
            cut_bytes: get(Counter::CutBytes),
            faults: get(Counter::Faults),
            non_sockets: get(Counter::NonSockets),
            other_sockets: get(Counter::OtherSockets),
            filtered: get(Counter::Filtered),
            excluded: get(Counter::Excluded),
            stopped_bytes: get(Counter::StoppedBytes),
            conns_failed: get(Counter::ConnsFailed),
            bad_registers: get(Counter::BadRegisters),
            skipped_messages: get(Counter::SkippedMessages),
            unseen_bytes: get(Counter::UnseenBytes),
            ..Counters::default()
        }
    }
}

/// Over all CPUs; 0 if the map cannot be read, which cannot happen while it is open.
pub(super) fn sum(map: &PerCpuArray<MapData, u64>, index: u32) -> u64 {
    map.get(&index, 0).map_or(0, |values| values.iter().sum())
}
