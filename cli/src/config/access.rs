//! Who a sink or a receiver says it is, and what of that no message may repeat.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use weir_sinks::http_client::{Target, basic, origin, written};
use weir_sinks::secrets::with_forms;
use weir_sinks::tls::Tls;

use super::bounded;
use super::keys::{AuthConfig, Secret, Span, TlsConfig};

/// What is read of a file of certificates or credentials.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Shorter values in a URL's query are no secrets, and would spoil every message; so are shorter parts of its path.
const SECRET_VALUE_BYTES_MIN: usize = 4;
const SECRET_PART_BYTES_MIN: usize = 16;

pub(super) fn text_of(secret: Option<&Secret>) -> String {
    secret.map(|secret| secret.0.clone()).unwrap_or_default()
}

/// Everything that no message may repeat, besides what files hold.
pub(super) fn secrets_of(
    url: &str,
    headers: &BTreeMap<String, Secret>,
    auth: &AuthConfig,
) -> Vec<String> {
    let AuthConfig { user, password, token, nkey, .. } = auth;
    let mut secrets: Vec<String> = headers.values().map(|it| it.0.clone()).collect();
    secrets.extend([password, token, nkey].into_iter().flatten().map(|it| it.0.clone()));
    if let (Some(user), Some(password)) = (user, password) {
        // As a whole, and for what is said without the word in front of it.
        secrets.extend([basic(&user.0, &password.0), format!("{}:{}", user.0, password.0)]);
    }
    secrets.extend(secrets_in(url));
    with_forms(secrets)
}

/// What the file of credentials holds, if there is one.
pub(super) fn creds_of(auth: &AuthConfig, base: &Path) -> Result<Option<String>, String> {
    let read =
        |path| bounded(&base.join(path), PEM_BYTES_MAX).map_err(|why| format!("auth.creds: {why}"));
    auth.creds.as_ref().map(read).transpose()
}

/// Of a URL: itself, user and password, its path, which of webhooks is the secret, what is asked, and each value of that;
/// as they are written, as they are sent, and as they are meant.
fn secrets_in(url: &str) -> Vec<String> {
    let mut secrets = vec![url.to_string()];
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if let Some((user, _)) = host.rsplit_once('@') {
        secrets.push(user.to_string());
        secrets.extend(user.split_once(':').map(|(_, password)| password.to_string()));
    }
    let path = &url[origin(url).map_or(url.len(), str::len)..];
    let path = path.split('?').next().unwrap_or_default();
    secrets.extend(Some(path.to_string()).filter(|path| path.len() > SECRET_VALUE_BYTES_MIN));
    let parts = path.split('/').filter(|part| part.len() >= SECRET_PART_BYTES_MIN);
    secrets.extend(parts.map(str::to_string));
    if let Some((_, query)) = url.split_once('?') {
        secrets.push(query.to_string());
        let values = query.split('&').filter_map(|pair| pair.split_once('='));
        let values = values.map(|(_, value)| value.to_string());
        secrets.extend(values.filter(|value| value.len() >= SECRET_VALUE_BYTES_MIN));
    }
    let meant: Vec<String> = secrets.iter().map(|text| unescaped(text)).collect();
    let sent: Vec<String> = secrets.iter().filter_map(|text| sent(text)).collect();
    secrets.extend(meant.into_iter().chain(sent));
    secrets
}

/// A part of a URL as it is sent, if it can be.
fn sent(part: &str) -> Option<String> {
    const BEFORE: &str = "http://h/";
    let url = written(&format!("{BEFORE}{part}")).ok()?;
    url.strip_prefix(BEFORE).map(str::to_string)
}

/// What a part of a URL means.
fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Those that are written, and who says so.
fn headers_of(
    headers: &BTreeMap<String, Secret>,
    auth: &AuthConfig,
) -> Result<Vec<(String, String)>, String> {
    let AuthConfig { user, password, token, mechanism, creds, nkey } = auth;
    if mechanism.is_some() || creds.is_some() || nkey.is_some() {
        return Err("`auth` is a `user` and a `password`, or a `token` here".to_string());
    }
    let mut headers: Vec<(String, String)> =
        headers.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect();
    match (user, password, token) {
        (None, None, None) => {}
        (None, None, Some(token)) => {
            headers.push(("authorization".to_string(), format!("Bearer {}", token.0)));
        }
        (Some(user), password, None) if !user.0.contains(':') => {
            let value = basic(&user.0, &text_of(password.as_ref()));
            headers.push(("authorization".to_string(), value));
        }
        _ => {
            return Err("`auth` is a `token`, or a `user` without `:` and a `password`".to_string());
        }
    }
    for (name, value) in &headers {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(format!("`{name}` is no name of a header"));
        }
        if value.bytes().any(|byte| byte < 32 && byte != b'\t' || byte == 127) {
            return Err(format!("the header `{name}` may have no line ends or control characters"));
        }
        if value.trim_matches([' ', '\t']).len() != value.len() {
            return Err(format!(
                "the header `{name}` may not begin or end with a space: none would arrive"
            ));
        }
    }
    Ok(headers)
}

/// What tells certificates, keys and credentials from others. They are not kept as text.
pub(super) fn print_of(secret: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    secret.hash(&mut hasher);
    hasher.finish()
}

/// What the files hold; judged.
pub(super) fn tls_of(tls: &TlsConfig, base: &Path) -> Result<Tls, String> {
    let TlsConfig { ca, cert, key } = tls;
    let read = |key: &str, path: &Path| {
        bounded(&base.join(path), PEM_BYTES_MAX).map_err(|why| format!("tls.{key}: {why}"))
    };
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((read("cert", cert)?, read("key", key)?)),
        (None, None) => None,
        _ => return Err("`tls` has both `cert` and `key`, or neither".to_string()),
    };
    let authorities = ca.as_ref().map(|ca| read("ca", ca)).transpose()?;
    let tls = Tls { authorities, identity };
    tls.client_config(&[])?;
    Ok(tls)
}

pub(super) fn target_of(
    url: String,
    headers: &BTreeMap<String, Secret>,
    auth: &AuthConfig,
    timeout: Span,
    tls: Tls,
) -> Result<Target, String> {
    let secrets = secrets_of(&url, headers, auth);
    let (url, headers) = (written(&url)?, headers_of(headers, auth)?);
    Ok(Target { headers, timeout: timeout.0, secrets, tls, url })
}
