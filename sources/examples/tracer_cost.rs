//! What an exchange costs from a capture event to a row: 20,000 of them on 16 kept connections.
//!
//! Meant for an instruction counter: `perf stat -e instructions:u tracer_cost ROUNDS`; two counts of
//! rounds give the cost of one.

use std::net::SocketAddr;

use weir_sources::capture::{
    CaptureEvent, ConnKey, DataEvent, Direction, Family, Opened, Process, Socket, SocketType,
};
use weir_sources::socket::{SocketTracer, SocketTracerConfig};

const EXCHANGES: u64 = 20_000;
const CONNECTIONS: u64 = 16;
const REQUEST: &[u8] =
    b"GET /item/12345 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: load\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
    Content-Type: text/plain\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello";

fn socket(idx: u64) -> Socket {
    let address = |port: u16| Some(SocketAddr::from(([127, 0, 0, 1], port)));
    Socket {
        key: ConnKey { sock: 4_096 + idx, inode: idx, generation: 0 },
        family: Family::Inet,
        socket_type: SocketType::Stream,
        opened: Opened::Accepted,
        local: address(80),
        remote: address(5_000 + idx as u16),
        netns: 1,
    }
}

fn main() {
    let rounds: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut tracer = SocketTracer::new(SocketTracerConfig::default());
    let mut positions = [[0_u64; 2]; CONNECTIONS as usize];
    let (mut time_unix_ns, mut rows) = (1_000_000_000, 0);
    for number in 0..rounds * EXCHANGES {
        let idx = number % CONNECTIONS;
        for (direction, payload) in [(Direction::Ingress, REQUEST), (Direction::Egress, ANSWER)] {
            let position = &mut positions[idx as usize][direction as usize];
            time_unix_ns += 10_000;
            tracer.on_event(&CaptureEvent::Data(DataEvent {
                time_unix_ns,
                process: Process { pid: 10, start_ticks: 100 },
                cgroup_id: 0,
                fd: 5,
                socket: socket(idx),
                direction,
                position: *position,
                total_bytes: payload.len() as u32,
                payload,
            }));
            *position += payload.len() as u64;
        }
        if number % 5_000 == 0 {
            let batches = tracer.flush(time_unix_ns);
            rows += batches.iter().map(|(_, batch)| batch.num_rows() as u64).sum::<u64>();
        }
    }
    rows +=
        tracer.finish(time_unix_ns).iter().map(|(_, batch)| batch.num_rows() as u64).sum::<u64>();
    assert!(rows >= rounds * EXCHANGES, "{rows} rows");
}
