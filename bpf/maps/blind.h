// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Processes whose bytes pass by us, and why. The least recently named are forgotten when it is
// full; the totals are counters.
#pragma once

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 1024);
    __type(key, struct weir_blind_key);
    __type(value, struct weir_blind);
} blind SEC(".maps");

static __noinline void note_blind(__u32 pid, __u32 reason, __u64 bytes) {
    struct weir_blind_key key = { .pid = pid, .reason = reason };
    struct weir_blind fresh = { .times = 1, .bytes = bytes };
    struct weir_blind *before = bpf_map_lookup_elem(&blind, &key);
    if (!before) {
        bpf_map_update_elem(&blind, &key, &fresh, BPF_ANY);
        return;
    }
    __sync_fetch_and_add(&before->times, 1);
    __sync_fetch_and_add(&before->bytes, bytes);
}
