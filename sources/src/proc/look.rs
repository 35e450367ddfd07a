//! One process, looked at from outside: whether its traffic can be captured, and what stands in the
//! way. It reads `/proc` once and keeps nothing.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::fs::ProcFs;
use super::parse;

/// Descriptors that are looked at.
const FDS_MAX: usize = 65_536;
/// Of an ELF file: four bytes of magic, then the class.
const ELF_MAGIC: [u8; 4] = *b"\x7fELF";

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessLook {
    pub pid: u32,
    pub cmdline: String,
    /// `None`: it may not be read, or there is none.
    pub exe: Option<String>,
    pub start_ticks: u64,
    pub kernel_thread: bool,
    /// Of its program: 32 or 64; `None` if it may not be read.
    pub bits: Option<u8>,
    pub sockets: usize,
    /// Local and remote ports of its TCP connections.
    pub ports: BTreeSet<u16>,
    /// Its cgroup's id, as filters have it.
    pub cgroup_id: Option<u64>,
    pub io_urings: usize,
    /// Its descriptors may not be read, or were too many.
    pub fds_unknown: bool,
    /// Mode of its seccomp filter: 0 none, 1 strict, 2 filter.
    pub seccomp: Option<i64>,
}

/// A reason for which traffic of the process is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// A stable name.
    pub code: &'static str,
    /// Nothing of it is seen, rather than some.
    pub all: bool,
    pub text: &'static str,
}

impl ProcessLook {
    /// What stands in the way of capturing it.
    #[must_use]
    pub fn obstacles(&self) -> Vec<Obstacle> {
        let mut found = Vec::new();
        let mut add = |applies: bool, code, all, text| {
            if applies {
                found.push(Obstacle { code, all, text });
            }
        };
        add(
            self.kernel_thread,
            "kernel_thread",
            true,
            "it is a thread of the kernel: it makes no system calls",
        );
        add(
            self.bits == Some(32),
            "bits_32",
            true,
            "its program is of 32 bits: system calls of that kind are not traced",
        );
        add(
            self.io_urings > 0,
            "io_uring",
            false,
            "it holds an io_uring: what it moves through that is counted (unseen_bytes), not read",
        );
        found
    }
}

impl ProcessLook {
    /// What of it a server sees that was told to look at these only (`pid:7`, `port:80`, `cgroup:4711`);
    /// none: it looks at everything.
    #[must_use]
    pub fn excluded_by(&self, filters: &[String]) -> Option<Obstacle> {
        let is = |kind: &str, meets: &dyn Fn(u64) -> bool| {
            let mut numbers = filters.iter().filter_map(|filter| filter.strip_prefix(kind));
            numbers.any(|number| number.parse().is_ok_and(meets))
        };
        let meets = is("pid:", &|pid| pid == u64::from(self.pid))
            || is("cgroup:", &|id| Some(id) == self.cgroup_id);
        if filters.is_empty() || meets {
            return None;
        }
        let (code, all, text) = if is("port:", &|port| {
            u16::try_from(port).is_ok_and(|port| self.ports.contains(&port))
        }) {
            let text = "the server looks at some ports only (--trace): at some of its connections";
            ("trace_filter", false, text)
        } else {
            let text = "the server looks at others only (--trace): at none of its connections now";
            ("trace_filter", true, text)
        };
        Some(Obstacle { code, all, text })
    }
}

/// Looks at a process below `root`, a `/proc`. The error says that it is not there.
pub fn look(root: &Path, pid: u32) -> std::io::Result<ProcessLook> {
    let mut fs = ProcFs::new(root);
    let stat = fs.read(pid, "stat").map(parse::stat)?;
    let stat = stat.ok_or_else(|| std::io::Error::other("its stat file has another form"))?;
    let status = fs.read(pid, "status").map(parse::number_fields).unwrap_or_default();
    let cmdline = fs.read(pid, "cmdline").map(<[u8]>::to_vec).unwrap_or_default();
    let exe = fs.link(pid, "exe").ok().map(|path| path.to_string_lossy().into_owned());
    let mut look = ProcessLook {
        pid,
        cmdline: String::from_utf8_lossy(&cmdline).replace('\0', " ").trim().to_string(),
        exe,
        start_ticks: stat.start_ticks,
        kernel_thread: stat.is_kernel_thread(),
        bits: elf_bits(&root.join(format!("{pid}/exe"))),
        seccomp: status.get("Seccomp").copied(),
        ..ProcessLook::default()
    };
    look.look_at_descriptors(&root.join(format!("{pid}/fd")));
    look.ports = ports(&mut fs, pid);
    look.cgroup_id = fs.read(pid, "cgroup").ok().and_then(cgroup_id);
    Ok(look)
}

fn ports(fs: &mut ProcFs, pid: u32) -> BTreeSet<u16> {
    let mut inodes = Vec::new();
    fs.socket_inodes(pid, FDS_MAX, &mut inodes);
    let mut ports = BTreeSet::new();
    for table in ["net/tcp", "net/tcp6"] {
        let Ok(text) = fs.read(pid, table) else { continue };
        let own = parse::tcp(text).filter(|socket| inodes.contains(&socket.inode));
        ports.extend(own.flat_map(|socket| [socket.local.port(), socket.remote.port()]));
    }
    ports
}

/// The inode of its directory in the unified hierarchy.
fn cgroup_id(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(std::fs::metadata(Path::new("/sys/fs/cgroup").join(path)).ok()?.ino())
}

impl ProcessLook {
    fn look_at_descriptors(&mut self, directory: &Path) {
        let Ok(entries) = std::fs::read_dir(directory) else {
            self.fds_unknown = true;
            return;
        };
        for (idx, entry) in entries.flatten().enumerate() {
            if idx == FDS_MAX {
                self.fds_unknown = true;
                return;
            }
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            let target = target.to_string_lossy();
            self.sockets += usize::from(target.starts_with("socket:["));
            self.io_urings += usize::from(target == "anon_inode:[io_uring]");
        }
    }
}

fn elf_bits(path: &Path) -> Option<u8> {
    let mut head = [0; 5];
    std::fs::File::open(path).ok()?.read_exact(&mut head).ok()?;
    match head {
        [a, b, c, d, 1] if [a, b, c, d] == ELF_MAGIC => Some(32),
        [a, b, c, d, 2] if [a, b, c, d] == ELF_MAGIC => Some(64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This test's own process is of 64 bits and holds the socket that it opened.
    #[test]
    fn looks_at_a_living_process() {
        let _socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let look = look(Path::new("/proc"), std::process::id()).unwrap();
        assert_eq!((look.bits, look.kernel_thread, look.io_urings), (Some(64), false, 0));
        assert!(look.sockets >= 1 && look.start_ticks > 0 && !look.cmdline.is_empty());
        assert_eq!(look.obstacles(), []);
        assert!(super::look(Path::new("/proc"), u32::MAX).is_err());
    }

    /// A filter that leaves the process out is named, one that takes it in is not; of filters by port
    /// it depends on its connections. Catches a process of which nothing is seen, and `yes`.
    #[test]
    fn filters_that_exclude_it_are_named() {
        let ports = BTreeSet::from([80, 5_000]);
        let look = ProcessLook { pid: 7, ports, cgroup_id: Some(9), ..ProcessLook::default() };
        let excluded = |filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(ToString::to_string).collect();
            look.excluded_by(&filters).map(|found| (found.code, found.all))
        };
        assert_eq!(excluded(&[]), None);
        assert_eq!(excluded(&["pid:8", "pid:7"]), None);
        assert_eq!(excluded(&["port:81", "cgroup:9"]), None);
        assert_eq!(excluded(&["pid:8"]), Some(("trace_filter", true)));
        assert_eq!(excluded(&["port:7", "cgroup:7"]), Some(("trace_filter", true)));
        assert_eq!(excluded(&["pid:8", "port:80"]), Some(("trace_filter", false)));
    }

    /// A program of 32 bits and an io_uring are named: catches a process that gives no row and of which
    /// nothing is said.
    #[test]
    fn names_what_stands_in_the_way() {
        let root = tempfile::tempdir().unwrap();
        let pid = root.path().join("7");
        std::fs::create_dir_all(pid.join("fd")).unwrap();
        let own = std::fs::read("/proc/self/stat").unwrap();
        std::fs::write(pid.join("stat"), own).unwrap();
        std::fs::write(pid.join("exe"), b"\x7fELF\x01 the rest").unwrap();
        std::os::unix::fs::symlink("anon_inode:[io_uring]", pid.join("fd/3")).unwrap();
        std::os::unix::fs::symlink("socket:[77]", pid.join("fd/4")).unwrap();
        let look = look(root.path(), 7).unwrap();
        assert_eq!((look.bits, look.sockets, look.io_urings), (Some(32), 1, 1));
        let codes: Vec<_> = look.obstacles().iter().map(|found| (found.code, found.all)).collect();
        assert_eq!(codes, [("bits_32", true), ("io_uring", false)]);
    }
}
