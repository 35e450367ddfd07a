//! Cassandra, with its driver.

use std::net::TcpStream;

use super::*;

const OPERATIONS: u32 = 500;
const COLUMNS: [&str; 4] = ["req_op", "req_body", "resp_op", "resp_body"];
const STARTUP: &str = "1";
const OPTIONS: &str = "5";
const REGISTER: &str = "11";

/// What of Java it reaches into.
const OPENS: [&str; 17] = [
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.io",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/sun.nio.ch",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "java.base/jdk.internal.misc",
    "jdk.management/com.sun.management.internal",
];
const EXPORTS: [&str; 11] = [
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.base/java.lang.ref",
    "java.base/java.lang.reflect",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.rmi/sun.rmi.transport.tcp",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
];

fn configuration(dir: &str, port: u16) -> String {
    let storage = free_port();
    format!(
        "cluster_name: t\nnum_tokens: 1\npartitioner: org.apache.cassandra.dht.Murmur3Partitioner\n\
         commitlog_sync: periodic\ncommitlog_sync_period: 10000ms\ncommitlog_directory: {dir}/c\n\
         hints_directory: {dir}/h\ncdc_raw_directory: {dir}/r\nsaved_caches_directory: {dir}/s\n\
         data_file_directories: [{dir}/d]\nendpoint_snitch: SimpleSnitch\nseed_provider:\n\
         - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n  \
         parameters: [{{seeds: '127.0.0.1:{storage}'}}]\nlisten_address: 127.0.0.1\n\
         rpc_address: 127.0.0.1\nstorage_port: {storage}\nssl_storage_port: {}\n\
         native_transport_port: {port}\nmemtable_heap_space: 32MiB\nmemtable_offheap_space: 32MiB\n\
         commitlog_total_space: 64MiB\ncommitlog_segment_size: 8MiB\nfile_cache_enabled: false\n\
         key_cache_size: 0MiB\n",
        free_port()
    )
}

fn server(dir: &Path, port: u16) -> Server {
    let (at, lib) = (dir.display().to_string(), cache("cassandra/lib"));
    let file = dir.join("cassandra.yaml");
    std::fs::write(&file, configuration(&at, port)).unwrap();
    let agent = std::fs::read_dir(&lib).unwrap().map(|it| it.unwrap().path());
    let is_agent =
        |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("jamm-");
    let agent = agent.into_iter().find(is_agent).unwrap();
    let mut command = Command::new("java");
    command.args(["-Xms256m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.args(["-XX:MaxDirectMemorySize=128m", "-Djdk.attach.allowAttachSelf=true"]);
    command.arg(format!("-javaagent:{}", agent.display()));
    for name in OPENS {
        command.args(["--add-opens", &format!("{name}=ALL-UNNAMED")]);
    }
    for name in EXPORTS {
        command.args(["--add-exports", &format!("{name}=ALL-UNNAMED")]);
    }
    let settings = [
        format!("config=file://{}", file.display()),
        format!("storagedir={at}"),
        format!("logdir={at}/log"),
        format!("jmx.local.port={}", free_port()),
        "skip_wait_for_gossip_to_settle=0".to_string(),
        "ring_delay_ms=1".to_string(),
        "superuser_setup_delay_ms=1".to_string(),
        "initial_token=0".to_string(),
    ];
    command.args(settings.map(|setting| format!("-Dcassandra.{setting}")));
    command.args(["-Dcassandra-foreground=yes", "-cp"]).arg(lib.join("*"));
    command.arg("org.apache.cassandra.service.CassandraDaemon").current_dir(dir);
    Server::start(&mut command, "-KILL", || TcpStream::connect(("127.0.0.1", port)).is_ok())
}

/// What a client says that there has to be.
fn client(port: u16, version: u8, seed: u32) -> Vec<Vec<String>> {
    let args = [u32::from(port), u32::from(version), seed, OPERATIONS];
    let text = python("cassandra", "cql.py", &args.map(|arg| arg.to_string()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the driver asks of its own accord.
fn is_own(row: &Want) -> bool {
    [STARTUP, OPTIONS, REGISTER].contains(&row.cells[0].as_str())
        || row.cells[1].contains(" system")
}

/// Hundreds of operations of every kind, by versions 4 and 5 of the protocol: every row is as the client knows it, in
/// order.
#[test]
fn cassandra_and_its_driver() {
    if is_missing("cassandra", &JARS_AND_PYTHON) {
        return;
    }
    let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
    let server = server(dir.path(), port);
    let relay = Relay::to(port);
    let logs: Vec<_> = [(4, 1), (5, 2)].map(|(by, seed)| client(relay.port, by, seed)).into();
    drop(server);
    let wire = relay.finish();
    let (_, all) = found("cql_events", &COLUMNS, &wire, &Faults::default());
    assert!(all.iter().any(is_own));
    let asked: Vec<Want> = all.iter().filter(|row| !is_own(row)).cloned().collect();
    let want = want_of(&asked, &logs);
    assert!(want.len() > 2 * OPERATIONS as usize);
    check_equal(&want, &asked);
}
