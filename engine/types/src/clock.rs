//! Time as a thing that is handed in, so that nothing reads a clock on its own: tests and offline
//! runs drive a [`ManualClock`], the server uses [`WallClock`].

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A row whose event time is further ahead of its arrival than this is dropped and counted.
pub const FUTURE_NS_MAX: i64 = 10_000_000_000;

/// The time of a tick, which is in milliseconds.
#[must_use]
pub fn tick_unix_ns(tick_ms: u64) -> i64 {
    i64::try_from(tick_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

/// Unix time in nanoseconds, and a monotonic time for measuring.
pub trait Clock: Send + Sync {
    fn now_unix_ns(&self) -> i64;
    /// Nanoseconds since an arbitrary start; never goes back.
    fn monotonic_ns(&self) -> u64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock;

impl Clock for WallClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now_unix_ns(&self) -> i64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    fn monotonic_ns(&self) -> u64 {
        use std::sync::OnceLock;
        static START: OnceLock<std::time::Instant> = OnceLock::new();
        let start = *START.get_or_init(std::time::Instant::now);
        u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Unix time that never goes back and never stands still: what ticks are made of.
///
/// It is the wall clock as long as that goes on. Where the wall clock was set back or stands, this one
/// runs at half the pace of the monotonic clock until it has been caught up with, as the kernel's
/// event times do; where it was set forward, this one is set, too.
pub struct SteadyClock<C> {
    inner: C,
    /// (monotonic, Unix) when it was read last.
    last: Mutex<(u64, i64)>,
}

impl<C: Clock> SteadyClock<C> {
    #[must_use]
    pub fn new(inner: C) -> SteadyClock<C> {
        let last = Mutex::new((inner.monotonic_ns(), inner.now_unix_ns()));
        SteadyClock { inner, last }
    }
}

impl<C: Clock> Clock for SteadyClock<C> {
    fn now_unix_ns(&self) -> i64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (mono_ns, wall_ns) = (self.inner.monotonic_ns(), self.inner.now_unix_ns());
        let passed_ns = mono_ns.saturating_sub(last.0);
        let least_ns = last.1.saturating_add(i64::try_from(passed_ns / 2).unwrap_or(i64::MAX));
        // Half a nanosecond is none: it counts with the next reading.
        if wall_ns >= least_ns || passed_ns >= 2 {
            *last = (mono_ns, wall_ns.max(least_ns));
        }
        last.1
    }
    fn monotonic_ns(&self) -> u64 {
        self.inner.monotonic_ns()
    }
}

/// A clock that stands still until it is set.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    #[must_use]
    pub fn new(now_unix_ns: i64) -> ManualClock {
        ManualClock(AtomicI64::new(now_unix_ns))
    }
    pub fn set(&self, now_unix_ns: i64) {
        self.0.store(now_unix_ns, Ordering::SeqCst);
    }
    pub fn advance(&self, by: Duration) {
        let by_ns = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        self.0.fetch_add(by_ns, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_unix_ns(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.now_unix_ns()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;

    /// A wall clock that is set at will over a monotonic one that goes on.
    #[derive(Default)]
    struct Wall {
        unix_ns: AtomicI64,
        mono_ns: AtomicU64,
    }

    impl Clock for Arc<Wall> {
        fn now_unix_ns(&self) -> i64 {
            self.unix_ns.load(Ordering::SeqCst)
        }
        fn monotonic_ns(&self) -> u64 {
            self.mono_ns.load(Ordering::SeqCst)
        }
    }

    const SEC_NS: i64 = 1_000_000_000;
    const HOUR_NS: i64 = 3_600 * SEC_NS;

    /// Set back an hour, set forward an hour, standing, slewed: time goes on through all of it, at
    /// half the pace at least, and is the wall clock's again once that has caught up. Catches ticks
    /// that stop, and a clock that stays ahead for ever.
    #[test]
    fn goes_on_whatever_is_done_to_the_wall_clock() {
        let wall = Arc::new(Wall::default());
        wall.unix_ns.store(10 * HOUR_NS, Ordering::SeqCst);
        let clock = SteadyClock::new(wall.clone());
        let mut last = clock.now_unix_ns();
        let mut pass = |mono_ns: i64, wall_ns: i64| {
            wall.mono_ns.fetch_add(u64::try_from(mono_ns).unwrap(), Ordering::SeqCst);
            wall.unix_ns.fetch_add(wall_ns, Ordering::SeqCst);
            let now = clock.now_unix_ns();
            let went_ns = now - last;
            last = now;
            (went_ns, now - wall.unix_ns.load(Ordering::SeqCst))
        };
        assert_eq!(pass(SEC_NS, SEC_NS), (SEC_NS, 0));
        // Set back: half pace, until an hour later it is an hour less ahead.
        assert_eq!(pass(SEC_NS, SEC_NS - HOUR_NS), (SEC_NS / 2, HOUR_NS - SEC_NS / 2));
        assert_eq!(pass(HOUR_NS, HOUR_NS), (HOUR_NS / 2, HOUR_NS / 2 - SEC_NS / 2));
        assert_eq!(pass(HOUR_NS, HOUR_NS).1, 0);
        assert_eq!(pass(SEC_NS, SEC_NS + HOUR_NS), (SEC_NS + HOUR_NS, 0), "set forward");
        for _ in 0..10 {
            assert_eq!(pass(SEC_NS, 0).0, SEC_NS / 2, "standing");
        }
        assert_eq!(pass(SEC_NS / 10, SEC_NS / 11).0, SEC_NS / 20, "still behind");
        assert_eq!(pass(0, 0).0, 0);
        for _ in 0..5 {
            assert!(pass(1, 0).0 >= 0);
        }
        assert!(pass(2, 0).0 >= 1, "small steps add up");
    }
}
