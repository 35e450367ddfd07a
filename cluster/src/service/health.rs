//! How the actors are: slow handlers, stalls and restarts, read from outside, logged when they begin and
//! shown in `weir stats` and `/metrics`; and where the tree of all parts is read. It restarts nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tracing::warn;
use weir_actors::{Health as ActorHealth, KillSwitch, Status, TreeStatus};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The actors of one kind: those whose names differ in a number only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ActorSummary {
    pub actors: u64,
    pub handled: u64,
    /// Handlers that took longer than 500 µs.
    pub slow_handled: u64,
    pub handler_ns_max: u64,
    /// The handler that took most CPU time, and the message that it was for.
    pub slowest_cpu_ns: u64,
    pub slowest_message: &'static str,
    /// In one handler for seconds.
    pub stalled: u64,
    pub restarts: u64,
    /// Failed too often and left down.
    pub failed: u64,
    pub mailbox_len: u64,
    pub refused_full: u64,
}

pub struct Health {
    switch: KillSwitch,
}

fn kind_of(name: &str) -> &str {
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
    kind.strip_suffix('-').unwrap_or(kind)
}

impl ActorSummary {
    fn add(&mut self, status: &Status) {
        self.actors += 1;
        self.handled += status.handled;
        self.slow_handled += status.slow_handled;
        self.handler_ns_max = self.handler_ns_max.max(status.handler_ns_max);
        if status.slowest.cpu_ns > self.slowest_cpu_ns {
            self.slowest_cpu_ns = status.slowest.cpu_ns;
            self.slowest_message = status.slowest.message;
        }
        self.stalled += u64::from(matches!(status.health, ActorHealth::Stalled { .. }));
        self.restarts += u64::from(status.restarts);
        self.failed += u64::from(status.health == ActorHealth::Failed);
        self.mailbox_len += status.mailbox_len as u64;
        self.refused_full += status.refused_full;
    }
}

impl Health {
    #[must_use]
    pub fn new(switch: KillSwitch) -> Health {
        Health { switch }
    }

    /// Kind → how its actors are, those that failed for good included.
    #[must_use]
    pub fn summary(&self) -> BTreeMap<String, ActorSummary> {
        let mut kinds: BTreeMap<String, ActorSummary> = BTreeMap::new();
        for status in self.switch.statuses() {
            kinds.entry(kind_of(&status.name).to_string()).or_default().add(&status);
        }
        kinds
    }

    /// How every part of the process is.
    #[must_use]
    pub fn tree(&self) -> TreeStatus {
        self.switch.tree()
    }

    fn is_over(&self) -> bool {
        self.switch.is_killed()
    }
}

/// Says when an actor stalls, and when handlers begin to take too long.
pub(super) async fn watch(health: Arc<Health>) {
    let mut stalled: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut slow: BTreeMap<String, u64> = BTreeMap::new();
    while !health.is_over() {
        actix::clock::sleep(LOOK_EVERY).await;
        let mut now = BTreeSet::new();
        for status in health.switch.statuses() {
            let ActorHealth::Stalled { busy_for } = status.health else { continue };
            if !stalled.contains(&status.name) {
                warn!(actor = %status.name, ?busy_for, "an actor stalls in a handler");
            }
            now.insert(status.name);
        }
        stalled = now;
        for (kind, summary) in health.summary() {
            let before = slow.insert(kind.clone(), summary.slow_handled).unwrap_or(0);
            // Now and then one is preempted; a row of them is something to look into.
            if summary.slow_handled > before + SLOW_PER_LOOK {
                let (slow_handled, max_ns) =
                    (summary.slow_handled - before, summary.handler_ns_max);
                let (message, cpu_ns) = (summary.slowest_message, summary.slowest_cpu_ns);
                warn!(
                    actors = kind,
                    slow_handled, max_ns, message, cpu_ns, "handlers took longer than 500 µs"
                );
            }
        }
    }
}

/// Slow handlers of a kind within a look that are worth a line.
const SLOW_PER_LOOK: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Views are counted together, whatever their number.
    #[test]
    fn kinds() {
        assert_eq!(kind_of("query-17"), "query");
        assert_eq!(kind_of("coordinator"), "coordinator");
        assert_eq!(kind_of("source-ebpf"), "source-ebpf");
    }
}
