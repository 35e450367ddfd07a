// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Processes that are forked, that begin to run a program, and that end.
//
// Exec and exit run in the task they tell of, so that nothing of their own arguments is needed
// (those differ between kernels). A fork runs in the parent; its child is the second argument of
// the raw tracepoint. Threads are no processes: they are told neither at their beginning nor at
// their end, so a process ends with its last thread, not with its first.
#include "../../include/weir_kernel.h"
#include "../../include/weir_abi.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 20); // a thousand programs with all their arguments
} process_events SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} process_lost SEC(".maps");

struct weir_process_slot {
    struct weir_process_record record;
    __u8 cmdline[WEIR_CMDLINE_MAX];
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct weir_process_slot);
} process_slots SEC(".maps");

static __always_inline void deliver(struct weir_process_slot *slot, __u64 cmdline_bytes) {
    __u64 bytes = cmdline_bytes;
    barrier_var(bytes);
    if (bytes > WEIR_CMDLINE_MAX)
        bytes = WEIR_CMDLINE_MAX;
    slot->record.payload_bytes = bytes;
    if (!bpf_ringbuf_output(&process_events, slot, sizeof(slot->record) + bytes, BPF_RB_NO_WAKEUP))
        return;
    __u32 zero = 0;
    __u64 *lost = bpf_map_lookup_elem(&process_lost, &zero);
    if (lost)
        *lost += 1;
}

// The record of a process, complete but for what only one kind of event has.
static __always_inline struct weir_process_slot *describe(__u32 kind, struct task_struct *task) {
    __u32 zero = 0;
    struct weir_process_slot *slot = bpf_map_lookup_elem(&process_slots, &zero);
    if (!slot)
        return 0;
    struct weir_process_record *r = &slot->record;
    r->kind = kind;
    r->exit_code = 0;
    r->time_mono_ns = bpf_ktime_get_ns();
    r->start_boottime_ns = BPF_CORE_READ(task, group_leader, start_boottime);
    r->parent_start_boottime_ns = 0;
    r->cgroup_id = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
    r->pid = BPF_CORE_READ(task, tgid);
    r->parent_pid = BPF_CORE_READ(task, group_leader, real_parent, tgid);
    bpf_core_read(r->comm, sizeof(r->comm), &task->comm);
    r->cmdline_bytes = 0;
    return slot;
}

SEC("tracepoint/sched/sched_process_exec") int process_exec(void *ctx) {
    struct task_struct *task = (void *)bpf_get_current_task();
    struct weir_process_slot *slot = describe(WEIR_EXEC, task);
    if (!slot)
        return 0;
    __u64 start = BPF_CORE_READ(task, mm, arg_start);
    __u64 total = BPF_CORE_READ(task, mm, arg_end) - start;
    slot->record.cmdline_bytes = total;
    __u64 bytes = total;
    barrier_var(bytes);
    if (bytes > WEIR_CMDLINE_MAX)
        bytes = WEIR_CMDLINE_MAX;
    if (bpf_probe_read_user(slot->cmdline, bytes, (void *)start))
        bytes = 0;
    deliver(slot, bytes);
    return 0;
}

SEC("raw_tracepoint/sched_process_fork") int process_fork(struct raw_ctx *ctx) {
    struct task_struct *parent = (void *)ctx->args[0], *child = (void *)ctx->args[1];
    if (BPF_CORE_READ(child, tgid) != BPF_CORE_READ(child, pid) ||
        (BPF_CORE_READ(child, flags) & PF_KTHREAD))
        return 0;
    struct weir_process_slot *slot = describe(WEIR_FORK, child);
    if (!slot)
        return 0;
    // Who forked, not who will wait for the child.
    slot->record.parent_pid = BPF_CORE_READ(parent, tgid);
    slot->record.parent_start_boottime_ns = BPF_CORE_READ(parent, group_leader, start_boottime);
    deliver(slot, 0);
    return 0;
}

SEC("tracepoint/sched/sched_process_exit") int process_exit(void *ctx) {
    struct task_struct *task = (void *)bpf_get_current_task();
    if (BPF_CORE_READ(task, signal, live.counter))
        return 0;
    struct weir_process_slot *slot = describe(WEIR_EXIT, task);
    if (!slot)
        return 0;
    slot->record.exit_code = BPF_CORE_READ(task, exit_code);
    deliver(slot, 0);
    return 0;
}
