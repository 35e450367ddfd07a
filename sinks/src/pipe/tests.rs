//! A sink without views and threads, for the tests of its parts; and what the pipe itself promises.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_types::schema::Relation;
use weir_types::{Column, DataType, PackedRow, SemanticType, Value};

use super::*;
use crate::buffer::disk::DiskBuffer;
use crate::buffer::disk::dir::BufferDir;
use crate::buffer::disk::state::StateFile;
use crate::buffer::memory::MemoryBuffer;
use crate::delivery::{Changes, Completeness, Delivery, Output, OutputInfo};
use crate::sink::{Notes, Resume, SinkError, Writer};

pub(crate) fn info() -> OutputInfo {
    OutputInfo {
        table: "t".to_string(),
        relation: Relation::new(vec![
            Column::new("k", DataType::String, SemanticType::None),
            Column::new("n", DataType::Int64, SemanticType::None),
        ]),
        key: vec!["k".to_string()],
        window_from: String::new(),
        pane_ms: 0,
        window: None,
        widgets: vec![],
    }
}

pub(crate) fn delivery_of(
    info: OutputInfo,
    tick_ms: u64,
    rows: Vec<(PackedRow, i64)>,
    whole: bool,
) -> Arc<Delivery> {
    let changes = vec![Changes { output: Arc::new(Output::new(info)), rows }];
    Arc::new(Delivery::new(tick_ms, changes, whole.then(Completeness::default)))
}

pub(crate) fn delivery(tick_ms: u64, rows: &[(&str, i64, i64)], whole: bool) -> Arc<Delivery> {
    let packed = |key: &str, n: i64| PackedRow::pack(&[Value::str(key), Value::Int64(n)]);
    let rows = rows.iter().map(|(key, n, diff)| (packed(key, *n), *diff)).collect();
    delivery_of(info(), tick_ms, rows, whole)
}

/// Both ends of a sink on one thread.
pub(crate) struct Line {
    pub(crate) intake: Intake,
    pub(crate) pump: Pump,
}

impl Line {
    pub(crate) fn with(
        buffer: Buffer,
        when_full: WhenFull,
        mode: Mode,
        writer: Box<dyn Writer>,
        rows_max: usize,
    ) -> Line {
        let intake = pipe(buffer, when_full, mode, 1);
        let batch = BatchLimits { rows_max, bytes_max: 1 << 20, timeout: Duration::ZERO };
        let backoff = Backoff { initial: Duration::from_millis(1), max: Duration::from_millis(8) };
        let pump = Pump::new(intake.shared(), writer, batch, backoff, None);
        Line { intake, pump }
    }

    pub(crate) fn in_memory(mode: Mode, writer: Box<dyn Writer>) -> Line {
        let buffer = Buffer::Memory(MemoryBuffer::new(64 << 20, None));
        Line::with(buffer, WhenFull::Block, mode, writer, 10_000)
    }

    /// Opens the other end, and says which output follows.
    pub(crate) fn start(&mut self, goes_on: bool) -> Result<(), SinkError> {
        self.open()?;
        self.intake.start(0, &info(), goes_on)
    }

    pub(crate) fn open(&mut self) -> Result<(), SinkError> {
        if self.pump.is_open() {
            return Ok(());
        }
        match self.pump.step() {
            Pumped::Opened(resume) => {
                let is_lasting = self.pump.is_lasting();
                self.intake.resume(resume, is_lasting);
                Ok(())
            }
            Pumped::Refused(text) => Err(SinkError::Refused(text)),
            Pumped::Failed(error, _) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn deliver(&mut self, delivery: &Arc<Delivery>) -> Result<Filled, SinkError> {
        self.intake.take(0, delivery)?;
        self.intake.fill(0)
    }

    /// Until nothing waits.
    pub(crate) fn flush(&mut self) -> Result<(), SinkError> {
        loop {
            match self.pump.step() {
                Pumped::Idle(None) | Pumped::Quiet(_) => return Ok(()),
                Pumped::Refused(text) => return Err(SinkError::Refused(text)),
                Pumped::Failed(error, _) => return Err(error),
                _ => {}
            }
        }
    }

    pub(crate) fn health(&self) -> SinkHealth {
        self.intake.shared().health()
    }
}

/// Keeps what it is given, and answers as it is told.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    pub(crate) elements: Arc<Mutex<Vec<Element>>>,
    pub(crate) batches: Arc<Mutex<Vec<usize>>>,
    /// Rows with this number are never taken.
    pub(crate) refuses: Option<i64>,
    pub(crate) is_down: Arc<Mutex<bool>>,
    /// What an earlier one has left at the other end.
    pub(crate) before: Resume,
}

impl Kept {
    /// What arrived: op, and what is in it.
    pub(crate) fn said(&self) -> Vec<(&'static str, u64, i64)> {
        let elements = self.elements.lock().unwrap();
        elements.iter().map(|element| (element.op.name(), element.seq, number(element))).collect()
    }
}

fn number(element: &Element) -> i64 {
    match &element.body {
        crate::element::Body::Row(row) => match element.output.values(row).get(1) {
            Some(Value::Int64(n)) => *n,
            _ => -1,
        },
        crate::element::Body::Rows(rows) => i64::try_from(*rows).unwrap(),
        _ => 0,
    }
}

impl Writer for Kept {
    fn open(&mut self) -> Result<Resume, SinkError> {
        Ok(self.before)
    }

    fn check(&mut self) -> Result<(), SinkError> {
        match *self.is_down.lock().unwrap() {
            true => Err(SinkError::Retry("down".to_string())),
            false => Ok(()),
        }
    }

    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        if *self.is_down.lock().unwrap() {
            return Err(SinkError::Retry("down".to_string()));
        }
        self.batches.lock().unwrap().push(batch.len());
        if batch.iter().any(|element| Some(number(element)) == self.refuses) {
            return Err(SinkError::Unfit("too large".to_string()));
        }
        let leaving = batch.iter().filter(|element| element.op != Op::Progress);
        self.elements.lock().unwrap().extend(leaving.map(|element| (*element).clone()));
        *safe = batch.len();
        Ok(())
    }
}

fn buffers(dir: &std::path::Path, bytes_max: u64) -> [Buffer; 2] {
    [
        Buffer::Memory(MemoryBuffer::new(bytes_max, None)),
        Buffer::Disk(Box::new(DiskBuffer::open(dir, "t", bytes_max).unwrap())),
    ]
}

fn rows(from: i64, count: i64) -> Vec<(String, i64, i64)> {
    (from..from + count).map(|n| (format!("{n:>040}"), n, 1)).collect()
}

fn deliver(line: &mut Line, tick_ms: u64, rows: &[(String, i64, i64)]) -> Filled {
    let rows: Vec<(&str, i64, i64)> =
        rows.iter().map(|(key, n, diff)| (key.as_str(), *n, *diff)).collect();
    line.deliver(&delivery(tick_ms, &rows, true)).unwrap()
}

/// One element that the receiver never takes costs itself: the batch is split, the others arrive in order and
/// once. Catches a batch that is repeated for ever, or lost as a whole.
#[test]
fn one_bad_element_costs_itself() {
    for bad in [0, 1, 250, 499] {
        let dir = tempfile::tempdir().unwrap();
        for buffer in buffers(dir.path(), 4 << 20) {
            let kept = Kept { refuses: Some(bad), ..Kept::default() };
            let mut line =
                Line::with(buffer, WhenFull::Block, Mode::Append, Box::new(kept.clone()), 500);
            line.start(false).unwrap();
            assert_eq!(deliver(&mut line, 1, &rows(0, 500)), Filled::Done);
            line.flush().unwrap();
            let arrived: Vec<i64> = kept.said().iter().map(|(_, _, n)| *n).collect();
            let wanted: Vec<i64> = (0..500).filter(|n| *n != bad).collect();
            assert_eq!(arrived, wanted);
            let health = line.health();
            assert_eq!((health.rows_sent, health.rows_refused), (499, 1));
            assert_eq!((health.buffer_bytes, health.acked_ms), (0, Some(1)));
            assert!(kept.batches.lock().unwrap().len() < 40, "attempts are few");
        }
    }
}

/// A receiver that is down for long: memory and disk stay within their bound; with `block` the delivery waits
/// and nothing is lost, with the others what is dropped is counted and marked where it is missing.
#[test]
fn a_full_buffer_does_what_it_is_told() {
    for when_full in [WhenFull::Block, WhenFull::DropOldest, WhenFull::DropNewest] {
        let dir = tempfile::tempdir().unwrap();
        for buffer in buffers(dir.path(), 1 << 20) {
            let bytes_max = buffer.bytes_max();
            let kept = Kept::default();
            *kept.is_down.lock().unwrap() = true;
            let mut line = Line::with(buffer, when_full, Mode::Append, Box::new(kept.clone()), 100);
            line.start(false).unwrap();
            assert!(line.flush().is_ok());
            let mut filled = Filled::Done;
            let mut given = 0;
            for tick in 1..=30 {
                filled = deliver(&mut line, tick, &rows(given, 1_000));
                given += 1_000;
                assert!(line.health().buffer_bytes <= bytes_max, "{:?}", line.health());
                assert!(line.flush().is_err(), "it is down");
                if filled == Filled::Full {
                    break;
                }
            }
            assert_eq!(filled == Filled::Full, when_full == WhenFull::Block, "{when_full:?}");
            *kept.is_down.lock().unwrap() = false;
            line.flush().unwrap();
            while line.intake.fill(0).unwrap() == Filled::Full {
                line.flush().unwrap();
            }
            deliver(&mut line, 99, &rows(given, 1));
            given += 1;
            line.flush().unwrap();
            let said = kept.said();
            let lost: i64 = said.iter().filter(|it| it.0 == "lost").map(|it| it.2).sum();
            let arrived = said.iter().filter(|it| it.0 == "append").count() as i64;
            assert_eq!(arrived + lost, given, "{when_full:?}: {:?}", line.health());
            assert_eq!(line.health().rows_dropped, lost as u64);
            assert_eq!(lost > 0, when_full != WhenFull::Block);
            let numbers: Vec<u64> = said.iter().map(|it| it.1).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "numbers ascend");
            assert_eq!(line.health().acked_ms, Some(99));
            assert_eq!(line.health().rows_damaged, 0);
        }
    }
}

/// Where rows are written once, a mark among them says since when none is missing: behind those of an earlier server, and
/// when the answer covers less than it did; not in front of the first row of all, and never twice. What is kept equal to
/// an answer has none. Catches rows that a killed server took along, of which no reader ever learns.
#[test]
fn what_may_be_missing_is_marked() {
    use crate::encode::{Codec, push_line};
    const SEC: i64 = 1_000_000_000;
    let covering = |tick_ms: u64, key: &str, from_s: Option<i64>| {
        let delivery = delivery(tick_ms, &[(key, 1, 1)], false);
        let completeness = from_s.map(|from_s| Completeness {
            covers_from_unix_ns: from_s * SEC,
            ..Completeness::default()
        });
        let changes = delivery.changes.iter().map(|changes| Changes {
            output: Arc::clone(&changes.output),
            rows: changes.rows.clone(),
        });
        Arc::new(Delivery::new(tick_ms, changes.collect(), completeness))
    };
    let ops = |mode: Mode, before: Resume, disk: bool| {
        let dir = tempfile::tempdir().unwrap();
        let [memory, on_disk] = buffers(dir.path(), 4 << 20);
        let kept = Kept { before, ..Kept::default() };
        let writer = Box::new(kept.clone());
        let buffer = if disk { on_disk } else { memory };
        let mut line = Line::with(buffer, WhenFull::Block, mode, writer, 100);
        line.start(false).unwrap();
        for (tick, key, from_s) in [
            (1, "a", None),
            (1, "b", Some(10)),
            (2, "c", Some(10)),
            (3, "d", Some(30)),
            (4, "e", Some(20)),
            (5, "f", Some(30)),
        ] {
            line.deliver(&covering(tick, key, from_s)).unwrap();
            line.flush().unwrap();
        }
        let elements = kept.elements.lock().unwrap();
        let texts = [Codec::Json, Codec::Csv].map(|codec| {
            let lost = elements.iter().filter(|element| element.op == Op::Lost);
            let mut text = String::new();
            lost.for_each(|element| push_line(&mut text, codec, element));
            text
        });
        let ops: Vec<&str> = elements.iter().map(|element| element.op.name()).collect();
        (ops.join(" "), texts)
    };
    let begun = Resume { seq: 4, has_rows: true };
    for disk in [false, true] {
        let (all, [json, csv]) = ops(Mode::Append, Resume::default(), disk);
        assert_eq!(all, "append append append append lost append append");
        assert_eq!(
            json,
            "{\"op\":\"lost\",\"seq\":5,\"tick\":\"1970-01-01T00:00:00.003000000Z\",\"covers_from\":\"1970-01-01T00:00:30.000000000Z\"}\n"
        );
        assert_eq!(csv, "lost,5,1970-01-01T00:00:00.003000000Z,1970-01-01T00:00:30.000000000Z,\n");
        let (all, [json, _]) = ops(Mode::Append, begun, disk);
        assert_eq!(all, "reset append append lost append append lost append append");
        assert!(json.starts_with("{\"op\":\"lost\",\"seq\":8,"), "{json}");
        let (all, _) = ops(Mode::Changelog, begun, disk);
        assert_eq!(all, "reset insert insert insert insert insert insert");
    }
}

/// What waited in memory when its process ended is known to the next one, once: it counts that, says since when, begins with
/// a reset, and where rows are written once marks what may be missing, though no answer covers less than before. Nothing is
/// said where all was safe, of what had not been handed on as well as of what was on its way. Catches a backlog that goes
/// with a killed server, of which nobody ever learns.
#[test]
fn what_went_with_a_process_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let life = |kept: &Kept, mode: Mode| {
        let state = StateFile::open(&BufferDir::open(dir.path(), "t").unwrap()).unwrap();
        let buffer = Buffer::Memory(MemoryBuffer::new(1 << 20, Some(state)));
        let mut line = Line::with(buffer, WhenFull::Block, mode, Box::new(kept.clone()), 1);
        line.start(false).unwrap();
        line
    };
    let went = |line: &Line| (line.health().went.times, line.health().went.since_ms);
    let ops = |kept: &Kept| {
        let ops: Vec<_> = kept.elements.lock().unwrap().drain(..).collect();
        ops.iter().map(|element| element.op.name()).collect::<Vec<_>>().join(" ")
    };
    let kept = Kept::default();
    let mut line = life(&kept, Mode::Append);
    line.deliver(&delivery(1_000, &[("a", 1, 1)], true)).unwrap();
    line.flush().unwrap();
    line.deliver(&delivery(2_000, &[("b", 1, 1)], true)).unwrap();
    line.flush().unwrap();
    // All is safe.
    let mut line = life(&kept, Mode::Append);
    assert_eq!((went(&line), ops(&kept).as_str()), ((0, 0), "append append"));
    line.deliver(&delivery(3_000, &[("a", 1, 1)], true)).unwrap();
    line.flush().unwrap();
    assert_eq!(ops(&kept), "reset append", "no answer says that it covers less");
    // One is on its way, and one waits behind it; or both wait.
    for (times, since_ms, is_handed_on) in [(1, 3_000, true), (2, 5_000, false)] {
        *kept.is_down.lock().unwrap() = true;
        let rows = [("c", 1, 1), ("d", 1, 1)];
        line.deliver(&delivery(4_000 * times, &rows, true)).unwrap();
        assert!(!is_handed_on || line.flush().is_err());
        *kept.is_down.lock().unwrap() = false;
        line = life(&kept, Mode::Append);
        assert_eq!((went(&line), ops(&kept).as_str()), ((times, since_ms), ""));
        line.deliver(&delivery(5_000 * times, &[("a", 1, 1)], true)).unwrap();
        line.flush().unwrap();
        let lost = kept.elements.lock().unwrap().last().map(|element| element.body.clone());
        let tick_ns = weir_types::clock::tick_unix_ns(5_000 * times);
        assert!(matches!(lost, Some(crate::element::Body::Since(since)) if since == tick_ns));
        assert_eq!(ops(&kept), "reset append lost");
    }
    // What is kept equal to the view is told all of it anew, and needs no mark.
    *kept.is_down.lock().unwrap() = true;
    line.deliver(&delivery(11_000, &[("e", 1, 1)], true)).unwrap();
    *kept.is_down.lock().unwrap() = false;
    let mut line = life(&kept, Mode::Upsert);
    line.deliver(&delivery(12_000, &[("a", 1, 1)], true)).unwrap();
    line.flush().unwrap();
    assert_eq!((went(&line), ops(&kept).as_str()), ((3, 10_000), "reset upsert"));
}

/// Rows of a bin are final as they were when all of the bin was in the window, each once, however the window
/// takes them apart afterwards, and late ones of a bin that is leaving are none.
#[test]
fn final_rows_are_whole() {
    use weir_types::plan::SlidingWindow;
    const SEC: i64 = 1_000_000_000;
    let mut info = info();
    info.relation.columns[0] = Column::new("w", DataType::Time64Ns, SemanticType::None);
    info.key = vec!["w".to_string()];
    assert!(crate::mode::judge(Mode::Final, &info).is_err(), "without a window");
    info.window = Some(SlidingWindow { window_ns: 10 * SEC, pane_ns: SEC });
    let kept = Kept::default();
    let mut line = Line::in_memory(Mode::Final, Box::new(kept.clone()));
    line.open().unwrap();
    line.intake.start(0, &info, false).unwrap();
    let mut tick = |at_s: u64, rows: &[(i64, i64, i64)]| {
        let row =
            |bin: i64, n: i64| PackedRow::pack(&[Value::Time64Ns(bin * SEC), Value::Int64(n)]);
        let rows = rows.iter().map(|(bin, n, diff)| (row(*bin, *n), *diff)).collect();
        line.deliver(&delivery_of(info.clone(), at_s * 1_000, rows, true)).unwrap();
        line.flush().unwrap();
        kept.said().iter().map(|it| it.2).collect::<Vec<i64>>()
    };
    // At 12 s the window is (2, 12]: the bin at 0 s had begun to leave before anything was seen.
    assert_eq!(tick(12, &[(0, 3, 1), (5, 5, 1), (10, 1, 1)]), [0i64; 0]);
    assert_eq!(tick(13, &[(0, 3, -1), (0, 1, 1)]), [0i64; 0]);
    // A late row of a bin that is whole changes it, and is no final row.
    assert_eq!(tick(14, &[(5, 5, -1), (5, 6, 1)]), [0i64; 0]);
    assert_eq!(tick(16, &[(5, 6, -1), (5, 4, 1), (0, 1, -1)]), [6]);
    assert_eq!(tick(17, &[(5, 4, -1)]), [6]);
    // It comes back late, and goes again.
    assert_eq!(tick(18, &[(5, 1, 1)]), [6]);
    assert_eq!(tick(19, &[(5, 1, -1)]), [6]);
    assert_eq!(tick(30, &[(10, 1, -1)]), [6, 1]);
}

/// Whether the other end is there is looked at before anything is to be written, and again after a while in which
/// nothing was; what is written is as good as a look. Catches a sink that runs as long as nothing happens.
#[test]
fn the_other_end_is_looked_at() {
    let kept = Kept::default();
    let intake =
        pipe(Buffer::Memory(MemoryBuffer::new(1 << 20, None)), WhenFull::Block, Mode::Append, 1);
    let batch = BatchLimits { rows_max: 10, bytes_max: 1 << 20, timeout: Duration::ZERO };
    let second = Duration::from_secs(1);
    let backoff = Backoff { initial: second, max: 4 * second };
    let steps = |every: Duration| {
        let checks = Some(every);
        let mut pump = Pump::new(intake.shared(), Box::new(kept.clone()), batch, backoff, checks);
        assert!(matches!(pump.step(), Pumped::Opened(_)));
        pump
    };
    *kept.is_down.lock().unwrap() = true;
    let mut rare = steps(Duration::from_secs(3_600));
    assert!(matches!(rare.step(), Pumped::Failed(SinkError::Retry(_), wait) if wait == second));
    assert!(matches!(rare.step(), Pumped::Failed(_, wait) if wait == 2 * second));
    *kept.is_down.lock().unwrap() = false;
    assert!(matches!(rare.step(), Pumped::Checked));
    assert!(matches!(rare.step(), Pumped::Quiet(left) if left > 3_000 * second));
    let mut often = steps(Duration::from_nanos(1));
    assert!(matches!(often.step(), Pumped::Checked));
    *kept.is_down.lock().unwrap() = true;
    assert!(matches!(often.step(), Pumped::Failed(..)));
}

/// Notices what was told it, and finds what it was told.
struct Notices(Notes, Resume);

impl Writer for Notices {
    fn open(&mut self) -> Result<Resume, SinkError> {
        Ok(self.1)
    }

    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        *safe = batch.len();
        self.0.cleaned += 1;
        Ok(())
    }

    fn notes(&self) -> Notes {
        self.0
    }
}

/// What writers notice adds up over those that a sink has had, and one that finds a number which nobody gives is
/// refused. Catches counters that fall when a sink is configured anew, and numbers that begin at 0 again.
#[test]
fn notices_are_counted_once_and_stay() {
    let notices = |cleaned: u64, seq: u64| {
        let notes = Notes { cleaned, ..Notes::default() };
        Box::new(Notices(notes, Resume { seq, has_rows: false }))
    };
    let mut line = Line::in_memory(Mode::Append, notices(2, 0));
    line.start(false).unwrap();
    line.deliver(&delivery(1_000, &[("a", 1, 1)], true)).unwrap();
    line.flush().unwrap();
    line.flush().unwrap();
    assert_eq!(line.health().notes.cleaned, 3);
    let (batch, backoff) = (
        BatchLimits { rows_max: 10, bytes_max: 1 << 20, timeout: Duration::ZERO },
        Backoff { initial: Duration::from_millis(1), max: Duration::from_millis(8) },
    );
    line.pump = Pump::new(line.intake.shared(), notices(0, 0), batch, backoff, None);
    line.deliver(&delivery(2_000, &[("b", 1, 1)], true)).unwrap();
    line.open().unwrap();
    line.flush().unwrap();
    assert_eq!(line.health().notes.cleaned, 4);

    let mut line = Line::in_memory(Mode::Append, notices(0, u64::MAX));
    assert!(matches!(line.start(false), Err(SinkError::Refused(_))));
}
