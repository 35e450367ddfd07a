// SPDX-License-Identifier: MIT OR GPL-2.0-only
// The ring of records, and the place where one is put together.
#pragma once

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 8 << 20); // bytes; the loader sets its own
} events SEC(".maps");

struct weir_slot {
    struct weir_socket_record record;
    // The verifier bounds start and length of a copy apart.
    __u8 payload[2 * WEIR_PAYLOAD_MAX + WEIR_TAIL_MAX];
};

// One slot a CPU; the loader sets the number of CPUs. Not a per-CPU map, as its values end at
// 32 KiB. Safe, because a tracepoint's programs run with preemption off and do not nest.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct weir_slot);
} slots SEC(".maps");

static __always_inline struct weir_slot *slot(void) {
    __u32 cpu = bpf_get_smp_processor_id();
    return bpf_map_lookup_elem(&slots, &cpu);
}

// What each CPU keeps from one program to the next, a cache line each; the loader sets the number.
struct weir_cpu {
    __u64 writer;           // pid_tgid of the write that began here last, 0 if it has ended
    __u64 began_mono_ns;    // when
    __u64 unchecked_bytes;  // put into the ring since its fill was looked at
    __u64 scratch;
    __u64 _pad[4];
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct weir_cpu);
} cpus SEC(".maps");

static __always_inline struct weir_cpu *this_cpu(void) {
    __u32 cpu = bpf_get_smp_processor_id();
    return bpf_map_lookup_elem(&cpus, &cpu);
}

#define WEIR_WAKE_CHECK_BYTES 16384

// A wake-up per record costs five times the record itself. User space drains on a timer, and is
// woken early only if the ring is found filled to wake_bytes; that is looked at now and then.
static __always_inline __u64 wake_flags(__u64 wake_bytes, __u64 record_bytes) {
    struct weir_cpu *cpu = this_cpu();
    if (!cpu)
        return 0;
    cpu->unchecked_bytes += record_bytes;
    if (cpu->unchecked_bytes < WEIR_WAKE_CHECK_BYTES)
        return BPF_RB_NO_WAKEUP;
    cpu->unchecked_bytes = 0;
    __u64 fill = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
    return fill >= wake_bytes ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}
