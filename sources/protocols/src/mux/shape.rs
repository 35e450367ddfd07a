//! Whether a frame's body is one that messages of its type begin with. Nothing of it is kept.

use super::types::{TINIT_CHECK, is_error, kind};
use crate::cursor::Cursor;

/// What a body looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// There can hardly be anything else.
    Certain,
    /// Such a message is possible: little speaks against it, as little for it.
    Fits,
    /// The same, and it is not all there.
    SoFar,
    /// No message of this type begins so.
    None,
}

/// Version of the protocol, which has had no other.
const VERSION: u16 = 1;
/// Of the second half of an exchange: done, an error, or refused.
const STATUS_MAX: u8 = 2;
/// Finagle's trace ids in a Treq: key, length.
const TRACE_ID: (u8, u8) = (1, 24);
/// Bytes of names and paths that prove a body by themselves, which is not all there.
const PROOF_BYTES_MIN: usize = 16;
/// Contexts, and bytes of their names, which are those of classes: where text is taken for one there are thousands.
const CONTEXTS_MAX: u16 = 256;
const NAME_BYTES_MAX: usize = 256;
/// What Thrift's binary messages begin with, behind which is their kind: call, reply, exception, one-way.
const THRIFT: [u8; 3] = [0x80, 0x01, 0x00];

/// `is_whole`: the body is all there.
pub(super) fn shape(kind: i8, body: &[u8], is_whole: bool) -> Shape {
    use kind::*;
    let mut reader = Reader { cursor: Cursor::new(body), proofs: 0, is_plain: true };
    let read = match kind {
        TDISPATCH => reader.dispatch(),
        RDISPATCH => reader.contexts_behind_status(),
        TREQ => reader.keys(),
        RREQ => reader.cursor.skip(1),
        TINIT | RINIT => return init(body, is_whole),
        TDISCARDED | OLD_TDISCARDED => reader.cursor.skip(3),
        _ if is_error(kind) && body == TINIT_CHECK && is_whole => return Shape::Certain,
        _ => Some(()),
    };
    let has_status = matches!(kind, RDISPATCH | RREQ);
    if has_status && body.first().is_some_and(|status| *status > STATUS_MAX) {
        return Shape::None;
    }
    let carries = has_status || matches!(kind, TDISPATCH | TREQ);
    let is_certain = |reader: &Reader<'_>| match reader.proofs {
        0 => carries && is_thrift(reader.cursor.rest()),
        _ => reader.is_plain,
    };
    match read {
        None if is_whole => Shape::None,
        None if reader.is_plain && reader.proofs >= PROOF_BYTES_MIN => Shape::Certain,
        None => Shape::SoFar,
        Some(()) if is_certain(&reader) => Shape::Certain,
        Some(()) => Shape::Fits,
    }
}

fn is_thrift(payload: &[u8]) -> bool {
    payload.starts_with(&THRIFT) && payload.get(3).is_some_and(|kind| (1..=4).contains(kind))
}

/// A handshake: the version, then names and values to the end.
fn init(body: &[u8], is_whole: bool) -> Shape {
    let mut cursor = Cursor::new(body);
    match cursor.u16_be() {
        None => return Shape::SoFar,
        Some(VERSION) => {}
        Some(_) => return Shape::None,
    }
    while !cursor.is_empty() {
        let skipped = cursor.u32_be().and_then(|bytes| cursor.skip(bytes as usize));
        if skipped.is_none() {
            return if is_whole { Shape::None } else { Shape::SoFar };
        }
    }
    if is_whole { Shape::Certain } else { Shape::SoFar }
}

/// Reads a body; `None`: it ends before it should.
struct Reader<'a> {
    cursor: Cursor<'a>,
    /// Bytes of what hardly anything else has.
    proofs: usize,
    /// Names and paths were such.
    is_plain: bool,
}

impl Reader<'_> {
    /// A text with its length in front, printable and beginning so. How long it is.
    fn text(&mut self, begins: &[u8]) -> Option<usize> {
        let bytes = usize::from(self.cursor.u16_be()?);
        let text = self.cursor.bytes(bytes)?;
        let is_plain = text.iter().all(|byte| (0x20..0x7f).contains(byte));
        self.is_plain &= is_plain && (text.is_empty() || text.starts_with(begins));
        Some(bytes)
    }

    fn contexts(&mut self) -> Option<()> {
        let contexts = self.cursor.u16_be()?;
        self.is_plain &= contexts <= CONTEXTS_MAX;
        for _ in 0..contexts {
            let name_bytes = self.text(b"")?;
            self.is_plain &= name_bytes <= NAME_BYTES_MAX;
            let bytes = self.cursor.u16_be()?;
            self.cursor.skip(usize::from(bytes))?;
            self.is_plain &= name_bytes > 0;
            self.proofs += name_bytes.max(1);
        }
        Some(())
    }

    /// Contexts, where it goes, and how names are to be understood.
    fn dispatch(&mut self) -> Option<()> {
        self.contexts()?;
        self.proofs += self.text(b"/")?;
        for _ in 0..self.cursor.u16_be()? {
            let prefix_bytes = self.text(b"/")?;
            self.text(b"")?;
            self.is_plain &= prefix_bytes > 0;
            self.proofs += prefix_bytes.max(1);
        }
        Some(())
    }

    fn contexts_behind_status(&mut self) -> Option<()> {
        self.cursor.skip(1)?;
        self.contexts()
    }

    fn keys(&mut self) -> Option<()> {
        for _ in 0..self.cursor.u8()? {
            let (key, bytes) = (self.cursor.u8()?, self.cursor.u8()?);
            self.cursor.skip(usize::from(bytes))?;
            self.proofs += usize::from((key, bytes) == TRACE_ID);
        }
        Some(())
    }
}
