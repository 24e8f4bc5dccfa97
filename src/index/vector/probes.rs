//! How many cells a search must read: measured on the session itself, never assumed.
//!
//! Questions are asked of all rows, and for each result is noted at which rank its cell comes when cells
//! are ordered by how near their centres are. A question lies midway between two rows, so that it is
//! not easier than what users ask. A filter makes results lie deeper: the ten best of those that one
//! row in a hundred passes are about the thousand best of all. So cells are measured for several depths,
//! and a search with a filter counts how deep it has come.

use crate::index::Key;
use crate::index::top::Top;

/// How many of the best are measured; who asks for more than the last reads everything.
pub const DEPTHS: [usize; 4] = [10, 100, 1_000, 10_000];
/// So many of a full scan's results must lie in the cells that are read: more than the 0.95 promised, for
/// what is asked is not what was measured.
const RECALL: f64 = 0.98;
/// Questions that are measured.
const QUESTIONS: usize = 100;

/// Cells to read for each of [`DEPTHS`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probes(pub [u32; DEPTHS.len()]);

impl Probes {
    /// Cells to read for the best `depth` rows; `None`: all.
    pub fn needed(&self, depth: usize) -> Option<usize> {
        let above = DEPTHS.iter().position(|known| depth <= *known)?;
        let high = self.0[above] as f64;
        if above == 0 {
            return Some(self.0[0] as usize);
        }
        let low = self.0[above - 1] as f64;
        // Straight between two measured depths, of which each is ten times the other.
        let share = (depth as f64 / DEPTHS[above - 1] as f64).log10();
        Some((low + (high - low).max(0.0) * share).ceil() as usize)
    }
}

/// A measurement under way.
pub struct Measuring {
    asked: usize,
    /// For each depth, the results of all questions by the rank of their cell.
    found: [Vec<u32>; DEPTHS.len()],
}

impl Measuring {
    pub fn new(cells: usize) -> Self {
        Self { asked: 0, found: std::array::from_fn(|_| vec![0; cells]) }
    }

    /// The number of the next question.
    pub fn question(&self) -> usize {
        self.asked
    }

    /// Notes a question: the ranks of its results' cells, best result first.
    pub fn note(&mut self, ranks: &[u32]) {
        self.asked += 1;
        for (found, depth) in self.found.iter_mut().zip(DEPTHS) {
            for &rank in ranks.iter().take(depth) {
                found[rank as usize] += 1;
            }
        }
    }

    /// What came of it, once enough was asked.
    pub fn done(&self) -> Option<Probes> {
        (self.asked >= QUESTIONS).then(|| Probes(std::array::from_fn(|at| cells(&self.found[at]))))
    }
}

/// The fewest cells that have enough of what was found.
fn cells(found: &[u32]) -> u32 {
    let all: u64 = found.iter().map(|count| u64::from(*count)).sum();
    let mut sum = 0;
    let enough = found.iter().position(|count| {
        sum += u64::from(*count);
        sum as f64 >= RECALL * all as f64
    });
    enough.map_or(found.len(), |at| at + 1) as u32
}

/// A filter may pass what lies far off: rows that were not read yet are taken to be three times as many.
const UNREAD: usize = 4;
/// How deep a search with a filter has come: at which rank of all rows its worst sure result lies.
pub struct Depth<'a> {
    best: Top<'a>,
    /// What was read and may be better than that.
    scores: Vec<f32>,
}

impl<'a> Depth<'a> {
    /// Watches over the best of `best`.
    pub fn of(best: Top<'a>) -> Self {
        Self { best, scores: Vec::new() }
    }

    /// Sees rows that have these scores; `key` names one.
    pub fn see(&mut self, scores: &[f32], key: impl Fn(usize) -> Key) {
        self.scores.extend_from_slice(scores);
        self.best.offer_all(scores, f32::NEG_INFINITY, key);
    }

    /// `None` as long as there are fewer results than wanted.
    pub fn reached(&mut self) -> Option<usize> {
        let bar = self.best.bar();
        self.scores.retain(|score| *score >= bar);
        bar.is_finite().then_some(self.scores.len() * UNREAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_cells_are_read_as_hold_what_was_found() {
        let mut measuring = Measuring::new(50);
        for question in 0..QUESTIONS as u32 {
            assert_eq!((measuring.question(), measuring.done()), (question as usize, None));
            // Two of a hundred among the best ten lie in the twentieth cell, one in a thousand at the end.
            let mut ranks = vec![question % 4; 1_000];
            ranks[3] = if question % 5 == 0 { 19 } else { 3 };
            ranks[200..240].fill(49);
            measuring.note(&ranks);
        }
        assert_eq!(measuring.done(), Some(Probes([4, 4, 50, 50])));
    }

    #[test]
    fn between_two_depths_so_many_cells_are_read_and_beyond_the_last_all() {
        let probes = Probes([4, 20, 100, 100]);
        let needed = [1, 10, 32, 100, 1_000, 10_001].map(|depth| probes.needed(depth));
        assert_eq!(needed, [Some(4), Some(4), Some(13), Some(20), Some(100), None]);
    }

    #[test]
    fn a_filter_that_one_row_in_ten_passes_is_ten_times_as_deep() {
        let tenth = |key: u128| key.is_multiple_of(10);
        let mut depth = Depth::of(Top::new(5, Some(&tenth)));
        for key in 0..1_000u128 {
            assert!(key > 40 || depth.reached().is_none());
            depth.see(&[1.0 - key as f32 / 500.0], |_| key);
        }
        assert_eq!(depth.reached(), Some(41 * UNREAD));
    }
}
