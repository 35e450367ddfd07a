//! What a capturing source hands to the connection tracker: bytes moved over sockets, in the order
//! in which they were observed, and the opening and closing of the sockets they moved on.
//!
//! eBPF capture, packet files and recordings all end here, so that everything downstream has one
//! input. This module does *not* know connections, protocols or rows.
//!
//! What the consumer may rely on:
//! 1. `position` counts the bytes of one direction of one [`ConnKey`] from 0. Events of one
//!    direction cover disjoint ranges `[position, position + total_bytes)`, whatever was lost, so
//!    a hole between two ranges is a loss (or bytes that were never in user memory) of known size.
//! 2. Events may arrive out of order: by position within a direction only if several threads use
//!    the socket at once, by time between directions and connections always (a write is stamped
//!    when it begins but delivered when it ends). Reassemble by position, compare by time.
//! 3. `payload` holds the first bytes of the range; what is missing at its end is a hole. A call that
//!    moved more than is copied gives two events: its first bytes with the hole behind them, and its
//!    last bytes ([`TAIL_BYTES_MAX`] at most) at their own position, at the same time.
//! 4. Times are Unix nanoseconds and grow with the kernel's clock, also over steps of the wall
//!    clock: later in the kernel is never earlier here.
//! 5. What was said over TLS ([`CaptureEvent::Plain`]) has positions of its own, from 0 on. Once it is told
//!    of a socket, nothing more comes of the socket's own bytes.
//! 6. A write's time is when the call began, a read's when it returned: so a request's write is
//!    before its read, and a response's write before its read, on one machine.

use std::net::SocketAddr;

/// The most payload bytes that one event carries; the rest of a longer call is a hole, but for its
/// last bytes.
pub const PAYLOAD_BYTES_MAX: usize = 30_720;

/// The most of a longer call's last bytes that come as an event of their own: what ends a message is
/// among them.
pub const TAIL_BYTES_MAX: usize = 4_096;

/// `error` of a connect that has returned before it was done.
pub const IN_PROGRESS: i32 = 115;

/// The most bytes of a program's arguments that an [`CaptureEvent::Exec`] carries.
pub const CMDLINE_BYTES_MAX: usize = 1_024;

/// A process, named so that a re-used pid is another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    /// As seen from the initial pid namespace.
    pub pid: u32,
    /// Start time in clock ticks since boot, as in field 22 of `/proc/PID/stat`.
    pub start_ticks: u64,
}

/// A socket, whoever holds it: processes that share one by fork or `SCM_RIGHTS` give the same key.
/// The two ends of a connection on one machine are two sockets with two keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnKey {
    /// Address of the kernel's `struct sock`: an identity, never dereferenced.
    pub sock: u64,
    /// Inode number of the socket's file (`socket:[N]` in `/proc/PID/fd`).
    pub inode: u64,
    /// Another one after the kernel's table forgot the socket: positions begin at 0 again, with
    /// an unknown number of bytes before. Sources without such a table give 0.
    pub generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Written to the socket by this process.
    Egress,
    /// Read from the socket by this process.
    Ingress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    Inet,
    Inet6,
    Unix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SocketType {
    Stream,
    /// One event is one datagram; positions still count bytes. UDP only.
    Datagram,
}

/// Which end opened the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Opened {
    /// It was open before capture began (or its opening was not seen): position 0 is wherever
    /// capture began, not the stream's start.
    #[default]
    Unknown,
    /// By `connect`: this end is the client. Position 0 is the stream's first byte.
    Connected,
    /// By `accept`: this end is the server. Position 0 is the stream's first byte.
    Accepted,
}

/// A socket and its addresses, repeated in every event so that none depends on an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    pub key: ConnKey,
    pub family: Family,
    pub socket_type: SocketType,
    pub opened: Opened,
    /// `None` for Unix sockets. IPv4-mapped IPv6 addresses are given as IPv4.
    pub local: Option<SocketAddr>,
    /// `None` for Unix sockets and datagrams whose peer is not known.
    pub remote: Option<SocketAddr>,
    /// Inode of the network namespace, 0 if not known: addresses are unique only within one.
    pub netns: u32,
}

/// Bytes moved by one system call (one message of it for `sendmmsg` and `recvmmsg`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataEvent<'a> {
    pub time_unix_ns: i64,
    pub process: Process,
    /// cgroup v2 id of the process, 0 if not known.
    pub cgroup_id: u64,
    pub fd: i32,
    pub socket: Socket,
    pub direction: Direction,
    /// Bytes moved in this direction before this event's.
    pub position: u64,
    /// Bytes moved by the call.
    pub total_bytes: u32,
    /// The first of them, at most [`PAYLOAD_BYTES_MAX`].
    pub payload: &'a [u8],
}

/// Who did something to a socket, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketEvent {
    pub time_unix_ns: i64,
    pub process: Process,
    /// cgroup v2 id of the process, 0 if not known.
    pub cgroup_id: u64,
    pub fd: i32,
    pub socket: Socket,
}

/// What happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessEvent {
    pub time_unix_ns: i64,
    pub process: Process,
    pub parent_pid: u32,
    /// cgroup v2 id of the process, 0 if not known.
    pub cgroup_id: u64,
    /// The kernel's short name, padded with zero bytes.
    pub comm: [u8; 16],
}

/// What was lost before it could become an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostCounts {
    /// Calls, openings and ends that found no room on their way.
    pub records: u64,
    /// Of calls that move many, beyond those that are looked at.
    pub messages: u64,
    /// Moved by nothing that was looked at: a gap in the stream as well.
    pub unseen_bytes: u64,
    /// Moved by operations of `io_uring` that cannot be read: a gap in the stream as well.
    pub uring_bytes: u64,
}

impl LostCounts {
    pub fn add(&mut self, other: LostCounts) {
        self.records += other.records;
        self.messages += other.messages;
        self.unseen_bytes += other.unseen_bytes;
        self.uring_bytes += other.uring_bytes;
    }

    /// What these have more than others.
    #[must_use]
    pub fn beyond(self, other: LostCounts) -> LostCounts {
        LostCounts {
            records: self.records.saturating_sub(other.records),
            messages: self.messages.saturating_sub(other.messages),
            unseen_bytes: self.unseen_bytes.saturating_sub(other.unseen_bytes),
            uring_bytes: self.uring_bytes.saturating_sub(other.uring_bytes),
        }
    }
}

/// Where something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketLoss {
    /// `None`: on sockets that nobody can name.
    pub key: Option<ConnKey>,
    pub socket_type: SocketType,
    pub counts: LostCounts,
}

/// What a source says of a socket when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Somebody holds it.
    Open,
    /// Nobody does. Events from before may still be on their way.
    Gone,
    /// This source cannot tell.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureEvent<'a> {
    Data(DataEvent<'a>),
    /// What the process said or was told over TLS on this socket, as its TLS library had it in the clear.
    /// `opened` is unknown if TLS was under way before it was watched.
    Plain(DataEvent<'a>),
    /// `connect` returned. `error` is the positive errno, 0 if connected. [`IN_PROGRESS`] means that
    /// it will be told of again, by then without a process (pid 0), once it is done or has failed; if
    /// it is never told, the first bytes show that it is connected.
    Connect {
        at: SocketEvent,
        error: i32,
    },
    /// `accept` returned a socket.
    Accept {
        at: SocketEvent,
    },
    /// A process closed a descriptor. `last`: nobody holds the socket any more, it is gone. Of TCP
    /// sockets the last one is told however it happens: by close, exec, `dup2`, `close_range` or the
    /// end of a process; of others only by close: ask the source whether they are still held
    /// ([`Liveness`]).
    Close {
        at: SocketEvent,
        last: bool,
        egress_bytes: u64,
        ingress_bytes: u64,
    },
    /// No byte follows `position` in this direction: this end has shut it down, or has read its end.
    /// The socket stays, and the other direction may go on.
    End {
        at: SocketEvent,
        direction: Direction,
        position: u64,
    },
    /// What a Unix socket and its peer are called, before all other events of it. Empty if they have
    /// no name; abstract names begin with a zero byte.
    UnixNames {
        at: SocketEvent,
        local: &'a [u8],
        remote: &'a [u8],
        /// Inode of the peer's socket; 0 if not known, as before it was accepted.
        peer_inode: u64,
    },
    /// Bytes that moved without passing through user memory (`sendfile`, `splice`) or were thrown
    /// away unread (`MSG_TRUNC` on a stream): they count in positions, their content is unknown.
    Gap {
        at: SocketEvent,
        direction: Direction,
        position: u64,
        bytes: u64,
    },
    /// What the program remembers of what was said over TLS in this direction, up to `position` or to the end of the
    /// last message before: for the parser, which knows its form. Of connections older than capture only. No bytes:
    /// it will be told.
    Memo {
        at: SocketEvent,
        direction: Direction,
        position: u64,
        bytes: &'a [u8],
    },
    /// `at.process` is a new process, the child of `parent`: it runs the parent's program, with
    /// its arguments, and holds the sockets that the parent holds. Threads are no processes.
    Fork {
        at: ProcessEvent,
        parent: Process,
    },
    /// The process runs another program now.
    Exec {
        at: ProcessEvent,
        /// Its arguments as in `/proc/PID/cmdline`, each ended by a zero byte; at most
        /// [`CMDLINE_BYTES_MAX`] bytes of them. Empty if they could not be read.
        cmdline: &'a [u8],
        /// There are more arguments than `cmdline` holds.
        is_cut: bool,
    },
    /// The last thread of the process ended, and with it the process's hold on its sockets.
    Exit {
        at: ProcessEvent,
        exit_code: i32,
    },
}

impl<'a> CaptureEvent<'a> {
    /// What was moved, in the clear or not.
    #[must_use]
    pub fn data(&self) -> Option<&DataEvent<'a>> {
        match self {
            CaptureEvent::Data(data) | CaptureEvent::Plain(data) => Some(data),
            _ => None,
        }
    }

    /// The socket that it happened to, if it did to one.
    #[must_use]
    pub fn socket(&self) -> Option<&Socket> {
        match self {
            CaptureEvent::Data(data) | CaptureEvent::Plain(data) => Some(&data.socket),
            CaptureEvent::Connect { at, .. }
            | CaptureEvent::Accept { at }
            | CaptureEvent::Close { at, .. }
            | CaptureEvent::End { at, .. }
            | CaptureEvent::UnixNames { at, .. }
            | CaptureEvent::Gap { at, .. }
            | CaptureEvent::Memo { at, .. } => Some(&at.socket),
            CaptureEvent::Fork { .. } | CaptureEvent::Exec { .. } | CaptureEvent::Exit { .. } => {
                None
            }
        }
    }

    /// Who did it to a socket; 0 where nobody is known to have.
    #[must_use]
    pub fn process_pid(&self) -> Option<u32> {
        match self {
            CaptureEvent::Data(data) | CaptureEvent::Plain(data) => Some(data.process.pid),
            CaptureEvent::Connect { at, .. }
            | CaptureEvent::Accept { at }
            | CaptureEvent::Close { at, .. }
            | CaptureEvent::End { at, .. }
            | CaptureEvent::UnixNames { at, .. }
            | CaptureEvent::Gap { at, .. }
            | CaptureEvent::Memo { at, .. } => Some(at.process.pid),
            CaptureEvent::Fork { .. } | CaptureEvent::Exec { .. } | CaptureEvent::Exit { .. } => {
                None
            }
        }
    }

    /// The same, if the source has looked away in between, `times` often. Positions of TCP tell how much went by
    /// meanwhile; those of Unix sockets do not, so each is taken for another one from then on: what it says now is
    /// no answer to what it said before.
    #[must_use]
    pub fn after_looking_away(mut self, times: u32) -> Self {
        let socket = match &mut self {
            CaptureEvent::Data(data) | CaptureEvent::Plain(data) => &mut data.socket,
            CaptureEvent::Connect { at, .. }
            | CaptureEvent::Accept { at }
            | CaptureEvent::Close { at, .. }
            | CaptureEvent::End { at, .. }
            | CaptureEvent::UnixNames { at, .. }
            | CaptureEvent::Gap { at, .. }
            | CaptureEvent::Memo { at, .. } => &mut at.socket,
            CaptureEvent::Fork { .. } | CaptureEvent::Exec { .. } | CaptureEvent::Exit { .. } => {
                return self;
            }
        };
        if times > 0 && socket.family == Family::Unix {
            socket.key.generation = socket.key.generation.wrapping_add(times);
            socket.opened = Opened::Unknown;
        }
        self
    }

    #[must_use]
    pub fn time_unix_ns(&self) -> i64 {
        match self {
            CaptureEvent::Data(data) | CaptureEvent::Plain(data) => data.time_unix_ns,
            CaptureEvent::Connect { at, .. }
            | CaptureEvent::Accept { at }
            | CaptureEvent::Close { at, .. }
            | CaptureEvent::End { at, .. }
            | CaptureEvent::UnixNames { at, .. }
            | CaptureEvent::Gap { at, .. }
            | CaptureEvent::Memo { at, .. } => at.time_unix_ns,
            CaptureEvent::Fork { at, .. }
            | CaptureEvent::Exec { at, .. }
            | CaptureEvent::Exit { at, .. } => at.time_unix_ns,
        }
    }
}
