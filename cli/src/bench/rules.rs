//! `weir bench rules`: what many alert rules cost. The same load runs twice under a `weir up` of its own: without rules,
//! and with as many as are asked for, each an expression of its own over one of some recorded views. The server's CPU
//! time a tick tells what a rule costs.
//!
//! Every other rule is to fire for each path; in the end these are all that fire.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value as Json, json};
use weir_types::{Clock, WallClock};

use super::CaptureArgs;
use super::capture::{self, Agent};
use crate::failure::Failure;
use crate::output;

/// The server's tick, unless it is told otherwise.
const TICK: Duration = Duration::from_millis(100);
/// How long rules may take to be compiled and installed, and alerts to show.
const START_WAIT: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(crate) struct RulesArgs {
    #[arg(long, default_value_t = 2_000)]
    pub(crate) rules: usize,
    /// Recorded views that they read.
    #[arg(long, default_value_t = 10)]
    pub(crate) views: usize,
    /// Requests per second.
    #[arg(long, default_value_t = 500)]
    pub(crate) rate: u64,
    /// Seconds of each of the two loads.
    #[arg(long, default_value_t = 20)]
    pub(crate) seconds: u64,
    /// The weir to be measured, instead of this one.
    #[arg(long, value_name = "FILE")]
    pub(crate) agent: Option<PathBuf>,
}

/// What the rules read. Each in a file of its own: a file may have as many rules as a server.
fn view_file(views: usize) -> String {
    let mut text = String::from("groups:\n- name: views\n  rules:\n");
    for view in 0..views {
        text.push_str(&format!(
            "  - record: bench:paths{view}\n    expr: |\n      import px\n      \
             df = px.DataFrame('http_events', start_time='-{}s')\n      \
             df = df.groupby('req_path').agg(value=('latency', px.count))\n      px.display(df)\n",
            60 + view
        ));
    }
    text
}

/// Rules that fire while there are requests, and rules that never do, by turns.
fn rule_file(rules: usize, views: usize) -> String {
    let mut text = String::from("groups:\n- name: bench\n  rules:\n");
    for rule in 0..rules {
        let least = if rule % 2 == 0 { 0 } else { 1_000_000_000_000 };
        text.push_str(&format!(
            "  - alert: Rule{rule}\n    expr: |\n      import px\n      \
             df = px.DataFrame('bench:paths{}')\n      df = df[df.value > {}]\n      px.display(df)\n",
            rule % views,
            least + rule / 2 / views
        ));
    }
    text
}

pub(crate) fn run(args: &RulesArgs) -> Result<(), Failure> {
    if args.rules == 0 || args.views == 0 || args.seconds == 0 {
        let usage = "--rules, --views and --seconds are at least 1";
        return Err(Failure::Usage(usage.to_string()));
    }
    let dir = std::env::temp_dir().join(format!("weir-bench-rules-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(anyhow::Error::from)?;
    let report = measure(args, &dir);
    std::fs::remove_dir_all(&dir).map_err(anyhow::Error::from)?;
    output::line(&report?.to_string())
}

/// What a load cost the server.
struct Cost {
    cpu_ns_per_tick: u64,
    rss_bytes: u64,
}

fn measure(args: &RulesArgs, dir: &Path) -> anyhow::Result<Json> {
    let config = dir.join("weir.yaml");
    std::fs::write(&config, "rules: [views.yml, rules.yml]\n")?;
    std::fs::write(dir.join("views.yml"), view_file(args.views))?;
    std::fs::write(dir.join("rules.yml"), rule_file(args.rules, args.views))?;
    let traffic = CaptureArgs {
        rate: args.rate,
        seconds: args.seconds,
        connections: 4,
        history_bytes: 32 << 20,
        agent: args.agent.clone(),
    };
    let port = capture::free_port()?;
    let _nginx = capture::start_nginx(dir, port)?;
    output::note("without rules …");
    let without = {
        let agent = capture::start_agent(&traffic, dir, port, None)?;
        cost(&traffic, port, &agent)?
    };
    output::note("rules start …");
    let began_ns = WallClock.monotonic_ns();
    let agent = capture::start_agent(&traffic, dir, port, Some(&config))?;
    wait_for(&agent, "the rules to run", |alerts| {
        let rules = alerts["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(failed) = rules.iter().find(|rule| rule["state"] == "failed") {
            bail!("{}: {}", failed["name"], failed["last_error"]);
        }
        Ok(rules.iter().filter(|rule| rule["state"] == "running").count() == args.rules)
    })?;
    let ready_ns = WallClock.monotonic_ns() - began_ns;
    let steps = steps_of(&agent)?;
    output::note("with rules …");
    let with = cost(&traffic, port, &agent)?;
    let steps = steps_of(&agent)? - steps;
    // All of them are of windows that the load has filled.
    let wanted = args.rules.div_ceil(2);
    let firing = firing(&agent, &traffic, port, wanted)?;
    let more = with.cpu_ns_per_tick.saturating_sub(without.cpu_ns_per_tick);
    Ok(json!({
        "bench": "rules",
        "verified": firing == wanted && steps > 0,
        "rules": args.rules,
        "views": args.views,
        "rate": args.rate,
        "seconds": args.seconds,
        "ready_s": ready_ns / 1_000_000_000,
        "firing": firing,
        "steps": steps,
        "cpu_ns_per_tick": {"without": without.cpu_ns_per_tick, "with": with.cpu_ns_per_tick},
        "cpu_ns_per_tick_and_rule": more / args.rules as u64,
        "rss_bytes": {"without": without.rss_bytes, "with": with.rss_bytes},
    }))
}

fn cost(traffic: &CaptureArgs, port: u16, agent: &Agent) -> anyhow::Result<Cost> {
    let before_ns = crate::up::cpu_ns_of(agent.pid());
    let began_ns = WallClock.monotonic_ns();
    let load = capture::load(traffic, port)?;
    let spent_ns = crate::up::cpu_ns_of(agent.pid()) - before_ns;
    let ticks = (WallClock.monotonic_ns() - began_ns) / TICK.as_nanos() as u64;
    if load.failed > 0 {
        bail!("{} requests failed", load.failed);
    }
    let stats = capture::stats(agent)?;
    let rss_bytes = stats["process"]["rss_bytes"].as_u64().context("no memory is said")?;
    Ok(Cost { cpu_ns_per_tick: spent_ns / ticks.max(1), rss_bytes })
}

fn alerts(agent: &Agent) -> anyhow::Result<Json> {
    let answer = agent.connection.get("/api/v1/alerts");
    answer.map_err(|_| anyhow::anyhow!("the server does not say its alerts"))
}

fn wait_for(
    agent: &Agent,
    what: &str,
    mut is_so: impl FnMut(&Json) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let until_ns = WallClock.monotonic_ns() + START_WAIT.as_nanos() as u64;
    while !is_so(&alerts(agent)?)? {
        if WallClock.monotonic_ns() > until_ns {
            bail!("{START_WAIT:?} were not enough for {what}");
        }
        std::thread::park_timeout(POLL);
    }
    Ok(())
}

fn steps_of(agent: &Agent) -> anyhow::Result<u64> {
    let text = agent.connection.text("/metrics");
    let text = text.map_err(|_| anyhow::anyhow!("the server does not say its metrics"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("weir_alert_steps_total "));
    line.and_then(|count| count.trim().parse().ok()).context("no steps are said")
}

/// How many alerts fire once they are as many as they are to be, or at the end of the wait; under load, as rows leave.
fn firing(agent: &Agent, traffic: &CaptureArgs, port: u16, wanted: usize) -> anyhow::Result<usize> {
    let done = AtomicBool::new(false);
    let short = CaptureArgs { seconds: 1, agent: None, ..*traffic };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut goes_on = true;
            while goes_on {
                goes_on = capture::load(&short, port).is_ok() && !done.load(Ordering::SeqCst);
            }
        });
        let mut count = 0;
        let waited = wait_for(agent, "alerts to fire", |alerts| {
            let all = alerts["alerts"].as_array().map(Vec::as_slice).unwrap_or_default();
            count = all.iter().filter(|alert| alert["state"] == "firing").count();
            Ok(count >= wanted)
        });
        done.store(true, Ordering::SeqCst);
        waited.map(|()| count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules are right, each is another expression, and there are as many as were asked for.
    #[test]
    fn rules_are_rules() {
        for (text, count) in [(rule_file(2_000, 7), 2_000), (view_file(7), 7)] {
            let file = weir_rules::file::parse(&text).expect("right");
            let mut texts: Vec<&str> =
                file.groups[0].rules.iter().map(|rule| rule.expr.as_str()).collect();
            texts.sort_unstable();
            texts.dedup();
            assert_eq!((file.groups[0].rules.len(), texts.len()), (count, count));
        }
    }
}
