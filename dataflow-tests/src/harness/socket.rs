//! A websocket client of the live API that a test drives by hand: it reads when it is told to, or never.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value as Json;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};
use weir_types::{Clock, WallClock};

use super::{HarnessError, Result, io_error};

pub struct Socket {
    inner: WebSocket<TcpStream>,
}

fn failed(error: impl std::fmt::Display) -> HarnessError {
    HarnessError::Live(error.to_string())
}

fn timed_out() -> HarnessError {
    HarnessError::TimedOut { what: "a message of the live API" }
}

/// A read with a timeout says `WouldBlock` or `TimedOut`, as the system likes.
fn read_failed(error: tungstenite::Error) -> HarnessError {
    match error {
        tungstenite::Error::Io(error)
            if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
        {
            timed_out()
        }
        error => failed(error),
    }
}

impl Socket {
    pub fn open(addr: SocketAddr, token: &str) -> Result<Socket> {
        let mut request =
            format!("ws://{addr}/api/v1/live").into_client_request().map_err(failed)?;
        let bearer = format!("Bearer {token}").parse().map_err(failed)?;
        request.headers_mut().insert("Authorization", bearer);
        let stream = TcpStream::connect(addr).map_err(io_error("connect"))?;
        let (inner, _) = tungstenite::client(request, stream).map_err(failed)?;
        Ok(Socket { inner })
    }

    pub fn send(&mut self, message: &Json) -> Result<()> {
        self.send_raw(Message::text(message.to_string()))
    }

    pub fn send_raw(&mut self, message: Message) -> Result<()> {
        self.inner.send(message).map_err(failed)
    }

    /// A text message, whether or not it is one of the API's.
    pub fn send_text(&mut self, text: &str) -> Result<()> {
        self.send_raw(Message::text(text))
    }

    /// Whether the server closes the connection before the deadline; what comes until then is dropped.
    #[must_use]
    pub fn is_closed_within(&mut self, deadline: Duration) -> bool {
        self.wait_for(deadline, |_| false)
            .is_err_and(|error| !matches!(error, HarnessError::TimedOut { .. }))
    }

    pub fn subscribe(&mut self, id: &str, text: &str) -> Result<()> {
        self.send(&serde_json::json!({"type": "subscribe", "id": id, "text": text}))
    }

    /// The next message; an error once the server is gone or nothing came in time.
    pub fn next(&mut self, deadline: Duration) -> Result<Json> {
        let stream = self.inner.get_ref();
        stream.set_read_timeout(Some(deadline)).map_err(io_error("set a timeout"))?;
        loop {
            match self.inner.read().map_err(read_failed)? {
                Message::Text(text) => return serde_json::from_str(&text).map_err(failed),
                Message::Close(_) => return Err(failed("closed")),
                _ => {}
            }
        }
    }

    /// Reads until a message is wanted.
    pub fn wait_for(
        &mut self,
        deadline: Duration,
        mut wanted: impl FnMut(&Json) -> bool,
    ) -> Result<Json> {
        let end_ns = u128::from(WallClock.monotonic_ns()) + deadline.as_nanos();
        loop {
            let left_ns = end_ns.saturating_sub(u128::from(WallClock.monotonic_ns()));
            if left_ns == 0 {
                return Err(timed_out());
            }
            let left_ns = u64::try_from(left_ns).unwrap_or(u64::MAX);
            let message = self.next(Duration::from_nanos(left_ns))?;
            if wanted(&message) {
                return Ok(message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that stays silent has not closed the connection; one that left has. Catches a judgement
    /// by the words of an error, which differ from system to system.
    #[test]
    fn silence_is_not_a_close() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server =
            std::thread::spawn(move || tungstenite::accept(listener.accept().unwrap().0).unwrap());
        let mut socket = Socket::open(addr, "token").unwrap();
        let served = server.join().unwrap();
        assert!(!socket.is_closed_within(Duration::from_millis(50)));
        drop(served);
        assert!(socket.is_closed_within(Duration::from_secs(20)));
    }
}
