//! Processes and network namespaces in great numbers.

use std::process::Command;

use weir_dataflow_tests::harness::http::{Load, run_load};

use crate::target::{ATTEMPTS, Target};

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
    let load = Load {
        addr: target.nginx.addr,
        paths: vec!["/ok".to_string()],
        requests: 10_000,
        requests_per_sec: 2_000,
        connections: 4,
        keep_alive: true,
    };
    // A machine without a core to spare may lose some once; a lock held over the reading loses each time.
    let loses_nothing = (0..ATTEMPTS).any(|_| {
        let before = lost(&target);
        drop(run_load(&load));
        lost(&target) == before
    });
    assert!(loses_nothing, "records were lost while namespaces were read");
    target.stands("two hundred namespaces");
    for mut child in children {
        let _ = child.kill();
        let _ = child.wait();
    }
    target.recovers();
}
