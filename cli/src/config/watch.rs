//! A configuration that changes while the server runs: on SIGHUP, and when the file is another or has changed.
//! What did not change goes on undisturbed; a wrong file leaves everything as it is, and says why.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{info, warn};
use weir_cluster::service::{Alerts, Service, Sinks};

use super::{Loaded, Patterns, Wrong, load};

/// Between two looks at the files and at whether the signal came. A file that changed is read at the next look,
/// if it has not changed again: who writes it may be in the middle.
const LOOK: Duration = Duration::from_millis(200);

/// What tells one state of a file from another.
type Seen = Option<(u64, u64, i64, i64, u64)>;

fn seen(path: &Path) -> Seen {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
}

/// The configuration, and the rule files that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllSeen {
    config: Seen,
    rules: Result<Vec<(PathBuf, Seen)>, String>,
}

impl Default for AllSeen {
    fn default() -> AllSeen {
        AllSeen { config: None, rules: Ok(Vec::new()) }
    }
}

impl AllSeen {
    /// The configuration as it was seen then.
    pub(super) fn with_config_of(self, before: AllSeen) -> AllSeen {
        AllSeen { config: before.config, ..self }
    }
}

pub(super) fn look(path: &Path, (base, patterns): &Patterns) -> AllSeen {
    let rules = super::alerts::files(base, patterns);
    let rules =
        rules.map(|files| files.into_iter().map(|file| (file.clone(), seen(&file))).collect());
    AllSeen { config: seen(path), rules }
}

/// Set by SIGHUP, which would end the process otherwise.
///
/// # Errors
/// It cannot be watched.
pub(crate) fn hangup() -> std::io::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&asked))?;
    Ok(asked)
}

/// Never ends. What runs is what the files said when they were read; `seen`: how they looked then.
pub(crate) async fn watch(
    service: Service,
    path: PathBuf,
    mut patterns: Patterns,
    seen: AllSeen,
    asked: Arc<AtomicBool>,
) {
    // As things were before they were read: what has changed since is noticed.
    let mut judged = seen;
    let mut before = judged.clone();
    loop {
        actix::clock::sleep(LOOK).await;
        let (file, of) = (path.clone(), patterns.clone());
        let Ok(now) = actix_web::web::block(move || look(&file, &of)).await else { continue };
        let is_still = before == now;
        before = now.clone();
        let has_changed = now != judged && is_still && now.config.is_some();
        if !asked.swap(false, Ordering::SeqCst) && !has_changed {
            continue;
        }
        judged = now;
        let file = path.clone();
        let loaded = actix_web::web::block(move || load(&file)).await;
        match loaded {
            Ok(Ok(loaded)) => {
                let Loaded { sinks, alerts, patterns: named, seen } = loaded;
                (patterns, judged) = (named, seen);
                before = judged.clone();
                // Views that sinks may read are there first.
                let mut done = Alerts::apply(&service, alerts).await;
                done.extend(Sinks::apply(&service, sinks).await);
                info!(file = %path.display(), changes = done.join(", "), "read the configuration");
            }
            Ok(Err(Wrong { why, named })) => {
                warn!(file = %path.display(), why, "a wrong configuration: nothing has changed");
                // What is wrong may be a rule file that is named for the first time. How it looked before it was
                // read counts: it may have been mended since.
                if let Some(named) = named {
                    (patterns, judged) = *named;
                    before = judged.clone();
                }
            }
            Err(_) => warn!(file = %path.display(), "the configuration could not be judged"),
        }
    }
}
