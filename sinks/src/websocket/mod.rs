//! Elements to a websocket server, each a text message of JSON. A batch is safe once the other end has answered the
//! ping behind it, which it does after what was before.

#[cfg(test)]
mod tests;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConnection, StreamOwned};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Request;
use tungstenite::http::{HeaderName, HeaderValue};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Bytes, Message, WebSocket};
use weir_types::{Clock, WallClock};

use crate::element::{Element, Op};
use crate::encode;
use crate::http_client::Target;
use crate::secrets;
use crate::sink::{SinkError, Writer};

/// What the other end says is not read: no message of it may be larger.
const HEARD_BYTES_MAX: usize = 64 << 10;
/// Closed because of what was sent (RFC 6455, 7.4.1): unfit data, a message that is too big.
const UNFIT_CODES: [u16; 3] = [1003, 1007, 1009];

pub struct WebsocketSink {
    target: Target,
    socket: Option<Socket>,
    until: Until,
}

/// When what is at work ends, in nanoseconds of the steady clock.
type Until = Arc<AtomicU64>;

/// A connection whose reads and writes are over at one time, however little comes at once: somebody who sends drops
/// without an end keeps nobody.
struct Timed {
    stream: TcpStream,
    until: Until,
}

impl Timed {
    fn left(&self) -> std::io::Result<Duration> {
        let left = self.until.load(Ordering::Relaxed).saturating_sub(WallClock.monotonic_ns());
        match left {
            0 => Err(std::io::Error::new(ErrorKind::TimedOut, "it took too long")),
            left => Ok(Duration::from_nanos(left)),
        }
    }
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(into)
    }
}

impl Write for Timed {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(from)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// With TLS or without.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

type Socket = WebSocket<Box<dyn Stream>>;

impl WebsocketSink {
    #[must_use]
    pub fn new(target: Target) -> WebsocketSink {
        WebsocketSink { target, socket: None, until: Until::default() }
    }

    /// From now on it takes so long at most.
    fn begin(&self, within: Duration) {
        let within = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        self.until.store(WallClock.monotonic_ns().saturating_add(within), Ordering::Relaxed);
    }

    fn retry(&self, text: &str) -> SinkError {
        SinkError::Retry(secrets::line(text, &self.target.secrets))
    }

    fn request(&self) -> Result<Request, String> {
        let request = self.target.url.as_str().into_client_request();
        let mut request = request.map_err(|error| error.to_string())?;
        for (name, value) in &self.target.headers {
            let name: HeaderName = name.parse().map_err(|_| "no header's name".to_string())?;
            let value =
                HeaderValue::from_str(value).map_err(|_| "no header's value".to_string())?;
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }

    fn connect(&self) -> Result<Socket, SinkError> {
        let request = self.request().map_err(|text| self.retry(&text))?;
        let host = request.uri().host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
        let is_tls = request.uri().scheme_str() == Some("wss");
        let port = request.uri().port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let failed = |error: std::io::Error| self.retry(&format!("could not connect: {error}"));
        let mut last = std::io::Error::other("the name has no address");
        for address in (host.as_str(), port).to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&address, self.target.timeout) {
                Ok(stream) => {
                    let name = is_tls.then_some(host.as_str());
                    return self.shake_hands(request, stream, name);
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    fn shake_hands(
        &self,
        request: Request,
        stream: TcpStream,
        tls_name: Option<&str>,
    ) -> Result<Socket, SinkError> {
        let failed = |error: std::io::Error| self.retry(&error.to_string());
        stream.set_nodelay(true).map_err(failed)?;
        let stream = Timed { stream, until: Arc::clone(&self.until) };
        let stream: Box<dyn Stream> = match tls_name {
            Some(name) => Box::new(self.tls(stream, name).map_err(|text| self.retry(&text))?),
            None => Box::new(stream),
        };
        let config = WebSocketConfig::default()
            .max_message_size(Some(HEARD_BYTES_MAX))
            .max_frame_size(Some(HEARD_BYTES_MAX));
        let shaken = tungstenite::client::client_with_config(request, stream, Some(config));
        let (socket, _) = shaken.map_err(|error| self.retry(&format!("no websocket: {error}")))?;
        Ok(socket)
    }

    /// The handshake comes with the first bytes.
    fn tls(
        &self,
        stream: Timed,
        name: &str,
    ) -> Result<StreamOwned<ClientConnection, Timed>, String> {
        let config = self.target.tls.client_config(&[])?;
        let name = ServerName::try_from(name.to_string()).map_err(|error| error.to_string())?;
        let connection = ClientConnection::new(Arc::new(config), name);
        Ok(StreamOwned::new(connection.map_err(|error| error.to_string())?, stream))
    }

    /// A batch, and what the other end makes of it.
    fn send(&self, socket: &mut Socket, batch: &[&Element]) -> Result<(), SinkError> {
        let mut last_seq = None;
        for element in batch.iter().filter(|element| element.op != Op::Progress) {
            let mut text = String::new();
            encode::push_json(&mut text, element);
            socket.write(Message::text(text)).map_err(|error| self.broken(socket, &error))?;
            last_seq = Some(element.seq);
        }
        let Some(seq) = last_seq else { return Ok(()) };
        self.ping(socket, &seq.to_string())
    }

    /// The other end has taken all that was before.
    fn ping(&self, socket: &mut Socket, text: &str) -> Result<(), SinkError> {
        let ping = Bytes::from(text.as_bytes().to_vec());
        let sent = socket.write(Message::Ping(ping.clone())).and_then(|()| socket.flush());
        sent.map_err(|error| self.broken(socket, &error))?;
        loop {
            match socket.read() {
                Ok(Message::Pong(payload)) if payload == ping => return Ok(()),
                Ok(Message::Close(frame)) => {
                    let (code, why) = frame.map_or((1005, String::new()), |it| {
                        (it.code.into(), it.reason.to_string())
                    });
                    let text = format!("closed by the other end ({code}): {why}");
                    let text = secrets::line(&text, &self.target.secrets);
                    return Err(match UNFIT_CODES.contains(&code) {
                        true => SinkError::Unfit(text),
                        false => SinkError::Retry(text),
                    });
                }
                // Not for ever: the connection's time is over some day.
                Ok(_) => {}
                Err(error) => return Err(self.retry(&error.to_string())),
            }
        }
    }

    /// A connection that breaks while it is written to: perhaps the other end said why. It is heard as long as an
    /// attempt may take, whatever it says.
    fn broken(&self, socket: &mut Socket, error: &tungstenite::Error) -> SinkError {
        while let Ok(message) = socket.read() {
            if let Message::Close(Some(frame)) = message {
                let code: u16 = frame.code.into();
                let text = format!("closed by the other end ({code}): {}", frame.reason);
                let text = secrets::line(&text, &self.target.secrets);
                if UNFIT_CODES.contains(&code) {
                    return SinkError::Unfit(text);
                }
                return SinkError::Retry(text);
            }
        }
        self.retry(&error.to_string())
    }
}

impl Writer for WebsocketSink {
    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        self.begin(self.target.timeout);
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.connect()?,
        };
        // After a failure nobody knows what arrived: another connection.
        self.send(&mut socket, batch)?;
        self.socket = Some(socket);
        *safe = batch.len();
        Ok(())
    }

    fn check(&mut self) -> Result<(), SinkError> {
        self.begin(self.target.timeout);
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.connect()?,
        };
        self.ping(&mut socket, "check")?;
        self.socket = Some(socket);
        Ok(())
    }

    fn close(&mut self) {
        if let Some(mut socket) = self.socket.take() {
            self.begin(self.target.timeout);
            drop(socket.close(None));
            drop(socket.flush());
        }
    }
}
