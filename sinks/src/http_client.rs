//! POSTs to a receiver, for all that is told by HTTP: sinks and receivers of alerts. What an answer means is the
//! contract's: 400, 413 and 422 are about what was sent; everything else that is no success is tried again, when
//! the other end says so if it does. No secret of the configuration is in what it says.

use std::time::Duration;

use ureq::http::Response;
use ureq::{Agent, Body};

use crate::secrets;
use crate::sink::SinkError;

/// What is read of an answer, to be shown.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Moved for now (307, 308): followed so often.
const REDIRECTS_MAX: usize = 3;

/// Where it goes, and who says so.
#[derive(Clone)]
pub struct Target {
    pub url: String,
    /// Sent along.
    pub headers: Vec<(String, String)>,
    /// One attempt takes no longer, its answer included.
    pub timeout: Duration,
    /// What stands in no message.
    pub secrets: Vec<String>,
}

pub struct Client {
    agent: Agent,
    target: Target,
}

/// `scheme://host` of a URL.
#[must_use]
pub fn origin(url: &str) -> Option<&str> {
    let from = url.find("://")? + 3;
    let end = url[from..].find(['/', '?', '#']).map_or(url.len(), |end| from + end);
    Some(&url[..end])
}

impl Client {
    #[must_use]
    pub fn new(target: Target) -> Client {
        let agent: Agent = Agent::config_builder()
            .timeout_global(Some(target.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build()
            .into();
        Client { agent, target }
    }

    fn said(&self, text: &str) -> String {
        secrets::line(text, &self.target.secrets)
    }

    /// Posts to the target's URL.
    ///
    /// # Errors
    /// It did not arrive, or the answer is no success.
    pub fn post(&self, content_type: &str, body: &[u8]) -> Result<(), SinkError> {
        self.post_to(&self.target.url, content_type, body)
    }

    /// Posts to another URL of the target.
    ///
    /// # Errors
    /// It did not arrive, or the answer is no success.
    pub fn post_to(&self, url: &str, content_type: &str, body: &[u8]) -> Result<(), SinkError> {
        let answer = self.attempt(url, content_type, body)?;
        self.judged(answer)
    }

    /// One attempt, and those that its answer leads to.
    fn attempt(
        &self,
        url: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<Response<Body>, SinkError> {
        let mut url = url.to_string();
        let own = origin(&self.target.url);
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self.agent.post(&url).header("content-type", content_type);
            // Elsewhere nobody is told who we are.
            let is_own = own == origin(&url);
            for (name, value) in self.target.headers.iter().filter(|_| is_own) {
                request = request.header(name, value);
            }
            let answer = request
                .send(body)
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
