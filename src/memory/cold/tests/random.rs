//! Anything in any order, with lost answers and deaths: what is found is what was memorized.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Xorshift64*, so that a failure can be repeated from its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % sides
    }
}

const SESSIONS: [&str; 4] = ["a", "a:b", "b", "a\0"];

type Model = BTreeMap<&'static str, BTreeMap<EntryId, (String, Vec<f32>)>>;

/// What is found is exactly what the model has, each once and in its own session.
fn check(world: &World, model: &Model, what: &str) {
    for session in SESSIONS {
        let own = model.get(session).cloned().unwrap_or_default();
        let wanted: BTreeSet<_> = own.values().map(|(text, _)| text.clone()).collect();
        let hits = found(world, session, &near(33.0, 1_000));
        assert_eq!(hits.len(), wanted.len(), "{what}: {session:?} {hits:?}");
        assert_eq!(hits.into_iter().collect::<BTreeSet<_>>(), wanted, "{what}: {session:?}");
        let listed = world.memory.list(session, None, 1_000).expect("a listing");
        assert_eq!(listed.len(), own.len(), "{what}: {session:?}");
        for it in &listed {
            assert_eq!(text(it), own[&it.entry.id].0, "{what}: {session:?}");
        }
    }
}

/// The tier holds the stubs and nothing else.
fn check_settled(world: &World, what: &str) {
    world.memory.settle_all().expect("a settling");
    let stats = world.memory.cold_stats().expect("stats").expect("a tier");
    assert_eq!(stats.pending, 0, "{what}");
    let held: u64 = SESSIONS.iter().map(|s| world.tier.count(s).expect("a count")).sum();
    assert_eq!(held, stats.entries, "{what}");
}

#[test]
fn whatever_happens_what_is_found_is_what_was_memorized() {
    for seed in 1..=5 {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut world, mut dice) = (open(dir.path()), Dice(seed));
        let mut model = Model::new();
        for step in 0..120 {
            let what = format!("seed {seed}, step {step}");
            let session = SESSIONS[dice.roll(4) as usize];
            let own = model.entry(session).or_default();
            let some: Vec<_> = own.keys().copied().filter(|_| dice.roll(3) == 0).collect();
            if dice.roll(4) == 0 {
                // Its next answers but one are lost.
                world.tier.left.store(dice.roll(4) as i64, Ordering::Relaxed);
            }
            let dies = dice.roll(5) == 0;
            if dies {
                world.journal.left.store(dice.roll(3) as i64, Ordering::Relaxed);
                world.journal.last_lasts.store(dice.roll(2) == 0, Ordering::Relaxed);
            }
            let memory = Arc::clone(&world.memory);
            // What it is when it went through, and what it may be when it did not.
            let mut after = own.clone();
            let done = match dice.roll(10) {
                0..=3 => {
                    let drafts: Vec<_> = (0..3)
                        .map(|n| (format!("{session} {step} {n}"), ray(dice.roll(360) as f32)))
                        .collect();
                    let made = drafts.iter().map(|(text, vector)| fact(text, vector)).collect();
                    let (ids, ops) = memory.draft(session, made).unwrap_or_default();
                    after.extend(ids.into_iter().zip(drafts));
                    if ops.is_empty() {
                        after.clone_from(own);
                    }
                    memory.commit(ops)
                }
                4 | 5 => memory
                    .move_cold(session, &EVERYTHING, 1 + dice.roll(9) as usize, false)
                    .map(drop),
                6 => memory.bring_back(session, &some).map(drop),
                7 => memory.review(&some, Some(session), Grade::Good),
                8 => {
                    some.iter().for_each(|id| drop(after.remove(id)));
                    memory.forget(session, &Forget::Ids(some), 1_000).map(drop)
                }
                _ if dice.roll(3) == 0 => {
                    after.clear();
                    memory.delete_session(session).map(drop)
                }
                _ => memory.settle(session).map(drop),
            };
            world.tier.left.store(-1, Ordering::Relaxed);
            *memory.cold.as_ref().expect("a tier").rests() = None;
            if done.is_ok() {
                *own = after.clone();
            }
            drop(memory);
            if dies || dice.roll(20) == 0 {
                drop(world);
                world = open(dir.path());
                // A commit whose answer nobody heard counts or does not.
                if done.is_err()
                    && world.memory.count(Some(session)).expect("a count") == after.len() as u64
                {
                    *model.get_mut(session).expect("it was made") = after;
                }
            }
            check(&world, &model, &what);
            if dice.roll(8) == 0 {
                check_settled(&world, &what);
                check(&world, &model, &what);
            }
        }
        check_settled(&world, &format!("seed {seed}"));
    }
}
