// SPDX-License-Identifier: MIT OR GPL-2.0-only
// What programs and user space exchange. Mirrored in src/abi.rs; a test compares the two through
// the object's BTF. No packed structs; padding is spelled out.
#pragma once

#define WEIR_PAYLOAD_MAX 30720 // of a call's first bytes are copied, in all
#define WEIR_TAIL_MAX 4096     // of its last bytes are copied besides, if it moved more
#define WEIR_IOVECS_MAX 1024   // buffers of one message that are looked at: the kernel takes no more
#define WEIR_MESSAGES_MAX 32   // messages of one sendmmsg or recvmmsg that are looked at
#define WEIR_UNIX_NAME_MAX 108 // bytes of a Unix socket's name: the kernel's UNIX_PATH_MAX
#define WEIR_CMDLINE_MAX 1024  // bytes of a new program's arguments that are copied

enum weir_kind {
    WEIR_DATA = 1,
    WEIR_GAP = 2, // bytes that never were in user memory
    WEIR_CONNECT = 3,
    WEIR_ACCEPT = 4,
    WEIR_CLOSE = 5,
    WEIR_EXEC = 6,
    WEIR_EXIT = 7,
    WEIR_FORK = 8,
    WEIR_END = 9,        // no byte follows in this direction
    WEIR_UNIX_NAMES = 10, // of a Unix socket and its peer, before all else of it
    WEIR_PLAIN = 11,      // what was said over TLS: positions count these bytes apart from the socket's
    WEIR_MEMO = 12,       // what a program remembers of what was said over TLS
};

enum weir_direction { WEIR_EGRESS = 0, WEIR_INGRESS = 1 };
enum weir_opened { WEIR_OPENED_UNKNOWN = 0, WEIR_OPENED_CONNECT = 1, WEIR_OPENED_ACCEPT = 2 };
enum weir_record_flags {
    WEIR_LAST_REFERENCE = 1,
    WEIR_JOINED = 2, // plain: TLS was under way before it was watched, position 0 is not its start
};

// Follow lists in force: a call passes if it matches any of them, or if there are none.
enum weir_allow { WEIR_ALLOW_PIDS = 1, WEIR_ALLOW_PORTS = 2, WEIR_ALLOW_CGROUPS = 4 };
enum weir_sockets { WEIR_TCP = 1, WEIR_UDP = 2, WEIR_UNIX = 4 };

enum weir_counter {
    WEIR_COUNT_LOST_RECORDS,    // the ring was full
    WEIR_COUNT_LOST_BYTES,      // moved by the calls whose record was lost
    WEIR_COUNT_CUT_BYTES,       // moved beyond what a record carries
    WEIR_COUNT_FAULTS,          // user memory that could not be read
    WEIR_COUNT_NON_SOCKETS,     // calls on something that is no socket
    WEIR_COUNT_OTHER_SOCKETS,   // calls on sockets of a kind that is not captured
    WEIR_COUNT_FILTERED,        // calls outside the allow lists, or of a denied process
    WEIR_COUNT_EXCLUDED,        // calls on our own connections
    WEIR_COUNT_STOPPED_BYTES,   // moved on sockets whose bytes nobody wants
    WEIR_COUNT_CONNS_FAILED,    // sockets that found no place in the table
    WEIR_COUNT_BAD_REGISTERS,   // calls whose arguments could not be read
    WEIR_COUNT_SKIPPED_MESSAGES,// of sendmmsg and recvmmsg, beyond WEIR_MESSAGES_MAX
    WEIR_COUNT_UNSEEN_BYTES,    // moved by nothing that was looked at
    WEIR_COUNT_URING_BYTES,     // moved by io_uring operations whose buffers cannot be read
    WEIR_COUNT_COMPAT_SOCKETS,  // of 32-bit programs, that were closed without being looked at
    WEIR_COUNT_COMPAT_BYTES,    // moved by those
    WEIR_COUNT_SHED_CALLS,      // long ones of which less was copied because the ring filled
    WEIR_COUNT_LOST_DATAGRAMS,  // of the lost records, those of datagrams
    WEIR_COUNT_SKIPPED_DATAGRAMS, // of the skipped messages
    WEIR_COUNT_TLS_UNMATCHED_BYTES, // said over TLS on a socket that could not be told
    WEIR_COUNT_MAX,
};

// Why a process's bytes are not seen.
enum weir_blind_reason {
    WEIR_BLIND_OTHER = 0,
    WEIR_BLIND_URING = 1,
    WEIR_BLIND_COMPAT = 2,
    WEIR_BLIND_TLS = 3, // what it says over TLS is seen, but not on which socket
};

struct weir_blind_key {
    __u32 pid;
    __u32 reason; // weir_blind_reason
};

struct weir_blind {
    __u64 times; // sockets that were closed, or pieces of streams that were missed
    __u64 bytes;
};

struct weir_conn_key {
    __u64 sock;
    __u64 inode;
};

// What is lost on a socket before it could become a record.
enum weir_loss {
    WEIR_LOST_RECORDS = 0,      // calls and other events whose record found the ring full
    WEIR_LOST_MESSAGES = 1,     // of sendmmsg and recvmmsg, beyond WEIR_MESSAGES_MAX
    WEIR_LOST_UNSEEN_BYTES = 2, // moved by nothing that was looked at
    WEIR_LOST_URING_BYTES = 3,  // moved by io_uring operations whose buffers cannot be read
    WEIR_LOST_MAX = 4,
};

struct weir_loss_key {
    struct weir_conn_key conn;
    __u32 generation;
    __u32 socket_type;
};

struct weir_losses {
    __u64 counts[WEIR_LOST_MAX]; // by weir_loss
};

struct weir_addresses {
    __u8 local_addr[16]; // IPv4 as ::ffff:a.b.c.d; 0.0.0.0 and :: are all zero
    __u8 remote_addr[16];
    __u16 local_port; // host order, as all ports here
    __u16 remote_port;
    __u16 family;
    __u8 socket_type;
    __u8 opened; // weir_opened
    __u32 netns;
    __u32 _pad;
};

// A socket's name, as in sun_path: abstract ones begin with a zero byte.
struct weir_unix_name {
    __u32 bytes;
    __u8 name[WEIR_UNIX_NAME_MAX];
};

// What happened to a socket. The payload follows: of data the call's first bytes, then its last
// ones; of names two weir_unix_name.
struct weir_socket_record {
    __u32 kind; // weir_kind
    __u32 payload_bytes; // the tail included
    __u64 time_mono_ns;
    __u64 start_boottime_ns; // of the process
    __u64 cgroup_id;
    __u32 pid;
    __u32 tid;
    struct weir_conn_key key;
    __u32 generation;
    __s32 fd;
    struct weir_addresses addresses;
    __u64 position_bytes; // data, gap, end: moved before in this direction; close: egress in all;
                          // Unix names: inode of the peer, 0 if it has none yet
    __u64 total_bytes;    // data, gap: moved by the call; close: ingress in all
    __u16 direction;      // weir_direction
    __u16 flags;          // weir_record_flags
    __u32 tail_bytes;     // data: so many of the payload are the call's last bytes
    __s32 result;         // connect: 0 or a negative errno
    __u32 unseen_bytes;   // data, gap: moved just before `position_bytes` by no call that we saw
};

#define WEIR_MEMO_BLOCK_BYTES 32

// A table of header fields, as it is behind the block that ends before `position_bytes`, or there. Behind it are
// the entries, the oldest first: lengths of name and value (32 bits each), name, value.
struct weir_memo {
    __u32 entries;
    __u32 table_bytes; // as the protocol counts them
    __u32 table_bytes_max;
    __u32 block_bytes; // of the last block, or the last part of it
    __u32 encodes;     // 1: the table is the sender's
    __u32 inserted;    // by that block, or part
    __u8 block[WEIR_MEMO_BLOCK_BYTES]; // its first
};

// Fork, exec and exit. An exec's arguments follow, each ended by a zero byte.
struct weir_process_record {
    __u32 kind; // weir_kind
    __s32 exit_code;
    __u64 time_mono_ns;
    __u64 start_boottime_ns;
    __u64 parent_start_boottime_ns; // fork only
    __u64 cgroup_id;
    __u32 pid;
    __u32 parent_pid;
    __u8 comm[16];
    __u32 payload_bytes;
    __u32 cmdline_bytes; // exec: of all arguments, also those that are not copied
};

struct weir_config {
    __u64 wake_bytes; // ring fill at which user space is woken
    __u32 enabled;
    __u32 allow;   // weir_allow
    __u32 deny;    // 1: there are denied pids
    __u32 sockets; // weir_sockets
    __u32 filter_generation; // changes with every change of filters or exclusions
    __u32 stop_generation;   // changes with every addition to the stopped sockets
    __u32 exclusions;        // 1: there are excluded pairs or listeners
    __u32 own_pid;
    __u32 own_netns;
    __u32 payload_max_bytes;
    __u32 tls_generation; // 0: nobody looks for TLS; changes when another library is looked at
    __u32 memos; // 1: memories of programs are looked for, and will be told
};

struct weir_listener_key {
    __u8 addr[16];
    __u16 port;
    __u16 _pad;
};

struct weir_pair_key {
    __u8 a_addr[16];
    __u8 b_addr[16];
    __u16 a_port;
    __u16 b_port;
};

enum weir_conn_flags {
    WEIR_CONN_TOLD = 1,    // user space has heard of it
    WEIR_CONN_PENDING = 2, // connect has returned, and is not done
    WEIR_CONN_ENDED = 4,   // that its ingress has ended is told
    WEIR_CONN_URING = 8,   // io_uring was seen on it
    WEIR_CONN_ALLOWED = 16, // datagrams of it have passed the ports' filter
    WEIR_CONN_TLS = 32,     // a TLS library uses it
    WEIR_CONN_PLAIN = 64,   // what is said over TLS is told: the socket's own bytes are of no use
    WEIR_CONN_JOINED = 128, // TLS was under way when it was found
    WEIR_CONN_LIKE_TLS = 256, // what it moves looks like TLS
};

// Values of stopped_conns, and weir_conn.stopped.
enum weir_stopped {
    WEIR_STOP_SOCKET = 1, // the socket's own bytes are not wanted
    WEIR_STOP_ALL = 3,    // nor is what is said over TLS
};

struct weir_conn {
    __u64 moved_bytes[2]; // by weir_direction
    __u64 plain_bytes[2]; // said over TLS
    __u64 rust_session;   // of rustls, as it was found last
    __u32 generation;
    __u32 filter_generation; // under which `excluded` and `port_allowed` were found
    __u32 stop_generation;   // under which `stopped` was found
    __u8 excluded;
    __u8 port_allowed;
    __u8 stopped;
    __u8 sequenced; // see programs/syscalls/sequence.h
    __u32 sequence_base[2]; // sequence number of position 0, by weir_direction
    __u32 flags;            // weir_conn_flags
    __u16 tls_generation;   // under which `tls_looks` were counted
    __u16 tls_looks;        // calls that were looked at for TLS
    __u8 memos[2];          // that were copied, by weir_direction
    __u8 memo_is_promised;
    __u8 _pad0;
    __u32 _pad1;
    struct weir_addresses addresses;
};
