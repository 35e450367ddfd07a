//! How notices leave: to an Alertmanager, a webhook, Slack and its like, or by mail. One attempt within a time,
//! judged as sinks' are. No secret of the configuration is in what it says.

use std::time::Duration;

use lettre::transport::smtp::authentication::Credentials;
use lettre::{SmtpTransport, Transport};
use weir_rules::notify::mail::Envelope;
use weir_rules::notify::{alertmanager, mail, slack, webhook};
use weir_rules::state::Notice;
use weir_sinks::http_client::{Client, Target};
use weir_sinks::secrets::{self, shown_place, shown_url};
use weir_sinks::sink::SinkError;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// Where mail goes.
#[derive(Clone)]
pub struct MailTo {
    /// `smtp://HOST:PORT` (TLS if the server has it), `smtps://HOST:PORT` (from the first byte).
    pub url: String,
    pub envelope: Envelope,
    pub from: String,
    pub to: Vec<String>,
    pub user: Option<(String, String)>,
    pub timeout: Duration,
}

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
                mails.iter().try_for_each(|mail| send_mail(to, mail))
            }
        }
    }
}

fn send_mail(to: &MailTo, bytes: &[u8]) -> Result<(), SinkError> {
    let password: Vec<String> = to.user.iter().map(|(_, password)| password.clone()).collect();
    let said = |text: String| secrets::line(&text, &password);
    let retry = |text: String| SinkError::Retry(said(text));
    let address = |text: &str| text.parse().map_err(|_| retry(format!("{text:?} is no address")));
    let recipients = to.to.iter().map(|one| address(one)).collect::<Result<Vec<_>, _>>()?;
    let envelope = lettre::address::Envelope::new(Some(address(&to.from)?), recipients);
    let envelope = envelope.map_err(|error| retry(error.to_string()))?;
    // A password goes nowhere in clear.
    let tls = if to.user.is_some() { "required" } else { "opportunistic" };
    let url = match to.url.strip_prefix("smtp://") {
        Some(host) => format!("smtp://{}?tls={tls}", host.trim_end_matches('/')),
        None => to.url.clone(),
    };
    let transport = SmtpTransport::from_url(&url).map_err(|error| retry(error.to_string()))?;
    let mut transport = transport.timeout(Some(to.timeout));
    if let Some((user, password)) = &to.user {
        transport = transport.credentials(Credentials::new(user.clone(), password.clone()));
    }
    let sent = transport.build().send_raw(&envelope, bytes);
    sent.map(drop).map_err(|error| match error.status().map(u16::from) {
        // Too large, or refused for what is in it; of all else the other end may think better.
        Some(552 | 554) => SinkError::Unfit(said(error.to_string())),
        _ => retry(error.to_string()),
    })
}
