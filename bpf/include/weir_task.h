// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Reading the kernel's memory: the current task, its files, the arguments of its system call.
//
// The programs are built three times, since a helper call costs several times a load:
// * by default, each field is read by bpf_probe_read_kernel: kernel 5.8 on;
// * WEIR_TASK_LOADS loads the task's fields directly (bpf_get_current_task_btf 5.11,
//   bpf_task_pt_regs 5.15), and adds atomically with the old value returned (5.12);
// * WEIR_CASTS, in addition, loads everything else directly too (bpf_rdonly_cast 6.2).
#pragma once

#ifdef WEIR_CASTS
// The kernel function bpf_rdonly_cast turns a number into a pointer to a kernel type; a load
// through a bad one gives 0. It has no instructions of its own. The loader writes the function's
// BTF id over the immediate, "weir": there is no relocation for it that it could leave to others.
static __always_inline void *rdonly_cast(__u64 address, __u32 type_id) {
    register __u64 r0 asm("r0");
    register __u64 r1 asm("r1") = address;
    register __u64 r2 asm("r2") = type_id;
    asm volatile(".8byte 0x7765697200002085"
                 : "=r"(r0), "+r"(r1), "+r"(r2)
                 :
                 : "r3", "r4", "r5");
    return (void *)r0;
}
#define AS(type, address) ((type *)rdonly_cast((__u64)(address), bpf_core_type_id_kernel(type)))
#define LOAD(type, address, field) (AS(type, address)->field)
#else
#define LOAD(type, address, field)                                                                 \
    ({                                                                                             \
        type *_address = (type *)(address);                                                        \
        BPF_CORE_READ(_address, field);                                                            \
    })
#endif

#ifdef WEIR_TASK_LOADS

#define CURRENT() bpf_get_current_task_btf()
#define FETCH_ADD(pointer, n) __sync_fetch_and_add(pointer, n)

static __always_inline __u64 pid_tgid_of(struct task_struct *task) {
    return (__u64)task->tgid << 32 | (__u32)task->pid;
}

static __always_inline __u64 leader_start(struct task_struct *task) {
    return task->group_leader->start_boottime;
}

static __always_inline __u64 cgroup_id_of(struct task_struct *task) {
    return task->cgroups->dfl_cgrp->kn->id;
}

static __always_inline struct fdtable *fdtable_of(struct task_struct *task) {
    return task->files->fdt;
}
#define FDTABLE_LOAD(fdt, field) ((fdt)->field)

#else

#define CURRENT() ((struct task_struct *)bpf_get_current_task())
// Two threads that write to one socket in the same instant may both get the same position.
#define FETCH_ADD(pointer, n)                                                                      \
    ({                                                                                             \
        __u64 _before = *(volatile __u64 *)(pointer);                                              \
        __sync_fetch_and_add(pointer, n);                                                          \
        _before;                                                                                   \
    })

static __always_inline __u64 pid_tgid_of(struct task_struct *task) {
    return bpf_get_current_pid_tgid();
}

static __always_inline __u64 leader_start(struct task_struct *task) {
    return BPF_CORE_READ(task, group_leader, start_boottime);
}

static __always_inline __u64 cgroup_id_of(struct task_struct *task) {
    return bpf_get_current_cgroup_id();
}

static __always_inline struct fdtable *fdtable_of(struct task_struct *task) {
    return BPF_CORE_READ(task, files, fdt);
}
#define FDTABLE_LOAD(fdt, field) BPF_CORE_READ(fdt, field)

#endif

// The file of a descriptor, 0 if there is none.
static __always_inline struct file *file_of(struct task_struct *task, __u32 fd) {
    struct fdtable *fdt = fdtable_of(task);
    if (fd >= FDTABLE_LOAD(fdt, max_fds))
        return 0;
    struct file **slot = FDTABLE_LOAD(fdt, fd) + fd;
#ifdef WEIR_CASTS
    // Casts are to structs only; a kiocb begins with a pointer to a file, as the slot does.
    return LOAD(struct kiocb, slot, ki_filp);
#else
    struct file *file = 0;
    bpf_probe_read_kernel(&file, sizeof(file), slot);
    return file;
#endif
}

// Arguments of the system call that is returning: the registers keep them, so that reads need no
// program at their beginning.
struct call_args {
    __u64 a[5];
};

#ifdef WEIR_TASK_LOADS

#ifdef WEIR_CASTS
// The registers' place on the kernel stack, learnt from the first call.
__u64 regs_offset = 0;

static __always_inline struct pt_regs *regs_of(struct task_struct *task) {
    __u64 stack = (__u64)task->stack, offset = *(volatile __u64 *)&regs_offset;
    if (!offset) {
        struct weir_cpu *cpu = this_cpu();
        if (!cpu)
            return (struct pt_regs *)bpf_task_pt_regs(task);
        // Through memory: the verifier allows arithmetic with a number, not with this pointer.
        volatile __u64 *number = &cpu->scratch;
        *number = bpf_task_pt_regs(task);
        offset = *number - stack;
        regs_offset = offset;
    }
    return AS(struct pt_regs, stack + offset);
}
#else
static __always_inline struct pt_regs *regs_of(struct task_struct *task) {
    return (struct pt_regs *)bpf_task_pt_regs(task);
}
#endif

static __always_inline struct pt_regs *user_regs(struct task_struct *task) {
    return regs_of(task);
}

static __always_inline bool call_args(struct task_struct *task, __s32 id, struct call_args *args) {
    struct pt_regs *regs = regs_of(task);
#if defined(__TARGET_ARCH_x86)
    args->a[0] = regs->di;
    args->a[1] = regs->si;
    args->a[2] = regs->dx;
    args->a[3] = regs->r10;
    args->a[4] = regs->r8;
    return (__s64)regs->orig_ax == id;
#else // x0 holds the result by now; its old value is kept apart
    args->a[0] = regs->orig_x0;
    args->a[1] = regs->regs[1];
    args->a[2] = regs->regs[2];
    args->a[3] = regs->regs[3];
    args->a[4] = regs->regs[4];
    return (__s64)regs->regs[8] == id;
#endif
}

#else

// Where the user's registers begin, from the bottom of the task's kernel stack: at its top, less
// padding that depends on the kernel's configuration. Found by the first call whose number is
// there.
__u64 regs_offset = 0;

static __always_inline bool regs_hold(struct pt_regs *regs, __s32 id) {
    __u64 number = 0;
#if defined(__TARGET_ARCH_x86)
    bpf_core_read(&number, sizeof(number), &regs->orig_ax);
#else
    bpf_core_read(&number, sizeof(number), &regs->regs[8]);
#endif
    return (__s64)number == id;
}

static __noinline __u64 find_regs(__u64 stack, __s32 id) {
    __u64 bytes = bpf_core_type_size(struct pt_regs);
    for (__u64 stack_bytes = 16384; stack_bytes <= 65536; stack_bytes *= 2) {
        for (__u64 padding = 0; padding <= 16; padding += 8) {
            __u64 offset = stack_bytes - padding - bytes;
            if (regs_hold((struct pt_regs *)(stack + offset), id)) {
                regs_offset = offset;
                return offset;
            }
        }
    }
    return 0;
}

// 0 until the first call has found their place.
static __always_inline struct pt_regs *user_regs(struct task_struct *task) {
    __u64 offset = *(volatile __u64 *)&regs_offset;
    return offset ? (void *)BPF_CORE_READ(task, stack) + offset : 0;
}

static __always_inline bool call_args(struct task_struct *task, __s32 id, struct call_args *args) {
    __u64 stack = (__u64)BPF_CORE_READ(task, stack);
    __u64 offset = *(volatile __u64 *)&regs_offset;
    if (!offset)
        offset = find_regs(stack, id);
    struct pt_regs *regs = (struct pt_regs *)(stack + offset);
    if (!offset || !regs_hold(regs, id))
        return false;
#if defined(__TARGET_ARCH_x86)
    args->a[0] = BPF_CORE_READ(regs, di);
    args->a[1] = BPF_CORE_READ(regs, si);
    args->a[2] = BPF_CORE_READ(regs, dx);
    args->a[3] = BPF_CORE_READ(regs, r10);
    args->a[4] = BPF_CORE_READ(regs, r8);
    return true;
#else
    args->a[0] = BPF_CORE_READ(regs, orig_x0);
    return !bpf_core_read(&args->a[1], 4 * sizeof(__u64), &regs->regs[1]);
#endif
}

#endif

// Whether the task runs a 32-bit program, whose system calls have no tracepoints on any kernel: by
// the state of the processor that it will return to.
static __always_inline bool is_compat(struct task_struct *task) {
    struct pt_regs *regs = user_regs(task);
    if (!regs)
        return false;
#if defined(__TARGET_ARCH_x86)
    __u16 selector = 0;
    bpf_core_read(&selector, sizeof(selector), &regs->cs);
    return selector == 0x23; // __USER32_CS
#else
    __u64 state = 0;
    bpf_core_read(&state, sizeof(state), &regs->pstate);
    return state & 0x10; // PSR_MODE32_BIT
#endif
}
