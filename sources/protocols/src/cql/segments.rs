//! Version 5: frames in segments, several in one or one over several, and the stream that they make.

use crate::Side;
use crate::frames::{Frame, FrameReader};
use crate::stream::{Segment, StreamBuffer};
use crate::unpacked;

/// Behind each segment: a CRC32.
const END_BYTES: usize = 4;
/// The CRC24 that ends a head.
const CHECK_BYTES: usize = 3;
/// Longest segment, with head and end: lengths have 17 bits.
pub(super) const SEGMENT_BYTES_MAX: usize = (1 << 17) - 1 + 8 + END_BYTES;
/// Stands for bytes of which nobody knows how many they are: more than any frame.
const LOST_BYTES: u64 = 1 << 32;
/// What segments' ends are counted with in front.
const CRC32_PREFIX: [u8; 4] = [0xfa, 0x2d, 0x55, 0xca];
const CRC24_INIT: u32 = 0x87_5060;
const CRC24_POLYNOMIAL: u32 = 0x197_4f0b;

/// Which kind of heads a connection's segments have: both sides the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Plain,
    Packed,
}

impl Shape {
    fn head_bytes(self) -> usize {
        match self {
            Shape::Plain => 6,
            Shape::Packed => 8,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHead {
    pub(super) shape: Shape,
    payload_bytes: u32,
    /// 0: it is not packed.
    unpacked_bytes: u32,
    /// It holds whole frames only.
    pub(super) is_self_contained: bool,
}

impl SegmentHead {
    /// `None`: none of that shape begins here, or too little of one is here.
    pub(super) fn of(bytes: &[u8], shape: Shape) -> Option<SegmentHead> {
        let head = bytes.get(..shape.head_bytes())?;
        let (numbers, check) = head.split_at(head.len() - CHECK_BYTES);
        let int =
            |bytes: &[u8]| bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        if int(check) != u64::from(crc24(numbers)) {
            return None;
        }
        let bits = int(numbers);
        let length = |from: u32| (bits >> from) as u32 & 0x1_ffff;
        let (unpacked_bytes, flag_at) = match shape {
            Shape::Plain => (0, 17),
            Shape::Packed => (length(17), 34),
        };
        let is_self_contained = match bits >> flag_at {
            0 => false,
            1 => true,
            _ => return None,
        };
        let payload_bytes = length(0);
        Some(SegmentHead { shape, payload_bytes, unpacked_bytes, is_self_contained })
    }

    pub(super) fn of_any(bytes: &[u8]) -> Option<SegmentHead> {
        SegmentHead::of(bytes, Shape::Plain).or_else(|| SegmentHead::of(bytes, Shape::Packed))
    }

    pub(super) fn total_bytes(&self) -> u64 {
        (self.shape.head_bytes() + END_BYTES) as u64 + u64::from(self.payload_bytes)
    }

    /// How many bytes it brings.
    pub(super) fn brings_bytes(&self) -> u64 {
        u64::from(if self.unpacked_bytes > 0 { self.unpacked_bytes } else { self.payload_bytes })
    }

    /// What it brings, as far as it was seen, up to so many bytes; nothing if what was seen is none of it.
    pub(super) fn content(&self, segment: &[u8], bytes_max: usize) -> Vec<u8> {
        let payload = segment.get(self.shape.head_bytes()..).unwrap_or_default();
        let payload = match payload.split_at_checked(self.payload_bytes as usize) {
            Some((payload, end)) => {
                if end.len() >= END_BYTES && end[..END_BYTES] != crc32(payload).to_le_bytes() {
                    return Vec::new();
                }
                payload
            }
            None => payload,
        };
        let bytes_max = bytes_max.min(self.brings_bytes() as usize);
        match self.unpacked_bytes > 0 {
            true => unpacked::lz4(payload, bytes_max).unwrap_or_default(),
            false => payload[..payload.len().min(bytes_max)].to_vec(),
        }
    }
}

pub(super) fn crc24(bytes: &[u8]) -> u32 {
    let mut crc = CRC24_INIT;
    for byte in bytes {
        crc ^= u32::from(*byte) << 16;
        for _ in 0..8 {
            crc <<= 1;
            if crc & 0x100_0000 != 0 {
                crc ^= CRC24_POLYNOMIAL;
            }
        }
    }
    crc & 0xff_ffff
}

pub(super) fn crc32(payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&CRC32_PREFIX);
    hasher.update(payload);
    hasher.finalize()
}

/// What the segments of one direction have brought.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) stream: StreamBuffer,
    pub(super) reader: FrameReader,
    /// The last frame in it is not complete: more segments have to come first.
    pub(super) wants_more: bool,
    position: u64,
}

impl Unpacked {
    /// `from_start`: the first segment begins with a frame.
    pub(super) fn new(side: Side, from_start: bool) -> Unpacked {
        Unpacked {
            stream: StreamBuffer::default(),
            reader: FrameReader::new(side, from_start),
            wants_more: true,
            position: 0,
        }
    }

    /// Takes a segment.
    pub(super) fn fill(&mut self, head: &SegmentHead, segment: &[u8], frame: Frame) {
        let content = head.content(segment, usize::MAX);
        self.push(head.brings_bytes(), frame.time_unix_ns, &content);
    }

    /// Segments are missing.
    pub(super) fn lose(&mut self, at_unix_ns: i64) {
        self.push(LOST_BYTES, at_unix_ns, &[]);
    }

    fn push(&mut self, total_bytes: u64, time_unix_ns: i64, payload: &[u8]) {
        let (position, tail) = (self.position, &[]);
        self.stream.push(Segment { position, total_bytes, time_unix_ns, payload, tail });
        self.position += total_bytes;
        self.wants_more = false;
    }

    /// When the next frame in it was moved; `None`: more has to come first.
    pub(super) fn next_ns(&self) -> Option<i64> {
        if self.wants_more { None } else { self.stream.next_byte_ns() }
    }
}
