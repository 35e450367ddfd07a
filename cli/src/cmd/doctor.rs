//! `weir doctor`: what works here, and why not. Looks at this machine, not at a server.

use serde_json::Value as Json;

use crate::args::{DoctorArgs, Format};
use crate::failure::Failure;
use crate::output;

pub(crate) fn run(args: DoctorArgs) -> Result<(), Failure> {
    let mut report = crate::up::doctor_report();
    if let Some(pid) = args.pid {
        report["process"] = look_at(pid)?;
    }
    if output::format_or_default(args.output) == Format::Table {
        for check in report["checks"].as_array().into_iter().flatten() {
            let mark = if check["ok"] == true { "ok  " } else { "no  " };
            output::line(&format!(
                "{mark} {:<32} {}",
                check["name"].as_str().unwrap_or_default(),
                check["detail"].as_str().unwrap_or_default()
            ))?;
        }
        if let Some(process) = report["process"].as_object() {
            for (key, value) in process {
                output::line(&format!("     {key:<32} {value}"))?;
            }
        }
        output::line(report["hint"].as_str().unwrap_or_default())?;
    } else {
        output::line(&report.to_string())?;
    }
    if report["can_capture"] == true { Ok(()) } else { Err(Failure::No(String::new())) }
}

/// One process: whether it is there, and what it would be called.
fn look_at(pid: u32) -> Result<Json, Failure> {
    let cmdline = std::fs::read(format!("/proc/{pid}/cmdline"))
        .map_err(|error| Failure::No(format!("process {pid}: {error}")))?;
    let cmdline = String::from_utf8_lossy(&cmdline).replace('\0', " ");
    Ok(serde_json::json!({"pid": pid, "cmdline": cmdline.trim()}))
}
