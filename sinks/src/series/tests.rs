//! What is held of rows, and when their samples are.

use super::*;
use crate::pipe::tests::info;

fn element(op: Op, tick_ms: u64, body: Body) -> Element {
    let output = Arc::new(Described::new(0, false, &info()));
    Element { output, op, seq: 1, tick_ms, body }
}

fn upsert(key: &str) -> Element {
    let row = PackedRow::pack(&[Value::str(key), Value::Int64(1)]);
    element(Op::Upsert, 1, Body::Row(row))
}

/// After a reset it is known which rows are gone when the answer is complete, not before; said again, as after a
/// failed attempt, nothing more is gone. Catches a series that stays because its row went while nobody looked.
#[test]
fn a_reset_says_what_is_gone() {
    let mut held = Held::default();
    for key in ["a", "b", "c"] {
        assert!(held.apply(&upsert(key)).unwrap().is_empty());
    }
    let gone = PackedRow::pack(&[Value::str("c")]);
    held.apply(&element(Op::Delete, 2, Body::Key(gone))).unwrap();
    let steps =
        [element(Op::Reset, 3, Body::None), upsert("a"), element(Op::Progress, 3, Body::None)];
    let gone: Vec<PackedRow> = steps.iter().flat_map(|step| held.apply(step).unwrap()).collect();
    assert_eq!(gone, [PackedRow::pack(&[Value::str("b")])]);
    assert!(steps.iter().all(|step| held.apply(step).unwrap().is_empty()));
    assert_eq!(held.outputs[&0].now.len(), 1);
}

/// Instants follow the ticks, and go up by all means: also when something was said again later than the next tick.
#[test]
fn instants_go_up() {
    let mut instants = Instants::default();
    assert_eq!((instants.at(0, 1_000), instants.at(0, 1_000)), (1_000, 1_000));
    assert_eq!(instants.at(1, 400), 400, "of another input");
    let said = instants.later(0);
    assert!(said > 1_000, "{said}");
    let next = instants.at(0, 1_001);
    assert!(next > said, "{next} {said}");
    assert_eq!(instants.at(0, 1_001), next, "one tick is one instant");
    assert_eq!(instants.at(0, 90_000_000), 90_000_000);
}
