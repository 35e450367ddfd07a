//! One engine in two processes: the second is this test binary once more, over loopback.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_engine::{
    Engine, EngineConfig, EngineEvent, Generations, Mesh, MeshConfig, TEST_DEATHS_LITERAL,
    TEST_PANIC_LITERAL,
};
use weir_types::plan::{JoinKind, Side};
use weir_types::split::{Change, Shape};
use weir_types::testing::free_port;
use weir_types::{DataType, Expr, PackedRow, Value};

use crate::harness::{
    Event, Plan, Rig, TABLE, agg, aggregated, batch, call, column, config, install_of, raw_rows,
    sliding,
};

const ADDRESSES: &str = "WEIR_TEST_ENGINE_ADDRESSES";
const WORKERS: &str = "WEIR_TEST_ENGINE_WORKERS";
/// Cluster fragments and node fragments differ by it, as the harness has it.
const NODE_OF: u64 = 1_000_000;

fn clustered(process: usize, addresses: Vec<String>, workers: usize) -> EngineConfig {
    EngineConfig { mesh: Some(mesh(process, addresses, "this one")), ..config(workers) }
}

fn mesh(process: usize, addresses: Vec<String>, build: &str) -> Mesh {
    let terms = BTreeMap::from([("build".to_string(), build.to_string())]);
    Mesh::listen(MeshConfig { process, addresses, terms }).unwrap()
}

/// Rows of round `round` that arrive in one of the processes: many keys, so that each worker has some.
fn rows(round: i64, process: i64) -> Vec<Event> {
    const KEYS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let row = |n: i64| {
        let key = KEYS[usize::try_from((n * 7 + process) % 12).unwrap()];
        (18_000 + round * 1000 + n, key, n * 3 + process)
    };
    (0..200).map(row).collect()
}

/// The second process. It does what it is told on its standard input until the first one's engine has ended.
/// Run as a test, without the variables, it has nothing to do.
#[test]
fn second_process() {
    let Ok(addresses) = std::env::var(ADDRESSES) else { return };
    let workers = std::env::var(WORKERS).unwrap().parse().unwrap();
    let addresses = addresses.split(',').map(str::to_string).collect();
    let own: Arc<OnceLock<Engine>> = Arc::default();
    let there = Arc::clone(&own);
    let emit = Arc::new(move |event: EngineEvent| {
        // Before its progress is told, so before the tick can be closed anywhere.
        if let EngineEvent::Changes { query, exchange, tick_ms, changes, .. } = event
            && let Some(engine) = there.get()
        {
            engine.push_changes(query - NODE_OF, exchange, tick_ms, changes);
        }
    });
    let engine = Engine::start(clustered(1, addresses, workers), emit).unwrap();
    assert!(own.set(engine).is_ok());
    let engine = own.get().unwrap();
    println!("ready");
    for line in std::io::stdin().lines().map_while(Result::ok) {
        if line == "state" {
            let states = engine.stats().queries.into_iter().map(|query| query.state_bytes);
            println!("state {}", states.sum::<u64>());
            continue;
        }
        // What it is to be pushed for is here once its order was heard.
        let (round, queries) = line.split_once(' ').unwrap();
        let queries: usize = queries.parse().unwrap();
        while engine.stats().queries.len() < queries {
            std::thread::yield_now();
        }
        engine.push_rows(TABLE, batch(&rows(round.parse().unwrap(), 1)));
        println!("pushed");
    }
    engine.wait();
}

struct Second {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Second {
    fn start(addresses: &[String], workers: usize) -> Second {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::second_process", "--nocapture", "--test-threads", "1"])
            .env(ADDRESSES, addresses.join(","))
            .env(WORKERS, workers.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        Second { child, input, output: BufReader::new(output) }
    }

    fn ask(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The rest of the next line with this word in it; the test runner writes lines as well.
    fn wait_for(&mut self, word: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it ended before {word}");
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_string();
            }
        }
    }

    fn pushes(&mut self, round: i64, queries: usize) {
        self.ask(&format!("{round} {queries}"));
        self.wait_for("pushed");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// After the first one's engine has ended.
    fn ends(mut self) {
        self.input = None;
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// Two ports that nobody listens on.
fn addresses() -> Vec<String> {
    (0..2).map(|_| address()).collect()
}

/// Groups, a join with a limit over it, and all rows.
fn install_all(rig: &mut Rig) {
    let (node, cluster) =
        aggregated(sliding(10), &[1], &[agg("count", 2, Some(0)), agg("sum", 2, Some(0))]);
    rig.install(1, node, cluster, 20_000);
    let (node, mut cluster, rows) = raw_rows(sliding(2), None);
    let columns = [(Side::Left, 0), (Side::Left, 1), (Side::Left, 2), (Side::Right, 2)];
    let joined = cluster.join((rows, rows), JoinKind::Inner, &[1], &columns);
    let first = cluster.limit(joined, 50);
    cluster.output(first, "out");
    rig.install(2, node, cluster, 20_000);
    let (node, mut cluster, rows) = raw_rows(sliding(10), None);
    cluster.output(rows, "out");
    rig.install(3, node, cluster, 20_000);
}

const QUERIES: usize = 6;

/// An engine of two processes shows the same as one alone with all the rows, tick by tick, with one and with two
/// workers each; each process has a part of the state; a query that is removed is gone in both, and one that is
/// installed later is there in both. Catches orders that are followed in another order, or not at all, and rows
/// or results that stay in the process where they came up.
#[test]
fn two_processes_are_one_engine() {
    for workers in [1, 2] {
        let addresses = addresses();
        let mut second = Second::start(&addresses, workers);
        let mut both = Rig::new(clustered(0, addresses, workers), 1000);
        let mut alone = Rig::new(config(1), 1000);
        second.wait_for("ready");
        install_all(&mut both);
        install_all(&mut alone);
        for round in 0..4 {
            let queries = if round < 2 { QUERIES } else { QUERIES - 2 };
            second.pushes(round, queries);
            both.push(&rows(round, 0));
            alone.push(&rows(round, 0));
            alone.push(&rows(round, 1));
            let tick_ms = 20_000 + u64::try_from(round).unwrap() * 1000;
            both.tick(tick_ms);
            alone.tick(tick_ms);
            let shown: &[u64] = if round < 2 { &[1, 2, 3] } else { &[1, 2] };
            for &query in shown {
                let view = both.view(query, "out");
                assert!(view.len() > 10, "{} rows", view.len());
                assert_eq!(view, alone.view(query, "out"), "query {query} at {tick_ms}");
            }
            if round == 1 {
                both.remove(3);
                alone.remove(3);
            }
        }
        let (node, cluster) = aggregated(sliding(10), &[1], &[agg("max", 2, Some(0))]);
        both.install(4, node.clone(), cluster.clone(), 24_000);
        alone.install(4, node, cluster, 24_000);
        second.pushes(5, QUERIES);
        alone.push(&rows(5, 1));
        both.tick(24_000);
        alone.tick(24_000);
        assert_eq!(both.view(4, "out"), alone.view(4, "out"));
        second.ask("state");
        let there: u64 = second.wait_for("state ").parse().unwrap();
        let here: u64 = both.engine.stats().queries.iter().map(|query| query.state_bytes).sum();
        assert!(there > 0 && here > 0, "{there} bytes there, {here} here");
        drop(both);
        second.ends();
    }
}

/// A node part that evaluates a literal for each row.
fn evaluates(literal: &str) -> Plan {
    let literal = Expr::Literal(Value::str(literal));
    let broken = call("equal", vec![column(1, DataType::String), literal], DataType::Boolean);
    let mut node = Plan::default();
    let scan = node.scan(sliding(10));
    let bad = node.filter(scan, broken);
    node.send(bad, 0, Shape::Rows { rows_max: None });
    node
}

/// A query that fails in the second process has failed: the first one says so, and the others go on.
#[test]
fn a_failure_elsewhere_is_told() {
    let addresses = addresses();
    let mut second = Second::start(&addresses, 1);
    let mut rig = Rig::new(clustered(0, addresses, 1), 1000);
    second.wait_for("ready");
    let (node, cluster) = aggregated(sliding(10), &[1], &[agg("count", 2, Some(0))]);
    rig.install(1, node, cluster, 20_000);
    rig.engine.install(install_of(9, &evaluates(TEST_PANIC_LITERAL), 20_000));
    // Only there are rows to evaluate.
    second.pushes(0, 3);
    rig.engine.close_tick(20_000);
    let failed = loop {
        if let EngineEvent::Failed { query, message } = rig.event() {
            break (query, message);
        }
    };
    assert_eq!(failed.0, 9);
    assert!(failed.1.contains("test fault"), "{}", failed.1);
    second.pushes(1, 2);
    rig.tick(21_000);
    let counted = rig.view(1, "out").into_iter().map(|row| match row[1] {
        Value::Int64(count) => count,
        _ => 0,
    });
    assert_eq!(counted.sum::<i64>(), 400);
    drop(rig);
    second.ends();
}

/// More than a death takes to be noticed, on a busy machine.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

fn is_over(events: &Receiver<(u64, EngineEvent)>, generation: u64) -> String {
    loop {
        match events.recv_timeout(NOTICED_WITHIN).unwrap() {
            (of, EngineEvent::Died { message, .. }) if of == generation => return message,
            _ => {}
        }
    }
}

/// The second process is killed, in round after round, at any time since it came: the first one's engine dies at once
/// and can be dropped, a new one stands when there is a second process again, and the last of them ends in order.
#[test]
fn generations_follow_each_other() {
    let addresses = addresses();
    let (tell, events) = channel();
    let emit = Arc::new(move |generation, event| drop(tell.send((generation, event))));
    let generations = Generations::start(clustered(0, addresses.clone(), 2), emit).unwrap();
    assert!(generations.is_dead() && is_over(&events, 1).contains("not all come"));
    for round in 0..6_u64 {
        let mut second = Second::start(&addresses, 2);
        let engine = generations.restart().unwrap();
        assert_eq!(engine.stats().processes.len(), 1);
        let (node, _) = aggregated(sliding(10), &[1], &[agg("count", 2, Some(0))]);
        engine.install(install_of(1, &node, 20_000));
        engine.push_rows(TABLE, batch(&rows(0, 0)));
        engine.close_tick(20_000);
        if round % 2 == 0 {
            second.wait_for("ready");
        }
        std::thread::park_timeout(Duration::from_millis(7 * round));
        drop(second);
        let message = is_over(&events, round + 2);
        assert!(message.starts_with("process 1 has gone: "), "{message}");
    }
    let second = Second::start(&addresses, 2);
    generations.restart().unwrap();
    let mesh = generations.mesh().unwrap().status();
    assert_eq!((mesh.generations_total, mesh.refused_total), (7, 0), "{mesh:?}");
    generations.stop();
    second.ends();
}

/// A process that stands still, and rows for it: what waits for it is bounded, and the query that sends it ends with
/// the reason. Catches a queue between processes that fills the memory.
#[test]
fn rows_for_a_slow_process_are_bounded() {
    const BETWEEN_BYTES_MAX: u64 = 16 << 20;
    let addresses = addresses();
    let mut second = Second::start(&addresses, 1);
    let mut first = clustered(0, addresses, 1);
    first.limits.between_bytes_max = BETWEEN_BYTES_MAX;
    let mut rig = Rig::new(first, 1000);
    second.wait_for("ready");
    let (node, mut cluster, all) = raw_rows(sliding(10), None);
    cluster.output(all, "out");
    rig.install(1, node, cluster, 20_000);
    second.pushes(0, 2);
    rig.push(&rows(0, 0));
    rig.tick(20_000);
    let text: &str = "x".repeat(100_000).leak();
    let wide = |n: i64| (20_000 + n, text, n);
    for round in 0..8 {
        rig.push(&(0..100).map(|n| wide(round * 100 + n)).collect::<Vec<_>>());
    }
    rig.engine.close_tick(21_000);
    let mut sent = Vec::new();
    loop {
        match rig.event() {
            EngineEvent::Changes { query, exchange, tick_ms, changes, .. } => {
                sent.push((query - NODE_OF, exchange, tick_ms, changes));
            }
            EngineEvent::Frontier { query, tick_ms: 21_000 } if query > NODE_OF => break,
            _ => {}
        }
    }
    // What nodes said is there at once, and half of it is the other process's.
    second.signal("-STOP");
    for (query, exchange, tick_ms, changes) in sent {
        rig.engine.push_changes(query, exchange, tick_ms, changes);
    }
    let failed = loop {
        if let EngineEvent::Failed { message, .. } = rig.event() {
            break message;
        }
    };
    assert!(failed.starts_with("backlog: "), "{failed}");
    second.signal("-CONT");
    drop(rig);
    second.ends();
}

fn starts(config: &EngineConfig) -> JoinHandle<Result<Engine, weir_engine::EngineError>> {
    let config = config.clone();
    std::thread::spawn(move || Engine::start(config, Arc::new(|_| {})))
}

/// What a worker of another process died of is not held against anybody here, and known once they meet again.
#[test]
fn what_others_died_of_is_told() {
    let addresses = addresses();
    let (first, other) = (clustered(0, addresses.clone(), 1), clustered(1, addresses, 1));
    let there = starts(&other);
    let rig = Rig::new(first.clone(), 1000);
    let there = there.join().unwrap().unwrap();
    rig.engine.install(install_of(9, &evaluates(TEST_DEATHS_LITERAL), 20_000));
    while there.stats().queries.is_empty() {
        std::thread::yield_now();
    }
    there.push_rows(TABLE, batch(&rows(0, 1)));
    rig.engine.close_tick(20_000);
    let killer = loop {
        if let EngineEvent::Died { query, .. } = rig.event() {
            break query;
        }
    };
    assert_eq!((killer, there.died_of()), (None, Some(9)));
    drop((rig, there));
    let there = starts(&other);
    let here = Engine::start(first, Arc::new(|_| {})).unwrap();
    assert_eq!(here.take_blamed(), [9]);
    here.shutdown();
    there.join().unwrap().unwrap().wait();
}

/// Changes that another process has read, and of which the first one only says where they belong, are in the answer of
/// their tick; what nobody wants is not kept; and where they should be and are not, the query fails. Catches an answer
/// that lacks them without a word.
#[test]
fn changes_stay_where_they_were_read() {
    let addresses = addresses();
    let (first, other) = (clustered(0, addresses.clone(), 2), clustered(1, addresses, 2));
    let reader = other.mesh.clone().unwrap();
    let there = starts(&other);
    let mut rig = Rig::new(first, 1000);
    let there = there.join().unwrap().unwrap();
    let mut alone = Rig::new(config(1), 1000);
    install_all(&mut rig);
    install_all(&mut alone);
    rig.reader = Some(reader.clone());
    for round in 0..3 {
        let tick_ms = 20_000 + u64::try_from(round).unwrap() * 1000;
        for rig in [&mut rig, &mut alone] {
            rig.push(&rows(round, 0));
            rig.tick(tick_ms);
        }
        for query in [1, 2, 3] {
            assert_eq!(rig.view(query, "out"), alone.view(query, "out"), "{query} at {tick_ms}");
        }
    }
    let read_bytes = rig.engine.stats().processes[0].read_bytes;
    let wide = || vec![Change::Row { row: PackedRow(vec![0; 40 << 20]), pane: 0, diff: 1 }];
    let at = |number| (1, number);
    let unwanted = reader.deposits().put("node", wide()).unwrap();
    assert!(reader.deposits().put("node", wide()).is_err());
    rig.engine.drop_deposit(at(unwanted));
    let waited = || reader.deposits().put("node", wide()).is_err();
    while waited() {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    rig.engine.take_deposit(3, 0, 24_000, at(1_000_000));
    let failed = loop {
        if let EngineEvent::Failed { query, message } = rig.event() {
            break (query, message);
        }
    };
    assert_eq!(failed.0, 3);
    assert!(failed.1.contains("lost between processes"), "{}", failed.1);
    while rig.engine.stats().processes[0].read_bytes <= read_bytes.max(1) {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    drop(rig);
    there.wait();
}

/// Who was built otherwise, has another list, or stands in another's place is told so, here and there; who says
/// nothing, or no end of it, is nobody; and whoever fits is let in all the same.
#[test]
fn strangers_are_refused() {
    let addresses = addresses();
    let first = clustered(0, addresses.clone(), 1);
    let here = starts(&first);
    let silent: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect(&addresses[0]).unwrap()).collect();
    let mut endless = TcpStream::connect(&addresses[0]).unwrap();
    drop(endless.write_all(&vec![b'x'; 1 << 20]));
    for (build, list, says) in [
        ("another", vec![addresses[0].clone(), address()], "started with another build"),
        ("this one", vec![addresses[0].clone(), address()], "started with another list of peers"),
    ] {
        let mesh = mesh(1, list, build);
        let config = EngineConfig { mesh: Some(mesh.clone()), ..config(1) };
        let there = starts(&config);
        let told = || mesh.status().refused.is_some_and(|why| why.contains(says));
        while !told() {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        mesh.stop();
        assert!(there.join().unwrap().is_err());
    }
    let refused = first.mesh.as_ref().unwrap().status();
    assert!(refused.refused_total >= 2 && refused.missing == [1], "{refused:?}");
    let there = starts(&clustered(1, addresses, 1));
    let here = here.join().unwrap().unwrap();
    assert!(!here.is_dead());
    here.shutdown();
    there.join().unwrap().unwrap().wait();
    drop(silent);
}
