//! Times and durations as scripts write them: `-5m`, `2026-01-01 00:00:00 +0000`, integers, and
//! `px.now()`; and the windows that they bound.

use weir_types::plan::{EndBound, StartBound, Window};
use weir_types::{Value, json};

use super::Object;
use super::args::Arg;
use crate::codes::Code;
use crate::diag::{Diag, Res, Span, Stop};
use crate::ir::SymKind;
use crate::ir::sym::Affine;
use crate::limits::TIME_BYTES_MAX;

/// Largest unit first.
const UNITS: [(&str, i64); 5] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
];

/// A point in time that a script gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Point {
    Absolute {
        unix_ns: i64,
    },
    /// now + offset
    Relative {
        offset_ns: i64,
    },
}

/// The first number with a unit in `text`, with its sign: what a relative time is searched for.
pub(crate) fn find_relative(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let negative = at > 0 && bytes[at - 1] == b'-';
        let unit = &text[at + digits..];
        let factor = UNITS
            .iter()
            .filter(|(name, _)| unit.starts_with(name))
            .max_by_key(|(name, _)| name.len())
            .map(|(_, factor)| *factor);
        if let Some(factor) = factor {
            let count: i64 = text[at..at + digits].parse().ok()?;
            let ns = count.checked_mul(factor)?;
            return Some(if negative { -ns } else { ns });
        }
        at += digits;
    }
    None
}

/// A duration that is nothing but sign, number and unit.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let rest = text.trim().trim_start_matches(['-', '+']);
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let is_unit = UNITS.iter().any(|(name, _)| *name == &rest[digits..]);
    (digits > 0 && is_unit && text.trim().len() - rest.len() <= 1)
        .then(|| find_relative(text))
        .flatten()
}

/// Sign, truncated count and the largest unit that is not above the value.
pub(crate) fn format_duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let size = ns.unsigned_abs();
    let (unit, factor) = UNITS
        .into_iter()
        .find(|(_, factor)| factor.unsigned_abs() <= size)
        .unwrap_or(UNITS[UNITS.len() - 1]);
    format!("{sign}{}{unit}", size / factor.unsigned_abs())
}

/// Like [`format_duration`], in the largest unit that loses nothing.
pub(crate) fn exact_duration(ns: i64) -> String {
    let unit = UNITS.into_iter().find(|(_, factor)| ns % factor == 0);
    unit.map_or_else(|| format!("{ns}ns"), |(name, factor)| format!("{}{name}", ns / factor))
}

/// `YYYY-MM-DD HH:MM:SS[.frac] ±ZZZZ`, or RFC 3339.
pub(crate) fn parse_absolute(text: &str) -> Option<i64> {
    let text = text.trim();
    if !text.bytes().take(4).all(|byte| byte.is_ascii_digit()) || text.len() < 19 {
        return None;
    }
    if let Some(ns) = json::parse_time(text) {
        return Some(ns);
    }
    let (date, rest) = text.split_once([' ', 'T'])?;
    let (clock, zone) = rest.split_once(' ').unwrap_or((rest, "+0000"));
    let zone = zone.trim();
    let zone = match zone.len() {
        5 if zone.is_ascii() => format!("{}:{}", &zone[..3], &zone[3..]),
        _ => zone.to_string(),
    };
    json::parse_time(&format!("{date}T{clock}{zone}"))
}

/// The point that a string means.
pub(crate) fn point_of_text(text: &str) -> Option<Point> {
    if text.len() > TIME_BYTES_MAX {
        return None;
    }
    if let Some(unix_ns) = parse_absolute(text) {
        return Some(Point::Absolute { unix_ns });
    }
    find_relative(text).map(|offset_ns| Point::Relative { offset_ns })
}

pub(crate) fn bad_time(span: Span, text: &str) -> Stop {
    let message = format!("'{text}' is not a time");
    let hint = "write a duration such as '-5m' (units ms, s, m, h, d), an absolute time such as \
                '2026-01-01 00:00:00 +0000', or integer nanoseconds";
    Diag::error(Code::TimeFormat, span, message).hint(hint).into()
}

/// The point that an argument means: string, integer nanoseconds, time, or `now` plus something.
pub(crate) fn point(arg: &Arg<'_>, func: &str, name: &str) -> Res<Point> {
    let Object::Expr(sym) = &arg.value else {
        return super::args::wrong_type(arg, func, name, "Time");
    };
    match &sym.kind {
        SymKind::Literal(Value::Int64(ns) | Value::Time64Ns(ns)) => {
            Ok(Point::Absolute { unix_ns: *ns })
        }
        SymKind::Literal(Value::String(bytes)) => {
            let text = String::from_utf8_lossy(bytes);
            point_of_text(&text).ok_or_else(|| bad_time(arg.span, &text))
        }
        SymKind::Now(Affine { factor: 1, offset_ns, .. }) => {
            Ok(Point::Relative { offset_ns: *offset_ns })
        }
        SymKind::Now(_) => {
            let message = format!("{func}(): '{name}' must move as px.now() does, once");
            let hint = "write px.now() plus or minus a constant";
            Err(Diag::error(Code::NowNotConstant, arg.span, message).hint(hint).into())
        }
        SymKind::Poison => Err(Stop::Poisoned),
        SymKind::Literal(_) => super::args::wrong_type(arg, func, name, "Time"),
        _ => arg.literal(func, name, weir_types::DataType::Time64Ns).and(Err(Stop::Poisoned)),
    }
}

/// A window, and whether it lies in the future as a whole.
pub(crate) fn window(start: Option<Point>, end: Option<Point>) -> (Window, bool) {
    let mut empty = false;
    let start = match start {
        None => StartBound::Beginning,
        Some(Point::Absolute { unix_ns }) => StartBound::Absolute { start_unix_ns: unix_ns },
        Some(Point::Relative { offset_ns }) if offset_ns < 0 => {
            StartBound::Relative { window_ns: offset_ns.saturating_neg() }
        }
        Some(Point::Relative { .. }) => {
            empty = true;
            StartBound::Relative { window_ns: 1 }
        }
    };
    let end = match end {
        Some(Point::Absolute { unix_ns }) => EndBound::Absolute { end_unix_ns: unix_ns },
        Some(Point::Relative { offset_ns }) if offset_ns < 0 => {
            EndBound::Relative { before_ns: offset_ns.saturating_neg() }
        }
        None | Some(Point::Relative { .. }) => EndBound::Now,
    };
    (Window { start, end }, empty)
}

/// What the window's start is called in `schema` messages.
pub(crate) fn start_text(start: Option<Point>, arg: Option<&Arg<'_>>) -> String {
    let written = arg.and_then(|arg| match &arg.value {
        Object::Expr(sym) => sym.as_text().map(str::to_string),
        _ => None,
    });
    match (written, start) {
        (Some(text), _) => text,
        (None, Some(Point::Absolute { unix_ns })) => json::time_text(unix_ns),
        (None, Some(Point::Relative { offset_ns })) => exact_duration(offset_ns),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference's micro-cases: catches `ms` read as `m` and lost signs.
    #[test]
    fn durations() {
        let long = "-5m ".repeat(TIME_BYTES_MAX);
        assert_eq!(point_of_text(&long), None);
        assert!(point_of_text("-5m ").is_some());
        assert_eq!(find_relative("-5m"), Some(-300_000_000_000));
        assert_eq!(find_relative("2h"), Some(7_200_000_000_000));
        assert_eq!(find_relative("10ms"), Some(10_000_000));
        assert_eq!(find_relative("soon"), None);
        assert_eq!(find_relative("99999999999999999999d"), None);
        assert_eq!(parse_duration("-5m"), Some(-300_000_000_000));
        assert_eq!(parse_duration("5 minutes"), None);
        assert_eq!(format_duration(-90_000_000_000), "-1m");
        assert_eq!(format_duration(90_000_000_000), "1m");
        assert_eq!(format_duration(0), "0ms");
    }

    /// Absolute times with a zone: catches a dropped offset.
    #[test]
    fn absolute_times() {
        let at = parse_absolute("2026-01-01 01:00:00 +0100");
        assert_eq!(at, Some(1_767_225_600_000_000_000));
        assert_eq!(parse_absolute("2026-01-01 00:00:00.5 +0000"), at.map(|t| t + 500_000_000));
        assert_eq!(parse_absolute("yesterday"), None);
    }
}
