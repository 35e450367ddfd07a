//! Real receivers of sinks on loopback ports: a Prometheus, a ClickHouse server, an OpenTelemetry collector, a
//! PostgreSQL, a store that speaks S3, a Kafka. Each is empty at its start, in a directory of its own, and ends with
//! the value that stands for it; it may be killed and begin again with what it has.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;
use tempfile::TempDir;

use super::process::{Process, Signal};
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

/// Where `scripts/test-servers` puts what it builds.
fn built(name: &str) -> PathBuf {
    let home = std::env::var_os("HOME").unwrap_or_default();
    Path::new(&home).join(".cache/weir").join(name).join(name)
}

fn collector() -> PathBuf {
    built("otelcol")
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

/// A program with its arguments.
type Start = Vec<String>;

fn start_of(program: impl AsRef<Path>, args: &[String]) -> Start {
    let program = program.as_ref().display().to_string();
    [program].into_iter().chain(args.iter().cloned()).collect()
}

/// By what a server is known to be ready.
#[derive(Clone, Copy)]
enum Ready {
    Listens,
    /// It answers this path with 200.
    Answers(&'static str),
    /// It has printed this.
    Says(&'static str),
}

/// A server with its directory.
pub struct Receiver {
    process: Process,
    pub addr: SocketAddr,
    dir: TempDir,
    start: Start,
    ready: Ready,
}

impl Receiver {
    fn start(dir: TempDir, addr: SocketAddr, start: Start, ready: Ready) -> Result<Receiver> {
        let process = Receiver::spawn(&start, dir.path(), addr, ready)?;
        Ok(Receiver { process, addr, dir, start, ready })
    }

    fn spawn(start: &[String], dir: &Path, addr: SocketAddr, ready: Ready) -> Result<Process> {
        let mut command = Command::new(&start[0]);
        command.args(&start[1..]).current_dir(dir);
        let mut process = Process::start(command)?;
        process.wait_ready(DEADLINE, |process| {
            let is_ready = match ready {
                Ready::Listens => TcpStream::connect(addr).is_ok(),
                Ready::Answers(path) => answers(addr, path),
                Ready::Says(text) => process.output().contains(text),
            };
            is_ready.then_some(())
        })?;
        Ok(process)
    }

    /// Ends it where it stands.
    pub fn kill(&mut self) -> Result<()> {
        self.process.stop(Signal::Kill, DEADLINE).map(drop)
    }

    /// Begins again, at the same place, with what was written.
    pub fn again(&mut self) -> Result<()> {
        self.process = Receiver::spawn(&self.start, self.dir.path(), self.addr, self.ready)?;
        Ok(())
    }

    fn get(&self, path: &str) -> Result<String> {
        Ok(http::request_once(self.addr, "GET", path, &[], b"")?.text())
    }
}

fn place() -> Result<(TempDir, SocketAddr)> {
    let dir = tempfile::tempdir().map_err(io_error("make a directory"))?;
    Ok((dir, SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))))
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
        let args = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", dir.path().join("d").display()),
            format!("--web.listen-address={addr}"),
            "--web.enable-remote-write-receiver".to_string(),
        ];
        let start = start_of(PROMETHEUS, &args);
        Receiver::start(dir, addr, start, Ready::Answers("/-/ready")).map(Prometheus)
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
            .replace("TCP<", &format!("{}<", free_port()))
            .replace("INTER<", &format!("{}<", free_port()))
            .replace("DIR", &dir.path().display().to_string());
        let file = dir.path().join("config.xml");
        let written = std::fs::write(&file, config)
            .and_then(|()| std::fs::write(dir.path().join("users.xml"), CLICKHOUSE_USERS));
        written.map_err(io_error("write its configuration"))?;
        let start = start_of(CLICKHOUSE, &[format!("--config-file={}", file.display())]);
        Receiver::start(dir, addr, start, Ready::Answers("/ping")).map(ClickHouse)
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
        let args = ["--config".to_string(), format!("file:{}", config.display())];
        let start = start_of(collector(), &args);
        Receiver::start(dir, addr, start, Ready::Listens).map(Collector)
    }

    /// What it was sent so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Json> {
        let text = std::fs::read_to_string(self.0.dir.path().join("out.jsonl"));
        let text = text.unwrap_or_default();
        text.lines().flat_map(requests_in).collect()
    }
}

/// What a line holds: one that was killed while it wrote leaves a part of a line, or a whole one without its end, and the
/// next one goes on behind it.
fn requests_in(line: &str) -> Vec<Json> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(begins) = line[at..].find("{\"resource") {
        at += begins;
        let mut values = serde_json::Deserializer::from_str(&line[at..]).into_iter();
        match values.next() {
            Some(Ok(value)) => {
                // Not one of the resources of a request that is cut.
                found.extend(Some(value).filter(|value: &Json| value["resource"].is_null()));
                at += values.byte_offset();
            }
            _ => at += 1,
        }
    }
    found
}

/// A PostgreSQL whose user `postgres` needs no password. Root starts it as that user.
pub struct Postgres(pub Receiver);

/// Of Debian's newest version that is there.
fn postgres_bin() -> Option<PathBuf> {
    let all = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut versions: Vec<PathBuf> = all.filter_map(|it| Some(it.ok()?.path())).collect();
    versions.sort();
    versions.pop().map(|version| version.join("bin"))
}

impl Postgres {
    /// `None`: there is none.
    pub fn start() -> Option<Result<Postgres>> {
        postgres_bin().map(|bin| Postgres::start_from(&bin))
    }

    fn start_from(bin: &Path) -> Result<Postgres> {
        let (dir, addr) = place()?;
        let name = dir.path().display().to_string();
        let as_user = |program: &str, args: &[&str]| {
            let program = bin.join(program).display().to_string();
            let user = ["--reuid", "postgres", "--regid", "postgres", "--clear-groups"];
            let all = user.into_iter().chain([program.as_str()]).chain(args.iter().copied());
            start_of("setpriv", &all.map(str::to_string).collect::<Vec<String>>())
        };
        let run = |start: &[String]| {
            let done = Command::new(&start[0]).args(&start[1..]).current_dir("/").output();
            done.map_err(io_error("make its database"))
        };
        let data = format!("{name}/data");
        run(&start_of("chown", &["postgres".to_string(), name.clone()]))?;
        run(&as_user("initdb", &["-D", &data, "-A", "trust", "-U", "postgres", "-N"]))?;
        let port = addr.port().to_string();
        let on = "listen_addresses=127.0.0.1";
        let start = as_user("postgres", &["-D", &data, "-p", &port, "-k", &name, "-c", on]);
        Receiver::start(dir, addr, start, Ready::Listens).map(Postgres)
    }

    /// Rows as lines, with `|` between values; none while it does not answer.
    #[must_use]
    pub fn ask(&self, query: &str) -> Vec<String> {
        let port = self.0.addr.port().to_string();
        let args = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-Atc", query];
        let said = Command::new("psql").args(args).output();
        let text = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
        text.unwrap_or_default().lines().map(str::to_string).collect()
    }
}

/// A store that speaks S3, with a bucket `kept`, whose objects are files.
pub struct Store(pub Receiver);

/// Who is let into the [`Store`].
pub const STORE_USER: &str = "the-id";
pub const STORE_PASSWORD: &str = "the/secret+key";

impl Store {
    /// `None`: there is none.
    pub fn start() -> Option<Result<Store>> {
        Store::start_for(STORE_PASSWORD)
    }

    /// One whose user has another password.
    pub fn start_for(password: &str) -> Option<Result<Store>> {
        let program = built("versitygw");
        program.try_exists().unwrap_or(false).then(|| Store::start_from(&program, password))
    }

    fn start_from(program: &Path, password: &str) -> Result<Store> {
        let (dir, addr) = place()?;
        std::fs::create_dir(dir.path().join("kept")).map_err(io_error("make a bucket"))?;
        let (name, addr_text) = (dir.path().display().to_string(), addr.to_string());
        let access = ["--access", STORE_USER, "--secret", password, "--port", &addr_text];
        let args = access.into_iter().chain(["--quiet", "posix", &name]);
        let start = start_of(program, &args.map(str::to_string).collect::<Vec<String>>());
        Receiver::start(dir, addr, start, Ready::Listens).map(Store)
    }

    /// The lines of all objects of the bucket, in the order of their names.
    pub fn lines(&self) -> Result<Vec<Json>> {
        let all = std::fs::read_dir(self.0.dir.path().join("kept"));
        let all = all.map_err(io_error("list a bucket"))?;
        let mut paths: Vec<PathBuf> = all.filter_map(|it| Some(it.ok()?.path())).collect();
        paths.retain(|path| path.is_file());
        paths.sort();
        let mut lines = Vec::new();
        for path in paths {
            let text = std::fs::read_to_string(&path).map_err(io_error("read an object"))?;
            for line in text.lines() {
                let json = serde_json::from_str(line);
                lines.push(json.map_err(|error| super::HarnessError::Live(error.to_string()))?);
            }
        }
        Ok(lines)
    }
}

/// A broker of Kafka that is its own controller.
pub struct Kafka(pub Receiver);

/// Versions of it: the present one, and the last of those with ZooKeeper.
pub const KAFKA: &str = "kafka";
pub const KAFKA_3_9: &str = "kafka-3.9";

/// Where `scripts/test-servers` puts the jars.
fn kafka_jars(version: &str) -> Option<PathBuf> {
    let lib = Path::new(&std::env::var_os("HOME")?).join(".cache/weir").join(version).join("lib");
    std::fs::read_dir(&lib).ok()?.next().is_some().then_some(lib)
}

impl Kafka {
    /// What runs a Java program with Kafka's classes, but for the program. `None`: there are none.
    #[must_use]
    pub fn java(version: &str, heap: &str) -> Option<Vec<String>> {
        let classes = kafka_jars(version)?.join("*").display().to_string();
        let flags = [heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &classes];
        Some(start_of("java", &flags.map(str::to_string)))
    }

    /// On a port of its choice, or a given one. `None`: there is none.
    pub fn start(version: &str, port: Option<u16>) -> Option<Result<Kafka>> {
        let java = |heap| Kafka::java(version, heap);
        let (format, server) = (java("-Xmx128m")?, java("-Xmx256m")?);
        Some(Kafka::start_by(format, server, port, ""))
    }

    /// One with a second port, which lets in whoever knows the password of `me`, by PLAIN or SCRAM; where that is.
    /// `None`: there is none.
    pub fn start_guarded(password: &str) -> Option<Result<(Kafka, SocketAddr)>> {
        let java = |heap| Kafka::java(KAFKA, heap);
        let (mut format, server) = (java("-Xmx128m")?, java("-Xmx256m")?);
        // The program's options stand behind its name.
        format.extend(["kafka.tools.StorageTool", "format"].map(str::to_string));
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let user = format!("{mechanism}=[name=me,password={password}]");
            format.extend(["--add-scram".to_string(), user]);
        }
        let (guarded, plain) = (SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())), free_port());
        // In a text in quotes, on a line of properties.
        let word = password.replace('"', "\\\\\"").replace('\n', "\\\\n");
        let module = "org.apache.kafka.common.security";
        let more = format!(
            "listeners=PLAINTEXT://127.0.0.1:{plain},SASL://{guarded},CONTROLLER://127.0.0.1:CONTROL\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL://{guarded}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
             listener.name.sasl.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_me=\"{word}\";\n\
             listener.name.sasl.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
             listener.name.sasl.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;\n"
        );
        let started = Kafka::start_by(format, server, Some(plain), &more);
        Some(started.map(|kafka| (kafka, guarded)))
    }

    /// `more` of its configuration counts more than what is usual.
    fn start_by(
        mut format: Start,
        mut server: Start,
        port: Option<u16>,
        more: &str,
    ) -> Result<Kafka> {
        let (dir, mut addr) = place()?;
        addr.set_port(port.unwrap_or(addr.port()));
        let (at, controller) = (dir.path().display(), free_port());
        let more = more.replace(":CONTROL\n", &format!(":{controller}\n"));
        let text = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.listener.names=CONTROLLER\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://{addr},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://{addr}\nlog.dirs={at}/data\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n{more}"
        );
        let properties = dir.path().join("server.properties");
        std::fs::write(&properties, text).map_err(io_error("write its configuration"))?;
        let properties = properties.display().to_string();
        let id = "5L6g3nShT-eMCtK--X86sw";
        if more.is_empty() {
            format.extend(["kafka.tools.StorageTool", "format"].map(str::to_string));
        }
        format.extend(["-t", id, "-c", &properties].map(str::to_string));
        let formatted = Command::new(&format[0]).args(&format[1..]).output();
        let formatted = formatted.map_err(io_error("make its storage"))?;
        if !formatted.status.success() {
            return Err(super::HarnessError::Live(format!("{formatted:?}")));
        }
        server.extend(["kafka.Kafka".to_string(), properties]);
        // It listens before it has a leader.
        Receiver::start(dir, addr, server, Ready::Says("Kafka Server started")).map(Kafka)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a line that was cut, or lacks its end, nothing is missing that is whole. Catches a request that is overlooked once
    /// another one stands behind it.
    #[test]
    fn requests_behind_each_other_are_found() {
        let whole = |n: u8| format!("{{\"resourceSpans\":[{{\"resource\":{{}},\"n\":{n}}}]}}");
        let (first, second) = (whole(1), whole(2));
        for (line, wanted) in [
            (first.clone(), vec![&first]),
            (format!("{first}{second}"), vec![&first, &second]),
            (format!("{}{second}", &first[..first.len() - 2]), vec![&second]),
        ] {
            let found: Vec<String> = requests_in(&line).iter().map(Json::to_string).collect();
            let wanted: Vec<String> = wanted
                .iter()
                .map(|text| serde_json::from_str::<Json>(text).unwrap().to_string())
                .collect();
            assert_eq!(found, wanted, "{line}");
        }
    }
}
