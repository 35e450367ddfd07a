//! Random numbers for latencies and choices: small, fast, and of no use for secrets.

use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use weir_types::random::SplitMix;

/// What shapes the demo's traffic.
#[derive(Clone, Debug)]
pub(super) struct Random(SplitMix);

impl Random {
    /// Seeded differently at each call, by the standard library's hash keys.
    pub(super) fn new() -> Random {
        Random(SplitMix(std::hash::RandomState::new().build_hasher().finish()))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(super) fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.0.below(u64::from(end))).unwrap_or(0)
    }

    pub(super) fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < per_mille
    }

    /// Exponentially distributed with the given mean, cut off at eight times the mean.
    pub(super) fn around(&mut self, mean: Duration) -> Duration {
        let unit = f64::from(self.below(1 << 24) + 1) / f64::from(1 << 24);
        mean.mul_f64((-unit.ln()).min(8.0))
    }

    /// Uniform between two durations.
    pub(super) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        low + high.saturating_sub(low).mul_f64(f64::from(self.below(1000)) / 1000.0)
    }
}

/// A simulated piece of work takes its time.
#[expect(clippy::disallowed_methods, reason = "the demo's services pretend to work by sleeping")]
pub(super) fn take(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shapes that the demo promises: a chance of 40 in 1000 is about that, and latencies
    /// have the mean they are given. Would catch a unit or sign slip.
    #[test]
    fn draws_have_the_promised_shape() {
        let mut random = Random(SplitMix(1));
        let hits = (0..100_000).filter(|_| random.chance(40)).count();
        assert!((3_700..4_300).contains(&hits), "{hits}");
        let mean = Duration::from_millis(20);
        let sum: Duration = (0..100_000).map(|_| random.around(mean)).sum();
        let average_us = sum.as_micros() / 100_000;
        assert!((19_500..20_500).contains(&average_us), "{average_us}");
        let (low, high) = (Duration::from_millis(30), Duration::from_millis(80));
        assert!((0..1000).all(|_| (low..=high).contains(&random.between(low, high))));
    }
}
