//! Getting the objects into the kernel: which build of them, and their maps.

use std::borrow::Cow;

use aya::maps::{MapData, PerCpuArray, RingBuf};
use aya::programs::TracePoint;
use aya::{Btf, Ebpf, EbpfLoader};

use super::attach::{self, Attachment, Tracefs};
use super::can_run::{self, BTF_PATH, CannotRun, ProgramStatus};
use super::{EbpfConfig, counters};

/// Which build of the programs to load: they do the same, at different costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Build {
    /// The cheapest that the kernel takes.
    #[default]
    Auto,
    /// For kernels from 5.8 on.
    Linux5_8,
    /// For kernels from 5.15 on (arm64: 5.18).
    Linux5_15,
    /// For kernels from 6.2 on.
    Linux6_2,
}

impl Build {
    const CHEAPEST_FIRST: [Build; 3] = [Build::Linux6_2, Build::Linux5_15, Build::Linux5_8];

    /// Below this version a build is not tried.
    pub(super) fn kernel_min(self) -> (u32, u32) {
        match self {
            Build::Auto | Build::Linux5_8 => (5, 8),
            Build::Linux5_15 if cfg!(target_arch = "aarch64") => (5, 18),
            Build::Linux5_15 => (5, 15),
            Build::Linux6_2 => (6, 2),
        }
    }
}

/// Process starts and ends.
pub(super) struct ProcessPart {
    pub(super) events: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
    _ebpf: Ebpf,
}

impl ProcessPart {
    pub(super) fn lost_records(&self) -> u64 {
        counters::sum(&self.lost, 0)
    }
}

/// The socket programs' object, in the chosen build or the cheapest that loads.
pub(super) fn syscalls(config: &EbpfConfig, btf: &Btf) -> Result<(Ebpf, Build), CannotRun> {
    if config.build != Build::Auto {
        return syscalls_build(config, btf, config.build).map(|ebpf| (ebpf, config.build));
    }
    let version = can_run::kernel_version();
    let mut last_error = None;
    for build in Build::CHEAPEST_FIRST {
        if build.kernel_min() > version {
            continue;
        }
        match syscalls_build(config, btf, build) {
            Ok(ebpf) => return Ok((ebpf, build)),
            Err(error) => last_error = Some(error),
        }
    }
    Err(last_error.unwrap_or_else(can_run::kernel_too_old))
}

/// As it is loaded.
pub(super) fn object_of(build: Build) -> Result<Cow<'static, [u8]>, CannotRun> {
    Ok(match build {
        Build::Auto | Build::Linux5_8 => weir_bpf::syscalls_5_8_object().into(),
        Build::Linux5_15 => weir_bpf::syscalls_5_15_object().into(),
        Build::Linux6_2 => {
            let kernel = std::fs::read(BTF_PATH).map_err(|_| CannotRun::NoBtf)?;
            let id = weir_bpf::btf::function_id(&kernel, weir_bpf::CAST_FUNCTION)
                .ok_or(CannotRun::NoKernelFunction(weir_bpf::CAST_FUNCTION))?;
            weir_bpf::with_cast_function(weir_bpf::syscalls_6_2_object(), id).into()
        }
    })
}

fn syscalls_build(config: &EbpfConfig, btf: &Btf, build: Build) -> Result<Ebpf, CannotRun> {
    let object = object_of(build)?;
    let cpus = aya::util::nr_cpus().map_or(1, |cpus| u32::try_from(cpus).unwrap_or(u32::MAX));
    let mut ebpf = EbpfLoader::new()
        .btf(Some(btf))
        .map_max_entries("events", config.ring_bytes)
        .map_max_entries("slots", cpus)
        .map_max_entries("cpus", cpus)
        .map_max_entries("conns", config.conns_max)
        .map_max_entries("tls_slots", if config.tls { 2 * cpus } else { 1 })
        .map_max_entries("tls_conns", if config.tls { config.conns_max } else { 1 })
        .load(&object)
        .map_err(|source| CannotRun::Load { program: "syscalls", source })?;
    // One program tells whether the kernel takes this build.
    let program = ebpf.program_mut("exit_read").ok_or(CannotRun::BadObject("exit_read"))?;
    <&mut TracePoint>::try_from(program)
        .and_then(TracePoint::load)
        .map_err(|source| CannotRun::Verify { program: "exit_read", source })?;
    Ok(ebpf)
}

/// Load and attach the process programs; without them capture goes on.
pub(super) fn process(
    btf: &Btf,
    tracefs: &Tracefs,
    attachments: &mut Vec<Attachment>,
    programs: &mut Vec<ProgramStatus>,
) -> Option<ProcessPart> {
    let load = || {
        let mut ebpf = EbpfLoader::new()
            .btf(Some(btf))
            .load(weir_bpf::process_object())
            .map_err(|source| CannotRun::Load { program: "process", source })?;
        let events = take_ring(&mut ebpf, "process_events")?;
        let lost = take_counters(&mut ebpf, "process_lost")?;
        Ok::<_, CannotRun>((ebpf, events, lost))
    };
    match load() {
        Ok((mut ebpf, events, lost)) => {
            attach::attach_all(&mut ebpf, "process", tracefs, &|_| true, attachments, programs);
            Some(ProcessPart { events, lost, _ebpf: ebpf })
        }
        Err(error) => {
            programs.push(ProgramStatus {
                program: "process".to_string(),
                reason: Some(weir_types::text::with_causes(&error)),
            });
            None
        }
    }
}

pub(super) fn take_ring(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<RingBuf<MapData>, CannotRun> {
    let map = ebpf.take_map(name).ok_or(CannotRun::BadObject(name))?;
    RingBuf::try_from(map).map_err(|source| CannotRun::Map { map: name, source })
}

pub(super) fn take_counters(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<PerCpuArray<MapData, u64>, CannotRun> {
    let map = ebpf.take_map(name).ok_or(CannotRun::BadObject(name))?;
    PerCpuArray::try_from(map).map_err(|source| CannotRun::Map { map: name, source })
}
