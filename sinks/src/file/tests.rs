//! Files as they are found and as they are treated: full, cut, moved, removed, linked.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;
use crate::encode::{Encoding, Mode};
use crate::pipe::tests::{Line, delivery};

fn encoding(mode: Mode, codec: Codec) -> Encoding {
    Encoding { mode, codec }
}

fn unstarted(base: &Path, path: &Path, encoding: Encoding) -> Line {
    Line::in_memory(encoding.mode, Box::new(FileSink::new(base, path, encoding.codec, None)))
}

fn sink(base: &Path, encoding: Encoding) -> Line {
    let mut sink = unstarted(base, Path::new("out/t.jsonl"), encoding);
    // A process that another test has just forked holds its parent's locks until it runs its own program.
    let is_locked = |error: &SinkError| matches!(error, SinkError::Retry(why) if why.contains("lock"));
    while sink.start(false).map_err(|error| assert!(is_locked(&error), "{error}")).is_err() {
        std::thread::yield_now();
    }
    sink
}

fn text(base: &Path) -> String {
    std::fs::read_to_string(base.join("out/t.jsonl")).unwrap()
}

/// What each line says, without the times.
fn said(text: &str) -> Vec<(String, u64, String)> {
    let line = |line: &str| {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        let what = if json.get("row").is_some() { &json["row"]["n"] } else { &json["key"] };
        (json["op"].as_str().unwrap().to_string(), json["seq"].as_u64().unwrap(), what.to_string())
    };
    text.lines().map(line).collect()
}

fn is(text: &str, want: &[(&str, u64, &str)]) {
    let have = said(text);
    let have: Vec<(&str, u64, &str)> =
        have.iter().map(|(op, seq, what)| (op.as_str(), *seq, what.as_str())).collect();
    assert_eq!(have, want);
}

/// The three modes say the same changes; a key that changes within a tick is no deletion, also where the
/// parts of the tick come in the other order. Catches a delete that follows its own upsert.
#[test]
fn modes_and_parts() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = sink(dir.path(), encoding(Mode::Upsert, Codec::Json));
    for part in [
        delivery(1, &[("a", 1, 1), ("b", 1, 1)], true),
        delivery(2, &[("a", 2, 1)], false),
        delivery(2, &[("a", 1, -1), ("b", 1, -1)], true),
    ] {
        sink.deliver(&part).unwrap();
        sink.flush().unwrap();
    }
    let want =
        [("upsert", 1, "1"), ("upsert", 2, "1"), ("upsert", 3, "2"), ("delete", 4, "[\"b\"]")];
    is(&text(dir.path()), &want);
    assert_eq!(sink.health().acked_ms, Some(2));

    for (mode, want) in
        [(Mode::Changelog, "insert,1,delete,2,delete,3"), (Mode::Append, "append,1")]
    {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = self::sink(dir.path(), encoding(mode, Codec::Csv));
        sink.deliver(&delivery(1, &[("x,\n\"", 1, 1), ("y", 2, -2)], true)).unwrap();
        sink.flush().unwrap();
        let out = text(dir.path());
        let fields: Vec<&str> = out
            .lines()
            .filter(|line| line.contains("1970"))
            .flat_map(|line| line.split(',').take(2))
            .collect();
        assert_eq!(fields.join(","), want);
        assert!(out.contains("\"x,\n\"\"\",1\n"), "{out}");
        assert!(out.starts_with("op,seq,tick,k,n\n"), "{out}");
    }
}

/// A row that is there a trillion times is refused with what to do, and nothing of it is written as if it were
/// all. Catches a sink that takes all memory for one change.
#[test]
fn copies_have_a_bound() {
    for mode in [Mode::Changelog, Mode::Append] {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = sink(dir.path(), encoding(mode, Codec::Json));
        sink.deliver(&delivery(1, &[("a", 1, 1)], true)).unwrap();
        sink.flush().unwrap();
        let taken = sink.deliver(&delivery(2, &[("b", 2, 1 << 40)], true));
        let Err(SinkError::Refused(why)) = taken else { panic!("taken") };
        sink.flush().unwrap();
        assert!(why.contains("count rows"), "{why}");
        assert_eq!((text(dir.path()).lines().count(), sink.health().acked_ms), (1, Some(1)));
    }
}

/// A new life goes on behind the old one's numbers, says first that what is there is void, and cuts half
/// of a line that a crash has left.
#[test]
fn a_new_life_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let json = encoding(Mode::Changelog, Codec::Json);
    let mut first = sink(dir.path(), json);
    first.deliver(&delivery(1, &[("a", 1, 1)], true)).unwrap();
    first.flush().unwrap();
    drop(first);
    let path = dir.path().join("out/t.jsonl");
    let mut torn = text(dir.path());
    torn.push_str("{\"op\":\"ins");
    std::fs::write(&path, torn).unwrap();
    let mut next = sink(dir.path(), json);
    next.deliver(&delivery(2, &[("a", 7, 1)], true)).unwrap();
    next.flush().unwrap();
    is(&text(dir.path()), &[("insert", 1, "1"), ("reset", 2, "null"), ("insert", 3, "7")]);
    // The same view goes on: nothing is void.
    next.start(true).unwrap();
    next.deliver(&delivery(3, &[("a", 8, 1)], true)).unwrap();
    next.flush().unwrap();
    assert_eq!(said(&text(dir.path())).last().unwrap().0, "insert");

    drop(next);
    std::fs::write(&path, "dear diary\n").unwrap();
    let mut other = unstarted(dir.path(), Path::new("out/t.jsonl"), json);
    assert!(matches!(other.start(false), Err(SinkError::Refused(_))));
    assert_eq!(text(dir.path()), "dear diary\n");
    std::fs::write(&path, "dear diary\ntoday").unwrap();
    assert!(matches!(other.start(false), Err(SinkError::Refused(_))));
    assert_eq!(text(dir.path()), "dear diary\ntoday", "what is not ours is not cut");
}

/// Moved away, a file is left as it is and a new one begun; removed, what was not synced before is in the
/// new one; cut, it goes on. No element is in none of them, and none is in two.
#[test]
fn rotated_removed_and_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = sink(dir.path(), encoding(Mode::Changelog, Codec::Json));
    let path = dir.path().join("out/t.jsonl");
    let mut write = |tick_ms: u64| {
        sink.deliver(&delivery(tick_ms, &[("a", 1, 1)], true)).unwrap();
        sink.flush().unwrap();
    };
    write(1);
    std::fs::rename(&path, dir.path().join("old")).unwrap();
    write(2);
    assert_eq!(said(&std::fs::read_to_string(dir.path().join("old")).unwrap()).len(), 1);
    is(&text(dir.path()), &[("insert", 2, "1")]);
    std::fs::remove_file(&path).unwrap();
    write(3);
    is(&text(dir.path()), &[("insert", 3, "1")]);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    write(4);
    is(&text(dir.path()), &[("insert", 4, "1")]);
    assert_eq!(sink.health().notes.replaced, 3);
}

/// Nothing is written through a link, out of the folder, or to what is not a plain file of ours, and the
/// message says why.
#[test]
fn what_is_not_ours_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let json = Encoding::default();
    let refused = |path: &Path| {
        let error = unstarted(dir.path(), path, json).start(false).unwrap_err();
        assert!(matches!(error, SinkError::Refused(_)), "{path:?}: {error}");
        error.to_string()
    };
    std::fs::write(other.path().join("secret"), "").unwrap();
    std::os::unix::fs::symlink(other.path().join("secret"), dir.path().join("link")).unwrap();
    std::os::unix::fs::symlink(other.path(), dir.path().join("folder")).unwrap();
    std::fs::hard_link(other.path().join("secret"), dir.path().join("hard")).unwrap();
    std::fs::write(dir.path().join("open"), "").unwrap();
    std::fs::set_permissions(dir.path().join("open"), PermissionsExt::from_mode(0o666)).unwrap();
    assert!(Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap().success());
    assert!(refused(Path::new("link")).contains("symbolic link"));
    assert!(refused(Path::new("folder/x")).contains("symbolic link"));
    assert!(refused(&dir.path().join("folder/x")).contains("symbolic link"));
    assert!(refused(Path::new("../x")).contains("leads out"));
    assert!(refused(Path::new("hard")).contains("hard link"));
    assert!(refused(Path::new("open")).contains("written by others"));
    assert!(refused(Path::new("pipe")).contains("plain file"));
    assert!(refused(Path::new("/dev/null")).contains("plain file"));
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 1);
}

/// A full disk: nothing torn is left, nothing accepted is forgotten, and once there is room it goes on
/// without a gap or a double. On a small file system of its own, as root.
#[test]
fn a_full_disk_is_waited_for() {
    if !rustix::process::geteuid().is_root() {
        return weir_types::testing::skipped("mounting a small file system needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(dir.path())
        .status()
        .unwrap();
    assert!(mounted.success());
    let filled = || std::fs::write(dir.path().join("ballast"), vec![0; 48 << 10]);
    filled().unwrap();
    let mut sink = sink(dir.path(), encoding(Mode::Changelog, Codec::Json));
    let rows: Vec<(&str, i64, i64)> = (0..60).map(|n| ("key", n, 1)).collect();
    let mut full = 0;
    for tick in 1..=6 {
        sink.deliver(&delivery(tick, &rows, true)).unwrap();
        while let Err(error) = sink.flush() {
            assert!(matches!(error, SinkError::Full(_)), "{error}");
            assert!(text(dir.path()).is_empty() || text(dir.path()).ends_with('\n'));
            assert_eq!(sink.health().acked_ms, (tick > 1).then_some(tick - 1), "{error}");
            full += 1;
            std::fs::remove_file(dir.path().join("ballast")).unwrap();
        }
    }
    let written = said(&text(dir.path()));
    drop(sink);
    assert!(Command::new("umount").arg(dir.path()).status().unwrap().success());
    assert_eq!(full, 1, "the disk is never full");
    let numbers: Vec<u64> = written.iter().map(|(_, seq, _)| *seq).collect();
    assert_eq!(numbers, (1..=360).collect::<Vec<u64>>());
}

/// Half a line that a crash left is cut off when the sink starts, not with its first write, and counted; what
/// follows is whole. Of CSV a line end within quotes ends no record: half a record with one in it goes as a
/// whole. Would catch a line that is glued to the half of another.
#[test]
fn half_a_line_is_cut_off() {
    let halves = [
        (Codec::Json, "{\"op\":\"insert\",\"seq\":3,\"ti"),
        (Codec::Csv, "insert,3,2026-01-01T00:00:00.000000000Z,\"one\ntwo"),
        (Codec::Csv, "insert,3,2026-01-01T00:00:00.000000000Z,\"one\n7,8\nthree \"\"x\"\"\n"),
    ];
    for (codec, half) in halves {
        let dir = tempfile::tempdir().unwrap();
        let mut first = sink(dir.path(), encoding(Mode::Changelog, codec));
        first.deliver(&delivery(1_000, &[("a\n\"b", 1, 1), ("c", 2, 1)], true)).unwrap();
        first.flush().unwrap();
        drop(first);
        let before = text(dir.path());
        std::fs::write(dir.path().join("out/t.jsonl"), format!("{before}{half}")).unwrap();
        let mut next = sink(dir.path(), encoding(Mode::Changelog, codec));
        assert_eq!(text(dir.path()), before, "{half}");
        assert_eq!(next.health().notes.halves_cut, 1);
        next.deliver(&delivery(2_000, &[("a", 3, 1)], true)).unwrap();
        next.flush().unwrap();
        assert!(text(dir.path()).starts_with(&before));
        assert!(text(dir.path())[before.len()..].starts_with(match codec {
            Codec::Json => "{\"op\":\"reset\",\"seq\":3",
            Codec::Csv => "reset,3,",
        }));
        drop(next);
        assert_eq!(sink(dir.path(), encoding(Mode::Changelog, codec)).health().notes.halves_cut, 0);
    }
}

/// Half of the very first line is cut off as well, and nothing else is taken for one.
#[test]
fn half_of_the_first_line() {
    for (codec, half, ours) in [
        (Codec::Json, "{\"op\":\"insert\",\"se", true),
        (Codec::Json, "{\"o", true),
        (Codec::Json, "{\"name\": 1", false),
        (Codec::Csv, "op,seq", true),
        (Codec::Csv, "name,seq", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        let path = dir.path().join("out/t.jsonl");
        std::fs::write(&path, half).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let path = Path::new("out/t.jsonl");
        let mut sink = unstarted(dir.path(), path, encoding(Mode::Changelog, codec));
        assert_eq!(sink.start(false).is_ok(), ours, "{half}");
        assert_eq!(text(dir.path()), if ours { "" } else { half });
    }
}

/// A second writer of a file is refused with a message that says so, and writes nothing; once the first has
/// gone it goes on. Would catch two servers whose lines mix.
#[test]
fn one_writer_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = sink(dir.path(), encoding(Mode::Changelog, Codec::Json));
    first.deliver(&delivery(1_000, &[("a", 1, 1)], true)).unwrap();
    first.flush().unwrap();
    let before = text(dir.path());
    let path = Path::new("out/t.jsonl");
    let mut second = unstarted(dir.path(), path, encoding(Mode::Changelog, Codec::Json));
    let refused = second.start(false).unwrap_err();
    assert!(matches!(&refused, SinkError::Retry(why) if why.contains("lock")), "{refused}");
    assert_eq!(text(dir.path()), before);
    drop(first);
    second.start(false).unwrap();
    second.deliver(&delivery(2_000, &[("a", 2, 1)], true)).unwrap();
    second.flush().unwrap();
    assert_eq!(said(&text(dir.path())).len(), 3, "the reset and its row follow");
}

/// What is sent is what was written and is safe: not what waits, nor what the mode leaves out. Would catch
/// numbers of a sink that writes nothing.
#[test]
fn sent_is_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = sink(dir.path(), encoding(Mode::Append, Codec::Json));
    sink.deliver(&delivery(1_000, &[("a", 1, 2), ("b", 1, -1)], true)).unwrap();
    let counts = |sink: &Line| (sink.health().rows_sent, sink.health().rows_waiting);
    assert_eq!(counts(&sink), (0, 2));
    sink.flush().unwrap();
    assert_eq!(counts(&sink), (2, 0));
    assert_eq!(said(&text(dir.path())).len(), 2);
}

fn rotating(base: &Path, rotation: Rotation) -> Line {
    let sink = FileSink::new(base, Path::new("out/t.jsonl"), Codec::Json, Some(rotation));
    let mut line = Line::in_memory(Mode::Changelog, Box::new(sink));
    line.start(false).unwrap();
    line
}

/// A file that would be too large is put aside with the number of its last element in its name, and only the newest
/// of those stay; all of them are whole, and the numbers go on from one to the next, also where a life ended right
/// after one was put aside. Without that a new life would begin again with 1.
#[test]
fn large_files_are_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let rotation = Rotation { bytes_max: Some(600), every: None, keep: Some(3) };
    let mut sink = rotating(dir.path(), rotation);
    for tick in 1..=10 {
        sink.deliver(&delivery(tick, &[("a", 1, 1), ("b", 2, 1)], true)).unwrap();
        sink.flush().unwrap();
    }
    drop(sink);
    let names = || {
        let all = std::fs::read_dir(dir.path().join("out")).unwrap();
        let mut names: Vec<String> =
            all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let aside = |seq: u64| format!("t-{seq:020}.jsonl");
    assert_eq!(names(), [aside(8), aside(12), aside(16), "t.jsonl".to_string()]);
    let mut numbers = Vec::new();
    for name in names() {
        let text = std::fs::read_to_string(dir.path().join("out").join(name)).unwrap();
        numbers.extend(said(&text).into_iter().map(|(_, seq, _)| seq));
    }
    assert_eq!(numbers, (5..=20).collect::<Vec<u64>>());

    std::fs::remove_file(dir.path().join("out/t.jsonl")).unwrap();
    let mut next = rotating(dir.path(), rotation);
    next.deliver(&delivery(11, &[("a", 1, 1)], true)).unwrap();
    next.flush().unwrap();
    assert_eq!(said(&text(dir.path()))[0].1, 17);
}

/// A file that is old enough is put aside when something is written.
#[test]
fn old_files_are_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let every = Some(std::time::Duration::from_nanos(1));
    let mut sink = rotating(dir.path(), Rotation { every, ..Rotation::default() });
    for tick in 1..=3 {
        sink.deliver(&delivery(tick, &[("a", 1, 1)], true)).unwrap();
        sink.flush().unwrap();
    }
    assert_eq!(std::fs::read_dir(dir.path().join("out")).unwrap().count(), 3);
    assert_eq!(said(&text(dir.path())).len(), 1);
}
