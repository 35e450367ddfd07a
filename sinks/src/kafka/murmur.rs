//! MurmurHash2 (32 bits, the seed of Kafka's Java client), by which clients choose partitions.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;

pub(super) fn hash(data: &[u8]) -> u32 {
    let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ len;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Kafka's own test has it.
    #[test]
    fn is_kafkas() {
        let known: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, wanted) in known {
            assert_eq!(hash(key), wanted.cast_unsigned(), "{key:?}");
        }
    }
}
