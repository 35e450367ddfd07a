//! Rule files: what Prometheus defines, with PxL in `expr`, and what is wrong with one.
//!
//! A file may also hold `PrometheusRule` resources (or a List of them), several documents, and service level
//! objectives (`slo`), which are written out as ordinary rules. Expressions are not judged here: the compiler is
//! another crate.

mod check;
pub(crate) mod read;
mod slo;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::duration::Millis;
use crate::template::Template;
use crate::yaml::{Kind, Node};
pub use crate::yaml::{Place, Problem};
use read::{Fields, Reader};

/// Rules of a file: the largest of Prometheus' own examples has 10,002, kube-prometheus 200 in all. Not all of them may
/// run on one server.
pub const RULES_MAX: usize = 20_000;
pub const GROUPS_MAX: usize = 500;
/// Labels, or annotations, of a rule.
pub const PAIRS_MAX: usize = 100;

/// A file without mistakes.
#[derive(Clone, Debug, Default)]
pub struct RuleFile {
    pub groups: Vec<Group>,
    /// What is taken, but hardly meant.
    pub warnings: Vec<Problem>,
}

impl RuleFile {
    /// Those of all groups, in order.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.groups.iter().flat_map(|group| &group.rules)
    }
}

#[derive(Clone, Debug)]
pub struct Group {
    pub name: String,
    pub place: Place,
    /// Read and checked; Weir judges rules whenever their answer changes.
    pub interval: Option<Millis>,
    /// Read and checked; Weir corrects late rows instead of waiting for them.
    pub query_offset: Option<Millis>,
    /// Alerts that a rule may have at once; 0 is no limit.
    pub limit: usize,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub place: Place,
    /// What the alert, or the recorded view, is called.
    pub name: String,
    /// PxL that displays one table.
    pub expr: String,
    pub expr_place: Place,
    /// A `|` block: its lines are the file's, from its place on.
    pub expr_block: bool,
    /// With the group's.
    pub labels: Vec<Text>,
    pub kind: RuleKind,
}

#[derive(Clone, Debug)]
pub enum RuleKind {
    Alert(AlertParts),
    Record,
}

#[derive(Clone, Debug, Default)]
pub struct AlertParts {
    pub hold: Millis,
    pub keep_firing: Millis,
    pub annotations: Vec<Text>,
    pub incomplete: Incomplete,
}

impl Rule {
    #[must_use]
    pub fn is_record(&self) -> bool {
        matches!(self.kind, RuleKind::Record)
    }

    /// What is said of a name that only newer Alertmanagers take, of a label or an annotation.
    #[must_use]
    pub fn newer_name(&self, name: &str) -> Option<Problem> {
        let why = || {
            let rule = &self.name;
            format!("{rule}: an Alertmanager before 0.27 refuses alerts with the name {name:?}")
        };
        let is_plain = self.is_record() || crate::labels::is_plain_label(name);
        (!is_plain).then(|| Problem::new(self.place, why()))
    }
}

/// What becomes of alerts whose rows are gone from an answer that is not complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Incomplete {
    /// They stay as they are until an answer is complete: silence is no recovery.
    #[default]
    Hold,
    /// They go on as ever; an annotation says that the answer was not complete.
    Mark,
}

/// A label or an annotation.
#[derive(Clone, Debug)]
pub struct Text {
    pub name: String,
    pub text: String,
    pub template: Template,
}

/// The script that shows a recorded view as it is.
#[must_use]
pub fn reading(view: &str) -> String {
    let view = quoted(view);
    format!("import px\npx.display(px.DataFrame({view}), {view})\n")
}

/// A PxL text of these characters.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::from("'");
    for c in text.chars() {
        match c {
            '\\' | '\'' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// Reads and judges a file's text, all but its expressions; all that is wrong, in the file's order.
pub fn parse(text: &str) -> Result<RuleFile, Vec<Problem>> {
    let documents = crate::yaml::read(text).map_err(|problem| vec![problem])?;
    let mut reader = Reader::default();
    let mut file = RuleFile::default();
    for document in &documents {
        groups_of(document, &mut reader, &mut file.groups);
    }
    check::names(&file.groups, &mut reader);
    if reader.problems.is_empty() {
        file.warnings = check::warnings(&file.groups);
        return Ok(file);
    }
    reader.problems.sort();
    Err(reader.problems)
}

/// A document is a rule file, a resource, or a list of resources.
fn groups_of(document: &Node, reader: &mut Reader, groups: &mut Vec<Group>) {
    let has = |name: &str| match &document.kind {
        Kind::Mapping(pairs) => pairs.iter().any(|(key, _)| key.text() == Some(name)),
        _ => false,
    };
    if !has("kind") && !has("apiVersion") {
        let Some(fields) = reader.fields(document, "RuleGroups", &["groups"]) else { return };
        return group_list(&fields, reader, groups);
    }
    const KNOWN: [&str; 6] = ["apiVersion", "kind", "metadata", "spec", "status", "items"];
    let Some(fields) = reader.fields(document, "PrometheusRule", &KNOWN) else { return };
    let kind = fields.get("kind").and_then(|node| node.text()).unwrap_or_default();
    match kind {
        "PrometheusRule" => {}
        // kubectl writes no lists within lists.
        "List" | "PrometheusRuleList" => {
            let items = fields.get("items").map_or(&[][..], |items| reader.list(items));
            for item in items {
                groups_of(item, reader, groups);
            }
            return;
        }
        other => {
            let why = format!("a resource of kind {other:?} holds no rules; PrometheusRule does");
            return reader.problem(document.place, why);
        }
    }
    let Some(spec) = fields.get("spec") else {
        return reader.problem(document.place, "field 'spec' must be set in PrometheusRule");
    };
    let Some(spec) = reader.fields(spec, "PrometheusRuleSpec", &["groups"]) else { return };
    group_list(&spec, reader, groups);
}

fn group_list(fields: &Fields<'_>, reader: &mut Reader, groups: &mut Vec<Group>) {
    let Some(list) = fields.get("groups") else { return };
    for node in reader.list(list) {
        if groups.len() >= GROUPS_MAX {
            return reader.problem(node.place, format!("a file may have {GROUPS_MAX} groups"));
        }
        let rules_before = groups.iter().map(|group| group.rules.len()).sum();
        groups.extend(group(node, reader, rules_before));
    }
}

fn group(node: &Node, reader: &mut Reader, rules_before: usize) -> Option<Group> {
    const KNOWN: [&str; 7] = [
        "name",
        "interval",
        "query_offset",
        "limit",
        "labels",
        "rules",
        "partial_response_strategy",
    ];
    let fields = reader.fields(node, "RuleGroup", &KNOWN)?;
    let name = fields.get("name").and_then(|name| reader.text(name)).unwrap_or_default();
    let mut duration = |name: &str| fields.get(name).and_then(|node| reader.duration(node));
    let (interval, query_offset) = (duration("interval"), duration("query_offset"));
    let limit = fields.get("limit").and_then(|limit| reader.integer(limit)).unwrap_or(0);
    let shared = fields.get("labels").map_or_else(BTreeMap::new, |labels| reader.texts(labels));
    let context =
        Context { group: &name, shared: &shared, label_places: fields.get("labels").copied() };
    let mut rules = Vec::new();
    for (idx, node) in
        fields.get("rules").map_or(&[][..], |list| reader.list(list)).iter().enumerate()
    {
        if rules_before + rules.len() >= RULES_MAX {
            reader.problem(node.place, format!("a file may have {RULES_MAX} rules"));
            break;
        }
        context.rule(idx, node, reader, &mut rules);
    }
    let limit = usize::try_from(limit).unwrap_or(0);
    Some(Group { name, place: node.place, interval, query_offset, limit, rules })
}

/// What a rule needs to know of its group.
struct Context<'a> {
    group: &'a str,
    shared: &'a BTreeMap<String, String>,
    label_places: Option<&'a Node>,
}

const RULE_FIELDS: [&str; 9] = [
    "record",
    "alert",
    "expr",
    "for",
    "keep_firing_for",
    "labels",
    "annotations",
    "incomplete",
    "slo",
];

impl Context<'_> {
    fn rule(&self, idx: usize, node: &Node, reader: &mut Reader, rules: &mut Vec<Rule>) {
        let is_slo = matches!(&node.kind, Kind::Mapping(pairs)
            if pairs.iter().any(|(key, _)| key.text() == Some("slo")));
        let known: Vec<&str> = match is_slo {
            true => RULE_FIELDS.iter().chain(&slo::FIELDS).copied().collect(),
            false => RULE_FIELDS.to_vec(),
        };
        // An empty item of the list is a rule without anything.
        let fields = match node.is_null() {
            true => Some(Fields::new()),
            false => reader.fields(node, "Rule", &known),
        };
        let Some(fields) = fields else { return };
        let mut text =
            |name: &str| fields.get(name).and_then(|node| reader.text(node)).unwrap_or_default();
        let (alert, record, expr) = (text("alert"), text("record"), text("expr"));
        let name =
            [text("slo"), alert.clone(), record.clone()].into_iter().find(|name| !name.is_empty());
        let name = name.unwrap_or_default();
        let at = |name: &str| fields.get(name).map_or(node.place, |node| node.place);
        let wrong =
            Wrong { prefix: format!("group {:?}, rule {}, {name:?}: ", self.group, idx + 1) };
        check::shape(&wrong, &fields, reader, is_slo, node.place);
        let labels = self.labels(&fields, &wrong, &name, reader);
        if is_slo {
            let parts = slo::Parts { name: &name, place: node.place, labels, wrong: &wrong };
            return rules.extend(slo::expand(&parts, &fields, reader));
        }
        let kind = match record.is_empty() {
            false => RuleKind::Record,
            true => RuleKind::Alert(alert_parts(&fields, &wrong, &name, reader)),
        };
        let expr_block = matches!(
            fields.get("expr").map(|node| &node.kind),
            Some(Kind::Scalar { literal: true, .. })
        );
        rules.push(Rule {
            place: node.place,
            name,
            expr,
            expr_place: at("expr"),
            expr_block,
            labels,
            kind,
        });
    }

    /// The group's labels, and the rule's over them.
    fn labels(
        &self,
        fields: &Fields<'_>,
        wrong: &Wrong,
        name: &str,
        reader: &mut Reader,
    ) -> Vec<Text> {
        let own = fields.get("labels").copied();
        let mut all = self.shared.clone();
        all.extend(own.map_or_else(BTreeMap::new, |labels| reader.texts(labels)));
        let places = [own, self.label_places];
        texts(all, "label", &places, wrong, name, reader)
    }
}

fn alert_parts(fields: &Fields<'_>, wrong: &Wrong, name: &str, reader: &mut Reader) -> AlertParts {
    let mut duration =
        |name: &str| fields.get(name).and_then(|node| reader.duration(node)).unwrap_or_default();
    let (hold, keep_firing) = (duration("for"), duration("keep_firing_for"));
    let node = fields.get("annotations").copied();
    let annotations = node.map_or_else(BTreeMap::new, |node| reader.texts(node));
    let annotations = texts(annotations, "annotation", &[node], wrong, name, reader);
    let incomplete = match fields.get("incomplete").map(|node| (node.place, reader.text(node))) {
        None => Incomplete::default(),
        Some((place, text)) => match text.as_deref() {
            Some("hold") => Incomplete::Hold,
            Some("mark") => Incomplete::Mark,
            other => {
                let other = other.unwrap_or_default();
                wrong.at(place, format!("'incomplete' is hold or mark, not {other:?}"), reader);
                Incomplete::default()
            }
        },
    };
    AlertParts { hold, keep_firing, annotations, incomplete }
}

/// Labels or annotations with their templates; wrong names and templates are told where they stand.
fn texts(
    pairs: BTreeMap<String, String>,
    what: &str,
    nodes: &[Option<&Node>],
    wrong: &Wrong,
    rule: &str,
    reader: &mut Reader,
) -> Vec<Text> {
    let mut found = Vec::new();
    if pairs.len() > PAIRS_MAX {
        let place = nodes.iter().flatten().next().map_or(Place::default(), |node| node.place);
        wrong.at(place, format!("a rule may have {PAIRS_MAX} {what}s"), reader);
        return found;
    }
    for (name, text) in pairs {
        let (key, value) = read::pair(nodes, &name);
        if !crate::labels::is_name(&name) || (what == "label" && name == "__name__") {
            wrong.at(key, format!("invalid {what} name: {name}"), reader);
            continue;
        }
        match Template::parse(&format!("__alert_{rule}"), &text) {
            Ok(template) => found.push(Text { name, text, template }),
            Err(error) => {
                let place = value.map_or(key, |value| value.line_of(error.line));
                let why =
                    format!("{what} {name:?}: template: __alert_{rule}:{}: {error}", error.line);
                wrong.at(place, why, reader);
            }
        }
    }
    found
}

/// Says which rule a problem is of.
struct Wrong {
    prefix: String,
}

impl Wrong {
    fn at(&self, place: Place, message: impl std::fmt::Display, reader: &mut Reader) {
        reader.problem(place, format!("{}{message}", self.prefix));
    }
}
