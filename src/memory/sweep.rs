//! Forgetting what is weak in every session, in bounded batches, and what it took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::check;
use super::forget::Forget;
use super::service::Memory;
use crate::model::{EntryId, MemoryOp, Millis, Result};

/// Memories that one commit forgets.
const IDS_PER_COMMIT: usize = 1_000;
/// Sessions whose names are read at once.
const SESSIONS_PER_PAGE: usize = 1_000;

/// What to forget everywhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sweep {
    /// All weaker than this, save pinned ones.
    pub below: f64,
    /// Memories younger than this stay.
    pub grace: Millis,
    /// How many at most.
    pub limit: u64,
    /// Only say what would go.
    pub dry_run: bool,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub forgotten: u64,
    /// Sessions that were looked at.
    pub sessions: u64,
    pub took_ms: u64,
    /// The limit was reached: there may be more.
    pub has_more: bool,
}

/// What sweeps and repetitions came to since the memory was opened.
#[derive(Debug, Default)]
pub struct Tally {
    pub sweeps: AtomicU64,
    pub sweep_ms: AtomicU64,
    pub swept: AtomicU64,
    /// What was memorized again and counted as a review.
    pub duplicates: AtomicU64,
}

impl Memory {
    /// Forgets what is weak in every session, session by session, the weakest first. Every batch of 1,000
    /// is a commit of its own; a sweep that is broken off has forgotten what it came to.
    ///
    /// # Errors
    /// `memory.threshold`, `engine.closed`, `store.*`.
    pub fn sweep(&self, what: Sweep) -> Result<Swept> {
        check::threshold(what.below)?;
        let started = Instant::now();
        let mut swept = Swept::default();
        let mut after: Option<std::sync::Arc<str>> = None;
        'all: loop {
            let names = self.sessions(after.as_deref(), SESSIONS_PER_PAGE)?;
            for (name, _) in &names {
                if swept.forgotten >= what.limit {
                    swept.has_more = true;
                    break 'all;
                }
                self.sweep_one(name, what, &mut swept)?;
            }
            match names.last() {
                Some((name, _)) if names.len() == SESSIONS_PER_PAGE => after = Some(name.clone()),
                _ => break,
            }
        }
        swept.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if !what.dry_run {
            let add = |counter: &AtomicU64, n| counter.fetch_add(n, Ordering::Relaxed);
            add(&self.tally.sweeps, 1);
            add(&self.tally.swept, swept.forgotten);
            add(&self.tally.sweep_ms, swept.took_ms);
        }
        Ok(swept)
    }

    fn sweep_one(&self, session: &str, what: Sweep, swept: &mut Swept) -> Result<()> {
        let room = usize::try_from(what.limit - swept.forgotten).unwrap_or(usize::MAX);
        let weak = Forget::Below { strength: what.below, grace: what.grace };
        let doomed = self.doomed(session, &weak, room)?;
        swept.sessions += 1;
        swept.has_more |= doomed.left > 0;
        for ids in doomed.ids.chunks(IDS_PER_COMMIT) {
            if !what.dry_run {
                let (session, ids): (_, Vec<EntryId>) = (session.into(), ids.to_vec());
                self.commit(vec![MemoryOp::Forget { session, ids }])?;
            }
            swept.forgotten += ids.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::{DAY, code, draft, world};

    #[test]
    fn a_sweep_goes_through_every_session_up_to_its_limit() {
        let world = world();
        for session in ["a", "a:b", "b"] {
            let drafts = (0..1_500).map(|n| draft(&format!("fact {n}"), None)).collect();
            world.memory.memorize(session, drafts).expect("it memorizes");
            let mut pinned = draft("pinned", None);
            pinned.pinned = true;
            world.memory.memorize(session, vec![pinned]).expect("it memorizes");
        }
        let sweep = Sweep { below: 0.3, grace: 7 * DAY, limit: 2_000, dry_run: false };
        let swept = |sweep| {
            let swept = world.memory.sweep(sweep).expect("a sweep");
            (swept.forgotten, swept.sessions, swept.has_more)
        };
        assert_eq!(swept(sweep), (0, 3, false), "nothing is weak yet");
        world.now.fetch_add(100 * DAY, Ordering::Relaxed);
        assert_eq!(swept(Sweep { grace: 200 * DAY, ..sweep }), (0, 3, false));
        assert_eq!(swept(Sweep { dry_run: true, ..sweep }), (2_000, 2, true));
        assert_eq!(world.memory.stats().expect("counts").entries, 4_503);
        assert_eq!(swept(sweep), (2_000, 2, true));
        assert_eq!(swept(sweep), (2_000, 3, true));
        assert_eq!(swept(sweep), (500, 3, false));
        assert_eq!(world.memory.stats().expect("counts").entries, 3, "pinned ones stay");
        assert_eq!(world.memory.tally().swept.load(Ordering::Relaxed), 4_500);
        assert_eq!(code(world.memory.sweep(Sweep { below: 1.5, ..sweep })), "memory.threshold");
    }
}
