//! What LZ4 and Snappy have packed: the beginning of it, up to a bound.
//!
//! Bodies may be large and are seen in part, and a row shows their beginning. So both are read from the
//! front on as far as they go: libraries give a block as a whole or not at all.

use crate::cursor::Cursor;

/// What both ends agree upon when a connection starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Lz4,
    Snappy,
}

impl Packing {
    /// By its name in STARTUP.
    pub(super) fn of(name: &[u8]) -> Option<Packing> {
        match name {
            _ if name.eq_ignore_ascii_case(b"lz4") => Some(Packing::Lz4),
            _ if name.eq_ignore_ascii_case(b"snappy") => Some(Packing::Snappy),
            _ => None,
        }
    }

    /// A frame's body: its length as it was, and its first bytes, at most so many. `None`: it is not
    /// packed so.
    pub(super) fn unpack(self, packed: &[u8], bytes_max: usize) -> Option<(u32, Vec<u8>)> {
        let mut cursor = Cursor::new(packed);
        let total = match self {
            Packing::Lz4 => cursor.u32_be()?,
            Packing::Snappy => varint(&mut cursor)?,
        };
        let mut out = Unpacked::new(bytes_max.min(usize::try_from(total).ok()?));
        match self {
            Packing::Lz4 => lz4(&mut cursor, &mut out)?,
            Packing::Snappy => snappy(&mut cursor, &mut out)?,
        }
        Some((total, out.bytes))
    }
}

/// The first bytes of an LZ4 block, at most so many; `None`: it is none.
pub(super) fn lz4_block(packed: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let mut out = Unpacked::new(bytes_max);
    lz4(&mut Cursor::new(packed), &mut out)?;
    Some(out.bytes)
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
fn lz4(cursor: &mut Cursor<'_>, out: &mut Unpacked) -> Option<()> {
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
fn snappy(cursor: &mut Cursor<'_>, out: &mut Unpacked) -> Option<()> {
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
    use weir_types::random::SplitMix;

    use super::*;

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
            let all = Packing::Snappy.unpack(&packed, usize::MAX);
            assert_eq!(all, Some((text.len() as u32, text.clone())));
            let (_, first) = Packing::Snappy.unpack(&packed, 100).unwrap();
            assert_eq!(first, text[..text.len().min(100)]);
            let (_, begun) =
                Packing::Snappy.unpack(&packed[..packed.len() / 2 + 1], 1 << 20).unwrap();
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
            assert_eq!(lz4_block(packed, 100).as_deref(), Some(want));
            assert_eq!(lz4_block(packed, 2).as_deref(), Some(&want[..want.len().min(2)]));
            for seen in 0..packed.len() {
                assert!(want.starts_with(&lz4_block(&packed[..seen], 100).unwrap()));
            }
        }
        for wrong in [&b"\x11a\x02\x00\x10z"[..], b"\x11a\x00\x00\x10z", b"\x01\x01\x00\x10z"] {
            assert_eq!(lz4_block(wrong, 100), None);
        }
    }

    /// Any bytes: no panic, and no more than was asked for.
    #[test]
    fn any_bytes_are_bounded() {
        let mut random = SplitMix(2);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..random.below(60)).map(|_| random.next_u64() as u8).collect();
            for packing in [Packing::Lz4, Packing::Snappy] {
                let found = packing.unpack(&bytes, 1_000);
                assert!(found.is_none_or(|(_, out)| out.len() <= 1_000 && out.capacity() < 5_000));
            }
        }
    }
}
