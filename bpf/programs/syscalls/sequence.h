// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Bytes that a TCP socket moved without a call that is looked at: by operations of io_uring that
// have no record, by calls of 32-bit programs, by processes outside the filters.
//
// The kernel numbers a stream's bytes: `copied_seq` and `write_seq` change with what the socket's
// users read and write, and with nothing else but the end of the stream, which counts as a byte. So
// when a call ends, the number must be the base (the number at position 0) + all that was counted;
// what it is ahead, others have moved: the position advances by as much, and the record tells it.
//
// Calls of two threads that read (or write) one socket at the same moment find the sum of both: the
// first one then tells of bytes before it that the second one has, and the base is set back
// afterwards. That is a gap too many, never one too few. Numbers have 32 bits: of more than 3.75
// GiB in one piece, multiples of 4 GiB are missed.
#pragma once

#define WEIR_SEQUENCE_TCP 4 // the base of direction d is known if bit d is set too
#define WEIR_SEQUENCE_BACK 0xf0000000u // from here on a difference is a negative one

static __always_inline __u32 sequence_of(struct sock *sk, __u32 direction) {
    return direction == WEIR_INGRESS ? LOAD(struct tcp_sock, sk, copied_seq)
                                     : LOAD(struct tcp_sock, sk, write_seq);
}

// Whether the end of the stream is counted in its number by now. A socket that was reset has none,
// and looks like one that has ended in order: a single byte of it is taken for the end.
static __always_inline bool has_ended(struct sock *sk, __u32 direction, __u32 ahead) {
    __u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);
    bool both = state == TCP_CLOSING || state == TCP_LAST_ACK || state == TCP_TIME_WAIT;
    if (direction == WEIR_EGRESS)
        return both || state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 ||
               (state == TCP_CLOSE && ahead == 1);
    if (!both && state != TCP_CLOSE_WAIT && state != TCP_CLOSE)
        return false; // the peer may still send, so rcv_nxt may change as we look
    struct tcp_sock *tcp = (void *)sk;
    return BPF_CORE_READ(tcp, copied_seq) == BPF_CORE_READ(tcp, rcv_nxt);
}

// Take the numbers of now for what has been counted up to now, where no base is known and as far as
// the numbers are valid: before the peer has answered there is none of its own yet, and ours only
// once the handshake has begun.
static __noinline void learn_sequences(struct weir_conn *conn, struct sock *sk) {
    struct tcp_sock *tcp = (void *)sk;
    bool answered = BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_SYN_SENT;
    __u32 written = BPF_CORE_READ(tcp, write_seq);
    bool begun = answered || written - BPF_CORE_READ(tcp, snd_una) == 1;
    if (begun && !(conn->sequenced & 1 << WEIR_EGRESS)) {
        conn->sequence_base[WEIR_EGRESS] = written - (__u32)conn->moved_bytes[WEIR_EGRESS];
        conn->sequenced |= 1 << WEIR_EGRESS;
    }
    if (answered && !(conn->sequenced & 1 << WEIR_INGRESS)) {
        conn->sequence_base[WEIR_INGRESS] =
            BPF_CORE_READ(tcp, copied_seq) - (__u32)conn->moved_bytes[WEIR_INGRESS];
        conn->sequenced |= 1 << WEIR_INGRESS;
    }
}

// The number is not the expected one, by `ahead`: how many bytes have passed unseen. `bytes` are the
// call's own, which are counted after this.
static __noinline __u64 unexpected(struct weir_conn *conn, const struct weir_conn_key *key,
                                   __u32 direction, __u32 ahead, __u32 bytes) {
    struct sock *sk = (void *)key->sock;
    direction &= 1;
    // With another protocol on top (kernel TLS, sockmap) the bytes of calls are not TCP's.
    if (BPF_CORE_READ(sk, __sk_common.skc_prot) != BPF_CORE_READ(sk, sk_prot_creator)) {
        conn->sequenced = 0;
        return 0;
    }
    if (!(conn->sequenced & 1 << direction)) {
        learn_sequences(conn, sk);
        conn->sequence_base[direction] -= bytes;
        return 0;
    }
    if (ahead >= WEIR_SEQUENCE_BACK) {
        conn->sequence_base[direction] += ahead;
        return 0;
    }
    if (has_ended(sk, direction, ahead)) {
        conn->sequence_base[direction] += 1;
        ahead -= 1;
    }
    if (ahead) {
        bool by_ring = conn->flags & WEIR_CONN_URING;
        note_loss(key, conn->generation, SOCK_STREAM, WEIR_LOST_UNSEEN_BYTES, ahead);
        count(WEIR_COUNT_UNSEEN_BYTES, ahead);
        note_blind(bpf_get_current_pid_tgid() >> 32,
                   by_ring ? WEIR_BLIND_URING : WEIR_BLIND_OTHER, ahead);
    }
    return ahead;
}
