//! Which method answers which: on each channel answers come in the order in which they were asked for,
//! and each request has its own kind of answer.
//!
//! Methods carry nothing that would tell two requests of one kind apart. So after a loss nothing is
//! paired that was asked before, or within a moment, when answers to what was lost may still come.

use std::collections::VecDeque;

use super::methods::is_answer;
use super::types::{Said, Told};
use crate::{Counters, Side};

/// Methods that wait for an answer, and as many for their content.
const WAITING_MAX: usize = 1_024;
/// What their texts may hold together.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Brokers answer within seconds; clients wait for a minute.
const ANSWER_WITHIN_NS: i64 = 60_000_000_000;
/// After a loss: answers to what was asked before have come by then. Messages and their acknowledgements do not
/// wait for it.
const SETTLES_WITHIN_NS: i64 = 5_000_000_000;

/// A row.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) request: Told,
    pub(super) response: Option<Told>,
}

impl Done {
    fn last(&mut self) -> &mut Told {
        self.response.as_mut().unwrap_or(&mut self.request)
    }
}

#[derive(Debug, Default)]
pub(super) struct Pairing {
    /// By who asked.
    waiting: VecDeque<(Side, Told)>,
    /// By who sends the content.
    without_content: VecDeque<(Side, Done)>,
    held_bytes: usize,
    unsure_until_ns: i64,
    joined: bool,
    pub(super) counters: Counters,
}

impl Pairing {
    pub(super) fn new(from_start: bool) -> Pairing {
        Pairing { joined: !from_start, ..Pairing::default() }
    }

    /// Whether a method can be taken now: an answer whose request may still come has to wait.
    pub(super) fn expects(&self, side: Side, said: &Said) -> bool {
        !is_answer(said.method.class_id, said.method.method_id) || self.asked(side, said).is_some()
    }

    /// The request that a method of this side answers.
    fn asked(&self, side: Side, said: &Said) -> Option<usize> {
        self.waiting.iter().position(|(by, request)| {
            *by != side
                && request.said.channel == said.channel
                && request.said.method.class_id == said.method.class_id
                && request.said.method.answers.contains(&said.method.method_id)
                && request.said.time_unix_ns <= said.time_unix_ns
        })
    }

    pub(super) fn method(&mut self, side: Side, told: Told, done: &mut Vec<Done>) {
        self.content_is_missing(side, told.said.channel, done);
        let is_sure = told.said.time_unix_ns >= self.unsure_until_ns;
        if is_answer(told.said.method.class_id, told.said.method.method_id) {
            match self.asked(side, &told.said).and_then(|at| self.waiting.remove(at)) {
                Some((_, request)) => {
                    self.held_bytes -= request.text.capacity();
                    if is_close(&request) {
                        self.closed(told.said.channel);
                    }
                    self.finish(side, Done { request, response: Some(told) }, done);
                }
                None if !is_sure => self.counters.gap += 1,
                None => self.unowned(told.said.time_unix_ns),
            }
        } else if told.said.method.answers.is_empty() || told.no_wait == Some(true) {
            self.finish(side, Done { request: told, response: None }, done);
        } else if told.no_wait.is_none() {
            // Its answer would be taken for that of the next one.
            self.uncertain(told.said.time_unix_ns);
            self.finish(side, Done { request: told, response: None }, done);
        } else if is_sure {
            self.held_bytes += told.text.capacity();
            self.waiting.push_back((side, told));
            self.keep_bounds(done);
        } else {
            self.counters.gap += 1;
        }
    }

    /// What was asked on a channel, or on any of a connection (0), is not answered once both sides have closed it. What
    /// is, is that the other side closes it as well, at the same time.
    fn closed(&mut self, channel: u16) {
        let before = self.waiting.len();
        let held_bytes = &mut self.held_bytes;
        self.waiting.retain(|(_, told)| {
            let stays = is_close(told) || ![0, told.said.channel].contains(&channel);
            if !stays {
                *held_bytes -= told.text.capacity();
            }
            stays
        });
        self.counters.unanswered += (before - self.waiting.len()) as u64;
    }

    /// An answer to nothing that is known. What it is for may still be read, when a hole before it is given
    /// up, and would be taken for what the next answer is for: so nothing is paired for a while.
    fn unowned(&mut self, at_unix_ns: i64) {
        match self.joined {
            true => self.counters.unpaired += 1,
            false => self.counters.unasked += 1,
        }
        self.uncertain(at_unix_ns);
    }

    fn uncertain(&mut self, at_unix_ns: i64) {
        self.counters.gap += self.waiting.len() as u64;
        self.counters.resyncs += 1;
        self.forget();
        self.unsure_until(at_unix_ns);
    }

    /// What was asked until then may be answered for a while.
    pub(super) fn unsure_until(&mut self, lost_at_unix_ns: i64) {
        let settled_ns = lost_at_unix_ns.saturating_add(SETTLES_WITHIN_NS);
        self.unsure_until_ns = self.unsure_until_ns.max(settled_ns);
    }

    /// What has a content waits for its size.
    fn finish(&mut self, side: Side, mut row: Done, done: &mut Vec<Done>) {
        if !row.last().said.method.has_content {
            done.push(row);
            return;
        }
        self.held_bytes += bytes_of(&row);
        self.without_content.push_back((side, row));
        self.keep_bounds(done);
    }

    /// A content's header came on a channel.
    pub(super) fn content(&mut self, side: Side, channel: u16, body: u64, done: &mut Vec<Done>) {
        if let Some(mut row) = self.take_without_content(side, channel) {
            super::table::add_body_size(&mut row.last().text, body);
            done.push(row);
        }
    }

    fn content_is_missing(&mut self, side: Side, channel: u16, done: &mut Vec<Done>) {
        done.extend(self.take_without_content(side, channel));
    }

    fn take_without_content(&mut self, side: Side, channel: u16) -> Option<Done> {
        let is_it = |(by, row): &(Side, Done)| *by == side && row.request.said.channel == channel;
        let at = self.without_content.iter().position(is_it)?;
        let (_, row) = self.without_content.remove(at)?;
        self.held_bytes -= bytes_of(&row);
        Some(row)
    }

    fn keep_bounds(&mut self, done: &mut Vec<Done>) {
        while self.without_content.len() > WAITING_MAX
            || (self.held_bytes > WAITING_BYTES_MAX && !self.without_content.is_empty())
        {
            let (_, row) = self.without_content.pop_front().expect("it is not empty");
            self.held_bytes -= bytes_of(&row);
            done.push(row);
        }
        if self.waiting.len() > WAITING_MAX || self.held_bytes > WAITING_BYTES_MAX {
            let newest_ns = self.waiting.back().map_or(0, |(_, told)| told.said.time_unix_ns);
            self.counters.given_up += self.waiting.len() as u64;
            self.counters.resyncs += 1;
            self.forget();
            self.unsure_until(newest_ns);
        }
    }

    fn forget(&mut self) {
        for (_, told) in std::mem::take(&mut self.waiting) {
            self.held_bytes -= told.text.capacity();
        }
    }

    /// Frames of a side are missing, as was noticed at that time.
    pub(super) fn lost(&mut self, side: Side, at_unix_ns: i64, done: &mut Vec<Done>) {
        self.counters.gap += 1 + self.waiting.len() as u64;
        self.counters.resyncs += 1;
        self.forget();
        self.unsure_until(at_unix_ns);
        while let Some(at) = self.without_content.iter().position(|(by, _)| *by == side) {
            let (_, row) = self.without_content.remove(at).expect("it was just found");
            self.held_bytes -= bytes_of(&row);
            done.push(row);
        }
    }

    /// What has waited for too long is not answered any more. Should it be all the same, that is not the
    /// answer to what came after it: so nothing is paired for as long again.
    pub(super) fn pass_time(&mut self, now_unix_ns: i64) {
        let oldest_ns = now_unix_ns.saturating_sub(ANSWER_WITHIN_NS);
        let is_late = |(_, told): &&(Side, Told)| told.said.time_unix_ns < oldest_ns;
        let late = self.waiting.iter().take_while(is_late).count();
        if late > 0 {
            for (_, told) in self.waiting.drain(..late) {
                self.held_bytes -= told.text.capacity();
            }
            self.counters.unanswered += late as u64;
            self.uncertain(now_unix_ns);
            let until_ns = now_unix_ns.saturating_add(ANSWER_WITHIN_NS);
            self.unsure_until_ns = self.unsure_until_ns.max(until_ns);
        }
    }

    pub(super) fn close(&mut self, done: &mut Vec<Done>) {
        self.counters.unanswered += self.waiting.len() as u64;
        self.forget();
        done.extend(std::mem::take(&mut self.without_content).into_iter().map(|(_, row)| row));
        self.held_bytes = 0;
    }

    /// For room.
    pub(super) fn give_up(&mut self) {
        let newest_ns = self.waiting.back().map_or(0, |(_, told)| told.said.time_unix_ns);
        self.unsure_until(newest_ns);
        self.counters.given_up += (self.waiting.len() + self.without_content.len()) as u64;
        self.waiting = VecDeque::new();
        self.without_content = VecDeque::new();
        self.held_bytes = 0;
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.without_content.is_empty()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
            + self.waiting.capacity() * size_of::<(Side, Told)>()
            + self.without_content.capacity() * size_of::<(Side, Done)>()
    }
}

fn is_close(told: &Told) -> bool {
    [(10, 50), (20, 40)].contains(&(told.said.method.class_id, told.said.method.method_id))
}

fn bytes_of(row: &Done) -> usize {
    row.request.text.capacity() + row.response.as_ref().map_or(0, |told| told.text.capacity())
}
