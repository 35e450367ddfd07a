//! Go at both ends: `net/http` over `crypto/tls`, with symbols and stripped.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Capture, Place, Server, check, free_port, has, is_of, log_of};

/// A server and a client in one program.
const PAIR: &str = r#"
package main

import (
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
	none := map[string]func(*http.Server, *tls.Conn, http.Handler){}
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
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 6}
	client := &http.Client{Transport: transport}
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

fn build(place: &Place, name: &str, flags: &[&str]) -> PathBuf {
    let source = place.path(name);
    std::fs::create_dir_all(&source).unwrap();
    std::fs::write(source.join("main.go"), PAIR).unwrap();
    std::fs::write(source.join("go.mod"), "module pair\ngo 1.18\n").unwrap();
    let program = source.join("pair");
    let built = Command::new("go")
        .args(["build", "-p", "1"])
        .args(flags)
        .arg("-o")
        .arg(&program)
        .arg(".")
        .current_dir(source)
        .status()
        .unwrap();
    assert!(built.success());
    program
}

fn pair_of(place: &Place, program: &Path) {
    let port = free_port();
    let command = |role: &str| {
        let mut command = Command::new(program);
        command.arg(place.path("")).arg(port.to_string()).arg(role);
        command
    };
    let Some(mut capture) = Capture::of_port(port) else { return };
    let server = Server::run(&mut command("server"), port);
    capture.wait_until_probed(&program.to_string_lossy());
    let log = log_of(&capture.watch(&mut command("client")));
    assert_eq!(log.len(), 600);
    check(&mut capture, &log, &|pid| is_of(pid, server.pid()));
}

/// The same for programs that other versions of Go have built of it: `WEIR_GO_PAIRS` has their paths, separated
/// by colons.
#[test]
fn go_of_other_versions() {
    let place = Place::new();
    let paths = std::env::var("WEIR_GO_PAIRS").unwrap_or_default();
    paths
        .split(':')
        .filter(|path| !path.is_empty())
        .for_each(|path| pair_of(&place, path.as_ref()));
}

/// HTTP/1.1 between Go programs, whose goroutines move between threads and whose stacks grow while they are
/// probed. Catches calls that are told of another goroutine, and probes that end a program.
#[test]
fn go_with_symbols_and_without() {
    if !has("go") {
        return;
    }
    let place = Place::new();
    pair_of(&place, &build(&place, "plain", &[]));
    pair_of(&place, &build(&place, "stripped", &["-ldflags=-s -w"]));
    pair_of(&place, &build(&place, "pie", &["-buildmode=pie", "-ldflags=-s -w"]));
}
