//! A rule of a script and a condition over its columns: the script becomes a recorded view, the condition an expression
//! over it, and both an ordinary rule file. Whether that is right, is judged as of any other.

use std::sync::Arc;

use weir_pxl::NamedView;
use weir_rules::file::quoted;
use weir_types::{DataType, Diagnostic};

use crate::planner::{self, Allowance, PlanError, ScriptRequest};
use crate::view::OutputInfo;

/// What is asked of the script's rows, and what the alert is.
#[derive(Clone, Copy, Debug)]
pub struct Condition<'a> {
    pub name: &'a str,
    pub when: &'a str,
    /// `for`
    pub hold: Option<&'a str>,
    pub keep_firing: Option<&'a str>,
    pub labels: &'a [(String, String)],
    pub annotations: &'a [(String, String)],
}

/// Why a script is no rule's.
#[derive(Debug)]
pub enum NoTable {
    Plan(PlanError),
    /// It displays another number of tables than one.
    Shows(Vec<String>),
}

impl std::fmt::Display for NoTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoTable::Plan(error) => {
                let first = error.diagnostics().first();
                let first = first.map(|first: &Diagnostic| format!(": {}", first.message));
                write!(f, "{error}{}", first.unwrap_or_default())
            }
            NoTable::Shows(tables) if tables.is_empty() => {
                f.write_str("a rule is made of one table; the script shows none")
            }
            NoTable::Shows(tables) => {
                write!(f, "a rule is made of one table; the script shows {}", tables.join(", "))
            }
        }
    }
}

/// The one table that a script displays. `views`: what it may read besides tables.
///
/// # Errors
/// It does not compile, or it is not one.
pub fn shown_by(
    text: &str,
    views: &Arc<[NamedView]>,
    allowance: &Allowance,
) -> Result<OutputInfo, NoTable> {
    let (text, views) = (Some(text.to_string()), Arc::clone(views));
    let request = ScriptRequest { text, views, ..ScriptRequest::default() };
    let (_, compiled) = planner::compile(&request, None, allowance).map_err(NoTable::Plan)?;
    let outputs = planner::output_infos(&compiled);
    match outputs.as_slice() {
        [one] => Ok(one.clone()),
        several => Err(NoTable::Shows(several.iter().map(|it| it.table.clone()).collect())),
    }
}

/// A condition with `df.` before each column, and the first number among these.
fn condition(when: &str, shown: &OutputInfo) -> (String, Option<String>) {
    let (mut out, mut value) = (String::new(), None);
    let mut rest = when;
    while let Some(c) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if c == '\'' || c == '"' {
            let end = rest[1..].find(c).map_or(rest.len(), |end| end + 2);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        if !is_word(c) {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        match shown.relation.columns.iter().find(|column| column.name == word) {
            Some(column) => {
                out.push_str(&format!("df.{word}"));
                if matches!(column.data_type, DataType::Int64 | DataType::Float64) {
                    value.get_or_insert(word.to_string());
                }
            }
            None => out.push_str(word),
        }
        rest = after;
    }
    (out, value)
}

/// Rows of equal labels are one alert: of several, of bins of time for example, the worst counts.
fn expression(view: &str, when: &str, shown: &OutputInfo) -> String {
    let (condition, value) = condition(when, shown);
    let texts = shown.relation.columns.iter().filter(|it| it.data_type == DataType::String);
    let texts: Vec<&str> = texts.map(|column| column.name.as_str()).collect();
    let is_one_a_label_set =
        !shown.key.is_empty() && shown.key.iter().all(|key| texts.contains(&key.as_str()));
    let mut text =
        format!("import px\ndf = px.DataFrame({})\ndf = df[{condition}]\n", quoted(view));
    match (&value, is_one_a_label_set) {
        (Some(column), false) => {
            let worst = if when.contains('<') { "min" } else { "max" };
            let names: Vec<String> = texts.iter().map(|name| quoted(name)).collect();
            let by = if names.is_empty() {
                String::new()
            } else {
                format!(".groupby([{}])", names.join(", "))
            };
            text.push_str(&format!("df = df{by}.agg(value=('{column}', px.{worst}))\n"));
        }
        (Some(column), true) if column != "value" => {
            text.push_str(&format!("df.value = df.{column}\n"));
        }
        _ => {}
    }
    text + "px.display(df)\n"
}

/// The rule file: the view that the script is, and the alert over it.
#[must_use]
pub fn rule_text(condition: &Condition<'_>, view: &str, shown: &OutputInfo) -> String {
    let Condition { name, when, hold, keep_firing, labels, annotations } = condition;
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let record = format!("alert:{}", name.chars().map(fits).collect::<String>());
    let json = |text: &str| serde_json::Value::from(text).to_string();
    let block = |text: &str| {
        let lines = text.trim_end().lines().map(|line| match line.is_empty() {
            true => "\n".to_string(),
            false => format!("      {line}\n"),
        });
        lines.collect::<String>()
    };
    let expr = expression(&record, when, shown);
    let mut text = format!(
        "groups:\n- name: {}\n  rules:\n  - record: {record}\n    expr: |\n{}  - alert: {}\n    expr: |\n{}",
        json(name),
        block(view),
        json(name),
        block(&expr),
    );
    for (key, value) in [("for", hold), ("keep_firing_for", keep_firing)] {
        text.extend(value.map(|value| format!("    {key}: {}\n", json(value))));
    }
    for (key, pairs) in [("labels", labels), ("annotations", annotations)] {
        let pairs: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{}: {}", json(name), json(value))).collect();
        if !pairs.is_empty() {
            text.push_str(&format!("    {key}: {{{}}}\n", pairs.join(", ")));
        }
    }
    text
}
