//! As much HTTP/1.1 as the shop needs: keep-alive connections, bodies with a length, a thread a
//! connection. A service's calls leave from its own address.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde_json::Value;

/// A head larger than this ends the connection.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// A body larger than this ends the connection.
const BODY_BYTES_MAX: usize = 256 << 10;
/// Connections a service holds at a time; more are closed as they come.
const CONNECTIONS_MAX: usize = 256;
const STACK_BYTES: usize = 256 << 10;
/// An answer that takes longer counts as none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const HEADERS_MAX: usize = 32;

#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// With the query.
    pub(super) target: String,
    pub(super) body: Value,
    close: bool,
}

impl Request {
    /// Path segments without the query: `/cart/u7?x=1` → `["cart", "u7"]`.
    pub(super) fn segments(&self) -> Vec<&str> {
        let path = self.target.split('?').next().unwrap_or_default();
        path.split('/').filter(|segment| !segment.is_empty()).collect()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Response {
    pub(super) fn new(status: u16, body: Value) -> Response {
        Response { status, body }
    }

    pub(super) fn error(status: u16, message: &str) -> Response {
        Response::new(status, serde_json::json!({ "error": message }))
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What a head says about the rest of its message.
struct Head<T> {
    start: T,
    body_bytes: usize,
    close: bool,
}

/// A parser's result: a whole head and its size, or `None` while bytes are missing.
type Parsed<T> = io::Result<Option<(Head<T>, usize)>>;

/// One connection, with what was read beyond the present message.
struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    fn new(stream: TcpStream) -> io::Result<Wire> {
        stream.set_nodelay(true)?;
        Ok(Wire { stream, buffer: Vec::new() })
    }

    fn read_request(&mut self) -> io::Result<Option<Request>> {
        let Some((head, body)) = self.read_message(parse_request)? else { return Ok(None) };
        let (method, target) = head.start;
        Ok(Some(Request { method, target, body, close: head.close }))
    }

    fn read_response(&mut self) -> io::Result<Option<(Response, bool)>> {
        let message = self.read_message(parse_response)?;
        Ok(message.map(|(head, body)| (Response::new(head.start, body), head.close)))
    }

    /// `None` when the other side closed between two messages.
    fn read_message<T>(
        &mut self,
        parse: fn(&[u8]) -> Parsed<T>,
    ) -> io::Result<Option<(Head<T>, Value)>> {
        let (head, head_bytes) = loop {
            if let Some(parsed) = parse(&self.buffer)? {
                break parsed;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(invalid("head too large"));
            }
            if self.fill()? == 0 {
                let cut = !self.buffer.is_empty();
                return if cut { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
            }
        };
        if head.body_bytes > BODY_BYTES_MAX {
            return Err(invalid("body too large"));
        }
        let end = head_bytes + head.body_bytes;
        while self.buffer.len() < end {
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let body = serde_json::from_slice(&self.buffer[head_bytes..end]).unwrap_or(Value::Null);
        self.buffer.drain(..end);
        Ok(Some((head, body)))
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 8 << 10];
        let bytes = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..bytes]);
        Ok(bytes)
    }

    /// Head and body in one write, as most servers do for small answers.
    fn write(&mut self, mut head: String, body: &Value) -> io::Result<()> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        if !body.is_empty() {
            head.push_str("content-type: application/json\r\n");
        }
        if !head.starts_with("HTTP/1.1 204") {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        head.push_str(&body);
        self.stream.write_all(head.as_bytes())
    }
}

fn parse_request(bytes: &[u8]) -> Parsed<(String, String)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = request.parse(bytes).map_err(invalid)? else {
        return Ok(None);
    };
    let start = (request.method.unwrap_or("").to_owned(), request.path.unwrap_or("").to_owned());
    let (body_bytes, close) = framing(request.headers)?;
    Ok(Some((Head { start, body_bytes, close }, head_bytes)))
}

fn parse_response(bytes: &[u8]) -> Parsed<u16> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = response.parse(bytes).map_err(invalid)? else {
        return Ok(None);
    };
    let start = response.code.unwrap_or(0);
    let (body_bytes, close) = framing(response.headers)?;
    Ok(Some((Head { start, body_bytes, close }, head_bytes)))
}

/// The body's length and whether the connection ends after the message.
fn framing(headers: &[httparse::Header<'_>]) -> io::Result<(usize, bool)> {
    let find = |name: &str| {
        let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok().map(str::trim)
    };
    if find("transfer-encoding").is_some() {
        return Err(invalid("transfer codings are not spoken here"));
    }
    let body_bytes = find("content-length").map_or(Ok(0), str::parse).map_err(invalid)?;
    Ok((body_bytes, find("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))))
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        402 => "Payment Required",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

/// Serves connections until the process ends. `service` makes one handler a connection.
pub(super) fn serve<H>(
    listener: &TcpListener,
    server: &'static str,
    service: impl Fn() -> H,
) -> anyhow::Result<()>
where
    H: FnMut(&Request) -> Response + Send + 'static,
{
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = stream?;
        if open.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            continue;
        }
        let count = Open::new(&open);
        let mut handler = service();
        let answer = move || {
            let _count = count;
            // A broken connection is the other side's business; it connects anew.
            let _ = answer_all(stream, server, &mut handler);
        };
        let name = "connection".to_owned();
        std::thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(answer)?;
    }
    Ok(())
}

fn answer_all(
    stream: TcpStream,
    server: &str,
    handler: &mut impl FnMut(&Request) -> Response,
) -> io::Result<()> {
    let mut wire = Wire::new(stream)?;
    while let Some(request) = wire.read_request()? {
        let Response { status, body } = handler(&request);
        let mut head = format!("HTTP/1.1 {status} {}\r\nserver: {server}\r\n", reason(status));
        if request.close {
            head.push_str("connection: close\r\n");
        }
        wire.write(head, &body)?;
        if request.close {
            break;
        }
    }
    Ok(())
}

/// Counts a connection as open while it lives.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(open: &Arc<AtomicUsize>) -> Open {
        open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The way to the other services: one connection each, opened when first needed and kept. A clone
/// has connections of its own.
pub(super) struct Calls {
    source: IpAddr,
    peers: Arc<BTreeMap<String, SocketAddr>>,
    open: BTreeMap<&'static str, Wire>,
}

impl Clone for Calls {
    fn clone(&self) -> Calls {
        Calls { source: self.source, peers: Arc::clone(&self.peers), open: BTreeMap::new() }
    }
}

impl Calls {
    pub(super) fn new<'a>(
        source: IpAddr,
        peers: impl Iterator<Item = (&'a str, SocketAddr)>,
    ) -> Calls {
        let peers = peers.map(|(name, addr)| (name.to_owned(), addr)).collect();
        Calls { source, peers: Arc::new(peers), open: BTreeMap::new() }
    }

    /// One request and its answer. `headers` are whole lines. A kept connection that turns out to
    /// be closed is opened anew, once; any other failure is a 503 of our own.
    pub(super) fn call(
        &mut self,
        peer: &'static str,
        (method, target): (&str, &str),
        headers: &str,
        body: &Value,
    ) -> Response {
        let kept = self.open.contains_key(peer);
        let mut result = self.attempt(peer, (method, target), headers, body);
        if kept && result.is_err() {
            result = self.attempt(peer, (method, target), headers, body);
        }
        result.unwrap_or_else(|error| Response::error(503, &format!("{peer}: {error}")))
    }

    fn attempt(
        &mut self,
        peer: &'static str,
        (method, target): (&str, &str),
        headers: &str,
        body: &Value,
    ) -> io::Result<Response> {
        let mut wire = match self.open.remove(peer) {
            Some(wire) => wire,
            None => self.connect(peer)?,
        };
        let addr = wire.stream.peer_addr()?;
        let head = format!("{method} {target} HTTP/1.1\r\nhost: {addr}\r\n{headers}");
        wire.write(head, body)?;
        let answer = wire.read_response()?;
        let (response, close) = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
        if !close {
            self.open.insert(peer, wire);
        }
        Ok(response)
    }

    /// From our own address: on loopback every connection would else seem to come from 127.0.0.1.
    fn connect(&self, peer: &str) -> io::Result<Wire> {
        let addr = *self.peers.get(peer).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let family = AddressFamily::INET;
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &SocketAddr::new(self.source, 0))?;
        rustix::net::connect(&socket, &addr)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Wire::new(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message in any number of pieces, with another one behind it, is read exactly; the bounds
    /// hold. Would catch a body taken for the next head.
    #[test]
    fn heads_are_framed_exactly() {
        let one = b"POST /cart/u1/items HTTP/1.1\r\nContent-Length: 13\r\n\r\n{\"product\":1}";
        let head_end = one.len() - 13;
        for cut in 0..head_end {
            assert!(parse_request(&one[..cut]).unwrap().is_none(), "cut at {cut}");
        }
        let (head, head_bytes) = parse_request(one).unwrap().unwrap();
        assert_eq!(head.start, ("POST".to_owned(), "/cart/u1/items".to_owned()));
        assert_eq!((head_bytes, head.body_bytes, head.close), (head_end, 13, false));

        let (head, _) = parse_response(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!((head.start, head.body_bytes, head.close), (204, 0, true));
        assert!(parse_response(b"not http\r\n\r\n").is_err());
        assert!(parse_request(b"GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}
