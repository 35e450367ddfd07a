//! Go at both ends: `net/http` over `crypto/tls`, HTTP/1.1 and HTTP/2, with symbols and stripped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::grpc::Begun;
use super::{Capture, Form, HTTP1, HTTP2, Place, Server, check_as, free_port, has, is_of, log_of};

/// A server and a client in one program.
const PAIR: &str = r#"
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

func deep(n int) int {
	var room [64]int
	room[n%64] = n
	if n == 0 {
		return room[0]
	}
	return deep(n-1) + room[n%64]
}

func main() {
	place, port, role := os.Args[1], os.Args[2], os.Args[3]
	isTwo := len(os.Args) > 4
	none := map[string]func(*http.Server, *tls.Conn, http.Handler){}
	if isTwo {
		none = nil
	}
	if role == "server" {
		answer := func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			idx, _ := strconv.Atoi(strings.Split(r.URL.Path, "/")[2])
			body := bytes.Repeat([]byte("b"), idx*37%50000)
			deep(idx % 2000)
			if idx%10 == 0 {
				runtime.GC()
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			if idx%7 == 0 {
				w.WriteHeader(503)
			}
			w.Write(body)
		}
		server := &http.Server{Addr: "127.0.0.1:" + port, Handler: http.HandlerFunc(answer), TLSNextProto: none}
		panic(server.ListenAndServeTLS(place+"/cert.pem", place+"/key.pem"))
	}
	pem, _ := os.ReadFile(place + "/cert.pem")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 6, ForceAttemptHTTP2: isTwo}
	client := &http.Client{Transport: transport}
	if len(os.Args) > 5 {
		before, _ := strconv.Atoi(os.Args[5])
		for n := 0; n < before; n++ {
			answer, err := client.Get(fmt.Sprintf("https://127.0.0.1:%s/go/%d", port, n*7))
			if err != nil {
				panic(err)
			}
			io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
		}
		fmt.Println("ready")
		bufio.NewReader(os.Stdin).ReadString('\n')
	}
	var wait sync.WaitGroup
	var lock sync.Mutex
	for task := 0; task < 6; task++ {
		wait.Add(1)
		go func(task int) {
			defer wait.Done()
			for n := 0; n < 100; n++ {
				path := fmt.Sprintf("/go/%d", task*100+n)
				method, body := "GET", io.Reader(nil)
				if n%3 != 0 {
					method, body = "POST", bytes.NewReader(bytes.Repeat([]byte("q"), n*91))
				}
				request, _ := http.NewRequest(method, "https://127.0.0.1:"+port+path, body)
				answer, err := client.Do(request)
				if err != nil {
					panic(err)
				}
				size, _ := io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				lock.Lock()
				fmt.Println(path, answer.StatusCode, size)
				lock.Unlock()
			}
		}(task)
	}
	wait.Wait()
}
"#;

/// An older Go, which `scripts/test-servers` gets.
const OLDER: &str = "go1.21.13";

/// The folder of a program of its own.
fn module(place: &Place, name: &str) -> PathBuf {
    let source = place.path(name);
    std::fs::create_dir_all(&source).unwrap();
    std::fs::write(source.join("main.go"), PAIR).unwrap();
    std::fs::write(source.join("go.mod"), "module pair\ngo 1.18\n").unwrap();
    source
}

/// Builds the program of a folder.
pub(super) fn build(source: &Path, program: &Path, toolchain: &str, flags: &[&str]) {
    let mut go = Command::new("go");
    go.args(["build", "-p", "1"]).args(flags).arg("-o").arg(program).arg(".");
    assert!(go.current_dir(source).env("GOTOOLCHAIN", toolchain).status().unwrap().success());
}

fn built(place: &Place, name: &str, toolchain: &str, flags: &[&str]) -> PathBuf {
    let (source, program) = (module(place, name), place.path(name).join("pair"));
    build(&source, &program, toolchain, flags);
    program
}

/// Whether an older Go is there; said on stderr if not.
fn has_older() -> bool {
    let output = Command::new("go").args(["env", "GOMODCACHE"]).output().unwrap();
    let cache = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    let mut found = std::fs::read_dir(cache.join("golang.org")).into_iter().flatten().flatten();
    let name = format!("toolchain@v0.0.1-{OLDER}.");
    let is_there = found.any(|one| one.file_name().to_string_lossy().starts_with(&name));
    if !is_there {
        weir_types::testing::skipped(format!("{OLDER} is not there (scripts/test-servers)"));
    }
    is_there
}

fn pair_of(place: &Place, program: &Path, form: &Form) {
    let port = free_port();
    let command = |role: &str| {
        let mut command = Command::new(program);
        command.arg(place.path("")).arg(port.to_string()).arg(role);
        if form.major == 2 {
            command.arg("2");
        }
        command
    };
    let Some(mut capture) = Capture::of_port(port) else { return };
    let server = Server::run(&mut command("server"), port);
    capture.wait_until_probed(&program.to_string_lossy());
    let log = log_of(&capture.watch(&mut command("client")));
    assert_eq!(log.len(), 600);
    check_as(form, &mut capture, &log, &|pid| is_of(pid, server.pid()));
}

/// The same for programs that other versions of Go have built of it: `WEIR_GO_PAIRS` has their paths, separated
/// by colons.
#[test]
fn go_of_other_versions() {
    let place = Place::new();
    let paths = std::env::var("WEIR_GO_PAIRS").unwrap_or_default();
    for path in paths.split(':').filter(|path| !path.is_empty()) {
        pair_of(&place, path.as_ref(), &HTTP1);
        pair_of(&place, path.as_ref(), &HTTP2);
        joined(&place, path.as_ref());
    }
    if has("go") && has_older() {
        let program = built(&place, "older", OLDER, &["-ldflags=-s -w"]);
        pair_of(&place, &program, &HTTP1);
        pair_of(&place, &program, &HTTP2);
    }
}

fn joined(place: &Place, program: &Path) {
    let port = free_port();
    let command = |role: &[&str]| {
        let mut command = Command::new(program);
        command.arg(place.path("")).arg(port.to_string()).args(role);
        command
    };
    let server = Server::run(&mut command(&["server", "2"]), port);
    let begun = Begun::run(&mut command(&["client", "2", "30"]));
    let Some((mut capture, log)) = begun.joined(port, program) else { return };
    assert_eq!(log.len(), 600);
    let rows = capture.rows();
    let mut seen = BTreeSet::new();
    let (mut paths, mut statuses) = ([0, 0], [0, 0]);
    for row in 0..rows.len() {
        let (role, path) = (rows.int(row, "trace_role"), rows.text(row, "req_path"));
        assert_eq!(is_of(rows.upid(row).pid(), server.pid()), role == 2);
        if path == "<unknown>" {
            continue;
        }
        let (status, bytes) = log[&path];
        assert_eq!(rows.int(row, "resp_body_size"), bytes, "{path}; {}", capture.lost());
        assert!([0, status].contains(&rows.int(row, "resp_status")), "{path}");
        statuses[role as usize - 1] += usize::from(rows.int(row, "resp_status") == status);
        paths[role as usize - 1] += 1;
        assert!(seen.insert((path.clone(), role)), "twice: {path}");
    }
    let all = 2 * log.len();
    assert!(rows.len() * 1_000 >= all * 999 && rows.len() <= all, "{} of {all}", rows.len());
    // All, unless the machine was so busy that a table came later than it is waited for.
    assert!(paths.iter().all(|known| known * 10 >= log.len() * 9), "{paths:?} {statuses:?}");
    // The server's encoder is hardly ever found, which is why its statuses are not all known.
    assert!(statuses[0] * 10 >= log.len() * 9, "{statuses:?}");
}

/// Of a connection that is older than capture the table of header fields is read where `net/http` keeps it: paths are
/// known from the first request on, and none is another's.
#[test]
fn go_joined_midway() {
    if !has("go") {
        return;
    }
    let place = Place::new();
    joined(&place, &built(&place, "plain", "local", &[]));
    joined(&place, &built(&place, "stripped", "local", &["-ldflags=-s -w"]));
    if has_older() {
        joined(&place, &built(&place, "older", OLDER, &["-ldflags=-s -w"]));
    }
}

/// Go programs, whose goroutines move between threads and whose stacks grow while they are probed. Catches calls
/// that are told of another goroutine, and probes that end a program; over HTTP/2, where many exchanges share a
/// connection, header blocks in another order than they were written.
#[test]
fn go_with_symbols_and_without() {
    if !has("go") {
        return;
    }
    let place = Place::new();
    let builds: [(&str, &[&str]); 3] = [
        ("plain", &[]),
        ("stripped", &["-ldflags=-s -w"]),
        ("pie", &["-buildmode=pie", "-ldflags=-s -w"]),
    ];
    for (name, flags) in builds {
        let program = built(&place, name, "local", flags);
        pair_of(&place, &program, &HTTP1);
        pair_of(&place, &program, &HTTP2);
    }
}
