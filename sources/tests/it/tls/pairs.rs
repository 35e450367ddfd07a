//! Pairs of programs with OpenSSL at both ends.

use std::fmt::Write;
use std::process::Command;

use weir_sources::ebpf::{Build, EbpfConfig};

use super::{Capture, Place, Server, check, free_port, has, is_of, log_of};

const NGINX: &str = r#"
pid PLACE/nginx.pid; error_log PLACE/error.log; worker_processes 2; daemon off;
events { worker_connections 256; }
http {
  access_log off; client_body_temp_path PLACE/body; proxy_temp_path PLACE/proxy;
  fastcgi_temp_path PLACE/fcgi; uwsgi_temp_path PLACE/uwsgi; scgi_temp_path PLACE/scgi;
  server {
    listen 127.0.0.1:PORT LISTEN; ssl_certificate PLACE/cert.pem; ssl_certificate_key PLACE/key.pem;
    keepalive_requests 100000;
    location / { return 200 "hello $uri\n"; }
    location /none { return 404 "no\n"; }
    location /file { alias PLACE/large.txt; }
  }
}
"#;

/// What `listen` says of the port: TLS, and HTTP/2 or not.
pub(super) fn nginx(place: &Place, port: u16, listen: &str) -> Server {
    place.write("large.txt", &"large ".repeat(20_000));
    let dir = place.path("").to_string_lossy().trim_end_matches('/').to_string();
    let config = NGINX.replace("PLACE", &dir).replace("PORT", &port.to_string());
    let config = place.write("nginx.conf", &config.replace("LISTEN", listen));
    Server::run(Command::new("nginx").arg("-c").arg(config).arg("-p").arg(dir), port)
}

/// A configuration of curl's: requests one after the other over one connection, in a mix of what bodies do.
pub(super) fn curl_config(port: u16, from: u32, count: u32) -> String {
    let mut text = String::new();
    for idx in from..from + count {
        let path = match idx % 5 {
            0 => format!("/none/{idx}"),
            1 => format!("/file?{idx}"),
            _ => format!("/x/{idx}?q=a%20b"),
        };
        writeln!(text, "url = \"https://127.0.0.1:{port}{path}\"").unwrap();
        if idx % 5 == 2 {
            writeln!(text, "data = \"{}\"", "body ".repeat(idx as usize % 700)).unwrap();
        }
        writeln!(text, "output = \"/dev/null\"\ninsecure\nsilent\nhttp1.1").unwrap();
        writeln!(text, "write-out = \"{path} %{{http_code}} %{{size_download}}\\n\"\nnext")
            .unwrap();
    }
    text.trim_end_matches("next\n").to_string()
}

/// curl and nginx: bodies of no, few and many bytes, both ways, some files; eight clients, one after the
/// other and at once. Catches cipher bytes as rows, exchanges told twice, and bodies that end a parser's hold.
#[test]
fn curl_and_nginx() {
    if !has("nginx") || !has("curl") {
        return;
    }
    let (place, port) = (Place::new(), free_port());
    let Some(mut capture) = Capture::of_port(port) else { return };
    let server = nginx(&place, port, "ssl");
    let mut script = String::from("set -e\n");
    for client in 0..8 {
        let config = place.write(&format!("curl{client}"), &curl_config(port, client * 100, 100));
        let end = if client < 2 { "" } else { " > /dev/fd/1 &" };
        writeln!(script, "curl -K {}{end}", config.display()).unwrap();
    }
    script.push_str("wait\n");
    let text = capture.watch(Command::new("sh").args(["-c", &script]));
    let log = log_of(&text);
    assert_eq!(log.len(), 800);
    check(&mut capture, &log, &|pid| is_of(pid, server.pid()));
}

/// A server that answers each request with a body that its path asks for, and a client that logs.
pub(super) const PYTHON: &str = r#"
import http.server, http.client, ssl, sys, threading
place, port, role = sys.argv[1], int(sys.argv[2]), sys.argv[3]
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        idx = int(self.path.split("/")[2])
        body = b"b" * (idx * 37 % 50000)
        self.send_response(200 if idx % 7 else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = answer
    def log_message(self, *a): pass
if role == "server":
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(place + "/cert.pem", place + "/key.pem")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer)
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()
tls = ssl.create_default_context(cafile=place + "/cert.pem")
lock, lines = threading.Lock(), []
def ask(thread):
    link = http.client.HTTPSConnection("127.0.0.1", port, context=tls)
    for n in range(100):
        idx = thread * 100 + n
        body = b"q" * (n * 91) if n % 3 else None
        link.request("POST" if body else "GET", f"/py/{idx}", body)
        answer = link.getresponse()
        size = len(answer.read())
        with lock: lines.append(f"/py/{idx} {answer.status} {size}")
threads = [threading.Thread(target=ask, args=(t,)) for t in range(6)]
[t.start() for t in threads]
[t.join() for t in threads]
print("\n".join(lines))
"#;

/// Python's `ssl` at both ends, on several threads: `SSL_read_ex` and `SSL_write_ex`. Catches a socket that is
/// taken from another thread's call.
#[test]
fn python_on_threads() {
    let (place, port) = (Place::new(), free_port());
    python_pair(PYTHON, &place, port, EbpfConfig::default());
}

fn python_pair(program: &str, place: &Place, port: u16, config: EbpfConfig) {
    if !has("python3") {
        return;
    }
    let program = place.write("pair.py", program);
    let command = |role: &str| {
        let mut command = Command::new("python3");
        command.arg(&program).arg(place.path("")).arg(port.to_string()).arg(role);
        command
    };
    let Some(mut capture) = Capture::with(port, config) else { return };
    let server = Server::run(&mut command("server"), port);
    let log = log_of(&capture.watch(&mut command("client")));
    assert_eq!(log.len(), 600);
    check(&mut capture, &log, &|pid| is_of(pid, server.pid()));
}

/// Connections whose program reads and writes the socket itself, all of them on one thread.
const ASYNCIO: &str = r#"
import asyncio, ssl, sys
place, port, role = sys.argv[1], int(sys.argv[2]), sys.argv[3]
async def answer(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            for line in head.split("\r\n"):
                if line.lower().startswith("content-length:"): await reader.readexactly(int(line[15:]))
            idx = int(path.split("/")[2])
            body = b"b" * (idx * 37 % 50000)
            status = 200 if idx % 7 else 503
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def serve():
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(place + "/cert.pem", place + "/key.pem")
    async with await asyncio.start_server(answer, "127.0.0.1", port, ssl=tls) as server:
        await server.serve_forever()
async def ask(tls, task):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    for n in range(100):
        idx = task * 100 + n
        body = b"q" * (n * 91 if n % 3 else 0)
        writer.write(f"POST /py/{idx} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = int(head.split("Content-Length: ")[1].split("\r\n")[0])
        await reader.readexactly(size)
        print(f"/py/{idx} {head.split(' ')[1]} {size}")
    writer.close()
async def main():
    tls = ssl.create_default_context(cafile=place + "/cert.pem")
    await asyncio.gather(*(ask(tls, task) for task in range(6)))
asyncio.run(serve() if role == "server" else main())
"#;

/// asyncio at both ends: OpenSSL never sees a socket (memory BIOs), and all connections are on one thread.
/// Catches bytes that are told of another connection, and handshakes that leave no trace.
#[test]
fn python_with_memory_bios() {
    let (place, port) = (Place::new(), free_port());
    python_pair(ASYNCIO, &place, port, EbpfConfig::default());
}

/// The builds for older kernels, with a perf event for each function, do the same. Catches a form of
/// attachment, or a build, that loses or doubles calls.
#[test]
fn builds_for_older_kernels() {
    for build in [Build::Linux5_8, Build::Linux5_15] {
        let config = EbpfConfig { build, ..EbpfConfig::default() };
        python_pair(PYTHON, &Place::new(), free_port(), config);
    }
}

/// Without TLS capture no row comes of it, neither plain ones nor of cipher bytes.
#[test]
fn switched_off_it_gives_no_rows() {
    if !has("openssl") || !has("curl") {
        return;
    }
    let (place, port) = (Place::new(), free_port());
    let config = EbpfConfig { tls: false, ..EbpfConfig::default() };
    let Some(mut capture) = Capture::with(port, config) else { return };
    let program = place.write("pair.py", PYTHON);
    let mut server = Command::new("python3");
    server.arg(&program).arg(place.path("")).arg(port.to_string()).arg("server");
    let _server = Server::run(&mut server, port);
    let config = place.write("curl", &curl_config(port, 0, 20).replace("/x/", "/py/"));
    capture
        .watch(Command::new("sh").arg("-c").arg(format!("curl -K {} || true", config.display())));
    assert_eq!(capture.rows().len(), 0);
}
