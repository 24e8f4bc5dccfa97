//! Putting a large session in cells, step by step, so that who searches or writes is held up for 0.2 s at most.
//!
//! [`VectorIndex::step`] says what is next and takes along what it needs, [`Step::work`] does the long
//! part without the index, [`VectorIndex::take`] puts the outcome in. Between steps anything may happen:
//! rows that came meanwhile are in the right cell already, and those that went are not put anywhere.
//! It may end anywhere: the next one goes on from there, and searches read everything until it is done.

use std::sync::Arc;

use super::VectorIndex;
use super::cells::Cells;
use super::centres::{GOLDEN, Table};
use super::probes::{DEPTHS, Measuring};
use super::row::{Line, unit};
use super::rows::Rows;
use crate::index::Key;
use crate::index::parts::{PartId, Place};
use crate::index::top::{Hit, Top};

/// When rows are put in cells, and how many in one.
#[derive(Clone, Copy, Debug)]
pub struct Grouping {
    /// Smaller sessions are read whole: exactly, and fast enough.
    pub rows_min: usize,
    /// Rows in a cell, when centres are learned.
    pub rows_per_cell: usize,
}

impl Default for Grouping {
    fn default() -> Self {
        Self { rows_min: 200_000, rows_per_cell: 320 }
    }
}

/// Rows that a centre is learned from.
const SAMPLE_PER_CELL: usize = 64;
/// Rows that are put in cells in one step.
const ROWS_A_STEP: usize = 1_024;
/// Rows between two questions whether to go on.
const ROWS_A_TURN: usize = 64;

/// The next step of a grouping.
pub struct Step(What);

enum What {
    /// Centres are to be learned from these rows.
    Learn {
        sample: Table,
        cells: usize,
        rows: usize,
        rows_min: usize,
    },
    Learned {
        centres: Arc<Table>,
        rows: usize,
        rows_min: usize,
    },
    /// These rows are to be put in cells.
    Settle {
        centres: Arc<Table>,
        keys: Vec<Key>,
        rows: Table,
        about: Vec<usize>,
    },
    /// A question was asked of all rows: the ranks of its results' cells.
    Measured {
        centres: Arc<Table>,
        ranks: Vec<u32>,
    },
}

impl Step {
    /// Does the long part. `None` where `go_on`, which is asked every millisecond or so, says no.
    pub fn work(self, go_on: &mut dyn FnMut() -> bool) -> Option<Self> {
        Some(Self(match self.0 {
            What::Learn { sample, cells, rows, rows_min } => {
                let centres = Arc::new(sample.learn(cells, go_on)?);
                What::Learned { centres, rows, rows_min }
            }
            What::Settle { centres, keys, rows, mut about } => {
                for at in 0..rows.len() {
                    if at.is_multiple_of(ROWS_A_TURN) && !go_on() {
                        return None;
                    }
                    about.push(centres.nearest(rows.row(at).0)?);
                }
                What::Settle { centres, keys, rows, about }
            }
            done => done,
        }))
    }
}

impl VectorIndex {
    /// Whether a session is large and not in cells, or in cells of what it was before many changes.
    pub fn wants_grouping(&self, session: &str, grouping: &Grouping) -> bool {
        let Some(part) = self.parts.find(session) else { return false };
        let cells = self.parts.get(part);
        let is_done = || {
            !cells.wants_centres()
                && !cells.wants_measuring()
                && cells.loose().iter().all(Rows::is_empty)
        };
        cells.len() >= grouping.rows_min && !is_done()
    }

    /// How many cells a session is in, and how many of them a search for the ten best reads; `None` where it
    /// is in none.
    pub fn cells_of(&self, session: &str) -> Option<(usize, usize)> {
        let cells = self.parts.get(self.parts.find(session)?);
        let count = cells.centres()?.len();
        let read = cells.to_read().and_then(|probes| probes.needed(DEPTHS[0]));
        Some((count, read.unwrap_or(count)))
    }

    /// What is next on the way of a session into cells; `None` where nothing is.
    pub fn step(&self, session: &str, grouping: &Grouping) -> Option<Step> {
        if !self.wants_grouping(session, grouping) {
            return None;
        }
        let part = self.parts.find(session)?;
        let cells = self.parts.get(part);
        let Some(centres) = cells.centres().filter(|_| !cells.wants_centres()) else {
            return Some(Step(sample(cells, grouping)));
        };
        let centres = Arc::clone(centres);
        Some(Step(match settle(cells, &centres) {
            Some(settle) => settle,
            None => What::Measured { ranks: self.ranks(session, cells)?, centres },
        }))
    }

    /// Puts in what came of a step. Whatever is not as it was when the step began stays as it is now.
    pub fn take(&mut self, session: &str, step: Step) {
        let Some(part) = self.parts.find(session) else { return };
        let cells = self.parts.get_mut(part);
        let is_about = |cells: &Cells, centres: &Arc<Table>| {
            cells.centres().is_some_and(|current| Arc::ptr_eq(current, centres))
        };
        match step.0 {
            What::Learn { .. } => {}
            // The session may be another one by now, of another dimension.
            What::Learned { centres, rows, rows_min }
                if centres.lines_per_row() == cells.lines_per_row() =>
            {
                cells.regroup(centres, rows, rows_min);
            }
            What::Settle { centres, keys, rows, about } if is_about(cells, &centres) => {
                for (at, (key, centre)) in keys.into_iter().zip(about).enumerate() {
                    self.settle(part, key, rows.row(at), centre);
                }
            }
            What::Measured { centres, ranks } if is_about(cells, &centres) => {
                let measuring =
                    cells.measuring.get_or_insert_with(|| Measuring::new(centres.len()));
                measuring.note(&ranks);
                if let Some(probes) = measuring.done() {
                    cells.measured(probes);
                }
            }
            What::Learned { .. } | What::Settle { .. } | What::Measured { .. } => {}
        }
    }

    /// Moves a row about its centre, if it is loose still: one that was given another vector
    /// meanwhile lies about a centre already.
    fn settle(&mut self, part: PartId, key: Key, (lines, step): (&[Line], f32), centre: usize) {
        let Some(place) = self.parts.place(key).filter(|place| place.part == part) else { return };
        let cells = self.parts.get_mut(part);
        if cells.centre_of(place.row).is_some() {
            return;
        }
        let moved = cells.swap_remove(place.row);
        let at = cells.push_about(Some(centre), key, lines, step);
        let at = at.expect("there was room for it a moment ago");
        if let Some(moved) = moved {
            self.parts.set_place(moved, place);
        }
        self.parts.set_place(key, Place { part, row: at });
    }

    /// Asks the next question of all rows: for each result, how many centres are nearer to the question
    /// than its own.
    fn ranks(&self, session: &str, cells: &Cells) -> Option<Vec<u32>> {
        let number = cells.measuring.as_ref().map_or(0, Measuring::question);
        let query = self.query(&[session], &self.question(cells, number)?, &|_, _| false).ok()?;
        let mut top = Top::new(DEPTHS[DEPTHS.len() - 1], None);
        query.scan_all(cells.all(), &mut top);
        let nearness: Vec<f32> = cells.centres()?.nearness(query.lines()).collect();
        let mut order: Vec<usize> = (0..nearness.len()).collect();
        order.sort_unstable_by(|a, b| nearness[*b].total_cmp(&nearness[*a]));
        let mut rank_of = vec![0; order.len()];
        (0..).zip(order).for_each(|(rank, centre)| rank_of[centre] = rank);
        let rank = |hit: &Hit| {
            let at = self.parts.place(hit.key)?.row;
            Some(cells.centre_of(at).map_or(0, |centre| rank_of[centre]))
        };
        top.into_sorted().iter().map(rank).collect()
    }

    /// A direction midway between two rows, others for each number.
    fn question(&self, cells: &Cells, number: usize) -> Option<Vec<f32>> {
        let row = |number: usize| {
            let at = (number as f64 * GOLDEN).fract() * cells.len() as f64;
            let (lines, step) = cells.nth(at as usize)?;
            let numbers = lines.iter().flat_map(|line| line.0).take(self.dimension);
            Some(numbers.map(|n| f32::from(n) * step).collect::<Vec<_>>())
        };
        let (one, other) = (row(2 * number + 1)?, row(2 * number + 2)?);
        let between: Vec<f32> = one.iter().zip(&other).map(|(a, b)| a + b).collect();
        // Two that are opposite have nothing between them.
        Some(if unit(&between, self.dimension).is_ok() { between } else { one })
    }
}

fn sample(cells: &Cells, grouping: &Grouping) -> What {
    let rows = cells.len();
    let count = (rows / grouping.rows_per_cell.max(1)).max(1);
    let wanted = count * SAMPLE_PER_CELL;
    let mut sample = Table::new(cells.lines_per_row());
    // One of every few, and not always the same one: what came in turns would be seen by halves.
    let each = rows.div_ceil(wanted).max(1);
    let chosen = |at: usize| ((at / each) as f64 * GOLDEN).fract() * each as f64;
    let all = cells.all().iter().flat_map(|cell| (0..cell.len()).map(|row| cell.row(row as u32)));
    let some = all.enumerate().filter(|(at, _)| at % each == chosen(*at) as usize);
    some.for_each(|(_, (lines, step))| sample.push(lines, step));
    What::Learn { sample, cells: count, rows, rows_min: grouping.rows_min }
}

/// Some rows that lie in no cell, copied.
fn settle(cells: &Cells, centres: &Arc<Table>) -> Option<What> {
    let (mut keys, mut rows) = (Vec::new(), Table::new(cells.lines_per_row()));
    for cell in cells.loose() {
        // From the end: what is taken out leaves the others where they are.
        let some = (0..cell.len()).rev().take(ROWS_A_STEP - keys.len());
        for at in some {
            let (lines, step) = cell.row(at as u32);
            rows.push(lines, step);
            keys.push(cell.keys()[at]);
        }
    }
    let centres = Arc::clone(centres);
    (!keys.is_empty()).then_some(What::Settle { centres, keys, rows, about: Vec::new() })
}
