//! What a connection waits for, and when it waits no longer: then what is missing is a hole, counted.

use super::{Events, Flow, GRACE_NS, Phase, TcpCounters};
use crate::capture::{LostCounts, SocketLoss, SocketType};
use crate::replay::half::Half;

impl Flow {
    fn is_stuck(&self, side: usize) -> bool {
        let half = &self.halves[side];
        half.missing_to().is_some() || half.first_held().is_some_and(|(at, _)| at <= half.frontier)
    }

    pub(super) fn note_stuck(&mut self, now_unix_ns: i64) {
        self.halves.iter_mut().for_each(Half::note_unseen_end);
        match (0..2).any(|side| self.is_stuck(side)) {
            true => self.stuck_since_ns = self.stuck_since_ns.or(Some(now_unix_ns)),
            false => self.stuck_since_ns = None,
        }
    }

    /// Whether time alone can change anything.
    pub(in crate::replay) fn needs_time(&self) -> bool {
        match self.phase {
            Phase::Joining(ref joining) => joining.is_waiting(),
            Phase::Open => self.stuck_since_ns.is_some() || self.reset_ns.is_some(),
            Phase::Unwatched | Phase::Over => false,
        }
    }

    /// Time has passed.
    pub(in crate::replay) fn pass_time(
        &mut self,
        now_unix_ns: i64,
        counters: &mut TcpCounters,
        out: &mut dyn Events,
    ) {
        let is_over = |since: Option<i64>| {
            since.is_some_and(|since| now_unix_ns.saturating_sub(since) >= GRACE_NS)
        };
        if let Phase::Joining(joining) = &self.phase {
            if is_over(Some(joining.since_unix_ns)) {
                self.join(counters, out);
                self.note_stuck(now_unix_ns);
            }
        } else if is_over(self.stuck_since_ns) {
            self.give_up(now_unix_ns, counters, out);
            self.stuck_since_ns = None;
            self.note_stuck(now_unix_ns);
        }
        if is_over(self.reset_ns) {
            self.finish(now_unix_ns, counters, out);
        }
    }

    /// Waits no longer for what is missing.
    pub(in crate::replay) fn give_up(
        &mut self,
        now_unix_ns: i64,
        counters: &mut TcpCounters,
        out: &mut dyn Events,
    ) {
        self.join(counters, out);
        let before = [0, 1].map(|side: usize| self.halves[side].frontier);
        for side in 0..2 {
            if let Some(to) = self.halves[side].missing_to() {
                self.lose(side, to, counters, out);
            }
        }
        self.hand_on_waiting(counters, out);
        if before == [0, 1].map(|side: usize| self.halves[side].frontier) {
            self.give_up_first(counters, out);
            self.hand_on_waiting(counters, out);
        }
        self.tell_ends(now_unix_ns, out);
    }

    /// The oldest segment that waits goes on, whatever it waits for.
    fn give_up_first(&mut self, counters: &mut TcpCounters, out: &mut dyn Events) -> bool {
        let first = |side: usize| self.halves[side].first_held();
        let time = |side: usize| first(side).map_or(i64::MAX, |(_, held)| held.time_unix_ns);
        let side = usize::from(time(1) < time(0));
        let Some((at, _)) = first(side) else { return false };
        if at > self.halves[side].frontier {
            self.lose(side, at, counters, out);
        }
        self.hand_on_first(side, true, counters, out)
    }

    /// Bytes up to there are not in the capture.
    fn lose(&mut self, side: usize, to: u64, counters: &mut TcpCounters, out: &mut dyn Events) {
        let missing = to - self.halves[side].frontier;
        counters.missing_bytes += missing;
        let counts = LostCounts { unseen_bytes: missing, ..LostCounts::default() };
        let socket_type = SocketType::Stream;
        out.lost(&SocketLoss { key: Some(self.key), socket_type, counts });
        self.halves[side].move_to(to);
    }

    /// Nothing more comes: hands on what is there.
    pub(in crate::replay) fn finish(
        &mut self,
        now_unix_ns: i64,
        counters: &mut TcpCounters,
        out: &mut dyn Events,
    ) {
        self.join(counters, out);
        if matches!(self.phase, Phase::Open) {
            self.give_up(now_unix_ns, counters, out);
            while self.give_up_first(counters, out) {
                self.hand_on_waiting(counters, out);
            }
        }
        self.end(now_unix_ns, out);
    }
}
