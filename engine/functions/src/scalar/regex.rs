//! Regular expressions in RE2's syntax, run by the `regex` crate. Both are automata without
//! look-around; [`translate`] writes out where the same pattern would mean different things. A text that
//! takes a pattern too long is given up (see [`Pattern`]), and counted.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::ArrayRef;
use weir_types::Value;

use super::{ScalarDef, def, overloads};
use crate::cuts::{self, Cut};
use crate::json::{self, JsonKind};
use crate::operand::{Call, Constants};
use crate::output;
use crate::pattern::{GaveUp, Groups, Matches, Pattern, WORK_MAX};
use crate::work;

pub(super) const DEFS: &[ScalarDef] = &[
    def(
        "regex_match",
        overloads![S S => B, regex_match],
        &["pattern", "text"],
        "True if the whole text matches the RE2 pattern, which comes first; a bad pattern matches \
         nothing",
        "df = df[px.regex_match('127[.]0[.]0[.][0-9]+', df.remote_addr)]",
    )
    .prepared(&[0], prepare_match),
    def(
        "replace",
        overloads![S S S => S, replace],
        &["pattern", "text", "substitute"],
        "The text with every match of the RE2 pattern replaced; \\1 … \\9 stand for groups, \\0 for \
         the match",
        "df.path = px.replace('/[0-9]+', df.req_path, '/*')",
    )
    .prepared(&[0], prepare_replace),
    def(
        "_match_regex_rule",
        overloads![S S => S, match_regex_rule],
        &["rules", "text"],
        "The name of the first rule, of a JSON object from name to RE2 pattern, that matches the \
         whole text; empty if none does",
        "df.rule = px._match_regex_rule('{\"digits\": \"[0-9]+\"}', df.req_path)",
    )
    .prepared(&[0], prepare_rules),
];

/// What a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 2 << 20;
/// Rules of one call: each is compiled by itself, and tried one after the other.
const RULES_MAX: usize = 256;
/// What a rule may take at least, however many there are; together they take no more than 16 MiB.
const RULE_BYTES_MIN: usize = 64 << 10;
/// RE2 refuses to repeat more often.
const REPETITIONS_MAX: u64 = 1000;

/// The pattern in this engine's syntax: Perl classes and word boundaries are ASCII's, brackets
/// within classes and braces that are no repetition are literal, `\Q…\E` and octal escapes exist.
/// `None` if it repeats too often.
fn translate(pattern: &str) -> Option<String> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    let mut in_class = false;
    // The first `]` of a class, also after `^`, is literal.
    let mut class_begins = false;
    while let Some(ch) = rest.chars().next() {
        let begins = std::mem::replace(&mut class_begins, false);
        if ch == '\\' {
            rest = translate_escape(rest, in_class, &mut out);
            continue;
        }
        let tail = &rest[ch.len_utf8()..];
        match ch {
            '[' if !in_class => {
                in_class = true;
                class_begins = true;
                out.push('[');
            }
            '^' if begins => {
                class_begins = true;
                out.push('^');
            }
            ']' if begins => out.push_str("\\]"),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '[' if tail.starts_with(':') => {
                let end = tail.find(":]").map_or(0, |at| at + 2);
                out.push('[');
                out.push_str(&tail[..end]);
                rest = &tail[end..];
                continue;
            }
            '[' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(ch);
            }
            // A range to or from a dash, here the difference of two classes.
            '-' if begins && tail.starts_with('-') => out.push_str("\\-"),
            '-' if in_class && tail.starts_with('-') => {
                out.push_str("-\\-");
                rest = &tail[1..];
                continue;
            }
            '{' if !in_class => match repetition(tail) {
                None => out.push_str("\\{"),
                Some(times) if times > REPETITIONS_MAX => return None,
                Some(_) => out.push('{'),
            },
            _ => out.push(ch),
        }
        rest = tail;
    }
    Some(out)
}

/// The greatest count of `2}`, `2,}` or `2,5}` after the brace.
fn repetition(tail: &str) -> Option<u64> {
    let (body, _) = tail.split_once('}')?;
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match body.split_once(',') {
        None => number(body),
        Some((least, "")) => number(least),
        Some((least, most)) => Some(number(least)?.max(number(most)?)),
    }
}

/// Writes the escape that `rest` begins with; returns what follows it.
fn translate_escape<'a>(rest: &'a str, in_class: bool, out: &mut String) -> &'a str {
    let tail = &rest[1..];
    let Some(ch) = tail.chars().next() else {
        out.push('\\');
        return tail;
    };
    let after = &tail[ch.len_utf8()..];
    let class = match ch {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        's' => "\\t\\n\\x0C\\r ",
        'D' => "^0-9",
        'W' => "^0-9A-Za-z_",
        'S' => "^\\t\\n\\x0C\\r ",
        'b' | 'B' if !in_class => {
            out.push_str(if ch == 'b' { "(?-u:\\b)" } else { "(?-u:\\B)" });
            return after;
        }
        'Q' => {
            let (literal, after) = after.split_once("\\E").unwrap_or((after, ""));
            out.push_str(&regex::escape(literal));
            return after;
        }
        '0'..='7' => return translate_octal(tail, out),
        _ => {
            out.push('\\');
            out.push(ch);
            return after;
        }
    };
    if in_class && !class.starts_with('^') {
        out.push_str(class);
    } else {
        out.push('[');
        out.push_str(class);
        out.push(']');
    }
    after
}

/// `\0…`, or three octal digits; a single digit would be a back-reference, which neither has.
fn translate_octal<'a>(tail: &'a str, out: &mut String) -> &'a str {
    let digits = tail.bytes().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    if !tail.starts_with('0') && digits < 3 {
        out.push('\\');
        out.push_str(&tail[..1]);
        return &tail[1..];
    }
    let code = u32::from_str_radix(&tail[..digits], 8).unwrap_or(0);
    out.push_str(&format!("\\x{{{code:X}}}"));
    &tail[digits..]
}

fn literal_text(args: &[Option<&Value>]) -> Option<String> {
    match args.first()? {
        Some(Value::String(text)) => String::from_utf8(text.clone()).ok(),
        _ => None,
    }
}

/// A pattern that matches whole texts only.
fn compile_full(pattern: &str, bytes_max: usize) -> Option<Pattern> {
    let translated = translate(pattern)?;
    // `a)(b` would be a pattern within the brackets.
    if !Pattern::is_pattern(&translated) {
        return None;
    }
    Pattern::new(&format!("\\A(?:{translated})\\z"), true, bytes_max).ok()
}

/// A text that takes too long does not match, and is counted.
fn is_match(pattern: &Pattern, text: &[u8], sharers: u64) -> bool {
    pattern.is_match(text, sharers).unwrap_or_else(|GaveUp| {
        cuts::note(Cut::RegexWork, 1);
        false
    })
}

fn prepare_match(args: &[Option<&Value>]) -> Constants {
    let text = literal_text(args);
    let pattern: Option<Pattern> =
        text.as_deref().and_then(|text| compile_full(text, PATTERN_BYTES_MAX));
    Arc::new(pattern)
}

fn regex_match(call: &Call<'_>) -> ArrayRef {
    let text = call.str(1);
    match call.prepared::<Option<Pattern>>() {
        Some(pattern) => output::bools(call.rows, |row| is_match(pattern, text.get(row), 1)),
        None => output::bools(call.rows, |_| false),
    }
}

fn prepare_replace(args: &[Option<&Value>]) -> Constants {
    let compiled = |pattern: String| -> Result<Pattern, String> {
        let translated = translate(&pattern)
            .ok_or_else(|| format!("more than {REPETITIONS_MAX} repetitions"))?;
        Pattern::new(&translated, false, PATTERN_BYTES_MAX).map_err(|error| reason(&error))
    };
    let pattern =
        literal_text(args).map_or_else(|| Err("pattern is not UTF-8".to_string()), compiled);
    Arc::new(pattern)
}

/// The last line of the engine's message; those before draw the pattern.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_string()
}

fn replace(call: &Call<'_>) -> ArrayRef {
    let (text, substitute) = (call.str(1), call.str(2));
    let pattern = match call.prepared::<Result<Pattern, String>>() {
        Ok(pattern) => pattern,
        Err(reason) => {
            let message = format!("Invalid regex: {reason}");
            return output::strings(call.rows, |_, out| out.extend_from_slice(message.as_bytes()));
        }
    };
    // The same in all rows, as a rule.
    let mut known: Option<(&[u8], Rewrite<'_>)> = None;
    output::strings(call.rows, |row, out| {
        let (text, substitute) = (text.get(row), substitute.get(row));
        if known.as_ref().is_none_or(|(of, _)| *of != substitute) {
            known = Some((substitute, rewrite_parts(substitute, pattern.groups())));
        }
        let parts = match &known {
            Some((_, Ok(parts))) => &parts[..],
            Some((_, Err(problem))) => {
                out.extend_from_slice(b"Invalid regex in substitution string: ");
                return out.extend_from_slice(problem.as_bytes());
            }
            None => &[],
        };
        push_replaced(out, pattern, text, parts);
    })
}

/// The text with each match replaced; ends where enough is written, since the rest is cut off. What takes too
/// long to be looked at stays as it is.
fn push_replaced(out: &mut Vec<u8>, pattern: &Pattern, text: &[u8], parts: &[Part<'_>]) {
    let start = out.len();
    let (copied, parts_left, is_through) = (0, WORK_MAX, true);
    let mut replaced = Replaced { out, start, text, parts, copied, parts_left, is_through };
    let looked_at = pattern.each_match(text, &mut replaced);
    let Replaced { out, copied, parts_left, is_through, .. } = replaced;
    // It is done, whether there is room for what it cost or not.
    let _ = work::spend_steps(WORK_MAX - parts_left);
    if looked_at == Err(GaveUp) || !is_through {
        cuts::note(Cut::RegexWork, 1);
    }
    out.extend_from_slice(&text[copied..]);
}

/// A text while its matches are replaced.
struct Replaced<'a> {
    out: &'a mut Vec<u8>,
    /// Where it begins.
    start: usize,
    text: &'a [u8],
    parts: &'a [Part<'a>],
    /// So much of the text is written.
    copied: usize,
    /// Parts that may still be written: groups may be empty, so that they take time and no room.
    parts_left: u64,
    is_through: bool,
}

impl Matches for Replaced<'_> {
    fn begin(&mut self) {
        self.out.truncate(self.start);
        (self.copied, self.parts_left, self.is_through) = (0, WORK_MAX, true);
    }

    fn found(&mut self, group: Groups<'_>) -> ControlFlow<()> {
        let whole = group(0).unwrap_or(self.copied..self.copied);
        self.out.extend_from_slice(&self.text[self.copied..whole.start]);
        self.copied = whole.end;
        let Some(left) = self.parts_left.checked_sub(self.parts.len() as u64) else {
            self.is_through = false;
            return ControlFlow::Break(());
        };
        self.parts_left = left;
        for part in self.parts {
            if self.out.len() > self.start + output::VALUE_BYTES_MAX {
                return ControlFlow::Break(());
            }
            match part {
                Part::Text(literal) => self.out.extend_from_slice(literal),
                Part::Group(idx) => {
                    let group = group(*idx).map_or(&[][..], |group| &self.text[group]);
                    self.out.extend_from_slice(group);
                }
            }
        }
        ControlFlow::Continue(())
    }
}

enum Part<'a> {
    Text(&'a [u8]),
    Group(usize),
}

/// The parts of a substitute, or what is wrong with it.
type Rewrite<'a> = Result<Vec<Part<'a>>, &'static str>;

/// The substitute cut at its `\` escapes. `groups` counts the whole match as one.
fn rewrite_parts(substitute: &[u8], groups: usize) -> Rewrite<'_> {
    let mut parts = Vec::new();
    let mut rest = substitute;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        parts.push(Part::Text(&rest[..at]));
        match rest.get(at + 1) {
            Some(b'\\') => parts.push(Part::Text(b"\\")),
            Some(digit @ b'0'..=b'9') => {
                let group = usize::from(digit - b'0');
                if group >= groups {
                    return Err("it refers to a group that the pattern does not have");
                }
                parts.push(Part::Group(group));
            }
            Some(_) => return Err("a backslash must be followed by a digit or a backslash"),
            None => return Err("it ends in a backslash"),
        }
        rest = &rest[at + 2..];
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

/// What a call's rules are.
struct Rules {
    /// Names and patterns.
    rules: Vec<(Vec<u8>, Option<Pattern>)>,
    /// There are more than are tried.
    are_cut: bool,
}

/// Names and patterns; empty if the text is no JSON object of texts. Bad patterns match nothing, nor
/// do those behind the first [`RULES_MAX`].
fn prepare_rules(args: &[Option<&Value>]) -> Constants {
    let mut rules: Vec<(Vec<u8>, Option<Pattern>)> = Vec::new();
    let text = literal_text(args).unwrap_or_default();
    let mut count = 0;
    let _ = json::for_members(text.as_bytes(), |_, _| count += 1);
    let bytes_max = (PATTERN_BYTES_MAX / count.max(1)).max(RULE_BYTES_MIN);
    let read = json::for_members(text.as_bytes(), |name, token| {
        if let JsonKind::Text { .. } = token.kind
            && rules.len() < RULES_MAX
        {
            let (mut rule, mut pattern) = (Vec::new(), Vec::new());
            json::push_text(&mut rule, name);
            json::push_text(&mut pattern, token);
            let compiled = std::str::from_utf8(&pattern).ok();
            rules.push((rule, compiled.and_then(|text| compile_full(text, bytes_max))));
        }
    });
    if read.is_none() {
        rules.clear();
    }
    Arc::new(Rules { are_cut: !rules.is_empty() && count > RULES_MAX, rules })
}

fn match_regex_rule(call: &Call<'_>) -> ArrayRef {
    let text = call.str(1);
    let Rules { rules, are_cut } = call.prepared::<Rules>();
    if *are_cut {
        cuts::note(Cut::RegexRules, call.rows);
    }
    output::strings(call.rows, |row, out| {
        let text = text.get(row);
        let sharers = rules.len() as u64;
        let matches = |pattern: &Option<Pattern>| {
            pattern.as_ref().is_some_and(|pattern| is_match(pattern, text, sharers))
        };
        if let Some((name, _)) = rules.iter().find(|(_, pattern)| matches(pattern)) {
            out.extend_from_slice(name);
        }
    })
}
