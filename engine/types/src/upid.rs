//! The unique process id: agent short id, pid and start time in one UINT128, so that the same pid on
//! two nodes, or used again later, is another process.

use serde::{Deserialize, Serialize};

/// `asid << 96 | pid << 64 | start_ticks`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Upid(pub u128);

impl Upid {
    /// `start_ticks`: clock ticks after boot, as in field 22 of `/proc/PID/stat`.
    #[must_use]
    pub fn new(asid: u32, pid: u32, start_ticks: u64) -> Upid {
        Upid((u128::from(asid) << 96) | (u128::from(pid) << 64) | u128::from(start_ticks))
    }
    #[must_use]
    pub fn asid(self) -> u32 {
        (self.0 >> 96) as u32
    }
    #[must_use]
    pub fn pid(self) -> u32 {
        (self.0 >> 64) as u32
    }
    #[must_use]
    pub fn start_ticks(self) -> u64 {
        self.0 as u64
    }
}

impl std::fmt::Display for Upid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.asid(), self.pid(), self.start_ticks())
    }
}
