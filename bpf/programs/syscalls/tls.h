// SPDX-License-Identifier: MIT OR GPL-2.0-only
// What programs say over TLS, seen at the calls of their TLS library.
//
// One program runs where such a call begins and notes its arguments; one where it returns copies the
// bytes. The functions of OpenSSL (BoringSSL, LibreSSL, wolfSSL) and GnuTLS have the same form:
//   result = read(session, buffer, room)              bytes, or not positive
//   result = read_ex(session, buffer, room, &bytes)   1, or not
// Bytes become records of the socket that the session goes over (tls_sockets.h), with positions of
// their own: from then on the socket's own bytes are only counted.
#pragma once

// A call begins, whichever it is.
SEC("uprobe") int tls_begin(struct probe_ctx *ctx) {
    const struct weir_config *cfg = configured();
    if (!cfg)
        return 0;
    __u64 id = bpf_get_current_pid_tgid();
    if (process_match(cfg, id >> 32) == PROCESS_REJECTED)
        return 0;
    struct weir_tls_call *now = bpf_map_lookup_elem(&tls_calls, &id);
    if (!now) {
        struct weir_tls_call fresh = {};
        bpf_map_update_elem(&tls_calls, &id, &fresh, BPF_ANY);
        now = bpf_map_lookup_elem(&tls_calls, &id);
        if (!now)
            return 0;
    }
    __u64 session = ARGUMENT_1(ctx), stack = ctx->sp;
    // Some functions are made of others: the outer one counts. What a call that never returned (longjmp)
    // has left is not taken for that: it would have to be further up the stack.
    if (now->session == session && now->stack > stack)
        return 0;
    now->buffer = ARGUMENT_2(ctx);
    now->length_at = ARGUMENT_4(ctx);
    now->stack = stack;
    now->began_mono_ns = bpf_ktime_get_ns();
    now->nested = 0;
    now->session = session;
    return 0;
}

enum tls_result { TLS_NOTHING, TLS_BYTES, TLS_ONE };

// The socket of the session: of this call, or as it was found before, or found now.
static __always_inline bool tls_socket(struct weir_tls_call *now, __u64 id, bool takes,
                                       struct weir_tls_conn *to) {
    struct weir_tls_key key = { .session = now->session, .pid = id >> 32 };
    struct weir_tls_conn *known = bpf_map_lookup_elem(&tls_conns, &key);
    if (now->nested) {
        to->conn = now->conn;
        to->fd = now->fd;
        if (!known || known->conn.sock != to->conn.sock || known->conn.inode != to->conn.inode)
            bpf_map_update_elem(&tls_conns, &key, to, BPF_ANY);
        return true;
    }
    if (known && bpf_map_lookup_elem(&conns, &known->conn)) {
        *to = *known;
        return true;
    }
    now->waiting = now->session;
    if (!takes || !now->read.sock)
        return false;
    to->conn = now->read;
    to->fd = now->read_fd;
    now->read.sock = 0;
    struct weir_conn *conn = bpf_map_lookup_elem(&conns, &to->conn);
    if (!conn || (conn->flags & WEIR_CONN_TLS))
        return false; // another session's
    conn->flags |= WEIR_CONN_TLS;
    bpf_map_update_elem(&tls_conns, &key, to, BPF_ANY);
    now->waiting = 0;
    return true;
}

static __always_inline void tls_copy(struct weir_slot *s, __u64 buffer, __u64 moved, __u64 want) {
    __u64 bytes = want;
    barrier_var(bytes);
    if (bytes > WEIR_PAYLOAD_MAX)
        bytes = WEIR_PAYLOAD_MAX;
    s->record.payload_bytes = 0;
    if (!buffer || bpf_probe_read_user(s->payload, bytes, (void *)buffer)) {
        count(WEIR_COUNT_FAULTS, buffer != 0);
        return;
    }
    s->record.payload_bytes = bytes;
    if (moved <= bytes)
        return;
    __u64 tail = tail_want(moved, bytes);
    barrier_var(tail);
    if (!tail || tail > WEIR_TAIL_MAX)
        return;
    if (bpf_probe_read_user(&s->payload[bytes], tail, (void *)(buffer + moved - tail))) {
        count(WEIR_COUNT_FAULTS, 1);
        return;
    }
    s->record.tail_bytes = tail;
    s->record.payload_bytes = bytes + tail;
}

// Records of one call beside its last: many exchanges share a connection of HTTP/2, and a program may write what it
// has for all of them at once. Beyond these only the call's last bytes are copied.
#define TLS_FULL_RECORDS_MAX 3

// Copy and deliver a full record, of what the slot says already. A global function is verified once.
__attribute__((noinline)) int tls_full(__u32 index, __u64 buffer, __u64 position) {
    const struct weir_config *cfg = configured();
    struct weir_tls_slot *taken = bpf_map_lookup_elem(&tls_slots, &index);
    if (!cfg || !taken)
        return 0;
    struct weir_slot *s = &taken->slot;
    s->record.position_bytes = position;
    s->record.total_bytes = WEIR_PAYLOAD_MAX;
    bool failed = bpf_probe_read_user(s->payload, WEIR_PAYLOAD_MAX, (void *)buffer);
    count(WEIR_COUNT_FAULTS, failed);
    deliver(cfg, s, failed ? 0 : WEIR_PAYLOAD_MAX);
    return 0;
}

// Bytes that were said over the socket of `call`.
static __noinline void tls_tell(struct call *call, __u32 direction, __u64 buffer, __u64 moved) {
    struct weir_conn *conn = call->conn;
    conn->flags |= WEIR_CONN_PLAIN;
    __u64 position = FETCH_ADD(&conn->plain_bytes[direction & 1], moved);
    if (conn->stop_generation != call->cfg->stop_generation)
        is_stopped(call); // looks again
    if ((conn->stopped & WEIR_STOP_ALL) == WEIR_STOP_ALL) {
        count(WEIR_COUNT_STOPPED_BYTES, moved);
        return;
    }
    __u32 index = 0;
    struct weir_tls_slot *taken = take_tls_slot(&index);
    if (!taken) {
        note_loss(&call->key, conn->generation, SOCK_STREAM, WEIR_LOST_RECORDS, 1);
        count(WEIR_COUNT_LOST_RECORDS, 1);
        count(WEIR_COUNT_LOST_BYTES, moved);
        return;
    }
    struct weir_slot *s = &taken->slot;
    __u64 time_mono_ns = direction == WEIR_EGRESS ? call->began_mono_ns : bpf_ktime_get_ns();
    fill_record(call, &s->record, WEIR_PLAIN, time_mono_ns);
    s->record.direction = direction;
    s->record.flags = conn->flags & WEIR_CONN_JOINED ? WEIR_JOINED : 0;
    __u64 want = payload_want(call, moved);
    // Not where less is wanted than there is room for: then it is too much already.
    if (buffer && want == WEIR_PAYLOAD_MAX) {
        for (__u32 i = 0; i < TLS_FULL_RECORDS_MAX; i++) {
            if (moved <= WEIR_PAYLOAD_MAX + WEIR_TAIL_MAX)
                break;
            tls_full(index, buffer, position);
            buffer += WEIR_PAYLOAD_MAX;
            position += WEIR_PAYLOAD_MAX;
            moved -= WEIR_PAYLOAD_MAX;
        }
        if (want > moved)
            want = moved;
    }
    s->record.position_bytes = position;
    s->record.total_bytes = moved;
    tls_copy(s, buffer, moved, want);
    deliver(call->cfg, s, s->record.payload_bytes);
    give_tls_slot(taken);
}

// A call returns. `takes`: it may have taken bytes that the program had read from the socket.
static __always_inline int tls_return(struct probe_ctx *ctx, enum tls_result kind, __u32 direction,
                                      bool takes, bool has_buffer) {
    struct call call = { .cfg = configured() };
    __u64 id = bpf_get_current_pid_tgid();
    struct weir_tls_call *now = bpf_map_lookup_elem(&tls_calls, &id);
    // The return of another call than the one that is noted has another stack: that of one within it, or of
    // a coroutine.
    if (!now || !now->session || now->stack != CALLED_AT(ctx))
        return 0;
    __s32 result = (__s32)RESULT(ctx);
    __u64 moved = 0;
    if (kind == TLS_BYTES && result > 0)
        moved = result;
    if (kind == TLS_ONE && result > 0 &&
        bpf_probe_read_user(&moved, sizeof(moved), (void *)now->length_at))
        moved = 0;
    struct weir_tls_conn socket = {};
    bool found = tls_socket(now, id, takes, &socket);
    now->session = 0;
    if (!moved || !call.cfg)
        return 0;
    call.match = process_match(call.cfg, id >> 32);
    call.pid_tgid = id;
    call.task = CURRENT();
    call.key = socket.conn;
    call.fd = socket.fd;
    call.sk = (struct sock *)socket.conn.sock;
    call.began_mono_ns = now->began_mono_ns;
    call.conn = found ? bpf_map_lookup_elem(&conns, &call.key) : 0;
    if (!call.conn) {
        // Whether its socket would be wanted, who knows: of a process that is, it counts.
        if (call.match == PROCESS_WANTED) {
            count(WEIR_COUNT_TLS_UNMATCHED_BYTES, moved);
            note_blind(id >> 32, WEIR_BLIND_TLS, moved);
        }
        return 0;
    }
    if (is_wanted(&call))
        tls_tell(&call, direction, has_buffer ? now->buffer : 0, moved);
    return 0;
}

SEC("uretprobe") int tls_read(struct probe_ctx *ctx) {
    return tls_return(ctx, TLS_BYTES, WEIR_INGRESS, true, true);
}
SEC("uretprobe") int tls_write(struct probe_ctx *ctx) {
    return tls_return(ctx, TLS_BYTES, WEIR_EGRESS, false, true);
}
SEC("uretprobe") int tls_read_ex(struct probe_ctx *ctx) {
    return tls_return(ctx, TLS_ONE, WEIR_INGRESS, true, true);
}
SEC("uretprobe") int tls_write_ex(struct probe_ctx *ctx) {
    return tls_return(ctx, TLS_ONE, WEIR_EGRESS, false, true);
}
// From a file: the bytes never were in user memory.
SEC("uretprobe") int tls_sendfile(struct probe_ctx *ctx) {
    return tls_return(ctx, TLS_BYTES, WEIR_EGRESS, false, false);
}
SEC("uretprobe") int tls_handshake(struct probe_ctx *ctx) {
    return tls_return(ctx, TLS_NOTHING, WEIR_EGRESS, true, false);
}

// The session's address may be another's from now on.
SEC("uprobe") int tls_free(struct probe_ctx *ctx) {
    struct weir_tls_key key = { .session = ARGUMENT_1(ctx) };
    key.pid = bpf_get_current_pid_tgid() >> 32;
    bpf_map_delete_elem(&tls_conns, &key);
    return 0;
}
