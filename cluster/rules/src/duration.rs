//! Durations in Prometheus' syntax: `5m`, `1h30m`, `1d12h`, `100ms`, `0`. Units in falling order, each once;
//! no fractions, no signs, no blanks. A year has 365 days.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Units from the largest, in milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
/// What fits a signed number of nanoseconds, as in Prometheus.
const MILLIS_MAX: u64 = (i64::MAX / 1_000_000) as u64;

/// A span of whole milliseconds, at most 292 years.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Millis(u64);

impl Millis {
    /// Clamped to what fits.
    #[must_use]
    pub fn new(millis: u64) -> Millis {
        Millis(millis.min(MILLIS_MAX))
    }
    #[must_use]
    pub fn ns(self) -> i64 {
        i64::try_from(self.0 * 1_000_000).unwrap_or(i64::MAX)
    }
    #[must_use]
    pub fn millis(self) -> u64 {
        self.0
    }
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// As Prometheus writes it: years and weeks only where they are whole, then the other units.
impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut left = self.0;
        for (unit, millis) in UNITS {
            let exact_only = matches!(unit, "y" | "w");
            if left >= millis && (!exact_only || left.is_multiple_of(millis)) {
                write!(f, "{}{unit}", left / millis)?;
                left %= millis;
            }
        }
        Ok(())
    }
}

/// Reads a duration, or says what is wrong in promtool's words.
pub fn parse(text: &str) -> Result<Millis, String> {
    match text {
        "0" => return Ok(Millis(0)),
        "" => return Err("empty duration string".to_string()),
        _ => {}
    }
    let wrong = || format!("not a valid duration string: {text:?}");
    let mut rest = text;
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        // What was taken is gone from `units`: each once, in falling order.
        let millis = units.find(|(name, _)| *name == unit).map(|(_, millis)| *millis);
        let millis = millis.filter(|_| digits > 0).ok_or_else(wrong)?;
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis));
        total = part
            .and_then(|part| part.checked_add(total))
            .filter(|total| *total <= MILLIS_MAX)
            .ok_or("duration out of range")?;
        rest = tail;
    }
    Ok(Millis(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that Prometheus takes, with its value and its canonical text; what it refuses is refused.
    #[test]
    fn durations_are_prometheus() {
        let taken = [
            ("0", 0, "0s"),
            ("0w", 0, "0s"),
            ("0s", 0, "0s"),
            ("324ms", 324, "324ms"),
            ("3s", 3_000, "3s"),
            ("5m", 300_000, "5m"),
            ("1h", 3_600_000, "1h"),
            ("4d", 4 * 86_400_000, "4d"),
            ("4d1h", 4 * 86_400_000 + 3_600_000, "4d1h"),
            ("14d", 14 * 86_400_000, "2w"),
            ("3w2d1h", 23 * 86_400_000 + 3_600_000, "23d1h"),
            ("10y", 3_650 * 86_400_000, "10y"),
            ("90m", 5_400_000, "1h30m"),
        ];
        for (text, millis, canonical) in taken {
            let read = parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!((read.millis(), read.to_string().as_str()), (millis, canonical), "{text}");
        }
        let refused = ["", "1", "1.5d", "d", "-5m", "5 minutes", "5M", "1m1h", "1s1s", "1h ", "٣s"];
        for text in refused {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in ["294y", "99999999999999999999s", "18446744073709551615ms"] {
            assert_eq!(parse(text), Err("duration out of range".to_string()), "{text}");
        }
        assert_eq!(parse("x").unwrap_err(), r#"not a valid duration string: "x""#);
    }
}
