//! Sessions as an earlier process left them: who sat where, and what a crash left half done.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Owner;
use super::session::{Seat, waiting};
use super::timers::Due;
use crate::lane::Next;
use crate::model::{Admission, OnRetry, RunId};
use crate::run::Input;

impl Owner {
    /// Seats recovered runs, given in the order of their submits, as they sat before: begun ones
    /// first, and what a crash left half done is done.
    pub(super) fn reseat(&mut self, runs: &[RunId]) {
        self.finish_absorptions(runs);
        self.finish_interruptions(runs);
        let mut keys = BTreeSet::new();
        for &run in runs {
            let Some(slot) = self.runs.get_mut(&run) else { continue };
            let Some(key) = slot.run.submitted().session.clone() else { continue };
            if slot.run.state().is_terminal() {
                continue;
            }
            let parks = slot.run.submitted().conduct.on_retry == OnRetry::Park;
            if parks && slot.run.is_backing_off() {
                slot.seat = Seat::Parked;
                self.sessions.enter_parked(&key, run);
            } else {
                self.sessions.enter(&key, waiting(&slot.run));
                keys.insert(key);
            }
        }
        for key in keys {
            match self.sessions.next(&key, self.now) {
                Next::Start(run) => {
                    if let Some(slot) = self.runs.get_mut(&run) {
                        slot.seat = Seat::Free;
                        self.advance(run, Input::Seat);
                    }
                }
                Next::Merge { number, runs, group } => self.merge(&key, number, &runs, &group),
                Next::Wait { until, first } => self.timers.at(until, Due::Session(first)),
                Next::Nothing | Next::Resume(_) => {}
            }
        }
        self.gauge_sessions();
    }

    /// A run that has taken messages says so in its records; who brought them may not know yet.
    fn finish_absorptions(&mut self, runs: &[RunId]) {
        let mut taken = Vec::new();
        for into in runs {
            let Some(slot) = self.runs.get(into) else { continue };
            let steered = slot.run.steered().iter().map(|(from, _)| *from);
            taken
                .extend(steered.chain(slot.run.merged().iter().copied()).map(|from| (from, *into)));
        }
        for (from, into) in taken {
            self.advance(from, Input::Absorb { into });
        }
    }

    /// Whoever interrupted its session cancelled all before it; the crash may have come in between.
    fn finish_interruptions(&mut self, runs: &[RunId]) {
        let mut interrupted = Vec::new();
        let mut interrupting = std::collections::HashMap::new();
        for &run in runs.iter().rev() {
            let Some(slot) = self.runs.get(&run) else { continue };
            let Some(key) = &slot.run.submitted().session else { continue };
            if let Some(by) = interrupting.get(key) {
                interrupted.push((run, *by, Arc::clone(key)));
            } else if slot.run.submitted().conduct.admission == Admission::Interrupting {
                interrupting.insert(Arc::clone(key), run);
            }
        }
        for (run, by, key) in interrupted.into_iter().rev() {
            let reason = format!("interrupted by run `{by}` of session `{key}`");
            self.advance(run, Input::Cancel { reason });
        }
    }

    /// Puts a recovered message before the run that holds its session, as it was before.
    pub(super) fn repost(
        &mut self,
        run: RunId,
        submitted: u64,
        begun: impl Fn(RunId) -> Option<u64>,
    ) {
        let Some(slot) = self.runs.get(&run).filter(|slot| slot.seat == Seat::Waiting) else {
            return;
        };
        if slot.run.submitted().conduct.admission != Admission::Steered {
            return;
        }
        let key = slot.run.submitted().session.as_ref();
        let Some(holder) = key.and_then(|key| self.sessions.holder(key)) else { return };
        // A holder that began later was not the one that the message was put before.
        if begun(holder).is_some_and(|begun| begun < submitted)
            && let Some(letters) = self.runs.get(&holder).and_then(|slot| slot.letters.as_ref())
        {
            letters.put(run, slot.run.input().clone());
        }
    }
}
