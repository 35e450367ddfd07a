//! Who we are by the role that this machine, container or pod has been given: keys that end soon are asked for when they
//! are needed, from the metadata service of a machine (version 2), an agent beside a container, or a token service that
//! takes a token out of a file. Each question is bounded in time and bytes, no key is in a message, and keys that still
//! hold are used while nobody gives new ones. Which of them it is, is not decided here.

#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusty_s3::Credentials;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::http_client::{Client, Target, escaped};
use crate::secrets;
use crate::sink::SinkError;
use crate::tls::Tls;

/// Longest time for one question: they are answered on this machine, or nearby.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// New keys are asked for so long before the old ones end.
const AHEAD_NS: i64 = 5 * 60 * 1_000_000_000;
/// And so long after nobody gave any, while the old ones hold.
const AGAIN_NS: i64 = 60 * 1_000_000_000;
/// A token in a file is shorter.
const TOKEN_BYTES_MAX: u64 = 64 << 10;
/// A session of the metadata service; it is used at once.
const SESSION_SECONDS: &str = "60";

/// Who gives keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The metadata service of a machine, at this URL.
    Machine { url: String },
    /// An agent that gives keys for this URL, and what it wants to be told.
    Container { url: String, authorization: Option<Authorization> },
    /// A token service at this URL: for the token in the file it gives keys of a role.
    Token { url: String, file: PathBuf, role: String, session: String },
}

#[derive(Clone, PartialEq, Eq)]
pub enum Authorization {
    Text(String),
    /// It changes.
    File(PathBuf),
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Authorization::Text(_) => "a text",
            Authorization::File(_) => "a file",
        })
    }
}

/// Keys that were given.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: String,
    secret_access_key: String,
    /// A token service says `SessionToken`.
    #[serde(default)]
    token: String,
    #[serde(default)]
    expiration: String,
}

/// Keys of a role, as long as they hold.
pub(super) struct Keys {
    role: Role,
    tls: Tls,
    timeout: Duration,
    /// When they end; `None`: there are none.
    ends_unix_ns: Option<i64>,
    asked_unix_ns: i64,
}

impl Keys {
    pub(super) fn new(role: Role, target: &Target) -> Keys {
        let timeout = target.timeout.min(ANSWER_MAX);
        Keys { role, tls: target.tls.clone(), timeout, ends_unix_ns: None, asked_unix_ns: i64::MIN }
    }

    /// The store does not know them any more.
    pub(super) fn forget(&mut self) {
        self.ends_unix_ns = None;
    }

    /// New keys, if it is time for them, and what of them no message may repeat.
    pub(super) fn renewed(
        &mut self,
        now_unix_ns: i64,
    ) -> Result<Option<(Credentials, Vec<String>)>, SinkError> {
        let left_ns = self.ends_unix_ns.map(|ends| ends.saturating_sub(now_unix_ns));
        let was_asked = now_unix_ns.saturating_sub(self.asked_unix_ns) < AGAIN_NS;
        if left_ns.is_some_and(|left| left > AHEAD_NS || (left > 0 && was_asked)) {
            return Ok(None);
        }
        self.asked_unix_ns = now_unix_ns;
        let given = match self.ask() {
            Ok(given) => given,
            Err(_) if left_ns.is_some_and(|left| left > 0) => return Ok(None),
            Err(error) => return Err(error),
        };
        let ends = OffsetDateTime::parse(&given.expiration, &Rfc3339).ok();
        let ends = ends.and_then(|ends| i64::try_from(ends.unix_timestamp_nanos()).ok());
        // Without an end they are asked for again all the same.
        self.ends_unix_ns = Some(ends.unwrap_or(now_unix_ns.saturating_add(2 * AHEAD_NS)));
        let Given { access_key_id, secret_access_key, token, .. } = given;
        let secrets = [&secret_access_key, &token].map(Clone::clone);
        let secrets = secrets::with_forms(secrets.to_vec());
        let keys = match token.is_empty() {
            true => Credentials::new(access_key_id, secret_access_key),
            false => Credentials::new_with_token(access_key_id, secret_access_key, token),
        };
        Ok(Some((keys, secrets)))
    }

    fn ask(&self) -> Result<Given, SinkError> {
        let given = match &self.role {
            Role::Machine { url } => self.of_machine(url),
            Role::Container { url, authorization } => {
                self.of_container(url, authorization.as_ref())
            }
            Role::Token { url, file, role, session } => self.of_token(url, file, role, session),
        };
        // Whatever it is, it is not about what was to be written.
        given.map_err(|error| SinkError::Retry(format!("no keys of a role: {error}")))
    }

    fn client(&self, url: &str, headers: Vec<(String, String)>, secrets: Vec<String>) -> Client {
        let (url, tls, timeout) = (url.to_string(), self.tls.clone(), self.timeout);
        Client::new(Target { url, headers, timeout, secrets, tls })
    }

    fn of_machine(&self, url: &str) -> Result<Given, SinkError> {
        let url = url.trim_end_matches('/');
        let ttl = [("x-aws-ec2-metadata-token-ttl-seconds", SESSION_SECONDS)];
        let client = self.client(url, Vec::new(), Vec::new());
        let session = client.put_to(&format!("{url}/latest/api/token"), &ttl, b"")?;
        let session = one_line(&session, "the metadata service's session")?;
        let header = ("x-aws-ec2-metadata-token".to_string(), session.clone());
        let client = self.client(url, vec![header], vec![session]);
        let roles = format!("{url}/latest/meta-data/iam/security-credentials/");
        let name = client.get_from(&roles)?;
        let name = one_line(&name, "the role's name")?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
        if name.is_empty() || !name.chars().all(fits) {
            return Err(SinkError::Retry("the machine has no role".to_string()));
        }
        of_json(&client.get_from(&format!("{roles}{name}"))?)
    }

    fn of_container(
        &self,
        url: &str,
        authorization: Option<&Authorization>,
    ) -> Result<Given, SinkError> {
        let text = match authorization {
            Some(Authorization::Text(text)) => Some(text.clone()),
            Some(Authorization::File(file)) => Some(token_in(file)?),
            None => None,
        };
        let secrets = text.iter().cloned().collect();
        let headers = text.into_iter().map(|text| ("authorization".to_string(), text));
        of_json(&self.client(url, headers.collect(), secrets).get_from(url)?)
    }

    fn of_token(
        &self,
        url: &str,
        file: &Path,
        role: &str,
        session: &str,
    ) -> Result<Given, SinkError> {
        let token = token_in(file)?;
        let pairs = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", role),
            ("RoleSessionName", session),
            ("WebIdentityToken", &token),
        ];
        let pairs = pairs.map(|(name, value)| format!("{name}={}", escaped(value)));
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let client = self.client(url, Vec::new(), vec![token.clone()]);
        of_xml(&client.post(&form, pairs.join("&").as_bytes())?)
    }
}

fn refused(what: &str) -> SinkError {
    SinkError::Retry(what.to_string())
}

fn one_line(said: &[u8], what: &str) -> Result<String, SinkError> {
    let text = std::str::from_utf8(said).ok().map(|text| text.lines().next().unwrap_or(""));
    let is_plain = |text: &&str| text.chars().all(|c| c.is_ascii_graphic());
    text.map(str::trim)
        .filter(is_plain)
        .map(str::to_string)
        .ok_or_else(|| refused(&format!("{what} is no word")))
}

/// Of a plain file, which may be exchanged at any time.
fn token_in(file: &Path) -> Result<String, SinkError> {
    let said = |why: &dyn std::fmt::Display| refused(&format!("{}: {why}", file.display()));
    if !std::fs::metadata(file).map_err(|error| said(&error))?.is_file() {
        return Err(said(&"it is no file"));
    }
    let opened = std::fs::File::open(file).map_err(|error| said(&error))?;
    let mut bytes = Vec::new();
    opened.take(TOKEN_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| said(&error))?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    let text = text.trim();
    let fits = !text.is_empty() && text.len() as u64 <= TOKEN_BYTES_MAX;
    if !fits || !text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        return Err(said(&"it holds no token"));
    }
    Ok(text.to_string())
}

/// What is given may say a key: of what does not fit nothing is repeated.
fn of_json(said: &[u8]) -> Result<Given, SinkError> {
    let given: Option<Given> = serde_json::from_slice(said).ok();
    given.filter(is_whole).ok_or_else(|| refused("what is given as keys cannot be read"))
}

/// A token service answers with four elements of plain text somewhere in others.
fn of_xml(said: &[u8]) -> Result<Given, SinkError> {
    let text = std::str::from_utf8(said).unwrap_or_default();
    let found = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (inner, _) = rest.split_once(&format!("</{name}>"))?;
        let inner = inner.trim();
        (!inner.contains(['<', '&'])).then(|| inner.to_string())
    };
    let given = || {
        Some(Given {
            access_key_id: found("AccessKeyId")?,
            secret_access_key: found("SecretAccessKey")?,
            token: found("SessionToken")?,
            expiration: found("Expiration").unwrap_or_default(),
        })
    };
    given().filter(is_whole).ok_or_else(|| refused("what a token service gives cannot be read"))
}

fn is_whole(given: &Given) -> bool {
    let is_word = |text: &str| text.chars().all(|c| c.is_ascii_graphic());
    let Given { access_key_id, secret_access_key, token, .. } = given;
    let has_both = !access_key_id.is_empty() && !secret_access_key.is_empty();
    has_both && [access_key_id, secret_access_key, token].into_iter().all(|text| is_word(text))
}
