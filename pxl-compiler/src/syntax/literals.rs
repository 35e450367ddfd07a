//! String literals as PxL means them: byte strings. ruff decodes them as Python 3 text, where
//! `\xff` is a character of two bytes; so literals with escapes are decoded again from the source.

use ruff_python_ast::{ExprBytesLiteral, ExprStringLiteral, StringFlags};
use ruff_text_size::{Ranged, TextRange};

/// The bytes of a (possibly concatenated) string literal.
pub(crate) fn string_bytes(literal: &ExprStringLiteral, text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in &literal.value {
        let raw = part.flags.prefix().is_raw();
        let (opener, closer) = (part.flags.opener_len(), part.flags.closer_len());
        let inner = part.range().add_start(opener).sub_end(closer);
        match slice(text, inner) {
            Some(source) if !raw && source.contains('\\') => decode(source, &mut bytes),
            _ => bytes.extend_from_slice(part.value.as_bytes()),
        }
    }
    bytes
}

/// The bytes of a `b'…'` literal.
pub(crate) fn bytes_literal(literal: &ExprBytesLiteral) -> Vec<u8> {
    literal.value.bytes().collect()
}

fn slice(text: &str, range: TextRange) -> Option<&str> {
    text.get(range.start().to_usize()..range.end().to_usize())
}

/// Escapes `\n \t … \xHH \ooo`; an unknown one stays as it is written.
fn decode(source: &str, out: &mut Vec<u8>) {
    let bytes = source.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' || at + 1 == bytes.len() {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        let escape = bytes[at + 1];
        at += 2;
        match escape {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'v' => out.push(11),
            b'\\' | b'\'' | b'"' => out.push(escape),
            b'\n' => {}
            b'x' => match source.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                Some(byte) => {
                    out.push(byte);
                    at += 2;
                }
                None => out.extend_from_slice(b"\\x"),
            },
            b'0'..=b'7' => {
                let digits = bytes[at - 1..].iter().take(3);
                let octal: Vec<u8> =
                    digits.copied().take_while(|byte| (b'0'..=b'7').contains(byte)).collect();
                let value =
                    octal.iter().fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
                out.push(u8::try_from(value & 0xff).unwrap_or(0));
                at += octal.len() - 1;
            }
            _ => out.extend_from_slice(&[b'\\', escape]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Escapes give bytes, not characters: catches `\xff` becoming two bytes.
    #[test]
    fn escapes_are_bytes() {
        let mut out = Vec::new();
        decode(r"a\xff\n\101\q\\é", &mut out);
        assert_eq!(out, [b"a\xff\nA\\q\\".as_slice(), "é".as_bytes()].concat());
    }
}
