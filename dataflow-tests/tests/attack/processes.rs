//! Processes and network namespaces in great numbers.

use std::process::Command;

use crate::target::Target;

/// Three thousand processes that live for a moment: catches a cost of each that grows with what is known.
#[test]
fn processes_that_live_for_a_moment() {
    let Some(mut target) = Target::start(&[], &[]) else { return };
    let script = "i=0; while [ $i -lt 3000 ]; do /bin/true; i=$((i+1)); done";
    assert!(Command::new("sh").args(["-c", script]).status().unwrap().success());
    target.stands("three thousand processes");
    target.recovers();
}

/// Two hundred network namespaces, each with a process: reading them must not hold up capture.
#[test]
fn network_namespaces() {
    let Some(mut target) = Target::start(&[], &[]) else { return };
    let mut children = Vec::new();
    for _ in 0..200 {
        let Ok(child) = Command::new("unshare").args(["--net", "sleep", "30"]).spawn() else {
            return weir_types::testing::skipped("unshare is not installed");
        };
        children.push(child);
    }
    let lost = |target: &Target| {
        target.weir.stats().unwrap()["tables"]["http_events"]["lost"]["ring_full"].as_u64()
    };
    let before = lost(&target);
    let paths = vec!["/ok".to_string()];
    let load = weir_dataflow_tests::harness::http::Load {
        addr: target.nginx.addr,
        paths,
        requests: 10_000,
        requests_per_sec: 2_000,
        connections: 4,
        keep_alive: true,
    };
    drop(weir_dataflow_tests::harness::http::run_load(&load));
    assert_eq!(lost(&target), before, "records were lost while namespaces were read");
    target.stands("two hundred namespaces");
    for mut child in children {
        let _ = child.kill();
        let _ = child.wait();
    }
    target.recovers();
}
