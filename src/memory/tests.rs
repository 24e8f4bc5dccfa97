//! The memory against a model that knows nothing of indexes, under a clock of the test's own.

mod shaping;
mod vectors;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::model::{
    Content, EntryId, Error, Event, Forgetting, Grade, MemoryOp, NO_RUN, Record, Result, Timestamp,
};
use crate::store::{RamStore, Store};

pub(super) use crate::model::DAY_MS as DAY;

/// A journal that is a store and nothing else.
struct Direct {
    store: Arc<dyn Store>,
    shelves: Arc<Shelves>,
    fails: Mutex<bool>,
}

impl Journal for Direct {
    fn commit(&self, ops: Vec<MemoryOp>) -> Result<()> {
        if *self.fails.lock().expect("sound") {
            return Err(Error::new("store.full", "no space", "make some"));
        }
        let (run, seq, at) = (NO_RUN, self.store.next_seq(), Timestamp(0));
        self.store.append(&[Record { run, seq, at, events: vec![Event::Memory(ops.clone())] }])?;
        self.shelves.committed(&ops);
        Ok(())
    }
}

pub(super) struct World {
    pub(super) memory: Memory,
    pub(super) now: Arc<AtomicU64>,
    journal: Arc<Direct>,
}

pub(super) fn world() -> World {
    world_on(Arc::new(RamStore::default()))
}

pub(super) fn world_on(store: Arc<dyn Store>) -> World {
    let shelves = Arc::new(Shelves::default());
    let fails = Mutex::new(false);
    let journal =
        Arc::new(Direct { store: Arc::clone(&store), shelves: Arc::clone(&shelves), fails });
    let now = Arc::new(AtomicU64::new(1_000 * DAY));
    let clock = Arc::clone(&now);
    let clock = move || Timestamp(clock.load(Ordering::Relaxed));
    let memory = Memory::new(store, Arc::clone(&journal) as _, shelves, clock).expect("a memory");
    World { memory, now, journal }
}

pub(super) fn draft(text: &str, vector: Option<Vec<f32>>) -> Draft {
    Draft { content: Content::Text(text.into()), metadata: None, vector, task: None, pinned: false }
}

pub(super) fn code<T>(result: Result<T>) -> &'static str {
    result.err().expect("a refusal").code
}

/// Xorshift64*, so that a failure can be repeated from its seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % sides
    }
    pub(super) fn vector(&mut self) -> Vec<f32> {
        (0..8).map(|_| self.roll(2_000) as f32 - 999.5).collect()
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn searches_answer_what_a_scan_of_the_model_does() {
    let sessions = ["a", "a:b", "b", "a\0"];
    for seed in 1..=6 {
        let (world, mut dice) = (world(), Dice(seed));
        let mut model: BTreeMap<&str, BTreeMap<EntryId, (String, Vec<f32>)>> = BTreeMap::new();
        for step in 0..250 {
            let session = sessions[dice.roll(4) as usize];
            let own = model.entry(session).or_default();
            let some = own.keys().nth(dice.roll(own.len().max(1) as u64) as usize).copied();
            match (dice.roll(8), some) {
                (0, Some(id)) => {
                    let what = Forget::Ids(vec![id]);
                    let other = sessions[dice.roll(4) as usize];
                    let gone = world.memory.forget(other, &what, 10).expect("it forgets");
                    assert_eq!(gone.ids.len(), usize::from(other == session));
                    if other == session {
                        own.remove(&id);
                    }
                }
                (1, _) if dice.roll(6) == 0 => {
                    let gone = world.memory.delete_session(session).expect("it forgets");
                    assert_eq!(gone as usize, own.len());
                    own.clear();
                }
                _ => {
                    let word = ["tea", "milk", "boat", "house"][dice.roll(4) as usize];
                    let (text, vector) = (format!("{word} fact{step}"), dice.vector());
                    let drafts = vec![draft(&text, Some(vector.clone()))];
                    let ids = world.memory.memorize(session, drafts).expect("it memorizes");
                    own.insert(ids[0], (text, vector));
                }
            }
            let (session, asked) = (sessions[dice.roll(4) as usize], dice.vector());
            let own = model.get(session).cloned().unwrap_or_default();
            let mut near: Vec<_> =
                own.iter().map(|(id, (_, vector))| (cosine(&asked, vector), *id)).collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0));
            let query =
                Query { vector: Some(asked), top_k: 5, mode: Mode::Vector, ..Query::default() };
            let hits = world.memory.retrieve(session, &query).expect("hits");
            assert_eq!(hits.len(), near.len().min(5), "seed {seed} step {step}");
            for (hit, (score, _)) in hits.iter().zip(&near) {
                let found = f64::from(hit.cosine.expect("by vector"));
                // Halves keep three digits, so the order may differ within that.
                assert!((found - score).abs() < 2e-3, "seed {seed} step {step}: {found} {score}");
                assert!(own.contains_key(&hit.memorized.entry.id));
            }
            let text = Some("tea".into());
            let query = Query { text, top_k: 1_000, mode: Mode::Text, ..Query::default() };
            let hits = world.memory.retrieve(session, &query).expect("hits");
            let mut found: Vec<_> = hits.iter().map(|hit| hit.memorized.entry.id).collect();
            found.sort_unstable();
            let wanted = own.iter().filter(|(_, (text, _))| text.starts_with("tea"));
            assert_eq!(found, wanted.map(|(id, _)| *id).collect::<Vec<_>>());
        }
    }
}

#[test]
fn in_a_year_what_is_used_stays_and_the_rest_goes() {
    let world = world();
    let ids = world
        .memory
        .memorize("s", (0..10).map(|n| draft(&format!("fact {n}"), None)).collect())
        .expect("it memorizes");
    let weak = Forget::Below { strength: 0.3, grace: 30 * DAY };
    let mut gone = Vec::new();
    for day in 1..=365 {
        world.now.fetch_add(DAY, Ordering::Relaxed);
        if day % 30 == 0 {
            world.memory.review(&ids[..3], Some("s"), Grade::Good).expect("a review");
        }
        let forgotten = world.memory.forget("s", &weak, 2).expect("it forgets");
        gone.extend(forgotten.ids.iter().map(|id| (day, *id)));
    }
    assert_eq!(world.memory.count(Some("s")).expect("a count"), 3);
    // 99 days from Good to 0.3 with the preset for agents, and two a day.
    assert!(
        gone.iter().all(|(day, id)| (99..=103).contains(day) && !ids[..3].contains(id)),
        "{gone:?}"
    );
    assert_eq!(gone.len(), 7);
    // A clock that goes back makes nothing older, and breaks nothing.
    world.now.fetch_sub(300 * DAY, Ordering::Relaxed);
    let kept = world.memory.get(ids[0], None).expect("no error").expect("it is there");
    let fsrs = world.memory.fsrs("s").expect("no error");
    assert!(strength(&fsrs, &*kept.entry, world.memory.now()) > 0.999);
    world.memory.review(&ids[..1], None, Grade::Good).expect("a review");
    let again = world.memory.get(ids[0], None).expect("no error").expect("it is there");
    assert!(again.entry.last_review >= kept.entry.last_review);
    assert!(world.memory.forget("s", &weak, 9).expect("nothing").ids.is_empty());
}

#[test]
fn what_was_not_committed_is_not_there() {
    let world = world();
    world.memory.memorize("s", vec![draft("tea", None)]).expect("it memorizes");
    *world.journal.fails.lock().expect("sound") = true;
    assert_eq!(code(world.memory.memorize("s", vec![draft("milk", None)])), "store.full");
    assert_eq!(code(world.memory.delete_session("s")), "store.full");
    assert_eq!(world.memory.count(Some("s")).expect("a count"), 1);
    let vector = Some(vec![1.0]);
    assert_eq!(code(world.memory.memorize("s", vec![draft("x", vector.clone())])), "store.full");
    *world.journal.fails.lock().expect("sound") = false;
    assert_eq!(world.memory.vector_model(), None, "a model that was refused binds nobody");
    world.memory.memorize("s", vec![draft("x", vector)]).expect("it memorizes");
    let other = vec![draft("x", Some(vec![1.0, 2.0]))];
    assert_eq!(code(world.memory.memorize("s", other)), "memory.dimension");
}

#[test]
fn what_a_task_has_not_committed_is_seen_by_itself_alone() {
    let world = world();
    let ids = world.memory.memorize("s", vec![draft("tea", None), draft("milk", None)]);
    let ids = ids.expect("it memorizes");
    let (own, mut ops) = world.memory.draft("s", vec![draft("tea time", None)]).expect("a draft");
    ops.push(MemoryOp::Forget { session: "s".into(), ids: vec![ids[0]] });
    let query = Query { text: Some("tea".into()), top_k: 9, ..Query::default() };
    let found = |ops: &[MemoryOp]| -> Vec<EntryId> {
        let hits = world.memory.retrieve_with("s", &query, ops).expect("hits");
        hits.iter().map(|hit| hit.memorized.entry.id).collect()
    };
    assert_eq!(found(&ops), own);
    assert_eq!(found(&[]), [ids[0]], "nobody else");
    world.memory.commit(ops).expect("it commits");
    assert_eq!(found(&[]), own);
}

#[test]
fn a_session_that_runs_over_is_loaded_anew() {
    let world = world();
    world.memory.memorize("s", vec![draft("tea", None)]).expect("it memorizes");
    assert_eq!(world.memory.count(Some("s")).expect("it is loaded"), 1);
    let drafts = (0..40_000).map(|n| draft(&format!("w{n}"), None)).collect();
    let (_, ops) = world.memory.draft("s", drafts).expect("drafts");
    for ops in ops.chunks(1_000) {
        world.journal.commit(ops.to_vec()).expect("it commits");
    }
    assert_eq!(world.memory.count(Some("s")).expect("a count"), 40_001);
}

#[test]
fn a_session_forgets_by_its_own_parameters() {
    let world = world();
    for session in ["slow", "fast"] {
        world.memory.memorize(session, vec![draft("tea", None)]).expect("it memorizes");
    }
    let parameters = crate::math::fsrs::Fsrs::agent().parameters().to_vec();
    let quick = Forgetting { parameters, time_scale: 10.0, half_life: None };
    world.memory.set_forgetting("fast", Some(quick.clone())).expect("it is set");
    assert_eq!(world.memory.forgetting("fast").expect("no error"), Some(quick.clone()));
    assert_eq!(world.memory.forgetting("slow").expect("no error"), None);
    world.now.fetch_add(11 * DAY, Ordering::Relaxed);
    let weak = Forget::Below { strength: 0.3, grace: 0 };
    assert_eq!(world.memory.forget("slow", &weak, 9).expect("it forgets").ids.len(), 0);
    assert_eq!(world.memory.forget("fast", &weak, 9).expect("it forgets").ids.len(), 1);
    // New ones begin by them, too.
    let half_life = Some(3.0);
    let brief = Forgetting { half_life, time_scale: 1.0, ..quick.clone() };
    world.memory.set_forgetting("fast", Some(brief)).expect("it is set");
    world.memory.memorize("fast", vec![draft("milk", None)]).expect("it memorizes");
    world.now.fetch_add(3 * DAY, Ordering::Relaxed);
    let found = world.memory.retrieve("fast", &shaping::asked("milk")).expect("hits");
    assert!((found[0].strength - 0.5).abs() < 1e-9, "{}", found[0].strength);
    world.memory.delete_session("fast").expect("it forgets");
    assert_eq!(world.memory.forgetting("fast").expect("no error"), None);
    let wrong = Forgetting { parameters: vec![0.5; 20], ..quick.clone() };
    assert_eq!(code(world.memory.set_forgetting("fast", Some(wrong))), "memory.forgetting");
    let wrong = Forgetting { time_scale: f64::NAN, ..quick };
    assert_eq!(code(world.memory.set_forgetting("fast", Some(wrong))), "memory.forgetting");
}

#[test]
fn forgetting_by_strength_finds_what_a_look_at_everything_does() {
    for seed in 1..=4 {
        let (world, mut dice) = (world(), Dice(seed));
        let mut ids = Vec::new();
        for _ in 0..300 {
            world.now.fetch_add(dice.roll(DAY), Ordering::Relaxed);
            match dice.roll(6) {
                0 if !ids.is_empty() => {
                    let id = ids[dice.roll(ids.len() as u64) as usize];
                    let grades = [Grade::Again, Grade::Hard, Grade::Good, Grade::Easy];
                    let grade = grades[dice.roll(4) as usize];
                    // It may be forgotten already.
                    let _ = world.memory.review(&[id], Some("s"), grade);
                }
                1 => {
                    let threshold = dice.roll(100) as f64 / 100.0;
                    let weak = Forget::Below { strength: threshold, grace: dice.roll(9) * DAY };
                    let Forget::Below { grace, .. } = weak else { unreachable!() };
                    let (now, fsrs) = (world.memory.now(), world.memory.fsrs("s").expect("some"));
                    let all = world.memory.list("s", None, usize::MAX).expect("all");
                    let mut wanted: Vec<_> = all
                        .iter()
                        .filter(|it| !it.entry.pinned && now.since(it.entry.created) >= grace)
                        .map(|it| (strength(&fsrs, &*it.entry, now), it.entry.id))
                        .filter(|(strength, _)| *strength < threshold)
                        .collect();
                    wanted.sort_by(|a, b| a.0.total_cmp(&b.0));
                    let found = world.memory.doomed("s", &weak, 7).expect("it looks");
                    let first: Vec<_> = wanted.iter().take(7).map(|(_, id)| *id).collect();
                    assert_eq!(found.ids, first, "seed {seed}");
                    assert_eq!(found.left as usize, wanted.len().saturating_sub(7));
                    if dice.roll(3) == 0 {
                        world.memory.forget("s", &weak, 3).expect("it forgets");
                    }
                }
                _ => {
                    let mut draft = draft("fact", None);
                    draft.pinned = dice.roll(10) == 0;
                    ids.extend(world.memory.memorize("s", vec![draft]).expect("it memorizes"));
                }
            }
        }
    }
}
