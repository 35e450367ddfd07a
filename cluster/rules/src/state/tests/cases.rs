//! One case a promise.

use super::{World, row};

const PLAIN: &str = "  rules:\n  - {alert: A, expr: e}\n";
const FOR: &str = "  rules:\n  - {alert: A, expr: e, for: 10s}\n";
const KEEP: &str = "  rules:\n  - {alert: A, expr: e, keep_firing_for: 20s}\n";
const NONE: [String; 0] = [];

/// Without `for` a row is an alert at once, and its end is the end; each is told once, then only again for
/// Alertmanager. Catches alerts that wait for a second look.
#[test]
fn fires_and_resolves_on_the_change() {
    let mut world = World::new(PLAIN);
    assert_eq!(
        world.at(1, &[(1, row("x", 5.0))]),
        (vec!["firing x".into()], vec!["fired x 1".into()])
    );
    assert_eq!(world.at(2, &[]), (NONE.into(), NONE.into()));
    assert_eq!(world.at(3, &[(-1, row("x", 5.0)), (1, row("x", 6.0))]).0, ["updated x"]);
    assert_eq!(world.told(61), ["again { firing: true } x 1"]);
    assert_eq!(
        world.at(70, &[(-1, row("x", 6.0))]),
        (vec!["resolved x".into()], vec!["resolved x 1".into()])
    );
    assert_eq!(world.told(130), ["again { firing: false } x 1"]);
    assert_eq!(world.told(71 + 16 * 60), NONE, "after a quarter of an hour it is forgotten");
    assert_eq!(world.at(2_000, &[(1, row("x", 5.0))]).1, ["fired x 2000"]);
}

/// `for` counts event time from the first row to the frontier that fires; a late row that takes it back leaves
/// nothing.
#[test]
fn pending_ripens_or_is_retracted() {
    let mut world = World::new(FOR);
    assert_eq!(
        world.at(1, &[(1, row("x", 1.0)), (1, row("y", 1.0))]).0,
        ["pending x", "pending y"]
    );
    assert_eq!(world.at(10, &[(-1, row("y", 1.0))]), (vec!["retracted y".into()], NONE.into()));
    assert_eq!(world.at(11, &[]), (vec!["firing x".into()], vec!["fired x 11".into()]));
    // Gone and back begins anew.
    world.at(12, &[(-1, row("x", 1.0))]);
    world.at(13, &[(1, row("x", 1.0))]);
    assert_eq!(world.at(22, &[]).0, NONE);
    assert_eq!(world.at(23, &[]).0, ["firing x"]);
}

/// `keep_firing_for` keeps what is gone, and what comes back meanwhile never was away.
#[test]
fn keeps_firing() {
    let mut world = World::new(KEEP);
    world.at(1, &[(1, row("x", 1.0))]);
    assert_eq!(world.at(5, &[(-1, row("x", 1.0))]), (NONE.into(), NONE.into()));
    assert_eq!(world.at(10, &[(1, row("x", 1.0))]).0, NONE);
    assert_eq!(world.at(40, &[]).0, NONE);
    world.at(50, &[(-1, row("x", 1.0))]);
    assert_eq!(world.at(69, &[]).0, NONE);
    assert_eq!(world.at(70, &[]), (vec!["resolved x".into()], vec!["resolved x 1".into()]));
}

/// Above its limit, and with equal labels, a rule's alerts stay as they are, are told again, and go on when it is
/// within again. Catches an error that reads as recovery.
#[test]
fn errors_leave_alerts_alone() {
    let mut world = World::new("  limit: 1\n  rules:\n  - {alert: A, expr: e}\n");
    world.at(1, &[(1, row("x", 1.0))]);
    let many = [(-1, row("x", 1.0)), (1, row("y", 1.0)), (1, row("z", 1.0))];
    assert_eq!(world.at(2, &many), (NONE.into(), NONE.into()));
    let error = world.set.machine(world.ids[0]).unwrap().error().unwrap().to_string();
    assert_eq!(error, "exceeded limit of 1 with 2 alerts");
    assert_eq!(
        (world.alerts(), world.told(61)),
        (vec!["x firing".into()], vec!["again { firing: true } x 1".into()])
    );
    assert_eq!(world.at(70, &[(-1, row("z", 1.0))]).0, ["resolved x", "firing y"]);
    // Two rows of the same labels.
    assert_eq!(world.at(80, &[(1, row("y", 2.0))]).0, NONE);
    let error = world.set.machine(world.ids[0]).unwrap().error().unwrap().to_string();
    assert_eq!(error, r#"several rows have the labels {alertname="A", svc="y"}"#);
    assert_eq!(world.at(81, &[(-1, row("y", 1.0))]).0, ["updated y"]);
    assert_eq!(world.at(82, &[(1, row("y", 2.0))]).0, NONE, "the same row twice");
    assert_eq!(world.at(83, &[(-2, row("y", 2.0))]).0, ["resolved y"]);
}

/// One row with bytes that no receiver takes, among 500: all others arrive, the one is repaired and counted, and
/// two that become equal by it put no rule in error.
#[test]
fn broken_text_spoils_one_alert() {
    let mut world = World::new(PLAIN);
    let mut rows: Vec<_> = (0..499).map(|n| (1, row(format!("s{n}"), 1.0))).collect();
    rows.push((1, row(b"a\xff\0", 1.0)));
    let (changed, told) = world.at(1, &rows);
    assert_eq!((changed.len(), told.len()), (500, 500));
    assert!(told.contains(&"fired a\u{fffd}\u{fffd} 1".to_string()));
    assert_eq!(
        world.at(2, &[(1, row(b"a\xfe\0", 1.0)), (1, row("a\u{fffd}\u{fffd}", 7.0))]).0.len(),
        1
    );
    let machine = world.set.machine(world.ids[0]).unwrap();
    assert_eq!((machine.error(), machine.counters.repaired, machine.counters.merged), (None, 2, 1));
    // Too long is cut, not lost; empty is no label.
    let long = world.at(3, &[(1, row("x".repeat(5_000), 1.0)), (1, row("", 1.0))]).0;
    assert_eq!(long.len(), 2);
    assert!(long.iter().any(|change| change == "firing -"));
}

/// The rule's labels win over columns, templates included; what a label's template cannot say stands there as
/// text. `alertname` is the rule's.
#[test]
fn labels_of_the_rule_win() {
    let yaml = "  labels: {svc: '{{ $labels.svc }}-{{ $value }}', alertname: no, bad: '{{ humanize \"x\" }}'}\n  \
                rules:\n  - {alert: A, expr: e}\n";
    let mut world = World::new(yaml);
    assert_eq!(world.at(1, &[(1, row("x", 1.5))]).1, ["fired x-1.5 1"]);
    let alert = world.set.alerts().next().unwrap();
    assert_eq!(alert.labels.alert_name(), "A");
    assert!(
        alert.labels.get("bad").unwrap().starts_with("<error expanding template: error executing")
    );
    // Another value is another alert.
    let moved = world.at(2, &[(-1, row("x", 1.5)), (1, row("x", 2.0))]).1;
    assert_eq!(moved, ["resolved x-1.5 1", "fired x-2 2"]);
}

/// Silence is no recovery: what is gone from an answer that is not complete stays, and is over only when a
/// complete one says so. A new row fires all the same. With `mark` it goes on as ever.
#[test]
fn incomplete_answers_hold_or_mark() {
    let mut world = World::new(FOR);
    world.at(1, &[(1, row("x", 1.0)), (1, row("y", 1.0))]);
    world.at(5, &[(1, row("z", 1.0))]);
    world.at(11, &[]);
    let gone = [(-1, row("x", 1.0)), (-1, row("z", 1.0))];
    assert_eq!(world.step(0, 12, false, false, &gone).0, NONE);
    assert_eq!(world.step(0, 20, false, false, &[]).0, NONE, "without a row nothing ripens");
    assert_eq!(world.alerts(), ["x firing", "y firing", "z pending"]);
    let notices = world.set.due(80 * super::SECOND);
    assert!(
        notices.iter().all(|notice| notice.annotations["incomplete"] == "n2 lags"),
        "{notices:?}"
    );
    // It comes back as if it had never been away; the other one was over.
    assert_eq!(world.step(0, 21, true, false, &[(1, row("z", 1.0))]).0, ["resolved x", "firing z"]);
    let mut world = World::new("  rules:\n  - {alert: A, expr: e, incomplete: mark}\n");
    world.at(1, &[(1, row("x", 1.0))]);
    assert_eq!(world.step(0, 2, false, false, &[(-1, row("x", 1.0))]).0, ["resolved x"]);
}

/// Restarts: what fires keeps its start and is not told twice, what is pending or kept goes on where it was, and
/// time while down counts for nothing.
#[test]
fn restarts_keep_states() {
    let yaml = "  rules:\n  - {alert: A, expr: e, for: 10s, keep_firing_for: 20s}\n";
    let mut world = World::new(yaml);
    world.at(1, &[(1, row("fires", 1.0)), (1, row("kept", 1.0))]);
    world.at(11, &[(1, row("waits", 1.0))]);
    world.at(15, &[(-1, row("kept", 1.0))]);
    // The first life after it ends before it has an answer.
    world.restart(yaml, 900);
    world.told(900);
    world.restart(yaml, 1_000);
    assert_eq!(
        world.told(1_000),
        ["again { firing: true } fires 11", "again { firing: true } kept 11"]
    );
    let rows = [(1, row("fires", 1.0)), (1, row("waits", 1.0))];
    // Rows come in piece by piece.
    assert_eq!(world.step(0, 1_001, false, true, &rows[..1]), (NONE.into(), NONE.into()));
    assert_eq!(world.step(0, 1_002, true, false, &rows[1..]), (NONE.into(), NONE.into()));
    // It had waited four of ten seconds.
    assert_eq!(world.step(0, 1_006, true, false, &[]).0, NONE);
    assert_eq!(world.step(0, 1_007, true, false, &[]).0, ["firing waits"]);
    assert_eq!(world.step(0, 1_020, true, false, &[]).0, NONE);
    assert_eq!(world.step(0, 1_022, true, false, &[]).0, ["resolved kept"]);
}

/// Even a rule that marks does not take the empty view after a restart for recovery.
#[test]
fn an_empty_view_after_a_restart_is_no_recovery() {
    let yaml = "  rules:\n  - {alert: A, expr: e, incomplete: mark}\n";
    let mut world = World::new(yaml);
    world.at(1, &[(1, row("x", 1.0))]);
    world.restart(yaml, 30);
    assert_eq!(world.step(0, 31, false, true, &[]), (NONE.into(), NONE.into()));
    assert_eq!(world.step(0, 32, true, false, &[(1, row("x", 1.0))]).0, NONE);
    assert_eq!(world.step(0, 33, true, false, &[(-1, row("x", 1.0))]).1, ["resolved x 1"]);
}

/// Reloads: another annotation or duration keeps what there is, another expression or label ends it, and a rule
/// that is gone resolves what fired.
#[test]
fn reloads_keep_what_means_the_same() {
    let mut world = World::new(FOR);
    world.at(1, &[(1, row("x", 1.0))]);
    world.load("  rules:\n  - {alert: A, expr: e, for: 20s, annotations: {a: new}}\n", 5);
    assert_eq!(world.at(11, &[]).0, NONE, "the longer time holds");
    assert_eq!(world.at(21, &[]).1, ["fired x 21"]);
    world.load("  rules:\n  - {alert: A, expr: e, annotations: {a: newer}}\n", 22);
    assert_eq!((world.told(22), world.alerts()), (NONE.into(), vec!["x firing".into()]));
    let notice = world.set.due(90 * super::SECOND).remove(0);
    assert_eq!(
        (notice.annotations["a"].as_str(), notice.starts_unix_ns),
        ("newer", 21 * super::SECOND)
    );
    world.load("  rules:\n  - {alert: A, expr: other}\n", 91);
    assert_eq!(world.told(91), ["resolved x 21"]);
    assert_eq!(world.at(92, &[(1, row("x", 1.0))]).1, ["fired x 92"]);
    world.load("  rules: []\n", 93);
    assert_eq!(world.told(93), ["resolved x 92"]);
    // Gone while the process was down.
    let mut world = World::new(PLAIN);
    world.at(1, &[(1, row("x", 1.0))]);
    world.restart("  rules: []\n", 10);
    assert_eq!(world.told(10), ["resolved x 1"]);
}

/// Two rules with the same labels: the alert fires while either does, and is told once.
#[test]
fn two_rules_are_one_alert() {
    let yaml = "  rules:\n  - {alert: A, expr: e}\n  - {alert: A, expr: f}\n";
    let mut world = World::new(yaml);
    assert_eq!(world.step(0, 1, true, false, &[(1, row("x", 1.0))]).1, ["fired x 1"]);
    assert_eq!(world.step(1, 2, true, false, &[(1, row("x", 2.0))]).1, NONE);
    assert_eq!(world.step(0, 3, true, false, &[(-1, row("x", 1.0))]).1, NONE);
    world.restart(yaml, 4);
    assert_eq!(world.step(0, 5, true, true, &[]).1, NONE);
    assert_eq!(world.step(1, 5, true, true, &[(1, row("x", 2.0))]).1, NONE);
    assert_eq!(world.step(1, 6, true, false, &[(-1, row("x", 2.0))]).1, ["resolved x 1"]);
}

/// A view that was sent anew is taken as a whole: what is not in it is gone, what is in it stays.
#[test]
fn snapshots_replace_rows() {
    let mut world = World::new(PLAIN);
    world.at(1, &[(1, row("x", 1.0)), (1, row("y", 1.0))]);
    assert_eq!(
        world.step(0, 2, true, true, &[(1, row("y", 1.0)), (1, row("z", 1.0))]).0,
        ["resolved x", "firing z"]
    );
}

/// Rows that are too large put the rule in error and are given up; alerts stay, and a snapshot that fits ends it.
#[test]
fn too_many_bytes_are_given_up() {
    let mut world = World::new(PLAIN);
    world.at(1, &[(1, row("x", 1.0))]);
    let rows: Vec<_> = (0..8_000).map(|n| (1, row(format!("{n:02048}"), 1.0))).collect();
    assert_eq!(world.at(2, &rows), (NONE.into(), NONE.into()));
    let machine = world.set.machine(world.ids[0]).unwrap();
    assert_eq!(machine.error(), Some(&crate::state::RuleError::TooLarge));
    assert_eq!(world.at(3, &[(-1, row("x", 1.0))]).0, NONE);
    assert_eq!(world.alerts(), ["x firing"]);
    assert_eq!(world.step(0, 4, true, true, &[(1, row("y", 1.0))]).0, ["resolved x", "firing y"]);
}

/// A listed alert has the members that the contract names, and a value that JSON has no number for.
#[test]
fn alerts_are_listed_by_contract() {
    let mut world =
        World::new("  rules:\n  - {alert: A, expr: e, annotations: {s: 'v {{ $value }}'}}\n");
    world.at(1, &[(1, row("x", f64::INFINITY))]);
    let listed = world.set.alerts().next().unwrap().json();
    let wanted = serde_json::json!({
        "alertname": "A",
        "rule": world.ids[0].number(),
        "state": "firing",
        "labels": {"alertname": "A", "svc": "x"},
        "annotations": {"s": "v +Inf"},
        "value": "Infinity",
        "active_at": "1970-01-01T00:00:01.000000000Z",
        "fired_at": "1970-01-01T00:00:01.000000000Z",
        "completeness": {"complete": true, "why": ""},
        "error": null,
    });
    assert_eq!(listed, wanted);
}

/// A row that comes and goes leaves nothing behind: one time an alert to look at, whatever has been. Catches a
/// list of times that grows with each flap.
#[test]
fn a_flapping_row_leaves_nothing() {
    for yaml in [FOR, KEEP] {
        let mut world = World::new(yaml);
        for n in 0..200 {
            world.at(2 * n, &[(1, row("x", 1.0))]);
            world.at(2 * n + 1, &[(-1, row("x", 1.0))]);
            let machine = world.set.machine(world.ids[0]).unwrap();
            assert!(machine.scheduled() <= 1, "{yaml}: {}", machine.scheduled());
        }
    }
}

/// What fires is told again each resend delay to the second, valid for four times the longer of that and its group's
/// interval from then on; what is over keeps its end and is told so for a quarter of an hour. That is Prometheus' rule
/// (`needsSending`, `ValidUntil`, `resolvedRetention`). Catches an alert that Alertmanager gives up between two tellings.
#[test]
fn resends_are_prometheus() {
    for (interval, valid_s) in [("", 240), ("  interval: 30s\n", 240), ("  interval: 5m\n", 1_200)]
    {
        let mut world = World::new(&format!("{interval}{PLAIN}"));
        let answer = super::Answer {
            at_unix_ns: super::SECOND,
            snapshot: false,
            complete: true,
            young: false,
            why: "",
        };
        let id = world.ids[0];
        let mut told = Vec::new();
        for at_s in 1..1_500 {
            let now = at_s * super::SECOND;
            match at_s {
                1 => drop(world.set.step(id, &answer, &[(1, row("x", 1.0))], now)),
                310 => drop(world.set.step(id, &answer, &[(-1, row("x", 1.0))], now)),
                _ => {}
            }
            let notices = world.set.due(now).into_iter();
            told.extend(notices.map(|it| {
                assert_eq!(it.starts_unix_ns, super::SECOND);
                (at_s, it.is_firing(), it.ends_unix_ns / super::SECOND)
            }));
        }
        let firing = (1..310).step_by(60).map(|at_s| (at_s, true, at_s + valid_s));
        let over = (310..=310 + 15 * 60).step_by(60).map(|at_s| (at_s, false, 310));
        assert_eq!(told, firing.chain(over).collect::<Vec<_>>(), "{interval:?}");
    }
}

/// An annotation that fails when it is expanded holds the error's text, and the alert fires with it and with its other
/// annotations. Catches an alert that nobody is told of because of one of its texts.
#[test]
fn a_failing_annotation_fires_with_its_error() {
    let yaml = "  rules:\n  - alert: A\n    expr: e\n    annotations:\n      \
                bad: 'of {{ $labels.svc }}: {{ humanize $labels.svc }}'\n      good: '{{ $labels.svc }} is bad'\n";
    let mut world = World::new(yaml);
    assert_eq!(world.at(1, &[(1, row("x", 1.5))]).1, ["fired x 1"]);
    let notice = world.set.due(61 * super::SECOND).remove(0);
    let listed = world.set.alerts().next().unwrap();
    assert_eq!(notice.annotations, listed.annotations);
    assert_eq!(notice.annotations["good"], "x is bad");
    let bad = &notice.annotations["bad"];
    assert!(bad.starts_with("<error expanding template: error executing template"), "{bad}");
    assert!(bad.contains("error calling humanize: strconv.ParseFloat"), "{bad}");
}
