//! A source that looks away from sockets and back again.

use weir_sources::capture::{
    CaptureEvent, ConnKey, DataEvent, Direction, Family, Opened, Process, Socket, SocketType,
};
use weir_sources::socket::{SocketTracer, SocketTracerConfig};

use crate::rows_of::Rows;

const SECOND_NS: i64 = 1_000_000_000;
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// Paths of the exchanges that are seen on a Unix socket if the source looks away after the first request.
fn paths(looked_away: u32) -> Vec<String> {
    let mut tracer = SocketTracer::new(SocketTracerConfig::default());
    let socket = Socket {
        key: ConnKey { sock: 0xffff_0001, inode: 1, generation: 0 },
        family: Family::Unix,
        socket_type: SocketType::Stream,
        opened: Opened::Accepted,
        local: None,
        remote: None,
        netns: 1,
    };
    let (mut now_ns, mut positions) = (SECOND_NS, [0, 0]);
    let mut say = |direction: Direction, text: &str, times| {
        let position = &mut positions[usize::from(direction == Direction::Egress)];
        now_ns += 1_000;
        let event = CaptureEvent::Data(DataEvent {
            time_unix_ns: now_ns,
            process: Process { pid: 10, start_ticks: 100 },
            cgroup_id: 0,
            fd: 5,
            socket,
            direction,
            position: *position,
            total_bytes: text.len() as u32,
            payload: text.as_bytes(),
        });
        *position += text.len() as u64;
        tracer.on_event(&event.after_looking_away(times));
    };
    say(Direction::Ingress, &get("/before"), 0);
    // Its response, and the request of the next one, go by unseen: positions do not count them.
    say(Direction::Egress, OK, looked_away);
    say(Direction::Ingress, &get("/after"), looked_away);
    say(Direction::Egress, OK, looked_away);
    Rows::of("http_events", &tracer.flush(2 * SECOND_NS)).texts("req_path")
}

/// A Unix socket that was not looked at for a while is another one afterwards: positions do not tell what went
/// by, so a response that comes then answers nothing that was asked before. Catches a wrong pair after filters
/// were changed to and fro.
#[test]
fn looking_away_makes_no_wrong_pair() {
    assert_eq!(paths(0), ["/before", "/after"]);
    let seen = paths(1);
    assert!(!seen.contains(&"/before".to_string()), "{seen:?}");
}
