//! Capture of real traffic on loopback. Needs the rights that capture needs: without them each
//! test says `skipped` on stderr and passes.
//!
//! Tests run side by side, each with a capture of its own that follows its own port or process.

#![expect(unsafe_code, reason = "the point is to make the system calls themselves")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use super::{Build, CannotRun, Counters, EbpfConfig, EbpfSource, Filters};
use crate::capture::{
    CaptureEvent, DataEvent, Direction, Opened, Process, ProcessEvent, Socket, SocketEvent,
    SocketType,
};

mod calls;
mod compat;
mod datagrams;
mod ends;
mod filters;
mod lifecycle;
mod load;
mod mqtt;
mod records;
mod redis;
mod rings;
mod tls;
mod unix;
mod unseen;

/// An event that owns its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    what: What,
    time_unix_ns: i64,
    process: Process,
    fd: i32,
    socket: Option<Socket>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Data { direction: Direction, position: u64, total: u32, payload: Vec<u8> },
    Plain { direction: Direction, position: u64, total: u32, payload: Vec<u8> },
    Gap { direction: Direction, position: u64, bytes: u64 },
    Connect { error: i32 },
    Accept,
    Close { last: bool, egress: u64, ingress: u64 },
    End { direction: Direction, position: u64 },
    UnixNames { local: Vec<u8>, remote: Vec<u8> },
    Memo,
    Fork { parent: Process, comm: String },
    Exec { parent_pid: u32, cmdline: Vec<u8>, is_cut: bool },
    Exit { exit_code: i32 },
}

impl Seen {
    fn plain(data: &DataEvent<'_>) -> Seen {
        let seen = Seen::of(&CaptureEvent::Data(*data));
        let What::Data { direction, position, total, payload } = seen.what else {
            unreachable!("data is data")
        };
        Seen { what: What::Plain { direction, position, total, payload }, ..seen }
    }

    fn of(event: &CaptureEvent<'_>) -> Seen {
        let on_socket = |at: &SocketEvent, what| Seen {
            what,
            time_unix_ns: at.time_unix_ns,
            process: at.process,
            fd: at.fd,
            socket: Some(at.socket),
        };
        let of_process = |at: &ProcessEvent, what| Seen {
            what,
            time_unix_ns: at.time_unix_ns,
            process: at.process,
            fd: -1,
            socket: None,
        };
        match event {
            CaptureEvent::Data(DataEvent {
                time_unix_ns,
                process,
                fd,
                socket,
                direction,
                position,
                total_bytes,
                payload,
                ..
            }) => Seen {
                what: What::Data {
                    direction: *direction,
                    position: *position,
                    total: *total_bytes,
                    payload: payload.to_vec(),
                },
                time_unix_ns: *time_unix_ns,
                process: *process,
                fd: *fd,
                socket: Some(*socket),
            },
            CaptureEvent::Plain(data) => Seen::plain(data),
            CaptureEvent::Gap { at, direction, position, bytes } => on_socket(
                at,
                What::Gap { direction: *direction, position: *position, bytes: *bytes },
            ),
            CaptureEvent::Connect { at, error } => on_socket(at, What::Connect { error: *error }),
            CaptureEvent::Accept { at } => on_socket(at, What::Accept),
            CaptureEvent::Close { at, last, egress_bytes, ingress_bytes } => on_socket(
                at,
                What::Close { last: *last, egress: *egress_bytes, ingress: *ingress_bytes },
            ),
            CaptureEvent::End { at, direction, position } => {
                on_socket(at, What::End { direction: *direction, position: *position })
            }
            CaptureEvent::UnixNames { at, local, remote, .. } => {
                let (local, remote) = (local.to_vec(), remote.to_vec());
                on_socket(at, What::UnixNames { local, remote })
            }
            CaptureEvent::Memo { at, .. } => on_socket(at, What::Memo),
            CaptureEvent::Fork { at, parent } => {
                let name = at.comm.split(|byte| *byte == 0).next().unwrap();
                let comm = String::from_utf8_lossy(name).into_owned();
                of_process(at, What::Fork { parent: *parent, comm })
            }
            CaptureEvent::Exec { at, cmdline, is_cut } => {
                let (cmdline, is_cut) = (cmdline.to_vec(), *is_cut);
                of_process(at, What::Exec { parent_pid: at.parent_pid, cmdline, is_cut })
            }
            CaptureEvent::Exit { at, exit_code } => {
                of_process(at, What::Exit { exit_code: *exit_code })
            }
        }
    }

    fn is_from(&self, local: SocketAddr) -> bool {
        self.socket.is_some_and(|socket| socket.local == Some(local))
    }
}

/// A capture that runs, or `None` (said on stderr) where it is not allowed to.
fn start(config: &EbpfConfig) -> Option<EbpfSource> {
    match EbpfSource::start(config) {
        Ok(source) => {
            for program in source.programs() {
                assert_eq!(program.reason, None, "{} is off", program.program);
            }
            Some(source)
        }
        Err(
            error @ (CannotRun::MissingCapabilities { .. }
            | CannotRun::NoBtf
            | CannotRun::KernelTooOld { .. }
            | CannotRun::NoKernelFunction(_)),
        ) => {
            weir_types::testing::skipped(error);
            None
        }
        Err(error) => {
            panic!("{}", super::attach::shortened(&weir_types::text::with_causes(&error)))
        }
    }
}

fn follow_port(port: u16) -> EbpfConfig {
    EbpfConfig {
        filters: Filters { ports: BTreeSet::from([port]), ..Filters::default() },
        tls: false,
        ..EbpfConfig::default()
    }
}

fn follow_self() -> EbpfConfig {
    EbpfConfig {
        filters: Filters { pids: BTreeSet::from([std::process::id()]), ..Filters::default() },
        tls: false,
        ..EbpfConfig::default()
    }
}

/// All that has happened on sockets up to now: records are in the ring before their call returns.
fn drain(source: &mut EbpfSource) -> Vec<Seen> {
    let mut seen = drain_all(source);
    seen.retain(|event| event.socket.is_some());
    seen
}

/// Also the starts and ends of processes, which are told of the whole machine.
fn drain_all(source: &mut EbpfSource) -> Vec<Seen> {
    let mut seen = Vec::new();
    while source.drain(&mut |event| seen.push(Seen::of(&event))).more {}
    assert_eq!(source.counters().malformed_records, 0);
    seen
}

/// Both ends of a connection over loopback.
struct Pair {
    client: TcpStream,
    server: TcpStream,
    client_addr: SocketAddr,
    server_addr: SocketAddr,
}

impl Pair {
    fn connect(listener: &TcpListener) -> Pair {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let client_addr = client.local_addr().unwrap();
        let server_addr = server.local_addr().unwrap();
        Pair { client, server, client_addr, server_addr }
    }
    fn say(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).unwrap();
        let mut buffer = vec![0; text.len()];
        self.server.read_exact(&mut buffer).unwrap();
    }
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Position, total and payload of one end's data, in the order of delivery.
fn data(seen: &[Seen], local: SocketAddr, way: Direction) -> Vec<(u64, u32, Vec<u8>)> {
    seen.iter()
        .filter(|event| event.is_from(local))
        .filter_map(|event| match &event.what {
            What::Data { direction, position, total, payload } if *direction == way => {
                Some((*position, *total, payload.clone()))
            }
            _ => None,
        })
        .collect()
}

fn text(seen: &[Seen], local: SocketAddr, way: Direction) -> String {
    let bytes: Vec<u8> = data(seen, local, way).into_iter().flat_map(|(_, _, p)| p).collect();
    String::from_utf8(bytes).unwrap()
}
