//! Which shifts are left: what rules one out is said here, one rule by the other. What comes of that is the module
//! above's.

use super::{Ahead, UNITS_MAX, Unit};
use crate::REORDER_GRACE_NS;
use crate::in_order::{Asked, InOrder};

/// Whether a group is a unit's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Possible,
    Impossible,
    /// More has to come.
    Open,
}

impl<Q: Asked> InOrder<Q> {
    /// Rules shifts out. False if there are too many.
    pub(super) fn compare(
        &self,
        ahead: &mut Ahead<Q::Shape>,
        ends: &[usize],
        now_unix_ns: i64,
    ) -> bool {
        if ahead.missing.is_some() && !self.first_shifts(ahead, ends, now_unix_ns) {
            return false;
        }
        if ahead.missing.is_some() {
            return true;
        }
        // Behind another loss groups have other places.
        let known = self.gap().unwrap_or(self.waiting.len());
        let ends = &ends[..ends.partition_point(|end| *end <= known)];
        let mut shifts = std::mem::take(&mut ahead.shifts);
        let mut is_settled = true;
        for idx in ahead.compared..ahead.units.len() {
            let unit = &ahead.units[idx];
            shifts.retain(|shift| {
                let group = idx as i64 + shift;
                if group < ahead.missing_to {
                    return true;
                }
                let is = self.is_group(unit, group as usize, ends, known);
                is_settled &= is != Is::Open;
                is != Is::Impossible
            });
            if is_settled {
                ahead.compared = idx + 1;
            }
        }
        self.bound_by_bytes(ahead, &mut shifts);
        self.bound_by_silence(ahead, &mut shifts, ends);
        ahead.shifts = shifts;
        true
    }

    /// Counts what is missing in front of the first unit, once it is certain which requests came before that.
    /// False: it is too much.
    fn first_shifts(&self, ahead: &mut Ahead<Q::Shape>, ends: &[usize], now_unix_ns: i64) -> bool {
        let (Some(missing), Some(first)) = (ahead.missing, ahead.units.front()) else {
            return true;
        };
        if self.is_settled(first.begin_ns, now_unix_ns)
            && let Some(group) = self.group_behind_silence(first.begin_ns, ends)
        {
            (ahead.missing, ahead.may_be_rest, ahead.compared) = (None, false, 0);
            ahead.shifts = vec![group];
            return true;
        }
        // That no request is missing before it is told by the next one only.
        if !self.is_passed(first.end_ns) {
            return true;
        }
        let is_asked = |end: &&usize| self.waiting[**end - 1].begin_ns <= first.end_ns;
        let asked = ends.iter().take_while(is_asked).count() as i64;
        let lowest = ahead.shifts.first().copied().unwrap_or(0);
        // What is missing behind a request that is later than the unit is later, too.
        let mut gaps = self.waiting.iter().zip(self.waiting.iter().skip(1));
        let is_any_lost = gaps.any(|(before, waiting)| {
            waiting.after_loss.is_some() && before.begin_ns <= first.end_ns
        });
        let most = match is_any_lost {
            true => missing.most,
            false => missing.most.min((asked - 1).saturating_sub(lowest)),
        };
        let mut least = missing.least;
        let missing_to =
            ahead.shifts.last().map_or(0, |last| last.saturating_add(most).min(asked - 1) + 1);
        let possible =
            || self.waiting.iter().take(missing_to.max(0) as usize).map(|one| &one.request);
        if Q::HAS_PARTS && (is_any_lost || lowest < 0) {
            // One of those that nobody knows may have been answered by what is missing, and by anything.
            return false;
        }
        if Q::HAS_PARTS && (ahead.may_be_rest || !possible().all(Asked::is_plain)) {
            // What looks like a unit may be a part of one.
            let is_whole = |unit: &Unit<Q::Shape>| !Q::may_be_part(&unit.shape);
            let Some(parts) = ahead.units.iter().position(is_whole) else {
                return ahead.units.len() < UNITS_MAX;
            };
            if !possible().all(Asked::has_known_parts) {
                return false;
            }
            least -= parts as i64;
            (ahead.missing_to, ahead.parts) = (missing_to, parts as u64);
        }
        ahead.missing = None;
        if least > most {
            ahead.shifts.clear();
        }
        ahead.shift_by(least, most)
    }

    /// All requests that began before then are told.
    pub(super) fn is_settled(&self, at_ns: i64, now_unix_ns: i64) -> bool {
        now_unix_ns.saturating_sub(at_ns) >= REORDER_GRACE_NS
            || self.waiting.back().is_some_and(|last| last.begin_ns > at_ns)
    }

    /// A request that began later is told: what is missing before is known, too.
    fn is_passed(&self, at_ns: i64) -> bool {
        self.waiting.back().is_some_and(|last| last.begin_ns > at_ns)
    }

    /// The first group behind silence, if what began then is the first that was heard since.
    fn group_behind_silence(&self, begin_ns: i64, ends: &[usize]) -> Option<i64> {
        let known = self.gap().unwrap_or(self.waiting.len());
        let (mut activity, mut begin, mut found) = (self.activity, 0, None);
        for (group, end) in ends.iter().enumerate().take_while(|(_, end)| **end <= known) {
            let first = &self.waiting[begin];
            if first.begin_ns > begin_ns {
                break;
            }
            if activity.is_silent_until(first.begin_ns, first.after_loss) {
                found = Some(group as i64);
            }
            self.waiting.range(begin..*end).for_each(|one| activity.request(one.begin_ns));
            begin = *end;
        }
        found
    }

    /// Whether a unit may answer that group.
    fn is_group(&self, unit: &Unit<Q::Shape>, group: usize, ends: &[usize], known: usize) -> Is {
        let Some(&end) = ends.get(group) else {
            return match self.is_passed(unit.end_ns) {
                _ if known < self.waiting.len() => Is::Possible,
                true if self.requests_lost.is_none() => Is::Impossible,
                _ => Is::Open,
            };
        };
        let begin = group.checked_sub(1).map_or(0, |before| ends[before]);
        let (first, last) = (&self.waiting[begin], &self.waiting[end - 1]);
        if first.begin_ns > unit.begin_ns || last.begin_ns > unit.end_ns {
            return Is::Impossible;
        }
        let mut requests = self.waiting.range(begin..end).map(|waiting| &waiting.request);
        match Q::fits(&mut requests, &unit.shape) {
            true => Is::Possible,
            false => Is::Impossible,
        }
    }

    /// What is missing of requests has room for those only that the first units answer.
    fn bound_by_bytes(&self, ahead: &Ahead<Q::Shape>, shifts: &mut Vec<i64>) {
        // What had begun was asked for before.
        let begun = usize::from(ahead.is_begun);
        let mut bytes = 0u64;
        let fitting = ahead.units.iter().skip(begun).take_while(|unit| {
            bytes = bytes.saturating_add(unit.least_asked_bytes);
            bytes <= ahead.asked_bytes
        });
        let fitting = begun + fitting.count();
        if fitting < ahead.units.len() && ahead.missing_to == 0 {
            shifts.retain(|shift| *shift >= -(fitting as i64));
        }
    }

    /// Behind silence everything before it has been answered.
    fn bound_by_silence(&self, ahead: &Ahead<Q::Shape>, shifts: &mut Vec<i64>, ends: &[usize]) {
        if ahead.missing_to > 0 {
            return;
        }
        let mut units = ahead.units.iter().peekable();
        let (mut activity, mut begin) = (self.activity, 0);
        let mut heard = 0;
        for (group, end) in ends.iter().enumerate() {
            let first = &self.waiting[begin];
            while let Some(unit) = units.next_if(|unit| unit.begin_ns < first.begin_ns) {
                activity.response(unit.begin_ns, unit.end_ns);
                heard += 1;
            }
            if units.peek().is_none() {
                return;
            }
            if activity.is_silent_until(first.begin_ns, first.after_loss) {
                shifts.retain(|shift| *shift == group as i64 - heard);
            }
            self.waiting.range(begin..*end).for_each(|one| activity.request(one.begin_ns));
            begin = *end;
        }
    }
}
