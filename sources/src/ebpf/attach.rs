//! Attaching programs to tracepoints.
//!
//! aya reads a tracepoint's id under `/sys/kernel/tracing`, which is empty where nobody mounted
//! tracefs (minimal virtual machines, some containers). Here tracefs is mounted for this process
//! alone if need be: a mount that has no place in any file tree and ends with its descriptor.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use aya::Ebpf;
use aya::programs::raw_trace_point::RawTracePointLink;
use aya::programs::{Program, ProgramError, RawTracePoint, TracePoint};

use super::can_run::{CannotRun, ProgramStatus};
use weir_types::text::with_causes;

/// A program of an object, and the tracepoint that it is for.
pub(super) struct ProgramEntry {
    pub(super) object: &'static str,
    pub(super) name: &'static str,
    pub(super) category: &'static str,
    pub(super) tracepoint: &'static str,
}

impl ProgramEntry {
    /// Its program gets the tracepoint's own arguments, and is attached without tracefs.
    pub(super) fn is_raw(&self) -> bool {
        self.category == RAW
    }
}

/// The program that looks at `io_uring`.
pub(super) const URING_PROGRAM: &str = "uring_complete";
/// In place of a category: a raw tracepoint.
const RAW: &str = "raw";

const fn syscall(name: &'static str, tracepoint: &'static str) -> ProgramEntry {
    ProgramEntry { object: "syscalls", name, category: "syscalls", tracepoint }
}

/// In the order of attachment: a write's beginning before its end.
pub(super) const PROGRAMS: [ProgramEntry; 27] = [
    syscall("enter_write", "sys_enter_write"),
    syscall("enter_sendto", "sys_enter_sendto"),
    syscall("enter_writev", "sys_enter_writev"),
    syscall("enter_sendmsg", "sys_enter_sendmsg"),
    syscall("enter_sendmmsg", "sys_enter_sendmmsg"),
    syscall("exit_read", "sys_exit_read"),
    syscall("exit_write", "sys_exit_write"),
    syscall("exit_recvfrom", "sys_exit_recvfrom"),
    syscall("exit_sendto", "sys_exit_sendto"),
    syscall("exit_readv", "sys_exit_readv"),
    syscall("exit_writev", "sys_exit_writev"),
    syscall("exit_recvmsg", "sys_exit_recvmsg"),
    syscall("exit_sendmsg", "sys_exit_sendmsg"),
    syscall("exit_recvmmsg", "sys_exit_recvmmsg"),
    syscall("exit_sendmmsg", "sys_exit_sendmmsg"),
    syscall("exit_sendfile64", "sys_exit_sendfile64"),
    syscall("exit_splice", "sys_exit_splice"),
    syscall("exit_connect", "sys_exit_connect"),
    syscall("exit_accept", "sys_exit_accept"),
    syscall("exit_accept4", "sys_exit_accept4"),
    syscall("enter_close", "sys_enter_close"),
    syscall("exit_shutdown", "sys_exit_shutdown"),
    ProgramEntry {
        object: "syscalls",
        name: "sock_state",
        category: "sock",
        tracepoint: "inet_sock_set_state",
    },
    ProgramEntry {
        object: "syscalls",
        name: URING_PROGRAM,
        category: RAW,
        tracepoint: "io_uring_complete",
    },
    ProgramEntry {
        object: "process",
        name: "process_exec",
        category: "sched",
        tracepoint: "sched_process_exec",
    },
    ProgramEntry {
        object: "process",
        name: "process_fork",
        category: RAW,
        tracepoint: "sched_process_fork",
    },
    ProgramEntry {
        object: "process",
        name: "process_exit",
        category: "sched",
        tracepoint: "sched_process_exit",
    },
];

/// A program's hold on its tracepoint: dropping it detaches, which takes about 0.1 s.
pub(super) enum Attachment {
    PerfEvent {
        _fd: OwnedFd,
    },
    Raw {
        _link: RawTracePointLink,
    },
    /// At any number of places.
    Link {
        _fd: OwnedFd,
    },
}

/// Load and attach the wanted programs of an object, each on its own.
pub(super) fn attach_all(
    ebpf: &mut Ebpf,
    object: &'static str,
    tracefs: &Tracefs,
    wanted: &dyn Fn(&str) -> bool,
    attachments: &mut Vec<Attachment>,
    programs: &mut Vec<ProgramStatus>,
) {
    let of_object = PROGRAMS.iter().filter(|entry| entry.object == object);
    for entry in of_object.filter(|entry| wanted(entry.name)) {
        let reason = match attach_one(ebpf, entry, tracefs) {
            Ok(attachment) => {
                attachments.push(attachment);
                None
            }
            Err(reason) => Some(reason),
        };
        programs.push(ProgramStatus { program: format!("{object}/{}", entry.name), reason });
    }
}

fn attach_one(
    ebpf: &mut Ebpf,
    entry: &ProgramEntry,
    tracefs: &Tracefs,
) -> Result<Attachment, String> {
    match ebpf.program_mut(entry.name) {
        Some(Program::TracePoint(program)) => {
            let id = tracefs.id(entry.category, entry.tracepoint).map_err(|error| {
                format!("no tracepoint {}/{}: {error}", entry.category, entry.tracepoint)
            })?;
            load_once(program)?;
            let fd = program.fd().map_err(|error| with_causes(&error))?;
            attach(id, fd.as_fd().as_raw_fd())
                .map_err(|error| format!("could not attach to {}: {error}", entry.tracepoint))
        }
        Some(Program::RawTracePoint(program)) => {
            attach_raw(program, entry.tracepoint).map_err(|error| shortened(&with_causes(&error)))
        }
        _ => Err("not in the object".to_string()),
    }
}

fn attach_raw(program: &mut RawTracePoint, tracepoint: &str) -> Result<Attachment, ProgramError> {
    program.load()?;
    let link = program.attach(tracepoint)?;
    Ok(Attachment::Raw { _link: program.take_link(link)? })
}

fn load_once(program: &mut TracePoint) -> Result<(), String> {
    if program.fd().is_ok() {
        return Ok(());
    }
    program.load().map_err(|error| shortened(&with_causes(&error)))
}

/// The verifier's log may have thousands of lines: its first tell the error, its last the reason.
pub(super) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 1_000;
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= CHARS_MAX {
        return text.to_string();
    }
    let (head, tail) = (&chars[..CHARS_MAX / 5], &chars[chars.len() - CHARS_MAX * 4 / 5..]);
    format!("{} […] {}", String::from_iter(head), String::from_iter(tail))
}

/// The second version of `struct perf_event_attr`, which every kernel accepts.
#[repr(C)]
pub(super) struct PerfEventAttr {
    pub(super) kind: u32,
    pub(super) size: u32,
    pub(super) config: u64,
    pub(super) sample_period: u64,
    pub(super) sample_type: u64,
    pub(super) read_format: u64,
    pub(super) flags: u64,
    /// Records, or bytes if the flags say so.
    pub(super) wakeup_events: u32,
    pub(super) breakpoint_type: u32,
    pub(super) config1: u64,
    pub(super) config2: u64,
}
const _: () = assert!(size_of::<PerfEventAttr>() == 72);

impl Default for PerfEventAttr {
    fn default() -> PerfEventAttr {
        PerfEventAttr {
            kind: 0,
            size: size_of::<PerfEventAttr>() as u32,
            config: 0,
            sample_period: 0,
            sample_type: 0,
            read_format: 0,
            flags: 0,
            wakeup_events: 0,
            breakpoint_type: 0,
            config1: 0,
            config2: 0,
        }
    }
}

const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
const PERF_EVENT_IOC_ENABLE: libc::Ioctl = 0x2400;
const PERF_EVENT_IOC_SET_BPF: libc::Ioctl = 0x4004_2408;

/// One perf event on CPU 0 does for all CPUs: programs run wherever the tracepoint fires.
fn attach(tracepoint_id: u64, program_fd: RawFd) -> io::Result<Attachment> {
    let attr = PerfEventAttr {
        kind: PERF_TYPE_TRACEPOINT,
        config: tracepoint_id,
        sample_period: 1,
        wakeup_events: 1,
        ..PerfEventAttr::default()
    };
    attach_event(owned(perf_event_open(&attr, 0))?, program_fd)
}

/// The event's descriptor, or -1: of all processes on this CPU.
#[expect(unsafe_code, reason = "perf_event_open has no safe wrapper")]
pub(super) fn perf_event_open(attr: &PerfEventAttr, cpu: libc::c_int) -> libc::c_long {
    // SAFETY: `attr` is a perf_event_attr of the size it names; it and what it points to outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            std::ptr::from_ref(attr),
            -1 as libc::pid_t,
            cpu,
            -1 as libc::c_int,
            PERF_FLAG_FD_CLOEXEC,
        )
    }
}

/// Has a perf event run a program.
#[expect(unsafe_code, reason = "perf events have no safe wrapper")]
pub(super) fn attach_event(fd: OwnedFd, program_fd: RawFd) -> io::Result<Attachment> {
    // SAFETY: an ioctl on a perf event's descriptor, whose argument is a number.
    let set = unsafe { libc::ioctl(fd.as_raw_fd(), PERF_EVENT_IOC_SET_BPF, program_fd) };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    let enabled = unsafe { libc::ioctl(fd.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0) };
    if enabled < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Attachment::PerfEvent { _fd: fd })
}

/// The folder of tracepoints.
pub(super) enum Tracefs {
    Mounted(&'static str),
    Private(OwnedFd),
}

impl Tracefs {
    pub(super) fn open() -> Result<Tracefs, CannotRun> {
        for path in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
            if std::fs::exists(format!("{path}/events")).unwrap_or(false) {
                return Ok(Tracefs::Mounted(path));
            }
        }
        mount_privately().map(Tracefs::Private).map_err(|source| CannotRun::NoTracefs { source })
    }

    pub(super) fn id(&self, category: &str, tracepoint: &str) -> io::Result<u64> {
        let path = format!("events/{category}/{tracepoint}/id");
        let mut text = String::new();
        match self {
            Tracefs::Mounted(root) => File::open(format!("{root}/{path}"))?,
            Tracefs::Private(root) => open_at(root, &path)?,
        }
        .read_to_string(&mut text)?;
        text.trim().parse().map_err(io::Error::other)
    }
}

const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;

#[expect(unsafe_code, reason = "the mount calls have no safe wrapper")]
fn mount_privately() -> io::Result<OwnedFd> {
    const TRACEFS: &CStr = c"tracefs";
    const NONE: *const libc::c_char = std::ptr::null();
    // SAFETY: the name is a C string that outlives the call.
    let context =
        owned(unsafe { libc::syscall(libc::SYS_fsopen, TRACEFS.as_ptr(), FSOPEN_CLOEXEC) })?;
    // SAFETY: this command takes no key and no value.
    let created = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            NONE,
            NONE,
            0 as libc::c_int,
        )
    };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: numbers only.
    owned(unsafe {
        libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0 as libc::c_uint)
    })
}

#[expect(unsafe_code, reason = "std has no openat")]
fn open_at(dir: &OwnedFd, path: &str) -> io::Result<File> {
    let path = std::ffi::CString::new(path)?;
    // SAFETY: the path is a C string that outlives the call.
    let fd =
        unsafe { libc::openat(dir.as_raw_fd(), path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    owned(libc::c_long::from(fd)).map(File::from)
}

/// A descriptor that a system call just returned.
#[expect(unsafe_code, reason = "takes ownership of a raw descriptor")]
pub(super) fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
