//! From keys to sinks: which kind needs and takes which keys, whether its scripts show what it is to write
//! ([`inputs`]), and how its writer is made ([`writers`]).

mod inputs;
mod prints;
mod writers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;
use weir_cluster::service::{BufferSpec, SinkSpec, WriterSpec};
use weir_pxl::ViewIndex;
use weir_sinks::buffer::disk::DISK_BYTES_MIN;
use weir_sinks::delivery::OutputInfo;
use weir_sinks::encode::Mode;
use weir_sinks::pipe::{Backoff, BatchLimits};
use weir_sinks::sink::Writer;
use weir_sinks::{clickhouse, mode, otel, parquet, postgres, prometheus, remote_write};

use super::access::{creds_of, tls_of};
use super::keys::{BufferKind, CodecName, HealthConfig, Kind, SinkConfig, Size, Span};

const MEMORY_BYTES: u64 = 16 << 20;
const DISK_BYTES: u64 = 256 << 20;
/// A buffer in memory is at least and at most this.
const MEMORY_BYTES_MIN: u64 = 64 << 10;
const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// A batch is made as a whole.
const BATCH_ROWS_MAX: usize = 1_000_000;
const BATCH_BYTES_MAX: u64 = 64 << 20;
/// How long an object of a store waits for more rows, and what an attempt at putting it there may take.
const STORE_WAIT: Duration = Duration::from_secs(60);
const STORE_TIMEOUT: Duration = Duration::from_secs(120);
const HEALTH_EVERY_MIN: Duration = Duration::from_secs(1);

/// What two sinks may not share.
pub(super) fn place_of(sink: &SinkConfig, base: &Path) -> Option<String> {
    let url = || sink.url.as_ref().map_or("", |url| url.0.as_str());
    match sink.kind {
        Kind::File if sink.is_in_store() => {
            sink.path.as_ref().map(|path| format!("store {} {}", url(), path.display()))
        }
        Kind::File => sink.path.as_ref().map(|path| {
            // Without `.` in between.
            let path: PathBuf = base.join(path).components().collect();
            format!("file {}", path.display())
        }),
        Kind::Prometheus => sink.listen.as_ref().map(|listen| format!("port {listen}")),
        Kind::Clickhouse | Kind::Postgres => {
            sink.table.as_ref().map(|table| format!("table {} {table}", url()))
        }
        // A compacted topic is one view's.
        Kind::Kafka if sink.encoding.mode == Some(Mode::Upsert) => {
            sink.topic.as_ref().map(|topic| format!("topic {:?} {topic}", sink.brokers))
        }
        _ => None,
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Blackhole => "blackhole",
            Kind::Clickhouse => "clickhouse",
            Kind::Console => "console",
            Kind::File => "file",
            Kind::Http => "http",
            Kind::Kafka => "kafka",
            Kind::Nats => "nats",
            Kind::Opentelemetry => "opentelemetry",
            Kind::Postgres => "postgres",
            Kind::Prometheus => "prometheus",
            Kind::PrometheusRemoteWrite => "prometheus_remote_write",
            Kind::Websocket => "websocket",
        }
    }

    /// Keys besides those of every sink, and which of them it cannot do without.
    fn keys(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Kind::Blackhole | Kind::Console => (&[], &[]),
            Kind::Clickhouse => (&["url", "table", "headers"], &["url", "table"]),
            Kind::File => (&["path", "rotate", "url", "region", "role"], &["path"]),
            Kind::Http => (&["url", "framing", "headers"], &["url"]),
            Kind::Kafka => (&["brokers", "topic"], &["brokers", "topic"]),
            Kind::Nats => (&["url", "servers", "subject"], &["subject"]),
            Kind::Opentelemetry => (&["url", "protocol", "prefix", "headers"], &[]),
            Kind::Postgres => (&["url", "table"], &["url", "table"]),
            Kind::Prometheus => (&["listen", "prefix"], &["listen"]),
            Kind::PrometheusRemoteWrite => (&["url", "prefix", "headers"], &["url"]),
            Kind::Websocket => (&["url", "headers"], &["url"]),
        }
    }

    /// Keys of `auth`.
    fn logins(self) -> &'static [&'static str] {
        match self {
            Kind::Kafka => &["mechanism", "user", "password"],
            Kind::Nats => &["user", "password", "token", "creds", "nkey"],
            Kind::Postgres => &["user", "password"],
            _ => &["user", "password", "token"],
        }
    }

    /// The mode that it needs; others take all.
    fn only_mode(self, has_exports: bool) -> Option<Mode> {
        match self {
            Kind::Opentelemetry if has_exports => Some(Mode::Append),
            Kind::Opentelemetry
            | Kind::Postgres
            | Kind::Prometheus
            | Kind::PrometheusRemoteWrite => Some(Mode::Upsert),
            _ => None,
        }
    }

    fn takes_csv(self) -> bool {
        matches!(self, Kind::Blackhole | Kind::Console | Kind::File)
    }
}

impl SinkConfig {
    /// It is a file's, and the file is an object in a store.
    fn is_in_store(&self) -> bool {
        let path = self.path.as_deref().and_then(Path::to_str);
        self.kind == Kind::File && path.is_some_and(|path| path.starts_with("s3://"))
    }

    /// There is another end, somewhere else.
    fn is_network(&self) -> bool {
        use Kind::{Blackhole, Console, File, Prometheus};
        !matches!(self.kind, Blackhole | Console | File | Prometheus) || self.is_in_store()
    }
}

const OF_ALL: [&str; 6] = ["type", "inputs", "encoding", "buffer", "batch", "retry"];
const OF_NETWORK: [&str; 4] = ["auth", "healthcheck", "timeout", "tls"];

/// Of `file`: where it is, decides which keys it has.
const OF_STORE: [&str; 3] = ["url", "region", "role"];
const OF_DISK: [&str; 1] = ["rotate"];

fn judge_keys(config: &SinkConfig, written: &Json) -> Result<(), String> {
    let (has, needs) = config.kind.keys();
    let name = config.kind.name();
    let (others, place) = match (config.kind, config.is_in_store()) {
        (Kind::File, true) => (OF_DISK.as_slice(), " in a store"),
        (Kind::File, false) => (OF_STORE.as_slice(), ""),
        _ => ([].as_slice(), ""),
    };
    let keys = written.as_object().into_iter().flat_map(|keys| keys.keys());
    for key in keys {
        let key = key.as_str();
        let is_networks = config.is_network() && OF_NETWORK.contains(&key);
        let is_its = has.contains(&key) && !others.contains(&key);
        if !OF_ALL.contains(&key) && !is_its && !is_networks {
            return Err(format!("a sink of type {name}{place} has no `{key}`"));
        }
    }
    let logins = written["auth"].as_object().into_iter().flat_map(|keys| keys.keys());
    if let Some(key) = logins.into_iter().find(|key| !config.kind.logins().contains(&key.as_str()))
    {
        return Err(format!("a sink of type {name} has no `auth.{key}`"));
    }
    match needs.iter().find(|key| written[**key].is_null()) {
        Some(key) => Err(format!("a sink of type {name} needs a `{key}`")),
        None => Ok(()),
    }
}

/// `written`: the sink as the file and the environment have it. `views`: recorded ones, which it may read.
pub(super) fn spec(
    name: &str,
    mut config: SinkConfig,
    written: &Json,
    base: &Path,
    views: &ViewIndex,
) -> Result<SinkSpec, String> {
    let kind = config.kind;
    judge_keys(&config, written)?;
    if config.is_in_store() {
        made_large(&mut config, written);
    }
    let codec = config.encoding.codec.unwrap_or_default();
    if codec == CodecName::Csv && (!kind.takes_csv() || config.inputs.len() > 1) {
        return Err("`codec: csv` is for one input, and for files and consoles".to_string());
    }
    if codec == CodecName::Parquet && (kind != Kind::File || config.inputs.len() > 1) {
        return Err("`codec: parquet` is for one input, and for files".to_string());
    }
    if config.inputs.is_empty() || config.inputs.len() > inputs::INPUTS_MAX {
        return Err(format!("a sink has 1 to {} inputs", inputs::INPUTS_MAX));
    }
    if matches!(kind, Kind::Clickhouse | Kind::Postgres) && config.inputs.len() > 1 {
        return Err("a table has one input".to_string());
    }
    let found = inputs::found(name, &config, base, views)?;
    let mode = match (kind.only_mode(found.has_exports()), config.encoding.mode) {
        (Some(only), Some(mode)) if only != mode => {
            return Err(format!("a sink of type {} takes `mode: {only}` only here", kind.name()));
        }
        (Some(only), _) => only,
        (None, mode) => mode.unwrap_or_default(),
    };
    judge(name, &config, mode, &found.outputs)?;
    let buffer = buffer_spec(&config)?;
    let place = prints::place(kind, written);
    let tls = config.tls.as_ref().map(|tls| tls_of(tls, base)).transpose()?;
    let creds = creds_of(&config.auth, base)?;
    let how = writers::How { name, mode, base, tls: tls.clone(), creds: creds.clone() };
    let writer = writers::writer(&how, &config, &found)?;
    let target = writers::target(&config, &found);
    let writer = WriterSpec { target, place, ..writer_spec(&config, writer)? };
    let secrets = (tls.as_ref(), creds.as_deref());
    let (feed_print, writer_print) = prints::prints(kind, written, &found.specs, secrets);
    Ok(SinkSpec {
        name: name.to_string(),
        kind: kind.name(),
        inputs: found.specs,
        mode,
        buffer,
        writer: Some(writer),
        feed_print,
        writer_print,
    })
}

/// Each batch becomes an object: what nobody asked otherwise for is large, and has time.
fn made_large(config: &mut SinkConfig, written: &Json) {
    let unless = |key: &str| written["batch"][key].is_null();
    if unless("max_rows") {
        config.batch.max_rows = BATCH_ROWS_MAX;
    }
    if unless("max_bytes") {
        config.batch.max_bytes = Size(BATCH_BYTES_MAX);
    }
    if unless("timeout") {
        config.batch.timeout = Span(STORE_WAIT);
    }
    if written["timeout"].is_null() {
        config.timeout = Span(STORE_TIMEOUT);
    }
}

/// The scripts show what the sink is to take, in the mode in which it is to.
fn judge(
    name: &str,
    config: &SinkConfig,
    mode: Mode,
    outputs: &[OutputInfo],
) -> Result<(), String> {
    let mut tables: Vec<&str> = Vec::new();
    for output in outputs {
        mode::judge(mode, output).map_err(|error| error.to_string())?;
        let table = output.table.as_str();
        if tables.contains(&table) {
            return Err(format!(
                "two inputs are called `{table}`: their rows could not be told apart"
            ));
        }
        tables.push(table);
    }
    let prefix = config.prefix.as_deref().unwrap_or(name);
    let judged = match config.kind {
        Kind::Clickhouse => outputs.iter().try_for_each(clickhouse::judge),
        Kind::File if config.encoding.codec == Some(CodecName::Parquet) => {
            outputs.iter().try_for_each(parquet::judge)
        }
        Kind::Opentelemetry if mode == Mode::Upsert => outputs.iter().try_for_each(otel::judge),
        Kind::Postgres => outputs.iter().try_for_each(postgres::judge),
        Kind::Prometheus => prometheus::judge(prefix, outputs),
        Kind::PrometheusRemoteWrite => remote_write::judge(prefix, outputs),
        _ => Ok(()),
    };
    judged.map_err(|error| error.to_string())
}

fn buffer_spec(config: &SinkConfig) -> Result<BufferSpec, String> {
    let is_disk = config.buffer.kind == BufferKind::Disk;
    let (default, min, max) = match is_disk {
        true => (DISK_BYTES, DISK_BYTES_MIN, u64::MAX),
        false => (MEMORY_BYTES, MEMORY_BYTES_MIN, MEMORY_BYTES_MAX),
    };
    let bytes_max = config.buffer.max_bytes.map_or(default, |size| size.0);
    if !(min..=max).contains(&bytes_max) {
        let most = if is_disk { String::new() } else { format!(" and at most {max}") };
        return Err(format!("buffer.max_bytes is at least {min}{most}"));
    }
    Ok(BufferSpec { is_disk, bytes_max, when_full: config.buffer.when_full })
}

/// How it writes; where is said elsewhere.
fn writer_spec(config: &SinkConfig, writer: Box<dyn Writer>) -> Result<WriterSpec, String> {
    let (batch, retry) = (&config.batch, &config.retry);
    if !(1..=BATCH_ROWS_MAX).contains(&batch.max_rows) {
        return Err(format!("batch.max_rows is 1 to {BATCH_ROWS_MAX}"));
    }
    if !(1..=BATCH_BYTES_MAX).contains(&batch.max_bytes.0) {
        return Err(format!("batch.max_bytes is 1 to {BATCH_BYTES_MAX}"));
    }
    if retry.initial.0.is_zero() || retry.max.0 < retry.initial.0 {
        return Err("retry.initial is more than 0s and not more than retry.max".to_string());
    }
    if config.timeout.0.is_zero() {
        return Err("timeout is more than 0s".to_string());
    }
    let batch = BatchLimits {
        rows_max: batch.max_rows,
        bytes_max: batch.max_bytes.0,
        timeout: batch.timeout.0,
    };
    let backoff = Backoff { initial: retry.initial.0, max: retry.max.0 };
    let HealthConfig { enabled, every } = config.healthcheck;
    if every.0 < HEALTH_EVERY_MIN {
        return Err("healthcheck.every is at least 1s".to_string());
    }
    let checks = (enabled && config.is_network()).then_some(every.0);
    let (place, target) = (String::new(), String::new());
    Ok(WriterSpec { writer, batch, backoff, checks, place, target })
}
