//! What a batch says about a table that is kept equal to a view: the last word about each key, so that none is
//! named twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use weir_types::PackedRow;

use crate::element::{Body, Described, Element, Op};

/// The first 16 bytes of the SHA-256 of the packed key, so that keys of any length fit.
pub(crate) type Key = [u8; 16];

/// The last word of some elements about each key, with its number.
pub(crate) struct Words<'a> {
    pub(crate) output: &'a Arc<Described>,
    /// Everything before is void.
    pub(crate) is_reset: bool,
    pub(crate) rows: BTreeMap<Key, (&'a PackedRow, u64)>,
    pub(crate) deleted: BTreeMap<Key, u64>,
}

fn key_of(packed: &PackedRow) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(&Sha256::digest(&packed.0)[..16]);
    key
}

impl<'a> Words<'a> {
    /// Of a batch, one for each output in it, with how many elements each is of.
    pub(crate) fn of(batch: &[&'a Element]) -> Vec<(Words<'a>, usize)> {
        let same = |a: &&Element, b: &&Element| Arc::ptr_eq(&a.output, &b.output);
        let words = |part: &[&'a Element]| (Words::of_one(part), part.len());
        batch.chunk_by(same).map(words).collect()
    }

    fn of_one(part: &[&'a Element]) -> Words<'a> {
        let output = &part[0].output;
        let (rows, deleted) = (BTreeMap::new(), BTreeMap::new());
        let mut words = Words { output, is_reset: false, rows, deleted };
        for element in part {
            match (element.op, &element.body) {
                (Op::Reset, _) => {
                    words.is_reset = true;
                    words.rows.clear();
                    words.deleted.clear();
                }
                (Op::Upsert, Body::Row(row)) => {
                    let key = key_of(&PackedRow::pack(&output.key_values(&element.body)));
                    words.deleted.remove(&key);
                    words.rows.insert(key, (row, element.seq));
                }
                (Op::Delete, Body::Key(key)) => {
                    let key = key_of(key);
                    words.rows.remove(&key);
                    words.deleted.insert(key, element.seq);
                }
                _ => {}
            }
        }
        words
    }
}
