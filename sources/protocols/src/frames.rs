//! Messages with their length in front, off a stream with holes: for all protocols that are framed so.
//!
//! A message of which bytes are missing behind its head is still a message: it is given with what was
//! seen of it, and its end is known. Only where a head is missing, messages are lost; then the reader
//! looks for a call that begins with one ([`Framing::find`]). It does *not* know what messages mean.
//!
//! ```text
//!   Head ──length──▶ Frame ──take──▶ Skipping (what of it has not come) ──▶ Head
//!     └── a hole, or no head ──▶ Lost, once ──▶ Hunting ──found──▶ Head
//! ```

use crate::Side;
use crate::stream::StreamBuffer;

/// How much of a message is looked at, at the most; the rest is stepped over as it comes. Rows show
/// less; what has to be read as a whole (a list of columns) is far shorter.
pub(crate) const SEEN_BYTES_MAX: usize = 64 * 1024;
/// Messages in a row that were none, after which a connection is taken for something else.
const WRONG_MAX: u32 = 3;

/// What the bytes at a message's beginning say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// Too few bytes to tell.
    Short,
    /// A message of so many bytes, head included; never 0.
    Bytes(u64),
    /// No message of this protocol.
    Invalid,
}

/// How a protocol's messages are told apart.
pub(crate) trait Framing {
    fn head(&self, side: Side, bytes: &[u8]) -> Head;

    /// Where in these bytes, which begin a call, a message begins that can hardly be anything else.
    fn find(&self, side: Side, bytes: &[u8]) -> Option<usize>;
}

/// The message in front of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// How many of its bytes are there: the first unread ones.
    pub(crate) seen_bytes: usize,
    pub(crate) total_bytes: u64,
    /// When its first byte was moved.
    pub(crate) time_unix_ns: i64,
}

impl Frame {
    pub(crate) fn is_whole(&self) -> bool {
        self.seen_bytes as u64 == self.total_bytes
    }
}

/// What is in front of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing that could be read now.
    Wait,
    /// To be taken with [`FrameReader::take`], now or later.
    Frame(Frame),
    /// Messages are missing, or parts of some whose heads are; said once.
    Lost(Loss),
}

/// When bytes were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Not before: when the event before them, or their own, was seen.
    pub(crate) from_unix_ns: i64,
    /// Not after: their own event's, or that of the event behind them; the present if there is none.
    pub(crate) to_unix_ns: i64,
}

impl Loss {
    /// Of the bytes in front of a stream.
    pub(crate) fn at(stream: &StreamBuffer, now_unix_ns: i64) -> Loss {
        let from_unix_ns = stream.next_byte_ns().or(stream.last_read_ns()).unwrap_or(now_unix_ns);
        let to_unix_ns = match stream.at_unseen() || stream.behind_unread_is_unseen() {
            true => stream.behind_hole_ns().unwrap_or(now_unix_ns),
            false => from_unix_ns,
        };
        Loss { from_unix_ns, to_unix_ns }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Head,
    /// So many bytes of a message that was given are still to be stepped over.
    Skipping(u64),
    Hunting,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameReader {
    side: Side,
    at: At,
    /// Messages in a row that were none.
    wrong: u32,
}

impl FrameReader {
    /// `from_start`: the stream begins with a message.
    pub(crate) fn new(side: Side, from_start: bool) -> FrameReader {
        let at = if from_start { At::Head } else { At::Hunting };
        FrameReader { side, at, wrong: 0 }
    }

    /// What comes next.
    pub(crate) fn next(
        &mut self,
        stream: &mut StreamBuffer,
        framing: &impl Framing,
        now_unix_ns: i64,
    ) -> Next {
        loop {
            let (unread, lost_bytes) = (stream.unread(), stream.lost_bytes());
            match self.at {
                At::Skipping(0) => self.at = At::Head,
                At::Skipping(left) => {
                    let there = left.min(unread.len() as u64 + lost_bytes);
                    if there == 0 {
                        return Next::Wait;
                    }
                    stream.skip(there);
                    self.at = At::Skipping(left - there);
                }
                At::Hunting => match self.hunt(stream, framing) {
                    true => self.at = At::Head,
                    false => return Next::Wait,
                },
                At::Head => match framing.head(self.side, unread) {
                    Head::Bytes(total_bytes) => {
                        let wanted = total_bytes.min(SEEN_BYTES_MAX as u64) as usize;
                        if unread.len() < wanted && lost_bytes == 0 {
                            return Next::Wait;
                        }
                        let time_unix_ns = stream.unread_since_ns().unwrap_or(now_unix_ns);
                        let seen_bytes = unread.len().min(wanted);
                        return Next::Frame(Frame { seen_bytes, total_bytes, time_unix_ns });
                    }
                    Head::Short if lost_bytes == 0 => return Next::Wait,
                    head => {
                        self.wrong += u32::from(head == Head::Invalid);
                        self.at = At::Hunting;
                        let loss = Loss::at(stream, now_unix_ns);
                        self.step_on(stream);
                        return Next::Lost(loss);
                    }
                },
            }
        }
    }

    /// Steps over the message that was given last, as far as it is there; and says when the last of
    /// these bytes was moved.
    pub(crate) fn take(&mut self, stream: &mut StreamBuffer, frame: Frame) -> i64 {
        self.wrong = 0;
        let there = frame.total_bytes.min(stream.unread().len() as u64 + stream.lost_bytes());
        self.at = At::Skipping(frame.total_bytes - there);
        stream.skip(there)
    }

    /// What came was given as a message, and is none: it counts as missing from here on.
    pub(crate) fn refuse(&mut self, stream: &mut StreamBuffer, now_unix_ns: i64) -> Loss {
        let loss = Loss::at(stream, now_unix_ns);
        self.wrong += 1;
        self.at = At::Hunting;
        self.step_on(stream);
        loss
    }

    /// Whether what came lately is none of this protocol's.
    pub(crate) fn is_wrong(&self) -> bool {
        self.wrong >= WRONG_MAX
    }

    /// Leaves the place where nothing could be read, so that hunting ends.
    fn step_on(&self, stream: &mut StreamBuffer) {
        stream.skip_to_event();
    }

    fn hunt(&self, stream: &mut StreamBuffer, framing: &impl Framing) -> bool {
        loop {
            let bytes = stream.unread();
            if bytes.is_empty() && stream.lost_bytes() == 0 {
                return false;
            }
            if stream.at_event_start()
                && let Some(at) = framing.find(self.side, &bytes[..bytes.len().min(SEEN_BYTES_MAX)])
            {
                stream.skip(at as u64);
                return true;
            }
            stream.skip_to_event();
        }
    }
}

/// Cuts a loop over both streams short: holes that are old enough will not be filled.
pub(crate) fn settle(stream: &mut StreamBuffer, now_unix_ns: i64) {
    stream.settle_holes_before(now_unix_ns.saturating_sub(crate::REORDER_GRACE_NS));
}

/// Whether holes are left; those in front are given up. For the end of a connection.
pub(crate) fn settle_first_holes(streams: &mut crate::protocol::Streams<'_>) -> bool {
    let holes = [&streams.requests, &streams.responses].map(|stream| stream.hole_since_ns());
    streams.requests.settle_hole();
    streams.responses.settle_hole();
    holes != [None, None]
}
