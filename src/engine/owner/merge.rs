//! Messages of a session that become one: asked of the executor, for a bounded time.
//!
//! A function that does not come back would hold its session for ever. When its time is over its runs
//! fail, the session goes on, and the call is named in health until it comes back after all. With
//! `stuck_threads_max` of them nothing more is merged: each keeps a thread.

use std::collections::HashMap;
use std::sync::Arc;

use super::timers::Due;
use super::{Owner, Slot};
use crate::agent::MergeCall;
use crate::engine::health::StuckMerge;
use crate::lane::Group;
use crate::model::{CancelCause, Collect, Failure, Payload, Result, RunId, Timestamp};
use crate::run::Input;

/// A merging that was asked for and has not been answered.
struct Merging {
    session: Arc<str>,
    collect: Arc<Collect>,
    since: Timestamp,
    /// Its time is over.
    stuck: bool,
}

#[derive(Default)]
pub(super) struct Merges {
    under_way: HashMap<u64, Merging>,
}

impl Merges {
    pub(super) fn is_under_way(&self, number: u64) -> bool {
        self.under_way.contains_key(&number)
    }

    fn stuck(&self) -> impl Iterator<Item = &Merging> {
        self.under_way.values().filter(|merging| merging.stuck)
    }

    /// Those that do not come back, oldest first.
    pub(super) fn seen(&self) -> Vec<StuckMerge> {
        let see = |merging: &Merging| StuckMerge {
            session: Arc::clone(&merging.session),
            function: function(&merging.collect),
            since: merging.since,
        };
        let mut seen: Vec<_> = self.stuck().map(see).collect();
        seen.sort_by(|a, b| (a.since, &a.session).cmp(&(b.since, &b.session)));
        seen
    }
}

/// Which functions merge.
fn function(collect: &Collect) -> String {
    let named = [&collect.merge, &collect.summarize].into_iter().flatten();
    let named: Vec<&str> = named.map(|function| function.path.as_str()).collect();
    if named.is_empty() { "the default".into() } else { named.join(", ") }
}

impl Owner {
    pub(super) fn merge(&mut self, key: &Arc<str>, number: u64, runs: &[RunId], group: &Group) {
        let collect = Arc::clone(&group.collect);
        if self.merges.stuck().count() >= self.stuck.most() as usize {
            let reason = format!(
                "nothing is merged any more: {} mergings do not come back (see health)",
                self.stuck.most()
            );
            return self.unmerged(key, number, CancelCause::MergeTimeout, &reason);
        }
        let slots = runs.iter().filter_map(|run| self.runs.get(run));
        let inputs = slots.map(|slot| slot.run.input().clone()).collect();
        let session = Arc::clone(key);
        self.timers.at(self.now.plus(collect.timeout_ms), Due::Merge(number));
        let merging = Merging {
            session: Arc::clone(key),
            collect: Arc::clone(&collect),
            since: self.now,
            stuck: false,
        };
        self.merges.under_way.insert(number, merging);
        self.executor.merge(Arc::new(MergeCall { session, number, inputs, collect }));
    }

    /// A merging has had all the time it gets.
    pub(super) fn merge_is_over(&mut self, number: u64) {
        let Some(merging) = self.merges.under_way.get_mut(&number) else { return };
        merging.stuck = true;
        let (key, ms) = (Arc::clone(&merging.session), merging.collect.timeout_ms);
        let by = function(&merging.collect);
        let reason =
            format!("the messages of session `{key}` were not merged within {ms} ms: {by}");
        tracing::error!(target: "goclaw.health", session = %key, "{reason}");
        self.unmerged(&key, number, CancelCause::MergeTimeout, &reason);
        self.proceed(&key);
    }

    /// Runs that have ended in this turn are still in their session, until that is durable; no message
    /// may be absorbed by one of them.
    fn let_ended_go(&mut self, key: &str) {
        for run in self.sessions.members(key) {
            let is_over = |slot: &Slot| slot.run.state().is_terminal();
            let waits = self.sessions.holder(key) != Some(run);
            if waits && self.runs.get(&run).is_none_or(is_over) {
                self.sessions.left(key, run);
            }
        }
    }

    /// The messages of a group have become one, or cannot.
    pub(super) fn merged(
        &mut self,
        key: &Arc<str>,
        number: u64,
        result: Result<Payload, Box<Failure>>,
    ) {
        self.merges.under_way.remove(&number);
        match result {
            Ok(input) => {
                self.let_ended_go(key);
                let Some(runs) = self.sessions.merged(key, number) else {
                    return self.proceed(key);
                };
                let Some((&first, rest)) = runs.split_first() else { return };
                self.advance(first, Input::Merged { from: rest.to_vec(), input });
                for &run in rest {
                    self.advance(run, Input::Absorb { into: first });
                }
                self.start(first);
            }
            Err(failure) => self.unmerged(key, number, CancelCause::Merge, &failure.message),
        }
        self.gauge_sessions();
    }

    /// The messages of a group stay what they are, and their runs end.
    fn unmerged(&mut self, key: &Arc<str>, number: u64, cause: CancelCause, reason: &str) {
        for run in self.sessions.unmerged(key, number).unwrap_or_default() {
            self.advance(run, Input::Stop { cause, reason: reason.to_owned() });
            // At once: who asks for the next of this session must not find it there.
            self.sessions.left(key, run);
        }
        // An effect may have led here: then the turn has still to write this down.
        self.staged.again = true;
    }
}
