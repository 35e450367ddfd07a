//! Many nodes without machines, a server or time: their ends of the bus and the cluster part's own links, joined
//! frame by frame by whoever drives it. What it costs there is what it costs over a server, without the server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::end::End;
use super::frame::Frame;
use super::hello::{Hello, token};
use super::link::{LinkCarrier, Links, lock};
use super::stats::BusStats;
use super::{FRAME_BYTES_MAX, NODE_KEPT_BYTES_MAX, node_bounds};
use crate::bus::{BusError, ClusterPort};
use crate::envelope;
use crate::message::{Report, ToNode};

/// One simulated node's end.
pub struct SimulatedNode {
    token: String,
    end: End,
    handed_on: u64,
    /// Bytes of all frames that it has sent.
    pub bytes_sent: u64,
}

/// The cluster part's links, and where simulated nodes join.
#[derive(Default)]
pub struct SimulatedBus {
    links: Arc<Mutex<Links>>,
    stats: Arc<BusStats>,
    /// When something was done last.
    now_ms: Arc<AtomicU64>,
}

impl SimulatedBus {
    /// A node joins.
    ///
    /// # Errors
    /// It is not let in: why.
    pub fn join(
        &self,
        (name, incarnation, asid): (&str, u64, u32),
        now_ms: u64,
    ) -> Result<(SimulatedNode, ClusterPort), String> {
        self.now_ms.store(now_ms, Ordering::Relaxed);
        let bounds = node_bounds(FRAME_BYTES_MAX)?;
        let hello = Hello::new(name, incarnation, asid);
        let now = (now_ms.saturating_mul(1_000_000), now_ms);
        let let_in = lock(&self.links).hello(&hello, bounds.part_bytes_max, now, &self.stats);
        let let_in = let_in.map_err(|refused| refused.message)?;
        let inbox = let_in.new.ok_or("the node has joined before")?;
        let (token, now) = (token(name), Arc::clone(&self.now_ms));
        let carrier = LinkCarrier {
            links: Arc::clone(&self.links),
            stats: Arc::clone(&self.stats),
            token: token.clone(),
            now_ms: Box::new(move || now.load(Ordering::Relaxed)),
            given: Box::new(|_| ()),
        };
        let end = End::new(let_in.session, bounds, 0, now_ms);
        let node = SimulatedNode { token, end, handed_on: 0, bytes_sent: 0 };
        Ok((node, carrier.port(inbox)))
    }

    /// The cluster part takes frames of a node.
    pub fn take(&self, node: &SimulatedNode, frames: &[Vec<u8>], now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
        let mut links = lock(&self.links);
        for frame in frames {
            links.on_frame(&node.token, frame, now_ms, &self.stats);
        }
    }

    /// A node takes what the cluster part has for it.
    pub fn hear(&self, node: &mut SimulatedNode, now_ms: u64) -> Vec<ToNode> {
        let mut heard = Vec::new();
        loop {
            let frame = lock(&self.links).next_frame(&node.token, now_ms);
            let Some(bytes) = frame else { return heard };
            let Some(frame) = Frame::decode(&bytes) else { continue };
            // A session that cannot go on shows: nothing arrives any more.
            let Ok(Some(message)) = node.end.receive(&frame, now_ms, true) else { continue };
            node.handed_on += 1;
            heard.extend(envelope::decode(&message).ok());
        }
    }
}

impl SimulatedNode {
    /// What it says, as frames.
    ///
    /// # Errors
    /// The message cannot be encoded, or too much waits.
    pub fn say(&mut self, report: &Report) -> Result<(), BusError> {
        let bytes = envelope::encode(report)?;
        let full = |_| BusError::FullBytes { max_bytes: NODE_KEPT_BYTES_MAX };
        self.end.give(&bytes).map_err(full)
    }

    /// All that it can send now.
    pub fn frames(&mut self, now_ms: u64) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.end.next_frame(self.handed_on, now_ms) {
            self.bytes_sent += frame.len() as u64;
            frames.push(frame);
        }
        frames
    }
}
