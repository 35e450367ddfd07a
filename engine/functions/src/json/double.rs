//! Doubles as JSON text, the shortest that reads back as the same double.

use std::io::Write;

/// From this power of ten on doubles are written with an exponent.
const PLAIN_DIGITS_MAX: i32 = 21;

/// The shortest text that reads back as the double, with a decimal point or an exponent, so that it
/// stays a double: `5.0`, `0.001`, `1.5e300`.
pub(crate) fn push_double(out: &mut Vec<u8>, value: f64) {
    if push_half(out, value) {
        return;
    }
    let mut scientific = [0u8; 32];
    let mut unwritten = &mut scientific[..];
    write!(unwritten, "{value:e}").expect("at most 24 characters");
    let free = unwritten.len();
    let text = &scientific[..32 - free];
    let (mantissa, exponent) = match memchr::memchr(b'e', text) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => return out.extend_from_slice(b"null"),
    };
    let exponent: i32 =
        std::str::from_utf8(exponent).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut digits = [0u8; 24];
    let mut count = 0;
    for &byte in mantissa {
        match byte {
            b'-' => out.push(b'-'),
            b'.' => {}
            digit => {
                digits[count] = digit;
                count += 1;
            }
        }
    }
    push_digits(out, &digits[..count], exponent);
}

/// Below it, halves are exact doubles with at most 16 digits, which is then their shortest text.
const HALVES_BELOW: f64 = 1e15;

/// Whole and half numbers, which midpoints of buckets mostly are, without the search for the shortest
/// text: theirs is their exact one. False: it is none of them.
fn push_half(out: &mut Vec<u8>, value: f64) -> bool {
    let magnitude = value.abs();
    let whole = magnitude as u64;
    let rest = magnitude - whole as f64;
    if magnitude >= HALVES_BELOW || !(rest == 0.5 || (rest == 0.0 && whole > 0)) {
        return false;
    }
    if value < 0.0 {
        out.push(b'-');
    }
    out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    out.extend_from_slice(if rest == 0.5 { b".5" } else { b".0" });
    true
}

/// `digits` with the point after the first, times ten to the `exponent`.
fn push_digits(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    let whole = exponent + 1;
    let count = digits.len() as i32;
    if (count..=PLAIN_DIGITS_MAX).contains(&whole) {
        out.extend_from_slice(digits);
        out.extend(std::iter::repeat_n(b'0', (whole - count) as usize));
        out.extend_from_slice(b".0");
    } else if (1..=PLAIN_DIGITS_MAX).contains(&whole) {
        out.extend_from_slice(&digits[..whole as usize]);
        out.push(b'.');
        out.extend_from_slice(&digits[whole as usize..]);
    } else if (-5..=0).contains(&whole) {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', -whole as usize));
        out.extend_from_slice(digits);
    } else {
        out.push(digits[0]);
        out.push(b'.');
        out.extend_from_slice(if count > 1 { &digits[1..] } else { b"0" });
        write!(out, "e{exponent}").expect("writing to memory cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is written without the short way for whole and half numbers.
    fn searched(value: f64) -> String {
        let text = format!("{value:?}");
        if text.contains(['e', '.']) { text } else { format!("{text}.0") }
    }

    proptest! {
        /// Whole and half numbers are written as the search for the shortest text writes them: catches
        /// a lost sign, a wrong digit and one too many.
        #[test]
        fn halves_are_what_the_search_finds(twice in -2_000_000_000_000_000i64..2_000_000_000_000_000, small in -40i64..40) {
            for twice in [twice, small] {
                let value = twice as f64 / 2.0;
                let mut out = Vec::new();
                if push_half(&mut out, value) {
                    prop_assert_eq!(String::from_utf8(out).unwrap(), searched(value));
                } else {
                    prop_assert!(value == 0.0 || value.abs() >= HALVES_BELOW);
                }
            }
        }
    }
}
