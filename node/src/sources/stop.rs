//! How far the end of the sources has come: detaching programs takes seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shared by the sources and whoever waits for their end.
#[derive(Clone, Default)]
pub(super) struct StopProgress(Arc<Counts>);

#[derive(Default)]
struct Counts {
    /// Sources that have not ended for good.
    running: AtomicUsize,
    /// eBPF programs that were attached, and those that still are.
    programs: AtomicUsize,
    attached: AtomicUsize,
}

/// Counts a source as running until it is gone for good.
pub(super) struct Counted(Arc<Counts>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl StopProgress {
    pub(super) fn count(&self) -> Counted {
        self.0.running.fetch_add(1, Ordering::SeqCst);
        Counted(self.0.clone())
    }

    pub(super) fn running(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
    }

    pub(super) fn set_attached(&self, programs: usize, attached: usize) {
        self.0.programs.store(programs, Ordering::SeqCst);
        self.0.attached.store(attached, Ordering::SeqCst);
    }

    pub(super) fn text(&self) -> String {
        let programs = self.0.programs.load(Ordering::SeqCst);
        let attached = self.0.attached.load(Ordering::SeqCst).min(programs);
        format!("{} of {programs} eBPF programs detached", programs - attached)
    }
}
