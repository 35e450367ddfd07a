//! What compiling scripts may cost a server, and whose turn it is. It compiles nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

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

/// Who may compile now.
pub struct Compiles {
    pub(crate) limits: CompileLimits,
    pub(crate) turns: Arc<Semaphore>,
}

impl Compiles {
    #[must_use]
    pub fn new(limits: CompileLimits) -> Arc<Compiles> {
        let turns = Arc::new(Semaphore::new(limits.compiles_max.max(1)));
        Arc::new(Compiles { limits, turns })
    }
}
