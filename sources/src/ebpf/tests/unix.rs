//! HTTP over Unix sockets, by programs of others.

use std::process::{Child, Command, Stdio};

use super::ends::Traced;
use super::*;

const BACKEND: &str = r#"
import http.server, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
    def address_string(self): return "unix"
class Server(socketserver.ThreadingUnixStreamServer):
    def get_request(self):
        return (self.socket.accept()[0], ("unix", 0))
name = sys.argv[1]
with Server("\0" + name[1:] if name.startswith("@") else name, Handler) as server:
    print("ready", flush=True)
    server.serve_forever()
"#;

const CLIENT: &str = r#"
import socket, sys, http.client
name = sys.argv[1]
sys.stdin.readline()
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("\0" + name[1:] if name.startswith("@") else name)
for n in range(60):
    connection.request("GET", "/%d" % n)
    assert connection.getresponse().read() == b"/%d" % n
"#;

/// A process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Names that begin with `@` are abstract.
fn backend(name: &str) -> Option<Running> {
    let child =
        match Command::new("python3").args(["-c", BACKEND, name]).stdout(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => {
                weir_types::testing::skipped(format_args!("python3: {error}"));
                return None;
            }
        };
    let mut running = Running(child);
    running.0.stdout.take().unwrap().read_exact(&mut [0; 6]).unwrap();
    Some(running)
}

fn client(name: &str) -> Running {
    let child =
        Command::new("python3").args(["-c", CLIENT, name]).stdin(Stdio::piped()).spawn().unwrap();
    Running(child)
}

/// Sixty requests to a Python server at a Unix socket, by a Python client that keeps its connection:
/// sixty rows a side, each with the socket's path and the process at the other end. Abstract names begin
/// with `@`.
#[test]
fn http_over_unix_sockets_has_rows_with_the_path() {
    let dir = std::env::temp_dir().join(format!("weir-unix-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("backend.sock");
    let path = path.to_str().unwrap().to_string();
    for name in [path, format!("@weir-test-{}", std::process::id())] {
        let Some(server) = backend(&name) else { return };
        let mut client = client(&name);
        let pids = BTreeSet::from([server.0.id(), client.0.id()]);
        let mut config = follow_self();
        config.filters.pids = pids;
        let Some(mut traced) = Traced::start(&config) else { return };
        client.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
        assert!(client.0.wait().unwrap().success());
        traced.settle();
        let rows = traced.rows();
        for role in [1, 2] {
            let of_role: Vec<&str> =
                rows.iter().filter(|row| row.0 == role).map(|row| row.1.as_str()).collect();
            let expected: Vec<String> = (0..60).map(|n| format!("/{n}")).collect();
            assert_eq!(of_role, expected, "role {role} at {name}");
        }
        let (server, client) = (server.0.id(), client.0.id());
        let peers = BTreeSet::from([(server, client), (client, server)]);
        assert_eq!(traced.peers(), peers, "each row knows the other end at {name}");
        let shown = format!("unix_socket:{name}");
        for column in ["remote_addr", "local_addr"] {
            let texts = traced.texts(column);
            assert!(texts.iter().all(|text| *text == shown), "{column}: {:?}", texts.first());
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
