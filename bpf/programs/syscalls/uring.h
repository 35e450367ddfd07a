// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Bytes that operations of io_uring move, seen when they complete.
//
// A completion runs in a thread of the process that asked, or in a worker of it: the process's
// memory can be read, and its buffers are its own only when it hears of the completion, which is
// after this. Buffers of vectors and messages may be gone by then: those operations are gaps of
// known size, and counted. Those that complete many times for one request (multishot) do not tell
// their request; the sequence numbers find their bytes.
//
// No sequence number is looked at here: two operations on a socket may have moved their bytes before
// either completes, and each would find the sum of both.
#pragma once

enum uring_op { // the kernel's enum io_uring_op, which is fixed
    URING_READV = 1,
    URING_WRITEV = 2,
    URING_READ_FIXED = 4,
    URING_WRITE_FIXED = 5,
    URING_SENDMSG = 9,
    URING_RECVMSG = 10,
    URING_ACCEPT = 13,
    URING_CONNECT = 16,
    URING_READ = 22,
    URING_WRITE = 23,
    URING_SEND = 26,
    URING_RECV = 27,
    URING_SPLICE = 30, // of the file that it goes to
    URING_SEND_ZC = 47,
    URING_SENDMSG_ZC = 48,
    URING_READV_FIXED = 60,
    URING_WRITEV_FIXED = 61,
};

// Buffers are several, by IORING_RECVSEND_BUNDLE or IORING_SEND_VECTORIZED.
#define URING_SEVERAL (1 << 4 | 1 << 5)

static __always_inline bool is_uring_write(__u8 op) {
    return op == URING_WRITEV || op == URING_WRITE_FIXED || op == URING_SENDMSG ||
           op == URING_WRITE || op == URING_SEND || op == URING_SEND_ZC ||
           op == URING_SENDMSG_ZC || op == URING_WRITEV_FIXED || op == URING_SPLICE;
}

static __always_inline bool is_uring_read(__u8 op) {
    return op == URING_READV || op == URING_READ_FIXED || op == URING_RECVMSG ||
           op == URING_READ || op == URING_RECV || op == URING_READV_FIXED;
}

// The one buffer of an operation; 0 if it has several.
static __always_inline __u64 uring_buffer(struct io_kiocb *request, __u8 op) {
    void *command = (void *)request + bpf_core_field_offset(request->cmd);
    if (op == URING_SEND || op == URING_RECV || op == URING_SEND_ZC) {
        struct io_sr_msg *message = command;
        if (BPF_CORE_READ(message, flags) & URING_SEVERAL)
            return 0;
        return (__u64)BPF_CORE_READ(message, buf) - BPF_CORE_READ(message, done_io);
    }
    if (op == URING_READ || op == URING_WRITE || op == URING_READ_FIXED ||
        op == URING_WRITE_FIXED) {
        struct io_rw *rw = command;
        return BPF_CORE_READ(rw, addr);
    }
    return 0;
}

static __noinline int uring_data(struct call *call, struct io_kiocb *request, __u8 op,
                                 __u64 moved) {
    __u32 direction = is_uring_write(op) ? WEIR_EGRESS : WEIR_INGRESS;
    if (!take_conn(call) || call->conn->addresses.socket_type != SOCK_STREAM)
        return 0;
    call->conn->flags |= WEIR_CONN_URING;
    if (!(call->conn->flags & WEIR_CONN_TOLD))
        tell_first(call);
    struct weir_slot *s = slot();
    if (!s)
        return 0;
    fill_record(call, &s->record, WEIR_DATA, bpf_ktime_get_ns());
    s->record.direction = direction;
    advance(call, s, direction, 0, moved);
    if (is_stopped(call)) {
        count(WEIR_COUNT_STOPPED_BYTES, moved);
        return 0;
    }
    __u64 buffer = uring_buffer(request, op);
    if (!buffer) {
        s->record.kind = WEIR_GAP;
        note_loss(&call->key, call->conn->generation, SOCK_STREAM, WEIR_LOST_URING_BYTES, moved);
        count(WEIR_COUNT_URING_BYTES, moved);
        note_blind(call->pid_tgid >> 32, WEIR_BLIND_URING, moved);
        deliver(call->cfg, s, 0);
        return 0;
    }
    deliver(call->cfg, s, gather_buffer(s, buffer, moved, payload_want(call, moved)));
    return 0;
}

SEC("raw_tracepoint/io_uring_complete") int uring_complete(struct raw_ctx *ctx) {
    struct io_kiocb *request = (void *)ctx->args[1];
    if (!bpf_core_field_exists(request->cmd) || !bpf_core_field_exists(request->cqe.res) ||
        !request)
        return 0;
    __u8 op = BPF_CORE_READ(request, opcode);
    bool moves = is_uring_read(op) || is_uring_write(op);
    if (!moves && op != URING_ACCEPT && op != URING_CONNECT)
        return 0;
    __s32 result = BPF_CORE_READ(request, cqe.res);
    struct call call = { .fd = -1 };
    if (result < 0 || (!result && is_uring_write(op)) || !begin(&call))
        return 0;
    if (op == URING_RECV || op == URING_RECVMSG) {
        struct io_sr_msg *message = (void *)request + bpf_core_field_offset(request->cmd);
        if (BPF_CORE_READ(message, msg_flags) & MSG_PEEK)
            return 0;
    }
    struct file *file = BPF_CORE_READ(request, file);
    if (op == URING_ACCEPT) {
        struct io_accept *accept = (void *)request + bpf_core_field_offset(request->cmd);
        if (BPF_CORE_READ(accept, file_slot))
            return 0;
        call.fd = result;
        file = file_of(call.task, call.fd);
    }
    if (!take_socket(&call, file))
        return 0;
    if (moves && !result)
        return report_ended(&call);
    if (moves)
        return uring_data(&call, request, op, result);
    __u32 kind = op == URING_CONNECT ? WEIR_CONNECT : WEIR_ACCEPT;
    return report_opened(&call, kind, 0, 0);
}
