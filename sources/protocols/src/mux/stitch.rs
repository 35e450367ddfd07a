//! Which message answers which: the one with its tag that goes the other way ([`crate::by_id`]). A tag is used
//! again as soon as it is free. Either side may ask, with tags of its own.

use super::types::{Done, NO_ANSWER, is_answer, is_one_way};
use crate::by_id::{ById, Limits};
use crate::{Counters, Side};

type OfSide = ById<u32, i8, i8>;

/// A message, or the beginning of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    pub(super) kind: i8,
    pub(super) tag: u32,
    pub(super) time_unix_ns: i64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Pairing {
    /// By who asked.
    asked: [OfSide; 2],
}

impl Pairing {
    pub(super) fn new(from_start: bool) -> Pairing {
        let of_side = || ById::new(from_start, Limits::default()).with_ids_again();
        Pairing { asked: [of_side(), of_side()] }
    }

    /// A side asks; the row, if nothing answers that, or its answer was here before.
    pub(super) fn asks(&mut self, side: Side, message: Message) -> Option<Done> {
        let Message { kind, tag, time_unix_ns } = message;
        let pairs = &mut self.asked[side as usize];
        if is_one_way(kind) {
            pairs.counters.exchanges += 1;
            return Some(Done { asked: kind, answer: NO_ANSWER, tag, time_unix_ns, latency_ns: 0 });
        }
        let (asked, answer, answer_ns) = pairs.request(tag, kind, time_unix_ns)?;
        done(
            pairs,
            Message { kind: asked, ..message },
            Message { kind: answer, tag, time_unix_ns: answer_ns },
        )
    }

    /// A side is answered; the row, if that is what it waits for.
    pub(super) fn answers(&mut self, asker: Side, message: Message) -> Option<Done> {
        let pairs = &mut self.asked[asker as usize];
        let (asked, _, asked_ns) =
            pairs.response(message.tag, message.kind, message.time_unix_ns)?;
        done(pairs, Message { kind: asked, time_unix_ns: asked_ns, ..message }, message)
    }

    /// The same by what may be the middle of an answer: whatever waits for it, waits no longer.
    pub(super) fn may_answer(&mut self, asker: Side, message: Message) {
        let pairs = &mut self.asked[asker as usize];
        pairs.lose(message.tag, message.time_unix_ns);
    }

    /// Whether a side waits for an answer with this tag.
    pub(super) fn is_asked(&self, asker: Side, tag: u32) -> bool {
        self.asked[asker as usize].waiting(&tag).is_some()
    }

    /// A message that asks may have been among what was just read, and was not told apart.
    pub(super) fn missed(&mut self, side: Side) {
        self.asked[side as usize].counters.gap += 1;
    }

    /// Messages of a side are missing, until then at the latest.
    pub(super) fn lost(&mut self, side: Side, to_unix_ns: i64) {
        let [by_client, by_server] = &mut self.asked;
        by_client.lost(side, to_unix_ns);
        by_server.lost(other(side), to_unix_ns);
    }

    pub(super) fn pass_time(&mut self, now_unix_ns: i64) {
        self.asked.iter_mut().for_each(|pairs| pairs.pass_time(now_unix_ns));
    }

    pub(super) fn close(&mut self) {
        self.asked.iter_mut().for_each(ById::close);
    }

    pub(super) fn give_up(&mut self) {
        self.asked.iter_mut().for_each(ById::give_up);
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.asked.iter().any(ById::is_waiting)
    }

    pub(super) fn counters(&self) -> Counters {
        let [by_client, by_server] = &self.asked;
        let mut counters = by_client.counters;
        // Both are told of each loss.
        counters.add(Counters { resyncs: 0, ..by_server.counters });
        counters
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.asked.iter().map(ById::held_bytes).sum()
    }
}

pub(super) fn other(side: Side) -> Side {
    match side {
        Side::Request => Side::Response,
        Side::Response => Side::Request,
    }
}

fn done(pairs: &mut OfSide, asked: Message, answer: Message) -> Option<Done> {
    if !is_answer(asked.kind, answer.kind) {
        pairs.mistaken(answer.time_unix_ns);
        return None;
    }
    Some(Done {
        asked: asked.kind,
        answer: answer.kind,
        tag: asked.tag,
        time_unix_ns: answer.time_unix_ns,
        latency_ns: answer.time_unix_ns.saturating_sub(asked.time_unix_ns),
    })
}
