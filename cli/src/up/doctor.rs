//! What works on this machine and why not, as data: `weir doctor` prints it, the page shows it.

use serde_json::{Value as Json, json};

/// One check: name, whether it is fine, what was found.
fn check(name: &str, ok: bool, detail: impl Into<String>) -> Json {
    json!({"name": name, "ok": ok, "detail": detail.into()})
}

/// All checks, and whether anything can be captured.
pub(crate) fn report() -> Json {
    let programs = weir_sources::ebpf::can_run();
    let mut checks = Vec::new();
    let refused: Vec<_> = programs.iter().filter(|program| program.reason.is_some()).collect();
    let can_capture = refused.len() < programs.len();
    // One reason for all is one line: nobody wants to read it twenty times.
    let reasons: std::collections::BTreeSet<String> =
        refused.iter().filter_map(|program| program.reason.clone()).collect();
    if refused.len() == programs.len() {
        for reason in &reasons {
            checks.push(check("ebpf", false, reason.clone()));
        }
    } else {
        for program in &programs {
            let detail = program.reason.clone().unwrap_or_else(|| "can run".to_string());
            checks.push(check(
                &format!("ebpf {}", program.program),
                program.reason.is_none(),
                detail,
            ));
        }
    }
    let proc = std::fs::read_to_string("/proc/self/stat");
    let proc_detail = match &proc {
        Ok(_) => "process and network counters can be read".to_string(),
        Err(error) => format!("/proc cannot be read: {error}"),
    };
    checks.push(check("proc", proc.is_ok(), proc_detail));
    let hint = if can_capture {
        "try `weir up --demo`, then `weir live px/http_data`"
    } else if rustix::process::geteuid().is_root() {
        "this kernel does not let us capture, root or not: `weir up` still serves the /proc tables, \
         and scripts run over files (`weir run --rows`)"
    } else {
        "run the server as root (`sudo weir up`): without eBPF only /proc counters are seen"
    };
    json!({"checks": checks, "can_capture": can_capture, "hint": hint})
}
