//! One TCP connection as its packets show it: both directions in the order in which they happened.
//!
//! * A segment is handed on when everything before it is, and everything that its sender had by then:
//!   no answer before what it answers, in whatever order packets were captured.
//! * Bytes that the other end acknowledges and nobody saw are a hole of known size, after a moment of
//!   waiting for packets that overtook each other ([`GRACE_NS`]). Without an acknowledgement they may
//!   still be sent again, and are waited for.
//! * What was handed on stands: repeated bytes are ignored, wherever they begin.
//! * Which end accepts is known by a SYN, or its answer; else the protocol tells it later.

mod joining;
mod patience;

use std::net::SocketAddr;

use serde::Serialize;

use self::joining::Joining;
use super::half::{AHEAD_MAX, Half, Held};
use super::packet::Tcp;
use crate::capture::{
    CaptureEvent, ConnKey, DataEvent, Direction, Family, Opened, Process, Socket, SocketEvent,
    SocketLoss, SocketType,
};

/// Packets overtake each other on their way into a capture by less: what was acknowledged and did not
/// come by then was not captured.
pub(super) const GRACE_NS: i64 = 50_000_000;
/// What waits in one direction; beyond it the first hole is given up. More than is in flight behind a
/// lost packet on most paths.
const HELD_BYTES_MAX: usize = 2 << 20;
const HELD_SEGMENTS_MAX: usize = 4_096;

/// What the reassembly counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TcpCounters {
    pub connections: u64,
    /// Joined after their beginning.
    pub joined: u64,
    pub retransmitted_segments: u64,
    pub out_of_order_segments: u64,
    /// Segments with numbers that their connection cannot have.
    pub foreign_segments: u64,
    /// Bytes that were acknowledged, or followed by others, and are not in the capture.
    pub missing_bytes: u64,
    /// Bytes of captured segments that the capture's snapshot length cut off.
    pub cut_bytes: u64,
    /// Bytes that found no room while they waited.
    pub full_bytes: u64,
    pub resets: u64,
    /// Ended for room.
    pub evicted: u64,
}

impl TcpCounters {
    /// Those of another reassembly.
    pub(super) fn add(&mut self, other: &TcpCounters) {
        self.connections += other.connections;
        self.joined += other.joined;
        self.retransmitted_segments += other.retransmitted_segments;
        self.out_of_order_segments += other.out_of_order_segments;
        self.foreign_segments += other.foreign_segments;
        self.missing_bytes += other.missing_bytes;
        self.cut_bytes += other.cut_bytes;
        self.full_bytes += other.full_bytes;
        self.resets += other.resets;
        self.evicted += other.evicted;
    }
}

/// Where events go.
pub(super) trait Events {
    fn event(&mut self, event: &CaptureEvent<'_>);
    fn lost(&mut self, loss: &SocketLoss);
    /// Nothing more comes of it.
    fn over(&mut self, key: ConnKey);
}

/// A packet as a flow takes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) time_unix_ns: i64,
    pub(super) tcp: Tcp<'a>,
}

#[derive(Debug)]
enum Phase {
    /// It is not known where its streams begin.
    Joining(Joining),
    Open,
    /// Nobody wants its bytes.
    Unwatched,
    Over,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Flow {
    key: ConnKey,
    ends: [SocketAddr; 2],
    /// Which of the ends accepts.
    local: usize,
    opened: Opened,
    phase: Phase,
    /// What each end sends.
    halves: [Half; 2],
    stuck_since_ns: Option<i64>,
    reset_ns: Option<i64>,
    is_told: bool,
    /// Waits for time to pass.
    pub(super) in_attention: bool,
}

impl Flow {
    pub(super) fn new(key: ConnKey, ends: [SocketAddr; 2], now_unix_ns: i64) -> Flow {
        Flow {
            key,
            ends,
            // Servers have the smaller ports; rows do not depend on it.
            local: usize::from(ends[1].port() < ends[0].port()),
            opened: Opened::Unknown,
            phase: Phase::Joining(Joining::since(now_unix_ns)),
            halves: [Half::default(), Half::default()],
            stuck_since_ns: None,
            reset_ns: None,
            is_told: false,
            in_attention: false,
        }
    }

    pub(super) fn key(&self) -> ConnKey {
        self.key
    }

    /// Notes in its key where it is kept, so that it is found by that.
    pub(super) fn placed(&mut self, at: u32) {
        self.key.inode = u64::from(at);
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    pub(super) fn held_bytes(&self) -> usize {
        let joining = match &self.phase {
            Phase::Joining(joining) => joining.held_bytes(),
            Phase::Open | Phase::Unwatched | Phase::Over => 0,
        };
        joining + self.halves[0].held_bytes + self.halves[1].held_bytes
    }

    /// Whether this opens another connection between the same ends.
    pub(super) fn is_other(&self, side: usize, tcp: &Tcp<'_>) -> bool {
        let half = &self.halves[side];
        tcp.syn && half.is_begun() && !half.begins_with(tcp.sequence.wrapping_add(1))
    }

    /// Its bytes are of no use.
    pub(super) fn unwatch(&mut self) {
        if !self.is_over() {
            self.phase = Phase::Unwatched;
            self.halves.iter_mut().for_each(Half::forget);
        }
    }

    /// Takes a packet that the end `side` sent.
    pub(super) fn packet(
        &mut self,
        side: usize,
        segment: &Segment<'_>,
        counters: &mut TcpCounters,
        out: &mut dyn Events,
    ) {
        if segment.tcp.syn {
            self.opening(side, &segment.tcp);
        }
        match &mut self.phase {
            Phase::Over => return,
            Phase::Unwatched => {
                let half = &mut self.halves[side];
                half.fin_told |= segment.tcp.fin || segment.tcp.rst;
                if segment.tcp.rst || self.halves.iter().all(|half| half.fin_told) {
                    self.end(segment.time_unix_ns, out);
                }
                return;
            }
            Phase::Joining(joining) => {
                joining.keep(side, segment);
                if joining.is_full() || self.halves.iter().all(Half::is_begun) {
                    self.join(counters, out);
                }
            }
            Phase::Open => self.open_packet(side, segment, counters, out),
        }
        self.note_stuck(segment.time_unix_ns);
    }

    fn open_packet(
        &mut self,
        side: usize,
        segment: &Segment<'_>,
        counters: &mut TcpCounters,
        out: &mut dyn Events,
    ) {
        let Segment { time_unix_ns, tcp } = *segment;
        if tcp.rst {
            if self.halves[side].takes_reset(tcp.sequence) && self.reset_ns.is_none() {
                counters.resets += 1;
                self.reset_ns = Some(time_unix_ns);
            }
            return;
        }
        let sequence = tcp.sequence.wrapping_add(u32::from(tcp.syn));
        let mut needs = 0;
        if let Some(acknowledged) = tcp.acknowledged {
            let other = &mut self.halves[1 - side];
            if !other.is_begun() {
                other.begin(acknowledged);
            }
            needs = other.acknowledge(acknowledged).unwrap_or(0);
        }
        let half = &mut self.halves[side];
        if !half.is_begun() {
            half.begin(sequence);
        }
        let Some(at) = half.offset(sequence) else { return };
        if at > half.frontier.saturating_add(AHEAD_MAX) {
            counters.foreign_segments += 1;
            return;
        }
        let wire_bytes = tcp.payload.wire_bytes as u64;
        if tcp.fin && half.fin.is_none() && at + wire_bytes >= half.frontier {
            half.fin = Some(at + wire_bytes);
        }
        if wire_bytes > 0 {
            let payload = tcp.payload.bytes;
            counters.cut_bytes += wire_bytes - payload.len() as u64;
            self.take(
                side,
                at,
                Payload { time_unix_ns, wire_bytes, payload, needs },
                counters,
                out,
            );
        }
        self.hand_on_waiting(counters, out);
        self.tell_ends(time_unix_ns, out);
    }

    fn take(
        &mut self,
        side: usize,
        at: u64,
        payload: Payload<'_>,
        counters: &mut TcpCounters,
        out: &mut dyn Events,
    ) {
        let (half, heard) = (&self.halves[side], self.halves[1 - side].frontier);
        if at + payload.wire_bytes <= half.frontier {
            counters.retransmitted_segments += 1;
            return;
        }
        if half.ahead.is_empty() && at <= half.frontier && payload.needs <= heard {
            self.hand_on(side, at, &payload, out);
            return;
        }
        counters.out_of_order_segments += u64::from(at > half.frontier);
        let has_room = |half: &Half| {
            half.held_bytes + payload.payload.len() <= HELD_BYTES_MAX
                && half.ahead.len() < HELD_SEGMENTS_MAX
        };
        if !has_room(half) {
            self.give_up(payload.time_unix_ns, counters, out);
        }
        let half = &mut self.halves[side];
        if !has_room(half) {
            counters.full_bytes += payload.payload.len() as u64;
            return;
        }
        let Payload { time_unix_ns, wire_bytes, payload, needs } = payload;
        half.hold(at, Held { time_unix_ns, wire_bytes, payload: payload.to_vec(), needs });
    }

    /// Hands on what of a segment was not handed on yet.
    fn hand_on(&mut self, side: usize, at: u64, payload: &Payload<'_>, out: &mut dyn Events) {
        let half = &self.halves[side];
        let known = half.frontier.saturating_sub(at);
        let Some(left) = payload.wire_bytes.checked_sub(known).filter(|left| *left > 0) else {
            return;
        };
        let from = usize::try_from(known).unwrap_or(usize::MAX).min(payload.payload.len());
        let event = DataEvent {
            time_unix_ns: payload.time_unix_ns,
            process: Process::default(),
            cgroup_id: 0,
            fd: 0,
            socket: self.socket(),
            direction: self.direction(side),
            position: half.position(),
            // Lengths of packets have 16 bits, or are those of a capture's packet.
            total_bytes: u32::try_from(left).unwrap_or(u32::MAX),
            payload: &payload.payload[from..],
        };
        self.is_told = true;
        out.event(&CaptureEvent::Data(event));
        let to = self.halves[side].frontier + left;
        self.halves[side].move_to(to);
    }

    /// Hands on what need not wait any more.
    fn hand_on_waiting(&mut self, counters: &mut TcpCounters, out: &mut dyn Events) {
        while (0..2).any(|side| self.hand_on_first(side, false, counters, out)) {}
    }

    fn hand_on_first(
        &mut self,
        side: usize,
        regardless: bool,
        counters: &mut TcpCounters,
        out: &mut dyn Events,
    ) -> bool {
        let heard = self.halves[1 - side].frontier;
        let half = &mut self.halves[side];
        let can = half
            .first_held()
            .is_some_and(|(at, held)| at <= half.frontier && (regardless || held.needs <= heard));
        let Some((at, held)) = can.then(|| half.pop_held()).flatten() else { return false };
        if at + held.wire_bytes <= half.frontier {
            counters.retransmitted_segments += 1;
            return true;
        }
        let Held { time_unix_ns, wire_bytes, payload, needs } = held;
        self.hand_on(
            side,
            at,
            &Payload { time_unix_ns, wire_bytes, payload: &payload, needs },
            out,
        );
        true
    }

    fn tell_ends(&mut self, now_unix_ns: i64, out: &mut dyn Events) {
        for side in 0..2 {
            if self.halves[side].is_finished() && !self.halves[side].fin_told {
                self.halves[side].fin_told = true;
                let (position, direction) = (self.halves[side].position(), self.direction(side));
                let at = self.socket_event(now_unix_ns);
                if self.is_told {
                    out.event(&CaptureEvent::End { at, direction, position });
                }
            }
        }
        if self.halves.iter().all(|half| half.fin_told && half.ahead.is_empty()) {
            self.end(now_unix_ns, out);
        }
    }

    fn end(&mut self, now_unix_ns: i64, out: &mut dyn Events) {
        if self.is_over() {
            return;
        }
        self.phase = Phase::Over;
        self.halves.iter_mut().for_each(Half::forget);
        if self.is_told {
            let [egress_bytes, ingress_bytes] =
                [self.local, 1 - self.local].map(|side| self.halves[side].position());
            let at = self.socket_event(now_unix_ns);
            out.event(&CaptureEvent::Close { at, last: true, egress_bytes, ingress_bytes });
            out.over(self.key);
        }
    }

    fn direction(&self, side: usize) -> Direction {
        if side == self.local { Direction::Egress } else { Direction::Ingress }
    }

    fn socket(&self) -> Socket {
        let local = self.ends[self.local];
        Socket {
            key: self.key,
            family: if local.is_ipv4() { Family::Inet } else { Family::Inet6 },
            socket_type: SocketType::Stream,
            opened: self.opened,
            local: Some(local),
            remote: Some(self.ends[1 - self.local]),
            netns: 0,
        }
    }

    fn socket_event(&self, time_unix_ns: i64) -> SocketEvent {
        let (process, socket) = (Process::default(), self.socket());
        SocketEvent { time_unix_ns, process, cgroup_id: 0, fd: 0, socket }
    }
}

/// Bytes of a segment.
#[derive(Clone, Copy)]
struct Payload<'a> {
    time_unix_ns: i64,
    wire_bytes: u64,
    payload: &'a [u8],
    needs: u64,
}
