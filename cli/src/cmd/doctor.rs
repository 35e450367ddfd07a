//! `weir doctor`: what works here, and why not. Looks at this machine, not at a server.

use serde_json::{Value as Json, json};

use crate::args::{DoctorArgs, Format};
use crate::failure::Failure;
use crate::listing::list;
use crate::output;

pub(crate) fn run(args: DoctorArgs) -> Result<(), Failure> {
    let mut report = crate::up::doctor_report();
    if let Some(pid) = args.pid {
        report["process"] = look_at(pid)?;
    }
    match output::format_or_default(args.output) {
        Format::Table => print(&report)?,
        Format::Json | Format::Jsonl => output::line(&report.to_string())?,
        Format::Csv => list(&rows(&report), &["name", "ok", "detail"], Format::Csv)?,
    }
    if report["can_capture"] == true { Ok(()) } else { Err(Failure::No(String::new())) }
}

/// The checks, and what was asked of a process, as records of one form.
fn rows(report: &Json) -> Json {
    let mut rows = report["checks"].as_array().cloned().unwrap_or_default();
    for (key, value) in report["process"].as_object().into_iter().flatten() {
        rows.push(json!({"name": format!("process {key}"), "detail": value}));
    }
    Json::Array(rows)
}

fn print(report: &Json) -> Result<(), Failure> {
    for check in report["checks"].as_array().into_iter().flatten() {
        let mark = if check["ok"] == true { "ok  " } else { "no  " };
        output::text(&format!(
            "{mark} {:<32} {}",
            check["name"].as_str().unwrap_or_default(),
            check["detail"].as_str().unwrap_or_default()
        ))?;
    }
    if let Some(process) = report["process"].as_object() {
        for (key, value) in process {
            output::text(&format!("     {key:<32} {value}"))?;
        }
    }
    output::text(report["hint"].as_str().unwrap_or_default())
}

/// One process: whether it is there, and what it would be called.
fn look_at(pid: u32) -> Result<Json, Failure> {
    let cmdline = std::fs::read(format!("/proc/{pid}/cmdline"))
        .map_err(|error| Failure::No(format!("process {pid}: {error}")))?;
    let cmdline = String::from_utf8_lossy(&cmdline).replace('\0', " ");
    Ok(serde_json::json!({"pid": pid, "cmdline": cmdline.trim()}))
}
