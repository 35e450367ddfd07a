//! The bus over NATS: ports as within one process ([`crate::bus`]), with a server in between. Core NATS carries
//! frames and promises nothing; that messages arrive once and in order, or the session is known to be over, is
//! the two ends' business ([`end`]). Subjects, below a prefix of the cluster's own:
//!
//! * `PREFIX.hello`: a node asks to be let in ([`hello`]);
//! * `PREFIX.up.NODE`, `PREFIX.down.NODE`: frames ([`frame`]);
//! * `PREFIX.upN.NODE`: the same where process N of the cluster part reads a share of the nodes;
//! * `PREFIX.cluster`: cluster parts find out that there is only one.
//!
//! It knows nothing of what messages mean.

mod config;
mod end;
mod frame;
mod hello;
mod hub;
mod link;
mod node;
mod refused;
mod simulated;
mod stats;
#[cfg(test)]
mod tests;

pub use config::{NatsAuth, NatsConfig, NatsConfigError};
pub use hello::is_node_name;
pub use hub::{HubConfig, HubState, NatsHub, Share};
pub use node::{NatsNode, NatsNodeConfig, NodeBusState};
pub use simulated::{SimulatedBus, SimulatedNode};
pub use stats::BusStats;

/// A server that takes less carries nothing of ours.
const PAYLOAD_BYTES_MIN: usize = 1 << 10;
/// Larger frames are not worth it: what is lost is sent again frame by frame.
const FRAME_BYTES_MAX: usize = 128 << 10;

/// What the ends are called to the bus server: a node's name follows.
const NODE_CLIENT: &str = "weir node";
const CLUSTER_CLIENT: &str = "weir cluster";

/// How much of a message goes into a frame.
fn part_bytes_max(payload_max: usize) -> Result<usize, String> {
    if payload_max < PAYLOAD_BYTES_MIN {
        return Err(format!(
            "the bus server takes messages of {payload_max} bytes, Weir needs {PAYLOAD_BYTES_MIN}: \
             raise its max_payload"
        ));
    }
    Ok(payload_max.min(FRAME_BYTES_MAX) - frame::DATA_HEADER_BYTES)
}

/// A node's messages are deflated from so many bytes on: smaller ones gain nothing.
const NODE_DEFLATE_FROM_BYTES: usize = 1 << 10;
/// The cluster part tells all nodes the same on a thread that others wait for: it deflates what is large only.
const CLUSTER_DEFLATE_FROM_BYTES: usize = 64 << 10;

/// What a node keeps for the cluster part while that is slow or cannot be reached: minutes of a busy node's
/// changes. Beyond it nothing is taken, or the session is over if nobody is heard at its other end.
const NODE_KEPT_BYTES_MAX: usize = 64 << 20;

/// Of a node's end, over a server that takes messages of so many bytes.
fn node_bounds(payload_max: usize) -> Result<end::Bounds, String> {
    Ok(end::Bounds {
        kept_bytes_max: NODE_KEPT_BYTES_MAX,
        part_bytes_max: part_bytes_max(payload_max)?,
        deflate_from_bytes: NODE_DEFLATE_FROM_BYTES,
    })
}

/// What a session has counted goes into the books.
fn settle(stats: &BusStats, end: &mut end::End) {
    let counts = end.take_counts();
    BusStats::count(&stats.frames_resent_total, counts.frames_resent);
    BusStats::count(&stats.frames_repeated_total, counts.frames_repeated);
    BusStats::count(&stats.gaps_total, counts.gaps);
}

/// And what goes with it when it is over.
fn settle_over(stats: &BusStats, mut end: end::End) {
    settle(stats, &mut end);
    BusStats::count(&stats.dropped_total, end.kept_messages() as u64);
}
