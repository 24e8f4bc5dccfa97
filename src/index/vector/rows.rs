//! Vectors of one session that lie together, in eight bits, in blocks that are read from front to back.

use super::row::Line;
use crate::index::Key;

/// Rows in a block: large enough to be read at full speed, small enough that growing copies little.
const BLOCK_ROWS: usize = 1_024;

/// Rows have dense numbers: the last one takes the place of one that goes.
pub struct Rows {
    lines_per_row: usize,
    blocks: Vec<Vec<Line>>,
    steps: Vec<f32>,
    keys: Vec<Key>,
}

impl Rows {
    pub fn new(lines_per_row: usize) -> Self {
        Self { lines_per_row, blocks: Vec::new(), steps: Vec::new(), keys: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Lines, keys and steps of the rows of each block.
    pub fn blocks(&self) -> impl Iterator<Item = (&[Line], &[Key], &[f32])> {
        let (keys, steps) = (self.keys.chunks(BLOCK_ROWS), self.steps.chunks(BLOCK_ROWS));
        let rest = keys.zip(steps);
        self.blocks.iter().zip(rest).map(|(lines, (keys, steps))| (lines.as_slice(), keys, steps))
    }

    /// Lines and step of one row.
    pub fn row(&self, row: u32) -> (&[Line], f32) {
        let (block, start) = self.find(row as usize);
        (&self.blocks[block][start..start + self.lines_per_row], self.steps[row as usize])
    }

    /// Adds a row and says its number. `None` beyond four billion.
    pub fn push(&mut self, key: Key, row: &[Line], step: f32) -> Option<u32> {
        let number = u32::try_from(self.keys.len()).ok()?;
        if self.keys.len().is_multiple_of(BLOCK_ROWS) {
            // The first block grows with a small session; those after it are sure to fill.
            let room = if self.blocks.is_empty() { 0 } else { BLOCK_ROWS * self.lines_per_row };
            self.blocks.push(Vec::with_capacity(room));
        }
        let block = self.blocks.last_mut()?;
        if block.capacity() - block.len() < self.lines_per_row {
            // A cell stays about as large as it is: no room is set aside that it would not need.
            block.reserve_exact(self.lines_per_row * (block.len() / self.lines_per_row / 8).max(8));
        }
        block.extend_from_slice(row);
        self.steps.push(step);
        self.keys.push(key);
        Some(number)
    }

    /// Takes a row out and gives the key of the entry that has its number now, if one moved.
    pub fn swap_remove(&mut self, row: u32) -> Option<Key> {
        let (row, last) = (row as usize, self.keys.len() - 1);
        let (last_block, last_start) = self.find(last);
        if row != last {
            let (block, start) = self.find(row);
            for line in 0..self.lines_per_row {
                self.blocks[block][start + line] = self.blocks[last_block][last_start + line];
            }
        }
        self.blocks[last_block].truncate(last_start);
        self.steps.swap_remove(row);
        self.keys.swap_remove(row);
        self.shrink();
        self.keys.get(row).copied()
    }

    fn find(&self, row: usize) -> (usize, usize) {
        (row / BLOCK_ROWS, row % BLOCK_ROWS * self.lines_per_row)
    }

    fn shrink(&mut self) {
        if self.blocks.last().is_some_and(Vec::is_empty) {
            self.blocks.pop();
        }
        if let [only] = &mut self.blocks[..]
            && only.len() * 4 < only.capacity()
        {
            only.shrink_to(only.len() * 2);
        }
        if self.keys.len() * 4 < self.keys.capacity() {
            self.keys.shrink_to(self.keys.len() * 2);
            self.steps.shrink_to(self.keys.len() * 2);
        }
    }
}
