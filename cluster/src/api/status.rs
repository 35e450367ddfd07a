//! What something of the server is, told to who asked over the websocket whenever it changes: the page's alerts and
//! sinks. The newest counts; who reads slowly misses what was in between.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::service::{Happened, Offer, Outbox, Outgoing, Service};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// A text is told to whoever looks within this.
const FRESH: Duration = Duration::from_millis(400);
/// What has not changed is said again after so many looks, as a sign of life.
const AGAIN_LOOKS: u32 = 20;
/// Alerts that are shown; how many there are is said.
const ALERTS_MAX: usize = 1_000;
/// Of what has happened, the newest.
const HISTORY_MAX: usize = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StatusOf {
    Alerts,
    Sinks,
}

impl StatusOf {
    fn name(self) -> &'static str {
        match self {
            StatusOf::Alerts => "alerts",
            StatusOf::Sinks => "sinks",
        }
    }

    async fn now(self, service: &Service) -> Option<Json> {
        match self {
            StatusOf::Sinks => Some(json!({ "sinks": service.sinks.rows() })),
            StatusOf::Alerts => alerts(service).await,
        }
    }

    /// The same as a text, made once for all who ask at about the same time.
    async fn text(self, service: &Service) -> Option<Arc<str>> {
        let shared = match self {
            StatusOf::Alerts => &service.alerts_text,
            StatusOf::Sinks => &service.sinks_text,
        };
        shared.get(FRESH, async || Some(self.now(service).await?.to_string())).await
    }
}

async fn alerts(service: &Service) -> Option<Json> {
    let mut shown = service.alerts.shown().await?;
    let history = service.alerts.history().await?;
    let total = shown.alerts.len();
    shown.alerts.truncate(ALERTS_MAX);
    // It goes on with every tick; that alone is no news.
    shown.rules.iter_mut().for_each(|rule| rule.evaluated_at = None);
    let newest = history.iter().rev().take(HISTORY_MAX);
    let mut value = shown.json();
    value["alerts_total"] = json!(total);
    value["history"] = newest.map(Happened::json).collect();
    Some(value)
}

/// Until the outbox's reader is gone.
pub(super) async fn tell_status(service: &Service, of: StatusOf, outbox: &Outbox) {
    let mut last: Option<Arc<str>> = None;
    let mut looks = 0;
    loop {
        if let Some(value) = of.text(service).await {
            looks += 1;
            if last.as_ref() != Some(&value) || looks > AGAIN_LOOKS {
                let message = Outgoing::Status { of: of.name(), value: Arc::clone(&value) };
                match outbox.offer(&message) {
                    Offer::Taken => (last, looks) = (Some(value), 0),
                    Offer::Full => {}
                    Offer::Gone => return,
                }
            }
        }
        actix_web::rt::time::sleep(LOOK).await;
    }
}
