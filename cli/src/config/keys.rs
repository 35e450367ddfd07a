//! The keys of `weir.yaml`: what there is, of which type, and which kind of sink uses which. Its JSON Schema
//! is made of these. Nothing is judged here but types.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use weir_sinks::buffer::WhenFull;
use weir_sinks::encode::Mode;

use super::alerts::{AlertmanagerConfig, AlertsConfig, ReceiverConfig};
use crate::units::{parse_bytes, parse_duration};

/// What a server does besides answering.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Config {
    /// Where results go, by name.
    pub(super) sinks: BTreeMap<String, SinkConfig>,
    /// Files of alert rules; `*`, `?` and `[…]` stand for parts of names. They are read again when they change.
    pub(super) rules: Vec<String>,
    pub(super) alertmanagers: Vec<AlertmanagerConfig>,
    pub(super) receivers: Vec<ReceiverConfig>,
    pub(super) alerts: AlertsConfig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Blackhole,
    Clickhouse,
    Console,
    File,
    Http,
    Kafka,
    Nats,
    Opentelemetry,
    Postgres,
    Prometheus,
    PrometheusRemoteWrite,
    Websocket,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SinkConfig {
    #[serde(rename = "type")]
    pub(super) kind: Kind,
    /// Views whose changes it writes.
    pub(super) inputs: Vec<Input>,
    #[serde(default)]
    pub(super) encoding: EncodingConfig,
    /// Of `file`: where to write. A relative path begins at the configuration's folder; `s3://BUCKET/NAME` is in a store
    /// that speaks S3.
    pub(super) path: Option<PathBuf>,
    pub(super) rotate: Option<RotateConfig>,
    /// Of network sinks: `http://…`, `https://…`, `nats://…`, `postgres://…`, `ws://…`. `opentelemetry`: without
    /// one, the endpoint that the script's `px.export` names. `file`: the store's, Amazon's unless set.
    pub(super) url: Option<Secret>,
    /// Of `file` in a store: `us-east-1` unless set.
    pub(super) region: Option<String>,
    /// Of `file` in a store, in place of `auth`. Of Amazon's stores `machine`, where nothing says who we are.
    pub(super) role: Option<RoleName>,
    /// Of `nats`, in place of `url`: several servers of one cluster.
    #[serde(default)]
    pub(super) servers: Vec<Secret>,
    /// Of `kafka`: `HOST:PORT` of some brokers, by which the others are found.
    #[serde(default)]
    pub(super) brokers: Vec<String>,
    /// Of `kafka`: where records go. It has to be there.
    pub(super) topic: Option<String>,
    /// Of `opentelemetry`: `http` unless set.
    pub(super) protocol: Option<OtlpProtocol>,
    /// Of `http`: a batch is one array, or an object a line.
    pub(super) framing: Option<Framing>,
    /// Of sinks that speak HTTP: headers that are sent along.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Secret>,
    #[serde(default)]
    pub(super) auth: AuthConfig,
    /// Of network sinks with TLS.
    pub(super) tls: Option<TlsConfig>,
    #[serde(default)]
    pub(super) healthcheck: HealthConfig,
    /// Of `prometheus`: the address on which it can be scraped.
    pub(super) listen: Option<String>,
    /// Of `prometheus`, `prometheus_remote_write` and `opentelemetry`: what metrics' names begin with. The name of
    /// the sink, unless set.
    pub(super) prefix: Option<String>,
    /// Of `nats`: the subject under which elements are published.
    pub(super) subject: Option<String>,
    /// Of `postgres` and `clickhouse`: the table that rows go to; made if it is not there.
    pub(super) table: Option<String>,
    #[serde(default)]
    pub(super) buffer: BufferConfig,
    #[serde(default)]
    pub(super) batch: BatchConfig,
    #[serde(default)]
    pub(super) retry: RetryConfig,
    /// Of network sinks: one attempt takes no longer.
    #[serde(default = "default_timeout")]
    pub(super) timeout: Span,
}

fn default_timeout() -> Span {
    Span(Duration::from_secs(30))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Framing {
    Array,
    Lines,
}

/// OTLP over HTTP (protobuf), or gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum OtlpProtocol {
    Http,
    Grpc,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EncodingConfig {
    /// `changelog`, unless the kind of sink says otherwise.
    pub(super) mode: Option<Mode>,
    pub(super) codec: Option<CodecName>,
}

/// `parquet` is of files: a batch is a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum CodecName {
    #[default]
    Json,
    Csv,
    Parquet,
}

/// When a file is put aside under a name with the number of its last element.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RotateConfig {
    /// Before it would be larger.
    pub(super) max_bytes: Option<Size>,
    /// When something is written and it was begun so long ago.
    pub(super) every: Option<Span>,
    /// So many of those that were put aside stay; all, unless set.
    pub(super) keep: Option<usize>,
}

/// Files of PEM; a relative path begins at the configuration's folder. `kafka` and `postgres` speak TLS if it is there.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TlsConfig {
    /// Only these authorities are trusted; those that browsers trust, unless set.
    pub(super) ca: Option<PathBuf>,
    /// Our certificate, and its key.
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// Whether it is looked at if the other end is there, before the first element and while nothing is to be written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HealthConfig {
    pub(super) enabled: bool,
    pub(super) every: Span,
}

impl Default for HealthConfig {
    fn default() -> HealthConfig {
        HealthConfig { enabled: true, every: Span(Duration::from_secs(30)) }
    }
}

/// How it says who it is. In a store that speaks S3: the id of an access key, its secret, and a session's token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AuthConfig {
    pub(super) user: Option<Secret>,
    pub(super) password: Option<Secret>,
    /// Sent as `Authorization: Bearer`, to NATS as its token.
    pub(super) token: Option<Secret>,
    /// Of `kafka`: how the password is shown to be known; `PLAIN` unless set.
    pub(super) mechanism: Option<Mechanism>,
    /// Of `nats`: a file of credentials, a user's JWT and its seed. A relative path begins at the configuration's
    /// folder.
    pub(super) creds: Option<PathBuf>,
    /// Of `nats`: the seed of a user's key.
    pub(super) nkey: Option<Secret>,
}

/// Of SASL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) enum Mechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RoleName {
    /// What this machine, container or pod has been given.
    Machine,
    /// Nobody.
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum BufferKind {
    #[default]
    Memory,
    /// In the data directory: it outlives the server.
    Disk,
}

/// What waits while the other end does not take it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BufferConfig {
    #[serde(rename = "type")]
    pub(super) kind: BufferKind,
    /// 16 MiB in memory, 256 MiB on disk, unless set.
    pub(super) max_bytes: Option<Size>,
    pub(super) when_full: WhenFull,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BatchConfig {
    pub(super) max_rows: usize,
    pub(super) max_bytes: Size,
    /// How long less than a batch waits for more; 0s: it leaves when the writer is free.
    pub(super) timeout: Span,
}

impl Default for BatchConfig {
    fn default() -> BatchConfig {
        BatchConfig { max_rows: 10_000, max_bytes: Size(1 << 20), timeout: Span(Duration::ZERO) }
    }
}

/// Waits between attempts: from `initial`, doubling, to `max`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RetryConfig {
    pub(super) initial: Span,
    pub(super) max: Span,
}

impl Default for RetryConfig {
    fn default() -> RetryConfig {
        RetryConfig { initial: Span(Duration::from_secs(1)), max: Span(Duration::from_secs(30)) }
    }
}

/// One of `script`, `text`, `file` and `view`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    /// A script of the bundle.
    pub(super) script: Option<String>,
    /// A script as it is.
    pub(super) text: Option<String>,
    /// A script's file.
    pub(super) file: Option<PathBuf>,
    /// A view that a rule of `rules` records.
    pub(super) view: Option<String>,
    pub(super) func: Option<String>,
    #[serde(default)]
    pub(super) args: BTreeMap<String, Scalar>,
    /// Which of its outputs, if there are several.
    pub(super) table: Option<String>,
}

/// A script's arguments are texts, however YAML reads them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Scalar {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl Scalar {
    pub(super) fn text(&self) -> String {
        match self {
            Scalar::Boolean(value) => value.to_string(),
            Scalar::Integer(value) => value.to_string(),
            Scalar::Float(value) => value.to_string(),
            Scalar::Text(value) => value.clone(),
        }
    }
}

/// A text that stands in no log.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `500ms`, `30s`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

/// `1MiB`, or a number of bytes
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Unit {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
        let text = match Unit::deserialize(from)? {
            Unit::Number(number) => number.to_string(),
            Unit::Text(text) => text,
        };
        parse_duration(&text).map(Span).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Size, D::Error> {
        match Unit::deserialize(from)? {
            Unit::Number(number) => Ok(Size(number)),
            Unit::Text(text) => {
                parse_bytes(&text).map(|bytes| Size(bytes as u64)).map_err(serde::de::Error::custom)
            }
        }
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9.]+(ms|s|m|h|d)$" })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "pattern": "^[0-9]+(B|KiB|MiB|GiB|K|M|G)?$",
            "minimum": 0
        })
    }
}

/// The JSON Schema of the whole file.
pub(super) fn schema() -> serde_json::Value {
    serde_json::json!(schemars::schema_for!(Config))
}
