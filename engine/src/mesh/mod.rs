//! How the processes of one engine find each other: each listens, the first one leads. Whoever follows asks it to be
//! let in, and is refused with a reason if it was built or told otherwise; when all are there the leader names a
//! *generation*, the processes connect to each other under that name, and only then does timely get the sockets
//! ([`wire`]). Timely survives no loss: with the first socket that breaks the generation is over for all, and they
//! meet again. It knows neither queries nor rows.
//!
//! Whoever can reach the ports and knows what is asked for can take part: they are for the processes alone.

mod deposits;
mod follow;
mod hello;
mod lead;
mod listen;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weir_types::{Clock, WallClock};

use crate::api::QueryId;
pub use deposits::Deposits;
use hello::Hello;

/// One line of the talk before timely's.
const LINE_MS_MAX: u64 = 2_000;
const LINE_TIME_MAX: Duration = Duration::from_millis(LINE_MS_MAX);
/// How often a leader that waits says so.
const WAITING_EVERY_MS: u64 = 500;
/// A leader that says nothing for so long is asked anew.
const SILENCE_MAX_MS: u64 = 3_000;
/// Between two looks at whether it is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a process is to be told before it may meet the others.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// From 0, which leads.
    pub process: usize,
    /// HOST:PORT of each process, the same list for all.
    pub addresses: Vec<String>,
    /// What must be the same in all processes, by name: builds, workers, limits.
    pub terms: BTreeMap<String, String>,
}

/// Who knocked and may come in.
struct Guest {
    hello: Hello,
    stream: TcpStream,
}

/// All that a process needs to be one of a generation.
pub(crate) struct Met {
    /// Its name.
    pub(crate) generation: String,
    /// By process; none for the own one.
    pub(crate) sockets: Vec<Option<TcpStream>>,
    /// Queries that other processes worked on when they died last.
    pub(crate) blamed: Vec<QueryId>,
}

/// How it stands between the processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeshStatus {
    pub process: usize,
    pub processes: usize,
    /// Of the generation that stands, or stood last.
    pub generation: Option<String>,
    pub generations_total: u64,
    pub refused_total: u64,
    /// Why somebody was refused last, here or by the leader.
    pub refused: Option<String>,
    /// In the leader, while it waits: who is missing.
    pub missing: Vec<usize>,
}

#[derive(Default)]
struct State {
    guests: BTreeMap<usize, Guest>,
    status: MeshStatus,
    /// What a worker of this process worked on when it died.
    died_of: Option<QueryId>,
}

struct Shared {
    config: MeshConfig,
    clock: WallClock,
    state: Mutex<State>,
    news: Condvar,
    stopping: AtomicBool,
    /// Connections whose first line is being read.
    knocking: AtomicU64,
    /// Changes that this process has read from the bus.
    deposits: Deposits,
    /// In the first process: where ways to it go over which another process hands on what nodes say.
    relays: Mutex<Option<Sender<(usize, TcpStream)>>>,
}

/// A process among those of one engine: listens from when it is made.
#[derive(Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Mesh {
    /// Listens at the process's own address; where that has a name, on all of the machine's.
    ///
    /// # Errors
    /// It cannot listen there, or the address has no port.
    pub fn listen(config: MeshConfig) -> io::Result<Mesh> {
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let own = config
            .addresses
            .get(config.process)
            .ok_or_else(|| wrong(format!("there is no address of process {}", config.process)))?;
        let listener = match own.parse::<SocketAddr>() {
            Ok(at) => TcpListener::bind(at),
            Err(_) => {
                let port = own.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
                let port: u16 = port.ok_or_else(|| wrong(format!("{own}: write HOST:PORT")))?;
                // Of both kinds of addresses; there may be only one of them.
                TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
                    .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
            }
        };
        let listener =
            listener.map_err(|error| io::Error::new(error.kind(), format!("{own}: {error}")))?;
        let addr = listener.local_addr()?;
        let mut state = State::default();
        state.status.process = config.process;
        state.status.processes = config.addresses.len();
        let shared = Arc::new(Shared {
            config,
            clock: WallClock,
            state: Mutex::new(state),
            news: Condvar::new(),
            stopping: AtomicBool::new(false),
            knocking: AtomicU64::new(0),
            deposits: Deposits::new(),
            relays: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("mesh".to_string())
            .spawn(move || listen::serve(&own, &listener))?;
        Ok(Mesh { shared, addr })
    }

    #[must_use]
    pub fn process(&self) -> usize {
        self.shared.config.process
    }

    #[must_use]
    pub fn processes(&self) -> usize {
        self.shared.config.addresses.len()
    }

    #[must_use]
    pub fn status(&self) -> MeshStatus {
        self.shared.lock().status.clone()
    }

    /// Where changes wait that this process reads from the bus.
    #[must_use]
    pub fn deposits(&self) -> &Deposits {
        &self.shared.deposits
    }

    /// In the first process: the ways over which others hand on what nodes say, with who is at their other end.
    #[must_use]
    pub fn relays(&self) -> Receiver<(usize, TcpStream)> {
        let (tell, relays) = channel();
        let mut own = self.shared.relays.lock().unwrap_or_else(PoisonError::into_inner);
        *own = Some(tell);
        relays
    }

    /// In another: a way to the first one.
    ///
    /// # Errors
    /// It is not there, or refuses.
    pub fn relay(&self) -> io::Result<TcpStream> {
        follow::relay(&self.shared)
    }

    /// Whoever waits for others gives up, now and later.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.news.notify_all();
        // Lets go of the port.
        drop(TcpStream::connect_timeout(&self.addr, LINE_TIME_MAX));
    }

    /// Waits until all are there.
    ///
    /// # Errors
    /// It was told to stop.
    pub(crate) fn meet(&self) -> Result<Met, String> {
        let met = match self.process() {
            0 => lead::meet(&self.shared),
            _ => follow::meet(&self.shared),
        }?;
        for socket in met.sockets.iter().flatten() {
            timeless(socket).map_err(|error| error.to_string())?;
        }
        let mut state = self.shared.lock();
        state.died_of = None;
        state.status.generation = Some(met.generation.clone());
        state.status.generations_total += 1;
        state.status.missing.clear();
        drop(state);
        Ok(met)
    }

    /// A worker of this process died of a query; told to the leader when it is asked to be let in again.
    pub(crate) fn note_death(&self, query: Option<QueryId>) {
        self.shared.lock().died_of = query;
    }
}

impl Shared {
    /// Whoever panicked left whole values.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn now_ms(&self) -> u64 {
        self.clock.monotonic_ns() / 1_000_000
    }

    /// Waits for so long, less if there is news.
    fn pause(&self, at_most: Duration) {
        let state = self.lock();
        if !self.is_stopping() {
            drop(self.news.wait_timeout(state, at_most));
        }
    }

    /// Waits for a moment, or for a guest.
    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.news.wait_timeout(state, LOOK_EVERY);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn note_refused(&self, why: &str) {
        let mut state = self.lock();
        state.status.refused_total += 1;
        if state.status.refused.as_deref() != Some(why) {
            tracing::warn!(why, "a process of the cluster part is refused");
            state.status.refused = Some(why.to_string());
        }
    }
}

const STOPPED: &str = "it was told to stop";

/// Connects to a process wherever its name leads.
fn connect(address: &str) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name leads nowhere");
    for at in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&at, LINE_TIME_MAX) {
            Ok(stream) => {
                prepare(&stream)?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LINE_TIME_MAX))?;
    stream.set_write_timeout(Some(LINE_TIME_MAX))
}

/// The talk is over: what follows takes its time.
fn timeless(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)
}
