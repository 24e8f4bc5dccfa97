//! What the calls of a batch memorize: kept until the call completes, dropped if it does not, refused once it is
//! over. A thread or task that an agent left behind may hold on to its memory for as long as it likes.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{MutexGuard, PoisonError};

use super::{Batch, Outcome};
use crate::model::{MemoryOp, Payload, Span};

/// What calls under way have memorized, and which calls are over.
#[derive(Debug, Default)]
pub(super) struct Kept {
    ops: HashMap<u32, Vec<MemoryOp>>,
    over: Over,
}

/// Children whose calls are over. Most end in order, so one number stands for most of them.
#[derive(Debug, Default)]
struct Over {
    /// All before it, counted from the first of the batch.
    below: u32,
    beyond: HashSet<u32>,
    given_up: Vec<Range<u32>>,
}

impl Over {
    fn note(&mut self, at: u32) {
        if at == self.below {
            self.below += 1;
            while !self.beyond.is_empty() && self.beyond.remove(&self.below) {
                self.below += 1;
            }
        } else if at > self.below {
            self.beyond.insert(at);
        }
    }

    fn has(&self, at: u32) -> bool {
        at < self.below
            || self.beyond.contains(&at)
            || self.given_up.iter().any(|span| span.contains(&at))
    }
}

impl Batch {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, child: u32) -> u32 {
        child.wrapping_sub(self.span.lo)
    }

    /// Keeps what the call of a child memorizes until it completes; false where the call is over, and nothing
    /// that it memorizes can last.
    #[must_use]
    pub fn memorize(&self, child: u32, ops: Vec<MemoryOp>) -> bool {
        let mut kept = self.kept();
        let is_over = kept.over.has(self.at(child));
        if !is_over {
            kept.ops.entry(child).or_default().extend(ops);
        }
        !is_over
    }

    /// What the call of a child has memorized so far.
    pub fn memorized(&self, child: u32) -> Vec<MemoryOp> {
        self.kept().ops.get(&child).cloned().unwrap_or_default()
    }

    /// True once the call of a child has ended or was given up.
    pub fn is_over(&self, child: u32) -> bool {
        self.kept().over.has(self.at(child))
    }

    /// Drops what the call of a child has memorized: it is over, and did not complete.
    pub fn drop_memorized(&self, child: u32) {
        let at = self.at(child);
        let mut kept = self.kept();
        kept.ops.remove(&child);
        kept.over.note(at);
    }

    /// Drops what the calls of these children have memorized: whatever they do, they count no more.
    pub fn give_up_memorized(&self, span: Span) {
        let (lo, hi) = (self.at(span.lo), self.at(span.lo).saturating_add(span.len));
        let mut kept = self.kept();
        kept.ops.retain(|child, _| !(lo..hi).contains(&self.at(*child)));
        kept.over.given_up.push(lo..hi);
    }

    /// The outcome of a child's call that completed, with what it memorized. The call is over.
    pub fn completed(&self, child: u32, output: Payload) -> Outcome {
        let at = self.at(child);
        let mut kept = self.kept();
        kept.over.note(at);
        match kept.ops.remove(&child) {
            Some(memory) => Outcome::Memorized { output, memory },
            None => Outcome::Completed(output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_end_in_any_order_are_over_and_no_others() {
        let mut over = Over::default();
        let mut seen = HashSet::new();
        for at in [2, 0, 4, 1, 1, 7, 3, 5] {
            over.note(at);
            seen.insert(at);
            assert!((0..9).all(|at| over.has(at) == seen.contains(&at)), "{over:?}");
        }
        assert_eq!((over.below, over.beyond.len()), (6, 1), "those in order take no room");
        over.given_up.push(20..22);
        assert!(over.has(20) && over.has(21) && !over.has(22) && !over.has(19));
    }
}
