//! `weir bench views`: what views and their subscribers cost over real traffic. The same load runs three times
//! under a `weir up` of its own: with nobody looking, with one subscriber for each view, and with several. The
//! agent's CPU time a request tells what the capture, a view and a further subscriber cost.
//!
//! Each subscriber adds up its changes. In the end they are compared: every subscriber of a view must hold what one
//! `run` of the script answers at the same frontier.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value as Json, json};
use weir_cluster::service::stats::{self, new_histogram};
use weir_types::json::parse_time;
use weir_types::{Clock, WallClock};

use super::CaptureArgs;
use super::capture::{self, Agent};
use crate::client::{Connection, Received};
use crate::failure::Failure;
use crate::output;

/// Of the bundle, over HTTP traffic: raw rows, aggregates, joins, a map of services.
const SCRIPTS: [&str; 4] =
    ["px/http_data", "px/let_overview", "px/service_map", "px/http_request_stats"];
const POLL: Duration = Duration::from_millis(50);
/// How long views may take to show what has come.
const SETTLE: Duration = Duration::from_secs(3);
const ANSWERS_WAIT: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct ViewsArgs {
    /// Requests per second.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) rate: u64,
    /// Seconds of each of the three loads.
    #[arg(long, default_value_t = 20)]
    pub(crate) seconds: u64,
    /// Connections of the load generator.
    #[arg(long, default_value_t = 16)]
    pub(crate) connections: usize,
    /// A view of the bundle; may be given several times [default: four over HTTP].
    #[arg(long = "view", value_name = "SCRIPT")]
    pub(crate) views: Vec<String>,
    /// Subscribers of each view in the third load.
    #[arg(long, default_value_t = 3)]
    pub(crate) subscribers: usize,
    /// The weir to be measured, instead of this one.
    #[arg(long, value_name = "FILE")]
    pub(crate) agent: Option<PathBuf>,
}

/// What a subscriber holds: of each table a sum over its rows, which does not depend on their order.
type Digest = BTreeMap<String, u64>;

/// What a subscriber has seen.
#[derive(Default)]
struct Seen {
    now: Digest,
    /// Frontier → what it held then.
    at: BTreeMap<String, Digest>,
    late_ns: Vec<u64>,
    problem: Option<String>,
}

impl Seen {
    fn take(&mut self, message: &Json, now_unix_ns: i64) {
        let text = |name: &str| message[name].as_str().unwrap_or_default();
        match text("type") {
            "changes" => {
                let sum = self.now.entry(text("table").to_string()).or_default();
                for change in message["rows"].as_array().into_iter().flatten() {
                    let mut hasher = DefaultHasher::new();
                    change[1].to_string().hash(&mut hasher);
                    let count = change[0].as_i64().unwrap_or(0) as u64;
                    *sum = sum.wrapping_add(hasher.finish().wrapping_mul(count));
                }
            }
            "progress" => {
                let frontier = text("frontier");
                if let Some(at) = parse_time(frontier) {
                    self.late_ns.push(u64::try_from(now_unix_ns - at).unwrap_or(0));
                }
                // Tables without rows are as those that were never heard of.
                let held = self.now.iter().filter(|(_, sum)| **sum != 0);
                let held = held.map(|(table, sum)| (table.clone(), *sum)).collect();
                self.at.insert(frontier.to_string(), held);
            }
            "error" | "end" => self.problem = Some(message.to_string()),
            _ => {}
        }
    }
}

struct Subscriber {
    script: String,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Subscriber {
    fn start(connection: &Connection, script: &str) -> anyhow::Result<Subscriber> {
        let message = json!({"type": "subscribe", "id": "q", "script": script});
        let mut subscription = connection
            .subscribe(&message)
            .map_err(|_| anyhow::anyhow!("could not subscribe to {script}"))?;
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (told, over) = (seen.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                let received = subscription.next(POLL);
                let now_unix_ns = WallClock.now_unix_ns();
                let mut seen = told.lock().unwrap_or_else(PoisonError::into_inner);
                match received {
                    Ok(Received::Text(text)) => {
                        seen.take(&serde_json::from_str(&text).unwrap_or_default(), now_unix_ns);
                    }
                    Ok(Received::Nothing) => {}
                    Ok(Received::Closed) | Err(_) => {
                        seen.problem.get_or_insert("the connection was closed".to_string());
                        return;
                    }
                }
            }
        });
        Ok(Subscriber { script: script.to_string(), seen, stop, thread: Some(thread) })
    }

    fn seen<T>(&self, of: impl FnOnce(&Seen) -> T) -> T {
        of(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What one `run` answers, and at which frontier.
fn answer(connection: &Connection, script: &str) -> anyhow::Result<(String, Digest)> {
    let body = json!({"script": script, "args": {}});
    let answer = connection
        .post("/api/v1/run", &body)
        .map_err(|_| anyhow::anyhow!("{script} gives no answer"))?;
    let mut seen = Seen::default();
    for message in answer["messages"].as_array().into_iter().flatten() {
        seen.take(message, 0);
    }
    let last = seen.at.pop_last();
    last.with_context(|| format!("{script}: the answer has no frontier"))
}

/// Every subscriber holds what one answer at the same frontier says.
fn compare(connection: &Connection, subscribers: &[Subscriber]) -> anyhow::Result<u64> {
    let mut compared = 0;
    let until_ns = WallClock.monotonic_ns() + ANSWERS_WAIT.as_nanos() as u64;
    for subscriber in subscribers {
        loop {
            if let Some(problem) = subscriber.seen(|seen| seen.problem.clone()) {
                bail!("{}: {problem}", subscriber.script);
            }
            let (frontier, digest) = answer(connection, &subscriber.script)?;
            std::thread::park_timeout(POLL);
            match subscriber.seen(|seen| seen.at.get(&frontier).cloned()) {
                Some(held) if held == digest => break,
                Some(_) => bail!("{}: another answer at {frontier}", subscriber.script),
                // A refresh without a change needs no message of its own.
                None if WallClock.monotonic_ns() < until_ns => {}
                None => bail!("{}: no frontier of an answer was seen", subscriber.script),
            }
        }
        compared += 1;
    }
    Ok(compared)
}

/// One load: the agent's CPU time a request, in microseconds.
fn load(args: &CaptureArgs, port: u16, agent: &Agent) -> anyhow::Result<(f64, u64)> {
    let before_ns = crate::up::cpu_ns_of(agent.pid());
    let load = capture::load(args, port)?;
    std::thread::park_timeout(SETTLE);
    let spent_ns = crate::up::cpu_ns_of(agent.pid()) - before_ns;
    if load.failed > 0 {
        bail!("{} requests failed", load.failed);
    }
    Ok((spent_ns as f64 / 1e3 / load.requests.max(1) as f64, load.requests))
}

pub(crate) fn run(args: &ViewsArgs) -> Result<(), Failure> {
    if args.connections == 0 || args.seconds == 0 || args.subscribers < 2 {
        let usage = "--connections and --seconds are at least 1, --subscribers at least 2";
        return Err(Failure::Usage(usage.to_string()));
    }
    let dir = std::env::temp_dir().join(format!("weir-bench-views-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(anyhow::Error::from)?;
    let report = measure(args, &dir);
    std::fs::remove_dir_all(&dir).map_err(anyhow::Error::from)?;
    output::line(&report?.to_string())
}

fn measure(args: &ViewsArgs, dir: &std::path::Path) -> anyhow::Result<Json> {
    let scripts: Vec<String> = match args.views.as_slice() {
        [] => SCRIPTS.map(str::to_string).into(),
        given => given.to_vec(),
    };
    let traffic = CaptureArgs {
        rate: args.rate,
        seconds: args.seconds,
        connections: args.connections,
        history_bytes: 32 << 20,
        agent: args.agent.clone(),
    };
    let port = capture::free_port()?;
    let _nginx = capture::start_nginx(dir, port)?;
    let agent = capture::start_agent(&traffic, dir, port, None)?;
    output::note("nobody looks …");
    let (alone, _) = load(&traffic, port, &agent)?;
    let rss_alone = rss_bytes(&agent)?;
    output::note("one subscriber for each view …");
    let connection = &agent.connection;
    let start = |script: &String| Subscriber::start(connection, script);
    let mut subscribers = scripts.iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    std::thread::park_timeout(SETTLE);
    let (viewed, _) = load(&traffic, port, &agent)?;
    let rss_viewed = rss_bytes(&agent)?;
    output::note("several subscribers …");
    for _ in 1..args.subscribers {
        for script in &scripts {
            subscribers.push(start(script)?);
        }
    }
    std::thread::park_timeout(SETTLE);
    let (shared, requests) = load(&traffic, port, &agent)?;
    let rss_shared = rss_bytes(&agent)?;
    let compared = compare(connection, &subscribers);
    if let Err(error) = &compared {
        output::note(&format!("not verified: {error}"));
    }
    let more = scripts.len() * (args.subscribers - 1);
    let us = |value: f64| (value * 100.0).round() / 100.0;
    Ok(json!({
        "bench": "views",
        "verified": compared.as_ref().is_ok_and(|count| *count == subscribers.len() as u64),
        "views": scripts,
        "subscribers_per_view": args.subscribers,
        "rate": args.rate,
        "seconds": args.seconds,
        "requests": requests,
        "agent_cpu_us_per_request": {
            "nobody": us(alone), "one_each": us(viewed), "several_each": us(shared),
        },
        "view_us_per_request": us((viewed - alone) / scripts.len() as f64),
        "subscriber_us_per_request": us((shared - viewed) / more as f64),
        "update_lateness_ns": lateness(&subscribers),
        "agent_rss_bytes": {
            "nobody": rss_alone, "one_each": rss_viewed, "several_each": rss_shared,
        },
    }))
}

fn rss_bytes(agent: &Agent) -> anyhow::Result<u64> {
    let stats = capture::stats(agent)?;
    stats["process"]["rss_bytes"].as_u64().context("the agent does not say its memory")
}

/// From a refresh's time to its arrival here, over all subscribers.
fn lateness(subscribers: &[Subscriber]) -> stats::Quantiles {
    let mut all = new_histogram();
    for subscriber in subscribers {
        subscriber.seen(|seen| seen.late_ns.iter().for_each(|ns| all.saturating_record(*ns)));
    }
    stats::quantiles_of(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Equal multisets have equal sums in whatever order and portions they came, others do not: catches a comparison
    /// that every answer passes.
    #[test]
    fn sums_tell_answers_apart() {
        let after = |messages: &[Json]| {
            let mut seen = Seen::default();
            messages.iter().for_each(|message| seen.take(message, 0));
            seen.take(&json!({"type": "progress", "frontier": "2026-01-01T00:00:01Z"}), 0);
            seen.at.pop_last().unwrap().1
        };
        let changes = |rows: Json| json!({"type": "changes", "table": "t", "rows": rows});
        let (a, b) = (json!({"n": 1}), json!({"n": 2}));
        let whole = after(&[changes(json!([[1, a], [2, b]]))]);
        let pieces =
            after(&[changes(json!([[1, b], [1, a], [1, a]])), changes(json!([[-1, a], [1, b]]))]);
        assert_eq!(whole, pieces);
        assert_ne!(whole, after(&[changes(json!([[1, a], [1, b]]))]));
        assert_ne!(whole, after(&[changes(json!([[2, a], [1, b]]))]));
        assert!(after(&[changes(json!([[1, a]])), changes(json!([[-1, a]]))]).is_empty());
    }
}
