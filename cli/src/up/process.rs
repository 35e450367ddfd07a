//! What this process costs: CPU time and resident memory, from `/proc/self`.

use serde_json::{Value as Json, json};

/// CPU time of all threads, ended ones included, in ns (the kernel counts in ticks of 10 ms).
pub(crate) fn cpu_ns() -> u64 {
    cpu_ns_of(std::process::id())
}

/// The same of another process.
pub(crate) fn cpu_ns_of(pid: u32) -> u64 {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0 };
    // The command name may hold blanks: fields are counted after its closing parenthesis.
    let Some((_, rest)) = stat.rsplit_once(')') else { return 0 };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |idx: usize| fields.get(idx).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let ticks_per_sec = rustix::param::clock_ticks_per_second().max(1);
    (ticks(11) + ticks(12)) * (1_000_000_000 / ticks_per_sec)
}

pub(crate) fn rss_bytes() -> u64 {
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages = statm.split_whitespace().nth(1).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

pub(crate) fn report() -> Json {
    json!({"cpu_ns": cpu_ns(), "rss_bytes": rss_bytes()})
}
