//! A real Alertmanager on a loopback port, and a receiver of webhooks that writes down what it gets, refuses it, or
//! takes it and never answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value as Json;
use tempfile::TempDir;
use weir_types::{Clock, WallClock};

use super::process::{Process, Signal};
use super::{Result, free_port, http, io_error};

const BINARY: &str = "/usr/bin/prometheus-alertmanager";
const DEADLINE: Duration = Duration::from_secs(20);
/// No body that is sent here is longer.
const BODY_BYTES_MAX: usize = 64 << 20;

/// True if this machine has one.
#[must_use]
pub fn is_installed() -> bool {
    Path::new(BINARY).try_exists().unwrap_or(false)
}

/// A running Alertmanager, which tells one webhook of everything, each alert by itself and at once.
pub struct Alertmanager {
    process: Process,
    pub addr: SocketAddr,
    _dir: TempDir,
}

impl Alertmanager {
    /// Starts an empty one, on a port of its choice or a given one.
    pub fn start(port: Option<u16>, hook: SocketAddr) -> Result<Alertmanager> {
        let text = format!(
            "route:\n  receiver: hook\n  group_by: ['...']\n  group_wait: 0s\n  group_interval: 1s\n  \
             repeat_interval: 1h\nreceivers:\n- name: hook\n  webhook_configs:\n  - url: http://{hook}/\n"
        );
        Alertmanager::start_with(port.unwrap_or_else(free_port), &text)
    }

    /// One that tells nobody: it costs the processors no more than taking alerts does.
    pub fn start_alone() -> Result<Alertmanager> {
        let text = "route: {receiver: none}\nreceivers: [{name: none}]\n";
        Alertmanager::start_with(free_port(), text)
    }

    fn start_with(port: u16, text: &str) -> Result<Alertmanager> {
        let dir = tempfile::tempdir().map_err(io_error("make a directory"))?;
        let config = dir.path().join("a.yml");
        std::fs::write(&config, text).map_err(io_error("write its configuration"))?;
        let mut command = Command::new(BINARY);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", dir.path().join("d").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=");
        let mut process = Process::start(command)?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        process.wait_ready(DEADLINE, |_| {
            let answer = http::request_once(addr, "GET", "/-/ready", &[], b"").ok()?;
            (answer.status == 200).then_some(())
        })?;
        Ok(Alertmanager { process, addr, _dir: dir })
    }

    /// Its alerts that are not over.
    pub fn alerts(&self) -> Result<Vec<Json>> {
        let answer = http::request_once(self.addr, "GET", "/api/v2/alerts", &[], b"")?;
        Ok(serde_json::from_str(&answer.text()).unwrap_or_default())
    }

    /// The labels of these, and when it was told of each last: the Unix time, in nanoseconds.
    pub fn told(&self) -> Result<Vec<(Json, i64)>> {
        let told = self.alerts()?.into_iter().map(|mut alert| {
            let at = alert["updatedAt"].as_str().and_then(weir_types::json::parse_time);
            (alert["labels"].take(), at.expect("a time"))
        });
        Ok(told.collect())
    }

    /// Ends it with all that it knows.
    pub fn kill(mut self) -> Result<()> {
        self.process.stop(Signal::Kill, DEADLINE).map(drop)
    }
}

/// What a [`Hook`] does: answers with a status; 0: never.
pub const SILENT: u16 = 0;

/// Takes POSTs and writes their bodies down.
pub struct Hook {
    pub addr: SocketAddr,
    bodies: Arc<Mutex<Vec<(i64, String)>>>,
    /// Of all requests, whatever they were answered.
    heads: Arc<Mutex<Vec<String>>>,
    status: Arc<AtomicU16>,
}

impl Hook {
    pub fn start(status: u16) -> Result<Hook> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io_error("bind"))?;
        let addr = listener.local_addr().map_err(io_error("read the bound port"))?;
        let status = Arc::new(AtomicU16::new(status));
        let hook = Hook { addr, bodies: Arc::default(), heads: Arc::default(), status };
        let (bodies, status) = (Arc::clone(&hook.bodies), Arc::clone(&hook.status));
        let heads = Arc::clone(&hook.heads);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (bodies, status) = (Arc::clone(&bodies), Arc::clone(&status));
                let heads = Arc::clone(&heads);
                std::thread::spawn(move || {
                    let _ended = serve(&stream, (&heads, &bodies), &status);
                });
            }
        });
        Ok(hook)
    }

    /// From now on.
    pub fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// All that came and was taken.
    #[must_use]
    pub fn bodies(&self) -> Vec<String> {
        self.arrived().into_iter().map(|(_, body)| body).collect()
    }

    /// The same, each with the Unix time at which it was there, in nanoseconds.
    #[must_use]
    pub fn arrived(&self) -> Vec<(i64, String)> {
        self.bodies.lock().map(|bodies| bodies.clone()).unwrap_or_default()
    }

    /// The JSON lines of all bodies.
    #[must_use]
    pub fn json_lines(&self) -> Vec<Json> {
        let parsed = |body: &String| -> Vec<Json> {
            body.lines().map(|line| serde_json::from_str(line).expect("lines of JSON")).collect()
        };
        self.bodies().iter().flat_map(parsed).collect()
    }

    /// The lines of what stood above each body, those that were refused included.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().map(|heads| heads.clone()).unwrap_or_default()
    }

    /// `status name path` of each alert of each payload of version 4.
    #[must_use]
    pub fn told(&self, label: &str) -> Vec<String> {
        let bodies = self.bodies();
        let payloads = bodies.iter().filter_map(|body| serde_json::from_str::<Json>(body).ok());
        let alerts = payloads.flat_map(|payload| {
            payload["alerts"].as_array().cloned().unwrap_or_default().into_iter()
        });
        alerts
            .map(|alert| {
                let text = |value: &Json| value.as_str().unwrap_or_default().to_string();
                let labels = &alert["labels"];
                let name = text(&labels["alertname"]);
                format!("{} {name} {}", text(&alert["status"]), text(&labels[label]))
            })
            .collect()
    }
}

/// When it came, and what it says.
type Body = (i64, String);

/// One connection, until it ends.
fn serve(
    stream: &TcpStream,
    (heads, bodies): (&Mutex<Vec<String>>, &Mutex<Vec<Body>>),
    status: &AtomicU16,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let (mut len, mut head) = (0, String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            head.push_str(&line);
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                len = value.trim().parse().unwrap_or(0);
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; len.min(BODY_BYTES_MAX)];
        reader.read_exact(&mut body)?;
        if let Ok(mut heads) = heads.lock() {
            heads.push(head);
        }
        let status = status.load(Ordering::SeqCst);
        if status == SILENT {
            // Until the other end has enough of it.
            return reader.read_to_end(&mut body).map(drop);
        }
        if status == 200
            && let Ok(mut bodies) = bodies.lock()
        {
            let text = String::from_utf8_lossy(&body).into_owned();
            bodies.push((WallClock.now_unix_ns(), text));
        }
        // At once: in pieces the second one would wait for a delayed acknowledgement of the first.
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 2\r\n\r\nok");
        writer.write_all(answer.as_bytes())?;
    }
}
