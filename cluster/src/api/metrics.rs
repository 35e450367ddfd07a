//! The server's own numbers: the contract's statistics object, and Prometheus' text form. Names of
//! metrics are part of the contract; what each loss means is in [`weir_types::ledger::REASONS`].

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use serde_json::{Value as Json, json};
use weir_proto::message::TableStatus;
use weir_types::ledger::REASONS;

use super::{ApiError, ApiState, generation};
use crate::service::{ListNodes, NodeRow};

/// A table over all nodes.
#[derive(Default)]
struct Table {
    rows: u64,
    bytes: u64,
    lost: BTreeMap<String, u64>,
    unanswered: u64,
    unasked: u64,
    metadata_held: u64,
}

impl Table {
    fn add(&mut self, status: &TableStatus) {
        self.rows += status.rows_total;
        self.bytes += status.history_bytes;
        for (reason, count) in &status.lost_total {
            *self.lost.entry(reason.clone()).or_default() += count;
        }
        self.unanswered += status.unanswered_total;
        self.unasked += status.unasked_total;
        self.metadata_held += status.metadata_held_count;
    }

    fn unpaired(&self) -> u64 {
        // Of the others one half was seen at least.
        ["unpaired", "gap"].iter().filter_map(|reason| self.lost.get(*reason)).sum()
    }
}

fn tables_of(nodes: &[NodeRow]) -> BTreeMap<&str, Table> {
    let mut tables: BTreeMap<&str, Table> = BTreeMap::new();
    for status in nodes.iter().flat_map(|node| &node.tables) {
        tables.entry(&status.table).or_default().add(status);
    }
    tables
}

fn refused_of(nodes: &[NodeRow]) -> BTreeMap<&str, u64> {
    let mut refused: BTreeMap<&str, u64> = BTreeMap::new();
    for (what, count) in nodes.iter().flat_map(|node| &node.refused_total) {
        *refused.entry(what).or_default() += count;
    }
    refused
}

async fn nodes_of(state: &ApiState) -> Result<Vec<NodeRow>, ApiError> {
    let asked = state.service.coordinator.send(ListNodes).await;
    asked.map_err(|error| ApiError::unavailable(&format!("the server is stopping ({error})")))
}

/// The contract's statistics object.
pub(super) async fn stats_json(state: &ApiState) -> Result<Json, ApiError> {
    let nodes = nodes_of(state).await?;
    let table = |(name, table): (&str, Table)| {
        let value = json!({
            "rows": table.rows,
            "bytes": table.bytes,
            "unpaired": table.unpaired(),
            "unanswered": table.unanswered,
            "unasked": table.unasked,
            "metadata_held": table.metadata_held,
            "lost": table.lost,
        });
        (name.to_string(), value)
    };
    let tables: serde_json::Map<String, Json> = tables_of(&nodes).into_iter().map(table).collect();
    let counts = counts_of(&nodes);
    let sources = nodes.iter().flat_map(|node| &node.sources).map(|source| {
        let counts = counts.iter().filter(|((of, _), _)| *of == source.name);
        let told = json!({
            "state": source.state,
            "reason": source.reason,
            "filters": source.filters,
            "counts": counts.map(|((_, name), count)| (*name, *count)).collect::<BTreeMap<_, _>>(),
        });
        (source.name.clone(), told)
    });
    let sources: serde_json::Map<String, Json> = sources.collect();
    let stats = json!({
        "event_to_view_ns": state.service.freshness.event_to_view_ns(),
        "tick_to_change_ns": state.service.freshness.tick_to_change_ns(),
        "tables": tables,
        "refused": refused_of(&nodes),
        "blind": nodes.iter().flat_map(|node| &node.sources).flat_map(|s| &s.blind).collect::<Vec<_>>(),
        "sources": sources,
        "process": (state.process)(),
        "readers": readers_json(state),
        "compiles": state.service.compiles.counts_json(),
        "plans": state.service.plans.counts_json(),
        "actors": state.service.health.summary(),
        "cut": state.service.cut_totals.all(),
        "overflow_rows": state.service.engine.engine().overflow_rows_total(),
        "engine_generation": state.service.engine.generation(),
        // Messages of nodes that were not simply taken, and what was done about it.
        "bus": counts_json(state.service.bus.list()),
        // Null without a bus between machines.
        "network": state.service.network.as_ref().map(|stats| counts_json(stats.list())),
        "generation": generation::json(&state.service),
        "api": state.counters.json(state.sessions.count()),
    });
    Ok(stats)
}

/// Counts by their names.
fn counts_json(counts: impl IntoIterator<Item = (&'static str, u64)>) -> Json {
    let counts = counts.into_iter().map(|(name, count)| (name.to_string(), json!(count)));
    counts.collect::<serde_json::Map<_, _>>().into()
}

/// What readers hold and what became of them.
fn readers_json(state: &ApiState) -> Json {
    use std::sync::atomic::Ordering;
    let readers = &state.service.readers;
    let counters = &readers.counters;
    let counter = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    json!({
        "websockets": readers.websockets(),
        "held_bytes": readers.held_bytes(),
        "behind": counter(&counters.behind_total),
        "too_slow": counter(&counters.too_slow_total),
        "stalled": counter(&counters.stalled_total),
        "silent": counter(&counters.silent_total),
        "refused": counter(&counters.refused_total),
    })
}

/// Prometheus' text form.
pub(super) async fn metrics_text(state: &ApiState) -> Result<String, ApiError> {
    let mut text = text_of(&nodes_of(state).await?);
    push_self_metrics(&mut text, &stats_json(state).await?);
    super::actor_metrics::write_metrics(&mut text, &state.service.health.summary());
    super::sink_metrics::write_metrics(&mut text, &state.service.sinks.rows());
    super::alerts::write_metrics(&mut text, &state.service.alerts.figures().await);
    let figures = &state.service.figures;
    let sample = figures.now();
    super::operators::write_metrics(&mut text, &sample, figures.left_out_total());
    super::query_metrics::write_metrics(&mut text, &sample);
    super::parts::write_metrics(&mut text, &state.service.health.tree());
    state.counters.write_metrics(&mut text, state.sessions.count());
    Ok(text)
}

fn text_of(nodes: &[NodeRow]) -> String {
    const PER_TABLE: [Family<Table>; 5] = [
        ("weir_table_rows_total", "counter", "Rows stored.", |table| table.rows),
        ("weir_table_history_bytes", "gauge", "Bytes of history.", |table| table.bytes),
        (
            "weir_unanswered_total",
            "counter",
            "Requests that the peer never answered: not lost.",
            |table| table.unanswered,
        ),
        (
            "weir_unasked_total",
            "counter",
            "Responses that nobody had asked for: not lost.",
            |table| table.unasked,
        ),
        (
            "weir_table_metadata_held",
            "gauge",
            "Rows that wait for the names of their process.",
            |table| table.metadata_held,
        ),
    ];
    let tables = tables_of(nodes);
    let mut out = String::new();
    families(&mut out, "table", &PER_TABLE, tables.iter().map(|(name, table)| (*name, table)));
    let reasons = REASONS.iter().map(|reason| format!("{} = {}", reason.name, reason.desc));
    let reasons = reasons.collect::<Vec<_>>().join(" ");
    let help = format!("What we failed to see or to keep, by reason: {reasons}");
    head(&mut out, "weir_lost_total", "counter", &help);
    for (table, value) in &tables {
        for (reason, count) in &value.lost {
            let labels = [("table", *table), ("reason", reason.as_str())];
            line(&mut out, "weir_lost_total", &labels, *count);
        }
    }
    let help = "Messages that found a queue of a node full; whoever was concerned was told.";
    counter_by(&mut out, "weir_refused_total", help, "queue", refused_of(nodes));
    push_counts(&mut out, nodes);
    head(&mut out, "weir_node_lagging", "gauge", "1 for a node that has been silent for too long.");
    for node in nodes {
        let lagging = u64::from(node.lagging);
        line(&mut out, "weir_node_lagging", &[("node", &node.name)], lagging);
    }
    out
}

fn push_counts(out: &mut String, nodes: &[NodeRow]) {
    let help = "What sources count beside losses; of capture, what was copied, cut and left out.";
    head(out, "weir_source_total", "counter", help);
    for ((source, count), value) in counts_of(nodes) {
        let labels = [("source", source), ("count", count)];
        line(out, "weir_source_total", &labels, value);
    }
    let (mut states, mut blind) = (BTreeMap::<_, u64>::new(), BTreeMap::<_, u64>::new());
    for source in nodes.iter().flat_map(|node| &node.sources) {
        *states.entry([("source", source.name.as_str()), ("state", &source.state)]).or_default() +=
            1;
        *blind.entry([("source", source.name.as_str())]).or_default() += source.blind.len() as u64;
    }
    head(
        out,
        "weir_source_nodes",
        "gauge",
        "Nodes whose source is in this state (`weir doctor` says why).",
    );
    for (labels, nodes) in states {
        line(out, "weir_source_nodes", &labels, nodes);
    }
    let help = "Processes of which a source sees nothing or not all, on all nodes.";
    head(out, "weir_source_blind_processes", "gauge", help);
    for (labels, processes) in blind {
        line(out, "weir_source_blind_processes", &labels, processes);
    }
}

/// What the sources of all nodes count beside losses, by source and name.
fn counts_of(nodes: &[NodeRow]) -> BTreeMap<(&str, &str), u64> {
    let mut all = BTreeMap::new();
    for source in nodes.iter().flat_map(|node| &node.sources) {
        for (name, count) in &source.counts {
            *all.entry((source.name.as_str(), name.as_str())).or_default() += count;
        }
    }
    all
}

/// Of readers and the engine.
fn push_self_metrics(out: &mut String, stats: &Json) {
    push_readers(out, &stats["readers"]);
    push_process(out, stats);
    let help = "Scripts by what became of them when they were to be compiled.";
    let kinds = ["compiled", "refused", "out_of_time", "cancelled", "busy"];
    let kinds = kinds.map(|what| (what, stats["compiles"][what].as_u64().unwrap_or(0)));
    counter_by(out, "weir_compile_total", help, "what", kinds);
    let help = "Scripts refused for what compiling them would cost, by code.";
    let refused = counts_in(&stats["compiles"]["limits"]);
    counter_by(out, "weir_compile_refused_total", help, "code", refused);
    let help =
        "Plans that were asked for: found compiled, compiled, and what was not kept of these.";
    let kinds = ["hits", "misses", "evicted", "too_large"];
    let kinds = kinds.map(|what| (what, stats["plans"][what].as_u64().unwrap_or(0)));
    counter_by(out, "weir_plan_cache_total", help, "what", kinds);
    for (name, help) in [("entries", "Compiled plans that are kept."), ("bytes", "Their bytes.")] {
        single(out, &format!("weir_plan_cache_{name}"), "gauge", help, &stats["plans"][name]);
    }
    let help = "Messages of nodes that were not simply taken, and what was done about it.";
    counter_by(out, "weir_bus_total", help, "what", counts_in(&stats["bus"]));
    let help =
        "What the bus between machines counts: sessions, frames that were sent again, bytes.";
    counter_by(out, "weir_network_total", help, "what", counts_in(&stats["network"]));
    let help = "Values that functions left out or cut, by reason (see weir_lost_total).";
    counter_by(out, "weir_cut_total", help, "reason", counts_in(&stats["cut"]));
    let help =
        "Rows of groups beyond --query-groups-max or short of bytes, counted as __overflow__.";
    single(out, "weir_overflow_rows_total", "counter", help, &stats["overflow_rows"]);
    let help = "Which engine it is since the start: one more each time that one died.";
    single(out, "weir_engine_generation", "gauge", help, &stats["engine_generation"]);
    generation::push(out, &stats["generation"]);
}

fn push_readers(out: &mut String, readers: &Json) {
    for (name, metric, kind, help) in [
        ("websockets", "weir_readers_websockets", "gauge", "Websockets that are open."),
        ("held_bytes", "weir_readers_held_bytes", "gauge", "What readers have not taken yet."),
        ("behind", "weir_readers_behind_total", "counter", "Times that a reader fell behind."),
        ("too_slow", "weir_readers_too_slow_total", "counter", "Readers that were too slow."),
        ("stalled", "weir_readers_stalled_total", "counter", "Readers that took nothing."),
        ("silent", "weir_readers_silent_total", "counter", "Readers that did not answer."),
        ("refused", "weir_readers_refused_total", "counter", "Readers there was no room for."),
    ] {
        single(out, metric, kind, help, &readers[name]);
    }
}

/// What the process costs, and how fresh what readers see is.
fn push_process(out: &mut String, stats: &Json) {
    let (process, ns) = (&stats["process"], |value: &Json| value.as_u64().unwrap_or(0));
    let (metric, cpu) = ("process_cpu_seconds_total", seconds(ns(&process["cpu_ns"])));
    single(out, metric, "counter", "Processor time of all threads.", cpu);
    let (metric, rss) = ("process_resident_memory_bytes", ns(&process["rss_bytes"]));
    single(out, metric, "gauge", "Resident memory.", rss);
    for (name, metric, help) in [
        (
            "event_to_view_ns",
            "weir_event_to_view_seconds",
            "From the end of an event to when a change by it was handed to a reader, since the start.",
        ),
        (
            "tick_to_change_ns",
            "weir_tick_to_change_seconds",
            "From a tick to when its changes were handed to a reader, since the start.",
        ),
    ] {
        head(out, metric, "summary", help);
        for (quantile, member) in [("0.5", "p50"), ("0.99", "p99"), ("0.999", "p999"), ("1", "max")]
        {
            let value = seconds(ns(&stats[name][member]));
            let _ = writeln!(out, "{metric}{{quantile=\"{quantile}\"}} {value}");
        }
        let _ = writeln!(out, "{metric}_count {}", ns(&stats[name]["count"]));
    }
}

/// As Prometheus has times.
pub(super) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// A metric of which each of some things has one value: its name, its type, what it says, and where it is.
pub(super) type Family<T> = (&'static str, &'static str, &'static str, fn(&T) -> u64);

/// Some metrics of some things, which a label names.
pub(super) fn families<'a, T: 'a>(
    out: &mut String,
    label: &str,
    families: &[Family<T>],
    things: impl Iterator<Item = (&'a str, &'a T)> + Clone,
) {
    for (metric, kind, help, of) in families {
        head(out, metric, kind, help);
        for (name, thing) in things.clone() {
            line(out, metric, &[(label, name)], of(thing));
        }
    }
}

/// A metric of one value.
pub(super) fn single(out: &mut String, metric: &str, kind: &str, help: &str, value: impl Display) {
    head(out, metric, kind, help);
    let _ = writeln!(out, "{metric} {value}");
}

/// A counter of kinds, which a label names.
fn counter_by<'a>(
    out: &mut String,
    metric: &str,
    help: &str,
    label: &str,
    counts: impl IntoIterator<Item = (&'a str, u64)>,
) {
    head(out, metric, "counter", help);
    for (name, count) in counts {
        line(out, metric, &[(label, name)], count);
    }
}

/// What of a member of the statistics are counts.
fn counts_in(stats: &Json) -> impl Iterator<Item = (&str, u64)> {
    let counts = stats.as_object().into_iter().flatten();
    counts.map(|(name, count)| (name.as_str(), count.as_u64().unwrap_or(0)))
}

pub(super) fn head(out: &mut String, metric: &str, kind: &str, help: &str) {
    let _ = write!(out, "# HELP {metric} {help}\n# TYPE {metric} {kind}\n");
}

pub(super) fn line(out: &mut String, metric: &str, labels: &[(&str, &str)], value: u64) {
    let labels = labels_text(labels);
    let _ = writeln!(out, "{metric}{{{labels}}} {value}");
}

/// The same with a fraction.
pub(super) fn number(out: &mut String, metric: &str, labels: &[(&str, &str)], value: f64) {
    let labels = labels_text(labels);
    let _ = writeln!(out, "{metric}{{{labels}}} {value}");
}

fn labels_text(labels: &[(&str, &str)]) -> String {
    let labels = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    labels.collect::<Vec<_>>().join(",")
}

/// As the text form wants label values.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use weir_proto::message::SourceStatus;

    use super::*;

    fn node(name: &str, lost: u64) -> NodeRow {
        let table = TableStatus {
            table: "http_events".to_string(),
            rows_total: 10,
            lost_total: vec![("ring_full".to_string(), lost), ("unpaired".to_string(), 1)],
            unanswered_total: 2,
            unasked_total: 3,
            ..TableStatus::default()
        };
        let source = SourceStatus {
            name: "ebpf".to_string(),
            state: "running".to_string(),
            counts: BTreeMap::from([("shed_calls".to_string(), lost)]),
            ..SourceStatus::default()
        };
        NodeRow {
            name: name.to_string(),
            hostname: String::new(),
            version: String::new(),
            asid: 0,
            incarnation: 1,
            lagging: false,
            lag_ms: None,
            last_heard_ms_ago: 0,
            sources: vec![source],
            tables: vec![table],
            refused_total: vec![("bus".to_string(), 3)],
        }
    }

    /// Nodes add up: catches the last one's numbers given for all of them.
    #[test]
    fn counters_are_sums_over_nodes() {
        let text = text_of(&[node("a", 4), node("b\"\\", 5)]);
        for wanted in [
            "# TYPE weir_lost_total counter\n",
            "weir_lost_total{table=\"http_events\",reason=\"ring_full\"} 9\n",
            "weir_lost_total{table=\"http_events\",reason=\"unpaired\"} 2\n",
            "weir_unanswered_total{table=\"http_events\"} 4\n",
            "weir_unasked_total{table=\"http_events\"} 6\n",
            "weir_table_rows_total{table=\"http_events\"} 20\n",
            "weir_refused_total{queue=\"bus\"} 6\n",
            "weir_source_total{source=\"ebpf\",count=\"shed_calls\"} 9\n",
            "weir_source_nodes{source=\"ebpf\",state=\"running\"} 2\n",
            "weir_source_blind_processes{source=\"ebpf\"} 0\n",
            "weir_node_lagging{node=\"b\\\"\\\\\"} 0\n",
        ] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
        assert!(text.lines().all(|line| line.starts_with('#') || line.contains("} ")), "{text}");
    }
}
