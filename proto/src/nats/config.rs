//! Where the bus server is and what one shows it to come in. Secrets are in no text of ours: an address is
//! shown without them, and what the library says passes [`NatsConfig::hidden`].

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use tracing::{info, warn};

use super::refused::{Failure, Lasts};
use super::stats::BusStats;
use super::{CLUSTER_CLIENT, NODE_CLIENT, frame};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// A server that does not answer two of these is gone: partitions do not end connections.
const SERVER_PING_EVERY: Duration = Duration::from_secs(2);
/// Waits between attempts to connect double up to this.
const RECONNECT_WAIT_MAX_MS: u64 = 2_000;
const RECONNECT_WAIT_MS: u64 = 50;
/// So often in a row a server may refuse us in a way that somebody has to change, before it was ever reached: a dozen
/// seconds. Once it was reached, it is tried for ever.
const REFUSALS_MAX: u32 = 10;
/// Frames between us and the library. What does not fit waits in our own windows, where it is counted.
const CLIENT_FRAMES_MAX: usize = 64;
/// Frames that were received and not looked at: more are dropped by the library, counted, and sent again.
const RECEIVED_FRAMES_MAX: usize = 1_024;
/// A subject's first part.
const PREFIX_BYTES_MAX: usize = 128;

/// How one shows who one is.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum NatsAuth {
    #[default]
    None,
    User {
        user: String,
        password: String,
    },
    Token(String),
    /// The text of a credentials file: a JWT and its seed.
    Credentials(String),
    /// A seed.
    Nkey(String),
}

/// Nothing of what is secret.
impl fmt::Debug for NatsAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NatsAuth::None => "None",
            NatsAuth::User { .. } => "User",
            NatsAuth::Token(_) => "Token",
            NatsAuth::Credentials(_) => "Credentials",
            NatsAuth::Nkey(_) => "Nkey",
        })
    }
}

/// The bus server, and who we are to it.
#[derive(Clone, Default)]
pub struct NatsConfig {
    /// Without secrets in them.
    pub servers: Vec<String>,
    pub auth: NatsAuth,
    /// Certificates of authorities, in place of the system's.
    pub tls_ca: Option<PathBuf>,
    /// Our certificate and its key.
    pub tls_client: Option<(PathBuf, PathBuf)>,
    /// First part of all subjects: one a cluster.
    pub prefix: String,
}

/// As people may see it.
impl fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NatsConfig { servers, prefix, tls_ca, .. } = self;
        f.debug_struct("NatsConfig")
            .field("servers", servers)
            .field("prefix", prefix)
            .field("tls_ca", tls_ca)
            .finish_non_exhaustive()
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NatsConfigError {
    #[error("{0}: write nats://HOST:PORT or tls://HOST:PORT, several with commas")]
    Address(String),
    #[error("the servers of one bus have different users")]
    Users,
    #[error("{0} is no subject: letters, digits, -, _ and single dots between them")]
    Prefix(String),
    #[error("say who you are in one way only")]
    TwoWays,
}

impl NatsConfig {
    /// `nats://HOST:PORT[,…]`, `tls://…`; `USER:PASSWORD@` or `TOKEN@` before the host is taken out.
    ///
    /// # Errors
    /// This is no such list.
    pub fn parse(list: &str) -> Result<NatsConfig, NatsConfigError> {
        let mut config = NatsConfig { prefix: "weir".to_string(), ..NatsConfig::default() };
        for text in list.split(',') {
            let (server, auth) = parse_server(text.trim())?;
            if auth != NatsAuth::None {
                if config.auth != NatsAuth::None && config.auth != auth {
                    return Err(NatsConfigError::Users);
                }
                config.auth = auth;
            }
            config.servers.push(server);
        }
        Ok(config)
    }

    /// The same with another way to show who we are.
    ///
    /// # Errors
    /// The address has one already.
    pub fn with_auth(mut self, auth: NatsAuth) -> Result<NatsConfig, NatsConfigError> {
        if auth != NatsAuth::None {
            if self.auth != NatsAuth::None {
                return Err(NatsConfigError::TwoWays);
            }
            self.auth = auth;
        }
        Ok(self)
    }

    /// # Errors
    /// This cannot be the first part of a subject.
    pub fn with_prefix(mut self, prefix: &str) -> Result<NatsConfig, NatsConfigError> {
        let is_word = |word: &str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        };
        if prefix.len() > PREFIX_BYTES_MAX || !prefix.split('.').all(is_word) {
            return Err(NatsConfigError::Prefix(prefix.to_string()));
        }
        self.prefix = prefix.to_string();
        Ok(self)
    }

    /// As logs and messages show it.
    #[must_use]
    pub fn shown(&self) -> String {
        self.servers.join(",")
    }

    /// What is said to the server, or by it, about this bus only: whoever sees one of these at the beginning of what a
    /// connection carries sees one of ours.
    #[must_use]
    pub fn marks(&self) -> Vec<Vec<u8>> {
        let subjects = ["up.", "down.", "hello ", "cluster "];
        let said = subjects.iter().map(|subject| format!(" {}.{subject}", self.prefix));
        let names = [NODE_CLIENT, CLUSTER_CLIENT].map(|name| format!("\"name\":\"{name}"));
        let said = said.chain(names).map(String::into_bytes);
        said.chain([frame::mark()]).collect()
    }

    /// A text of the library or the server, without what is secret.
    pub(super) fn hidden(&self, text: &str) -> String {
        let mut text = text.to_string();
        let secret = match &self.auth {
            NatsAuth::None => "",
            NatsAuth::User { password: secret, .. }
            | NatsAuth::Token(secret)
            | NatsAuth::Credentials(secret)
            | NatsAuth::Nkey(secret) => secret.as_str(),
        };
        // Of credentials each part is one.
        for part in secret.lines().filter(|part| !part.is_empty() && !part.starts_with('-')) {
            text = text.replace(part, "***");
        }
        weir_types::text::line(&text).into_owned()
    }

    fn options(&self, name: &str, stats: &Arc<BusStats>) -> Result<ConnectOptions, String> {
        let (shown, stats) = (self.clone(), Arc::clone(stats));
        let failures = Arc::<AtomicU64>::default();
        let mut options = ConnectOptions::new()
            .name(name)
            .connection_timeout(CONNECT_TIME_MAX)
            .ping_interval(SERVER_PING_EVERY)
            .client_capacity(CLIENT_FRAMES_MAX)
            .subscription_capacity(RECEIVED_FRAMES_MAX)
            .reconnect_delay_callback(|attempts| Duration::from_millis(wait_ms(attempts)))
            .event_callback(move |event| {
                noted(&event, &shown, &stats, &failures);
                std::future::ready(())
            });
        options = match &self.auth {
            NatsAuth::None => options,
            NatsAuth::User { user, password } => {
                options.user_and_password(user.clone(), password.clone())
            }
            NatsAuth::Token(token) => options.token(token.clone()),
            NatsAuth::Credentials(text) => options
                .credentials(text)
                .map_err(|_| "the credentials file holds no JWT and seed".to_string())?,
            NatsAuth::Nkey(seed) => options.nkey(seed.clone()),
        };
        if let Some(ca) = &self.tls_ca {
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        if let Some((cert, key)) = &self.tls_client {
            options = options.add_client_certificate(cert.clone(), key.clone()).require_tls(true);
        }
        if self.servers.iter().any(|server| server.starts_with("tls://")) {
            options = options.require_tls(true);
        }
        Ok(options)
    }

    /// Connects, however long it takes; from then on the library connects again whenever it has to.
    ///
    /// # Errors
    /// The configuration can never work.
    pub(super) async fn connect(
        &self,
        name: &str,
        stats: &Arc<BusStats>,
    ) -> Result<Client, String> {
        let (mut attempts, mut refusals) = (0, 0);
        loop {
            let options = self.options(name, stats)?;
            match options.connect(self.servers.clone()).await {
                Ok(client) => return Ok(client),
                Err(error) => {
                    let Failure { why, lasts } = Failure::of(&error, self);
                    refusals = if lasts == Lasts::UntilChanged { refusals + 1 } else { 0 };
                    if lasts == Lasts::ForGood || refusals >= REFUSALS_MAX {
                        return Err(format!("{}: {why}", self.shown()));
                    }
                    if attempts % 10 == 0 {
                        warn!(bus = self.shown(), why, "the bus server cannot be used; trying on");
                    }
                }
            }
            attempts += 1;
            tokio::time::sleep(Duration::from_millis(wait_ms(attempts))).await;
        }
    }
}

fn wait_ms(attempts: usize) -> u64 {
    let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(16);
    (RECONNECT_WAIT_MS << doublings).min(RECONNECT_WAIT_MAX_MS)
}

/// Says what the library noticed, once each time that something changes.
fn noted(event: &Event, config: &NatsConfig, stats: &BusStats, failures: &AtomicU64) {
    match event {
        Event::Connected => {
            failures.store(0, Ordering::Relaxed);
            stats.connected_total.fetch_add(1, Ordering::Relaxed);
            info!(bus = config.shown(), "connected to the bus server");
        }
        Event::Disconnected => {
            stats.disconnected_total.fetch_add(1, Ordering::Relaxed);
            warn!(bus = config.shown(), "the bus server is gone; connecting again");
        }
        // Frames that were dropped here are missed by their numbers, and sent again.
        Event::SlowConsumer(_) => {
            stats.slow_consumer_total.fetch_add(1, Ordering::Relaxed);
        }
        Event::ServerError(_) | Event::ClientError(_) => {
            if failures.fetch_add(1, Ordering::Relaxed).is_multiple_of(20) {
                warn!(bus = config.shown(), what = config.hidden(&event.to_string()), "the bus");
            }
        }
        Event::Closed | Event::LameDuckMode | Event::Draining => {
            info!(bus = config.shown(), what = %event, "the bus");
        }
    }
}

fn parse_server(text: &str) -> Result<(String, NatsAuth), NatsConfigError> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
    // Whatever is wrong, nothing before the host is repeated.
    let (login, host) =
        rest.rsplit_once('@').map_or((None, rest), |(login, host)| (Some(login), host));
    let host = host.trim_end_matches('/');
    let wrong = || NatsConfigError::Address(format!("{scheme}://{host}"));
    if !["nats", "tls"].contains(&scheme) || host.is_empty() {
        return Err(wrong());
    }
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let port = host.rsplit_once(':').map(|(_, port)| port).filter(|_| !host.ends_with(']'));
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    if !host.chars().all(is_host) || !port.is_none_or(is_port) {
        return Err(wrong());
    }
    let auth = match login.map(|login| login.split_once(':').ok_or(login)) {
        None => NatsAuth::None,
        Some(Ok((user, password))) => {
            NatsAuth::User { user: unescaped(user), password: unescaped(password) }
        }
        Some(Err(token)) => NatsAuth::Token(unescaped(token)),
    };
    Ok((format!("{scheme}://{host}"), auth))
}

/// `%40` → `@`
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| byte == b'%') {
            Some(value) => {
                bytes.push(value);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(user: &str, password: &str) -> NatsAuth {
        NatsAuth::User { user: user.to_string(), password: password.to_string() }
    }

    /// Addresses as NATS writes them, with and without a login; what is wrong is said without what is secret.
    #[test]
    fn addresses() {
        let parsed = |text: &str| {
            NatsConfig::parse(text).map(|config| (config.servers.join(" "), config.auth))
        };
        for (text, servers, auth) in [
            ("nats://h:4222", "nats://h:4222", NatsAuth::None),
            ("h", "nats://h", NatsAuth::None),
            ("tls://a:1, nats://[::1]:2/", "tls://a:1 nats://[::1]:2", NatsAuth::None),
            ("nats://me:p%40ss:w@h:1", "nats://h:1", user("me", "p@ss:w")),
            ("nats://tok@a:1,nats://b:1", "nats://a:1 nats://b:1", NatsAuth::Token("tok".into())),
        ] {
            assert_eq!(parsed(text), Ok((servers.to_string(), auth)), "{text}");
        }
        for text in ["", "http://h", "nats://", "nats://h:x", "nats://h:0", "nats://s3cret@h h:1"] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert_eq!(parsed("nats://a:b@h,nats://c:d@h").unwrap_err(), NatsConfigError::Users);
    }

    /// Nothing that is secret is shown, whoever says it.
    #[test]
    fn secrets_are_hidden() {
        let config = NatsConfig::parse("nats://me:s3cret@h:1").unwrap();
        assert!(!format!("{config:?} {}", config.shown()).contains("s3cret"));
        assert_eq!(config.hidden("wrong s3cret\n!"), config.hidden("wrong ***\n!"));
        assert!(!config.hidden("s3cret").contains("s3cret"));
        let two = config.clone().with_auth(NatsAuth::Token("x".into()));
        assert!(matches!(two, Err(NatsConfigError::TwoWays)));
        for bad in ["", "a..b", "a b", "a.*", ">", ".a"] {
            assert!(config.clone().with_prefix(bad).is_err(), "{bad}");
        }
        assert_eq!(config.with_prefix("shop.eu-1").unwrap().prefix, "shop.eu-1");
    }

    /// Waits grow and end growing.
    #[test]
    fn waits() {
        let waits: Vec<u64> = [0, 1, 3, 8, 1_000_000].into_iter().map(wait_ms).collect();
        assert_eq!(waits, [50, 100, 400, 2_000, 2_000]);
    }
}
