// SPDX-License-Identifier: MIT OR GPL-2.0-only
// What happened to every call that was looked at: nothing is dropped without a count.
#pragma once

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, WEIR_COUNT_MAX);
    __type(key, __u32);
    __type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(__u32 counter, __u64 n) {
    __u64 *value = bpf_map_lookup_elem(&counters, &counter);
    if (value)
        *value += n;
}
