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
// With it goes how the last block begins, by which user space sees that it is this connection's, and the place; and how
// many entries that block has put into it, by which it sees that the table is neither older nor newer than the block.
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

#define GO_UNKNOWN (~0ULL)

// A goroutine that encodes or decodes.
struct weir_go_codec {
    __u64 conn;  // that it read or wrote last
    __u64 codec; // that it used since then, or 0
    __u64 inserted; // into its table, ever, before the last block; GO_UNKNOWN
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
    struct weir_go_codec fresh = { .inserted = GO_UNKNOWN };
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

// How many entries an encoder or decoder has put into its table, ever: those that are there, and those dropped.
static __always_inline __u64 go_inserted(__u64 codec) {
    __u64 table[4];
    return bpf_probe_read_user(table, sizeof(table), (void *)codec) ? GO_UNKNOWN : table[1] + table[3];
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
    codec->inserted = go_inserted(codec->codec);
    codec->block_bytes = bytes;
    __builtin_memset(codec->block, 0, sizeof(codec->block));
    go_block(codec->block, GO_ARGUMENT_2(ctx), bytes);
    return 0;
}

// The encoder is given a field; the first one of a block where its buffer is empty.
SEC("uprobe") int go_encodes(struct probe_ctx *ctx) {
    struct weir_go_codec *codec = go_uses(ctx, WEIR_EGRESS);
    if (!codec)
        return 0;
    __u64 buffer = 0, block[2] = {};
    codec->codec = GO_ARGUMENT_1(ctx);
    if (bpf_probe_read_user(&buffer, 8, (void *)(codec->codec + GO_ENCODER_BUFFER_AT)) ||
        bpf_probe_read_user(block, sizeof(block), (void *)buffer))
        codec->inserted = GO_UNKNOWN;
    else if (!block[1])
        codec->inserted = go_inserted(codec->codec);
    return 0;
}

static __always_inline bool memo_text(struct weir_tls_slot *taken, __u64 from, __u64 bytes, __u64 at) {
    barrier_var(bytes);
    barrier_var(at);
    if (bytes > GO_TABLE_BYTES_MAX || at > WEIR_PAYLOAD_MAX ||
        (bytes && bpf_probe_read_user(&taken->slot.payload[at], bytes, (void *)from)))
        return false;
    taken->slot.record.payload_bytes = at + bytes;
    return true;
}

// Copy an entry, its texts' lengths first, to the slot behind what its record counts as payload. 0: it is none.
//
// How far it got is in the slot, of which the verifier knows nothing: so all turns of the loop below look the same
// to it, also where functions are not verified by themselves (programs loaded without information on them, as those
// of TLS are for links; neither is a helper's callback to be had there).
__attribute__((noinline)) __u64 go_copy_field(__u32 index, __u64 from) {
    struct weir_tls_slot *taken = bpf_map_lookup_elem(&tls_slots, &index);
    struct go_field field;
    if (!taken || bpf_probe_read_user(&field, sizeof(field), (void *)from))
        return false;
    __u32 lengths[2] = {field.name_bytes, field.value_bytes};
    __u64 got = taken->slot.record.payload_bytes;
    if (got > WEIR_PAYLOAD_MAX || field.name_bytes > GO_TABLE_BYTES_MAX ||
        field.value_bytes > GO_TABLE_BYTES_MAX)
        return false;
    __builtin_memcpy(&taken->slot.payload[got], lengths, sizeof(lengths));
    return memo_text(taken, field.name, field.name_bytes, got + sizeof(lengths)) &&
           memo_text(taken, field.value, field.value_bytes, taken->slot.record.payload_bytes);
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

// `inserted`: before the last block.
static __always_inline bool go_copy_table(struct weir_slot *s, __u32 index, __u64 codec,
                                          __u64 inserted) {
    struct weir_memo *memo = (void *)s->payload;
    struct go_table table;
    if (bpf_probe_read_user(&table, sizeof(table), (void *)codec))
        return false;
    __u64 cost = table.entries * GO_ENTRY_COST;
    if (!table.entries || table.entries > GO_ENTRIES_MAX || table.room < table.entries ||
        table.bytes > GO_TABLE_BYTES_MAX || table.bytes > table.bytes_max ||
        table.bytes_max > GO_TABLE_ROOM_MAX || table.bytes < cost)
        return false;
    inserted = table.entries + table.dropped - inserted;
    if (inserted > GO_BLOCK_BYTES_MAX)
        return false;
    memo->inserted = inserted;
    memo->entries = table.entries;
    memo->table_bytes = table.bytes;
    memo->table_bytes_max = table.bytes_max;
    s->record.payload_bytes = sizeof(*memo);
    for (__u64 i = 0; i < GO_ENTRIES_MAX; i++) {
        if (i >= table.entries)
            break;
        if (!go_copy_field(index, table.entries_at + i * sizeof(struct go_field)))
            return false;
    }
    __u64 texts = table.bytes - cost;
    return s->record.payload_bytes == sizeof(*memo) + table.entries * 2 * sizeof(__u32) + texts;
}

// The goroutine will read the connection next, or has written it: `bytes`, of which nobody has been told yet.
static __noinline void go_memo(struct call *call, __u64 goroutine, __u64 conn, __u32 direction,
                               __u64 bytes) {
    struct weir_conn *socket = call->conn;
    struct weir_go_codec *codec = go_codec(goroutine, direction);
    if (!codec || !socket)
        return;
    __u64 at = codec->codec, before = codec->conn, inserted = codec->inserted;
    codec->conn = conn;
    codec->codec = 0;
    codec->inserted = GO_UNKNOWN;
    if (!at || inserted == GO_UNKNOWN || (before && before != conn) || !(socket->flags & WEIR_CONN_JOINED) ||
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
    if (has_block && go_copy_table(s, index, at, inserted)) {
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
