//! Packets that are packed: some at a time, by zlib or zstd, and each pack with a head of its own.

use super::parse::Packet;
use super::place::Pack;
use crate::Side;
use crate::frames::{FrameReader, Framing, Head, Loss, Next};
use crate::stream::{Segment, StreamBuffer};
use crate::unpacked;

/// Packed length, number, and length as it was.
const HEAD_BYTES: usize = 7;
/// Where the number stands, in front of the length as it was.
const NUMBER_AT: usize = 3;
/// What is unpacked of a pack at the most; the rest is a gap of known size. Servers pack 16 KiB at a time,
/// unless a row is larger.
const UNPACKED_BYTES_MAX: usize = 128 * 1024;
/// Unread bytes above which nothing more is unpacked for now.
const UNREAD_BYTES_MAX: usize = 64 * 1024;
/// Stands for bytes of which nobody knows how many they are: more than any packet.
const LOST_BYTES: u64 = 1 << 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Zlib,
    Zstd,
}

#[derive(Clone, Copy, Debug)]
struct Packs(Packing);

fn int24(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0])
}

impl Framing for Packs {
    fn head(&self, _side: Side, bytes: &[u8]) -> Head {
        let Some(head) = bytes.get(..HEAD_BYTES) else { return Head::Short };
        let magic: &[u8] = match self.0 {
            _ if int24(&head[4..]) == 0 => &[],
            Packing::Zlib => &[0x78],
            Packing::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
        };
        let content = &bytes[HEAD_BYTES..];
        let is_it = content.iter().zip(magic).all(|(is, want)| is == want);
        let length = u64::from(int24(head));
        if is_it && length > 0 { Head::Bytes(length + HEAD_BYTES as u64) } else { Head::Invalid }
    }

    fn find(&self, side: Side, bytes: &[u8]) -> Option<usize> {
        let Head::Bytes(total) = self.head(side, bytes) else { return None };
        let is_packed = int24(&bytes[4..]) > 0;
        let fits = match is_packed {
            true => bytes.len() > HEAD_BYTES + 4,
            false => {
                let end = bytes.len().min(usize::try_from(total).unwrap_or(usize::MAX));
                Packet::split(&bytes[HEAD_BYTES..end]).is_some_and(|(_, rest)| rest.len() < 5)
            }
        };
        fits.then_some(0)
    }
}

/// One direction.
#[derive(Debug)]
pub(super) struct Unpacker {
    packing: Packing,
    reader: FrameReader,
    inner: StreamBuffer,
    position: u64,
    pack: Pack,
    is_behind_loss: bool,
}

impl Unpacker {
    pub(super) fn new(side: Side, packing: Packing) -> Unpacker {
        let reader = FrameReader::new(side, true);
        Unpacker {
            packing,
            reader,
            inner: StreamBuffer::default(),
            position: 0,
            pack: Pack::default(),
            is_behind_loss: true,
        }
    }

    /// Unpacks the next pack, unless enough is there to be read. False if it does not.
    pub(super) fn fill(&mut self, outer: &mut StreamBuffer, now_unix_ns: i64) -> bool {
        if self.inner.unread().len() >= UNREAD_BYTES_MAX {
            return false;
        }
        match self.reader.next(outer, &Packs(self.packing), now_unix_ns) {
            Next::Wait => return false,
            Next::Lost(loss) => {
                self.is_behind_loss = true;
                self.pack.lose(loss);
                self.push(LOST_BYTES, loss.to_unix_ns, &[]);
            }
            Next::Frame(frame) => {
                let bytes = &outer.unread()[..frame.seen_bytes];
                let number = bytes[NUMBER_AT];
                let unread_at = self.inner.position();
                self.pack = self.pack.next(number, self.position, unread_at, self.is_behind_loss);
                self.is_behind_loss = false;
                let total = u64::from(int24(&bytes[NUMBER_AT + 1..]));
                let packed = &bytes[HEAD_BYTES..];
                if total == 0 {
                    self.push(frame.total_bytes - HEAD_BYTES as u64, frame.time_unix_ns, packed);
                } else {
                    let whole = usize::try_from(total).unwrap_or(usize::MAX);
                    let bytes = unpack(self.packing, packed, whole.min(UNPACKED_BYTES_MAX));
                    self.push(total, frame.time_unix_ns, &bytes);
                }
                let loss = Loss::at(outer, now_unix_ns);
                let end_ns = self.reader.take(outer, frame);
                if !frame.is_whole() {
                    let to_unix_ns = loss.to_unix_ns.max(end_ns);
                    self.pack.lose(Loss { to_unix_ns, ..loss });
                }
            }
        }
        true
    }

    /// The one that was unpacked last.
    pub(super) fn pack(&self) -> Pack {
        self.pack
    }

    fn push(&mut self, total_bytes: u64, time_unix_ns: i64, payload: &[u8]) {
        let (position, tail) = (self.position, &[]);
        self.inner.push(Segment { position, total_bytes, time_unix_ns, payload, tail });
        self.position += total_bytes;
    }

    pub(super) fn stream(&mut self) -> &mut StreamBuffer {
        &mut self.inner
    }

    pub(super) fn is_wrong(&self) -> bool {
        self.reader.is_wrong()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.inner.held_bytes()
    }
}

/// As many bytes as there are, up to so many.
fn unpack(packing: Packing, packed: &[u8], bytes_max: usize) -> Vec<u8> {
    match packing {
        Packing::Zlib => unpacked::zlib(packed, bytes_max),
        Packing::Zstd => unpacked::zstd(packed, bytes_max),
    }
}
