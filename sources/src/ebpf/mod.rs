//! Capture by eBPF: loads the programs of `weir-bpf`, drains their rings, and hands out
//! [`CaptureEvent`]s. Connections, protocols and rows are made elsewhere.
//!
//! Each program is optional: [`can_run`] and [`EbpfSource::programs`] say which ones are on, and
//! why the others are not. Nothing blocks except [`EbpfSource::wait`] and stopping.
//!
//! ```text
//! system calls ─▶ ring ─┐                      (exits wait until what their process did before
//!                       ├▶ decode ─▶ drain(f)   has been handed out)
//! process ends ─▶ ring ─┘
//! ```
//!
//! Losses are counted where they happen ([`Counters`]); besides, a record's position shows every
//! lost byte to whoever reassembles the stream.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use aya::maps::{MapData, PerCpuArray, RingBuf};
use aya::{Btf, Ebpf};
use weir_bpf::abi;

use crate::capture::{CaptureEvent, ConnKey, Liveness, SocketLoss};
use crate::conn::StopCopying;

mod attach;
mod can_run;
mod clock;
mod counters;
mod decode;
mod filters;
mod liveness;
mod load;
mod losses;
mod stop;
#[cfg(test)]
mod tests;
pub mod tls;
mod wake;

pub use can_run::{CannotRun, ProgramStatus, can_run, machine_can_run};
pub use counters::{BLIND_PROCESSES_MAX, BlindProcess, BlindReason, Counters};
pub use filters::{FilterError, Filters};
pub use load::Build;
pub use stop::Stopping;
pub use wake::Wake;

use attach::{Attachment, Tracefs};
use clock::KernelClock;
use counters::BlindMap;
use decode::HeldExits;
use filters::FilterMaps;
use load::ProcessPart;
use losses::LossMap;
use tls::{Prober, TlsFile, TlsPrograms};
use weir_types::text::with_causes;

/// The most records that one [`EbpfSource::drain`] hands out: a few milliseconds of work.
pub const DRAIN_RECORDS_MAX: usize = 16_384;
/// How often to drain, at least: the ring wakes nobody below a quarter of its size.
pub const DRAIN_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Clone, Debug)]
pub struct EbpfConfig {
    /// Size of the ring of records, a power of two.
    pub ring_bytes: u32,
    /// Sockets remembered in the kernel (about 150 bytes each); beyond, the least recently used
    /// is forgotten and counts from 0 again.
    pub conns_max: u32,
    /// Bytes copied of each call, at most [`crate::capture::PAYLOAD_BYTES_MAX`].
    pub payload_bytes_max: u32,
    /// Look at the operations of `io_uring`, too. Without it their bytes are gaps of known size.
    pub io_uring: bool,
    /// Look at the calls of TLS libraries, too. Without it what they say is not seen.
    pub tls: bool,
    pub filters: Filters,
    pub build: Build,
}

impl Default for EbpfConfig {
    fn default() -> EbpfConfig {
        EbpfConfig {
            ring_bytes: 8 << 20,
            conns_max: 65_536,
            payload_bytes_max: 30_720,
            io_uring: true,
            tls: true,
            filters: Filters::default(),
            build: Build::Auto,
        }
    }
}

/// Has the kernel count the runs of all eBPF programs and their time, for as long as this is open.
pub fn count_run_times() -> std::io::Result<std::os::fd::OwnedFd> {
    aya::sys::enable_stats(aya::sys::Stats::RunTime).map_err(|error| error.io_error)
}

/// What one [`EbpfSource::drain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainStats {
    pub records: usize,
    pub payload_bytes: u64,
    /// The bound was reached: there may be more.
    pub more: bool,
}

/// Running capture. Dropping it detaches the programs, which takes seconds: see
/// [`EbpfSource::stop`].
pub struct EbpfSource {
    attachments: Vec<Attachment>,
    programs: Vec<ProgramStatus>,
    maps: FilterMaps,
    events: RingBuf<MapData>,
    process: Option<ProcessPart>,
    counters: PerCpuArray<MapData, u64>,
    blind: BlindMap,
    losses: LossMap,
    clock: KernelClock,
    held_exits: HeldExits,
    delivered_records: u64,
    delivered_payload_bytes: u64,
    malformed_records: u64,
    build: Build,
    wake: Wake,
    tls: Option<Prober>,
    /// Keeps the programs loaded.
    ebpf: Ebpf,
}

impl EbpfSource {
    /// Load and attach all programs that this kernel takes. Capture runs when this returns.
    pub fn start(config: &EbpfConfig) -> Result<EbpfSource, CannotRun> {
        can_run::check_machine()?;
        let tracefs = Tracefs::open()?;
        // Without BTF aya would load programs unrelocated, with wrong offsets.
        let btf = Btf::from_sys_fs().map_err(|source| CannotRun::BadBtf { source })?;
        let mut programs = Vec::new();
        let mut attachments = Vec::new();
        let (mut ebpf, build) = load::syscalls(config, &btf)?;
        // Before the maps are taken, which they share.
        let tls_programs = config.tls.then(|| {
            TlsPrograms::load(
                &load::object_of(build).map_err(|error| with_causes(&error))?,
                &mut ebpf,
                &btf,
                // A build that was asked for is to do as on the kernels that it is for.
                match config.build {
                    Build::Auto | Build::Linux6_2 => can_run::kernel_version(),
                    older => older.kernel_min(),
                },
            )
        });
        let mut maps = FilterMaps::new(&mut ebpf, config)?;
        let wanted = |name: &str| config.io_uring || name != attach::URING_PROGRAM;
        attach::attach_all(
            &mut ebpf,
            "syscalls",
            &tracefs,
            &wanted,
            &mut attachments,
            &mut programs,
        );
        programs.push(liveness::load(&mut ebpf));
        if attachments.is_empty() {
            let reason = programs.iter().find_map(|program| program.reason.clone());
            return Err(CannotRun::NothingAttached { reason: reason.unwrap_or_default() });
        }
        let events = load::take_ring(&mut ebpf, "events")?;
        let counters = load::take_counters(&mut ebpf, "counters")?;
        let blind = BlindMap::take(&mut ebpf)?;
        let losses = LossMap::take(&mut ebpf)?;
        let process = load::process(&btf, &tracefs, &mut attachments, &mut programs);
        let tls = tls::start(tls_programs, &mut programs);
        // Until it is known that nobody does.
        maps.set_tls(tls.as_ref().map_or(0, Prober::generation), tls.is_some())?;
        maps.enable()?;
        if let Some(tls) = &tls {
            tls.wait_for_first_look();
        }
        Ok(EbpfSource {
            attachments,
            programs,
            maps,
            events,
            process,
            counters,
            blind,
            losses,
            clock: KernelClock::start(),
            held_exits: HeldExits::default(),
            delivered_records: 0,
            delivered_payload_bytes: 0,
            malformed_records: 0,
            build,
            wake: Wake::new().map_err(|source| CannotRun::NoWake { source })?,
            tls,
            ebpf,
        })
    }

    /// Every program, and why it is not on.
    #[must_use]
    pub fn programs(&self) -> &[ProgramStatus] {
        &self.programs
    }

    /// Which build of the programs runs; never `Auto`.
    #[must_use]
    pub fn build(&self) -> Build {
        self.build
    }

    /// Hand out what has happened since the last call. Never blocks; at most
    /// [`DRAIN_RECORDS_MAX`] records.
    pub fn drain(&mut self, f: &mut dyn FnMut(CaptureEvent<'_>)) -> DrainStats {
        self.clock.keep();
        if let Some(tls) = &self.tls {
            // Failing, sockets that were looked at too often are not looked at again.
            let _ = self.maps.set_tls(tls.generation(), tls.looks_for_memos());
        }
        let stats = self.drain_rings(f);
        self.delivered_records += stats.records as u64;
        self.delivered_payload_bytes += stats.payload_bytes;
        stats
    }

    fn drain_rings(&mut self, f: &mut dyn FnMut(CaptureEvent<'_>)) -> DrainStats {
        let mut stats = DrainStats::default();
        // Exits are read before the sockets' records and handed out after them: all that a
        // process did before its exit is in the sockets' ring by then.
        if let Some(process) = &mut self.process {
            while !self.held_exits.is_full() {
                let Some(item) = process.events.next() else { break };
                stats.records += 1;
                match decode::process_event(&item, &self.clock) {
                    Some(CaptureEvent::Exit { at, exit_code }) => {
                        self.held_exits.hold(at, exit_code);
                    }
                    Some(event) => f(event),
                    None => self.malformed_records += 1,
                }
            }
        }
        while stats.records < DRAIN_RECORDS_MAX {
            let Some(item) = self.events.next() else {
                self.held_exits.hand_out(f);
                return stats;
            };
            stats.records += 1;
            match decode::socket_events(&item, &self.clock) {
                Some(told) => {
                    for event in told.events() {
                        if let Some(data) = event.data() {
                            stats.payload_bytes += data.payload.len() as u64;
                        }
                        f(event);
                    }
                }
                None => self.malformed_records += 1,
            }
        }
        stats.more = true;
        stats
    }

    /// Wait until the ring fills up or somebody wakes, `timeout` at most: for a thread that does nothing but drain.
    pub fn wait(&self, timeout: Duration) {
        wake::wait_readable(self.events.as_raw_fd(), &self.wake, timeout);
    }

    /// What ends [`EbpfSource::wait`] from another thread.
    #[must_use]
    pub fn wake(&self) -> Wake {
        self.wake.clone()
    }

    /// Bytes of this socket are not wanted any more, nor is what is said over TLS on it if that is `encrypted`;
    /// its close is still reported.
    pub fn stop_copying(&mut self, stop: StopCopying) -> Result<(), FilterError> {
        let value = if stop.encrypted { abi::STOP_ALL } else { abi::STOP_SOCKET };
        let ConnKey { sock, inode, .. } = stop.key;
        self.maps.stop_copying(abi::ConnKey { sock, inode }, value)
    }

    /// Whether anybody still holds this socket; costs a system call.
    #[must_use]
    pub fn liveness(&self, key: ConnKey) -> Liveness {
        liveness::ask(&self.ebpf, key)
    }

    /// Processes whose bytes pass by capture, and why: at most [`BLIND_PROCESSES_MAX`], the last ones.
    #[must_use]
    pub fn blind(&self) -> Vec<BlindProcess> {
        self.blind.read()
    }

    /// What was lost since the last call, by the socket that it was lost on: each loss once. To be called
    /// after `drain`, so that who is asked knows the sockets.
    pub fn losses(&mut self, f: &mut dyn FnMut(&SocketLoss)) {
        let counters = Counters::read_lost(&self.counters);
        self.losses.hand_out(&counters, f);
    }

    /// Never report connections to this address of ours, from either end.
    pub fn exclude_listener(&mut self, addr: SocketAddr) -> Result<(), FilterError> {
        self.maps.exclude_listener(addr)
    }

    /// Never report this connection of ours, from either end.
    pub fn exclude_pair(&mut self, a: SocketAddr, b: SocketAddr) -> Result<(), FilterError> {
        self.maps.exclude_pair(a, b)
    }

    /// Undo [`EbpfSource::exclude_pair`] once the connection is closed.
    pub fn forget_pair(&mut self, a: SocketAddr, b: SocketAddr) -> Result<(), FilterError> {
        self.maps.forget_pair(a, b)
    }

    /// Replace what to look at, from the next call of each process on.
    pub fn set_filters(&mut self, filters: &Filters) -> Result<(), FilterError> {
        self.maps.set_filters(filters)
    }

    /// Files with TLS in them that processes run, and why they are not probed.
    #[must_use]
    pub fn tls_files(&self) -> Vec<TlsFile> {
        self.tls.as_ref().map(Prober::files).unwrap_or_default()
    }

    /// What happened so far, in the kernel and here.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            records: self.delivered_records,
            payload_bytes: self.delivered_payload_bytes,
            process_lost_records: self.process.as_ref().map_or(0, ProcessPart::lost_records),
            malformed_records: self.malformed_records,
            ..Counters::read(&self.counters)
        }
    }

    /// Run count and run time of each program since statistics were switched on (`kernel.
    /// bpf_stats_enabled`, or [`aya::sys::enable_stats`]).
    #[must_use]
    pub fn run_times(&self) -> Vec<(String, u64, Duration)> {
        self.ebpf
            .programs()
            .filter_map(|(name, program)| {
                let info = program.info().ok()?;
                Some((name.to_string(), info.run_count(), info.run_time()))
            })
            .collect()
    }

    /// Stop capturing at once, and detach the programs on a thread of its own.
    #[must_use]
    pub fn stop(mut self) -> Stopping {
        Stopping::begin(self.disarm())
    }

    fn disarm(&mut self) -> Vec<Attachment> {
        // A failure means that the programs go on until they are detached, which comes next.
        let _ = self.maps.disable();
        let mut attachments = std::mem::take(&mut self.attachments);
        attachments.extend(self.tls.take().into_iter().flat_map(Prober::stop));
        attachments
    }
}

impl Drop for EbpfSource {
    fn drop(&mut self) {
        let attachments = self.disarm();
        if !attachments.is_empty() {
            Stopping::begin(attachments).wait();
        }
    }
}
