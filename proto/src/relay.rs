//! The way between a process of the cluster part that reads a share of the bus and the first one, which decides. What
//! nodes say is handed on as it came, except for changes: these stay in the process that read them, and the first one
//! is told of their number ([`FromNode::Deposited`]). What the first one has for these nodes comes back on the same
//! way. When the way breaks, what was on it is lost, as on any bus; each process has one, the newest.
//!
//! All that waits here is bounded in bytes: what nodes say waits at the nodes in the end, and orders that find no room
//! are given again. It neither opens the way nor knows the bus' server, and what becomes of changes is not its business.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{info, warn};
use weir_types::split::Change;

use crate::bus::{BusError, Carrier, ClusterPort, FROM_NODE_MESSAGES_MAX, NodeLink, Unapplied};
use crate::envelope::{self, MESSAGE_BYTES_MAX};
use crate::message::{Deposit, FromNode, Report, ToNode};
use crate::nats::is_node_name;

/// A message of a node, or for one, with its name.
const FRAME_BYTES_MAX: u64 = MESSAGE_BYTES_MAX + (1 << 10);
const NAME_BYTES_MAX: usize = 253;
/// Frames that wait to be written, on the way to the first process and from it. One may go beyond.
const UP_BYTES_MAX: u32 = 8 << 20;
const DOWN_BYTES_MAX: u32 = 64 << 20;
/// A frame costs so much beside its bytes while it waits.
const FRAME_OVERHEAD_BYTES: usize = 64;
/// In the first process, of all nodes: messages that were read and are not done. One of each way may go beyond.
const UNAPPLIED_BYTES_MAX: usize = 128 << 20;
/// Nodes that the first process knows over such ways.
const NODES_MAX: usize = 4_096;
/// While there is no room.
const ROOM_EVERY: Duration = Duration::from_millis(5);

/// Keeps changes of a node under a number, or gives them back when there is no room now.
pub type Keep = dyn Fn(&str, Vec<Change>) -> Result<u64, Vec<Change>> + Send + Sync;
/// Nodes that come, each with its name.
type Ports = mpsc::Receiver<(String, ClusterPort)>;

fn frame(name: &str, message: &[u8]) -> Vec<u8> {
    let name_bytes = u16::try_from(name.len()).unwrap_or(0);
    let length = u32::try_from(2 + name.len() + message.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(6 + name.len() + message.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&name_bytes.to_le_bytes());
    frame.extend_from_slice(name.as_bytes());
    frame.extend_from_slice(message);
    frame
}

fn strange(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The next frame's name and message.
async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(String, Vec<u8>)> {
    let length = u64::from(from.read_u32_le().await?);
    if !(2..=FRAME_BYTES_MAX).contains(&length) {
        return Err(strange("a frame of a wrong length"));
    }
    let name_bytes = usize::from(from.read_u16_le().await?);
    let rest = length - 2;
    if name_bytes == 0 || name_bytes > NAME_BYTES_MAX || name_bytes as u64 > rest {
        return Err(strange("a frame without a name"));
    }
    let mut name = vec![0; name_bytes];
    from.read_exact(&mut name).await?;
    let name = String::from_utf8(name).ok().filter(|name| is_node_name(name));
    let name = name.ok_or_else(|| strange("a name of no node"))?;
    // Grows with what has come, not with what was said to come.
    let (mut message, wanted) = (Vec::new(), rest - name_bytes as u64);
    if from.take(wanted).read_to_end(&mut message).await? as u64 != wanted {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((name, message))
}

type Frames = mpsc::UnboundedReceiver<(Vec<u8>, OwnedSemaphorePermit)>;

/// Where frames wait to be written.
#[derive(Clone)]
struct Outbox {
    frames: mpsc::UnboundedSender<(Vec<u8>, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    bytes_max: u32,
}

impl Outbox {
    fn new(bytes_max: u32) -> (Outbox, Frames) {
        let (frames, waiting) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(bytes_max as usize));
        (Outbox { frames, room, bytes_max }, waiting)
    }

    fn cost(&self, frame: &[u8]) -> u32 {
        let bytes = u32::try_from(frame.len() + FRAME_OVERHEAD_BYTES);
        bytes.unwrap_or(u32::MAX).min(self.bytes_max)
    }

    /// Waits for room. False: nobody writes any more.
    async fn put(&self, frame: Vec<u8>) -> bool {
        let room = Arc::clone(&self.room).acquire_many_owned(self.cost(&frame)).await;
        room.is_ok_and(|room| self.frames.send((frame, room)).is_ok())
    }

    /// If there is room. Where nobody writes any more it is lost, as what is on the way.
    fn put_now(&self, frame: Vec<u8>) -> Result<(), BusError> {
        let room = Arc::clone(&self.room).try_acquire_many_owned(self.cost(&frame));
        let full = BusError::FullBytes { max_bytes: self.bytes_max as usize };
        let room = room.map_err(|_| full)?;
        drop(self.frames.send((frame, room)));
        Ok(())
    }
}

/// Writes what it is given. Ends with why it cannot go on.
async fn write_all(mut to: impl AsyncWrite + Unpin, mut frames: Frames) -> io::Error {
    while let Some((frame, _room)) = frames.recv().await {
        if let Err(error) = to.write_all(&frame).await {
            return error;
        }
    }
    io::Error::other("nobody has anything to say")
}

fn newer() -> io::Error {
    io::Error::other("there is a newer way")
}

fn opened(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

/// In a process that follows: hands on what nodes say, and gives them what comes for them. Ends when the way breaks,
/// with why.
pub async fn hand_on(
    stream: std::net::TcpStream,
    nodes: Ports,
    process: usize,
    keep: &Keep,
) -> io::Error {
    let (down, up) = match opened(stream) {
        Ok(stream) => stream.into_split(),
        Err(error) => return error,
    };
    let links = RefCell::new(BTreeMap::new());
    let (tell, frames) = Outbox::new(UP_BYTES_MAX);
    tokio::select! {
        why = write_all(up, frames) => why,
        why = take_down(down, &links) => why,
        () = take_nodes(nodes, &links, tell, (process, keep)) => io::Error::other("the bus is closed"),
    }
}

type NodeLinks = RefCell<BTreeMap<String, NodeLink>>;

async fn take_down(mut down: impl AsyncRead + Unpin, links: &NodeLinks) -> io::Error {
    loop {
        let (name, message) = match read_frame(&mut down).await {
            Ok(frame) => frame,
            Err(error) => return error,
        };
        let message: ToNode = match envelope::decode(&message) {
            Ok(message) => message,
            Err(error) => return strange(&error.to_string()),
        };
        let link = links.borrow().get(&name).cloned();
        // Whatever it orders is ordered again.
        if let Some(Err(error)) = link.map(|link| link.send(&message)) {
            warn!(node = name, %error, "a node could not be told what the first process says");
        }
    }
}

async fn take_nodes(
    mut nodes: Ports,
    links: &NodeLinks,
    tell: Outbox,
    (process, keep): (usize, &Keep),
) {
    let mut handing = FuturesUnordered::new();
    loop {
        let node = tokio::select! {
            node = nodes.recv() => node,
            Some(()) = handing.next(), if !handing.is_empty() => continue,
        };
        let Some((name, port)) = node else { return };
        links.borrow_mut().insert(name.clone(), port.link.clone());
        handing.push(hand_on_node(name, port, tell.clone(), (process, keep)));
    }
}

async fn hand_on_node(
    name: String,
    mut port: ClusterPort,
    tell: Outbox,
    (process, keep): (usize, &Keep),
) {
    while let Some(report) = port.recv().await {
        let said = match report {
            Ok(Report { life, message }) => {
                let message = left_here(&name, message, process, keep).await;
                envelope::encode(&Report { life, message })
            }
            Err(error) => {
                warn!(node = name, %error, "unreadable message from a node");
                continue;
            }
        };
        match said {
            Ok(message) => {
                if !tell.put(frame(&name, &message)).await {
                    return;
                }
            }
            // A gap, which is noticed.
            Err(error) => warn!(node = name, %error, "a message could not be handed on"),
        }
    }
}

/// The message as it is handed on: changes stay here.
async fn left_here(name: &str, message: FromNode, process: usize, keep: &Keep) -> FromNode {
    let FromNode::Update { query, place, exchange, tick_ms, mut changes } = message else {
        return message;
    };
    loop {
        match keep(name, changes) {
            Ok(number) => {
                let at = Deposit { process, number };
                return FromNode::Deposited { query, place, exchange, tick_ms, at };
            }
            Err(back) => changes = back,
        }
        tokio::time::sleep(ROOM_EVERY).await;
    }
}

/// A way from another process.
#[derive(Clone)]
struct Way {
    process: usize,
    number: u64,
    down: Outbox,
}

/// A node that is heard over another process.
struct Known {
    received: mpsc::Sender<Vec<u8>>,
    unapplied: Unapplied,
    way: Option<Way>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Known>,
    unapplied_bytes: usize,
    /// Of each process the newest way, by its number, and what ends it.
    ways: BTreeMap<usize, (u64, Arc<Notify>)>,
    last_way: u64,
}

impl State {
    /// Whether another message may be taken.
    fn has_room(&mut self) -> bool {
        if self.unapplied_bytes < UNAPPLIED_BYTES_MAX {
            return true;
        }
        for known in self.nodes.values_mut() {
            // Without its reader nobody does anything.
            self.unapplied_bytes -= match known.received.is_closed() {
                true => known.unapplied.take_all(),
                false => known.unapplied.take_done(),
            };
        }
        self.unapplied_bytes < UNAPPLIED_BYTES_MAX
    }

    fn is_newest(&self, way: &Way) -> bool {
        self.ways.get(&way.process).is_some_and(|(newest, _)| *newest == way.number)
    }

    /// Another node's place may be taken.
    fn make_place(&mut self) -> bool {
        if self.nodes.len() >= NODES_MAX {
            let State { nodes, unapplied_bytes, .. } = self;
            nodes.retain(|_, known| {
                let stays = known.way.is_some() && !known.received.is_closed();
                if !stays {
                    *unapplied_bytes -= known.unapplied.take_all();
                }
                stays
            });
        }
        self.nodes.len() < NODES_MAX
    }

    /// A message of a node is on its way to whoever takes it.
    fn note(&mut self, name: &str, to: &mpsc::Sender<Vec<u8>>, bytes: usize) {
        let known = self.nodes.get_mut(name);
        if let Some(known) = known.filter(|known| known.received.same_channel(to)) {
            known.unapplied.put(bytes);
            self.unapplied_bytes += bytes;
            self.unapplied_bytes -= known.unapplied.take_done();
        }
    }
}

struct Shared {
    state: Mutex<State>,
    ports: mpsc::Sender<(String, ClusterPort)>,
}

/// In the first process: nodes of all other processes. Each keeps its port over all ways that there are to it.
#[derive(Clone)]
pub struct Relays(Arc<Shared>);

/// To a node, over whichever way there is.
struct Over {
    shared: Arc<Shared>,
    name: String,
}

impl Carrier for Over {
    fn carry(&self, bytes: Vec<u8>) -> Result<(), BusError> {
        let state = self.shared.lock();
        let way = state.nodes.get(&self.name).and_then(|known| known.way.as_ref());
        // Without a way it is dropped, as without a session: whatever it orders is ordered again.
        way.map_or(Ok(()), |way| way.down.put_now(frame(&self.name, &bytes)))
    }
}

impl Shared {
    /// Whoever panicked left whole values.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relays {
    /// Nodes are told of to `ports`, each once.
    #[must_use]
    pub fn new(ports: mpsc::Sender<(String, ClusterPort)>) -> Relays {
        Relays(Arc::new(Shared { state: Mutex::default(), ports }))
    }

    /// Takes what comes over a way from another process until it breaks, or another one of that process is there.
    /// Gives why it has ended.
    pub async fn take(&self, stream: std::net::TcpStream, process: usize) -> io::Error {
        let (up, to) = match opened(stream) {
            Ok(stream) => stream.into_split(),
            Err(error) => return error,
        };
        let (down, frames) = Outbox::new(DOWN_BYTES_MAX);
        let replaced = Arc::new(Notify::new());
        let way = {
            let mut state = self.0.lock();
            state.last_way += 1;
            let number = state.last_way;
            let newest = (number, Arc::clone(&replaced));
            if let Some((_, former)) = state.ways.insert(process, newest) {
                former.notify_one();
            }
            Way { process, number, down }
        };
        info!(process, "a process reads a share of the bus");
        let why = tokio::select! {
            why = write_all(to, frames) => why,
            why = self.take_up(up, &way) => why,
            () = replaced.notified() => newer(),
        };
        let mut state = self.0.lock();
        for known in state.nodes.values_mut() {
            known.way.take_if(|of| of.number == way.number);
        }
        if state.is_newest(&way) {
            state.ways.remove(&process);
        }
        why
    }

    async fn take_up(&self, mut up: impl AsyncRead + Unpin, way: &Way) -> io::Error {
        loop {
            let (name, message) = match read_frame(&mut up).await {
                Ok(frame) => frame,
                Err(error) => return error,
            };
            while !self.0.lock().has_room() {
                tokio::time::sleep(ROOM_EVERY).await;
            }
            if !self.0.lock().is_newest(way) {
                return newer();
            }
            let Some(received) = self.received_of(&name, way).await else {
                warn!(node = name, "more than {NODES_MAX} nodes are not taken");
                continue;
            };
            // There is room for many: it waits where whoever takes them stands still.
            let Ok(place) = received.reserve().await else { continue };
            self.0.lock().note(&name, &received, message.len());
            place.send(message);
        }
    }

    /// Where messages of a node go. It is answered over the way on which it was heard last.
    async fn received_of(&self, name: &str, way: &Way) -> Option<mpsc::Sender<Vec<u8>>> {
        let (received, new) = {
            let mut state = self.0.lock();
            let open = |known: &&mut Known| !known.received.is_closed();
            if let Some(known) = state.nodes.get_mut(name).filter(open) {
                if known.way.as_ref().is_none_or(|of| of.number != way.number) {
                    known.way = Some(way.clone());
                }
                return Some(known.received.clone());
            }
            if let Some(mut former) = state.nodes.remove(name) {
                state.unapplied_bytes -= former.unapplied.take_all();
            }
            if !state.make_place() {
                return None;
            }
            let (received, inbox) = mpsc::channel(FROM_NODE_MESSAGES_MAX);
            let (over, applied) =
                (Over { shared: Arc::clone(&self.0), name: name.to_string() }, Arc::default());
            let unapplied = Unapplied::new(Arc::clone(&applied));
            let port = ClusterPort::over(Arc::new(over), inbox, applied).relayed();
            let known = Known { received: received.clone(), unapplied, way: Some(way.clone()) };
            state.nodes.insert(name.to_string(), known);
            (received, port)
        };
        drop(self.0.ports.send((name.to_string(), new)).await);
        Some(received)
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
