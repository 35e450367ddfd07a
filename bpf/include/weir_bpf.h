// SPDX-License-Identifier: MIT OR GPL-2.0-only
// What a BPF program in C needs besides the kernel's types: section names, map declarations, the
// helper functions that we call, by their numbers in the kernel's ABI (enum bpf_func_id), and reads
// whose offsets the loader corrects (CO-RE: clang notes each access, the loader rewrites it).
#pragma once

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))

// Members of a map's declaration: the loader takes number and types from the pointers' types.
#define __uint(name, number) int(*name)[number]
#define __type(name, type_) typeof(type_) *name

// The compiler may not assume anything of the variable that it knew before.
#define barrier_var(variable) asm volatile("" : "+r"(variable))

#define bpf_ntohs(value) __builtin_bswap16(value) // both BPF targets that we build are little-endian
#define bpf_htonl(value) __builtin_bswap32(value)

enum {
    BPF_MAP_TYPE_HASH = 1,
    BPF_MAP_TYPE_ARRAY = 2,
    BPF_MAP_TYPE_PERCPU_ARRAY = 6,
    BPF_MAP_TYPE_LRU_HASH = 9,
    BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };
enum { BPF_RB_AVAIL_DATA = 0 };

struct task_struct;

#define HELPER(number, result, name, ...)                                                          \
    static result (*const name)(__VA_ARGS__) __attribute__((unused)) = (void *)number

HELPER(1, void *, bpf_map_lookup_elem, void *map, const void *key);
HELPER(2, long, bpf_map_update_elem, void *map, const void *key, const void *value, __u64 flags);
HELPER(3, long, bpf_map_delete_elem, void *map, const void *key);
HELPER(5, __u64, bpf_ktime_get_ns, void);
HELPER(8, __u32, bpf_get_smp_processor_id, void);
HELPER(14, __u64, bpf_get_current_pid_tgid, void);
HELPER(35, __u64, bpf_get_current_task, void);
HELPER(80, __u64, bpf_get_current_cgroup_id, void);
HELPER(112, long, bpf_probe_read_user, void *to, __u32 bytes, const void *from);
HELPER(113, long, bpf_probe_read_kernel, void *to, __u32 bytes, const void *from);
HELPER(130, long, bpf_ringbuf_output, void *ring, void *data, __u64 bytes, __u64 flags);
HELPER(134, __u64, bpf_ringbuf_query, void *ring, __u64 what);
HELPER(158, struct task_struct *, bpf_get_current_task_btf, void);
HELPER(175, long, bpf_task_pt_regs, struct task_struct *task);

// EACH(turns, body, context) calls `long body(__u64 turn, void *context)` until it gives 1, `turns` times at the most.
// From 5.17 on a helper does it, and the verifier takes the body apart once; where the loop is ours, at every turn.
#ifdef WEIR_CASTS
HELPER(181, long, bpf_loop, __u32 turns, void *body, void *context, __u64 flags);
#define BODY static __noinline long
#define EACH(turns, body, context) bpf_loop(turns, body, context, 0)
#else
#define BODY static __always_inline long
#define EACH(turns, body, context)                                                                 \
    for (__u64 _turn = 0; _turn < (turns) && !body(_turn, context); _turn++) {                     \
    }
#endif

// Types whose fields' offsets the loader looks up in the running kernel.
#define CORE __attribute__((preserve_access_index))

// What clang's builtins for CO-RE are asked for (enum in its BPF backend).
#define WEIR_ASK_OFFSET 0
#define WEIR_ASK_FIELD_EXISTS 2
#define WEIR_ASK_TYPE_SIZE 1
#define WEIR_ASK_KERNEL_ID 1

#define bpf_core_field_exists(field) __builtin_preserve_field_info(field, WEIR_ASK_FIELD_EXISTS)
#define bpf_core_field_offset(field) __builtin_preserve_field_info(field, WEIR_ASK_OFFSET)
#define bpf_core_type_size(type)                                                                   \
    __builtin_preserve_type_info(*(typeof(type) *)0, WEIR_ASK_TYPE_SIZE)
#define bpf_core_type_id_kernel(type)                                                              \
    __builtin_btf_type_id(*(typeof(type) *)0, WEIR_ASK_KERNEL_ID)

#define bpf_core_read(to, bytes, from)                                                             \
    bpf_probe_read_kernel(to, bytes, (const void *)__builtin_preserve_access_index(from))

// BPF_CORE_READ(task, mm, arg_start) is task->mm->arg_start, a read by helper for each arrow.
#define READ_1(from, a)                                                                            \
    ({                                                                                             \
        typeof((from)->a) _value;                                                                  \
        bpf_core_read(&_value, sizeof(_value), &(from)->a);                                        \
        _value;                                                                                    \
    })
#define READ_2(from, a, b)                                                                         \
    ({                                                                                             \
        typeof((from)->a) _one = READ_1(from, a);                                                  \
        READ_1(_one, b);                                                                           \
    })
#define READ_3(from, a, b, c)                                                                      \
    ({                                                                                             \
        typeof((from)->a->b) _two = READ_2(from, a, b);                                            \
        READ_1(_two, c);                                                                           \
    })
#define READ_4(from, a, b, c, d)                                                                   \
    ({                                                                                             \
        typeof((from)->a->b->c) _three = READ_3(from, a, b, c);                                    \
        READ_1(_three, d);                                                                         \
    })
#define READ_BY_COUNT(from, a, b, c, d, name, ...) name
#define BPF_CORE_READ(...) READ_BY_COUNT(__VA_ARGS__, READ_4, READ_3, READ_2, READ_1)(__VA_ARGS__)
