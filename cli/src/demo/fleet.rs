//! The processes of the shop: a free block of addresses, one child each, and an end to all.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::{fmt, io};

use anyhow::Context as _;

use super::random::Random;
use super::{Role, ServiceInfo};

/// Tries to find a block of addresses; each try has its own block, and another port now and then,
/// for a server on a wildcard address takes a port on all of them.
const BLOCKS_TRIED_MAX: u8 = 24;
const PORTS: [u16; 4] = [8080, 8000, 18080, 28080];

/// Where the processes of one instance live: `127.77.<block>.<1..>:<port>`.
#[derive(Clone, Copy, Debug)]
struct Block {
    block: u8,
    port: u16,
}

impl Block {
    fn addr(self, role: Role) -> SocketAddr {
        let host = role as u8 + 1;
        let port = if role == Role::Shopper { 0 } else { self.port };
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 77, self.block, host)), port)
    }

    /// Whether every address is free now. Another instance may still be quicker: then the child
    /// says so, and the next block is tried.
    fn is_free(self) -> bool {
        Role::ALL.iter().all(|role| TcpListener::bind(self.addr(*role)).is_ok())
    }
}

/// A started process; ends with this value.
struct Process {
    role: Role,
    addr: SocketAddr,
    child: Child,
    ended: bool,
}

impl Drop for Process {
    fn drop(&mut self) {
        // By its own handle, never by name. The wait cannot hang: the signal cannot be ignored.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.role.name(), self.child.id())
    }
}

/// All processes, in the order of [`Role::ALL`]. Dropped from the back: the load goes first.
#[derive(Debug)]
pub(super) struct Fleet(Vec<Process>);

impl Drop for Fleet {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

impl Fleet {
    pub(super) fn launch(exe: &Path) -> anyhow::Result<Fleet> {
        let first = Random::new().below(256);
        let mut last = None;
        for offset in 0..BLOCKS_TRIED_MAX {
            let block = u8::try_from(first).unwrap_or(0).wrapping_add(offset);
            let port = PORTS[usize::from(offset) % PORTS.len()];
            let block = Block { block, port };
            if !block.is_free() {
                continue;
            }
            match Fleet::launch_in(exe, block) {
                Ok(fleet) => return Ok(fleet),
                Err(error) => last = Some(error),
            }
        }
        let free = anyhow::anyhow!("no free addresses for the demo in 127.77.0.0/16");
        Err(last.unwrap_or(free)).context("could not start the demo shop")
    }

    fn launch_in(exe: &Path, block: Block) -> anyhow::Result<Fleet> {
        let mut fleet = Fleet(Vec::with_capacity(Role::ALL.len()));
        for role in Role::ALL {
            let child = spawn(exe, role, block)
                .with_context(|| format!("could not start `{}`", role.name()))?;
            fleet.0.push(Process { role, addr: block.addr(role), child, ended: false });
        }
        for process in &mut fleet.0 {
            process.wait_until_ready()?;
        }
        Ok(fleet)
    }

    pub(super) fn services(&self) -> Vec<ServiceInfo> {
        let info = |process: &Process| ServiceInfo {
            name: process.role.name(),
            addr: process.addr,
            pid: process.child.id(),
        };
        self.0.iter().map(info).collect()
    }

    /// Those that ended by themselves since the last call.
    pub(super) fn newly_ended(&mut self) -> Vec<(&'static str, ExitStatus)> {
        let mut ended = Vec::new();
        for process in self.0.iter_mut().filter(|process| !process.ended) {
            if let Ok(Some(status)) = process.child.try_wait() {
                process.ended = true;
                ended.push((process.role.name(), status));
            }
        }
        ended
    }
}

impl Process {
    /// A process says one line once it listens; if it cannot, its output ends without.
    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let stdout = self.child.stdout.take().context("no pipe from the process")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        anyhow::ensure!(
            line.trim_end() == "ready",
            "`{}` ended before it listened on {}",
            self.role.name(),
            self.addr
        );
        Ok(())
    }
}

fn spawn(exe: &Path, role: Role, block: Block) -> io::Result<Child> {
    let mut command = Command::new(exe);
    command.arg("demo-service").args(["--name", role.name()]);
    command.args(["--listen", &block.addr(role).to_string()]);
    for peer in role.peers() {
        command.args(["--peer", &format!("{}={}", peer.name(), block.addr(*peer))]);
    }
    // The name that OpenTelemetry's SDKs read as well, so it is what tools look for.
    command.env("OTEL_SERVICE_NAME", role.name());
    // The pipe's other end closes with this process. A group of its own: Ctrl-C is for the parent,
    // which stops these in order.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    // They need no rights: under sudo they run as who called it, if that user can reach the file.
    if let (Some(uid), Some(gid)) = (id_from_env("SUDO_UID"), id_from_env("SUDO_GID"))
        && rustix::process::geteuid().is_root()
    {
        command.uid(uid).gid(gid);
        return match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                command.uid(0).gid(0).spawn()
            }
            spawned => spawned,
        };
    }
    command.spawn()
}

fn id_from_env(name: &str) -> Option<u32> {
    std::env::var(name).ok()?.parse().ok()
}
