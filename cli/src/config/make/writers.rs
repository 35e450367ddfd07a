//! The writer of each kind of sink, as its keys say.

mod logins;
mod stores;

use std::path::Path;

use weir_pxl::OtelEndpoint;
use weir_sinks::blackhole::BlackholeSink;
use weir_sinks::clickhouse::{ClickHouseConfig, ClickHouseSink};
use weir_sinks::console::ConsoleSink;
use weir_sinks::encode::{Codec, Mode};
use weir_sinks::file::{FileSink, Rotation};
use weir_sinks::http::{self, HttpSink};
use weir_sinks::http_client::Target;
use weir_sinks::kafka::{KafkaConfig, KafkaSink};
use weir_sinks::nats::NatsSink;
use weir_sinks::otel::{OtelSink, Protocol};
use weir_sinks::parquet::ParquetSink;
use weir_sinks::postgres::{PostgresConfig, PostgresSink};
use weir_sinks::prometheus::PrometheusSink;
use weir_sinks::remote_write::RemoteWriteSink;
use weir_sinks::secrets::shown_place;
use weir_sinks::sink::Writer;
use weir_sinks::tls::Tls;
use weir_sinks::websocket::WebsocketSink;

use super::inputs::Found;
use crate::config::access::{secrets_of, target_of, text_of};
use crate::config::keys::{
    CodecName, Framing, Kind, OtlpProtocol, RotateConfig, Secret, SinkConfig,
};

/// Variables of the environment that scripts may name.
const OF_EXPORTS: &str = "WEIR_EXPORT_";

const HTTP: [&str; 2] = ["http://", "https://"];

fn with_scheme(url: String, schemes: &[&str]) -> Result<String, String> {
    match schemes.iter().any(|scheme| url.starts_with(scheme)) {
        true => Ok(url),
        false => Err(format!("`url` begins with {}", schemes.join(" or "))),
    }
}

fn wants_scheme(config: &SinkConfig, schemes: &[&str]) -> Result<String, String> {
    with_scheme(text_of(config.url.as_ref()), schemes)
}

/// What a sink's writer depends on besides its keys.
pub(super) struct How<'a> {
    pub(super) name: &'a str,
    pub(super) mode: Mode,
    /// Where relative paths begin.
    pub(super) base: &'a Path,
    pub(super) tls: Option<Tls>,
    /// What the file of credentials holds.
    pub(super) creds: Option<String>,
}

impl How<'_> {
    fn target(&self, config: &SinkConfig, url: String) -> Result<Target, String> {
        let tls = self.tls.clone().unwrap_or_default();
        target_of(url, &config.headers, &config.auth, config.timeout, tls)
    }

    fn of_http(&self, config: &SinkConfig) -> Result<Target, String> {
        self.target(config, wants_scheme(config, &HTTP)?)
    }
}

/// Everything of it that no message may repeat.
fn secrets(config: &SinkConfig) -> Vec<String> {
    secrets_of(&text_of(config.url.as_ref()), &config.headers, &config.auth)
}

pub(super) fn writer(
    how: &How<'_>,
    config: &SinkConfig,
    found: &Found,
) -> Result<Box<dyn Writer>, String> {
    let codec = config.encoding.codec.unwrap_or_default();
    let prefix = config.prefix.as_deref().unwrap_or(how.name);
    Ok(match config.kind {
        Kind::Blackhole => Box::new(BlackholeSink),
        Kind::Clickhouse => Box::new(ClickHouseSink::new(ClickHouseConfig {
            target: how.of_http(config)?,
            table: config.table.clone().unwrap_or_default(),
            is_upsert: how.mode == Mode::Upsert,
        })),
        Kind::Console => Box::new(ConsoleSink::new(std::io::stderr(), lines_of(codec))),
        Kind::File if config.is_in_store() => Box::new(stores::s3(how, config, codec)?),
        Kind::File => file(config, codec, how.base)?,
        Kind::Http => {
            let framing = match config.framing {
                Some(Framing::Lines) => http::Framing::Lines,
                Some(Framing::Array) | None => http::Framing::Array,
            };
            Box::new(HttpSink::new(how.of_http(config)?, framing))
        }
        Kind::Kafka => Box::new(KafkaSink::new(kafka(how, config)?)),
        Kind::Nats => Box::new(NatsSink::new(logins::nats(how, config, subject(config)?)?)),
        Kind::Opentelemetry => Box::new(otel(how, config, prefix, found)?),
        Kind::Postgres => Box::new(PostgresSink::new(postgres(how, config)?)),
        Kind::Prometheus => {
            let listen = config.listen.clone().unwrap_or_default();
            if listen.parse::<std::net::SocketAddr>().is_err() {
                return Err("`listen` is ADDR:PORT, like 127.0.0.1:9464".to_string());
            }
            Box::new(PrometheusSink::new(&listen, prefix))
        }
        Kind::PrometheusRemoteWrite => Box::new(RemoteWriteSink::new(how.of_http(config)?, prefix)),
        Kind::Websocket => {
            let url = wants_scheme(config, &["ws://", "wss://"])?;
            Box::new(WebsocketSink::new(how.target(config, url)?))
        }
    })
}

/// Where it writes to, as lists and messages may say it.
pub(super) fn target(config: &SinkConfig, found: &Found) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let url = config.url.as_ref().map(|url| url.0.clone());
    let url = url.or(found.endpoints.first().map(url_of));
    let urls = url.into_iter().chain(config.servers.iter().map(|server| server.0.clone()));
    let url = urls.map(|url| shown_place(&url)).collect::<Vec<_>>().join(",");
    match config.kind {
        Kind::Blackhole => String::new(),
        Kind::Console => "standard error".to_string(),
        Kind::File => config.path.as_deref().unwrap_or(Path::new("")).display().to_string(),
        Kind::Kafka => format!("{} topic {}", config.brokers.join(","), text(&config.topic)),
        Kind::Nats => format!("{url} subject {}", text(&config.subject)),
        Kind::Clickhouse | Kind::Postgres => format!("{url} table {}", text(&config.table)),
        Kind::Prometheus => format!("http://{}/metrics", text(&config.listen)),
        Kind::Http | Kind::Opentelemetry | Kind::PrometheusRemoteWrite | Kind::Websocket => url,
    }
}

/// Of those that write lines.
fn lines_of(codec: CodecName) -> Codec {
    match codec {
        CodecName::Json | CodecName::Parquet => Codec::Json,
        CodecName::Csv => Codec::Csv,
    }
}

fn file(config: &SinkConfig, codec: CodecName, base: &Path) -> Result<Box<dyn Writer>, String> {
    let path = config.path.clone().unwrap_or_default();
    let RotateConfig { max_bytes, every, keep } = match &config.rotate {
        Some(rotate) => rotate,
        None => &RotateConfig::default(),
    };
    if max_bytes.is_some_and(|size| size.0 == 0) || every.is_some_and(|every| every.0.is_zero()) {
        return Err("rotate.max_bytes and rotate.every are more than 0".to_string());
    }
    if codec == CodecName::Parquet {
        if max_bytes.is_some() || every.is_some() {
            let why = "with `codec: parquet` a batch is a file: `batch` says how large, and `rotate.keep` how many";
            return Err(why.to_string());
        }
        return Ok(Box::new(ParquetSink::new(base, &path, *keep)));
    }
    if config.rotate.is_some() && max_bytes.is_none() && every.is_none() {
        return Err("`rotate` has a `max_bytes` or `every`".to_string());
    }
    let rotation = config.rotate.as_ref().map(|_| Rotation {
        bytes_max: max_bytes.map(|size| size.0),
        every: every.map(|every| every.0),
        keep: *keep,
    });
    Ok(Box::new(FileSink::new(base, &path, lines_of(codec), rotation)))
}

fn kafka(how: &How<'_>, config: &SinkConfig) -> Result<KafkaConfig, String> {
    let is_broker = |broker: &String| {
        let port = broker.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
        port.is_some_and(|(host, port)| !host.is_empty() && port.is_ok())
    };
    if config.brokers.is_empty() || !config.brokers.iter().all(is_broker) {
        return Err("`brokers` is a list of HOST:PORT".to_string());
    }
    let topic = config.topic.clone().unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.is_empty() || topic.len() > 249 || !topic.chars().all(fits) {
        return Err("`topic` is up to 249 letters, digits, `.`, `_` and `-`".to_string());
    }
    Ok(KafkaConfig {
        brokers: config.brokers.clone(),
        topic,
        is_upsert: how.mode == Mode::Upsert,
        login: logins::kafka(&config.auth)?,
        timeout: config.timeout.0,
        secrets: secrets(config),
        tls: how.tls.clone(),
    })
}

fn postgres(how: &How<'_>, config: &SinkConfig) -> Result<PostgresConfig, String> {
    let auth = &config.auth;
    Ok(PostgresConfig {
        url: wants_scheme(config, &["postgres://", "postgresql://"])?,
        table: config.table.clone().unwrap_or_default(),
        user: auth.user.as_ref().map(|user| user.0.clone()),
        password: auth.password.as_ref().map(|password| password.0.clone()),
        timeout: config.timeout.0,
        secrets: secrets(config),
        tls: how.tls.clone(),
    })
}

fn otel(
    how: &How<'_>,
    config: &SinkConfig,
    prefix: &str,
    found: &Found,
) -> Result<OtelSink, String> {
    let protocol = |default: Protocol| match config.protocol {
        Some(OtlpProtocol::Http) => Protocol::Http,
        Some(OtlpProtocol::Grpc) => Protocol::Grpc,
        None => default,
    };
    let (target, protocol) = match (&config.url, found.endpoints.first()) {
        (Some(_), _) => (how.of_http(config)?, protocol(Protocol::Http)),
        (None, Some(endpoint)) => {
            if found.endpoints.iter().any(|other| other != endpoint) {
                return Err(
                    "the exports name several endpoints: a sink needs one `url`".to_string()
                );
            }
            let url = url_of(endpoint);
            // Secret and judged as those of the file, which come first.
            let mut headers = config.headers.clone();
            for (name, value) in &endpoint.headers {
                if !headers.keys().any(|have| have.eq_ignore_ascii_case(name)) {
                    let value = exported(name, value, |name| std::env::var(name).ok())?;
                    headers.insert(name.clone(), Secret(value));
                }
            }
            let (url, tls) = (with_scheme(url, &HTTP)?, how.tls.clone().unwrap_or_default());
            let target = target_of(url, &headers, &config.auth, config.timeout, tls)?;
            (target, protocol(Protocol::Grpc))
        }
        (None, None) => {
            return Err(
                "a sink of type opentelemetry needs a `url`, or a script whose `px.export` \
                        names an endpoint"
                    .to_string(),
            );
        }
    };
    if protocol == Protocol::Grpc {
        weir_sinks::otel::judge_address(&target.url)?;
    }
    Ok(OtelSink::new(target, protocol, prefix, found.exports.clone()))
}

/// What a script's header says: `${WEIR_EXPORT_NAME}` is what that variable holds. No other can be named: a script
/// sends what it says wherever it likes.
fn exported(
    header: &str,
    value: &str,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let Some(name) = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else {
        return Ok(value.to_string());
    };
    if !name.starts_with(OF_EXPORTS) {
        return Err(format!(
            "the header `{header}` of `px.export` may name variables that begin with {OF_EXPORTS} only"
        ));
    }
    lookup(name).ok_or_else(|| format!("the header `{header}` of `px.export` needs {name}"))
}

/// As Pixie has it: an address without a scheme, for gRPC.
fn url_of(endpoint: &OtelEndpoint) -> String {
    match (endpoint.url.contains("://"), endpoint.insecure) {
        (true, _) => endpoint.url.clone(),
        (false, true) => format!("http://{}", endpoint.url),
        (false, false) => format!("https://{}", endpoint.url),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of a script may name variables that are meant for that, which are used as they are, and no others.
    /// Catches a script that sends away whatever the server was started with.
    #[test]
    fn scripts_name_only_what_is_meant_for_them() {
        let lookup = |name: &str| match name {
            "WEIR_EXPORT_KEY" => Some("$1 \": #".to_string()),
            "HOME" | "WEIR_TOKEN" => Some("hidden-word".to_string()),
            _ => None,
        };
        let value = |value: &str| exported("api-key", value, lookup);
        assert_eq!(value("plain $X ${Y} z").unwrap(), "plain $X ${Y} z");
        assert_eq!(value("${WEIR_EXPORT_KEY}").unwrap(), "$1 \": #");
        assert!(value("${WEIR_EXPORT_NONE}").unwrap_err().contains("needs WEIR_EXPORT_NONE"));
        for name in ["${HOME}", "${WEIR_TOKEN}", "${}"] {
            let why = value(name).unwrap_err();
            assert!(
                why.contains("begin with WEIR_EXPORT_") && !why.contains("hidden-word"),
                "{why}"
            );
        }
    }
}
