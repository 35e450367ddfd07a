//! Compiled plans that are kept, so that what is asked for again compiles nothing. Compiling is pure: the same
//! text, function and arguments over the same tables give the same plan at any time (`px.now()` stays a value
//! of the tick, scripts of the bundle are part of the program), and programs depend on no engine. What does not
//! compile is not kept. It compiles nothing itself and knows no reader.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value as Json, json};

use super::Installable;
use crate::planner::ScriptRequest;

/// Plans that are kept: more than views may run. The one that was not asked for longest goes first.
const ENTRIES_MAX: usize = 512;
/// Their bytes in all. One that is more than an eighth of it is not kept: the others would have to go.
const BYTES_MAX: usize = 32 << 20;
/// A plan is held as such, as identity, cut in two and as programs, with texts and allocations of its
/// operators: so many times what it is as text.
const BYTES_OF_TEXT: usize = 6;
/// What an entry costs beside that.
const ENTRY_BYTES: usize = 2 << 10;

/// What a compile depends on.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct PlanKey {
    /// Without what concerns the reader only.
    request: ScriptRequest,
    /// Those that have a source, sorted.
    tables: Vec<String>,
}

impl PlanKey {
    pub(super) fn new(request: &ScriptRequest, mut tables: Vec<String>) -> PlanKey {
        tables.sort_unstable();
        tables.dedup();
        let request = ScriptRequest {
            refresh_ms: None,
            stale_ok: false,
            accept_cost: false,
            ..request.clone()
        };
        PlanKey { request, tables }
    }

    pub(super) fn has_table(&self, name: &str) -> bool {
        self.tables.binary_search_by(|table| table.as_str().cmp(name)).is_ok()
    }

    fn bytes(&self) -> usize {
        let ScriptRequest { script, text, vis, func, args, views, .. } = &self.request;
        let texts = [script, text, vis, func].into_iter().flatten().map(String::len);
        let args = args.iter().map(|(name, value)| name.len() + value.len() + ENTRY_BYTES / 16);
        let tables = self.tables.iter().map(|table| table.len() + size_of::<String>());
        let views = views.iter().map(|view| view.name.len() + view.text.len());
        texts.chain(args).chain(tables).chain(views).sum()
    }
}

struct Kept {
    installable: Installable,
    bytes: usize,
    /// When it was kept or asked for last.
    used: u64,
}

#[derive(Default)]
struct Inner {
    kept: HashMap<Arc<PlanKey>, Kept>,
    bytes: usize,
    /// What was done so far, counted.
    now: u64,
    hits: u64,
    misses: u64,
    evicted: u64,
    too_large: u64,
}

impl Inner {
    fn remove_oldest(&mut self) {
        let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used);
        let Some(key) = oldest.map(|(key, _)| Arc::clone(key)) else { return };
        self.remove(&key);
        self.evicted += 1;
    }

    fn remove(&mut self, key: &PlanKey) {
        if let Some(kept) = self.kept.remove(key) {
            self.bytes -= kept.bytes;
        }
    }
}

/// Shared by all who ask.
#[derive(Default)]
pub struct Plans {
    inner: Mutex<Inner>,
}

impl Plans {
    /// A panic in between leaves counts that are off by one entry at most.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With the refresh that was asked for when it was kept.
    pub(super) fn get(&self, key: &PlanKey) -> Option<Installable> {
        let mut inner = self.lock();
        inner.now += 1;
        let now = inner.now;
        let found = inner.kept.get_mut(key).map(|kept| {
            kept.used = now;
            kept.installable.clone()
        });
        match found {
            Some(_) => inner.hits += 1,
            None => inner.misses += 1,
        }
        found
    }

    pub(super) fn keep(&self, key: Arc<PlanKey>, installable: &Installable) {
        let bytes = key.bytes() + bytes_of(installable);
        let mut inner = self.lock();
        if bytes > BYTES_MAX / 8 {
            inner.too_large += 1;
            return;
        }
        inner.remove(&key);
        while inner.kept.len() >= ENTRIES_MAX || inner.bytes + bytes > BYTES_MAX {
            inner.remove_oldest();
        }
        inner.bytes += bytes;
        inner.now += 1;
        let used = inner.now;
        inner.kept.insert(key, Kept { installable: installable.clone(), bytes, used });
    }

    #[must_use]
    pub fn counts_json(&self) -> Json {
        let inner = self.lock();
        json!({
            "hits": inner.hits,
            "misses": inner.misses,
            "evicted": inner.evicted,
            "too_large": inner.too_large,
            "entries": inner.kept.len(),
            "bytes": inner.bytes,
        })
    }
}

/// About what a plan takes, from above.
fn bytes_of(installable: &Installable) -> usize {
    let Installable { prepared, ready } = installable;
    let plan = text_bytes(&prepared.plan) * BYTES_OF_TEXT;
    let shown = text_bytes(&prepared.outputs) + text_bytes(&prepared.warnings);
    ENTRY_BYTES + plan + shown + ready.constant_bytes()
}

/// The length of a value as text, without making it.
fn text_bytes(value: &impl std::fmt::Debug) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0 += text.len();
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting does not fail.
    let _ = write!(count, "{value:?}");
    count.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use weir_engine::{Engine, EngineConfig};

    use super::*;
    use crate::coordinator::ReadyPlan;
    use crate::planner;

    fn request(text: &str) -> ScriptRequest {
        ScriptRequest { text: Some(text.to_string()), ..ScriptRequest::default() }
    }

    fn script(rest: &str) -> String {
        format!("import px\npx.display(px.DataFrame('http_events', start_time='-1m'){rest}, 'a')\n")
    }

    fn installable(request: &ScriptRequest) -> Installable {
        let engine = Engine::start(EngineConfig::new("test"), Arc::new(|_| ())).unwrap();
        let prepared = planner::prepare(request, 100, None, &|_| true).unwrap();
        let ready = ReadyPlan::new(Arc::clone(&prepared.split), &engine);
        Installable { prepared, ready }
    }

    fn count(plans: &Plans, name: &str) -> u64 {
        plans.counts_json()[name].as_u64().unwrap()
    }

    /// All that changes a plan is in the key, and nothing else: another argument, function, vis.json or set of
    /// tables is another entry, another refresh is not. Catches a plan that is given for another script.
    #[test]
    fn what_a_plan_depends_on_is_the_key() {
        let base = request("a");
        let key = |request: &ScriptRequest, tables: &[&str]| {
            PlanKey::new(request, tables.iter().map(ToString::to_string).collect())
        };
        let args = BTreeMap::from([("a".to_string(), "b".to_string())]);
        let others = [
            request("b"),
            ScriptRequest { vis: Some("{}".to_string()), ..base.clone() },
            ScriptRequest { func: Some("f".to_string()), ..base.clone() },
            ScriptRequest { script: Some("px/http_data".to_string()), ..base.clone() },
            ScriptRequest { args, ..base.clone() },
        ];
        let own = key(&base, &["x", "y"]);
        assert!(others.iter().all(|other| key(other, &["x", "y"]) != own));
        assert!(key(&base, &["x"]) != own);
        let same = ScriptRequest { refresh_ms: Some(500), stale_ok: true, ..base };
        assert!(key(&same, &["y", "x", "y"]) == own);
        assert!(own.has_table("x") && own.has_table("y") && !own.has_table("z"));
    }

    /// What is kept stays within both limits, what was not asked for longest goes first, and each of them is
    /// counted. Catches a cache that grows with every script that somebody thinks up.
    #[test]
    fn kept_plans_are_bounded() {
        let plans = Plans::default();
        let found = installable(&request(&script("")));
        let key = |number: usize| Arc::new(PlanKey::new(&request(&number.to_string()), Vec::new()));
        for number in 0..ENTRIES_MAX {
            plans.keep(key(number), &found);
        }
        assert!(plans.get(&key(0)).is_some(), "asked for again");
        assert!(plans.get(&key(ENTRIES_MAX)).is_none());
        plans.keep(key(ENTRIES_MAX), &found);
        assert!(plans.get(&key(0)).is_some() && plans.get(&key(1)).is_none());
        assert_eq!((count(&plans, "hits"), count(&plans, "misses")), (2, 2));
        assert_eq!((count(&plans, "evicted"), count(&plans, "entries")), (1, ENTRIES_MAX as u64));

        let long = |number: usize| {
            let text = format!("{number}{}", " ".repeat(BYTES_MAX / 16));
            Arc::new(PlanKey::new(&request(&text), Vec::new()))
        };
        for number in 0..40 {
            plans.keep(long(number), &found);
            assert!(count(&plans, "bytes") <= BYTES_MAX as u64);
        }
        assert!(plans.get(&long(39)).is_some() && plans.get(&key(0)).is_none());
        let before = count(&plans, "entries");
        let text = " ".repeat(BYTES_MAX / 8);
        plans.keep(Arc::new(PlanKey::new(&request(&text), Vec::new())), &found);
        assert_eq!((count(&plans, "too_large"), count(&plans, "entries")), (1, before));
        // The same again takes its own place.
        let bytes = count(&plans, "bytes");
        plans.keep(long(39), &found);
        assert_eq!(count(&plans, "bytes"), bytes);
    }
}
