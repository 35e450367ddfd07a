// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Putting records together and into the ring.
#pragma once

static __always_inline void fill_record(struct call *call, struct weir_socket_record *r,
                                        __u32 kind, __u64 time_mono_ns) {
    r->kind = kind;
    r->payload_bytes = 0;
    r->time_mono_ns = time_mono_ns;
    r->start_boottime_ns = leader_start(call->task);
    r->cgroup_id = cgroup_id_of(call->task);
    r->pid = call->pid_tgid >> 32;
    r->tid = (__u32)call->pid_tgid;
    r->key = call->key;
    r->generation = call->conn->generation;
    r->fd = call->fd;
    r->addresses = call->conn->addresses;
    r->position_bytes = 0;
    r->total_bytes = 0;
    r->direction = 0;
    r->flags = 0;
    r->result = 0;
    r->unseen_bytes = 0;
}

static __always_inline void deliver(const struct weir_config *cfg, struct weir_slot *slot,
                                    __u64 payload_bytes) {
    // 64-bit and the barrier: else clang tests a shifted copy, and the verifier loses the bound.
    __u64 bytes = payload_bytes;
    barrier_var(bytes);
    if (bytes > WEIR_PAYLOAD_MAX)
        bytes = WEIR_PAYLOAD_MAX;
    slot->record.payload_bytes = bytes;
    __u64 flags = wake_flags(cfg->wake_bytes, sizeof(slot->record) + bytes);
    bool moves_bytes = slot->record.kind == WEIR_DATA || slot->record.kind == WEIR_GAP;
    if (bpf_ringbuf_output(&events, slot, sizeof(slot->record) + bytes, flags)) {
        count(WEIR_COUNT_LOST_RECORDS, 1);
        if (moves_bytes)
            count(WEIR_COUNT_LOST_BYTES, slot->record.total_bytes);
        return;
    }
    if (slot->record.kind == WEIR_DATA && slot->record.total_bytes > bytes)
        count(WEIR_COUNT_CUT_BYTES, slot->record.total_bytes - bytes);
}

static __always_inline __u64 gather_buffer(struct weir_slot *slot, __u64 buffer, __u64 want) {
    __u64 bytes = want;
    barrier_var(bytes);
    if (bytes > WEIR_PAYLOAD_MAX)
        bytes = WEIR_PAYLOAD_MAX;
    if (bpf_probe_read_user(slot->payload, bytes, (void *)buffer)) {
        count(WEIR_COUNT_FAULTS, 1);
        return 0;
    }
    return bytes;
}

#define WEIR_FAULT (~0ULL)

// Copy a buffer to this CPU's slot, after the `got` bytes that are there; WEIR_FAULT or the number
// of bytes. A global function is verified once, for any argument, and not again at each call:
// inlined into the loop below, this takes the verifier a second per program.
__attribute__((noinline)) __u64 gather_next(__u64 buffer, __u64 bytes, __u64 got, __u64 want) {
    struct weir_slot *s = slot();
    if (!s || got > WEIR_PAYLOAD_MAX || want > WEIR_PAYLOAD_MAX || got >= want)
        return 0;
    if (bytes > want - got)
        bytes = want - got;
    barrier_var(bytes);
    if (!bytes || bytes > WEIR_PAYLOAD_MAX)
        return 0;
    return bpf_probe_read_user(&s->payload[got], bytes, (void *)buffer) ? WEIR_FAULT : bytes;
}

#define WEIR_IOVECS_AT_ONCE 4

// Copy up to `want` bytes from an iovec array to this CPU's slot; the number copied is returned.
__attribute__((noinline)) __u64 gather_iovecs(__u64 iov, __u64 iov_count, __u64 want) {
    struct user_iovec v[WEIR_IOVECS_AT_ONCE];
    __u64 got = 0;
    if (want > WEIR_PAYLOAD_MAX)
        want = WEIR_PAYLOAD_MAX;
    for (__u64 first = 0; first < WEIR_IOVECS_MAX; first += WEIR_IOVECS_AT_ONCE) {
        if (first >= iov_count)
            return got;
        __u64 count_here = iov_count - first;
        if (count_here > WEIR_IOVECS_AT_ONCE)
            count_here = WEIR_IOVECS_AT_ONCE;
        barrier_var(count_here);
        void *from = (void *)(iov + first * sizeof(v[0]));
        if (count_here > WEIR_IOVECS_AT_ONCE ||
            bpf_probe_read_user(v, count_here * sizeof(v[0]), from)) {
            count(WEIR_COUNT_FAULTS, 1);
            return got;
        }
        for (__u64 i = 0; i < WEIR_IOVECS_AT_ONCE; i++) {
            if (i >= count_here || got >= want)
                return got;
            __u64 bytes = gather_next(v[i].base, v[i].bytes, got, want);
            if (bytes == WEIR_FAULT) {
                count(WEIR_COUNT_FAULTS, 1);
                return got;
            }
            got += bytes;
        }
    }
    return got;
}
