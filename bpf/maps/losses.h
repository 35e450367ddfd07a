// SPDX-License-Identifier: MIT OR GPL-2.0-only
// On which sockets something was lost: user space knows what they speak, and charges it to that. It
// takes entries out as it reads them. What is forgotten for room is in the counters all the same, and is
// then a loss of a socket that nobody knows.
#pragma once

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 1024);
    __type(key, struct weir_loss_key);
    __type(value, struct weir_losses);
} losses SEC(".maps");

// To be called before the counter is raised: user space takes what only that has for a loss of nobody's.
static __noinline void note_loss(const struct weir_conn_key *conn, __u32 generation,
                                 __u32 socket_type, __u32 what, __u64 n) {
    struct weir_loss_key key = { .generation = generation, .socket_type = socket_type };
    key.conn = *conn;
    if (what >= WEIR_LOST_MAX)
        return;
    struct weir_losses *before = bpf_map_lookup_elem(&losses, &key);
    if (!before) {
        struct weir_losses none = {};
        bpf_map_update_elem(&losses, &key, &none, BPF_NOEXIST);
        before = bpf_map_lookup_elem(&losses, &key);
    }
    if (before)
        __sync_fetch_and_add(&before->counts[what], n);
}
