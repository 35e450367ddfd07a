//! What Prometheus sees of a server: `/metrics` is as Prometheus wants it and has every number that the server tells of
//! itself, and the rules and the dashboard of `docs/monitoring` ask for what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::alertmanager::Hook;
use weir_dataflow_tests::harness::http::{Load, request_once, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::receivers::{self, Prometheus};
use weir_dataflow_tests::harness::weir::{Live, Weir, output_of};
use weir_dataflow_tests::harness::{put, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

fn docs(name: &str) -> String {
    let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring");
    dir.join(name).to_str().unwrap().to_string()
}

fn promtool(args: &[&str]) -> Option<String> {
    let mut command = Command::new("promtool");
    command.args(args);
    let output = output_of(command, DEADLINE).ok()?;
    let said = [output.stdout, output.stderr].concat().join("\n");
    assert!(output.status.success(), "{args:?}: {said}");
    Some(said)
}

/// A text without what stands between these, which are not nested.
fn without(text: &str, between: &[char]) -> String {
    text.split(between).step_by(2).collect::<Vec<_>>().join(" ")
}

/// Names of metrics in an expression: words that are no function, no label and no word of the language.
fn names_in(expr: &str) -> BTreeSet<String> {
    const WORDS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "inf"];
    let bare = without(&without(&without(expr, &['"']), &['{', '}']), &['[', ']']);
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (mut names, mut rest) = (BTreeSet::new(), bare.as_str());
    while let Some(at) = rest.find(is_word) {
        let len = rest[at..].find(|c| !is_word(c)).unwrap_or(rest.len() - at);
        let word = &rest[at..at + len];
        rest = rest[at + len..].trim_start();
        if ["by", "without", "on", "ignoring", "group_left", "group_right"].contains(&word) {
            // What is in its brackets are labels.
            rest = rest.split_once(')').map_or("", |(_, behind)| behind);
        } else if !["(", "by ", "by(", "without ", "without("].iter().any(|it| rest.starts_with(it))
            && !WORDS.contains(&word)
            && !word.starts_with(|c: char| c.is_ascii_digit())
        {
            names.insert(word.to_string());
        }
    }
    names
}

/// What `/metrics` says of itself: the kind of each metric, and what it is.
fn declared(metrics: &str) -> BTreeMap<String, (String, String)> {
    let (mut all, mut help) = (BTreeMap::new(), "");
    for line in metrics.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            help = text.split_once(' ').unwrap().1;
        } else if let Some(text) = line.strip_prefix("# TYPE ") {
            let (name, kind) = text.split_once(' ').unwrap();
            let twice = all.insert(name.to_string(), (kind.to_string(), help.to_string()));
            assert_eq!(twice, None, "{name} is declared once");
        }
    }
    all
}

/// The page of metrics.
fn page_of(declared: &BTreeMap<String, (String, String)>) -> String {
    let mut text = "# Metrics\n\nWhat `GET /metrics` of a server has. Names, kinds and units stay; a test compares them.\n\n\
        | name | kind | what it says |\n|---|---|---|\n".to_string();
    for (name, (kind, help)) in declared {
        text += &format!("| `{name}` | {kind} | {} |\n", help.replace('|', "\\|"));
    }
    text
}

/// The expressions of the dashboard, with what Grafana puts in place of its variables.
fn dashboard() -> Vec<String> {
    fn collect(value: &Json, found: &mut Vec<String>) {
        let (members, items) = (value.as_object(), value.as_array());
        for (name, below) in members.into_iter().flatten() {
            // What a variable of Grafana's is chosen from is the metric that it names.
            let of_variable = below.as_str().and_then(|text| text.strip_prefix("label_values("));
            let expr = match name.as_str() {
                "expr" => below.as_str(),
                _ => of_variable.and_then(|text| Some(text.split_once(',')?.0)),
            };
            match expr {
                Some(expr) => {
                    let expr = expr.replace("$__rate_interval", "1m");
                    found.push(expr.replace("$instance", ".+"));
                }
                None => collect(below, found),
            }
        }
        items.into_iter().flatten().for_each(|below| collect(below, found));
    }
    let text = std::fs::read_to_string(docs("weir-dashboard.json")).unwrap();
    let json: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(json["uid"], "weir");
    let mut found = Vec::new();
    collect(&json, &mut found);
    assert!(found.len() > 20 && found.iter().all(|expr| !expr.contains('$')), "{found:#?}");
    let names: BTreeSet<String> = found.iter().flat_map(|expr| names_in(expr)).collect();
    // Elsewhere in it nobody names a metric.
    let all = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let all = all.filter(|word| word.starts_with("weir_")).map(str::to_string);
    assert!(all.collect::<BTreeSet<_>>().is_subset(&names), "{names:?}");
    found
}

/// The expressions of the rules about Weir, and what they record.
fn rules() -> (Vec<String>, BTreeSet<String>) {
    let text = std::fs::read_to_string(docs("weir-rules.yml")).unwrap();
    let (mut exprs, mut recorded) = (Vec::new(), BTreeSet::new());
    for line in text.lines().map(str::trim_start) {
        exprs.extend(line.strip_prefix("expr: ").map(str::to_string));
        recorded.extend(line.strip_prefix("- record: ").map(str::to_string));
    }
    (exprs, recorded)
}

/// `promtool` has nothing to say about `/metrics`; the rules about Weir itself pass its check and their own tests, and
/// the expressions of the dashboard are PromQL; every metric that the rules or the dashboard name is one that a server
/// has, and all it has are on their page. Catches a metric that was renamed, and an expression that no Prometheus takes.
#[test]
fn prometheus_takes_it_all() {
    if promtool(&["--version"]).is_none() {
        return weir_types::testing::skipped("there is no promtool");
    }
    let own = tempfile::tempdir().unwrap();
    let config = own.path().join("weir.yaml");
    std::fs::write(
        &config,
        "receivers: [{name: r, type: webhook, url: 'http://127.0.0.1:9/'}]\nsinks:\n  \
         s: {type: blackhole, inputs: [{text: \"import px\\npx.display(px.DataFrame('http_events'))\"}]}\n",
    )
    .unwrap();
    let weir = Weir::start(&["--config", config.to_str().unwrap(), "--trace", "port:1"]).unwrap();
    let metrics = weir.get("/metrics").unwrap().text();
    let scraped = own.path().join("metrics");
    std::fs::write(&scraped, &metrics).unwrap();
    let mut check = Command::new("sh");
    check.args(["-c", "promtool check metrics <\"$0\"", scraped.to_str().unwrap()]);
    let check = output_of(check, DEADLINE).unwrap();
    assert!(check.status.success(), "{:?} {:?}", check.stdout, check.stderr);

    let declared = declared(&metrics);
    let page = std::fs::read_to_string(docs("metrics.md")).unwrap_or_default();
    let wanted = page_of(&declared);
    assert!(page == wanted, "docs/monitoring/metrics.md is to be\n{wanted}");

    let (rules, recorded) = rules();
    let said = promtool(&["check", "rules", &docs("weir-rules.yml")]).unwrap();
    assert!(said.contains(&format!("{} rules found", rules.len())), "{said}");
    promtool(&["test", "rules", &docs("weir-rules_test.yml")]).unwrap();
    let shown = dashboard();
    let records = (0..)
        .zip(&shown)
        .map(|(n, expr)| serde_json::json!({"record": format!("r:{n}"), "expr": expr}));
    let group = serde_json::json!({"groups": [{"name": "g", "rules": records.collect::<Json>()}]});
    let file = own.path().join("dashboard.yml");
    std::fs::write(&file, group.to_string()).unwrap();
    let said = promtool(&["check", "rules", file.to_str().unwrap()]).unwrap();
    assert!(said.contains(&format!("{} rules found", shown.len())), "{said}");

    for (name, exprs) in [("rules", rules), ("dashboard", shown)] {
        let asked: BTreeSet<String> = exprs.iter().flat_map(|expr| names_in(expr)).collect();
        assert!(asked.len() > 10, "{asked:?}");
        let is_there = |asked: &&String| {
            *asked == "up" || declared.contains_key(*asked) || recorded.contains(*asked)
        };
        let missing: Vec<&String> = asked.iter().filter(|asked| !is_there(asked)).collect();
        assert!(missing.is_empty(), "the {name} ask for {missing:?}");
    }
}

/// A server on which everything is in use: traffic, sinks, alerts, queries, and some that were refused.
struct Busy {
    weir: Weir,
    nginx: Nginx,
    _lives: Vec<Live>,
    _hook: Hook,
    _dir: tempfile::TempDir,
}

const COUNTS: &str = "import px\ndf = px.DataFrame('http_events', start_time='-10m')\n\
    px.display(df.groupby('req_path').agg(value=('latency', px.count)))\n";

impl Busy {
    fn start(args: &[&str]) -> Busy {
        let (nginx, hook) =
            (Nginx::start(NginxOptions::default()).unwrap(), Hook::start(200).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| put(dir.path(), name, text);
        let expr = COUNTS.trim_end().replace('\n', "\n      ");
        let rule = |name: &str, more: &str| {
            format!("  - alert: {name}\n    expr: |\n      {expr}\n{more}")
        };
        let (fires, waits) = (rule("Fires", ""), rule("Waits", "    for: 1h\n"));
        file("r.yml", &format!("groups:\n- name: g\n  rules:\n{fires}{waits}"));
        let counts = file("counts.pxl", COUNTS);
        let other = file("other.pxl", &COUNTS.replace("-10m", "-5m"));
        let config = file(
            "weir.yaml",
            &format!(
                "rules: [r.yml]\nreceivers: [{{name: hook, type: webhook, url: 'http://{}/'}}]\nsinks:\n  \
             kept: {{type: file, path: kept.jsonl, inputs: [{{file: counts.pxl}}]}}\n  \
             nobody: {{type: http, url: 'http://127.0.0.1:9/', inputs: [{{file: other.pxl}}]}}\n",
                hook.addr
            ),
        );
        let trace = format!("port:{}", nginx.addr.port());
        let args = [&["--trace", trace.as_str(), "--config", &config], args].concat();
        let weir = Weir::start(&args).unwrap();
        let lives = [counts.as_str(), &other, "px/service_stats"];
        let lives = lives.map(|script| weir.live(script, &[]).unwrap()).into();
        let busy = Busy { weir, nginx, _lives: lives, _hook: hook, _dir: dir };
        busy.traffic();
        for text in ["import px\npx.display(px.DataFrame('nope'))", COUNTS] {
            busy.weir.post("/api/v1/run", &serde_json::json!({ "text": text })).unwrap();
        }
        assert_eq!(request_once(busy.weir.addr, "GET", "/nope", &[], b"").unwrap().status / 100, 4);
        busy
    }

    fn traffic(&self) {
        assert_eq!(run_load(&Load::of(self.nginx.addr, "/a", 40)).len(), 40);
    }
}

/// A place in what a server tells of itself, `*` for any name; the series that has it, `$1` for the first such name; and
/// how many of its units are one of the metric's.
type Shown = (&'static str, &'static str, f64);

const NS: f64 = 1e9;
const SHOWN: &[Shown] = &[
    ("event_to_view_ns/p50", "weir_event_to_view_seconds{quantile=\"0.5\"}", NS),
    ("event_to_view_ns/p99", "weir_event_to_view_seconds{quantile=\"0.99\"}", NS),
    ("event_to_view_ns/p999", "weir_event_to_view_seconds{quantile=\"0.999\"}", NS),
    ("event_to_view_ns/max", "weir_event_to_view_seconds{quantile=\"1\"}", NS),
    ("event_to_view_ns/count", "weir_event_to_view_seconds_count", 1.0),
    ("tick_to_change_ns/p50", "weir_tick_to_change_seconds{quantile=\"0.5\"}", NS),
    ("tick_to_change_ns/p99", "weir_tick_to_change_seconds{quantile=\"0.99\"}", NS),
    ("tick_to_change_ns/p999", "weir_tick_to_change_seconds{quantile=\"0.999\"}", NS),
    ("tick_to_change_ns/max", "weir_tick_to_change_seconds{quantile=\"1\"}", NS),
    ("tick_to_change_ns/count", "weir_tick_to_change_seconds_count", 1.0),
    ("tables/*/rows", "weir_table_rows_total{table=\"$1\"}", 1.0),
    ("tables/*/bytes", "weir_table_history_bytes{table=\"$1\"}", 1.0),
    ("tables/*/unanswered", "weir_unanswered_total{table=\"$1\"}", 1.0),
    ("tables/*/unasked", "weir_unasked_total{table=\"$1\"}", 1.0),
    ("tables/*/metadata_held", "weir_table_metadata_held{table=\"$1\"}", 1.0),
    ("tables/*/lost/*", "weir_lost_total{table=\"$1\",reason=\"$2\"}", 1.0),
    ("refused/*", "weir_refused_total{queue=\"$1\"}", 1.0),
    ("sources/*/counts/*", "weir_source_total{source=\"$1\",count=\"$2\"}", 1.0),
    ("process/cpu_ns", "process_cpu_seconds_total", NS),
    ("process/rss_bytes", "process_resident_memory_bytes", 1.0),
    ("readers/websockets", "weir_readers_websockets", 1.0),
    ("readers/held_bytes", "weir_readers_held_bytes", 1.0),
    ("readers/*", "weir_readers_$1_total", 1.0),
    ("compiles/limits/*", "weir_compile_refused_total{code=\"$1\"}", 1.0),
    ("compiles/*", "weir_compile_total{what=\"$1\"}", 1.0),
    ("plans/entries", "weir_plan_cache_entries", 1.0),
    ("plans/bytes", "weir_plan_cache_bytes", 1.0),
    ("plans/*", "weir_plan_cache_total{what=\"$1\"}", 1.0),
    ("actors/*/actors", "weir_actors{actor=\"$1\"}", 1.0),
    ("actors/*/handled", "weir_actor_handled_total{actor=\"$1\"}", 1.0),
    ("actors/*/slow_handled", "weir_actor_slow_handled_total{actor=\"$1\"}", 1.0),
    ("actors/*/handler_ns_max", "weir_actor_handler_seconds_max{actor=\"$1\"}", NS),
    ("actors/*/slowest_cpu_ns", "weir_actor_slowest_cpu_seconds{actor=\"$1\"}", NS),
    ("actors/*/stalled", "weir_actor_stalled{actor=\"$1\"}", 1.0),
    ("actors/*/restarts", "weir_actor_restarts_total{actor=\"$1\"}", 1.0),
    ("actors/*/failed", "weir_actor_failed{actor=\"$1\"}", 1.0),
    ("actors/*/mailbox_len", "weir_actor_mailbox_messages{actor=\"$1\"}", 1.0),
    ("actors/*/refused_full", "weir_actor_refused_total{actor=\"$1\"}", 1.0),
    ("cut/*", "weir_cut_total{reason=\"$1\"}", 1.0),
    ("overflow_rows", "weir_overflow_rows_total", 1.0),
    ("engine_generation", "weir_engine_generation", 1.0),
    ("bus/*", "weir_bus_total{what=\"$1\"}", 1.0),
    ("network/*", "weir_network_total{what=\"$1\"}", 1.0),
    ("generation/stands", "weir_generation_stands", 1.0),
    ("generation/total", "weir_generations_total", 1.0),
    ("generation/processes", "weir_generation_processes", 1.0),
    ("generation/refused_total", "weir_generation_refused_total", 1.0),
    ("generation/others/*/held_bytes", "weir_generation_process_held_bytes{process=\"$1\"}", 1.0),
    (
        "generation/others/*/between_bytes",
        "weir_generation_process_between_bytes{process=\"$1\"}",
        1.0,
    ),
    (
        "generation/others/*/read_bytes",
        "weir_generation_process_read_bytes_total{process=\"$1\"}",
        1.0,
    ),
    ("generation/others/*/cpu_ns", "weir_generation_process_cpu_seconds_total{process=\"$1\"}", NS),
    ("generation/others/*/dataflows", "weir_generation_process_dataflows{process=\"$1\"}", 1.0),
    ("api/refused/*", "weir_api_refused_total{reason=\"$1\"}", 1.0),
    ("api/newcomers_closed", "weir_api_newcomers_closed_total", 1.0),
    ("api/sessions_evicted", "weir_api_sessions_evicted_total", 1.0),
    ("api/*", "weir_api_$1", 1.0),
    ("parts/*/deaths", "weir_part_deaths_total{part=\"$1\"}", 1.0),
    ("parts/*/restarts", "weir_part_restarts_total{part=\"$1\"}", 1.0),
    ("part_groups/*/states/*", "weir_part_group{part=\"$1\",state=\"$2\"}", 1.0),
    ("part_groups/*/deaths", "weir_part_group_deaths_total{part=\"$1\"}", 1.0),
    ("part_groups/*/restarts", "weir_part_group_restarts_total{part=\"$1\"}", 1.0),
    ("parts_unlisted", "weir_parts_unlisted", 1.0),
    ("sinks/*/buffer_bytes", "weir_sink_buffer_bytes{sink=\"$1\"}", 1.0),
    ("sinks/*/*", "weir_sink_$2_total{sink=\"$1\"}", 1.0),
    ("queries/*/subscribers", "weir_query_readers{query=\"$1\"}", 1.0),
    ("queries/*/lateness_ns", "weir_query_lateness_seconds{query=\"$1\"}", NS),
    ("queries/*/rows_in_per_s", "weir_query_rows_in_per_second{query=\"$1\"}", 1.0),
    ("queries/*/rows_out_per_s", "weir_query_rows_out_per_second{query=\"$1\"}", 1.0),
    ("queries/*/held_bytes", "weir_query_held_bytes{query=\"$1\"}", 1.0),
    ("queries/*/cpu_ns_per_s", "weir_query_cpu_seconds_per_second{query=\"$1\"}", NS),
    ("receivers/*/sent", "weir_alert_notices_sent_total{receiver=\"$1\"}", 1.0),
    ("receivers/*/lost", "weir_alert_notices_lost_total{receiver=\"$1\"}", 1.0),
    ("receivers/*/refused", "weir_alert_notices_refused_total{receiver=\"$1\"}", 1.0),
    ("receivers/*/waiting", "weir_alert_notices_waiting{receiver=\"$1\"}", 1.0),
    ("receivers/*/errors", "weir_alert_receiver_errors_total{receiver=\"$1\"}", 1.0),
];

/// Numbers that are no metrics, and why.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("tables/*/unpaired", "a sum of two of `lost`"),
    ("blind/*/pid", "whose process it is; how many there are is weir_source_blind_processes"),
    ("blind/*/bytes", "of one process; all of them are `lost` of its tables"),
    ("generation/missing/*", "which ones; how many is weir_generation_processes_missing"),
    ("queries/*/query", "a name"),
    ("queries/*/feeds/*", "names"),
    ("queries/*/refresh_ms", "what was asked for"),
    ("queries/*/installed_unix_ns", "a time"),
    ("queries/*/outputs/*", "names"),
];

type Place = Vec<String>;

/// Every number and every yes or no, by its place. What is in a list goes by its name, if it has one.
fn numbers(value: &Json, at: &mut Place, found: &mut BTreeMap<Place, f64>) {
    match value {
        Json::Object(members) => {
            for (name, below) in members {
                at.push(name.clone());
                numbers(below, at, found);
                at.pop();
            }
        }
        Json::Array(items) => {
            for (idx, below) in items.iter().enumerate() {
                let named =
                    ["part", "process", "name"].into_iter().find(|key| below.get(key).is_some());
                let (mut below, mut name) = (below.clone(), idx.to_string());
                if let Some(key) = named {
                    let it = below[key].take();
                    name = it.as_str().map_or(it.to_string(), str::to_string);
                }
                at.push(name);
                numbers(&below, at, found);
                at.pop();
            }
        }
        Json::Number(number) => drop(found.insert(at.clone(), number.as_f64().unwrap())),
        Json::Bool(yes) => drop(found.insert(at.clone(), f64::from(u8::from(*yes)))),
        Json::Null | Json::String(_) => {}
    }
}

/// What the stars of a pattern stand for.
fn matched<'a>(pattern: &str, place: &'a [String]) -> Option<Vec<&'a str>> {
    let parts: Vec<&str> = pattern.split('/').collect();
    let fits = |(part, name): (&&str, &String)| *part == "*" || *part == name;
    (parts.len() == place.len() && parts.iter().zip(place).all(fits)).then(|| {
        let stars = parts.iter().zip(place).filter(|(part, _)| **part == "*");
        stars.map(|(_, name)| name.as_str()).collect()
    })
}

/// Which series has it, and how many of its units are one of that. `None`: it is known to be no metric.
fn series_of(place: &[String]) -> Option<(String, f64)> {
    if NOT_SHOWN.iter().any(|(pattern, _)| matched(pattern, place).is_some()) {
        return None;
    }
    let shown = SHOWN.iter().find_map(|(pattern, series, unit)| {
        let names = matched(pattern, place)?;
        let filled = names.iter().zip(1..).fold(series.to_string(), |series, (name, number)| {
            series.replace(&format!("${number}"), &name.replace('\\', "\\\\").replace('"', "\\\""))
        });
        Some((filled, *unit))
    });
    Some(shown.unwrap_or_else(|| panic!("which metric has {}?", place.join("/"))))
}

/// What a server tells of itself: the statistics, and each sink, query and receiver of alerts.
fn told(weir: &Weir) -> BTreeMap<Place, f64> {
    let get =
        |path: &str| -> Json { serde_json::from_slice(&weir.get(path).unwrap().body).unwrap() };
    let mut all = get("/api/v1/stats");
    all["sinks"] = get("/api/v1/sinks")["sinks"].take();
    all["queries"] = get("/api/v1/queries")["queries"].take();
    all["receivers"] = get("/api/v1/alerts")["receivers"].take();
    let mut found = BTreeMap::new();
    numbers(&all, &mut Vec::new(), &mut found);
    found
}

/// Each number that the server tells of itself is in `/metrics`: what that says is between what is told before and
/// after it, sooner or later. Gives their places.
pub(crate) fn all_numbers_are_metrics(weir: &Weir) -> BTreeSet<String> {
    let (mut right, mut wrong) = (BTreeSet::new(), Vec::new());
    let all_right = wait_until(DEADLINE, || {
        let (before, metrics, after) =
            (told(weir), weir.get("/metrics").unwrap().text(), told(weir));
        let series: BTreeMap<&str, f64> = metrics
            .lines()
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
                Some((name, value.parse().ok()?))
            })
            .collect();
        wrong.clear();
        for (place, first) in &before {
            // What has gone meanwhile is nothing.
            let (Some(last), Some((name, unit))) = (after.get(place), series_of(place)) else {
                continue;
            };
            let value = series.get(name.as_str()).map(|value| value * unit);
            let is_right =
                |value: f64| first.min(*last) - 0.5 <= value && value <= first.max(*last) + 0.5;
            if value.is_some_and(is_right) {
                right.insert(place.join("/"));
            } else if !right.contains(&place.join("/")) {
                wrong.push(format!("{}: {first}, {name} {value:?}, {last}", place.join("/")));
            }
        }
        wrong.is_empty().then_some(())
    });
    assert!(all_right.is_some(), "{wrong:#?}");
    right
}

/// Every number of `weir stats`, of each sink, query and receiver is a metric with the same value, and new ones are as
/// well. Catches a count that only we see, and one that stands in another's place.
#[test]
fn every_number_is_a_metric() {
    if !super::can_capture() {
        return;
    }
    let busy = Busy::start(&[]);
    let right = all_numbers_are_metrics(&busy.weir);
    for place in [
        "tables/http_events/rows",
        "sinks/kept/rows_sent",
        "sinks/nobody/errors",
        "receivers/hook/sent",
        "queries/px/service_stats/held_bytes",
        "sources/ebpf/counts/records",
        "actors/coordinator/handled",
        "compiles/refused",
    ] {
        assert!(right.contains(place), "{place} in {right:#?}");
    }
}

/// A Prometheus that scrapes a busy server has something to show for every panel of the dashboard. Catches a label or
/// a value of one that no series has.
#[test]
fn the_dashboard_is_filled() {
    // Nothing has to be lost, and no receiver has to fail.
    const MAY_BE_EMPTY: [&str; 1] = ["weir_lost_total"];
    if !super::can_capture() {
        return;
    }
    if !receivers::are_installed() {
        return weir_types::testing::skipped("there is no Prometheus");
    }
    let busy = Busy::start(&["--insecure-no-auth"]);
    let prometheus = Prometheus::start(&[busy.weir.addr]).unwrap();
    let mut empty = dashboard();
    empty.retain(|expr| !MAY_BE_EMPTY.iter().any(|name| expr.contains(name)));
    let filled = wait_until(DEADLINE, || {
        busy.traffic();
        empty.retain(|expr| prometheus.ask(expr).unwrap().is_empty());
        empty.is_empty().then_some(())
    });
    assert!(filled.is_some(), "{empty:#?}");
}
