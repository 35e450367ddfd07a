// SPDX-License-Identifier: MIT OR GPL-2.0-only
// The tables of header fields that Go programs keep of their connections of HTTP/2: of one that is older than
// Weir, user space does not know what fields refer to.
//
// Of hpack, which grpc-go and net/http have, two functions are looked at: the decoder is given a block, the
// encoder a field. Which connection it is of:
//   the goroutine that decodes reads the connection: it is the one that it reads before and next, and by then all
//   blocks of the bytes before have been decoded;
//   the goroutine that encodes writes the connection next, and nobody encodes meanwhile. The encoder has a buffer,
//   which holds the last block. In net/http it is within what holds the connection, too, and must be: goroutines
//   are used again. In grpc-go it is by itself, and one goroutine does all of the connection as long as that lives.
// There the table is copied: where Read begins or Write ends, so the goroutine that changes it does not.
// With it goes how the last block begins, by which user space sees that it is this connection's, and the place.
// These probes are there for a minute, for connections that are older than Weir.
#pragma once

#define GO_ENTRIES_MAX 256
#define GO_TABLE_BYTES_MAX 16384
#define GO_TABLE_ROOM_MAX (1 << 20)
#define GO_ENTRY_COST 32
#define GO_BLOCK_BYTES_MAX (1 << 20)
// Tables of a connection and direction that are copied.
#define GO_MEMOS_MAX 8
// (hpack.Encoder).w, behind the table: an interface, of which the value is the buffer's address.
#define GO_ENCODER_BUFFER_AT 88
// Within net/http's connections the buffer is followed by the address of the encoder.
#define GO_BUFFER_OWNER_AT 40
// And has the address of the connection not far before it: 304 to 376 bytes.
#define GO_CONN_BEFORE 448

// A goroutine that encodes or decodes.
struct weir_go_codec {
    __u64 conn;  // that it read or wrote last
    __u64 codec; // that it used since then, or 0
    __u64 block_bytes;
    __u8 block[WEIR_MEMO_BLOCK_BYTES];
};

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 4096);
    __type(key, struct weir_go_key);
    __type(value, struct weir_go_codec);
} go_codecs SEC(".maps");

struct go_table {
    __u64 entries_at, entries, room;
    __u64 dropped;
    __u64 by_name, by_name_value;
    __u32 bytes, bytes_max, allowed, _pad;
};

struct go_field {
    __u64 name, name_bytes;
    __u64 value, value_bytes;
    __u64 is_sensitive;
};

// Brings the type into the object's BTF, where a test looks for its layout.
const struct weir_memo *layout_of_memo __attribute__((unused));

static __always_inline struct weir_go_codec *go_codec(__u64 goroutine, __u32 direction) {
    struct weir_go_key key = { .goroutine = goroutine };
    key.pid = bpf_get_current_pid_tgid() >> 32 | (__u64)direction << 32;
    struct weir_go_codec *known = bpf_map_lookup_elem(&go_codecs, &key);
    if (known)
        return known;
    struct weir_go_codec fresh = {};
    bpf_map_update_elem(&go_codecs, &key, &fresh, BPF_ANY);
    return bpf_map_lookup_elem(&go_codecs, &key);
}

// Nothing more is said on its connection: it may become another one.
static __noinline void go_forget(__u64 goroutine, __u32 direction) {
    struct weir_go_key key = { .goroutine = goroutine };
    key.pid = bpf_get_current_pid_tgid() >> 32 | (__u64)direction << 32;
    bpf_map_delete_elem(&go_codecs, &key);
}

// The same where one is used, if its process is looked at.
static __always_inline struct weir_go_codec *go_uses(struct probe_ctx *ctx, __u32 direction) {
    const struct weir_config *cfg = configured();
    __u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (!cfg || process_match(cfg, pid) == PROCESS_REJECTED)
        return 0;
    return go_codec(GOROUTINE(ctx), direction);
}

static __always_inline void go_block(__u8 *to, __u64 from, __u64 bytes) {
    barrier_var(bytes);
    if (bytes > WEIR_MEMO_BLOCK_BYTES)
        bytes = WEIR_MEMO_BLOCK_BYTES;
    if (bpf_probe_read_user(to, bytes, (void *)from))
        count(WEIR_COUNT_FAULTS, 1);
}

// The decoder is given a block, or a part of one.
SEC("uprobe") int go_decodes(struct probe_ctx *ctx) {
    struct weir_go_codec *codec = go_uses(ctx, WEIR_INGRESS);
    __u64 bytes = GO_ARGUMENT_3(ctx);
    if (!codec || !bytes || bytes > GO_BLOCK_BYTES_MAX)
        return 0;
    codec->codec = GO_ARGUMENT_1(ctx);
    codec->block_bytes = bytes;
    __builtin_memset(codec->block, 0, sizeof(codec->block));
    go_block(codec->block, GO_ARGUMENT_2(ctx), bytes);
    return 0;
}

// The encoder is given a field.
SEC("uprobe") int go_encodes(struct probe_ctx *ctx) {
    struct weir_go_codec *codec = go_uses(ctx, WEIR_EGRESS);
    if (codec)
        codec->codec = GO_ARGUMENT_1(ctx);
    return 0;
}

// Copy a text to the slot, behind what there is. Global functions are verified once, see gather_next.
__attribute__((noinline)) __u64 memo_text(__u32 index, __u64 from, __u64 bytes, __u64 got) {
    struct weir_tls_slot *taken = bpf_map_lookup_elem(&tls_slots, &index);
    if (!taken || got > WEIR_PAYLOAD_MAX)
        return WEIR_FAULT;
    barrier_var(bytes);
    if (bytes > GO_TABLE_BYTES_MAX)
        return WEIR_FAULT;
    if (bytes && bpf_probe_read_user(&taken->slot.payload[got], bytes, (void *)from))
        return WEIR_FAULT;
    return got + bytes;
}

__attribute__((noinline)) __u64 memo_lengths(__u32 index, __u32 name_bytes, __u32 value_bytes,
                                             __u64 got) {
    struct weir_tls_slot *taken = bpf_map_lookup_elem(&tls_slots, &index);
    if (!taken || got > WEIR_PAYLOAD_MAX)
        return WEIR_FAULT;
    __u32 lengths[2] = {name_bytes, value_bytes};
    if (bpf_probe_read_kernel(&taken->slot.payload[got], sizeof(lengths), lengths))
        return WEIR_FAULT;
    return got + sizeof(lengths);
}

struct go_copying {
    __u64 entries_at;
    __u64 entries;
    __u64 left; // bytes of texts that are still to come
    __u64 got;
    __u64 index; // of the slot
};

BODY go_copy_field(__u64 turn, void *context) {
    struct go_copying *all = context;
    struct go_field field;
    if (turn >= all->entries)
        return 1;
    __u64 got = all->got;
    all->got = WEIR_FAULT;
    if (bpf_probe_read_user(&field, sizeof(field), (void *)(all->entries_at + turn * sizeof(field))))
        return 1;
    if (field.name_bytes > all->left || field.value_bytes > all->left - field.name_bytes)
        return 1;
    all->left -= field.name_bytes + field.value_bytes;
    got = memo_lengths(all->index, field.name_bytes, field.value_bytes, got);
    got = memo_text(all->index, field.name, field.name_bytes, got);
    got = memo_text(all->index, field.value, field.value_bytes, got);
    all->got = got;
    return got == WEIR_FAULT;
}

// What the encoder's buffer holds: the last block. False: there is none, or it is not this connection's.
static __always_inline bool go_encoded(struct weir_slot *s, __u64 encoder, __u64 conn) {
    struct weir_memo *memo = (void *)s->payload;
    __u64 buffer = 0, owner = 0, block[2] = {};
    if (bpf_probe_read_user(&buffer, 8, (void *)(encoder + GO_ENCODER_BUFFER_AT)) || !buffer ||
        bpf_probe_read_user(block, sizeof(block), (void *)buffer) || !block[1] ||
        block[1] > GO_BLOCK_BYTES_MAX ||
        bpf_probe_read_user(&owner, 8, (void *)(buffer + GO_BUFFER_OWNER_AT)))
        return false;
    if (owner == encoder) {
        __u64 *words = (void *)s->payload;
        if (bpf_probe_read_user(words, GO_CONN_BEFORE, (void *)(buffer - GO_CONN_BEFORE)))
            return false;
        bool is_its = false;
        for (__u32 i = 0; i < GO_CONN_BEFORE / 8; i++)
            is_its |= words[i] == conn;
        if (!is_its)
            return false;
    }
    __builtin_memset(memo, 0, sizeof(*memo));
    memo->block_bytes = block[1];
    memo->encodes = 1;
    go_block(memo->block, block[0], block[1]);
    return true;
}

static __always_inline bool go_copy_table(struct weir_slot *s, __u32 index, __u64 codec) {
    struct weir_memo *memo = (void *)s->payload;
    struct go_table table;
    if (bpf_probe_read_user(&table, sizeof(table), (void *)codec))
        return false;
    __u64 cost = table.entries * GO_ENTRY_COST;
    if (!table.entries || table.entries > GO_ENTRIES_MAX || table.room < table.entries ||
        table.bytes > GO_TABLE_BYTES_MAX || table.bytes > table.bytes_max ||
        table.bytes_max > GO_TABLE_ROOM_MAX || table.bytes < cost)
        return false;
    memo->entries = table.entries;
    memo->table_bytes = table.bytes;
    memo->table_bytes_max = table.bytes_max;
    struct go_copying all = { .entries_at = table.entries_at, .entries = table.entries };
    all.left = table.bytes - cost;
    all.got = sizeof(*memo);
    all.index = index;
    EACH(GO_ENTRIES_MAX, go_copy_field, &all);
    if (all.got == WEIR_FAULT || all.left)
        return false;
    s->record.payload_bytes = all.got;
    return true;
}

// The goroutine will read the connection next, or has written it: `bytes`, of which nobody has been told yet.
static __noinline void go_memo(struct call *call, __u64 goroutine, __u64 conn, __u32 direction,
                               __u64 bytes) {
    struct weir_conn *socket = call->conn;
    struct weir_go_codec *codec = go_codec(goroutine, direction);
    if (!codec || !socket)
        return;
    __u64 at = codec->codec, before = codec->conn;
    codec->conn = conn;
    codec->codec = 0;
    if (!at || (before && before != conn) || !(socket->flags & WEIR_CONN_JOINED) ||
        socket->stopped == WEIR_STOP_ALL || socket->memos[direction & 1] >= GO_MEMOS_MAX)
        return;
    __u32 index = 0;
    struct weir_tls_slot *taken = take_tls_slot(&index);
    if (!taken)
        return;
    struct weir_slot *s = &taken->slot;
    fill_record(call, &s->record, WEIR_MEMO, bpf_ktime_get_ns());
    s->record.direction = direction;
    s->record.flags = WEIR_JOINED;
    s->record.position_bytes = socket->plain_bytes[direction & 1] + bytes;
    struct weir_memo *memo = (void *)s->payload;
    bool has_block = true;
    if (direction == WEIR_EGRESS) {
        has_block = go_encoded(s, at, conn);
    } else {
        __builtin_memset(memo, 0, sizeof(*memo));
        memo->block_bytes = codec->block_bytes;
        __builtin_memcpy(memo->block, codec->block, sizeof(memo->block));
    }
    if (has_block && go_copy_table(s, index, at)) {
        socket->memos[direction & 1] += 1;
        deliver(call->cfg, s, s->record.payload_bytes);
    }
    give_tls_slot(taken);
}

// The connection will be read.
SEC("uprobe") int go_reads(struct probe_ctx *ctx) {
    __u64 goroutine = GOROUTINE(ctx), conn = GO_ARGUMENT_1(ctx);
    struct call call = { .cfg = configured() };
    __u64 id = bpf_get_current_pid_tgid();
    if (!call.cfg)
        return 0;
    call.match = process_match(call.cfg, id >> 32);
    if (call.match == PROCESS_REJECTED)
        return 0;
    struct weir_go_codec *codec = go_codec(goroutine, WEIR_INGRESS);
    if (!codec)
        return 0;
    if (!codec->codec) {
        codec->conn = conn;
        return 0;
    }
    call.pid_tgid = id;
    call.task = CURRENT();
    call.fd = go_descriptor(conn);
    if (call.fd < 0 || !find_socket(&call))
        return 0;
    call.conn = bpf_map_lookup_elem(&conns, &call.key);
    if (call.conn && is_wanted(&call))
        go_memo(&call, goroutine, conn, WEIR_INGRESS, 0);
    return 0;
}
