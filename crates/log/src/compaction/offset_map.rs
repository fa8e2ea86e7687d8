//! A hash table with the newest offset of each key in a part of a log, in memory of a fixed size.
//!
//! A key is stored as 128 bits of two keyed hashes, so that nobody can choose keys that collide. When the table has
//! reached its load factor it takes no new key: the pass ends at that record, and the next pass continues there.

use ottla_protocol::ids::Offset;
use std::hash::{BuildHasher, RandomState};

/// Two hashes of a key, and its newest offset plus one; 0 in a free slot.
type Slot = [u64; 3];

/// The bytes that a key takes.
pub const BYTES_PER_KEY: usize = size_of::<Slot>();

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MapLimits {
    /// `log.cleaner.dedupe.buffer.size`, divided among the workers: its memory.
    pub bytes: usize,
    /// `log.cleaner.io.buffer.load.factor`: the part of its slots that may be taken.
    pub load_factor: f64,
}

#[derive(Debug)]
pub struct OffsetMap {
    hashers: [RandomState; 2],
    limits: MapLimits,
    slots: Vec<Slot>,
    keys: usize,
    max_keys: usize,
}

/// The map has reached its load factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl OffsetMap {
    /// An empty map, which takes no memory yet. The two `hashers` must have different random keys.
    pub fn new(limits: MapLimits, hashers: [RandomState; 2]) -> Self {
        Self {
            hashers,
            limits,
            slots: Vec::new(),
            keys: 0,
            max_keys: 1,
        }
    }

    /// Removes all keys and makes room for `expected` keys, limited by the memory, for at least one.
    pub fn clear(&mut self, expected: u64) {
        let most = (self.limits.bytes / BYTES_PER_KEY).max(2);
        let load_factor = self.limits.load_factor.clamp(0.01, 0.99);
        let wanted = scaled(expected, 1.0 / load_factor).saturating_add(2);
        let slots = wanted.min(most);
        // The old table is freed first, so that two are never in memory.
        self.slots = Vec::new();
        self.slots = vec![[0; 3]; slots];
        self.keys = 0;
        self.max_keys = scaled(slots as u64, load_factor).clamp(1, slots - 1);
    }

    /// Records that `key` was written at `offset`, which is the highest offset so far.
    pub fn put(&mut self, key: &[u8], offset: Offset) -> Result<(), Full> {
        let hash = self.hash(key);
        let (place, is_free) = self.place(hash);
        if is_free && self.keys == self.max_keys {
            return Err(Full);
        }
        let stored = u64::try_from(offset.0).unwrap_or(0) + 1;
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = [hash[0], hash[1], stored];
            self.keys += usize::from(is_free);
        }
        Ok(())
    }

    pub fn get(&self, key: &[u8]) -> Option<Offset> {
        let (place, _) = self.place(self.hash(key));
        let [_, _, stored] = self.slots.get(place)?;
        let offset = stored.checked_sub(1)?;
        i64::try_from(offset).ok().map(Offset)
    }

    pub fn keys(&self) -> usize {
        self.keys
    }

    pub fn bytes(&self) -> usize {
        self.slots.len() * BYTES_PER_KEY
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let [first, second] = &self.hashers;
        [first.hash_one(key), second.hash_one(key)]
    }

    /// The slot of the key with this hash, or the free slot for it, and which of the two it is.
    fn place(&self, hash: [u64; 2]) -> (usize, bool) {
        let count = self.slots.len().max(1);
        let [start, check] = hash;
        let mut place = usize::try_from(start % count as u64).unwrap_or(0);
        // There is always a free slot, so this ends.
        loop {
            match self.slots.get(place) {
                None | Some([_, _, 0]) => return (place, true),
                Some([one, two, _]) if (*one, *two) == (start, check) => return (place, false),
                Some(_) => place = (place + 1) % count,
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a size that is a little off does no harm; the cast saturates"
)]
fn scaled(count: u64, factor: f64) -> usize {
    (count as f64 * factor) as usize
}

#[cfg(test)]
mod tests {
    use super::{BYTES_PER_KEY, Full, MapLimits, OffsetMap};
    use ottla_protocol::ids::Offset;
    use std::collections::BTreeMap;
    use std::hash::RandomState;

    fn map(bytes: usize, expected: u64) -> OffsetMap {
        let limits = MapLimits {
            bytes,
            load_factor: 0.9,
        };
        let mut map = OffsetMap::new(limits, [RandomState::new(), RandomState::new()]);
        map.clear(expected);
        map
    }

    #[test]
    fn holds_the_newest_offset_of_each_key() {
        let mut map = map(1 << 20, 10_000);
        let mut model = BTreeMap::new();
        for offset in 0..10_000i64 {
            let key = ((offset * offset) % 3001).to_be_bytes();
            map.put(&key, Offset(offset)).unwrap();
            model.insert(key, Offset(offset));
        }
        assert_eq!(map.keys(), model.len());
        for (key, offset) in &model {
            assert_eq!(map.get(key), Some(*offset));
        }
        assert_eq!(map.get(b"another"), None);
        map.clear(1);
        assert_eq!(map.get(&0i64.to_be_bytes()), None);
    }

    #[test]
    fn takes_no_further_key_when_full_but_still_newer_offsets() {
        let mut map = map(100 * BYTES_PER_KEY, 1 << 40);
        assert!(map.bytes() <= 100 * BYTES_PER_KEY);
        let taken = (0..1000i64)
            .take_while(|key| map.put(&key.to_be_bytes(), Offset(*key)) == Ok(()))
            .count();
        assert_eq!(taken, 90);
        assert_eq!(map.put(&5000i64.to_be_bytes(), Offset(5000)), Err(Full));
        assert_eq!(map.put(&7i64.to_be_bytes(), Offset(5001)), Ok(()));
        assert_eq!(map.get(&7i64.to_be_bytes()), Some(Offset(5001)));
        assert_eq!(map.get(&5000i64.to_be_bytes()), None);
    }

    #[test]
    fn the_smallest_map_still_takes_a_key() {
        let mut map = map(0, 1000);
        assert_eq!(map.put(b"a", Offset(0)), Ok(()));
        assert_eq!(map.put(b"b", Offset(1)), Err(Full));
    }

    #[test]
    fn memory_is_taken_for_what_is_expected_only() {
        assert!(map(128 << 20, 100).bytes() < 4096);
    }
}
