//! Each process of a cluster part reads a share of the nodes from the bus. In the first one nodes of all shares come
//! together; in another what its nodes say is handed on to the first one, and changes stay. Neither which share is
//! whose nor what is handed on is decided here.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};
use weir_cluster::service::NodePorts;
use weir_engine::Mesh;
use weir_proto::nats::{HubConfig, HubState, NatsHub};
use weir_proto::relay::{self, Relays};

use super::clock;
use crate::failure::Failure;

/// How often it is looked whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Between two attempts to find the first process.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Nodes that wait to be taken.
const PORTS_MAX: usize = 64;

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// In the first process: its own nodes and those that others read.
pub(super) fn with_others(mesh: Option<&Mesh>, mut own: NodePorts) -> Result<NodePorts, Failure> {
    let Some(mesh) = mesh else { return Ok(own) };
    let no_thread = |error: std::io::Error| Failure::No(format!("no thread: {error}"));
    let (tell, all) = mpsc::channel(PORTS_MAX);
    let (relays, ways) = (Relays::new(tell.clone()), mesh.relays());
    let own_nodes = std::thread::Builder::new().name("nodes".to_string()).spawn(move || {
        while let Some(node) = own.blocking_recv() {
            if tell.blocking_send(node).is_err() {
                return;
            }
        }
    });
    own_nodes.map_err(no_thread)?;
    let taking = std::thread::Builder::new().name("relays".to_string()).spawn(move || {
        for (process, way) in ways {
            let relays = relays.clone();
            let one = std::thread::Builder::new().name(format!("relay-{process}"));
            let spawned = one.spawn(move || take(&relays, process, way));
            if let Err(error) = spawned {
                // It comes again.
                warn!(process, %error, "no thread for what a process hands on");
            }
        }
    });
    taking.map_err(no_thread)?;
    Ok(all)
}

fn take(relays: &Relays, process: usize, way: TcpStream) {
    let why = match runtime() {
        Ok(runtime) => runtime.block_on(relays.take(way, process)),
        Err(error) => error,
    };
    info!(process, %why, "a process hands nothing on any more");
}

/// How many generations have ended, and the way to the first process.
#[derive(Default)]
struct Way {
    ended: u64,
    stream: Option<TcpStream>,
}

type SharedWay = Arc<Mutex<Way>>;

/// Whoever panicked left whole values.
fn lock(way: &SharedWay) -> MutexGuard<'_, Way> {
    way.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In another process: the thread that reads its share. Ends with why the bus cannot go on, if that is so.
pub(super) struct Reader {
    way: SharedWay,
    thread: JoinHandle<Option<String>>,
}

impl Reader {
    /// `broken`: the way to the first process broke within a generation, which cannot go on without. Where the bus
    /// cannot go on, this process is asked to stop.
    pub(super) fn start(
        mesh: Mesh,
        hub: HubConfig,
        asked: Arc<AtomicBool>,
        broken: Box<dyn Fn(&str) + Send>,
    ) -> std::io::Result<Reader> {
        let way = SharedWay::default();
        let reading = Reading { mesh, hub, asked, way: Arc::clone(&way), runtime: runtime()? };
        let thread = std::thread::Builder::new().name("reader".to_string());
        let thread = thread.spawn(move || reading.run(&*broken))?;
        Ok(Reader { way, thread })
    }

    /// A generation is over: what was read was for it.
    pub(super) fn begin_anew(&self) {
        let mut way = lock(&self.way);
        way.ended += 1;
        if let Some(stream) = way.stream.take() {
            // Broken already, most likely.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Once it was asked to. Gives why the bus could not go on.
    pub(super) fn ends(self) -> Option<String> {
        self.thread.join().ok().flatten()
    }
}

/// Why nothing is read any more.
enum Ended {
    /// For now.
    NoWay(String),
    /// The bus cannot go on.
    NoBus(String),
    Asked,
}

struct Reading {
    mesh: Mesh,
    hub: HubConfig,
    asked: Arc<AtomicBool>,
    way: SharedWay,
    runtime: Runtime,
}

impl Reading {
    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    fn run(&self, broken: &dyn Fn(&str)) -> Option<String> {
        let mut said = String::new();
        while !self.is_asked() {
            let why = match self.mesh.relay() {
                Ok(stream) => {
                    let (born, ended) = self.read(stream);
                    let mut way = lock(&self.way);
                    way.stream = None;
                    let is_within = way.ended == born && !self.is_asked();
                    drop(way);
                    match ended {
                        Ended::Asked => break,
                        Ended::NoBus(why) => {
                            self.asked.store(true, Ordering::SeqCst);
                            return Some(why);
                        }
                        Ended::NoWay(why) => {
                            if is_within {
                                broken("the way to the first process has broken");
                            }
                            why
                        }
                    }
                }
                Err(error) => error.to_string(),
            };
            if said != why {
                info!(why, "what nodes say is not handed on; trying on");
                said = why;
            }
            std::thread::park_timeout(AGAIN_AFTER);
        }
        None
    }

    /// Until the way breaks: in which generation it began, and why it ended.
    fn read(&self, stream: TcpStream) -> (u64, Ended) {
        let born = {
            let mut way = lock(&self.way);
            way.stream = stream.try_clone().ok();
            way.ended
        };
        let (mut hub, nodes) = match NatsHub::start(self.hub.clone(), clock()) {
            Ok(started) => started,
            Err(error) => return (born, Ended::NoWay(format!("no thread for the bus: {error}"))),
        };
        let (process, state) = (self.mesh.process(), hub.state());
        let mesh = self.mesh.clone();
        let keep = move |node: &str, changes: Vec<_>| mesh.deposits().put(node, changes);
        let ended = self.runtime.block_on(async {
            tokio::select! {
                why = relay::hand_on(stream, nodes, process, &keep) => Ended::NoWay(why.to_string()),
                why = failure(state) => Ended::NoBus(why),
                () = self.stopped() => Ended::Asked,
            }
        });
        hub.close();
        (born, ended)
    }

    async fn stopped(&self) {
        while !self.is_asked() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Why the bus cannot go on; never, while it can.
pub(super) async fn failure(mut state: watch::Receiver<HubState>) -> String {
    let failed = state.wait_for(|state| matches!(state, HubState::Failed(_))).await;
    match failed.as_deref() {
        Ok(HubState::Failed(why)) => why.clone(),
        _ => std::future::pending().await,
    }
}
