//! What a recorded view, or a script, holds at a time: promtool's `promql_expr_test`, with PxL in `expr`.
//!
//! An `expr` that is a recording rule's name is that view; any other is a script that displays one table and may read
//! recorded views. A row is a sample: its STRING columns are labels, the column `value` is its value.

use std::collections::BTreeMap;

use super::Evaluate;
use crate::duration::Millis;
use crate::file::{AlertParts, Place, Rule, RuleFile, RuleKind, reading};
use crate::labels::{Labels, is_name, is_plain_label, is_plain_metric};

/// Where Prometheus keeps a series' name.
const NAME: &str = "__name__";
/// What a text may stand in.
const QUOTES: [char; 3] = ['"', '\'', '`'];

/// Which rows there are at a time.
#[derive(Clone, Debug)]
pub struct ExprCase {
    pub at: Millis,
    pub expr: String,
    pub place: Place,
    pub wanted: Vec<Sample>,
}

#[derive(Clone, Debug)]
pub struct Sample {
    pub place: Place,
    /// What stands before the braces, if something does.
    pub name: Option<String>,
    pub labels: Labels,
    pub value: f64,
}

/// What does not hold of a case. `fuzzy`: values may be next to each other. What is wrong with the case itself has its
/// place in the file, `path`.
pub(super) fn judge(
    path: &str,
    case: &ExprCase,
    fuzzy: bool,
    rules: &[(String, RuleFile)],
    evaluate: &mut dyn Evaluate,
) -> Option<String> {
    match samples(case, rules, evaluate) {
        Ok(got) => compare(case, fuzzy, got),
        Err((place, why)) => Some(format!("    {path}:{}:{}: {why}", place.line, place.column)),
    }
}

/// The rows, once the names that the case expects are right.
fn samples(
    case: &ExprCase,
    rules: &[(String, RuleFile)],
    evaluate: &mut dyn Evaluate,
) -> Result<Vec<(Labels, f64)>, (Place, String)> {
    let name = case.expr.trim();
    let mut all = rules.iter().flat_map(|(_, file)| file.rules());
    let view = all.any(|rule| rule.is_record() && rule.name == name);
    let rule = Rule {
        place: case.place,
        name: "expr".to_string(),
        expr: if view { reading(name) } else { case.expr.clone() },
        expr_place: case.place,
        expr_block: false,
        labels: Vec::new(),
        kind: RuleKind::Alert(AlertParts::default()),
    };
    let unknown = |why: String| match view {
        true => why,
        false => format!("{name:?} is no recording rule's name and no script: {why}"),
    };
    let columns = evaluate.columns(&rule).map_err(|why| (case.place, unknown(why)))?;
    for sample in &case.wanted {
        match sample.name.as_deref() {
            Some(given) if view && given != name => {
                return Err((sample.place, format!("rows of the view {name:?} are not {given:?}")));
            }
            Some(given) if !view => {
                let why = format!("rows of a script have no name: write {{…}} without {given:?}");
                return Err((sample.place, why));
            }
            _ => {}
        }
    }
    let rows = evaluate.rows(&rule, &columns, case.at.ns()).map_err(|why| (case.place, why))?;
    let sample = |row: &crate::state::Row| {
        let mut labels: BTreeMap<String, String> = row.labels(&columns);
        labels.remove(NAME);
        (Labels::new(labels), row.value())
    };
    Ok(rows.iter().map(sample).collect())
}

/// Whatever their order: the same labels as often, with the same values.
fn compare(case: &ExprCase, fuzzy: bool, mut got: Vec<(Labels, f64)>) -> Option<String> {
    let mut wanted: Vec<(Labels, f64)> =
        case.wanted.iter().map(|sample| (sample.labels.clone(), sample.value)).collect();
    for side in [&mut got, &mut wanted] {
        side.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.total_cmp(&b.1)));
    }
    let equal = |a: f64, b: f64| {
        a == b || (a.is_nan() && b.is_nan()) || (fuzzy && (a.next_up() == b || a.next_down() == b))
    };
    let same = got.len() == wanted.len()
        && got.iter().zip(&wanted).all(|(got, wanted)| got.0 == wanted.0 && equal(got.1, wanted.1));
    (!same).then(|| {
        format!(
            "    expr: {:?}, time: {},\n        exp: {}\n        got: {}",
            case.expr,
            case.at,
            listed(&wanted),
            listed(&got)
        )
    })
}

fn listed(samples: &[(Labels, f64)]) -> String {
    let listed: Vec<String> =
        samples.iter().map(|(labels, value)| format!("{labels} {}", number(*value))).collect();
    if listed.is_empty() { "nil".to_string() } else { listed.join(", ") }
}

/// Values as promtool prints them: `6.66E-01`.
fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_string();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_string();
    }
    let text = format!("{value:E}");
    let (digits, power) = text.split_once('E').unwrap_or((&text, "0"));
    let (sign, power) = match power.strip_prefix('-') {
        Some(power) => ('-', power),
        None => ('+', power),
    };
    format!("{digits}E{sign}{power:0>2}")
}

/// `name{a="x", b='y'}` in Prometheus' notation; the name, or the braces, may be missing. Names of other characters are
/// quoted, and all stand in the braces: `{"a.b", "c-d"="x"}`.
pub(super) fn series(text: &str) -> Result<(Option<String>, Labels), String> {
    let text = text.trim();
    let (name, rest) = match text.find('{') {
        Some(at) => (text[..at].trim(), Some(&text[at + 1..])),
        None => (text, None),
    };
    if !name.is_empty() && !is_plain_metric(name) {
        return Err(format!("{name:?} is no series' name"));
    }
    let mut name = (!name.is_empty()).then(|| name.to_string());
    let mut labels = BTreeMap::new();
    let mut rest = match rest {
        Some(rest) => rest.trim_start(),
        None => return Ok((name, Labels::new(labels))),
    };
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return match after.trim().is_empty() {
                true => Ok((name, Labels::new(labels))),
                false => Err(format!("{:?} stands behind the labels", after.trim())),
            };
        }
        let (label, after) = label(rest)?;
        let (label, value, after) = match after.strip_prefix('=') {
            Some(after) => {
                let (value, after) = quoted(after.trim_start())?;
                (label, value, after)
            }
            // A text by itself is the series' name.
            None if rest.starts_with(QUOTES) => (NAME.to_string(), label, after),
            None => return Err("'}' is missing".to_string()),
        };
        if label != NAME {
            if labels.insert(label.clone(), value).is_some() {
                return Err(format!("the label {label} is there twice"));
            }
        } else if name.replace(value).is_some() {
            return Err("the series has two names".to_string());
        }
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.starts_with('}') => {}
            None => return Err("',' or '}' is missing".to_string()),
        }
    }
}

/// The name of a label, in quotes unless it is a plain one, and what stands behind it.
fn label(text: &str) -> Result<(String, &str), String> {
    if text.starts_with(QUOTES) {
        let (name, after) = quoted(text)?;
        return match is_name(&name) {
            true => Ok((name, after.trim_start())),
            false => Err("an empty text is no name".to_string()),
        };
    }
    let end = text.find(['=', ',', '}']).ok_or("'}' is missing")?;
    let name = text[..end].trim();
    match is_plain_label(name) {
        true => Ok((name.to_string(), &text[end..])),
        false => Err(format!("{name:?} is no label's name")),
    }
}

/// A text in quotes, and what stands behind it. Backslashes mean something but in backticks.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut chars = text.char_indices();
    let quote = match chars.next() {
        Some((_, quote)) if QUOTES.contains(&quote) => quote,
        _ => return Err("a label's value stands in quotes".to_string()),
    };
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return Ok((value, &text[at + 1..])),
            '\\' if quote != '`' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, c @ ('\\' | '"' | '\''))) => value.push(c),
                other => {
                    let other = other.map_or(String::new(), |(_, c)| c.to_string());
                    return Err(format!("the escape \\{other} is not known"));
                }
            },
            _ => value.push(c),
        }
    }
    Err(format!("the closing {quote} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of other characters are quoted in the braces, a series' own as well. Catches a name that is taken for a label,
    /// and half a series that is taken.
    #[test]
    fn quoted_names_are_read() {
        let read = |text: &str| series(text).map(|(name, labels)| (name, labels.to_string()));
        let name = |name: &str| Some(name.to_string());
        let all = r#"{"my.name", 'lab.el'="x", `=,}`="y", plain="z"}"#;
        let wanted = r#"{"=,}"="y", "lab.el"="x", plain="z"}"#;
        assert_eq!(read(all), Ok((name("my.name"), wanted.to_string())));
        assert_eq!(read(wanted), Ok((None, wanted.to_string())));
        assert_eq!(read(r#"{"a b"}"#), Ok((name("a b"), "{}".to_string())));
        for wrong in [
            r#"a{"b"}"#,
            r#"{"a", "b"}"#,
            r#"{""="x"}"#,
            r#"{""}"#,
            r#"a.b{c="d"}"#,
            r#"{a-b="c"}"#,
            r#"{a}"#,
            r#"{"a"="#,
            r#"{"a""#,
            r#"{"a"="b""#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
