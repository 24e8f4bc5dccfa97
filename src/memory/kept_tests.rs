//! Kept indexes: whatever becomes of the files, searches answer what is remembered.

mod cells;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::keeper::Habits;
use super::*;
use crate::model::{
    Content, EntryId, Event, Grade, MemoryOp, NO_RUN, Record, Result, Timestamp, Vector,
};
use crate::store::{DiskStore, Options, Store};

/// A journal that is a store and nothing else.
struct Direct {
    store: Arc<dyn Store>,
    shelves: Arc<Shelves>,
}

impl Journal for Direct {
    fn commit(&self, ops: Vec<MemoryOp>) -> Result<()> {
        let (run, seq, at) = (NO_RUN, self.store.next_seq(), Timestamp(0));
        self.store.append(&[Record { run, seq, at, events: vec![Event::Memory(ops.clone())] }])?;
        self.shelves.committed(&ops);
        Ok(())
    }
}

struct World {
    store: Arc<dyn Store>,
    shelves: Arc<Shelves>,
    memory: Memory,
}

/// Small files are kept, and only when somebody says so.
fn habits() -> Habits {
    let long = std::time::Duration::from_secs(86_400);
    Habits {
        entries_min: 20,
        changes_min: u64::MAX,
        changes_at_close: 1,
        forget_within: long,
        settle: long,
        again: long,
        ..Habits::default()
    }
}

fn on(store: Arc<dyn Store>, habits: Habits) -> World {
    let shelves = Arc::new(Shelves::with(habits));
    let journal = Direct { store: Arc::clone(&store), shelves: Arc::clone(&shelves) };
    let now = || Timestamp(1_000_000);
    let memory = Memory::new(Arc::clone(&store), Arc::new(journal), Arc::clone(&shelves), now);
    World { store, shelves, memory: memory.expect("a memory") }
}

fn open(dir: &Path) -> World {
    open_with(dir, habits())
}

fn open_with(dir: &Path, habits: Habits) -> World {
    let options = Options { background: false, map_bytes: 1 << 20, ..Options::default() };
    on(Arc::new(DiskStore::open(dir, &options).expect("a store")), habits)
}

impl World {
    fn keep(&self, session: &str) {
        self.shelves.keep(&session.into(), &*self.store, false).expect("it is kept");
    }

    fn close(self) {
        self.shelves.close();
        self.store.close().expect("a close");
    }

    /// Loaded, rebuilt, written.
    fn counts(&self) -> [u64; 3] {
        let stats = self.memory.stats().expect("stats");
        [stats.indexes_loaded, stats.indexes_rebuilt, stats.indexes_written]
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let listing = fs::read_dir(dir.join("indexes")).expect("a directory");
    listing.map(|entry| entry.expect("an entry").path()).collect()
}

fn draft(text: &str, vector: Option<Vec<f32>>) -> Draft {
    let metadata = Some(format!("{{\"n\":{}}}", text.len() % 3));
    Draft { content: Content::Text(text.into()), metadata, vector, task: None, pinned: false }
}

/// Xorshift64*, so that a failure can be repeated from its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % sides
    }
    fn vector(&mut self) -> Vec<f32> {
        (0..8).map(|_| self.roll(2_000) as f32 - 999.5).collect()
    }
}

type Model = BTreeMap<EntryId, (String, Option<Vec<f32>>)>;

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Asks by words and by vector, and compares with a look at everything.
fn check(world: &World, session: &str, own: &Model, asked: &[f32], what: &str) {
    check_top(7, world, session, own, asked, what);
}

/// The same for so many of the nearest.
fn check_top(top_k: usize, world: &World, session: &str, own: &Model, asked: &[f32], what: &str) {
    for word in ["tea", "milk"] {
        let query =
            Query { text: Some(word.into()), top_k: 9_999, mode: Mode::Text, ..Query::default() };
        let hits = world.memory.retrieve(session, &query).expect("hits");
        let mut found: Vec<_> = hits.iter().map(|hit| hit.memorized.entry.id).collect();
        found.sort_unstable();
        let wanted = own.iter().filter(|(_, (text, _))| text.starts_with(word));
        assert_eq!(found, wanted.map(|(id, _)| *id).collect::<Vec<_>>(), "{what}");
        for hit in &hits {
            let text = Content::Text(own[&hit.memorized.entry.id].0.clone());
            assert_eq!(hit.memorized.entry.content, text, "{what}");
        }
    }
    let vectors = own.values().filter_map(|(_, vector)| vector.as_ref());
    let mut near: Vec<f64> = vectors.map(|vector| cosine(asked, vector)).collect();
    near.sort_by(|a, b| b.total_cmp(a));
    let vector = Some(asked.to_vec());
    let query = Query { vector, top_k, mode: Mode::Vector, ..Query::default() };
    let hits = world.memory.retrieve(session, &query).expect("hits");
    assert_eq!(hits.len(), near.len().min(top_k), "{what}");
    for (hit, score) in hits.iter().zip(&near) {
        // Halves keep three digits.
        assert!((f64::from(hit.cosine.expect("by vector")) - score).abs() < 2e-3, "{what}");
    }
    assert_eq!(world.memory.count(Some(session)).expect("a count"), own.len() as u64, "{what}");
    let listed = world.memory.list(session, None, usize::MAX).expect("entries");
    assert_eq!(listed.len(), own.len(), "{what}");
}

/// One change of one session, of the memory and of the model.
fn change(world: &World, session: &str, own: &mut Model, dice: &mut Dice, step: usize) {
    let some = own.keys().nth(dice.roll(own.len().max(1) as u64) as usize).copied();
    let commit = |op| world.memory.commit(vec![op]).expect("it commits");
    match (dice.roll(12), some) {
        (0 | 1, Some(id)) => {
            world.memory.forget(session, &Forget::Ids(vec![id]), 10).expect("it forgets");
            own.remove(&id);
        }
        (2, Some(id)) => {
            let vector = dice.vector();
            commit(MemoryOp::Vector {
                session: session.into(),
                id,
                vector: Vector::new(&vector),
                generation: 0,
            });
            own.entry(id).and_modify(|it| it.1 = Some(vector));
        }
        (3, Some(id)) => {
            // Another text under the same id, as an import may bring.
            let mut memorized = world.memory.get(id, None).expect("no error").expect("it is there");
            let text = format!("milk again{step}");
            Arc::make_mut(&mut memorized.entry).content = Content::Text(text.clone());
            commit(MemoryOp::Put(memorized));
            own.entry(id).and_modify(|it| it.0 = text);
        }
        (4, Some(id)) => world.memory.review(&[id], Some(session), Grade::Good).expect("a review"),
        (5, _) if dice.roll(12) == 0 => {
            world.memory.delete_session(session).expect("it forgets");
            own.clear();
        }
        _ => {
            for n in 0..1 + dice.roll(6) {
                let word = ["tea", "milk", "boat"][dice.roll(3) as usize];
                let vector = (dice.roll(4) > 0).then(|| dice.vector());
                let text = format!("{word} fact{step}x{n}");
                let drafts = vec![draft(&text, vector.clone())];
                let ids = world.memory.memorize(session, drafts).expect("it memorizes");
                own.insert(ids[0], (text, vector));
            }
        }
    }
}

#[test]
fn whenever_it_is_kept_and_closed_a_session_answers_what_it_remembers() {
    for seed in 1..=4 {
        let (dir, mut dice) = (tempfile::tempdir().expect("a directory"), Dice(seed));
        let mut world = open(dir.path());
        let mut models: BTreeMap<&str, Model> = BTreeMap::new();
        let mut loaded = 0;
        for step in 0..120 {
            let session = ["a", "a:b"][dice.roll(2) as usize];
            let own = models.entry(session).or_default();
            change(&world, session, own, &mut dice, step);
            match dice.roll(10) {
                0 => world.keep(session),
                1 => {
                    // As after a crash: nothing is written any more.
                    loaded += world.counts()[0];
                    world.shelves.abandon();
                    drop(world);
                    world = open(dir.path());
                }
                2 => {
                    loaded += world.counts()[0];
                    world.close();
                    world = open(dir.path());
                }
                _ => {}
            }
            let session = ["a", "a:b"][dice.roll(2) as usize];
            let asked = dice.vector();
            let own = models.entry(session).or_default();
            check(&world, session, own, &asked, &format!("seed {seed} step {step}"));
        }
        assert!(loaded > 1, "files were of use {loaded} times");
    }
}

fn filled(dir: &Path, entries: usize) -> (World, Model) {
    fill(open(dir), entries)
}

fn fill(world: World, entries: usize) -> (World, Model) {
    let (mut dice, mut model) = (Dice(7), Model::new());
    let texts: Vec<_> = (0..entries).map(|n| format!("tea w{n}")).collect();
    let vectors: Vec<_> = texts.iter().map(|_| dice.vector()).collect();
    let drafts = texts.iter().zip(&vectors).map(|(text, it)| draft(text, Some(it.clone())));
    let ids = world.memory.memorize("a", drafts.collect()).expect("it memorizes");
    for ((id, text), vector) in ids.into_iter().zip(texts).zip(vectors) {
        model.insert(id, (text, Some(vector)));
    }
    (world, model)
}

#[test]
fn a_file_that_is_damaged_anywhere_is_built_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, model) = filled(dir.path(), 60);
    world.memory.count(Some("a")).expect("it is loaded");
    world.keep("a");
    let path = files(dir.path()).pop().expect("a file");
    let sound = fs::read(&path).expect("a file");
    let asked = Dice(3).vector();
    // Another memory on the same store loads anew.
    let look = |what: &str| {
        let fresh = on(Arc::clone(&world.store), habits());
        check(&fresh, "a", &model, &asked, what);
        let [loaded, rebuilt, _] = fresh.counts();
        (loaded, rebuilt)
    };
    assert_eq!(look("sound"), (1, 0));
    for at in (0..sound.len()).step_by(37).chain(sound.len() - 30..sound.len()) {
        let mut broken = sound.clone();
        broken[at] ^= 1 << (at % 8);
        fs::write(&path, &broken).expect("a write");
        assert_eq!(look(&format!("a bit of byte {at}")), (0, 1));
        fs::write(&path, &sound[..at]).expect("a write");
        assert_eq!(look(&format!("cut at {at}")), (0, 1));
    }
    fs::write(&path, &sound).expect("a write");
    assert_eq!(look("sound again"), (1, 0));
}

#[test]
fn a_file_of_another_session_is_not_believed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, model) = filled(dir.path(), 40);
    let drafts = (0..40).map(|n| draft(&format!("tea of b {n}"), None)).collect();
    world.memory.memorize("b", drafts).expect("it memorizes");
    world.memory.count(Some("a")).expect("it is loaded");
    world.keep("a");
    let own = files(dir.path()).pop().expect("a file");
    world.memory.count(Some("b")).expect("it is loaded");
    world.keep("b");
    let other = files(dir.path()).into_iter().find(|it| *it != own).expect("a second file");
    fs::copy(&other, &own).expect("a copy");
    let fresh = on(Arc::clone(&world.store), habits());
    check(&fresh, "a", &model, &Dice(3).vector(), "another's file");
    assert_eq!(fresh.counts(), [0, 1, 0]);
}

#[test]
fn a_file_that_is_behind_is_caught_up_and_one_that_is_far_behind_built_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, mut model) = filled(dir.path(), 60);
    world.memory.count(Some("a")).expect("it is loaded");
    world.keep("a");
    for (more, expected) in [(20, [1, 0, 0]), (200, [0, 1, 0])] {
        // Written past the loaded session, as before a crash.
        let blind = on(Arc::clone(&world.store), habits());
        let texts: Vec<_> = (0..more).map(|n| format!("tea more{n}")).collect();
        let drafts = texts.iter().map(|text| draft(text, None)).collect();
        let ids = blind.memory.memorize("a", drafts).expect("it memorizes");
        model.extend(ids.into_iter().zip(texts.into_iter().map(|text| (text, None))));
        let fresh = on(Arc::clone(&world.store), habits());
        check(&fresh, "a", &model, &Dice(3).vector(), "behind");
        assert_eq!(fresh.counts(), expected);
    }
}

#[test]
fn what_was_forgotten_leaves_the_file_and_a_deleted_session_takes_its_file_along() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, _) = filled(dir.path(), 60);
    let secret = draft("the zanzibarine password", None);
    let id = world.memory.memorize("a", vec![secret]).expect("it memorizes")[0];
    world.memory.count(Some("a")).expect("it is loaded");
    world.close();
    let has_it = || {
        let bytes = fs::read(files(dir.path()).pop().expect("a file")).expect("a file");
        bytes.windows(8).any(|window| window == b"zanzibar")
    };
    assert!(has_it());
    let world = open(dir.path());
    world.memory.forget("a", &Forget::Ids(vec![id]), 1).expect("it forgets");
    world.close();
    assert!(!has_it());
    let world = open(dir.path());
    world.memory.delete_session("a").expect("it forgets");
    world.close();
    assert!(files(dir.path()).is_empty());
}

#[test]
fn what_was_memorized_in_bulk_is_indexed_before_anybody_asks() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, model) = filled(dir.path(), 100);
    world.close();
    let world = open(dir.path());
    check(&world, "a", &model, &Dice(3).vector(), "after a bulk");
    assert_eq!(world.counts(), [1, 0, 0]);
}

#[test]
fn a_file_whose_session_is_gone_is_swept_at_the_next_opening() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, _) = filled(dir.path(), 60);
    world.close();
    let path = files(dir.path()).pop().expect("a file");
    let sound = fs::read(&path).expect("a file");
    let world = open(dir.path());
    world.memory.delete_session("a").expect("it forgets");
    world.close();
    // As if the process had died before the file was deleted.
    fs::write(&path, sound).expect("a write");
    fs::write(path.with_extension("tmp"), b"half").expect("a write");
    drop(open(dir.path()));
    assert!(files(dir.path()).is_empty());
}

#[test]
fn a_small_session_is_not_worth_a_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, _) = filled(dir.path(), 15);
    world.memory.count(Some("a")).expect("it is loaded");
    world.keep("a");
    world.close();
    assert!(files(dir.path()).is_empty());
}

#[test]
fn in_ram_nothing_is_kept() {
    let world = on(Arc::new(crate::store::RamStore::default()), habits());
    let drafts = (0..50).map(|n| draft(&format!("tea {n}"), None)).collect();
    world.memory.memorize("a", drafts).expect("it memorizes");
    world.memory.count(Some("a")).expect("it is loaded");
    world.keep("a");
    world.shelves.close();
    assert_eq!(world.counts(), [0, 0, 0]);
}
