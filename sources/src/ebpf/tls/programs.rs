//! The programs that look at TLS libraries: loaded, and attached to functions of files.
//!
//! From Linux 6.6 on one link holds a program at any number of places, and detaching it takes 40 ms; the
//! loader of the other programs does not know that form, so these are relocated and loaded here. Before 6.6
//! each place is a perf event of its own, which costs a descriptor and 0.1 to 0.2 s at its end.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use aya::maps::{Map, MapData};
use aya::programs::UProbe;
use aya::{Btf, Ebpf};
use aya_obj::generated::bpf_insn;
use weir_types::text::with_causes;

use super::super::attach::{
    Attachment, PerfEventAttr, attach_event, owned, perf_event_open, shortened,
};
use super::super::can_run::ProgramStatus;
use super::library::{Points, Probe, by_probe};
use super::opened::path_of;

/// Attachments to many places at once arrived in 6.6.
const MULTI_KERNEL_MIN: (u32, u32) = (6, 6);
const RELEASE_PATH: &str = "/proc/sys/kernel/osrelease";
const UPROBE_TYPE_PATH: &str = "/sys/bus/event_source/devices/uprobe/type";

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_KPROBE: u32 = 2;
const BPF_TRACE_UPROBE_MULTI: u32 = 48;
const BPF_F_UPROBE_MULTI_RETURN: u32 = 1;
/// No instruction is longer.
const INSTRUCTION_BYTES_MAX: usize = 16;
/// How often a program is handed to a kernel that was interrupted.
const LOADS_MAX: usize = 10;
/// Bytes of the verifier's log that are asked for after it has refused a program.
const LOG_BYTES: usize = 64 << 10;

/// What is told of links stands under this name.
const LINKS: &str = "syscalls/tls_links";
const EVENTS_INSTEAD: &str =
    "each function is a perf event of its own, so fewer files are probed and letting go takes long";

/// How programs hold on to functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One link for all places.
    Links,
    /// A perf event a place, of this type.
    Events { kind: u32 },
}

/// The programs, in the kernel.
pub(in crate::ebpf) struct TlsPrograms {
    fds: BTreeMap<Probe, OwnedFd>,
    form: Form,
    /// Why there are no links, though the kernel has them.
    no_links: Option<String>,
}

impl TlsPrograms {
    /// `object` is what `ebpf` was loaded from, and its maps are still there.
    pub(in crate::ebpf) fn load(
        object: &[u8],
        ebpf: &mut Ebpf,
        btf: &Btf,
        kernel: (u32, u32),
    ) -> Result<TlsPrograms, String> {
        let mut no_links = None;
        if kernel >= MULTI_KERNEL_MIN {
            match load_for_links(object, ebpf, btf) {
                Ok(fds) => return Ok(TlsPrograms { fds, form: Form::Links, no_links }),
                Err(reason) => no_links = Some(reason),
            }
        }
        let kind = std::fs::read_to_string(UPROBE_TYPE_PATH)
            .map_err(|error| format!("no uprobes in this kernel: {UPROBE_TYPE_PATH}: {error}"))?;
        let kind = kind.trim().parse().map_err(|_| "no uprobes in this kernel".to_string())?;
        let fds = load_for_events(ebpf)?;
        Ok(TlsPrograms { fds, form: Form::Events { kind }, no_links })
    }

    /// Links, where the kernel has them: whether they are used, and why not.
    pub(in crate::ebpf) fn links(&self) -> Option<ProgramStatus> {
        let has_links = self.form == Form::Links || self.no_links.is_some();
        let reason = self.no_links.as_ref().map(|why| format!("{EVENTS_INSTEAD}: {why}"));
        has_links.then(|| ProgramStatus { program: LINKS.to_string(), reason })
    }

    /// Whether an attachment costs a descriptor and a tenth of a second for each place.
    pub(super) fn are_costly(&self) -> bool {
        self.form != Form::Links
    }

    /// All of a file's probes, or none.
    pub(in crate::ebpf) fn attach(
        &self,
        file: &File,
        points: &Points,
    ) -> io::Result<Vec<Attachment>> {
        if let Some(harm) = harm(points) {
            return Err(io::Error::other(harm));
        }
        self.attach_at(file, &points.at)
    }

    /// Those that are there for a while.
    pub(in crate::ebpf) fn attach_passing(
        &self,
        file: &File,
        points: &Points,
    ) -> io::Result<Vec<Attachment>> {
        self.attach_at(file, &points.passing)
    }

    fn attach_at(&self, file: &File, at: &BTreeSet<(Probe, u64)>) -> io::Result<Vec<Attachment>> {
        let path = CString::new(path_of(file)).map_err(io::Error::other)?;
        let mut attachments = Vec::new();
        for (probe, offsets) in by_probe(at) {
            read_beforehand(file, &offsets);
            let program = self.fds.get(&probe).ok_or(io::ErrorKind::NotFound)?;
            match self.form {
                Form::Links => attachments.push(link(program, &path, &offsets, probe.is_return())?),
                Form::Events { kind } => {
                    for offset in offsets {
                        attachments.push(event(program, &path, offset, probe, kind)?);
                    }
                }
            }
        }
        Ok(attachments)
    }
}

/// Why this kernel's probes at these points would harm a program.
pub(super) fn harm(points: &Points) -> Option<&'static str> {
    let has_returns = points.at.iter().any(|(probe, _)| probe.is_return());
    let release = std::fs::read_to_string(RELEASE_PATH).unwrap_or_default();
    (has_returns && !returns_are_safe(&release)).then_some(
        "this kernel ends programs under seccomp filters that have return probes (6.11 to 6.13, mended in 6.14)",
    )
}

/// On x86-64 a return probe is a system call of its own from 6.11 on, which filters of seccomp refuse and the
/// program does not survive; 6.14 and late fixes of 6.12 and 6.13 let it pass.
fn returns_are_safe(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse::<u32>().unwrap_or_default());
    let mut next = || numbers.next().unwrap_or_default();
    match (next(), next(), next()) {
        _ if !cfg!(target_arch = "x86_64") => true,
        (6, 11, _) => false,
        (6, 12, patch) => patch >= 20,
        (6, 13, patch) => patch >= 8,
        _ => true,
    }
}

fn load_for_events(ebpf: &mut Ebpf) -> Result<BTreeMap<Probe, OwnedFd>, String> {
    let mut fds = BTreeMap::new();
    for probe in Probe::ALL {
        let name = probe.program();
        let program = ebpf.program_mut(name).ok_or("not in the object")?;
        let program: &mut UProbe =
            program.try_into().map_err(|_| format!("{name} is no uprobe program"))?;
        program.load().map_err(|error| shortened(&with_causes(&error)))?;
        let fd = program.fd().map_err(|error| with_causes(&error))?;
        let fd = fd.as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
        fds.insert(probe, fd);
    }
    Ok(fds)
}

fn load_for_links(
    object: &[u8],
    ebpf: &Ebpf,
    btf: &Btf,
) -> Result<BTreeMap<Probe, OwnedFd>, String> {
    let mut parsed = aya_obj::Object::parse(object).map_err(|error| with_causes(&error))?;
    parsed.relocate_btf(btf).map_err(|error| with_causes(&error))?;
    let maps: Vec<(String, aya_obj::Map)> = parsed.maps.drain().collect();
    let with_fds: Vec<(&str, i32, &aya_obj::Map)> = maps
        .iter()
        .filter_map(|(name, map)| Some((name.as_str(), map_fd(ebpf.map(name)?)?, map)))
        .collect();
    let text: HashSet<usize> = parsed.functions.keys().map(|(section, _)| *section).collect();
    parsed.relocate_maps(with_fds.into_iter(), &text).map_err(|error| with_causes(&error))?;
    parsed.relocate_calls(&text).map_err(|error| with_causes(&error))?;
    let mut fds = BTreeMap::new();
    for probe in Probe::ALL {
        let name = probe.program();
        let program = parsed.programs.get(name).ok_or("not in the object")?;
        let function = parsed.functions.get(&program.function_key()).ok_or("not in the object")?;
        let fd = load_program(name, &function.instructions, &program.license)
            .map_err(|error| format!("{name}: {error}"))?;
        fds.insert(probe, fd);
    }
    Ok(fds)
}

fn map_fd(map: &Map) -> Option<i32> {
    let data: &MapData = match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data) => data,
        _ => return None,
    };
    Some(data.fd().as_fd().as_raw_fd())
}

/// The part of `union bpf_attr` that loads a program.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}
const _: () = assert!(size_of::<LoadAttr>() == 72);

fn load_program(name: &str, code: &[bpf_insn], license: &CString) -> io::Result<OwnedFd> {
    let mut attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_KPROBE,
        insn_cnt: u32::try_from(code.len()).map_err(io::Error::other)?,
        insns: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        expected_attach_type: BPF_TRACE_UPROBE_MULTI,
        ..LoadAttr::default()
    };
    let name = name.as_bytes();
    let bytes = name.len().min(attr.prog_name.len() - 1);
    attr.prog_name[..bytes].copy_from_slice(&name[..bytes]);
    let refused = match load_patiently(&|| bpf(BPF_PROG_LOAD, &attr)) {
        Ok(fd) => return Ok(fd),
        Err(error) => error,
    };
    let mut log = vec![0u8; LOG_BYTES];
    attr.log_level = 1;
    attr.log_size = LOG_BYTES as u32;
    attr.log_buf = log.as_mut_ptr() as u64;
    bpf(BPF_PROG_LOAD, &attr).map_err(|_| {
        let text = String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default());
        io::Error::new(refused.kind(), shortened(&format!("{refused}: {text}")))
    })
}

/// A signal to the process, or the lack of memory on a busy machine, ends what the kernel is about, however good the
/// program is: it is asked again. What was said first is told: asked for its reasons, a kernel has others to refuse a
/// good program, since they are longer than the room for them.
fn load_patiently(load: &dyn Fn() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    let is_passing = |error: &io::Error| {
        matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR | libc::ENOMEM))
    };
    let mut loaded = load();
    for _ in 1..LOADS_MAX {
        match &loaded {
            Err(error) if is_passing(error) => loaded = load(),
            _ => break,
        }
    }
    loaded
}

/// Has the kernel read the instructions as any reader does: what is not in its cache where a probe is set it reads by
/// itself, of which 6.18 warns in its log (`ext4_check_map_extents_env`).
fn read_beforehand(file: &File, offsets: &[u64]) {
    for offset in offsets {
        // Failing, it will be read where the probe is set.
        let _ = file.read_at(&mut [0; INSTRUCTION_BYTES_MAX], *offset);
    }
}

/// The part of `union bpf_attr` that attaches a program to many places.
#[repr(C)]
struct LinkAttr {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    ref_ctr_offsets: u64,
    cookies: u64,
    count: u32,
    multi_flags: u32,
    pid: u32,
    _pad: u32,
}
const _: () = assert!(size_of::<LinkAttr>() == 64);

fn link(
    program: &OwnedFd,
    path: &CString,
    offsets: &[u64],
    is_return: bool,
) -> io::Result<Attachment> {
    let attr = LinkAttr {
        prog_fd: u32::try_from(program.as_raw_fd()).map_err(io::Error::other)?,
        target_fd: 0,
        attach_type: BPF_TRACE_UPROBE_MULTI,
        flags: 0,
        path: path.as_ptr() as u64,
        offsets: offsets.as_ptr() as u64,
        ref_ctr_offsets: 0,
        cookies: 0,
        count: u32::try_from(offsets.len()).map_err(io::Error::other)?,
        multi_flags: if is_return { BPF_F_UPROBE_MULTI_RETURN } else { 0 },
        pid: 0,
        _pad: 0,
    };
    Ok(Attachment::Link { _fd: bpf(BPF_LINK_CREATE, &attr)? })
}

#[expect(unsafe_code, reason = "the bpf call has no safe wrapper")]
fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is a part of bpf_attr of the size that is given; it and what it points to outlive the call.
    let fd =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    owned(fd)
}

fn event(
    program: &OwnedFd,
    path: &CString,
    offset: u64,
    probe: Probe,
    kind: u32,
) -> io::Result<Attachment> {
    let attr = PerfEventAttr {
        kind,
        config: u64::from(probe.is_return()),
        sample_period: 1,
        wakeup_events: 1,
        config1: path.as_ptr() as u64,
        config2: offset,
        ..PerfEventAttr::default()
    };
    attach_event(owned(perf_event_open(&attr, 0))?, program.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A load that was interrupted is done again, and one that is refused is not. Catches probes of TLS that fall back
    /// to perf events because the machine was busy as they were loaded.
    #[test]
    fn interrupted_loads() {
        let tried = |errors: &[i32]| {
            let count = std::cell::Cell::new(0);
            let loaded = load_patiently(&|| {
                count.set(count.get() + 1);
                match errors.get(count.get() - 1) {
                    Some(error) => Err(io::Error::from_raw_os_error(*error)),
                    None => Ok(File::open("/dev/null")?.into()),
                }
            });
            (count.get(), loaded.err().and_then(|error| error.raw_os_error()))
        };
        assert_eq!(tried(&[libc::EAGAIN, libc::EAGAIN, libc::ENOMEM]), (4, None));
        assert_eq!(tried(&[libc::EAGAIN, libc::EACCES]), (2, Some(libc::EACCES)));
        assert_eq!(tried(&[libc::EAGAIN; 40]), (LOADS_MAX, Some(libc::EAGAIN)));
    }

    /// Kernels that would end a program for a return probe are known, with and without the fix. Catches
    /// harm to a program that is only watched.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn return_probes_that_harm() {
        let unsafe_ones = ["6.11.0-rc1", "6.11.11-generic", "6.12.9-amd64", "6.13.2", "6.12"];
        assert!(unsafe_ones.iter().all(|release| !returns_are_safe(release)));
        let safe = ["5.15.0-105-generic", "6.1.190", "6.10.14", "6.12.117", "6.13.8", "6.18.44-x"];
        assert!(safe.iter().all(|release| returns_are_safe(release)));
    }
}
