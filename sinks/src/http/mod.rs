//! Elements to a webhook: each batch one POST, a JSON array or an object a line. What an answer means is the
//! contract's: 400, 413 and 422 are about what was sent, and of a single element for good; everything else
//! that is no success is tried again, when the other end says so if it does. No secret of the configuration
//! is in what it says.

#[cfg(test)]
mod tests;

use std::time::Duration;

use ureq::http::Response;
use ureq::{Agent, Body};

use crate::element::{Element, Op};
use crate::encode;
use crate::sink::{SinkError, Writer};

/// What is read of an answer, to be shown.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
const SHOWN_CHARS: usize = 200;
/// Moved for now (307, 308): followed so often.
const REDIRECTS_MAX: usize = 3;
/// Shorter texts are no secrets, and would spoil every message.
const SECRET_BYTES_MIN: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Array,
    Lines,
}

#[derive(Clone)]
pub struct HttpConfig {
    pub url: String,
    pub framing: Framing,
    /// Sent along.
    pub headers: Vec<(String, String)>,
    /// One attempt takes no longer, its answer included.
    pub timeout: Duration,
    /// What stands in no message.
    pub secrets: Vec<String>,
}

pub struct HttpSink {
    agent: Agent,
    config: HttpConfig,
}

/// `scheme://host` of a URL.
fn origin(url: &str) -> Option<&str> {
    let from = url.find("://")? + 3;
    let end = url[from..].find(['/', '?', '#']).map_or(url.len(), |end| from + end);
    Some(&url[..end])
}

impl HttpSink {
    #[must_use]
    pub fn new(config: HttpConfig) -> HttpSink {
        let agent: Agent = Agent::config_builder()
            .timeout_global(Some(config.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build()
            .into();
        HttpSink { agent, config }
    }

    fn text(&self, batch: &[&Element]) -> String {
        let leaving = batch.iter().filter(|element| element.op != Op::Progress);
        let mut text = String::new();
        let is_array = self.config.framing == Framing::Array;
        for element in leaving {
            if is_array {
                text.push(if text.is_empty() { '[' } else { ',' });
                encode::push_json(&mut text, element);
            } else {
                encode::push_json(&mut text, element);
                text.push('\n');
            }
        }
        if is_array && !text.is_empty() {
            text.push(']');
        }
        text
    }

    /// One attempt, and those that its answer leads to.
    fn post(&self, text: &str) -> Result<Response<Body>, SinkError> {
        let mut url = self.config.url.clone();
        let own = origin(&self.config.url).map(str::to_string);
        let content = match self.config.framing {
            Framing::Array => "application/json",
            Framing::Lines => "application/x-ndjson",
        };
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self.agent.post(&url).header("content-type", content);
            // Elsewhere nobody is told who we are.
            let is_own = own.as_deref() == origin(&url);
            for (name, value) in self.config.headers.iter().filter(|_| is_own) {
                request = request.header(name, value);
            }
            let answer = request
                .send(text)
                .map_err(|error| SinkError::Retry(self.said(&error.to_string())))?;
            if !matches!(answer.status().as_u16(), 307 | 308) {
                return Ok(answer);
            }
            let location = answer.headers().get("location").and_then(|to| to.to_str().ok());
            let Some(location) = location else { return Ok(answer) };
            url = match (location.starts_with('/'), origin(&url)) {
                (true, Some(origin)) => format!("{origin}{location}"),
                _ => location.to_string(),
            };
        }
        Err(SinkError::Retry("it is redirected again and again".to_string()))
    }

    /// Without secrets, in one line.
    fn said(&self, text: &str) -> String {
        let mut text = text.to_string();
        for secret in self.config.secrets.iter().filter(|it| it.len() >= SECRET_BYTES_MIN) {
            text = text.replace(secret.as_str(), "***");
        }
        let short: String = text.chars().take(SHOWN_CHARS).collect();
        weir_types::text::line(&short).into_owned()
    }

    fn judged(&self, mut answer: Response<Body>) -> Result<(), SinkError> {
        let status = answer.status().as_u16();
        let after = answer.headers().get("retry-after").and_then(|after| after.to_str().ok());
        let after = after.and_then(|after| after.trim().parse().ok()).map(Duration::from_secs);
        // Read to its end, so that the connection is used again.
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        if (200..300).contains(&status) {
            return Ok(());
        }
        let text = self.said(&format!("HTTP {status}: {}", body.unwrap_or_default().trim()));
        Err(match (status, after) {
            (400 | 413 | 422, _) => SinkError::Unfit(text),
            (_, Some(after)) => SinkError::RetryAfter(text, after),
            (_, None) => SinkError::Retry(text),
        })
    }
}

impl Writer for HttpSink {
    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        let text = self.text(batch);
        if !text.is_empty() {
            let answer = self.post(&text)?;
            self.judged(answer)?;
        }
        *safe = batch.len();
        Ok(())
    }
}
