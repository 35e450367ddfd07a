//! What programs and user space exchange: the mirror of `include/weir_abi.h`.
//!
//! Every struct is `repr(C)` without hidden padding; `tests/it` compares sizes, names and offsets
//! with the BTF of the built object. Times are nanoseconds of the kernel's clocks, ports are in
//! host order, addresses are 16 bytes with IPv4 mapped into IPv6 (`0.0.0.0` and `::` all zero).

/// Bytes of one call that are copied, in all: its first ones.
pub const PAYLOAD_BYTES_MAX: usize = 30_720;
/// Its last bytes are copied besides, if it moved more.
pub const TAIL_BYTES_MAX: usize = 4_096;
/// Of a Unix socket's name.
pub const UNIX_NAME_BYTES_MAX: usize = 108;
/// Bytes of a new program's arguments that are copied.
pub const CMDLINE_BYTES_MAX: usize = 1_024;

pub const KIND_DATA: u32 = 1;
pub const KIND_GAP: u32 = 2;
pub const KIND_CONNECT: u32 = 3;
pub const KIND_ACCEPT: u32 = 4;
pub const KIND_CLOSE: u32 = 5;
pub const KIND_EXEC: u32 = 6;
pub const KIND_EXIT: u32 = 7;
pub const KIND_FORK: u32 = 8;
pub const KIND_END: u32 = 9;
pub const KIND_UNIX_NAMES: u32 = 10;
pub const KIND_PLAIN: u32 = 11;
pub const KIND_MEMO: u32 = 12;

pub const DIRECTION_EGRESS: u16 = 0;
pub const DIRECTION_INGRESS: u16 = 1;

pub const OPENED_UNKNOWN: u8 = 0;
pub const OPENED_CONNECT: u8 = 1;
pub const OPENED_ACCEPT: u8 = 2;

/// In [`SocketRecord::flags`] of a close: nobody else holds the socket.
pub const FLAG_LAST_REFERENCE: u16 = 1;
/// In [`SocketRecord::flags`] of what was said over TLS: it was under way before it was watched.
pub const FLAG_JOINED: u16 = 2;

/// Values of `stopped_conns`: the socket's own bytes are not wanted; nor is what is said over TLS.
pub const STOP_SOCKET: u8 = 1;
pub const STOP_ALL: u8 = 3;

pub const ALLOW_PIDS: u32 = 1;
pub const ALLOW_PORTS: u32 = 2;
pub const ALLOW_CGROUPS: u32 = 4;

pub const SOCKETS_TCP: u32 = 1;
pub const SOCKETS_UDP: u32 = 2;
pub const SOCKETS_UNIX: u32 = 4;

/// What the programs count, in the order of the `counters` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// The ring was full.
    LostRecords,
    /// Moved by the calls whose record was lost.
    LostBytes,
    /// Moved beyond what a record carries, or what could be read.
    CutBytes,
    /// User memory that could not be read.
    Faults,
    /// Calls on something that is no socket.
    NonSockets,
    /// Calls on sockets of a kind that is not captured.
    OtherSockets,
    /// Calls outside the allow lists, or of a denied process.
    Filtered,
    /// Calls on our own connections.
    Excluded,
    /// Moved on sockets whose bytes nobody wants.
    StoppedBytes,
    /// Sockets that found no place in the table.
    ConnsFailed,
    /// Calls whose arguments could not be read.
    BadRegisters,
    /// Of `sendmmsg` and `recvmmsg`, beyond the 32nd.
    SkippedMessages,
    /// Bytes moved by nothing that was looked at.
    UnseenBytes,
    /// Bytes moved by `io_uring` operations whose buffers cannot be read.
    UringBytes,
    /// Sockets of 32-bit programs that were closed without being looked at.
    CompatSockets,
    /// Bytes moved by those.
    CompatBytes,
    /// Long calls of which less was copied because the ring filled.
    ShedCalls,
    /// Of the lost records, those of datagrams.
    LostDatagrams,
    /// Of the skipped messages, those that are datagrams.
    SkippedDatagrams,
    /// Said over TLS on a socket that could not be told.
    TlsUnmatchedBytes,
}

pub const BLIND_OTHER: u32 = 0;
pub const BLIND_URING: u32 = 1;
pub const BLIND_COMPAT: u32 = 2;
pub const BLIND_TLS: u32 = 3;

/// Key of `blind`: a process, and why its bytes are not seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct BlindKey {
    pub pid: u32,
    /// `BLIND_*`.
    pub reason: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Blind {
    /// Sockets that were closed, or pieces of streams that were missed.
    pub times: u64,
    pub bytes: u64,
}

/// The identity of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ConnKey {
    /// Address of the `struct sock`.
    pub sock: u64,
    /// Inode number of the socket's file.
    pub inode: u64,
}

/// Places in [`Losses::counts`].
pub const LOST_RECORDS: usize = 0;
pub const LOST_MESSAGES: usize = 1;
pub const LOST_UNSEEN_BYTES: usize = 2;
pub const LOST_URING_BYTES: usize = 3;

/// Key of `losses`: the socket on which something was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct LossKey {
    pub conn: ConnKey,
    pub generation: u32,
    /// `SOCK_STREAM` or `SOCK_DGRAM`.
    pub socket_type: u32,
}

/// What was lost on a socket before it could become a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Losses {
    /// By `LOST_*`.
    pub counts: [u64; 4],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Addresses {
    pub local_addr: [u8; 16],
    pub remote_addr: [u8; 16],
    pub local_port: u16,
    pub remote_port: u16,
    /// `AF_INET`, `AF_INET6` or `AF_UNIX`.
    pub family: u16,
    /// `SOCK_STREAM` or `SOCK_DGRAM`.
    pub socket_type: u8,
    /// `OPENED_*`.
    pub opened: u8,
    /// Inode of the network namespace.
    pub netns: u32,
    pub _pad: u32,
}

/// The payload of names: a socket's and its peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct UnixName {
    pub bytes: u32,
    /// As in `sun_path`: abstract names begin with a zero byte.
    pub name: [u8; UNIX_NAME_BYTES_MAX],
}

impl Default for UnixName {
    fn default() -> UnixName {
        UnixName { bytes: 0, name: [0; UNIX_NAME_BYTES_MAX] }
    }
}

/// Of a block of header fields so much is copied.
pub const MEMO_BLOCK_BYTES: usize = 32;

/// The payload of what a program remembers begins so; entries of its table follow, the oldest first: lengths of name
/// and value (32 bits each), name, value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Memo {
    pub entries: u32,
    /// As the protocol counts them.
    pub table_bytes: u32,
    pub table_bytes_max: u32,
    /// Of the last block, or the last part of it.
    pub block_bytes: u32,
    /// 1: the table is the sender's.
    pub encodes: u32,
    /// By that block, or part.
    pub inserted: u32,
    pub block: [u8; MEMO_BLOCK_BYTES],
}

/// What happened to a socket. The payload follows: of data the call's first bytes, then its last
/// ones; of names two [`UnixName`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SocketRecord {
    /// `KIND_*`.
    pub kind: u32,
    /// The tail included.
    pub payload_bytes: u32,
    /// `CLOCK_MONOTONIC`: a write's beginning, the end of everything else.
    pub time_mono_ns: u64,
    /// `CLOCK_BOOTTIME` at which the process began.
    pub start_boottime_ns: u64,
    /// cgroup v2.
    pub cgroup_id: u64,
    pub pid: u32,
    pub tid: u32,
    pub key: ConnKey,
    /// Another one after the table forgot the socket.
    pub generation: u32,
    pub fd: i32,
    pub addresses: Addresses,
    /// Data, gaps, ends: bytes moved before in this direction; of what was said over TLS those said
    /// before. Close: egress bytes in all. Unix names:
    /// inode of the peer, 0 if it has none yet.
    pub position_bytes: u64,
    /// Data and gaps: bytes moved by the call. Close: ingress bytes in all.
    pub total_bytes: u64,
    /// `DIRECTION_*`.
    pub direction: u16,
    /// `FLAG_*`.
    pub flags: u16,
    /// Data: so many of the payload are the call's last bytes.
    pub tail_bytes: u32,
    /// Connect: 0 or a negative errno.
    pub result: i32,
    /// Data and gaps: bytes moved just before `position_bytes` by no call that was seen.
    pub unseen_bytes: u32,
}

/// Fork, exec and exit. An exec's arguments follow, each ended by a zero byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ProcessRecord {
    /// `KIND_*`.
    pub kind: u32,
    /// As `wait` gives it.
    pub exit_code: i32,
    /// `CLOCK_MONOTONIC`.
    pub time_mono_ns: u64,
    /// `CLOCK_BOOTTIME` at which the process began.
    pub start_boottime_ns: u64,
    /// Fork: as `start_boottime_ns`, of the parent.
    pub parent_start_boottime_ns: u64,
    /// cgroup v2.
    pub cgroup_id: u64,
    pub pid: u32,
    pub parent_pid: u32,
    pub comm: [u8; 16],
    pub payload_bytes: u32,
    /// Exec: of all arguments, also those that are not copied.
    pub cmdline_bytes: u32,
}

/// The one value of the `config` map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// Ring fill at which user space is woken.
    pub wake_bytes: u64,
    /// 0: programs return at once.
    pub enabled: u32,
    /// `ALLOW_*` lists in force; none: everything is looked at.
    pub allow: u32,
    /// 1: there are denied pids.
    pub deny: u32,
    /// `SOCKETS_*`.
    pub sockets: u32,
    /// Changes with every change of filters or exclusions: sockets are judged anew.
    pub filter_generation: u32,
    /// Changes with every addition to the stopped sockets.
    pub stop_generation: u32,
    /// 1: there are excluded pairs or listeners.
    pub exclusions: u32,
    pub own_pid: u32,
    /// Inode of our network namespace.
    pub own_netns: u32,
    pub payload_max_bytes: u32,
    /// 0: nobody looks for TLS. Changes when another library is looked at.
    pub tls_generation: u32,
    /// 1: memories of programs are looked for, and will be told.
    pub memos: u32,
}

/// Key of `excluded_listeners`. An all-zero address: any address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ListenerKey {
    pub addr: [u8; 16],
    pub port: u16,
    pub _pad: u16,
}

/// Key of `excluded_pairs`; either end may be `a`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PairKey {
    pub a_addr: [u8; 16],
    pub b_addr: [u8; 16],
    pub a_port: u16,
    pub b_port: u16,
}

/// A struct that any bytes are a valid value of, and that has no bytes beside its fields.
///
/// # Safety
/// The type is `repr(C)`, made of integers and arrays of them, and has no implicit padding.
pub unsafe trait Plain: Copy + Default + 'static {}

macro_rules! plain {
    ($($name:ty, $bytes:literal;)*) => {$(
        // The size is the sum of the fields' sizes, so there is no padding.
        const _: () = assert!(size_of::<$name>() == $bytes);
        // SAFETY: `repr(C)` integers and arrays; no padding by the assertion above.
        unsafe impl Plain for $name {}
    )*};
}

plain! {
    ConnKey, 16;
    Addresses, 48;
    SocketRecord, 144;
    ProcessRecord, 72;
    Config, 56;
    ListenerKey, 20;
    PairKey, 36;
    BlindKey, 8;
    Blind, 16;
    LossKey, 24;
    Losses, 32;
    UnixName, 112;
    Memo, 56;
}

fn read_plain<T: Plain>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (head, rest) = bytes.split_at_checked(size_of::<T>())?;
    // SAFETY: `head` is as long as `T`, and any bytes are a valid `T` (Plain); the read does not
    // ask for alignment.
    let value = unsafe { head.as_ptr().cast::<T>().read_unaligned() };
    Some((value, rest))
}

/// The kind of a record of either ring.
#[must_use]
pub fn read_kind(record: &[u8]) -> Option<u32> {
    record.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A record of the `events` ring and its payload; `None` if it is cut short.
#[must_use]
pub fn read_socket_record(record: &[u8]) -> Option<(SocketRecord, &[u8])> {
    let (header, rest) = read_plain::<SocketRecord>(record)?;
    let payload = rest.get(..header.payload_bytes as usize)?;
    Some((header, payload))
}

/// The payload of names: the socket's and its peer's, as far as they are whole.
#[must_use]
pub fn read_unix_names(payload: &[u8]) -> Option<[UnixName; 2]> {
    let (own, rest) = read_plain(payload)?;
    let (peer, _) = read_plain(rest)?;
    Some([own, peer])
}

/// A record of the `process_events` ring and its arguments; `None` if it is cut short.
#[must_use]
pub fn read_process_record(record: &[u8]) -> Option<(ProcessRecord, &[u8])> {
    let (header, rest) = read_plain::<ProcessRecord>(record)?;
    let payload = rest.get(..header.payload_bytes as usize)?;
    Some((header, payload))
}
