//! Addresses whose names somebody asked for. A function cannot wait for DNS: it notes the address
//! here, whoever resolves takes the notes and puts names into the metadata snapshot.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// As many addresses are noted at a time; more are left out, counted, and noted when they are asked
/// for again.
pub const WANTED_MAX: usize = 1024;

static WANTED: Mutex<BTreeSet<IpAddr>> = Mutex::new(BTreeSet::new());
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Notes an address. Never waits: when another thread is at it, the next batch asks again.
pub(crate) fn want(address: IpAddr) {
    let Ok(mut wanted) = WANTED.try_lock() else { return };
    if wanted.len() < WANTED_MAX {
        wanted.insert(address);
    } else if !wanted.contains(&address) {
        LEFT_OUT.fetch_add(1, Ordering::Relaxed);
    }
}

/// The addresses noted since the last time.
#[must_use]
pub fn take_wanted() -> Vec<IpAddr> {
    let mut wanted = WANTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    std::mem::take(&mut *wanted).into_iter().collect()
}

/// How many were left out since the start.
#[must_use]
pub fn left_out() -> u64 {
    LEFT_OUT.load(Ordering::Relaxed)
}
