// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Processes that begin to run a program, and processes that end.
//
// Both tracepoints run in the task they tell of, so that nothing of their own arguments is needed
// (those differ between kernels). A process ends with its last thread, not with its first.
#include "../../include/weir_kernel.h"
#include "../../include/weir_abi.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 << 10);
} process_events SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} process_lost SEC(".maps");

// Brings the type into the object's BTF, where a test looks for its layout.
const struct weir_process_record *layout_of_records __attribute__((unused));

static __always_inline int report(__u32 kind) {
    struct task_struct *task = (void *)bpf_get_current_task();
    __s32 exit_code = 0;
    if (kind == WEIR_EXIT) {
        if (BPF_CORE_READ(task, signal, live.counter))
            return 0;
        exit_code = BPF_CORE_READ(task, exit_code);
    }
    struct weir_process_record *r = bpf_ringbuf_reserve(&process_events, sizeof(*r), 0);
    if (!r) {
        __u32 zero = 0;
        __u64 *lost = bpf_map_lookup_elem(&process_lost, &zero);
        if (lost)
            *lost += 1;
        return 0;
    }
    r->kind = kind;
    r->exit_code = exit_code;
    r->time_mono_ns = bpf_ktime_get_ns();
    r->start_boottime_ns = BPF_CORE_READ(task, group_leader, start_boottime);
    r->cgroup_id = bpf_get_current_cgroup_id();
    r->pid = bpf_get_current_pid_tgid() >> 32;
    r->parent_pid = BPF_CORE_READ(task, group_leader, real_parent, tgid);
    bpf_get_current_comm(r->comm, sizeof(r->comm));
    bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
    return 0;
}

SEC("tracepoint/sched/sched_process_exec") int process_exec(void *ctx) { return report(WEIR_EXEC); }
SEC("tracepoint/sched/sched_process_exit") int process_exit(void *ctx) { return report(WEIR_EXIT); }
