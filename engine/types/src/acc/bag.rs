//! Whole argument tuples with their counts, and what they take in memory, known without walking through them:
//! an operator asks for it whenever a group has changed, however much the group holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An entry beside its tuple, with the allocator's share.
const ENTRY_BYTES: usize = 48;

/// A multiset of packed tuples. Counts may be negative for a while, never zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bag {
    tuples: BTreeMap<Vec<u8>, i64>,
    /// Of all entries.
    bytes: usize,
}

impl Bag {
    /// Adds `count` copies of a tuple; entries that reach zero go.
    pub fn add(&mut self, tuple: &[u8], count: i64) {
        match self.tuples.get_mut(tuple) {
            Some(have) => {
                *have += count;
                if *have == 0 {
                    self.tuples.remove(tuple);
                    self.bytes -= tuple.len() + ENTRY_BYTES;
                }
            }
            None if count != 0 => {
                self.tuples.insert(tuple.to_vec(), count);
                self.bytes += tuple.len() + ENTRY_BYTES;
            }
            None => {}
        }
    }

    /// In the order of the packed tuples.
    #[must_use]
    pub fn tuples(&self) -> &BTreeMap<Vec<u8>, i64> {
        &self.tuples
    }

    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.bytes
    }
}

impl Serialize for Bag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.tuples.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bag, D::Error> {
        let tuples = BTreeMap::<Vec<u8>, i64>::deserialize(deserializer)?;
        let bytes = tuples.keys().map(|tuple| tuple.len() + ENTRY_BYTES).sum();
        Ok(Bag { tuples, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it says of its size is what a walk would say, after any changes: catches
    /// bytes that are counted for what is gone.
    #[test]
    fn its_size_is_that_of_its_entries() {
        let mut bag = Bag::default();
        for (tuple, count) in
            [(&b"aa"[..], 2), (b"b", -1), (b"aa", -2), (b"ccc", 1), (b"b", 0), (b"d", 0)]
        {
            bag.add(tuple, count);
            let walked: usize = bag.tuples().keys().map(|tuple| tuple.len() + ENTRY_BYTES).sum();
            assert_eq!(bag.heap_bytes(), walked);
        }
        assert_eq!(bag.tuples().len(), 2);
    }
}
