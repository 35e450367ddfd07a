// SPDX-License-Identifier: MIT OR GPL-2.0-only
// What to look at: all of it is written by user space, and may change at any time.
#pragma once

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct weir_config);
} config SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1024);
    __type(key, __u32);
    __type(value, __u8);
} allowed_pids SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1024);
    __type(key, __u32);
    __type(value, __u8);
} denied_pids SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1024);
    __type(key, __u16);
    __type(value, __u8);
} allowed_ports SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, __u64);
    __type(value, __u8);
} allowed_cgroups SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 8192);
    __type(key, struct weir_pair_key);
    __type(value, __u8);
} excluded_pairs SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 256);
    __type(key, struct weir_listener_key);
    __type(value, __u8);
} excluded_listeners SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 65536);
    __type(key, struct weir_conn_key);
    __type(value, __u8);
} stopped_conns SEC(".maps");

static __always_inline const struct weir_config *configured(void) {
    __u32 zero = 0;
    const struct weir_config *cfg = bpf_map_lookup_elem(&config, &zero);
    return cfg && cfg->enabled ? cfg : 0;
}

enum process_match { PROCESS_REJECTED, PROCESS_UNDECIDED, PROCESS_WANTED };

// UNDECIDED: neither pid nor cgroup is listed, but ports are, and may still match.
static __always_inline enum process_match process_match(const struct weir_config *cfg, __u32 pid) {
    if (cfg->deny && bpf_map_lookup_elem(&denied_pids, &pid))
        return PROCESS_REJECTED;
    if (!cfg->allow)
        return PROCESS_WANTED;
    if ((cfg->allow & WEIR_ALLOW_PIDS) && bpf_map_lookup_elem(&allowed_pids, &pid))
        return PROCESS_WANTED;
    if (cfg->allow & WEIR_ALLOW_CGROUPS) {
        __u64 cgroup_id = bpf_get_current_cgroup_id();
        if (bpf_map_lookup_elem(&allowed_cgroups, &cgroup_id))
            return PROCESS_WANTED;
    }
    return cfg->allow & WEIR_ALLOW_PORTS ? PROCESS_UNDECIDED : PROCESS_REJECTED;
}

static __always_inline bool listener_excluded(const __u8 *addr, __u16 port) {
    struct weir_listener_key key = { .port = port };
    if (addr)
        __builtin_memcpy(key.addr, addr, 16);
    return bpf_map_lookup_elem(&excluded_listeners, &key);
}

static __always_inline bool is_loopback(const __u8 *addr) {
    const __u32 *words = (const __u32 *)addr;
    if (words[0] || words[1])
        return false;
    if (words[2] == bpf_htonl(0xffff))
        return addr[12] == 127;
    return !words[2] && words[3] == bpf_htonl(1);
}

static __always_inline bool same_addr(const __u8 *a, const __u8 *b) {
    const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;
    return x[0] == y[0] && x[1] == y[1];
}

// Whether the connection is one of ours, seen from either end. An all-zero address stands for any
// address of our network namespace; another namespace may have a service on the same port.
static __always_inline bool is_excluded(const struct weir_config *cfg,
                                        const struct weir_addresses *a) {
    struct weir_pair_key pair = { .a_port = a->local_port, .b_port = a->remote_port };
    __builtin_memcpy(pair.a_addr, a->local_addr, 16);
    __builtin_memcpy(pair.b_addr, a->remote_addr, 16);
    if (bpf_map_lookup_elem(&excluded_pairs, &pair))
        return true;
    pair.a_port = a->remote_port;
    pair.b_port = a->local_port;
    __builtin_memcpy(pair.a_addr, a->remote_addr, 16);
    __builtin_memcpy(pair.b_addr, a->local_addr, 16);
    if (bpf_map_lookup_elem(&excluded_pairs, &pair))
        return true;
    bool remote_is_loopback = is_loopback(a->remote_addr);
    if (a->netns != cfg->own_netns)
        return !remote_is_loopback && listener_excluded(a->remote_addr, a->remote_port);
    return listener_excluded(a->local_addr, a->local_port) ||
           listener_excluded(0, a->local_port) ||
           listener_excluded(a->remote_addr, a->remote_port) ||
           ((remote_is_loopback || same_addr(a->local_addr, a->remote_addr)) &&
            listener_excluded(0, a->remote_port));
}
