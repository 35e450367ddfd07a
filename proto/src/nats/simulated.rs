//! Many nodes without machines, a server or time: their ends of the bus and the cluster part's own links, joined
//! frame by frame by whoever drives it. What it costs there is what it costs over a server, without the server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::end::{Bounds, End};
use super::frame::Frame;
use super::hello::{Hello, token};
use super::link::Links;
use super::stats::BusStats;
use super::{FRAME_BYTES_MAX, NODE_DEFLATE_FROM_BYTES, part_bytes_max};
use crate::bus::{BusError, Carrier, ClusterPort};
use crate::envelope;
use crate::message::{Report, ToNode};

/// A node never keeps more here than it would there.
const KEPT_BYTES_MAX: usize = 64 << 20;

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
}

struct LinkCarrier {
    links: Arc<Mutex<Links>>,
    stats: Arc<BusStats>,
    token: String,
}

fn lock(links: &Mutex<Links>) -> MutexGuard<'_, Links> {
    links.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Carrier for LinkCarrier {
    fn carry(&self, bytes: Vec<u8>) -> Result<(), BusError> {
        lock(&self.links).give(&self.token, &bytes, &self.stats);
        Ok(())
    }
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
        let part_bytes_max = part_bytes_max(FRAME_BYTES_MAX)?;
        let hello = Hello::new(name, incarnation, asid);
        let now = (now_ms.saturating_mul(1_000_000), now_ms);
        let let_in = lock(&self.links).hello(&hello, part_bytes_max, now, &self.stats);
        let let_in = let_in.map_err(|refused| refused.message)?;
        let (inbox, applied) = let_in.new.ok_or("the node has joined before")?;
        let deflate_from_bytes = NODE_DEFLATE_FROM_BYTES;
        let bounds = Bounds { kept_bytes_max: KEPT_BYTES_MAX, part_bytes_max, deflate_from_bytes };
        let token = token(name);
        let carrier = LinkCarrier {
            links: Arc::clone(&self.links),
            stats: Arc::clone(&self.stats),
            token: token.clone(),
        };
        let end = End::new(let_in.session, bounds, 0, now_ms);
        let node = SimulatedNode { token, end, handed_on: 0, bytes_sent: 0 };
        Ok((node, ClusterPort::over(Arc::new(carrier), inbox, applied)))
    }

    /// The cluster part takes frames of a node.
    pub fn take(&self, node: &SimulatedNode, frames: &[Vec<u8>], now_ms: u64) {
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
            let mut hand_on = |message: Vec<u8>| {
                node.handed_on += 1;
                heard.extend(envelope::decode(&message).ok());
                true
            };
            // A session that cannot go on shows: nothing arrives any more.
            let _ = node.end.receive(&frame, now_ms, &mut hand_on);
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
        self.end.give(&bytes).map_err(|_| BusError::Full { max: KEPT_BYTES_MAX })
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
