//! A node without a thread or a clock: whoever holds it says what time it is and carries its messages. Offline
//! answers and tests of whole pipelines use it; the server's node is [`crate::runtime`].

use std::sync::Arc;

use weir_engine::Engine;
use weir_proto::bus::{BusError, ClusterPort, NodePort, in_process};
use weir_proto::{NodeInfo, NodeLink, Report};
use weir_types::metadata::MetadataSnapshot;

use crate::core::{CoreConfig, NodeCore};
use crate::entities::NodeEntities;
use crate::store::Keeper;

/// The node, its bus, and the other end of it.
pub struct SteppedNode {
    pub core: NodeCore,
    name: String,
    port: NodePort,
    cluster_port: ClusterPort,
}

impl SteppedNode {
    /// Registers a node that runs on this engine and knows these entities. `history_bytes`: `None` where every
    /// query is installed before the first row.
    #[must_use]
    pub fn start(
        name: &str,
        engine: &Arc<Engine>,
        history_bytes: Option<u64>,
        metadata: &Arc<MetadataSnapshot>,
    ) -> SteppedNode {
        engine.set_metadata(Arc::clone(metadata));
        let (port, cluster_port) = in_process();
        let config = CoreConfig { history_bytes, ..CoreConfig::new(NodeInfo::named(name, 1, 0)) };
        let mut core = NodeCore::new(config, Arc::clone(engine), port.sender.clone())
            .with_entities(NodeEntities::of(Arc::clone(metadata)));
        core.register(Vec::new());
        SteppedNode { core, name: name.to_string(), port, cluster_port }
    }

    /// The same with a store, from which it goes on.
    #[must_use]
    pub fn with_store(self, keeper: Keeper, now_ms: u64) -> SteppedNode {
        SteppedNode { core: self.core.with_store(keeper, now_ms), ..self }
    }

    /// Gives what the node said to whoever hears it, with the node's name and the way back to it, and takes in
    /// what it was told, with all of its history that is asked for. True if anything moved.
    ///
    /// # Errors
    /// A message cannot be read.
    pub fn pump(
        &mut self,
        now_ms: u64,
        hear: &mut dyn FnMut(&str, &NodeLink, Report),
    ) -> Result<bool, BusError> {
        let moved = self.carry(now_ms, hear)?;
        while self.core.replay_slice() {}
        Ok(moved)
    }

    /// The same without history: that is its holder's to ask for, slice by slice.
    ///
    /// # Errors
    /// A message cannot be read.
    pub fn carry(
        &mut self,
        now_ms: u64,
        hear: &mut dyn FnMut(&str, &NodeLink, Report),
    ) -> Result<bool, BusError> {
        let mut moved = false;
        while let Some(report) = self.cluster_port.try_recv() {
            hear(&self.name, &self.cluster_port.link, report?);
            moved = true;
        }
        while let Some(message) = self.port.try_recv() {
            self.core.handle(message?, now_ms);
            moved = true;
        }
        Ok(moved)
    }
}
