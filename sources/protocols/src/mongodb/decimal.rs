//! IEEE 754 decimals of 128 bits as text: binary integer significands, as BSON has them.

use std::fmt::Write;

/// Added to an exponent.
const BIAS: i64 = 6_176;
/// A significand has 34 digits; larger ones stand for 0.
const SIGNIFICAND_MAX: u128 = 10_u128.pow(34) - 1;

/// The decimal in the notation of MongoDB's tools: plain where that is short, else with an exponent.
pub(super) fn text(bits: u128) -> String {
    let mut out = String::new();
    if bits >> 127 == 1 {
        out.push('-');
    }
    let kind = bits >> 122 & 0x1f;
    if kind == 0x1f {
        return "NaN".to_string();
    }
    if kind == 0x1e {
        out.push_str("Infinity");
        return out;
    }
    // Significands that begin with 100 would be too large.
    let (exponent, significand) = match kind >> 3 == 3 {
        true => (bits >> 111 & 0x3fff, 0),
        false => (bits >> 113 & 0x3fff, bits & ((1 << 113) - 1)),
    };
    let significand = if significand > SIGNIFICAND_MAX { 0 } else { significand };
    push(&mut out, significand, exponent as i64 - BIAS);
    out
}

fn push(out: &mut String, significand: u128, exponent: i64) {
    let digits = significand.to_string();
    let scientific = exponent + digits.len() as i64 - 1;
    if exponent > 0 || scientific < -6 {
        let (first, rest) = digits.split_at(1);
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        write!(out, "E{scientific:+}").expect("text takes everything");
        return;
    }
    let behind_point = exponent.unsigned_abs() as usize;
    if behind_point == 0 {
        out.push_str(&digits);
    } else if digits.len() > behind_point {
        let (whole, part) = digits.split_at(digits.len() - behind_point);
        out.push_str(whole);
        out.push('.');
        out.push_str(part);
    } else {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', behind_point - digits.len()));
        out.push_str(&digits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the specification's examples have them. Catches a wrong bias or notation.
    #[test]
    fn decimals() {
        let of = |negative: bool, exponent: i64, significand: u128| {
            text(u128::from(negative) << 127 | ((exponent + BIAS) as u128) << 113 | significand)
        };
        for (negative, exponent, significand, want) in [
            (false, 0, 0, "0"),
            (true, 0, 0, "-0"),
            (false, -1, 0, "0.0"),
            (false, -3, 1234, "1.234"),
            (true, -5, 12345, "-0.12345"),
            (false, -9, 1, "1E-9"),
            (false, -8, 123, "0.00000123"),
            (false, 3, 1, "1E+3"),
            (false, 6_111, 10_u128.pow(34) - 1, "9.999999999999999999999999999999999E+6144"),
            (false, -6_176, 1, "1E-6176"),
            (false, 0, 10_u128.pow(34), "0"),
        ] {
            assert_eq!(of(negative, exponent, significand), want);
        }
        assert_eq!(text(0x7c << 120), "NaN");
        assert_eq!(text(0x78 << 120), "Infinity");
        assert_eq!(text(0xf8 << 120), "-Infinity");
        assert_eq!(text(0x6c10 << 112), "0");
    }
}
