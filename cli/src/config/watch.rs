//! A configuration that changes while the server runs: on SIGHUP, and when the file is another or has changed.
//! What did not change goes on undisturbed; a wrong file leaves everything as it is, and says why.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{info, warn};
use weir_cluster::service::{Service, Sinks};

use super::load;

/// Between two looks at the file and at whether the signal came.
const LOOK: Duration = Duration::from_millis(500);

/// What tells one state of a file from another.
type Seen = Option<(u64, u64, i64, i64, u64)>;

fn seen(path: &Path) -> Seen {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
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

/// Never ends. What runs is what the file said when the server started.
pub(crate) async fn watch(service: Service, path: PathBuf, asked: Arc<AtomicBool>) {
    let mut last = seen(&path);
    loop {
        actix::clock::sleep(LOOK).await;
        let now = seen(&path);
        let has_changed = now != last && now.is_some();
        if !asked.swap(false, Ordering::SeqCst) && !has_changed {
            continue;
        }
        last = now;
        let file = path.clone();
        let loaded = actix_web::web::block(move || load(&file)).await;
        match loaded {
            Ok(Ok(specs)) => {
                let done = Sinks::apply(&service, specs).await;
                info!(file = %path.display(), changes = done.join(", "), "read the configuration");
            }
            Ok(Err(why)) => {
                warn!(file = %path.display(), why, "a wrong configuration: nothing has changed");
            }
            Err(_) => warn!(file = %path.display(), "the configuration could not be judged"),
        }
    }
}
