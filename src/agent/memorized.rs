//! What the calls of a batch memorize: kept until the call completes, dropped if it does not.

use std::sync::PoisonError;

use super::{Batch, Outcome};
use crate::model::{MemoryOp, Payload};

impl Batch {
    /// Keeps what the call of a child memorizes until it completes.
    pub fn memorize(&self, child: u32, ops: Vec<MemoryOp>) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.entry(child).or_default().extend(ops);
    }

    /// What the call of a child has memorized so far.
    pub fn memorized(&self, child: u32) -> Vec<MemoryOp> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.get(&child).cloned().unwrap_or_default()
    }

    /// Drops what the call of a child has memorized: it did not complete.
    pub fn drop_memorized(&self, child: u32) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(&child);
    }

    /// The outcome of a child's call that completed, with what it memorized.
    pub fn completed(&self, child: u32, output: Payload) -> Outcome {
        let mut all = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        match all.remove(&child) {
            Some(memory) => Outcome::Memorized { output, memory },
            None => Outcome::Completed(output),
        }
    }
}
