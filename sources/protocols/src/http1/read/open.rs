//! Messages whose end cannot be seen: what of the stream is still theirs, and when they are over.
//!
//! How they came to be open is the parent's business; whose answer they are is `stitch`'s.

use super::{Input, LAST_CHUNK, OPEN_QUIET_NS, Over, Part, Reader, State, Step};
use crate::http1::chunks::ChunkedDecoder;
use crate::http1::parse::{recognise, recognise_first};
use crate::http1::types::Message;
use crate::stream::StreamBuffer;
use crate::{Recognised, Side};

impl Reader {
    /// Whether the current message's end cannot be seen.
    pub(in crate::http1) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Whether more may come of an open message that has been given.
    pub(in crate::http1) fn is_at_rest(&self) -> bool {
        self.state == State::Rest
    }

    /// A response to an unknown request promised a body, nothing of it came or it has gaps, and the
    /// next event is another response: it answered a HEAD, or the end of its body was lost.
    pub(in crate::http1) fn end_bodiless(&mut self, stream: &StreamBuffer) -> Option<Box<Message>> {
        let current = self.current.as_ref()?;
        let bodiless =
            (self.has_no_body_yet(current) || current.body.is_cut()) && self.next_begins(stream);
        if !bodiless {
            return None;
        }
        self.state = State::Head;
        let mut message = self.current.take()?;
        message.end_is_guessed = true;
        Some(message)
    }

    /// A request whose body was to be asked for first (`Expect`), and was refused: what begins now is the
    /// next request, if it looks like one.
    pub(super) fn end_unsent(
        &mut self,
        stream: &StreamBuffer,
        refused_ns: i64,
    ) -> Option<Box<Message>> {
        let current = self.current.as_ref()?;
        let unsent = current.expects
            && self.has_no_body_yet(current)
            && stream.unread_since_ns().is_some_and(|since_ns| since_ns > refused_ns)
            && self.next_begins(stream);
        if !unsent {
            return None;
        }
        self.state = State::Head;
        self.current.take()
    }

    /// Whether nothing of the message's body has come.
    fn has_no_body_yet(&self, message: &Message) -> bool {
        let begun =
            matches!(self.state, State::Chunked(decoder) if decoder != ChunkedDecoder::default());
        message.body.size_bytes() == 0 && !begun
    }

    /// Whether what comes now, with an event of its own, looks like another message.
    pub(super) fn next_begins(&self, stream: &StreamBuffer) -> bool {
        stream.at_event_start() && recognise(self.side, stream.unread()) == Recognised::Yes
    }

    /// Bytes that begin no message where nothing is outstanding, so that they answer nothing: a body
    /// where there must be none, which clients throw away. True if they were stepped over, to the end of
    /// their event.
    pub(in crate::http1) fn skip_excess(&mut self, stream: &mut StreamBuffer) -> bool {
        let is_excess = self.state == State::Head
            && !stream.unread().is_empty()
            && recognise(self.side, stream.unread()) == Recognised::No;
        if is_excess {
            stream.skip(stream.run_bytes());
            self.scanned = 0;
        }
        is_excess
    }

    /// The open message is over; more of its bytes may come.
    pub(in crate::http1) fn end_open(&mut self) -> Option<Box<Message>> {
        if !self.is_open() {
            return None;
        }
        let message = self.current.take()?;
        let unseen = std::mem::take(&mut self.open_unseen);
        self.state = if unseen { self.behind_loss() } else { State::Rest };
        Some(message)
    }

    /// How many other messages were read as a part of open ones, since the last call.
    pub(in crate::http1) fn take_swallowed(&mut self) -> u64 {
        std::mem::take(&mut self.swallowed)
    }

    pub(super) fn behind_loss(&mut self) -> State {
        (self.after_loss, self.after_gap, self.owes_loss) = (true, true, true);
        State::Hunting { fresh: true }
    }

    /// Whose the bytes at the stream's position are: the open message's, or the next one's.
    fn part(&self, stream: &StreamBuffer, over: Over, settled_ns: i64) -> Part {
        let Some(begins_ns) = stream.next_byte_ns() else { return Part::Wait };
        match over {
            Over::Untold => Part::Lost,
            Over::After(over_ns) if stream.at_unseen() => {
                let is_before = stream.behind_hole_ns().is_some_and(|behind| behind <= over_ns);
                if is_before { Part::Its } else { Part::Lost }
            }
            Over::After(over_ns) if begins_ns <= over_ns => Part::Its,
            // What was taken for its own may have held the beginning of the next one.
            Over::After(over_ns) if self.unseen_until_ns > over_ns => Part::Lost,
            Over::After(_) => self.next_part(stream),
            Over::Answering(since_ns)
                if begins_ns > since_ns && !self.open_unseen && self.next_begins(stream) =>
            {
                Part::Next
            }
            // The other direction's event that makes it the next one's may be on its way.
            Over::Open | Over::Answering(_) if begins_ns > settled_ns && self.may_begin(stream) => {
                Part::Wait
            }
            Over::Open | Over::Answering(_) => Part::Its,
        }
    }

    /// The same for bytes that were moved when the open message was over.
    fn next_part(&self, stream: &StreamBuffer) -> Part {
        match (self.side, stream.at_event_start() && !stream.unread().is_empty()) {
            (Side::Response, true) => Part::Next,
            (Side::Response, false) => Part::Lost,
            // An answer may come before its request has ended: the rest of it still follows.
            (Side::Request, begins) => match recognise_first(self.side, stream.unread()) {
                Recognised::Yes if begins => Part::Next,
                Recognised::Unsure if begins && stream.lost_bytes() == 0 => Part::Wait,
                _ => Part::Its,
            },
        }
    }

    fn may_begin(&self, stream: &StreamBuffer) -> bool {
        stream.at_event_start() && recognise(self.side, stream.unread()) != Recognised::No
    }

    pub(super) fn open(
        &mut self,
        stream: &mut StreamBuffer,
        chunked: bool,
        input: &Input<'_>,
    ) -> Option<Step> {
        if stream.next_byte_ns().is_none() {
            let ended = self.is_quiet(stream, input).then(|| self.end_open()).flatten();
            return Some(ended.map_or(Step::Wait, Step::Complete));
        }
        match self.part(stream, input.over, input.settled_ns) {
            Part::Wait => return Some(Step::Wait),
            Part::Next => {
                self.open_unseen = false;
                return self.complete(stream);
            }
            Part::Lost => {
                self.open_unseen = false;
                self.state = self.behind_loss();
                return self.current.take().map(Step::Complete);
            }
            Part::Its => {}
        }
        self.open_unseen |= stream.at_unseen();
        self.note_unseen(stream);
        self.swallowed += u64::from(self.open_unseen && self.may_begin(stream));
        let run_bytes = stream.run_bytes();
        let seen = usize::try_from(run_bytes).unwrap_or(usize::MAX).min(stream.unread().len());
        let run = &stream.unread()[..seen];
        let ends =
            chunked && !self.open_unseen && (run.ends_with(LAST_CHUNK) || *run == LAST_CHUNK[2..]);
        self.body_bytes(stream, run_bytes);
        if ends && stream.at_event_end() {
            self.state = State::Rest;
            return self.current.take().map(Step::Complete);
        }
        None
    }

    /// Nothing has come of the open response for long: what there is of it is its row, and what may
    /// still come is stepped over. A request lasts until its answer.
    fn is_quiet(&self, stream: &StreamBuffer, input: &Input<'_>) -> bool {
        let since_ns = stream.last_read_ns().unwrap_or(i64::MAX);
        self.side == Side::Response
            && stream.is_empty()
            && input.settled_ns.saturating_sub(since_ns) >= OPEN_QUIET_NS
    }

    /// Steps over what may still come of a message that has been given.
    pub(super) fn rest(
        &mut self,
        stream: &mut StreamBuffer,
        over: Over,
        settled_ns: i64,
    ) -> Option<Step> {
        if stream.next_byte_ns().is_none() {
            return Some(Step::Wait);
        }
        match self.part(stream, over, settled_ns) {
            Part::Wait => Some(Step::Wait),
            Part::Next => {
                self.state = State::Head;
                None
            }
            Part::Lost => {
                self.state = self.behind_loss();
                self.owes_loss = false;
                Some(Step::Lost { message: false })
            }
            Part::Its => {
                self.note_unseen(stream);
                stream.skip(stream.run_bytes());
                None
            }
        }
    }

    pub(super) fn note_unseen(&mut self, stream: &StreamBuffer) {
        if stream.at_unseen() {
            let until_ns = stream.behind_hole_ns().unwrap_or(i64::MAX);
            self.unseen_until_ns = self.unseen_until_ns.max(until_ns);
        }
    }
}
