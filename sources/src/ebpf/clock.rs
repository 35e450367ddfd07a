//! From the kernel's monotonic clock to Unix time.
//!
//! The difference between the two is measured again every few seconds, since the wall clock is
//! slewed and set. Taking each new difference as it comes would let an event appear before its
//! predecessor; so the difference in use moves towards the measured one along a slope: converted
//! time is one growing function of kernel time. Only a large step forward is taken at once.

use std::collections::VecDeque;

const MEASURE_INTERVAL_NS: u64 = 5_000_000_000;
/// Beyond, a step forward is taken at once (resume from suspend, a clock set).
const STEP_NS: i64 = 1_000_000_000;
/// A correction is spread over this time, unless that would exceed the slope.
const SPREAD_NS: u64 = MEASURE_INTERVAL_NS;
const SLOPE_MAX_PPM: i64 = 100_000;
/// After a large step back, time runs at half speed until it is caught up with: never back.
const SLOPE_BACK_PPM: i64 = -500_000;
/// Records in the ring may be older than the last measurement, but not by much.
const SEGMENTS_MAX: usize = 16;
const PPM: i128 = 1_000_000;

#[derive(Clone, Copy, Debug)]
struct Segment {
    from_mono_ns: u64,
    until_mono_ns: u64,
    offset_ns: i64,
    slope_ppm: i64,
}

impl Segment {
    /// Unix time less kernel time; before and after the segment, that of its nearest end.
    fn offset_ns(&self, mono_ns: u64) -> i64 {
        let within = mono_ns.clamp(self.from_mono_ns, self.until_mono_ns) - self.from_mono_ns;
        let moved = i128::from(within) * i128::from(self.slope_ppm) / PPM;
        self.offset_ns + moved as i64
    }
}

#[derive(Debug)]
pub(super) struct KernelClock {
    /// By time, at least one.
    segments: VecDeque<Segment>,
    measured_mono_ns: u64,
}

impl KernelClock {
    pub(super) fn start() -> KernelClock {
        let (mono_ns, offset_ns) = measure();
        KernelClock::new(mono_ns, offset_ns)
    }

    fn new(mono_ns: u64, offset_ns: i64) -> KernelClock {
        let first =
            Segment { from_mono_ns: mono_ns, until_mono_ns: mono_ns, offset_ns, slope_ppm: 0 };
        KernelClock { segments: VecDeque::from([first]), measured_mono_ns: mono_ns }
    }

    /// Measure again if it is time.
    pub(super) fn keep(&mut self) {
        let now_ns = clock_ns(libc::CLOCK_MONOTONIC) as u64;
        if now_ns.saturating_sub(self.measured_mono_ns) >= MEASURE_INTERVAL_NS {
            let (mono_ns, offset_ns) = measure();
            self.steer(mono_ns, offset_ns);
        }
    }

    fn steer(&mut self, mono_ns: u64, measured_offset_ns: i64) {
        self.measured_mono_ns = mono_ns;
        let current_ns = self.offset_ns(mono_ns);
        let error_ns = measured_offset_ns - current_ns;
        let (offset_ns, slope_ppm) = if error_ns > STEP_NS {
            (measured_offset_ns, 0)
        } else if error_ns < -STEP_NS {
            (current_ns, SLOPE_BACK_PPM)
        } else {
            let slope_ppm = i128::from(error_ns) * PPM / i128::from(SPREAD_NS);
            (current_ns, (slope_ppm as i64).clamp(-SLOPE_MAX_PPM, SLOPE_MAX_PPM))
        };
        // The same slope holds until the error is gone, or until the next measurement.
        let spread_ns = match slope_ppm {
            0 => 0,
            slope => (i128::from(error_ns) * PPM / i128::from(slope)) as u64,
        };
        if self.segments.len() == SEGMENTS_MAX {
            self.segments.pop_front();
        }
        self.segments.push_back(Segment {
            from_mono_ns: mono_ns,
            until_mono_ns: mono_ns.saturating_add(spread_ns),
            offset_ns,
            slope_ppm,
        });
    }

    fn offset_ns(&self, mono_ns: u64) -> i64 {
        let newest_first = self.segments.iter().rev();
        let segment = newest_first.clone().find(|segment| segment.from_mono_ns <= mono_ns);
        match segment.or(self.segments.front()) {
            Some(segment) => segment.offset_ns(mono_ns),
            None => 0,
        }
    }

    pub(super) fn unix_ns(&self, mono_ns: u64) -> i64 {
        (mono_ns as i64).saturating_add(self.offset_ns(mono_ns))
    }
}

/// Kernel time, and Unix time less kernel time: the tightest of a few tries, as the thread may be
/// preempted between two readings.
fn measure() -> (u64, i64) {
    (0..5)
        .map(|_| {
            let before_ns = clock_ns(libc::CLOCK_MONOTONIC);
            let unix_ns = clock_ns(libc::CLOCK_REALTIME);
            let after_ns = clock_ns(libc::CLOCK_MONOTONIC);
            let middle_ns = before_ns + (after_ns - before_ns) / 2;
            (after_ns - before_ns, (after_ns as u64, unix_ns - middle_ns))
        })
        .min_by_key(|(width_ns, _)| *width_ns)
        .map_or((0, 0), |(_, measured)| measured)
}

#[expect(unsafe_code, reason = "std does not give out the monotonic clock's value")]
fn clock_ns(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the timespec outlives the call.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Whatever the wall clock does, converted time grows, and arrives at the measured offset
    /// unless it had to step back far.
    #[test]
    fn grows_through_steps_and_slews() {
        for step_ns in
            [0, 40_000, -40_000, 300_000_000, -300_000_000, 7_000_000_000, -20_000_000_000]
        {
            let mut clock = KernelClock::new(SECOND, 1_000 * SECOND as i64);
            let mut last_ns = i64::MIN;
            let mut mono_ns = SECOND;
            for second in 0..90 {
                if second % 5 == 0 {
                    clock.steer(mono_ns, 1_000 * SECOND as i64 + step_ns);
                }
                for _ in 0..10 {
                    mono_ns += SECOND / 10;
                    let unix_ns = clock.unix_ns(mono_ns);
                    assert!(unix_ns > last_ns, "went back after a step of {step_ns}");
                    last_ns = unix_ns;
                }
            }
            let error_ns = last_ns - mono_ns as i64 - 1_000 * SECOND as i64 - step_ns;
            assert!(error_ns.abs() < 1_000, "off by {error_ns} after a step of {step_ns}");
        }
    }

    /// A record that was written before the last measurement keeps the place it had.
    #[test]
    fn older_records_use_the_older_difference() {
        let mut clock = KernelClock::new(10 * SECOND, 0);
        let before = clock.unix_ns(14 * SECOND);
        clock.steer(15 * SECOND, 5 * SECOND as i64);
        assert_eq!(clock.unix_ns(14 * SECOND), before);
        assert_eq!(clock.unix_ns(16 * SECOND), 21 * SECOND as i64);
    }

    /// The measured difference agrees with the wall clock.
    #[test]
    fn measures_the_machine() {
        let clock = KernelClock::start();
        let mono_ns = clock_ns(libc::CLOCK_MONOTONIC) as u64;
        let error_ns = clock.unix_ns(mono_ns) - clock_ns(libc::CLOCK_REALTIME);
        assert!(error_ns.abs() < 1_000_000_000, "off by {error_ns} ns");
    }
}
