//! Messages with their length in front, off a stream with holes: for all protocols that are framed so.
//!
//! A message of which bytes are missing behind its head is still a message: it is given with what was
//! seen of it, and its end is known. Only where a head is missing, messages are lost; then the reader
//! looks for a call that begins with one ([`Framing::find`]). It does *not* know what messages mean.
//!
//! ```text
//!   Head ──length──▶ Frame ──take──▶ Skipping (what of it has not come) ──▶ Head
//!     └── a hole, or no head ──▶ Lost ──▶ Hunting ──found──▶ Head
//!                                  └───────────┘ what was stepped over
//! ```

use crate::Side;
use crate::stream::StreamBuffer;

/// How much of a message is looked at, at the most; the rest is stepped over as it comes. Rows show
/// less; what has to be read as a whole (a list of columns) is far shorter.
pub(crate) const SEEN_BYTES_MAX: usize = 64 * 1024;
/// Places in a row where a message had to begin and none did, after which a connection is taken for
/// something else.
const WRONG_MAX: u32 = 3;
/// The same where bytes are missing before: calls may be the inside of a large message.
const WRONG_BEHIND_LOSS_MAX: u32 = 4_096;

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

    /// These bytes, which begin a call, are too few to tell: more may show that a message begins with them.
    fn may_find(&self, _side: Side, _bytes: &[u8]) -> bool {
        false
    }

    /// The same in bytes that end a call and of which the beginning may be the inside of anything.
    fn find_end(&self, _side: Side, _bytes: &[u8]) -> Option<usize> {
        None
    }
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
    /// Messages are missing, or parts of some whose heads are; said again as more is stepped over.
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
    /// Of the bytes in front of a stream, up to the next event.
    pub(crate) fn at(stream: &StreamBuffer, now_unix_ns: i64) -> Loss {
        let from_unix_ns = stream.next_byte_ns().or(stream.last_read_ns()).unwrap_or(now_unix_ns);
        let to_unix_ns = match stream.is_unseen_before_event() {
            true => stream.behind_hole_ns().unwrap_or(now_unix_ns),
            false => from_unix_ns,
        };
        Loss { from_unix_ns, to_unix_ns }
    }

    /// Both, and what is between.
    pub(crate) fn and(self, other: Loss) -> Loss {
        Loss {
            from_unix_ns: self.from_unix_ns.min(other.from_unix_ns),
            to_unix_ns: self.to_unix_ns.max(other.to_unix_ns),
        }
    }
}

/// Whether what is read is the protocol that it was taken for.
///
/// Where nothing is missing, each message begins behind the one before. Behind a loss calls may be the
/// inside of something large; only very many of them are a sign.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doubt {
    /// Since the last message: places and calls that had to begin with one and did not.
    missed: u32,
    in_sync: bool,
}

impl Doubt {
    pub(crate) fn new(from_start: bool) -> Doubt {
        Doubt { missed: 0, in_sync: from_start }
    }

    /// A message was read.
    pub(crate) fn message(&mut self) {
        *self = Doubt { missed: 0, in_sync: true };
    }

    /// Bytes are missing.
    pub(crate) fn lost(&mut self) {
        self.in_sync = false;
    }

    /// There is no message where one begins, if this is the protocol.
    pub(crate) fn missed(&mut self) {
        self.missed = self.missed.saturating_add(1);
    }

    pub(crate) fn is_wrong(self) -> bool {
        self.missed >= if self.in_sync { WRONG_MAX } else { WRONG_BEHIND_LOSS_MAX }
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
    doubt: Doubt,
    seen_bytes_max: usize,
}

impl FrameReader {
    /// `from_start`: the stream begins with a message.
    pub(crate) fn new(side: Side, from_start: bool) -> FrameReader {
        let at = if from_start { At::Head } else { At::Hunting };
        let doubt = Doubt::new(from_start);
        FrameReader { side, at, doubt, seen_bytes_max: SEEN_BYTES_MAX }
    }

    /// For messages that hold others: so much of each is looked at. No more than half of what a stream holds.
    pub(crate) fn seeing(mut self, bytes_max: usize) -> FrameReader {
        self.seen_bytes_max = bytes_max;
        self
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
                At::Hunting => match self.hunt(stream, framing, now_unix_ns) {
                    Some(loss) => return Next::Lost(loss),
                    None if self.at == At::Hunting => return Next::Wait,
                    None => {}
                },
                At::Head => match framing.head(self.side, unread) {
                    Head::Bytes(total_bytes) => {
                        let wanted = total_bytes.min(self.seen_bytes_max as u64) as usize;
                        if unread.len() < wanted && lost_bytes == 0 {
                            return Next::Wait;
                        }
                        let time_unix_ns = stream.unread_since_ns().unwrap_or(now_unix_ns);
                        let seen_bytes = unread.len().min(wanted);
                        return Next::Frame(Frame { seen_bytes, total_bytes, time_unix_ns });
                    }
                    Head::Short if lost_bytes == 0 => return Next::Wait,
                    Head::Short => {
                        self.doubt.lost();
                        return Next::Lost(self.step_on(stream, now_unix_ns));
                    }
                    Head::Invalid => return Next::Lost(self.refuse(stream, now_unix_ns)),
                },
            }
        }
    }

    /// Steps over the message that was given last, as far as it is there; and says when the last of
    /// these bytes was moved.
    pub(crate) fn take(&mut self, stream: &mut StreamBuffer, frame: Frame) -> i64 {
        self.doubt.message();
        let there = frame.total_bytes.min(stream.unread().len() as u64 + stream.lost_bytes());
        self.at = At::Skipping(frame.total_bytes - there);
        stream.skip(there)
    }

    /// What came was given as a message, and is none: it counts as missing from here on.
    pub(crate) fn refuse(&mut self, stream: &mut StreamBuffer, now_unix_ns: i64) -> Loss {
        self.doubt.missed();
        self.step_on(stream, now_unix_ns)
    }

    /// Whether what came lately is none of this protocol's.
    pub(crate) fn is_wrong(&self) -> bool {
        self.doubt.is_wrong()
    }

    /// Leaves the place where nothing could be read, so that hunting ends.
    fn step_on(&mut self, stream: &mut StreamBuffer, now_unix_ns: i64) -> Loss {
        self.at = At::Hunting;
        let loss = Loss::at(stream, now_unix_ns);
        stream.skip_to_seen();
        loss
    }

    fn hunt(
        &mut self,
        stream: &mut StreamBuffer,
        framing: &impl Framing,
        now_unix_ns: i64,
    ) -> Option<Loss> {
        let side = self.side;
        let hunt = hunt(stream, &mut self.doubt, now_unix_ns, |bytes, place| {
            let bytes = &bytes[..bytes.len().min(SEEN_BYTES_MAX)];
            let is_short = bytes.len() < SEEN_BYTES_MAX;
            match place {
                Place::Call => match framing.find(side, bytes) {
                    Some(at) => Found::At(at),
                    None if is_short && framing.may_find(side, bytes) => Found::Unsure,
                    None => Found::Nothing,
                },
                Place::End => framing.find_end(side, bytes).map_or(Found::Nothing, Found::At),
            }
        });
        if hunt.is_found {
            self.at = At::Head;
        }
        hunt.lost
    }
}

/// Where a message may be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A call begins here.
    Call,
    /// The end of a call, whose middle was not copied, begins here and is all there is.
    End,
}

/// What was found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A message, behind so many bytes.
    At(usize),
    Nothing,
    /// More bytes have to come.
    Unsure,
}

/// What came of looking for a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hunt {
    /// What was stepped over counts as missing: there may be messages in it.
    pub(crate) lost: Option<Loss>,
    /// Some of it was there, and not understood.
    pub(crate) has_passed: bool,
    /// The stream is at a message.
    pub(crate) is_found: bool,
}

/// Steps on to where a message begins, if `find` knows one.
pub(crate) fn hunt(
    stream: &mut StreamBuffer,
    doubt: &mut Doubt,
    now_unix_ns: i64,
    find: impl Fn(&[u8], Place) -> Found,
) -> Hunt {
    let mut hunt = Hunt { lost: None, has_passed: false, is_found: false };
    loop {
        let is_end = stream.at_end_of_cut();
        let bytes = match stream.unread() {
            [] if stream.lost_bytes() == 0 => return hunt,
            bytes if is_end => &bytes[..bytes.len().min(stream.run_bytes() as usize)],
            bytes => bytes,
        };
        let is_there = !bytes.is_empty();
        let found = match stream.at_event_start() {
            true if is_there => find(bytes, Place::Call),
            _ if is_end => find(bytes, Place::End),
            _ => Found::Nothing,
        };
        let loss = Loss::at(stream, now_unix_ns);
        hunt.is_found = matches!(found, Found::At(_));
        match found {
            Found::At(0) => return hunt,
            Found::Unsure if stream.lost_bytes() == 0 => return hunt,
            Found::At(at) => {
                stream.skip(at as u64);
            }
            Found::Nothing | Found::Unsure => {
                if is_there && stream.at_event_start() {
                    doubt.missed();
                }
                stream.skip_to_seen();
            }
        }
        hunt.has_passed |= is_there;
        hunt.lost = Some(hunt.lost.map_or(loss, |lost| lost.and(loss)));
        if hunt.is_found {
            return hunt;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Segment;

    /// A byte that says how long, then so many; none is longer than 200.
    struct Lines;

    impl Framing for Lines {
        fn head(&self, _: Side, bytes: &[u8]) -> Head {
            match bytes.first() {
                None => Head::Short,
                Some(length @ 1..=200) => Head::Bytes(u64::from(*length)),
                Some(_) => Head::Invalid,
            }
        }
        fn find(&self, _: Side, bytes: &[u8]) -> Option<usize> {
            (bytes.first() == Some(&2)).then_some(0)
        }
    }

    fn push(
        stream: &mut StreamBuffer,
        position: u64,
        time_unix_ns: i64,
        payload: &[u8],
        total: u64,
    ) {
        stream.push(Segment { position, total_bytes: total, time_unix_ns, payload, tail: &[] });
    }

    fn read(reader: &mut FrameReader, stream: &mut StreamBuffer) -> Next {
        let next = reader.next(stream, &Lines, 1_000);
        if let Next::Frame(frame) = next {
            reader.take(stream, frame);
        }
        next
    }

    /// A call that is cut within a head, then one that nobody saw: what is lost may have come until the
    /// next one that was seen. Catches a loss that is said to end with the cut call.
    #[test]
    fn an_unseen_call_behind_a_cut_one() {
        let (mut stream, mut reader) =
            (StreamBuffer::default(), FrameReader::new(Side::Request, true));
        push(&mut stream, 0, 10, &[2, 0], 50);
        push(&mut stream, 80, 30, &[2, 0], 2);
        stream.settle_hole();
        assert!(matches!(read(&mut reader, &mut stream), Next::Frame(_)));
        let loss = Loss { from_unix_ns: 10, to_unix_ns: 30 };
        assert_eq!(read(&mut reader, &mut stream), Next::Lost(loss));
        assert!(matches!(read(&mut reader, &mut stream), Next::Frame(_)));
        assert_eq!(read(&mut reader, &mut stream), Next::Wait);
    }

    /// What is stepped over while the next message is looked for, is told: it may hold some.
    #[test]
    fn hunting_tells_what_it_steps_over() {
        let (mut stream, mut reader) =
            (StreamBuffer::default(), FrameReader::new(Side::Request, true));
        push(&mut stream, 0, 10, &[0], 1);
        let loss = |from_unix_ns, to_unix_ns| Next::Lost(Loss { from_unix_ns, to_unix_ns });
        assert_eq!(read(&mut reader, &mut stream), loss(10, 10));
        push(&mut stream, 1, 20, &[7, 7], 2);
        push(&mut stream, 9, 40, &[7], 1);
        assert_eq!(read(&mut reader, &mut stream), loss(20, 20));
        stream.settle_hole();
        assert_eq!(read(&mut reader, &mut stream), loss(20, 40));
        assert_eq!(read(&mut reader, &mut stream), Next::Wait);
    }

    /// Three places without a message where one must be are a wrong guess; behind a hole they are not.
    #[test]
    fn wrong_guesses() {
        for (hole, is_wrong) in [(0, true), (9, false)] {
            let (mut stream, mut reader) =
                (StreamBuffer::default(), FrameReader::new(Side::Request, true));
            for at in 0..10 {
                push(&mut stream, hole + at, 10, &[0], 1);
                stream.settle_hole();
                while read(&mut reader, &mut stream) != Next::Wait {}
                assert_eq!(reader.is_wrong(), is_wrong && at >= 2, "{at}");
            }
            push(&mut stream, hole + 10, 10, &[2, 0], 2);
            assert!(matches!(read(&mut reader, &mut stream), Next::Frame(_)));
            assert!(!reader.is_wrong());
        }
    }
}
