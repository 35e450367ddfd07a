//! One direction: takes messages off a stream, head first, then its body as it comes.
//!
//! Nothing of a body is buffered beyond what is kept of it. Missing bytes inside a body are stepped
//! over; missing bytes in a head or in chunk framing end in [`Step::Lost`], after which the reader
//! looks for an event that begins with a start line.

use httparse::Header;

use super::body::{ContentKind, Encoding};
use super::parse::{
    ChunkStep, ChunkedDecoder, Framing, header_space, parse_request, parse_response, recognise,
    request_framing, response_framing,
};
use super::types::{
    Config, HEAD_BYTES_MAX, HEADERS_TEXT_BYTES_MAX, Message, Method, PATH_BYTES_MAX, Pool,
};
use crate::stream::StreamBuffer;
use crate::{Parsed, Recognised, Side};

/// Values of these headers never reach a row.
const SECRET_HEADERS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "set-cookie"];
const REDACTED: &str = "<redacted>";

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
    /// As [`Step::Lost`], between messages.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
    /// Looking for an event that begins with a start line. `fresh`: the current position has not
    /// been ruled out yet.
    Hunting {
        fresh: bool,
    },
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
}

impl Reader {
    pub(super) fn new(side: Side) -> Reader {
        // A stream is often joined in its middle: begin by looking for a start.
        let state = State::Hunting { fresh: true };
        Reader { side, state, current: None, scanned: 0, after_loss: false, after_gap: false }
    }

    /// The message whose head was read and whose body was not yet.
    pub(super) fn current(&self) -> Option<&Message> {
        self.current.as_deref()
    }

    /// Goes to where a message begins or goes on, and says whether there is anything to read there.
    pub(super) fn seek(&mut self, stream: &mut StreamBuffer) -> Ready {
        loop {
            match self.state {
                State::Hunting { fresh } => match self.hunt(stream, fresh) {
                    Some(Step::Lost { .. }) => return Ready::Lost,
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
                            Ready::Lost
                        }
                    };
                }
                State::Length(_) | State::Chunked(_) | State::UntilClose => return Ready::Yes,
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

    /// Reads on. `method` is that of the request which a response would answer.
    pub(super) fn step(
        &mut self,
        stream: &mut StreamBuffer,
        method: Method,
        config: &Config,
        pool: &mut Pool,
    ) -> Step {
        loop {
            let found = match self.state {
                State::Hunting { fresh } => self.hunt(stream, fresh),
                State::Head => self.head(stream, method, config, pool),
                State::Length(left) => self.length(stream, left),
                State::Chunked(decoder) => self.chunked(stream, decoder),
                State::UntilClose => {
                    self.until_close(stream);
                    Some(Step::Wait)
                }
            };
            if let Some(step) = found {
                return step;
            }
        }
    }

    /// The direction ended: what lasts until then is complete.
    pub(super) fn end(&mut self) -> Option<Box<Message>> {
        let complete = self.state == State::UntilClose;
        self.state = State::Hunting { fresh: true };
        self.current.take_if(|_| complete)
    }

    /// Gives up the message being read, at the end of everything.
    pub(super) fn abandon(&mut self) -> Option<Box<Message>> {
        self.state = State::Hunting { fresh: true };
        self.current.take()
    }

    /// A response to an unknown request promised a body, nothing of it came or it has gaps, and the
    /// next event is another response: it answered a HEAD, or the end of its body was lost.
    pub(super) fn end_bodiless(&mut self, stream: &StreamBuffer) -> Option<Box<Message>> {
        let current = self.current.as_ref()?;
        let begun =
            matches!(self.state, State::Chunked(decoder) if decoder != ChunkedDecoder::default());
        let bodiless = ((current.body.size_bytes() == 0 && !begun) || current.body.is_cut())
            && stream.at_event_start()
            && recognise(self.side, stream.unread()) == Recognised::Yes;
        if !bodiless {
            return None;
        }
        self.state = State::Head;
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
            let seen_to = stream.position() + stream.unread().len() as u64;
            stream.skip_to_event();
            self.after_gap |= stream.position() > seen_to;
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

    fn head(
        &mut self,
        stream: &mut StreamBuffer,
        method: Method,
        config: &Config,
        pool: &mut Pool,
    ) -> Option<Step> {
        self.skip_empty_lines(stream);
        let bytes = stream.unread();
        if bytes.is_empty() && stream.lost_bytes() == 0 {
            return Some(Step::Wait);
        }
        if !self.head_ends(bytes) {
            let hopeless = stream.lost_bytes() > 0
                || bytes.len() > HEAD_BYTES_MAX
                || (self.side == Side::Response && recognise(self.side, bytes) == Recognised::No);
            return if hopeless { self.lose() } else { Some(Step::Wait) };
        }
        let mut message = pool.take();
        let read = match self.side {
            Side::Request => read_request(bytes, config, &mut message),
            Side::Response => read_response(bytes, method, config, &mut message),
        };
        let Some((used, framing)) = read else {
            pool.give(message);
            return self.lose();
        };
        message.at_event_start = stream.at_event_start();
        message.before_unix_ns = stream.last_read_ns();
        message.first_unix_ns = stream.unread_since_ns().unwrap_or(0);
        message.after_loss = std::mem::take(&mut self.after_loss);
        message.after_gap = std::mem::take(&mut self.after_gap);
        message.last_unix_ns = stream.consume(used);
        message.opens_tunnel = framing == Framing::Tunnel;
        self.scanned = 0;
        let found = self.begin_body(framing, message);
        if found.is_none() && method == Method::Unknown { Some(Step::Promised) } else { found }
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

    fn begin_body(&mut self, framing: Framing, message: Box<Message>) -> Option<Step> {
        self.state = match framing {
            Framing::None | Framing::Tunnel | Framing::Length(0) | Framing::Invalid => {
                self.state = State::Head;
                return Some(Step::Complete(message));
            }
            Framing::Length(left) => State::Length(left),
            Framing::Chunked => State::Chunked(ChunkedDecoder::default()),
            Framing::UntilClose => State::UntilClose,
        };
        self.current = Some(message);
        None
    }

    fn complete(&mut self) -> Option<Step> {
        self.state = State::Head;
        self.current.take().map(Step::Complete)
    }

    fn length(&mut self, stream: &mut StreamBuffer, left: u64) -> Option<Step> {
        let used = self.body_bytes(stream, left);
        if used == left {
            return self.complete();
        }
        self.state = State::Length(left - used);
        if used == 0 { Some(Step::Wait) } else { None }
    }

    fn until_close(&mut self, stream: &mut StreamBuffer) {
        while self.body_bytes(stream, u64::MAX) > 0 {}
    }

    /// Takes at most `left` bytes of plain body, there or missing.
    fn body_bytes(&mut self, stream: &mut StreamBuffer, left: u64) -> u64 {
        let Some(message) = &mut self.current else { return 0 };
        let bytes = stream.unread();
        if bytes.is_empty() {
            let missing = stream.lost_bytes().min(left);
            if missing > 0 {
                message.body.push_gap(missing);
                message.last_unix_ns = stream.skip(missing).max(message.last_unix_ns);
            }
            return missing;
        }
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        message.body.push(&bytes[..count]);
        message.last_unix_ns = stream.consume(count).max(message.last_unix_ns);
        count as u64
    }

    fn chunked(&mut self, stream: &mut StreamBuffer, mut decoder: ChunkedDecoder) -> Option<Step> {
        let Some(message) = &mut self.current else { return self.lose() };
        let bytes = stream.unread();
        if bytes.is_empty() {
            let missing = stream.lost_bytes();
            if missing == 0 {
                return Some(Step::Wait);
            }
            let skipped = missing.min(decoder.skippable_bytes());
            if skipped == 0 {
                return self.lose();
            }
            decoder.skip(skipped);
            message.body.push_gap(skipped);
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
            ChunkStep::Invalid => return self.lose(),
        };
        message.last_unix_ns = stream.consume(used).max(message.last_unix_ns);
        self.state = State::Chunked(decoder);
        if done { self.complete() } else { None }
    }
}

fn read_request(bytes: &[u8], config: &Config, message: &mut Message) -> Option<(usize, Framing)> {
    let mut space = header_space();
    let Parsed::Frame { frame, bytes: used } = parse_request(bytes, &mut space) else {
        return None;
    };
    let framing = request_framing(frame.headers);
    if framing == Framing::Invalid || used > HEAD_BYTES_MAX {
        return None;
    }
    message.method.push_str(frame.method);
    message.path.push_str(frame.path.get(..PATH_BYTES_MAX).unwrap_or(frame.path));
    message.minor_version = frame.minor_version;
    read_headers(frame.headers, config, message);
    Some((used, framing))
}

fn read_response(
    bytes: &[u8],
    method: Method,
    config: &Config,
    message: &mut Message,
) -> Option<(usize, Framing)> {
    let mut space = header_space();
    let Parsed::Frame { frame, bytes: used } = parse_response(bytes, &mut space) else {
        return None;
    };
    let framing = response_framing(frame.status, method, frame.headers);
    if framing == Framing::Invalid || used > HEAD_BYTES_MAX {
        return None;
    }
    message.status = frame.status;
    message.reason.push_str(frame.reason);
    message.minor_version = frame.minor_version;
    read_headers(frame.headers, config, message);
    Some((used, framing))
}

fn read_headers(headers: &[Header<'_>], config: &Config, message: &mut Message) {
    let (mut kind, mut encoding) = (ContentKind::Missing, Encoding::Identity);
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-type") {
            kind = ContentKind::of(header.value);
        } else if header.name.eq_ignore_ascii_case("content-encoding") {
            encoding = Encoding::of(header.value);
        }
    }
    message.body.begin(kind, encoding, config.body_bytes_max);
    write_headers(headers, &mut message.headers);
}

/// The headers as a flat JSON object. Values of one name are joined by `, ` at its first place
/// (RFC 9110 5.3; `Set-Cookie`, for which that would be wrong, is redacted).
fn write_headers(headers: &[Header<'_>], out: &mut String) {
    let same = |a: &Header<'_>, b: &Header<'_>| a.name.eq_ignore_ascii_case(b.name);
    out.push('{');
    for (idx, header) in headers.iter().enumerate() {
        if headers[..idx].iter().any(|before| same(before, header)) {
            continue;
        }
        let begin = out.len();
        if begin > 1 {
            out.push(',');
        }
        out.push('"');
        push_json_text(out, header.name.as_bytes());
        out.push_str("\":\"");
        if SECRET_HEADERS.iter().any(|name| header.name.eq_ignore_ascii_case(name)) {
            out.push_str(REDACTED);
        } else {
            push_json_text(out, header.value);
            for later in headers[idx + 1..].iter().filter(|later| same(later, header)) {
                out.push_str(", ");
                push_json_text(out, later.value);
            }
        }
        out.push('"');
        if out.len() > HEADERS_TEXT_BYTES_MAX {
            out.truncate(begin);
            out.push_str(if begin > 1 { "," } else { "" });
            out.push_str("\"...\":\"[TRUNCATED]\"");
            break;
        }
    }
    out.push('}');
}

fn push_json_text(out: &mut String, bytes: &[u8]) {
    let is_plain = |byte: &u8| matches!(byte, 0x20..0x7f) && !matches!(byte, b'"' | b'\\');
    if let Ok(text) = std::str::from_utf8(bytes)
        && bytes.iter().all(is_plain)
    {
        out.push_str(text);
        return;
    }
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
}
