//! Files as a reader finds them: whole, each element once, also after a crash.

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::{Field, RowAccessor};
use weir_types::{Column, DataType, PackedRow, SemanticType, Value};

use super::*;
use crate::encode::Mode;
use crate::pipe::tests::{Line, delivery, delivery_of, info};

fn line(dir: &Path, keep: Option<usize>) -> Line {
    let sink = ParquetSink::new(dir, Path::new("out/t.parquet"), keep);
    let mut line = Line::in_memory(Mode::Changelog, Box::new(sink));
    line.open().unwrap();
    line
}

fn names(dir: &Path) -> Vec<String> {
    let all = std::fs::read_dir(dir.join("out")).unwrap();
    let mut names: Vec<String> =
        all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".parquet"));
    names.sort();
    names
}

fn name(first: u64, last: u64) -> String {
    format!("t-{first:020}-{last:020}.parquet")
}

/// `op`, `seq` and what a column holds, of every row of every file.
fn rows(dir: &Path, column: &str) -> Vec<(String, i64, Option<Field>)> {
    let mut found = Vec::new();
    for name in names(dir) {
        let file = File::open(dir.join("out").join(name)).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            let value = row.get_column_iter().find(|(name, _)| *name == column);
            let value = value.map(|(_, field)| field.clone()).filter(|field| *field != Field::Null);
            found.push((row.get_string(0).unwrap().clone(), row.get_long(1).unwrap(), value));
        }
    }
    found
}

/// Each batch is a file that can be read, with its numbers in its name; half a file that a crash left is gone at the
/// next start, which goes on behind what is there, and what is there already does not get there twice. Only as many
/// stay as are wanted. Another process waits.
#[test]
fn batches_are_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = line(dir.path(), None);
    first.intake.start(0, &info(), false).unwrap();
    for tick in 1..=2 {
        first.deliver(&delivery(tick, &[("a", tick as i64, 1), ("b", 7, 1)], true)).unwrap();
        first.flush().unwrap();
    }
    assert_eq!(names(dir.path()), [name(1, 2), name(3, 4)]);
    let mut other = ParquetSink::new(dir.path(), Path::new("out/t.parquet"), None);
    assert!(matches!(other.open(), Err(SinkError::Retry(text)) if text.contains("lock")));
    drop(first);
    std::fs::write(dir.path().join("out/.t.parquet.part"), "PAR1 half").unwrap();

    let mut next = line(dir.path(), Some(2));
    assert!(!dir.path().join("out/.t.parquet.part").try_exists().unwrap());
    next.intake.start(0, &info(), false).unwrap();
    next.deliver(&delivery(3, &[("c", 9, 1)], true)).unwrap();
    next.flush().unwrap();
    assert_eq!(names(dir.path()), [name(3, 4), name(5, 6)]);
    let ops: Vec<(String, i64)> =
        rows(dir.path(), "n").into_iter().map(|(op, seq, _)| (op, seq)).collect();
    let wanted = [("insert", 3), ("insert", 4), ("reset", 5), ("insert", 6)];
    assert_eq!(ops, wanted.map(|(op, seq)| (op.to_string(), seq)));
}

/// What was acknowledged nowhere and is in a file is not written again.
#[test]
fn nothing_is_written_twice() {
    let dir = tempfile::tempdir().unwrap();
    let element = |seq: u64| {
        let output = Arc::new(crate::element::Described::new(0, false, &info()));
        let row = PackedRow::pack(&[Value::str("k"), Value::Int64(seq as i64)]);
        Element { output, op: Op::Insert, seq, tick_ms: 1, body: crate::element::Body::Row(row) }
    };
    let of = |seqs: &[u64]| seqs.iter().map(|seq| element(*seq)).collect::<Vec<Element>>();
    for seqs in [vec![1, 2], vec![1, 2, 3, 4], vec![3, 4]] {
        let mut sink = ParquetSink::new(dir.path(), Path::new("out/t.parquet"), None);
        sink.open().unwrap();
        let (elements, mut safe) = (of(&seqs), 0);
        for element in &elements {
            sink.write(&[element], &mut safe).unwrap();
        }
        assert_eq!(safe, elements.len());
    }
    let seqs: Vec<i64> = rows(dir.path(), "n").into_iter().map(|(_, seq, _)| seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
}

/// Every type is read as it was, also from the second row group on, and broken text is cleaned and counted.
#[test]
fn every_type_is_read_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut info = info();
    let types = [DataType::Boolean, DataType::Float64, DataType::Time64Ns, DataType::Uint128];
    for (at, data_type) in types.into_iter().enumerate() {
        info.relation.columns.push(Column::new(format!("c{at}"), data_type, SemanticType::None));
    }
    let row = PackedRow::pack(&[
        Value::String(b"\xff\0".to_vec()),
        Value::Int64(i64::MIN),
        Value::Boolean(true),
        Value::Float64(f64::NEG_INFINITY),
        Value::Time64Ns(1_767_225_601_000_000_001),
        Value::Uint128(7),
    ]);
    let mut line = line(dir.path(), None);
    line.intake.start(0, &info, false).unwrap();
    line.deliver(&delivery_of(info.clone(), 1_000, vec![(row, 1)], true)).unwrap();
    line.flush().unwrap();
    assert_eq!(line.health().notes.cleaned, 1);
    let of = |column: &str| rows(dir.path(), column).remove(0).2.unwrap();
    assert_eq!(of("k"), Field::Str("\u{fffd}\0".to_string()));
    assert_eq!(of("n"), Field::Long(i64::MIN));
    assert_eq!(of("c0"), Field::Bool(true));
    assert_eq!(of("c1"), Field::Double(f64::NEG_INFINITY));
    let text = format!("{:?} {:?}", of("c2"), of("c3"));
    assert!(text.contains("1767225601000000001"), "{text}");
}

/// A disk that is full is waited for: nothing half is seen, and once there is room nothing is missing.
#[test]
fn a_full_disk_is_waited_for() {
    use std::process::Command;
    if !rustix::process::geteuid().is_root() {
        return weir_types::testing::skipped("mounting a small file system needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=96k", "tmpfs"];
    assert!(Command::new("mount").args(mount).arg(dir.path()).status().unwrap().success());
    let mut line = line(dir.path(), None);
    line.intake.start(0, &info(), false).unwrap();
    let keys: Vec<String> = (0..2_000).map(|n| format!("{n:08}")).collect();
    let (mut full, mut last) = (0, 0);
    for tick in 1..=6 {
        let all: Vec<(&str, i64, i64)> =
            keys.iter().map(|key| (key.as_str(), tick as i64, 1)).collect();
        line.deliver(&delivery(tick, &all, true)).unwrap();
        while let Err(error) = line.flush() {
            assert!(matches!(error, SinkError::Full(_)), "{error}");
            full += 1;
            let seqs: Vec<i64> = rows(dir.path(), "n").iter().map(|(_, seq, _)| *seq).collect();
            assert!(seqs.windows(2).all(|two| two[0] + 1 == two[1]), "a gap");
            for name in names(dir.path()) {
                std::fs::remove_file(dir.path().join("out").join(name)).unwrap();
            }
        }
        last = rows(dir.path(), "n").last().map_or(last, |(_, seq, _)| *seq);
    }
    drop(line);
    assert!(Command::new("umount").arg(dir.path()).status().unwrap().success());
    assert!(full > 0, "the disk is never full");
    assert_eq!(last, 12_000);
}
