//! The code by which header texts are made shorter (RFC 7541, appendix B).
//!
//! It is canonical: codes of one length ascend with what they stand for, and longer ones follow. So the
//! lengths tell all of it.

/// Code lengths by byte; the last one ends a text, and must not be in any.
const CODE_BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const BITS_MAX: usize = 30;
const END: usize = 256;

/// Of each length: the first code, how many there are, and where their symbols begin.
struct Codes {
    first: [u32; BITS_MAX + 1],
    count: [u32; BITS_MAX + 1],
    from: [usize; BITS_MAX + 1],
    symbols: [u16; END + 1],
}

static CODES: Codes = codes();

const fn codes() -> Codes {
    let mut codes = Codes {
        first: [0; BITS_MAX + 1],
        count: [0; BITS_MAX + 1],
        from: [0; BITS_MAX + 1],
        symbols: [0; END + 1],
    };
    let (mut bits, mut next, mut at) = (1, 0, 0);
    while bits <= BITS_MAX {
        next <<= 1;
        (codes.first[bits], codes.from[bits]) = (next, at);
        let mut symbol = 0;
        while symbol <= END {
            if CODE_BITS[symbol] as usize == bits {
                codes.symbols[at] = symbol as u16;
                codes.count[bits] += 1;
                at += 1;
                next += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    codes
}

/// Appends the text. `None`: these bytes are no text in this code.
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (mut code, mut bits) = (0_u32, 0);
    for byte in bytes {
        for shift in (0..8).rev() {
            code = code << 1 | u32::from(byte >> shift & 1);
            bits += 1;
            if bits > BITS_MAX {
                return None;
            }
            let place = code.wrapping_sub(CODES.first[bits]);
            if place < CODES.count[bits] {
                // The end of a text, 256, is no byte.
                let symbol = CODES.symbols[CODES.from[bits] + place as usize];
                out.push(u8::try_from(symbol).ok()?);
                (code, bits) = (0, 0);
            }
        }
    }
    // What is left is the beginning of the end of a text: ones.
    (bits < 8 && code == (1 << bits) - 1).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 7541, appendix C, and what is no text: an end, wrong padding, too much of it.
    #[test]
    fn texts() {
        let text = |bytes: &[u8]| {
            let mut out = Vec::new();
            decode(bytes, &mut out).map(|()| String::from_utf8(out).unwrap())
        };
        let www = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(text(&www).as_deref(), Some("www.example.com"));
        assert_eq!(text(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).as_deref(), Some("no-cache"));
        assert_eq!(text(&[0x64, 0x02]).as_deref(), Some("302"));
        assert_eq!(text(&[]).as_deref(), Some(""));
        for wrong in
            [&[0xff_u8; 4][..], &[0xff], &[0x00], &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf, 0xff]]
        {
            assert_eq!(text(wrong), None, "{wrong:?}");
        }
    }
}
