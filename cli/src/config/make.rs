//! From keys to sinks: which kind needs and takes which keys, whether its script shows what it is to write, and
//! how its writer is made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use weir_cluster::planner::{self, Allowance, ScriptRequest};
use weir_cluster::service::{BufferSpec, InputSpec, SinkSpec, WriterSpec, read_by};
use weir_pxl::NamedView;
use weir_sinks::blackhole::BlackholeSink;
use weir_sinks::buffer::disk::DISK_BYTES_MIN;
use weir_sinks::console::ConsoleSink;
use weir_sinks::delivery::OutputInfo;
use weir_sinks::encode::{Codec, Mode};
use weir_sinks::file::FileSink;
use weir_sinks::http::{self, HttpSink};
use weir_sinks::http_client::Target;
use weir_sinks::mode;
use weir_sinks::nats::{NatsConfig, NatsSink};
use weir_sinks::pipe::{Backoff, BatchLimits};
use weir_sinks::postgres::{self, PostgresConfig, PostgresSink};
use weir_sinks::prometheus::{self, PrometheusSink};
use weir_sinks::sink::Writer;

use super::bounded;
use super::keys::{AuthConfig, BufferKind, Framing, Input, Kind, Secret, SinkConfig};
use crate::script;

/// No script is longer; what is read of one.
const SCRIPT_BYTES_MAX: u64 = planner::SCRIPT_BYTES_MAX as u64;
/// Each is a reader of its own.
const INPUTS_MAX: usize = 16;
const MEMORY_BYTES: u64 = 16 << 20;
const DISK_BYTES: u64 = 256 << 20;
/// A buffer in memory is at least and at most this.
const MEMORY_BYTES_MIN: u64 = 64 << 10;
const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// A batch is made as a whole.
const BATCH_ROWS_MAX: usize = 1_000_000;
const BATCH_BYTES_MAX: u64 = 64 << 20;

/// What two sinks may not share.
pub(super) fn place_of(sink: &SinkConfig, base: &Path) -> Option<String> {
    let url = || sink.url.as_ref().map_or("", |url| url.0.as_str());
    match sink.kind {
        Kind::File => sink.path.as_ref().map(|path| {
            // Without `.` in between.
            let path: PathBuf = base.join(path).components().collect();
            format!("file {}", path.display())
        }),
        Kind::Prometheus => sink.listen.as_ref().map(|listen| format!("port {listen}")),
        Kind::Postgres => sink.table.as_ref().map(|table| format!("table {} {table}", url())),
        _ => None,
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Blackhole => "blackhole",
            Kind::Console => "console",
            Kind::File => "file",
            Kind::Http => "http",
            Kind::Nats => "nats",
            Kind::Postgres => "postgres",
            Kind::Prometheus => "prometheus",
        }
    }

    /// Keys besides those of every sink, and which of them it cannot do without.
    fn keys(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Kind::Blackhole | Kind::Console => (&[], &[]),
            Kind::File => (&["path"], &["path"]),
            Kind::Http => (&["url", "framing", "headers", "auth", "timeout"], &["url"]),
            Kind::Nats => (&["url", "subject", "auth", "timeout"], &["url", "subject"]),
            Kind::Postgres => (&["url", "table", "auth", "timeout"], &["url", "table"]),
            Kind::Prometheus => (&["listen", "prefix"], &["listen"]),
        }
    }

    /// The mode that it needs; others take all.
    fn only_mode(self) -> Option<Mode> {
        matches!(self, Kind::Postgres | Kind::Prometheus).then_some(Mode::Upsert)
    }

    fn takes_csv(self) -> bool {
        matches!(self, Kind::Blackhole | Kind::Console | Kind::File)
    }
}

const OF_ALL: [&str; 6] = ["type", "inputs", "encoding", "buffer", "batch", "retry"];

fn judge_keys(kind: Kind, written: &Json) -> Result<(), String> {
    let (has, needs) = kind.keys();
    let name = kind.name();
    let keys = written.as_object().into_iter().flat_map(|keys| keys.keys());
    for key in keys {
        if !OF_ALL.contains(&key.as_str()) && !has.contains(&key.as_str()) {
            return Err(format!("a sink of type {name} has no `{key}`"));
        }
    }
    match needs.iter().find(|key| written[**key].is_null()) {
        Some(key) => Err(format!("a sink of type {name} needs a `{key}`")),
        None => Ok(()),
    }
}

/// `written`: the sink as the file and the environment have it.
pub(super) fn spec(
    name: &str,
    config: SinkConfig,
    written: &Json,
    base: &Path,
    views: &[NamedView],
) -> Result<SinkSpec, String> {
    let kind = config.kind;
    judge_keys(kind, written)?;
    let codec = config.encoding.codec.unwrap_or_default();
    if codec == Codec::Csv && (!kind.takes_csv() || config.inputs.len() > 1) {
        return Err("`codec: csv` is for one input, and for files and consoles".to_string());
    }
    let mode = match (kind.only_mode(), config.encoding.mode) {
        (Some(only), Some(mode)) if only != mode => {
            return Err(format!("a sink of type {} takes `mode: upsert` only", kind.name()));
        }
        (Some(only), _) => only,
        (None, mode) => mode.unwrap_or_default(),
    };
    if config.inputs.is_empty() || config.inputs.len() > INPUTS_MAX {
        return Err(format!("a sink has 1 to {INPUTS_MAX} inputs"));
    }
    if kind == Kind::Postgres && config.inputs.len() > 1 {
        return Err("a table has one input".to_string());
    }
    let mut tables: Vec<String> = Vec::new();
    let mut inputs = Vec::new();
    for input in &config.inputs {
        let (spec, output) = input_spec(input, base, views)?;
        judge(kind, mode, &output)?;
        if tables.contains(&output.table) {
            let table = &output.table;
            return Err(format!(
                "two inputs are called `{table}`: their rows could not be told apart"
            ));
        }
        tables.push(output.table);
        inputs.push(spec);
    }
    let buffer = buffer_spec(&config)?;
    let writer = writer_spec(name, &config, codec, base)?;
    let (feed_print, writer_print) = prints(kind, written, &inputs);
    Ok(SinkSpec {
        name: name.to_string(),
        kind: kind.name(),
        inputs,
        mode,
        buffer,
        writer: Some(writer),
        feed_print,
        writer_print,
    })
}

/// What makes a sink the one that runs already: what it takes in, and how it writes.
fn prints(kind: Kind, written: &Json, inputs: &[InputSpec]) -> (String, String) {
    let (mut feed, mut writer) = (written.clone(), written.clone());
    let of_feed = ["inputs", "encoding", "buffer"];
    // Whoever scrapes sees all rows: a new exporter has to be told them again.
    let is_one = kind == Kind::Prometheus;
    for (json, is_feed) in [(&mut feed, true), (&mut writer, false)] {
        if let Some(keys) = json.as_object_mut() {
            keys.retain(|key, _| is_one || of_feed.contains(&key.as_str()) == is_feed);
        }
    }
    // Of a script in a file its text counts.
    (format!("{feed} {inputs:?}"), writer.to_string())
}

/// An input, and the output that it shows. `views`: recorded ones, which its text may read.
fn input_spec(
    input: &Input,
    base: &Path,
    views: &[NamedView],
) -> Result<(InputSpec, OutputInfo), String> {
    let Input { script, text, file, func, args, table } = input;
    let text = match (script, text, file) {
        (Some(_), None, None) => None,
        (None, Some(text), None) => Some(text.clone()),
        (None, None, Some(file)) => Some(bounded(&base.join(file), SCRIPT_BYTES_MAX)?),
        _ => return Err("an input is one of `script`, `text` and `file`".to_string()),
    };
    let args = args.iter().map(|(name, value)| (name.clone(), value.text())).collect();
    let (script, func) = (script.clone(), func.clone());
    // Only those: when another one changes, the sink goes on.
    let views = text.as_deref().map(|text| read_by(views, text)).unwrap_or_default();
    let request = ScriptRequest { script, text, func, args, views, ..ScriptRequest::default() };
    let allowance =
        Allowance { deadline: Some(script::compile_deadline()), ..Allowance::default() };
    let compiled = planner::compile(&request, None, &allowance);
    let (_, compiled) = compiled.map_err(|error| match error.diagnostics().first() {
        Some(first) => format!("{error}: {}:{}: {}", first.line, first.column, first.message),
        None => error.to_string(),
    })?;
    let outputs = planner::output_infos(&compiled);
    let output = planner::wanted_output(&outputs, table.as_deref())?.clone();
    Ok((InputSpec { request, table: table.clone() }, output))
}

/// The script shows what the sink is to take, in the mode in which it is to.
fn judge(kind: Kind, mode: Mode, output: &OutputInfo) -> Result<(), String> {
    mode::judge(mode, output).map_err(|error| error.to_string())?;
    let judged = match kind {
        Kind::Postgres => postgres::judge(output),
        Kind::Prometheus => prometheus::judge(output),
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

fn writer_spec(
    name: &str,
    config: &SinkConfig,
    codec: Codec,
    base: &Path,
) -> Result<WriterSpec, String> {
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
    Ok(WriterSpec { writer: writer(name, config, codec, base)?, batch, backoff })
}

fn text_of(secret: Option<&Secret>) -> String {
    secret.map(|secret| secret.0.clone()).unwrap_or_default()
}

/// Everything of it that no message may repeat.
fn secrets(config: &SinkConfig) -> Vec<String> {
    secrets_of(&text_of(config.url.as_ref()), &config.headers, &config.auth)
}

pub(super) fn secrets_of(
    url: &str,
    headers: &BTreeMap<String, Secret>,
    auth: &AuthConfig,
) -> Vec<String> {
    let AuthConfig { user: _, password, token } = auth;
    let mut secrets: Vec<String> = headers.values().map(|it| it.0.clone()).collect();
    secrets.extend([password, token].into_iter().flatten().map(|it| it.0.clone()));
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if let Some((user, _)) = host.rsplit_once('@') {
        secrets.push(user.to_string());
        secrets.extend(user.split_once(':').map(|(_, password)| password.to_string()));
    }
    secrets.extend(url.split_once('?').map(|(_, query)| query.to_string()));
    secrets.push(url.to_string());
    secrets.retain(|secret| !secret.is_empty());
    // The longest first, so that a part of one does not hide that it is one.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

fn wants_scheme(config: &SinkConfig, schemes: &[&str]) -> Result<String, String> {
    let url = text_of(config.url.as_ref());
    match schemes.iter().any(|scheme| url.starts_with(scheme)) {
        true => Ok(url),
        false => Err(format!("`url` begins with {}", schemes.join(" or "))),
    }
}

pub(super) fn headers_of(
    headers: &BTreeMap<String, Secret>,
    auth: &AuthConfig,
) -> Result<Vec<(String, String)>, String> {
    let AuthConfig { user, password, token } = auth;
    let mut headers: Vec<(String, String)> =
        headers.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect();
    if user.is_some() || password.is_some() {
        return Err("http takes `auth.token`, or user and password in `headers`".to_string());
    }
    if let Some(token) = token {
        headers.push(("authorization".to_string(), format!("Bearer {}", token.0)));
    }
    for (name, value) in &headers {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(format!("`{name}` is no name of a header"));
        }
        if value.bytes().any(|byte| byte < 32 && byte != b'\t' || byte == 127) {
            return Err(format!("the header `{name}` may have no line ends or control characters"));
        }
    }
    Ok(headers)
}

fn writer(
    name: &str,
    config: &SinkConfig,
    codec: Codec,
    base: &Path,
) -> Result<Box<dyn Writer>, String> {
    let timeout = config.timeout.0;
    let auth = &config.auth;
    Ok(match config.kind {
        Kind::Blackhole => Box::new(BlackholeSink),
        Kind::Console => Box::new(ConsoleSink::new(std::io::stderr(), codec)),
        Kind::File => {
            let path = config.path.clone().unwrap_or_default();
            Box::new(FileSink::new(base, &path, codec))
        }
        Kind::Http => {
            let target = Target {
                url: wants_scheme(config, &["http://", "https://"])?,
                headers: headers_of(&config.headers, &config.auth)?,
                timeout,
                secrets: secrets(config),
            };
            let framing = match config.framing {
                Some(Framing::Lines) => http::Framing::Lines,
                Some(Framing::Array) | None => http::Framing::Array,
            };
            Box::new(HttpSink::new(target, framing))
        }
        Kind::Nats => Box::new(NatsSink::new(NatsConfig {
            name: name.to_string(),
            url: wants_scheme(config, &["nats://", "tls://"])?,
            subject: subject(config)?,
            user: auth.user.as_ref().map(|user| (user.0.clone(), text_of(auth.password.as_ref()))),
            token: auth.token.as_ref().map(|token| token.0.clone()),
            timeout,
            secrets: secrets(config),
        })),
        Kind::Postgres => Box::new(PostgresSink::new(PostgresConfig {
            url: wants_scheme(config, &["postgres://", "postgresql://"])?,
            table: config.table.clone().unwrap_or_default(),
            user: auth.user.as_ref().map(|user| user.0.clone()),
            password: auth.password.as_ref().map(|password| password.0.clone()),
            timeout,
            secrets: secrets(config),
        })),
        Kind::Prometheus => {
            let listen = config.listen.clone().unwrap_or_default();
            if listen.parse::<std::net::SocketAddr>().is_err() {
                return Err("`listen` is ADDR:PORT, like 127.0.0.1:9464".to_string());
            }
            Box::new(PrometheusSink::new(&listen, config.prefix.as_deref().unwrap_or(name)))
        }
    })
}

fn subject(config: &SinkConfig) -> Result<String, String> {
    let subject = config.subject.clone().unwrap_or_default();
    let is_token = |token: &str| !token.is_empty() && token != "*" && token != ">";
    let is_text = !subject.chars().any(|c| c.is_whitespace() || c.is_control());
    if !is_text || !subject.split('.').all(is_token) {
        return Err("`subject` is made of words with dots between, without wildcards".to_string());
    }
    Ok(subject)
}
