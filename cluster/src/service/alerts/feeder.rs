//! One rule's view: follows it as a reader like any other and hands what is delivered to the owner of the rules.
//! While that is busy nothing is taken, and the view keeps one net change.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use weir_rules::state::RuleId;
use weir_sinks::delivery::Delivery;

use crate::planner::{ScriptRequest, no_source_text, wanted_output};
use crate::service::{Installable, OutboxReader, Outgoing, Service, Subscribe, Wanted, prepare};

/// Waits between attempts to follow a view: from this, doubling, to that.
const RETRY_FIRST: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 500 });
const RETRY_MAX: Duration = Duration::from_secs(30);
/// An alert is not to wait for a long window's refresh of a second.
pub const RULE_REFRESH_MS: u64 = 200;

/// What a feeder tells the owner of the rules.
pub(super) struct Said {
    pub(super) rule: RuleId,
    /// Of a feeder that was replaced nothing is heard any more.
    pub(super) feeder: u64,
    pub(super) what: What,
}

pub(super) enum What {
    /// The first of a subscription is the snapshot's first part.
    Delivery { is_first: bool, delivery: Arc<Delivery> },
    /// It has no view just now, and why.
    Waits(String),
    /// It never will, as it is.
    Failed(String),
}

pub(super) struct Feeder {
    pub(super) service: Service,
    pub(super) rule: RuleId,
    pub(super) number: u64,
    pub(super) request: ScriptRequest,
    pub(super) said: mpsc::Sender<Said>,
    /// All rows are wanted anew.
    pub(super) again: Arc<Notify>,
    /// When the rule has to be judged though no row changes.
    pub(super) due_ms: Arc<AtomicU64>,
}

/// Why a subscription ended.
enum Ended {
    /// Its rows are wanted anew.
    Asked,
    View(String),
    Failed(String),
    /// The owner is gone.
    Alone,
}

impl Feeder {
    pub(super) async fn run(self) {
        let mut wait = RETRY_FIRST;
        loop {
            let mut got = false;
            let ended = self.follow(&mut got).await;
            // Whoever asks for all rows again and again gets them at leisure.
            if got && !matches!(ended, Ended::Asked) {
                wait = RETRY_FIRST;
            }
            let told = match ended {
                Ended::Asked => true,
                Ended::View(why) => self.say(What::Waits(why)).await,
                // Tables of tracepoints and the like may come: it is tried again, at leisure.
                Ended::Failed(why) => {
                    wait = RETRY_MAX;
                    self.say(What::Failed(why)).await
                }
                Ended::Alone => false,
            };
            if !told {
                return;
            }
            actix::clock::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    async fn say(&self, what: What) -> bool {
        let said = Said { rule: self.rule, feeder: self.number, what };
        self.said.send(said).await.is_ok()
    }

    async fn installable(&self) -> Result<Installable, Ended> {
        let prepared = prepare(&self.service, &self.request, Wanted::Live).await;
        let mut installable = prepared.map_err(|error| match error.is_final() {
            true => Ended::Failed(error.text()),
            false => Ended::View(error.text()),
        })?;
        let prepared = &mut installable.prepared;
        if let Some((_, table)) = prepared.without_source.first() {
            return Err(Ended::View(format!("no_source: {}", no_source_text(table))));
        }
        if !prepared.plan.reads_now() {
            let tick_ms = self.service.tick_ms.max(1);
            let refresh_ms = RULE_REFRESH_MS.div_ceil(tick_ms) * tick_ms;
            prepared.refresh_ms = prepared.refresh_ms.min(refresh_ms);
        }
        Ok(installable)
    }

    async fn follow(&self, got: &mut bool) -> Ended {
        let installable = match self.installable().await {
            Ok(installable) => installable,
            Err(ended) => return ended,
        };
        if let Err(why) = wanted_output(&installable.prepared.outputs, None) {
            return Ended::Failed(why);
        }
        let reader = OutboxReader::new(&self.service.readers);
        let outbox = Arc::clone(&reader.outbox);
        outbox.waits_for(Arc::clone(&self.due_ms));
        let wanted = Wanted::Live;
        // Whoever configured it has asked for it.
        let accepts_cost = true;
        let subscribe = Subscribe { installable, outbox, wanted, since: None, accepts_cost };
        match self.service.coordinator.send(subscribe).await {
            Ok(Ok(_)) => {}
            Ok(Err(refusal)) => return Ended::View(refusal.message),
            Err(error) => return Ended::View(error.to_string()),
        }
        let mut why = "its view ended".to_string();
        loop {
            let message = tokio::select! {
                biased;
                () = self.again.notified() => return Ended::Asked,
                message = std::future::poll_fn(|cx| reader.poll(cx)) => message,
            };
            match message {
                None => return Ended::View(why),
                Some(Outgoing::Delivery(delivery)) => {
                    let is_first = !std::mem::replace(got, true);
                    if !self.say(What::Delivery { is_first, delivery }).await {
                        return Ended::Alone;
                    }
                }
                Some(Outgoing::Error(note)) => why = format!("{}: {}", note.code, note.message),
                Some(Outgoing::Schema(_) | Outgoing::Status { .. } | Outgoing::End(_)) => {}
            }
        }
    }
}
