//! A real Mosquitto and its clients: through the tracer, to rows.

use std::process::{Child, Command, ExitStatus, Stdio};

use weir_types::{Clock, WallClock};

use super::ends::Traced;
use super::*;

const DEADLINE_NS: i64 = 60_000_000_000;

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn run(command: &mut Command) -> Running {
    Running(
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(),
    )
}

/// A broker that answers.
fn broker(dir: &std::path::Path, port: u16) -> Running {
    let config = dir.join("m.conf");
    let text =
        format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n");
    std::fs::write(&config, text).unwrap();
    let broker = run(Command::new("/usr/sbin/mosquitto").arg("-c").arg(config));
    let begun = WallClock.now_unix_ns();
    while let Err(error) = TcpStream::connect(("127.0.0.1", port)) {
        assert!(WallClock.now_unix_ns() - begun < DEADLINE_NS, "{error}");
    }
    broker
}

fn client(tool: &str, version: &str, port: u16, args: &[&str]) -> Running {
    let mut command = Command::new(format!("/usr/bin/mosquitto_{tool}"));
    run(command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-V", version]).args(args))
}

/// Takes what happens until a client has ended.
fn ended(traced: &mut Traced, client: &mut Running) -> ExitStatus {
    let begun = WallClock.now_unix_ns();
    loop {
        traced.take();
        if let Some(status) = client.0.try_wait().unwrap() {
            return status;
        }
        assert!(WallClock.now_unix_ns() - begun < DEADLINE_NS, "a client does not end");
    }
}

/// Types of packet and answer of each row of that role, in order of their numbers.
fn pairs(traced: &Traced, role: i64) -> Vec<(i64, i64)> {
    let [roles, asked, answered] =
        ["trace_role", "req_type", "resp_type"].map(|column| traced.ints_of("mqtt_events", column));
    let rows = roles.into_iter().zip(asked.into_iter().zip(answered));
    let mut pairs: Vec<_> = rows.filter(|(of, _)| *of == role).map(|(_, pair)| pair).collect();
    pairs.sort_unstable();
    pairs
}

/// Three messages that the broker keeps, each by a client of its own and another quality of service, then one
/// subscriber, by both versions: every packet of both ends is in a row, with its answer.
#[test]
fn mosquitto() {
    for tool in ["/usr/sbin/mosquitto", "/usr/bin/mosquitto_pub", "/usr/bin/mosquitto_sub"] {
        if std::fs::metadata(tool).is_err() {
            weir_types::testing::skipped(format!("{tool} is not installed"));
            return;
        }
    }
    for version in ["mqttv311", "mqttv5"] {
        let port = listen().local_addr().unwrap().port();
        let Some(mut traced) = Traced::start(&follow_port(port)) else { return };
        let dir = tempfile::tempdir().unwrap();
        let _broker = broker(dir.path(), port);
        for qos in ["0", "1", "2"] {
            let message = format!("message {qos}");
            let args = ["-r", "-t", &format!("a/{qos}"), "-q", qos, "-m", &message];
            let mut publisher = client("pub", version, port, &args);
            assert!(ended(&mut traced, &mut publisher).success());
        }
        let args = ["-q", "2", "-t", "a/#", "-C", "3"];
        let mut subscriber = client("sub", version, port, &args);
        assert!(ended(&mut traced, &mut subscriber).success());
        traced.settle();
        for role in [1, 2] {
            let mut pairs = pairs(&traced, role);
            // The subscriber may leave before the last answer.
            let released = pairs.iter().filter(|pair| **pair == (6, 7)).count();
            assert!((1..=2).contains(&released), "{version}, role {role}: {pairs:?}");
            pairs.retain(|pair| *pair != (6, 7));
            let want = [
                vec![(1, 2); 4],
                vec![(3, 0); 2],
                vec![(3, 4); 2],
                vec![(3, 5); 2],
                vec![(8, 9)],
                vec![(14, 0); 4],
            ];
            assert_eq!(pairs, want.concat(), "{version}, role {role}");
        }
        let bodies = traced.texts_of("mqtt_events", "req_body");
        for qos in 0..3 {
            let named = format!("\"topic\":\"a/{qos}\",\"qos\":{qos},");
            let said = format!("\"payload\":\"message {qos}\"");
            let of_it = bodies.iter().filter(|body| body.contains(&named) && body.contains(&said));
            assert_eq!(of_it.count(), 4, "{version}: published and delivered, at both ends");
        }
        assert_eq!(traced.lost_in_all(), 0, "{version}");
    }
}
