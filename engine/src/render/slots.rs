//! Things by number, found by their keys: a number stays as long as its thing is there, and is given again after it.
//! It counts no bytes: what a thing takes, whoever holds it knows.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

pub(super) trait Keyed {
    type Key: Eq + Hash + ?Sized;

    /// Never another one, while it is held.
    fn key(&self) -> &Self::Key;
}

pub(super) struct Slots<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hash: RandomState,
}

/// Only freed slots are `None`, and nothing refers to those.
const NOTHING: &str = "what is listed is there";

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        let (index, hash) = (HashTable::new(), RandomState::default());
        Slots { slots: Vec::new(), free: Vec::new(), index, hash }
    }
}

impl<T: Keyed> Slots<T> {
    /// How many are there.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Numbers that nobody has, whose room is kept.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    pub(super) fn get(&self, slot: u32) -> &T {
        self.slots[slot as usize].as_ref().expect(NOTHING)
    }

    /// Its key stays as it is.
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut T {
        self.slots[slot as usize].as_mut().expect(NOTHING)
    }

    /// All numbers from one on, with what has them.
    pub(super) fn from(&self, slot: usize) -> impl Iterator<Item = (usize, Option<&T>)> {
        let rest = self.slots.get(slot..).unwrap_or_default();
        (slot..).zip(rest.iter().map(Option::as_ref))
    }

    pub(super) fn find(&self, key: &T::Key) -> Option<u32> {
        self.find_hashed(self.hash.hash_one(key), key)
    }

    fn find_hashed(&self, hash: u64, key: &T::Key) -> Option<u32> {
        let is_it =
            |&slot: &u32| self.slots[slot as usize].as_ref().is_some_and(|it| it.key() == key);
        self.index.find(hash, is_it).copied()
    }

    /// Nothing with its key is there.
    pub(super) fn insert(&mut self, thing: T) -> u32 {
        let hash = self.hash.hash_one(thing.key());
        self.insert_hashed(hash, thing)
    }

    /// The number of what has the key, made if need be; true if it was.
    pub(super) fn find_or_insert<K: std::borrow::Borrow<T::Key>>(
        &mut self,
        key: K,
        make: impl FnOnce(K) -> T,
    ) -> (u32, bool) {
        let hash = self.hash.hash_one(key.borrow());
        match self.find_hashed(hash, key.borrow()) {
            Some(slot) => (slot, false),
            None => (self.insert_hashed(hash, make(key)), true),
        }
    }

    fn insert_hashed(&mut self, hash: u64, thing: T) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(thing);
                slot
            }
            None => {
                self.slots.push(Some(thing));
                u32::try_from(self.slots.len() - 1).expect("the state budget ends a query before")
            }
        };
        let (slots, state) = (&self.slots, &self.hash);
        let rehash =
            |&slot: &u32| slots[slot as usize].as_ref().map_or(0, |it| state.hash_one(it.key()));
        self.index.insert_unique(hash, slot, rehash);
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) -> T {
        let thing = self.slots[slot as usize].take().expect(NOTHING);
        let hash = self.hash.hash_one(thing.key());
        if let Ok(entry) = self.index.find_entry(hash, |&have| have == slot) {
            entry.remove();
        }
        self.free.push(slot);
        thing
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use weir_types::random::SplitMix;

    use super::*;

    impl Keyed for (Vec<u8>, u64) {
        type Key = [u8];

        fn key(&self) -> &[u8] {
            &self.0
        }
    }

    /// Whatever comes and goes, each thing is found under its number and by its key, and no number is had twice; no
    /// more numbers are given than things were there at once.
    #[test]
    fn equals_a_plain_map() {
        let mut random = SplitMix(5);
        let mut slots: Slots<(Vec<u8>, u64)> = Slots::default();
        let mut plain: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        let mut most = 0;
        for at in 0..20_000 {
            let key = random.below(50).to_string().into_bytes();
            if random.below(2) == 0 {
                let (slot, is_new) = slots.find_or_insert(&key[..], |key| (key.to_vec(), at));
                assert_eq!(is_new, !plain.contains_key(&key));
                assert_eq!(*plain.entry(key).or_insert(slot), slot);
            } else if let Some(slot) = plain.remove(&key) {
                assert_eq!(slots.find(&key), Some(slot));
                assert_eq!(slots.remove(slot).0, key);
                assert_eq!(slots.find(&key), None);
            }
            most = most.max(plain.len());
            assert_eq!(slots.len(), plain.len());
        }
        for (key, slot) in &plain {
            assert_eq!((slots.find(key), &slots.get(*slot).0), (Some(*slot), key));
        }
        let there: Vec<u32> =
            slots.from(0).filter_map(|(at, it)| it.map(|_| u32::try_from(at).unwrap())).collect();
        assert_eq!(there.len(), plain.len());
        assert!(slots.slots.len() <= most && slots.free() == slots.slots.len() - plain.len());
    }
}
