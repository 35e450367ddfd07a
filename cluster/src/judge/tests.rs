//! Rule files with names of any text, from the YAML to the columns of what reads them; and how many rules may run.

use weir_rules::file::parse;
use weir_types::random::SplitMix;

use super::*;
use crate::planner::Allowance;

const RECORD: &str = "\"import px; px.display(px.DataFrame('http_events').groupby('req_path').agg(value=('latency', px.count)))\"";

fn judged(text: &str) -> (Report, Vec<(Columns, i64)>) {
    let views = recorded(std::iter::once(text));
    Judge::new(views, &Allowance::default).file("f.yml", text)
}

/// Texts of characters that end something somewhere: in YAML, in PxL, in templates.
fn name(random: &mut SplitMix) -> String {
    const PIECES: [&str; 20] = [
        "a", "B", "1", "_", ":", " ", "'", "\"", "\\", "\n", "\t", "#", "-", ".", "(", "ü", "☃",
        "\u{0}", "''''", "\\n",
    ];
    let count = 1 + random.below(6);
    let piece = |_| PIECES[usize::try_from(random.below(PIECES.len() as u64)).unwrap()];
    (0..count).map(piece).collect()
}

/// A view and a label of any name are found by the rule that reads the view, under just these names, and a rule may be made
/// of such a view. Catches a character that ends a text between the file and the plan.
#[test]
fn any_name_comes_through() {
    let mut random = SplitMix(11);
    let json = |text: &str| serde_json::Value::from(text).to_string();
    for round in 0..400 {
        let (view, label) = (name(&mut random), name(&mut random));
        if weir_types::tables::find(&view).is_some() {
            continue;
        }
        let text = format!(
            "groups:\n- name: g\n  rules:\n  - {{record: {}, expr: {RECORD}, labels: {{{}: x}}}}\n  - {{alert: A, expr: {}}}\n",
            json(&view),
            json(&label),
            json(&reading(&view)),
        );
        let (report, columns) = judged(&text);
        assert_eq!(report.problems, [""; 0], "{round}: {view:?} {label:?}");
        let names: Vec<&str> = columns[1].0.names().collect();
        assert_eq!(names, ["req_path", label.as_str()], "{round}: {view:?}");
    }
}

/// Columns of scripts are labels that every receiver takes, beside one that a rule file names. Catches alerts that an
/// Alertmanager refuses though nobody gave a label that name.
#[test]
fn only_what_rules_name_keeps_its_name() {
    let text = "groups:\n- name: g\n  rules:\n  - record: v\n    labels: {a-b: x}\n    expr: |\n      import px\n      \
                df = px.DataFrame('http_events')\n      df['c-d'] = df.req_path\n      px.display(df[['c-d']])\n  \
                - {alert: A, expr: \"import px; px.display(px.DataFrame('v'))\"}\n  \
                - {alert: B, expr: \"import px; df = px.DataFrame('http_events'); df['a-b'] = 'y'; px.display(df[['a-b']])\"}\n";
    let (report, columns) = judged(text);
    let names = columns.iter().map(|(columns, _)| columns.names().collect::<Vec<_>>());
    assert_eq!(names.collect::<Vec<_>>(), [vec!["c_d"], vec!["c_d", "a-b"], vec!["a_b"]]);
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    assert!(
        report.warnings[0].starts_with("f.yml:11:5: A: an Alertmanager before 0.27"),
        "{report:?}"
    );
}

/// What a server runs is bounded for each kind, over all files, and the number is told. Catches a file of the largest size
/// that a server would compile.
#[test]
fn what_runs_is_bounded() {
    let file = |alerts: usize, records: usize| {
        let alerts = "  - {alert: A, expr: e}\n".repeat(alerts);
        let records = "  - {record: r, expr: e}\n".repeat(records);
        parse(&format!("groups:\n- name: g\n  rules:\n{alerts}{records}")).unwrap()
    };
    let of = |files: &[RuleFile]| runs(files.iter());
    assert_eq!(of(&[file(1_500, 1_500), file(500, 500)]), Ok(()));
    let alerts = "2001 alert rules; a server runs at most 2000";
    assert_eq!(of(&[file(1_500, 0), file(501, 2_000)]), Err(alerts.to_string()));
    let records = "2001 recording rules; a server runs at most 2000";
    assert_eq!(of(&[file(0, 2_001)]), Err(records.to_string()));
    // One that is there several times is one view.
    assert_eq!(views_of([file(0, 5)].iter()).len(), 1);
}
