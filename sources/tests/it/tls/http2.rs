//! HTTP/2 over OpenSSL: curl and nginx, Node.js at both ends.

use std::fmt::Write;
use std::process::Command;

use super::pairs::{curl_config, nginx};
use super::{Capture, HTTP2, Place, check_as, free_port, has, is_of, log_of};
use super::{Log, Server};

/// curl and nginx, as over HTTP/1.1: eight clients, some of them with many requests at once on one connection.
/// Catches header blocks that are decoded with another connection's table, and requests that overtake others.
#[test]
fn curl_and_nginx() {
    if !has("nginx") || !has("curl") {
        return;
    }
    let (place, port) = (Place::new(), free_port());
    let Some(mut capture) = Capture::of_port(port) else { return };
    let server = nginx(&place, port, "ssl http2");
    let mut script = String::from("set -e\n");
    for client in 0..8 {
        let config = curl_config(port, client * 100, 100).replace("http1.1", "http2");
        let config = place.write(&format!("curl{client}"), &config);
        let end = if client < 2 { "" } else { " > /dev/fd/1 &" };
        let at_once = if client % 2 == 1 { "-Z --parallel-max 20" } else { "" };
        writeln!(script, "curl {at_once} -K {}{end}", config.display()).unwrap();
    }
    script.push_str("wait\n");
    let text = capture.watch(Command::new("sh").args(["-c", &script]));
    let log = log_of(&text);
    assert_eq!(log.len(), 800);
    check_as(&HTTP2, &mut capture, &log, &|pid| is_of(pid, server.pid()));
}

/// A server and a client in one program.
const NODE: &str = r#"
const http2 = require("http2"), fs = require("fs");
const [place, port, role] = [process.argv[2], Number(process.argv[3]), process.argv[4]];
if (role === "server") {
  const tls = { key: fs.readFileSync(place + "/key.pem"), cert: fs.readFileSync(place + "/cert.pem") };
  http2.createSecureServer(tls).on("stream", (stream, headers) => {
    stream.resume();
    stream.on("end", () => {
      const idx = Number(headers[":path"].split("/")[2]);
      stream.respond({ ":status": idx % 7 ? 200 : 503, "x-idx": "n" + idx });
      stream.end("b".repeat(idx * 37 % 50000));
    });
  }).listen(port, "127.0.0.1");
} else {
  const link = http2.connect("https://localhost:" + port, { ca: fs.readFileSync(place + "/cert.pem"), family: 4 });
  const ask = (idx) => new Promise((done, fail) => {
    const stream = link.request({ ":path": "/node/" + idx, ":method": idx % 3 ? "POST" : "GET" });
    let size = 0, status = 0;
    stream.on("response", (headers) => { status = headers[":status"]; });
    stream.on("data", (part) => { size += part.length; });
    stream.on("end", () => { console.log(`/node/${idx} ${status} ${size}`); done(); });
    stream.on("error", fail);
    stream.end(idx % 3 ? "q".repeat(idx * 13 % 9000) : undefined);
  });
  const task = async (from) => { for (let idx = from; idx < 600; idx += 20) await ask(idx); };
  Promise.all(Array.from({ length: 20 }, (_, from) => task(from)))
    .then(() => link.close())
    .catch((error) => { console.error(error); process.exit(1); });
}
"#;

/// Node.js at both ends: twenty exchanges at once over one connection, memory BIOs.
#[test]
fn node_with_its_own_openssl() {
    if !has("node") {
        return;
    }
    let (place, port) = (Place::new(), free_port());
    let program = place.write("pair.js", NODE);
    let command = |role: &str| {
        let mut command = Command::new("node");
        command.arg(&program).arg(place.path("")).arg(port.to_string()).arg(role);
        command
    };
    let Some(mut capture) = Capture::of_port(port) else { return };
    let server = Server::run(&mut command("server"), port);
    let log: Log = log_of(&capture.watch(&mut command("client")));
    assert_eq!(log.len(), 600);
    check_as(&HTTP2, &mut capture, &log, &|pid| is_of(pid, server.pid()));
}
