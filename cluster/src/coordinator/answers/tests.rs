//! A coordinator with a real engine and two ends of a bus; the test is the nodes.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use weir_engine::{Engine, EngineConfig, EngineEvent};
use weir_proto::bus::{ClusterPort, NodePort, in_process};
use weir_proto::{FromNode, Life, NodeInfo, QueryId, Report, ToNode};

use super::*;
use crate::planner::{PlanError, ScriptRequest, prepare};
use crate::view::{SnapshotLimits, ViewState};

const LIFE: Life = Life { incarnation: 5, generation: 0 };

struct Cluster {
    coordinator: Coordinator,
    events: Receiver<EngineEvent>,
    view: ViewState,
    query: QueryId,
    now_ms: u64,
    ports: Vec<(String, NodePort, ClusterPort)>,
    told: u64,
}

const START_MS: u64 = 1_000_000;

impl Cluster {
    fn new() -> Cluster {
        let (send, events) = channel();
        let send = Mutex::new(send);
        let emit = Arc::new(move |event| drop(send.lock().unwrap().send(event)));
        let engine = Arc::new(Engine::start(EngineConfig::new("test"), emit).unwrap());
        let identity = Identity {
            hostname: "hub".to_string(),
            version: "9.9".to_string(),
            ..Identity::default()
        };
        Cluster {
            coordinator: Coordinator::new(engine).with_identity(identity),
            events,
            view: ViewState::new(Vec::new()),
            query: 0,
            now_ms: START_MS,
            ports: Vec::new(),
            told: 0,
        }
    }

    fn join(&mut self, name: &str, asid: u32, now_ms: u64) {
        let (node, cluster) = in_process();
        let info = NodeInfo {
            name: name.to_string(),
            incarnation: 5,
            asid,
            hostname: format!("host-{name}"),
            version: "1".to_string(),
        };
        let message = FromNode::Register { info, sources: Vec::new(), epoch_max: 0 };
        let register = Report { life: LIFE, message };
        self.coordinator.on_message(name, &cluster.link, register, now_ms);
        self.ports.push((name.to_string(), node, cluster));
    }

    fn say(&mut self, name: &str, message: FromNode, now_ms: u64) {
        let (_, _, port) = self.ports.iter().find(|(have, ..)| have == name).unwrap();
        let link = port.link.clone();
        self.told += 1;
        let message = match message {
            FromNode::Answer { function, rows, .. } => {
                FromNode::Answer { sequence: self.told, function, rows }
            }
            other => other,
        };
        self.coordinator.on_message(name, &link, Report { life: LIFE, message }, now_ms);
    }

    /// What the node was asked since the last time, the latest list.
    fn asked(&mut self, name: &str) -> Option<Vec<String>> {
        let (_, port, _) = self.ports.iter_mut().find(|(have, ..)| have == name).unwrap();
        let mut asked = None;
        while let Some(message) = port.try_recv() {
            if let ToNode::Answer { functions } = message.unwrap() {
                asked = Some(functions);
            }
        }
        asked
    }

    fn install(&mut self, text: &str, now_ms: u64) {
        let request = ScriptRequest { text: Some(text.to_string()), ..ScriptRequest::default() };
        let prepared = prepare(&request, 100, None, &|_| true).unwrap();
        self.query = self.coordinator.new_query_id();
        self.view = ViewState::new(prepared.outputs.clone());
        self.coordinator.install(self.query, prepared.split, 100, now_ms).unwrap();
    }

    /// Lets the clock reach `now_ms`; true if the view's frontier came there.
    fn reaches(&mut self, now_ms: u64) -> bool {
        let before_ms = std::mem::replace(&mut self.now_ms, now_ms);
        // In steps: what is longer would be taken for a process that stood still.
        let steps = (0..(now_ms - before_ms).div_ceil(1_000)).rev();
        steps.for_each(|step| {
            let now_ms = now_ms - step * 1_000;
            self.coordinator.on_clock(now_ms, now_ms);
        });
        if self.coordinator.queries[&self.query].closed_ms != now_ms {
            return false;
        }
        loop {
            match self.events.recv().unwrap() {
                EngineEvent::Rows { table, rows, .. } => self.view.apply(&table, rows),
                EngineEvent::Frontier { tick_ms, .. } if tick_ms >= now_ms => {
                    self.view.advance(now_ms);
                    return true;
                }
                EngineEvent::Failed { message, .. } => panic!("{message}"),
                _ => {}
            }
        }
    }

    fn rows(&self) -> Vec<Vec<Value>> {
        let snapshot = self.view.snapshot(SnapshotLimits::NONE).unwrap();
        let types = snapshot[0].output.info.relation.types();
        let rows = snapshot[0].rows.iter();
        rows.map(|(row, count)| {
            assert_eq!(*count, 1);
            row.unpack(&types).unwrap()
        })
        .collect()
    }
}

fn headers(asid: i64, installed: bool) -> FromNode {
    let row = PackedRow::pack(&[Value::Int64(asid), Value::Boolean(installed)]);
    FromNode::Answer { sequence: 0, function: "GetLinuxHeadersStatus".to_string(), rows: vec![row] }
}

/// The first answer waits for the agents, later ones follow what they say, and who left is gone:
/// catches a `run` that answers before anybody was asked, and a view that stands still.
#[test]
fn answers_of_agents_are_kept_true() {
    let mut cluster = Cluster::new();
    cluster.join("a", 1, START_MS);
    cluster.join("b", 2, START_MS);
    assert_eq!(cluster.asked("a"), None, "nobody reads anything");
    cluster.install("import px\npx.display(px.GetLinuxHeadersStatus(False))", START_MS);
    assert_eq!(cluster.asked("a").unwrap(), ["GetLinuxHeadersStatus"]);
    cluster.say("a", headers(1, true), START_MS);
    assert!(!cluster.reaches(START_MS + 100), "b has not answered");
    cluster.say("b", headers(2, false), START_MS + 150);
    assert!(cluster.reaches(START_MS + 200));
    let yes = |asid: i64| vec![Value::Int64(asid), Value::Boolean(true)];
    let no = |asid: i64| vec![Value::Int64(asid), Value::Boolean(false)];
    assert_eq!(cluster.rows(), [yes(1), no(2)]);

    cluster.say("b", headers(2, true), START_MS + 300);
    assert!(cluster.reaches(START_MS + 400));
    assert_eq!(cluster.rows(), [yes(1), no(2)], "once a second is enough");
    assert!(cluster.reaches(START_MS + 1_300));
    assert_eq!(cluster.rows(), [yes(1), yes(2)]);
    cluster.join("c", 3, START_MS + 1_400);
    assert_eq!(cluster.asked("c").unwrap(), ["GetLinuxHeadersStatus"], "a new node is asked too");
    cluster.say("c", headers(3, true), START_MS + 1_500);
    cluster.say("a", FromNode::Leave, START_MS + 1_500);
    assert!(cluster.reaches(START_MS + 2_300));
    assert_eq!(cluster.rows(), [yes(2), yes(3)]);

    cluster.coordinator.remove(cluster.query);
    assert_eq!(cluster.asked("b").unwrap(), [""; 0], "nobody reads it any more");
}

/// An agent that never answers holds a reader up for two seconds, not for ever.
#[test]
fn a_silent_agent_is_not_waited_for() {
    let mut cluster = Cluster::new();
    cluster.join("a", 1, START_MS);
    cluster.install("import px\npx.display(px._DebugMDState())", START_MS);
    assert!(!cluster.reaches(START_MS + 1_900));
    assert!(cluster.reaches(START_MS + 2_000));
    assert!(cluster.rows().is_empty());
}

/// Heartbeats and states are what the coordinator hears, not what agents say of themselves.
#[test]
fn agent_status_follows_heartbeats() {
    let mut cluster = Cluster::new();
    cluster.join("a", 1, START_MS);
    cluster.install("import px\npx.display(px.GetAgentStatus())", START_MS);
    let said = [
        Value::Uint128(0),
        Value::Int64(1),
        Value::str("x"),
        Value::str("10.0.0.7"),
        Value::str("x"),
        Value::Time64Ns(0),
        Value::Int64(0),
        Value::Boolean(true),
    ];
    let answer = FromNode::Answer {
        sequence: 0,
        function: "GetAgentStatus".to_string(),
        rows: vec![PackedRow::pack(&said)],
    };
    cluster.say("a", answer, START_MS);
    assert!(cluster.reaches(START_MS + 500));
    let rows = cluster.rows();
    assert_eq!(rows.len(), 2, "the agent and the cluster process");
    let hub = rows.iter().find(|row| row[1] == Value::Int64(0)).unwrap();
    assert_eq!((&hub[2], &hub[4]), (&Value::str("hub"), &Value::str("AGENT_STATE_HEALTHY")));
    let agent = |cluster: &Cluster| {
        cluster.rows().into_iter().find(|row| row[1] == Value::Int64(1)).unwrap()
    };
    let first = agent(&cluster);
    assert_eq!(first[0], Value::Uint128((1 << 96) | 5));
    assert_eq!((&first[2], &first[3]), (&Value::str("host-a"), &Value::str("10.0.0.7")));
    assert_eq!((&first[4], &first[7]), (&Value::str("AGENT_STATE_HEALTHY"), &Value::Boolean(true)));
    assert_eq!((&first[5], &first[6]), (&Value::Time64Ns(5), &Value::Int64(500_000_000)));
    assert!(cluster.reaches(START_MS + 5_000));
    let later = agent(&cluster);
    assert_eq!(later[4], Value::str("AGENT_STATE_UNRESPONSIVE"));
    assert_eq!(later[6], Value::Int64(5_000_000_000));
}

/// What the cluster part knows needs no agent; what nobody can know is refused with its reason.
#[test]
fn the_rest_is_answered_or_refused() {
    let mut cluster = Cluster::new();
    cluster.install("import px\npx.display(px.Version())", START_MS);
    assert!(cluster.reaches(START_MS + 100));
    assert_eq!(cluster.rows(), [vec![Value::Int64(0), Value::str("9.9")]]);
    cluster.install("import px\npx.display(px.GetTracepointStatus())", START_MS);
    assert!(cluster.reaches(START_MS + 200));
    assert!(cluster.rows().is_empty());

    let has_table = |name: &str| cluster.coordinator.has_table(name);
    for def in table_functions::all() {
        let args = if def.args.iter().any(|arg| arg.default.is_none()) { "'a', 'b'" } else { "" };
        let text = format!("import px\npx.display(px.{}({args}))", def.name);
        let request = ScriptRequest { text: Some(text), ..ScriptRequest::default() };
        let prepared = prepare(&request, 100, None, &has_table);
        match def.refusal() {
            None => assert!(prepared.is_ok(), "{}", def.name),
            Some(reason) => {
                let error = prepared.unwrap_err();
                assert!(matches!(error, PlanError::NoSource { .. }), "{}: {error}", def.name);
                assert!(error.to_string().contains(reason), "{error}");
            }
        }
    }
}
