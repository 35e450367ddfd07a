//! How notices leave: to an Alertmanager, a webhook, Slack and its like, or by mail. One attempt within a time,
//! judged as sinks' are. No secret of the configuration is in what it says.

use weir_rules::notify::{alertmanager, mail, slack, webhook};
use weir_rules::state::Notice;
use weir_sinks::http_client::{Client, Target};
use weir_sinks::secrets::{shown_place, shown_url};
use weir_sinks::sink::SinkError;

use super::mail::{MailTo, send};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// A receiver as it is configured.
#[derive(Clone)]
pub enum Sender {
    Alertmanager(Target),
    Webhook { to: Target, external_url: String },
    Slack(Target),
    Smtp(MailTo),
}

impl Sender {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Sender::Alertmanager(_) => "alertmanager",
            Sender::Webhook { .. } => "webhook",
            Sender::Slack(_) => "slack",
            Sender::Smtp(_) => "smtp",
        }
    }

    /// It is told what is, again and again, and not what has happened.
    pub(super) fn is_state(&self) -> bool {
        matches!(self, Sender::Alertmanager(_))
    }

    /// Where to, without paths, which may be secrets, and without users.
    pub(super) fn shown(&self) -> String {
        let url = match self {
            Sender::Alertmanager(to) | Sender::Webhook { to, .. } | Sender::Slack(to) => &to.url,
            Sender::Smtp(to) => &to.url,
        };
        match self {
            // Its page would be below a path, if there is one.
            Sender::Alertmanager(_) => shown_place(url),
            _ => shown_url(url).0,
        }
    }

    pub(super) fn open(&self, name: &str) -> Post {
        let way = match self.clone() {
            Sender::Alertmanager(to) => {
                let url = format!("{}/api/v2/alerts", to.url.trim_end_matches('/'));
                Way::Alertmanager { client: Client::new(to), url }
            }
            Sender::Webhook { to, external_url } => {
                Way::Webhook { client: Client::new(to), external_url }
            }
            Sender::Slack(to) => Way::Slack(Client::new(to)),
            Sender::Smtp(to) => Way::Smtp(to),
        };
        Post { name: name.to_string(), way }
    }
}

pub(super) struct Post {
    name: String,
    way: Way,
}

/// As [`Sender`], opened.
enum Way {
    Alertmanager { client: Client, url: String },
    Webhook { client: Client, external_url: String },
    Slack(Client),
    Smtp(MailTo),
}

impl Post {
    pub(super) fn batch_max(&self) -> usize {
        match self.way {
            Way::Alertmanager { .. } => alertmanager::BATCH_ALERTS_MAX,
            _ => webhook::ALERTS_MAX,
        }
    }

    /// Its messages are of one alert's name each.
    pub(super) fn is_by_name(&self) -> bool {
        !matches!(self.way, Way::Alertmanager { .. })
    }

    /// One attempt with all of them.
    pub(super) fn send(&self, notices: &[Notice], now_unix_ns: i64) -> Result<(), SinkError> {
        match &self.way {
            Way::Alertmanager { client, url } => {
                client.post_to(url, &JSON, &alertmanager::body(notices)).map(drop)
            }
            Way::Webhook { client, external_url } => {
                let bodies = webhook::bodies(&self.name, external_url, notices);
                bodies.iter().try_for_each(|body| client.post(&JSON, body).map(drop))
            }
            Way::Slack(client) => slack::bodies(notices)
                .iter()
                .try_for_each(|body| client.post(&JSON, body).map(drop)),
            Way::Smtp(to) => {
                let mails = mail::mails(&to.envelope, notices, now_unix_ns);
                send(to, &mails)
            }
        }
    }
}
