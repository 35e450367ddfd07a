//! Ports: bounded queues of encoded messages between a node and the cluster part. Whoever carries the
//! bytes is a [`Carrier`]; in one process it is the queue of the other end ([`in_process`]), over a network
//! a transport that puts what it receives into the queues of [`NodePort::over`] and [`ClusterPort::over`]
//! ([`crate::nats`]). A carrier
//! may lose, repeat, delay and reorder: the messages are made for it ([`crate::message`]).
//!
//! Sending never blocks: engine workers send. A full queue is an error that the sender handles and
//! that is counted here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::envelope::{self, EnvelopeError};
use crate::message::{FromNode, Life, Report, ToNode};

/// Messages that wait from a node to the cluster part. Updates are one per exchange and refresh, so
/// this is minutes of backlog for hundreds of queries; beyond it the sender fails the query.
pub const FROM_NODE_MESSAGES_MAX: usize = 65_536;
/// Messages that wait from the cluster part to a node: installs and removals.
pub const TO_NODE_MESSAGES_MAX: usize = 4_096;

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("the bus queue is full ({max} messages)")]
    Full { max: usize },
    #[error("more than {max_bytes} bytes wait for the other end of the bus")]
    FullBytes { max_bytes: usize },
    #[error("the other end of the bus is gone")]
    Closed,
    #[error("a node says what only a process of the cluster part may say")]
    Forged,
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// Takes one encoded message on its way, without waiting.
pub trait Carrier: Send + Sync {
    /// # Errors
    /// It has no room now, or the other end is gone for good.
    fn carry(&self, bytes: Vec<u8>) -> Result<(), BusError>;
}

/// Within one process: the other end's queue.
impl Carrier for mpsc::Sender<Vec<u8>> {
    fn carry(&self, bytes: Vec<u8>) -> Result<(), BusError> {
        self.try_send(bytes).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => BusError::Full { max: self.max_capacity() },
            mpsc::error::TrySendError::Closed(_) => BusError::Closed,
        })
    }
}

/// Counters of one link.
#[derive(Debug, Default)]
pub struct LinkStats {
    pub messages_total: AtomicU64,
    pub bytes_total: AtomicU64,
    pub refused_total: AtomicU64,
}

/// A carrier with its books.
#[derive(Clone)]
struct Way {
    carrier: Arc<dyn Carrier>,
    stats: Arc<LinkStats>,
}

impl Way {
    fn new(carrier: Arc<dyn Carrier>) -> Way {
        Way { carrier, stats: Arc::default() }
    }

    fn send(&self, bytes: Vec<u8>) -> Result<(), BusError> {
        let len = bytes.len() as u64;
        let sent = self.carrier.carry(bytes);
        match &sent {
            Ok(()) => {
                self.stats.messages_total.fetch_add(1, Ordering::Relaxed);
                self.stats.bytes_total.fetch_add(len, Ordering::Relaxed);
            }
            Err(BusError::Full { .. } | BusError::FullBytes { .. }) => {
                self.stats.refused_total.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        sent
    }
}

/// The node's sending half; shared by all that report.
#[derive(Clone)]
pub struct NodeSender(Way);

impl NodeSender {
    /// What a life of the node says.
    pub fn send(&self, life: Life, message: FromNode) -> Result<(), BusError> {
        self.0.send(envelope::encode(&Report { life, message })?)
    }
    #[must_use]
    pub fn stats(&self) -> &LinkStats {
        &self.0.stats
    }
}

/// A node's end.
pub struct NodePort {
    pub sender: NodeSender,
    inbox: mpsc::Receiver<Vec<u8>>,
}

impl NodePort {
    /// A port whose received messages come through `inbox`.
    #[must_use]
    pub fn over(to_cluster: Arc<dyn Carrier>, inbox: mpsc::Receiver<Vec<u8>>) -> NodePort {
        NodePort { sender: NodeSender(Way::new(to_cluster)), inbox }
    }
    /// The next message; `None` once the cluster part is gone.
    pub async fn recv(&mut self) -> Option<Result<ToNode, BusError>> {
        let bytes = self.inbox.recv().await?;
        Some(envelope::decode(&bytes).map_err(BusError::from))
    }
    /// The same on a thread that has nothing else to do; not within an async runtime.
    pub fn blocking_recv(&mut self) -> Option<Result<ToNode, BusError>> {
        let bytes = self.inbox.blocking_recv()?;
        Some(envelope::decode(&bytes).map_err(BusError::from))
    }
    /// The next message if one is there.
    pub fn try_recv(&mut self) -> Option<Result<ToNode, BusError>> {
        let bytes = self.inbox.try_recv().ok()?;
        Some(envelope::decode(&bytes).map_err(BusError::from))
    }
}

/// The cluster part's way to a node.
#[derive(Clone)]
pub struct NodeLink(Way);

impl NodeLink {
    pub fn send(&self, message: &ToNode) -> Result<(), BusError> {
        self.0.send(envelope::encode(message)?)
    }
    #[must_use]
    pub fn stats(&self) -> &LinkStats {
        &self.0.stats
    }
}

/// The cluster part's end of one node's link.
pub struct ClusterPort {
    pub link: NodeLink,
    inbox: mpsc::Receiver<Vec<u8>>,
    /// Messages that were taken, and whose taker came back for the next: they are done.
    applied: Arc<AtomicU64>,
    /// One was taken and is not done yet.
    in_hand: bool,
    /// What comes was handed on by another process of the cluster part.
    is_relayed: bool,
}

impl ClusterPort {
    /// A port whose received messages come through `inbox`; `applied` counts those that are done.
    #[must_use]
    pub fn over(
        to_node: Arc<dyn Carrier>,
        inbox: mpsc::Receiver<Vec<u8>>,
        applied: Arc<AtomicU64>,
    ) -> ClusterPort {
        let link = NodeLink(Way::new(to_node));
        ClusterPort { link, inbox, applied, in_hand: false, is_relayed: false }
    }
    /// The same for a node that another process of the cluster part reads.
    #[must_use]
    pub fn relayed(self) -> ClusterPort {
        ClusterPort { is_relayed: true, ..self }
    }
    /// The next message. Whoever asks for it is done with the one before.
    pub async fn recv(&mut self) -> Option<Result<Report, BusError>> {
        self.done();
        let bytes = self.inbox.recv().await?;
        Some(self.take(&bytes))
    }
    pub fn try_recv(&mut self) -> Option<Result<Report, BusError>> {
        self.done();
        let bytes = self.inbox.try_recv().ok()?;
        Some(self.take(&bytes))
    }
    fn done(&mut self) {
        if std::mem::take(&mut self.in_hand) {
            self.applied.fetch_add(1, Ordering::Relaxed);
        }
    }
    fn take(&mut self, bytes: &[u8]) -> Result<Report, BusError> {
        self.in_hand = true;
        let report: Report = envelope::decode(bytes)?;
        match report.message {
            FromNode::Deposited { .. } if !self.is_relayed => Err(BusError::Forged),
            _ => Ok(report),
        }
    }
}

/// Messages of a node that were handed on and are not done.
pub(crate) struct Unapplied {
    /// Bytes of each, in order.
    bytes: VecDeque<usize>,
    done: u64,
    /// How many whoever takes them has done.
    applied: Arc<AtomicU64>,
}

impl Unapplied {
    pub(crate) fn new(applied: Arc<AtomicU64>) -> Unapplied {
        Unapplied { bytes: VecDeque::new(), done: 0, applied }
    }

    pub(crate) fn put(&mut self, bytes: usize) {
        self.bytes.push_back(bytes);
    }

    /// Bytes of those that were done since this was asked last.
    pub(crate) fn take_done(&mut self) -> usize {
        let applied = self.applied.load(Ordering::Relaxed);
        let mut bytes = 0;
        while self.done < applied
            && let Some(of_one) = self.bytes.pop_front()
        {
            self.done += 1;
            bytes += of_one;
        }
        bytes
    }

    /// Bytes of all, which nobody will do any more.
    pub(crate) fn take_all(&mut self) -> usize {
        self.bytes.drain(..).sum()
    }

    /// How many were known to be done when this was asked last.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    pub(crate) fn handed_on(&self) -> u64 {
        self.done + self.bytes.len() as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// A node's port over any carrier; the sender is where the transport puts what comes for the node.
#[must_use]
pub fn node_port(to_cluster: Arc<dyn Carrier>) -> (mpsc::Sender<Vec<u8>>, NodePort) {
    let (received, inbox) = mpsc::channel(TO_NODE_MESSAGES_MAX);
    (received, NodePort::over(to_cluster, inbox))
}

/// The cluster part's port to one node over any carrier; the sender is where the transport puts what
/// comes from that node.
#[must_use]
pub fn cluster_port(to_node: Arc<dyn Carrier>) -> (mpsc::Sender<Vec<u8>>, ClusterPort) {
    let (received, inbox) = mpsc::channel(FROM_NODE_MESSAGES_MAX);
    (received, ClusterPort::over(to_node, inbox, Arc::default()))
}

/// A link within one process.
#[must_use]
pub fn in_process() -> (NodePort, ClusterPort) {
    let (up, from_node) = mpsc::channel(FROM_NODE_MESSAGES_MAX);
    let (down, node) = node_port(Arc::new(up));
    (node, ClusterPort::over(Arc::new(down), from_node, Arc::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages arrive in order, a full queue refuses and counts, a dropped end is noticed.
    #[tokio::test(flavor = "current_thread")]
    async fn carries_in_order_and_refuses_when_full() {
        let (mut node, cluster) = in_process();
        let remove = |query| ToNode::Remove { query, epoch: 1 };
        for query in 0..TO_NODE_MESSAGES_MAX as u64 {
            cluster.link.send(&remove(query)).unwrap();
        }
        assert!(matches!(
            cluster.link.send(&remove(0)),
            Err(BusError::Full { max: TO_NODE_MESSAGES_MAX })
        ));
        assert_eq!(cluster.link.stats().refused_total.load(Ordering::Relaxed), 1);
        for want in 0..TO_NODE_MESSAGES_MAX as u64 {
            let got = node.recv().await.unwrap().unwrap();
            assert_eq!(got, remove(want));
        }
        drop(cluster);
        assert!(node.recv().await.is_none());
        let sent = node.sender.send(Life::default(), FromNode::Leave);
        assert!(matches!(sent, Err(BusError::Closed)));
    }
}
