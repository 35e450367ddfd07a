//! A real Mosquitto and its clients: through the tracer, to rows.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

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

fn broker(dir: &std::path::Path, port: u16) -> Running {
    let config = dir.join("m.conf");
    let text =
        format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n");
    std::fs::write(&config, text).unwrap();
    let broker = Command::new("/usr/sbin/mosquitto").arg("-c").arg(config).spawn().unwrap();
    let (broker, begun) = (Running(broker), WallClock.now_unix_ns());
    while let Err(error) = TcpStream::connect(("127.0.0.1", port)) {
        assert!(WallClock.now_unix_ns() - begun < DEADLINE_NS, "{error}");
    }
    broker
}

fn client(tool: &str, version: &str, port: u16, args: &[&str]) -> Command {
    let mut command = Command::new(format!("/usr/bin/mosquitto_{tool}"));
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-V", version, "-q", "2"]).args(args);
    command
}

/// One subscriber and three messages, each by a client of its own and another quality of service, by both
/// versions: every packet of both ends is in a row, with its answer.
#[test]
fn mosquitto() {
    for tool in ["/usr/sbin/mosquitto", "/usr/bin/mosquitto_pub"] {
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
        let mut subscriber = client("sub", version, port, &["-d", "-t", "a/#", "-C", "3"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(subscriber.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().starts_with("Subscribed")));
        for qos in ["0", "1", "2"] {
            let args = ["-t", &format!("a/{qos}"), "-q", qos, "-m", &format!("message {qos}")];
            assert!(client("pub", version, port, &args).status().unwrap().success());
        }
        drop(said.by_ref().last());
        assert!(subscriber.wait().unwrap().success());
        traced.settle();
        let roles = traced.ints_of("mqtt_events", "trace_role");
        let asked = traced.ints_of("mqtt_events", "req_type");
        let answered = traced.ints_of("mqtt_events", "resp_type");
        let bodies = traced.texts_of("mqtt_events", "req_body");
        for role in [1, 2] {
            let mut pairs: Vec<(i64, i64)> =
                asked.iter().copied().zip(answered.iter().copied()).collect();
            let mut of_role = roles.iter().map(|of| *of == role);
            pairs.retain(|_| of_role.next().unwrap());
            pairs.sort_unstable();
            let want = [
                vec![(1, 2); 4],
                vec![(3, 0); 2],
                vec![(3, 4); 2],
                vec![(3, 5); 2],
                vec![(6, 7); 2],
                vec![(8, 9)],
                vec![(14, 0); 4],
            ];
            assert_eq!(pairs, want.concat(), "{version}, role {role}");
        }
        for qos in 0..3 {
            let named = format!("\"topic\":\"a/{qos}\",\"qos\":{qos},");
            let said = format!("\"payload\":\"message {qos}\"");
            let of_it = bodies.iter().filter(|body| body.contains(&named) && body.contains(&said));
            assert_eq!(of_it.count(), 4, "{version}: published and delivered, at both ends");
        }
        assert_eq!(traced.lost_in_all(), 0, "{version}");
    }
}
