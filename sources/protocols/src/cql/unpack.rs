//! What both ends of a connection agree upon to pack bodies.

use crate::cursor::Cursor;
use crate::unpacked;

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
        match self {
            Packing::Lz4 => {
                let mut cursor = Cursor::new(packed);
                let total = cursor.u32_be()?;
                let bytes_max = bytes_max.min(usize::try_from(total).ok()?);
                Some((total, unpacked::lz4(cursor.rest(), bytes_max)?))
            }
            Packing::Snappy => unpacked::snappy(packed, bytes_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_types::random::SplitMix;

    use super::*;

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
