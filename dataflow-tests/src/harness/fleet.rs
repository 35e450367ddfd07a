//! Weir on many machines, on this one: a real bus server, nodes, and what may stand between them: a way that can be
//! cut, delayed and mended.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use weir_types::{Clock, WallClock};

use super::process::{Process, Signal};
use super::{Result, free_port, io_error, pause, wait_until, weir};

const READY_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// True if this machine has a NATS server.
#[must_use]
pub fn has_bus_server() -> bool {
    Command::new("nats-server").arg("--version").output().is_ok()
}

/// A NATS server on a loopback port of its own.
pub struct BusServer {
    process: Option<Process>,
    pub addr: SocketAddr,
    listen: &'static str,
    config: String,
    dir: TempDir,
}

impl BusServer {
    /// With this configuration, which may be empty.
    pub fn start(config: &str) -> Result<BusServer> {
        BusServer::start_at("127.0.0.1", config)
    }

    /// For other machines, too: it listens on all addresses of this one.
    pub fn start_open(config: &str) -> Result<BusServer> {
        BusServer::start_at("0.0.0.0", config)
    }

    fn start_at(listen: &'static str, config: &str) -> Result<BusServer> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let dir = tempfile::tempdir().map_err(io_error("make a directory"))?;
        let config = config.replace("@DIR@", &dir.path().to_string_lossy());
        let mut server = BusServer { process: None, addr, listen, config, dir };
        server.spawn()?;
        Ok(server)
    }

    fn spawn(&mut self) -> Result<()> {
        let path = self.dir.path().join("nats.conf");
        std::fs::write(&path, &self.config).map_err(io_error("write nats.conf"))?;
        let mut command = Command::new("nats-server");
        command.args(["-a", self.listen, "-p", &self.addr.port().to_string(), "-c"]).arg(&path);
        let mut process = Process::start(command)?;
        process.wait_ready(READY_DEADLINE, |_| TcpStream::connect(self.addr).ok())?;
        self.process = Some(process);
        Ok(())
    }

    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::Kill, STOP_DEADLINE)?;
        }
        Ok(())
    }

    /// Dies and comes back on the same port.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.spawn()
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.addr)
    }
}

/// A running `weir node`.
pub struct Node {
    process: Process,
    pub name: String,
    data_dir: TempDir,
}

impl Node {
    /// Waits until it is ready.
    pub fn start(bus: &str, name: &str, args: &[&str]) -> Result<Node> {
        let data_dir = tempfile::tempdir().map_err(io_error("make a data directory"))?;
        Node::start_by(Command::new(weir::binary()?), data_dir, bus, name, args)
    }

    /// By a command that ends in the binary.
    pub fn start_by(
        mut command: Command,
        data_dir: TempDir,
        bus: &str,
        name: &str,
        args: &[&str],
    ) -> Result<Node> {
        command.args(["node", "--bus", bus, "--name", name, "--data-dir"]);
        command.arg(data_dir.path()).args(args);
        let mut process = Process::start(command)?;
        let ready = format!("ready {name}");
        process.wait_ready(READY_DEADLINE, |process| {
            process.stdout.all().contains(&ready).then_some(())
        })?;
        Ok(Node { process, name: name.to_string(), data_dir })
    }

    /// Dies at once; a further life of it, if there is to be one, is another node of the same name.
    pub fn kill(mut self) -> Result<TempDir> {
        self.process.stop(Signal::Kill, STOP_DEADLINE)?;
        Ok(self.data_dir)
    }

    /// Stops in order.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.process.stop(Signal::Terminate, STOP_DEADLINE)
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }
}

/// How many TCP ports a process listens on.
#[must_use]
pub fn listening_ports(pid: u32) -> usize {
    let sockets = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{file}"));
    let text = sockets("tcp").unwrap_or_default() + &sockets("tcp6").unwrap_or_default();
    let listening: Vec<&str> = text
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.get(3) == Some(&"0A")).then(|| fields.get(9).copied())?
        })
        .collect();
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd"));
    let links = fds.into_iter().flatten().filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    let is_listening = |link: &Path| {
        let link = link.to_string_lossy();
        let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| listening.contains(&inode))
    };
    links.filter(|link| is_listening(link)).count()
}

/// What a way does with what it is given.
#[derive(Default)]
struct Rules {
    /// Nothing moves, and nobody is told: connections stay open.
    is_cut: AtomicBool,
    delay_ms: AtomicU64,
    closed: AtomicBool,
}

/// A way to a server, for one client: a proxy on a loopback port.
pub struct Way {
    pub addr: SocketAddr,
    rules: Arc<Rules>,
}

const CHUNK_BYTES: usize = 16 << 10;
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Way {
    pub fn to(server: SocketAddr) -> Result<Way> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io_error("bind a port"))?;
        let addr = listener.local_addr().map_err(io_error("read the bound port"))?;
        let rules = Arc::<Rules>::default();
        let own = Arc::clone(&rules);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(std::result::Result::ok) {
                if own.closed.load(Ordering::SeqCst) {
                    return;
                }
                let rules = Arc::clone(&own);
                std::thread::spawn(move || join(client, server, &rules));
            }
        });
        Ok(Way { addr, rules })
    }

    pub fn cut(&self, is_cut: bool) {
        self.rules.is_cut.store(is_cut, Ordering::SeqCst);
    }

    /// Everything takes so long, each way.
    pub fn delay(&self, by: Duration) {
        let by_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.rules.delay_ms.store(by_ms, Ordering::SeqCst);
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.addr)
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.rules.closed.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.addr));
    }
}

fn wait_while_cut(rules: &Rules) {
    while rules.is_cut.load(Ordering::SeqCst) && !rules.closed.load(Ordering::SeqCst) {
        pause(LOOK_EVERY);
    }
}

fn join(client: TcpStream, server: SocketAddr, rules: &Arc<Rules>) {
    wait_while_cut(rules);
    let Ok(server) = TcpStream::connect(server) else { return };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { return };
    let back = Arc::clone(rules);
    std::thread::spawn(move || carry(server_too, client_too, &back));
    carry(client, server, rules);
}

/// What is read now leaves once its delay is over; order is kept, and reading goes on meanwhile.
fn carry(mut from: TcpStream, mut to: TcpStream, rules: &Arc<Rules>) {
    let (given, taken) = std::sync::mpsc::channel::<(u64, Vec<u8>)>();
    let own = Arc::clone(rules);
    let writer = std::thread::spawn(move || {
        for (due_ns, bytes) in taken {
            pause(Duration::from_nanos(due_ns.saturating_sub(WallClock.monotonic_ns())));
            wait_while_cut(&own);
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        drop(to.shutdown(Shutdown::Both));
    });
    let mut bytes = vec![0; CHUNK_BYTES];
    loop {
        wait_while_cut(rules);
        let Ok(count @ 1..) = from.read(&mut bytes) else { break };
        let delay_ns = rules.delay_ms.load(Ordering::SeqCst) * 1_000_000;
        let due_ns = WallClock.monotonic_ns() + delay_ns;
        if given.send((due_ns, bytes[..count].to_vec())).is_err() {
            break;
        }
    }
    drop(given);
    drop(from.shutdown(Shutdown::Both));
    drop(writer.join());
}

/// Polls for longer than a moment, for what machines need some time for.
pub fn settles(deadline: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    assert!(wait_until(deadline, || is_so().then_some(())).is_some(), "{what} within {deadline:?}");
}
