//! From the programs' records to [`CaptureEvent`]s.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use weir_bpf::abi::{self, Addresses, ProcessRecord, SocketRecord, UnixName};

use super::clock::KernelClock;
use crate::capture::{
    CaptureEvent, ConnKey, DataEvent, Direction, Family, Opened, Process, ProcessEvent, Socket,
    SocketEvent, SocketType,
};

/// `/proc` counts in units of 1/100 s (USER_HZ) on all architectures that we run on.
const NS_PER_TICK: u64 = 10_000_000;

/// Exits that wait for the sockets' records before them; when full, the rest waits in the kernel.
const HELD_EXITS_MAX: usize = 4_096;

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCK_STREAM: u8 = 1;
pub(super) const SOCK_DGRAM: u8 = 2;

#[derive(Default)]
pub(super) struct HeldExits(Vec<(ProcessEvent, i32)>);

impl HeldExits {
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= HELD_EXITS_MAX
    }
    pub(super) fn hold(&mut self, at: ProcessEvent, exit_code: i32) {
        self.0.push((at, exit_code));
    }
    pub(super) fn hand_out(&mut self, f: &mut dyn FnMut(CaptureEvent<'_>)) {
        for (at, exit_code) in self.0.drain(..) {
            f(CaptureEvent::Exit { at, exit_code });
        }
    }
}

pub(super) fn process_event<'a>(record: &'a [u8], clock: &KernelClock) -> Option<CaptureEvent<'a>> {
    let (record, payload): (ProcessRecord, &[u8]) = abi::read_process_record(record)?;
    let at = ProcessEvent {
        time_unix_ns: clock.unix_ns(record.time_mono_ns),
        process: process(record.pid, record.start_boottime_ns),
        parent_pid: record.parent_pid,
        cgroup_id: record.cgroup_id,
        comm: record.comm,
    };
    match record.kind {
        abi::KIND_FORK => Some(CaptureEvent::Fork {
            at,
            parent: process(record.parent_pid, record.parent_start_boottime_ns),
        }),
        abi::KIND_EXEC => Some(CaptureEvent::Exec {
            at,
            cmdline: payload,
            is_cut: payload.len() < record.cmdline_bytes as usize,
        }),
        abi::KIND_EXIT => Some(CaptureEvent::Exit { at, exit_code: record.exit_code }),
        _ => None,
    }
}

/// What a record of the sockets' ring tells: perhaps bytes that were moved unseen, one event, and
/// perhaps the last bytes of a long call.
pub(super) struct Told<'a> {
    pub(super) unseen: Option<CaptureEvent<'static>>,
    pub(super) event: CaptureEvent<'a>,
    pub(super) tail: Option<CaptureEvent<'a>>,
}

impl<'a> Told<'a> {
    /// In the order in which they are to be handed out.
    pub(super) fn events(self) -> impl Iterator<Item = CaptureEvent<'a>> {
        self.unseen.into_iter().chain([self.event]).chain(self.tail)
    }
}

pub(super) fn socket_events<'a>(record: &'a [u8], clock: &KernelClock) -> Option<Told<'a>> {
    let (record, payload) = abi::read_socket_record(record)?;
    let at = SocketEvent {
        time_unix_ns: clock.unix_ns(record.time_mono_ns),
        process: process(record.pid, record.start_boottime_ns),
        cgroup_id: record.cgroup_id,
        fd: record.fd,
        socket: socket(&record)?,
    };
    let unseen = unseen(&record, at)?;
    let mut tail = None;
    let event = match record.kind {
        abi::KIND_DATA => {
            let (head, last) = data(&record, at, payload)?;
            tail = last.map(CaptureEvent::Data);
            CaptureEvent::Data(head)
        }
        abi::KIND_PLAIN => {
            let is_joined = record.flags & abi::FLAG_JOINED != 0;
            let at = if is_joined { joined(at) } else { at };
            let (head, last) = data(&record, at, payload)?;
            tail = last.map(CaptureEvent::Plain);
            CaptureEvent::Plain(head)
        }
        abi::KIND_GAP => CaptureEvent::Gap {
            at,
            direction: direction(&record)?,
            position: record.position_bytes,
            bytes: record.total_bytes,
        },
        abi::KIND_MEMO => CaptureEvent::Memo {
            at: joined(at),
            direction: direction(&record)?,
            position: record.position_bytes,
            bytes: payload,
        },
        abi::KIND_CONNECT => CaptureEvent::Connect { at, error: -record.result },
        abi::KIND_ACCEPT => CaptureEvent::Accept { at },
        abi::KIND_CLOSE => CaptureEvent::Close {
            at,
            last: record.flags & abi::FLAG_LAST_REFERENCE != 0,
            egress_bytes: record.position_bytes,
            ingress_bytes: record.total_bytes,
        },
        abi::KIND_END => CaptureEvent::End {
            at,
            direction: direction(&record)?,
            position: record.position_bytes,
        },
        abi::KIND_UNIX_NAMES => {
            let (local, remote) = unix_names(payload)?;
            CaptureEvent::UnixNames { at, local, remote, peer_inode: record.position_bytes }
        }
        _ => return None,
    };
    Some(Told { unseen, event, tail })
}

/// Nobody saw what it began with.
fn joined(mut at: SocketEvent) -> SocketEvent {
    at.socket.opened = Opened::Unknown;
    at
}

/// The call's first bytes and, if it is cut, its last ones. A datagram is one message: without its middle
/// only its beginning can be read, and its end is no message of its own.
fn data<'a>(
    record: &SocketRecord,
    at: SocketEvent,
    payload: &'a [u8],
) -> Option<(DataEvent<'a>, Option<DataEvent<'a>>)> {
    let head_bytes = payload.len().checked_sub(record.tail_bytes as usize)?;
    let is_whole = payload.len() as u64 == record.total_bytes;
    let (mut head, mut tail) = payload.split_at(head_bytes);
    let mut tail_bytes = record.tail_bytes;
    if at.socket.socket_type == SocketType::Datagram {
        (head, tail) = (if is_whole { payload } else { head }, &[]);
        tail_bytes = 0;
    }
    // A system call moves less than 2 GiB.
    let total_bytes = u32::try_from(record.total_bytes).ok()?;
    let head = DataEvent {
        time_unix_ns: at.time_unix_ns,
        process: at.process,
        cgroup_id: at.cgroup_id,
        fd: at.fd,
        socket: at.socket,
        direction: direction(record)?,
        position: record.position_bytes,
        total_bytes: total_bytes.checked_sub(tail_bytes)?,
        payload: head,
    };
    if tail.is_empty() {
        return Some((head, None));
    }
    let position = record.position_bytes.checked_add(u64::from(head.total_bytes))?;
    let last = DataEvent { position, total_bytes: tail_bytes, payload: tail, ..head };
    Some((head, Some(last)))
}

/// The names of a socket and its peer, as two `UnixName`s hold them.
fn unix_names(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let [local, remote] = abi::read_unix_names(payload)?;
    let name = |at: usize, bytes: u32| {
        let start = at * size_of::<UnixName>() + offset_of!(UnixName, name);
        payload.get(start..)?.get(..(bytes as usize).min(abi::UNIX_NAME_BYTES_MAX))
    };
    Some((name(0, local.bytes)?, name(1, remote.bytes)?))
}

/// The bytes before the record's own that no call has moved; `None` if the record is malformed.
fn unseen(record: &SocketRecord, at: SocketEvent) -> Option<Option<CaptureEvent<'static>>> {
    let bytes = u64::from(record.unseen_bytes);
    if bytes == 0 {
        return Some(None);
    }
    let position = record.position_bytes.checked_sub(bytes)?;
    Some(Some(CaptureEvent::Gap { at, direction: direction(record)?, position, bytes }))
}

fn process(pid: u32, start_boottime_ns: u64) -> Process {
    Process { pid, start_ticks: start_boottime_ns / NS_PER_TICK }
}

fn direction(record: &SocketRecord) -> Option<Direction> {
    match record.direction {
        abi::DIRECTION_EGRESS => Some(Direction::Egress),
        abi::DIRECTION_INGRESS => Some(Direction::Ingress),
        _ => None,
    }
}

fn socket(record: &SocketRecord) -> Option<Socket> {
    let addresses: &Addresses = &record.addresses;
    let family = match addresses.family {
        AF_INET => Family::Inet,
        AF_INET6 => Family::Inet6,
        AF_UNIX => Family::Unix,
        _ => return None,
    };
    let addr = |bytes: [u8; 16], port: u16| match family {
        Family::Unix => None,
        Family::Inet | Family::Inet6 if bytes == [0; 16] && port == 0 => None,
        Family::Inet if bytes == [0; 16] => Some(SocketAddr::from(([0, 0, 0, 0], port))),
        Family::Inet | Family::Inet6 => {
            Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical(), port))
        }
    };
    Some(Socket {
        key: ConnKey {
            sock: record.key.sock,
            inode: record.key.inode,
            generation: record.generation,
        },
        family,
        socket_type: match addresses.socket_type {
            SOCK_STREAM => SocketType::Stream,
            SOCK_DGRAM => SocketType::Datagram,
            _ => return None,
        },
        opened: match addresses.opened {
            abi::OPENED_CONNECT => Opened::Connected,
            abi::OPENED_ACCEPT => Opened::Accepted,
            _ => Opened::Unknown,
        },
        local: addr(addresses.local_addr, addresses.local_port),
        remote: addr(addresses.remote_addr, addresses.remote_port),
        netns: addresses.netns,
    })
}
