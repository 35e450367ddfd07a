// SPDX-License-Identifier: MIT OR GPL-2.0-only
// When each thread began the write that it is in.
//
// Nearly always a write ends on the CPU where it began, with no other in between, so the time is
// kept there. A write that begins while another is unfinished (its thread was preempted) moves
// that one's time to a table. If all else fails, the write's end stands for its beginning.
#pragma once

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 16384);
    __type(key, __u64); // pid_tgid
    __type(value, __u64);
} write_began SEC(".maps");

#define WEIR_CPUS_SEARCHED 256

static __always_inline void begin_write(void) {
    __u64 id = pid_tgid_of(CURRENT());
    struct weir_cpu *cpu = this_cpu();
    if (!cpu)
        return;
    if (cpu->writer && cpu->writer != id) {
        __u64 writer = cpu->writer, began = cpu->began_mono_ns;
        bpf_map_update_elem(&write_began, &writer, &began, BPF_ANY);
    }
    cpu->writer = id;
    cpu->began_mono_ns = bpf_ktime_get_ns();
}

// First thing at the end of a write, wanted or not, so that its CPU is free again: the time of
// its beginning, or 0 if that is to be searched for.
static __always_inline __u64 end_write(__u64 id) {
    struct weir_cpu *cpu = this_cpu();
    if (!cpu || cpu->writer != id)
        return 0;
    cpu->writer = 0;
    return cpu->began_mono_ns;
}

struct searching {
    __u64 id;
    __u64 began_mono_ns;
};

BODY look_at_cpu(__u64 turn, void *context) {
    struct searching *all = context;
    __u32 key = turn;
    struct weir_cpu *cpu = bpf_map_lookup_elem(&cpus, &key);
    if (!cpu)
        return 1;
    if (cpu->writer != all->id)
        return 0;
    cpu->writer = 0;
    all->began_mono_ns = cpu->began_mono_ns;
    return 1;
}

static __noinline __u64 search_write(__u64 id) {
    struct searching all = {id, 0};
    EACH(WEIR_CPUS_SEARCHED, look_at_cpu, &all);
    if (all.began_mono_ns)
        return all.began_mono_ns;
    __u64 *began = bpf_map_lookup_elem(&write_began, &id);
    return began ? *began : bpf_ktime_get_ns();
}
