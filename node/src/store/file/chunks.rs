//! The chunks of a source: what was added to a pane at a time. Small ones of a pane are merged as they become many,
//! so that a pane is written a few times and not with every addition.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, Transaction, params};
use weir_proto::envelope;
use weir_types::PackedRow;
use weir_types::split::Change;

use super::super::{Pages, StoreError};
use super::{Head, damaged, judged};

/// A chunk holds about so much before it is written.
const CHUNK_BYTES: usize = 512 << 10;
/// A chunk of a pane beside its body: its line, and that in the index.
const CHUNK_LINE_BYTES: usize = 96;
/// So many more chunks than it had when they were merged last, and half as many again: they are merged.
const CHUNKS_MORE: u64 = 16;

/// How many chunks a pane has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Panes {
    now: u64,
    merged: u64,
}

fn sum(identity: &[u8], pane: i64, seq: i64, body: &[u8]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(identity);
    hasher.update(&pane.to_le_bytes());
    hasher.update(&seq.to_le_bytes());
    hasher.update(body);
    i64::from(hasher.finalize())
}

/// Adds changes, pane by pane.
pub(super) fn append(
    transaction: &Transaction<'_>,
    identity: &[u8],
    head: &mut Head,
    changes: &[Change],
    panes: &mut HashMap<(i64, i64), Panes>,
) -> Result<(), StoreError> {
    let mut by_pane: BTreeMap<i64, Vec<&Change>> = BTreeMap::new();
    for change in changes {
        if let Change::Partial { pane, .. } = change {
            by_pane.entry(*pane).or_default().push(change);
        }
    }
    for (pane, changes) in by_pane {
        let written = insert(transaction, identity, head, pane, &changes)?;
        let count = panes.entry((head.id, pane)).or_default();
        if count.now == 0 {
            count.now = chunks_of(transaction, head.id, pane)?.saturating_sub(written);
        }
        count.now += written;
        if count.now > count.merged + count.merged / 2 + CHUNKS_MORE {
            count.now = merge(transaction, identity, head, pane)?;
            count.merged = count.now;
        }
    }
    Ok(())
}

/// How many chunks were written.
fn insert(
    transaction: &Transaction<'_>,
    identity: &[u8],
    head: &mut Head,
    pane: i64,
    changes: &[&Change],
) -> Result<u64, StoreError> {
    let text = "INSERT INTO chunks (source, pane, seq, sum, body) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut statement = transaction.prepare(text).map_err(judged)?;
    let mut written = 0;
    for part in parts(changes) {
        let body = envelope::encode(&part)
            .map_err(|error| StoreError::Unwritable(format!("a chunk: {error}")))?;
        let seq = head.next_seq;
        let sum = sum(identity, pane, seq, &body);
        statement.execute(params![head.id, pane, seq, sum, body]).map_err(judged)?;
        head.next_seq += 1;
        head.chunks += 1;
        head.digest = head.digest.wrapping_add(sum);
        head.bytes += line_bytes(body.len());
        written += 1;
    }
    Ok(written)
}

fn line_bytes(body: usize) -> i64 {
    i64::try_from(body + CHUNK_LINE_BYTES).unwrap_or(i64::MAX)
}

/// The changes in portions of about a chunk's size; a large one is a chunk of its own.
fn parts<'a, 'b>(changes: &'a [&'b Change]) -> Vec<&'a [&'b Change]> {
    let (mut parts, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (at, change) in changes.iter().enumerate() {
        bytes += change.content_bytes();
        if bytes >= CHUNK_BYTES {
            parts.push(&changes[from..=at]);
            (from, bytes) = (at + 1, 0);
        }
    }
    if from < changes.len() {
        parts.push(&changes[from..]);
    }
    parts
}

fn chunks_of(connection: &Connection, source: i64, pane: i64) -> Result<u64, StoreError> {
    let text = "SELECT count(*) FROM chunks WHERE source = ?1 AND pane = ?2";
    let count: i64 =
        connection.query_row(text, params![source, pane], |row| row.get(0)).map_err(judged)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// The lines of some chunks, taken away.
fn take_away(
    transaction: &Transaction<'_>,
    head: &mut Head,
    panes: &str,
    pane: i64,
) -> Result<(), StoreError> {
    let text = format!(
        "SELECT count(*), coalesce(sum(sum), 0), coalesce(sum(length(body)), 0) FROM chunks \
         WHERE source = ?1 AND pane {panes} ?2"
    );
    let (count, sums, bytes): (i64, i64, i64) = transaction
        .query_row(&text, params![head.id, pane], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .map_err(judged)?;
    if count == 0 {
        return Ok(());
    }
    let text = format!("DELETE FROM chunks WHERE source = ?1 AND pane {panes} ?2");
    transaction.execute(&text, params![head.id, pane]).map_err(judged)?;
    head.chunks -= count;
    head.digest = head.digest.wrapping_sub(sums);
    head.bytes -= bytes + count * line_bytes(0);
    Ok(())
}

/// Takes away the panes before one.
pub(super) fn expire(
    transaction: &Transaction<'_>,
    head: &mut Head,
    first_pane: i64,
) -> Result<(), StoreError> {
    take_away(transaction, head, "<", first_pane)
}

/// All of a pane as few chunks; how many.
fn merge(
    transaction: &Transaction<'_>,
    identity: &[u8],
    head: &mut Head,
    pane: i64,
) -> Result<u64, StoreError> {
    let mut at: HashMap<PackedRow, usize> = HashMap::new();
    let mut merged: Vec<Change> = Vec::new();
    {
        let text = "SELECT seq, sum, body FROM chunks WHERE source = ?1 AND pane = ?2 ORDER BY seq";
        let mut statement = transaction.prepare(text).map_err(judged)?;
        let mut rows = statement.query(params![head.id, pane]).map_err(judged)?;
        while let Some(row) = rows.next().map_err(judged)? {
            let seq: i64 = row.get(0).map_err(judged)?;
            let body = row.get_ref(2).map_err(judged)?.as_blob();
            let body = body.map_err(|_| damaged("a chunk that is no blob"))?;
            if row.get::<_, i64>(1).map_err(judged)? != sum(identity, pane, seq, body) {
                return Err(damaged("a chunk's checksum"));
            }
            for change in decoded(body)? {
                merge_one(change, &mut at, &mut merged)?;
            }
        }
    }
    take_away(transaction, head, "=", pane)?;
    let merged: Vec<&Change> = merged.iter().collect();
    insert(transaction, identity, head, pane, &merged)
}

fn merge_one(
    change: Change,
    at: &mut HashMap<PackedRow, usize>,
    merged: &mut Vec<Change>,
) -> Result<(), StoreError> {
    let Change::Partial { key, rows, accs, .. } = &change else {
        return Err(damaged("a row among partial results"));
    };
    let Some(&known) = at.get(key) else {
        at.insert(key.clone(), merged.len());
        merged.push(change);
        return Ok(());
    };
    if let Change::Partial { rows: all_rows, accs: all, .. } = &mut merged[known] {
        let alike = all.len() == accs.len()
            && all
                .iter()
                .zip(accs)
                .all(|(all, one)| std::mem::discriminant(all) == std::mem::discriminant(one));
        if !alike {
            return Err(damaged("partial results of different aggregates"));
        }
        *all_rows += rows;
        all.iter_mut().zip(accs).for_each(|(all, one)| all.merge(one));
    }
    Ok(())
}

fn decoded(body: &[u8]) -> Result<Vec<Change>, StoreError> {
    envelope::decode(body).map_err(|error| StoreError::Damaged(format!("a chunk: {error}")))
}

/// Each chunk is as it was written, and none is missing or more.
pub(super) fn check(
    connection: &Connection,
    identity: &[u8],
    head: &Head,
) -> Result<(), StoreError> {
    let text = "SELECT pane, seq, sum, body FROM chunks WHERE source = ?1";
    let mut statement = connection.prepare(text).map_err(judged)?;
    let mut rows = statement.query(params![head.id]).map_err(judged)?;
    let (mut count, mut digest) = (0, 0i64);
    while let Some(row) = rows.next().map_err(judged)? {
        let (pane, seq): (i64, i64) = (row.get(0).map_err(judged)?, row.get(1).map_err(judged)?);
        let body = row.get_ref(3).map_err(judged)?.as_blob();
        let body = body.map_err(|_| damaged("a chunk that is no blob"))?;
        let sum = sum(identity, pane, seq, body);
        if row.get::<_, i64>(2).map_err(judged)? != sum {
            return Err(damaged("a chunk's checksum"));
        }
        count += 1;
        digest = digest.wrapping_add(sum);
    }
    if (count, digest) != (head.chunks, head.digest) {
        return Err(damaged("chunks are missing"));
    }
    Ok(())
}

/// What a source holds from a pane on, chunk by chunk.
pub(super) fn read(
    connection: &Connection,
    source: i64,
    first_pane: i64,
    pages: Pages<'_>,
) -> Result<(), StoreError> {
    let text = "SELECT body FROM chunks WHERE source = ?1 AND pane >= ?2 ORDER BY pane, seq";
    let mut statement = connection.prepare(text).map_err(judged)?;
    let mut rows = statement.query(params![source, first_pane]).map_err(judged)?;
    while let Some(row) = rows.next().map_err(judged)? {
        let body = row.get_ref(0).map_err(judged)?.as_blob();
        let page = decoded(body.map_err(|_| damaged("a chunk that is no blob"))?)?;
        if !pages(page) {
            break;
        }
    }
    Ok(())
}
