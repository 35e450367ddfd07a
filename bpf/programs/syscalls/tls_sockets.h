// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Which socket a TLS library's connection goes over, seen from the socket's calls.
//
// A library that does its own system calls does them within a call to it, on the same thread: that
// socket is the session's. Programs that move TLS's bytes themselves (memory BIOs: Node.js, asyncio,
// Netty) read from the socket just before they give the bytes to the library, and write just after
// they took them: the socket of the thread's last read, or of its next write, is the session's,
// once. A socket counts only if what it moves looks like TLS, and is never another session's.
#pragma once

// Calls after which a socket that does not look like TLS is left alone. STARTTLS comes early.
#define WEIR_TLS_LOOKS_MAX 64

#define TLS_RECORD_FIRST 0x14 // change_cipher_spec, alert, handshake, application data
#define TLS_RECORD_HANDSHAKE 0x16
#define TLS_RECORD_LAST 0x17

static __always_inline bool tls_is_looked_for(struct call *call) {
    struct weir_conn *conn = call->conn;
    __u32 generation = call->cfg->tls_generation;
    if (!generation || conn->addresses.socket_type != SOCK_STREAM)
        return false;
    if (conn->flags & WEIR_CONN_TLS)
        return true;
    if (conn->tls_generation != (__u16)generation) {
        conn->tls_generation = (__u16)generation;
        conn->tls_looks = 0;
    }
    if (conn->tls_looks >= WEIR_TLS_LOOKS_MAX)
        return false;
    conn->tls_looks += 1;
    return true;
}

// The first bytes that look like TLS: of a handshake, or TLS was under way.
static __always_inline void tls_like(struct weir_conn *conn, __u8 record) {
    if (!(conn->flags & WEIR_CONN_LIKE_TLS) && record != TLS_RECORD_HANDSHAKE)
        conn->flags |= WEIR_CONN_JOINED;
    conn->flags |= WEIR_CONN_LIKE_TLS;
}

static __noinline void tls_match(__u64 session, __u64 pid_tgid, const struct weir_conn_key *conn,
                                 __s32 fd) {
    struct weir_tls_key key = { .session = session, .pid = pid_tgid >> 32 };
    struct weir_tls_conn value = { .conn = *conn, .fd = fd };
    bpf_map_update_elem(&tls_conns, &key, &value, BPF_ANY);
}

// A socket has moved bytes that begin in this buffer.
static __noinline void tls_saw(struct call *call, __u32 direction, __u64 buffer) {
    struct weir_conn *conn = call->conn;
    bool known = conn->flags & WEIR_CONN_TLS;
    bool alike = conn->flags & (WEIR_CONN_TLS | WEIR_CONN_LIKE_TLS);
    // The head of a record, and then whose call it is: a word less of a stack that is full.
    __u64 word = 0;
    __u8 *head = (void *)&word;
    // Of what has begun as TLS the rest of a record is read on its own, too.
    if (!alike && (bpf_probe_read_user(head, 3, (void *)buffer) ||
                   head[0] < TLS_RECORD_FIRST || head[0] > TLS_RECORD_LAST || head[1] != 3 ||
                   head[2] > 4))
        return;
    if (!alike)
        tls_like(conn, head[0]);
    word = call->pid_tgid;
    struct weir_tls_call *now = bpf_map_lookup_elem(&tls_calls, &word);
    if (now && direction == WEIR_INGRESS) {
        now->last = call->key;
        now->last_fd = call->fd;
    }
    if (now && now->session) {
        now->conn = call->key;
        now->fd = call->fd;
        now->nested = 1;
        conn->flags |= WEIR_CONN_TLS;
        return;
    }
    if (direction == WEIR_EGRESS) {
        if (known || !now || !now->waiting)
            return;
        tls_match(now->waiting, word, &call->key, call->fd);
        conn->flags |= WEIR_CONN_TLS;
        now->waiting = 0;
        return;
    }
    if (!now) {
        struct weir_tls_call fresh = { .last = call->key, .last_fd = call->fd };
        if (!known) {
            fresh.read = call->key;
            fresh.read_fd = call->fd;
        }
        bpf_map_update_elem(&tls_calls, &word, &fresh, BPF_ANY);
        return;
    }
    if (known)
        return;
    now->read = call->key;
    now->read_fd = call->fd;
}

static __always_inline void tls_saw_iovecs(struct call *call, __u32 direction, __u64 iov) {
    __u64 buffer = 0;
    if (tls_is_looked_for(call) && !bpf_probe_read_user(&buffer, sizeof(buffer), (void *)iov))
        tls_saw(call, direction, buffer);
}
