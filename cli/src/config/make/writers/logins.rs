//! Who a sink of type `kafka` or `nats` says it is, and the servers of the latter, as their keys say. Whether they are
//! right, only the other end knows.

use weir_sinks::kafka::{self, Mechanism};
use weir_sinks::nats::{Login, NatsConfig};

use super::{How, secrets, with_scheme};
use crate::config::access::{secrets_of, text_of};
use crate::config::keys::{self, AuthConfig, SinkConfig};

pub(super) fn kafka(auth: &AuthConfig) -> Result<Option<kafka::Login>, String> {
    let Some(user) = &auth.user else {
        return match auth.password.is_some() || auth.mechanism.is_some() {
            true => Err("`auth` has a `user`".to_string()),
            false => Ok(None),
        };
    };
    let mechanism = match auth.mechanism {
        Some(keys::Mechanism::Plain) | None => Mechanism::Plain,
        Some(keys::Mechanism::ScramSha256) => Mechanism::ScramSha256,
        Some(keys::Mechanism::ScramSha512) => Mechanism::ScramSha512,
    };
    let (user, password) = (user.0.clone(), text_of(auth.password.as_ref()));
    Ok(Some(kafka::Login { mechanism, user, password }))
}

pub(super) fn nats(
    how: &How<'_>,
    config: &SinkConfig,
    subject: String,
) -> Result<NatsConfig, String> {
    let servers = servers(config)?;
    let login = login(&config.auth, how.creds.as_ref())?;
    let mut hidden = secrets(config);
    hidden.extend(login.secrets());
    for server in &servers {
        hidden.extend(secrets_of(server, &config.headers, &AuthConfig::default()));
    }
    Ok(NatsConfig {
        name: how.name.to_string(),
        servers,
        subject,
        login,
        timeout: config.timeout.0,
        secrets: weir_sinks::secrets::with_forms(hidden),
        tls: how.tls.clone().unwrap_or_default(),
    })
}

fn servers(config: &SinkConfig) -> Result<Vec<String>, String> {
    let written = config.url.iter().chain(&config.servers);
    let servers: Vec<String> = written.map(|url| url.0.clone()).collect();
    if servers.is_empty() || config.url.is_some() && !config.servers.is_empty() {
        return Err("a sink of type nats needs a `url`, or a list of `servers`".to_string());
    }
    for server in &servers {
        with_scheme(server.clone(), &["nats://", "tls://"])?;
    }
    let with_tls = servers.iter().filter(|server| server.starts_with("tls://")).count();
    if with_tls != 0 && with_tls != servers.len() {
        return Err("`servers` are all tls://, or none is".to_string());
    }
    Ok(servers)
}

fn login(auth: &AuthConfig, creds: Option<&String>) -> Result<Login, String> {
    let AuthConfig { user, password, token, nkey, .. } = auth;
    match (user, token, creds, nkey) {
        (None, None, None, None) if password.is_none() => Ok(Login::None),
        (Some(user), None, None, None) => {
            Ok(Login::User { user: user.0.clone(), password: text_of(password.as_ref()) })
        }
        _ if password.is_some() => Err("`auth.password` is a `user`'s".to_string()),
        (None, Some(token), None, None) => Ok(Login::Token(token.0.clone())),
        (None, None, Some(text), None) => {
            Login::of_credentials(text.clone()).map_err(|why| format!("auth.creds: {why}"))
        }
        (None, None, None, Some(seed)) => {
            Login::of_nkey(&seed.0).map_err(|why| format!("auth.nkey: {why}"))
        }
        _ => Err("`auth` is one of a `user`, a `token`, `creds` and an `nkey`".to_string()),
    }
}
