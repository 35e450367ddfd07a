//! What a rule has to have and may not have, names of groups, and what is hardly meant.

use std::collections::{BTreeMap, HashMap};

use super::read::{Fields, Reader};
use super::{Group, Place, Problem, RuleKind, Wrong};

/// Which fields go together.
pub(super) fn shape(
    wrong: &Wrong,
    fields: &Fields<'_>,
    reader: &mut Reader,
    is_slo: bool,
    rule: Place,
) {
    let filled = |name: &str| {
        fields.get(name).filter(|node| node.text().is_none_or(|text| !text.is_empty())).copied()
    };
    if is_slo {
        for name in ["alert", "record", "expr", "for", "keep_firing_for"] {
            if let Some(node) = fields.get(name) {
                wrong.at(node.place, format!("invalid field '{name}' in an slo"), reader);
            }
        }
        if filled("slo").is_none() {
            wrong.at(rule, "field 'slo' must be a name", reader);
        }
        return;
    }
    let (alert, record) = (filled("alert"), filled("record"));
    match (alert, record) {
        (Some(_), Some(record)) => {
            wrong.at(record.place, "only one of 'record' and 'alert' must be set", reader);
        }
        (None, None) => wrong.at(rule, "one of 'record' or 'alert' must be set", reader),
        _ => {}
    }
    let empty = |node: &&crate::yaml::Node| node.text().is_none_or(|text| text.trim().is_empty());
    match fields.get("expr") {
        None => {
            let place = alert.or(record).map_or(rule, |node| node.place);
            wrong.at(place, "field 'expr' must be set in rule", reader);
        }
        Some(node) if node.text().is_some() && empty(node) => {
            wrong.at(node.place, "field 'expr' must be set in rule", reader);
        }
        Some(_) => {}
    }
    let Some(record) = record else { return };
    for name in ["annotations", "for", "keep_firing_for", "incomplete"] {
        if let Some(node) = fields.get(name) {
            wrong.at(node.place, format!("invalid field '{name}' in recording rule"), reader);
        }
    }
    let name = record.text().unwrap_or_default();
    // Any text may be a name; this one is mostly an expression that stands in the wrong place.
    if name.contains(['{', '}']) {
        let why = "braces present in the recording rule name; should it be in expr?";
        wrong.at(record.place, format!("{why}: {name}"), reader);
    }
}

/// Groups have names, each once in a file.
pub(super) fn names(groups: &[Group], reader: &mut Reader) {
    let mut seen = HashMap::new();
    for group in groups {
        if group.name.is_empty() {
            reader.problem(group.place, "Groupname must not be empty");
        } else if seen.insert(&group.name, ()).is_some() {
            let why = format!("groupname: {:?} is repeated in the same file", group.name);
            reader.problem(group.place, why);
        }
    }
}

/// What promtool's linter finds, labels that no `for` survives, and texts that will fail.
pub(super) fn warnings(groups: &[Group]) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut seen = BTreeMap::new();
    for rule in groups.iter().flat_map(|group| &group.rules) {
        let labels = rule.labels.iter().map(|label| (label.name.as_str(), label.text.as_str()));
        if let Some(first) =
            seen.insert((rule.name.as_str(), labels.collect::<Vec<_>>()), rule.place)
        {
            let meaning = match rule.kind {
                RuleKind::Alert(_) => {
                    "where both have an alert with equal labels, it fires while either does"
                }
                RuleKind::Record => {
                    "rows with equal labels are there twice, unless the expressions are equal"
                }
            };
            let why = format!(
                "duplicate rule: {} with the same labels stands at line {}; {meaning}",
                rule.name, first.line
            );
            found.push(Problem::new(rule.place, why));
        }
        for label in rule.labels.iter().filter(|label| label.template.speaks_of_value()) {
            let why = format!(
                "{}: the label {:?} speaks of the value: whenever that changes it is another alert, and `for` \
                 begins anew",
                rule.name, label.name
            );
            found.push(Problem::new(rule.place, why));
        }
        let annotations = match &rule.kind {
            RuleKind::Alert(parts) => parts.annotations.as_slice(),
            RuleKind::Record => &[],
        };
        for text in rule.labels.iter().chain(annotations) {
            found.extend(rule.newer_name(&text.name));
            if let Some(function) = text.template.asks_promql() {
                let why = format!(
                    "{}: {:?} calls {function:?}, and there is no PromQL to ask: the text will be this error",
                    rule.name, text.name
                );
                found.push(Problem::new(rule.place, why));
            }
        }
    }
    found
}
