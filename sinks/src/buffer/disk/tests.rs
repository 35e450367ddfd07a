//! Buffers as they are found: after a kill, cut, flipped, deleted, full, linked.

use std::path::PathBuf;

use proptest::prelude::*;
use weir_types::Value;

use super::*;
use crate::element::Body;
use crate::pipe::tests::info;

fn described() -> Arc<Described> {
    Arc::new(Described::new(0, false, &info()))
}

fn element(output: &Arc<Described>, seq: u64) -> Element {
    let n = i64::try_from(seq).unwrap();
    let row = weir_types::PackedRow::pack(&[Value::str(&format!("{seq:>200}")), Value::Int64(n)]);
    let output = Arc::clone(output);
    Element { output, op: Op::Insert, seq, tick_ms: seq / 10, body: Body::Row(row) }
}

/// Pushes this many, numbered as they come.
fn push(buffer: &mut DiskBuffer, output: &Arc<Described>, count: u64) {
    for _ in 0..count {
        let next = element(output, buffer.last_seq() + 1);
        assert!(buffer.push(&next).unwrap());
    }
}

fn open(dir: &Path) -> DiskBuffer {
    DiskBuffer::open(dir, "t", 64 << 20).unwrap()
}

/// Takes out all there is: numbers of elements that are as they were, and how many are said to be missing.
fn drain(buffer: &mut DiskBuffer) -> (Vec<u64>, u64) {
    let (mut numbers, mut lost) = (Vec::new(), 0);
    while !buffer.is_empty() {
        let taken = buffer.take(500, 1 << 20).unwrap();
        for taken in &taken {
            match &taken.element.body {
                Body::Rows(rows) => lost += rows,
                body => {
                    let seq = taken.element.seq;
                    assert_eq!(*body, element(&taken.element.output, seq).body);
                    numbers.push(seq);
                }
            }
        }
        buffer.ack(&taken);
    }
    (numbers, lost)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(dir.join("sinks/t")).unwrap();
    let mut files: Vec<PathBuf> = all.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    files.sort();
    files
}

/// A process that was killed has lost nothing that was pushed: the next one takes out all that was not
/// acknowledged, in order, as it was, then goes on with the next number; what was acknowledged does not come
/// again.
#[test]
fn a_kill_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let output = described();
    let mut first = open(dir.path());
    push(&mut first, &output, 1_000);
    let taken = first.take(300, 1 << 20).unwrap();
    first.note_sent(300);
    first.ack(&taken[..250]);
    // As a kill leaves it: nothing is synced, nothing is closed.
    std::mem::forget(first);
    let mut next = open(dir.path());
    assert_eq!(next.last_seq(), 1_000);
    push(&mut next, &output, 10);
    assert_eq!(drain(&mut next), ((251..=1_010).collect(), 0));
    assert_eq!(next.damage(), Damage::default());
    assert_eq!(next.bytes(), 0);
    std::mem::forget(next);
    let mut last = open(dir.path());
    assert_eq!((last.last_seq(), drain(&mut last)), (1_010, (vec![], 0)));
}

/// What was sent keeps its number, even if the file that held it is gone: no number is given twice. What is
/// missing is counted and said.
#[test]
fn a_deleted_file_costs_what_was_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let output = described();
    let mut first = DiskBuffer::open(dir.path(), "t", 1 << 20).unwrap();
    push(&mut first, &output, 2_000);
    first.sync().unwrap();
    drop(first);
    let all = files(dir.path());
    assert!(all.len() > 3, "{all:?}");
    std::fs::remove_file(&all[1]).unwrap();
    std::fs::remove_file(all.last().unwrap()).unwrap();
    let mut next = DiskBuffer::open(dir.path(), "t", 1 << 20).unwrap();
    assert_eq!(next.last_seq(), 2_000);
    push(&mut next, &output, 1);
    let (numbers, lost) = drain(&mut next);
    assert_eq!(numbers.len() as u64 + lost, 2_001);
    assert_eq!((next.damage().elements, numbers.last()), (lost, Some(&2_001)));
    assert!(lost > 200, "{lost}");
    assert!(numbers.is_sorted());
}

/// A buffer into which nothing came is whole when it is opened again. Catches damage that is none.
#[test]
fn an_empty_one_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let mut next = open(dir.path());
    assert_eq!((next.damage(), next.last_seq()), (Damage::default(), 0));
    assert_eq!(drain(&mut next), (vec![], 0));
}

/// A link in the place of a file or of the folder is not followed, and what it leads to stays as it is.
#[test]
fn links_are_not_followed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = described();
    let mut first = open(dir.path());
    push(&mut first, &output, 5);
    first.sync().unwrap();
    drop(first);
    let secret = other.path().join("secret");
    std::fs::write(&secret, "mine").unwrap();
    let segment = files(dir.path()).remove(0);
    std::fs::remove_file(&segment).unwrap();
    std::os::unix::fs::symlink(&secret, &segment).unwrap();
    let mut next = open(dir.path());
    push(&mut next, &output, 1);
    assert_eq!(drain(&mut next), (vec![6], 5));
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "mine");
    drop(next);
    std::fs::remove_dir_all(dir.path().join("sinks/t")).unwrap();
    std::os::unix::fs::symlink(other.path(), dir.path().join("sinks/t")).unwrap();
    assert!(matches!(DiskBuffer::open(dir.path(), "t", 1 << 20), Err(SinkError::Refused(_))));
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 1);
}

/// A full disk: nothing that was taken is lost, nothing torn is left, and once there is room it goes on. On a
/// small file system of its own, as root.
#[test]
fn a_full_disk_is_waited_for() {
    use std::process::Command;
    if !rustix::process::geteuid().is_root() {
        return weir_types::testing::skipped("mounting a small file system needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"];
    assert!(Command::new("mount").args(mount).arg(dir.path()).status().unwrap().success());
    let output = described();
    let mut buffer = open(dir.path());
    let (mut full, mut pushed) = (0, 0);
    while pushed < 3_000 {
        match buffer.push(&element(&output, buffer.last_seq() + 1)) {
            Ok(true) => pushed += 1,
            Ok(false) => panic!("its own bound is far away"),
            Err(SinkError::Full(_)) => {
                full += 1;
                let before = buffer.last_seq();
                // Its files are closed, as those of a process that was killed; nothing else is done.
                drop(buffer);
                buffer = open(dir.path());
                assert_eq!(buffer.last_seq(), before);
                let (numbers, lost) = drain(&mut buffer);
                assert_eq!((numbers.last().copied(), lost), (Some(before), 0));
            }
            Err(error) => panic!("{error}"),
        }
    }
    drop(buffer);
    assert!(Command::new("umount").arg(dir.path()).status().unwrap().success());
    assert!(full > 1, "the disk is never full");
}

/// How the files are spoiled while nobody has them open.
#[derive(Clone, Debug)]
enum Spoil {
    Flip(usize, usize, u8),
    Cut(usize, usize),
    Zero(usize, usize, usize),
    Delete(usize),
    Garbage(usize, usize),
}

fn spoils() -> impl Strategy<Value = Spoil> {
    let any = 0..usize::MAX;
    prop_oneof![
        (any.clone(), any.clone(), 1..=255u8).prop_map(|(f, at, by)| Spoil::Flip(f, at, by)),
        (any.clone(), any.clone()).prop_map(|(f, at)| Spoil::Cut(f, at)),
        (any.clone(), any.clone(), 1..5_000usize).prop_map(|(f, at, n)| Spoil::Zero(f, at, n)),
        any.clone().prop_map(Spoil::Delete),
        (any.clone(), any).prop_map(|(f, n)| Spoil::Garbage(f, n)),
    ]
}

fn spoil(dir: &Path, spoil: &Spoil) {
    let mut all = files(dir);
    all.push(dir.join("sinks/t/state"));
    let change = |file: usize, change: &dyn Fn(&mut Vec<u8>)| {
        let path = &all[file % all.len()];
        let mut bytes = std::fs::read(path).unwrap_or_default();
        if !bytes.is_empty() {
            change(&mut bytes);
            std::fs::write(path, bytes).unwrap();
        }
    };
    match spoil {
        Spoil::Flip(file, at, by) => change(*file, &|bytes| {
            let len = bytes.len();
            bytes[at % len] ^= by;
        }),
        Spoil::Cut(file, at) => change(*file, &|bytes| bytes.truncate(at % bytes.len())),
        Spoil::Zero(file, at, count) => change(*file, &|bytes| {
            let from = at % bytes.len();
            let to = (from + count).min(bytes.len());
            bytes[from..to].fill(0);
        }),
        Spoil::Delete(file) => drop(std::fs::remove_file(&all[file % all.len()])),
        Spoil::Garbage(file, count) => change(*file, &|bytes| {
            bytes.extend((0..count % 3_000).map(|n| (n * 7 % 256) as u8));
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// However the files are spoiled: what comes out is what went in, in order and once, and what does not come
    /// out is counted, exactly as long as the numbers of the sink are known.
    #[test]
    fn damage_costs_itself(
        spoilt in proptest::collection::vec(spoils(), 1..4),
        count in 1..1_500u64,
        acked in 0..200usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let output = described();
        let mut first = DiskBuffer::open(dir.path(), "t", 1 << 20).unwrap();
        push(&mut first, &output, count);
        first.sync().unwrap();
        let taken = first.take(acked.max(1), 1 << 20).unwrap();
        first.ack(&taken[..acked.min(taken.len())]);
        let done = acked.min(taken.len()) as u64;
        std::mem::forget(first);
        spoilt.iter().for_each(|it| spoil(dir.path(), it));
        let is_state_whole = StateFile::open(&BufferDir::open(dir.path(), "t").unwrap())
            .is_ok_and(|state| state.saved().written_seq == count && state.saved().acked_seq == done);
        let mut next = DiskBuffer::open(dir.path(), "t", 1 << 20).unwrap();
        push(&mut next, &output, 3);
        let last = next.last_seq();
        let (numbers, lost) = drain(&mut next);
        prop_assert!(numbers.is_sorted_by(|a, b| a < b), "once and in order");
        prop_assert_eq!(&numbers[numbers.len() - 3..], &[last - 2, last - 1, last]);
        prop_assert_eq!(next.damage().elements, lost);
        if is_state_whole {
            prop_assert_eq!(last, count + 3);
            prop_assert_eq!(numbers.len() as u64 + lost, count - done + 3);
        }
        prop_assert_eq!(next.bytes(), 0);
    }
}
