//! Rule files as data: what is taken, and what is refused with which words and where.

use super::{Incomplete, RULES_MAX, RuleFile, RuleKind, parse};

/// `line:column: message` of all problems.
fn problems(text: &str) -> Vec<String> {
    let problems = parse(text).err().unwrap_or_default();
    let shown = |problem: &super::Problem| {
        format!("{}:{}: {}", problem.place.line, problem.place.column, problem.message)
    };
    problems.iter().map(shown).collect()
}

fn taken(text: &str) -> RuleFile {
    parse(text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn rules(text: &str) -> String {
    let rules: String = text.lines().map(|line| format!("  {line}\n")).collect();
    format!("groups:\n- name: a\n  rules:\n{rules}")
}

/// Everything that the format has is read, numbers as the texts that they are written as. Catches `1.10`
/// that becomes `1.1`, and group labels that win over the rule's.
#[test]
fn whole_files_are_read() {
    let file = taken(
        "groups:\n- name: a\n  interval: 30s\n  query_offset: 1m\n  limit: 5\n  labels: {team: x, both: group}\n  \
         rules:\n  - alert: High\n    expr: |\n      import px\n    for: 1h30m\n    keep_firing_for: 5m\n    \
         incomplete: mark\n    labels: {severity: page, both: rule, v: 1.10, t: true, n: null}\n    \
         annotations:\n      summary: '{{ $labels.x }} is {{ $value }}'\n  - record: a:b\n    expr: import px\n\
         - name: b\n",
    );
    let [a, b] = file.groups.as_slice() else { panic!("two groups") };
    assert_eq!(
        (a.interval.unwrap().millis(), a.query_offset.unwrap().millis(), a.limit),
        (30_000, 60_000, 5)
    );
    assert!(b.rules.is_empty());
    let high = &a.rules[0];
    let RuleKind::Alert(parts) = &high.kind else { panic!("an alert") };
    assert_eq!(
        (high.name.as_str(), high.expr.as_str(), high.expr_block),
        ("High", "import px\n", true)
    );
    assert_eq!((parts.hold.millis(), parts.keep_firing.millis()), (5_400_000, 300_000));
    assert_eq!(parts.incomplete, Incomplete::Mark);
    let labels: Vec<_> = high.labels.iter().map(|l| format!("{}={}", l.name, l.text)).collect();
    assert_eq!(labels, ["both=rule", "n=", "severity=page", "t=true", "team=x", "v=1.10"]);
    assert_eq!(parts.annotations[0].text, "{{ $labels.x }} is {{ $value }}");
    assert!(matches!(a.rules[1].kind, RuleKind::Record));
    assert!(taken("").groups.is_empty());
    assert!(taken("groups:\n").groups.is_empty());
}

/// Documents, resources and lists of them are one file's groups; anchors and merges are unfolded.
#[test]
fn resources_and_documents_are_read() {
    let resource = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: x}\nspec:\n  \
                    groups:\n  - name: a\n    rules: [{alert: A, expr: x}]\n";
    assert_eq!(taken(resource).groups[0].rules[0].name, "A");
    let list = "kind: List\napiVersion: v1\nitems:\n- kind: PrometheusRule\n  apiVersion: m/v1\n  spec: {groups: [{name: a}]}\n";
    assert_eq!(taken(list).groups[0].name, "a");
    let two = format!("groups: [{{name: z}}]\n---\n{resource}---\n");
    let names: Vec<_> = taken(&two).groups.iter().map(|group| group.name.clone()).collect();
    assert_eq!(names, ["z", "a"]);
    let merged = taken(&rules("- &x\n  alert: A\n  expr: e\n  for: 1m\n- <<: *x\n  alert: B"));
    assert_eq!(
        (merged.groups[0].rules[1].name.as_str(), merged.groups[0].rules[1].expr.as_str()),
        ("B", "e")
    );
}

/// Rules, and what is said of them.
const RULE_MISTAKES: &[(&str, &[&str])] = &[
    (
        "- alert: X\n  record: y\n  expr: up",
        &[r#"5:13: group "a", rule 1, "X": only one of 'record' and 'alert' must be set"#],
    ),
    ("- expr: up", &[r#"4:5: group "a", rule 1, "": one of 'record' or 'alert' must be set"#]),
    ("- alert: Z", &[r#"4:12: group "a", rule 1, "Z": field 'expr' must be set in rule"#]),
    (
        "- alert: Z\n  expr: ' '",
        &[r#"5:11: group "a", rule 1, "Z": field 'expr' must be set in rule"#],
    ),
    (
        "-",
        &[
            r#"4:4: group "a", rule 1, "": field 'expr' must be set in rule"#,
            r#"4:4: group "a", rule 1, "": one of 'record' or 'alert' must be set"#,
        ],
    ),
    (
        "- record: 'up{a=1}'\n  expr: up",
        &[
            r#"4:13: group "a", rule 1, "up{a=1}": braces present in the recording rule name; should it be in expr?: up{a=1}"#,
        ],
    ),
    (
        "- record: r\n  expr: up\n  for: 5m\n  keep_firing_for: 5m\n  annotations: {a: b}",
        &[
            r#"6:10: group "a", rule 1, "r": invalid field 'for' in recording rule"#,
            r#"7:22: group "a", rule 1, "r": invalid field 'keep_firing_for' in recording rule"#,
            r#"8:18: group "a", rule 1, "r": invalid field 'annotations' in recording rule"#,
        ],
    ),
    (
        "- alert: L\n  expr: up\n  labels: {1a: x, __name__: y, '': z}\n  annotations: {__name__: x, '': x}",
        &[
            r#"6:21: group "a", rule 1, "L": invalid label name: __name__"#,
            r#"6:34: group "a", rule 1, "L": invalid label name: "#,
            r#"7:32: group "a", rule 1, "L": invalid annotation name: "#,
        ],
    ),
    (
        "- alert: T\n  expr: up\n  annotations:\n    s: '{{ $foo }}'\n    u: |\n      a\n      {{ .x | nofun }}",
        &[
            r#"7:10: group "a", rule 1, "T": annotation "s": template: __alert_T:1: undefined variable "$foo""#,
            r#"10:9: group "a", rule 1, "T": annotation "u": template: __alert_T:2: function "nofun" not defined"#,
        ],
    ),
    ("- alert: X\n  expr: up\n  for: 1.5h", &[r#"6:10: not a valid duration string: "1.5h""#]),
    ("- alert: X\n  exp: up\n  expr: up", &["5:5: field exp not found in type Rule"]),
    (
        "- alert: [X]\n  expr: {a: b}\n  labels: [a]",
        &[
            r#"4:5: group "a", rule 1, "": one of 'record' or 'alert' must be set"#,
            "4:12: cannot unmarshal !!seq into string",
            "5:11: cannot unmarshal !!map into string",
            "6:13: cannot unmarshal !!seq into map[string]string",
        ],
    ),
    (
        "- alert: X\n  expr: up\n  incomplete: maybe",
        &[r#"6:17: group "a", rule 1, "X": 'incomplete' is hold or mark, not "maybe""#],
    ),
];

/// Each kind of mistake has promtool's words, and the line and column of what is wrong.
#[test]
fn mistakes_have_places_and_words() {
    for (text, wanted) in RULE_MISTAKES {
        let found = problems(&rules(text));
        // `alert: [X]` counts as there or not; what matters is that its type is told.
        let wanted: Vec<&str> = wanted
            .iter()
            .filter(|w| !text.contains("[X]") || !w.contains("one of"))
            .copied()
            .collect();
        assert_eq!(found, wanted, "{text}");
    }
}

/// The same for groups, documents and YAML itself.
#[test]
fn mistakes_outside_of_rules() {
    let cases: &[(&str, &[&str])] = &[
        (
            "groups:\n- name: ''\n- name: a\n- name: a\n",
            &[
                "2:3: Groupname must not be empty",
                "4:3: groupname: \"a\" is repeated in the same file",
            ],
        ),
        (
            "groups:\n- name: a\n  interval: 5 minutes\n",
            &[r#"3:13: not a valid duration string: "5 minutes""#],
        ),
        ("groups:\n- name: a\n  limit: many\n", &["3:10: cannot unmarshal !!str `many` into int"]),
        ("groups:\n- name: a\n  limit: '5'\n", &["3:10: cannot unmarshal !!str `5` into int"]),
        ("groups:\n- name: a\n  foo: 1\n", &["3:3: field foo not found in type RuleGroup"]),
        ("group:\n- name: a\n", &["1:1: field group not found in type RuleGroups"]),
        ("- a\n", &["1:1: cannot unmarshal !!seq into RuleGroups"]),
        (
            "groups:\n- name: a\n  name: b\n",
            &[r#"3:3: mapping key "name" already defined at line 2"#],
        ),
        (
            "apiVersion: v1\nkind: Pod\n",
            &["1:1: a resource of kind \"Pod\" holds no rules; PrometheusRule does"],
        ),
        (
            "apiVersion: v1\nkind: PrometheusRule\n",
            &["1:1: field 'spec' must be set in PrometheusRule"],
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(problems(text), *wanted, "{text}");
    }
    for broken in [
        "groups:\n- name: a\n  rules: [\n",
        "a: b: c\n",
        "a: 'b\n",
        "a: !foo b\n",
        "a: &x [*x]\n",
        "a: *y\n",
    ] {
        let found = problems(broken);
        assert!(found.len() == 1 && found[0].contains(": yaml: "), "{broken:?}: {found:?}");
        assert!(!found[0].contains(" at "), "its place is told once: {found:?}");
    }
}

/// What unfolds, nests or repeats without end is refused before it is in memory.
#[test]
fn files_are_bounded() {
    let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        laughs.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 8].join(", ")));
    }
    assert!(problems(&laughs)[0].contains("aliases unfolded"), "{:?}", problems(&laughs));
    let deep = format!("groups: {}{}", "[".repeat(60), "]".repeat(60));
    assert!(problems(&deep)[0].contains("nested deeper"), "{:?}", problems(&deep));
    let deep = format!("groups: {}", "[".repeat(100_000));
    assert!(!problems(&deep).is_empty());
    let long = format!("groups: []\n#{}", "x".repeat(5 << 20));
    assert!(problems(&long)[0].contains("longer than"));
    let many = rules(&"- {alert: A, expr: e}\n".repeat(RULES_MAX));
    assert!(problems(&many).is_empty());
    let more = problems(&format!("{many}  - {{alert: A, expr: e}}\n"));
    assert!(more[0].contains(&format!("a file may have {RULES_MAX} rules")), "{more:?}");
}

/// Names are any text that is not empty, of labels, annotations and records, also such as a YAML reader could take for
/// something else; what is no plain name in an alert is warned of, since older Alertmanagers refuse it. Catches a name
/// that is changed, and one that is lost.
#[test]
fn names_are_any_text() {
    let names = [
        "ins-t(ance)",
        "a.b",
        "ü ☃",
        "it's \"q\"",
        "1",
        "true",
        "\u{0}",
        "a\nb",
        "{x}",
        "#",
        "\u{fffd}",
    ];
    let quoted = |name: &&str| format!("{}: v", serde_json::Value::from(*name));
    let pairs = names.iter().map(quoted).collect::<Vec<_>>().join(", ");
    let record = "sum of 'a-b' \\ ü";
    let file = taken(&rules(&format!(
        "- {{alert: A, expr: e, labels: {{{pairs}}}, annotations: {{{pairs}, __name__: v}}}}\n\
         - {{record: {}, expr: e, labels: {{{pairs}}}}}",
        serde_json::Value::from(record)
    )));
    let [alert, recorded] = file.groups[0].rules.as_slice() else { panic!("two rules") };
    let RuleKind::Alert(parts) = &alert.kind else { panic!("an alert") };
    let mut wanted = names.to_vec();
    wanted.sort_unstable();
    let of = |texts: &[super::Text]| texts.iter().map(|text| text.name.clone()).collect::<Vec<_>>();
    assert_eq!(
        (of(&alert.labels), of(&recorded.labels)),
        (wanted.iter().map(ToString::to_string).collect(), of(&alert.labels))
    );
    assert_eq!(parts.annotations.len(), names.len() + 1);
    assert_eq!(recorded.name, record);
    assert_eq!(
        super::reading(record),
        "import px\npx.display(px.DataFrame('sum of \\'a-b\\' \\\\ ü'), 'sum of \\'a-b\\' \\\\ ü')\n"
    );
    // `true` is a plain name.
    assert_eq!(file.warnings.len(), 2 * (names.len() - 1), "{:?}", file.warnings);
    assert!(file.warnings[0].message.contains("an Alertmanager before 0.27 refuses alerts"));
}

/// Rules that are hardly meant are taken with a word about them.
#[test]
fn doubtful_rules_are_warned_of() {
    let text = rules(
        "- {alert: X, expr: a, labels: {a: b}}\n- {alert: X, expr: c, labels: {a: b}}\n\
         - {alert: Y, expr: c, labels: {v: '{{ $value }}'}}\n\
         - {alert: Z, expr: c, annotations: {v: '{{ query \"up\" | first | value }}'}}",
    );
    let warnings: Vec<_> = taken(&text).warnings.iter().map(|w| w.message.clone()).collect();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[2].starts_with("Z: \"v\" calls \"query\", and"), "{warnings:?}");
    assert!(warnings[0].starts_with("duplicate rule: X"), "{warnings:?}");
    assert!(warnings[1].contains("speaks of the value"), "{warnings:?}");
}

/// An objective becomes a rule a pair of windows, with its budget, its windows and its labels. Catches factors
/// that went to the wrong window.
#[test]
fn objectives_are_written_out() {
    let file = taken(&rules(
        "- slo: Checkout\n  objective: 99.9%\n  table: http_events\n  define: df.service = df.ctx['service']\n  \
         where: df.trace_role == 2\n  error: df.resp_status >= 500\n  by: [service]\n  labels: {team: shop}",
    ));
    let [page, ticket] = file.groups[0].rules.as_slice() else { panic!("two rules") };
    for (rule, parts) in [
        (page, ["burning('-3600s')", "burning('-300s')", "> 0.0144]", "/ 0.001\n"]),
        (ticket, ["burning('-21600s')", "burning('-900s')", "> 0.006]", "df.ctx['service']\n"]),
    ] {
        for part in parts {
            assert!(rule.expr.contains(part), "{part}: {}", rule.expr);
        }
    }
    let label = |rule: &super::Rule, name: &str| {
        rule.labels.iter().find(|label| label.name == name).map(|label| label.text.clone())
    };
    assert_eq!(label(page, "severity").as_deref(), Some("page"));
    assert_eq!(label(ticket, "window").as_deref(), Some("6h"));
    assert_eq!(label(ticket, "team").as_deref(), Some("shop"));
    // What would open a template is text.
    let braces = "- {slo: 'a {{', objective: 99, table: t, error: e, windows: [{long: 1h, short: 5m, burn: 2, severity: '{{'}]}";
    assert_eq!(label(&taken(&rules(braces)).groups[0].rules[0], "severity").as_deref(), Some("{{"));
    let wrong = problems(&rules(
        "- {slo: A, objective: 100, table: t, error: e, expr: x, windows: [{long: 5m, short: 1h, burn: 1}]}",
    ));
    assert_eq!(wrong.len(), 3, "{wrong:?}");
}
