//! When the owner of the rules tells what there is to be told, and what is written down before. Many rules may have
//! news within one tick: each save is of all states, so news that come while the last save is recent wait for a moment
//! and go together.

use std::sync::Arc;
use std::time::Duration;

use actix::clock::Instant;
use tracing::{error, info};
use weir_rules::state::Notice;

use super::{Owner, SAVE_EVERY};
use crate::service::alerts::saved::State;

/// News wait for others for so long at most, and for a few times what it takes to write states down: most of the time
/// is the rules'.
const NEWS_WAIT_MAX: Duration = Duration::from_millis(250);
const NEWS_WAIT_SAVES: u32 = 3;

impl Owner<'_> {
    /// Until there is something to do without being asked.
    pub(super) fn wait(&self) -> Duration {
        let now_unix_ns = self.service.clock.now_unix_ns();
        let next = self.set.next_unix_ns().map_or(i64::MAX, |at| at.saturating_sub(now_unix_ns));
        let next = Duration::from_nanos(u64::try_from(next).unwrap_or(0)).max(self.news_wait());
        let save = if self.has_changed { self.save_wait() } else { SAVE_EVERY };
        next.min(save)
    }

    /// Changes are written down at once, unless that takes long: then for a tenth of the time at most.
    fn save_wait(&self) -> Duration {
        (self.save_cost * 10).min(SAVE_EVERY).saturating_sub(self.saved_at.elapsed())
    }

    /// Until news may be told: those that are alone at once.
    fn news_wait(&self) -> Duration {
        let wait = (self.save_cost * NEWS_WAIT_SAVES).min(NEWS_WAIT_MAX);
        wait.saturating_sub(self.saved_at.elapsed())
    }

    /// True once a second if time counts, and was not written down meanwhile.
    fn is_time(&mut self) -> bool {
        if self.saved_at.max(self.looked_at).elapsed() < SAVE_EVERY {
            return false;
        }
        self.looked_at = Instant::now();
        self.set.is_waiting()
    }

    /// What is due is kept first, and then told: who begins anew knows what was told.
    pub(super) fn tell(&mut self) {
        self.tell_if(self.news_wait().is_zero());
    }

    fn tell_if(&mut self, may: bool) {
        let now_unix_ns = self.service.clock.now_unix_ns();
        let due = may && self.set.next_unix_ns().is_some_and(|at| at <= now_unix_ns);
        let notices = if due { self.set.due(now_unix_ns) } else { Vec::new() };
        let has_news = notices.iter().any(Notice::is_news);
        let notices: Vec<Arc<Notice>> = notices.into_iter().map(Arc::new).collect();
        let is_changed = self.has_changed && self.save_wait().is_zero();
        if has_news || is_changed || self.is_time() {
            self.save_with(&notices, has_news);
        }
        for receiver in &self.kept.receivers {
            let wanted = notices.iter().filter(|it| receiver.is_state() || it.is_news());
            receiver.queue.push(wanted.cloned());
        }
    }

    /// News that wait are told, since who begins anew takes them for told; all is written down.
    pub(super) fn end(&mut self) {
        self.tell_if(true);
        self.save_with(&[], true);
    }

    /// With what is about to be told.
    fn save_with(&mut self, notices: &[Arc<Notice>], with_history: bool) {
        let begun = Instant::now();
        let told_once = self.kept.receivers.iter().filter(|receiver| !receiver.is_state());
        let queues = told_once.map(|receiver| {
            let mut waiting = receiver.queue.waiting();
            waiting.extend(notices.iter().filter(|notice| notice.is_news()).cloned());
            (receiver.name.clone(), waiting)
        });
        let state = State { rules: self.set.save(), queues: queues.collect() };
        let saved = self.kept.stores.state.keep(&state);
        if with_history {
            self.save_history();
        }
        (self.has_changed, self.saved_at) = (false, Instant::now());
        self.save_cost = begun.elapsed();
        match saved {
            Ok(bytes) => {
                self.state_bytes = bytes;
                self.state_error.clear();
            }
            Err(why) => {
                self.kept.state_errors += 1;
                if self.state_error.is_empty() {
                    error!(why, "the alerts' state could not be kept: a restart would tell again");
                }
                self.state_error = why;
            }
        }
    }

    pub(super) fn save_history(&mut self) {
        if !std::mem::take(&mut self.history.is_changed) {
            return;
        }
        if let Err(why) = self.kept.stores.history.keep(&self.history.items()) {
            self.kept.state_errors += 1;
            info!(why, "what happened to alerts could not be kept");
        }
    }
}
