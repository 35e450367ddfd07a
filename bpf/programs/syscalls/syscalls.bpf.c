// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Bytes that processes move over sockets, seen at the boundary of their system calls.
//
// All work is done when a call returns: the registers still hold its arguments, so a read costs
// one program run and an unsuccessful one (EAGAIN) next to nothing. Only writes have a program at
// their beginning, which notes the time: on one machine the peer may have read and answered a
// request before the write that sent it returns. So a write is stamped with its beginning, a read
// with its end.
//
// Bytes of sendfile and splice never were in user memory: a gap of known size. Operations of io_uring
// are seen when they complete (uring.h). Bytes that pass by all of this are found by the next call or
// the close, as a gap, too (sequence.h). How connections begin and end is in ends.h.
#include "../../include/weir_kernel.h"
#include "../../include/weir_abi.h"
#include "../../maps/counters.h"
#include "../../maps/events.h"
#include "../../include/weir_task.h"
#include "../../maps/filters.h"
#include "../../maps/conns.h"
#include "../../maps/writes.h"
#include "../../maps/blind.h"
#include "../../maps/losses.h"
#include "../../maps/tls.h"
#include "socket.h"
#include "record.h"
#include "tls_sockets.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define ENTER(name)                                                                                \
    SEC("tracepoint/syscalls/sys_enter_" #name) int enter_##name(struct sys_enter_ctx *ctx)
#define LEAVE(name)                                                                                \
    SEC("tracepoint/syscalls/sys_exit_" #name) int exit_##name(struct sys_exit_ctx *ctx)

// --- when writes begin ---------------------------------------------------------------------------

ENTER(write) {
    begin_write();
    return 0;
}
ENTER(sendto) {
    begin_write();
    return 0;
}
ENTER(writev) {
    begin_write();
    return 0;
}
ENTER(sendmsg) {
    begin_write();
    return 0;
}
ENTER(sendmmsg) {
    begin_write();
    return 0;
}

// --- bytes ---------------------------------------------------------------------------------------

// The call's process and arguments; false if it moved nothing or is not wanted.
static __always_inline bool begin_data(struct call *call, struct call_args *args,
                                       struct sys_exit_ctx *ctx, __u32 direction) {
    if (direction == WEIR_EGRESS)
        call->began_mono_ns = end_write(pid_tgid_of(CURRENT()));
    if (ctx->ret < 0 || (ctx->ret == 0 && direction == WEIR_EGRESS) || !begin(call))
        return false;
    if (call_args(call->task, ctx->id, args))
        return true;
    count(WEIR_COUNT_BAD_REGISTERS, 1);
    return false;
}

// What the socket is called, if it is a Unix one: before the first record of it.
static __noinline void tell_first(struct call *call) {
    call->conn->flags |= WEIR_CONN_TOLD;
    struct weir_slot *s = slot();
    if (!s || call->conn->addresses.family != AF_UNIX)
        return;
    fill_record(call, &s->record, WEIR_UNIX_NAMES, bpf_ktime_get_ns());
    s->record.position_bytes = unix_peer_inode(call->sk);
    deliver(call->cfg, s, read_unix_names(s, call->sk));
}

// A stream whose peer will send no more: a read of it gave nothing.
static __noinline int report_ended(struct call *call) {
    call->conn = bpf_map_lookup_elem(&conns, &call->key);
    if (!call->conn || call->conn->addresses.socket_type != SOCK_STREAM ||
        (call->conn->flags & WEIR_CONN_ENDED) || !(call->conn->flags & WEIR_CONN_TOLD) ||
        !is_wanted(call) || is_silent(call))
        return 0;
    call->conn->flags |= WEIR_CONN_ENDED;
    struct weir_slot *s = slot();
    if (!s)
        return 0;
    fill_record(call, &s->record, WEIR_END, bpf_ktime_get_ns());
    s->record.direction = WEIR_INGRESS;
    s->record.position_bytes =
        call->conn->moved_bytes[WEIR_INGRESS] + unseen_bytes(call, WEIR_INGRESS, 0);
    deliver(call->cfg, s, 0);
    return 0;
}

static __always_inline int ended(struct call *call, __u64 fd) {
    call->fd = (__s32)fd;
    return find_socket(call) ? report_ended(call) : 0;
}

// The socket and its slot, ready for one message or several; 0 if not wanted.
static __always_inline struct weir_slot *find_data(struct call *call, __u64 fd, __u32 direction) {
    call->fd = (__s32)fd;
    if (!find_conn(call))
        return 0;
    if (!(call->conn->flags & WEIR_CONN_TOLD))
        tell_first(call);
    if (call->conn->addresses.socket_type == SOCK_DGRAM)
        read_addresses(call->sk, &call->conn->addresses); // a send binds, connect sets the peer
    struct weir_slot *s = slot();
    if (!s)
        return 0;
    __u64 time_mono_ns = call->began_mono_ns;
    if (!time_mono_ns)
        time_mono_ns = direction == WEIR_EGRESS ? search_write(call->pid_tgid) : bpf_ktime_get_ns();
    fill_record(call, &s->record, WEIR_DATA, time_mono_ns);
    s->record.direction = direction;
    return s;
}

// Count the call's bytes, and those before them that no call has counted.
static __always_inline void advance(struct call *call, struct weir_slot *s, __u32 direction,
                                    __u64 unseen, __u64 bytes) {
    __u64 *moved = &call->conn->moved_bytes[direction];
    s->record.position_bytes = FETCH_ADD(moved, unseen + bytes) + unseen;
    s->record.total_bytes = bytes;
    s->record.unseen_bytes = unseen;
}

// Datagrams are judged one by one, once their peer is known.
static __always_inline bool is_datagram_wanted(struct call *call, struct weir_slot *s,
                                               __u64 name) {
    struct weir_addresses *a = &s->record.addresses;
    if (a->socket_type != SOCK_DGRAM)
        return true;
    if (!a->remote_port)
        set_peer(a, name);
    if (call->match != PROCESS_UNDECIDED)
        return true;
    // Some read without asking who has sent it: then it is judged by what the socket did before.
    if (port_allowed(a)) {
        call->conn->flags |= WEIR_CONN_ALLOWED;
        return true;
    }
    if (!a->remote_port && (call->conn->flags & WEIR_CONN_ALLOWED))
        return true;
    count(WEIR_COUNT_FILTERED, 1);
    return false;
}

// Of long calls less is copied while the ring fills: a message's first and last bytes are worth more
// than the middle of another, and a record that finds no room is a loss.
#define WEIR_SHED_HALF 1024
#define WEIR_SHED_MOST 256

static __always_inline __u64 payload_want(struct call *call, __u64 moved) {
    __u64 max = call->cfg->payload_max_bytes;
    __u64 want = moved < max ? moved : max;
    if (want <= WEIR_SHED_MOST)
        return want;
    __u64 fill = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
    __u64 quarter = call->cfg->wake_bytes;
    __u64 room = fill >= 3 * quarter ? WEIR_SHED_MOST : WEIR_SHED_HALF;
    if (fill < 2 * quarter || want <= room)
        return want;
    count(WEIR_COUNT_SHED_CALLS, 1);
    return room;
}

// A stream's MSG_TRUNC throws the bytes away unread; a datagram's returns its full length.
static __always_inline bool reads_nothing(struct weir_slot *s, __u64 flags) {
    return (flags & MSG_TRUNC) && s->record.addresses.socket_type == SOCK_STREAM &&
           s->record.addresses.family != AF_UNIX;
}

static __always_inline int one_buffer(struct sys_exit_ctx *ctx, __u32 direction, bool has_flags) {
    struct call call = {};
    struct call_args args;
    if (!begin_data(&call, &args, ctx, direction))
        return 0;
    __u64 flags = has_flags ? args.a[3] : 0;
    if (direction == WEIR_INGRESS && (flags & (MSG_PEEK | MSG_ERRQUEUE)))
        return 0;
    if (direction == WEIR_INGRESS && ctx->ret == 0)
        return args.a[2] ? ended(&call, args.a[0]) : 0;
    struct weir_slot *s = find_data(&call, args.a[0], direction);
    if (!s || !is_datagram_wanted(&call, s, has_flags ? args.a[4] : 0))
        return 0;
    __u64 moved = ctx->ret;
    advance(&call, s, direction, unseen_bytes(&call, direction, moved), moved);
    if (tls_is_looked_for(&call))
        tls_saw(&call, direction, args.a[1]);
    if (is_stopped(&call)) {
        count(WEIR_COUNT_STOPPED_BYTES, moved);
        return 0;
    }
    if (direction == WEIR_INGRESS && reads_nothing(s, flags)) {
        s->record.kind = WEIR_GAP;
        deliver(call.cfg, s, 0);
        return 0;
    }
    // A datagram's length may be more than there was room for.
    __u64 there = moved < args.a[2] ? moved : args.a[2];
    deliver(call.cfg, s, gather_buffer(s, args.a[1], there, payload_want(&call, there)));
    return 0;
}

LEAVE(read) { return one_buffer(ctx, WEIR_INGRESS, false); }
LEAVE(write) { return one_buffer(ctx, WEIR_EGRESS, false); }
LEAVE(recvfrom) { return one_buffer(ctx, WEIR_INGRESS, true); }
LEAVE(sendto) { return one_buffer(ctx, WEIR_EGRESS, true); }

static __always_inline int iovecs(struct sys_exit_ctx *ctx, __u32 direction) {
    struct call call = {};
    struct call_args args;
    if (!begin_data(&call, &args, ctx, direction))
        return 0;
    if (direction == WEIR_INGRESS && ctx->ret == 0)
        return args.a[2] ? ended(&call, args.a[0]) : 0;
    struct weir_slot *s = find_data(&call, args.a[0], direction);
    if (!s || !is_datagram_wanted(&call, s, 0))
        return 0;
    __u64 moved = ctx->ret;
    advance(&call, s, direction, unseen_bytes(&call, direction, moved), moved);
    tls_saw_iovecs(&call, direction, args.a[1]);
    if (is_stopped(&call)) {
        count(WEIR_COUNT_STOPPED_BYTES, moved);
        return 0;
    }
    deliver(call.cfg, s, gather_iovecs(args.a[1], args.a[2], moved, payload_want(&call, moved)));
    return 0;
}

LEAVE(readv) { return iovecs(ctx, WEIR_INGRESS); }
LEAVE(writev) { return iovecs(ctx, WEIR_EGRESS); }

static __always_inline void one_message(struct call *call, struct weir_slot *s, __u32 direction,
                                        const struct user_msghdr *header, __u64 unseen,
                                        __u64 moved, __u64 flags) {
    if (!is_datagram_wanted(call, s, header->name))
        return;
    advance(call, s, direction, unseen, moved);
    tls_saw_iovecs(call, direction, header->iov);
    if (is_stopped(call)) {
        count(WEIR_COUNT_STOPPED_BYTES, moved);
        return;
    }
    if (direction == WEIR_INGRESS && reads_nothing(s, flags)) {
        s->record.kind = WEIR_GAP;
        deliver(call->cfg, s, 0);
        return;
    }
    __u64 want = payload_want(call, moved);
    s->record.tail_bytes = 0; // not of the message before
    deliver(call->cfg, s, gather_iovecs(header->iov, header->iov_count, moved, want));
}

static __always_inline int message(struct sys_exit_ctx *ctx, __u32 direction) {
    struct call call = {};
    struct call_args args;
    if (!begin_data(&call, &args, ctx, direction))
        return 0;
    if (direction == WEIR_INGRESS && (args.a[2] & (MSG_PEEK | MSG_ERRQUEUE)))
        return 0;
    if (direction == WEIR_INGRESS && ctx->ret == 0)
        return ended(&call, args.a[0]);
    struct weir_slot *s = find_data(&call, args.a[0], direction);
    if (!s)
        return 0;
    struct user_msghdr header = {};
    if (bpf_probe_read_user(&header, sizeof(header), (void *)args.a[1]))
        count(WEIR_COUNT_FAULTS, 1); // no buffers then: a record without payload
    __u64 unseen = unseen_bytes(&call, direction, ctx->ret);
    one_message(&call, s, direction, &header, unseen, ctx->ret, args.a[2]);
    return 0;
}

LEAVE(recvmsg) { return message(ctx, WEIR_INGRESS); }
LEAVE(sendmsg) { return message(ctx, WEIR_EGRESS); }

#define WEIR_UIO_MAXIOV 1024

struct counting {
    __u64 at;
    __u64 total;
    __u64 bytes;
};

BODY count_message(__u64 turn, void *context) {
    struct counting *all = context;
    struct user_mmsghdr *m = (void *)(all->at + turn * sizeof(*m));
    __u32 one = 0;
    if (turn >= all->total || bpf_probe_read_user(&one, sizeof(one), &m->bytes))
        return 1;
    all->bytes += one;
    return 0;
}

// Bytes of all messages of a call, also of those that are not looked at: the socket has counted
// them. Global, so that the verifier takes it apart once.
__attribute__((noinline)) __u64 messages_bytes(__u64 at, __u64 total) {
    struct counting all = {at, total, 0};
    EACH(WEIR_UIO_MAXIOV, count_message, &all);
    return all.bytes;
}

// The messages of a call, one after another.
struct telling {
    struct call *call;
    struct weir_slot *slot;
    __u64 at;
    __u64 total;
    __u64 unseen;
    __u64 flags;
    __u32 direction;
    __u32 is_faulty;
};

BODY tell_message(__u64 turn, void *context) {
    struct telling *all = context;
    struct call *call = all->call;
    struct weir_slot *s = all->slot;
    struct user_mmsghdr m;
    if (turn >= all->total)
        return 1;
    if (bpf_probe_read_user(&m, sizeof(m), (void *)(all->at + turn * sizeof(m)))) {
        count(WEIR_COUNT_FAULTS, 1);
        all->is_faulty = 1;
        return 1;
    }
    if (s->record.addresses.socket_type == SOCK_DGRAM)
        s->record.addresses = call->conn->addresses; // not the peer of the message before
    // It is one of two, which the verifier cannot know of what it reads back.
    one_message(call, s, all->direction & 1, &m.header, all->unseen, m.bytes, all->flags);
    all->unseen = 0;
    return 0;
}

static __always_inline int messages(struct sys_exit_ctx *ctx, __u32 direction) {
    struct call call = {};
    struct call_args args;
    if (!begin_data(&call, &args, ctx, direction))
        return 0;
    if (direction == WEIR_INGRESS && (ctx->ret == 0 || (args.a[3] & (MSG_PEEK | MSG_ERRQUEUE))))
        return 0;
    struct weir_slot *s = find_data(&call, args.a[0], direction);
    if (!s)
        return 0;
    __u64 total = ctx->ret;
    __u64 unseen = 0;
    if (call.conn->sequenced)
        unseen = unseen_bytes(&call, direction, messages_bytes(args.a[1], total));
    struct telling all = {&call, s, args.a[1], total, unseen, args.a[3], direction, 0};
    EACH(WEIR_MESSAGES_MAX, tell_message, &all);
    if (all.is_faulty || total <= WEIR_MESSAGES_MAX)
        return 0;
    note_loss(&call.key, call.conn->generation, call.conn->addresses.socket_type,
              WEIR_LOST_MESSAGES, total - WEIR_MESSAGES_MAX);
    count(WEIR_COUNT_SKIPPED_MESSAGES, total - WEIR_MESSAGES_MAX);
    if (s->record.addresses.socket_type == SOCK_DGRAM)
        count(WEIR_COUNT_SKIPPED_DATAGRAMS, total - WEIR_MESSAGES_MAX);
    return 0;
}

LEAVE(recvmmsg) { return messages(ctx, WEIR_INGRESS); }
LEAVE(sendmmsg) { return messages(ctx, WEIR_EGRESS); }

// --- bytes that pass user memory by --------------------------------------------------------------

static __always_inline int bypass(struct sys_exit_ctx *ctx, __u32 fd_argument, __u32 direction) {
    struct call call = {};
    struct call_args args;
    if (ctx->ret <= 0 || !begin(&call))
        return 0;
    if (!call_args(call.task, ctx->id, &args)) {
        count(WEIR_COUNT_BAD_REGISTERS, 1);
        return 0;
    }
    call.fd = (__s32)args.a[fd_argument];
    if (!find_conn(&call))
        return 0;
    if (!(call.conn->flags & WEIR_CONN_TOLD))
        tell_first(&call);
    struct weir_slot *s = slot();
    if (!s)
        return 0;
    fill_record(&call, &s->record, WEIR_GAP, bpf_ktime_get_ns());
    s->record.direction = direction;
    advance(&call, s, direction, unseen_bytes(&call, direction, ctx->ret), ctx->ret);
    if (is_stopped(&call)) {
        count(WEIR_COUNT_STOPPED_BYTES, ctx->ret);
        return 0;
    }
    deliver(call.cfg, s, 0);
    return 0;
}

LEAVE(sendfile64) { return bypass(ctx, 0, WEIR_EGRESS); }
LEAVE(splice) {
    bypass(ctx, 0, WEIR_INGRESS);
    return bypass(ctx, 2, WEIR_EGRESS);
}

#include "ends.h"
#include "tls.h"
#include "tls_go.h"
#include "tls_go_fields.h"
#include "tls_rust.h"
#include "uring.h"
