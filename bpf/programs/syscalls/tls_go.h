// SPDX-License-Identifier: MIT OR GPL-2.0-only
// What Go programs say over crypto/tls, seen at (*tls.Conn).Read and Write.
//
// Never by return probes: Go moves its stacks, and ends a program that has a strange return address. One
// program runs where the function begins, one at each of its return instructions. Goroutines move between
// threads, so a call is found again by its goroutine (the register that Go keeps it in, from 1.18 on). A
// stack that grows has the function begin twice: the second time stands.
//
// Who reads a connection waits in Read nearly always, so also when Weir comes. The arguments of a call whose
// beginning nobody saw are where Go keeps them as long as it runs: behind the return address, in order. They are
// taken from there if they fit: a buffer with room for the result, and a connection whose socket moves TLS.
//
// The socket is found by the descriptor that the connection holds: tls.Conn begins with its net.Conn, an
// interface; that of a *net.TCPConn or *net.UnixConn leads to a netFD, which begins with a poll.FD. Of
// another net.Conn what is there is no descriptor of a socket that moves TLS, or the wrong one's at worst
// with a chance that nobody has seen. It is looked for where the call begins: while that goes on another
// goroutine may close the connection, and what was said before is told all the same.
#pragma once

// poll.FD.Sysfd, behind the mutex.
#define GO_SYSFD_AT 16

struct weir_go_key {
    __u64 goroutine;
    __u64 pid;
};

struct weir_go_call {
    __u64 conn;
    __u64 buffer;
    __u64 began_mono_ns;
    struct weir_conn_key socket; // 0: not known when it began
    __u32 generation;
    __s32 fd;
};

// After its close a socket is remembered in user space for a moment (REORDER_GRACE_NS); here for less.
#define GO_CLOSED_NS 50000000

// The least recently used are forgotten: what such a call says is lost.
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 16384);
    __type(key, struct weir_go_key);
    __type(value, struct weir_go_call);
} go_calls SEC(".maps");

// A call's socket as it was when that began.
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 16384);
    __type(key, struct weir_go_key);
    __type(value, struct weir_conn);
} go_sockets SEC(".maps");

// The descriptor below a *tls.Conn, or -1.
static __always_inline __s32 go_descriptor(__u64 conn) {
    __u64 net_conn = 0, net_fd = 0, fd = 0;
    // An interface: its type, then its value.
    if (bpf_probe_read_user(&net_conn, 8, (void *)(conn + 8)) || !net_conn ||
        bpf_probe_read_user(&net_fd, 8, (void *)net_conn) || !net_fd ||
        bpf_probe_read_user(&fd, 8, (void *)(net_fd + GO_SYSFD_AT)) || fd > 0x7fffffff)
        return -1;
    return (__s32)fd;
}

// The call's socket, if it is known to move TLS.
static __noinline void go_find_socket(struct call *call, struct weir_go_call *go,
                                      struct weir_go_key *key) {
    call->fd = go_descriptor(go->conn);
    if (call->fd < 0 || !find_socket(call))
        return;
    call->conn = bpf_map_lookup_elem(&conns, &call->key);
    if (!call->conn || !(call->conn->flags & (WEIR_CONN_LIKE_TLS | WEIR_CONN_TLS)))
        return;
    go->socket = call->key;
    go->generation = call->conn->generation;
    go->fd = call->fd;
    bpf_map_update_elem(&go_sockets, key, call->conn, BPF_ANY);
}

SEC("uprobe") int go_begin(struct probe_ctx *ctx) {
    struct call call = { .cfg = configured() };
    if (!call.cfg)
        return 0;
    struct weir_go_key key = { .goroutine = GOROUTINE(ctx) };
    call.pid_tgid = bpf_get_current_pid_tgid();
    key.pid = call.pid_tgid >> 32;
    call.match = process_match(call.cfg, key.pid);
    if (call.match == PROCESS_REJECTED)
        return 0;
    struct weir_go_call go = { .conn = GO_ARGUMENT_1(ctx), .buffer = GO_ARGUMENT_2(ctx) };
    call.task = CURRENT();
    go_find_socket(&call, &go, &key);
    go.began_mono_ns = bpf_ktime_get_ns();
    bpf_map_update_elem(&go_calls, &key, &go, BPF_ANY);
    return 0;
}

// The socket of a call that began on it. False: it was closed, too long ago.
static __noinline bool go_began_on(struct call *call, struct weir_go_call *go, struct weir_go_key *key,
                                   __u64 moved) {
    call->key = go->socket;
    call->fd = go->fd;
    call->conn = bpf_map_lookup_elem(&conns, &call->key);
    if (call->conn)
        return true;
    call->conn = bpf_map_lookup_elem(&go_sockets, key);
    __u64 took_ns = bpf_ktime_get_ns() - go->began_mono_ns;
    if (call->conn && (took_ns < GO_CLOSED_NS || !is_wanted(call)))
        return true;
    note_loss(&call->key, go->generation, SOCK_STREAM, WEIR_LOST_RECORDS, 1);
    count(WEIR_COUNT_LOST_RECORDS, 1);
    count(WEIR_COUNT_LOST_BYTES, moved);
    return false;
}

// The call that ends at this return instruction, as far as its stack tells. False: it does not.
static __always_inline bool go_kept_call(struct probe_ctx *ctx, __s64 moved, struct weir_go_call *to) {
    // The connection, then the buffer's address and length.
    __u64 kept[3] = {};
    if (bpf_probe_read_user(kept, sizeof(kept), (void *)(ctx->sp + 8)) || kept[2] < (__u64)moved)
        return false;
    to->conn = kept[0];
    to->buffer = kept[1];
    to->began_mono_ns = bpf_ktime_get_ns();
    return true;
}

// User space is told once that what the program remembers of what it has read will follow: then it waits.
static __noinline void go_promise(struct call *call) {
    __u32 index = 0;
    struct weir_tls_slot *taken = take_tls_slot(&index);
    if (!taken)
        return;
    call->conn->memo_is_promised = 1;
    fill_record(call, &taken->slot.record, WEIR_MEMO, bpf_ktime_get_ns());
    taken->slot.record.direction = WEIR_INGRESS;
    taken->slot.record.flags = WEIR_JOINED;
    deliver(call->cfg, &taken->slot, 0);
    give_tls_slot(taken);
}

static __noinline void go_memo(struct call *call, __u64 goroutine, __u64 conn, __u32 direction,
                               __u64 bytes);

// http2's buffers; one that is full is written before what comes next, and that is encoded already.
#define GO_BUFFER_BYTES 4096

static __noinline void go_forget(__u64 goroutine, __u32 direction);

// What programs remember of older connections is looked for (tls_go_fields.h).
static __always_inline void go_remembers(struct call *call, __u32 direction, __u64 goroutine,
                                         __u64 conn, __u64 moved) {
    if (!call->cfg->memos || !(call->conn->flags & WEIR_CONN_JOINED) ||
        call->conn->stopped == WEIR_STOP_ALL)
        return;
    if (direction == WEIR_INGRESS && !call->conn->memo_is_promised)
        go_promise(call);
    if (direction == WEIR_EGRESS && moved % GO_BUFFER_BYTES)
        go_memo(call, goroutine, conn, WEIR_EGRESS, moved);
}

static __always_inline int go_end(struct probe_ctx *ctx, __u32 direction) {
    struct weir_go_key key = { .goroutine = GOROUTINE(ctx) };
    __u64 id = bpf_get_current_pid_tgid();
    key.pid = id >> 32;
    struct call call = { .cfg = configured() };
    if (!call.cfg)
        return 0;
    call.match = process_match(call.cfg, key.pid);
    if (call.match == PROCESS_REJECTED)
        return 0;
    __s64 moved = (__s64)GO_RESULT_1(ctx);
    struct weir_go_call go = {};
    struct weir_go_call *began = bpf_map_lookup_elem(&go_calls, &key);
    if (began) {
        go = *began;
        bpf_map_delete_elem(&go_calls, &key);
    }
    if (moved <= 0) {
        if (call.cfg->memos)
            go_forget(key.goroutine, direction);
        return 0;
    }
    call.pid_tgid = id;
    call.task = CURRENT();
    if (go.socket.sock) {
        if (!go_began_on(&call, &go, &key, moved))
            return 0;
    } else {
        call.fd = began || go_kept_call(ctx, moved, &go) ? go_descriptor(go.conn) : -1;
        if (call.fd >= 0 && find_socket(&call))
            call.conn = bpf_map_lookup_elem(&conns, &call.key);
    }
    call.began_mono_ns = go.began_mono_ns;
    if (!call.conn || !(call.conn->flags & (WEIR_CONN_LIKE_TLS | WEIR_CONN_TLS))) {
        if (call.match == PROCESS_WANTED) {
            count(WEIR_COUNT_TLS_UNMATCHED_BYTES, moved);
            note_blind(id >> 32, WEIR_BLIND_TLS, moved);
        }
        return 0;
    }
    call.conn->flags |= WEIR_CONN_TLS;
    if (!is_wanted(&call))
        return 0;
    go_remembers(&call, direction, key.goroutine, go.conn, moved);
    tls_tell(&call, direction, go.buffer, moved);
    return 0;
}

SEC("uprobe") int go_read(struct probe_ctx *ctx) { return go_end(ctx, WEIR_INGRESS); }
SEC("uprobe") int go_write(struct probe_ctx *ctx) { return go_end(ctx, WEIR_EGRESS); }
