//! The endpoint: `GET /metrics`, a request a connection, few at a time, each with a bound in bytes and time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::sink::SinkError;

/// A scrape's request is shorter.
const REQUEST_BYTES_MAX: usize = 16 << 10;
const IO_TIMEOUT: Duration = Duration::from_secs(10);
/// Scrapes at once; others are turned away.
const SCRAPES_MAX: usize = 8;
const CONTENT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// # Errors
    /// The address is none, or taken.
    pub(super) fn start(
        listen: &str,
        text: impl Fn() -> String + Send + Sync + 'static,
    ) -> Result<Server, SinkError> {
        let failed = |error| SinkError::Retry(format!("could not listen on {listen}: {error}"));
        let listener = TcpListener::bind(listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, text) = (Arc::clone(&stop), Arc::new(text));
        let accept = move || {
            let busy = Arc::new(AtomicUsize::new(0));
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                if busy.fetch_add(1, Ordering::SeqCst) >= SCRAPES_MAX {
                    busy.fetch_sub(1, Ordering::SeqCst);
                    continue;
                }
                let (text, done) = (Arc::clone(&text), Arc::clone(&busy));
                let answer = move || {
                    // Whoever scrapes may go whenever it likes.
                    drop(answer(stream, &*text));
                    done.fetch_sub(1, Ordering::SeqCst);
                };
                let spawned =
                    std::thread::Builder::new().name("sink-scrape".to_string()).spawn(answer);
                if spawned.is_err() {
                    busy.fetch_sub(1, Ordering::SeqCst);
                }
            }
        };
        let thread = std::thread::Builder::new().name("sink-exporter".to_string()).spawn(accept);
        Ok(Server { address, stop, thread: Some(thread.map_err(failed)?) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes it.
        drop(TcpStream::connect_timeout(&self.address, IO_TIMEOUT));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn answer(mut stream: TcpStream, text: &dyn Fn() -> String) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    let mut request = Vec::new();
    let mut bytes = [0; 4096];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = stream.read(&mut bytes)?;
        if read == 0 || request.len() + read > REQUEST_BYTES_MAX {
            return Ok(());
        }
        request.extend_from_slice(&bytes[..read]);
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).into_owned();
    let mut parts = line.split(' ');
    let (method, target) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let path = target.split('?').next().unwrap_or("");
    let (status, body) = match (method, path) {
        ("GET", "/metrics" | "/") => ("200 OK", text()),
        _ => ("404 Not Found", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {CONTENT}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}
