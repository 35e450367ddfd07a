//! How long to wait before a restart, and when to give up. Pure: the time is handed in.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;

/// Restarts within the sliding window. The wait doubles with each of them, and shrinks again as
/// old ones leave the window.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Ascending; at most `Config::restarts_max` long.
    spent: VecDeque<Instant>,
}

impl Budget {
    /// Takes one restart at `now`: the time to wait before it, or `None` when the budget is spent.
    pub(crate) fn spend(&mut self, config: &Config, now: Instant) -> Option<Duration> {
        while self.spent.front().is_some_and(|at| now - *at >= config.restart_window) {
            self.spent.pop_front();
        }
        let streak = u32::try_from(self.spent.len()).unwrap_or(u32::MAX);
        if streak >= config.restarts_max {
            return None;
        }
        self.spent.push_back(now);
        let factor = 2_u32.saturating_pow(streak);
        Some(config.backoff_min.saturating_mul(factor).min(config.backoff_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_millis(500),
            restarts_max: 5,
            restart_window: Duration::from_secs(60),
            ..Config::default()
        }
    }

    /// The wait doubles up to its maximum, then the budget is spent. Would catch a reset per
    /// restart (an endless crash loop) and an overflow of the shift.
    #[tokio::test(start_paused = true)]
    async fn doubles_up_to_the_maximum_then_gives_up() {
        let mut budget = Budget::default();
        let now = Instant::now();
        let waits: Vec<_> =
            (0..6).map(|_| budget.spend(&config(), now).map(|wait| wait.as_millis())).collect();
        assert_eq!(waits, [Some(100), Some(200), Some(400), Some(500), Some(500), None]);
    }

    /// A restart that left the window counts no more, for the budget and for the wait alike.
    #[tokio::test(start_paused = true)]
    async fn forgets_what_left_the_window() {
        let mut budget = Budget::default();
        let start = Instant::now();
        for second in 0..5 {
            assert!(budget.spend(&config(), start + Duration::from_secs(second)).is_some());
        }
        assert_eq!(budget.spend(&config(), start + Duration::from_secs(59)), None);
        let wait = budget.spend(&config(), start + Duration::from_secs(64));
        assert_eq!(wait, Some(Duration::from_millis(100)), "all five have left the window");
    }

    /// A budget of any size keeps the wait finite.
    #[tokio::test(start_paused = true)]
    async fn huge_budgets_do_not_overflow() {
        let config = Config { restarts_max: u32::MAX, ..config() };
        let mut budget = Budget::default();
        let now = Instant::now();
        for _ in 0..100 {
            assert!(budget.spend(&config, now).unwrap() <= config.backoff_max);
        }
    }
}
