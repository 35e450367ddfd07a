//! `weir probe` against what it is asked about: a server, and a node whose bus comes later.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use weir_types::testing::free_port;

/// Ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> std::io::Result<Running> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Running)
}

fn weir(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env("WEIR_DATA_DIR", directory).env_remove("WEIR_SERVER").env_remove("WEIR_TOKEN");
    command
}

/// The exit status, and what was said.
fn probe(directory: &Path, arguments: &[&str]) -> (i32, String) {
    let output = weir(directory).arg("probe").args(arguments).output().unwrap();
    assert!(output.stdout.is_empty());
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn becomes(directory: &Path, arguments: &[&str], status: i32) {
    let mut last = (-1, String::new());
    for _ in 0..300 {
        last = probe(directory, arguments);
        if last.0 == status {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    panic!("{arguments:?} is not {status} within half a minute, but {last:?}");
}

/// A server that is not there is told from one that is, and one with a token of a file is entered with that and does
/// not say it.
#[test]
fn a_server() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (token, log) = (dir.path().join("token"), dir.path().join("log"));
    std::fs::write(&token, "token-of-the-test-itself\n").unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let asked = |what: &'static str| probe(&data, &[what, "--server", &address]);
    let (status, said) = asked("alive");
    assert!(status == 3 && said.contains(&address), "{said}");
    let mut command = weir(&data);
    command.args(["up", "--no-kubernetes", "--trace", "port:1", "--listen", &address]);
    command.arg("--token-file").arg(&token);
    let log_file = std::fs::File::create(&log).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file);
    let server = Running(command.spawn().unwrap());
    becomes(&data, &["ready", "--server", &address], 0);
    assert_eq!(asked("alive"), (0, String::new()));
    let nodes = weir(&data).args(["nodes", "--server", &address]).output().unwrap();
    assert!(nodes.status.success());
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("--token-file") && !said.contains("token-of-the-test"), "{said}");
    drop(server);
    assert_eq!(asked("ready").0, 3);
    // A node's question is another one.
    assert_eq!(probe(&data, &["alive", "--node"]).0, 1);
}

/// A node lives before its bus is there, and is ready after; nothing of the sort is said of one that never was.
#[test]
fn a_node() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let asked = |what: &'static str| probe(&data, &[what, "--node"]);
    assert_eq!(asked("alive").0, 1);
    let port = free_port();
    let bus = format!("nats://127.0.0.1:{port}");
    let mut command = weir(&data);
    command.args(["node", "--bus", &bus, "--no-kubernetes", "--trace", "port:1"]);
    let _node = start(&mut command).unwrap();
    becomes(&data, &["alive", "--node"], 0);
    let (status, said) = asked("ready");
    assert!(status == 1 && said.contains("not ready"), "{said}");
    let mut command = Command::new("nats-server");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = format!("{}:/usr/sbin:/usr/local/bin", path.to_string_lossy());
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]).env("PATH", path);
    let Ok(_bus) = start(&mut command) else {
        return weir_types::testing::skipped("nats-server is missing");
    };
    becomes(&data, &["ready", "--node"], 0);
    assert_eq!(asked("alive"), (0, String::new()));
}
