//! Scripts as a whole: the text, compiled, cut and run by the engine over generated rows of every
//! table it reads, equals the model's reading of the unoptimised plan, at every frontier.
//!
//! The bundle is judged always. `WEIR_SCRIPTS=DIR` judges the scripts of a folder in its place, for
//! example a checkout of Pixie's `src/pxl_scripts`; `WEIR_SCRIPT_SEEDS=N` takes N worlds each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value as Json};
use weir_dataflow_tests::check::number_from_env;
use weir_dataflow_tests::drive::{Compared, FeedOrder, Feeding, compare};
use weir_dataflow_tests::generate::rows::{BASE_UNIX_NS, SEC_NS};
use weir_dataflow_tests::generate::shop::{Shop, shop};
use weir_dataflow_tests::generate::traffic;
use weir_dataflow_tests::model::{World, evaluate};
use weir_pxl::vis::{self, VariableType};
use weir_pxl::{CompileOptions, Compiled, Script, bundle, compile, render_diagnostics, split};
use weir_sources::rows::read_entities;
use weir_types::json::row_to_json;
use weir_types::metadata::MetadataSnapshot;
use weir_types::plan::OpKind;
use weir_types::{Plan, Relation, tables};

/// Rows of each table: enough for groups to meet, few enough for nested loops.
const ROWS_A_TABLE: usize = 120;

/// Worlds that are tried beyond the wanted ones while nothing was compared.
const MORE_SEEDS: u64 = 40;

/// A script to judge.
struct Case {
    name: String,
    pxl: String,
    vis: Option<String>,
}

fn cases() -> Vec<Case> {
    if let Ok(dir) = std::env::var("WEIR_SCRIPTS") {
        let mut found = Vec::new();
        find_scripts(Path::new(&dir), &mut found);
        assert!(!found.is_empty(), "no script under {dir}");
        return found;
    }
    let bundled = bundle::scripts().iter();
    bundled
        .map(|script| Case {
            name: script.name.to_string(),
            pxl: script.pxl.to_string(),
            vis: script.vis.map(str::to_string),
        })
        .collect()
}

fn find_scripts(dir: &Path, found: &mut Vec<Case>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            find_scripts(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "pxl") {
            let vis = ["vis.json", "viz.json"]
                .iter()
                .find_map(|name| std::fs::read_to_string(path.with_file_name(name)).ok());
            let pxl = std::fs::read_to_string(&path).expect("a script");
            found.push(Case { name: path.display().to_string(), pxl, vis });
        }
    }
}

/// Entities of the shop for the arguments that have no default, so that filters let rows through.
fn arguments(case: &Case, shop: &Shop) -> Vec<(String, String)> {
    let Some(parsed) = case.vis.as_deref().and_then(|text| vis::parse(text).ok()) else {
        return Vec::new();
    };
    let required = parsed.variables.into_iter().filter(|variable| variable.default.is_none());
    required
        .map(|variable| {
            let value = match (variable.kind, variable.name.as_str()) {
                (VariableType::Pod, "responding_pod" | "baseline_pod") => shop.pods[1].name.clone(),
                (VariableType::Pod, _) => shop.pods[0].name.clone(),
                (VariableType::Namespace, _) => "shop".to_string(),
                (VariableType::Service, _) => "shop/front".to_string(),
                (VariableType::Node, _) => "node-a".to_string(),
                (_, "ip") => shop.pods[1].ip.clone(),
                (_, "query") => "SELECT * FROM items WHERE id = $1".to_string(),
                (kind, _) => kind.placeholder().to_string(),
            };
            (variable.name, value)
        })
        .collect()
}

fn compiled(case: &Case, shop: &Shop, unoptimised: bool) -> Result<Compiled, String> {
    let options =
        CompileOptions { args: arguments(case, shop), unoptimised, ..CompileOptions::default() };
    let script = Script { name: &case.name, text: &case.pxl, vis: case.vis.as_deref() };
    compile(&script, &options).map_err(|found| render_diagnostics(&found, &case.pxl, false))
}

/// Rows for everything that the plan reads.
fn world(compiled: &Compiled, shop: &Shop, seed: u64) -> World {
    let relation_of = |table: &str| -> Relation {
        let declared = compiled.tracepoints.iter().find(|tracepoint| tracepoint.table == table);
        match declared {
            Some(tracepoint) => tracepoint.relation.clone(),
            None => tables::relation(table).expect("a table that compiled").clone(),
        }
    };
    let mut world = World { metadata: metadata(shop), ..World::default() };
    for (name, _) in compiled.plan.scans() {
        let table = traffic::table(name, &relation_of(name), shop, seed, ROWS_A_TABLE);
        world.tables.insert(name.to_string(), table);
    }
    for op in &compiled.plan.ops {
        if let OpKind::TableFunction { name, .. } = &op.kind {
            let rows = traffic::table(name, &op.relation, shop, seed, 8).rows;
            let rows = rows.into_iter().map(|arrived| arrived.row).collect();
            world.table_functions.insert(name.clone(), rows);
        }
    }
    world
}

/// Ticks beside and between the rows, and after the last has left most windows.
fn feed(seed: u64) -> Feeding {
    let base_ms = (BASE_UNIX_NS / 1_000_000) as u64;
    let after_s = [1, 30, 31, 60, 200, 299, 300, 301, 400, 405, 600, 699, 800];
    let order = [FeedOrder::Whole, FeedOrder::Shuffled { seed }, FeedOrder::RowByRow];
    Feeding {
        order: order[(seed % 3) as usize],
        workers: 1 + (seed % 2) as usize,
        nodes: 2,
        tick_ms: 1000,
        refresh_ms: 1000,
        ticks_ms: after_s.iter().map(|second| base_ms + second * 1000).collect(),
        installed_after: (seed % 4) as usize,
        one_row_slices: seed % 5 == 4,
        groups_max: None,
    }
}

/// The shop as the offline reader of entities sees it.
fn metadata(shop: &Shop) -> Arc<MetadataSnapshot> {
    let dir = tempfile::tempdir().expect("a folder");
    let lines: String = shop.processes.iter().map(|process| format!("{process}\n")).collect();
    for (name, text) in [
        ("objects.json", shop.objects.to_string()),
        ("processes.jsonl", lines),
        ("dns.json", shop.names.to_string()),
    ] {
        std::fs::write(dir.path().join(name), text).expect("a file");
    }
    Arc::new(read_entities(dir.path()).expect("the shop is well-formed"))
}

/// What the script shows, by the engine and by the model, over one world.
fn judge(case: &Case, shop: &Shop, seed: u64) -> Result<Compared, String> {
    let optimised = compiled(case, shop, false)?;
    let plain: Plan = compiled(case, shop, true)?.plan;
    let world = world(&optimised, shop, seed);
    compare(&plain, &split(&optimised.plan), &world, &feed(seed)).map_err(|error| error.to_string())
}

/// Every script gives what the model says: catches a wrong rewrite, a wrong split, wrong retraction
/// and wrong metadata in exactly the combinations that people run.
#[test]
fn scripts_equal_the_model() {
    let seeds = number_from_env("WEIR_SCRIPT_SEEDS");
    let shop = shop();
    let (mut wrong, mut silent) = (Vec::new(), Vec::new());
    for case in cases() {
        let mut rows = 0;
        let seeds = seeds.unwrap_or(2);
        // Narrow scripts find a row of theirs in some worlds only.
        for seed in 0..seeds + MORE_SEEDS {
            if seed >= seeds && rows > 0 {
                break;
            }
            match judge(&case, &shop, seed) {
                Ok(compared) => rows += compared.rows,
                Err(why) => wrong.push(format!("{} (seed {seed}): {why}", case.name)),
            }
        }
        if rows == 0 {
            silent.push(case.name);
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(silent.is_empty(), "nothing was compared in {silent:?}: give their tables better rows");
}

/// All outputs of a script over a world, as objects.
fn outputs(case: &Case, shop: &Shop, seed: u64) -> Vec<(usize, Vec<Map<String, Json>>)> {
    let compiled = compiled(case, shop, true).expect("a bundled script");
    let world = world(&compiled, shop, seed);
    let now_unix_ns = BASE_UNIX_NS + traffic::SPREAD_NS - 150 * SEC_NS;
    let views = evaluate(&compiled.plan, &world, now_unix_ns).expect("the model");
    let outputs = compiled.plan.outputs.iter().enumerate();
    outputs
        .map(|(number, output)| {
            let relation = &compiled.plan.ops[output.op].relation;
            let rows = views[&output.table].keys();
            (number, rows.map(|row| row_to_json(relation, row).expect("a row")).collect())
        })
        .collect()
}

/// A line of a chart has one value at a time: catches a series column that says less than the groups
/// of its output, where the chart jumps between several of them.
#[test]
fn charts_have_one_point_a_time_and_series() {
    let shop = shop();
    let (mut wrong, mut lines) = (Vec::new(), 0);
    for case in cases() {
        let widgets = compiled(&case, &shop, true).expect("a bundled script").widgets;
        for (number, rows) in outputs(&case, &shop, 3) {
            for series in widgets[number].iter().flat_map(series_of) {
                let mut points = BTreeSet::new();
                lines += usize::from(!rows.is_empty());
                for row in &rows {
                    let name = series.as_ref().map(|column| row[column].to_string());
                    if !points.insert((row["time_"].to_string(), name)) {
                        wrong.push(format!("{}: two points of a series, {row:?}", case.name));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(lines > 40, "hardly anything was drawn: {lines}");
}

/// The series columns of a widget that is a chart over time.
fn series_of(widget: &Json) -> Vec<Option<String>> {
    let of = |line: &Json| line["series"].as_str().map(str::to_string);
    let lines = widget["displaySpec"]["timeseries"].as_array();
    lines.map_or_else(Vec::new, |lines| lines.iter().map(of).collect())
}

/// What a link leads to takes the arguments that the link gives, and needs no others: catches a page
/// that shows something else than what was clicked on.
#[test]
fn links_lead_somewhere() {
    let shop = shop();
    let mut targets = BTreeSet::new();
    for case in cases() {
        for (_, rows) in outputs(&case, &shop, 3) {
            let cells = rows.iter().flat_map(|row| row.values()).filter_map(Json::as_str);
            let links = cells.filter_map(|cell| serde_json::from_str::<Json>(cell).ok());
            for link in links.filter(|link| link["script"].is_string() && link["args"].is_object())
            {
                let names = link["args"].as_object().expect("seen above").keys().cloned();
                let script = link["script"].as_str().expect("seen above").to_string();
                targets.insert((case.name.clone(), script, names.collect::<BTreeSet<String>>()));
            }
        }
    }
    assert!(targets.len() > 15, "hardly any links: {targets:?}");
    let mut wrong = Vec::new();
    for (from, to, given) in &targets {
        let vis = bundle::find(to).and_then(|script| script.vis);
        let Some(parsed) = vis.and_then(|text| vis::parse(text).ok()) else {
            wrong.push(format!("{from} leads to {to}, which is not there"));
            continue;
        };
        let taken: BTreeSet<&String> = parsed.variables.iter().map(|known| &known.name).collect();
        for name in given.iter().filter(|name| !taken.contains(name)) {
            wrong.push(format!("{from} gives {to} `{name}`, which it does not take"));
        }
        let needed = parsed.variables.iter().filter(|known| known.default.is_none());
        for known in needed.filter(|known| !given.contains(&known.name)) {
            wrong.push(format!("{from} does not give {to} its `{}`", known.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The generated world is what the tests think it is: rows fall into the windows of the feed.
#[test]
fn rows_lie_in_the_stretch() {
    let relation = tables::relation("http_events").expect("a table");
    let table = traffic::table("http_events", relation, &shop(), 1, 50);
    let last = BASE_UNIX_NS + traffic::SPREAD_NS + SEC_NS;
    let time = relation.time_idx().expect("a time");
    let inside = table.rows.iter().filter(|arrived| match arrived.row[time] {
        weir_types::Value::Time64Ns(at) => (BASE_UNIX_NS..=last).contains(&at),
        _ => false,
    });
    assert_eq!(inside.count(), 50);
}
