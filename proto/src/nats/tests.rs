//! Against a real bus server, where there is one.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use weir_types::WallClock;
use weir_types::testing::free_port;

use super::*;
use crate::bus::{BusError, ClusterPort, NodePort};
use crate::message::{FromNode, Life, ToNode};

const DEADLINE: Duration = Duration::from_secs(30);

struct Server {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
    config: String,
}

impl Server {
    fn start(config: &str) -> Option<Server> {
        let port = free_port();
        let dir = tempfile::tempdir().unwrap();
        let child = Server::spawn(port, dir.path(), config)?;
        Some(Server { child, port, dir, config: config.to_string() })
    }

    fn spawn(port: u16, dir: &std::path::Path, config: &str) -> Option<Child> {
        let path = dir.join("nats.conf");
        std::fs::write(&path, config).unwrap();
        let args = ["-a", "127.0.0.1", "-p", &port.to_string(), "-c", path.to_str().unwrap()];
        let mut command = Command::new("nats-server");
        let child = command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        for _ in 0..1_000 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(child);
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        panic!("the bus server does not answer");
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.kill();
        self.child = Server::spawn(self.port, self.dir.path(), &self.config).unwrap();
    }

    fn bus(&self) -> NatsConfig {
        NatsConfig::parse(&format!("nats://127.0.0.1:{}", self.port)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn hub(bus: NatsConfig) -> (NatsHub, mpsc::Receiver<(String, ClusterPort)>) {
    hub_of(bus, Share::ALL)
}

fn hub_of(bus: NatsConfig, share: Share) -> (NatsHub, mpsc::Receiver<(String, ClusterPort)>) {
    let config = HubConfig { bus, hostname: "here".to_string(), forget_ms: 600_000, share };
    NatsHub::start(config, Arc::new(WallClock)).unwrap()
}

fn node(bus: NatsConfig, name: &str, incarnation: u64) -> (NatsNode, NodePort) {
    let asid = u32::from(name.as_bytes()[0]);
    let config = NatsNodeConfig { bus, name: name.to_string(), incarnation, asid };
    NatsNode::start(config, Arc::new(WallClock)).unwrap()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn until<T: Clone>(
    state: &mut tokio::sync::watch::Receiver<T>,
    is: impl FnMut(&T) -> bool,
) -> T {
    let waited = tokio::time::timeout(DEADLINE, state.wait_for(is)).await;
    waited.expect("in time").expect("it lives").clone()
}

/// What a node says: one table function's answer of some bytes, numbered.
fn answer(sequence: u64, bytes: usize) -> FromNode {
    // Of no use to whoever deflates.
    let mut word = sequence + 1;
    let mut next = |_| {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(33 + (word >> 58) as u8)
    };
    FromNode::Answer { sequence, function: (0..bytes).map(&mut next).collect(), rows: Vec::new() }
}

/// Takes answers until one has this number; none comes twice or out of order.
async fn answers_until(port: &mut ClusterPort, next: &mut u64, last: u64) {
    while *next <= last {
        let report = tokio::time::timeout(DEADLINE, port.recv()).await.expect("in time");
        let report = report.expect("the link lives").expect("it is readable");
        if let FromNode::Answer { sequence, function, rows } = report.message {
            assert_eq!(sequence, *next);
            assert_eq!(
                FromNode::Answer { sequence, function: function.clone(), rows },
                answer(sequence, function.len())
            );
            *next += 1;
        }
    }
}

/// Messages of all sizes, also far above the server's `max_payload`, cross in both directions, in order and
/// once, over a server that is killed and comes back twice; the node keeps what the cluster part has not done.
/// Catches a frame that the server refuses, and what was on its way when the server died.
#[test]
fn nothing_is_lost_with_the_server() {
    let Some(mut server) = Server::start("max_payload: 2048\n") else {
        return weir_types::testing::skipped("there is no nats-server");
    };
    runtime().block_on(async {
        let (mut hub, mut nodes) = hub(server.bus());
        let (mut end, mut port) = node(server.bus(), "a.1", 1);
        until(&mut end.state(), |state| *state == NodeBusState::Joined).await;
        let (name, mut from_node) = nodes.recv().await.unwrap();
        assert_eq!(name, "a.1");
        let introduced = tokio::time::timeout(DEADLINE, port.recv()).await.unwrap();
        assert_eq!(introduced.unwrap().unwrap(), ToNode::Introduce);
        let (mut next, mut sent) = (0, 0);
        for round in 0..3 {
            for size in [10, 3_000, 200_000, 40] {
                port.sender.send(Life::default(), answer(sent, size)).unwrap();
                sent += 1;
            }
            if round < 2 {
                server.restart();
            }
            for query in 0..50 {
                from_node.link.send(&ToNode::Remove { query, epoch: round }).unwrap();
            }
            port.sender.send(Life::default(), answer(sent, 5)).unwrap();
            sent += 1;
            answers_until(&mut from_node, &mut next, sent - 1).await;
            for query in 0..50 {
                let order = tokio::time::timeout(DEADLINE, port.recv()).await.unwrap();
                assert_eq!(order.unwrap().unwrap(), ToNode::Remove { query, epoch: round });
            }
        }
        // The last is done when the next is asked for.
        assert!(from_node.try_recv().is_none());
        assert_eq!(count(&hub.stats(), "sessions"), 1, "no session was given up");
        end.close(DEADLINE);
        hub.close();
    });
}

/// The count of an end's statistics.
fn count(stats: &BusStats, name: &str) -> u64 {
    stats.list().into_iter().find(|(of, _)| *of == name).map_or(0, |(_, count)| count)
}

/// A cluster part, what it hears of a node, and that node, which was asked who it is.
async fn joined(server: &Server) -> (NatsHub, ClusterPort, NatsNode, NodePort) {
    let (hub, mut nodes) = hub(server.bus());
    let (end, mut port) = node(server.bus(), "a", 1);
    until(&mut end.state(), |state| *state == NodeBusState::Joined).await;
    let (_, from_node) = nodes.recv().await.unwrap();
    let introduced = tokio::time::timeout(DEADLINE, port.recv()).await.unwrap();
    assert_eq!(introduced.unwrap().unwrap(), ToNode::Introduce);
    (hub, from_node, end, port)
}

/// Of two processes each reads the nodes of its share and no byte of the others'; a server that is away for longer than
/// a process may be silent ends no session; and when there is one process alone, it is found by the node that another
/// one has read. Catches a node that speaks to nobody for ever.
#[test]
fn each_process_reads_its_share() {
    const AWAY: Duration = Duration::from_secs(12);
    const BYTES: usize = 500_000;
    let Some(mut server) = Server::start("") else {
        return weir_types::testing::skipped("there is no nats-server");
    };
    runtime().block_on(async {
        let share = |process| Share { process, processes: 2 };
        let (mut first, mut own) = hub_of(server.bus(), share(0));
        let (mut second, mut other) = hub_of(server.bus(), share(1));
        let ends = ["a", "b"].map(|name| node(server.bus(), name, 1));
        for (end, _) in &ends {
            until(&mut end.state(), |state| *state == NodeBusState::Joined).await;
        }
        // By their short ids.
        let [(mut a, from_a), (b, _)] = ends;
        let (name, mut port_a) = other.recv().await.unwrap();
        assert_eq!(name, "a");
        assert_eq!(own.recv().await.unwrap().0, "b");
        let mut next = 0;
        from_a.sender.send(Life::default(), answer(0, BYTES)).unwrap();
        answers_until(&mut port_a, &mut next, 0).await;
        let read = [&first, &second].map(|hub| count(&hub.stats(), "bytes_received"));
        assert!(read[1] > BYTES as u64 / 2 && read[0] < 10_000, "{read:?}");
        server.kill();
        from_a.sender.send(Life::default(), answer(1, 10)).unwrap();
        tokio::time::sleep(AWAY).await;
        server.restart();
        answers_until(&mut port_a, &mut next, 1).await;
        assert_eq!(count(&a.stats(), "sessions"), 1);
        assert!(own.try_recv().is_err() && other.try_recv().is_err());
        second.close();
        first.close();
        let (mut alone, mut all) = hub(server.bus());
        let mut ports = BTreeMap::new();
        while ports.len() < 2 {
            let come = tokio::time::timeout(DEADLINE, all.recv()).await.expect("in time");
            ports.extend(come);
        }
        until(&mut a.state(), |state| *state == NodeBusState::Joined).await;
        from_a.sender.send(Life::default(), answer(2, BYTES)).unwrap();
        answers_until(ports.get_mut("a").unwrap(), &mut next, 2).await;
        assert_eq!(count(&a.stats(), "sessions"), 2);
        a.close(DEADLINE);
        drop(b);
        alone.close();
    });
}

/// A cluster part that lives and takes nothing: once the node keeps all that it may, what is given more is refused,
/// to whoever gives it and as often as that is; the session goes on, and what was taken arrives, in order and once, as
/// soon as it is asked for. Catches a node that grows without end, one that says yes and drops, and a session that
/// ends because of it: then all would be said again, to somebody who is slow already.
#[test]
fn too_much_for_a_slow_cluster_part_is_refused() {
    let Some(server) = Server::start("") else {
        return weir_types::testing::skipped("there is no nats-server");
    };
    runtime().block_on(async {
        let (_hub, mut from_node, mut end, port) = joined(&server).await;
        let mut sent = 0;
        let refused = loop {
            assert!(sent < 1_000, "it keeps everything");
            match port.sender.send(Life::default(), answer(sent, 1 << 20)) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, BusError::FullBytes { .. }), "{refused}");
        assert_eq!(port.sender.stats().refused_total.load(std::sync::atomic::Ordering::Relaxed), 1);
        answers_until(&mut from_node, &mut 0, sent - 1).await;
        assert!(from_node.try_recv().is_none());
        while port.sender.send(Life::default(), answer(sent, 1 << 20)).is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut next = sent;
        answers_until(&mut from_node, &mut next, sent).await;
        assert_eq!(count(&end.stats(), "sessions_over"), 0);
        assert_eq!(count(&end.stats(), "sessions"), 1);
        end.close(DEADLINE);
    });
}

/// A cluster part that is not heard any more: what is kept for it goes once it is too much, counted message by
/// message, and nobody is held up; when it is heard again the node is asked who it is, and what is said then
/// arrives. Catches a node that is lost for good, and messages that go without a count.
#[test]
fn too_much_for_nobody_ends_the_session_and_not_the_node() {
    let Some(mut server) = Server::start("") else {
        return weir_types::testing::skipped("there is no nats-server");
    };
    runtime().block_on(async {
        let (_hub, mut from_node, mut end, mut port) = joined(&server).await;
        server.kill();
        let (stats, mut given) = (end.stats(), 0);
        while count(&stats, "sessions_over") == 0 {
            if port.sender.send(Life::default(), answer(given, 1 << 20)).is_ok() {
                given += 1;
            } else {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        assert_eq!(count(&stats, "dropped") + count(&stats, "unsent"), given);
        server.restart();
        let again = tokio::time::timeout(DEADLINE, port.recv()).await.unwrap();
        assert_eq!(again.unwrap().unwrap(), ToNode::Introduce, "it is asked who it is");
        port.sender.send(Life::default(), answer(5_000, 10)).unwrap();
        // What the client had already may still come, from the first on; it is counted nevertheless, as nobody says so.
        let mut next = 0;
        while next <= 5_000 {
            let report = tokio::time::timeout(DEADLINE, from_node.recv()).await.expect("in time");
            let message = report.expect("the link lives").expect("it is readable").message;
            let FromNode::Answer { sequence, .. } = message else { continue };
            assert!(
                sequence == 5_000 || sequence == next && next < given,
                "{sequence}, not {next}"
            );
            next = sequence + 1;
        }
        end.close(DEADLINE);
    });
}

/// A cluster part that dies and comes back is joined again in a new session, and told who is there; a second one
/// on the same bus is refused with a message, one with other subjects is not.
#[test]
fn cluster_parts_come_and_go() {
    let Some(server) = Server::start("") else {
        return weir_types::testing::skipped("there is no nats-server");
    };
    runtime().block_on(async {
        let (first, mut nodes) = hub(server.bus());
        let mut state = first.state();
        until(&mut state, |state| *state == HubState::Serving).await;
        let (second, _) = hub(server.bus());
        let failed = until(&mut second.state(), |state| *state != HubState::Connecting).await;
        let HubState::Failed(why) = failed else { panic!("{failed:?}") };
        assert!(
            why.contains("another cluster part (on here)") && why.contains("--bus-subject"),
            "{why}"
        );
        let (other, _) = hub(server.bus().with_prefix("other").unwrap());
        until(&mut other.state(), |state| *state == HubState::Serving).await;
        let (end, mut port) = node(server.bus(), "a", 1);
        let mut joined = end.state();
        until(&mut joined, |state| *state == NodeBusState::Joined).await;
        assert!(nodes.recv().await.is_some());
        port.recv().await.unwrap().unwrap();
        let mut first = first;
        first.close();
        drop((first, nodes));
        let (hub, mut nodes) = hub(server.bus());
        until(&mut hub.state(), |state| *state == HubState::Serving).await;
        let (name, _port) = tokio::time::timeout(DEADLINE, nodes.recv()).await.unwrap().unwrap();
        assert_eq!(name, "a");
        let again = tokio::time::timeout(DEADLINE, port.recv()).await.unwrap();
        assert_eq!(again.unwrap().unwrap(), ToNode::Introduce);
        drop((other, second));
    });
}

/// A second live node of a name is refused with a message that says what to do, and the first stays; one that
/// takes over from a node that said good bye is let in. Wrong logins are refused by the server, right ones are
/// not, and neither is said in any state.
#[test]
fn who_may_come_in() {
    let Some(server) = Server::start("authorization { user: me, password: s3cret }\n") else {
        return weir_types::testing::skipped("there is no nats-server");
    };
    let with = |auth| server.bus().with_auth(auth).unwrap();
    let me = || NatsAuth::User { user: "me".to_string(), password: "s3cret".to_string() };
    runtime().block_on(async {
        let (_hub, _nodes) = hub(with(me()));
        let (mut first, _port) = node(with(me()), "a", 1);
        until(&mut first.state(), |state| *state == NodeBusState::Joined).await;
        let (second, _second_port) = node(with(me()), "a", 2);
        let refused =
            until(&mut second.state(), |state| matches!(state, NodeBusState::Refused(_))).await;
        let NodeBusState::Refused(why) = refused else { unreachable!("it was waited for") };
        assert!(why.contains("a node named a is alive already") && why.contains("--name"), "{why}");
        assert_eq!(*first.state().borrow(), NodeBusState::Joined);
        first.close(DEADLINE);
        let (third, _third_port) = node(with(me()), "a", 3);
        until(&mut third.state(), |state| *state == NodeBusState::Joined).await;
        let (stranger, _stranger_port) = node(server.bus(), "b", 1);
        let mut state = stranger.state();
        let waited = tokio::time::timeout(
            Duration::from_millis(300),
            state.wait_for(|state| *state != NodeBusState::Connecting),
        );
        assert!(waited.await.is_err(), "the server lets nobody in without a login");
        for mut end in [second, third, stranger] {
            end.close(Duration::ZERO);
        }
    });
}

/// A server that takes too little says so to whoever comes; nothing is sent that it would refuse.
#[test]
fn too_small_a_server_is_refused() {
    let Some(server) = Server::start("max_payload: 512\n") else {
        return weir_types::testing::skipped("there is no nats-server");
    };
    runtime().block_on(async {
        let (_hub, _nodes) = hub(server.bus());
        let (mut end, _port) = node(server.bus(), "a", 1);
        let refused =
            until(&mut end.state(), |state| matches!(state, NodeBusState::Refused(_))).await;
        assert!(format!("{refused:?}").contains("raise its max_payload"), "{refused:?}");
        end.close(Duration::ZERO);
    });
}
