//! What a server knows of itself and finds out on the side: table functions and reverse DNS.

use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::weir::Weir;

const DEADLINE: Duration = Duration::from_secs(60);

fn rows(weir: &Weir, text: &str) -> Vec<Json> {
    let path = weir.data_dir().join("script.pxl");
    std::fs::write(&path, text).unwrap();
    let output = weir.run(&["run", path.to_str().unwrap(), "-o", "jsonl"], DEADLINE).unwrap();
    assert!(output.status.success(), "{text}: {output:?}");
    output.json_lines()
}

/// One answer has the rows of this very server, also of functions that its agent is asked for only
/// then; what nobody can know is refused with a reason: catches a `run` that answers before the
/// agent did, and an empty table where there is a failure.
#[test]
fn a_server_answers_of_itself() {
    let weir = Weir::start(&["--trace", "port:1"]).unwrap();
    let of = |call: &str| rows(&weir, &format!("import px\npx.display(px.{call})\n"));
    let agents = of("GetAgentStatus(False)");
    assert_eq!(agents.len(), 1, "{agents:?}");
    assert_eq!(agents[0]["agent_state"], "AGENT_STATE_HEALTHY");
    assert_eq!(agents[0]["asid"], 1);
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(agents[0]["hostname"], hostname.trim());
    assert!(agents[0]["last_heartbeat_ns"].as_i64().unwrap() < 3_000_000_000);
    assert_eq!(of("GetAgentStatus()").len(), 2, "the cluster part is an agent too");
    assert_eq!(of("Version()")[0]["version"], env!("CARGO_PKG_VERSION"));
    let rss = of("_DebugAgentProcStatus()")[0]["vm_rss_bytes"].as_i64().unwrap();
    assert!(rss > 1 << 20, "{rss}");
    let maps = of("_DebugAgentProcSMaps()");
    let program = |row: &&Json| row["pathname"].as_str().unwrap().ends_with("/weir");
    assert!(maps.iter().any(|row| program(&row)), "{maps:?}");
    let state = of("_DebugMDState()")[0]["debug_state"].as_str().unwrap().to_string();
    let state: Json = serde_json::from_str(&state).unwrap();
    assert!(state["processes"].as_i64().unwrap() > 1, "{state}");
    let tables = of("_DebugTableInfo()");
    assert!(tables.iter().any(|row| row["name"] == "process_stats"), "{tables:?}");
    assert!(of("GetTracepointStatus()").is_empty() && of("GetCronScriptHistory()").is_empty());
    assert_eq!(of("GetLinuxHeadersStatus(False)").len(), 1);

    let path = weir.data_dir().join("script.pxl");
    std::fs::write(&path, "import px\npx.display(px._HeapGrowthStacks())\n").unwrap();
    let refused = weir.run(&["run", path.to_str().unwrap()], DEADLINE).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = refused.stderr.join("\n");
    assert!(said.contains("_HeapGrowthStacks") && said.contains("allocator"), "{said}");
}

/// A name that `/etc/hosts` has is there soon after it was asked for, and an address stays an
/// address where there is none: catches notes that nobody takes.
#[test]
fn addresses_get_names() {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let named = hosts.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next() == Some("127.0.0.1") && words.next() == Some("localhost")
    });
    assert!(named, "the test needs `127.0.0.1 localhost` in /etc/hosts");
    let weir = Weir::start(&["--trace", "port:1"]).unwrap();
    let text = "import px\n\
                df = px.DataFrame('process_stats', start_time='-1m')\n\
                df.name = px.nslookup('127.0.0.1')\n\
                df = df.groupby('name').agg(n=('upid', px.count))\n\
                px.display(df)\n";
    // Each run takes a tick at least; the name comes with the second or third.
    let named = (0..100).any(|_| {
        let found = rows(&weir, text);
        let names: Vec<&str> = found.iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert!(names.iter().all(|name| ["127.0.0.1", "localhost"].contains(name)), "{names:?}");
        names == ["localhost"]
    });
    assert!(named, "no name came");
}
