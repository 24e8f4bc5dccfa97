//! Permits as values: dropping one gives its slots back, so they cannot leak.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A counter with a bound. The owner thread takes; whoever drops a [`Permit`] gives back.
#[derive(Debug)]
pub(super) struct Slots {
    limit: u32,
    taken: Arc<AtomicU32>,
}

impl Slots {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, taken: Arc::default() }
    }
    /// Changes the bound. What is taken above it stays taken until it comes back.
    pub(super) fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }
    pub(super) fn is_bounded(&self) -> bool {
        self.limit < u32::MAX
    }
    pub(super) fn taken(&self) -> u32 {
        self.taken.load(Ordering::Acquire)
    }
    pub(super) fn free(&self) -> u32 {
        self.limit.saturating_sub(self.taken())
    }
    /// Takes `n` slots. Only the owner thread takes, so `free() >= n` seen before still holds.
    pub(super) fn take(&self, n: u32) -> Hold {
        let before = self.taken.fetch_add(n, Ordering::AcqRel);
        assert!(before + n <= self.limit, "more permits taken than there are");
        Hold { taken: Arc::clone(&self.taken), n }
    }
}

/// Slots of one counter.
#[derive(Debug)]
pub(super) struct Hold {
    taken: Arc<AtomicU32>,
    n: u32,
}

impl Hold {
    fn release(&mut self, n: u32) {
        let n = n.min(self.n);
        self.n -= n;
        self.taken.fetch_sub(n, Ordering::AcqRel);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release(self.n);
    }
}

/// The right to run: slots of the lane, of its threads, and of the whole engine where it is bounded.
#[derive(Debug)]
pub struct Permit {
    pub(super) holds: [Option<Hold>; 3],
}

impl Permit {
    /// Gives `n` slots back before the rest.
    pub fn release(&mut self, n: u32) {
        self.holds.iter_mut().flatten().for_each(|hold| hold.release(n));
    }

    /// Slots of the lane that it holds.
    pub fn slots(&self) -> u32 {
        self.holds[0].as_ref().map_or(0, |hold| hold.n)
    }

    /// Takes the slots of another permit of the same lane and style.
    pub fn join(&mut self, other: Self) {
        for (own, other) in self.holds.iter_mut().zip(other.holds) {
            if let (Some(own), Some(mut other)) = (own, other) {
                assert!(Arc::ptr_eq(&own.taken, &other.taken), "permits of one lane and style");
                own.n += std::mem::take(&mut other.n);
            }
        }
    }
}

/// A slot that was lent: its agent waits and will go on. Dropping the loan ends it.
#[derive(Debug)]
pub struct Loan {
    pub(super) _counted: Hold,
}
