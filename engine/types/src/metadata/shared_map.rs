//! A map whose copies share what they have in common: a copy costs nothing, a change costs a path
//! of the tree, whatever the size. So the metadata can be handed out after each change. It does
//! *not* keep an order.

use std::borrow::Borrow;
use std::hash::Hash;
use std::ops::Index;

use foldhash::fast::RandomState;
use rpds::HashTrieMapSync;

#[derive(Clone)]
pub struct SharedMap<K: Eq + Hash, V>(HashTrieMapSync<K, V, RandomState>);

impl<K: Eq + Hash, V> SharedMap<K, V> {
    #[must_use]
    pub fn new() -> SharedMap<K, V> {
        SharedMap(HashTrieMapSync::new_with_hasher_and_ptr_kind(RandomState::default()))
    }
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }
    pub fn contains_key<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }
    pub fn insert(&mut self, key: K, value: V) {
        self.0.insert_mut(key, value);
    }
    /// True if it was there.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.remove_mut(key)
    }
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.size()
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter()
    }
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.values()
    }
}

impl<K: Eq + Hash, V> Default for SharedMap<K, V> {
    fn default() -> SharedMap<K, V> {
        SharedMap::new()
    }
}

impl<K: Eq + Hash, V> FromIterator<(K, V)> for SharedMap<K, V> {
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
        &self.0[key]
    }
}

impl<K: Eq + Hash + std::fmt::Debug, V: std::fmt::Debug> std::fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}
