//! Probes of TLS libraries that come and go.

use std::io::BufRead;
use std::process::{Command, Stdio};

use aya::Btf;

use super::super::attach::Attachment;
use super::super::tls::{TlsPrograms, file_points, made_elf};
use super::super::{ProgramStatus, can_run, load};
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

/// The same in Go, over HTTP/1.1 and HTTP/2, with stacks that grow within calls and are moved.
const GO_TRAFFIC: &str = r#"
package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
)

func check(err error) {
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
}

func deep(n int) int {
	var room [64]int
	room[n%64] = n
	if n == 0 {
		return room[0]
	}
	return deep(n-1) + room[n%64]
}

func main() {
	answer := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		check(err)
		deep(len(body) % 3000)
		w.Write(body)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go http.ServeTLS(listener, http.HandlerFunc(answer), os.Args[1]+"/cert.pem", os.Args[1]+"/key.pem")
	var asked, ending int64
	var wait sync.WaitGroup
	for task := 0; task < 8; task++ {
		wait.Add(1)
		go func(task int) {
			defer wait.Done()
			for atomic.LoadInt64(&ending) == 0 {
				transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: task%2 == 0}
				client := &http.Client{Transport: transport}
				for n := 0; n < 20; n++ {
					body := bytes.Repeat([]byte{byte(n)}, n*997)
					answer, err := client.Post("https://"+listener.Addr().String()+"/", "text/plain", bytes.NewReader(body))
					check(err)
					deep(n * 100)
					got, err := io.ReadAll(answer.Body)
					check(err)
					if !bytes.Equal(got, body) {
						check(io.ErrUnexpectedEOF)
					}
					check(answer.Body.Close())
					if atomic.AddInt64(&asked, 1)%50 == 0 {
						runtime.GC()
					}
				}
				transport.CloseIdleConnections()
			}
		}(task)
	}
	fmt.Println("ready")
	io.ReadAll(os.Stdin)
	atomic.StoreInt64(&ending, 1)
	wait.Wait()
	fmt.Println(asked)
}
"#;

/// How often probes come and go.
const ROUNDS: u32 = 200;

/// Sets and takes away a file's probes while the program asks on and on.
fn come_and_go(mut command: Command, file_of: &dyn Fn(u32) -> std::path::PathBuf) {
    let Some(source) = start(&follow_self()) else { return };
    drop(source);
    let config = EbpfConfig { tls: true, ..follow_self() };
    let btf = Btf::from_sys_fs().unwrap();
    let (mut ebpf, build) = load::syscalls(&config, &btf).unwrap();
    let object = load::object_of(build).unwrap();
    let programs = TlsPrograms::load(&object, &mut ebpf, &btf, can_run::kernel_version()).unwrap();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let file = std::fs::File::open(file_of(child.id())).unwrap();
    let points = file_points(&file).unwrap();
    for _ in 0..ROUNDS {
        // Those that are there for a while come after the others, and may go before.
        let attachments = programs.attach(&file, &points).unwrap();
        drop(programs.attach_passing(&file, &points).unwrap());
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        drop(attachments);
    }
    drop(child.stdin.take());
    line.clear();
    output.read_line(&mut line).unwrap();
    assert!(child.wait().unwrap().success(), "{line}");
    let asked: u32 = line.trim().parse().unwrap();
    assert!(asked > ROUNDS, "{asked} requests");
}

/// A folder with a certificate; said on stderr if there is no openssl.
fn place() -> Option<tempfile::TempDir> {
    let place = tempfile::tempdir().unwrap();
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(' '))
        .args(["-subj", "/CN=localhost", "-keyout"])
        .arg(place.path().join("key.pem"))
        .arg("-out")
        .arg(place.path().join("cert.pem"))
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        weir_types::testing::skipped("openssl is not installed");
        return None;
    }
    Some(place)
}

/// How many places of a file are held by links, and how many by perf events; and what is told of links.
fn held(config: &EbpfConfig, is_refused: bool) -> ([usize; 2], Option<ProgramStatus>) {
    let btf = Btf::from_sys_fs().unwrap();
    let (mut ebpf, build) = load::syscalls(config, &btf).unwrap();
    let object = load::object_of(build).unwrap();
    let object: &[u8] = if is_refused { b"no object" } else { &object };
    let kernel = match config.build {
        Build::Auto => can_run::kernel_version(),
        build => build.kernel_min(),
    };
    let programs = TlsPrograms::load(object, &mut ebpf, &btf, kernel).unwrap();
    let file = made_elf(&[(0, 64), (0, 65), (9, 66), (9, 67)], b"SSL_read\0SSL_write\0", 1);
    let attachments = programs.attach(&file, &file_points(&file).unwrap()).unwrap();
    let links = attachments.iter().filter(|held| matches!(held, Attachment::Link { .. })).count();
    ([links, attachments.len() - links], programs.links())
}

/// Where the kernel has links for many places (from 6.6 on), the programs of TLS are held by them, one for all
/// places of a program: eight places of three programs are three links. Where it has not, each place is a perf
/// event, and nothing is amiss. If it should take links and refuses, capture goes on with events and says why.
/// Catches programs that the kernel takes in one form only: all of TLS falls back then, and no row tells.
#[test]
fn links_where_the_kernel_has_them() {
    let config = EbpfConfig { tls: true, ..follow_self() };
    let Some(source) = start(&config) else { return };
    let has_links = can_run::kernel_version() >= (6, 6);
    let told = source.programs().iter().filter(|told| told.program == "syscalls/tls_links");
    assert_eq!(told.count(), usize::from(has_links));
    drop(source);
    let older = EbpfConfig { build: Build::Linux5_8, ..config.clone() };
    assert_eq!(held(&older, false), ([0, 8], None));
    let (count, told) = held(&config, false);
    let (refused_count, refused) = held(&config, true);
    assert_eq!(refused_count, [0, 8]);
    if !has_links {
        assert_eq!((count, told, refused), ([0, 8], None, None));
        return;
    }
    assert_eq!((count, told.unwrap().reason), ([3, 0], None));
    let reason = refused.unwrap().reason.unwrap();
    assert!(reason.contains("perf event") && reason.contains("parsing ELF"), "{reason}");
}

/// A library's probes come and go 200 times while a program uses it on eight threads: no request fails, and no
/// answer is another. Catches a probe that harms the program it watches, as one that returns to where the probe
/// was.
#[test]
fn probes_come_and_go_under_load() {
    let Some(place) = place() else { return };
    let mut command = Command::new("python3");
    command.args(["-c", TRAFFIC]).arg(place.path());
    come_and_go(command, &|pid| {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        maps.split_whitespace().find(|word| word.contains("libssl")).unwrap().into()
    });
}

/// The same of a Go program, whose calls are on stacks that move while they last. Catches probes at returns that
/// are not taken off before the code runs on, and return addresses that Go does not know.
#[test]
fn probes_of_go_come_and_go_under_load() {
    let Some(place) = place() else { return };
    let Ok(go) = Command::new("go").arg("version").output() else {
        weir_types::testing::skipped("go is not installed");
        return;
    };
    assert!(go.status.success());
    std::fs::write(place.path().join("main.go"), GO_TRAFFIC).unwrap();
    std::fs::write(place.path().join("go.mod"), "module traffic\ngo 1.18\n").unwrap();
    let mut build = Command::new("go");
    build.args(["build", "-p", "1", "-ldflags=-s -w", "-o", "traffic", "."]);
    assert!(
        build.current_dir(place.path()).env("GOTOOLCHAIN", "local").status().unwrap().success()
    );
    let mut command = Command::new(place.path().join("traffic"));
    command.arg(place.path());
    come_and_go(command, &|_| place.path().join("traffic"));
}
