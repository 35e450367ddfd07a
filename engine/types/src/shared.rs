//! A value that many hold: cloned by reference, hashed once, compared by value (and at once where it is the
//! same). Paths of thousands of operators are so compared and looked up in no more than their length.

use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Any seed does: hashes only find what is compared as a whole.
const SEED: u64 = 0x7765_6972;

#[derive(Debug)]
pub struct Shared<T>(Arc<(u64, T)>);

impl<T: Hash> Shared<T> {
    pub fn new(value: T) -> Shared<T> {
        let hash = foldhash::fast::FixedState::with_seed(SEED).hash_one(&value);
        Shared(Arc::new((hash, value)))
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Shared<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || *self.0 == *other.0
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.0);
    }
}

/// The value alone.
impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.1.serialize(serializer)
    }
}

impl<'de, T: Hash + Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shared<T>, D::Error> {
        T::deserialize(deserializer).map(Shared::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Equal by value, wherever they were made; catches a comparison by address alone, and one by hash alone.
    #[test]
    fn equal_by_value() {
        let one = Shared::new("a".to_string());
        assert_eq!(one, Shared::new("a".to_string()));
        assert_ne!(one, Shared::new("b".to_string()));
        let same_hash = Shared(Arc::new((one.0.0, "b".to_string())));
        assert_ne!(one, same_hash);
        let json = serde_json::to_string(&one).unwrap();
        assert_eq!(
            (json.as_str(), serde_json::from_str::<Shared<String>>(&json).unwrap()),
            ("\"a\"", one)
        );
    }
}
