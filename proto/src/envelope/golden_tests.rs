//! The bytes of every message: a form that changed without its version, or by chance, is seen here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use weir_types::PackedRow;
use weir_types::acc::Acc;
use weir_types::figures::QueryFigures;
use weir_types::ledger::{Loss, Reach, Span};
use weir_types::metadata::{EntityChange, Machine};
use weir_types::source::{BlindProcess, CaptureFilters, OrderOutcome, SourceOrder};
use weir_types::split::{Change, NodePlan};

use super::*;
use crate::message::{
    Entities, FromNode, Life, NodeInfo, Place, Report, SourceStatus, TableStatus, ToNode,
};

const GOLDEN: &str = "src/envelope/golden.txt";
const PLACE: Place = Place { epoch: 1_795_942_749, sequence: 3 };

fn text(text: &str) -> String {
    text.to_string()
}

fn source() -> SourceStatus {
    SourceStatus {
        name: text("ebpf"),
        state: text("reduced"),
        reason: text("no BTF"),
        tables: vec![text("http_events")],
        blind: vec![BlindProcess { pid: 7, reason: text("io_uring"), bytes: 300 }],
        filters: vec![text("port:80")],
        counts: BTreeMap::from([(text("shed_calls"), 2)]),
    }
}

fn status() -> FromNode {
    let table = TableStatus {
        table: text("http_events"),
        rows_total: 1,
        history_bytes: 2,
        covers_from_unix_ns: -3,
        lost_total: vec![(text("ring_full"), 4)],
        unanswered_total: 5,
        unasked_total: 6,
        metadata_held_count: 7,
    };
    FromNode::Status {
        tick_ms: 1,
        tables: vec![table],
        sources: vec![source()],
        refused_total: vec![(text("bus"), 2)],
        running: vec![(3, 4)],
        functions: vec![text("GetAgentStatus")],
        epoch_max: 5,
        losses_told: 6,
        entities_told: 7,
        ordered: vec![
            (8, OrderOutcome::Refused { reason: text("no") }),
            (9, OrderOutcome::NotMine),
        ],
        figures: vec![QueryFigures { query: 3, refresh_ms: 100, ..QueryFigures::default() }],
        figures_left_out: 10,
    }
}

fn update() -> FromNode {
    let accs =
        vec![Acc::Count(2), Acc::SumInt(-9), Acc::MeanInt { sum: -1, count: 3 }, Acc::Min(None)];
    let changes = vec![
        Change::Row { row: PackedRow(vec![1, 2]), pane: -3, diff: -1 },
        Change::Partial { key: PackedRow(vec![9]), pane: 5, rows: 2, accs },
    ];
    FromNode::Update { query: 7, place: PLACE, exchange: 1, tick_ms: 1_000, changes }
}

fn from_node() -> Vec<FromNode> {
    let span = Span::new(1, 2);
    let loss = Loss {
        table: text("dns_events"),
        reason: text("queue_full"),
        reach: Reach::Later,
        span,
        count: 9,
    };
    let info = NodeInfo { version: text("0.1.0"), ..NodeInfo::named("a.b", 5, 6) };
    vec![
        FromNode::Register { info, sources: vec![source()], epoch_max: 3 },
        update(),
        FromNode::Progress {
            query: 7,
            place: PLACE,
            tick_ms: 1_000,
            complete_to_unix_ns: 4,
            covers_from_unix_ns: -1,
            event_samples_unix_ns: vec![8],
            losses_told: 1,
            entities_told: 2,
        },
        status(),
        FromNode::Losses { sequence: 1, whole: true, losses: vec![loss] },
        FromNode::Entities {
            sequence: 2,
            part: Entities::Whole { first: true, last: false },
            machine: Some(Machine { asid: 6, hostname: text("h"), ..Machine::default() }),
            changes: vec![EntityChange::DnsName(text("10.0.0.1"), Some(text("db")))],
        },
        FromNode::Failed { query: 7, epoch: 1, message: text("why") },
        FromNode::Leave,
        FromNode::Answer { sequence: 1, function: text("f"), rows: vec![PackedRow(vec![3])] },
        FromNode::Cuts { query: 7, place: PLACE, tick_ms: 1, cuts: vec![(text("cut"), 2)] },
        FromNode::EngineDied { query: Some(7) },
    ]
}

fn to_node() -> Vec<ToNode> {
    let filters = CaptureFilters { pids: [7].into(), ..CaptureFilters::default() };
    vec![
        ToNode::Install { query: 7, epoch: 1, plan: NodePlan::default(), refresh_ms: 100 },
        ToNode::Remove { query: 7, epoch: 1 },
        ToNode::Answer { functions: vec![text("f")] },
        ToNode::TellLosses,
        ToNode::TellEntities,
        ToNode::Introduce,
        ToNode::Order { id: 300, order: SourceOrder::SetFilters(filters) },
    ]
}

fn line(out: &mut String, name: &str, bytes: &[u8]) {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = name.split([' ', '{', '(']).next().unwrap_or_default();
    let _ = writeln!(out, "{name} {hex}");
}

/// Every message has the bytes that are written down, and is read back from them. Whoever changes a form raises
/// `VERSION`, keeps the former one readable where nodes may still speak it, and writes the bytes anew.
#[test]
fn messages_have_their_bytes() {
    let mut have = format!("version {VERSION}\n");
    let life = Life { incarnation: 5, generation: 1 };
    for message in from_node() {
        let report = Report { life, message };
        let bytes = encode(&report).unwrap();
        assert_eq!(decode::<Report>(&bytes).unwrap(), report);
        line(&mut have, &format!("{:?}", report.message), &bytes);
    }
    for message in to_node() {
        let bytes = encode(&message).unwrap();
        assert_eq!(decode::<ToNode>(&bytes).unwrap(), message);
        line(&mut have, &format!("{message:?}"), &bytes);
    }
    let path = Path::new(GOLDEN);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &have).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    for (have, golden) in have.lines().zip(golden.lines()) {
        assert_eq!(have, golden);
    }
    assert_eq!(have.lines().count(), golden.lines().count(), "UPDATE_GOLDEN=1 writes them");
}
