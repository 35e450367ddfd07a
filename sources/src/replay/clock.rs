//! The capture's clock: it goes on with its packets, in steps that trackers take for passing time.

/// Time passes for connections once so much has passed.
const STEP_NS: i64 = 10_000_000;
/// A tracker takes more at once for a clock that was set.
const LARGE_STEP_NS: i64 = 9_000_000_000;
/// Nothing waits for longer than these together.
const LARGE_STEPS_MAX: usize = 8;
/// Packets of one clock are out of order by less; one that is older is of another.
const DISORDER_NS: i64 = 10_000_000_000;

/// A file holds captures one after the other, not hundreds: when its clock was set back more often, it
/// holds packets of two clocks, and goes on with the later one.
const SET_BACK_MAX: u32 = 64;

/// What a packet's time means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passed {
    Little,
    /// It was so late, one after the other, before the packet came.
    Steps(Vec<i64>),
    /// The clock was set back.
    SetBack,
}

#[derive(Debug, Default)]
pub(super) struct Clock {
    now_unix_ns: Option<i64>,
    stepped_unix_ns: i64,
    latest_unix_ns: i64,
    set_back: u32,
}

impl Clock {
    pub(super) fn now_unix_ns(&self) -> i64 {
        self.now_unix_ns.unwrap_or(0)
    }

    /// The latest time of all packets.
    pub(super) fn latest_unix_ns(&self) -> i64 {
        self.latest_unix_ns
    }

    pub(super) fn packet(&mut self, time_unix_ns: i64) -> Passed {
        self.latest_unix_ns = self.latest_unix_ns.max(time_unix_ns);
        let Some(now) = self.now_unix_ns else {
            (self.now_unix_ns, self.stepped_unix_ns) = (Some(time_unix_ns), time_unix_ns);
            return Passed::Little;
        };
        if time_unix_ns < now.saturating_sub(DISORDER_NS) && self.set_back < SET_BACK_MAX {
            self.set_back += 1;
            (self.now_unix_ns, self.stepped_unix_ns) = (Some(time_unix_ns), time_unix_ns);
            return Passed::SetBack;
        }
        let now = now.max(time_unix_ns);
        self.now_unix_ns = Some(now);
        let passed = now - self.stepped_unix_ns;
        if passed < STEP_NS {
            return Passed::Little;
        }
        let mut steps = Vec::new();
        while steps.len() < LARGE_STEPS_MAX && now - self.stepped_unix_ns > LARGE_STEP_NS {
            self.stepped_unix_ns += LARGE_STEP_NS;
            steps.push(self.stepped_unix_ns);
        }
        self.stepped_unix_ns = now;
        steps.push(now);
        Passed::Steps(steps)
    }
}
