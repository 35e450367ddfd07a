//! What is asked of a store: to keep an object, and what objects there are. Requests are signed (version 4, in the
//! URL); what an answer means is looked up here, not in [`crate::http_client`]: of S3's many 400s only one is about
//! what was sent.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use sha2::{Digest, Sha256};
use weir_types::{Clock, WallClock};

use crate::http_client::{Client, Target, origin};
use crate::sink::SinkError;

use super::role::Keys;
use super::{Access, S3Config, Who};

/// A signature is good for so long; clocks may differ.
const SIGNED_FOR: Duration = Duration::from_secs(900);
/// So few keys are listed at once that an answer stays short.
const KEYS_AT_ONCE: usize = 10;
/// Objects of others that are passed over, at most.
const OTHERS_MAX: usize = 1_000;

const CHECKSUM: &str = "x-amz-checksum-sha256";

pub(super) struct Store {
    client: Client,
    /// Of the client, without keys of a role.
    target: Target,
    bucket: Bucket,
    credentials: Option<Credentials>,
    /// Where they come from, if not from the configuration.
    keys: Option<Keys>,
}

impl Store {
    pub(super) fn new(config: S3Config) -> Result<Store, String> {
        let S3Config { target, region, bucket, who, .. } = config;
        let style = match is_amazons(&target.url) {
            // Of a name with dots the certificate is another's.
            true if !bucket.contains('.') => UrlStyle::VirtualHost,
            _ => UrlStyle::Path,
        };
        let bucket = Bucket::new(parsed(&target.url)?, style, bucket, region);
        let bucket = bucket.map_err(|error| format!("`url` is no URL of a store: {error}"))?;
        let credentials = match &who {
            Who::Key(Access { id, secret, token: Some(token) }) => {
                Some(Credentials::new_with_token(id, secret, token))
            }
            Who::Key(Access { id, secret, token: None }) => Some(Credentials::new(id, secret)),
            Who::Nobody | Who::Role(_) => None,
        };
        let keys = match who {
            Who::Role(role) => Some(Keys::new(role, &target)),
            Who::Nobody | Who::Key(_) => None,
        };
        Ok(Store { client: Client::new(target.clone()), target, bucket, credentials, keys })
    }

    /// Knows who we are, at the time of a request.
    fn identify(&mut self) -> Result<(), SinkError> {
        let Some(keys) = &mut self.keys else { return Ok(()) };
        if let Some((credentials, secrets)) = keys.renewed(WallClock.now_unix_ns())? {
            let mut target = self.target.clone();
            target.secrets.extend(secrets);
            (self.client, self.credentials) = (Client::new(target), Some(credentials));
        }
        Ok(())
    }

    /// What a failure means. Keys of a role that are not taken are asked for anew.
    fn judged<T>(&mut self, said: Result<T, SinkError>) -> Result<T, SinkError> {
        said.map_err(|error| {
            let text = error.to_string();
            let is_about_us = ["HTTP 401", "HTTP 403", "ExpiredToken", "InvalidToken"];
            if is_about_us.iter().any(|it| text.contains(it)) {
                self.keys.iter_mut().for_each(Keys::forget);
            }
            judged(error)
        })
    }

    pub(super) fn put(
        &mut self,
        key: &str,
        content_type: &str,
        bytes: &[u8],
    ) -> Result<(), SinkError> {
        self.identify()?;
        // The store refuses what comes as something else.
        let sum = STANDARD.encode(Sha256::digest(bytes));
        let mut action = self.bucket.put_object(self.credentials.as_ref(), key);
        action.headers_mut().insert(CHECKSUM, sum.as_str());
        action.headers_mut().insert("content-type", content_type);
        let headers = [("content-type", content_type), (CHECKSUM, sum.as_str())];
        let url = action.sign(SIGNED_FOR);
        let said = self.client.put_to(url.as_str(), &headers, bytes).map(drop);
        self.judged(said)
    }

    /// Keys after a name, one answer of them, and how to go on.
    fn keys(
        &mut self,
        prefix: &str,
        after: &str,
        go_on: Option<&str>,
    ) -> Result<(Vec<String>, Option<String>), SinkError> {
        self.identify()?;
        let mut action = self.bucket.list_objects_v2(self.credentials.as_ref());
        action.with_max_keys(KEYS_AT_ONCE);
        if !prefix.is_empty() {
            action.with_prefix(prefix);
        }
        match go_on {
            Some(token) => action.with_continuation_token(token),
            None if after.is_empty() => {}
            None => action.with_start_after(after),
        }
        let url = action.sign(SIGNED_FOR);
        let said = self.client.get_from(url.as_str());
        let said = self.judged(said)?;
        let said = String::from_utf8_lossy(&said);
        let list = ListObjectsV2::parse_response(&said).map_err(|error| {
            SinkError::Retry(self.client.said(&format!("what it lists cannot be read: {error}")))
        })?;
        let keys = list.contents.into_iter().map(|object| object.key).collect();
        Ok((keys, list.next_continuation_token))
    }

    /// Of those after a name, what `ours` finds in the first that it knows.
    pub(super) fn first(
        &mut self,
        prefix: &str,
        after: &str,
        ours: impl Fn(&str) -> Option<u64>,
    ) -> Result<Option<u64>, SinkError> {
        let mut go_on: Option<String> = None;
        for _ in 0..OTHERS_MAX / KEYS_AT_ONCE {
            let (keys, more) = self.keys(prefix, after, go_on.as_deref())?;
            if let Some(found) = keys.iter().find_map(|key| ours(key)) {
                return Ok(Some(found));
            }
            match more {
                Some(token) => go_on = Some(token),
                None => return Ok(None),
            }
        }
        Err(SinkError::Refused(format!(
            "more than {OTHERS_MAX} objects of others are called `{prefix}…`: give the sink a folder of its own"
        )))
    }

    pub(super) fn reach(&mut self) -> Result<(), SinkError> {
        self.keys("", "", None).map(drop)
    }
}

fn parsed<T: FromStr<Err: Display>>(url: &str) -> Result<T, String> {
    url.parse().map_err(|error| format!("`url` is no URL of a store: {error}"))
}

/// Amazon's own stores know buckets by their host's name.
fn is_amazons(url: &str) -> bool {
    let host = origin(url).and_then(|origin| origin.rsplit("://").next()).unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
}

/// A 400 may be about a region, a key that ended, a clock, or a connection that was too slow: only of one that is too
/// large less may be taken.
fn judged(error: SinkError) -> SinkError {
    match error {
        SinkError::Unfit(text)
            if !text.contains("EntityTooLarge") && !text.starts_with("HTTP 413") =>
        {
            SinkError::Retry(text)
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is given up because of an answer that is about us and not about what was sent.
    #[test]
    fn only_what_is_too_large_is_unfit() {
        let is_unfit =
            |text: &str| matches!(judged(SinkError::Unfit(text.to_string())), SinkError::Unfit(_));
        assert!(is_unfit("HTTP 400: <Code>EntityTooLarge</Code>"));
        assert!(is_unfit("HTTP 413: "));
        for code in ["ExpiredToken", "AuthorizationHeaderMalformed", "RequestTimeout", ""] {
            assert!(!is_unfit(&format!("HTTP 400: <Code>{code}</Code>")), "{code}");
        }
    }

    /// A bucket is part of the host's name only at those that are known to have it so.
    #[test]
    fn amazons_stores_are_known() {
        for (url, wanted) in [
            ("https://s3.eu-west-1.amazonaws.com", true),
            ("https://s3.cn-north-1.amazonaws.com.cn:443/", true),
            ("https://amazonaws.com.example", false),
            ("http://127.0.0.1:9000", false),
        ] {
            assert_eq!(is_amazons(url), wanted, "{url}");
        }
    }
}
