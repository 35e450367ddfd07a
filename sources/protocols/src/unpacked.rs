//! Compressed bytes of messages, unpacked as far as they are there and so many are wanted.
//!
//! What was unpacked before an error (the rest was cut, or is none) is kept: whoever asks knows how long
//! the whole is.

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

/// Snappy's plain form, without frames. Its decoder wants to have all: it is given what there is as if it
/// were all. Nothing, if what is there is none.
pub(crate) fn snappy(packed: &[u8], bytes_max: usize) -> Vec<u8> {
    let elements = packed.iter().position(|byte| byte & 0x80 == 0).map(|end| &packed[end + 1..]);
    let Some(elements) = elements.filter(|elements| packed.len() - elements.len() <= 5) else {
        return Vec::new();
    };
    let (shown, bytes) = snappy_elements(elements, bytes_max);
    let mut all = Vec::with_capacity(shown.len() + 5);
    let mut left = bytes;
    while left >= 0x80 {
        all.push(left as u8 | 0x80);
        left >>= 7;
    }
    all.push(left as u8);
    all.extend_from_slice(&shown);
    snap::raw::Decoder::new().decompress_vec(&all).unwrap_or_default()
}

/// Literals and copies that are there, and how many bytes they make; of a literal that is cut the
/// beginning.
fn snappy_elements(elements: &[u8], bytes_max: usize) -> (Vec<u8>, usize) {
    let (mut cursor, mut bytes) = (Cursor::new(elements), 0);
    loop {
        let whole = elements.len() - cursor.rest().len();
        let Some((length, is_literal)) = snappy_element(&mut cursor) else {
            return (elements[..whole].to_vec(), bytes);
        };
        let literal = if is_literal { cursor.up_to(length) } else { &[] };
        let (there, room) = (if is_literal { literal.len() } else { length }, bytes_max - bytes);
        if there == length && length <= room {
            bytes += length;
            continue;
        }
        let mut shown = elements[..whole].to_vec();
        let literal = &literal[..literal.len().min(room)];
        if !literal.is_empty() {
            // Its length in four bytes.
            shown.push(0xfc);
            shown.extend_from_slice(&(literal.len() as u32 - 1).to_le_bytes());
            shown.extend_from_slice(literal);
        }
        return (shown, bytes + literal.len());
    }
}

/// How many bytes an element makes, and whether they follow it.
fn snappy_element(cursor: &mut Cursor<'_>) -> Option<(usize, bool)> {
    let tag = cursor.u8()?;
    let length = usize::from(tag >> 2);
    match tag & 3 {
        0 if length < 60 => Some((length + 1, true)),
        0 => {
            let bytes = cursor.bytes(length - 59)?;
            let word = bytes.iter().rev().fold(0, |word, byte| word << 8 | usize::from(*byte));
            Some((word + 1, true))
        }
        1 => {
            cursor.skip(1)?;
            Some((4 + (length & 7), false))
        }
        2 => {
            cursor.skip(2)?;
            Some((length + 1, false))
        }
        _ => {
            cursor.skip(4)?;
            Some((length + 1, false))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

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
            (snappy, snap::raw::Encoder::new().compress_vec(&text).unwrap()),
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
        assert!(snappy(&half[..half.len() / 2], text.len()).len() > text.len() / 4);
        // A long literal that is cut, and what is none.
        let noise: Vec<u8> = (0..50_000_u32).map(|n| ((n * n) >> 7) as u8).collect();
        let packed = snap::raw::Encoder::new().compress_vec(&noise).unwrap();
        for seen in [10, 1_000, 30_000] {
            let out = snappy(&packed[..seen], noise.len());
            assert!(noise.starts_with(&out) && out.len() + 16 > seen.min(900), "{seen}");
        }
        for bytes in [&[0xff; 20][..], b"", b"\x05", b"\x05\x01\x09", b"\xff\xff\xff\xff\x0f\xfc"] {
            assert_eq!(snappy(bytes, 1_000), b"");
        }
    }
}
