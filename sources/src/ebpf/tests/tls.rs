//! Probes of TLS libraries that come and go.

use std::io::BufRead;
use std::process::{Command, Stdio};

use aya::Btf;

use super::super::tls::{TlsPrograms, file_points};
use super::super::{can_run, load};
use super::*;

/// A server and clients in one process, which ask until their input ends: then how often they did. Any
/// failure ends it with an error.
const TRAFFIC: &str = r#"
import http.server, http.client, ssl, sys, threading, os
place = sys.argv[1]
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(place + "/cert.pem", place + "/key.pem")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
threading.Thread(target=server.serve_forever, daemon=True).start()
ending, asked = False, [0, 0, 0, 0]
def ask(thread):
    try:
        while not ending:
            link = http.client.HTTPSConnection("127.0.0.1", server.server_port, context=ssl._create_unverified_context())
            for n in range(20):
                body = bytes([n]) * (n * 997)
                link.request("POST", "/", body)
                if link.getresponse().read() != body: raise ValueError("another answer")
                asked[thread] += 1
            link.close()
    except Exception as error:
        print("failed", error, flush=True)
        os._exit(1)
threads = [threading.Thread(target=ask, args=(t,)) for t in range(4)]
[t.start() for t in threads]
print("ready", flush=True)
sys.stdin.read()
ending = True
[t.join() for t in threads]
print(sum(asked), flush=True)
"#;

/// A library's probes come and go 200 times while a program uses it on eight threads: no request fails, and no
/// answer is another. Catches a probe that harms the program it watches, as one that returns to where the probe
/// was.
#[test]
fn probes_come_and_go_under_load() {
    let Some(source) = start(&follow_self()) else { return };
    drop(source);
    let config = EbpfConfig { tls: true, ..follow_self() };
    let btf = Btf::from_sys_fs().unwrap();
    let (mut ebpf, build) = load::syscalls(&config, &btf).unwrap();
    let object = load::object_of(build).unwrap();
    let programs = TlsPrograms::load(&object, &mut ebpf, &btf, can_run::kernel_version()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let key = place.path().join("key.pem");
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(' '))
        .args(["-subj", "/CN=localhost", "-keyout"])
        .arg(key)
        .arg("-out")
        .arg(place.path().join("cert.pem"))
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        weir_types::testing::skipped("openssl is not installed");
        return;
    }
    let mut child = Command::new("python3")
        .args(["-c", TRAFFIC])
        .arg(place.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
    let library = maps.split_whitespace().find(|word| word.contains("libssl")).unwrap();
    let file = std::fs::File::open(library).unwrap();
    let points = file_points(&file).unwrap();
    for _ in 0..200 {
        let attachments = programs.attach(&file, &points).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        drop(attachments);
    }
    drop(child.stdin.take());
    line.clear();
    output.read_line(&mut line).unwrap();
    assert!(child.wait().unwrap().success(), "{line}");
    let asked: u64 = line.trim().parse().unwrap();
    assert!(asked > 200, "{asked} requests");
}
