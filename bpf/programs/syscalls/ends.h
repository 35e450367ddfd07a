// SPDX-License-Identifier: MIT OR GPL-2.0-only
// How connections begin and end: by calls, and as the kernel tells it of sockets whatever made them end.
#pragma once

// --- opening and closing -------------------------------------------------------------------------

// A descriptor or, for io_uring, a file has become a connection, or is to become one.
static __always_inline int report_opened(struct call *call, __u32 kind, __s64 result, __u64 name) {
    if (LOAD(struct sock, call->sk, sk_type) != SOCK_STREAM)
        return 0; // connect merely sets a datagram socket's peer
    call->conn = enter_conn(call->cfg, call->sk, &call->key,
                            kind == WEIR_CONNECT ? WEIR_OPENED_CONNECT : WEIR_OPENED_ACCEPT, name);
    if (!call->conn)
        return 0;
    if (!is_wanted(call) || is_stopped(call))
        return 0;
    struct sock *sk = call->sk;
    if (result == -EINPROGRESS) {
        // On one machine it is often done by now.
        __u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);
        if (state == TCP_SYN_SENT)
            call->conn->flags |= WEIR_CONN_PENDING;
        else
            result = state == TCP_CLOSE ? -BPF_CORE_READ(sk, sk_err) : 0;
    }
    tell_first(call);
    struct weir_slot *s = slot();
    if (!s)
        return 0;
    fill_record(call, &s->record, kind, bpf_ktime_get_ns());
    s->record.result = kind == WEIR_CONNECT ? result : 0;
    deliver(call->cfg, s, 0);
    return 0;
}

static __always_inline int opened(struct sys_exit_ctx *ctx, __u32 kind) {
    struct call call = {};
    if (kind == WEIR_CONNECT && (ctx->ret == -EALREADY || ctx->ret == -EISCONN))
        return 0;
    if (!begin(&call))
        return 0;
    __u64 name = 0;
    if (kind == WEIR_CONNECT) {
        struct call_args args;
        if (!call_args(call.task, ctx->id, &args)) {
            count(WEIR_COUNT_BAD_REGISTERS, 1);
            return 0;
        }
        call.fd = (__s32)args.a[0];
        name = args.a[1]; // a failed connect has wiped the address from the socket
    } else {
        call.fd = (__s32)ctx->ret;
    }
    return find_socket(&call) ? report_opened(&call, kind, ctx->ret, name) : 0;
}

LEAVE(connect) { return opened(ctx, WEIR_CONNECT); }
LEAVE(accept) { return ctx->ret < 0 ? 0 : opened(ctx, WEIR_ACCEPT); }
LEAVE(accept4) { return ctx->ret < 0 ? 0 : opened(ctx, WEIR_ACCEPT); }

// The socket is given up by a process, or by the last one that held it.
static __always_inline void report_closed(struct call *call, bool last) {
    struct weir_slot *s = slot();
    if (!s)
        return;
    fill_record(call, &s->record, WEIR_CLOSE, bpf_ktime_get_ns());
    s->record.flags = last ? WEIR_LAST_REFERENCE : 0;
    s->record.position_bytes = call->conn->moved_bytes[WEIR_EGRESS];
    s->record.total_bytes = call->conn->moved_bytes[WEIR_INGRESS];
    // One that was disconnected has other numbers, and no peer.
    struct sock *sk = call->sk;
    if (last && BPF_CORE_READ(sk, __sk_common.skc_dport)) {
        s->record.position_bytes += unseen_bytes(call, WEIR_EGRESS, 0);
        s->record.total_bytes += unseen_bytes(call, WEIR_INGRESS, 0);
    }
    deliver(call->cfg, s, 0);
}

// At its beginning, when the descriptor still leads to the socket. A socket that no call was seen
// on is nobody's connection: its close is not reported.
ENTER(close) {
    struct call call = {};
    if (!begin(&call))
        return 0;
    call.fd = (__s32)ctx->args[0];
    struct file *file = file_of(call.task, call.fd);
    if (!take_socket(&call, file))
        return 0;
    call.conn = bpf_map_lookup_elem(&conns, &call.key);
    if (!call.conn)
        return 0;
    bool last = is_last_reference(file);
    if (is_wanted(&call))
        report_closed(&call, last);
    if (last)
        forget(&call.key);
    return 0;
}

// One direction of two ends: its peer reads the end of the stream.
LEAVE(shutdown) {
    struct call call = {};
    struct call_args args;
    if (ctx->ret != 0 || !begin(&call) || !call_args(call.task, ctx->id, &args) ||
        args.a[1] == SHUT_RD)
        return 0;
    call.fd = (__s32)args.a[0];
    if (!find_socket(&call))
        return 0;
    call.conn = bpf_map_lookup_elem(&conns, &call.key);
    if (!call.conn || !(call.conn->flags & WEIR_CONN_TOLD) || !is_wanted(&call) ||
        is_silent(&call))
        return 0;
    struct weir_slot *s = slot();
    if (!s)
        return 0;
    fill_record(&call, &s->record, WEIR_END, bpf_ktime_get_ns());
    s->record.direction = WEIR_EGRESS;
    s->record.position_bytes =
        call.conn->moved_bytes[WEIR_EGRESS] + unseen_bytes(&call, WEIR_EGRESS, 0);
    deliver(call.cfg, s, 0);
    return 0;
}

// --- what the kernel says of sockets -------------------------------------------------------------

// Bytes that a TCP socket has moved in all, as TCP itself counts them.
static __always_inline __u64 tcp_bytes(struct sock *sk) {
    struct tcp_sock *tcp = (void *)sk;
    return BPF_CORE_READ(tcp, bytes_received) + BPF_CORE_READ(tcp, bytes_sent) -
           BPF_CORE_READ(tcp, bytes_retrans);
}

// Whether a socket that no call was seen on would be captured: filters hold for what is only counted, too.
static __always_inline bool is_followed(struct call *call, __u16 local_port) {
    enum process_match match = process_match(call->cfg, call->pid_tgid >> 32);
    if (match != PROCESS_UNDECIDED)
        return match == PROCESS_WANTED;
    struct sock *sk = call->sk; // what is read of `call` itself is no field of the kernel's
    struct weir_addresses ports = { .local_port = local_port };
    ports.remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
    return port_allowed(&ports);
}

// A socket that nobody holds any more, however its last descriptor was closed: by close, exec, dup2,
// close_range, the end of a process. What runs here is the process that held it last.
static __always_inline void released(struct call *call, __s32 old_state, __u16 local_port) {
    call->pid_tgid = pid_tgid_of(call->task);
    call->conn = bpf_map_lookup_elem(&conns, &call->key);
    if (!call->conn) {
        bool was_open = old_state != TCP_SYN_SENT && old_state != TCP_LISTEN &&
                        old_state != TCP_SYN_RECV;
        if (was_open && is_compat(call->task) && is_followed(call, local_port)) {
            __u64 bytes = tcp_bytes(call->sk);
            count(WEIR_COUNT_COMPAT_SOCKETS, 1);
            count(WEIR_COUNT_COMPAT_BYTES, bytes);
            note_blind(call->pid_tgid >> 32, WEIR_BLIND_COMPAT, bytes);
        }
        return;
    }
    if (call->conn->flags & WEIR_CONN_TOLD)
        report_closed(call, true);
    forget(&call->key);
}

// A connect that had returned before it was done is done, or has failed. Whatever runs here need
// not have anything to do with it.
static __always_inline void settled(struct call *call, __s32 result) {
    call->conn = bpf_map_lookup_elem(&conns, &call->key);
    if (!call->conn || !(call->conn->flags & WEIR_CONN_PENDING))
        return;
    call->conn->flags &= ~WEIR_CONN_PENDING;
    read_addresses(call->sk, &call->conn->addresses); // it may have been bound since
    struct weir_slot *s = slot();
    if (!s)
        return;
    fill_record(call, &s->record, WEIR_CONNECT, bpf_ktime_get_ns());
    s->record.pid = s->record.tid = 0;
    s->record.start_boottime_ns = s->record.cgroup_id = 0;
    s->record.result = result;
    deliver(call->cfg, s, 0);
}

SEC("tracepoint/sock/inet_sock_set_state") int sock_state(struct set_state_ctx *ctx) {
    __s32 old_state = ctx->old_state, new_state = ctx->new_state;
    if (new_state == TCP_SYN_SENT || new_state == TCP_SYN_RECV || new_state == TCP_LISTEN)
        return 0;
    if (new_state == TCP_ESTABLISHED && old_state != TCP_SYN_SENT)
        return 0;
    struct call call = { .cfg = configured(), .fd = -1 };
    if (!call.cfg)
        return 0;
    struct sock *sk = ctx->sk;
    struct socket *socket = BPF_CORE_READ(sk, sk_socket);
    if (!socket || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
        return 0; // nobody's yet, or nobody's any more
    struct file *file = BPF_CORE_READ(socket, file);
    if (!file)
        return 0;
    call.task = CURRENT();
    call.sk = sk;
    call.key.sock = (__u64)sk;
    struct socket_alloc *alloc = (void *)socket;
    call.key.inode = BPF_CORE_READ(alloc, vfs_inode.i_ino);
    if (is_dead(file))
        released(&call, old_state, ctx->local_port);
    else if (old_state == TCP_SYN_SENT && new_state == TCP_ESTABLISHED)
        settled(&call, 0);
    else if (old_state == TCP_SYN_SENT && new_state == TCP_CLOSE)
        settled(&call, -BPF_CORE_READ(sk, sk_err));
    return 0;
}

// Run by user space alone: whether anybody still holds this socket. A freed one's memory may be
// anything by now, so all that it says is compared.
SEC("raw_tracepoint/weir_is_open") int is_open(struct raw_ctx *ctx) {
    struct weir_conn_key key = { .sock = ctx->args[0], .inode = ctx->args[1] };
    struct sock *sk = (void *)key.sock;
    struct socket *socket = BPF_CORE_READ(sk, sk_socket);
    struct socket_alloc *alloc = (void *)socket;
    struct file *file = BPF_CORE_READ(socket, file);
    if (socket && file && BPF_CORE_READ(socket, sk) == sk &&
        BPF_CORE_READ(alloc, vfs_inode.i_ino) == key.inode && !is_dead(file))
        return 1;
    forget(&key);
    return 0;
}
