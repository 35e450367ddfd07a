//! End to end: the real binary, real servers, real traffic on loopback, real eBPF.
//!
//! Capture needs root; a test that cannot capture here says so and does nothing else. Every server
//! captures only the port of its own test, so that tests do not see each other.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "these are tests")]

mod access;
mod alert_restarts;
mod alerts;
mod api;
mod backlogs;
mod buffers;
mod capture;
mod check;
mod command_line;
mod commands;
mod costs;
mod dns;
mod entities;
mod example_rules;
mod exporters;
mod filters;
mod generations;
mod hostile;
mod hosts;
mod incidents;
mod kafka;
mod kills;
mod kinds;
mod knowledge;
mod leftovers;
mod literate;
mod logins;
mod monitoring;
mod names;
mod nats;
mod nodes;
mod oracle;
mod own_bus;
mod past;
mod peers;
mod ports;
mod processes;
mod promtool;
mod rates;
mod readers;
mod receivers;
mod reduced;
mod reloads;
mod replay;
mod replay_protocols;
mod rows;
mod rule_names;
mod rules;
mod secrets;
mod secure;
mod seen;
mod servers;
mod silence;
mod sinks;
mod store;
mod unix;

/// True if this machine lets us capture and has nginx; says why not otherwise.
fn can_capture() -> bool {
    let doctor = weir_dataflow_tests::harness::weir::run(
        &["doctor", "-o", "json"],
        std::time::Duration::from_secs(30),
    )
    .expect("weir doctor runs");
    let report = doctor.json_lines();
    let capture = report.first().is_some_and(|report| report["can_capture"] == true);
    if !capture {
        weir_types::testing::skipped(format!("cannot capture here: {report:?}"));
    }
    let nginx = weir_dataflow_tests::harness::nginx::is_installed();
    if !nginx {
        weir_types::testing::skipped("nginx is not installed");
    }
    capture && nginx
}
