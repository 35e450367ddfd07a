//! What is said of the processes that are one cluster part. It changes nothing about them.

use serde_json::{Value as Json, json};

use super::metrics::{head, line, single};
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

/// The same for Prometheus; nothing where there is one process.
pub(super) fn push(out: &mut String, generation: &Json) {
    if generation.is_null() {
        return;
    }
    let stands = u64::from(generation["stands"] == true);
    let help =
        "1 while all processes of the cluster part are there: nothing is answered without one.";
    single(out, "weir_generation_stands", "gauge", help, stands);
    let help = "Generations of processes that there were.";
    single(out, "weir_generations_total", "counter", help, &generation["total"]);
    let help = "Processes that were refused: of another build, or told otherwise.";
    single(out, "weir_generation_refused_total", "counter", help, &generation["refused_total"]);
    let metric = "weir_generation_process_held_bytes";
    head(out, metric, "gauge", "What queries hold in another process of the cluster part.");
    for other in generation["others"].as_array().into_iter().flatten() {
        let process = other["process"].to_string();
        let held = other["held_bytes"].as_u64().unwrap_or(0);
        line(out, metric, &[("process", &process)], held);
    }
}
