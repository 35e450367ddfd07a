//! `px.strptime(text, format)`: a time by a format in the manner of strptime, with the extensions
//! `%Ez`, `%E*S` and `%E4Y`. Without a zone it is UTC.

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] =
    ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

#[derive(Debug, Default)]
struct Parts {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    fraction_ns: i64,
    zone_s: i64,
    afternoon: Option<bool>,
    epoch_s: Option<i64>,
}

/// Nanoseconds since the epoch; `None` if the text does not fit the format.
pub(crate) fn parse(text: &str, format: &str) -> Option<i64> {
    let mut parts = Parts { year: 1970, month: 1, day: 1, ..Parts::default() };
    let mut rest = text.trim_start();
    // Formats like %F stand for several others.
    let format = format
        .replace("%F", "%Y-%m-%d")
        .replace("%T", "%H:%M:%S")
        .replace("%R", "%H:%M")
        .replace("%D", "%m/%d/%y");
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c.is_whitespace() {
            rest = rest.trim_start();
            continue;
        }
        if c != '%' {
            rest = rest.strip_prefix(c)?;
            continue;
        }
        let mut specifier = chars.next()?;
        if matches!(specifier, 'E' | 'O') {
            specifier = chars.next()?;
            // %E*S, %E3S, %E4Y
            while specifier == '*' || specifier.is_ascii_digit() {
                specifier = chars.next()?;
            }
        }
        rest = field(&mut parts, specifier, rest)?;
    }
    rest.trim_end().is_empty().then(|| unix_ns(&parts)).flatten()
}

/// Reads one field; what is left of the text.
fn field<'t>(parts: &mut Parts, specifier: char, text: &'t str) -> Option<&'t str> {
    let number = |digits: usize, range: std::ops::RangeInclusive<i64>| -> Option<(i64, &'t str)> {
        let (value, rest) = digits_of(text, digits)?;
        range.contains(&value).then_some((value, rest))
    };
    let rest = match specifier {
        'Y' => set(&mut parts.year, number(4, 0..=9999)?),
        'y' => {
            let (year, rest) = number(2, 0..=99)?;
            parts.year = if year < 69 { 2000 + year } else { 1900 + year };
            rest
        }
        'm' => set(&mut parts.month, number(2, 1..=12)?),
        'd' | 'e' => {
            let (day, rest) = digits_of(text.trim_start(), 2)?;
            parts.day = (1..=31).contains(&day).then_some(day)?;
            rest
        }
        'H' => set(&mut parts.hour, number(2, 0..=23)?),
        'I' => set(&mut parts.hour, number(2, 1..=12)?),
        'M' => set(&mut parts.minute, number(2, 0..=59)?),
        'S' => {
            let rest = set(&mut parts.second, number(2, 0..=60)?);
            fraction(parts, rest)
        }
        'p' => {
            let half = text.get(..2)?.to_ascii_lowercase();
            parts.afternoon = Some(match half.as_str() {
                "am" => false,
                "pm" => true,
                _ => return None,
            });
            &text[2..]
        }
        'b' | 'B' | 'h' => {
            let (month, rest) = name_of(text, &MONTHS)?;
            parts.month = month + 1;
            rest
        }
        'a' | 'A' => name_of(text, &WEEKDAYS)?.1,
        's' => {
            let negative = text.starts_with('-');
            let (value, rest) = digits_of(text.strip_prefix('-').unwrap_or(text), 18)?;
            parts.epoch_s = Some(if negative { -value } else { value });
            rest
        }
        'z' => zone(parts, text)?,
        'Z' => text.trim_start_matches(|c: char| !c.is_whitespace()),
        'n' | 't' => text.trim_start(),
        '%' => text.strip_prefix('%')?,
        _ => return None,
    };
    Some(rest)
}

fn set<'t>(slot: &mut i64, (value, rest): (i64, &'t str)) -> &'t str {
    *slot = value;
    rest
}

fn digits_of(text: &str, digits_max: usize) -> Option<(i64, &str)> {
    let digits = text.bytes().take(digits_max).take_while(u8::is_ascii_digit).count();
    let value = text.get(..digits)?.parse().ok()?;
    Some((value, &text[digits..]))
}

/// A name or its first three letters.
fn name_of<'t>(text: &'t str, names: &[&str]) -> Option<(i64, &'t str)> {
    for (name, number) in names.iter().zip(0_i64..) {
        for length in [name.len(), 3] {
            if text.get(..length).is_some_and(|have| have.eq_ignore_ascii_case(&name[..length])) {
                return Some((number, &text[length..]));
            }
        }
    }
    None
}

fn fraction<'t>(parts: &mut Parts, text: &'t str) -> &'t str {
    let Some(digits) = text.strip_prefix('.') else { return text };
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    if count == 0 {
        return text;
    }
    let mut nine = digits[..count.min(9)].to_string();
    while nine.len() < 9 {
        nine.push('0');
    }
    parts.fraction_ns = nine.parse().unwrap_or(0);
    &digits[count..]
}

/// `+0100`, `-01:30`, `Z`
fn zone<'t>(parts: &mut Parts, text: &'t str) -> Option<&'t str> {
    if let Some(rest) = text.strip_prefix(['Z', 'z']) {
        return Some(rest);
    }
    let negative = text.starts_with('-');
    let rest = text.strip_prefix(['+', '-'])?;
    let (hours, rest) = digits_of(rest, 2)?;
    let (minutes, rest) = digits_of(rest.strip_prefix(':').unwrap_or(rest), 2).unwrap_or((0, rest));
    let size = (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)?;
    parts.zone_s = if negative { -size } else { size };
    Some(rest)
}

fn unix_ns(parts: &Parts) -> Option<i64> {
    let seconds = match parts.epoch_s {
        Some(seconds) => seconds,
        None => {
            let leap = parts.year % 4 == 0 && (parts.year % 100 != 0 || parts.year % 400 == 0);
            let days_max = match parts.month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            if parts.day > days_max {
                return None;
            }
            let hour = match parts.afternoon {
                None => parts.hour,
                Some(afternoon) => parts.hour % 12 + if afternoon { 12 } else { 0 },
            };
            let days = days_since_epoch(parts.year, parts.month, parts.day);
            days * 86_400 + hour * 3600 + parts.minute * 60 + parts.second - parts.zone_s
        }
    };
    seconds.checked_mul(1_000_000_000)?.checked_add(parts.fraction_ns)
}

/// Days of the proleptic Gregorian calendar since 1970-01-01; years begin in March here, so that the
/// leap day is the last of its year.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW_YEAR: i64 = 1_767_225_600_000_000_000;

    /// One moment in many forms: catches a lost zone, a leap day and twelve o'clock.
    #[test]
    fn formats() {
        let forms = [
            ("2026-01-01 00:00:00", "%Y-%m-%d %H:%M:%S"),
            ("2026-01-01T01:00:00+0100", "%FT%T%z"),
            ("2026-01-01 00:00:00.000 +00:00", "%Y-%m-%d %H:%M:%E*S %Ez"),
            ("Thu Jan  1 12:00:00 AM 2026", "%a %b %e %I:%M:%S %p %Y"),
            (" 01/01/26 00:00 ", "%D %R"),
            ("1767225600", "%s"),
            ("100% 2026", "100%% %Y"),
            ("1 January 2026 UTC", "%d %B %Y %Z"),
        ];
        for (text, format) in forms {
            assert_eq!(parse(text, format), Some(NEW_YEAR), "{text} as {format}");
        }
        assert_eq!(parse("2024-02-29", "%F"), Some(1_709_164_800_000_000_000));
        assert_eq!(parse("1969-12-31 23:59:59.5", "%F %T"), Some(-500_000_000));
        for (text, format) in [
            ("2025-02-29", "%F"),
            ("2026-13-01", "%F"),
            ("2026-01-01 x", "%F"),
            ("2026", "%Q"),
            ("", "%Y"),
            ("é", "%p"),
            ("9999-01-01", "%F"),
            ("5", "%"),
        ] {
            assert_eq!(parse(text, format), None, "{text} as {format}");
        }
    }
}
