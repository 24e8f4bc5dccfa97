//! What stores must remember, told independently, and what they do remember, asked in every way.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::model::{Away, Content, Entry, EntryId, Grade, Memorized, MemoryOp, Vector};
use crate::store::{Memories, Outline, View};

/// Everything that is remembered, by session.
pub(super) type All = BTreeMap<String, Memories>;

pub(super) fn put(session: &str, id: u128) -> MemoryOp {
    let vector = (!id.is_multiple_of(3)).then(|| Vector::new(&[id as f32, 1.0, -2.0]));
    let entry = Entry {
        id: EntryId::from_u128(id),
        session: session.into(),
        task: Some("task[3]".into()),
        content: match id.is_multiple_of(11) {
            true => Content::Bytes(id.to_be_bytes().into()),
            false => Content::Text(format!("fact {id} of {session}")),
        },
        metadata: Some(format!("{{\"n\":{}}}", id % 7)),
        stability: 2.5,
        difficulty: 5.0,
        last_review: Timestamp(1_000),
        created: Timestamp(1_000),
        pinned: id.is_multiple_of(5),
        away: None,
    };
    MemoryOp::Put(Memorized { entry: Arc::new(entry), vector, generation: 0 })
}

/// What a store must remember after the records: an independent telling of what operations mean.
pub(super) fn fold(records: &[Record]) -> All {
    let mut all = All::new();
    let events = records.iter().flat_map(|record| &record.events);
    let ops = events.filter_map(|event| match event {
        Event::Memory(ops) => Some(ops),
        _ => None,
    });
    let mut current = 0;
    let void = |it: &mut Memorized, current: u32| {
        if it.vector.is_none() || it.generation != current {
            (it.vector, it.generation) = (None, 0);
        }
    };
    for op in ops.flatten() {
        let session = op.session().map(ToString::to_string).unwrap_or_default();
        let memories = all.entry(session.clone()).or_default();
        match op {
            MemoryOp::Put(it) => {
                let mut it = it.clone();
                void(&mut it, current);
                memories.insert(it.entry.id, it);
            }
            MemoryOp::Forget { ids, .. } => memories.retain(|id, _| !ids.contains(id)),
            MemoryOp::DeleteSession { .. } => memories.clear(),
            MemoryOp::Vector { id, vector, generation, .. } if *generation == current => {
                let here = memories.get_mut(id).filter(|it| it.entry.away.is_none());
                here.into_iter().for_each(|it| {
                    (it.vector, it.generation) = (Some(vector.clone()), current);
                });
            }
            MemoryOp::Vector { .. } => {}
            MemoryOp::Review { id, grade, at, stability, difficulty, .. } => {
                memories.entry(*id).and_modify(|it| {
                    let entry = Arc::make_mut(&mut it.entry);
                    entry.last_review = *at;
                    if let Some(away) = &mut entry.away {
                        away.used = away.used || matches!(grade, Grade::Good | Grade::Easy);
                    }
                    (entry.stability, entry.difficulty) = (*stability, *difficulty);
                });
            }
            MemoryOp::Move { tier, moved, .. } => {
                for (id, fingerprint) in moved {
                    let same = memories.get_mut(id).filter(|it| it.fingerprint() == *fingerprint);
                    for it in same.into_iter().filter(|it| it.entry.away.is_none()) {
                        let (entry, tier) = (Arc::make_mut(&mut it.entry), Arc::clone(tier));
                        let bytes = entry.content.len() as u64;
                        entry.away = Some(Away { tier, bytes, used: false });
                        entry.content = match entry.content {
                            Content::Bytes(_) => Content::Bytes(Vec::new()),
                            _ => Content::Text(String::new()),
                        };
                        (it.vector, it.generation) = (None, 0);
                    }
                }
            }
            MemoryOp::Back { id, content, vector, .. } => {
                let away = memories.get_mut(id).filter(|it| it.entry.away.is_some());
                if let Some(it) = away {
                    let entry = Arc::make_mut(&mut it.entry);
                    (entry.content, entry.away) = (content.clone(), None);
                    it.vector = Some(vector.clone());
                }
            }
            MemoryOp::Forgetting { .. } | MemoryOp::Copy { .. } | MemoryOp::Gone { .. } => {}
            MemoryOp::Model(model) => {
                current = model.generation;
                let everything = all.values_mut().flat_map(BTreeMap::values_mut);
                everything.for_each(|it| void(it, current));
            }
        }
    }
    all.retain(|_, memories| !memories.is_empty());
    all
}

/// What a store remembers, asked in every way.
pub(super) fn held(store: &dyn Store) -> All {
    let sessions = store.sessions(None, usize::MAX).expect("sessions");
    let mut all = All::new();
    for (session, count) in sessions {
        let memories = store.memories(&session).expect("memories");
        assert_eq!(memories.len() as u64, count, "{session:?} is counted right");
        for (id, memorized) in &memories {
            assert_eq!(memorized.entry.session, session);
            assert_eq!(store.session_of(*id).expect("no error").as_ref(), Some(&session));
        }
        look_at_each(store, &session, &memories);
        all.insert(session.to_string(), memories);
    }
    let lacks = |it: &&Memorized| it.vector.is_none() && it.entry.wants_vector();
    let lacking = all.values().flat_map(BTreeMap::values).filter(lacks);
    let lacking: Vec<_> = lacking.map(|it| (Arc::clone(&it.entry.session), it.entry.id)).collect();
    assert_eq!(unvectored(store), lacking.iter().cloned().collect(), "entries without a vector");
    assert_eq!(store.unvectored_count().expect("a count"), lacking.len() as u64);
    all
}

/// Single looks and outlines tell the same as the whole.
fn look_at_each(store: &dyn Store, session: &str, memories: &Memories) {
    let look = |view: &dyn View| {
        let mut outlines = Vec::new();
        view.outlines(&mut |it| outlines.push(format!("{it:?}")))?;
        let outline = |it: &Memorized| format!("{:?}", Outline::of(&it.entry, it.vector.as_ref()));
        assert_eq!(outlines, memories.values().map(outline).collect::<Vec<_>>());
        for (id, memorized) in memories {
            assert_eq!(view.entry(*id)?.as_ref(), Some(memorized));
            let mut bytes = None;
            let shown = view.vector(*id, &mut |it| bytes = Some(it.to_vec()))?;
            assert_eq!(shown, memorized.vector.is_some());
            assert_eq!(bytes.as_deref(), memorized.vector.as_ref().map(Vector::bytes));
        }
        let nobody = EntryId::from_u128(u128::MAX);
        assert!(view.entry(nobody)?.is_none() && !view.vector(nobody, &mut |_| ())?);
        Ok(())
    };
    store.view(session, &mut { look }).expect("a view");
    // What is another's is not seen from here.
    store
        .view("none of them", &mut |view| {
            for id in memories.keys() {
                assert!(view.entry(*id)?.is_none() && !view.vector(*id, &mut |_| ())?);
            }
            view.entries(&mut |it| panic!("{it:?}"))
        })
        .expect("a view");
}

/// Entries without a vector, page by page.
fn unvectored(store: &dyn Store) -> BTreeSet<(Arc<str>, EntryId)> {
    let mut found: Vec<Arc<Entry>> = Vec::new();
    loop {
        let after = found.last().map(|entry| (&*entry.session, entry.id));
        let page = store.unvectored(after, 3).expect("a page");
        found.extend(page.iter().cloned());
        if page.len() < 3 {
            let set: BTreeSet<_> =
                found.iter().map(|it| (Arc::clone(&it.session), it.id)).collect();
            assert_eq!(set.len(), found.len(), "no entry comes twice");
            return set;
        }
    }
}

pub(super) fn dump(all: &All) -> String {
    all.iter().map(|(session, memories)| format!("{session:?} {memories:?}\n")).collect()
}

/// Copies by session and entry, told independently.
pub(super) fn fold_copies(records: &[Record]) -> Vec<(String, EntryId, String)> {
    let mut all = std::collections::BTreeMap::new();
    for event in records.iter().flat_map(|record| &record.events) {
        let Event::Memory(ops) = event else { continue };
        for op in ops {
            match op {
                MemoryOp::Copy { session, ids, tier } => ids.iter().for_each(|id| {
                    all.insert((session.to_string(), *id), tier.to_string());
                }),
                MemoryOp::Gone { session, ids } => ids.iter().for_each(|id| {
                    all.remove(&(session.to_string(), *id));
                }),
                _ => {}
            }
        }
    }
    all.into_iter().map(|((session, id), tier)| (session, id, tier)).collect()
}

pub(super) fn held_copies(store: &dyn Store) -> Vec<(String, EntryId, String)> {
    let mut all = Vec::new();
    for session in store.copied().expect("sessions") {
        let copies = store.copies(&session).expect("copies").into_iter();
        all.extend(copies.map(|(id, tier)| (session.to_string(), id, tier.to_string())));
    }
    all
}
