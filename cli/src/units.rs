//! Values of flags that have a unit: durations, sizes, points in time.

use std::time::Duration;

/// `100ms`, `5s`, `5m`, `1h`, `1d`
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is not a duration like 5s"))?;
    let seconds = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(format!("`{text}` needs a unit: ms, s, m, h or d")),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

/// `1000`, `32MiB`
pub(crate) fn parse_bytes(text: &str) -> Result<usize, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: usize =
        number.parse().map_err(|_| format!("`{text}` is not a size like 512MiB"))?;
    let factor: usize = match unit {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        _ => return Err(format!("`{text}` has an unknown unit: use KiB, MiB or GiB")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large"))
}

pub(crate) fn parse_time(text: &str) -> Result<i64, String> {
    weir_types::json::parse_time(text)
        .ok_or_else(|| format!("`{text}` is neither RFC 3339 nor integer nanoseconds"))
}
