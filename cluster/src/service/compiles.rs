//! Compiling for clients and sinks: off the threads that serve, few at a time, within a time, and only as long
//! as somebody waits. What was refused is counted by the code of the limit that did it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::web;
use serde_json::{Value as Json, json};
use tokio::sync::Semaphore;
use weir_pxl::{Cancel, Code, Deadline};
use weir_types::{Diagnostic, WallClock};

use crate::planner::{Allowance, PlanError};

/// Longest wait for one's turn.
const TURN_WAIT: Duration = Duration::from_secs(20);

/// What compiling may cost. A limit that is met is a finding with its code, and counted.
#[derive(Clone, Copy, Debug)]
pub struct CompileLimits {
    /// Compiles at the same time. One takes milliseconds, and at worst a core for the time below; the
    /// others wait in the order in which they came.
    pub compiles_max: usize,
    /// Longest time of one.
    pub time_max: Duration,
    /// Units of work of one, which are the same on every machine.
    pub work_max: u64,
}

impl Default for CompileLimits {
    fn default() -> CompileLimits {
        CompileLimits {
            compiles_max: 2,
            time_max: weir_pxl::limits::COMPILE_TIME_MAX,
            work_max: weir_pxl::limits::WORK_MAX,
        }
    }
}

/// Why nothing was compiled.
#[derive(Debug, thiserror::Error)]
pub enum NotCompiled {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("others are compiling scripts: try again")]
    Busy,
    #[error("the server is stopping ({0})")]
    Stopping(String),
}

impl NotCompiled {
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            NotCompiled::Plan(error) => error.code(),
            NotCompiled::Busy => "compile_busy",
            NotCompiled::Stopping(_) => "unavailable",
        }
    }

    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            NotCompiled::Plan(error) => error.diagnostics(),
            NotCompiled::Busy | NotCompiled::Stopping(_) => &[],
        }
    }

    /// With its code, and the first finding.
    pub(super) fn text(&self) -> String {
        let first = self.diagnostics().first().map(|finding| format!(": {}", finding.message));
        format!("{}: {self}{}", self.code(), first.unwrap_or_default())
    }

    /// It is no use to try again: no source may come, and it is not others who took the time.
    pub(super) fn is_final(&self) -> bool {
        let is_time = |finding: &Diagnostic| finding.code == Code::CompileTime.name();
        match self {
            NotCompiled::Plan(PlanError::NoSource { .. }) => false,
            NotCompiled::Plan(error) => !error.diagnostics().iter().any(is_time),
            NotCompiled::Busy | NotCompiled::Stopping(_) => false,
        }
    }
}

/// What became of compiles, since the start.
#[derive(Default)]
struct Counts {
    compiled: AtomicU64,
    refused: AtomicU64,
    out_of_time: AtomicU64,
    cancelled: AtomicU64,
    busy: AtomicU64,
    /// Refused for what they would cost, by the code of their first finding.
    limits: Mutex<BTreeMap<String, u64>>,
}

/// Who may compile now, and what became of it.
pub struct Compiles {
    limits: CompileLimits,
    turns: Arc<Semaphore>,
    counts: Arc<Counts>,
}

impl Compiles {
    #[must_use]
    pub fn new(limits: CompileLimits) -> Arc<Compiles> {
        let turns = Arc::new(Semaphore::new(limits.compiles_max.max(1)));
        Arc::new(Compiles { limits, turns, counts: Arc::default() })
    }

    /// Runs a compile. Dropping the future cancels it: what has begun ends within milliseconds.
    ///
    /// # Errors
    /// What the work says; or there was no turn, or the process ends.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Allowance) -> Result<T, PlanError> + Send + 'static,
    ) -> Result<T, NotCompiled> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        let Ok(Ok(turn)) = tokio::time::timeout(TURN_WAIT, turn).await else {
            self.counts.busy.fetch_add(1, Ordering::Relaxed);
            return Err(NotCompiled::Busy);
        };
        let cancel = Cancel::default();
        let _gone = cancel.on_drop();
        let deadline = Deadline::after(Arc::new(WallClock), self.limits.time_max);
        let work_max = Some(self.limits.work_max);
        let allowance = Allowance { cancel, deadline: Some(deadline), work_max };
        let counts = Arc::clone(&self.counts);
        // The turn goes with the work: who leaves gives it back when the work has ended.
        let done = web::block(move || {
            let result = work(&allowance);
            drop(turn);
            counts.add(&result);
            result
        });
        let result = done.await.map_err(|error| NotCompiled::Stopping(error.to_string()))?;
        result.map_err(NotCompiled::Plan)
    }

    #[must_use]
    pub fn counts_json(&self) -> Json {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        json!({
            "compiled": count(&counts.compiled),
            "refused": count(&counts.refused),
            "out_of_time": count(&counts.out_of_time),
            "cancelled": count(&counts.cancelled),
            "busy": count(&counts.busy),
            "limits": *counts.limits.lock().unwrap_or_else(PoisonError::into_inner),
        })
    }
}

impl Counts {
    fn add<T>(&self, result: &Result<T, PlanError>) {
        let error = result.as_ref().err();
        let code = error.map(|error| {
            error.diagnostics().first().map_or(error.code(), |first| first.code.as_str())
        });
        let is_limit = |code: &&str| Code::LIMITS.iter().any(|limit| limit.name() == *code);
        if let Some(code) = code.filter(is_limit) {
            let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
            *limits.entry(code.to_string()).or_default() += 1;
        }
        let counter = match code {
            None => &self.compiled,
            Some(code) if code == Code::Cancelled.name() => &self.cancelled,
            Some(code) if code == Code::CompileTime.name() => &self.out_of_time,
            Some(_) => &self.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::{self, SCRIPT_BYTES_MAX, ScriptRequest};

    /// A compile whose client leaves is told so: catches work that goes on for nobody.
    #[actix_web::test]
    async fn a_client_that_leaves_cancels() {
        let (started, has_started) = tokio::sync::oneshot::channel();
        let (ended, has_ended) = tokio::sync::oneshot::channel();
        let compiles = Compiles::new(CompileLimits::default());
        let compile = async move {
            let work = move |allowance: &Allowance| {
                started.send(()).unwrap();
                while !allowance.cancel.is_cancelled() {
                    std::thread::yield_now();
                }
                ended.send(()).unwrap();
                Err::<(), PlanError>(PlanError::NoScript)
            };
            compiles.run(work).await
        };
        let client = actix_web::rt::spawn(compile);
        has_started.await.unwrap();
        client.abort();
        has_ended.await.unwrap();
    }

    /// What a limit refuses is counted by its code, whether it is the compiler's or stands before it; other
    /// refusals are refused only. Catches a text that is too long and counts nowhere.
    #[actix_web::test]
    async fn limits_are_counted() {
        let compiles = Compiles::new(CompileLimits::default());
        let compile = async |text: String| {
            let request = ScriptRequest { text: Some(text), ..ScriptRequest::default() };
            let work = move |allowance: &Allowance| planner::compile(&request, None, allowance);
            compiles.run(work).await.map(drop)
        };
        let deep = format!("import px\nx = {}1{}\n", "(".repeat(20_000), ")".repeat(20_000));
        let texts = [
            "x".repeat(SCRIPT_BYTES_MAX + 1),
            "#".repeat(weir_pxl::limits::SCRIPT_BYTES_MAX + 1),
            deep,
            "import px\npx.display(nothing)\n".to_string(),
        ];
        for text in texts {
            compile(text).await.unwrap_err();
        }
        let good = "import px\npx.display(px.DataFrame('http_events'))\n";
        compile(good.to_string()).await.unwrap();
        let counts = compiles.counts_json();
        assert_eq!(counts["limits"], json!({"script_too_large": 2, "too_deep": 1}));
        assert_eq!((&counts["refused"], &counts["compiled"]), (&json!(4), &json!(1)));
    }
}
