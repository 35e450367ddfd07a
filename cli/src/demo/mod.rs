//! The demo shop behind `weir up --demo`: seven small HTTP services and a crowd of shoppers, each
//! a real process with an address of its own, so that a newcomer has something living to watch.
//!
//! ```text
//!  shopper ─▶ frontend ─┬─▶ catalog ◀──────── recommendations (a long tail of slow answers)
//!                       ├─▶ recommendations
//!                       ├─▶ cart ─▶ inventory
//!                       └─▶ checkout ─▶ cart, inventory, payments (one in 25 answers is a 503)
//! ```
//!
//! Nothing here is known to the rest of Weir: the shop is traced like any other program. Every
//! process binds its own 127.x.y.z address, also as the source of what it sends, so that both ends
//! of a connection can be told apart by address alone. The processes are this very binary, started
//! again with a hidden subcommand, and are gone with their parent whatever way it goes.
//!
//! It is not a load generator: about 65 requests a second in all, for about 1 % of a core.

mod fleet;
mod http;
mod random;
mod services;
mod shopper;

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::str::FromStr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use fleet::Fleet;

/// All processes answer within this time, or the demo counts as not started.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// How often the keeper looks for processes that ended by themselves.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a process of the shop is. The names are what people see on the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    Frontend,
    Catalog,
    Recommendations,
    Cart,
    Inventory,
    Checkout,
    Payments,
    /// The load: it listens to nobody.
    Shopper,
}

impl Role {
    const ALL: [Role; 8] = [
        Role::Frontend,
        Role::Catalog,
        Role::Recommendations,
        Role::Cart,
        Role::Inventory,
        Role::Checkout,
        Role::Payments,
        Role::Shopper,
    ];

    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Frontend => "frontend",
            Role::Catalog => "catalog",
            Role::Recommendations => "recommendations",
            Role::Cart => "cart",
            Role::Inventory => "inventory",
            Role::Checkout => "checkout",
            Role::Payments => "payments",
            Role::Shopper => "shopper",
        }
    }

    /// Whom it calls.
    fn peers(self) -> &'static [Role] {
        match self {
            Role::Shopper => &[Role::Frontend],
            Role::Frontend => &[Role::Catalog, Role::Recommendations, Role::Cart, Role::Checkout],
            Role::Recommendations => &[Role::Catalog],
            Role::Cart => &[Role::Inventory],
            Role::Checkout => &[Role::Cart, Role::Inventory, Role::Payments],
            Role::Catalog | Role::Inventory | Role::Payments => &[],
        }
    }
}

/// One process of the running demo.
#[derive(Clone, Debug)]
pub(crate) struct ServiceInfo {
    pub(crate) name: &'static str,
    /// Where it listens; the shopper's port is 0, its address is where its requests come from.
    pub(crate) addr: SocketAddr,
    pub(crate) pid: u32,
}

/// The running shop; dropping it stops it.
#[derive(Debug)]
pub(crate) struct Demo {
    services: Vec<ServiceInfo>,
    /// Dropped to make the keeper stop the processes.
    stop: Option<mpsc::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Demo {
    /// Starts all processes and returns once each of them listens.
    ///
    /// # Errors
    /// A process could not be started, or no address block with free ports was found.
    pub(crate) fn start() -> anyhow::Result<Demo> {
        let exe = std::env::current_exe().context("could not find this program's own file")?;
        Demo::start_from(&exe)
    }

    /// The keeper is a thread of its own because the death signal that the processes ask for is
    /// tied to the *thread* that started them: it must live as long as they do.
    fn start_from(exe: &Path) -> anyhow::Result<Demo> {
        let exe = exe.to_owned();
        let (started, result) = mpsc::channel();
        let (stop, stopped) = mpsc::channel();
        let keep = move || match Fleet::launch(&exe) {
            Ok(fleet) => {
                if started.send(Ok(fleet.services())).is_ok() {
                    keep(fleet, &stopped);
                }
            }
            Err(error) => drop(started.send(Err(error))),
        };
        let keeper = std::thread::Builder::new().name("demo-keeper".into()).spawn(keep)?;
        let services = match result.recv_timeout(START_TIMEOUT) {
            Ok(services) => services?,
            Err(RecvTimeoutError::Timeout) => {
                anyhow::bail!("demo did not start within {} s", START_TIMEOUT.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("demo keeper ended early"),
        };
        Ok(Demo { services, stop: Some(stop), keeper: Some(keeper) })
    }

    #[must_use]
    pub(crate) fn services(&self) -> &[ServiceInfo] {
        &self.services
    }

    /// Ends every process and waits until all of them are gone.
    pub(crate) fn stop(self) {
        drop(self);
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(keeper) = self.keeper.take() {
            // The keeper's panic has been printed; the processes see their pipes close.
            let _ = keeper.join();
        }
    }
}

/// Holds the processes until told to stop; says so, once each, if one ends before.
fn keep(mut fleet: Fleet, stopped: &mpsc::Receiver<()>) {
    while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        for (name, status) in fleet.newly_ended() {
            tracing::warn!(service = name, %status, "demo process ended by itself");
        }
    }
}

/// Arguments of the hidden subcommand: one process of the shop, or all of it without the agent.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServiceArgs {
    /// Start the whole shop, print one JSON object a process, and serve until standard input ends.
    #[arg(long, conflicts_with_all = ["name", "listen", "peers"])]
    all: bool,
    #[arg(long, requires = "listen", required_unless_present = "all")]
    name: Option<Role>,
    /// Where to listen; its address is also where calls to others come from.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Whom it may call.
    #[arg(long = "peer", value_name = "NAME=ADDR:PORT")]
    peers: Vec<Peer>,
}

#[derive(Clone, Debug)]
struct Peer {
    name: String,
    addr: SocketAddr,
}

impl FromStr for Peer {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Peer> {
        let (name, addr) = text.split_once('=').context("expected NAME=ADDR:PORT")?;
        Ok(Peer { name: name.to_owned(), addr: addr.parse()? })
    }
}

/// Runs one process of the shop until its parent is gone, or all of them.
///
/// # Errors
/// The address is taken, or standard input is no pipe from a parent.
pub(crate) fn run_service(args: &ServiceArgs) -> anyhow::Result<()> {
    let (Some(role), Some(listen), false) = (args.name, args.listen, args.all) else {
        return run_shop();
    };
    end_with_parent()?;
    set_process_name(role.name());
    let calls = http::Calls::new(listen.ip(), args.peers.iter().map(|p| (&*p.name, p.addr)));
    if role == Role::Shopper {
        say("ready")?;
        return shopper::run(&calls);
    }
    let listener =
        TcpListener::bind(listen).with_context(|| format!("could not listen on {listen}"))?;
    say("ready")?;
    services::run(role, &listener, &calls)
}

fn run_shop() -> anyhow::Result<()> {
    let demo = Demo::start()?;
    for ServiceInfo { name, addr, pid } in demo.services() {
        say(&serde_json::json!({ "name": name, "addr": addr, "pid": pid }).to_string())?;
    }
    wait_for_end_of_input();
    demo.stop();
    Ok(())
}

/// Two independent ways, for a parent that was killed cannot help: the kernel's death signal, and
/// the pipe from the parent that ends with it (also if it died before the signal was asked for).
fn end_with_parent() -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .context("could not ask for the parent's death signal")?;
    anyhow::ensure!(getppid().is_some(), "started without a parent");
    std::thread::Builder::new().name("parent-watch".into()).spawn(|| {
        wait_for_end_of_input();
        std::process::exit(0);
    })?;
    Ok(())
}

fn wait_for_end_of_input() {
    let mut input = io::stdin().lock();
    let mut buffer = [0; 256];
    while matches!(input.read(&mut buffer), Ok(bytes) if bytes > 0) {}
}

/// So that lists of processes show `cart` and not eight times the same. Cosmetic: may fail.
fn set_process_name(name: &str) {
    if let Ok(name) = std::ffi::CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
