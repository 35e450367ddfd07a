//! Secrets that a server is given beside its configuration.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;
use weir_dataflow_tests::harness::alertmanager::Hook;
use weir_dataflow_tests::harness::fleet::{BusServer, has_bus_server};
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::receivers::Postgres;
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::{self, Weir};

use crate::reloads::told;

const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const SECRET: &str = "pa$1$word \": #'%41\nlast";
/// Paths of the traffic.
const PATHS: usize = 5;
/// Kinds that say who they are as HTTP does, with their keys.
const BY_HTTP: [(&str, &str); 4] = [
    ("clickhouse", "url: 'http://HOOK/house', table: t"),
    ("prometheus_remote_write", "url: 'http://HOOK/remote'"),
    ("opentelemetry", "url: 'http://HOOK/points', protocol: http"),
    ("websocket", "url: 'ws://HOOK/socket'"),
];

fn config(
    dir: &Path,
    hook: SocketAddr,
    tables: SocketAddr,
    [bus, closed]: [&BusServer; 2],
) -> String {
    let script = "import px\n\
        df = px.DataFrame('http_events', start_time='-10m')\n\
        df = df[df.trace_role == 2]\n\
        px.display(df.groupby('req_path').agg(n=('latency', px.count)))\n";
    std::fs::write(dir.join("paths.pxl"), script).unwrap();
    let by_http = BY_HTTP.map(|(kind, keys)| (kind, kind, keys.replace("HOOK", &hook.to_string())));
    let tables = format!("url: 'postgres://{tables}/postgres', table: paths");
    let nats = |bus: &BusServer| format!("url: '{}', subject: kept.rows", bus.url());
    let others = [
        ("tables", "postgres", tables),
        ("bus", "nats", nats(bus)),
        ("closed", "nats", nats(closed)),
    ];
    let sink = |(name, kind, keys): (&str, &str, String)| {
        format!(
            "  {name}:\n    {{type: {kind}, {keys}, inputs: [{{file: paths.pxl}}], \
             encoding: {{mode: upsert}}, auth: {{user: me}}, buffer: {{type: disk}}, \
             retry: {{initial: 100ms, max: 1s}}}}\n"
        )
    };
    let sinks: String = by_http.into_iter().chain(others).map(sink).collect();
    let file = dir.join("weir.yaml");
    std::fs::write(&file, format!("sinks:\n{sinks}")).unwrap();
    file.to_str().unwrap().to_string()
}

/// A server that lets in who has this password.
fn bus(password: &str) -> BusServer {
    let password = password.replace('"', "\\\"").replace('\n', "\\n");
    let who = format!("authorization {{ user: me, password: \"{password}\" }}\n");
    BusServer::start(&format!("jetstream {{ store_dir: \"@DIR@\" }}\n{who}")).unwrap()
}

fn make_stream(bus: &BusServer) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options =
            async_nats::ConnectOptions::with_user_and_password("me".into(), SECRET.into());
        let context = jetstream::new(options.connect(bus.url()).await.unwrap());
        let config = stream::Config {
            name: "kept".to_string(),
            subjects: vec!["kept.>".to_string()],
            ..stream::Config::default()
        };
        context.create_stream(config).await.unwrap();
    });
}

/// Lets in by password alone whoever is no `postgres`; first by another one.
fn guard(tables: &Postgres) {
    let dir = tables.ask("SHOW data_directory").remove(0);
    let who = "local all all trust\nhost all postgres 127.0.0.1/32 trust\n\
        host all all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(Path::new(&dir).join("pg_hba.conf"), who).unwrap();
    assert_eq!(tables.ask("CREATE ROLE me LOGIN PASSWORD 'other'"), ["CREATE ROLE"]);
    assert_eq!(tables.ask("GRANT ALL ON SCHEMA public TO me"), ["GRANT"]);
    assert_eq!(tables.ask("SELECT pg_reload_conf()"), ["t"]);
}

/// A password of the environment with everything that YAML, shells, URLs and patterns know is used byte for byte by each
/// kind of sink that logs in, where it is taken and where it is refused; and stands, like the form in which it is sent, in
/// nothing that the server says or writes of any of them. Catches a kind that unfolds or trims what it is given, or shows it
/// when it is refused.
#[test]
fn each_kind_uses_and_keeps_them() {
    if !super::can_capture() {
        return;
    }
    let Some(tables) = Postgres::start() else {
        return weir_types::testing::skipped("there is no PostgreSQL");
    };
    if !has_bus_server() {
        return weir_types::testing::skipped("there is no nats-server");
    }
    let (dir, hook, tables) =
        (tempfile::tempdir().unwrap(), Hook::start(401).unwrap(), tables.unwrap());
    let (bus, closed) = (bus(SECRET), bus("other"));
    guard(&tables);
    make_stream(&bus);
    let file = config(dir.path(), hook.addr, tables.0.addr, [&bus, &closed]);
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let mut command = Command::new(weir::binary().unwrap());
    for name in BY_HTTP.map(|(kind, _)| kind).into_iter().chain(["tables", "bus", "closed"]) {
        command.env(format!("WEIR_SINKS_{}_AUTH_PASSWORD", name.to_uppercase()), SECRET);
    }
    let weir = Weir::start_by(command, &["--trace", &trace, "--config", &file]).unwrap();
    let paths = (0..PATHS).map(|n| format!("/{n}")).collect();
    let load = Load {
        addr: nginx.addr,
        paths,
        requests: 10 * PATHS,
        requests_per_sec: 50,
        connections: 2,
        keep_alive: true,
    };
    assert_eq!(run_load(&load).len(), load.requests);

    let row = |name: &str| -> Json {
        let sinks = weir.run(&["sinks", "-o", "jsonl"], DEADLINE).unwrap().json_lines();
        sinks.into_iter().find(|sink| sink["name"] == name).unwrap()
    };
    let until = |name: &str, wanted: &dyn Fn(&Json) -> bool| {
        let done = wait_until(DEADLINE, || wanted(&row(name)).then_some(()));
        assert!(done.is_some(), "{} {:#?}", row(name), weir.log());
    };
    for name in BY_HTTP.map(|(kind, _)| kind).into_iter().chain(["tables", "closed"]) {
        let is_refused = |row: &Json| {
            let why = row["last_error"].as_str().unwrap();
            ["401", "password"].iter().any(|word| why.contains(word))
        };
        until(name, &is_refused);
    }
    let sent = STANDARD.encode(format!("me:{SECRET}"));
    for path in ["house", "remote", "points", "socket"] {
        let of = |head: &&String| head.lines().next().is_some_and(|first| first.contains(path));
        let heads: Vec<String> = hook.heads().iter().filter(of).cloned().collect();
        let has = |head: &String| {
            let line = head.lines().find(|it| it.to_lowercase().starts_with("authorization:"));
            line.is_some_and(|line| line.trim_end().ends_with(&format!("Basic {sent}")))
        };
        assert!(!heads.is_empty() && heads.iter().all(has), "{path}: {heads:?}");
    }
    let is_taken = |row: &Json| row["rows_sent"].as_u64() >= Some(PATHS as u64);
    until("bus", &is_taken);
    for text in told(&weir, dir.path()) {
        for part in [SECRET, "pa$1", "%41", sent.as_str()] {
            assert!(!text.contains(part), "{part}: {text}");
        }
    }
    let right = format!("ALTER ROLE me PASSWORD '{}'", SECRET.replace('\'', "''"));
    assert_eq!(tables.ask(&right), ["ALTER ROLE"]);
    until("tables", &is_taken);
    assert_eq!(tables.ask("SELECT count(*) FROM paths"), [PATHS.to_string()]);
}
