//! Elements into a NATS JetStream subject, one a message. A message is safe once the stream has acknowledged
//! it; sent again it has the same id (`SINK-SEQ`), so that the stream knows it within its window for
//! duplicates, and a reader by its `seq` after that. The stream is the operator's to make.

mod login;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::{self, ErrorCode, message::PublishMessage};
use async_nats::{Client, ConnectErrorKind, ConnectOptions};
use tokio::runtime::Runtime;

use crate::element::{Element, Op};
use crate::encode;
use crate::sink::{SinkError, Writer};
use crate::tls::Tls;
use crate::{one_thread, secrets};

pub use self::login::Login;

/// Published before the first acknowledgement is waited for.
const IN_FLIGHT_MAX: usize = 256;
/// What headers take of the server's limit, besides the id.
const HEADER_BYTES: usize = b"NATS/1.0\r\nNats-Msg-Id: \r\n\r\n".len();
/// The stream's own limit is lower than the server's.
const TOO_LARGE_FOR_STREAM: ErrorCode = ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM;

#[derive(Clone)]
pub struct NatsConfig {
    /// Of the sink: messages are known by it.
    pub name: String,
    /// Any of one cluster; all with TLS, or none.
    pub servers: Vec<String>,
    pub subject: String,
    pub login: Login,
    pub timeout: Duration,
    /// What stands in no message of ours.
    pub secrets: Vec<String>,
    /// For `tls://`.
    pub tls: Tls,
}

struct Connected {
    client: Client,
    stream: jetstream::Context,
}

pub struct NatsSink {
    config: NatsConfig,
    runtime: Option<Runtime>,
    connected: Option<Connected>,
}

impl NatsSink {
    #[must_use]
    pub fn new(config: NatsConfig) -> NatsSink {
        NatsSink { config, runtime: None, connected: None }
    }

    fn failed(&self, what: &str, error: &dyn std::error::Error) -> SinkError {
        self.retry(&format!("{what}: {}", weir_types::text::with_causes(error)))
    }

    fn retry(&self, text: &str) -> SinkError {
        SinkError::Retry(secrets::hidden(text, &self.config.secrets).into_owned())
    }

    fn unconnected(&self, error: &async_nats::ConnectError) -> SinkError {
        let what = "could not connect";
        match login::refusal(error, &self.config.login) {
            Some(why) => self.retry(&format!("{what}: {why}")),
            // What we were given cannot sign what the server asks to be signed.
            None if error.kind() == ConnectErrorKind::Authentication => {
                SinkError::Refused(format!("{what}: the key of `auth` cannot be used"))
            }
            None => self.failed(what, error),
        }
    }

    fn unacknowledged(&self, error: &PublishError) -> SinkError {
        let failed = self.failed("not acknowledged", error);
        let said = std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<jetstream::Error>());
        match failed {
            SinkError::Retry(text)
                if said.is_some_and(|it| it.error_code() == TOO_LARGE_FOR_STREAM) =>
            {
                SinkError::Unfit(text)
            }
            failed => failed,
        }
    }

    async fn connect(&self) -> Result<Connected, SinkError> {
        let NatsConfig { name, servers, login, timeout, .. } = &self.config;
        // One that is silent leaves time for the others.
        let count = u32::try_from(servers.len()).unwrap_or(u32::MAX).max(1);
        let mut options = ConnectOptions::new()
            .name(format!("weir sink {name}"))
            .connection_timeout(*timeout / count)
            .request_timeout(Some(*timeout));
        if servers.iter().any(|server| server.starts_with("tls://")) {
            let config = self.config.tls.client_config(&[]).map_err(SinkError::Refused)?;
            options = options.require_tls(true).tls_client_config(config);
        }
        let options = login.put(options).map_err(SinkError::Refused)?;
        let client = tokio::time::timeout(*timeout, options.connect(servers)).await;
        let client = client
            .map_err(|_| SinkError::Retry("the server did not answer in time".to_string()))?
            .map_err(|error| self.unconnected(&error))?;
        let mut stream = jetstream::new(client.clone());
        stream.set_timeout(*timeout);
        Ok(Connected { client, stream })
    }

    /// Publishes some, and waits for each to be acknowledged.
    async fn publish(
        &self,
        connected: &Connected,
        batch: &[&Element],
        safe: &mut usize,
    ) -> Result<(), SinkError> {
        let bytes_max = connected.client.max_payload();
        for part in batch.chunks(IN_FLIGHT_MAX) {
            let (mut acks, mut too_large) = (Vec::with_capacity(part.len()), None);
            for element in part {
                if element.op == Op::Progress {
                    acks.push(None);
                    continue;
                }
                let mut text = String::new();
                encode::push_json(&mut text, element);
                let id = format!("{}-{}", self.config.name, element.seq);
                if text.len() + HEADER_BYTES + id.len() > bytes_max {
                    let len = text.len();
                    too_large = Some(format!(
                        "a message of {len} bytes, of which the server takes {bytes_max}"
                    ));
                    break;
                }
                let message = PublishMessage::build().payload(text.into()).message_id(id);
                let subject = self.config.subject.clone();
                let ack = connected.stream.send_publish(subject, message).await;
                acks.push(Some(ack.map_err(|error| self.failed("could not publish", &error))?));
            }
            for ack in acks {
                if let Some(ack) = ack {
                    ack.await.map_err(|error| self.unacknowledged(&error))?;
                }
                *safe += 1;
            }
            if let Some(text) = too_large {
                return Err(SinkError::Unfit(text));
            }
        }
        Ok(())
    }
}

impl NatsSink {
    fn runtime(&mut self) -> Result<Runtime, SinkError> {
        one_thread::take(&mut self.runtime).map_err(|error| self.failed("no runtime", &error))
    }
}

impl Writer for NatsSink {
    /// On a connection of its own: the one that is at work would not say so for a while.
    fn check(&mut self) -> Result<(), SinkError> {
        let runtime = self.runtime()?;
        let done = runtime.block_on(self.connect());
        self.runtime = Some(runtime);
        let connected = done?;
        self.connected.get_or_insert(connected);
        Ok(())
    }

    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        let runtime = self.runtime()?;
        let connected = self.connected.take();
        let done = runtime.block_on(async {
            let connected = match connected {
                Some(connected) => connected,
                None => self.connect().await?,
            };
            let done = self.publish(&connected, batch, safe).await;
            match done {
                // What was sent and not acknowledged is not to go out behind our back.
                Err(error @ SinkError::Retry(_)) => Err(error),
                done => Ok((connected, done)),
            }
        });
        self.runtime = Some(runtime);
        let (connected, done) = done?;
        self.connected = Some(connected);
        done
    }

    fn close(&mut self) {
        self.connected = None;
        self.runtime = None;
    }
}
