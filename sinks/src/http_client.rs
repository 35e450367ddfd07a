//! Requests to a receiver, POSTs most of them, for all that is told by HTTP: sinks and receivers of alerts. What an
//! answer means is the contract's: 400, 413 and 422 are about what was sent; everything else that is no success is tried
//! again, when the other end says so if it does. No secret of the configuration is in what it says.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use ureq::http::Response;
use ureq::{Agent, Body, RequestBuilder};
use weir_types::{Clock, WallClock};

use crate::secrets;
use crate::sink::SinkError;
use crate::tls::Tls;

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
    pub tls: Tls,
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

/// A URL as it is sent: what may stand in none is percent-encoded, byte for byte, and so is a `#`; what is encoded stays.
///
/// # Errors
/// It has a line end, which is more likely to be none of it, or no host.
pub fn written(url: &str) -> Result<String, String> {
    if url.chars().any(char::is_control) {
        return Err(
            "`url` has a line end or another control character: one that belongs to it is written \
                    as %0A, say"
                .to_string(),
        );
    }
    let (host, rest) = url.split_at(origin(url).map_or(url.len(), str::len));
    if host.contains(|c: char| c == ' ' || "\"<>\\^`{|}".contains(c)) {
        return Err("the host of `url` has a character that no host has".to_string());
    }
    // A fragment is never sent: what looks like one belongs to the path, or to what is asked.
    let stays = |c: char| c.is_ascii_graphic() && !"#\"<>\\^`{|}".contains(c);
    let root = if rest.starts_with('#') { "/" } else { "" };
    Ok(format!("{host}{root}{}", percent_encoded(rest, stays)))
}

/// A part of a URL that means just this text.
pub(crate) fn escaped(text: &str) -> String {
    percent_encoded(text, |c| c.is_ascii_alphanumeric() || "-._~".contains(c))
}

/// A text as a URL has it; `stays`: characters that are written as they are.
fn percent_encoded(text: &str, stays: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if stays(c) {
            out.push(c);
            continue;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Name and port.
fn address_of(url: &str) -> Option<(&str, u16)> {
    let (scheme, host) = origin(url)?.split_once("://")?;
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let port = if scheme == "https" { 443 } else { 80 };
    match host.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            let port = rest.strip_prefix(':').map_or(Some(port), |port| port.parse().ok());
            Some((host, port?))
        }
        None => match host.split_once(':') {
            Some((host, port)) => Some((host, port.parse().ok()?)),
            None => Some((host, port)),
        },
    }
}

/// The value of `Authorization` for a user and a password.
#[must_use]
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// What `Retry-After` asks for: seconds, or a time of day.
fn asked_wait(header: &str) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = OffsetDateTime::parse(header, &Rfc2822).ok()?.unix_timestamp();
    let now = WallClock.now_unix_ns() / 1_000_000_000;
    Some(Duration::from_secs(u64::try_from(until - now).unwrap_or(0)))
}

/// A method, with what goes along.
enum Asked<'a> {
    Post(&'a [u8]),
    Put(&'a [u8]),
    Get,
}

fn with<B>(mut request: RequestBuilder<B>, headers: &[(&str, &str)]) -> RequestBuilder<B> {
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
}

impl Client {
    #[must_use]
    pub fn new(target: Target) -> Client {
        let agent: Agent = Agent::config_builder()
            .timeout_global(Some(target.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .tls_config(target.tls.of_http())
            .build()
            .into();
        Client { agent, target }
    }

    pub(crate) fn url(&self) -> &str {
        &self.target.url
    }

    pub(crate) fn said(&self, text: &str) -> String {
        secrets::line(text, &self.target.secrets)
    }

    /// Somebody listens at the target's address. More is not asked: what a GET would do there nobody knows.
    ///
    /// # Errors
    /// Nobody does.
    pub fn reach(&self) -> Result<(), SinkError> {
        let failed = |text: &str| SinkError::Retry(self.said(text));
        let address =
            address_of(&self.target.url).ok_or_else(|| failed("its URL has no address"))?;
        let mut last = std::io::Error::other("its name has no address");
        let unresolved = |error: std::io::Error| failed(&format!("could not connect: {error}"));
        for address in address.to_socket_addrs().map_err(unresolved)? {
            match TcpStream::connect_timeout(&address, self.target.timeout) {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(failed(&format!("could not connect: {last}")))
    }

    /// Posts to the target's URL; what a success is answered with.
    ///
    /// # Errors
    /// It did not arrive, or the answer is no success.
    pub fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<u8>, SinkError> {
        self.post_to(&self.target.url, headers, body)
    }

    /// Posts to another URL of the target.
    ///
    /// # Errors
    /// It did not arrive, or the answer is no success.
    pub fn post_to(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Vec<u8>, SinkError> {
        let answer = self.attempt(&Asked::Post(body), url, headers)?;
        self.judged(answer)
    }

    /// Puts something at a URL of the target.
    pub(crate) fn put_to(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Vec<u8>, SinkError> {
        let answer = self.attempt(&Asked::Put(body), url, headers)?;
        self.judged(answer)
    }

    /// What is at a URL of the target, as far as it is short.
    pub(crate) fn get_from(&self, url: &str) -> Result<Vec<u8>, SinkError> {
        let answer = self.attempt(&Asked::Get, url, &[])?;
        self.judged(answer)
    }

    /// One attempt, and those that its answer leads to.
    fn attempt(
        &self,
        asked: &Asked<'_>,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Body>, SinkError> {
        let mut url = url.to_string();
        let own = origin(&self.target.url);
        for _ in 0..=REDIRECTS_MAX {
            // Elsewhere nobody is told who we are.
            let is_own = own == origin(&url);
            let who = self.target.headers.iter().filter(|_| is_own);
            let who = who.map(|(name, value)| (name.as_str(), value.as_str()));
            let headers: Vec<_> = headers.iter().copied().chain(who).collect();
            let answer = match asked {
                Asked::Post(body) => with(self.agent.post(&url), &headers).send(*body),
                Asked::Put(body) => with(self.agent.put(&url), &headers).send(*body),
                Asked::Get => with(self.agent.get(&url), &headers).call(),
            };
            let answer = answer.map_err(|error| SinkError::Retry(self.said(&error.to_string())))?;
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

    fn judged(&self, mut answer: Response<Body>) -> Result<Vec<u8>, SinkError> {
        let status = answer.status().as_u16();
        let after = answer.headers().get("retry-after").and_then(|after| after.to_str().ok());
        let after = after.and_then(asked_wait);
        // Read to its end, so that the connection is used again.
        let said = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let said = said.map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => {
                format!("its answer is longer than {ANSWER_BYTES_MAX} bytes")
            }
            error => format!("its answer could not be read: {error}"),
        });
        let said = match (said, status) {
            // What it says decides whether it is a success: not read, nobody knows.
            (Ok(said), 200..300) => return Ok(said),
            (Ok(said), _) => String::from_utf8_lossy(&said).into_owned(),
            (Err(why), _) => why,
        };
        let text = self.said(&format!("HTTP {status}: {}", said.trim()));
        Err(match (status, after) {
            (400 | 413 | 422, _) => SinkError::Unfit(text),
            (_, Some(after)) => SinkError::RetryAfter(text, after),
            (_, None) => SinkError::Retry(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it is reached, is read from a URL in all its forms.
    #[test]
    fn urls_have_addresses() {
        for (url, wanted) in [
            ("http://a/b:9", Some(("a", 80))),
            ("https://u:p@a.b?x", Some(("a.b", 443))),
            ("http://a:81/", Some(("a", 81))),
            ("http://[::1]:82/", Some(("::1", 82))),
            ("https://[::1]", Some(("::1", 443))),
            ("http://a:x", None),
        ] {
            assert_eq!(address_of(url), wanted, "{url}");
        }
    }

    /// What a URL may not have is encoded, what is encoded stays, and what would be left out or changed on its way is
    /// refused. Catches a webhook's secret of which a part is not sent.
    #[test]
    fn urls_are_sent_as_they_are() {
        for (url, wanted) in [
            ("http://h/services/T0/%2b?a=b&c=[d]", "http://h/services/T0/%2b?a=b&c=[d]"),
            ("http://h/pa$1 \": '100%é|", "http://h/pa$1%20%22:%20'100%%C3%A9%7C"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://h/a#b?c#", "http://h/a%23b?c%23"),
            ("http://h#a", "http://h/%23a"),
        ] {
            assert_eq!(written(url).as_deref(), Ok(wanted), "{url}");
        }
        for (url, says) in [("http://h/a\nb", "%0A"), ("http://h i/", "host")] {
            let why = written(url).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }

    /// A wait is asked for in seconds or as a time of day; one that is over, or is none, asks for nothing.
    #[test]
    fn waits_are_seconds_or_times() {
        assert_eq!(asked_wait(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(asked_wait("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let far = asked_wait("Wed, 21 Oct 2099 07:28:00 GMT").unwrap();
        assert!(far > Duration::from_secs(1 << 30), "{far:?}");
        assert_eq!(asked_wait("soon"), None);
    }
}
