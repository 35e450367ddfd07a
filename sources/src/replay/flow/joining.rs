//! The beginning of a connection: its packets are kept until it is known where its streams begin, for a
//! moment at the most.

use super::{Events, Flow, Phase, Segment, TcpCounters};
use crate::capture::Opened;
use crate::replay::half::HELD_COST_BYTES;
use crate::replay::packet::{Cut, Tcp};

/// Packets that are kept.
const PACKETS_MAX: usize = 64;
/// What they hold; a few packets of one machine, which are large, or all that go over a network.
const BYTES_MAX: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Joining {
    pub(super) since_unix_ns: i64,
    kept: Vec<Kept>,
    payload_bytes: usize,
}

#[derive(Debug)]
struct Kept {
    side: usize,
    time_unix_ns: i64,
    tcp: Tcp<'static>,
    payload: Vec<u8>,
}

impl Joining {
    pub(super) fn since(since_unix_ns: i64) -> Joining {
        Joining { since_unix_ns, kept: Vec::new(), payload_bytes: 0 }
    }

    pub(super) fn keep(&mut self, side: usize, segment: &Segment<'_>) {
        let (payload, time_unix_ns) = (segment.tcp.payload.bytes.to_vec(), segment.time_unix_ns);
        self.payload_bytes += payload.len();
        self.kept.push(Kept { side, time_unix_ns, tcp: segment.tcp.without_payload(), payload });
    }

    pub(super) fn is_full(&self) -> bool {
        self.kept.len() >= PACKETS_MAX || self.payload_bytes >= BYTES_MAX
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.kept.is_empty()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.kept.len() * HELD_COST_BYTES + self.payload_bytes
    }
}

impl Flow {
    /// Who accepts, and where streams begin.
    pub(super) fn opening(&mut self, side: usize, tcp: &Tcp<'_>) {
        if !matches!(self.phase, Phase::Joining(_)) {
            return;
        }
        self.opened = Opened::Accepted;
        self.halves[side].begin(tcp.sequence.wrapping_add(1));
        match tcp.acknowledged {
            Some(acknowledged) => {
                self.local = side;
                if !self.halves[1 - side].is_begun() {
                    self.halves[1 - side].begin(acknowledged);
                }
            }
            None => self.local = 1 - side,
        }
    }

    /// Begins with what was kept, where that begins.
    pub(super) fn join(&mut self, counters: &mut TcpCounters, out: &mut dyn Events) {
        let Phase::Joining(joining) = &mut self.phase else { return };
        let kept = std::mem::take(&mut joining.kept);
        self.phase = Phase::Open;
        counters.connections += 1;
        counters.joined += u64::from(self.opened == Opened::Unknown);
        let earliest = |numbers: &mut dyn Iterator<Item = u32>| {
            numbers.reduce(
                |one, other| {
                    if other.wrapping_sub(one).cast_signed() < 0 { other } else { one }
                },
            )
        };
        for side in 0..2 {
            if self.halves[side].is_begun() {
                continue;
            }
            let sent = kept.iter().filter(|kept| kept.side == side && !kept.tcp.rst);
            let heard = kept.iter().filter(|kept| kept.side != side && !kept.tcp.rst);
            let sent = earliest(&mut sent.map(|kept| kept.tcp.sequence));
            let heard = earliest(&mut heard.filter_map(|kept| kept.tcp.acknowledged));
            // A probe whether the peer is still there, which bears the number of a byte that it has.
            let is_probe = |at: u32| {
                let mut own = kept.iter().filter(|kept| kept.side == side && !kept.tcp.rst);
                heard == Some(at.wrapping_add(1))
                    && own.all(|kept| kept.tcp.sequence != at || kept.tcp.payload.wire_bytes == 0)
            };
            let begins = match self.opened {
                Opened::Unknown if sent.is_some_and(is_probe) => heard,
                // Watched from its beginning, whatever was acknowledged then was there.
                Opened::Accepted => earliest(&mut sent.into_iter().chain(heard)),
                _ => sent.or(heard),
            };
            if let Some(begins) = begins {
                self.halves[side].begin(begins);
            }
        }
        for Kept { side, time_unix_ns, tcp, payload } in kept {
            let payload = Cut { bytes: &payload, wire_bytes: tcp.payload.wire_bytes };
            self.open_packet(
                side,
                &Segment { time_unix_ns, tcp: Tcp { payload, ..tcp } },
                counters,
                out,
            );
        }
    }
}
