//! Captures as tests write them, against the rows that they have to give.

mod files;
mod hostile;
mod links;
mod order;
mod packets;
mod tunnels;

use weir_types::batch::value_at;
use weir_types::{RecordBatch, Value, tables};

use self::packets::{Timed, pcap};
use super::file::CaptureFile;
use super::*;

/// A row by its columns.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    table: &'static str,
    values: Vec<Value>,
}

impl Row {
    fn value(&self, column: &str) -> &Value {
        let relation = tables::relation(self.table).unwrap();
        &self.values[relation.index_of(column).unwrap()]
    }

    fn text(&self, column: &str) -> String {
        match self.value(column) {
            Value::String(text) => String::from_utf8_lossy(text).into_owned(),
            other => panic!("{column} is {other:?}"),
        }
    }

    fn int(&self, column: &str) -> i64 {
        match self.value(column) {
            Value::Int64(value) | Value::Time64Ns(value) => *value,
            other => panic!("{column} is {other:?}"),
        }
    }
}

fn rows_of(batches: &[(&'static str, RecordBatch)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (table, batch) in batches {
        let relation = tables::relation(table).unwrap();
        for row in 0..batch.num_rows() {
            let value = |idx: usize| {
                value_at(batch.column(idx), relation.columns[idx].data_type, row).unwrap()
            };
            rows.push(Row { table, values: (0..relation.len()).map(value).collect() });
        }
    }
    rows
}

/// What came of a file.
struct Outcome {
    rows: Vec<Row>,
    counters: ReplayCounters,
    ending: Ending,
}

impl Outcome {
    fn table(&self, name: &str) -> TableCounts {
        self.counters.tables.get(name).cloned().unwrap_or_default()
    }

    /// Everything that was counted instead of becoming a row.
    fn counted(&self, name: &str) -> u64 {
        let table = self.table(name);
        table.lost.values().sum::<u64>() + table.unanswered + table.unasked
    }
}

fn replay_with(file: &[u8], config: ReplayConfig) -> Outcome {
    let mut replay = opened(file, config).expect("it is a capture");
    let mut batches = Vec::new();
    let ending = replay
        .run(&mut |table, batch| {
            batches.push((table, batch));
            Ok::<(), ReplayError>(())
        })
        .unwrap();
    Outcome { rows: rows_of(&batches), counters: replay.counters(), ending }
}

/// `None`: it is no capture.
fn opened(file: &[u8], config: ReplayConfig) -> Option<Replay> {
    let file = CaptureFile::new(Box::new(std::io::Cursor::new(file.to_vec()))).unwrap()?;
    Some(Replay::of(Path::new("test"), file, config))
}

fn replay(file: &[u8]) -> Outcome {
    replay_with(file, ReplayConfig::default())
}

/// Packets on an Ethernet.
fn replay_packets(packets: &[Timed]) -> Outcome {
    replay(&pcap(1, packets))
}

/// The numbers of the exchanges in rows; fails if a row has the answer of another request.
fn numbers(rows: &[Row]) -> Vec<usize> {
    let number = |row: &Row| {
        let (path, body) = (row.text("req_path"), row.text("resp_body"));
        let asked: usize = path.trim_start_matches("/n/").parse().unwrap();
        // What was lost of a body is marked; what is there is never another's.
        if let Some(answered) = body.strip_prefix("answer ")
            && let Ok(answered) = answered.parse::<usize>()
        {
            assert_eq!(asked, answered, "a wrong pair");
        }
        asked
    };
    rows.iter().filter(|row| row.table == "http_events").map(number).collect()
}
