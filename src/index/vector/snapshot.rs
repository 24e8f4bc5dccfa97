//! The vector leg as bytes, some rows at a time, so that a restart quantizes nothing again and whoever
//! writes holds nobody up for long.
//!
//! Number of rows, keys, steps, then the rows in eight bits without their padding. Reading gives sound
//! rows or nothing. Which vectors they stand for is for the caller to keep.

use super::VectorIndex;
use super::row::{LINE, Line, Quantized};
use super::session::Session;
use crate::index::Key;
use crate::index::bytes::Bytes;
use crate::index::parts::Place;

const KEY_BYTES: usize = 16;

impl VectorIndex {
    /// Keys of a session's rows, in the order in which they are written.
    pub fn keys(&self, session: &str) -> &[Key] {
        self.parts.find(session).map_or(&[], |part| self.parts.get(part).keys())
    }

    /// Appends the rows in `from..to` of a session to `bytes`. Rows move when others go.
    pub fn write_rows(&self, session: &str, from: usize, to: usize, bytes: &mut Vec<u8>) {
        let Some(part) = self.parts.find(session) else { return };
        let session = self.parts.get(part);
        let to = to.min(session.len());
        let rows = from.min(to)..to;
        bytes.reserve(rows.len() * (KEY_BYTES + 4 + self.dimension) + 4);
        bytes.extend((rows.len() as u32).to_le_bytes());
        session.keys()[rows.clone()].iter().for_each(|key| bytes.extend(key.to_be_bytes()));
        for row in rows.clone() {
            bytes.extend(session.row(row as u32).1.to_le_bytes());
        }
        for row in rows {
            let mut left = self.dimension;
            for line in session.row(row as u32).0 {
                let own = left.min(LINE);
                bytes.extend(line.0.map(|steps| steps as u8)[..own].iter());
                left -= own;
            }
        }
    }

    /// Takes rows in that were written; answers their keys. A row whose entry is there already is left
    /// out. `None` where the bytes are no rows of this dimension; some may have been taken in then.
    pub fn read_rows(&mut self, session: &str, bytes: &[u8]) -> Option<Vec<Key>> {
        let mut bytes = Bytes(bytes);
        let count = bytes.u32()? as usize;
        let keys = bytes.take(count.checked_mul(KEY_BYTES)?)?.chunks_exact(KEY_BYTES);
        let keys: Option<Vec<Key>> =
            keys.map(|key| Some(Key::from_be_bytes(key.try_into().ok()?))).collect();
        let (keys, steps) = (keys?, bytes.u32s(count)?);
        if bytes.0.len() != count.checked_mul(self.dimension)? || count == 0 {
            return None;
        }
        let part = self.parts.find_or_insert(session, || Session::new(self.dimension));
        self.parts.reserve(count);
        let lines = vec![Line([0; LINE]); self.dimension.div_ceil(LINE)];
        let mut row = Quantized { lines, step: 0.0 };
        let rows = bytes.0.chunks_exact(self.dimension);
        for ((&key, step), bytes) in keys.iter().zip(steps).zip(rows) {
            row.step = f32::from_bits(step);
            // The scan reckons with -127 to 127.
            if !(row.step > 0.0 && row.step <= 1.0) || bytes.contains(&(i8::MIN as u8)) {
                return None;
            }
            if self.contains(key) {
                continue;
            }
            for (line, bytes) in row.lines.iter_mut().zip(bytes.chunks(LINE)) {
                line.0.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from as i8);
            }
            let number = self.parts.get_mut(part).push(key, &row)?;
            self.parts.set_place(key, Place { part, row: number });
        }
        Some(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::direction;
    use super::*;
    use proptest::prelude::*;

    fn filled(dimension: usize, count: u64) -> VectorIndex {
        let mut index = VectorIndex::new(dimension).expect("a dimension");
        for key in 0..count {
            index.add("a", Key::from(key * 3), &direction(key + 1, dimension)).expect("a row");
        }
        index
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn rows_that_are_read_back_are_found_as_before(
            dimension in prop::sample::select(vec![1usize, 63, 64, 65, 200]),
            count in 1u64..3_000, at_once in 1usize..1_500, question in 1u64..99,
        ) {
            let index = filled(dimension, count);
            let mut read = VectorIndex::new(dimension)?;
            for from in (0..count as usize).step_by(at_once) {
                let mut bytes = Vec::new();
                index.write_rows("a", from, from + at_once, &mut bytes);
                let keys = read.read_rows("a", &bytes).expect("they were just written");
                prop_assert_eq!(&keys, &index.keys("a")[from..(from + at_once).min(index.len())]);
                prop_assert!(read.read_rows("a", &bytes).is_some(), "twice is once");
            }
            prop_assert_eq!(read.len(), index.len());
            let none = |_: Key, _: &mut [f32]| false;
            let vector = direction(question, dimension);
            let top = |index: &VectorIndex| Ok::<_, super::super::VectorError>(
                index.query(&["a"], &vector, &none)?.top(20, None));
            prop_assert_eq!(top(&read)?, top(&index)?);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>, at in 0usize..4_000, bit in 0u8..8) {
            let mut index = VectorIndex::new(65)?;
            let _ = index.read_rows("a", &bytes);
            let mut rows = Vec::new();
            filled(65, 40).write_rows("a", 0, 40, &mut rows);
            let at = at % rows.len();
            prop_assert!(VectorIndex::new(65)?.read_rows("a", &rows[..at]).is_none());
            rows[at] ^= 1 << bit;
            let mut index = VectorIndex::new(65)?;
            if index.read_rows("a", &rows).is_some() {
                let none = |_: Key, _: &mut [f32]| false;
                let found = index.query(&["a"], &direction(9, 65), &none)?.top(50, None);
                prop_assert_eq!(found.len(), index.len());
            }
        }
    }
}
