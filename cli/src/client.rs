//! The way to a server: where it is, which token, one question or one subscription at a time.

use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use crate::data_dir;
use crate::failure::Failure;
use crate::output;

pub(crate) struct Connection {
    server: String,
    data_dir: Option<PathBuf>,
}

impl Connection {
    pub(crate) fn new(server: String, data_dir: Option<PathBuf>) -> Connection {
        Connection { server: server.trim_end_matches('/').to_string(), data_dir }
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        if let Ok(token) = std::env::var("WEIR_TOKEN") {
            return Ok(Some(token));
        }
        data_dir::token_in(&self.data_dir.clone().unwrap_or_else(data_dir::default_path))
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::Unreachable(format!(
            "no server at {} ({error}): start one with `weir up`, or name it with --server",
            self.server
        ))
    }

    /// What an HTTP answer of another status than 2xx says.
    fn refused(&self, status: u16, body: &str) -> Failure {
        let error = serde_json::from_str::<Json>(body).unwrap_or_default();
        let error = &error["error"];
        let message = error["message"].as_str().unwrap_or(body);
        if status == 401 {
            return Failure::No(format!(
                "{} wants a token: run as the user of the server, or set WEIR_TOKEN or \
                 --data-dir",
                self.server
            ));
        }
        let diagnostics = output::diagnostics_of(&error["diagnostics"]);
        Failure::Script { message: message.to_string(), diagnostics }
    }

    fn finish(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Json, Failure> {
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let body = answer
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_to_string()
            .map_err(|error| self.unreachable(&error))?;
        if !status.is_success() {
            return Err(self.refused(status.as_u16(), &body));
        }
        if body.is_empty() {
            return Ok(Json::Null);
        }
        serde_json::from_str(&body)
            .map_err(|error| Failure::No(format!("the server's answer is not JSON: {error}")))
    }

    fn agent() -> ureq::Agent {
        Connection::agent_within(None)
    }

    fn agent_within(time_max: Option<Duration>) -> ureq::Agent {
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        config.timeout_global(time_max).build().into()
    }

    pub(crate) fn get(&self, path: &str) -> Result<Json, Failure> {
        let mut request = Connection::agent().get(format!("{}{path}", self.server));
        if let Some(token) = self.token()? {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        self.finish(request.call())
    }

    /// What is no JSON.
    pub(crate) fn text(&self, path: &str) -> Result<String, Failure> {
        let mut request = Connection::agent().get(format!("{}{path}", self.server));
        if let Some(token) = self.token()? {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut answer = request.call().map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(1 << 30).read_to_string();
        let body = body.map_err(|error| self.unreachable(&error))?;
        if status.is_success() { Ok(body) } else { Err(self.refused(status.as_u16(), &body)) }
    }

    /// Whether a path that needs no token is answered in time with a status of 2xx.
    pub(crate) fn probe(&self, path: &str, time_max: Duration) -> Result<(), Failure> {
        let agent = Connection::agent_within(Some(time_max));
        let answer = agent.get(format!("{}{path}", self.server)).call();
        let status = answer.map_err(|error| self.unreachable(&error))?.status();
        if status.is_success() {
            return Ok(());
        }
        Err(Failure::No(format!("{} answers {path} with {status}", self.server)))
    }

    pub(crate) fn post(&self, path: &str, body: &Json) -> Result<Json, Failure> {
        let mut request = Connection::agent().post(format!("{}{path}", self.server));
        if let Some(token) = self.token()? {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        self.finish(request.send_json(body))
    }

    /// Opens a websocket and subscribes with one message.
    pub(crate) fn subscribe(&self, message: &Json) -> Result<Subscription, Failure> {
        let address = self.server.strip_prefix("http://").ok_or_else(|| {
            Failure::Usage(format!("{}: only http:// servers are supported yet", self.server))
        })?;
        let url = format!("ws://{address}/api/v1/live");
        let mut request = url
            .into_client_request()
            .map_err(|error| Failure::Usage(format!("{}: {error}", self.server)))?;
        if let Some(token) = self.token()?
            && let Ok(value) = format!("Bearer {token}").parse()
        {
            request.headers_mut().insert("Authorization", value);
        }
        let stream = TcpStream::connect(address).map_err(|error| self.unreachable(&error))?;
        let config = tungstenite::protocol::WebSocketConfig::default()
            .max_message_size(Some(1 << 30))
            .max_frame_size(Some(1 << 30));
        let opened = tungstenite::client::client_with_config(request, stream, Some(config));
        let (mut socket, _) = opened.map_err(|error| match error {
            tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer)) => {
                let body = answer.body().clone().unwrap_or_default();
                self.refused(answer.status().as_u16(), &String::from_utf8_lossy(&body))
            }
            other => self.unreachable(&other),
        })?;
        socket
            .send(Message::text(message.to_string()))
            .map_err(|error| self.unreachable(&error))?;
        Ok(Subscription { socket })
    }
}

pub(crate) struct Subscription {
    socket: WebSocket<TcpStream>,
}

/// What came within the time given.
pub(crate) enum Received {
    Text(String),
    Nothing,
    Closed,
}

impl Subscription {
    /// Waits at most `timeout` for the next message.
    pub(crate) fn next(&mut self, timeout: std::time::Duration) -> Result<Received, Failure> {
        let timeout = timeout.max(std::time::Duration::from_millis(1));
        drop(self.socket.get_ref().set_read_timeout(Some(timeout)));
        match self.socket.read() {
            Ok(Message::Text(text)) => Ok(Received::Text(text.to_string())),
            Ok(Message::Close(_)) => Ok(Received::Closed),
            Ok(_) => Ok(Received::Nothing),
            Err(tungstenite::Error::Io(error))
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock
                        | std::io::ErrorKind::TimedOut
                        | std::io::ErrorKind::Interrupted
                ) =>
            {
                Ok(Received::Nothing)
            }
            Err(
                tungstenite::Error::ConnectionClosed
                | tungstenite::Error::AlreadyClosed
                | tungstenite::Error::Io(_)
                | tungstenite::Error::Protocol(_),
            ) => Ok(Received::Closed),
            Err(error) => Err(Failure::No(format!("the connection failed: {error}"))),
        }
    }
}
