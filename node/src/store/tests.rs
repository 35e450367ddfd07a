//! The store by itself: it gives back what was added, whatever is done to its file it gives nothing else, and it
//! stays within its bounds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use weir_types::PackedRow;
use weir_types::acc::Acc;
use weir_types::plan::{EndBound, Scan, StartBound, Window};
use weir_types::split::{Shape, Source, TableScan};
use weir_types::value::DataType;

use super::keeper::FromKeeper;
use super::*;

const HOUR_NS: i64 = 3_600_000_000_000;

/// Counts of `table` over a window.
fn source(table: &str, window_ns: i64) -> Source {
    let window = Window { start: StartBound::Relative { window_ns }, end: EndBound::Now };
    let scan = Scan { table: table.to_string(), columns: vec!["time_".to_string()], window };
    let types = vec![DataType::Time64Ns];
    let shape = Shape::Partial { group: Vec::new(), aggs: Vec::new() };
    Source {
        scan: weir_types::shared::Shared::new(TableScan { scan, types }),
        steps: Vec::new(),
        time: 0,
        shape,
    }
}

fn identity(table: &str) -> Identity {
    let source = KeptSource::of(source(table, 24 * HOUR_NS)).expect("a long window");
    source.identity().expect("small").into()
}

fn change(key: u8, pane: i64, count: i64) -> Change {
    let key = PackedRow(vec![key; 40]);
    Change::Partial { key, pane, rows: count, accs: vec![Acc::Count(count)] }
}

fn addition(table: &str, to_ms: u64, changes: Vec<Change>) -> Addition {
    let identity = identity(table);
    Addition {
        identity,
        afresh: false,
        changes,
        to_ms,
        used_ms: to_ms,
        first_pane: 0,
        past_panes: 0,
    }
}

/// What a source holds: up to which tick, and per pane and key how many rows.
type Held = Option<(u64, BTreeMap<(i64, PackedRow), i64>)>;

fn held(store: &mut FileStore, table: &str) -> Result<Held, StoreError> {
    let (mut to, mut counts) = (None, BTreeMap::new());
    store.read(&identity(table), 0, &mut |to_ms| to = to_ms, &mut |page| {
        for change in page {
            let Change::Partial { key, pane, rows, accs } = change else { panic!("a row") };
            assert_eq!(accs, [Acc::Count(rows)]);
            *counts.entry((pane, key)).or_default() += rows;
        }
        true
    })?;
    Ok(to.map(|to_ms| (to_ms, counts)))
}

fn opened(path: &Path) -> (FileStore, Vec<Stored>, Dropped) {
    let mut store = FileStore::new(path, "here", STORE_BYTES_DEFAULT);
    let (stored, dropped) = store.open(1_000_000).expect("a store");
    (store, stored, dropped)
}

/// Only windows of more than five minutes up to now are kept, and known again by what they are: not by what columns
/// are called, but by window and table.
#[test]
fn identities() {
    assert!(KeptSource::of(source("t", 300_000_000_000)).is_none());
    let long = KeptSource::of(source("t", 300_000_000_001)).expect("a long window");
    assert_eq!(long.sliding.pane_ns, 10_000_000_000);
    let known = long.identity().expect("small");
    assert_eq!(KeptSource::known_by(&known), Some(long.clone()));
    assert_eq!(long.plan().source(0), Some(long.source));
    assert_ne!(identity("t"), identity("u"));
    for cut in 0..known.len() {
        assert_eq!(KeptSource::known_by(&known[..cut]), None);
    }
    let ended = Window {
        start: StartBound::Relative { window_ns: HOUR_NS },
        end: EndBound::Relative { before_ns: 1 },
    };
    let mut past = source("t", HOUR_NS);
    let scan = Scan { window: ended, ..past.scan.scan.clone() };
    past.scan = weir_types::shared::Shared::new(TableScan { scan, types: past.scan.types.clone() });
    assert!(KeptSource::of(past).is_none(), "rows of its end would be in no result yet");
}

/// Hundreds of additions to few panes, late ones among them, are all there and in few chunks, also after it was
/// opened anew; panes that have left are gone. Catches a merge that loses or repeats, and one that never comes.
#[test]
fn gives_back_what_was_added() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("windows.db");
    let (mut store, stored, dropped) = opened(&path);
    assert_eq!((stored.len(), dropped), (0, Dropped::default()));
    let mut want = BTreeMap::new();
    for number in 0..300u64 {
        let panes = [number as i64 / 100, (number as i64 * 7) % 3];
        let changes: Vec<Change> =
            panes.iter().map(|&pane| change((number % 5) as u8, pane, 1 + pane)).collect();
        for pane in panes {
            let key = PackedRow(vec![(number % 5) as u8; 40]);
            *want.entry((pane, key)).or_insert(0) += 1 + pane;
        }
        store.add(&[addition("t", number + 1, changes)]).expect("added");
        if number % 50 == 0 {
            drop(store);
            let (again, stored, dropped) = opened(&path);
            assert_eq!(stored.len(), 1);
            assert_eq!((stored[0].to_ms, dropped), (number + 1, Dropped::default()));
            store = again;
        }
    }
    assert_eq!(held(&mut store, "t").expect("whole"), Some((300, want.clone())));
    assert_eq!(held(&mut store, "u").expect("whole"), None);
    let (_, _, bytes) = store.sizes().expect("sizes")[0].clone();
    assert!(bytes < 20_000, "300 additions to three panes of five groups take {bytes} bytes");
    let expiring = Addition { first_pane: 2, ..addition("t", 301, Vec::new()) };
    store.add(&[expiring]).expect("added");
    want.retain(|(pane, _), _| *pane >= 2);
    assert_eq!(held(&mut store, "t").expect("whole"), Some((301, want)));
    let afresh = Addition { afresh: true, ..addition("t", 7, vec![change(9, 5, 2)]) };
    store.add(&[afresh]).expect("added");
    let only = BTreeMap::from([((5, PackedRow(vec![9; 40])), 2)]);
    assert_eq!(held(&mut store, "t").expect("whole"), Some((7, only)));
}

/// A file with some additions, as it stands once its server has ended; and all that it ever held.
fn written(directory: &Path) -> (Vec<u8>, Vec<Held>) {
    let path = directory.join("written.db");
    let (mut store, ..) = opened(&path);
    let mut states = vec![None];
    for number in 0..40u64 {
        let changes = (0..20).map(|key| change(key, number as i64 / 10, 3)).collect();
        store.add(&[addition("t", number + 1, changes)]).expect("added");
        states.push(held(&mut store, "t").expect("whole"));
    }
    drop(store);
    (fs::read(&path).expect("a file"), states)
}

/// Opens what somebody has done to a file: it holds what it once held, or nothing; and it can be used again.
#[track_caller]
fn judge(path: &Path, states: &[Held], what: &str) -> bool {
    let (mut store, stored, _) = opened(path);
    let found = if stored.is_empty() { Ok(None) } else { held(&mut store, "t") };
    let is_whole = match &found {
        Ok(held) => {
            assert!(states.contains(held), "{what}: {held:?}");
            held.is_some()
        }
        Err(_) => false,
    };
    let fresh = Addition { afresh: true, ..addition("t", 50, vec![change(1, 1, 1)]) };
    if store.add(std::slice::from_ref(&fresh)).is_err() {
        store.clear().expect("cleared");
        store.add(&[fresh]).expect("added to an empty store");
    }
    let only = BTreeMap::from([((1, PackedRow(vec![1; 40])), 1)]);
    assert_eq!(held(&mut store, "t").ok().flatten(), Some((50, only)), "{what}");
    is_whole
}

fn lay(path: &Path, bytes: &[u8]) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let name = format!("{}{suffix}", path.display());
        drop(fs::remove_file(name));
    }
    fs::write(path, bytes).expect("written");
}

/// Cut anywhere, bits turned anywhere, replaced by anything: never a panic, never rows that were not there.
#[test]
fn damaged_files_give_nothing_wrong() {
    let directory = tempfile::tempdir().expect("a directory");
    let (bytes, states) = written(directory.path());
    let path = directory.path().join("attacked.db");
    lay(&path, &bytes);
    assert!(judge(&path, &states, "untouched"));
    let mut whole = 0;
    for cut in (0..bytes.len()).step_by(1 + bytes.len() / 97) {
        lay(&path, &bytes[..cut]);
        whole += usize::from(judge(&path, &states, &format!("cut at {cut}")));
    }
    assert_eq!(whole, 0, "what was cut is not whole");
    for number in 0..300 {
        let at = number * 7919 % bytes.len();
        let mut turned = bytes.clone();
        turned[at] ^= 1 << (number % 8);
        lay(&path, &turned);
        judge(&path, &states, &format!("bit {} of byte {at}", number % 8));
    }
    for (what, bytes) in
        [("empty", vec![]), ("text", b"no store\n".repeat(999)), ("zeros", vec![0; 9000])]
    {
        lay(&path, &bytes);
        assert!(!judge(&path, &states, what));
    }
    // Whole pages of it, elsewhere.
    for number in 1..(bytes.len() / 4096).min(30) {
        let mut moved = bytes.clone();
        let (from, to) = (number * 4096, (bytes.len() / 4096 - number) * 4096);
        moved.copy_within(from..from + 4096, to.min(bytes.len() - 4096));
        lay(&path, &moved);
        judge(&path, &states, &format!("page {number} twice"));
    }
}

/// Another version, another node, a time that is yet to come, nobody for as long as the window: dropped, counted, and
/// not taken for ours.
#[test]
fn what_is_not_ours_is_dropped() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("windows.db");
    let make = || {
        let (mut store, ..) = opened(&path);
        store.add(&[addition("t", 500_000, vec![change(1, 1, 1)])]).expect("added");
    };
    make();
    let mut other = FileStore::new(&path, "elsewhere", STORE_BYTES_DEFAULT);
    let (stored, dropped) = other.open(1_000_000).expect("a store");
    assert_eq!((stored.len(), dropped), (0, Dropped { foreign: 1, ..Dropped::default() }));
    drop(other);
    make();
    let connection = rusqlite::Connection::open(&path).expect("a database");
    connection.execute_batch("PRAGMA user_version = 99").expect("done");
    drop(connection);
    let (_, stored, dropped) = opened(&path);
    assert_eq!((stored.len(), dropped), (0, Dropped { foreign: 1, ..Dropped::default() }));
    // It is empty now, and ours again.
    for (now_ms, want) in [
        (499_999, Dropped { foreign: 1, ..Dropped::default() }),
        (500_000 + 86_400_001, Dropped { unused: 1, ..Dropped::default() }),
    ] {
        make();
        let mut store = FileStore::new(&path, "here", STORE_BYTES_DEFAULT);
        let (stored, dropped) = store.open(now_ms).expect("a store");
        assert_eq!((stored.len(), dropped), (0, want), "at {now_ms}");
    }
    make();
    assert_eq!(opened(&path).1.len(), 1);
}

/// A store that has no room refuses an addition as a whole and keeps what it has; one that cannot be opened says why.
#[test]
fn full_and_unwritable() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("windows.db");
    let mut store = FileStore::new(&path, "here", 1);
    store.open(1).expect("a store");
    store.add(&[addition("t", 1, vec![change(1, 1, 1)])]).expect("added");
    let before = held(&mut store, "t").expect("whole");
    let many: Vec<Change> = (0..60_000).map(|pane| change(2, pane, 1)).collect();
    let refused = store.add(&[addition("t", 2, many)]);
    assert!(matches!(refused, Err(StoreError::Unwritable(_))), "{refused:?}");
    assert_eq!(held(&mut store, "t").expect("whole"), before);
    let nowhere = FileStore::new(directory.path(), "here", 1).open(1);
    assert!(matches!(nowhere, Err(StoreError::Unwritable(_))), "{nowhere:?}");
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    assert!(FileStore::new(&link, "here", 1).open(1).is_err(), "no link is followed");
}

fn keeper(path: &Path, bytes_max: u64) -> Keeper {
    let store = FileStore::new(path, "here", bytes_max);
    Keeper::start(Box::new(store), bytes_max, 1_000_000_000).expect("a thread")
}

/// Above its bytes the source goes that was not used for longest, and is said to be gone; what is not sealed is not
/// written. Catches a store without an end, and one that forgets who is read.
#[test]
fn the_least_used_goes() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("windows.db");
    let keeper = keeper(&path, STORE_BYTES_MIN);
    let large = |pane: i64| -> Vec<Change> {
        let large = |key: u8| Change::Partial {
            key: PackedRow(vec![key; 6_000]),
            pane,
            rows: 1,
            accs: vec![Acc::Count(1)],
        };
        (0..100).map(large).collect()
    };
    for (table, used_ms) in [("old", 100_000), ("new", 999_000_000)] {
        assert!(keeper.changes(&identity(table), 100_000, large(1)));
        assert!(keeper.seal(Addition { used_ms, ..addition(table, 100_000, Vec::new()) }));
        keeper.sync();
    }
    assert!(keeper.changes(&identity("new"), 100_001, vec![change(1, 1, 1)]), "never sealed");
    let gone = keeper.heard_gone().expect("one is gone");
    assert_eq!((gone.identity, gone.damaged), (identity("old"), false));
    assert!(keeper.heard_gone().is_none());
    let counts = keeper.stats().status().counts;
    assert_eq!((counts["kept_sources"], counts["dropped_over_budget"]), (1, 1));
    assert!(counts["kept_bytes"] <= STORE_BYTES_MIN);
    drop(keeper);
    let (mut store, stored, _) = opened(&path);
    assert_eq!(stored.len(), 1);
    let (_, counts) = held(&mut store, "new").expect("whole").expect("there");
    assert_eq!(counts.len(), 100);
}

/// Panes that have left their window stay as long as there is room, and go before any source does; from then on nobody
/// may rely on them. Catches a past that takes the place of what windows need, and one that is gone without a word.
#[test]
fn what_has_left_goes_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("windows.db");
    let mut keeper = keeper(&path, STORE_BYTES_MIN);
    let large = |pane: i64| -> Vec<Change> {
        let large = |key: u8| Change::Partial {
            key: PackedRow(vec![key; 6_000]),
            pane,
            rows: 1,
            accs: vec![Acc::Count(1)],
        };
        (0..100).map(large).collect()
    };
    let seal = |keeper: &Keeper, to_ms: u64, first_pane: i64| {
        let sealed = addition("t", to_ms, Vec::new());
        assert!(keeper.seal(Addition { first_pane, past_panes: 10, ..sealed }));
        keeper.sync();
    };
    assert!(keeper.changes(&identity("t"), 1_000, large(1)));
    seal(&keeper, 1_000, 0);
    seal(&keeper, 1_001, 5);
    assert_eq!(panes_of(&mut keeper, "t"), [1], "it stays");
    assert!(keeper.keeps_past());
    assert!(keeper.changes(&identity("t"), 1_002, large(6)));
    seal(&keeper, 1_002, 5);
    assert_eq!(panes_of(&mut keeper, "t"), [6], "it goes when there is no room");
    assert!(!keeper.keeps_past() && keeper.heard_gone().is_none());
    assert_eq!(keeper.stats().status().counts["dropped_over_budget"], 0);
}

/// The panes that a store has of a source.
fn panes_of(keeper: &mut Keeper, table: &str) -> Vec<i64> {
    let (_, _wanted) = keeper.load(&identity(table), 0);
    let mut panes = Vec::new();
    loop {
        match keeper.heard() {
            Some(FromKeeper::Page { changes, .. }) => {
                panes.extend(changes.iter().map(|change| match change {
                    Change::Partial { pane, .. } | Change::Row { pane, .. } => *pane,
                }));
            }
            Some(FromKeeper::End { .. }) => break,
            Some(FromKeeper::Opened { .. }) => {}
            None => std::thread::yield_now(),
        }
    }
    panes.sort_unstable();
    panes.dedup();
    panes
}

/// While the disk refuses, what was sealed of a source waits as one addition, however often and with however little;
/// then all of it is written: not what was before a fresh start, nor panes that left meanwhile.
#[test]
fn what_waits_for_the_disk_is_one_addition_a_source() {
    let store = scripted::Scripted::default();
    store.with(|script| script.refuses = true);
    let keeper = Keeper::start(Box::new(store.clone()), STORE_BYTES_DEFAULT, 1);
    let keeper = keeper.expect("a thread");
    let say = |table: &str, addition: Addition, changes: Vec<Change>| {
        assert!(keeper.changes(&identity(table), addition.to_ms, changes));
        assert!(keeper.seal(addition));
    };
    say("u", addition("u", 1, Vec::new()), vec![change(1, 5, 1)]);
    for number in 1..1_000 {
        say("t", addition("t", number, Vec::new()), vec![change(1, 5, 1)]);
        assert!(keeper.seal(addition("u", number, Vec::new())));
        if number % 100 == 0 {
            keeper.sync();
        }
    }
    let fresh = Addition { afresh: true, ..addition("t", 1_000, Vec::new()) };
    say("t", fresh, vec![change(1, 5, 1), change(1, 7, 1)]);
    let later = Addition { first_pane: 6, ..addition("t", 1_001, Vec::new()) };
    say("t", later, vec![change(1, 8, 1)]);
    keeper.sync();
    assert_eq!(store.with(|script| script.additions_max), 2);
    let waits = keeper.stats().status().counts["waiting_bytes"];
    assert!((1..1_000).contains(&waits), "{waits}");
    store.with(|script| script.refuses = false);
    assert!(keeper.seal(addition("u", 1_001, Vec::new())));
    keeper.sync();
    let held = store.with(|script| script.held.clone());
    let of_t = (1_001, vec![change(1, 7, 1), change(1, 8, 1)]);
    assert_eq!(held[&identity("t")], of_t);
    assert_eq!(held[&identity("u")], (1_001, vec![change(1, 5, 1)]));
    assert_eq!(keeper.stats().status().counts["waiting_bytes"], 0);
}

/// What is forgotten leaves the file: catches one that stays as long as it ever was.
#[test]
fn forgotten_pages_leave_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("windows.db");
    let (mut store, ..) = opened(&path);
    let large = (0..20).map(|pane| Change::Partial {
        key: PackedRow(vec![7; 100_000]),
        pane,
        rows: 1,
        accs: vec![Acc::Count(1)],
    });
    store.add(&[addition("t", 1, large.collect())]).expect("added");
    store.forget(&identity("t")).expect("forgotten");
    drop(store);
    let bytes = fs::metadata(&path).expect("a file").len();
    assert!(bytes < 100_000, "{bytes} bytes with nothing in them");
}
