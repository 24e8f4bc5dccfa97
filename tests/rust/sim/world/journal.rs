//! The journal: what is decided, what of it is written, what of that is on disk.

use std::sync::Arc;

use goclaw::model::{Event, Record, Timestamp};
use goclaw::plan::Plan;
use goclaw::run::{Run, replay};

use crate::sim::model::{Verdict, demand};

#[derive(Default)]
pub struct Journal {
    /// All that was decided; the last one is still open while it is not written.
    pub records: Vec<Record>,
    pub written: usize,
    pub synced: usize,
    /// The canonical dump of the live run after each written record.
    pub dumps: Vec<Vec<u8>>,
    pub next_seq: u64,
}

impl Journal {
    /// Adds events to the open record, or opens one.
    pub fn stage(&mut self, events: &[Event], at: Timestamp, weight: u64) {
        if events.is_empty() {
            return;
        }
        if self.records.len() == self.written {
            let seq = self.next_seq;
            self.records.push(Record { run: super::id(), seq, at, events: Vec::new() });
        }
        let open = self.records.last_mut().expect("one was just opened");
        open.events.extend_from_slice(events);
        self.next_seq += weight;
    }

    /// Writes the open record. False where there is none.
    pub fn write(&mut self, run: &Run) -> bool {
        let open = self.records.len() > self.written;
        if open {
            self.written = self.records.len();
            self.dumps.push(dump(run));
        }
        open
    }

    /// What a crash leaves: everything synced, and perhaps some of what was only written.
    pub fn crash(&mut self, keep: usize) {
        self.records.truncate(keep);
        self.dumps.truncate(keep);
        (self.written, self.synced) = (keep, keep);
        self.next_seq = self.records.last().map_or(0, |last| last.seq + last.weight());
    }

    pub fn replay(&self, plan: &Arc<Plan>) -> Verdict<Run> {
        replay(&self.records, |_| Ok(Arc::clone(plan))).map_err(|error| error.message)
    }

    /// The numbers of facts have no gap and no overlap.
    pub fn check_numbers(&self) -> Verdict {
        let mut next = 0;
        for record in &self.records {
            demand!(record.seq == next, "a record begins at {}, not {next}", record.seq);
            for fact in record.facts() {
                demand!(fact.seq == next, "a fact has number {}, not {next}", fact.seq);
                next += fact.span.map_or(1, |span| u64::from(span.len));
            }
        }
        demand!(next == self.next_seq, "the next number is {}, not {next}", self.next_seq);
        Ok(())
    }
}

/// The canonical form of a run.
pub fn dump(run: &Run) -> Vec<u8> {
    rmp_serde::to_vec(run).expect("a run of bytes can be written down")
}
