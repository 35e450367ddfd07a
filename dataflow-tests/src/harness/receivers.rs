//! Real receivers of sinks on loopback ports: a Prometheus, a ClickHouse server, an OpenTelemetry collector. Each is
//! empty at its start, in a directory of its own, and ends with the value that stands for it.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;
use tempfile::TempDir;

use super::process::Process;
use super::{Result, free_port, http, io_error};

const PROMETHEUS: &str = "/usr/bin/prometheus";
const CLICKHOUSE: &str = "/usr/sbin/clickhouse-server";
const DEADLINE: Duration = Duration::from_secs(60);

const CLICKHOUSE_CONFIG: &str = "<yandex><logger><level>error</level></logger>\
    <http_port>HTTP</http_port><tcp_port>TCP</tcp_port>\
    <interserver_http_port>INTER</interserver_http_port><listen_host>127.0.0.1</listen_host>\
    <path>DIR/</path><tmp_path>DIR/tmp/</tmp_path><mark_cache_size>5368709</mark_cache_size>\
    <users_config>DIR/users.xml</users_config><default_profile>default</default_profile>\
    <default_database>default</default_database></yandex>";
const CLICKHOUSE_USERS: &str = "<yandex><profiles><default/></profiles><users><default>\
    <password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>\
    <quota>default</quota></default></users><quotas><default/></quotas></yandex>";

/// Where `scripts/test-servers` puts it.
fn collector() -> PathBuf {
    let home = std::env::var_os("HOME").unwrap_or_default();
    Path::new(&home).join(".cache/weir/otelcol/otelcol")
}

/// True if this machine has all of them.
#[must_use]
pub fn are_installed() -> bool {
    let is_there = |path: &Path| path.try_exists().unwrap_or(false);
    [Path::new(PROMETHEUS), Path::new(CLICKHOUSE), &collector()].into_iter().all(is_there)
}

/// A text as part of a URL's query.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A server with its directory.
pub struct Receiver {
    _process: Process,
    pub addr: SocketAddr,
    dir: TempDir,
}

impl Receiver {
    fn start(
        dir: TempDir,
        addr: SocketAddr,
        command: Command,
        is_ready: impl Fn() -> bool,
    ) -> Result<Receiver> {
        let mut process = Process::start(command)?;
        process.wait_ready(DEADLINE, |_| is_ready().then_some(()))?;
        Ok(Receiver { _process: process, addr, dir })
    }

    fn get(&self, path: &str) -> Result<String> {
        Ok(http::request_once(self.addr, "GET", path, &[], b"")?.text())
    }
}

fn place() -> Result<(TempDir, SocketAddr)> {
    let dir = tempfile::tempdir().map_err(io_error("make a directory"))?;
    Ok((dir, SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?))))
}

fn answers(addr: SocketAddr, path: &str) -> bool {
    http::request_once(addr, "GET", path, &[], b"").is_ok_and(|answer| answer.status == 200)
}

/// A Prometheus that scrapes what it is told to and takes remote writes.
pub struct Prometheus(pub Receiver);

impl Prometheus {
    /// `scrapes`: what is scraped each second.
    pub fn start(scrapes: &[SocketAddr]) -> Result<Prometheus> {
        let (dir, addr) = place()?;
        let config = dir.path().join("p.yml");
        let targets: Vec<String> = scrapes.iter().map(|addr| format!("'{addr}'")).collect();
        let text = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: weir\n  \
             static_configs: [{{targets: [{}]}}]\n",
            targets.join(", ")
        );
        std::fs::write(&config, text).map_err(io_error("write its configuration"))?;
        let mut command = Command::new(PROMETHEUS);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("d").display()))
            .arg(format!("--web.listen-address={addr}"))
            .arg("--web.enable-remote-write-receiver");
        Receiver::start(dir, addr, command, || answers(addr, "/-/ready")).map(Prometheus)
    }

    /// The series of an instant query: labels and values.
    pub fn ask(&self, query: &str) -> Result<Vec<(Json, String)>> {
        let text = self.0.get(&format!("/api/v1/query?query={}", escaped(query)))?;
        let answer: Json = serde_json::from_str(&text).unwrap_or_default();
        let series = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let one = |it: &Json| {
            (it["metric"].clone(), it["value"][1].as_str().unwrap_or_default().to_string())
        };
        Ok(series.iter().map(one).collect())
    }
}

pub struct ClickHouse(pub Receiver);

impl ClickHouse {
    pub fn start() -> Result<ClickHouse> {
        let (dir, addr) = place()?;
        let config = CLICKHOUSE_CONFIG
            .replace("HTTP<", &format!("{}<", addr.port()))
            .replace("TCP<", &format!("{}<", free_port()?))
            .replace("INTER<", &format!("{}<", free_port()?))
            .replace("DIR", &dir.path().display().to_string());
        let file = dir.path().join("config.xml");
        let written = std::fs::write(&file, config)
            .and_then(|()| std::fs::write(dir.path().join("users.xml"), CLICKHOUSE_USERS));
        written.map_err(io_error("write its configuration"))?;
        let mut command = Command::new(CLICKHOUSE);
        command.arg(format!("--config-file={}", file.display()));
        Receiver::start(dir, addr, command, || answers(addr, "/ping")).map(ClickHouse)
    }

    /// Rows as lines, with tabs between values.
    pub fn ask(&self, query: &str) -> Result<Vec<String>> {
        let text = self.0.get(&format!("/?query={}", escaped(query)))?;
        Ok(text.lines().map(str::to_string).collect())
    }
}

/// A collector that takes OTLP by gRPC and writes it down.
pub struct Collector(pub Receiver);

impl Collector {
    pub fn start() -> Result<Collector> {
        let (dir, addr) = place()?;
        let config = dir.path().join("c.yaml");
        let out = dir.path().join("out.jsonl");
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{addr}'}}}}}}}}\n\
             exporters: {{file: {{path: '{}', append: true, flush_interval: 50ms}}}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}}}\n  pipelines:\n    \
             metrics: {{receivers: [otlp], exporters: [file]}}\n    \
             traces: {{receivers: [otlp], exporters: [file]}}\n",
            out.display()
        );
        std::fs::write(&config, text).map_err(io_error("write its configuration"))?;
        let mut command = Command::new(collector());
        command.arg("--config").arg(format!("file:{}", config.display()));
        Receiver::start(dir, addr, command, || TcpStream::connect(addr).is_ok()).map(Collector)
    }

    /// What it was sent so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Json> {
        let text = std::fs::read_to_string(self.0.dir.path().join("out.jsonl"));
        let text = text.unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}
