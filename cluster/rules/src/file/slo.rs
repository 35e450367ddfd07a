//! `slo`: a service level objective, written out as an alert rule for each pair of windows.
//!
//! A rule fires where the budget burns faster than the pair's factor over its long window, and still does over
//! its short one. Both windows slide, so the figures are exact at every refresh. What comes out are ordinary
//! rules with PxL in `expr`; `rules check` judges it as any other.

use super::read::{Fields, Reader};
use super::{AlertParts, Place, Rule, RuleKind, Text, Wrong, quoted};
use crate::duration::{self, Millis};
use crate::template::Template;

/// Fields that only such a rule has.
pub(super) const FIELDS: [&str; 7] =
    ["objective", "table", "define", "where", "error", "by", "windows"];
const WINDOW_FIELDS: [&str; 4] = ["long", "short", "burn", "severity"];
/// Pairs of windows of an objective.
const WINDOWS_MAX: usize = 8;
const BY_MAX: usize = 16;

struct Window {
    long: Millis,
    short: Millis,
    burn: f64,
    severity: String,
}

pub(super) struct Parts<'a> {
    pub(super) name: &'a str,
    pub(super) place: Place,
    pub(super) labels: Vec<Text>,
    pub(super) wrong: &'a Wrong,
}

/// The pairs of the SRE workbook's kind: a page for what burns a month's budget in two days, a ticket for what
/// does so in five.
fn usual() -> Vec<Window> {
    let window = |long: &str, short: &str, burn, severity: &str| Window {
        long: duration::parse(long).expect("a constant"),
        short: duration::parse(short).expect("a constant"),
        burn,
        severity: severity.to_string(),
    };
    vec![window("1h", "5m", 14.4, "page"), window("6h", "15m", 6.0, "ticket")]
}

pub(super) fn expand(parts: &Parts<'_>, fields: &Fields<'_>, reader: &mut Reader) -> Vec<Rule> {
    let Parts { name, place, labels, wrong } = parts;
    let before = reader.problems.len();
    let objective = fields.get("objective").and_then(|node| reader.float(node));
    let objective = objective.filter(|objective| *objective > 0.0 && *objective < 100.0);
    if objective.is_none() {
        wrong.at(*place, "an slo needs an 'objective' in percent, between 0 and 100", reader);
    }
    let mut text =
        |name: &str| fields.get(name).and_then(|node| reader.text(node)).unwrap_or_default();
    let (table, define, condition, error) =
        (text("table"), text("define"), text("where"), text("error"));
    if !crate::labels::is_name(&table) {
        wrong.at(*place, "an slo needs the 'table' whose rows are its events", reader);
    }
    if error.trim().is_empty() {
        wrong.at(
            *place,
            "an slo needs an 'error': PxL over `df` that is true for bad events",
            reader,
        );
    }
    let by = by(fields, wrong, reader);
    let windows = fields.get("windows").map_or_else(usual, |node| windows(node, wrong, reader));
    let annotations = super::alert_parts(fields, wrong, name, reader);
    let (Some(objective), true) = (objective, reader.problems.len() == before) else {
        return Vec::new();
    };
    let events = Events { name, table, define, condition, error, by, budget: budget(objective) };
    let rule = |window: &Window| {
        let mut labels = labels.clone();
        add(&mut labels, "severity", Template::constant(&window.severity), &window.severity);
        let long = window.long.to_string();
        add(&mut labels, "window", Template::constant(&long), &long);
        let mut annotations: AlertParts = annotations.clone();
        let summary = format!(
            "{{{{ $labels.slo }}}}: the error budget of an objective of {objective}% burns {{{{ printf \"%.1f\" $value }}}} times \
             too fast over {} and over {}",
            window.long, window.short
        );
        let template = Template::parse("slo", &summary).expect("our own template");
        add(&mut annotations.annotations, "summary", template, &summary);
        Rule {
            place: *place,
            name: (*name).to_string(),
            expr: events.pxl(window),
            expr_place: *place,
            expr_block: false,
            labels,
            kind: RuleKind::Alert(annotations),
        }
    };
    windows.iter().map(rule).collect()
}

/// The share of events that may be bad, without the noise of floats: 99.9 → 0.001.
fn budget(objective: f64) -> f64 {
    ((100.0 - objective) * 1e10).round() / 1e12
}

/// The share of events that burns the budget so fast, as the number nearest to it: so is a share that is exactly that
/// fast, which is not above it.
fn threshold(budget: f64, burn: f64) -> f64 {
    (budget * burn * 1e15).round() / 1e15
}

/// What is not set yet.
fn add(texts: &mut Vec<Text>, name: &str, template: Template, text: &str) {
    if texts.iter().all(|there| there.name != name) {
        texts.push(Text { name: name.to_string(), text: text.to_string(), template });
    }
}

fn by(fields: &Fields<'_>, wrong: &Wrong, reader: &mut Reader) -> Vec<String> {
    let nodes = fields.get("by").map_or(&[][..], |node| reader.list(node));
    if nodes.len() > BY_MAX {
        wrong.at(nodes[BY_MAX].place, format!("an slo may have {BY_MAX} columns in 'by'"), reader);
    }
    let mut columns = Vec::new();
    for node in nodes {
        let Some(column) = reader.text(node) else { continue };
        match crate::labels::is_name(&column) && column != "slo" {
            true => columns.push(column),
            false => wrong.at(node.place, format!("invalid column name: {column}"), reader),
        }
    }
    columns
}

fn windows(node: &crate::yaml::Node, wrong: &Wrong, reader: &mut Reader) -> Vec<Window> {
    let nodes = reader.list(node);
    if nodes.is_empty() || nodes.len() > WINDOWS_MAX {
        wrong.at(node.place, format!("an slo has 1 to {WINDOWS_MAX} pairs of windows"), reader);
        return Vec::new();
    }
    let mut windows = Vec::new();
    for node in nodes {
        let Some(fields) = reader.fields(node, "Window", &WINDOW_FIELDS) else { continue };
        let mut span = |name: &str| fields.get(name).and_then(|node| reader.duration(node));
        let (long, short) = (span("long").unwrap_or_default(), span("short").unwrap_or_default());
        let burn = fields.get("burn").and_then(|node| reader.float(node)).unwrap_or(0.0);
        let severity = fields.get("severity").and_then(|node| reader.text(node));
        if short.is_zero() || long <= short || burn <= 0.0 {
            let why = "a pair of windows is a 'long', a shorter 'short' and a 'burn' above 0";
            wrong.at(node.place, why, reader);
            continue;
        }
        let severity = severity.unwrap_or_else(|| "page".to_string());
        windows.push(Window { long, short, burn, severity });
    }
    windows
}

struct Events<'a> {
    name: &'a str,
    table: String,
    define: String,
    condition: String,
    error: String,
    by: Vec<String>,
    budget: f64,
}

/// PxL's windows know one unit each.
fn start(span: Millis) -> String {
    match span.millis().is_multiple_of(1_000) {
        true => format!("'-{}s'", span.millis() / 1_000),
        false => format!("'-{}ms'", span.millis()),
    }
}

impl Events<'_> {
    fn pxl(&self, window: &Window) -> String {
        let Events { name, table, define, condition, error, by, budget } = self;
        let indented = |text: &str| {
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            lines.map(|line| format!("    {line}\n")).collect::<String>()
        };
        let keys: Vec<String> =
            ["slo"].into_iter().chain(by.iter().map(String::as_str)).map(quoted).collect();
        let keys = keys.join(", ");
        let filter = match condition.trim() {
            "" => String::new(),
            condition => format!("    df = df[{condition}]\n"),
        };
        let (name, table, error) = (quoted(name), quoted(table), error.trim());
        let (define, most) = (indented(define), threshold(*budget, window.burn));
        let (long, short) = (start(window.long), start(window.short));
        format!(
            "import px\n\
             def burning(start):\n    \
                 df = px.DataFrame({table}, start_time=start)\n\
             {define}{filter}    \
                 df.slo = {name}\n    \
                 df.slo_bad = px.select({error}, 1.0, 0.0)\n    \
                 df = df.groupby([{keys}]).agg(bad=('slo_bad', px.mean))\n    \
                 df.value = df.bad / {budget}\n    \
                 return df[df.bad > {most:?}]\n\
             long = burning({long})\n\
             short = burning({short})\n\
             df = long.merge(short, how='inner', left_on=[{keys}], right_on=[{keys}], suffixes=['', '_short'])\n\
             px.display(df[[{keys}, 'value']], 'alerts')\n"
        )
    }
}
