//! Detaching, which takes seconds.
//!
//! The kernel waits for a grace period per tracepoint (about 0.1 s each), whoever asks; waiting on
//! several threads at once saves about half. The programs are already disabled at that point.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_types::{Clock, WallClock};

use super::attach::Attachment;

const THREADS_MAX: usize = 8;

/// Programs being detached.
pub struct Stopping {
    total: usize,
    left: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
    began_mono_ns: u64,
}

impl Stopping {
    pub(super) fn begin(attachments: Vec<Attachment>) -> Stopping {
        let began_mono_ns = WallClock.monotonic_ns();
        let total = attachments.len();
        let left = Arc::new(AtomicUsize::new(total));
        let mut shares: Vec<Vec<Attachment>> =
            (0..THREADS_MAX.min(total)).map(|_| vec![]).collect();
        for (idx, attachment) in attachments.into_iter().enumerate() {
            shares[idx % THREADS_MAX].push(attachment);
        }
        let threads = shares
            .into_iter()
            .map(|share| {
                let left = Arc::clone(&left);
                std::thread::spawn(move || {
                    for attachment in share {
                        drop(attachment);
                        left.fetch_sub(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Stopping { total, left, threads, began_mono_ns }
    }

    /// Programs in all, and those still attached.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        (self.total, self.left.load(Ordering::Relaxed))
    }

    #[must_use]
    pub fn is_done(&self) -> bool {
        self.progress().1 == 0
    }

    /// Wait for the end, and tell how long it all took.
    pub fn wait(self) -> Duration {
        for thread in self.threads {
            // Closing a descriptor does not panic; and there is nothing left to do if it did.
            let _ = thread.join();
        }
        Duration::from_nanos(WallClock.monotonic_ns().saturating_sub(self.began_mono_ns))
    }
}
