// SPDX-License-Identifier: MIT OR GPL-2.0-only
// From a file descriptor to its socket, to what is known of that, to whether it is wanted.
#pragma once

#include "sequence.h"

// The one call that is being looked at. Not to be named within a CO-RE read: that would take it
// for a type of the kernel's.
struct call {
    const struct weir_config *cfg;
    struct task_struct *task;
    struct weir_conn *conn;
    struct sock *sk;
    struct weir_conn_key key;
    __u64 pid_tgid;
    __u64 began_mono_ns; // of a write, 0 if not known yet
    __s32 fd;
    enum process_match match;
};

// Address of socket_file_ops, learnt from the first socket: from then on one load tells a socket
// from another file, where the inode's mode takes two.
__u64 socket_file_ops = 0;

static __always_inline bool is_socket(struct file *file) {
    __u64 ops = (__u64)LOAD(struct file, file, f_op);
    __u64 known = *(volatile __u64 *)&socket_file_ops;
    if (known)
        return ops == known;
    if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
        return false;
    socket_file_ops = ops;
    return true;
}

// 0 unless the socket is of a kind that we capture.
static __always_inline __u32 kind_of(struct sock *sk, struct weir_addresses *a) {
    __u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
    __u16 type = BPF_CORE_READ(sk, sk_type);
    a->family = family;
    a->socket_type = type;
    if (family == AF_UNIX)
        return type == SOCK_STREAM ? WEIR_UNIX : 0;
    if (family != AF_INET && family != AF_INET6)
        return 0;
    __u16 protocol = BPF_CORE_READ(sk, sk_protocol);
    if (type == SOCK_STREAM)
        return protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP ? WEIR_TCP : 0;
    return type == SOCK_DGRAM && protocol == IPPROTO_UDP ? WEIR_UDP : 0;
}

static __always_inline void set_v4(__u8 *addr, __u32 v4) {
    __u32 *words = (__u32 *)addr;
    words[0] = words[1] = 0;
    words[2] = v4 ? bpf_htonl(0xffff) : 0;
    words[3] = v4;
}

static __always_inline void read_addresses(struct sock *sk, struct weir_addresses *a) {
    if (a->family == AF_INET) {
        set_v4(a->local_addr, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
        set_v4(a->remote_addr, BPF_CORE_READ(sk, __sk_common.skc_daddr));
    } else if (a->family == AF_INET6 && bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) {
        bpf_core_read(a->local_addr, 16, &sk->__sk_common.skc_v6_rcv_saddr);
        bpf_core_read(a->remote_addr, 16, &sk->__sk_common.skc_v6_daddr);
    }
    if (a->family != AF_UNIX) {
        a->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
        a->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
    }
}

// The peer, from the sockaddr that the call passed in or out.
static __always_inline void set_peer(struct weir_addresses *a, __u64 name) {
    struct {
        __u16 family;
        __be16 port;
        __u32 v4_or_flow;
        __u8 v6[16];
    } peer = {};
    if (!name || bpf_probe_read_user(&peer, 8, (void *)name))
        return;
    if (peer.family == AF_INET) {
        set_v4(a->remote_addr, peer.v4_or_flow);
    } else if (peer.family == AF_INET6) {
        if (bpf_probe_read_user(a->remote_addr, 16, (void *)(name + 8)))
            return;
    } else {
        return;
    }
    a->remote_port = bpf_ntohs(peer.port);
}

static __always_inline bool port_allowed(const struct weir_addresses *a) {
    __u16 local = a->local_port, remote = a->remote_port;
    return bpf_map_lookup_elem(&allowed_ports, &local) ||
           bpf_map_lookup_elem(&allowed_ports, &remote);
}

static __noinline void judge(const struct weir_config *cfg, struct weir_conn *conn) {
    bool inet = conn->addresses.family != AF_UNIX;
    conn->excluded = inet && cfg->exclusions && is_excluded(cfg, &conn->addresses);
    conn->port_allowed = inet && (cfg->allow & WEIR_ALLOW_PORTS) && port_allowed(&conn->addresses);
    conn->filter_generation = cfg->filter_generation;
}

// Enter a socket into the table, in place of what was there, to be judged by whoever looks at it
// first: from here that would be a third frame, and with those of the largest programs more stack
// than kernels before 6.13 have. The verifier takes this function apart once per object if it is
// not inlined.
static __noinline struct weir_conn *enter_conn(const struct weir_config *cfg, struct sock *sk,
                                               const struct weir_conn_key *key, __u32 opened,
                                               __u64 name) {
    struct weir_conn fresh = {};
    if (!(kind_of(sk, &fresh.addresses) & cfg->sockets)) {
        count(WEIR_COUNT_OTHER_SOCKETS, 1);
        return 0;
    }
    read_addresses(sk, &fresh.addresses);
    if (!fresh.addresses.remote_port)
        set_peer(&fresh.addresses, name);
    if (bpf_core_field_exists(sk->__sk_common.skc_net))
        fresh.addresses.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
    fresh.addresses.opened = opened;
    fresh.generation = (__u32)(bpf_ktime_get_ns() >> 16) | 1;
    // A non-blocking connect is asked for again until it is done: still the same connection.
    struct weir_conn *before = bpf_map_lookup_elem(&conns, key);
    if (before && !before->moved_bytes[0] && !before->moved_bytes[1])
        fresh.generation = before->generation;
    fresh.stop_generation = cfg->stop_generation;
    __u8 *stopped = bpf_map_lookup_elem(&stopped_conns, key);
    fresh.stopped = stopped ? *stopped : 0;
    if (fresh.addresses.family != AF_UNIX && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP) {
        fresh.sequenced = WEIR_SEQUENCE_TCP;
        if (opened != WEIR_OPENED_UNKNOWN)
            learn_sequences(&fresh, sk);
    }
    fresh.filter_generation = cfg->filter_generation - 1;
    if (bpf_map_update_elem(&conns, key, &fresh, BPF_ANY)) {
        count(WEIR_COUNT_CONNS_FAILED, 1);
        return 0;
    }
    return bpf_map_lookup_elem(&conns, key);
}

static __always_inline bool take_socket(struct call *call, struct file *file) {
    if (!file || !is_socket(file)) {
        count(WEIR_COUNT_NON_SOCKETS, 1);
        return false;
    }
    void *socket = LOAD(struct file, file, private_data);
    call->sk = LOAD(struct socket, socket, sk);
    call->key.sock = (__u64)call->sk;
    call->key.inode = LOAD(struct socket_alloc, socket, vfs_inode.i_ino);
    return call->sk;
}

static __always_inline bool find_socket(struct call *call) {
    return take_socket(call, file_of(call->task, call->fd));
}

// A file that nobody holds any more: its last reference is being dropped.
static __always_inline bool is_dead(struct file *file) {
    struct file___ref *counted_less_one = (void *)file;
    if (bpf_core_field_exists(counted_less_one->f_ref))
        return BPF_CORE_READ(counted_less_one, f_ref.refcnt.counter) < 0;
    struct file___count *counted = (void *)file;
    return BPF_CORE_READ(counted, f_count.counter) == 0;
}

static __always_inline bool is_last_reference(struct file *file) {
    struct file___ref *counted_less_one = (void *)file;
    if (bpf_core_field_exists(counted_less_one->f_ref))
        return BPF_CORE_READ(counted_less_one, f_ref.refcnt.counter) == 0;
    struct file___count *counted = (void *)file;
    return BPF_CORE_READ(counted, f_count.counter) == 1;
}

static __always_inline void forget(struct weir_conn_key *key) {
    bpf_map_delete_elem(&conns, key);
    bpf_map_delete_elem(&stopped_conns, key);
}

// Judged anew first if filters have changed since. Our own process's Unix sockets are never anybody's business: runtimes
// wake themselves by them.
static __always_inline bool is_wanted(struct call *call) {
    struct weir_conn *conn = call->conn;
    if (conn->filter_generation != call->cfg->filter_generation)
        judge(call->cfg, conn);
    if (conn->excluded ||
        (conn->addresses.family == AF_UNIX && call->pid_tgid >> 32 == call->cfg->own_pid)) {
        count(WEIR_COUNT_EXCLUDED, 1);
        return false;
    }
    if (call->match == PROCESS_UNDECIDED && !conn->port_allowed &&
        conn->addresses.socket_type != SOCK_DGRAM) {
        count(WEIR_COUNT_FILTERED, 1);
        return false;
    }
    return true;
}

// The call's process, as far as the follow lists go.
static __always_inline bool begin(struct call *call) {
    call->cfg = configured();
    if (!call->cfg)
        return false;
    call->task = CURRENT();
    call->pid_tgid = pid_tgid_of(call->task);
    call->match = process_match(call->cfg, call->pid_tgid >> 32);
    if (call->match == PROCESS_REJECTED) {
        count(WEIR_COUNT_FILTERED, 1);
        return false;
    }
    return true;
}

// The socket's entry in the table, made if it is new there.
static __always_inline bool take_conn(struct call *call) {
    struct weir_conn *conn = bpf_map_lookup_elem(&conns, &call->key);
    if (!conn) {
        conn = enter_conn(call->cfg, call->sk, &call->key, WEIR_OPENED_UNKNOWN, 0);
        if (!conn)
            return false;
    }
    call->conn = conn;
    return is_wanted(call);
}

static __always_inline bool find_conn(struct call *call) {
    return find_socket(call) && take_conn(call);
}

// Bytes that were moved before the `bytes` of the call that ends now, and are not counted yet.
static __always_inline __u64 unseen_bytes(struct call *call, __u32 direction, __u64 bytes) {
    struct weir_conn *conn = call->conn;
    if (!conn->sequenced)
        return 0;
    __u32 expected =
        conn->sequence_base[direction] + (__u32)conn->moved_bytes[direction] + (__u32)bytes;
    __u32 ahead = sequence_of(call->sk, direction) - expected;
    return ahead ? unexpected(conn, &call->key, direction, ahead, bytes) : 0;
}

// Whether nobody wants the socket's own bytes.
static __always_inline bool is_stopped(struct call *call) {
    struct weir_conn *conn = call->conn;
    if (conn->stop_generation != call->cfg->stop_generation) {
        conn->stop_generation = call->cfg->stop_generation;
        __u8 *stopped = bpf_map_lookup_elem(&stopped_conns, &call->key);
        conn->stopped = stopped ? *stopped : 0;
    }
    return conn->stopped || (conn->flags & WEIR_CONN_PLAIN);
}

// Whether nobody wants anything of the socket: of one with TLS its end still matters.
static __always_inline bool is_silent(struct call *call) {
    bool stopped = is_stopped(call);
    struct weir_conn *conn = call->conn;
    return conn->flags & WEIR_CONN_PLAIN ? conn->stopped == WEIR_STOP_ALL : stopped;
}
