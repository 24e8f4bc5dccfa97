//! Session lanes: who of a session goes on, in the order of their submits.
//!
//! An entry exists only while its session is busy: an idle session costs nothing. What a run *does*
//! is not known here; the engine says when one has left and asks who is next. Time comes in as an
//! argument.
//!
//! ```text
//! enter → waiting → next: Start │ Merge → merged │ Wait …  → holder → park → due → next: Resume
//!                                                            └ left → next …
//! ```

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::math::Table;
use crate::model::{BlobHash, Collect, RunId, Timestamp};

/// Runs that wait in one session at most; more are refused with `session.full`.
pub const SESSION_WAITING_MAX: usize = 10_000;

/// Messages that may be merged: of one workflow, collected in one way.
#[derive(Debug, PartialEq)]
pub struct Group {
    pub definition: BlobHash,
    pub collect: Arc<Collect>,
}

/// A run that comes to its session.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub run: RunId,
    /// When it was submitted.
    pub at: Timestamp,
    /// With whom it may be merged, if at all.
    pub group: Option<Arc<Group>>,
}

impl Waiting {
    fn joins(&self, group: &Arc<Group>) -> bool {
        self.group.as_ref().is_some_and(|own| Arc::ptr_eq(own, group) || own == group)
    }
}

/// What is to happen next in a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nobody waits, or somebody holds it.
    Nothing,
    /// This run holds the session now and begins.
    Start(RunId),
    /// This parked run holds the session again.
    Resume(RunId),
    /// The messages of these runs are to be merged; `merged` or `unmerged` ends it.
    Merge { number: u64, runs: Vec<RunId>, group: Arc<Group> },
    /// More messages may come: ask again then. Said once; `rang` allows it again.
    Wait { until: Timestamp, first: RunId },
}

/// What can be seen of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionView {
    pub holder: Option<RunId>,
    pub waiting: usize,
    /// Runs that have let others go first while they wait for their retry.
    pub parked: usize,
}

#[derive(Debug, Default)]
struct Session {
    holder: Option<RunId>,
    /// Parked runs whose retry is due, first come first.
    due: VecDeque<RunId>,
    waiting: VecDeque<Waiting>,
    parked: Vec<RunId>,
    /// The first so many of `waiting` are being merged.
    merging: Option<(u64, usize)>,
    /// The run for whose group a timer is set.
    timer: Option<RunId>,
}

impl Session {
    fn is_empty(&self) -> bool {
        !self.is_busy() && self.parked.is_empty()
    }

    /// True where a new run has to wait.
    fn is_busy(&self) -> bool {
        self.holder.is_some() || !self.waiting.is_empty() || !self.due.is_empty()
    }

    fn next(&mut self, now: Timestamp, merges: &mut u64) -> Next {
        if self.holder.is_some() || self.merging.is_some() {
            return Next::Nothing;
        }
        if let Some(run) = self.due.pop_front() {
            self.holder = Some(run);
            return Next::Resume(run);
        }
        let Some(first) = self.waiting.front() else { return Next::Nothing };
        let (run, group) = (first.run, first.group.clone());
        let Some(group) = group else { return self.start() };
        let together = self.waiting.iter().take_while(|waiting| waiting.joins(&group)).count();
        let ripe = self.waiting[together - 1].at.plus(group.collect.debounce_ms);
        // Where somebody else waits behind the group nobody can join it any more.
        if together == self.waiting.len() && now < ripe {
            if self.timer == Some(run) {
                return Next::Nothing;
            }
            self.timer = Some(run);
            return Next::Wait { until: ripe, first: run };
        }
        if together == 1 {
            return self.start();
        }
        *merges += 1;
        self.merging = Some((*merges, together));
        let runs = self.waiting.iter().take(together).map(|waiting| waiting.run).collect();
        Next::Merge { number: *merges, runs, group }
    }

    fn start(&mut self) -> Next {
        let Some(first) = self.waiting.pop_front() else { return Next::Nothing };
        self.holder = Some(first.run);
        Next::Start(first.run)
    }

    fn left(&mut self, run: RunId) {
        if self.holder == Some(run) {
            self.holder = None;
            return;
        }
        if self.timer == Some(run) {
            self.timer = None;
        }
        self.due.retain(|other| *other != run);
        self.parked.retain(|other| *other != run);
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.run == run) {
            self.waiting.remove(at);
            // What was to be merged is not what waits any more.
            if self.merging.is_some_and(|(_, together)| at < together) {
                self.merging = None;
            }
        }
    }

    /// Ends the merging of that number, if it is still wanted.
    fn unmerge(&mut self, number: u64) -> Option<usize> {
        let (wanted, together) = self.merging?;
        if wanted != number {
            return None;
        }
        self.merging = None;
        Some(together)
    }
}

/// The busy sessions of an engine.
#[derive(Debug, Default)]
pub struct Sessions {
    busy: Table<Arc<str>, Session>,
    waiting: usize,
    merges: u64,
}

impl Sessions {
    /// Sessions that have an entry: somebody holds them, waits, or is parked.
    pub fn len(&self) -> usize {
        self.busy.len()
    }
    pub fn is_empty(&self) -> bool {
        self.busy.is_empty()
    }
    /// Runs that wait, in all sessions.
    pub fn waiting(&self) -> usize {
        self.waiting
    }
    pub fn keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.busy.keys()
    }

    /// True where a new run of the session has to wait.
    pub fn is_busy(&self, key: &str) -> bool {
        self.busy.get(key).is_some_and(Session::is_busy)
    }

    pub fn holder(&self, key: &str) -> Option<RunId> {
        self.busy.get(key)?.holder
    }

    pub fn view(&self, key: &str) -> SessionView {
        let Some(session) = self.busy.get(key) else { return SessionView::default() };
        SessionView {
            holder: session.holder,
            waiting: session.waiting.len() + session.due.len(),
            parked: session.parked.len(),
        }
    }

    /// Runs that go before this one, whoever holds the session included. A parked run goes before
    /// all that wait, once its retry is due.
    pub fn ahead(&self, key: &str, run: RunId) -> usize {
        let Some(session) = self.busy.get(key) else { return 0 };
        if session.holder == Some(run) {
            return 0;
        }
        let holds = usize::from(session.holder.is_some());
        if let Some(at) = session.due.iter().position(|other| *other == run) {
            return holds + at;
        }
        let waiting = session.waiting.iter().position(|waiting| waiting.run == run);
        holds + session.due.len() + waiting.unwrap_or(0)
    }

    /// All runs of the session that have not left it.
    pub fn members(&self, key: &str) -> Vec<RunId> {
        let Some(session) = self.busy.get(key) else { return Vec::new() };
        let first = session.holder.iter().chain(&session.due).chain(&session.parked);
        first.copied().chain(session.waiting.iter().map(|waiting| waiting.run)).collect()
    }

    /// The group at the end of the queue that a new message would join: how many, and the oldest.
    pub fn last_group(&self, key: &str, group: &Group) -> Option<(usize, RunId)> {
        let session = self.busy.get(key)?;
        let merging = session.merging.map_or(0, |(_, together)| together);
        let same = |waiting: &&Waiting| waiting.group.as_ref().is_some_and(|own| **own == *group);
        let open = session.waiting.iter().skip(merging).rev().take_while(same);
        open.fold(None, |found, waiting| Some((found.map_or(0, |(n, _)| n) + 1, waiting.run)))
    }

    /// Takes a run in, behind all others. `next` tells whether it may begin.
    pub fn enter(&mut self, key: &Arc<str>, waiting: Waiting) {
        self.busy.entry(Arc::clone(key)).or_default().waiting.push_back(waiting);
        self.waiting += 1;
    }

    /// Takes in a run that is parked already (after a recovery).
    pub fn enter_parked(&mut self, key: &Arc<str>, run: RunId) {
        self.busy.entry(Arc::clone(key)).or_default().parked.push(run);
    }

    /// Who goes on. To be asked until it answers `Nothing` or `Wait`.
    pub fn next(&mut self, key: &str, now: Timestamp) -> Next {
        let mut merges = self.merges;
        let next = self.with(key, |session| session.next(now, &mut merges));
        self.merges = merges;
        next.unwrap_or(Next::Nothing)
    }

    /// A run has ended, wherever it stood.
    pub fn left(&mut self, key: &str, run: RunId) {
        self.with(key, |session| session.left(run));
    }

    /// The holder lets others go first. False where it does not hold the session.
    pub fn park(&mut self, key: &str, run: RunId) -> bool {
        let parked = self.with(key, |session| {
            let holds = session.holder == Some(run);
            if holds {
                session.holder = None;
                session.parked.push(run);
            }
            holds
        });
        parked.unwrap_or(false)
    }

    /// A parked run wants to go on: it is the next one. False where it is not parked.
    pub fn due(&mut self, key: &str, run: RunId) -> bool {
        let due = self.with(key, |session| {
            let at = session.parked.iter().position(|other| *other == run);
            if let Some(at) = at {
                session.parked.remove(at);
                session.due.push_back(run);
            }
            at.is_some()
        });
        due.unwrap_or(false)
    }

    /// The timer of a group has rung.
    pub fn rang(&mut self, key: &str, first: RunId) {
        self.with(key, |session| session.timer = session.timer.filter(|run| *run != first));
    }

    /// The messages are merged: the first run holds the session, the others are out of it.
    /// `None` where one of them has left in between; `next` then begins again.
    pub fn merged(&mut self, key: &str, number: u64) -> Option<Vec<RunId>> {
        self.with(key, |session| {
            let together = session.unmerge(number)?;
            let runs: Vec<_> = session.waiting.drain(..together).map(|w| w.run).collect();
            session.holder = runs.first().copied();
            Some(runs)
        })?
    }

    /// The messages cannot be merged: these runs are to end. `None` where one has left in between.
    pub fn unmerged(&mut self, key: &str, number: u64) -> Option<Vec<RunId>> {
        self.with(key, |session| {
            let together = session.unmerge(number)?;
            Some(session.waiting.iter().take(together).map(|waiting| waiting.run).collect())
        })?
    }

    /// Changes a session, keeps count of those who wait, and forgets it once it is idle.
    fn with<T>(&mut self, key: &str, change: impl FnOnce(&mut Session) -> T) -> Option<T> {
        let session = self.busy.get_mut(key)?;
        let before = session.waiting.len();
        let answer = change(session);
        self.waiting = self.waiting + session.waiting.len() - before;
        if session.is_empty() {
            self.busy.remove(key);
        }
        Some(answer)
    }
}
