//! The runtime of a writer whose client is asynchronous: a writer has a thread of its own and waits there.

use tokio::runtime::{Builder, Runtime};

/// The runtime that is kept, or a new one. Who takes it puts it back, so that connections outlive a batch.
pub(crate) fn take(kept: &mut Option<Runtime>) -> std::io::Result<Runtime> {
    match kept.take() {
        Some(runtime) => Ok(runtime),
        None => Builder::new_current_thread().enable_all().build(),
    }
}
