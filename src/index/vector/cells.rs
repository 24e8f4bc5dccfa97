//! The rows of one session, of which a search need not read all once they lie in cells.
//!
//! A small session is one heap of rows. A large one has cells, each about a centre, and a row that is
//! added goes where its nearest centre is. Until every row lies in a cell, and it was measured how many
//! cells a search must read, it reads everything. What is true of a row never depends on its cell.

use std::sync::Arc;

use super::centres::Table;
use super::probes::{Measuring, Probes};
use super::row::{LINE, Line};
use super::rows::Rows;
use crate::index::Key;

/// Centres are learned anew after as many changes as there were rows, and when so small a part of these is left.
const SHRUNK: usize = 2;
/// How many cells to read is measured anew after changes to so small a part of the rows.
const MEASURED_ANEW: usize = 4;

/// Where a row of a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Number of the cell among all there ever were.
    cell: u32,
    row: u32,
}

pub struct Cells {
    lines_per_row: usize,
    /// Those before `first` are about no centre, and are read by every search.
    cells: Vec<Rows>,
    /// Cells that there were before these and that nothing lies in any more.
    gone: usize,
    /// Number of the first cell that is about a centre.
    first: usize,
    /// One for each cell from `first` on.
    centres: Option<Arc<Table>>,
    /// Tells centres from others.
    pub mark: u32,
    /// Rows there were when the centres were learned.
    pub learned_from: usize,
    /// Rows that came or went since then; one that has another vector did both.
    pub changes: usize,
    /// `changes` when it was last measured how many cells to read.
    pub measured_at: usize,
    /// With fewer rows everything is read.
    pub rows_min: usize,
    pub measuring: Option<Measuring>,
    /// What was measured; `None`: nothing yet.
    pub probes: Option<Probes>,
}

impl Cells {
    pub fn new(dimension: usize) -> Self {
        let lines_per_row = dimension.div_ceil(LINE);
        Self {
            lines_per_row,
            cells: vec![Rows::new(lines_per_row)],
            gone: 0,
            first: 1,
            centres: None,
            mark: 0,
            learned_from: 0,
            changes: 0,
            measured_at: 0,
            rows_min: 0,
            measuring: None,
            probes: None,
        }
    }

    pub fn lines_per_row(&self) -> usize {
        self.lines_per_row
    }

    pub fn len(&self) -> usize {
        self.cells.iter().map(Rows::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.cells.iter().all(Rows::is_empty)
    }

    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.cells.iter().flat_map(Rows::keys).copied()
    }

    /// How many cells to read; `None`: everything, also where it would be most of them: rows without any
    /// order are read faster as they lie.
    pub fn to_read(&self) -> Option<Probes> {
        let few = self.centres.as_ref().map_or(0, |centres| centres.len() / 2);
        let pays = |probes: &Probes| probes.0[0] as usize <= few;
        self.probes.filter(|probes| pays(probes) && self.len() >= self.rows_min)
    }

    /// Whether it has no centres, or they are of a session that it is not any more.
    pub fn wants_centres(&self) -> bool {
        self.centres.is_none()
            || self.changes >= self.learned_from.max(1)
            || self.len() < self.learned_from / SHRUNK
    }

    /// Whether it was not measured how many cells to read, or so long ago that it may have changed.
    pub fn wants_measuring(&self) -> bool {
        let since = self.changes.saturating_sub(self.measured_at);
        self.probes.is_none() || since >= (self.learned_from / MEASURED_ANEW).max(1)
    }

    pub fn centres(&self) -> Option<&Arc<Table>> {
        self.centres.as_ref()
    }

    /// Cells that every search reads.
    pub fn loose(&self) -> &[Rows] {
        &self.cells[..self.first]
    }

    /// The cell about a centre.
    pub fn about(&self, centre: usize) -> &Rows {
        &self.cells[self.first + centre]
    }

    /// The centre that a cell is about.
    pub fn centre_of(&self, at: At) -> Option<usize> {
        self.number(at).checked_sub(self.first)
    }

    fn number(&self, at: At) -> usize {
        at.cell as usize - self.gone
    }

    pub fn all(&self) -> &[Rows] {
        &self.cells
    }

    /// Lines and step of one row.
    pub fn row(&self, at: At) -> (&[Line], f32) {
        self.cells[self.number(at)].row(at.row)
    }

    /// The `number`th row in the order of [`Self::keys`].
    pub fn nth(&self, mut number: usize) -> Option<(&[Line], f32)> {
        for rows in &self.cells {
            if number < rows.len() {
                return Some(rows.row(number as u32));
            }
            number -= rows.len();
        }
        None
    }

    /// The pieces of cells that have the rows in `from..to`, in the order of [`Self::keys`].
    pub fn pieces(
        &self,
        from: usize,
        to: usize,
    ) -> impl Iterator<Item = (&Rows, std::ops::Range<usize>, Option<usize>)> {
        let mut start = 0;
        self.cells.iter().enumerate().filter_map(move |(number, rows)| {
            let piece = from.saturating_sub(start).min(rows.len())
                ..to.saturating_sub(start).min(rows.len());
            start += rows.len();
            (!piece.is_empty()).then(|| (rows, piece, number.checked_sub(self.first)))
        })
    }

    /// Adds a row where its nearest centre is. `None` beyond four billion.
    pub fn push(&mut self, key: Key, lines: &[Line], step: f32) -> Option<At> {
        let centre = self.centres.as_ref().and_then(|centres| centres.nearest(lines));
        self.push_about(centre, key, lines, step)
    }

    /// Adds a row about a centre whose number is known; about none that there is: to the loose ones.
    pub fn push_about(
        &mut self,
        centre: Option<usize>,
        key: Key,
        lines: &[Line],
        step: f32,
    ) -> Option<At> {
        let cell = centre.map(|centre| self.first + centre).filter(|cell| *cell < self.cells.len());
        let cell = cell.unwrap_or(0);
        let row = self.cells[cell].push(key, lines, step)?;
        Some(At { cell: u32::try_from(self.gone + cell).ok()?, row })
    }

    /// Takes a row out and gives the key of the entry that is there now, if one moved.
    pub fn swap_remove(&mut self, at: At) -> Option<Key> {
        let cell = self.number(at);
        self.cells[cell].swap_remove(at.row)
    }

    /// Takes down what was measured.
    pub fn measured(&mut self, probes: Probes) {
        (self.probes, self.measuring) = (Some(probes), None);
        self.measured_at = self.changes;
    }

    /// Begins anew about other centres: every row is loose until it is put in a cell.
    pub fn regroup(&mut self, centres: Arc<Table>, learned_from: usize, rows_min: usize) {
        if self.first < self.cells.len() && self.loose().iter().all(Rows::is_empty) {
            self.gone += self.first;
            self.cells.drain(..self.first);
        }
        self.first = self.cells.len();
        self.cells.extend((0..centres.len()).map(|_| Rows::new(self.lines_per_row)));
        self.mark = centres.checksum();
        (self.centres, self.learned_from) = (Some(centres), learned_from);
        self.rows_min = rows_min;
        (self.changes, self.measured_at) = (0, 0);
        (self.measuring, self.probes) = (None, None);
    }
}
