//! The writer of objects in a store that speaks S3. Who we are is in the sink's `auth`, or in the variables that
//! other programs read it from, too.

use weir_sinks::s3::{Access, Form, S3Config, S3Sink, parts_of};

use super::{HTTP, How, lines_of, wants_scheme};
use crate::config::access::{secrets_of, target_of};
use crate::config::keys::{AuthConfig, CodecName, Secret, SinkConfig};

const REGION: &str = "us-east-1";

pub(super) fn s3(how: &How<'_>, config: &SinkConfig, codec: CodecName) -> Result<S3Sink, String> {
    let path = config.path.as_deref().and_then(std::path::Path::to_str).unwrap_or_default();
    let (bucket, key) = parts_of(path)?;
    let region = config.region.clone().unwrap_or_else(|| REGION.to_string());
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if region.is_empty() || !region.chars().all(is_name) {
        return Err("`region` is letters, digits and `-`".to_string());
    }
    let url = match &config.url {
        Some(_) => wants_scheme(config, &HTTP)?,
        None => format!("https://s3.{region}.amazonaws.com"),
    };
    if url.contains(['@', '?', '#']) {
        return Err("`url` of a store is http(s)://HOST[:PORT], without user or query".to_string());
    }
    let auth = match config.auth == AuthConfig::default() {
        true => of_environment(),
        false => config.auth.clone(),
    };
    let access = access(&auth)?;
    // Requests are signed: neither user nor token is a header.
    let tls = how.tls.clone().unwrap_or_default();
    let none = (std::collections::BTreeMap::new(), AuthConfig::default());
    let mut target = target_of(url.clone(), &none.0, &none.1, config.timeout, tls)?;
    target.secrets = secrets_of(&url, &none.0, &auth);
    // Where it is, is no secret, and errors are hard to read without it.
    target.secrets.retain(|secret| *secret != url);
    let form = match codec {
        CodecName::Parquet => Form::Parquet,
        lines => Form::Lines(lines_of(lines)),
    };
    let (bucket, key) = (bucket.to_string(), key.to_string());
    S3Sink::new(S3Config { target, region, bucket, key, access }, form)
}

fn access(auth: &AuthConfig) -> Result<Option<Access>, String> {
    match (&auth.user, &auth.password) {
        (Some(id), Some(secret)) => {
            let token = auth.token.as_ref().map(|token| token.0.clone());
            Ok(Some(Access { id: id.0.clone(), secret: secret.0.clone(), token }))
        }
        (None, None) if auth.token.is_none() => Ok(None),
        _ => Err("a store takes `auth.user` and `auth.password`: the id of an access key and its \
                  secret; and `auth.token` with a session's"
            .to_string()),
    }
}

/// As Amazon's own programs look for it.
fn of_environment() -> AuthConfig {
    let found = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty()).map(Secret);
    match (found("AWS_ACCESS_KEY_ID"), found("AWS_SECRET_ACCESS_KEY")) {
        (Some(user), Some(password)) => AuthConfig {
            user: Some(user),
            password: Some(password),
            token: found("AWS_SESSION_TOKEN"),
        },
        _ => AuthConfig::default(),
    }
}
