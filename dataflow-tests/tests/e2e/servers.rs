//! Servers and clients as they are: every exchange of every one is a row, on both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_dataflow_tests::harness::servers::{
    CLIENTS, CURL, ClientKind, EACH, NODE, PYTHON_CLIENT, SERVERS, Server,
};
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::Weir;

use crate::can_capture;

const DEADLINE: Duration = Duration::from_secs(60);
/// Rows are there within a second of their exchange; more only says that none will come.
const SETTLED: Duration = Duration::from_secs(15);
/// Of both roles, whatever the other end is: the port is the server's.
const SEEN: &str = "import px
df = px.DataFrame('http_events', start_time='-30m')
df.port = px.select(df.trace_role == 2, df.local_port, df.remote_port)
df = df.groupby(['port', 'trace_role', 'req_path', 'resp_status']).agg(n=('latency', px.count))
px.display(df, 'seen')
";

/// (server's port, role, path) → (rows, statuses)
type Seen = BTreeMap<(u16, i64, String), (i64, BTreeSet<i64>)>;

fn seen(weir: &Weir, script: &str) -> Seen {
    let output = weir.run(&["run", script, "-o", "jsonl"], DEADLINE).unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut seen = Seen::new();
    for row in output.json_lines() {
        let number = |name: &str| row[name].as_i64().unwrap_or_else(|| panic!("{name}: {row}"));
        let path = row["req_path"].as_str().unwrap().to_string();
        let port = u16::try_from(number("port")).unwrap();
        let entry = seen.entry((port, number("trace_role"), path)).or_default();
        entry.0 += number("n");
        entry.1.insert(number("resp_status"));
    }
    seen
}

/// What one client asked one server.
struct Asked {
    server: &'static str,
    client: &'static str,
    port: u16,
    tag: String,
}

impl Asked {
    /// How many of its exchanges are not exactly one row of this role, and the first of them.
    fn wrong(&self, seen: &Seen, role: i64) -> (usize, Vec<String>) {
        let mut wrong = Vec::new();
        for kind in ["p", "s", "l"] {
            for number in 1..=EACH {
                let path = format!("/{kind}/{}/{number}", self.tag);
                match seen.get(&(self.port, role, path.clone())) {
                    Some((1, statuses)) if statuses.contains(&200) => {}
                    Some(other) => wrong.push(format!("{path}: {other:?}")),
                    None => wrong.push(format!("{path}: no row")),
                }
            }
        }
        (wrong.len(), wrong.into_iter().take(3).collect())
    }
}

/// Behind a proxy the application gets the same path: it names who was asked, and by whom.
fn tag(server: &str, client: &ClientKind) -> String {
    format!("{server}-{}", client.name)
}

/// Starts all that can be started here; what is not installed is told, what does not start is a problem.
fn start_all(problems: &mut Vec<String>) -> Vec<Server> {
    let node = NODE.start(0, &[]).unwrap();
    let upstream = node.port;
    let mut servers = vec![node];
    for kind in SERVERS {
        match kind.missing() {
            Some(why) => eprintln!("not in the matrix: {}: {why}", kind.name),
            None => match kind.start(upstream, &[&CURL, &PYTHON_CLIENT].map(|c| tag(kind.name, c)))
            {
                Ok(server) => servers.push(server),
                Err(error) => problems.push(format!("{}: {error}", kind.name)),
            },
        }
    }
    servers
}

/// Both clients ask every server, every client asks node: ninety exchanges each, one after the other
/// over kept connections, plain, chunked in twenty small writes, and long. Catches an exchange that
/// vanishes because of how a server writes, a client reads or we cut.
#[test]
fn every_exchange_of_every_server_is_a_row() {
    if NODE.missing().is_some() || CURL.missing().is_some() {
        return weir_types::testing::skipped("node or curl is not installed");
    }
    if !can_capture() {
        return;
    }
    let mut problems = Vec::new();
    let servers = start_all(&mut problems);
    let traces: Vec<String> =
        servers.iter().flat_map(|s| ["--trace".to_string(), format!("port:{}", s.port)]).collect();
    let arguments: Vec<&str> = traces.iter().map(String::as_str).collect();
    let weir = Weir::start(&arguments).unwrap();
    let mut asked = Vec::new();
    let mut ask = |server: &Server, client: &ClientKind| {
        let tag = tag(server.name, client);
        if let Err(error) = client.ask(server.port, &tag) {
            problems.push(format!("{}: {error}", server.name));
            return;
        }
        asked.push(Asked { server: server.name, client: client.name, port: server.port, tag });
    };
    for server in &servers {
        ask(server, &CURL);
        ask(server, &PYTHON_CLIENT);
    }
    for client in CLIENTS {
        match client.missing() {
            Some(why) => eprintln!("not in the matrix: {}: {why}", client.name),
            None => ask(&servers[0], client),
        }
    }
    let script = tempfile::Builder::new().suffix(".pxl").tempfile().unwrap();
    std::fs::write(script.path(), SEEN).unwrap();
    let path = script.path().to_str().unwrap();
    let wrong = |seen: &Seen| -> usize {
        asked.iter().map(|one| one.wrong(seen, 1).0 + one.wrong(seen, 2).0).sum()
    };
    let mut last = Seen::new();
    let _ = wait_until(SETTLED, || {
        last = seen(&weir, path);
        (wrong(&last) == 0).then_some(())
    });
    report(&asked, &last, servers.len());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let all = asked.len() * 2 * 3 * EACH;
    assert_eq!(wrong(&last), 0, "of {all}: {}", weir.stats().unwrap());
}

fn report(asked: &[Asked], seen: &Seen, servers: usize) {
    eprintln!("{servers} servers, {} pairs of a server and a client", asked.len());
    for one in asked {
        for (role, side) in [(2, "server"), (1, "client")] {
            let (count, first) = one.wrong(seen, role);
            if count > 0 {
                eprintln!(
                    "{} ← {}, {side} side: {count} of {} wrong: {first:?}",
                    one.server,
                    one.client,
                    3 * EACH
                );
            }
        }
    }
}
