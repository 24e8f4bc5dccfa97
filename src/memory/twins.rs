//! Nearly the same again: what is memorized a second time, and what becomes of it.
//!
//! Twins have the same words, or vectors whose cosine is at least so much. What one call memorizes is
//! compared with what is there, and by content with each other. Two calls at the same moment do not see each
//! other's entries: both may be kept. A vector that follows later is compared with nothing: by then both are
//! memories that somebody may have been told of.

use std::collections::HashMap;

use super::check;
use super::drafts::Draft;
use super::query::{Fusion, Mode};
use super::service::Memory;
use super::sight::Sight;
use crate::index::search::Options;
use crate::model::{Content, EntryId, Error, Grade, Memorized, MemoryOp, Result};
use crate::store::{Outline, Stamp};

/// What becomes of a memory that is nearly there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duplicates {
    /// It is memorized beside the other.
    #[default]
    Keep,
    /// The other is reviewed as good in its place.
    Review,
    /// All that was to be memorized with it is refused.
    Refuse,
}

/// When two memories are nearly the same, and what becomes of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Twins {
    pub duplicates: Duplicates,
    /// Least cosine of vectors that are nearly the same, 0 to 1.
    pub alike: f64,
}

impl Memory {
    /// As `draft`; what is nearly there already is treated as `twins` says. Answers the ids under which
    /// the contents are remembered, and how many of them were there. `own` lies over the session, as in
    /// `retrieve_with`.
    ///
    /// # Errors
    /// As `draft`; `memory.duplicate`, `memory.option`, `engine.closed`, `store.*`.
    pub fn draft_apart(
        &self,
        session: &str,
        drafts: Vec<Draft>,
        twins: Twins,
        own: &[MemoryOp],
    ) -> Result<(Vec<EntryId>, Vec<MemoryOp>, u64)> {
        self.draft_apart_of(None, session, drafts, twins, own)
    }

    /// As `draft_apart`, with vectors of the model of a generation.
    ///
    /// # Errors
    /// As `draft_apart`; `memory.model` where the store has another one by now.
    pub fn draft_apart_of(
        &self,
        generation: Option<u32>,
        session: &str,
        drafts: Vec<Draft>,
        twins: Twins,
        own: &[MemoryOp],
    ) -> Result<(Vec<EntryId>, Vec<MemoryOp>, u64)> {
        let (mut ids, drafted) = self.draft_of(generation, session, drafts)?;
        if twins.duplicates == Duplicates::Keep {
            return Ok((ids, drafted, 0));
        }
        check::alike(twins.alike)?;
        let puts: Vec<&Memorized> = drafted.iter().filter_map(MemoryOp::put).collect();
        let there = self.look_with(session, own, |sight| there(sight, &puts, twins.alike))?;
        let mut firsts: HashMap<(u8, &[u8]), EntryId> = HashMap::new();
        let (mut ops, mut reviewed) = (Vec::new(), 0);
        for ((id, new), there) in ids.iter_mut().zip(&puts).zip(there) {
            let first = *firsts.entry(bytes(&new.entry.content)).or_insert(*id);
            let Some(twin) = there.or((first != *id).then_some(first)) else {
                ops.push(MemoryOp::Put((*new).clone()));
                continue;
            };
            if twins.duplicates == Duplicates::Refuse {
                return Err(duplicate(twin));
            }
            reviewed += 1;
            *id = twin;
            firsts.insert(bytes(&new.entry.content), twin);
            // What this call or this task memorizes itself has nothing to be reviewed yet.
            let known = self.get(twin, Some(session))?.is_some();
            let again = |op: &MemoryOp| matches!(op, MemoryOp::Review { id, .. } if *id == twin);
            if known && !ops.iter().any(again) {
                ops.push(self.draft_review(twin, Some(session), Grade::Good)?);
            }
        }
        Ok((ids, ops, reviewed))
    }
}

/// For each of the new ones the memory that is nearly the same, if there is one.
fn there(sight: &Sight<'_>, new: &[&Memorized], alike: f64) -> Result<Vec<Option<EntryId>>> {
    let stamp = |it: &Memorized| Outline::of(&it.entry, None).content;
    // Bytes have no stamp: they are found by vector alone, as always.
    let stamps = new.iter().map(|it| stamp(it)).filter(|stamp| *stamp != 0);
    let mut wanted: HashMap<Stamp, Vec<EntryId>> = stamps.map(|it| (it, Vec::new())).collect();
    for (id, slot) in sight.slots(None) {
        if let Some(found) = wanted.get_mut(&slot.content) {
            found.push(id);
        }
    }
    let same = |it: &Memorized| -> Result<Option<EntryId>> {
        for id in wanted.get(&stamp(it)).into_iter().flatten() {
            if sight.get(*id)?.is_some_and(|found| found.entry.content == it.entry.content) {
                return Ok(Some(*id));
            }
        }
        Ok(None)
    };
    let near = |it: &Memorized| -> Result<Option<EntryId>> {
        let Some(vector) = &it.vector else { return Ok(None) };
        let row: Vec<f32> = vector.parts().collect();
        let options = Options { mode: Mode::Vector, fusion: Fusion::Score, ..Options::default() };
        let found = sight.search(Some(&row), None, 1, options)?;
        let best = found.first().and_then(|best| Some((best.key(), best.found.cosine?)));
        let twin = best.filter(|(_, cosine)| f64::from(*cosine) >= alike);
        Ok(twin.map(|(key, _)| EntryId::from_u128(key)))
    };
    new.iter().map(|it| Ok(same(it)?.or(near(it)?))).collect()
}

fn bytes(content: &Content) -> (u8, &[u8]) {
    match content {
        Content::Text(text) => (0, text.as_bytes()),
        Content::Json(text) => (1, text.as_bytes()),
        Content::Bytes(bytes) => (2, bytes),
    }
}

fn duplicate(twin: EntryId) -> Error {
    Error::new(
        "memory.duplicate",
        format!("memory `{twin}` says nearly the same"),
        "duplicates=\"review\" counts that as a review of it, \"keep\" memorizes both",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::{DAY, World, code, draft, world};
    use std::sync::atomic::Ordering;

    fn keep(world: &World, duplicates: Duplicates, drafts: Vec<Draft>) -> Result<Vec<EntryId>> {
        let twins = Twins { duplicates, alike: 0.95 };
        let (ids, ops, _) = world.memory.draft_apart("s", drafts, twins, &[])?;
        world.memory.commit(ops)?;
        Ok(ids)
    }

    #[test]
    fn what_is_nearly_there_counts_as_a_review_of_it() {
        let world = world();
        let tea = draft("tea", Some(vec![1.0, 0.0]));
        let old = keep(&world, Duplicates::Review, vec![tea.clone()]).expect("it memorizes")[0];
        let before = world.memory.get(old, None).expect("no error").expect("it is there").entry;
        world.now.fetch_add(9 * DAY, Ordering::Relaxed);
        let same_words = draft("tea", Some(vec![0.0, 1.0]));
        let alike = draft("green tea", Some(vec![1.0, 0.05]));
        let other = draft("milk", Some(vec![0.5, 0.5]));
        let drafts = vec![same_words, alike, other.clone(), other];
        let ids = keep(&world, Duplicates::Review, drafts).expect("it memorizes");
        assert_eq!(ids[..2], [old, old]);
        assert!(ids[2] != old && ids[2] == ids[3], "twins in one call are one memory");
        assert_eq!(world.memory.count(Some("s")).expect("a count"), 2);
        let after = world.memory.get(old, None).expect("no error").expect("it is there").entry;
        assert!(after.stability > before.stability && after.last_review > before.last_review);
        // Another session's twin is nobody's business.
        let twins = Twins { duplicates: Duplicates::Refuse, alike: 0.95 };
        assert!(world.memory.draft_apart("t", vec![tea.clone()], twins, &[]).is_ok());
        assert_eq!(code(keep(&world, Duplicates::Refuse, vec![tea.clone()])), "memory.duplicate");
        let ids = keep(&world, Duplicates::Keep, vec![tea]).expect("it memorizes");
        assert!(ids[0] != old);
        assert_eq!(world.memory.count(Some("s")).expect("a count"), 3);
        let twins = Twins { duplicates: Duplicates::Review, alike: 1.5 };
        let refused = world.memory.draft_apart("s", vec![draft("x", None)], twins, &[]);
        assert_eq!(code(refused), "memory.option");
    }

    #[test]
    fn a_task_that_says_it_twice_memorizes_it_once() {
        let world = world();
        let twins = Twins { duplicates: Duplicates::Review, alike: 0.95 };
        let say = |own: &[MemoryOp]| {
            let drafts = vec![draft("tea", None)];
            world.memory.draft_apart("s", drafts, twins, own).expect("a draft")
        };
        let (first, mut ops, repeated) = say(&[]);
        assert_eq!(repeated, 0);
        let (second, more, repeated) = say(&ops);
        assert_eq!((second, repeated, more.len()), (first, 1, 0));
        ops.extend(more);
        world.memory.commit(ops).expect("it commits");
        assert_eq!(world.memory.count(Some("s")).expect("a count"), 1);
    }
}
