//! What tests of several kinds of sink share: servers that are started for a test and end with it, and a receiver
//! that answers as it is told.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::buffer::memory::MemoryBuffer;
use crate::buffer::{Buffer, WhenFull};
use crate::encode::Mode;
use crate::http_client::Target;
use crate::pipe::tests::Line;
use crate::sink::Writer;
use crate::tls::Tls;

pub(crate) use weir_types::testing::free_port;

pub(crate) fn target(url: &str) -> Target {
    let timeout = Duration::from_secs(20);
    Target { url: url.to_string(), headers: vec![], timeout, secrets: vec![], tls: Tls::default() }
}

/// Upserts in batches of so many, with what is waiting in memory.
pub(crate) fn upserts(writer: Box<dyn Writer>, rows_max: usize) -> Line {
    let buffer = Buffer::Memory(MemoryBuffer::new(64 << 20, None));
    Line::with(buffer, WhenFull::Block, Mode::Upsert, writer, rows_max)
}

/// Where things are kept that are no packages: `~/.cache/weir`.
pub(crate) fn cache(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/weir").join(name)
}

/// A server that ends with the test.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// `None`: there is no such program.
    pub(crate) fn start(
        program: &Path,
        args: &[String],
        is_ready: impl Fn() -> bool,
    ) -> Option<Running> {
        let log = || Stdio::null();
        let mut command = Command::new(program);
        let child = command.args(args).stdin(log()).stdout(log()).stderr(log()).spawn().ok()?;
        let mut running = Running { child };
        for _ in 0..1_200 {
            if is_ready() {
                return Some(running);
            }
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "{} {args:?} ended: {ended:?}", program.display());
            std::thread::park_timeout(Duration::from_millis(50));
        }
        panic!("{} does not answer", program.display());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Between a client and a server: it counts who comes, and nothing that the server says gets through while it is deaf.
pub(crate) struct Relay {
    pub(crate) port: u16,
    is_deaf: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl Relay {
    pub(crate) fn to(server: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_deaf, connections) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (deaf, count) = (Arc::clone(&is_deaf), Arc::clone(&connections));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let deaf = Arc::clone(&deaf);
                let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || passed_on(&up, &server, || true));
                let is_heard = move || !deaf.load(Ordering::SeqCst);
                std::thread::spawn(move || passed_on(&down, &client, is_heard));
            }
        });
        Relay { port, is_deaf, connections }
    }

    pub(crate) fn deafen(&self, is_deaf: bool) {
        self.is_deaf.store(is_deaf, Ordering::SeqCst);
    }

    /// How many came so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn passed_on(mut from: &TcpStream, mut to: &TcpStream, passes: impl Fn() -> bool) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        if passes() && to.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}

/// Certificates of an authority that nobody else trusts: `ca`, and of it `server` (127.0.0.1) and `client`.
pub(crate) struct Certificates(tempfile::TempDir);

impl Certificates {
    /// `None`: there is no openssl.
    pub(crate) fn make() -> Option<Certificates> {
        let dir = tempfile::tempdir().unwrap();
        let openssl = |args: &[&str]| {
            let made = Command::new("openssl").args(args).current_dir(dir.path()).output().ok()?;
            assert!(made.status.success(), "{args:?} {}", String::from_utf8_lossy(&made.stderr));
            Some(())
        };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let ca = ["-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt"];
        openssl(&[&["req"], &key[..], &ca[..]].concat())?;
        std::fs::write(dir.path().join("ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        for name in ["server", "client"] {
            let [subject, key_file, request, made] = [
                format!("/CN={name}"),
                format!("{name}.key"),
                format!("{name}.csr"),
                format!("{name}.crt"),
            ];
            let asked = ["-subj", &subject, "-keyout", &key_file, "-out", &request];
            openssl(&[&["req"], &key[..], &asked[..]].concat())?;
            openssl(&[
                "x509",
                "-req",
                "-in",
                &request,
                "-CA",
                "ca.crt",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                "ext",
                "-out",
                &made,
            ])?;
        }
        Some(Certificates(dir))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Trusts the authority; with a certificate of our own, or without.
    pub(crate) fn tls(&self, has_identity: bool) -> Tls {
        let identity = has_identity.then(|| (self.text("client.crt"), self.text("client.key")));
        Tls { authorities: Some(self.text("ca.crt")), identity }
    }
}

/// What a GET is answered with, if it is a success.
pub(crate) fn get(url: &str) -> Option<String> {
    ureq::get(url).call().ok()?.body_mut().read_to_string().ok()
}

/// What came: its path, its head (of a [`Receiver`] in lower case), its body.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// Statuses with what is said.
type Answers = Arc<Mutex<VecDeque<(u16, Vec<u8>)>>>;

/// Answers in their order, then the last one; keeps what came in.
pub(crate) struct Receiver {
    pub(crate) url: String,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
    answers: Answers,
}

/// A server for HTTP that answers each request, on a connection of its own, with what it is told to. Where it is.
pub(crate) fn serve(mut answer: impl FnMut(Request) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut len) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                    break;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    len = value.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            let mut body = vec![0; len];
            reader.read_exact(&mut body).unwrap();
            let path = head.split(' ').nth(1).unwrap_or_default().to_string();
            drop(stream.write_all(&answer(Request { path, head, body })));
        }
    });
    addr
}

impl Receiver {
    pub(crate) fn start() -> Receiver {
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let answers = Answers::default();
        let (kept, left) = (Arc::clone(&requests), Arc::clone(&answers));
        let addr = serve(move |request| {
            let request = Request { head: request.head.to_lowercase(), ..request };
            kept.lock().unwrap().push(request);
            let (status, said) = left.lock().unwrap().pop_front().unwrap_or((200, vec![]));
            let len = said.len();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n"
            );
            [head.as_bytes(), &said].concat()
        });
        Receiver { url: format!("http://{addr}"), requests, answers }
    }

    pub(crate) fn will_answer(&self, status: u16, said: &[u8]) {
        self.answers.lock().unwrap().push_back((status, said.to_vec()));
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}
