//! Compressed bytes of messages, unpacked as far as they are there and so many are wanted.
//!
//! What was unpacked before an error (the rest was cut, or is none) is kept: whoever asks knows how long
//! the whole is. Libraries give a block of LZ4 or Snappy as a whole or not at all: these are read here.

use std::io::Read as _;

use crate::cursor::Cursor;

/// Larger windows are for files; what they take is allocated at once.
const ZSTD_WINDOW_LOG_MAX: u32 = 22;

pub(crate) fn zlib(packed: &[u8], bytes_max: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut decoder = flate2::read::ZlibDecoder::new(packed).take(bytes_max as u64);
    let _ = decoder.read_to_end(&mut out);
    out
}

pub(crate) fn zstd(packed: &[u8], bytes_max: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = zstd::stream::read::Decoder::with_buffer(packed).and_then(|mut decoder| {
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        decoder.take(bytes_max as u64).read_to_end(&mut out)
    });
    out
}

/// An LZ4 block, without a length in front; `None`: it is none.
pub(crate) fn lz4(packed: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let mut out = Unpacked::new(bytes_max);
    lz4_sequences(&mut Cursor::new(packed), &mut out)?;
    Some(out.bytes)
}

/// Snappy's plain form, without frames, and how long it was before; `None`: it is none.
pub(crate) fn snappy(packed: &[u8], bytes_max: usize) -> Option<(u32, Vec<u8>)> {
    let mut cursor = Cursor::new(packed);
    let total = varint(&mut cursor)?;
    let mut out = Unpacked::new(bytes_max.min(usize::try_from(total).ok()?));
    snappy_elements(&mut cursor, &mut out)?;
    Some((total, out.bytes))
}

struct Unpacked {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Unpacked {
    fn new(bytes_max: usize) -> Unpacked {
        Unpacked { bytes: Vec::new(), bytes_max }
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= self.bytes_max
    }

    fn literal(&mut self, bytes: &[u8]) {
        let room = self.bytes_max - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Says again what was said so far back; `None`: nothing was.
    fn copy(&mut self, back: usize, count: usize) -> Option<()> {
        let from = self.bytes.len().checked_sub(back).filter(|_| back > 0)?;
        let end = self.bytes.len().saturating_add(count).min(self.bytes_max);
        // It may overlap what it makes: then it repeats itself.
        while self.bytes.len() < end {
            let there = (self.bytes.len() - from).min(end - self.bytes.len());
            self.bytes.extend_from_within(from..from + there);
        }
        Some(())
    }
}

/// `Some` also where the packed bytes end before they should.
fn lz4_sequences(cursor: &mut Cursor<'_>, out: &mut Unpacked) -> Option<()> {
    while !out.is_full() {
        let Some(token) = cursor.u8() else { return Some(()) };
        let Some(count) = lz4_length(cursor, token >> 4) else { return Some(()) };
        let there = cursor.up_to(count);
        out.literal(there);
        // A block ends with a literal.
        if there.len() < count || cursor.is_empty() || out.is_full() {
            return Some(());
        }
        let Some(back) = cursor.u16_le() else { return Some(()) };
        let Some(count) = lz4_length(cursor, token & 15) else { return Some(()) };
        out.copy(usize::from(back), count.saturating_add(4))?;
    }
    Some(())
}

fn lz4_length(cursor: &mut Cursor<'_>, nibble: u8) -> Option<usize> {
    let mut length = usize::from(nibble);
    if nibble == 15 {
        loop {
            let more = cursor.u8()?;
            length = length.saturating_add(usize::from(more));
            if more != u8::MAX {
                break;
            }
        }
    }
    Some(length)
}

fn varint(cursor: &mut Cursor<'_>) -> Option<u32> {
    let mut value = 0u32;
    for shift in [0, 7, 14, 21, 28] {
        let byte = cursor.u8()?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// The same for Snappy's elements.
fn snappy_elements(cursor: &mut Cursor<'_>, out: &mut Unpacked) -> Option<()> {
    while !out.is_full() {
        let Some(tag) = cursor.u8() else { return Some(()) };
        let high = usize::from(tag >> 2);
        let copy = match tag & 3 {
            0 => {
                let Some(count) = snappy_literal(cursor, high) else { return Some(()) };
                out.literal(cursor.up_to(count));
                continue;
            }
            1 => {
                cursor.u8().map(|low| (usize::from(tag >> 5) << 8 | usize::from(low), high % 8 + 4))
            }
            2 => cursor.u16_le().map(|back| (usize::from(back), high + 1)),
            _ => cursor.u32_le().map(|back| (back as usize, high + 1)),
        };
        let Some((back, count)) = copy else { return Some(()) };
        out.copy(back, count)?;
    }
    Some(())
}

fn snappy_literal(cursor: &mut Cursor<'_>, high: usize) -> Option<usize> {
    let bytes = high.saturating_sub(59);
    let mut count = if bytes == 0 { high } else { 0 };
    for (idx, byte) in cursor.bytes(bytes)?.iter().enumerate() {
        count |= usize::from(*byte) << (8 * idx);
    }
    Some(count.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use weir_types::random::SplitMix;

    use super::*;

    fn all_of_snappy(packed: &[u8], bytes_max: usize) -> Vec<u8> {
        snappy(packed, bytes_max).map(|(_, bytes)| bytes).unwrap_or_default()
    }

    /// Whatever is there of it, the beginning comes out, and no more than is wanted. Catches a cut message
    /// that gives nothing, and a bound that does not hold.
    #[test]
    fn beginnings() {
        let words = (0..3_000).map(|n| format!("word {} and {n}; ", n % 7)).collect::<String>();
        let text = [words.as_bytes(), &[7; 5_000]].concat();
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Default::default());
        encoder.write_all(&text).unwrap();
        type Unpack = fn(&[u8], usize) -> Vec<u8>;
        let packs: [(Unpack, Vec<u8>); 3] = [
            (all_of_snappy, snap::raw::Encoder::new().compress_vec(&text).unwrap()),
            (zlib, encoder.finish().unwrap()),
            (zstd, zstd::stream::encode_all(text.as_slice(), 3).unwrap()),
        ];
        for (unpack, packed) in packs {
            assert_eq!(unpack(&packed, usize::MAX >> 1), text);
            for seen in (0..packed.len()).step_by(61) {
                let out = unpack(&packed[..seen], usize::MAX >> 1);
                assert!(text.starts_with(&out), "{seen}");
            }
            for bytes_max in [0, 1, 59, 60, 61, 1_000, 30_000] {
                let out = unpack(&packed, bytes_max);
                assert!(text.starts_with(&out) && out.len() <= bytes_max, "{bytes_max}");
                assert!(out.len() + 64 > bytes_max, "{bytes_max}");
            }
        }
        let half = snap::raw::Encoder::new().compress_vec(&text).unwrap();
        assert!(all_of_snappy(&half[..half.len() / 2], text.len()).len() > text.len() / 4);
        // A long literal that is cut, and what is none.
        let noise: Vec<u8> = (0..50_000_u32).map(|n| ((n * n) >> 7) as u8).collect();
        let packed = snap::raw::Encoder::new().compress_vec(&noise).unwrap();
        for seen in [10, 1_000, 30_000] {
            let out = all_of_snappy(&packed[..seen], noise.len());
            assert!(noise.starts_with(&out) && out.len() + 16 > seen.min(900), "{seen}");
        }
        for bytes in [&[0xff; 20][..], b"", b"\x05", b"\x05\x01\x09", b"\xff\xff\xff\xff\x0f\xfc"] {
            assert_eq!(all_of_snappy(bytes, 1_000), b"");
        }
    }

    fn sample(random: &mut SplitMix, length: usize) -> Vec<u8> {
        let mut text = Vec::new();
        while text.len() < length {
            match random.below(3) {
                0 => text.extend((0..random.below(100)).map(|_| random.next_u64() as u8)),
                1 => text.extend_from_slice(b"SELECT name, value FROM keyspace.table "),
                _ => text.extend(vec![b'x'; random.below(300) as usize]),
            }
        }
        text
    }

    /// What a library has packed comes out again, whole, up to a bound, or as far as it is there.
    #[test]
    fn snappy_as_a_library_packs_it() {
        let mut random = SplitMix(1);
        for length in [0, 1, 59, 60, 61, 300, 5_000, 70_000, 200_000] {
            let text = sample(&mut random, length);
            let packed = snap::raw::Encoder::new().compress_vec(&text).unwrap();
            let all = snappy(&packed, usize::MAX);
            assert_eq!(all, Some((text.len() as u32, text.clone())));
            let (_, first) = snappy(&packed, 100).unwrap();
            assert_eq!(first, text[..text.len().min(100)]);
            let (_, begun) = snappy(&packed[..packed.len() / 2 + 1], 1 << 20).unwrap();
            assert!(text.starts_with(&begun));
        }
    }

    /// Blocks with literals and matches of all lengths, also such as overlap themselves.
    #[test]
    fn lz4_blocks() {
        let cases: [(&[u8], &[u8]); 5] = [
            (b"\x30abc", b"abc"),
            (b"\x11a\x01\x00\x10z", b"aaaaaaz"),
            (b"\x3fabc\x03\x00\x02\x10!", b"abcabcabcabcabcabcabcabc!"),
            (b"\x00", b""),
            (b"\xf0\x03abcdefghijklmnopqr", b"abcdefghijklmnopqr"),
        ];
        for (packed, want) in cases {
            assert_eq!(lz4(packed, 100).as_deref(), Some(want));
            assert_eq!(lz4(packed, 2).as_deref(), Some(&want[..want.len().min(2)]));
            for seen in 0..packed.len() {
                assert!(want.starts_with(&lz4(&packed[..seen], 100).unwrap()));
            }
        }
        for wrong in [&b"\x11a\x02\x00\x10z"[..], b"\x11a\x00\x00\x10z", b"\x01\x01\x00\x10z"] {
            assert_eq!(lz4(wrong, 100), None);
        }
    }
}
