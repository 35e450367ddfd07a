//! Which response answers which request: the one that names its id ([`crate::by_id`]). Of answers that
//! follow each other without being asked for (exhaust cursors, streamed greetings) each names the one
//! before it; all of them are the first request's.

use std::collections::VecDeque;

use super::types::{Answer, Asked};
use crate::by_id::{ById, Held, Limits};
use crate::{Counters, Side};

/// Requests that are answered again and again, on one connection: drivers have one.
const SERIES_MAX: usize = 8;

/// A request that had an answer and will have another.
#[derive(Debug)]
struct Series {
    /// Of the answer before.
    id: i32,
    asked: Asked,
    begin_ns: i64,
}

/// An exchange.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) asked: Asked,
    pub(super) answer: Answer,
    pub(super) begin_ns: i64,
    pub(super) time_unix_ns: i64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Stitch {
    ids: ById<i32, Asked, Answer>,
    series: VecDeque<Series>,
}

impl Stitch {
    pub(super) fn new(from_start: bool) -> Stitch {
        Stitch { ids: ById::new(from_start, Limits::default()), series: VecDeque::new() }
    }

    /// Takes a request that is to be answered. The pair, if its response was here before.
    pub(super) fn request(&mut self, id: i32, mut asked: Asked, begin_ns: i64) -> Option<Pair> {
        if let Some(at) = self.series_of(id) {
            // Whose the next answer is nobody can tell.
            self.series.remove(at);
            asked.is_unread = true;
        }
        let (asked, answer, time_unix_ns) = self.ids.request(id, asked, begin_ns)?;
        self.read(Pair { asked, answer, begin_ns, time_unix_ns })
    }

    /// Takes what nothing answers. True if it is a row.
    pub(super) fn one_way(&mut self, asked: &Asked) -> bool {
        let counters = &mut self.ids.counters;
        match asked.is_unread {
            true => counters.given_up += 1,
            false => counters.exchanges += 1,
        }
        !asked.is_unread
    }

    /// The pair that a response ends.
    pub(super) fn response(&mut self, to: i32, answer: Answer, time_unix_ns: i64) -> Option<Pair> {
        if let Some(at) = self.series_of(to) {
            let Series { asked, begin_ns, .. } = self.series.remove(at)?;
            self.ids.counters.exchanges += 1;
            return self.read(Pair { asked, answer, begin_ns, time_unix_ns });
        }
        let (asked, answer, begin_ns) = self.ids.response(to, answer, time_unix_ns)?;
        self.read(Pair { asked, answer, begin_ns, time_unix_ns })
    }

    /// Counts what could not be read, which is no row.
    fn read(&mut self, pair: Pair) -> Option<Pair> {
        if pair.asked.is_unread || pair.answer.is_unread {
            self.ids.counters.exchanges -= 1;
            self.ids.counters.given_up += 1;
            return None;
        }
        Some(pair)
    }

    /// The row of a pair was written: another answer may follow.
    pub(super) fn written(&mut self, pair: Pair) {
        if pair.answer.has_more {
            if self.series.len() >= SERIES_MAX {
                self.series.pop_front();
            }
            let Pair { asked, begin_ns, answer, .. } = pair;
            self.series.push_back(Series { id: answer.request_id, asked, begin_ns });
        }
    }

    fn series_of(&self, id: i32) -> Option<usize> {
        self.series.iter().position(|series| series.id == id)
    }

    /// What is known of the request that an answer names.
    pub(super) fn asked(&self, id: i32) -> Option<&Asked> {
        match self.series_of(id) {
            Some(at) => self.series.get(at).map(|series| &series.asked),
            None => self.ids.waiting(&id),
        }
    }

    /// Whether a response can be read: its request is here, or will not come.
    pub(super) fn is_known_or_late(&self, to: i32, response_ns: i64, now_unix_ns: i64) -> bool {
        self.series_of(to).is_some() || self.ids.is_known_or_late(&to, response_ns, now_unix_ns)
    }

    pub(super) fn lost(&mut self, side: Side, to_unix_ns: i64) {
        self.ids.lost(side, to_unix_ns);
    }

    pub(super) fn pass_time(&mut self, now_unix_ns: i64) {
        self.ids.pass_time(now_unix_ns);
    }

    pub(super) fn close(&mut self) {
        self.ids.close();
        self.series = VecDeque::new();
    }

    pub(super) fn give_up(&mut self) {
        self.ids.give_up();
        self.series = VecDeque::new();
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.ids.is_waiting()
    }

    pub(super) fn counters(&self) -> Counters {
        self.ids.counters
    }

    pub(super) fn held_bytes(&self) -> usize {
        let series = self.series.iter().map(|series| series.asked.held_bytes()).sum::<usize>();
        self.ids.held_bytes() + series + self.series.capacity() * size_of::<Series>()
    }
}
