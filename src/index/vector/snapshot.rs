//! The vector leg as bytes, some rows at a time, so that a restart quantizes nothing again and whoever
//! writes holds nobody up for long.
//!
//! Number of rows, keys, steps, then the rows in eight bits without their padding. Reading gives sound
//! rows or nothing. Which vectors they stand for is for the caller to keep.

use std::sync::Arc;

use super::VectorIndex;
use super::cells::Cells;
use super::centres::Table;
use super::probes::{DEPTHS, Probes};
use super::row::{LINE, Line};
use crate::index::Key;
use crate::index::bytes::Bytes;
use crate::index::parts::Place;

const KEY_BYTES: usize = 16;

/// Numbers before the centres: how many, rows they were learned from, rows from which they are used, changes
/// since they were learned, and until it was last measured how many cells to read.
const HEAD: usize = 5;

impl VectorIndex {
    /// Keys of a session's rows, in the order in which they are written.
    pub fn keys(&self, session: &str) -> impl Iterator<Item = Key> {
        self.parts.find(session).into_iter().flat_map(|part| self.parts.get(part).keys())
    }

    /// Appends the rows in `from..to` of a session to `bytes`. Rows move when others go.
    pub fn write_rows(&self, session: &str, from: usize, to: usize, bytes: &mut Vec<u8>) {
        let Some(part) = self.parts.find(session) else { return };
        let cells = self.parts.get(part);
        let pieces: Vec<_> = cells.pieces(from, to).collect();
        let rows = || {
            pieces.iter().flat_map(|(cell, piece, _)| piece.clone().map(|row| cell.row(row as u32)))
        };
        let count: usize = pieces.iter().map(|(_, piece, _)| piece.len()).sum();
        bytes.reserve(count * (KEY_BYTES + 4 + self.dimension) + 4);
        bytes.extend((count as u32).to_le_bytes());
        let keys = pieces.iter().flat_map(|(cell, piece, _)| &cell.keys()[piece.clone()]);
        keys.for_each(|key| bytes.extend(key.to_be_bytes()));
        rows().for_each(|(_, step)| bytes.extend(step.to_le_bytes()));
        rows().for_each(|(lines, _)| self.write_line(lines, bytes));
    }

    /// A row without the padding.
    fn write_line(&self, lines: &[Line], bytes: &mut Vec<u8>) {
        let mut left = self.dimension;
        for line in lines {
            let own = left.min(LINE);
            bytes.extend(line.0.map(|steps| steps as u8)[..own].iter());
            left -= own;
        }
    }

    /// Takes rows in that were written; answers their keys, and of each whether it was taken: one whose
    /// entry is there already is left out. `about`: the centres in whose cells they lay, or nothing.
    /// `None` where the bytes are no rows of this dimension; some may have been taken in then.
    pub fn read_rows(
        &mut self,
        session: &str,
        bytes: &[u8],
        about: &[Option<usize>],
    ) -> Option<Vec<(Key, bool)>> {
        let mut bytes = Bytes(bytes);
        let count = bytes.u32()? as usize;
        let keys = bytes.take(count.checked_mul(KEY_BYTES)?)?.chunks_exact(KEY_BYTES);
        let keys: Option<Vec<Key>> =
            keys.map(|key| Some(Key::from_be_bytes(key.try_into().ok()?))).collect();
        let (keys, steps) = (keys?, bytes.u32s(count)?);
        if bytes.0.len() != count.checked_mul(self.dimension)? || count == 0 {
            return None;
        }
        let part = self.parts.find_or_insert(session, || Cells::new(self.dimension));
        self.parts.reserve(count);
        let mut lines = vec![Line([0; LINE]); self.dimension.div_ceil(LINE)];
        let rows = bytes.0.chunks_exact(self.dimension);
        let mut taken = Vec::with_capacity(count);
        let about = about.iter().copied().chain(std::iter::repeat(None));
        for (((key, step), bytes), about) in keys.into_iter().zip(steps).zip(rows).zip(about) {
            let step = read_row(step, bytes, &mut lines)?;
            taken.push((key, !self.contains(key)));
            if self.contains(key) {
                continue;
            }
            let row = self.parts.get_mut(part).push_about(about, key, &lines, step)?;
            self.parts.set_place(key, Place { part, row });
        }
        Some(taken)
    }

    /// The centres of a session's cells, and what was measured of them; `None` where it has none.
    pub fn write_centres(&self, session: &str) -> Option<Vec<u8>> {
        let cells = self.parts.get(self.parts.find(session)?);
        let centres = cells.centres()?;
        let probes = cells.probes.map_or([0; DEPTHS.len()], |probes| probes.0);
        let rows = [centres.len(), cells.learned_from, cells.rows_min];
        let head = rows.into_iter().chain([cells.changes, cells.measured_at]);
        let head = head.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let mut bytes = Vec::with_capacity(centres.len() * (4 + self.dimension) + 40);
        head.chain(probes).for_each(|number| bytes.extend(number.to_le_bytes()));
        let rows = || (0..centres.len()).map(|at| centres.row(at));
        rows().for_each(|(_, step)| bytes.extend(step.to_le_bytes()));
        rows().for_each(|(lines, _)| self.write_line(lines, &mut bytes));
        Some(bytes)
    }

    /// Takes centres in that were written, before any row of the session. `None` where the bytes are none.
    pub fn read_centres(&mut self, session: &str, bytes: &[u8]) -> Option<()> {
        let mut bytes = Bytes(bytes);
        let head = bytes.u32s(HEAD)?;
        let probes: [u32; DEPTHS.len()] = bytes.u32s(DEPTHS.len())?.try_into().ok()?;
        let count = head[0] as usize;
        let steps = bytes.u32s(count)?;
        if bytes.0.len() != count.checked_mul(self.dimension)? || count == 0 {
            return None;
        }
        let mut lines = vec![Line([0; LINE]); self.dimension.div_ceil(LINE)];
        let mut centres = Table::new(lines.len());
        for (step, bytes) in steps.into_iter().zip(bytes.0.chunks_exact(self.dimension)) {
            let step = read_row(step, bytes, &mut lines)?;
            centres.push(&lines, step);
        }
        let part = self.parts.find_or_insert(session, || Cells::new(self.dimension));
        let cells = self.parts.get_mut(part);
        cells.regroup(Arc::new(centres), head[1] as usize, head[2] as usize);
        (cells.changes, cells.measured_at) = (head[3] as usize, head[4] as usize);
        cells.probes = (!probes.contains(&0)).then_some(Probes(probes));
        Some(())
    }

    /// Tells the centres of a session from others that it had or will have; `None` where it has none.
    pub fn mark_of_centres(&self, session: &str) -> Option<u32> {
        let cells = self.parts.get(self.parts.find(session)?);
        cells.centres().map(|_| cells.mark)
    }

    /// The centres in whose cells the rows in `from..to` of a session lie.
    pub fn centres_of(
        &self,
        session: &str,
        from: usize,
        to: usize,
    ) -> impl Iterator<Item = Option<usize>> {
        let cells = self.parts.find(session).map(|part| self.parts.get(part));
        let pieces = cells.into_iter().flat_map(move |cells| cells.pieces(from, to));
        pieces.flat_map(|(_, piece, centre)| piece.map(move |_| centre))
    }
}

/// Reads a row and answers its step. `None` for what the scan cannot reckon with.
fn read_row(step: u32, bytes: &[u8], lines: &mut [Line]) -> Option<f32> {
    let step = f32::from_bits(step);
    if !(step > 0.0 && step <= 1.0) || bytes.contains(&(i8::MIN as u8)) {
        return None;
    }
    for (line, bytes) in lines.iter_mut().zip(bytes.chunks(LINE)) {
        line.0.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from as i8);
    }
    Some(step)
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
                let keys = read.read_rows("a", &bytes, &[]).expect("they were just written");
                let expected: Vec<_> =
                    index.keys("a").skip(from).take(at_once).map(|key| (key, true)).collect();
                prop_assert_eq!(&keys, &expected);
                let again = read.read_rows("a", &bytes, &[]).expect("they were just written");
                prop_assert!(again.iter().all(|(_, taken)| !taken), "twice is once");
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
            let _ = index.read_rows("a", &bytes, &[]);
            let mut rows = Vec::new();
            filled(65, 40).write_rows("a", 0, 40, &mut rows);
            let at = at % rows.len();
            prop_assert!(VectorIndex::new(65)?.read_rows("a", &rows[..at], &[]).is_none());
            rows[at] ^= 1 << bit;
            let mut index = VectorIndex::new(65)?;
            if index.read_rows("a", &rows, &[]).is_some() {
                let none = |_: Key, _: &mut [f32]| false;
                let found = index.query(&["a"], &direction(9, 65), &none)?.top(50, None);
                prop_assert_eq!(found.len(), index.len());
            }
        }
    }
}
