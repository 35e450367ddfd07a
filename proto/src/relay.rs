//! The way between a process of the cluster part that reads a share of the bus and the first one, which decides. What
//! nodes say is handed on as it came, except for changes: these stay in the process that read them, and the first one
//! is told of their number ([`FromNode::Deposited`]). What the first one has for these nodes comes back on the same
//! way. When the way breaks, what was on it is lost, as on any bus.
//!
//! It neither opens the way nor knows the bus' server, and what becomes of changes is not its business.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tracing::{info, warn};
use weir_types::split::Change;

use crate::bus::{BusError, Carrier, ClusterPort, FROM_NODE_MESSAGES_MAX, NodeLink};
use crate::envelope::{self, MESSAGE_BYTES_MAX};
use crate::message::{Deposit, FromNode, Report, ToNode};

/// A message of a node, or for one, with its name.
const FRAME_BYTES_MAX: u64 = MESSAGE_BYTES_MAX + (1 << 10);
const NAME_BYTES_MAX: usize = 253;
/// Frames that wait to be written: few, for each may be large.
const UP_FRAMES_MAX: usize = 8;
const DOWN_FRAMES_MAX: usize = 1_024;
/// Nodes that the first process knows over such ways.
const NODES_MAX: usize = 4_096;
/// While there is no room for changes.
const ROOM_EVERY: Duration = Duration::from_millis(5);

/// Keeps changes under a number, or gives them back when there is no room now.
pub type Keep = dyn Fn(Vec<Change>) -> Result<u64, Vec<Change>> + Send + Sync;
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
    let name = String::from_utf8(name).map_err(|_| strange("a name that is no text"))?;
    // Grows with what has come, not with what was said to come.
    let (mut message, wanted) = (Vec::new(), rest - name_bytes as u64);
    if from.take(wanted).read_to_end(&mut message).await? as u64 != wanted {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((name, message))
}

/// Writes what it is given. Ends with why it cannot go on.
async fn write_all(
    mut to: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Vec<u8>>,
) -> io::Error {
    while let Some(frame) = frames.recv().await {
        if let Err(error) = to.write_all(&frame).await {
            return error;
        }
    }
    io::Error::other("nobody has anything to say")
}

fn opened(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

/// In a process that follows: hands on what nodes say, and gives them what comes for them. Ends when the way breaks.
///
/// # Errors
/// Why it has ended.
pub async fn hand_on(
    stream: std::net::TcpStream,
    nodes: Ports,
    process: usize,
    keep: &Keep,
) -> io::Result<()> {
    let (down, up) = opened(stream)?.into_split();
    let links = RefCell::new(BTreeMap::new());
    let (tell, frames) = mpsc::channel(UP_FRAMES_MAX);
    Err(tokio::select! {
        why = write_all(up, frames) => why,
        why = take_down(down, &links) => why,
        () = take_nodes(nodes, &links, tell, (process, keep)) => io::Error::other("the bus is closed"),
    })
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
    tell: mpsc::Sender<Vec<u8>>,
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
    tell: mpsc::Sender<Vec<u8>>,
    (process, keep): (usize, &Keep),
) {
    while let Some(report) = port.recv().await {
        let said = match report {
            Ok(Report { life, message }) => {
                let Some(message) = left_here(message, process, keep).await else { continue };
                envelope::encode(&Report { life, message })
            }
            Err(error) => {
                warn!(node = name, %error, "unreadable message from a node");
                continue;
            }
        };
        match said {
            Ok(message) => {
                if tell.send(frame(&name, &message)).await.is_err() {
                    return;
                }
            }
            // A gap, which is noticed.
            Err(error) => warn!(node = name, %error, "a message could not be handed on"),
        }
    }
}

/// The message as it is handed on: changes stay here. `None`: no node may say this.
async fn left_here(message: FromNode, process: usize, keep: &Keep) -> Option<FromNode> {
    match message {
        FromNode::Update { query, place, exchange, tick_ms, mut changes } => loop {
            match keep(changes) {
                Ok(number) => {
                    let at = Deposit { process, number };
                    return Some(FromNode::Deposited { query, place, exchange, tick_ms, at });
                }
                Err(back) => changes = back,
            }
            tokio::time::sleep(ROOM_EVERY).await;
        },
        FromNode::Deposited { .. } => None,
        other => Some(other),
    }
}

/// A node that is heard over another process.
struct Known {
    received: mpsc::Sender<Vec<u8>>,
    /// The way to it, by its number.
    way: Option<(u64, mpsc::Sender<Vec<u8>>)>,
}

struct Shared {
    nodes: Mutex<BTreeMap<String, Known>>,
    ports: mpsc::Sender<(String, ClusterPort)>,
    ways: AtomicU64,
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
        let nodes = self.shared.lock();
        let way = nodes.get(&self.name).and_then(|known| known.way.as_ref());
        // Without a way it is dropped, as without a session: whatever it orders is ordered again.
        let Some((_, way)) = way else { return Ok(()) };
        match way.try_send(frame(&self.name, &bytes)) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(BusError::Full { max: DOWN_FRAMES_MAX }),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }
}

impl Shared {
    /// Whoever panicked left whole values.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relays {
    /// Nodes are told of to `ports`, each once.
    #[must_use]
    pub fn new(ports: mpsc::Sender<(String, ClusterPort)>) -> Relays {
        Relays(Arc::new(Shared { nodes: Mutex::default(), ports, ways: AtomicU64::new(0) }))
    }

    /// Takes what comes over a way from another process until it breaks.
    ///
    /// # Errors
    /// Why it has broken.
    pub async fn take(&self, stream: std::net::TcpStream, process: usize) -> io::Result<()> {
        let way = self.0.ways.fetch_add(1, Ordering::Relaxed);
        let (up, down) = opened(stream)?.into_split();
        let (tell, frames) = mpsc::channel(DOWN_FRAMES_MAX);
        info!(process, "a process reads a share of the bus");
        let why = tokio::select! {
            why = write_all(down, frames) => why,
            why = self.take_up(up, (way, tell)) => why,
        };
        for known in self.0.lock().values_mut() {
            known.way.take_if(|(of, _)| *of == way);
        }
        Err(why)
    }

    async fn take_up(
        &self,
        mut up: impl AsyncRead + Unpin,
        way: (u64, mpsc::Sender<Vec<u8>>),
    ) -> io::Error {
        loop {
            let (name, message) = match read_frame(&mut up).await {
                Ok(frame) => frame,
                Err(error) => return error,
            };
            let Some(received) = self.received_of(&name, &way).await else {
                warn!(node = name, "more than {NODES_MAX} nodes are not taken");
                continue;
            };
            // Without its reader it is for nobody.
            drop(received.send(message).await);
        }
    }

    /// Where messages of a node go. It is answered over the way on which it was heard last.
    async fn received_of(
        &self,
        name: &str,
        way: &(u64, mpsc::Sender<Vec<u8>>),
    ) -> Option<mpsc::Sender<Vec<u8>>> {
        let (received, new) = {
            let mut nodes = self.0.lock();
            if let Some(known) = nodes.get_mut(name).filter(|known| !known.received.is_closed()) {
                if known.way.as_ref().is_none_or(|(of, _)| *of != way.0) {
                    known.way = Some(way.clone());
                }
                return Some(known.received.clone());
            }
            if nodes.len() >= NODES_MAX && !nodes.contains_key(name) {
                nodes.retain(|_, known| known.way.is_some() && !known.received.is_closed());
                if nodes.len() >= NODES_MAX {
                    return None;
                }
            }
            let (received, inbox) = mpsc::channel(FROM_NODE_MESSAGES_MAX);
            let over = Over { shared: Arc::clone(&self.0), name: name.to_string() };
            let port = ClusterPort::over(Arc::new(over), inbox, Arc::default());
            let known = Known { received: received.clone(), way: Some(way.clone()) };
            nodes.insert(name.to_string(), known);
            (received, port)
        };
        drop(self.0.ports.send((name.to_string(), new)).await);
        Some(received)
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
