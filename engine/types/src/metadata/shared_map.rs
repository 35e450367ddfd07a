//! A map whose copies share what they have in common: a copy costs nothing, a change costs a path
//! of the tree, whatever the size. So the metadata can be handed out after each change. It can write down
//! which keys were changed, so that whoever follows it looks at these only. Of two copies of which one came from the
//! other it can be told what was changed in between, if that was not too much ([`SharedMap::changed_since`]). It does
//! *not* keep an order.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::hash::Hash;
use std::ops::Index;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;
use rpds::HashTrieMapSync;

use super::reads;

/// Changes that are remembered, eight bytes each: those of some seconds where thousands of connections come and go a
/// second. Whoever was away for longer looks at everything.
const RECENT_MAX: usize = 1 << 15;

/// The last changes of a map and of all maps that it came from.
#[derive(Default)]
struct Recent {
    /// Hashes of keys.
    keys: VecDeque<u64>,
    /// How many there have been.
    total: u64,
}

/// Where a map stands among the changes.
#[derive(Clone, Default)]
struct Written {
    recent: Arc<Mutex<Recent>>,
    /// So many of them are in it.
    total: u64,
}

impl Written {
    fn add(&mut self, key: u64) {
        {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            if recent.total == self.total {
                if recent.keys.len() >= RECENT_MAX {
                    recent.keys.pop_front();
                }
                recent.keys.push_back(key);
                recent.total += 1;
                self.total = recent.total;
                return;
            }
        }
        // Another copy went on from here before: this one is of a line of its own from now on.
        *self = Written::default();
        self.add(key);
    }

    /// `None`: one did not come from the other, or too long ago, or there were more.
    fn since(&self, former: &Written, keys_max: usize) -> Option<Vec<u64>> {
        if !Arc::ptr_eq(&self.recent, &former.recent) {
            return None;
        }
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        // Counted from the newest.
        let until = usize::try_from(recent.total - self.total).ok()?;
        let count = usize::try_from(self.total.checked_sub(former.total)?).ok()?;
        if count > keys_max {
            return None;
        }
        let end = recent.keys.len().checked_sub(until)?;
        Some(recent.keys.range(end.checked_sub(count)?..end).copied().collect())
    }
}

pub struct SharedMap<K: Eq + Hash, V> {
    map: HashTrieMapSync<K, V, RandomState>,
    /// Keys that were put in or removed since they were taken last, some more than once; `None`: nobody
    /// wants to know.
    touched: Option<Vec<K>>,
    written: Written,
}

/// A copy writes nothing down.
impl<K: Eq + Hash, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> SharedMap<K, V> {
        SharedMap { map: self.map.clone(), touched: None, written: self.written.clone() }
    }
}

impl<K: Eq + Hash, V> SharedMap<K, V> {
    #[must_use]
    pub fn new() -> SharedMap<K, V> {
        let map = HashTrieMapSync::new_with_hasher_and_ptr_kind(RandomState::default());
        SharedMap { map, touched: None, written: Written::default() }
    }
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        reads::note(|| reads::hash_of(key));
        self.map.get(key)
    }
    pub fn contains_key<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        reads::note(|| reads::hash_of(key));
        self.map.contains_key(key)
    }
    pub fn insert(&mut self, key: K, value: V)
    where
        K: Clone,
    {
        if let Some(touched) = &mut self.touched {
            touched.push(key.clone());
        }
        self.written.add(reads::hash_of(&key));
        self.map.insert_mut(key, value);
    }
    /// True if it was there.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q> + Clone,
    {
        if let Some(touched) = &mut self.touched
            && let Some((key, _)) = self.map.get_key_value(key)
        {
            touched.push(key.clone());
        }
        self.written.add(reads::hash_of(key));
        self.map.remove_mut(key)
    }
    /// Hashes of the keys that were changed since this was `former`, some more than once; `None`: it was not, or too
    /// much was, at least more than `keys_max`.
    #[must_use]
    pub fn changed_since(&self, former: &SharedMap<K, V>, keys_max: usize) -> Option<Vec<u64>> {
        // No entry of either is one of the other's: nothing was asked for that could be found.
        let is_nothing = self.map.is_empty() && former.map.is_empty();
        if is_nothing { Some(Vec::new()) } else { self.written.since(&former.written, keys_max) }
    }
    /// Writes down from now on which keys are changed.
    pub fn follow(&mut self) {
        self.touched.get_or_insert_default();
    }
    /// The keys that were changed since the last call, some more than once.
    pub fn take_touched(&mut self) -> Vec<K> {
        self.touched.as_mut().map(std::mem::take).unwrap_or_default()
    }
    #[must_use]
    pub fn len(&self) -> usize {
        reads::note_always();
        self.map.size()
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        reads::note_always();
        self.map.is_empty()
    }
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        reads::note_always();
        self.map.iter()
    }
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        reads::note_always();
        self.map.keys()
    }
    pub fn values(&self) -> impl Iterator<Item = &V> {
        reads::note_always();
        self.map.values()
    }
}

impl<K: Eq + Hash, V> Default for SharedMap<K, V> {
    fn default() -> SharedMap<K, V> {
        SharedMap::new()
    }
}

impl<K: Eq + Hash + Clone, V> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> SharedMap<K, V> {
        let mut map = SharedMap::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Eq + Hash + Borrow<Q>, Q: Eq + Hash + ?Sized, V> Index<&Q> for SharedMap<K, V> {
    type Output = V;
    fn index(&self, key: &Q) -> &V {
        reads::note(|| reads::hash_of(key));
        &self.map[key]
    }
}

impl<K: Eq + Hash + std::fmt::Debug, V: std::fmt::Debug> std::fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was changed between two copies is told, as long as one came from the other and not too much came in
    /// between; of two that went on from one, each for itself, nothing is. Catches a change that is not told, for
    /// which an answer would stay wrong.
    #[test]
    fn changes_between_copies() {
        let hash = |key: &str| reads::hash_of(key);
        let mut map: SharedMap<String, u32> = SharedMap::new();
        map.insert("a".to_string(), 1);
        let first = map.clone();
        map.insert("b".to_string(), 2);
        map.insert("a".to_string(), 3);
        let second = map.clone();
        map.remove("b");
        assert_eq!(
            map.changed_since(&first, usize::MAX),
            Some(vec![hash("b"), hash("a"), hash("b")])
        );
        assert_eq!(map.changed_since(&second, usize::MAX), Some(vec![hash("b")]));
        assert_eq!(second.changed_since(&first, usize::MAX), Some(vec![hash("b"), hash("a")]));
        assert_eq!(map.changed_since(&map.clone(), usize::MAX), Some(vec![]));
        assert_eq!(first.changed_since(&second, usize::MAX), None, "it is the former");
        let mut other = second.clone();
        other.insert("c".to_string(), 4);
        assert_eq!(
            other.changed_since(&first, usize::MAX),
            None,
            "`map` went on from there before"
        );
        assert_eq!(other.changed_since(&other.clone(), usize::MAX), Some(vec![]));
        let mut rebuilt: SharedMap<String, u32> = SharedMap::new();
        rebuilt.insert("a".to_string(), 3);
        assert_eq!(map.changed_since(&rebuilt, usize::MAX), None);
        let many = map.clone();
        (0..RECENT_MAX).for_each(|number| map.insert(number.to_string(), 0));
        assert_eq!(map.changed_since(&many, usize::MAX).map(|keys| keys.len()), Some(RECENT_MAX));
        map.insert("d".to_string(), 0);
        assert_eq!(map.changed_since(&many, usize::MAX), None);
        let empty: SharedMap<String, u32> = SharedMap::new();
        assert_eq!(empty.changed_since(&SharedMap::new(), usize::MAX), Some(vec![]));
        assert_eq!(empty.changed_since(&map, usize::MAX), None);
    }

    /// Each look-up is written down for the row that it is for, while somebody records and not after that.
    #[test]
    fn reads_are_of_rows() {
        let map: SharedMap<String, u32> = [("a".to_string(), 1)].into_iter().collect();
        let hash = |key: &str| reads::hash_of(key);
        map.get("before");
        let recording = reads::Recording::start();
        let ((), read) = reads::during(|| {
            map.get("a");
            reads::of_row(3);
            assert!(!map.contains_key("b"));
            let ((), inner) = reads::during(|| assert_eq!(map.get("c"), None));
            assert_eq!(inner, Some(vec![(reads::ALL_ROWS, hash("c"))]));
            assert_eq!(map.len(), 1);
        });
        let expected = [(reads::ALL_ROWS, hash("a")), (3, hash("b")), (3, reads::ALWAYS)];
        assert_eq!(read, Some(expected.to_vec()));
        drop(recording);
        assert_eq!(reads::during(|| map.get("a").copied()), (Some(1), None));
    }
}
