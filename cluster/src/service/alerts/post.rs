//! How notices leave: to an Alertmanager, a webhook, Slack and its like, or by mail. One attempt within a time,
//! judged by the contract: 400, 413 and 422 are about what was sent, everything else that is no success is tried
//! again. No secret of the configuration is in what it says.

use std::time::Duration;

use lettre::transport::smtp::authentication::Credentials;
use lettre::{SmtpTransport, Transport};
use ureq::Agent;
use weir_rules::notify::mail::Envelope;
use weir_rules::notify::{alertmanager, mail, slack, webhook};
use weir_rules::state::Notice;

/// What is read of an answer, to be shown.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
const SHOWN_CHARS: usize = 200;
/// Moved for now (307, 308): followed so often.
const REDIRECTS_MAX: usize = 3;
/// Shorter texts are no secrets, and would spoil every message.
const SECRET_BYTES_MIN: usize = 4;

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SendError {
    /// Later, after this long if the other end says so.
    Retry(String, Option<Duration>),
    /// It is about what was sent.
    Unfit(String),
}

/// Where HTTP goes, and with what.
#[derive(Clone)]
pub struct HttpTo {
    pub url: String,
    pub headers: Vec<(String, String)>,
    /// One attempt takes no longer, its answer included.
    pub timeout: Duration,
    /// What stands in no message.
    pub secrets: Vec<String>,
}

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
    Alertmanager(HttpTo),
    Webhook { to: HttpTo, external_url: String },
    Slack(HttpTo),
    Smtp(MailTo),
}

/// `scheme://host` of a URL.
fn origin(url: &str) -> &str {
    let from = url.find("://").map_or(0, |at| at + 3);
    let end = url[from..].find(['/', '?', '#']).map_or(url.len(), |end| from + end);
    &url[..end]
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
        let origin = origin(url);
        match origin.rsplit_once('@') {
            Some((scheme, host)) => {
                let scheme = scheme.find("://").map_or("", |at| &scheme[..at + 3]);
                format!("{scheme}{host}")
            }
            None => origin.to_string(),
        }
    }

    pub(super) fn open(&self, name: &str) -> Post {
        let timeout = match self {
            Sender::Alertmanager(to) | Sender::Webhook { to, .. } | Sender::Slack(to) => to.timeout,
            Sender::Smtp(to) => to.timeout,
        };
        let agent: Agent = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build()
            .into();
        Post { name: name.to_string(), sender: self.clone(), agent }
    }
}

pub(super) struct Post {
    name: String,
    sender: Sender,
    agent: Agent,
}

impl Post {
    pub(super) fn batch_max(&self) -> usize {
        match self.sender {
            Sender::Alertmanager(_) => alertmanager::BATCH_ALERTS_MAX,
            _ => webhook::ALERTS_MAX,
        }
    }

    /// Its messages are of one alert's name each.
    pub(super) fn is_by_name(&self) -> bool {
        !self.sender.is_state()
    }

    /// One attempt with all of them.
    pub(super) fn send(&self, notices: &[Notice], now_unix_ns: i64) -> Result<(), SendError> {
        match &self.sender {
            Sender::Alertmanager(to) => {
                let url = format!("{}/api/v2/alerts", to.url.trim_end_matches('/'));
                self.post(to, url, &alertmanager::body(notices))
            }
            Sender::Webhook { to, external_url } => {
                let bodies = webhook::bodies(&self.name, external_url, notices);
                bodies.iter().try_for_each(|body| self.post(to, to.url.clone(), body))
            }
            Sender::Slack(to) => {
                let bodies = slack::bodies(notices);
                bodies.iter().try_for_each(|body| self.post(to, to.url.clone(), body))
            }
            Sender::Smtp(to) => {
                let mails = mail::mails(&to.envelope, notices, now_unix_ns);
                mails.iter().try_for_each(|mail| send_mail(to, mail))
            }
        }
    }

    fn post(&self, to: &HttpTo, mut url: String, body: &[u8]) -> Result<(), SendError> {
        let own = origin(&url).to_string();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self.agent.post(&url).header("content-type", "application/json");
            // Elsewhere nobody is told who we are.
            for (name, value) in to.headers.iter().filter(|_| origin(&url) == own) {
                request = request.header(name, value);
            }
            let answer = request
                .send(body)
                .map_err(|error| SendError::Retry(said(to, &error.to_string()), None))?;
            let location = answer.headers().get("location").and_then(|to| to.to_str().ok());
            let (true, Some(location)) = (matches!(answer.status().as_u16(), 307 | 308), location)
            else {
                return judged(to, answer);
            };
            url = match location.starts_with('/') {
                true => format!("{}{location}", origin(&url)),
                false => location.to_string(),
            };
        }
        Err(SendError::Retry("it is redirected again and again".to_string(), None))
    }
}

/// Without secrets, in one line.
fn said(to: &HttpTo, text: &str) -> String {
    let mut text = text.to_string();
    for secret in to.secrets.iter().filter(|it| it.len() >= SECRET_BYTES_MIN) {
        text = text.replace(secret.as_str(), "***");
    }
    let short: String = text.chars().take(SHOWN_CHARS).collect();
    weir_types::text::line(&short).into_owned()
}

fn judged(to: &HttpTo, mut answer: ureq::http::Response<ureq::Body>) -> Result<(), SendError> {
    let status = answer.status().as_u16();
    let after = answer.headers().get("retry-after").and_then(|after| after.to_str().ok());
    let after = after.and_then(|after| after.trim().parse().ok()).map(Duration::from_secs);
    // Read to its end, so that the connection is used again.
    let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    if (200..300).contains(&status) {
        return Ok(());
    }
    let text = said(to, &format!("HTTP {status}: {}", body.unwrap_or_default().trim()));
    match status {
        400 | 413 | 422 => Err(SendError::Unfit(text)),
        _ => Err(SendError::Retry(text, after)),
    }
}

fn send_mail(to: &MailTo, bytes: &[u8]) -> Result<(), SendError> {
    let said = |text: String| {
        let text = match &to.user {
            Some((_, password)) if password.len() >= SECRET_BYTES_MIN => {
                text.replace(password.as_str(), "***")
            }
            _ => text,
        };
        weir_types::text::line(&text.chars().take(SHOWN_CHARS).collect::<String>()).into_owned()
    };
    let retry = |text: String| SendError::Retry(said(text), None);
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
        Some(552 | 554) => SendError::Unfit(said(error.to_string())),
        _ => retry(error.to_string()),
    })
}
