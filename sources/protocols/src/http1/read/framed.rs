//! Bodies whose end is told: by a length, by chunks, or by the end of the connection.

use super::{Input, Over, Reader, State, Step};
use crate::http1::chunks::{ChunkStep, ChunkedDecoder};
use crate::http1::parse::Framing;
use crate::http1::types::Message;
use crate::stream::StreamBuffer;

impl Reader {
    pub(super) fn begin_body(
        &mut self,
        stream: &StreamBuffer,
        framing: Framing,
        mut message: Box<Message>,
    ) -> Option<Step> {
        self.state = match framing {
            Framing::None | Framing::Tunnel | Framing::Length(0) => {
                self.state = State::Head;
                message.note_end(stream);
                return Some(Step::Complete(message));
            }
            Framing::Length(left) => State::Length(left),
            Framing::Chunked => State::Chunked(ChunkedDecoder::default()),
            Framing::UntilClose => State::UntilClose,
            Framing::Unknown => {
                message.body.mark_cut();
                State::Open { chunked: false }
            }
        };
        self.current = Some(message);
        None
    }

    pub(super) fn length(&mut self, stream: &mut StreamBuffer, left: u64) -> Option<Step> {
        let used = self.body_bytes(stream, left);
        if used == left {
            return self.complete(stream);
        }
        self.state = State::Length(left - used);
        if used == 0 { Some(Step::Wait) } else { None }
    }

    /// A body without a length lasts until the connection closes, unless the server goes on with
    /// the answer to another request.
    pub(super) fn until_close(
        &mut self,
        stream: &mut StreamBuffer,
        input: &Input<'_>,
    ) -> Option<Step> {
        while let Some(begins_ns) = stream.next_byte_ns() {
            let is_next = matches!(input.over, Over::After(over_ns) if begins_ns > over_ns)
                && self.next_begins(stream);
            let over_ns = if let Over::After(over_ns) = input.over { over_ns } else { i64::MAX };
            if is_next && self.unseen_until_ns > over_ns {
                // The next one may have begun in what is missing.
                self.state = self.behind_loss();
                return self.current.take().map(Step::Complete);
            }
            if is_next {
                return self.complete(stream);
            }
            self.note_unseen(stream);
            self.body_bytes(stream, stream.run_bytes());
        }
        Some(Step::Wait)
    }

    /// Takes at most `left` bytes of plain body, there or missing.
    pub(super) fn body_bytes(&mut self, stream: &mut StreamBuffer, left: u64) -> u64 {
        let Some(message) = &mut self.current else { return 0 };
        let bytes = stream.unread();
        if bytes.is_empty() {
            let missing = stream.lost_bytes().min(left);
            if missing > 0 {
                message.body.push_gap(missing);
                message.wire_bytes += missing;
                message.last_unix_ns = stream.skip(missing).max(message.last_unix_ns);
            }
            return missing;
        }
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        message.body.push(&bytes[..count]);
        message.wire_bytes += count as u64;
        message.last_unix_ns = stream.consume(count).max(message.last_unix_ns);
        count as u64
    }

    pub(super) fn chunked(
        &mut self,
        stream: &mut StreamBuffer,
        mut decoder: ChunkedDecoder,
    ) -> Option<Step> {
        let Some(message) = &mut self.current else { return self.lose() };
        let bytes = stream.unread();
        if bytes.is_empty() {
            let missing = stream.lost_bytes();
            if missing == 0 {
                return Some(Step::Wait);
            }
            let skipped = missing.min(decoder.skippable_bytes());
            if skipped == 0 {
                message.body.mark_cut();
                self.state = State::Open { chunked: true };
                return None;
            }
            decoder.skip(skipped);
            message.body.push_gap(skipped);
            message.wire_bytes += skipped;
            message.last_unix_ns = stream.skip(skipped).max(message.last_unix_ns);
            self.state = State::Chunked(decoder);
            return None;
        }
        let (used, done) = match decoder.step(bytes) {
            ChunkStep::Framing(used) => (used, false),
            ChunkStep::Done(used) => (used, true),
            ChunkStep::Data(used) => {
                message.body.push(&bytes[..used]);
                (used, false)
            }
            ChunkStep::Invalid => {
                message.body.mark_cut();
                self.state = State::Open { chunked: true };
                return None;
            }
        };
        message.wire_bytes += used as u64;
        message.last_unix_ns = stream.consume(used).max(message.last_unix_ns);
        self.state = State::Chunked(decoder);
        if done { self.complete(stream) } else { None }
    }
}
