//! One gRPC call after another, on a connection that is kept: a message each way, over HTTP/2 (`h2`), without a
//! service framework. What a status means is the contract's: INVALID_ARGUMENT, OUT_OF_RANGE and UNIMPLEMENTED are
//! about what was sent; all else is tried again, after the time that the other end asks for.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::Service;
use crate::http_client::Target;
use crate::sink::SinkError;
use crate::{one_thread, secrets};

/// What is read of an answer: it has a number and a sentence.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Statuses, by their numbers.
const INVALID_ARGUMENT: u32 = 3;
const RESOURCE_EXHAUSTED: u32 = 8;
const OUT_OF_RANGE: u32 = 11;
const UNIMPLEMENTED: u32 = 12;

pub(super) struct Client {
    target: Target,
    runtime: Option<Runtime>,
    connection: Option<SendRequest<Bytes>>,
}

/// Why a call did not come to its end.
enum Failed {
    /// Of the connection: another one may do.
    Connection(String),
    Answered(SinkError),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The wait that a status with details asks for.
fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    let text = headers.get("grpc-status-details-bin")?.to_str().ok()?;
    let bytes = STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    let status = Status::decode(bytes.as_slice()).ok()?;
    let detail = status.details.iter().find(|it| it.type_url.ends_with("google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(detail.value.as_slice()).ok()?.delay?;
    let seconds = u64::try_from(delay.seconds).ok()?;
    Some(Duration::new(seconds, u32::try_from(delay.nanos).ok()?.min(999_999_999)))
}

fn judged(headers: &HeaderMap, secrets: &[String]) -> Result<(), SinkError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let said = text("grpc-message");
    match text("grpc-status").parse::<u32>() {
        Ok(0) => Ok(()),
        Ok(status) => {
            let shown = secrets::line(&format!("gRPC status {status}: {said}"), secrets);
            let after = asked_wait(headers);
            let is_too_large =
                status == RESOURCE_EXHAUSTED && after.is_none() && said.contains("larger than max");
            Err(match (status, after) {
                (INVALID_ARGUMENT | OUT_OF_RANGE | UNIMPLEMENTED, _) => SinkError::Unfit(shown),
                _ if is_too_large => SinkError::Unfit(shown),
                (_, Some(after)) => SinkError::RetryAfter(shown, after),
                (_, None) => SinkError::Retry(shown),
            })
        }
        Err(_) => Err(SinkError::Retry("the answer has no gRPC status".to_string())),
    }
}

impl Client {
    pub(super) fn new(target: Target) -> Client {
        Client { target, runtime: None, connection: None }
    }

    fn retry(&self, text: &str) -> SinkError {
        SinkError::Retry(secrets::line(text, &self.target.secrets))
    }

    fn runtime(&mut self) -> Result<Runtime, SinkError> {
        one_thread::take(&mut self.runtime)
            .map_err(|error| self.retry(&format!("no runtime: {error}")))
    }

    /// Somebody who speaks HTTP/2 is there.
    pub(super) fn reach(&mut self) -> Result<(), SinkError> {
        let runtime = self.runtime()?;
        let done = runtime.block_on(self.reached());
        self.runtime = Some(runtime);
        self.connection = Some(done?);
        Ok(())
    }

    async fn reached(&self) -> Result<SendRequest<Bytes>, SinkError> {
        let connected = tokio::time::timeout(self.target.timeout, self.connect()).await;
        let connected = connected.map_err(|_| self.retry("no answer in time"))?;
        connected.map_err(|text| self.retry(&text))
    }

    pub(super) fn call(&mut self, service: Service, message: &[u8]) -> Result<Vec<u8>, SinkError> {
        let runtime = self.runtime()?;
        let connection = self.connection.take();
        let done = runtime.block_on(self.attempts(connection, service, message));
        self.runtime = Some(runtime);
        let (connection, answer) = done?;
        self.connection = connection;
        answer
    }

    /// On the connection that there is; if that is broken, on another one.
    async fn attempts(
        &self,
        connection: Option<SendRequest<Bytes>>,
        service: Service,
        message: &[u8],
    ) -> Result<(Option<SendRequest<Bytes>>, Result<Vec<u8>, SinkError>), SinkError> {
        let late = |_| self.retry("no answer in time");
        let call = async |connection: SendRequest<Bytes>| {
            let done = self.attempt(connection.clone(), service, message);
            match tokio::time::timeout(self.target.timeout, done).await.map_err(late)? {
                Ok(answer) => Ok((Some(connection), Ok(answer))),
                Err(Failed::Answered(error)) => Ok((Some(connection), Err(error))),
                Err(Failed::Connection(text)) => Err(self.retry(&text)),
            }
        };
        if let Some(connection) = connection
            && let Ok(done) = call(connection).await
        {
            return Ok(done);
        }
        call(self.reached().await?).await
    }

    async fn connect(&self) -> Result<SendRequest<Bytes>, String> {
        let (is_tls, host, port) = parts_of(&self.target.url)?;
        let stream = TcpStream::connect((host.as_str(), port)).await;
        let stream = stream.map_err(|error| format!("could not connect: {error}"))?;
        drop(stream.set_nodelay(true));
        let stream: Box<dyn Stream> =
            if is_tls { Box::new(self.tls(stream, &host).await?) } else { Box::new(stream) };
        let (send, connection) =
            h2::client::handshake(stream).await.map_err(|error| format!("no HTTP/2: {error}"))?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(send)
    }

    async fn tls(&self, stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, String> {
        let config = self.target.tls.client_config(&[b"h2"])?;
        let name = ServerName::try_from(host.to_string()).map_err(|error| error.to_string())?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        connected.map_err(|error| format!("TLS: {error}"))
    }

    async fn attempt(
        &self,
        connection: SendRequest<Bytes>,
        service: Service,
        message: &[u8],
    ) -> Result<Vec<u8>, Failed> {
        let broken = |error: h2::Error| Failed::Connection(format!("HTTP/2: {error}"));
        let request = self.request(service).map_err(|text| Failed::Answered(self.retry(&text)))?;
        let mut connection = connection.ready().await.map_err(broken)?;
        let (answer, mut body) = connection.send_request(request, false).map_err(broken)?;
        body.send_data(framed(message), true).map_err(broken)?;
        let (head, mut stream) = answer.await.map_err(broken)?.into_parts();
        let mut said = BytesMut::new();
        while let Some(chunk) = stream.data().await {
            let chunk = chunk.map_err(broken)?;
            drop(stream.flow_control().release_capacity(chunk.len()));
            if said.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Failed::Connection("a very long answer".to_string()));
            }
            said.extend_from_slice(&chunk);
        }
        let trailers = stream.trailers().await.map_err(broken)?.unwrap_or_default();
        if head.status != 200 {
            let status = head.status.as_u16();
            return Err(Failed::Answered(SinkError::Retry(format!("HTTP {status}"))));
        }
        let has_status = trailers.contains_key("grpc-status");
        let headers = if has_status { &trailers } else { &head.headers };
        judged(headers, &self.target.secrets).map_err(Failed::Answered)?;
        // One byte and a length before the message.
        Ok(said.get(5..).unwrap_or_default().to_vec())
    }

    fn request(&self, service: Service) -> Result<Request<()>, String> {
        let path = match service {
            Service::Metrics => "opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Service::Traces => "opentelemetry.proto.collector.trace.v1.TraceService/Export",
        };
        let (is_tls, host, port) = parts_of(&self.target.url)?;
        let scheme = if is_tls { "https" } else { "http" };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let mut request = Request::post(format!("{scheme}://{host}:{port}/{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header(
                "grpc-timeout",
                format!("{}m", self.target.timeout.as_millis().min(99_999_999)),
            );
        for (name, value) in &self.target.headers {
            // Header names are lower case in HTTP/2.
            request = request.header(name.to_ascii_lowercase(), value);
        }
        request.body(()).map_err(|error| error.to_string())
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + 5);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}

/// Whether with TLS, host and port.
pub(super) fn parts_of(url: &str) -> Result<(bool, String, u16), String> {
    let wrong = || "for gRPC `url` is http://HOST:PORT or https://HOST:PORT".to_string();
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let (host, port) = host.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((scheme == "https", host.to_string(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    /// Statuses mean what the contract says, and an asked for wait is found among the details.
    #[test]
    fn statuses_mean_what_the_contract_says() {
        for (status, is_unfit) in
            [(3, true), (11, true), (12, true), (7, false), (14, false), (16, false)]
        {
            let text = status.to_string();
            let error = judged(&headers(&[("grpc-status", &text)]), &[]).unwrap_err();
            assert_eq!(matches!(error, SinkError::Unfit(_)), is_unfit, "{error}");
        }
        let too_large =
            [("grpc-status", "8"), ("grpc-message", "received message larger than max (9 vs. 4)")];
        assert!(matches!(judged(&headers(&too_large), &[]), Err(SinkError::Unfit(_))));
        use base64::Engine;
        let info = RetryInfo { delay: Some(Delay { seconds: 4, nanos: 500_000_000 }) };
        let type_url = "type.googleapis.com/google.rpc.RetryInfo".to_string();
        let status = Status { details: vec![Detail { type_url, value: info.encode_to_vec() }] };
        let text = base64::engine::general_purpose::STANDARD.encode(status.encode_to_vec());
        let busy = [("grpc-status", "8"), ("grpc-status-details-bin", text.as_str())];
        let error = judged(&headers(&busy), &[]).unwrap_err();
        assert!(matches!(error, SinkError::RetryAfter(_, after) if after.as_millis() == 4_500));
        assert!(judged(&headers(&[("grpc-status", "0")]), &[]).is_ok());
    }
}
