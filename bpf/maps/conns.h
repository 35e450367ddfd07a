// SPDX-License-Identifier: MIT OR GPL-2.0-only
// What is known of each socket: positions, addresses, and whether it is wanted.
//
// Least recently used sockets are forgotten when the table is full. A forgotten socket that speaks
// again gets a new generation, whose positions begin at 0.
#pragma once

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 65536); // the loader sets its own
    __type(key, struct weir_conn_key);
    __type(value, struct weir_conn);
} conns SEC(".maps");
