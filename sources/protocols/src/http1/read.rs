//! One direction: takes messages off a stream, head first, then its body as it comes.
//!
//! Nothing of a body is buffered beyond what is kept of it. Missing bytes inside a body whose
//! length is known are stepped over. Where they hide the end of a head or of a body the message is
//! *open*: what was read of it is certain, and it lasts until the other direction shows that it is
//! over ([`Over`]): a client that waits for answers begins no request before the answer has ended,
//! and a server answers none that has not begun. Missing bytes between messages end in
//! [`Step::Lost`], after which the reader looks for an event that begins with a start line.

mod framed;
mod open;

use super::chunks::ChunkedDecoder;
use super::message::{read_request, read_response};
use super::parse::{Framing, proxy_header_bytes, recognise};
use super::types::{HEAD_BYTES_MAX, Message, Method, Pool};
use crate::stream::StreamBuffer;
use crate::{Config, Recognised, Side};

/// How a chunked body ends, if it has no trailers: behind a chunk, and by itself.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// An open response of which nothing came for so long is taken to be over: a kept connection may
/// never be used again. Longer than a server pauses within an answer that it is writing.
pub(super) const OPEN_QUIET_NS: i64 = 2_000_000_000;

#[derive(Debug)]
pub(super) enum Step {
    /// More bytes are needed.
    Wait,
    /// The head of a response to an unknown request was read, and promises a body.
    Promised,
    Complete(Box<Message>),
    /// Bytes are missing, or are none of HTTP, where a message's framing was. What was being read
    /// is lost (`true` if there was something); the reader resyncs.
    Lost {
        message: bool,
    },
}

/// Whether a message can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    Yes,
    Wait,
    /// As [`Step::Lost`], between messages. `at_head`: the bytes of a head are missing.
    Lost {
        at_head: bool,
    },
}

/// When an open message is over, by what the other direction shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Bytes that were moved after this time belong to another message.
    After(i64),
    /// So far nothing says that it is over.
    Open,
    /// There is no telling: the client does not wait for answers, or it is not known what it sent.
    Untold,
    /// Its answer has begun then, and its own end is not seen: what begins later, and looks like a request,
    /// is the next one.
    Answering(i64),
}

/// What a reader needs from outside for a step.
pub(super) struct Input<'a> {
    /// Of the request which a response would answer.
    pub(super) method: Method,
    pub(super) over: Over,
    /// The request that is being read was answered then, and never told to go on.
    pub(super) refused_ns: Option<i64>,
    /// What was seen before it has been seen by everybody: no event from before is on its way.
    pub(super) settled_ns: i64,
    pub(super) config: &'a Config,
    pub(super) pool: &'a mut Pool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
    /// In a message whose end cannot be seen.
    Open {
        chunked: bool,
    },
    /// Behind a message whose end could not be seen, and which has been given: more of it may come.
    Rest,
    /// Looking for an event that begins with a start line. `fresh`: the current position has not
    /// been ruled out yet.
    Hunting {
        fresh: bool,
    },
}

/// Whose the next bytes of an open message are.
enum Part {
    Its,
    Next,
    Wait,
    /// Other messages may have begun in what is missing.
    Lost,
}

#[derive(Debug)]
pub(super) struct Reader {
    side: Side,
    state: State,
    /// The message whose body is being read.
    current: Option<Box<Message>>,
    /// Unread bytes known to hold no end of the head.
    scanned: usize,
    /// The next message comes after a loss.
    after_loss: bool,
    /// The loss has bytes in it that were never seen (not only ones that were skipped).
    after_gap: bool,
    /// Bytes of unknown time are missing from the open message: others may have been among them.
    open_unseen: bool,
    /// Until when the latest of them may have been moved.
    unseen_until_ns: i64,
    /// Starts of messages that were read as a part of an open one while bytes of it were missing.
    swallowed: u64,
    /// A loss that has not been told yet.
    owes_loss: bool,
    /// Bytes between messages that were lost or skipped since the last message, ever.
    lost_between_bytes: u64,
}

impl Reader {
    /// `from_start`: the first byte that the stream gets is the connection's first. A stream that
    /// is joined in its middle begins with looking for a start.
    pub(super) fn new(side: Side, from_start: bool) -> Reader {
        Reader {
            side,
            state: if from_start { State::Head } else { State::Hunting { fresh: true } },
            current: None,
            scanned: 0,
            after_loss: false,
            after_gap: false,
            open_unseen: false,
            unseen_until_ns: i64::MIN,
            swallowed: 0,
            owes_loss: false,
            lost_between_bytes: 0,
        }
    }

    /// The message whose head was read and whose body was not yet.
    pub(super) fn current(&self) -> Option<&Message> {
        self.current.as_deref()
    }

    /// Memory held, for budgets.
    pub(super) fn held_bytes(&self) -> usize {
        self.current.as_ref().map_or(0, |message| message.held_bytes())
    }

    /// Bytes that were skipped, or never seen, between messages; only grows.
    pub(super) fn lost_between_bytes(&self) -> u64 {
        self.lost_between_bytes
    }

    /// Whether the loss that has just been told is one between messages.
    pub(super) fn is_between_messages(&self) -> bool {
        self.state == State::Hunting { fresh: false }
    }

    /// Whether the next unread bytes begin a head.
    pub(super) fn is_at_head(&self) -> bool {
        self.state == State::Head
    }

    /// Goes to where a message begins or goes on, and says whether there is anything to read there.
    pub(super) fn seek(&mut self, stream: &mut StreamBuffer, over: Over, settled_ns: i64) -> Ready {
        if std::mem::take(&mut self.owes_loss) {
            return Ready::Lost { at_head: false };
        }
        loop {
            match self.state {
                State::Hunting { fresh } => match self.hunt(stream, fresh) {
                    Some(Step::Lost { .. }) => return Ready::Lost { at_head: false },
                    Some(_) => return Ready::Wait,
                    None => {}
                },
                State::Rest => match self.rest(stream, over, settled_ns) {
                    Some(Step::Lost { .. }) => return Ready::Lost { at_head: false },
                    Some(_) => return Ready::Wait,
                    None => {}
                },
                State::Head => {
                    self.skip_empty_lines(stream);
                    return match (stream.unread().is_empty(), stream.lost_bytes()) {
                        (false, _) => Ready::Yes,
                        (true, 0) => Ready::Wait,
                        (true, _) => {
                            self.lose();
                            Ready::Lost { at_head: true }
                        }
                    };
                }
                State::Length(_) | State::Chunked(_) | State::UntilClose | State::Open { .. } => {
                    return Ready::Yes;
                }
            }
        }
    }

    /// The loss in front of the message that begins here at `begins_ns` held no byte that was
    /// written at or after the time returned.
    pub(super) fn loss_ended_ns(&self, begins_ns: i64, stream: &StreamBuffer) -> i64 {
        match stream.last_read_ns() {
            Some(last_ns) if !self.after_gap => last_ns.saturating_add(1),
            _ => begins_ns,
        }
    }

    /// Reads on.
    pub(super) fn step(&mut self, stream: &mut StreamBuffer, input: &mut Input<'_>) -> Step {
        if std::mem::take(&mut self.owes_loss) {
            return Step::Lost { message: false };
        }
        loop {
            if let Some(refused_ns) = input.refused_ns
                && let Some(request) = self.end_unsent(stream, refused_ns)
            {
                return Step::Complete(request);
            }
            let found = match self.state {
                State::Hunting { fresh } => self.hunt(stream, fresh),
                State::Head => self.head(stream, input),
                State::Length(left) => self.length(stream, left),
                State::Chunked(decoder) => self.chunked(stream, decoder),
                State::UntilClose => self.until_close(stream, input),
                State::Open { chunked } => self.open(stream, chunked, input),
                State::Rest => self.rest(stream, input.over, input.settled_ns),
            };
            if let Some(step) = found {
                return step;
            }
        }
    }

    /// The direction ended, and with it what was being read: a download that was broken off is
    /// whole as far as there was anything of it.
    pub(super) fn end(
        &mut self,
        stream: &mut StreamBuffer,
        input: &mut Input<'_>,
    ) -> Option<Box<Message>> {
        if self.state == State::Head && self.side == Side::Response {
            self.cut_head(stream, input);
        }
        let whole = self.state == State::UntilClose;
        self.state = State::Hunting { fresh: true };
        self.open_unseen = false;
        let mut message = self.current.take()?;
        if !whole {
            message.body.mark_cut();
        }
        Some(message)
    }

    /// Gives up the message being read, at the end of everything.
    pub(super) fn abandon(&mut self) -> Option<Box<Message>> {
        self.state = State::Hunting { fresh: true };
        self.current.take()
    }

    fn lose(&mut self) -> Option<Step> {
        self.state = State::Hunting { fresh: false };
        self.scanned = 0;
        self.after_loss = true;
        Some(Step::Lost { message: self.current.take().is_some() })
    }

    fn hunt(&mut self, stream: &mut StreamBuffer, fresh: bool) -> Option<Step> {
        if !fresh {
            let (from, seen_to) =
                (stream.position(), stream.position() + stream.unread().len() as u64);
            stream.skip_to_event();
            self.after_gap |= stream.position() > seen_to;
            self.lost_between_bytes += stream.position() - from;
            self.state = State::Hunting { fresh: true };
        }
        if stream.unread().is_empty() && stream.lost_bytes() == 0 {
            return Some(Step::Wait);
        }
        // Behind a loss an empty line is more likely the end of a head than the start of a message.
        let empty_line = matches!(stream.unread().first(), Some(b'\r' | b'\n'));
        let recognised = if stream.at_event_start() && !(empty_line && self.after_loss) {
            recognise(self.side, stream.unread())
        } else {
            Recognised::No
        };
        match recognised {
            Recognised::Yes => self.state = State::Head,
            Recognised::Unsure if stream.lost_bytes() == 0 => return Some(Step::Wait),
            Recognised::Unsure | Recognised::No => {
                let first = !self.after_loss;
                self.state = State::Hunting { fresh: false };
                self.after_loss = true;
                if first {
                    return Some(Step::Lost { message: false });
                }
            }
        }
        None
    }

    fn head(&mut self, stream: &mut StreamBuffer, input: &mut Input<'_>) -> Option<Step> {
        if stream.position() == 0
            && self.side == Side::Request
            && let Some(proxied) = proxy_header_bytes(stream.unread())
        {
            if proxied > stream.unread().len() && stream.lost_bytes() == 0 {
                return Some(Step::Wait);
            }
            stream.consume(proxied);
        }
        self.skip_empty_lines(stream);
        let bytes = stream.unread();
        if bytes.is_empty() && stream.lost_bytes() == 0 {
            return Some(Step::Wait);
        }
        if !self.head_ends(bytes) {
            let none = self.side == Side::Response && recognise(self.side, bytes) == Recognised::No;
            let cut = stream.lost_bytes() > 0 || bytes.len() > HEAD_BYTES_MAX;
            return match (none, cut) {
                (true, _) => self.lose(),
                (false, false) => Some(Step::Wait),
                (false, true) => self.cut_head(stream, input),
            };
        }
        let mut message = input.pool.take();
        let read = match self.side {
            Side::Request => Some(read_request(bytes, input.config, input.pool, &mut message)),
            Side::Response => read_response(bytes, input, &mut message),
        };
        let Some((used, framing)) = read else {
            input.pool.give(message);
            return self.lose();
        };
        self.begin(stream, used, &mut message);
        message.opens_tunnel = framing == Framing::Tunnel;
        let found = self.begin_body(stream, framing, message);
        if found.is_none() && input.method == Method::Unknown {
            Some(Step::Promised)
        } else {
            found
        }
    }

    /// Takes `used` bytes of a head, and notes where they were.
    fn begin(&mut self, stream: &mut StreamBuffer, used: usize, message: &mut Message) {
        message.at_event_start = stream.at_event_start();
        message.before_unix_ns = stream.last_read_ns();
        message.first_unix_ns = stream.unread_since_ns().unwrap_or(0);
        message.after_loss = std::mem::take(&mut self.after_loss);
        message.after_gap = std::mem::take(&mut self.after_gap);
        message.last_unix_ns = stream.consume(used);
        message.wire_bytes = used as u64;
        self.scanned = 0;
        self.unseen_until_ns = i64::MIN;
    }

    /// Makes a message of what there is of a head of which no more will be read: the rest of it is
    /// missing, or too long, or was not waited for by the one who answered.
    pub(super) fn cut_head(
        &mut self,
        stream: &mut StreamBuffer,
        input: &mut Input<'_>,
    ) -> Option<Step> {
        let bytes = stream.unread();
        let bytes = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
        let (used, line_ends) = (bytes.len(), memchr::memchr(b'\n', bytes).is_some());
        let unseen = stream.lost_bytes() > 0 && stream.behind_unread_is_unseen();
        // Of a start line that was cut by a loss nothing is certain.
        if bytes.is_empty() || (!line_ends && (unseen || self.side == Side::Response)) {
            return self.lose();
        }
        let mut message = input.pool.take();
        let framing = match self.side {
            Side::Request => Some(read_request(bytes, input.config, input.pool, &mut message).1),
            Side::Response => read_response(bytes, input, &mut message).map(|(_, framing)| framing),
        };
        let Some(framing) = framing.filter(|_| !message.is_interim()) else {
            input.pool.give(message);
            return self.lose();
        };
        if !line_ends && stream.lost_bytes() == 0 {
            // More of the target may have been on its way.
            message.path.clear();
        }
        self.begin(stream, used, &mut message);
        message.opens_tunnel = framing == Framing::Tunnel;
        message.body.mark_cut();
        self.open_unseen = unseen;
        if self.side == Side::Response && matches!(framing, Framing::None | Framing::Tunnel) {
            self.state = if unseen { self.behind_loss() } else { State::Rest };
            return Some(Step::Complete(message));
        }
        self.state = State::Open { chunked: false };
        self.current = Some(message);
        if input.method == Method::Unknown { Some(Step::Promised) } else { None }
    }

    fn skip_empty_lines(&mut self, stream: &mut StreamBuffer) {
        let is_line_end = |byte: &&u8| matches!(byte, b'\r' | b'\n');
        let empty = stream.unread().iter().take_while(is_line_end).count();
        if empty > 0 {
            stream.consume(empty);
            self.scanned = 0;
        }
    }

    /// Whether the head is all there; looks at each byte once.
    fn head_ends(&mut self, bytes: &[u8]) -> bool {
        let bytes = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
        let from = self.scanned.saturating_sub(3).min(bytes.len());
        for newline in memchr::memchr_iter(b'\n', &bytes[from..]) {
            let rest = &bytes[from + newline + 1..];
            if rest.starts_with(b"\n") || rest.starts_with(b"\r\n") {
                return true;
            }
        }
        self.scanned = bytes.len();
        false
    }

    fn complete(&mut self, stream: &StreamBuffer) -> Option<Step> {
        self.state = State::Head;
        let mut message = self.current.take()?;
        message.note_end(stream);
        Some(Step::Complete(message))
    }
}
