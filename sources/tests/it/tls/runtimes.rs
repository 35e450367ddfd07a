//! Runtimes with TLS of their own, and libraries in places that are not looked at beforehand.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use weir_sources::ebpf::EbpfConfig;

use super::pairs::{PYTHON, curl_config};
use super::{Capture, Log, Place, Server, check, free_port, has, is_of, log_of};

/// A server and a client in one program, for Node.js.
const NODE: &str = r#"
const https = require("https"), fs = require("fs");
const [place, port, role] = [process.argv[2], Number(process.argv[3]), process.argv[4]];
if (role === "server") {
  const tls = { key: fs.readFileSync(place + "/key.pem"), cert: fs.readFileSync(place + "/cert.pem") };
  https.createServer(tls, (ask, answer) => {
    ask.resume();
    ask.on("end", () => {
      const idx = Number(ask.url.split("/")[2]);
      const body = "b".repeat(idx * 37 % 50000);
      answer.writeHead(idx % 7 ? 200 : 503, { "Content-Length": body.length });
      answer.end(body);
    });
  }).listen(port, "127.0.0.1");
} else {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 6, ca: fs.readFileSync(place + "/cert.pem") });
  const ask = (idx) => new Promise((done, fail) => {
    const options = { host: "localhost", port, path: "/node/" + idx, method: idx % 3 ? "POST" : "GET", agent, family: 4 };
    const link = https.request(options, (answer) => {
      let size = 0;
      answer.on("data", (part) => { size += part.length; });
      answer.on("end", () => { console.log(`/node/${idx} ${answer.statusCode} ${size}`); done(); });
    });
    link.on("error", fail);
    link.end(idx % 3 ? "q".repeat(idx * 13 % 9000) : undefined);
  });
  Promise.all(Array.from({ length: 600 }, (_, idx) => ask(idx))).catch((error) => { console.error(error); process.exit(1); });
}
"#;

/// Node.js at both ends: its own OpenSSL inside the program, memory BIOs, six connections on one thread.
/// Catches programs that are not taken for libraries.
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
    let log = log_of(&capture.watch(&mut command("client")));
    assert_eq!(log.len(), 600);
    check(&mut capture, &log, &|pid| is_of(pid, server.pid()));
}

/// The Python server of the pairs.
fn python_server(place: &Place, port: u16) -> Server {
    let program = place.write("pair.py", PYTHON);
    let mut server = Command::new("python3");
    server.arg(&program).arg(place.path("")).arg(port.to_string()).arg("server");
    Server::run(&mut server, port)
}

/// What it answers.
fn expected(idx: i64) -> (i64, i64) {
    (if idx % 7 == 0 { 503 } else { 200 }, idx * 37 % 50_000)
}

/// GnuTLS at one end (wget), OpenSSL at the other.
#[test]
fn gnutls_and_openssl() {
    if !has("wget") || !has("python3") {
        return;
    }
    let (place, port) = (Place::new(), free_port());
    let Some(mut capture) = Capture::of_port(port) else { return };
    let server = python_server(&place, port);
    let mut log = Log::new();
    let mut urls = String::new();
    // wget takes a 503 for a reason to try again.
    for idx in (1..300).filter(|idx| idx % 7 != 0) {
        writeln!(urls, "https://127.0.0.1:{port}/py/{idx}").unwrap();
        log.insert(format!("/py/{idx}"), expected(idx));
    }
    let urls = place.write("urls", &urls);
    let mut client = Command::new("wget");
    client.args(["-q", "--no-check-certificate", "-O", "/dev/null", "-i"]).arg(urls);
    capture.watch(&mut client);
    check(&mut capture, &log, &|pid| is_of(pid, server.pid()));
}

/// Copies of OpenSSL's files that nobody else uses.
fn own_openssl(place: &Place, to: &str) -> bool {
    std::fs::create_dir_all(place.path(to)).unwrap();
    for name in ["libssl.so.3", "libcrypto.so.3"] {
        let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/aarch64-linux-gnu"];
        let copied = folders
            .iter()
            .any(|from| std::fs::copy(format!("{from}/{name}"), place.path(to).join(name)).is_ok());
        if !copied {
            weir_types::testing::skipped(format!("{name} is not installed"));
            return false;
        }
    }
    true
}

/// A process that is older than the capture loads a library late, by dlopen, from a place that nobody has
/// looked at: its first request is seen. Catches libraries that only a start of a program makes known.
#[test]
fn libraries_that_are_loaded_late() {
    let (place, port) = (Place::new(), free_port());
    if !has("python3") || !own_openssl(&place, "own") {
        return;
    }
    let server = python_server(&place, port);
    let program = place.write(
        "late.py",
        &format!(
            "import sys\nsys.stdin.readline()\nimport ssl, http.client\n\
             link = http.client.HTTPSConnection('127.0.0.1', {port}, \
             context=ssl._create_unverified_context())\n\
             for idx in range(1, 50):\n link.request('GET', f'/py/{{idx}}')\n \
             link.getresponse().read()\n"
        ),
    );
    let mut client = Command::new("python3")
        .arg(program)
        .env("LD_LIBRARY_PATH", place.path("own"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let Some(mut capture) = Capture::of_port(port) else {
        client.kill().unwrap();
        client.wait().unwrap();
        return;
    };
    std::io::Write::write_all(&mut client.stdin.take().unwrap(), b"go\n").unwrap();
    capture.watch_child(&mut client);
    let log: Log = (1..50).map(|idx| (format!("/py/{idx}"), expected(idx))).collect();
    check(&mut capture, &log, &|pid| is_of(pid, server.pid()));
    let own = capture.source.tls_files().into_iter().find(|file| file.path.contains("/own/"));
    assert_eq!(own.map(|file| (file.library, file.refused)), Some(("openssl", None)));
}

/// A library that only a mount namespace of its own has, as in a container. The probes are there a few
/// milliseconds after a first process has mapped it; its very first call may be before that.
#[test]
fn libraries_of_containers() {
    let (place, port) = (Place::new(), free_port());
    if !has("curl") || !has("unshare") || !own_openssl(&place, "own") {
        return;
    }
    let Some(mut capture) = Capture::of_port(port) else { return };
    let server = python_server(&place, port);
    let config = curl_config(port, 1, 60);
    let config = config.replace("/x/", "/py/").replace("/none/", "/py/").replace("/file?", "/py/");
    let config = place.write("curl", &config.replace("?q=a%20b", ""));
    let (own, image) = (place.path("own"), place.path("image"));
    let script = format!(
        "set -e\nmkdir -p {image}\nmount -t tmpfs none {image}\ncp {own}/* {image}/\n\
         export LD_LIBRARY_PATH={image}\ncurl -V > /dev/null\nread go\ncurl -K {config}\n",
        image = image.display(),
        own = own.display(),
        config = config.display(),
    );
    let mut client = Command::new("unshare");
    client.args(["--mount", "sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = client.spawn().unwrap();
    capture.wait_until_probed("/image/");
    std::io::Write::write_all(&mut client.stdin.take().unwrap(), b"go\n").unwrap();
    capture.watch_child(&mut client);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut client.stdout.take().unwrap(), &mut text).unwrap();
    let log = log_of(&text);
    assert_eq!(log.len(), 60);
    check(&mut capture, &log, &|pid| is_of(pid, server.pid()));
    assert_eq!(std::fs::read_dir(&image).unwrap().count(), 0, "it is in the namespace only");
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// CPU time of this process's threads that are there.
fn own_cpu_us() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let of_task = |path: PathBuf| -> Option<u64> {
        std::fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    tasks.filter_map(|task| of_task(task.path())).sum::<u64>() / 1_000
}

/// Hundreds of processes that use a library and end: each of them is seen, and neither descriptors nor files
/// that are held, nor memory, nor what each costs, grow with them. In a process of its own, since others' probes are descriptors too.
/// Catches a hold on every process that ever was.
#[test]
fn short_lived_processes() {
    const ALONE: &str = "WEIR_TEST_SHORT_LIVED";
    if std::env::var_os(ALONE).is_none() {
        let mut alone = Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", "tls::runtimes::short_lived_processes", "--nocapture"]);
        assert!(alone.env(ALONE, "1").status().unwrap().success());
        return;
    }
    if !has("curl") || !has("python3") {
        return;
    }
    let (place, port) = (Place::new(), free_port());
    let Some(mut capture) = Capture::with(port, EbpfConfig::default()) else { return };
    let server = python_server(&place, port);
    let run = |capture: &mut Capture, from: i64, to: i64| {
        let script = format!(
            "for i in $(seq {from} {to}); do curl -sk -o /dev/null \
             https://127.0.0.1:{port}/py/$i || exit 1; done"
        );
        capture.watch(Command::new("sh").args(["-c", &script]));
    };
    let mut cpu = [own_cpu_us(); 3];
    run(&mut capture, 1, 50);
    cpu[1] = own_cpu_us();
    let before = (open_descriptors(), capture.source.tls_files().len(), resident_kib());
    run(&mut capture, 51, 500);
    cpu[2] = own_cpu_us();
    let after = (open_descriptors(), capture.source.tls_files().len(), resident_kib());
    let each_us = [(cpu[1] - cpu[0]) / 50, (cpu[2] - cpu[1]) / 450];
    eprintln!("descriptors, files, KiB: {before:?}, then {after:?}; CPU us each: {each_us:?}");
    // Those that come later cost no more than the first ones; on a machine that is otherwise busy both cost more.
    assert!(each_us[1] <= 2 * each_us[0], "{each_us:?}");
    // The tests' servers beside it come and go, and their libraries are probed too.
    assert!(after.0 < before.0 + 64 && after.1 < before.1 + 16, "{before:?} {after:?}");
    assert!(after.2 < before.2 + (64 << 10), "{before:?} {after:?}");
    let log: Log = (1..=500).map(|idx| (format!("/py/{idx}"), expected(idx))).collect();
    check(&mut capture, &log, &|pid| is_of(pid, server.pid()));
}
