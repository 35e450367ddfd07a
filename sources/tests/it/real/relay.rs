//! A relay between clients and a server that keeps each piece that it moves, and when; and what a capture
//! at the server's end would make of it.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use weir_sources::capture::{
    CaptureEvent, ConnKey, DataEvent, Direction, Family, Opened, PAYLOAD_BYTES_MAX, Process,
    Socket, SocketEvent, SocketType, TAIL_BYTES_MAX,
};
use weir_sources::socket::{SocketTracer, SocketTracerConfig};
use weir_types::clock::{Clock as _, WallClock};
use weir_types::random::SplitMix;
use weir_types::{RecordBatch, Upid};

/// As much as a client or server reads by one call: of which a capture has not all.
const CALL_BYTES: usize = 64 * 1024;
/// As much as a capture has all of.
pub(super) const WHOLE_BYTES: usize = 16 * 1024;
const SERVER: Process = Process { pid: 10, start_ticks: 100 };

/// A piece; an empty one is the end of its direction.
#[derive(Debug)]
struct Piece {
    client_port: u16,
    direction: Direction,
    time_unix_ns: i64,
    bytes: Vec<u8>,
}

/// All that went over it.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pieces: Vec<Piece>,
}

/// What a capture does not see.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) seed: u64,
    /// One piece of so many is lost or cut; 0: none.
    pub(super) one_in: u64,
    /// Pieces before this one were moved before anything was watched.
    pub(super) joined_at: usize,
}

pub(super) struct Relay {
    pub(super) port: u16,
    kept: Arc<Mutex<Wire>>,
    accepting: Option<JoinHandle<()>>,
    moving: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    client_port: u16,
    direction: Direction,
    kept: &Mutex<Wire>,
    call_bytes: usize,
) {
    let mut buffer = vec![0; call_bytes];
    loop {
        let read = from.read(&mut buffer).unwrap_or_default();
        // Kept before it is moved on: an answer cannot come before what it answers.
        let bytes = buffer[..read].to_vec();
        {
            let mut kept = kept.lock().unwrap();
            kept.pieces.push(Piece {
                client_port,
                direction,
                time_unix_ns: WallClock.now_unix_ns(),
                bytes,
            });
        }
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
    }
}

impl Relay {
    pub(super) fn to(server_port: u16) -> Relay {
        Relay::by_calls_of(CALL_BYTES, server_port)
    }

    pub(super) fn by_calls_of(call_bytes: usize, server_port: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (kept, moving) =
            (Arc::new(Mutex::new(Wire::default())), Arc::new(Mutex::new(Vec::new())));
        let (to_kept, to_moving) = (kept.clone(), moving.clone());
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let client_port = client.peer_addr().unwrap().port();
                let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)) else { return };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let ends = [
                    (client.try_clone().unwrap(), server.try_clone().unwrap(), Direction::Ingress),
                    (server, client, Direction::Egress),
                ];
                for (from, to, direction) in ends {
                    let kept = to_kept.clone();
                    let mover = std::thread::spawn(move || {
                        carry(from, to, client_port, direction, &kept, call_bytes);
                    });
                    to_moving.lock().unwrap().push(mover);
                }
            }
        });
        Relay { port, kept, accepting: Some(accepting), moving }
    }

    /// What it has moved, once all connections are closed and the server has ended.
    pub(super) fn finish(mut self) -> Wire {
        // It finds no server any more, and ends.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        self.accepting.take().unwrap().join().unwrap();
        let moving = std::mem::take(&mut *self.moving.lock().unwrap());
        moving.into_iter().for_each(|mover| mover.join().unwrap());
        std::mem::take(&mut *self.kept.lock().unwrap())
    }
}

fn socket(client_port: u16, opened: Opened) -> Socket {
    let id = u64::from(client_port);
    Socket {
        key: ConnKey { sock: 0xffff_0000 + id, inode: id, generation: 0 },
        family: Family::Inet,
        socket_type: SocketType::Stream,
        opened,
        local: Some(([127, 0, 0, 1], 5_432).into()),
        remote: Some(([127, 0, 0, 1], client_port).into()),
        netns: 1,
    }
}

impl Wire {
    /// How many pieces went over it.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// When a piece of it was moved.
    pub(super) fn time_unix_ns(&self, piece: usize) -> i64 {
        self.pieces[piece].time_unix_ns
    }

    /// Whether these bytes went over it.
    pub(super) fn has(&self, text: &[u8]) -> bool {
        self.pieces.iter().any(|piece| piece.bytes.windows(text.len()).any(|part| part == text))
    }

    /// When the response was seen that holds this text first.
    pub(super) fn response_ns(&self, text: &[u8]) -> Option<i64> {
        let holds = |piece: &&Piece| {
            piece.direction == Direction::Egress
                && piece.bytes.windows(text.len()).any(|part| part == text)
        };
        self.pieces.iter().find(holds).map(|piece| piece.time_unix_ns)
    }

    /// Its pieces in the order in which they were moved, at times that only grow: whose, where to, when, and what.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (u16, Direction, i64, &[u8])> {
        let moved = self.pieces.iter().filter(|piece| !piece.bytes.is_empty());
        moved.map(|one| (one.client_port, one.direction, one.time_unix_ns, one.bytes.as_slice()))
    }

    /// The rows that a capture of it gives.
    pub(super) fn rows(&self, faults: &Faults) -> Vec<(&'static str, RecordBatch)> {
        let config =
            SocketTracerConfig { asid: 7, own_upid: Upid::new(7, 1, 1), ..Default::default() };
        let mut tracer = SocketTracer::new(config);
        let mut random = SplitMix(faults.seed);
        let mut positions: HashMap<(u16, Direction), u64> = HashMap::new();
        let mut opened: HashMap<u16, Opened> = HashMap::new();
        let mut batches = Vec::new();
        for (idx, piece) in self.pieces.iter().enumerate() {
            let (client_port, direction) = (piece.client_port, piece.direction);
            let is_before = idx < faults.joined_at;
            let is_new = !opened.contains_key(&client_port);
            let was = if is_before { Opened::Unknown } else { Opened::Accepted };
            let socket = socket(client_port, *opened.entry(client_port).or_insert(was));
            if is_before {
                continue;
            }
            let at = SocketEvent {
                time_unix_ns: piece.time_unix_ns,
                process: SERVER,
                cgroup_id: 0,
                fd: 5,
                socket,
            };
            if is_new {
                tracer.on_event(&CaptureEvent::Accept { at });
            }
            if piece.bytes.is_empty() {
                let event =
                    CaptureEvent::Close { at, last: true, egress_bytes: 0, ingress_bytes: 0 };
                if direction == Direction::Egress {
                    tracer.on_event(&event);
                }
                continue;
            }
            let position = positions.entry((client_port, direction)).or_default();
            for (offset, total_bytes, payload) in seen(&piece.bytes, faults.one_in, &mut random) {
                tracer.on_event(&CaptureEvent::Data(DataEvent {
                    time_unix_ns: piece.time_unix_ns,
                    process: SERVER,
                    cgroup_id: 0,
                    fd: 5,
                    socket,
                    direction,
                    position: *position + offset,
                    total_bytes,
                    payload,
                }));
            }
            *position += piece.bytes.len() as u64;
            if idx % 16 == 0 {
                batches.extend(tracer.flush(piece.time_unix_ns));
            }
        }
        let end_ns = self.pieces.last().unwrap().time_unix_ns;
        for second in 1..4 {
            batches.extend(tracer.flush(end_ns + second * 1_000_000_000));
        }
        batches.extend(tracer.finish(end_ns + 4_000_000_000));
        batches
    }
}

/// What is seen of a call: its offset, how many bytes it stands for, and those that were copied.
fn seen<'a>(bytes: &'a [u8], one_in: u64, random: &mut SplitMix) -> Vec<(u64, u32, &'a [u8])> {
    let whole = bytes.len();
    let fault = if one_in == 0 { u64::MAX } else { random.below(3 * one_in) };
    let mut seen_max = PAYLOAD_BYTES_MAX;
    match fault {
        // Its event was lost.
        0 => return Vec::new(),
        // It is cut anywhere, and its end is seen or not.
        1 => seen_max = random.below(whole as u64) as usize,
        2 => {
            let at = random.below(whole as u64) as usize;
            return vec![(0, whole as u32, &bytes[..at])];
        }
        _ => {}
    }
    if whole <= seen_max {
        return vec![(0, whole as u32, bytes)];
    }
    let tail = (whole - seen_max).min(TAIL_BYTES_MAX);
    vec![
        (0, (whole - tail) as u32, &bytes[..seen_max]),
        ((whole - tail) as u64, tail as u32, &bytes[whole - tail..]),
    ]
}
