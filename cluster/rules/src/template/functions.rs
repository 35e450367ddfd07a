//! The functions of templates: Go's own and Prometheus'. Those that ask a PromQL engine have none to ask: they fail
//! when they are called.

use std::cmp::Ordering;

use regex::RegexBuilder;

use super::OUTPUT_BYTES_MAX;
use super::format;
use super::printf;
use super::value::{Value, equal, order};

/// What a compiled pattern may weigh.
const PATTERN_BYTES_MAX: usize = 1 << 20;

type Call = for<'a> fn(&[Value<'a>]) -> Result<Value<'a>, String>;

#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    args_min: usize,
    args_max: usize,
    call: Call,
}

const MANY: usize = usize::MAX;

const fn function(name: &'static str, args_min: usize, args_max: usize, call: Call) -> Function {
    Function { name, args_min, args_max, call }
}

const FUNCTIONS: [Function; 37] = [
    // `and` and `or` look no further than they have to: see `eval`.
    function("and", 1, MANY, |args| Ok(args[args.len() - 1].clone())),
    function("or", 1, MANY, |args| Ok(args[args.len() - 1].clone())),
    function("not", 1, 1, |args| Ok(Value::Bool(!args[0].is_true()))),
    function("eq", 2, MANY, |args| {
        let mut found = false;
        for other in &args[1..] {
            found |= equal(&args[0], other)?;
        }
        Ok(Value::Bool(found))
    }),
    function("ne", 2, 2, |args| Ok(Value::Bool(!equal(&args[0], &args[1])?))),
    function("lt", 2, 2, |args| ordered(args, Ordering::is_lt)),
    function("le", 2, 2, |args| ordered(args, Ordering::is_le)),
    function("gt", 2, 2, |args| ordered(args, Ordering::is_gt)),
    function("ge", 2, 2, |args| ordered(args, Ordering::is_ge)),
    function("len", 1, 1, len),
    function("index", 1, MANY, index),
    function("slice", 1, 3, slice),
    function("print", 0, MANY, print),
    function("println", 0, MANY, |args| {
        let texts: Vec<_> = args.iter().map(Value::display).collect();
        Ok(Value::text(format!("{}\n", texts.join(" "))))
    }),
    function("printf", 1, MANY, |args| {
        let text = printf::printf(text(&args[0])?, &args[1..])?;
        Ok(Value::text(text))
    }),
    function("html", 0, MANY, |args| escaped(args, html)),
    function("urlquery", 0, MANY, |args| escaped(args, url_query)),
    function("args", 0, MANY, |args| {
        // Of args that hold args a few steps would make more than there is memory.
        if args.iter().any(|arg| matches!(arg, Value::Args(_))) {
            return Err("args of args are not supported".to_string());
        }
        Ok(Value::Args(std::rc::Rc::new(args.to_vec())))
    }),
    function("title", 1, 1, |args| Ok(Value::text(title(text(&args[0])?)))),
    function("toUpper", 1, 1, |args| Ok(Value::text(text(&args[0])?.to_uppercase()))),
    function("toLower", 1, 1, |args| Ok(Value::text(text(&args[0])?.to_lowercase()))),
    function("match", 2, 2, |args| {
        Ok(Value::Bool(pattern(text(&args[0])?)?.is_match(text(&args[1])?)))
    }),
    function("reReplaceAll", 3, 3, replace_all),
    function("stripPort", 1, 1, |args| Ok(Value::text(strip_port(text(&args[0])?)))),
    function("stripDomain", 1, 1, |args| Ok(Value::text(strip_domain(text(&args[0])?)))),
    function("humanize", 1, 1, |args| number_text(args, format::humanize)),
    function("humanize1024", 1, 1, |args| number_text(args, format::humanize_1024)),
    function("humanizeDuration", 1, 1, |args| number_text(args, format::humanize_duration)),
    function("humanizePercentage", 1, 1, |args| number_text(args, format::humanize_percentage)),
    function("humanizeTimestamp", 1, 1, |args| number_text(args, format::time_text)),
    function("toTime", 1, 1, |args| Ok(Value::Time(args[0].number()?))),
    function("toDuration", 1, 1, |args| number_text(args, format::humanize_duration)),
    function("parseDuration", 1, 1, |args| {
        let millis = crate::duration::parse(text(&args[0])?)?.millis();
        Ok(Value::Float(millis as f64 / 1_000.0))
    }),
    // They belong to the whole of a server: see `eval`.
    function("externalURL", 0, 0, |_| Ok(Value::Nil)),
    function("pathPrefix", 0, 0, |_| Ok(Value::Nil)),
    function("safeHtml", 1, 1, |args| Ok(Value::text(text(&args[0])?.to_string()))),
    function("js", 0, MANY, |args| escaped(args, js)),
];

/// Functions that ask PromQL, or take what was asked; how many arguments they have.
const ASK_PROMQL: [(&str, usize); 8] = [
    ("query", 1),
    ("first", 1),
    ("label", 2),
    ("value", 1),
    ("strvalue", 1),
    ("sortByLabel", 2),
    ("graphLink", 1),
    ("tableLink", 1),
];

pub(super) fn find(name: &str) -> Result<Function, String> {
    let own = FUNCTIONS.iter().find(|function| function.name == name).copied();
    let asks = || {
        let (name, args) = ASK_PROMQL.iter().find(|(asks, _)| *asks == name)?;
        Some(function(name, *args, *args, |_| Err("there is no PromQL to ask".to_string())))
    };
    own.or_else(asks).ok_or_else(|| format!("function {name:?} not defined"))
}

impl Function {
    pub(super) fn asks_promql(&self) -> bool {
        ASK_PROMQL.iter().any(|(name, _)| *name == self.name)
    }

    pub(super) fn call<'a>(&self, args: &[Value<'a>]) -> Result<Value<'a>, String> {
        let Function { name, args_min, args_max, call } = self;
        if args.len() < *args_min || args.len() > *args_max {
            let wanted = match args_min == args_max {
                true => format!("want {args_min}"),
                false => format!("want at least {args_min}"),
            };
            return Err(format!("wrong number of args for {name}: {wanted} got {}", args.len()));
        }
        let value = call(args).map_err(|why| format!("error calling {name}: {why}"))?;
        match &value {
            Value::Text(text) if text.len() > OUTPUT_BYTES_MAX => Err(format!(
                "error calling {name}: the text is longer than {OUTPUT_BYTES_MAX} bytes"
            )),
            _ => Ok(value),
        }
    }
}

fn text<'v>(value: &'v Value<'_>) -> Result<&'v str, String> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
    }
}

fn number_text<'a>(args: &[Value<'a>], show: fn(f64) -> String) -> Result<Value<'a>, String> {
    Ok(Value::text(show(args[0].number()?)))
}

fn ordered<'a>(args: &[Value<'a>], wanted: fn(Ordering) -> bool) -> Result<Value<'a>, String> {
    Ok(Value::Bool(order(&args[0], &args[1])?.is_some_and(wanted)))
}

fn len<'a>(args: &[Value<'a>]) -> Result<Value<'a>, String> {
    let len = match &args[0] {
        Value::Text(text) => text.len(),
        Value::Labels(labels) => labels.len(),
        Value::Args(args) => args.len(),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(i64::try_from(len).unwrap_or(i64::MAX)))
}

fn index<'a>(args: &[Value<'a>]) -> Result<Value<'a>, String> {
    let mut value = args[0].clone();
    for key in &args[1..] {
        value = match (&value, key) {
            (Value::Labels(_) | Value::Args(_), Value::Text(key)) => {
                value.entry(key).unwrap_or(Value::Nil)
            }
            (Value::Labels(_) | Value::Args(_), other) => {
                return Err(format!("value has type {}; should be string", other.type_name()));
            }
            (Value::Text(text), Value::Int(at)) => {
                let byte = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at));
                Value::Int(i64::from(*byte.ok_or_else(|| format!("index out of range: {at}"))?))
            }
            (other, _) => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

fn slice<'a>(args: &[Value<'a>]) -> Result<Value<'a>, String> {
    let whole = text(&args[0])?;
    let mut bounds = [0, whole.len()];
    for (bound, arg) in bounds.iter_mut().zip(&args[1..]) {
        let Value::Int(at) = arg else {
            return Err(format!("cannot index slice/array with type {}", arg.type_name()));
        };
        let fits = usize::try_from(*at).ok().filter(|at| *at <= whole.len());
        *bound = fits.ok_or_else(|| format!("index out of range: {at}"))?;
    }
    let [start, end] = bounds;
    if start > end {
        return Err(format!("invalid slice index: {start} > {end}"));
    }
    // By bytes, as Go does: half a character becomes U+FFFD.
    Ok(Value::text(String::from_utf8_lossy(&whole.as_bytes()[start..end]).into_owned()))
}

/// A blank between two operands of which neither is a text.
fn print<'a>(args: &[Value<'a>]) -> Result<Value<'a>, String> {
    let mut out = String::new();
    let mut after_text = true;
    for arg in args {
        let is_text = matches!(arg, Value::Text(_));
        if !is_text && !after_text {
            out.push(' ');
        }
        out.push_str(&arg.display());
        if out.len() > OUTPUT_BYTES_MAX {
            return Err(format!("the text is longer than {OUTPUT_BYTES_MAX} bytes"));
        }
        after_text = is_text;
    }
    Ok(Value::text(out))
}

fn escaped<'a>(args: &[Value<'a>], escape: fn(char, &mut String)) -> Result<Value<'a>, String> {
    let whole = print(args)?.display().into_owned();
    let mut out = String::with_capacity(whole.len());
    whole.chars().for_each(|c| escape(c, &mut out));
    Ok(Value::text(out))
}

fn html(c: char, out: &mut String) {
    match c {
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '&' => out.push_str("&amp;"),
        '\'' => out.push_str("&#39;"),
        '"' => out.push_str("&#34;"),
        '\0' => out.push('\u{fffd}'),
        c => out.push(c),
    }
}

fn js(c: char, out: &mut String) {
    match c {
        '\\' | '\'' | '"' => out.extend(['\\', c]),
        '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
        c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
        c => out.push(c),
    }
}

fn url_query(c: char, out: &mut String) {
    match c {
        ' ' => out.push('+'),
        c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~') => out.push(c),
        c => {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
}

/// The first letter of each word in upper case, the rest as it is.
fn title(text: &str) -> String {
    let mut before = ' ';
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let in_word = before.is_alphanumeric() || before == '_';
        match in_word {
            true => out.push(c),
            false => out.extend(c.to_uppercase()),
        }
        before = c;
    }
    out
}

fn pattern(text: &str) -> Result<regex::Regex, String> {
    RegexBuilder::new(text)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|_| format!("error parsing regexp: {text:?}"))
}

fn replace_all<'a>(args: &[Value<'a>]) -> Result<Value<'a>, String> {
    let (pattern, by, whole) = (pattern(text(&args[0])?)?, text(&args[1])?, text(&args[2])?);
    let mut out = String::new();
    let mut end = 0;
    for found in pattern.captures_iter(whole) {
        let all = found.get(0).expect("a match has a whole");
        out.push_str(&whole[end..all.start()]);
        // Each reference makes a part of the match at most.
        if by.matches('$').count().saturating_mul(all.len()) > OUTPUT_BYTES_MAX {
            return Err(format!("the text is longer than {OUTPUT_BYTES_MAX} bytes"));
        }
        found.expand(by, &mut out);
        end = all.end();
        if out.len() > OUTPUT_BYTES_MAX {
            return Err(format!("the text is longer than {OUTPUT_BYTES_MAX} bytes"));
        }
    }
    out.push_str(&whole[end..]);
    Ok(Value::text(out))
}

/// `host:port` without the port; what is no such thing stays.
fn strip_port(text: &str) -> String {
    match text.rsplit_once(':') {
        Some((host, _)) if host.starts_with('[') && host.ends_with(']') => {
            host[1..host.len() - 1].to_string()
        }
        Some((host, _)) if !host.contains(':') => host.to_string(),
        _ => text.to_string(),
    }
}

/// `a.b.c:port` → `a:port`; addresses stay.
fn strip_domain(text: &str) -> String {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        _ => (text, None),
    };
    if host.parse::<std::net::IpAddr>().is_ok() || host.contains(':') {
        return text.to_string();
    }
    let first = host.split('.').next().unwrap_or(host);
    port.map_or_else(|| first.to_string(), |port| format!("{first}:{port}"))
}
