//! `weir doctor`: what works here, and why not. Looks at this machine; of a process, a server that runs
//! here may know what it misses, too.

use std::path::Path;

use serde_json::{Value as Json, json};
use weir_sources::proc::look::{ProcessLook, look};

use crate::args::{DoctorArgs, Format};
use crate::client::Connection;
use crate::failure::Failure;
use crate::listing::list;
use crate::output;

pub(crate) fn run(connection: &Connection, args: DoctorArgs) -> Result<(), Failure> {
    let mut report = crate::up::doctor_report();
    if let Some(pid) = args.pid {
        let server = Server::ask(connection, pid);
        report["process"] = look_at(pid, report["can_capture"] == true, &server)?;
    }
    match output::format_or_default(args.output) {
        Format::Table => print_table(&report)?,
        Format::Json | Format::Jsonl => output::line(&report.to_string())?,
        Format::Csv => list(&rows(&report), &["name", "ok", "detail"], Format::Csv)?,
    }
    let all_of_it = report["process"].get("captured").is_none_or(|captured| captured == "yes");
    if report["can_capture"] == true && all_of_it {
        Ok(())
    } else {
        Err(Failure::No(String::new()))
    }
}

/// The checks, and what was asked of a process, as records of one form.
fn rows(report: &Json) -> Json {
    let mut rows = report["checks"].as_array().cloned().unwrap_or_default();
    for (key, value) in report["process"].as_object().into_iter().flatten() {
        if key != "obstacles" {
            rows.push(json!({"name": format!("process {key}"), "detail": value}));
        }
    }
    for found in report["process"]["obstacles"].as_array().into_iter().flatten() {
        rows.push(json!({"name": found["code"], "ok": false, "detail": found["text"]}));
    }
    Json::Array(rows)
}

fn print_table(report: &Json) -> Result<(), Failure> {
    for check in report["checks"].as_array().into_iter().flatten() {
        let mark = if check["ok"] == true { "ok  " } else { "no  " };
        output::text(&format!(
            "{mark} {:<32} {}",
            check["name"].as_str().unwrap_or_default(),
            check["detail"].as_str().unwrap_or_default()
        ))?;
    }
    for (key, value) in report["process"].as_object().into_iter().flatten() {
        if key == "obstacles" || key == "missed" {
            continue;
        }
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        output::text(&format!("     {key:<32} {value}"))?;
    }
    for obstacle in report["process"]["obstacles"].as_array().into_iter().flatten() {
        output::text(&format!(
            "no   {:<32} {}",
            obstacle["code"].as_str().unwrap_or_default(),
            obstacle["text"].as_str().unwrap_or_default()
        ))?;
    }
    for missed in report["process"]["missed"].as_array().into_iter().flatten() {
        let reason = missed["reason"].as_str().unwrap_or_default();
        output::text(&format!("no   {reason:<32} {} bytes passed by the server", missed["bytes"]))?;
    }
    output::text(report["hint"].as_str().unwrap_or_default())
}

/// What a running server says.
#[derive(Default)]
struct Server {
    /// What it missed of the process: `null` if none answers.
    missed: Json,
    /// What it was told to look at; empty: everything.
    filters: Vec<String>,
}

impl Server {
    fn ask(connection: &Connection, pid: u32) -> Server {
        let Ok(stats) = connection.get("/api/v1/stats") else { return Server::default() };
        let all = stats["blind"].as_array().into_iter().flatten();
        let filters = stats["sources"]["ebpf"]["filters"].as_array().into_iter().flatten();
        Server {
            missed: all.filter(|blind| blind["pid"] == pid).cloned().collect(),
            filters: filters.filter_map(Json::as_str).map(str::to_string).collect(),
        }
    }
}

/// One process: whether it is there, and whether its traffic is seen: `yes`, `partly` or `no`.
fn look_at(pid: u32, can_capture: bool, server: &Server) -> Result<Json, Failure> {
    let missed = &server.missed;
    let process: ProcessLook = look(Path::new("/proc"), pid)
        .map_err(|error| Failure::No(format!("process {pid}: {error}")))?;
    let mut obstacles = process.obstacles();
    obstacles.extend(process.excluded_by(&server.filters));
    let captured = match obstacles.as_slice() {
        _ if !can_capture => "no",
        [] if missed.as_array().is_some_and(|missed| !missed.is_empty()) => "partly",
        [] => "yes",
        found if found.iter().any(|obstacle| obstacle.all) => "no",
        _ => "partly",
    };
    let obstacles = obstacles.iter().map(|found| json!({"code": found.code, "text": found.text}));
    Ok(json!({
        "pid": pid,
        "cmdline": process.cmdline,
        "exe": process.exe,
        "bits": process.bits,
        "sockets": process.sockets,
        "io_urings": process.io_urings,
        "descriptors_known": !process.fds_unknown,
        "seccomp": process.seccomp,
        "captured": captured,
        "filters": server.filters,
        "missed": missed,
        "obstacles": obstacles.collect::<Vec<_>>(),
    }))
}
