//! Go's `Printf` for the values that templates have.

use super::OUTPUT_BYTES_MAX;
use super::format;
use super::value::Value;

/// Go's own bound is a million; nobody pads a text of an alert so far.
const WIDTH_MAX: usize = 1_024;

#[derive(Default)]
struct Spec {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

pub(super) fn printf(pattern: &str, args: &[Value<'_>]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = pattern;
    let mut args = Args { args, next: 0, reordered: false };
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        one(&mut rest, &mut args, &mut out);
        if out.len() > OUTPUT_BYTES_MAX {
            return Err(format!("the text is longer than {OUTPUT_BYTES_MAX} bytes"));
        }
    }
    out.push_str(rest);
    if !args.reordered && args.next < args.args.len() {
        let extra: Vec<String> = args.args[args.next..].iter().map(described).collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out)
}

struct Args<'v, 'a> {
    args: &'v [Value<'a>],
    next: usize,
    /// An index was given: what is left over is no mistake then.
    reordered: bool,
}

impl<'v, 'a> Args<'v, 'a> {
    fn take(&mut self) -> Option<&'v Value<'a>> {
        let arg = self.args.get(self.next);
        self.next = self.next.saturating_add(1);
        arg
    }

    /// `[n]`
    fn index(&mut self, rest: &mut &str) {
        let Some(end) = rest.strip_prefix('[').and_then(|tail| tail.find(']')) else { return };
        if let Ok(number) = rest[1..=end].parse::<usize>() {
            self.reordered = true;
            self.next = number.checked_sub(1).unwrap_or(usize::MAX);
            *rest = &rest[end + 2..];
        }
    }
}

/// A width or a precision: digits, or `*` for the next argument.
fn size(rest: &mut &str, args: &mut Args<'_, '_>) -> Option<i64> {
    args.index(rest);
    if let Some(tail) = rest.strip_prefix('*') {
        *rest = tail;
        return match args.take() {
            Some(Value::Int(size)) => Some(*size),
            _ => None,
        };
    }
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, tail) = rest.split_at(digits);
    *rest = tail;
    if digits == 0 { None } else { Some(number.parse().unwrap_or(i64::MAX)) }
}

/// One verb, from behind its `%`.
fn one(rest: &mut &str, args: &mut Args<'_, '_>, out: &mut String) {
    let mut spec = Spec::default();
    let flags = rest.bytes().take_while(|byte| b"+-# 0".contains(byte)).count();
    for flag in rest[..flags].bytes() {
        match flag {
            b'+' => spec.plus = true,
            b'-' => spec.minus = true,
            b'#' => spec.sharp = true,
            b' ' => spec.space = true,
            _ => spec.zero = true,
        }
    }
    *rest = &rest[flags..];
    let clamped = |size: u64| usize::try_from(size).unwrap_or(WIDTH_MAX).min(WIDTH_MAX);
    if let Some(width) = size(rest, args) {
        spec.minus |= width < 0;
        spec.width = Some(clamped(width.unsigned_abs()));
    }
    if let Some(tail) = rest.strip_prefix('.') {
        *rest = tail;
        let precision = size(rest, args).unwrap_or(0);
        spec.precision = u64::try_from(precision).ok().map(clamped);
    }
    args.index(rest);
    let Some(verb) = rest.chars().next() else {
        out.push_str("%!(NOVERB)");
        return;
    };
    *rest = &rest[verb.len_utf8()..];
    if verb == '%' {
        out.push('%');
        return;
    }
    let Some(arg) = args.take() else {
        let what = if args.reordered { "BADINDEX" } else { "MISSING" };
        out.push_str(&format!("%!{verb}({what})"));
        return;
    };
    match shown(verb, &spec, arg) {
        Some(text) => pad(&text, &spec, arg, out),
        None => out.push_str(&format!("%!{verb}({})", described(arg))),
    }
}

fn described(value: &Value<'_>) -> String {
    match value {
        Value::Nil => "<nil>".to_string(),
        other => format!("{}={}", other.type_name(), other.display()),
    }
}

/// The text of a value under a verb; none if they do not fit.
fn shown(verb: char, spec: &Spec, value: &Value<'_>) -> Option<String> {
    match (verb, value) {
        ('T', value) => Some(value.type_name().to_string()),
        ('v', Value::Int(value)) => Some(signed(*value, value.unsigned_abs().to_string(), spec)),
        ('v', Value::Float(value)) => {
            Some(plus(*value, format::general(*value, spec.precision), spec))
        }
        ('v', Value::Text(text)) if spec.sharp => Some(format!("{text:?}")),
        ('v', value) => Some(value.display().into_owned()),
        (_, Value::Text(text)) => text_shown(verb, spec, text),
        (_, Value::Int(value)) => int_shown(verb, spec, *value),
        (_, Value::Float(value)) => float_shown(verb, spec, *value),
        ('t', Value::Bool(value)) => Some(value.to_string()),
        ('s', Value::Labels(_) | Value::Args(_) | Value::Time(_)) => {
            Some(value.display().into_owned())
        }
        _ => None,
    }
}

fn text_shown(verb: char, spec: &Spec, text: &str) -> Option<String> {
    let text = match spec.precision {
        Some(chars) => text.chars().take(chars).collect(),
        None => text.to_string(),
    };
    let hex = |upper: bool| {
        let byte = |byte: u8| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
        text.bytes().map(byte).collect::<String>()
    };
    match verb {
        's' => Some(text),
        'q' => Some(format!("{text:?}")),
        'x' => Some(hex(false)),
        'X' => Some(hex(true)),
        _ => None,
    }
}

fn int_shown(verb: char, spec: &Spec, value: i64) -> Option<String> {
    let size = value.unsigned_abs();
    let character = || u32::try_from(value).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    let digits = match verb {
        'd' => size.to_string(),
        'x' if spec.sharp => format!("{size:#x}"),
        'x' => format!("{size:x}"),
        'X' if spec.sharp => format!("0X{size:X}"),
        'X' => format!("{size:X}"),
        'o' => format!("{size:o}"),
        'b' => format!("{size:b}"),
        'c' => return Some(character().to_string()),
        'q' => return Some(format!("{:?}", character())),
        'U' => return Some(format!("U+{size:04X}")),
        _ => return None,
    };
    let digits = match spec.precision {
        Some(precision) => format!("{digits:0>precision$}"),
        None => digits,
    };
    Some(signed(value, digits, spec))
}

fn signed(value: i64, digits: String, spec: &Spec) -> String {
    match value {
        _ if value < 0 => format!("-{digits}"),
        _ if spec.plus => format!("+{digits}"),
        _ if spec.space => format!(" {digits}"),
        _ => digits,
    }
}

fn float_shown(verb: char, spec: &Spec, value: f64) -> Option<String> {
    let text = match verb {
        'f' | 'F' => format::fixed(value, spec.precision.unwrap_or(6)),
        'e' => format::scientific(value, spec.precision.unwrap_or(6)),
        'E' => format::scientific(value, spec.precision.unwrap_or(6)).to_uppercase(),
        'g' => format::general(value, spec.precision),
        'G' => format::general(value, spec.precision).replace('e', "E"),
        _ => return None,
    };
    Some(plus(value, text, spec))
}

fn plus(value: f64, text: String, spec: &Spec) -> String {
    match text.starts_with(['-', '+']) {
        // An infinity bears its sign, but only shows it where one is asked for … and `%v` does.
        true => text,
        false if value.is_nan() => text,
        false if spec.plus => format!("+{text}"),
        false if spec.space => format!(" {text}"),
        false => text,
    }
}

fn pad(text: &str, spec: &Spec, value: &Value<'_>, out: &mut String) {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    let finite = !matches!(value, Value::Float(value) if !value.is_finite());
    let number = matches!(value, Value::Int(_) | Value::Float(_));
    let zeros =
        spec.zero && finite && !(matches!(value, Value::Int(_)) && spec.precision.is_some());
    match () {
        () if spec.minus => {
            out.push_str(text);
            out.extend(std::iter::repeat_n(' ', missing));
        }
        () if zeros => {
            let signs = usize::from(number && text.starts_with(['-', '+', ' ']));
            out.push_str(&text[..signs]);
            out.extend(std::iter::repeat_n('0', missing));
            out.push_str(&text[signs..]);
        }
        () => {
            out.extend(std::iter::repeat_n(' ', missing));
            out.push_str(text);
        }
    }
}
