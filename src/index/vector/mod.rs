//! The vector leg: nearest entries by cosine, exact up to rounding, by reading every row of the sessions.
//!
//! Rows are grouped by session, so a search reads those of its sessions and no others. It scans a copy
//! in eight bits and scores the best again from the caller's rows. What is deleted frees its row at
//! once. A large session is put in cells ([`grouping`](Grouping)), of which a search reads the nearest.
//!
//! ```
//! use goclaw::index::vector::VectorIndex;
//! let mut index = VectorIndex::new(2)?;
//! index.add("support", 1, &[1.0, 0.1])?;
//! index.add("support", 2, &[0.0, 1.0])?;
//! let no_rows = |_, _: &mut [f32]| false; // the scan's own scores are good enough here
//! let found = index.query(&["support"], &[1.0, 0.0], &no_rows)?.top(1, None);
//! assert_eq!(found[0].key, 1);
//! # Ok::<(), goclaw::index::vector::VectorError>(())
//! ```

mod cells;
mod centres;
mod dot;
#[cfg(test)]
mod grouped_tests;
mod grouping;
mod probes;
mod query;
mod row;
mod rows;
mod snapshot;
#[cfg(test)]
mod tests;

pub use grouping::{Grouping, Step};
pub use query::{Truth, VectorQuery};
pub use row::{DIMENSION_MAX, VectorError, from_f16, to_f16};

use super::Key;
use super::parts::{Parts, Place};
use cells::{At, Cells};

/// Every entry with a vector, by session. All vectors have one dimension.
pub struct VectorIndex {
    dimension: usize,
    parts: Parts<Cells, At>,
}

impl VectorIndex {
    /// An empty index for vectors of this dimension.
    ///
    /// # Errors
    /// [`VectorError::DimensionOfIndex`] for 0 and beyond [`DIMENSION_MAX`].
    pub fn new(dimension: usize) -> Result<Self, VectorError> {
        if !(1..=DIMENSION_MAX).contains(&dimension) {
            return Err(VectorError::DimensionOfIndex(dimension));
        }
        Ok(Self { dimension, parts: Parts::default() })
    }

    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Adds an entry, or gives it another vector or session. Only the direction counts.
    ///
    /// # Errors
    /// [`VectorError`] for another dimension, the zero vector, NaN and infinity; nothing has changed then.
    pub fn add(&mut self, session: &str, key: Key, vector: &[f32]) -> Result<(), VectorError> {
        let row = row::quantize(&row::unit(vector, self.dimension)?);
        self.delete(key);
        let part = self.parts.find_or_insert(session, || Cells::new(self.dimension));
        let cells = self.parts.get_mut(part);
        cells.changes += 1;
        let at = cells.push(key, &row.lines, row.step);
        let at = at.expect("memory ends before four billion rows");
        self.parts.set_place(key, Place { part, row: at });
        Ok(())
    }

    /// Takes an entry out and frees its row. Says whether it was there.
    pub fn delete(&mut self, key: Key) -> bool {
        let Some(place) = self.parts.take_place(key) else { return false };
        let session = self.parts.get_mut(place.part);
        session.changes += 1;
        let moved = session.swap_remove(place.row);
        if session.is_empty() {
            self.parts.remove(place.part);
        }
        if let Some(moved) = moved {
            self.parts.set_place(moved, place);
        }
        true
    }

    /// Takes every entry of a session out, and says how many there were.
    pub fn delete_session(&mut self, session: &str) -> usize {
        let Some(session) = self.parts.find(session).and_then(|part| self.parts.remove(part))
        else {
            return 0;
        };
        session.keys().for_each(|key| _ = self.parts.take_place(key));
        session.len()
    }

    /// Prepares a search for what is near `vector` in these sessions, and in no others.
    ///
    /// # Errors
    /// Those of [`Self::add`].
    pub fn query<'a>(
        &'a self,
        sessions: &[&str],
        vector: &[f32],
        truth: Truth<'a>,
    ) -> Result<VectorQuery<'a>, VectorError> {
        let unit = row::unit(vector, self.dimension)?;
        Ok(VectorQuery::new(self, sessions, unit, truth))
    }

    /// Entries of all sessions.
    pub fn len(&self) -> usize {
        self.parts.entries()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn contains(&self, key: Key) -> bool {
        self.parts.place(key).is_some()
    }
}
