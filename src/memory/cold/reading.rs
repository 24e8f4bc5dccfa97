//! Reading through: memories that lie in the tier, made whole for whoever asks.

use std::sync::Arc;

use super::{ColdStats, elsewhere, not_there};
use crate::memory::check;
use crate::memory::service::Memory;
use crate::model::{EntryId, Error, Memorized, Result};

impl Memory {
    /// Fetches contents and vectors of those that lie in the tier.
    pub(in crate::memory) fn whole(
        &self,
        session: &str,
        found: Vec<Memorized>,
    ) -> Result<Vec<Memorized>> {
        let (whole, lost) = self.whole_or_lost(session, found)?;
        match lost.first() {
            None => Ok(whole),
            Some(stub) => {
                let tier = stub.entry.away.as_ref().map_or("", |away| &away.tier);
                Err(not_there(stub.entry.id, tier))
            }
        }
    }

    /// As `whole`, and apart from those the stubs that the tier has nothing of.
    pub(super) fn whole_or_lost(
        &self,
        session: &str,
        mut found: Vec<Memorized>,
    ) -> Result<(Vec<Memorized>, Vec<Memorized>)> {
        let Some(gone) = self.fill(session, &mut found)? else { return Ok((found, Vec::new())) };
        // Looked up once more: what is not in the tier may have come back, or been forgotten, meanwhile.
        let now = self.look(session, |sight| {
            gone.iter().map(|id| Ok((*id, sight.get(*id)?))).collect::<Result<Vec<_>>>()
        })?;
        let mut lost = Vec::new();
        for (id, memorized) in now {
            match memorized {
                None => found.retain(|it| it.entry.id != id),
                Some(whole) if whole.entry.away.is_none() => {
                    found
                        .iter_mut()
                        .filter(|it| it.entry.id == id)
                        .for_each(|it| *it = whole.clone());
                }
                Some(stub) => {
                    found.retain(|it| it.entry.id != id);
                    lost.push(stub);
                }
            }
        }
        Ok((found, lost))
    }

    /// Fills in what the tier has; answers the ids of what it has not.
    fn fill(&self, session: &str, found: &mut [Memorized]) -> Result<Option<Vec<EntryId>>> {
        let away = found.iter().filter_map(|it| Some((it.entry.id, it.entry.away.as_ref()?)));
        let away: Vec<_> = away.map(|(id, away)| (id, Arc::clone(&away.tier))).collect();
        if away.is_empty() {
            return Ok(None);
        }
        let own = self.cold.as_ref().map(|cold| cold.tier().name());
        if let Some((id, tier)) = away.iter().find(|(_, tier)| Some(&**tier) != own) {
            return Err(elsewhere(&format!("memory `{id}`"), tier));
        }
        let ids: Vec<_> = away.into_iter().map(|(id, _)| id).collect();
        let Some(cold) = &self.cold else { return Ok(None) };
        // Before the look: nothing lies there while the store goes over to another model.
        let generation = self.generation();
        let fetched = cold.heard(cold.tier().fetch(session, &ids))?;
        let mut missing = Vec::new();
        for memorized in found.iter_mut().filter(|it| it.entry.away.is_some()) {
            match fetched.iter().find(|it| it.id == memorized.entry.id) {
                Some(it) => {
                    Arc::make_mut(&mut memorized.entry).content = it.content.clone();
                    memorized.vector = Some(it.vector.clone());
                    memorized.generation = generation;
                }
                None => missing.push(memorized.entry.id),
            }
        }
        Ok((!missing.is_empty()).then_some(missing))
    }

    /// The tier by numbers; `None` without one. Reads every session that has copies there.
    ///
    /// # Errors
    /// `engine.closed`, `store.*`.
    pub fn cold_stats(&self) -> Result<Option<ColdStats>> {
        let Some(cold) = &self.cold else { return Ok(None) };
        let mut stats = ColdStats {
            tier: cold.tier().name().to_owned(),
            errors: cold.errors.load(std::sync::atomic::Ordering::Relaxed),
            last_error: cold
                .last_error
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .clone(),
            ..ColdStats::default()
        };
        for session in check::unless_closed(self.store.copied())? {
            let copies = check::unless_closed(self.store.copies(&session))?;
            let memories = check::unless_closed(self.store.memories(&session))?;
            for (id, _) in copies.iter().filter(|(_, tier)| ***tier == *stats.tier) {
                let away = memories.get(id).and_then(|it| it.entry.away.as_ref());
                match away.filter(|away| *away.tier == *stats.tier) {
                    Some(away) => {
                        stats.entries += 1;
                        stats.bytes += away.bytes;
                    }
                    None => stats.pending += 1,
                }
            }
        }
        Ok(Some(stats))
    }

    /// Whether the tier answers, and is this store's.
    ///
    /// # Errors
    /// `memory.tier`, `memory.tier_owner`.
    pub fn cold_health(&self) -> Result<()> {
        let cold = self.cold.as_ref().ok_or_else(without)?;
        cold.heard(cold.tier().health())?;
        self.check_owner(cold)
    }
}

pub(super) fn without() -> Error {
    Error::new(
        "memory.tier",
        "this memory has no cold tier",
        "open it with one: cold=goclaw.tiers.Files(\"cold/\")",
    )
}
