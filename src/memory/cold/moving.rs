//! Moving memories to the tier and back, and deleting what the tier should not hold.
//!
//! There: `Copy` lasts, then the tier has it, then it was read back, then `Move` lasts. Back: `Back` lasts, and
//! what the tier still holds is deleted like anything else that has no stub. A crash anywhere leaves the
//! memory in one place and, at worst, a copy that `settle` deletes.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::reading::without;
use super::{Cold, elsewhere, not_there};
use crate::memory::check;
use crate::memory::review::strength;
use crate::memory::service::Memory;
use crate::model::{EntryId, Memorized, MemoryOp, Millis, Result};
use crate::store::Memories;
use crate::tier;

/// Memories that move together.
const BATCH: usize = 256;
/// Ids of one deletion.
const DELETE_BATCH: usize = 1_000;
/// How long what was put may take until it can be read, with pauses that double from the first.
const ARRIVES_FIRST: Duration = Duration::from_millis(50);
const ARRIVES_TRIES: u32 = 8;

/// Which memories are cold: those that any of these names. Pinned ones never are, nor those without a
/// vector, since a tier is searched by vector.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Policy {
    /// Weaker than this.
    pub below: Option<f64>,
    /// Neither memorized nor reviewed for this long.
    pub unused_for: Option<Millis>,
    /// The weakest, where a session has more than this many here.
    pub keep_max: Option<usize>,
}

/// What moved, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub ids: Vec<EntryId>,
    /// Bytes of their contents.
    pub bytes: u64,
    /// How many more are cold, beyond the limit.
    pub left: u64,
    /// How many are cold and stay, since the tier has no room for something as large.
    pub refused: u64,
}

impl Memory {
    /// For as long as it is held, nothing moves to the tier or back.
    pub(in crate::memory) fn stay(&self) -> Option<MutexGuard<'_, ()>> {
        self.cold.as_ref().map(Cold::moving)
    }

    fn cold_of(&self, session: &str) -> Result<&Cold> {
        check::session(session)?;
        self.cold.as_ref().ok_or_else(without)
    }

    /// Moves up to `limit` cold memories of a session to the tier, weakest first.
    ///
    /// # Errors
    /// `memory.tier`, `memory.session`, `memory.threshold`, `engine.closed`, `store.*`; what was moved
    /// until then has moved.
    pub fn move_cold(
        &self,
        session: &str,
        policy: &Policy,
        limit: usize,
        dry_run: bool,
    ) -> Result<Moved> {
        let cold = self.cold_of(session)?;
        if let Some(below) = policy.below {
            check::threshold(below)?;
        }
        let _moving = cold.moving();
        let memories = check::unless_closed(self.store.memories(session))?;
        let mut moved = Moved::default();
        let mut chosen = Vec::new();
        for memorized in self.cold_ones(session, policy, &memories)? {
            let Some(it) = as_cold(memorized) else { continue };
            if !cold.tier().takes(session, &it) {
                moved.refused += 1;
            } else if chosen.len() < limit {
                moved.bytes += it.content.len() as u64;
                chosen.push((memorized.fingerprint(), it));
            } else {
                moved.left += 1;
            }
        }
        moved.ids = chosen.iter().map(|(_, it)| it.id).collect();
        if dry_run || chosen.is_empty() {
            return Ok(moved);
        }
        // A late deletion must not meet a copy that was put again under the same id.
        self.settle_under(cold, session)?;
        for (number, batch) in chosen.chunks(BATCH).enumerate() {
            if cold.stops() {
                // Closing waits for this thread, and not for everything that is cold.
                let (gone, stay) = chosen.split_at(number * BATCH);
                moved.bytes = gone.iter().map(|(_, it)| it.content.len() as u64).sum();
                moved.left += stay.len() as u64;
                moved.ids.truncate(gone.len());
                break;
            }
            self.carry(cold, session, batch)?;
        }
        Ok(moved)
    }

    /// The memories that a policy calls cold, weakest first.
    fn cold_ones<'a>(
        &self,
        session: &str,
        policy: &Policy,
        memories: &'a Memories,
    ) -> Result<Vec<&'a Memorized>> {
        let (fsrs, now) = (self.fsrs_unseen(session)?, self.now());
        let here = memories.values().filter(|it| it.entry.away.is_none());
        let mut here: Vec<_> = here.map(|it| (strength(&fsrs, &*it.entry, now), it)).collect();
        here.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.entry.id.cmp(&b.1.entry.id)));
        let over = policy.keep_max.map_or(0, |max| here.len().saturating_sub(max));
        let may = here.into_iter().filter(|(_, it)| !it.entry.pinned && it.vector.is_some());
        let is_cold = |place: usize, strength: f64, it: &Memorized| {
            let unused = now.since(it.entry.last_review);
            place < over
                || policy.below.is_some_and(|below| strength < below)
                || policy.unused_for.is_some_and(|longest| unused >= longest)
        };
        let cold = may.enumerate().filter(|(place, (strength, it))| is_cold(*place, *strength, it));
        Ok(cold.map(|(_, (_, it))| it).collect())
    }

    fn carry(&self, cold: &Cold, session: &str, batch: &[(u64, tier::Cold)]) -> Result<()> {
        let (session, tier): (Arc<str>, Arc<str>) = (session.into(), cold.tier().name().into());
        let ids: Vec<_> = batch.iter().map(|(_, it)| it.id).collect();
        if let Some((_, first)) = batch.first() {
            self.claim(cold, first.vector.dimension())?;
        }
        self.last(MemoryOp::Copy {
            session: Arc::clone(&session),
            ids: ids.clone(),
            tier: Arc::clone(&tier),
        })?;
        let things: Vec<_> = batch.iter().map(|(_, it)| it.clone()).collect();
        cold.heard(cold.tier().put(&session, &things))?;
        cold.heard(arrived(cold, &session, &things))?;
        let moved = batch.iter().map(|(fingerprint, it)| (it.id, *fingerprint)).collect();
        self.commit(vec![MemoryOp::Move { session, tier, moved }])
    }

    /// Commits what must not be taken back by a crash, however durable the engine is.
    fn last(&self, op: MemoryOp) -> Result<()> {
        self.commit(vec![op])?;
        check::unless_closed(self.store.sync())
    }

    /// Brings memories of a session back from the tier, those that lie there; answers how many.
    ///
    /// # Errors
    /// `memory.tier`, `memory.session`, `engine.closed`, `store.*`.
    pub fn bring_back(&self, session: &str, ids: &[EntryId]) -> Result<u64> {
        let cold = self.cold_of(session)?;
        let _moving = cold.moving();
        let memories = check::unless_closed(self.store.memories(session))?;
        let mut away = Vec::new();
        for id in ids {
            let stub = memories.get(id).and_then(|it| it.entry.away.as_ref());
            match stub.map(|away| &*away.tier) {
                Some(tier) if tier == cold.tier().name() => away.push(*id),
                Some(tier) => return Err(elsewhere(&format!("memory `{id}`"), tier)),
                None => {}
            }
        }
        away.sort_unstable();
        away.dedup();
        for ids in away.chunks(BATCH) {
            let fetched = cold.heard(cold.tier().fetch(session, ids))?;
            if let Some(id) = ids.iter().find(|id| fetched.iter().all(|it| it.id != **id)) {
                return Err(not_there(id, cold.tier().name()));
            }
            let generation = self.generation();
            let back = |it: tier::Cold| MemoryOp::Back {
                session: session.into(),
                id: it.id,
                content: it.content,
                vector: it.vector,
                generation,
            };
            self.commit(fetched.into_iter().map(back).collect())?;
        }
        Ok(away.len() as u64)
    }

    /// Deletes from the tier what it holds of a session without a stub here; answers how many.
    ///
    /// # Errors
    /// `memory.tier`, `memory.session`, `engine.closed`, `store.*`.
    pub fn settle(&self, session: &str) -> Result<u64> {
        let cold = self.cold_of(session)?;
        let _moving = cold.moving();
        self.settle_under(cold, session)
    }

    fn settle_under(&self, cold: &Cold, session: &str) -> Result<u64> {
        let name = cold.tier().name();
        let mut copies = check::unless_closed(self.store.copies(session))?;
        copies.retain(|_, tier| **tier == *name);
        if copies.is_empty() {
            return Ok(0);
        }
        let memories = check::unless_closed(self.store.memories(session))?;
        let lies_there = |id: &EntryId| {
            let away = memories.get(id).and_then(|it| it.entry.away.as_ref());
            away.is_some_and(|away| *away.tier == *name)
        };
        let doomed: Vec<_> = copies.into_keys().filter(|id| !lies_there(id)).collect();
        if doomed.is_empty() {
            return Ok(0);
        }
        self.check_owner(cold)?;
        // What says that they are doomed must last before they go.
        check::unless_closed(self.store.sync())?;
        let session: Arc<str> = session.into();
        if memories.is_empty() {
            // Whatever else a crash may have left of it.
            cold.heard(cold.tier().delete_session(&session))?;
        }
        for ids in doomed.chunks(DELETE_BATCH) {
            if !memories.is_empty() {
                cold.heard(cold.tier().delete(&session, ids))?;
            }
            let (session, ids) = (Arc::clone(&session), ids.to_vec());
            self.commit(vec![MemoryOp::Gone { session, ids }])?;
        }
        Ok(doomed.len() as u64)
    }
}

/// What the tier is to keep of a memory; `None` where it has no vector.
fn as_cold(memorized: &Memorized) -> Option<tier::Cold> {
    let entry = &memorized.entry;
    let metadata = entry.metadata.as_deref().and_then(|text| serde_json::from_str(text).ok());
    Some(tier::Cold {
        id: entry.id,
        content: entry.content.clone(),
        vector: memorized.vector.clone()?,
        tags: metadata.as_ref().map(tier::tags).unwrap_or_default(),
    })
}

/// Waits until what was put can be read, and is what was put.
pub(super) fn arrived(cold: &Cold, session: &str, things: &[tier::Cold]) -> Result<()> {
    let ids: Vec<_> = things.iter().map(|it| it.id).collect();
    let mut pause = ARRIVES_FIRST;
    for tried in 1.. {
        let found = cold.tier().fetch(session, &ids)?;
        let same = |it: &tier::Cold| {
            found.iter().any(|other| other.id == it.id && other.content == it.content)
        };
        let Some(missing) = things.iter().find(|it| !same(it)) else { break };
        if tried == ARRIVES_TRIES {
            let what = format!("memory `{}` was put and cannot be read", missing.id);
            return Err(tier::failed(cold.tier().name(), what));
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
    Ok(())
}
