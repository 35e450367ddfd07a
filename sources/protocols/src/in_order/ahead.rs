//! Behind a loss: which request a response answers, told by looking at those that follow.
//!
//! Responses stay in their stream meanwhile, and are looked at as *units*. By how many places they are off
//! from the requests, the *shift*, is one of a few numbers: so many messages as can have been in the bytes
//! that are missing. A shift is ruled out where by it a response would come before its request, or answer
//! one that it cannot answer ([`Asked::fits`]), or where silence says otherwise. The one that is left is the
//! right one, and all that was looked at is paired by it. Where too much waits for that, or more is missing,
//! what was looked at is dropped and the shifts go on; where there are too many, proof is sought
//! as the module above says.
//!
//! Requests count by *groups*: those up to one that is answered ([`Asked::responses`]).

mod shifts;

use std::collections::VecDeque;

use super::evidence::Evidence;
use super::{Asked, InOrder, Owner, Pairing};

/// Shifts that are looked at, at the most.
const SHIFTS_MAX: usize = 1_024;
/// Units that wait, at the most.
const UNITS_MAX: usize = 1_024;
/// Requests that do.
const REQUESTS_MAX: usize = 4_096;
/// For so long they do.
const HOLD_NS: i64 = 2_000_000_000;

/// A response that was looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit<S> {
    pub(crate) begin_ns: i64,
    pub(crate) end_ns: i64,
    pub(crate) shape: S,
    /// Fewest bytes of a request that is answered so.
    pub(crate) least_asked_bytes: u64,
}

/// How many messages are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) least: i64,
    pub(crate) most: i64,
    /// The bytes in which they were.
    pub(crate) bytes: u64,
}

impl Missing {
    /// One of them has been accounted for.
    pub(super) fn heard(&mut self, count: u64) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.least = (self.least - count).min(self.least.max(0)).max(self.least.min(0));
        self.most = self.most.saturating_sub(count);
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Ahead<S> {
    units: VecDeque<Unit<S>>,
    /// By each the first unit answers the group behind so many of those that wait; if it is negative,
    /// requests that are missing are answered first. Ascending.
    shifts: Vec<i64>,
    /// Responses that are missing in front of the units, which the shifts do not count yet.
    missing: Option<Missing>,
    /// The first unit may be the rest of one of those, or of one that has begun.
    may_be_rest: bool,
    /// Units that were compared with all that they may answer.
    compared: usize,
    /// Those up to this group may have been answered by what is missing.
    missing_to: i64,
    /// So many units in front may be parts of what is missing.
    parts: u64,
    /// A response that has begun may end with the first unit.
    is_begun: bool,
    /// Bytes of the requests that are missing in front of those that wait.
    asked_bytes: u64,
    /// Some were dropped.
    is_carried: bool,
    is_dropping: bool,
}

impl<S> Ahead<S> {
    fn new() -> Ahead<S> {
        Ahead {
            units: VecDeque::new(),
            shifts: vec![0],
            missing: None,
            may_be_rest: false,
            compared: 0,
            missing_to: 0,
            parts: 0,
            is_begun: false,
            asked_bytes: 0,
            is_carried: false,
            is_dropping: false,
        }
    }

    /// So many requests are missing in front of the first one, so many responses in front of the first unit.
    /// False: too many.
    fn shift_by(&mut self, from: i64, to: i64) -> bool {
        let (Some(first), Some(last)) = (self.shifts.first(), self.shifts.last()) else {
            return true;
        };
        let (first, last) = (first.saturating_add(from), last.saturating_add(to));
        if last.saturating_sub(first) >= SHIFTS_MAX as i64 {
            return false;
        }
        let old = std::mem::take(&mut self.shifts);
        let is_reached = |shift: &i64| {
            let at = old.partition_point(|old| old.saturating_add(to) < *shift);
            old.get(at).is_some_and(|old| old.saturating_add(from) <= *shift)
        };
        self.shifts = (first..=last).filter(is_reached).collect();
        self.compared = 0;
        true
    }
}

impl<Q: Asked> InOrder<Q> {
    /// How many requests are missing before the one that is told next, if they can be counted.
    pub(crate) fn requests_missing(&mut self, missing: Missing) {
        let before = self.asked_missing.unwrap_or(Missing { least: 0, most: 0, bytes: 0 });
        self.asked_missing = Some(Missing {
            least: before.least.saturating_add(missing.least),
            most: before.most.saturating_add(missing.most),
            bytes: before.bytes.saturating_add(missing.bytes),
        });
    }

    /// Pairing is certain, also of the next response.
    pub(crate) fn is_sure(&self) -> bool {
        self.is_certain() && self.nobodys == 0
    }

    /// Responses are missing before the next unit, which was just told by [`InOrder::responses_lost`].
    /// `was_certain`: pairing was, before that. `may_be_rest`: of one of them, what follows may be the rest.
    pub(crate) fn responses_missing(
        &mut self,
        missing: Missing,
        was_certain: bool,
        may_be_rest: bool,
    ) {
        self.ahead = match was_certain {
            _ if self.is_certain() => None,
            true => Some(Ahead::new()),
            false => self.ahead.take(),
        };
        if let Some(ahead) = &mut self.ahead {
            ahead.missing = Some(missing);
            ahead.is_begun = missing.least < 0;
            ahead.may_be_rest |= may_be_rest;
            (ahead.missing_to, ahead.parts, ahead.is_dropping) = (0, 0, false);
        }
    }

    /// Whether units are to be told: it may come out whose they are.
    pub(crate) fn looks_ahead(&mut self) -> bool {
        if self.nobodys > 0 {
            return false;
        }
        let is_behind_loss = self.waiting.front().is_some_and(|front| front.after_loss.is_some());
        if self.is_certain() && is_behind_loss {
            self.uncertain(Evidence::without_requests());
            self.ahead = Some(Ahead::new());
        }
        if is_behind_loss && self.ahead.is_some() {
            self.enter_gap();
        }
        self.ahead.is_some() && !self.is_certain()
    }

    /// Requests are missing in front of the first one.
    fn enter_gap(&mut self) {
        let (Some(ahead), Some(front)) = (&mut self.ahead, self.waiting.front_mut()) else {
            return;
        };
        let is_counted = front.missing.is_some_and(|missing| {
            ahead.asked_bytes = ahead.asked_bytes.saturating_add(missing.bytes);
            missing.least <= missing.most && ahead.shift_by(-missing.most, -missing.least)
        });
        match is_counted {
            true => {
                let loss = front.after_loss.take();
                loss.into_iter().for_each(|loss| self.activity.request(loss.to_unix_ns));
                if let Pairing::Uncertain(evidence) = &mut self.pairing {
                    evidence.requests_unknown();
                }
            }
            false => self.look_no_further(),
        }
    }

    /// The next unit.
    pub(crate) fn unit(&mut self, unit: Unit<Q::Shape>) {
        if let Some(ahead) = &mut self.ahead {
            ahead.units.push_back(unit);
        }
    }

    /// How many units were told that have not been read.
    pub(crate) fn units(&self) -> usize {
        self.ahead.as_ref().map_or(0, |ahead| ahead.units.len())
    }

    /// Looking ahead has to end: what is there is not understood, or too much.
    pub(crate) fn look_no_further(&mut self) {
        let is_carried = self.ahead.take().is_some_and(|ahead| ahead.is_carried);
        if let Pairing::Uncertain(evidence) = &mut self.pairing
            && is_carried
        {
            evidence.forget();
        }
    }

    /// Whose the first unit is. [`Owner::Wait`]: that is not known yet. `None`: it will not be known so.
    /// `is_over`: no more units come before something else does.
    pub(crate) fn look(&mut self, now_unix_ns: i64, is_over: bool) -> Option<Owner> {
        let (mut ahead, is_known) = loop {
            let mut ahead = self.ahead.take()?;
            let groups = self.groups().filter(|_| self.waiting.len() <= REQUESTS_MAX);
            let is_known =
                groups.is_some_and(|groups| self.compare(&mut ahead, &groups, now_unix_ns));
            if !is_known || !self.passes_gap(&mut ahead) {
                break (ahead, is_known);
            }
            self.ahead = Some(ahead);
            if !self.looks_ahead() {
                return None;
            }
        };
        if is_known && ahead.shifts.len() == 1 && ahead.missing.is_none() {
            self.resolve(&ahead);
            return None;
        }
        let first_ns = ahead.units.front().map_or(now_unix_ns, |unit| unit.begin_ns);
        let is_long = now_unix_ns.saturating_sub(first_ns) > HOLD_NS;
        let has_come = |unit: &Unit<_>| self.is_settled(unit.end_ns, now_unix_ns);
        let is_over = is_over && ahead.units.back().is_none_or(has_come);
        ahead.is_dropping |= is_over || is_long || ahead.units.len() > UNITS_MAX;
        let is_dropping = ahead.is_dropping;
        let is_useless = is_dropping && ahead.missing.is_some();
        let has_shifts = is_known && !ahead.shifts.is_empty();
        self.ahead = Some(ahead);
        if is_useless || !has_shifts {
            self.look_no_further();
            return None;
        }
        Some(if is_dropping { Owner::Nobody } else { Owner::Wait })
    }

    /// Whether all that is told in front of the next gap was answered by what is missing; it is dropped.
    fn passes_gap(&mut self, ahead: &mut Ahead<Q::Shape>) -> bool {
        let Some(gap) = self.gap() else { return false };
        let known = self.groups().unwrap_or_default().partition_point(|end| *end <= gap) as i64;
        let is_passed = ahead.missing.is_none()
            && ahead.missing_to <= known
            && ahead.shifts.first().is_some_and(|first| *first > known);
        if is_passed {
            ahead.shifts.iter_mut().for_each(|shift| *shift -= known);
            (ahead.missing_to, ahead.is_carried) = (0, true);
            for _ in 0..gap {
                self.drop_known();
            }
        }
        is_passed
    }

    /// Before which one requests are missing, behind the first.
    fn gap(&self) -> Option<usize> {
        Some(self.waiting.iter().skip(1).position(|waiting| waiting.after_loss.is_some())? + 1)
    }

    /// Where the groups end that wait. `None`: they cannot be counted.
    fn groups(&self) -> Option<Vec<usize>> {
        let mut ends = Vec::new();
        for (idx, waiting) in self.waiting.iter().enumerate() {
            match waiting.request.responses() {
                _ if !waiting.request.is_counted() => return None,
                Some(0) => {}
                Some(1) => ends.push(idx + 1),
                _ => return None,
            }
        }
        Some(ends)
    }

    /// It is certain whose the units are.
    fn resolve(&mut self, ahead: &Ahead<Q::Shape>) {
        let shift = ahead.shifts.first().copied().unwrap_or(0);
        // Of what may be parts it is not known whose they are.
        let unit = (-shift).max(ahead.parts as i64);
        // The rest of a response whose beginning has a row is no loss of its own.
        let is_rest = shift == -1 && ahead.is_begun && ahead.asked_bytes == 0;
        self.counted_else = ahead.parts.max(u64::from(is_rest));
        self.drop_groups(shift + unit);
        self.nobodys = unit as u64;
        self.pairing = Pairing::Certain;
    }

    /// Drops the first groups: what answered them is missing.
    fn drop_groups(&mut self, count: i64) {
        for _ in 0..count {
            while let Some(front) = self.waiting.front()
                && front.after_loss.is_none()
            {
                let is_end = front.request.responses() == Some(1);
                self.drop_known();
                if is_end {
                    break;
                }
            }
        }
    }

    /// Drops the front request.
    fn drop_known(&mut self) {
        let begin_ns = self.waiting.front().map(|front| front.begin_ns);
        begin_ns.into_iter().for_each(|begin_ns| self.activity.request(begin_ns));
        self.drop_uncertain();
    }

    /// The first unit was read, and is nobody's.
    pub(crate) fn unit_dropped(&mut self) {
        let Some(ahead) = &mut self.ahead else { return };
        let least_asked_bytes = ahead.units.pop_front().map_or(0, |unit| unit.least_asked_bytes);
        ahead.asked_bytes = ahead.asked_bytes.saturating_sub(least_asked_bytes);
        ahead.compared = ahead.compared.saturating_sub(1);
        ahead.parts = ahead.parts.saturating_sub(1);
        (ahead.is_carried, ahead.may_be_rest, ahead.is_begun) = (true, false, false);
        ahead.shifts.iter_mut().for_each(|shift| *shift += 1);
        ahead.is_dropping &= !ahead.units.is_empty();
        // Groups are dropped up to a gap; what shifts count behind it is told there.
        let ends = self.groups().unwrap_or_default();
        let gap = self.waiting.iter().position(|waiting| waiting.after_loss.is_some());
        let known = ends.iter().take_while(|end| gap.is_none_or(|gap| **end <= gap)).count() as i64;
        let Some(ahead) = &mut self.ahead else { return };
        let over = ahead.shifts.first().copied().unwrap_or(0).clamp(0, known);
        ahead.shifts.iter_mut().for_each(|shift| *shift -= over);
        ahead.missing_to = (ahead.missing_to - over).max(0);
        self.drop_groups(over);
    }
}
