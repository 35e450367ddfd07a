// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Calls of TLS libraries, and which of their connections goes over which socket.
#pragma once

#include "events.h"

// What a thread does with TLS, and did last.
struct weir_tls_call {
    __u64 session; // of the call that it is in, 0 if in none
    __u64 buffer;
    __u64 length_at; // where the call writes how many bytes there were
    __u64 stack;     // the stack pointer at its beginning
    __u64 began_mono_ns;
    struct weir_conn_key conn; // of the last socket that was used within the call
    struct weir_conn_key read; // of the last TLS bytes that were read outside of any call
    struct weir_conn_key last; // of the last TLS bytes that were read
    __u64 waiting; // a session of no known socket, which may be about to write
    __s32 fd;
    __s32 read_fd;
    __s32 last_fd;
    __u32 nested; // 1: `conn` is there
};

// The least recently used threads are forgotten: a call that one of them is in is lost then.
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 16384);
    __type(key, __u64); // pid_tgid
    __type(value, struct weir_tls_call);
} tls_calls SEC(".maps");

// A session is what the library calls a connection: an address in the process's memory.
struct weir_tls_key {
    __u64 session;
    __u64 pid;
};

struct weir_tls_conn {
    struct weir_conn_key conn;
    __s32 fd;
    __u32 _pad;
};

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 65536); // the loader sets its own
    __type(key, struct weir_tls_key);
    __type(value, struct weir_tls_conn);
} tls_conns SEC(".maps");

// Programs of uprobes may be preempted by others on the same CPU from 6.0 on: each takes a slot of its
// own as long as it works. Two a CPU; the loader sets the number.
struct weir_tls_slot {
    struct weir_slot slot;
    __u32 taken;
    __u32 _pad;
};

#define WEIR_TLS_SLOTS_PER_CPU 2

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, WEIR_TLS_SLOTS_PER_CPU);
    __type(key, __u32);
    __type(value, struct weir_tls_slot);
} tls_slots SEC(".maps");

// Old kernels have no exchange with a result, and run these programs with preemption off.
#ifdef WEIR_TASK_LOADS
#define TAKE(taken) (__sync_val_compare_and_swap(taken, 0, 1) == 0)
#else
#define TAKE(taken) (*(taken) = 1)
#endif

// Which one it is, is put into `index`.
static __always_inline struct weir_tls_slot *take_tls_slot(__u32 *index) {
    __u32 first = bpf_get_smp_processor_id() * WEIR_TLS_SLOTS_PER_CPU;
    for (__u32 i = 0; i < WEIR_TLS_SLOTS_PER_CPU; i++) {
        __u32 key = first + i;
        struct weir_tls_slot *found = bpf_map_lookup_elem(&tls_slots, &key);
        if (found && TAKE(&found->taken)) {
            *index = key;
            return found;
        }
    }
    return 0;
}

static __always_inline void give_tls_slot(struct weir_tls_slot *taken) {
    *(volatile __u32 *)&taken->taken = 0;
}
