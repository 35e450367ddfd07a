//! `weir doctor`: what works here, and why not. Looks at this machine; a server that runs tells how its
//! parts are, and of a process what it misses. Without a server there is no such section.

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
    let stats = connection.get("/api/v1/stats").ok();
    if let Some(pid) = args.pid {
        let server = stats.as_ref().map_or_else(Server::default, |stats| Server::told(stats, pid));
        report["process"] = look_at(pid, report["can_capture"] == true, &server)?;
    }
    if let Some(stats) = stats {
        if let Some(checks) = report["checks"].as_array_mut() {
            checks.extend(filter_rows(&stats));
        }
        let member = |name: &str| (name.to_string(), stats[name].clone());
        report["server"] =
            ["parts", "part_groups", "parts_unlisted"].map(member).into_iter().collect();
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
        if key != "obstacles" && key != "tls" {
            rows.push(json!({"name": format!("process {key}"), "detail": value}));
        }
    }
    for found in report["process"]["tls"].as_array().into_iter().flatten() {
        let name = format!("process tls {}", text_of(&found["path"]));
        rows.push(
            json!({"name": name, "ok": found["reason"].is_null(), "detail": tls_text(found)}),
        );
    }
    for found in report["process"]["obstacles"].as_array().into_iter().flatten() {
        rows.push(json!({"name": found["code"], "ok": false, "detail": found["text"]}));
    }
    rows.extend(part_rows(&report["server"]));
    Json::Array(rows)
}

/// What the server's sources look at, where that is not everything.
fn filter_rows(stats: &Json) -> Vec<Json> {
    let sources = stats["sources"].as_object().into_iter().flatten();
    let row = |(name, source): (&String, &Json)| {
        let filters = source["filters"].as_array().into_iter().flatten();
        let filters: Vec<&str> = filters.filter_map(Json::as_str).collect();
        let detail =
            format!("only {}; `covers_from` of an answer says since when", filters.join(", "));
        let row = json!({"name": format!("{name} looks at"), "ok": true, "detail": detail});
        (!filters.is_empty()).then_some(row)
    };
    sources.filter_map(row).collect()
}

/// The parts of the server as checks: fine is what runs, and what ended in order.
fn part_rows(server: &Json) -> Vec<Json> {
    let mut rows = Vec::new();
    let deaths = |of: &Json| match of["deaths"].as_u64().unwrap_or(0) {
        0 => String::new(),
        deaths => format!(
            ", died {deaths} times, last: {}",
            of["last_reason"].as_str().unwrap_or_default()
        ),
    };
    for part in server["parts"].as_array().into_iter().flatten() {
        let state = part["state"].as_str().unwrap_or_default();
        let since = part["since"].as_str().unwrap_or_default();
        let why = match state {
            "refused" => format!(": {}", part["last_reason"].as_str().unwrap_or_default()),
            _ => deaths(part),
        };
        rows.push(json!({
            "name": part["part"],
            "ok": matches!(state, "running" | "stopped"),
            "detail": format!("{state} since {since}{why}"),
        }));
    }
    for group in server["part_groups"].as_array().into_iter().flatten() {
        let states = group["states"].as_object().into_iter().flatten();
        let states: Vec<String> = states.map(|(state, count)| format!("{count} {state}")).collect();
        let states = if states.is_empty() { "none".to_string() } else { states.join(", ") };
        let ok = group["states"]["failed"].is_null() && group["states"]["backing off"].is_null();
        let detail = format!("{states}{}", deaths(group));
        rows.push(json!({"name": group["part"], "ok": ok, "detail": detail}));
    }
    rows
}

fn print_table(report: &Json) -> Result<(), Failure> {
    let parts = part_rows(&report["server"]);
    for check in report["checks"].as_array().into_iter().flatten().chain(&parts) {
        let mark = if check["ok"] == true { "ok  " } else { "no  " };
        output::text(&format!(
            "{mark} {:<32} {}",
            check["name"].as_str().unwrap_or_default(),
            check["detail"].as_str().unwrap_or_default()
        ))?;
    }
    for (key, value) in report["process"].as_object().into_iter().flatten() {
        if key == "obstacles" || key == "missed" || key == "tls" {
            continue;
        }
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        output::text(&format!("     {key:<32} {value}"))?;
    }
    for found in report["process"]["tls"].as_array().into_iter().flatten() {
        let mark = if found["reason"].is_null() { "ok  " } else { "no  " };
        output::text(&format!("{mark} {:<32} {}", "tls", tls_text(found)))?;
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

/// The files of a process that have TLS in them, and whether what is said through them can be read.
fn tls_of(pid: u32) -> Json {
    let files = weir_sources::ebpf::tls::look(Path::new("/proc"), pid).unwrap_or_default();
    let told = files.into_iter().map(|file| {
        json!({
            "path": file.path,
            "library": file.library,
            "functions": file.functions,
            "reason": file.reason,
        })
    });
    told.collect()
}

fn text_of(value: &Json) -> &str {
    value.as_str().unwrap_or_default()
}

fn tls_text(found: &Json) -> String {
    let path = text_of(&found["path"]);
    match found["reason"].as_str() {
        Some(reason) => format!("{path} cannot be probed: {reason}"),
        None => {
            format!(
                "{path}: {}, {} functions to probe",
                text_of(&found["library"]),
                found["functions"]
            )
        }
    }
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
    fn told(stats: &Json, pid: u32) -> Server {
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
    let tls = tls_of(pid);
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
        "tls": tls,
    }))
}
