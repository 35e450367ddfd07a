// SPDX-License-Identifier: MIT OR GPL-2.0-only
// What programs say by rustls, seen at functions of its own that every read and write goes through.
//
// rustls is compiled into each program and moves no bytes itself: a program has it read from the socket, then
// decrypt; or encrypt, then write to the socket, in calls of their own. Seen are
//   CommonState::take_received_plaintext(state, payload)           once a record that was decrypted
//   CommonState::send_appdata_encrypt(state, chunks, …) -> taken   bytes that are about to be encrypted
//   ChunkVecBuffer::write_to(buffer, writer)                       encrypted bytes go to the socket
// What is decrypted was read by the same thread just before. The state is the session, which is bound to that
// socket; it stays with it until the program moves the connection in memory. Of a session of no known socket
// the bytes wait until the buffer within its state is written to the socket, on the same thread.
//
// Rust promises no layout of what these are given: what does not look like a payload or chunks is not told but
// counted.
#pragma once

// The buffer is a part of the state, which has fewer bytes than these.
#define RUST_STATE_BYTES_MAX 4096
// No record has more.
#define RUST_RECORD_BYTES_MAX (1 << 16)
// Slices of one write; what is in others is told as a gap.
#define RUST_CHUNKS_MAX 16
// Where a vector would have its capacity: there is a slice instead.
#define RUST_BORROWED (1ull << 63)

struct rust_slice {
    __u64 at;
    __u64 bytes;
};

// A thread's write.
struct weir_rust_write {
    __u64 session;
    __u64 stack; // of the call it is in, 0 if in none
    __u64 began_mono_ns;
    __u64 skipped; // in the first slice: bytes that are not meant
    __u64 moved;   // waits for a socket, if not 0
    __u64 before;  // what was said before, and cannot be read any more
    struct rust_slice chunks[RUST_CHUNKS_MAX];
};

// The least recently used threads are forgotten: the write that one of them is in is lost then.
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 4096);
    __type(key, __u64); // pid_tgid
    __type(value, struct weir_rust_write);
} rust_writes SEC(".maps");

static __always_inline void rust_unmatched(__u64 id, __u64 moved) {
    count(WEIR_COUNT_TLS_UNMATCHED_BYTES, moved);
    note_blind(id >> 32, WEIR_BLIND_TLS, moved);
}

// The session goes over this socket; where the connection was before may be another's.
static __always_inline void rust_bind(__u64 session, __u64 id, struct weir_conn *conn,
                                      const struct weir_tls_conn *to) {
    struct weir_tls_key key = { .session = session, .pid = id >> 32 };
    struct weir_tls_conn *known = bpf_map_lookup_elem(&tls_conns, &key);
    if (!known || known->conn.sock != to->conn.sock || known->conn.inode != to->conn.inode)
        bpf_map_update_elem(&tls_conns, &key, to, BPF_ANY);
    __u64 before = conn->rust_session;
    if (before == session)
        return;
    conn->rust_session = session;
    if (!before)
        return;
    key.session = before;
    known = bpf_map_lookup_elem(&tls_conns, &key);
    if (known && known->conn.sock == to->conn.sock && known->conn.inode == to->conn.inode)
        bpf_map_delete_elem(&tls_conns, &key);
}

// Fills in what is needed to tell bytes of a socket. False: they are not to be told.
static __always_inline bool rust_call(struct call *call, __u64 id, const struct weir_tls_conn *to) {
    call->pid_tgid = id;
    call->task = CURRENT();
    call->key = to->conn;
    call->fd = to->fd;
    call->sk = (struct sock *)to->conn.sock;
    call->conn = bpf_map_lookup_elem(&conns, &call->key);
    if (!call->conn)
        return false;
    call->conn->flags |= WEIR_CONN_TLS;
    return is_wanted(call);
}

// A record was decrypted.
SEC("uprobe") int rust_read(struct probe_ctx *ctx) {
    struct call call = { .cfg = configured() };
    if (!call.cfg)
        return 0;
    __u64 id = bpf_get_current_pid_tgid(), session = ARGUMENT_1(ctx);
    call.match = process_match(call.cfg, id >> 32);
    if (call.match == PROCESS_REJECTED)
        return 0;
    // A vector (capacity, address, length), or a slice in the place of its last two.
    __u64 payload[3] = {};
    if (bpf_probe_read_user(payload, sizeof(payload), (void *)ARGUMENT_2(ctx)))
        return 0;
    __u64 moved = payload[2];
    bool is_payload = payload[0] == RUST_BORROWED || payload[0] >= moved;
    if (!moved || moved > RUST_RECORD_BYTES_MAX || !is_payload)
        return 0;
    struct weir_tls_call *now = bpf_map_lookup_elem(&tls_calls, &id);
    struct weir_tls_conn to = {};
    if (now) {
        to.conn = now->last;
        to.fd = now->last_fd;
    }
    call.began_mono_ns = bpf_ktime_get_ns();
    bool tells = to.conn.sock && rust_call(&call, id, &to);
    if (call.conn)
        rust_bind(session, id, call.conn, &to);
    else if (call.match == PROCESS_WANTED)
        rust_unmatched(id, moved);
    if (tells)
        tls_tell(&call, WEIR_INGRESS, payload[1], moved);
    return 0;
}

// Bytes are about to be encrypted: what is given here is not there any more when the call returns.
SEC("uprobe") int rust_begin(struct probe_ctx *ctx) {
    const struct weir_config *cfg = configured();
    if (!cfg)
        return 0;
    __u64 id = bpf_get_current_pid_tgid();
    if (process_match(cfg, id >> 32) == PROCESS_REJECTED)
        return 0;
    struct weir_rust_write *write = bpf_map_lookup_elem(&rust_writes, &id);
    if (!write) {
        struct weir_rust_write fresh = {};
        bpf_map_update_elem(&rust_writes, &id, &fresh, BPF_ANY);
        write = bpf_map_lookup_elem(&rust_writes, &id);
        if (!write)
            return 0;
    }
    __u64 session = ARGUMENT_1(ctx);
    if (write->session == session) {
        write->before += write->moved;
    } else {
        if (write->before + write->moved)
            rust_unmatched(id, write->before + write->moved);
        write->before = 0;
    }
    write->session = session;
    write->stack = ctx->sp;
    write->began_mono_ns = bpf_ktime_get_ns();
    write->moved = 0;
    write->skipped = 0;
    // One slice (nothing, its address, its length), or several: address and count, and from where to where.
    __u64 given[4] = {};
    bpf_probe_read_user(given, sizeof(given), (void *)ARGUMENT_2(ctx));
    write->chunks[0].at = given[1];
    write->chunks[0].bytes = given[2];
    if (!given[0]) {
        write->chunks[1].at = 0;
        return 0;
    }
    write->skipped = given[2];
    for (__u32 i = 0; i < RUST_CHUNKS_MAX; i++) {
        struct rust_slice *chunk = &write->chunks[i];
        if (i >= given[1] ||
            bpf_probe_read_user(chunk, sizeof(*chunk), (void *)(given[0] + i * sizeof(*chunk)))) {
            chunk->at = chunk->bytes = 0;
            break;
        }
    }
    return 0;
}

// Tells what a thread wrote.
static __noinline void rust_tell(struct call *call, struct weir_rust_write *write) {
    __u64 moved = write->moved, skipped = write->skipped;
    call->began_mono_ns = write->began_mono_ns;
    if (write->before)
        tls_tell(call, WEIR_EGRESS, 0, write->before);
    for (__u32 i = 0; i < RUST_CHUNKS_MAX; i++) {
        struct rust_slice chunk = write->chunks[i];
        if (!moved || !chunk.at)
            break;
        if (skipped >= chunk.bytes) {
            skipped -= chunk.bytes;
            continue;
        }
        __u64 bytes = chunk.bytes - skipped;
        if (bytes > moved)
            bytes = moved;
        tls_tell(call, WEIR_EGRESS, chunk.at + skipped, bytes);
        moved -= bytes;
        skipped = 0;
    }
    if (moved)
        tls_tell(call, WEIR_EGRESS, 0, moved);
    write->moved = write->before = 0;
}

SEC("uretprobe") int rust_write(struct probe_ctx *ctx) {
    struct call call = { .cfg = configured() };
    __u64 id = bpf_get_current_pid_tgid();
    struct weir_rust_write *write = bpf_map_lookup_elem(&rust_writes, &id);
    if (!call.cfg || !write || write->stack != CALLED_AT(ctx))
        return 0;
    write->stack = 0;
    write->moved = RESULT(ctx);
    struct weir_tls_key key = { .session = write->session, .pid = id >> 32 };
    struct weir_tls_conn *known = bpf_map_lookup_elem(&tls_conns, &key);
    if (!write->moved || !known)
        return 0;
    struct weir_tls_conn to = *known;
    call.match = process_match(call.cfg, id >> 32);
    bool tells = rust_call(&call, id, &to);
    if (tells)
        rust_tell(&call, write);
    else if (call.conn)
        write->moved = write->before = 0;
    return 0;
}

// Encrypted bytes have gone to a socket: what waits for it is told.
SEC("uretprobe") int rust_sent(struct probe_ctx *ctx) {
    struct call call = { .cfg = configured() };
    __u64 id = bpf_get_current_pid_tgid();
    struct weir_tls_call *now = bpf_map_lookup_elem(&tls_calls, &id);
    if (!now || !now->session || now->stack != CALLED_AT(ctx))
        return 0;
    __u64 buffer = now->session;
    now->session = 0;
    struct weir_rust_write *write = bpf_map_lookup_elem(&rust_writes, &id);
    if (!call.cfg || !write || !(write->moved + write->before) ||
        buffer - write->session >= RUST_STATE_BYTES_MAX)
        return 0;
    if (!now->nested) {
        // The socket had no room. What was said may be gone when it has.
        write->before += write->moved;
        write->moved = 0;
        return 0;
    }
    struct weir_tls_conn to = { .conn = now->conn, .fd = now->fd };
    call.match = process_match(call.cfg, id >> 32);
    bool tells = rust_call(&call, id, &to);
    if (call.conn)
        rust_bind(write->session, id, call.conn, &to);
    if (tells)
        rust_tell(&call, write);
    write->moved = write->before = 0;
    return 0;
}
