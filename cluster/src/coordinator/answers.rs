//! Table functions on a running server: rows that the agents and the cluster part know of
//! themselves, kept true. Agents are asked for the functions that somebody reads; about every second
//! their answers, and what the coordinator knows, are put together and handed to the engine, which
//! makes changes of them.
//!
//! Not here: functions that the registries answer (constant, given once), and those that nobody can
//! answer (the planner refuses them).

use std::collections::{BTreeMap, BTreeSet};

use tracing::warn;
use weir_proto::ToNode;
use weir_pxl::table_functions::rows::{AgentStatus, LinuxHeaders, Row, UnixNs, Version};
use weir_pxl::table_functions::{self, Answered, TableFunctionDef};
use weir_types::plan::{OpId, OpKind};
use weir_types::split::SplitPlan;
use weir_types::{PackedRow, Value};

use super::{Coordinator, Node};

/// How often rows are put together anew.
const EVERY_MS: u64 = 1_000;
/// A new reader's first answer waits this long for agents that have not answered yet.
const FIRST_ANSWER_WAIT_MS: u64 = 2_000;

const HEALTHY: &str = "AGENT_STATE_HEALTHY";
/// Silent for longer than a node may be.
const UNRESPONSIVE: &str = "AGENT_STATE_UNRESPONSIVE";

/// The cluster process, as it stands among the agents.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    pub asid: u32,
    pub hostname: String,
    pub ip_address: String,
    pub version: String,
    pub started_unix_ns: i64,
    pub kernel_headers_installed: bool,
}

/// A table function in an installed query.
struct FunctionReader {
    op: OpId,
    def: &'static TableFunctionDef,
    include_cluster: bool,
    pushed: Option<Vec<PackedRow>>,
}

/// The table functions of one query.
#[derive(Default)]
pub(super) struct Readers {
    readers: Vec<FunctionReader>,
    /// Until then the query does not move without an answer of every agent.
    waits_until_ms: Option<u64>,
    last_ms: u64,
}

impl Readers {
    pub(super) fn of(split: &SplitPlan, now_ms: u64) -> Readers {
        let mut readers = Vec::new();
        for (op, kind) in split.cluster.ops.iter().map(|op| &op.kind).enumerate() {
            let OpKind::TableFunction { name, args } = kind else { continue };
            let Some(def) = table_functions::find(name) else { continue };
            if matches!(def.answered, Answered::Agents | Answered::Cluster) {
                let without = ("include_kelvin".to_string(), Value::Boolean(false));
                let include_cluster = !args.contains(&without);
                readers.push(FunctionReader { op, def, include_cluster, pushed: None });
            }
        }
        let mut all = Readers { readers, waits_until_ms: None, last_ms: 0 };
        if all.asked_of_agents().next().is_some() {
            all.waits_until_ms = Some(now_ms + FIRST_ANSWER_WAIT_MS);
        }
        all
    }

    /// The query's frontier must not move yet.
    pub(super) fn wait(&self) -> bool {
        self.waits_until_ms.is_some()
    }

    fn asked_of_agents(&self) -> impl Iterator<Item = &'static str> {
        let agents = |reader: &&FunctionReader| reader.def.answered == Answered::Agents;
        self.readers.iter().filter(agents).map(|reader| reader.def.name)
    }

    fn all_answered(&self, nodes: &BTreeMap<String, Node>) -> bool {
        let live = || nodes.values().filter(|node| !node.lagging);
        self.asked_of_agents().all(|name| live().all(|node| node.answers.contains_key(name)))
    }
}

impl Coordinator {
    /// Tells the agents what is read now, if that changed.
    pub(super) fn ask_agents(&mut self) {
        let readers = self.queries.values().map(|query| &query.readers);
        let wanted: BTreeSet<&'static str> = readers.flat_map(Readers::asked_of_agents).collect();
        if wanted == self.asked {
            return;
        }
        self.asked = wanted;
        for (name, node) in &mut self.nodes {
            node.answers.retain(|function, _| self.asked.contains(function.as_str()));
            ask(name, node, &self.asked);
        }
    }

    /// The same for a node that just came.
    pub(super) fn ask_agent(&self, name: &str) {
        if let Some(node) = self.nodes.get(name).filter(|_| !self.asked.is_empty()) {
            ask(name, node, &self.asked);
        }
    }

    pub(super) fn on_answer(
        &mut self,
        name: &str,
        sequence: u64,
        function: String,
        rows: Vec<PackedRow>,
    ) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        let newer = node.answers.get(&function).is_none_or(|(last, _)| *last < sequence);
        if newer && self.asked.contains(function.as_str()) {
            node.answers.insert(function, (sequence, rows));
        }
    }

    /// What a node says that it answers; asked again if that is something else than was asked for.
    pub(super) fn check_asked(&mut self, name: &str, functions: &[String]) {
        let Some(node) = self.nodes.get(name) else { return };
        let have: BTreeSet<&str> = functions.iter().map(String::as_str).collect();
        if !have.iter().eq(self.asked.iter()) {
            ask(name, node, &self.asked);
        }
    }

    /// Gives the engine what changed.
    pub(super) fn push_answers(&mut self, now_ms: u64) {
        for (&query, entry) in &mut self.queries {
            let readers = &mut entry.readers;
            if let Some(until_ms) = readers.waits_until_ms {
                if now_ms < until_ms && !readers.all_answered(&self.nodes) {
                    continue;
                }
                readers.waits_until_ms = None;
            } else if now_ms.saturating_sub(readers.last_ms) < EVERY_MS {
                continue;
            }
            readers.last_ms = now_ms;
            for reader in &mut readers.readers {
                let rows = rows_of(reader, &self.nodes, &self.identity, now_ms);
                if reader.pushed.as_ref() != Some(&rows) {
                    reader.pushed = Some(rows.clone());
                    self.engine.push_table_function(query, reader.op, rows);
                }
            }
        }
    }
}

fn ask(name: &str, node: &Node, functions: &BTreeSet<&'static str>) {
    let functions = functions.iter().map(ToString::to_string).collect();
    if let Err(error) = node.link.send(&ToNode::Answer { functions }) {
        warn!(node = name, %error, "could not ask a node for table functions");
    }
}

fn rows_of(
    reader: &FunctionReader,
    nodes: &BTreeMap<String, Node>,
    cluster: &Identity,
    now_ms: u64,
) -> Vec<PackedRow> {
    let include = reader.include_cluster;
    let asid = i64::from(cluster.asid);
    match reader.def.name {
        "GetAgentStatus" => {
            let agents = nodes.values().map(|node| agent_status(reader.def, node, now_ms).pack());
            agents.chain(include.then(|| cluster_status(cluster).pack())).collect()
        }
        "GetLinuxHeadersStatus" => {
            let kernel_headers_installed = cluster.kernel_headers_installed;
            let row = || LinuxHeaders { asid, kernel_headers_installed }.pack();
            answered(reader.def.name, nodes).chain(include.then(row)).collect()
        }
        "Version" => vec![Version { asid, version: cluster.version.clone() }.pack()],
        // There are neither tracepoints nor scheduled scripts yet: no rows.
        name => answered(name, nodes).collect(),
    }
}

fn answered<'a>(
    name: &'a str,
    nodes: &'a BTreeMap<String, Node>,
) -> impl Iterator<Item = PackedRow> + 'a {
    nodes
        .values()
        .filter_map(move |node| node.answers.get(name))
        .flat_map(|(_, rows)| rows)
        .cloned()
}

/// What the coordinator hears of a node; its address and headers are what it said of itself.
fn agent_status(def: &TableFunctionDef, node: &Node, now_ms: u64) -> AgentStatus {
    let said = node.answers.get(def.name).and_then(|(_, rows)| rows.first());
    let said = said.and_then(AgentStatus::unpack);
    let silent_ns = now_ms.saturating_sub(node.last_heard_ms).saturating_mul(1_000_000);
    AgentStatus {
        agent_id: node.info.agent_id(),
        asid: i64::from(node.info.asid),
        hostname: node.info.hostname.clone(),
        kernel_headers_installed: said.as_ref().is_some_and(|said| said.kernel_headers_installed),
        ip_address: said.map_or_else(String::new, |said| said.ip_address),
        agent_state: if node.lagging { UNRESPONSIVE } else { HEALTHY }.to_string(),
        create_time: UnixNs(i64::try_from(node.info.incarnation).unwrap_or(0)),
        last_heartbeat_ns: i64::try_from(silent_ns).unwrap_or(i64::MAX),
    }
}

fn cluster_status(cluster: &Identity) -> AgentStatus {
    let started = u64::try_from(cluster.started_unix_ns).unwrap_or(0);
    AgentStatus {
        agent_id: (u128::from(cluster.asid) << 96) | u128::from(started),
        asid: i64::from(cluster.asid),
        hostname: cluster.hostname.clone(),
        ip_address: cluster.ip_address.clone(),
        agent_state: HEALTHY.to_string(),
        create_time: UnixNs(cluster.started_unix_ns),
        last_heartbeat_ns: 0,
        kernel_headers_installed: cluster.kernel_headers_installed,
    }
}

#[cfg(test)]
mod tests;
