//! The bus in one process: two bounded queues of encoded messages per node. A transport over a
//! network pumps the same bytes into the same ports.
//!
//! Sending never blocks: engine workers send. A full queue is an error that the sender handles and
//! that is counted here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::envelope::{self, EnvelopeError};
use crate::message::{FromNode, ToNode};

/// Messages that wait from a node to the cluster part. Updates are one per exchange and refresh, so
/// this is minutes of backlog for hundreds of queries; beyond it the sender fails the query.
pub const FROM_NODE_MESSAGES_MAX: usize = 65_536;
/// Messages that wait from the cluster part to a node: installs and removals.
pub const TO_NODE_MESSAGES_MAX: usize = 4_096;

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("the bus queue is full ({max} messages)")]
    Full { max: usize },
    #[error("the other end of the bus is gone")]
    Closed,
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// Counters of one link.
#[derive(Debug, Default)]
pub struct LinkStats {
    pub messages_total: AtomicU64,
    pub bytes_total: AtomicU64,
    pub refused_total: AtomicU64,
}

fn send_bytes(
    queue: &mpsc::Sender<Vec<u8>>,
    stats: &LinkStats,
    bytes: Vec<u8>,
) -> Result<(), BusError> {
    let len = bytes.len() as u64;
    match queue.try_send(bytes) {
        Ok(()) => {
            stats.messages_total.fetch_add(1, Ordering::Relaxed);
            stats.bytes_total.fetch_add(len, Ordering::Relaxed);
            Ok(())
        }
        Err(mpsc::error::TrySendError::Full(_)) => {
            stats.refused_total.fetch_add(1, Ordering::Relaxed);
            Err(BusError::Full { max: queue.max_capacity() })
        }
        Err(mpsc::error::TrySendError::Closed(_)) => Err(BusError::Closed),
    }
}

/// The node's sending half; shared by all that report.
#[derive(Clone)]
pub struct NodeSender {
    queue: mpsc::Sender<Vec<u8>>,
    stats: Arc<LinkStats>,
}

impl NodeSender {
    pub fn send(&self, message: &FromNode) -> Result<(), BusError> {
        send_bytes(&self.queue, &self.stats, envelope::encode(message)?)
    }
    #[must_use]
    pub fn stats(&self) -> &LinkStats {
        &self.stats
    }
}

/// A node's end.
pub struct NodePort {
    pub sender: NodeSender,
    inbox: mpsc::Receiver<Vec<u8>>,
}

impl NodePort {
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
pub struct NodeLink {
    queue: mpsc::Sender<Vec<u8>>,
    stats: Arc<LinkStats>,
}

impl NodeLink {
    pub fn send(&self, message: &ToNode) -> Result<(), BusError> {
        send_bytes(&self.queue, &self.stats, envelope::encode(message)?)
    }
}

/// The cluster part's end of one node's link.
pub struct ClusterPort {
    pub link: NodeLink,
    inbox: mpsc::Receiver<Vec<u8>>,
}

impl ClusterPort {
    pub async fn recv(&mut self) -> Option<Result<FromNode, BusError>> {
        let bytes = self.inbox.recv().await?;
        Some(envelope::decode(&bytes).map_err(BusError::from))
    }
    pub fn try_recv(&mut self) -> Option<Result<FromNode, BusError>> {
        let bytes = self.inbox.try_recv().ok()?;
        Some(envelope::decode(&bytes).map_err(BusError::from))
    }
}

/// A link within one process.
#[must_use]
pub fn in_process() -> (NodePort, ClusterPort) {
    let (up, from_node) = mpsc::channel(FROM_NODE_MESSAGES_MAX);
    let (down, to_node) = mpsc::channel(TO_NODE_MESSAGES_MAX);
    let node = NodePort { sender: NodeSender { queue: up, stats: Arc::default() }, inbox: to_node };
    let cluster =
        ClusterPort { link: NodeLink { queue: down, stats: Arc::default() }, inbox: from_node };
    (node, cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages arrive in order, a full queue refuses and counts, a dropped end is noticed.
    #[tokio::test(flavor = "current_thread")]
    async fn carries_in_order_and_refuses_when_full() {
        let (mut node, cluster) = in_process();
        for query in 0..TO_NODE_MESSAGES_MAX as u64 {
            cluster.link.send(&ToNode::Remove { query }).unwrap();
        }
        assert!(matches!(
            cluster.link.send(&ToNode::Remove { query: 0 }),
            Err(BusError::Full { max: TO_NODE_MESSAGES_MAX })
        ));
        assert_eq!(cluster.link.stats.refused_total.load(Ordering::Relaxed), 1);
        for want in 0..TO_NODE_MESSAGES_MAX as u64 {
            let got = node.recv().await.unwrap().unwrap();
            assert_eq!(got, ToNode::Remove { query: want });
        }
        drop(cluster);
        assert!(node.recv().await.is_none());
        assert!(matches!(node.sender.send(&FromNode::Leave), Err(BusError::Closed)));
    }
}
