//! Against servers with certificates of an authority of their own, which want to know who we are.

use std::io::{Read, Write};
use std::net::TcpListener;

use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::encode::Mode;
use crate::http::{Framing, HttpSink};
use crate::pipe::tests::{Line, delivery};
use crate::sink::{SinkError, Writer};
use crate::testing::{Certificates, target};
use crate::websocket::WebsocketSink;

/// A server's side, for those who have a certificate of the authority.
fn server_config(files: &Certificates) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certificates(&files.text("ca.crt")).unwrap().remove(0)).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let key = PrivateKeyDer::from_pem_slice(files.text("server.key").as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(certificates(&files.text("server.crt")).unwrap(), key);
    Arc::new(config.unwrap())
}

/// Answers POSTs with 200, and speaks websocket to those who ask for it.
fn serve(files: &Certificates) -> u16 {
    let (listener, config) = (TcpListener::bind("127.0.0.1:0").unwrap(), server_config(files));
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let mut head = vec![0; 4];
            // Whoever is not let in has no first byte.
            if stream.read_exact(&mut head).is_err() {
                continue;
            }
            if head == b"POST" {
                let mut rest = [0; 64 << 10];
                while let Ok(read) = stream.read(&mut rest) {
                    let is_end = String::from_utf8_lossy(&rest[..read]).ends_with(']');
                    if is_end || read == 0 {
                        break;
                    }
                }
                let said = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                drop(stream.write_all(said.as_bytes()));
                stream.conn.send_close_notify();
                drop(stream.flush());
                continue;
            }
            let stream = Again { head, stream };
            let Ok(mut socket) = tungstenite::accept(stream) else { continue };
            while socket.read().is_ok() {}
        }
    });
    port
}

/// What was read already comes first.
struct Again<S> {
    head: Vec<u8>,
    stream: S,
}

impl<S: Read> Read for Again<S> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.head.is_empty() {
            return self.stream.read(out);
        }
        let len = self.head.len().min(out.len());
        out[..len].copy_from_slice(&self.head[..len]);
        self.head.drain(..len);
        Ok(len)
    }
}

impl<S: Write> Write for Again<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

type Make = fn(crate::http_client::Target) -> Box<dyn Writer>;

fn written(writer: Box<dyn Writer>) -> Result<u64, SinkError> {
    let mut line = Line::in_memory(Mode::Append, writer);
    line.start(false)?;
    line.deliver(&delivery(1, &[("a", 1, 1)], true))?;
    line.flush()?;
    Ok(line.health().rows_sent)
}

/// HTTP and websocket reach a server whose authority only we know, and that lets in only whom it knows. Without that
/// authority, or without a certificate of our own, nothing arrives, and it is tried again. Catches a client that does
/// not verify.
#[test]
fn both_ends_are_known() {
    let Some(files) = Certificates::make() else {
        return weir_types::testing::skipped("there is no openssl");
    };
    let port = serve(&files);
    let kinds: [(&str, Make); 2] = [
        ("https", |target| Box::new(HttpSink::new(target, Framing::Array))),
        ("wss", |target| Box::new(WebsocketSink::new(target))),
    ];
    for (scheme, sink) in kinds {
        let with = |tls: Tls, host: &str| {
            let mut target = target(&format!("{scheme}://{host}:{port}/"));
            target.tls = tls;
            written(sink(target))
        };
        assert_eq!(with(files.tls(true), "127.0.0.1").unwrap(), 1, "{scheme}");
        for (tls, host) in [
            (files.tls(false), "127.0.0.1"),
            (Tls::default(), "127.0.0.1"),
            // Its certificate is for another name.
            (files.tls(true), "localhost"),
        ] {
            let done = with(tls, host);
            assert!(matches!(done, Err(SinkError::Retry(_))), "{scheme} {host} {done:?}");
        }
    }
}

/// What holds no certificate, no key, or a key of another certificate is refused when the configuration is read.
#[test]
fn what_is_no_certificate_is_refused() {
    let Some(files) = Certificates::make() else {
        return weir_types::testing::skipped("there is no openssl");
    };
    let text = |name: &str| files.text(name);
    let with = |ca: Option<String>, identity: Option<(String, String)>| {
        let tls = Tls { authorities: ca, identity };
        tls.client_config(&[]).map(drop).unwrap_err()
    };
    assert!(with(Some(String::new()), None).starts_with("tls.ca: "));
    assert!(with(Some(text("ca.key")), None).starts_with("tls.ca: "));
    assert!(with(None, Some((text("client.crt"), "x".to_string()))).starts_with("tls.key: "));
    assert!(with(None, Some((String::new(), text("client.key")))).starts_with("tls.cert: "));
    let other = with(None, Some((text("client.crt"), text("server.key"))));
    assert!(other.starts_with("tls.cert and tls.key: "), "{other}");
}
