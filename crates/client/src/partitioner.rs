//! Chooses the partition of a record; for a record with a key exactly as the Java producer does.
//!
//! Records without a key go to one partition for some bytes, then to another (KIP-480, KIP-794), so that batches fill.

use std::hash::{BuildHasher as _, RandomState};

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;
const SHIFT: u32 = 24;

/// The 32-bit murmur2 of `key` with Kafka's seed, as Java's signed integer.
pub fn murmur2(key: &[u8]) -> i32 {
    // Java's lengths are 32-bit; so are Kafka's keys.
    let length = u32::try_from(key.len()).expect("a key is shorter than 4 GiB");
    let mut hash = SEED ^ length;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> SHIFT;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        for (place, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    (hash ^ (hash >> 15)).cast_signed()
}

/// The partition of a record with this key, of `count` partitions.
pub fn partition_for_key(key: &[u8], count: i32) -> i32 {
    (murmur2(key) & i32::MAX) % count
}

/// The partition for records without a key: one partition until `switch_after` bytes went there, then another.
#[derive(Debug)]
pub struct Sticky {
    current: Option<i32>,
    bytes: usize,
    switch_after: usize,
    random: u64,
}

impl Sticky {
    /// Stays with a partition for `switch_after` bytes.
    pub fn new(switch_after: usize) -> Self {
        Self {
            current: None,
            bytes: 0,
            switch_after,
            random: RandomState::new().hash_one(0_u8) | 1,
        }
    }

    /// The partition for a record of `size` bytes, of `count` partitions.
    pub fn partition(&mut self, size: usize, count: i32) -> i32 {
        let current = match self.current {
            Some(current) if current < count && self.bytes < self.switch_after => current,
            last => {
                self.bytes = 0;
                self.another(last, count)
            }
        };
        self.current = Some(current);
        self.bytes += size;
        current
    }

    fn another(&mut self, last: Option<i32>, count: i32) -> i32 {
        // xorshift: the partitions only have to be spread evenly.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let others = match last {
            Some(last) if last < count && count > 1 => count - 1,
            _ => count,
        };
        let pick = i32::try_from(self.random % u64::from(others.unsigned_abs()))
            .expect("smaller than a partition count");
        match last {
            Some(last) if others < count && pick >= last => pick + 1,
            _ => pick,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Sticky, murmur2, partition_for_key};

    #[test]
    fn murmur2_gives_what_java_gives() {
        let vectors: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (
                b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key), hash, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn a_negative_hash_loses_its_sign_bit_not_its_sign() {
        // 2^31 - 973,932,308 = 1,173,551,340
        assert_eq!(partition_for_key(b"21", 100), 40);
    }

    #[test]
    fn records_without_key_stay_until_the_bytes_are_spent_and_then_move() {
        let mut sticky = Sticky::new(100);
        let mut last = sticky.partition(60, 4);
        for _ in 0..50 {
            assert_eq!(sticky.partition(60, 4), last);
            let next = sticky.partition(60, 4);
            assert_ne!(next, last);
            assert!((0..4).contains(&next));
            last = next;
        }
    }

    #[test]
    fn one_partition_is_the_only_choice() {
        let mut sticky = Sticky::new(1);
        assert!((0..10).all(|_| sticky.partition(5, 1) == 0));
    }
}
