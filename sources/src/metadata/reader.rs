//! Reads what `/proc` says about single processes. It may wait as long as the kernel likes, and
//! remembers nothing but Docker's names of containers.

use std::path::Path;

use weir_types::Upid;

use super::names::{self, CgroupNames};
use super::{LOCAL_NAMESPACE, ProcessInfo, compose};
use crate::proc::fs::ProcFs;
use crate::proc::parse;

/// Of a command line this much is kept: classpaths fill megabytes.
const CMDLINE_BYTES_MAX: usize = 16 << 10;

/// What is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The pids that there are. `stamp` comes back with them.
    Pids { stamp: u64 },
    /// All about a process. `version` comes back with it.
    Process { pid: u32, version: u64 },
    /// The libraries that a process maps, but for its program.
    Libraries { upid: Upid, exe: String },
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Pids {
        stamp: u64,
        /// Ascending.
        pids: Vec<u32>,
    },
    Process {
        version: u64,
        info: Box<ProcessInfo>,
    },
    KernelThread {
        pid: u32,
    },
    Libraries {
        upid: Upid,
        /// JSON array.
        text: String,
    },
    /// It is gone, or may not be read.
    Nothing,
}

pub struct ProcessReader {
    asid: u32,
    fs: ProcFs,
    compose: compose::Containers,
}

impl ProcessReader {
    /// Reads a directory that looks like a machine's root (`proc/`, `var/lib/docker/`).
    #[must_use]
    pub fn new(asid: u32, root: &Path) -> ProcessReader {
        let fs = ProcFs::new(&root.join("proc"));
        ProcessReader { asid, fs, compose: compose::Containers::new(root) }
    }

    pub fn read(&mut self, order: &Order) -> Answer {
        let answer = match order {
            Order::Pids { stamp } => self.pids(*stamp),
            Order::Process { pid, version } => self.process(*pid, *version),
            Order::Libraries { upid, exe } => self.libraries(*upid, exe),
        };
        answer.unwrap_or(Answer::Nothing)
    }

    fn pids(&mut self, stamp: u64) -> Option<Answer> {
        let mut pids = Vec::new();
        self.fs.pids(&mut pids).ok()?;
        Some(Answer::Pids { stamp, pids })
    }

    fn process(&mut self, pid: u32, version: u64) -> Option<Answer> {
        let stat = parse::stat(self.fs.read(pid, "stat").ok()?)?;
        if stat.is_kernel_thread() {
            return Some(Answer::KernelThread { pid });
        }
        let info = self.info(pid, &stat);
        // A pid may change hands while it is read: all of it is the same process's, or nothing.
        let again = parse::stat(self.fs.read(pid, "stat").ok()?)?;
        (again.start_ticks == stat.start_ticks)
            .then_some(Answer::Process { version, info: Box::new(info) })
    }

    fn libraries(&mut self, upid: Upid, exe: &str) -> Option<Answer> {
        let stat = parse::stat(self.fs.read(upid.pid(), "stat").ok()?)?;
        let maps = self.fs.read(upid.pid(), "maps").ok()?;
        let text = serde_json::Value::from(parse::mapped_code(maps, exe)).to_string();
        (stat.start_ticks == upid.start_ticks()).then_some(Answer::Libraries { upid, text })
    }

    fn info(&mut self, pid: u32, stat: &parse::Stat) -> ProcessInfo {
        let raw = self.fs.read(pid, "cmdline").map(<[u8]>::to_vec).unwrap_or_default();
        let exe = self.fs.link(pid, "exe").unwrap_or_default().to_string_lossy().into_owned();
        let cgroup = self.fs.read(pid, "cgroup").map(names::cgroup).unwrap_or_default();
        let environ = self.fs.read(pid, "environ").unwrap_or_default();
        let otel = names::environment(environ, "OTEL_SERVICE_NAME").unwrap_or_default();
        let netns = self.fs.link_number(pid, "ns/net").unwrap_or(0);
        let executable = names::executable(&exe, &raw, &stat.comm);
        let CgroupNames { container_id, pod_uid, unit, slice } = cgroup;
        let compose = self.compose.find(&container_id);
        let first = |names: [&str; 3]| {
            names.into_iter().find(|name| !name.is_empty()).unwrap_or("").to_string()
        };
        let given = first([&otel, &compose.service, &unit]);
        let program = names::program(&executable, &raw);
        ProcessInfo {
            upid: Upid::new(self.asid, pid, stat.start_ticks),
            cmdline: names::command_line(&raw[..raw.len().min(CMDLINE_BYTES_MAX)]),
            exe,
            comm: stat.comm.clone(),
            service_is_program: given.is_empty(),
            service: first([&given, &program, ""]).replace('/', "_"),
            executable,
            namespace: first([&compose.project, &slice, LOCAL_NAMESPACE]),
            container: first([&compose.name, &container_id, ""]),
            container_id,
            pod_uid,
            netns: u32::try_from(netns).unwrap_or(0),
        }
    }
}
