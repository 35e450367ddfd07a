//! An HTTP/1.1 client of our own on plain sockets, with a log of every request: what the views are
//! compared with. It can be paced, keep connections alive or open one for each request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use weir_types::{Clock, WallClock};

use super::{HarnessError, Result, io_error, pause};

const TIMEOUT: Duration = Duration::from_secs(30);
/// An answer that is longer is refused.
const BODY_BYTES_MAX: usize = 64 << 20;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection for any number of requests, one after the other.
pub struct Connection {
    addr: SocketAddr,
    reader: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(addr: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(addr).map_err(io_error(format!("connect to {addr}")))?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(io_error("set a timeout"))?;
        stream.set_nodelay(true).map_err(io_error("set no delay"))?;
        Ok(Connection { addr, reader: BufReader::new(stream) })
    }

    #[must_use]
    pub fn local_port(&self) -> Option<u16> {
        self.reader.get_ref().local_addr().ok().map(|addr| addr.port())
    }

    /// Sends one request in one write and reads its whole answer.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response> {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("Host: {}\r\n", self.addr);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let bytes = [head.as_bytes(), b"\r\n", body].concat();
        self.reader.get_mut().write_all(&bytes).map_err(io_error("send a request"))?;
        self.response(method == "HEAD")
    }

    fn response(&mut self, no_body: bool) -> Result<Response> {
        let first = self.line()?;
        let status = first
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|status| status.parse::<u16>().ok())
            .ok_or_else(|| self.not_http(&first))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| self.not_http(&line))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
        }
        let mut response = Response { status, headers, body: Vec::new() };
        if !(no_body || status == 204 || status == 304 || status < 200) {
            response.body = self.body(&response)?;
        }
        Ok(response)
    }

    fn body(&mut self, response: &Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        if response.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            loop {
                let line = self.line()?;
                let digits = line.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(digits, 16).map_err(|_| self.not_http(&line))?;
                self.exactly(size, &mut body)?;
                self.line()?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        match response.header("content-length").map(str::parse::<usize>) {
            Some(Ok(size)) => self.exactly(size, &mut body)?,
            Some(Err(_)) => return Err(self.not_http("content-length")),
            None => {
                self.reader.read_to_end(&mut body).map_err(io_error("read a body"))?;
            }
        }
        Ok(body)
    }

    fn exactly(&mut self, size: usize, body: &mut Vec<u8>) -> Result<()> {
        if size > BODY_BYTES_MAX {
            return Err(self.not_http("the body is too long"));
        }
        let start = body.len();
        body.resize(start + size, 0);
        self.reader.read_exact(&mut body[start..]).map_err(io_error("read a body"))
    }

    fn line(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        self.reader.read_until(b'\n', &mut bytes).map_err(io_error("read an answer"))?;
        if bytes.last() != Some(&b'\n') {
            return Err(self.not_http("the connection was closed"));
        }
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_string())
    }

    fn not_http(&self, what: &str) -> HarnessError {
        HarnessError::NotHttp { peer: self.addr.to_string(), what: what.to_string() }
    }
}

/// One request on a connection of its own.
pub fn request_once(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response> {
    let headers = [headers, &[("Connection", "close")]].concat();
    Connection::open(addr)?.request(method, path, &headers, body)
}

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    pub addr: SocketAddr,
    /// Taken in turn.
    pub paths: Vec<String>,
    pub requests: usize,
    /// All connections together; 0: as fast as it goes.
    pub requests_per_sec: u32,
    pub connections: usize,
    pub keep_alive: bool,
}

impl Load {
    /// So many requests, as fast as two connections go.
    #[must_use]
    pub fn of(addr: SocketAddr, path: &str, requests: usize) -> Load {
        let paths = vec![path.to_string()];
        Load { addr, paths, requests, requests_per_sec: 0, connections: 2, keep_alive: true }
    }
}

/// One request as the client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub path: String,
    pub start_unix_ns: i64,
    /// From before the first byte was written until after the last was read.
    pub latency_ns: u64,
    /// `None`: no (whole) answer came.
    pub status: Option<u16>,
    pub local_port: Option<u16>,
}

/// Sends everything and gives the log, ordered by start.
#[must_use]
pub fn run_load(load: &Load) -> Vec<Exchange> {
    let start_ns = WallClock.monotonic_ns();
    let connections = load.connections.max(1);
    let mut log: Vec<Exchange> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..connections)
            .map(|first| scope.spawn(move || one_client(load, first, connections, start_ns)))
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap_or_default()).collect()
    });
    log.sort_by_key(|exchange| exchange.start_unix_ns);
    log
}

/// Requests number `first`, `first + step`, …, each at its time of the common schedule.
fn one_client(load: &Load, first: usize, step: usize, start_ns: u64) -> Vec<Exchange> {
    let clock = WallClock;
    let mut connection: Option<Connection> = None;
    let mut log = Vec::new();
    for number in (first..load.requests).step_by(step) {
        if load.requests_per_sec > 0 {
            let due_ns =
                start_ns + number as u64 * 1_000_000_000 / u64::from(load.requests_per_sec);
            let early_ns = due_ns.saturating_sub(clock.monotonic_ns());
            if early_ns > 0 {
                pause(Duration::from_nanos(early_ns));
            }
        }
        let path = load.paths.get(number % load.paths.len().max(1)).map_or("/", String::as_str);
        let mut used = connection.take().map_or_else(|| Connection::open(load.addr).ok(), Some);
        let (start_unix_ns, began_ns) = (clock.now_unix_ns(), clock.monotonic_ns());
        let headers: &[(&str, &str)] =
            if load.keep_alive { &[] } else { &[("Connection", "close")] };
        let answer = used.as_mut().and_then(|used| used.request("GET", path, headers, b"").ok());
        log.push(Exchange {
            path: path.to_string(),
            start_unix_ns,
            latency_ns: clock.monotonic_ns() - began_ns,
            status: answer.as_ref().map(|answer| answer.status),
            local_port: used.as_ref().and_then(Connection::local_port),
        });
        let stays = answer
            .is_some_and(|answer| answer.header("connection").is_none_or(|value| value != "close"));
        if load.keep_alive && stays {
            connection = used;
        }
    }
    log
}
