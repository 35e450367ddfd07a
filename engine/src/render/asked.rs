//! Rows by what they asked for: which are to be looked at again when some keys changed. Rows that asked for the same
//! keys are of one class; a class is found by each of its keys. It knows rows by number only, and no metadata.

use std::collections::BTreeSet;

use weir_types::metadata::reads::ALWAYS;

use super::slots::{Keyed, Slots};

/// A row that asked for more is looked at whenever something changed: of so many keys one is as good as always among
/// those that did.
const KEYS_MAX: usize = 256;
/// A class beside its keys and rows: its slot, its entry in the index, and the allocator's share.
const CLASS_BYTES: usize = 128;
/// A key of a class, and the entry by which the class is found.
const KEY_BYTES: usize = size_of::<u64>() + size_of::<(u64, u32)>() * 3 / 2;
/// A row in its class, with room to spare.
const ROW_BYTES: usize = size_of::<u32>() * 3 / 2;

struct Class {
    /// Ascending.
    keys: Box<[u64]>,
    rows: Vec<u32>,
}

impl Keyed for Class {
    type Key = [u64];

    fn key(&self) -> &[u64] {
        &self.keys
    }
}

/// What a row is listed under that asked for these keys, ascending and each once.
fn listed(keys: &[u64]) -> &[u64] {
    let is_always = keys.len() > KEYS_MAX || keys.first() == Some(&ALWAYS);
    if is_always { &[ALWAYS] } else { keys }
}

/// Where a row is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    class: u32,
    at: u32,
}

#[derive(Default)]
pub(super) struct Asked {
    classes: Slots<Class>,
    by_key: BTreeSet<(u64, u32)>,
    bytes: usize,
}

impl Asked {
    /// Lists a row under what it asked for, ascending and each once.
    pub(super) fn put(&mut self, row: u32, keys: &[u64]) -> Place {
        let keys = listed(keys);
        let make = |keys: &[u64]| Class { keys: keys.into(), rows: Vec::new() };
        let (class, is_new) = self.classes.find_or_insert(keys, make);
        if is_new {
            self.bytes += CLASS_BYTES + KEY_BYTES * keys.len();
            self.by_key.extend(keys.iter().map(|&key| (key, class)));
        }
        let rows = &mut self.classes.get_mut(class).rows;
        rows.push(row);
        self.bytes += ROW_BYTES;
        let at = u32::try_from(rows.len() - 1).expect("there are no more rows than numbers");
        Place { class, at }
    }

    /// It is listed there for just these keys.
    pub(super) fn is_under(&self, place: Place, keys: &[u64]) -> bool {
        *self.classes.get(place.class).keys == *listed(keys)
    }

    /// Takes a row off its list. The row that is in its place now, if there is one.
    pub(super) fn remove(&mut self, place: Place) -> Option<u32> {
        let Place { class, at } = place;
        let rows = &mut self.classes.get_mut(class).rows;
        rows.swap_remove(at as usize);
        self.bytes -= ROW_BYTES;
        if rows.is_empty() {
            self.forget(class);
            return None;
        }
        rows.get(at as usize).copied()
    }

    fn forget(&mut self, class: u32) {
        let gone = self.classes.remove(class);
        self.bytes -= CLASS_BYTES + KEY_BYTES * gone.keys.len();
        for &key in &gone.keys {
            self.by_key.remove(&(key, class));
        }
    }

    /// All rows that asked for one of the keys, each once.
    pub(super) fn who(&self, keys: &[u64]) -> Vec<u32> {
        let of_key = |&key: &u64| self.by_key.range((key, 0)..=(key, u32::MAX));
        let mut classes: Vec<u32> = keys.iter().flat_map(of_key).map(|&(_, class)| class).collect();
        classes.sort_unstable();
        classes.dedup();
        let rows = classes.into_iter().flat_map(|class| &self.classes.get(class).rows);
        rows.copied().collect()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use weir_types::random::SplitMix;

    use super::*;

    /// Rows come, go and ask for other things; who asked for some keys is always as in a plain list, and once all rows
    /// are gone nothing is held. Catches a row that is not found again, and one that is found under what it no longer
    /// asks for.
    #[test]
    fn equals_a_plain_list() {
        let mut random = SplitMix(3);
        let mut asked = Asked::default();
        let mut plain: BTreeMap<u32, (Vec<u64>, Place)> = BTreeMap::new();
        let take = |asked: &mut Asked, plain: &mut BTreeMap<u32, (Vec<u64>, Place)>, row: u32| {
            let Some((_, place)) = plain.remove(&row) else { return };
            if let Some(moved) = asked.remove(place) {
                plain.get_mut(&moved).expect("it is there").1 = place;
            }
        };
        for _ in 0..20_000 {
            let row = random.below(60) as u32;
            take(&mut asked, &mut plain, row);
            if random.below(3) > 0 {
                let mut keys: Vec<u64> =
                    (0..random.below(4)).map(|_| 1 + random.below(12)).collect();
                keys.sort_unstable();
                keys.dedup();
                let place = asked.put(row, &keys);
                plain.insert(row, (keys, place));
            }
            let wanted: Vec<u64> = (0..random.below(3)).map(|_| 1 + random.below(12)).collect();
            let mut who = asked.who(&wanted);
            who.sort_unstable();
            let is_asked = |keys: &[u64]| keys.iter().any(|key| wanted.contains(key));
            let plainly = plain.iter().filter(|(_, (keys, _))| is_asked(keys)).map(|(row, _)| *row);
            assert_eq!(who, plainly.collect::<Vec<_>>());
        }
        for row in 0..60 {
            take(&mut asked, &mut plain, row);
        }
        assert_eq!((asked.bytes(), asked.by_key.len(), asked.classes.len()), (0, 0, 0));
    }

    /// Who asks for very much is looked at always.
    #[test]
    fn many_keys_are_always() {
        let mut asked = Asked::default();
        let keys: Vec<u64> = (1..=KEYS_MAX as u64 + 1).collect();
        asked.put(7, &keys);
        assert_eq!((asked.who(&[5]), asked.who(&[ALWAYS])), (vec![], vec![7]));
        // With others it is always as well, and both are of one class.
        let place = asked.put(8, &[ALWAYS, 5]);
        assert!(asked.is_under(place, &keys) && asked.is_under(place, &[ALWAYS, 6]));
        assert_eq!((asked.who(&[5]), asked.who(&[ALWAYS])), (vec![], vec![7, 8]));
    }
}
