//! The thread behind the tier: it deletes what was forgotten until the tier confirms it, and moves what
//! is cold from time to time.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::Doomed;
use crate::memory::service::Memory;
use crate::model::{Error, Result};

/// Pause after a failure; doubled up to the longest.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Memories of a session that move in one round.
const ROUND: usize = 10_000;

impl Memory {
    /// Starts the thread. It ends with the memory, or with `stop_cold`.
    ///
    /// # Errors
    /// `engine.thread`; `memory.tier_owner` where the tier is on this machine and another store's.
    pub fn start_cold(memory: &Arc<Self>) -> Result<()> {
        let Some(cold) = &memory.cold else { return Ok(()) };
        if cold.tier().is_near()
            && let Err(error) = memory.check_owner(cold)
            && error.code == "memory.tier_owner"
        {
            // A tier that fails stands in nobody's way: what is here is found all the same.
            return Err(error);
        }
        // What an earlier process could not delete.
        let copied = memory.store.copied()?;
        cold.doomed.state().sessions.extend(copied);
        let (doomed, every) = (Arc::clone(&cold.doomed), cold.cellar.every);
        let moves = cold.cellar.policy.is_some();
        let weak = Arc::downgrade(memory);
        let thread = thread::Builder::new()
            .name("goclaw-cold".into())
            .spawn(move || keep(&weak, &doomed, moves.then_some(every)));
        let thread = thread.map_err(|error| {
            let message = format!("no thread for the cold tier: {error}");
            Error::new("engine.thread", message, "raise the limit on threads (ulimit -u)")
        })?;
        *cold.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Ends the thread; waits for the call to the tier that is under way.
    pub fn stop_cold(&self) {
        let Some(cold) = &self.cold else { return };
        cold.doomed.state().stops = true;
        cold.doomed.news.notify_all();
        let keeper = cold.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper
            && keeper.thread().id() != thread::current().id()
        {
            // A panic was reported where it happened.
            let _ = keeper.join();
        }
    }

    /// Lets go of the tier: somebody else may want it.
    pub fn close_cold(&self) {
        if let Some(cold) = &self.cold {
            cold.tier().close();
        }
    }

    /// Deletes in every session what the tier should not hold; answers how many.
    ///
    /// # Errors
    /// As `settle`, of the first session that failed; the others were settled.
    pub fn settle_all(&self) -> Result<u64> {
        let copied = crate::memory::check::unless_closed(self.store.copied())?;
        self.settle_some(&copied.into_iter().collect()).map_err(|(_, error)| error)
    }

    /// Settles sessions; answers those that failed, with the first error.
    fn settle_some(
        &self,
        sessions: &BTreeSet<Arc<str>>,
    ) -> Result<u64, (BTreeSet<Arc<str>>, Error)> {
        let (mut count, mut failed, mut first) = (0, BTreeSet::new(), None);
        for session in sessions {
            match self.settle(session) {
                Ok(deleted) => count += deleted,
                Err(error) => {
                    failed.insert(Arc::clone(session));
                    first.get_or_insert(error);
                }
            }
        }
        match first {
            None => Ok(count),
            Some(error) => Err((failed, error)),
        }
    }

    /// Moves what the policy calls cold in every session, and brings back what was used since it went.
    ///
    /// # Errors
    /// As `move_cold`, of the first session that failed; the others have moved.
    pub fn sweep_cold(&self) -> Result<u64> {
        let Some(cold) = &self.cold else { return Ok(0) };
        let Some(policy) = cold.cellar.policy else { return Ok(0) };
        let (mut count, mut first) = (0, Ok(()));
        for (session, _) in self.sessions(None, usize::MAX)? {
            if cold.stops() {
                break;
            }
            let swept = self.bring_back_used(&session).and_then(|()| {
                let moved = self.move_cold(&session, &policy, ROUND, false)?;
                count += moved.ids.len() as u64;
                Ok(())
            });
            if first.is_ok() {
                first = swept;
            }
        }
        first.map(|()| count)
    }

    fn bring_back_used(&self, session: &str) -> Result<()> {
        let memories = crate::memory::check::unless_closed(self.store.memories(session))?;
        let own = self.cold.as_ref().map(|cold| cold.tier().name());
        let used = memories.values().filter(|it| {
            let away = it.entry.away.as_ref();
            away.is_some_and(|away| away.used && Some(&*away.tier) == own)
        });
        let ids: Vec<_> = used.map(|it| it.entry.id).take(ROUND).collect();
        self.bring_back(session, &ids).map(drop)
    }
}

fn keep(memory: &Weak<Memory>, doomed: &Doomed, every: Option<Duration>) {
    let mut pause = PAUSE_FIRST;
    let mut rests_until: Option<Instant> = None;
    let mut sweeps_at = every.map(|every| Instant::now() + every);
    loop {
        let mut state = doomed.state();
        let sessions = loop {
            let now = Instant::now();
            if state.stops {
                return;
            }
            let rests = rests_until.is_some_and(|until| now < until);
            let sweeps = sweeps_at.is_some_and(|at| now >= at);
            if !rests && (sweeps || !state.sessions.is_empty()) {
                break std::mem::take(&mut state.sessions);
            }
            let wake = if rests { rests_until } else { sweeps_at };
            // Even without news: the memory may have gone without a word.
            let wait = wake.map_or(PAUSE_MAX, |at| at.saturating_duration_since(now));
            let waited = doomed.news.wait_timeout(state, wait.min(PAUSE_MAX));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if memory.strong_count() == 0 {
                return;
            }
        };
        drop(state);
        let Some(memory) = memory.upgrade() else { return };
        let mut error = None;
        if let Err((failed, why)) = memory.settle_some(&sessions) {
            doomed.state().sessions.extend(failed);
            error = Some(why);
        }
        if sweeps_at.is_some_and(|at| Instant::now() >= at) {
            error = memory.sweep_cold().err().or(error);
            sweeps_at = every.map(|every| Instant::now() + every);
        }
        match error {
            Some(error) if error.code == "engine.closed" => return,
            Some(error) => {
                tracing::warn!(target: "goclaw.memory", "the cold tier is tried again: {error}");
                rests_until = Some(Instant::now() + pause);
                pause = (2 * pause).min(PAUSE_MAX);
            }
            None => (rests_until, pause) = (None, PAUSE_FIRST),
        }
    }
}
