// SPDX-License-Identifier: MIT OR GPL-2.0-only
// The kernel's types, as far as we use them: instead of a 2.8 MB vmlinux.h.
//
// Only names count: CO-RE finds each field's offset in the running kernel's BTF when the object is
// loaded. A field that some kernels lack is guarded with bpf_core_field_exists where it is read,
// and lives in a type of its own (`file___ref`: the part from ___ on is ignored in the lookup).
#pragma once

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u16 __sum16;
typedef __u32 __wsum;
#if __STDC_VERSION__ < 202311L // later they are keywords
typedef _Bool bool;
#define true 1
#define false 0
#endif

#include "weir_bpf.h"

typedef struct {
    long counter;
} atomic_long_t;

typedef struct {
    atomic_long_t refcnt;
} file_ref_t;

struct inode {
    unsigned long i_ino;
    __u16 i_mode;
} CORE;

struct file {
    const void *f_op;
    struct inode *f_inode;
    void *private_data;
} CORE;

struct file___ref { // 6.13 on: references less one
    file_ref_t f_ref;
} CORE;

struct file___count { // up to 6.12: references
    atomic_long_t f_count;
} CORE;

struct fdtable {
    unsigned int max_fds;
    struct file **fd;
} CORE;

struct files_struct {
    struct fdtable *fdt;
} CORE;

struct ns_common {
    unsigned int inum;
} CORE;

struct net {
    struct ns_common ns;
} CORE;

typedef struct {
    struct net *net;
} possible_net_t;

struct in6_addr {
    __u8 bytes[16];
};

struct sock_common {
    __be32 skc_daddr;
    __be32 skc_rcv_saddr;
    __be16 skc_dport;
    __u16 skc_num;
    unsigned short skc_family;
    unsigned char skc_state;
    void *skc_prot;
    possible_net_t skc_net;
    struct in6_addr skc_v6_daddr;
    struct in6_addr skc_v6_rcv_saddr;
} CORE;

struct sock {
    struct sock_common __sk_common;
    __u16 sk_type;
    __u16 sk_protocol;
    int sk_err;
    void *sk_prot_creator;
    struct socket *sk_socket;
} CORE;

struct tcp_sock {
    __u32 rcv_nxt;
    __u32 copied_seq; // sequence number behind what has been read
    __u32 snd_una;
    __u32 write_seq; // sequence number behind what has been written
    __u64 bytes_received;
    __u64 bytes_sent; // retransmissions included
    __u64 bytes_retrans;
} CORE;

struct socket {
    struct file *file;
    struct sock *sk;
} CORE;

struct sockaddr_un {
    __u16 sun_family; // the name follows
} CORE;

struct unix_address {
    int len; // of the family and the name
    struct sockaddr_un name[];
} CORE;

struct unix_sock {
    struct unix_address *addr;
    struct sock *peer;
} CORE;

struct socket_alloc { // a socket and its inode are one allocation
    struct socket socket;
    struct inode vfs_inode;
} CORE;

struct kiocb {
    struct file *ki_filp;
} CORE;

struct io_cqe {
    __s32 res;
} CORE;

struct io_cmd_data {
    struct file *file;
} CORE;

// A request to io_uring. What is behind `cmd` depends on the operation.
struct io_kiocb {
    struct file *file;
    struct io_cmd_data cmd;
    __u8 opcode;
    struct io_cqe cqe;
} CORE;

struct io_sr_msg { // send, receive
    void *buf;
    unsigned int done_io; // the buffer was moved on by as much
    unsigned int msg_flags;
    __u16 flags;
} CORE;

struct io_rw { // read, write
    __u64 addr;
} CORE;

struct io_accept {
    __u32 file_slot; // not 0: the result is no descriptor
} CORE;

struct kernfs_node {
    __u64 id;
} CORE;

struct cgroup {
    struct kernfs_node *kn;
} CORE;

struct css_set {
    struct cgroup *dfl_cgrp; // the cgroup in the v2 hierarchy
} CORE;

struct signal_struct {
    struct {
        int counter;
    } live;
} CORE;

struct mm_struct {
    unsigned long arg_start;
    unsigned long arg_end;
} CORE;

struct task_struct {
    int pid;
    int tgid;
    int exit_code;
    unsigned int flags;
    char comm[16];
    void *stack;
    struct mm_struct *mm;
    __u64 start_boottime;
    struct task_struct *group_leader;
    struct task_struct *real_parent;
    struct files_struct *files;
    struct signal_struct *signal;
    struct css_set *cgroups;
} CORE;

// What a syscalls/sys_enter_* and sys_exit_* program gets (perf_syscall_enter and perf_syscall_exit
// in kernel/trace/trace_syscalls.c). Programs may not load the first word.
struct sys_enter_ctx {
    __u64 _hidden;
    __s32 id;
    __s32 _pad;
    __u64 args[6];
};

struct sys_exit_ctx {
    __u64 _hidden;
    __s32 id;
    __s32 _pad;
    __s64 ret;
};

// What the program of sock/inet_sock_set_state gets, as far as all kernels agree.
struct set_state_ctx {
    __u64 _hidden;
    struct sock *sk;
    __s32 old_state;
    __s32 new_state;
    __u16 local_port; // in the processor's order, also of a socket that has let go of it
};

// What a raw_tracepoint program gets: the arguments that the kernel passes to the tracepoint.
struct raw_ctx {
    __u64 args[4];
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
    unsigned long r10, r8, dx, si, di, orig_ax, cs;
} CORE;
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
    __u64 regs[31];
    __u64 orig_x0;
    __u64 pstate;
} CORE;
#else
#error "no register layout for this architecture"
#endif

// What a uprobe program gets: the user's registers, laid out as the user ABI fixes them.
#if defined(__TARGET_ARCH_x86)
struct probe_ctx {
    __u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
    __u64 orig_ax, ip, cs, flags, sp, ss;
};
#define ARGUMENT_1(ctx) ((ctx)->di)
#define ARGUMENT_2(ctx) ((ctx)->si)
#define ARGUMENT_4(ctx) ((ctx)->cx)
#define RESULT(ctx) ((ctx)->ax)
#define CALLED_AT(ctx) ((ctx)->sp - 8) // the return address is off the stack
#define GOROUTINE(ctx) ((ctx)->r14)
#define GO_ARGUMENT_1(ctx) ((ctx)->ax)
#define GO_ARGUMENT_2(ctx) ((ctx)->bx)
#define GO_ARGUMENT_3(ctx) ((ctx)->cx)
#define GO_RESULT_1(ctx) ((ctx)->ax)
#else
struct probe_ctx {
    __u64 regs[31];
    __u64 sp, pc, pstate;
};
#define ARGUMENT_1(ctx) ((ctx)->regs[0])
#define ARGUMENT_2(ctx) ((ctx)->regs[1])
#define ARGUMENT_4(ctx) ((ctx)->regs[3])
#define RESULT(ctx) ((ctx)->regs[0])
#define CALLED_AT(ctx) ((ctx)->sp)
#define GOROUTINE(ctx) ((ctx)->regs[28])
#define GO_ARGUMENT_1(ctx) ((ctx)->regs[0])
#define GO_ARGUMENT_2(ctx) ((ctx)->regs[1])
#define GO_ARGUMENT_3(ctx) ((ctx)->regs[2])
#define GO_RESULT_1(ctx) ((ctx)->regs[0])
#endif

// What the system call passes in from user memory: the 64-bit user ABI, not the kernel's.
struct user_iovec {
    __u64 base;
    __u64 bytes;
};

struct user_msghdr {
    __u64 name;
    __u32 name_bytes;
    __u32 _pad0;
    __u64 iov;
    __u64 iov_count;
    __u64 control;
    __u64 control_bytes;
    __u32 flags;
    __u32 _pad1;
};

struct user_mmsghdr {
    struct user_msghdr header;
    __u32 bytes;
    __u32 _pad;
};

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_MPTCP 262
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define MSG_PEEK 0x2
#define MSG_TRUNC 0x20
#define MSG_ERRQUEUE 0x2000
#define SHUT_RD 0
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_FIN_WAIT1 4
#define TCP_FIN_WAIT2 5
#define TCP_TIME_WAIT 6
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define TCP_LAST_ACK 9
#define TCP_LISTEN 10
#define TCP_CLOSING 11
#define PF_KTHREAD 0x00200000
#define EISCONN 106
#define EALREADY 114
#define EINPROGRESS 115
