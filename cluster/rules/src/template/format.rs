//! Numbers as Go writes them, and Prometheus' `humanize` family.

use time::OffsetDateTime;

/// Digits without the point, and where the point stands: 0.d1d2… × 10^point.
struct Digits {
    negative: bool,
    digits: String,
    point: i32,
}

/// The shortest digits that tell the number from others, or so many significant ones. No trailing zeros.
fn digits(value: f64, significant: Option<usize>) -> Digits {
    let text = match significant {
        Some(count) => format!("{:.*e}", count.max(1) - 1, value.abs()),
        None => format!("{:e}", value.abs()),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0').to_string();
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    let point = if digits.is_empty() { 0 } else { point };
    Digits { negative: value.is_sign_negative(), digits, point }
}

pub(super) fn not_finite(value: f64) -> Option<&'static str> {
    match value {
        _ if value.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}

/// `%g`; without a precision as short as possible.
pub(super) fn general(value: f64, precision: Option<usize>) -> String {
    if let Some(text) = not_finite(value) {
        return text.to_string();
    }
    let significant = precision.map(|precision| precision.max(1));
    let Digits { negative, digits, point } = digits(value, significant);
    let sign = if negative { "-" } else { "" };
    let count = digits.len();
    let signed_count = i32::try_from(count).unwrap_or(i32::MAX);
    let exponent_from = match significant {
        None => 6,
        Some(wanted) if wanted > count && signed_count >= point => signed_count,
        Some(wanted) => i32::try_from(wanted).unwrap_or(i32::MAX),
    };
    let exponent = point - 1;
    if count > 0 && (exponent < -4 || exponent >= exponent_from) {
        let tail = if count > 1 { format!(".{}", &digits[1..]) } else { String::new() };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{}{tail}e{exponent_sign}{:02}", &digits[..1], exponent.abs());
    }
    let point = usize::try_from(point).map_err(|_| usize::try_from(-point).unwrap_or(0));
    match point {
        _ if count == 0 => format!("{sign}0"),
        Ok(0) => format!("{sign}0.{digits}"),
        Ok(point) if point >= count => format!("{sign}{digits}{}", "0".repeat(point - count)),
        Ok(point) => format!("{sign}{}.{}", &digits[..point], &digits[point..]),
        Err(zeros) => format!("{sign}0.{}{digits}", "0".repeat(zeros)),
    }
}

/// `%e`: one digit before the point, an exponent of at least two.
pub(super) fn scientific(value: f64, precision: usize) -> String {
    if let Some(text) = not_finite(value) {
        return text.to_string();
    }
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// `%f`
pub(super) fn fixed(value: f64, precision: usize) -> String {
    not_finite(value).map_or_else(|| format!("{value:.precision$}"), str::to_string)
}

/// As `%v` writes a float.
pub(super) fn float_text(value: f64) -> String {
    general(value, None)
}

fn short(value: f64) -> String {
    general(value, Some(4))
}

const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

/// Multiplied until it is one at least, with the prefix.
fn enlarged(mut value: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for name in SMALL {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = name;
        value *= 1_000.0;
    }
    (value, prefix)
}

fn reduced(mut value: f64, by: f64, names: [&'static str; 8]) -> String {
    let mut prefix = "";
    for name in names {
        if value.abs() < by {
            break;
        }
        prefix = name;
        value /= by;
    }
    format!("{}{prefix}", short(value))
}

pub(super) fn humanize(value: f64) -> String {
    match value {
        _ if value == 0.0 || !value.is_finite() => short(value),
        _ if value.abs() >= 1.0 => {
            reduced(value, 1_000.0, ["k", "M", "G", "T", "P", "E", "Z", "Y"])
        }
        _ => {
            let (value, prefix) = enlarged(value);
            format!("{}{prefix}", short(value))
        }
    }
}

pub(super) fn humanize_1024(value: f64) -> String {
    match value.abs() <= 1.0 || !value.is_finite() {
        true => short(value),
        false => reduced(value, 1_024.0, ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"]),
    }
}

pub(super) fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return short(value);
    }
    if value == 0.0 {
        return "0s".to_string();
    }
    if value.abs() < 1.0 {
        let (value, prefix) = enlarged(value);
        return format!("{}{prefix}s", short(value));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    // A number too large for an integer is taken for the largest.
    let whole = value.abs() as i64;
    let (seconds, minutes, hours) = (whole % 60, whole / 60 % 60, whole / 3_600 % 24);
    match whole / 86_400 {
        days if days > 0 => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
        _ if hours > 0 => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ if minutes > 0 => format!("{sign}{minutes}m {seconds}s"),
        _ => format!("{sign}{}s", short(value.abs())),
    }
}

pub(super) fn humanize_percentage(value: f64) -> String {
    format!("{}%", short(value * 100.0))
}

/// Unix seconds as Go prints a time in UTC, to the millisecond; what no calendar has as a number.
pub(super) fn time_text(seconds: f64) -> String {
    // The calendar ends in the year 9999; so far a product fits.
    let fits = seconds.is_finite() && seconds.abs() < 1e12;
    let millis = if fits { (seconds * 1_000.0) as i128 } else { i128::MAX / 1_000_000 };
    let Ok(at) = OffsetDateTime::from_unix_timestamp_nanos(millis * 1_000_000) else {
        return short(seconds);
    };
    let fraction = format!("{:03}", at.millisecond());
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}{point}{fraction} +0000 UTC",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}
