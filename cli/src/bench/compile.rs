//! `weir bench compile`: how long scripts take from text to a split plan, each function that its
//! vis.json uses with default arguments, as `weir check` does it. `cpu_ms` is the mean processor time,
//! which a busy machine does not change. Does not read tables or rows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use weir_pxl::{CompileOptions, Script, bundle};
use weir_types::{Clock, WallClock};

use crate::bench::CompileArgs;
use crate::cmd::check::find_scripts;
use crate::failure::Failure;
use crate::{output, script};

/// What is compiled.
struct Case {
    name: String,
    text: String,
    vis: Option<String>,
}

pub(crate) fn run(args: &CompileArgs) -> Result<(), Failure> {
    let cases = cases(&args.scripts)?;
    let repeat = args.repeat.max(1);
    let mut scripts = Map::new();
    let mut slowest = Duration::ZERO;
    let mut compiles = true;
    for case in &cases {
        let cpu_start_ns = crate::up::cpu_ns();
        let (times, ok) = measure(case, repeat);
        let cpu_ns = (crate::up::cpu_ns() - cpu_start_ns) / repeat as u64;
        compiles &= ok;
        let max = times.last().copied().unwrap_or_default();
        slowest = slowest.max(max);
        let p50 = times[times.len() / 2];
        let cpu = Duration::from_nanos(cpu_ns);
        let figures = json!({"p50_ms": ms(p50), "max_ms": ms(max), "cpu_ms": ms(cpu), "ok": ok});
        scripts.insert(case.name.clone(), figures);
    }
    let found = json!({
        "bench": "compile",
        "repeat": repeat,
        "count": cases.len(),
        "max_ms": ms(slowest),
        "scripts": Json::Object(scripts),
        "verified": compiles,
    });
    output::line(&found.to_string())
}

/// Sorted times, and whether the script compiles.
fn measure(case: &Case, repeat: usize) -> (Vec<Duration>, bool) {
    let source = Script { name: &case.name, text: &case.text, vis: case.vis.as_deref() };
    let options = CompileOptions { placeholders: true, ..CompileOptions::default() };
    let mut ok = true;
    let mut times: Vec<Duration> = (0..repeat)
        .map(|_| {
            let start_ns = WallClock.monotonic_ns();
            match weir_pxl::compile(&source, &options) {
                Ok(compiled) => drop(weir_pxl::split(&compiled.plan)),
                Err(_) => ok = false,
            }
            Duration::from_nanos(WallClock.monotonic_ns() - start_ns)
        })
        .collect();
    times.sort();
    (times, ok)
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn cases(names: &[String]) -> Result<Vec<Case>, Failure> {
    let bundled = |script: &bundle::BundleScript| Case {
        name: script.name.to_string(),
        text: script.pxl.to_string(),
        vis: script.vis.map(str::to_string),
    };
    if names.is_empty() {
        return Ok(bundle::scripts().iter().map(bundled).collect());
    }
    let mut cases = Vec::new();
    for name in names {
        let path = Path::new(name);
        if !path.is_file() && !path.is_dir() {
            let found = bundle::find(name)
                .ok_or_else(|| Failure::Usage(format!("there is no script `{name}`")))?;
            cases.push(bundled(found));
            continue;
        }
        let mut paths: Vec<PathBuf> = Vec::new();
        find_scripts(path, crate::cmd::check::DEPTH_MAX, &mut paths)?;
        for path in paths {
            let file = script::read_script(&path)?;
            let name = path.display().to_string();
            cases.push(Case { name, text: file.text, vis: file.vis });
        }
    }
    Ok(cases)
}
