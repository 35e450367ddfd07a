//! A node's end of a NATS bus: a thread of its own that joins the cluster part whenever it can, and carries
//! what the node's port is given. While there is no session, what is given is dropped and counted: the
//! cluster part asks for what it does not know.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::connection::State as ConnectionState;
use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use tokio::sync::{Notify, mpsc, watch};
use tracing::{info, warn};
use weir_types::Clock;

use super::config::NatsConfig;
use super::end::{End, Over};
use super::frame::{Body, Frame};
use super::hello::{Hello, UP, Welcome, token};
use super::stats::BusStats;
use super::{NODE_CLIENT, node_bounds, settle, settle_over};
use crate::bus::{BusError, Carrier, NodePort};

const HELLO_TIME_MAX: Duration = Duration::from_secs(2);
const HELLO_EVERY: Duration = Duration::from_millis(500);
/// So many refusals in a row before it has ever joined: it will not be let in. Longer than a former life of
/// the same name is believed to be alive.
const REFUSALS_MAX: u32 = 10;
const BYE_TIME_MAX: Duration = Duration::from_secs(1);
/// A process that reads a share of the bus and is silent for so long may not be there any more: other processes read
/// other shares, and nobody else would say that the session is over.
const SILENT_MS_MAX: u64 = 7_000;
/// It looks whether something is to be said at least so often.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How far a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeBusState {
    /// The bus server was not reached yet.
    Connecting,
    /// It was, but no cluster part has let the node in, or not again.
    Waiting,
    Joined,
    /// The node will not be let in: why.
    Refused(String),
}

/// Who joins.
#[derive(Clone, Debug)]
pub struct NatsNodeConfig {
    pub bus: NatsConfig,
    pub name: String,
    pub incarnation: u64,
    pub asid: u32,
}

struct State {
    end: Option<End>,
    received: mpsc::Sender<Vec<u8>>,
    handed_on: u64,
    /// Where its frames are read.
    up: String,
}

struct Shared {
    config: NatsNodeConfig,
    state: Mutex<State>,
    wake: Notify,
    stopping: Notify,
    client: OnceLock<Client>,
    clock: Arc<dyn Clock>,
    stats: Arc<BusStats>,
    tell: watch::Sender<NodeBusState>,
}

/// A handle to the running end.
pub struct NatsNode {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct NodeCarrier(Arc<Shared>);

impl Carrier for NodeCarrier {
    /// Refuses what there is no room for as long as the other end is heard: it is slow, and another session would
    /// have it fill all anew and be slower. Whoever is not heard is not waited for: what is kept goes.
    fn carry(&self, bytes: Vec<u8>) -> Result<(), BusError> {
        let NodeCarrier(shared) = self;
        let mut state = shared.lock();
        let Some(end) = &mut state.end else {
            BusStats::count(&shared.stats.unsent_total, 1);
            return Ok(());
        };
        match end.give(&bytes) {
            Ok(()) => {}
            Err(Over::Full { max }) if end.is_heard(shared.now_ms()) => {
                return Err(BusError::FullBytes { max_bytes: max });
            }
            Err(over) => {
                BusStats::count(&shared.stats.unsent_total, 1);
                shared.end_session(&mut state, over);
            }
        }
        drop(state);
        shared.wake.notify_one();
        Ok(())
    }
}

impl NatsNode {
    /// Starts the thread. The port is the node's from now on, whether or not anybody is reached.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(
        config: NatsNodeConfig,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<(NatsNode, NodePort)> {
        let (tell, _) = watch::channel(NodeBusState::Connecting);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = |received| Shared {
            config,
            state: Mutex::new(State { end: None, received, handed_on: 0, up: UP.to_string() }),
            wake: Notify::new(),
            stopping: Notify::new(),
            client: OnceLock::new(),
            clock,
            stats: Arc::default(),
            tell,
        };
        // The port needs its carrier, which needs where received messages go.
        let (received, inbox) = mpsc::channel(crate::bus::TO_NODE_MESSAGES_MAX);
        let shared = Arc::new(shared(received));
        let port = NodePort::over(Arc::new(NodeCarrier(Arc::clone(&shared))), inbox);
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("bus".to_string())
            .spawn(move || runtime.block_on(run(own)))?;
        Ok((NatsNode { shared, thread: Some(thread) }, port))
    }

    /// How far it is, now and later.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<NodeBusState> {
        self.shared.tell.subscribe()
    }

    #[must_use]
    pub fn stats(&self) -> Arc<BusStats> {
        Arc::clone(&self.shared.stats)
    }

    /// Waits, at most so long, until all that was given has been done by the cluster part, and says good bye.
    pub fn close(&mut self, within: Duration) {
        let until_ns = u128::from(self.shared.clock.monotonic_ns()) + within.as_nanos();
        let is_done = || self.shared.lock().end.as_ref().is_none_or(End::is_done);
        while !is_done() && u128::from(self.shared.clock.monotonic_ns()) < until_ns {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        self.shared.stopping.notify_one();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    /// Whoever panicked left whole values.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        self.clock.monotonic_ns() / 1_000_000
    }

    fn end_session(&self, state: &mut State, over: Over) {
        if let Some(end) = state.end.take() {
            warn!(%over, "the session with the cluster part is over; another one begins");
            BusStats::count(&self.stats.sessions_over_total, 1);
            settle_over(&self.stats, end);
        }
    }

    fn on_frame(&self, bytes: &[u8]) {
        BusStats::count(&self.stats.bytes_received_total, bytes.len() as u64);
        let strange = || BusStats::count(&self.stats.strange_frames_total, 1);
        let Some(frame) = Frame::decode(bytes) else { return strange() };
        let mut state = self.lock();
        let State { end: Some(end), received, handed_on, .. } = &mut *state else {
            return strange();
        };
        if end.session != frame.session {
            return strange();
        }
        if frame.body == Body::Unknown {
            info!("the cluster part does not know us: joining again");
            if let Some(end) = state.end.take() {
                settle_over(&self.stats, end);
            }
            return;
        }
        let taken = end.receive(&frame, self.now_ms(), received.capacity() > 0);
        settle(&self.stats, end);
        match taken {
            Ok(None) => {}
            // There was room before. Without its reader it is for nobody.
            Ok(Some(message)) => *handed_on += u64::from(received.try_send(message).is_ok()),
            Err(over) => self.end_session(&mut state, over),
        }
    }

    fn subject(&self, way: &str) -> String {
        let NatsNodeConfig { bus, name, .. } = &self.config;
        format!("{}.{way}.{}", bus.prefix, token(name))
    }
}

async fn run(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.stopping.notified() => {}
        () = work(Arc::clone(&shared)) => {}
    }
    let (bye, up) = {
        let state = shared.lock();
        (state.end.as_ref().map(End::bye), shared.subject(&state.up))
    };
    if let (Some(client), Some(bye)) = (shared.client.get(), bye) {
        let said = async {
            client.publish(up, bye.into()).await.ok()?;
            client.flush().await.ok()
        };
        // A server that is not there does not hold us up.
        drop(tokio::time::timeout(BYE_TIME_MAX, said).await);
    }
}

async fn work(shared: Arc<Shared>) {
    let NatsNodeConfig { bus, name, .. } = &shared.config;
    let client = match bus.connect(&format!("{NODE_CLIENT} {name}"), &shared.stats).await {
        Ok(client) => client,
        Err(why) => {
            shared.tell.send_replace(NodeBusState::Refused(why));
            return;
        }
    };
    let down = match client.subscribe(shared.subject("down")).await {
        Ok(down) => down,
        Err(error) => {
            shared.tell.send_replace(NodeBusState::Refused(bus.hidden(&error.to_string())));
            return;
        }
    };
    drop(shared.client.set(client.clone()));
    tokio::spawn(receive(Arc::clone(&shared), down));
    shared.tell.send_replace(NodeBusState::Waiting);
    let mut joined_before = false;
    loop {
        if !join(&shared, &client, joined_before).await {
            return;
        }
        joined_before = true;
        shared.tell.send_replace(NodeBusState::Joined);
        send(&shared, &client).await;
        shared.tell.send_replace(NodeBusState::Waiting);
    }
}

async fn receive(shared: Arc<Shared>, mut down: Subscriber) {
    while let Some(message) = down.next().await {
        shared.on_frame(&message.payload);
        shared.wake.notify_one();
    }
}

/// Says hello until there is a session. False: the node is not let in, for good.
async fn join(shared: &Shared, client: &Client, joined_before: bool) -> bool {
    let NatsNodeConfig { bus, name, incarnation, asid } = &shared.config;
    let hello = Hello::new(name, *incarnation, *asid).encode();
    let (subject, mut refusals, mut attempts) = (format!("{}.hello", bus.prefix), 0, 0_u32);
    let bounds = match node_bounds(client.max_payload()) {
        Ok(bounds) => bounds,
        Err(why) => {
            shared.tell.send_replace(NodeBusState::Refused(why));
            return false;
        }
    };
    loop {
        let asked = client.request(subject.clone(), hello.clone().into());
        let answer = tokio::time::timeout(HELLO_TIME_MAX, asked).await;
        let welcome = match &answer {
            Ok(Ok(message)) => Welcome::decode(&message.payload),
            _ => None,
        };
        match welcome {
            Some(welcome @ Welcome { refused: None, .. }) => {
                let Welcome { session, build, .. } = &welcome;
                info!(session, cluster_build = build, "joined the cluster part");
                let mut state = shared.lock();
                state.up = welcome.up().to_string();
                let handed_on = state.handed_on;
                state.end = Some(End::new(*session, bounds, handed_on, shared.now_ms()));
                BusStats::count(&shared.stats.sessions_total, 1);
                return true;
            }
            Some(Welcome { refused: Some(refused), .. }) => {
                let why = weir_types::text::line(&refused.message).into_owned();
                refusals += 1;
                if attempts.is_multiple_of(20) {
                    warn!(
                        code = refused.code,
                        why, "the cluster part does not let us in; trying on"
                    );
                }
                let for_good = ["name_in_use", "asid_in_use", "name"].contains(&&*refused.code);
                if for_good && !joined_before && refusals >= REFUSALS_MAX {
                    shared.tell.send_replace(NodeBusState::Refused(why));
                    return false;
                }
            }
            None if attempts.is_multiple_of(60) => {
                info!(bus = bus.shown(), subject, "no cluster part answers yet; waiting for one");
            }
            None => {}
        }
        attempts += 1;
        tokio::time::sleep(HELLO_EVERY).await;
    }
}

/// Sends what there is to send until the session is over.
async fn send(shared: &Shared, client: &Client) {
    let up = shared.lock().up.clone();
    let subject = shared.subject(&up);
    let mut heard_ms = shared.now_ms();
    loop {
        let frame = {
            let mut state = shared.lock();
            let (handed_on, now_ms) = (state.handed_on, shared.now_ms());
            let Some(end) = &mut state.end else { return };
            // Without a server nobody can be heard.
            let is_reached = client.connection_state() == ConnectionState::Connected;
            if end.is_heard(now_ms) || !is_reached {
                heard_ms = now_ms;
            } else if up != UP && now_ms.saturating_sub(heard_ms) > SILENT_MS_MAX {
                shared.end_session(&mut state, Over::Silent);
                return;
            }
            end.next_frame(handed_on, now_ms)
        };
        let Some(frame) = frame else {
            drop(tokio::time::timeout(LOOK_EVERY, shared.wake.notified()).await);
            continue;
        };
        if frame.len() > client.max_payload() {
            // Another server, which takes less: in another session all is cut anew.
            if let Some(end) = shared.lock().end.take() {
                settle_over(&shared.stats, end);
            }
            return;
        }
        BusStats::count(&shared.stats.bytes_sent_total, frame.len() as u64);
        // It is kept until the other end has done it, whatever becomes of this attempt.
        drop(client.publish(subject.clone(), frame.into()).await);
    }
}
