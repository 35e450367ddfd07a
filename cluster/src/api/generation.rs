//! What is said of the processes that are one cluster part. It changes nothing about them.

use serde_json::{Value as Json, json};

use super::metrics::{head, line, number, seconds, single};
use crate::service::Service;

/// The processes of the cluster part; null if it is one.
pub(super) fn json(service: &Service) -> Json {
    let Some(mesh) = service.engine.mesh() else { return Json::Null };
    let status = mesh.status();
    let engine = service.engine.engine();
    let others = engine.stats().processes;
    json!({
        "name": status.generation,
        "stands": !engine.is_dead(),
        "total": status.generations_total,
        "processes": status.processes,
        "missing": status.missing,
        "refused_total": status.refused_total,
        "refused": status.refused,
        "others": (1..).zip(others).map(|(process, of)| json!({
            "process": process,
            "held_bytes": of.held_bytes,
            "between_bytes": of.between_bytes,
            "read_bytes": of.read_bytes,
            "cpu_ns": of.cpu_ns,
            "dataflows": of.dataflows,
        })).collect::<Vec<_>>(),
    })
}

/// The same for Prometheus; names without values where there is one process.
pub(super) fn push(out: &mut String, generation: &Json) {
    let singles = [
        (
            "weir_generation_stands",
            "gauge",
            "1 while all processes of the cluster part are there: nothing is answered without one.",
            Json::from(u64::from(generation["stands"] == true)),
        ),
        (
            "weir_generations_total",
            "counter",
            "Generations of processes that there were.",
            generation["total"].clone(),
        ),
        (
            "weir_generation_processes",
            "gauge",
            "Processes that the cluster part has.",
            generation["processes"].clone(),
        ),
        (
            "weir_generation_processes_missing",
            "gauge",
            "Those of them that are waited for.",
            generation["missing"].as_array().map_or(0, Vec::len).into(),
        ),
        (
            "weir_generation_refused_total",
            "counter",
            "Processes that were refused: of another build, or told otherwise.",
            generation["refused_total"].clone(),
        ),
    ];
    for (metric, kind, help, value) in singles {
        match generation {
            Json::Null => head(out, metric, kind, help),
            _ => single(out, metric, kind, help, value),
        }
    }
    push_others(out, &generation["others"]);
}

fn push_others(out: &mut String, others: &Json) {
    for (member, metric, kind, help) in [
        ("held_bytes", "held_bytes", "gauge", "What queries hold in another process."),
        ("between_bytes", "between_bytes", "gauge", "Its rows on their way to or from others."),
        ("read_bytes", "read_bytes_total", "counter", "Changes that it read from the bus."),
        ("dataflows", "dataflows", "gauge", "Dataflows that it runs."),
        ("cpu_ns", "cpu_seconds_total", "counter", "Processor time of its workers."),
    ] {
        let metric = format!("weir_generation_process_{metric}");
        head(out, &metric, kind, help);
        for other in others.as_array().into_iter().flatten() {
            let process = other["process"].to_string();
            let (labels, value) = ([("process", process.as_str())], other[member].as_u64());
            match value.unwrap_or(0) {
                ns if member == "cpu_ns" => number(out, &metric, &labels, seconds(ns)),
                count => line(out, &metric, &labels, count),
            }
        }
    }
}
