//! Behind a loss: replies as they are looked at before it is known whose they are.

use super::{Redis, What};
use crate::in_order::{self, Owner, Unit};
use crate::redis::fits::{least_asked_bytes, replies_missing, shape};
use crate::redis::parse::Read;
use crate::redis::read::Missing;
use crate::stream::StreamBuffer;

/// Replies that wait may have so many bytes.
const LOOK_BYTES_MAX: usize = 64 * 1024;

/// Replies that are missing before the next one.
#[derive(Clone, Copy, Debug)]
pub(super) struct LostReplies {
    least: i64,
    /// Pairing was certain before.
    was_certain: bool,
    /// Parts of one may follow.
    is_rest: bool,
    /// Where they begin.
    from: u64,
}

impl Redis {
    /// Replies are missing; at least so many.
    pub(super) fn count_lost(&mut self, missing: Missing, at_least: Option<u64>) {
        let may_be_rest = at_least.is_none() || (missing.is_within && !self.is_plain);
        let new = LostReplies {
            least: at_least.and_then(|count| i64::try_from(count).ok()).unwrap_or(0),
            was_certain: self.queue.is_sure(),
            is_rest: false,
            from: self.replies.ended_at(),
        };
        let is_looked_into = !missing.is_within || self.has_known_parts;
        if !is_looked_into {
            self.queue.look_no_further();
        }
        let lost = self.lost_replies.get_or_insert(new);
        lost.is_rest |= may_be_rest;
        lost.was_certain &= is_looked_into;
    }

    /// Whose the reply in front is, if what follows it tells.
    pub(super) fn look_ahead(
        &mut self,
        what: What,
        stream: &StreamBuffer,
        now_unix_ns: i64,
    ) -> Option<Owner> {
        let is_quiet = self.channels == [0; 3] && !self.monitors && what == What::Reply;
        if !is_quiet {
            self.lost_replies = None;
            self.queue.look_no_further();
            return None;
        }
        if let Some(LostReplies { least, was_certain, is_rest, from }) = self.lost_replies.take() {
            let bytes = stream.position().saturating_sub(from);
            let most = replies_missing(bytes);
            let missing = in_order::Missing { least, most, bytes };
            self.queue.responses_missing(missing, was_certain, is_rest);
        }
        if !self.queue.looks_ahead() {
            return None;
        }
        let is_full = self.look_at_units(stream);
        let is_over = self.closes || stream.lost_bytes() > 0 || is_full;
        self.queue.look(now_unix_ns, is_over)
    }

    /// Looks at replies that are whole. True if there is no room for more.
    fn look_at_units(&mut self, stream: &StreamBuffer) -> bool {
        let unread = stream.unread();
        if self.queue.units() == 0 {
            self.looked_to = stream.position();
        }
        loop {
            let from = (self.looked_to.saturating_sub(stream.position())) as usize;
            let Some(bytes) = unread.get(from..).filter(|bytes| !bytes.is_empty()) else {
                return unread.len() > LOOK_BYTES_MAX;
            };
            match shape(bytes) {
                Read::Is(shape, used) => {
                    let time = |at| stream.time_of_unread(at).unwrap_or_default();
                    self.queue.unit(Unit {
                        begin_ns: time(from),
                        end_ns: time(from + used - 1),
                        shape,
                        least_asked_bytes: least_asked_bytes(self.commands.has_lines()),
                    });
                    self.looked_to += used as u64;
                }
                Read::Short => return unread.len() > LOOK_BYTES_MAX,
                Read::Invalid => return true,
            }
        }
    }
}
