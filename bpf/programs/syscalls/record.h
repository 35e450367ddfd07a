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
    r->tail_bytes = 0;
    r->result = 0;
    r->unseen_bytes = 0;
}

static __always_inline void deliver(const struct weir_config *cfg, struct weir_slot *slot,
                                    __u64 payload_bytes) {
    // 64-bit and the barrier: else clang tests a shifted copy, and the verifier loses the bound.
    __u64 bytes = payload_bytes;
    barrier_var(bytes);
    if (bytes > WEIR_PAYLOAD_MAX + WEIR_TAIL_MAX)
        bytes = WEIR_PAYLOAD_MAX + WEIR_TAIL_MAX;
    slot->record.payload_bytes = bytes;
    __u64 flags = wake_flags(cfg->wake_bytes, sizeof(slot->record) + bytes);
    __u32 kind = slot->record.kind;
    bool moves_bytes = kind == WEIR_DATA || kind == WEIR_GAP || kind == WEIR_PLAIN;
    if (bpf_ringbuf_output(&events, slot, sizeof(slot->record) + bytes, flags)) {
        note_loss(&slot->record.key, slot->record.generation, slot->record.addresses.socket_type,
                  WEIR_LOST_RECORDS, 1);
        count(WEIR_COUNT_LOST_RECORDS, 1);
        if (slot->record.addresses.socket_type == SOCK_DGRAM)
            count(WEIR_COUNT_LOST_DATAGRAMS, 1);
        if (moves_bytes)
            count(WEIR_COUNT_LOST_BYTES, slot->record.total_bytes);
        return;
    }
    if ((kind == WEIR_DATA || kind == WEIR_PLAIN) && slot->record.total_bytes > bytes)
        count(WEIR_COUNT_CUT_BYTES, slot->record.total_bytes - bytes);
}

// Brings the type into the object's BTF, where a test looks for its layout.
const struct weir_unix_name *layout_of_names __attribute__((unused));

static __always_inline void read_unix_name(struct weir_unix_name *name, struct sock *sk) {
    struct unix_sock *unix_sock = (void *)sk;
    name->bytes = 0;
    if (!sk)
        return;
    struct unix_address *address = BPF_CORE_READ(unix_sock, addr);
    if (!address)
        return;
    // Before the name its length, which counts the family, too, and the family.
    __u64 bytes = (__u32)BPF_CORE_READ(address, len) - 2;
    barrier_var(bytes);
    if (bytes > WEIR_UNIX_NAME_MAX)
        return;
    void *at = (void *)address + bpf_core_field_offset(address->name) + 2;
    // None at all is read as well: asked for here, clang would test both bounds at once, on a copy, and
    // kernels up to 6.12 would see no bound.
    if (!bpf_probe_read_kernel(name->name, bytes, at))
        name->bytes = bytes;
}

// The names of a Unix socket and of its peer, as the slot's payload: the number of bytes.
static __always_inline __u64 read_unix_names(struct weir_slot *slot, struct sock *sk) {
    struct weir_unix_name *names = (void *)slot->payload;
    struct unix_sock *unix_sock = (void *)sk;
    read_unix_name(&names[0], sk);
    read_unix_name(&names[1], BPF_CORE_READ(unix_sock, peer));
    return 2 * sizeof(names[0]);
}

// The inode of a Unix socket's peer: 0 if it has none, or none yet. A connection is there before it is
// accepted, and only then has its other end an inode.
static __always_inline __u64 unix_peer_inode(struct sock *sk) {
    struct unix_sock *unix_sock = (void *)sk;
    struct sock *peer = BPF_CORE_READ(unix_sock, peer);
    struct socket_alloc *alloc = peer ? (void *)BPF_CORE_READ(peer, sk_socket) : 0;
    return alloc ? BPF_CORE_READ(alloc, vfs_inode.i_ino) : 0;
}

// The last bytes of a call of which only the first are in the slot: what ends a message is there.
// Never more than of the first ones.
static __always_inline __u64 tail_want(__u64 moved, __u64 want) {
    __u64 max = want < WEIR_TAIL_MAX ? want : WEIR_TAIL_MAX;
    __u64 left = moved - want;
    return left < max ? left : max;
}

// Copy the call's last bytes behind the `got` first ones. Global, as gather_next.
__attribute__((noinline)) __u64 gather_tail(__u64 from, __u64 bytes, __u64 got) {
    struct weir_slot *s = slot();
    if (!s || got > WEIR_PAYLOAD_MAX)
        return 0;
    barrier_var(bytes);
    if (!bytes || bytes > WEIR_TAIL_MAX)
        return 0;
    if (bpf_probe_read_user(&s->payload[got], bytes, (void *)from)) {
        count(WEIR_COUNT_FAULTS, 1);
        return 0;
    }
    s->record.tail_bytes = bytes;
    return bytes;
}

// Copy what is wanted of the `moved` bytes of a call, from one buffer, to this CPU's slot.
static __always_inline __u64 gather_buffer(struct weir_slot *slot, __u64 buffer, __u64 moved,
                                           __u64 want) {
    __u64 bytes = want;
    barrier_var(bytes);
    if (bytes > WEIR_PAYLOAD_MAX)
        bytes = WEIR_PAYLOAD_MAX;
    if (bpf_probe_read_user(slot->payload, bytes, (void *)buffer)) {
        count(WEIR_COUNT_FAULTS, 1);
        return 0;
    }
    if (moved > bytes) {
        __u64 tail = tail_want(moved, bytes);
        return bytes + gather_tail(buffer + moved - tail, tail, bytes);
    }
    return bytes;
}

#define WEIR_FAULT (~0ULL)

// Copy a buffer to this CPU's slot, after the `got` bytes that are there; WEIR_FAULT or the number
// of bytes. A global function is verified once, for any argument, and not again at each call:
// inlined into the loop below, this takes the verifier a second per program.
__attribute__((noinline)) __u64 gather_next(__u64 buffer, __u64 bytes, __u64 got, __u64 want) {
    struct weir_slot *s = slot();
    if (!s || got > WEIR_PAYLOAD_MAX + WEIR_TAIL_MAX || got >= want)
        return 0;
    if (bytes > want - got)
        bytes = want - got;
    barrier_var(bytes);
    if (!bytes || bytes > WEIR_PAYLOAD_MAX)
        return 0;
    return bpf_probe_read_user(&s->payload[got], bytes, (void *)buffer) ? WEIR_FAULT : bytes;
}

// Where the loop's body is a function, its frame is beside those of whoever calls it.
#ifdef WEIR_CASTS
#define WEIR_IOVECS_AT_ONCE 4
#else
#define WEIR_IOVECS_AT_ONCE 8
#endif

// Some of the buffers of an iovec array, copied from byte `skip` on to this CPU's slot, after the `got` bytes that are
// there and up to `want` in all.
struct gathering {
    __u64 iov;
    __u64 skip;
    __u64 got;
    __u32 iov_count;
    __u32 want;
};

BODY gather_some(__u64 turn, void *context) {
    struct gathering *all = context;
    struct user_iovec v[WEIR_IOVECS_AT_ONCE];
    __u64 first = turn * WEIR_IOVECS_AT_ONCE;
    if (first >= all->iov_count)
        return 1;
    __u64 count_here = all->iov_count - first;
    if (count_here > WEIR_IOVECS_AT_ONCE)
        count_here = WEIR_IOVECS_AT_ONCE;
    barrier_var(count_here);
    void *from = (void *)(all->iov + first * sizeof(v[0]));
    if (count_here > WEIR_IOVECS_AT_ONCE ||
        bpf_probe_read_user(v, count_here * sizeof(v[0]), from)) {
        count(WEIR_COUNT_FAULTS, 1);
        return 1;
    }
    for (__u64 i = 0; i < WEIR_IOVECS_AT_ONCE; i++) {
        if (i >= count_here || all->got >= all->want)
            return 1;
        if (all->skip >= v[i].bytes) {
            all->skip -= v[i].bytes;
            continue;
        }
        __u64 bytes =
            gather_next(v[i].base + all->skip, v[i].bytes - all->skip, all->got, all->want);
        all->skip = 0;
        if (bytes == WEIR_FAULT) {
            count(WEIR_COUNT_FAULTS, 1);
            return 1;
        }
        all->got += bytes;
    }
    return 0;
}

// How many bytes there are then.
__attribute__((noinline)) __u64 gather_range(__u64 iov, __u64 iov_count, __u64 skip, __u64 got,
                                             __u64 want) {
    if (iov_count > WEIR_IOVECS_MAX)
        iov_count = WEIR_IOVECS_MAX;
    struct gathering all = {iov, skip, got, iov_count, want};
    EACH(WEIR_IOVECS_MAX / WEIR_IOVECS_AT_ONCE, gather_some, &all);
    return all.got;
}

// Copy what is wanted of the `moved` bytes of a call, from an iovec array, to this CPU's slot.
__attribute__((noinline)) __u64 gather_iovecs(__u64 iov, __u64 iov_count, __u64 moved,
                                              __u64 want) {
    if (want > WEIR_PAYLOAD_MAX)
        want = WEIR_PAYLOAD_MAX;
    __u64 got = gather_range(iov, iov_count, 0, 0, want);
    if (moved <= want || got != want || got > WEIR_PAYLOAD_MAX)
        return got;
    __u64 tail = tail_want(moved, want);
    struct weir_slot *s = slot();
    if (!s || gather_range(iov, iov_count, moved - tail, got, got + tail) != got + tail)
        return got; // a part of it would not be the last bytes
    s->record.tail_bytes = tail;
    return got + tail;
}
