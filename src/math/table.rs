//! Hash tables for the hot paths: of runs, batches, sessions, keys.
//!
//! The hash is a multiplication folded onto itself (wyhash, Wang Yi), seeded by process: a tenth of
//! what the standard one costs, which is made for enemies who can time single look-ups.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

/// A hash table whose look-ups are cheap.
pub type Table<K, V> = HashMap<K, V, Seed>;

/// From wyhash: odd, and as many bits set as not.
const FACTOR: u64 = 0xa076_1d64_78bd_642f;

/// Where hashes begin: another number in each process.
#[derive(Clone, Copy, Debug)]
pub struct Seed(u64);

impl Default for Seed {
    fn default() -> Self {
        static SEED: OnceLock<u64> = OnceLock::new();
        Self(*SEED.get_or_init(|| RandomState::new().hash_one(FACTOR)))
    }
}

impl BuildHasher for Seed {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

/// What was hashed so far.
#[derive(Debug)]
pub struct Folded(u64);

/// The upper half of a product knows of the lower bits, the lower half of itself alone: both together.
fn folded(word: u64) -> u64 {
    let wide = u128::from(word) * u128::from(FACTOR);
    wide as u64 ^ (wide >> 64) as u64
}

impl Folded {
    fn fold(&mut self, word: u64) {
        self.0 = folded(self.0 ^ word).rotate_left(23);
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.fold(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        // With the length: a text that ends in zeros is another one than the text without.
        self.fold(u64::from_le_bytes(last) ^ (bytes.len() as u64).rotate_left(56));
    }
    fn write_u8(&mut self, n: u8) {
        self.fold(n.into());
    }
    fn write_u32(&mut self, n: u32) {
        self.fold(n.into());
    }
    fn write_u64(&mut self, n: u64) {
        self.fold(n);
    }
    fn write_u128(&mut self, n: u128) {
        self.fold(n as u64);
        self.fold((n >> 64) as u64);
    }
    fn write_usize(&mut self, n: usize) {
        self.fold(n as u64);
    }
    fn finish(&self) -> u64 {
        folded(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::Hash;

    use super::*;

    /// Distinct values in the lower and in the upper bits, which tables use.
    fn spread<K: Hash>(keys: impl Iterator<Item = K>) -> (usize, usize) {
        let hashes: Vec<u64> = keys.map(|key| Seed(7).hash_one(key)).collect();
        let distinct = |bits: fn(u64) -> u64| {
            hashes.iter().map(|hash| bits(*hash)).collect::<HashSet<_>>().len()
        };
        (distinct(|hash| hash & 0xffff), distinct(|hash| hash >> 57))
    }

    #[test]
    fn neighbours_lie_far_apart() {
        // 65,536 balls in as many urns leave 37 % of these empty.
        let (least, all) = (40_000, 128);
        for (low, high) in [
            spread(0..65_536_u64),
            spread((0..65_536_u64).map(|n| n << 40)),
            spread((0..65_536_u128).map(|n| n | 0x0192_0000 << 80)),
            spread((0..65_536_u128).map(|n| n << 80)),
            spread((0..65_536).map(|n| format!("tenant-{n}"))),
            spread((0..65_536).map(|n| Some(format!("{n}@example.com")))),
        ] {
            assert!(low > least && high == all, "{low} {high}");
        }
    }

    #[test]
    fn equal_keys_meet_and_lengths_count() {
        let seed = Seed::default();
        assert_eq!(seed.hash_one("a key"), Seed::default().hash_one("a key"));
        let zeros: HashSet<u64> = (0..32).map(|n| seed.hash_one(vec![0_u8; n])).collect();
        assert_eq!(zeros.len(), 32);
    }
}
