//! HTTP/1.1 over rustls, both ends, with threads and with tokio.
//!
//! `pair PLACE PORT ROLE`: `server`, `client` (threads), `async-server`, `async-client` (tokio). A server answers as
//! the number in a path asks; a client logs a line for each exchange, `path status bytes`. `joined` (tokio) asks a
//! few times over one connection, says `ready`, and goes on over it when it is told to.

use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

/// Connections at once, requests of each, and after how many it is another connection.
const TASKS: usize = 6;
const REQUESTS: usize = 100;
const REQUESTS_OF_ONE: usize = 25;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (place, port) = (args[1].as_str(), args[2].parse().unwrap());
    match args[3].as_str() {
        "server" => serve(port, server_config(place)),
        "client" => ask_all(port, client_config(place)),
        "joined" => runtime().block_on(async_ask_later(port, client_config(place))),
        "async-server" => runtime().block_on(async_serve(port, server_config(place))),
        _ => runtime().block_on(async_ask_all(port, client_config(place))),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap()
}

fn server_config(place: &str) -> Arc<ServerConfig> {
    let certificates = CertificateDer::pem_file_iter(format!("{place}/cert.pem")).unwrap();
    let certificates = certificates.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(format!("{place}/key.pem")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    Arc::new(config.with_single_cert(certificates, key).unwrap())
}

fn client_config(place: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(format!("{place}/cert.pem")).unwrap()).unwrap();
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// The first number of a path.
fn number(path: &str) -> usize {
    let mut numbers = path.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    numbers.next().map_or(0, |digits| digits.parse().unwrap())
}

fn answer(path: &str) -> (String, Vec<u8>) {
    let idx = number(path);
    let body = vec![b'b'; idx * 37 % 50_000];
    let status = if idx % 7 == 0 { "503 No" } else { "200 OK" };
    (format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()), body)
}

fn request(idx: usize) -> (String, Vec<u8>) {
    let body = vec![b'q'; if idx % 3 == 0 { 0 } else { idx % REQUESTS * 91 }];
    let head =
        format!("POST /rs/{idx} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
    (head, body)
}

/// The first line's second word, and what the head says of the body's length.
fn parsed(head: &[String]) -> (String, usize) {
    let word = head[0].split(' ').nth(1).unwrap().to_string();
    let length = head.iter().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length:")
            .map(|text| text.trim().parse().unwrap())
    });
    (word, length.unwrap_or(0))
}

/// None at the end.
fn head(from: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            return Some(lines);
        }
        lines.push(line);
    }
}

/// A head and a body as two writes or as one of two slices, in turn.
fn say(to: &mut impl Write, idx: usize, head: &[u8], body: &[u8]) {
    let taken = match idx % 2 {
        0 => to.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]).unwrap(),
        _ => 0,
    };
    to.write_all(&head[taken.min(head.len())..]).unwrap();
    to.write_all(&body[taken.saturating_sub(head.len())..]).unwrap();
    to.flush().unwrap();
}

fn serve(port: u16, config: Arc<ServerConfig>) {
    for socket in TcpListener::bind(("127.0.0.1", port)).unwrap().incoming() {
        let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = BufReader::new(rustls::StreamOwned::new(tls, socket.unwrap()));
        std::thread::spawn(move || {
            while let Some(head) = head(&mut stream) {
                let (path, length) = parsed(&head);
                stream.read_exact(&mut vec![0; length]).unwrap();
                let (head, body) = answer(&path);
                say(stream.get_mut(), number(&path), head.as_bytes(), &body);
            }
        });
    }
}

fn ask_all(port: u16, config: Arc<ClientConfig>) {
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let config = Arc::clone(&config);
            std::thread::spawn(move || {
                for first in (0..REQUESTS).step_by(REQUESTS_OF_ONE) {
                    let name = ServerName::try_from("localhost").unwrap();
                    let tls = ClientConnection::new(Arc::clone(&config), name).unwrap();
                    let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
                    let mut stream = BufReader::new(rustls::StreamOwned::new(tls, socket));
                    for n in first..first + REQUESTS_OF_ONE {
                        let idx = task * REQUESTS + n;
                        let (asked, body) = request(idx);
                        say(stream.get_mut(), idx, asked.as_bytes(), &body);
                        let (status, length) = parsed(&head(&mut stream).unwrap());
                        stream.read_exact(&mut vec![0; length]).unwrap();
                        println!("/rs/{idx} {status} {length}");
                    }
                }
            })
        })
        .collect();
    tasks.into_iter().for_each(|task| task.join().unwrap());
}

async fn async_head(from: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            return Some(lines);
        }
        lines.push(line);
    }
}

async fn async_say(to: &mut (impl AsyncWriteExt + Unpin), idx: usize, head: &[u8], body: &[u8]) {
    let taken = match idx % 2 {
        0 => to.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]).await.unwrap(),
        _ => 0,
    };
    to.write_all(&head[taken.min(head.len())..]).await.unwrap();
    to.write_all(&body[taken.saturating_sub(head.len())..]).await.unwrap();
    to.flush().await.unwrap();
}

async fn async_serve(port: u16, config: Arc<ServerConfig>) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    loop {
        let (socket, acceptor) = (listener.accept().await.unwrap().0, acceptor.clone());
        tokio::spawn(async move {
            // Whoever only looks whether somebody listens says nothing.
            let Ok(stream) = acceptor.accept(socket).await else { return };
            let mut stream = tokio::io::BufReader::new(stream);
            while let Some(head) = async_head(&mut stream).await {
                let (path, length) = parsed(&head);
                stream.read_exact(&mut vec![0; length]).await.unwrap();
                // Others are served in between.
                tokio::task::yield_now().await;
                let (head, body) = answer(&path);
                async_say(stream.get_mut(), number(&path), head.as_bytes(), &body).await;
            }
        });
    }
}

async fn connect(
    connector: &tokio_rustls::TlsConnector,
    port: u16,
) -> Box<tokio::io::BufReader<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>> {
    let name = ServerName::try_from("localhost").unwrap();
    let socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let stream = connector.connect(name, socket).await.unwrap();
    // At another address than that of the handshake.
    Box::new(tokio::io::BufReader::new(stream))
}

async fn async_ask(
    stream: &mut tokio::io::BufReader<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>,
    idx: usize,
    is_quiet: bool,
) {
    let (asked, body) = request(idx);
    async_say(stream.get_mut(), idx, asked.as_bytes(), &body).await;
    let (status, length) = parsed(&async_head(stream).await.unwrap());
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    if !is_quiet {
        println!("/rs/{idx} {status} {length}");
    }
}

async fn async_ask_later(port: u16, config: Arc<ClientConfig>) {
    let mut stream = connect(&tokio_rustls::TlsConnector::from(config), port).await;
    for idx in 0..5 {
        async_ask(&mut stream, 1_000_000 + idx, true).await;
    }
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    for idx in 0..REQUESTS {
        async_ask(&mut stream, idx, false).await;
    }
}

async fn async_ask_all(port: u16, config: Arc<ClientConfig>) {
    let connector = tokio_rustls::TlsConnector::from(config);
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let connector = connector.clone();
        tasks.push(tokio::spawn(async move {
            for first in (0..REQUESTS).step_by(REQUESTS_OF_ONE) {
                let mut stream = connect(&connector, port).await;
                // Another task, perhaps on another thread, than that of the handshake.
                let asked = tokio::spawn(async move {
                    for n in first..first + REQUESTS_OF_ONE {
                        async_ask(&mut stream, task * REQUESTS + n, false).await;
                    }
                });
                asked.await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}
