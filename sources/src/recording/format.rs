//! Entries as bytes, and back. Numbers have the byte order of most machines.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Entry;
use crate::capture::{
    CaptureEvent, ConnKey, DataEvent, Direction, Family, Liveness, LostCounts, Opened, Process,
    ProcessEvent, Socket, SocketEvent, SocketLoss, SocketType,
};

const DATA: u8 = 1;
const CONNECT: u8 = 2;
const ACCEPT: u8 = 3;
const CLOSE: u8 = 4;
const END: u8 = 5;
const UNIX_NAMES: u8 = 6;
const GAP: u8 = 7;
const EXIT: u8 = 8;
const PLAIN: u8 = 9;
const MEMO: u8 = 10;
const LOST: u8 = 16;
const TICK: u8 = 17;
const WHOLE: u8 = 18;

/// Writes an entry's kind and body; `false` if it is one that recordings do not hold.
pub(super) fn write(entry: &Entry<'_>, out: &mut Vec<u8>) -> bool {
    let mut put = Put(out);
    match entry {
        Entry::Event(event) => return write_event(event, &mut put),
        Entry::Lost(SocketLoss { key, socket_type, counts }) => {
            put.u8(LOST);
            put.u8(u8::from(key.is_some()));
            put.key(&key.unwrap_or_default());
            put.u8(u8::from(*socket_type == SocketType::Datagram));
            for count in [counts.records, counts.messages, counts.unseen_bytes, counts.uring_bytes]
            {
                put.u64(count);
            }
        }
        Entry::Tick { now_unix_ns, answers } => {
            put.u8(TICK);
            put.i64(*now_unix_ns);
            put.u32(answers.len() as u32);
            for (key, liveness) in answers {
                put.key(key);
                put.u8(match liveness {
                    Liveness::Open => 0,
                    Liveness::Gone => 1,
                    Liveness::Unknown => 2,
                });
            }
        }
        Entry::End => put.u8(WHOLE),
    }
    true
}

fn write_event(event: &CaptureEvent<'_>, put: &mut Put<'_>) -> bool {
    match event {
        CaptureEvent::Data(data) | CaptureEvent::Plain(data) => {
            put.u8(if matches!(event, CaptureEvent::Plain(_)) { PLAIN } else { DATA });
            let DataEvent { time_unix_ns, process, cgroup_id, fd, socket, .. } = *data;
            put.at(&SocketEvent { time_unix_ns, process, cgroup_id, fd, socket });
            put.direction(data.direction);
            put.u64(data.position);
            put.u32(data.total_bytes);
            put.bytes(data.payload);
        }
        CaptureEvent::Connect { at, error } => {
            put.u8(CONNECT);
            put.at(at);
            put.u32(error.cast_unsigned());
        }
        CaptureEvent::Accept { at } => {
            put.u8(ACCEPT);
            put.at(at);
        }
        CaptureEvent::Close { at, last, egress_bytes, ingress_bytes } => {
            put.u8(CLOSE);
            put.at(at);
            put.u8(u8::from(*last));
            put.u64(*egress_bytes);
            put.u64(*ingress_bytes);
        }
        CaptureEvent::End { at, direction, position } => {
            put.u8(END);
            put.at(at);
            put.direction(*direction);
            put.u64(*position);
        }
        CaptureEvent::UnixNames { at, local, remote, peer_inode } => {
            put.u8(UNIX_NAMES);
            put.at(at);
            put.bytes(local);
            put.bytes(remote);
            put.u64(*peer_inode);
        }
        CaptureEvent::Gap { at, direction, position, bytes } => {
            put.u8(GAP);
            put.at(at);
            put.direction(*direction);
            put.u64(*position);
            put.u64(*bytes);
        }
        CaptureEvent::Memo { at, direction, position, bytes } => {
            put.u8(MEMO);
            put.at(at);
            put.direction(*direction);
            put.u64(*position);
            put.bytes(bytes);
        }
        CaptureEvent::Exit { at, exit_code } => {
            put.u8(EXIT);
            put.i64(at.time_unix_ns);
            put.process(&at.process);
            put.u32(at.parent_pid);
            put.u64(at.cgroup_id);
            put.0.extend_from_slice(&at.comm);
            put.u32(exit_code.cast_unsigned());
        }
        // Nothing of connections comes of them.
        CaptureEvent::Fork { .. } | CaptureEvent::Exec { .. } => return false,
    }
    true
}

/// Reads an entry. `None`: it is none of this version.
pub(super) fn read(bytes: &[u8]) -> Option<Entry<'_>> {
    let mut take = Take(bytes);
    let entry = match take.u8()? {
        LOST => {
            let (has_key, key) = (take.u8()? != 0, take.key()?);
            let socket_type =
                if take.u8()? == 0 { SocketType::Stream } else { SocketType::Datagram };
            let counts = LostCounts {
                records: take.u64()?,
                messages: take.u64()?,
                unseen_bytes: take.u64()?,
                uring_bytes: take.u64()?,
            };
            Entry::Lost(SocketLoss { key: has_key.then_some(key), socket_type, counts })
        }
        TICK => {
            let now_unix_ns = take.i64()?;
            let mut answers = Vec::new();
            for _ in 0..take.u32()? {
                let key = take.key()?;
                answers.push((
                    key,
                    match take.u8()? {
                        0 => Liveness::Open,
                        1 => Liveness::Gone,
                        _ => Liveness::Unknown,
                    },
                ));
            }
            Entry::Tick { now_unix_ns, answers }
        }
        WHOLE => Entry::End,
        kind => Entry::Event(read_event(kind, &mut take)?),
    };
    take.0.is_empty().then_some(entry)
}

fn read_event<'a>(kind: u8, take: &mut Take<'a>) -> Option<CaptureEvent<'a>> {
    if kind == EXIT {
        let at = ProcessEvent {
            time_unix_ns: take.i64()?,
            process: take.process()?,
            parent_pid: take.u32()?,
            cgroup_id: take.u64()?,
            comm: take.array()?,
        };
        return Some(CaptureEvent::Exit { at, exit_code: take.u32()?.cast_signed() });
    }
    let at = take.at()?;
    Some(match kind {
        DATA | PLAIN => {
            let SocketEvent { time_unix_ns, process, cgroup_id, fd, socket } = at;
            let data = DataEvent {
                time_unix_ns,
                process,
                cgroup_id,
                fd,
                socket,
                direction: take.direction()?,
                position: take.u64()?,
                total_bytes: take.u32()?,
                payload: take.bytes()?,
            };
            if kind == PLAIN { CaptureEvent::Plain(data) } else { CaptureEvent::Data(data) }
        }
        CONNECT => CaptureEvent::Connect { at, error: take.u32()?.cast_signed() },
        ACCEPT => CaptureEvent::Accept { at },
        CLOSE => CaptureEvent::Close {
            at,
            last: take.u8()? != 0,
            egress_bytes: take.u64()?,
            ingress_bytes: take.u64()?,
        },
        END => CaptureEvent::End { at, direction: take.direction()?, position: take.u64()? },
        UNIX_NAMES => CaptureEvent::UnixNames {
            at,
            local: take.bytes()?,
            remote: take.bytes()?,
            peer_inode: take.u64()?,
        },
        GAP => CaptureEvent::Gap {
            at,
            direction: take.direction()?,
            position: take.u64()?,
            bytes: take.u64()?,
        },
        MEMO => CaptureEvent::Memo {
            at,
            direction: take.direction()?,
            position: take.u64()?,
            bytes: take.bytes()?,
        },
        _ => return None,
    })
}

struct Put<'o>(&'o mut Vec<u8>);

impl Put<'_> {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
    }
    fn process(&mut self, process: &Process) {
        self.u32(process.pid);
        self.u64(process.start_ticks);
    }
    fn key(&mut self, key: &ConnKey) {
        self.u64(key.sock);
        self.u64(key.inode);
        self.u32(key.generation);
    }
    fn direction(&mut self, direction: Direction) {
        self.u8(u8::from(direction == Direction::Ingress));
    }
    fn address(&mut self, address: Option<SocketAddr>) {
        match address {
            None => return self.u8(0),
            Some(SocketAddr::V4(address)) => {
                self.u8(4);
                self.0.extend_from_slice(&address.ip().octets());
            }
            Some(SocketAddr::V6(address)) => {
                self.u8(6);
                self.0.extend_from_slice(&address.ip().octets());
            }
        }
        self.u32(address.map_or(0, |address| u32::from(address.port())));
    }
    fn at(&mut self, at: &SocketEvent) {
        let Socket { key, family, socket_type, opened, local, remote, netns } = at.socket;
        self.i64(at.time_unix_ns);
        self.process(&at.process);
        self.u64(at.cgroup_id);
        self.u32(at.fd.cast_unsigned());
        self.key(&key);
        self.u8(match family {
            Family::Inet => 0,
            Family::Inet6 => 1,
            Family::Unix => 2,
        });
        self.u8(u8::from(socket_type == SocketType::Datagram));
        self.u8(match opened {
            Opened::Unknown => 0,
            Opened::Connected => 1,
            Opened::Accepted => 2,
        });
        self.address(local);
        self.address(remote);
        self.u32(netns);
    }
}

struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    fn slice(&mut self, count: usize) -> Option<&'a [u8]> {
        let (slice, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(slice)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.slice(N)?.try_into().ok()
    }
    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }
    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.u32()?;
        self.slice(count as usize)
    }
    fn process(&mut self) -> Option<Process> {
        Some(Process { pid: self.u32()?, start_ticks: self.u64()? })
    }
    fn key(&mut self) -> Option<ConnKey> {
        Some(ConnKey { sock: self.u64()?, inode: self.u64()?, generation: self.u32()? })
    }
    fn direction(&mut self) -> Option<Direction> {
        Some(if self.u8()? == 0 { Direction::Egress } else { Direction::Ingress })
    }
    fn address(&mut self) -> Option<Option<SocketAddr>> {
        let ip = match self.u8()? {
            0 => return Some(None),
            4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)),
            _ => return None,
        };
        Some(Some(SocketAddr::new(ip, u16::try_from(self.u32()?).ok()?)))
    }
    fn at(&mut self) -> Option<SocketEvent> {
        Some(SocketEvent {
            time_unix_ns: self.i64()?,
            process: self.process()?,
            cgroup_id: self.u64()?,
            fd: self.u32()?.cast_signed(),
            socket: Socket {
                key: self.key()?,
                family: match self.u8()? {
                    0 => Family::Inet,
                    1 => Family::Inet6,
                    _ => Family::Unix,
                },
                socket_type: match self.u8()? {
                    0 => SocketType::Stream,
                    _ => SocketType::Datagram,
                },
                opened: match self.u8()? {
                    1 => Opened::Connected,
                    2 => Opened::Accepted,
                    _ => Opened::Unknown,
                },
                local: self.address()?,
                remote: self.address()?,
                netns: self.u32()?,
            },
        })
    }
}
