//! What a node's core begins with: the one way to make one, for servers, offline runs and tests.

use weir_proto::NodeInfo;
use weir_types::Upid;
use weir_types::ledger::NodeLedger;

/// What a node's core begins with.
pub struct CoreConfig {
    pub info: NodeInfo,
    /// What history may hold; `None` offline, where every query is installed before the first row.
    pub history_bytes: Option<u64>,
    /// Tables that history keeps room for.
    pub tables: Vec<String>,
    pub started_unix_ns: i64,
    /// How far behind the tick a row's event time may still be when everything is in order.
    pub settle_ns: i64,
    /// A ledger that others write into, too, of which rows are made, and the process that they are about.
    pub ledger: Option<(NodeLedger, Upid)>,
}

impl CoreConfig {
    /// Without history, from the beginning of time.
    #[must_use]
    pub fn new(info: NodeInfo) -> CoreConfig {
        CoreConfig {
            info,
            history_bytes: None,
            tables: Vec::new(),
            started_unix_ns: 0,
            settle_ns: 0,
            ledger: None,
        }
    }
}
