//! A map whose copies share what they have in common: a copy costs nothing, a change costs a path
//! of the tree, whatever the size. So the metadata can be handed out after each change. It can write down
//! which keys were changed, so that whoever follows it looks at these only. It does *not* keep an order.

use std::borrow::Borrow;
use std::hash::Hash;
use std::ops::Index;

use foldhash::fast::RandomState;
use rpds::HashTrieMapSync;

pub struct SharedMap<K: Eq + Hash, V> {
    map: HashTrieMapSync<K, V, RandomState>,
    /// Keys that were put in or removed since they were taken last, some more than once; `None`: nobody
    /// wants to know.
    touched: Option<Vec<K>>,
}

/// A copy writes nothing down.
impl<K: Eq + Hash, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> SharedMap<K, V> {
        SharedMap { map: self.map.clone(), touched: None }
    }
}

impl<K: Eq + Hash, V> SharedMap<K, V> {
    #[must_use]
    pub fn new() -> SharedMap<K, V> {
        let map = HashTrieMapSync::new_with_hasher_and_ptr_kind(RandomState::default());
        SharedMap { map, touched: None }
    }
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.map.get(key)
    }
    pub fn contains_key<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.map.contains_key(key)
    }
    pub fn insert(&mut self, key: K, value: V)
    where
        K: Clone,
    {
        if let Some(touched) = &mut self.touched {
            touched.push(key.clone());
        }
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
        self.map.remove_mut(key)
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
        self.map.size()
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.map.iter()
    }
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.map.keys()
    }
    pub fn values(&self) -> impl Iterator<Item = &V> {
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
        &self.map[key]
    }
}

impl<K: Eq + Hash + std::fmt::Debug, V: std::fmt::Debug> std::fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}
