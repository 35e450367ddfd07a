//! A ledger against a plain list of losses.

use proptest::prelude::*;

use super::*;

const MS: i64 = 1_000_000;
/// Losses of the tests are after this.
const EPOCH: i64 = 1_700_000_000 * SEC_NS;

fn loss(table: &str, reason: &str, reach: Reach, span: Span, count: u64) -> Loss {
    Loss { table: table.to_string(), reason: reason.to_string(), reach, span, count }
}

fn lost(ledger: &Ledger, table: &str, window: Span, since: i64) -> BTreeMap<String, u64> {
    let mut lost = BTreeMap::new();
    ledger.lost_within(table, &window, since, &mut lost);
    lost
}

/// (seconds after the last loss, tenths of a second that it lasted, table, reason, reach, count)
type Step = (u16, u8, u8, u8, u8, u64);

fn losses_of(steps: &[Step]) -> Vec<Loss> {
    let mut now = EPOCH;
    let mut losses = Vec::new();
    for &(after, lasted, table, reason, reach, count) in steps {
        now += i64::from(after) * 100 * MS;
        let span = Span::new(now, now + i64::from(lasted % 20 + 1) * 100 * MS);
        now = span.to_unix_ns;
        let reach = [Reach::Everybody, Reach::Running, Reach::Later][usize::from(reach % 3)];
        losses.push(loss(
            ["a", "b"][usize::from(table % 2)],
            ["x", "y"][usize::from(reason % 2)],
            reach,
            span,
            count,
        ));
    }
    losses
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever was lost when, an answer says so if and only if its window met a loss: with sliding
    /// windows as plans have them, at any time after it, however old the loss is. Catches an
    /// interval that is forgotten, one that is made so coarse that answers beside it are blamed, and
    /// the reasons of another table.
    #[test]
    fn answers_say_what_their_window_lost(
        steps in prop::collection::vec((0_u16..3_000, any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>(), 1_u64..9), 1..60),
        asks in prop::collection::vec((1_i64..400_000, 0_i64..4_000), 1..40),
        since in 0_i64..100_000,
    ) {
        let losses = losses_of(&steps);
        let mut ledger = Ledger::default();
        losses.iter().for_each(|loss| ledger.note(loss));
        let end = losses.last().unwrap().span.to_unix_ns;
        let since = EPOCH + since * 100 * MS;
        for (window_tenths, after_tenths) in asks {
            let sliding = crate::plan::SlidingWindow::of(window_tenths * 100 * MS);
            let now = (end + after_tenths * 100 * MS) / sliding.pane_ns * sliding.pane_ns;
            let window = Span::new(sliding.start_at(now), now);
            for table in ["a", "b"] {
                let have = lost(&ledger, table, window, since);
                for reason in ["x", "y"] {
                    let of_reason = |loss: &&Loss| loss.table == table && loss.reason == reason;
                    let met = |loss: &&Loss| {
                        let Span { from_unix_ns: from, to_unix_ns: to } = window;
                        let (from, to) = match loss.reach {
                            Reach::Everybody => (from, to),
                            Reach::Running => (from.max(since), to),
                            Reach::Later => (from, to.min(since)),
                        };
                        from < to && loss.span.meets(&Span::new(from, to))
                    };
                    let want: u64 = losses.iter().filter(of_reason).filter(met).map(|loss| loss.count).sum();
                    let got = have.get(reason).copied().unwrap_or(0);
                    // A pane is the finest that is told apart; a loss that lasts reaches further.
                    let slack = sliding.pane_ns.max(width_ns(now - since).unwrap_or(0)) + 2 * SEC_NS;
                    let wider = Span::new(window.from_unix_ns - slack, window.to_unix_ns + slack);
                    let near: u64 = losses.iter().filter(of_reason).filter(|loss| loss.span.meets(&wider)).map(|loss| loss.count).sum();
                    prop_assert!(got >= want, "{got} of {want} of {table} {reason} in {window:?}");
                    prop_assert!(got <= near, "{got}, no more than {near} of {table} {reason} in {window:?}");
                }
            }
        }
        let sum: u64 = ledger.losses().map(|loss| loss.count).sum();
        prop_assert_eq!(sum, losses.iter().map(|loss| loss.count).sum::<u64>());
    }
}

/// A window of an hour knows of a loss of 59 minutes ago, one of 30 days of one 29 days ago, and
/// neither of one just before it: catches samples that reach back half an hour.
#[test]
fn reaches_as_far_back_as_windows_do() {
    for (window_ns, ago_ns) in [
        (3_600 * SEC_NS, 3_500 * SEC_NS),
        (30 * 86_400 * SEC_NS, 29 * 86_400 * SEC_NS),
        (400 * 86_400 * SEC_NS, 399 * 86_400 * SEC_NS),
    ] {
        let now = EPOCH + 400 * 86_400 * SEC_NS;
        let mut ledger = Ledger::default();
        let at = now - ago_ns;
        ledger.note(&loss("t", "x", Reach::Everybody, Span::new(at - SEC_NS, at), 7));
        // Others since then, so that it is folded with its age.
        for step in 1..ago_ns / (600 * SEC_NS) {
            let at = at + step * 600 * SEC_NS;
            ledger.note(&loss("other", "x", Reach::Everybody, Span::new(at - SEC_NS, at), 1));
        }
        let window = Span::new(now - window_ns, now);
        assert_eq!(lost(&ledger, "t", window, 0).get("x"), Some(&7));
        let later = Span::new(at + 3_600 * SEC_NS, now);
        assert_eq!(lost(&ledger, "t", later, 0).get("x"), None, "an hour after it");
    }
}

/// A node that loses something of everything all the time for a month keeps what a few megabytes
/// hold, and reasons beyond the limit are told as losses of every table.
#[test]
fn is_bounded() {
    let mut ledger = Ledger::default();
    for second in 0..40 * 86_400 / 20 {
        let to = EPOCH + second * 20 * SEC_NS;
        ledger.note(&loss("t", "x", Reach::Everybody, Span::new(to - 20 * SEC_NS, to), 1));
    }
    let to = EPOCH + 40 * 86_400 * SEC_NS;
    for tenth in 0..600 {
        let to = to + tenth * SEC_NS / 10;
        ledger.note(&loss("t", "x", Reach::Everybody, Span::new(to - SEC_NS / 10, to), 1));
    }
    assert!(ledger.intervals() < 5_000, "{}", ledger.intervals());
    for number in 0..PAIRS_MAX {
        ledger.note(&loss("u", &number.to_string(), Reach::Everybody, Span::new(to, to + 1), 1));
    }
    assert_eq!(ledger.pairs.len(), PAIRS_MAX + 1);
    let window = Span::new(to - 1, to + 1);
    assert_eq!(lost(&ledger, "some table", window, 0).get(OTHER), Some(&1));
}

/// What history kept is no loss to a query that begins later.
#[test]
fn rows_in_history_are_lost_to_running_queries_only() {
    let mut ledger = Ledger::default();
    let at = Span::new(EPOCH, EPOCH + SEC_NS);
    ledger.note(&loss("t", "queue_full", Reach::Running, at, 5));
    let window = Span::new(EPOCH - SEC_NS, EPOCH + 9 * SEC_NS);
    assert_eq!(lost(&ledger, "t", window, EPOCH - SEC_NS).get("queue_full"), Some(&5));
    assert!(lost(&ledger, "t", window, EPOCH + SEC_NS).is_empty());
}

/// What could not be told is told with the next, nothing twice; who forgot is told all again.
/// Catches a loss that is dropped with a message that the bus refused.
#[test]
fn a_node_tells_everything_once() {
    let ledger = NodeLedger::default();
    let told = |ledger: &NodeLedger, sent: bool| {
        let mut told = None;
        ledger.tell(|what| {
            told = Some(what);
            sent
        });
        told
    };
    assert_eq!(told(&ledger, true), None);
    let at = |second: i64| Span::new(EPOCH + second * SEC_NS, EPOCH + (second + 1) * SEC_NS);
    ledger.note("t", "x", Reach::Everybody, at(0), 2);
    assert_eq!(told(&ledger, false).unwrap().losses.len(), 1);
    ledger.note("t", "x", Reach::Everybody, at(5), 3);
    let Told { sequence, whole, losses } = told(&ledger, true).unwrap();
    assert_eq!((sequence, whole, losses.len()), (0, false, 2));
    assert_eq!(losses.iter().map(|loss| loss.count).sum::<u64>(), 5);
    assert_eq!(told(&ledger, true), None);
    ledger.tell_whole();
    assert!(told(&ledger, false).unwrap().whole);
    let again = told(&ledger, true).unwrap();
    assert_eq!((again.sequence, again.whole, again.losses), (1, true, losses));
    assert_eq!(ledger.totals()["t"]["x"], 5);
}

/// A part that begins anew counts from 0: catches a negative addition, and one that is left out.
#[test]
fn a_meter_outlives_who_counts() {
    let mut meter = Meter::default();
    assert_eq!(meter.added("t", "x", 5), 5);
    assert_eq!(meter.added("t", "x", 7), 2);
    assert_eq!(meter.added("t", "x", 3), 3);
    meter.restart();
    assert_eq!(meter.added("t", "x", 9), 9);
}

/// The list says each reason once, in words.
#[test]
fn reasons_are_described() {
    let names: std::collections::BTreeSet<_> = REASONS.iter().map(|def| def.name).collect();
    assert_eq!(names.len(), REASONS.len());
    assert!(REASONS.iter().all(|def| def.desc.ends_with('.')));
    assert_eq!(reason("unseen_bytes").unwrap().unit, Unit::Bytes);
}

/// The page that users read lists them all.
#[test]
fn reasons_are_documented() {
    let page = include_str!("../../../../docs/howto/what-was-lost.md");
    for ReasonDef { name, unit, desc } in REASONS {
        let line = format!("| `{name}` | {} | {desc} |", unit.name());
        assert!(page.contains(&line), "not in the page: {line}");
    }
}
