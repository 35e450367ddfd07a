//! The cluster part's end of a NATS bus: a thread of its own that lets nodes in and has a port for each. Whoever
//! takes the ports gets a new one with each node that was not known.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, watch};
use tracing::{info, warn};
use weir_types::Clock;

use super::config::NatsConfig;
use super::hello::{Hello, Refused, Welcome, token, up_of};
use super::link::{self, LetIn, LinkCarrier, Links, NODES_MAX};
use super::stats::BusStats;
use super::{CLUSTER_CLIENT, part_bytes_max};
use crate::bus::{Carrier, ClusterPort};
use crate::envelope;
use crate::message::who_are_you;

/// It looks what is to be said to all nodes so often.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long another cluster part has to answer.
const OTHER_TIME_MAX: Duration = Duration::from_secs(1);
/// How often cluster parts say that they are there.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(2);

/// How far the hub is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubState {
    Connecting,
    /// Nodes are let in.
    Serving,
    /// It cannot go on: why.
    Failed(String),
}

/// Which nodes are let in, where several processes of one cluster part read the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// From 0, which takes those that cannot be told where to send as well.
    pub process: usize,
    pub processes: usize,
}

impl Share {
    pub const ALL: Share = Share { process: 0, processes: 1 };

    /// By the short id, of which there may be only one, too.
    fn has(self, hello: &Hello) -> bool {
        let processes = u32::try_from(self.processes).unwrap_or(u32::MAX).max(1);
        let of = if hello.led { hello.asid % processes } else { 0 };
        of as usize == self.process
    }
}

#[derive(Clone, Debug)]
pub struct HubConfig {
    pub bus: NatsConfig,
    /// Who this cluster part is, among others by mistake on the same bus.
    pub hostname: String,
    /// A node that is silent for so long is forgotten.
    pub forget_ms: u64,
    pub share: Share,
}

/// Which cluster part serves the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Server {
    id: u64,
    host: String,
    build: String,
}

struct Shared {
    config: HubConfig,
    own: Server,
    links: Arc<Mutex<Links>>,
    /// Nodes to which something is to be said.
    dirty: Mutex<BTreeSet<String>>,
    wake: Notify,
    stopping: Notify,
    client: OnceLock<Client>,
    ports: mpsc::Sender<(String, ClusterPort)>,
    clock: Arc<dyn Clock>,
    stats: Arc<BusStats>,
    tell: watch::Sender<HubState>,
}

/// A handle to the running hub.
pub struct NatsHub {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl NatsHub {
    /// Starts the thread. Nodes come through the receiver, each once.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(
        config: HubConfig,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<(NatsHub, mpsc::Receiver<(String, ClusterPort)>)> {
        let (tell, _) = watch::channel(HubState::Connecting);
        let (ports, nodes) = mpsc::channel(NODES_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let id = u64::try_from(clock.now_unix_ns()).unwrap_or(1);
        let build = env!("CARGO_PKG_VERSION").to_string();
        let shared = Arc::new(Shared {
            own: Server { id, host: config.hostname.clone(), build },
            config,
            links: Arc::default(),
            dirty: Mutex::default(),
            wake: Notify::new(),
            stopping: Notify::new(),
            client: OnceLock::new(),
            ports,
            clock,
            stats: Arc::default(),
            tell,
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("bus".to_string())
            .spawn(move || runtime.block_on(run(own)))?;
        Ok((NatsHub { shared, thread: Some(thread) }, nodes))
    }

    /// How far it is, now and later.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<HubState> {
        self.shared.tell.subscribe()
    }

    #[must_use]
    pub fn stats(&self) -> Arc<BusStats> {
        Arc::clone(&self.shared.stats)
    }

    /// Ends the thread.
    pub fn close(&mut self) {
        self.shared.stopping.notify_one();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, Links> {
        link::lock(&self.links)
    }

    fn now_ms(&self) -> u64 {
        self.clock.monotonic_ns() / 1_000_000
    }

    fn subject(&self, what: &str) -> String {
        format!("{}.{what}", self.config.bus.prefix)
    }

    /// There is something to say to a node. Whoever panicked left whole values.
    fn is_dirty(&self, token: &str) {
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        if !dirty.contains(token) {
            dirty.insert(token.to_string());
        }
        drop(dirty);
        self.wake.notify_one();
    }

    fn take_dirty(&self) -> Vec<String> {
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *dirty).into_iter().collect()
    }

    /// The way to a node.
    fn carrier(self: &Arc<Shared>, token: String) -> LinkCarrier {
        let (clock, waker) = (Arc::clone(&self.clock), Arc::clone(self));
        LinkCarrier {
            links: Arc::clone(&self.links),
            stats: Arc::clone(&self.stats),
            token,
            now_ms: Box::new(move || clock.monotonic_ns() / 1_000_000),
            given: Box::new(move |token| waker.is_dirty(token)),
        }
    }

    fn fail(&self, why: String) {
        self.tell.send_replace(HubState::Failed(why));
    }

    fn on_hello(self: &Arc<Shared>, bytes: &[u8], payload_max: usize) -> Option<Welcome> {
        let share = self.config.share;
        // Another process answers the others.
        let hello = Hello::decode(bytes).filter(|hello| share.has(hello))?;
        let part = match part_bytes_max(payload_max) {
            Ok(part) => part,
            Err(why) => return Some(Welcome::refused(Refused::new("max_payload", why))),
        };
        let now_unix_ns = u64::try_from(self.clock.now_unix_ns()).unwrap_or(0);
        let now = (now_unix_ns, self.now_ms());
        let let_in = self.links().hello(&hello, part, now, &self.stats);
        let Hello { name, incarnation, .. } = &hello;
        match let_in {
            Err(refused) => {
                BusStats::count(&self.stats.refused_total, 1);
                let (why, name) = (&refused.message, weir_types::text::line(name));
                warn!(node = %name, code = refused.code, why, "a node is not let in");
                Some(Welcome::refused(refused))
            }
            Ok(LetIn { session, new }) => {
                info!(node = name, incarnation, session, build = hello.build, "a node joined");
                let carrier = self.carrier(token(name));
                if let Ok(message) = envelope::encode(&who_are_you()) {
                    // It has just begun: there is room.
                    drop(carrier.carry(message));
                }
                if let Some(inbox) = new {
                    // There is room for all that may be let in.
                    drop(self.ports.try_send((name.clone(), carrier.port(inbox))));
                }
                Some(Welcome::session(session).read_by(share.process))
            }
        }
    }
}

async fn run(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.stopping.notified() => {}
        worked = work(Arc::clone(&shared)) => if let Err(why) = worked { shared.fail(why) },
    }
    if let Some(client) = shared.client.get() {
        drop(tokio::time::timeout(OTHER_TIME_MAX, client.flush()).await);
    }
}

async fn work(shared: Arc<Shared>) -> Result<(), String> {
    let bus = &shared.config.bus;
    let client = bus.connect(CLUSTER_CLIENT, &shared.stats).await?;
    drop(shared.client.set(client.clone()));
    let said = |error: async_nats::SubscribeError| bus.hidden(&error.to_string());
    let process = shared.config.share.process;
    // The first process speaks for all.
    let others = if process == 0 {
        find_other(&shared, &client).await?;
        Some(client.subscribe(shared.subject("cluster")).await.map_err(said)?)
    } else {
        None
    };
    let up = client.subscribe(shared.subject(&format!("{}.*", up_of(process))));
    let up = up.await.map_err(said)?;
    let hellos = client.subscribe(shared.subject("hello")).await.map_err(said)?;
    tokio::spawn(receive(Arc::clone(&shared), up));
    tokio::spawn(welcome(Arc::clone(&shared), client.clone(), hellos));
    drop(client.flush().await);
    shared.tell.send_replace(HubState::Serving);
    let alone = async {
        match others {
            Some(others) => stay_alone(&shared, &client, others).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        failed = alone => Err(failed),
        () = send(&shared, &client) => Ok(()),
    }
}

/// Refuses to serve a bus that another cluster part serves.
async fn find_other(shared: &Shared, client: &Client) -> Result<(), String> {
    let own = serde_json::to_vec(&shared.own).unwrap_or_default();
    let asked = client.request(shared.subject("cluster"), own.into());
    let answer = tokio::time::timeout(OTHER_TIME_MAX, asked).await;
    let other: Option<Server> = match &answer {
        Ok(Ok(message)) => serde_json::from_slice(&message.payload).ok(),
        _ => None,
    };
    match other {
        Some(other) => Err(in_use(&shared.config.bus, &other)),
        None => Ok(()),
    }
}

fn in_use(bus: &NatsConfig, other: &Server) -> String {
    let host: String = weir_types::text::line(&other.host).chars().take(64).collect();
    let (at, prefix) = (bus.shown(), &bus.prefix);
    format!(
        "another cluster part (on {host}) serves the bus {at} under the subjects {prefix}.*: stop it, or give \
         this cluster and its nodes another --bus-subject"
    )
}

/// Answers other cluster parts, and ends when one that began later serves the bus: then this one was thought
/// dead.
async fn stay_alone(shared: &Shared, client: &Client, mut others: Subscriber) -> String {
    let own = serde_json::to_vec(&shared.own).unwrap_or_default();
    let mut announce = tokio::time::interval(ANNOUNCE_EVERY);
    loop {
        let message = tokio::select! {
            _ = announce.tick() => {
                drop(client.publish(shared.subject("cluster"), own.clone().into()).await);
                continue;
            }
            message = others.next() => message,
        };
        let Some(message) = message else { return "the bus is closed".to_string() };
        let other: Option<Server> = serde_json::from_slice(&message.payload).ok();
        if let Some(reply) = message.reply {
            drop(client.publish(reply, own.clone().into()).await);
        } else if let Some(other) = other.filter(|other| other.id > shared.own.id) {
            return in_use(&shared.config.bus, &other);
        }
    }
}

async fn receive(shared: Arc<Shared>, mut up: Subscriber) {
    while let Some(message) = up.next().await {
        let Some((_, token)) = message.subject.rsplit_once('.') else { continue };
        shared.links().on_frame(token, &message.payload, shared.now_ms(), &shared.stats);
        shared.is_dirty(token);
    }
}

async fn welcome(shared: Arc<Shared>, client: Client, mut hellos: Subscriber) {
    while let Some(message) = hellos.next().await {
        let welcome = shared.on_hello(&message.payload, client.max_payload());
        if let (Some(reply), Some(welcome)) = (message.reply, welcome) {
            drop(client.publish(reply, welcome.encode().into()).await);
        }
    }
}

/// Sends what there is to send, to whom there is something, and looks at all of them now and then.
async fn send(shared: &Shared, client: &Client) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let tokens: Vec<String> = tokio::select! {
            () = shared.wake.notified() => shared.take_dirty(),
            _ = look.tick() => {
                let mut links = shared.links();
                links.forget(shared.config.forget_ms, shared.now_ms(), &shared.stats);
                links.tokens()
            }
        };
        for token in tokens {
            let subject = shared.subject(&format!("down.{token}"));
            loop {
                let frame = shared.links().next_frame(&token, shared.now_ms());
                let Some(frame) = frame else { break };
                if frame.len() > client.max_payload() {
                    shared.links().close_all(&shared.stats);
                    break;
                }
                publish(shared, client, subject.clone(), frame).await;
            }
        }
        let unknown = shared.links().take_unknown();
        for (token, frame) in unknown {
            publish(shared, client, shared.subject(&format!("down.{token}")), frame).await;
        }
    }
}

async fn publish(shared: &Shared, client: &Client, subject: String, frame: Vec<u8>) {
    BusStats::count(&shared.stats.bytes_sent_total, frame.len() as u64);
    // What was lost is sent again.
    drop(client.publish(subject, frame.into()).await);
}

#[cfg(test)]
mod share_tests {
    use super::*;

    /// Each node is of one process's share, whatever their number, and all have some; those that cannot be told where
    /// to send are the first one's.
    #[test]
    fn shares() {
        for processes in 1..6 {
            let shares = || (0..processes).map(|process| Share { process, processes });
            let mut of_each = vec![0; processes];
            for asid in 2..200 {
                let led = Hello::new("a", 1, asid);
                let has: Vec<Share> = shares().filter(|share| share.has(&led)).collect();
                assert_eq!(has.len(), 1, "{asid} {has:?}");
                of_each[has[0].process] += 1;
                let older = Hello { led: false, ..led };
                let has: Vec<Share> = shares().filter(|share| share.has(&older)).collect();
                assert_eq!(has, [Share { process: 0, processes }]);
            }
            assert!(of_each.iter().all(|nodes| *nodes >= 198 / processes), "{of_each:?}");
        }
    }
}
