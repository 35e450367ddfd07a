//! What the programs count, and whom they cannot see.

use aya::Ebpf;
use aya::maps::{HashMap, MapData, PerCpuArray};
use weir_bpf::abi::{self, Counter};

use super::can_run::CannotRun;
use super::filters::Pod;

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
    /// Those of them that were datagrams.
    pub lost_datagrams: u64,
    /// Bytes moved by the calls of lost records.
    pub lost_bytes: u64,
    /// Bytes moved beyond what records carry.
    pub cut_bytes: u64,
    /// Long calls of which less was copied because the ring was half full.
    pub shed_calls: u64,
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
    /// Those of them that were datagrams.
    pub skipped_datagrams: u64,
    /// Bytes moved by nothing that was looked at: each is also a gap in its stream's positions.
    pub unseen_bytes: u64,
    /// Bytes moved by operations of `io_uring` whose buffers cannot be read: gaps, too.
    pub uring_bytes: u64,
    /// Sockets of 32-bit programs that were closed; nothing else is seen of them.
    pub compat_sockets: u64,
    /// Bytes that those moved.
    pub compat_bytes: u64,
    /// Said over TLS on sockets that could not be told.
    pub tls_unmatched_bytes: u64,
    /// Process starts and ends that found their ring full.
    pub process_lost_records: u64,
    /// Records that could not be decoded: a bug if ever not 0.
    pub malformed_records: u64,
}

impl Counters {
    /// Those of what is lost on sockets.
    pub(super) fn read_lost(map: &PerCpuArray<MapData, u64>) -> Counters {
        let get = |counter: Counter| sum(map, counter as u32);
        Counters {
            lost_records: get(Counter::LostRecords),
            lost_datagrams: get(Counter::LostDatagrams),
            skipped_messages: get(Counter::SkippedMessages),
            skipped_datagrams: get(Counter::SkippedDatagrams),
            unseen_bytes: get(Counter::UnseenBytes),
            uring_bytes: get(Counter::UringBytes),
            ..Counters::default()
        }
    }

    /// The kernel's part of them.
    pub(super) fn read(map: &PerCpuArray<MapData, u64>) -> Counters {
        let get = |counter: Counter| sum(map, counter as u32);
        Counters {
            lost_bytes: get(Counter::LostBytes),
            cut_bytes: get(Counter::CutBytes),
            shed_calls: get(Counter::ShedCalls),
            faults: get(Counter::Faults),
            non_sockets: get(Counter::NonSockets),
            other_sockets: get(Counter::OtherSockets),
            filtered: get(Counter::Filtered),
            excluded: get(Counter::Excluded),
            stopped_bytes: get(Counter::StoppedBytes),
            conns_failed: get(Counter::ConnsFailed),
            bad_registers: get(Counter::BadRegisters),
            compat_sockets: get(Counter::CompatSockets),
            compat_bytes: get(Counter::CompatBytes),
            tls_unmatched_bytes: get(Counter::TlsUnmatchedBytes),
            ..Counters::read_lost(map)
        }
    }

    /// What was lost and has no socket, by reason: any table of sockets may lack it. All reasons are always
    /// there. What was lost on a socket is handed out by [`super::EbpfSource::losses`]. Calls that were
    /// left out on purpose (filters, our own connections, streams that nobody reads) are no losses, nor
    /// is what is cut from long calls, which rows say themselves.
    #[must_use]
    pub fn losses_anywhere(&self) -> [(&'static str, u64); 5] {
        [
            ("compat32_bytes", self.compat_bytes),
            ("tls_unmatched_bytes", self.tls_unmatched_bytes),
            ("connections_failed", self.conns_failed),
            ("bad_registers", self.bad_registers),
            ("malformed_records", self.malformed_records),
        ]
    }

    /// What was handed out, cut and left out on purpose.
    #[must_use]
    pub fn beside_losses(&self) -> [(&'static str, u64); 11] {
        [
            ("records", self.records),
            ("payload_bytes", self.payload_bytes),
            ("cut_bytes", self.cut_bytes),
            ("shed_calls", self.shed_calls),
            ("faults", self.faults),
            ("non_sockets", self.non_sockets),
            ("other_sockets", self.other_sockets),
            ("filtered", self.filtered),
            ("excluded", self.excluded),
            ("stopped_bytes", self.stopped_bytes),
            ("compat_sockets", self.compat_sockets),
        ]
    }
}

/// Why a process's bytes are not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlindReason {
    /// By ways that are not traced; or the process is outside the filters.
    Other,
    /// Operations of `io_uring` whose buffers cannot be read.
    IoUring,
    /// It is a 32-bit program, whose system calls have no tracepoints.
    Compat32,
    /// What it says over TLS is seen, but not on which socket.
    Tls,
}

impl BlindReason {
    /// As counters and messages name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            BlindReason::Other => "unseen",
            BlindReason::IoUring => "io_uring",
            BlindReason::Compat32 => "compat32",
            BlindReason::Tls => "tls_unmatched",
        }
    }
}

/// A process whose bytes pass by capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlindProcess {
    pub pid: u32,
    pub reason: BlindReason,
    /// Sockets that were closed, or pieces of streams that were missed.
    pub times: u64,
    pub bytes: u64,
}

/// Processes that are remembered; the least recently seen is forgotten for a new one.
pub const BLIND_PROCESSES_MAX: usize = 1_024;

pub(super) struct BlindMap(HashMap<MapData, Pod<abi::BlindKey>, Pod<abi::Blind>>);

impl BlindMap {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<BlindMap, CannotRun> {
        let map = ebpf.take_map("blind").ok_or(CannotRun::BadObject("blind"))?;
        let map =
            HashMap::try_from(map).map_err(|source| CannotRun::Map { map: "blind", source })?;
        Ok(BlindMap(map))
    }

    /// Sorted. What comes or goes while it is read may be left out.
    pub(super) fn read(&self) -> Vec<BlindProcess> {
        let entries = self.0.iter().take(BLIND_PROCESSES_MAX).filter_map(Result::ok);
        let mut found: Vec<BlindProcess> = entries
            .map(|(Pod(key), Pod(value))| BlindProcess {
                pid: key.pid,
                reason: match key.reason {
                    abi::BLIND_URING => BlindReason::IoUring,
                    abi::BLIND_COMPAT => BlindReason::Compat32,
                    abi::BLIND_TLS => BlindReason::Tls,
                    _ => BlindReason::Other,
                },
                times: value.times,
                bytes: value.bytes,
            })
            .collect();
        found.sort_unstable_by_key(|process| (process.pid, process.reason));
        found
    }
}

/// Over all CPUs; 0 if the map cannot be read, which cannot happen while it is open.
pub(super) fn sum(map: &PerCpuArray<MapData, u64>, index: u32) -> u64 {
    map.get(&index, 0).map_or(0, |values| values.iter().sum())
}
