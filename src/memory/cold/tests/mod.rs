//! The tier against a model that knows nothing of tiers: what is found is the same wherever it lies, and
//! whenever the process died.

mod closing;
mod losses;
mod owner;
mod random;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde_json::json;

use super::*;
use crate::memory::{Draft, Forget, Journal, Memory, Mode, Query, Shelves};
use crate::model::{Content, EntryId, Event, Grade, MetadataFilter, NO_RUN, Record, Timestamp};
use crate::store::{DiskStore, Options, Store};
use crate::tier::{self, Files, Tag};

use crate::model::DAY_MS as DAY;

/// A journal that dies when it is told: its last record may have been written or not.
struct Mortal {
    store: Arc<dyn Store>,
    shelves: Arc<Shelves>,
    /// Commits until death; below 0: never.
    left: AtomicI64,
    last_lasts: AtomicBool,
}

impl Journal for Mortal {
    fn commit(&self, ops: Vec<MemoryOp>) -> Result<()> {
        let left = self.left.fetch_sub(1, Ordering::Relaxed);
        let dead = || Error::new("engine.closed", "dead", "open it again");
        if left == 0 {
            // Nobody can tell any more.
            self.left.store(0, Ordering::Relaxed);
            if !self.last_lasts.swap(false, Ordering::Relaxed) {
                return Err(dead());
            }
        }
        let (run, seq, at) = (NO_RUN, self.store.next_seq(), Timestamp(0));
        self.store.append(&[Record { run, seq, at, events: vec![Event::Memory(ops.clone())] }])?;
        self.store.sync()?;
        if left == 0 {
            return Err(dead());
        }
        self.shelves.committed(&ops);
        Ok(())
    }
}

/// A tier of files that fails when it is told, and tells of what it is asked.
struct Flaky {
    files: Files,
    is_down: AtomicBool,
    /// Calls until one fails; below 0: none. It fails after it has done its work.
    left: AtomicI64,
    asked: AtomicUsize,
    news: Option<SyncSender<&'static str>>,
    /// Called when something is put.
    on_put: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Flaky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.files.fmt(f)
    }
}

impl Flaky {
    fn answer<T>(&self, what: &'static str, call: impl FnOnce(&Files) -> Result<T>) -> Result<T> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.is_down.load(Ordering::Relaxed) {
            return Err(tier::failed("cold", "it is down"));
        }
        let done = call(&self.files);
        if let Some(news) = &self.news {
            let _ = news.try_send(what);
        }
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(tier::failed("cold", "the answer was lost"));
        }
        done
    }
}

impl Tier for Flaky {
    fn name(&self) -> &str {
        self.files.name()
    }
    fn takes(&self, _: &str, cold: &tier::Cold) -> bool {
        cold.content.len() < 1_000
    }
    fn put(&self, session: &str, batch: &[tier::Cold]) -> Result<()> {
        if let Some(call) = self.on_put.lock().expect("sound").take() {
            call();
        }
        self.answer("put", |files| files.put(session, batch))
    }
    fn fetch(&self, session: &str, ids: &[EntryId]) -> Result<Vec<tier::Cold>> {
        self.answer("fetch", |files| files.fetch(session, ids))
    }
    fn search(
        &self,
        session: &str,
        vector: &[f32],
        tags: &[Tag],
        top_k: usize,
    ) -> Result<Vec<tier::Found>> {
        self.answer("search", |files| files.search(session, vector, tags, top_k))
    }
    fn delete(&self, session: &str, ids: &[EntryId]) -> Result<()> {
        self.answer("delete", |files| files.delete(session, ids))
    }
    fn delete_session(&self, session: &str) -> Result<()> {
        self.answer("delete_session", |files| files.delete_session(session))
    }
    fn count(&self, session: &str) -> Result<u64> {
        self.files.count(session)
    }
    fn health(&self) -> Result<()> {
        self.answer("health", Files::health)
    }
    fn close(&self) {
        self.files.close();
    }
}

struct World {
    memory: Arc<Memory>,
    now: Arc<AtomicU64>,
    journal: Arc<Mortal>,
    tier: Arc<Flaky>,
    news: Receiver<&'static str>,
}

impl Drop for World {
    fn drop(&mut self) {
        // As a crash would; its thread holds the store.
        self.journal.shelves.abandon();
    }
}

fn open_as(dir: &Path, name: &str, policy: Option<Policy>) -> World {
    open_store(dir, "store", name, policy)
}

fn open_store(dir: &Path, store: &str, name: &str, policy: Option<Policy>) -> World {
    let store = DiskStore::open(&dir.join(store), &Options::default()).expect("a store");
    let store: Arc<dyn Store> = Arc::new(store);
    let shelves = Arc::new(Shelves::default());
    let journal = Arc::new(Mortal {
        store: Arc::clone(&store),
        shelves: Arc::clone(&shelves),
        left: AtomicI64::new(-1),
        last_lasts: AtomicBool::new(false),
    });
    let (sender, news) = sync_channel(1_000);
    let tier = Arc::new(Flaky {
        files: Files::open(&dir.join(name), name).expect("a tier"),
        is_down: AtomicBool::new(false),
        left: AtomicI64::new(-1),
        asked: AtomicUsize::new(0),
        news: Some(sender),
        on_put: Mutex::default(),
    });
    let now = Arc::new(AtomicU64::new(1_000 * DAY));
    let clock = Arc::clone(&now);
    let clock = move || Timestamp(clock.load(Ordering::Relaxed));
    let memory = Memory::new(store, Arc::clone(&journal) as _, shelves, clock).expect("a memory");
    let every = Duration::from_millis(1);
    let cellar = Cellar { tier: Arc::clone(&tier) as _, policy, every };
    let memory = Arc::new(memory.with_cold(Some(cellar)));
    World { memory, now, journal, tier, news }
}

fn open(dir: &Path) -> World {
    open_as(dir, "cold", None)
}

const EVERYTHING: Policy = Policy { below: Some(1.0), unused_for: Some(0), keep_max: None };

fn fact(text: &str, vector: &[f32]) -> Draft {
    Draft {
        content: Content::Text(text.into()),
        metadata: None,
        vector: Some(vector.to_vec()),
        task: None,
        pinned: false,
    }
}

fn ray(angle: f32) -> Vec<f32> {
    let (sin, cos) = angle.to_radians().sin_cos();
    vec![cos, sin]
}

fn near(angle: f32, top_k: usize) -> Query {
    Query { vector: Some(ray(angle)), top_k, mode: Mode::Vector, ..Query::default() }
}

fn text(memorized: &crate::model::Memorized) -> String {
    match &memorized.entry.content {
        Content::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}

fn found(world: &World, session: &str, query: &Query) -> Vec<String> {
    let hits = world.memory.retrieve(session, query).expect("hits");
    hits.iter().map(|hit| text(&hit.memorized)).collect()
}

fn code<T: std::fmt::Debug>(answer: Result<T>) -> &'static str {
    answer.expect_err("a refusal").code
}

#[test]
fn what_moved_is_there_as_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = open(dir.path());
    let memory = &world.memory;
    let drafts = (0..40).map(|n| fact(&format!("tea {n}"), &ray(n as f32))).collect();
    let ids = memory.memorize("s", drafts).expect("it memorizes");
    let before =
        (found(&world, "s", &near(20.0, 40)), memory.export("s", None, 99).expect("lines"));
    let would = memory.move_cold("s", &EVERYTHING, 30, true).expect("a dry run");
    assert_eq!((would.ids.len(), would.left), (30, 10));
    assert_eq!(memory.cold_stats().expect("stats").expect("a tier").entries, 0);
    let moved = memory.move_cold("s", &EVERYTHING, 30, false).expect("a move");
    assert_eq!((&moved.ids[..], moved.left, moved.bytes), (&ids[..30], 10, 10 * 5 + 20 * 6));
    let stats = memory.cold_stats().expect("stats").expect("a tier");
    assert_eq!((stats.entries, stats.bytes, stats.pending, stats.errors), (30, 170, 0, 0));
    assert_eq!(found(&world, "s", &near(20.0, 40)), before.0);
    assert_eq!(memory.export("s", None, 99).expect("lines"), before.1);
    assert_eq!(memory.count(Some("s")).expect("a count"), 40);
    assert_eq!(text(&memory.get(ids[0], None).expect("no error").expect("it is there")), "tea 0");
    assert_eq!(text(&memory.recent("s", 40).expect("entries")[39]), "tea 0");
    // By words only what is here is found.
    let words = Query { text: Some("tea".into()), top_k: 99, ..Query::default() };
    assert_eq!(found(&world, "s", &words).len(), 10);
    let over = |tiers| memory.retrieve_over("s", &near(0.0, 99), tiers, &[]).expect("hits").hits;
    assert_eq!(
        (over(Tiers::Hot).len(), over(Tiers::Cold).len(), over(Tiers::All).len()),
        (10, 30, 40)
    );
    assert_eq!(over(Tiers::Cold)[0].vector_rank, Some(1));
    // Reviews need no tier, and say who is to come back.
    world.now.fetch_add(5 * DAY, Ordering::Relaxed);
    world.tier.is_down.store(true, Ordering::Relaxed);
    memory.review(&ids[..2], Some("s"), Grade::Good).expect("a review");
    memory.review(&ids[2..3], Some("s"), Grade::Again).expect("a review");
    world.tier.is_down.store(false, Ordering::Relaxed);
    assert_eq!(memory.bring_back("s", &ids[..3]).expect("back"), 3);
    assert_eq!(memory.bring_back("s", &ids[..3]).expect("nothing to do"), 0);
    let back = memory.get(ids[0], None).expect("no error").expect("it is there");
    assert!(back.entry.away.is_none() && back.entry.stability > 2.4);
    assert_eq!(found(&world, "s", &near(20.0, 40)), before.0);
    assert_eq!(memory.settle_all().expect("a settling"), 3, "their copies go");
    assert_eq!(world.tier.count("s").expect("a count"), 27);
    // Again, and once more: nothing is in two places.
    for left in [13, 0] {
        let moved = memory.move_cold("s", &EVERYTHING, 99, false).expect("a move");
        assert_eq!(moved.ids.len(), left);
        assert_eq!(found(&world, "s", &near(20.0, 99)), before.0);
    }
    assert_eq!(memory.delete_session("s").expect("a delete"), 40);
    memory.settle_all().expect("a settling");
    assert_eq!(world.tier.count("s").expect("a count"), 0);
}

#[test]
fn a_policy_names_what_is_cold() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = open(dir.path());
    let memory = &world.memory;
    let old = memory.memorize("s", (0..5).map(|n| fact(&format!("old {n}"), &ray(1.0))).collect());
    let old = old.expect("it memorizes");
    world.now.fetch_add(40 * DAY, Ordering::Relaxed);
    memory.review(&old[..1], None, Grade::Good).expect("a review");
    let mut others = vec![fact("new", &ray(2.0)), fact(&"x".repeat(2_000), &ray(3.0))];
    others.push(Draft { vector: None, ..fact("without a vector", &[]) });
    others.push(Draft { pinned: true, ..fact("pinned", &ray(4.0)) });
    let others = memory.memorize("s", others).expect("it memorizes");
    let would = |policy: Policy| memory.move_cold("s", &policy, 99, true).expect("a dry run");
    let none = Policy::default();
    assert_eq!(would(none), Moved::default());
    let weak = would(Policy { below: Some(0.9), ..none });
    assert_eq!(weak.ids, old[1..]);
    assert_eq!(would(Policy { unused_for: Some(30 * DAY), ..none }).ids, old[1..]);
    assert_eq!(would(Policy { keep_max: Some(7), ..none }).ids, old[1..3]);
    assert_eq!(would(Policy { keep_max: Some(9), ..none }).ids, []);
    let all = would(EVERYTHING);
    assert!(all.refused == 1 && !all.ids.contains(&others[1]), "too large for the tier");
    assert!(!all.ids.contains(&others[2]) && !all.ids.contains(&others[3]), "{all:?}");
    let wrong = memory.move_cold("s", &Policy { below: Some(2.0), ..none }, 9, true);
    assert_eq!(code(wrong), "memory.threshold");
}

#[test]
fn filters_and_strength_are_those_of_the_stub() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = open(dir.path());
    let memory = &world.memory;
    let drafts = (0..200).map(|n| {
        let metadata = json!({"n": n, "kind": if n % 50 == 49 { "rare" } else { "usual" }});
        Draft {
            metadata: Some(metadata.to_string()),
            ..fact(&format!("f {n}"), &ray(n as f32 / 3.0))
        }
    });
    let ids = memory.memorize("s", drafts.collect()).expect("it memorizes");
    memory.move_cold("s", &EVERYTHING, 999, false).expect("a move");
    let with = |filter: &str| Query {
        filter: MetadataFilter::parse(filter).expect("a filter"),
        ..near(0.0, 3)
    };
    assert_eq!(found(&world, "s", &with(r#"{"kind": "rare"}"#)), ["f 49", "f 99", "f 149"]);
    let before = world.tier.asked.load(Ordering::Relaxed);
    // No tag says so: the tier is asked for more and more.
    assert_eq!(found(&world, "s", &with(r#"{"n": {"$gte": 190}}"#)), ["f 190", "f 191", "f 192"]);
    assert!(world.tier.asked.load(Ordering::Relaxed) > before + 3);
    assert_eq!(found(&world, "s", &with(r#"{"n": 7.0}"#)), ["f 7"]);
    world.now.fetch_add(30 * DAY, Ordering::Relaxed);
    memory.review(&ids[150..], None, Grade::Good).expect("a review");
    let strong = Query { min_strength: Some(0.99), ..near(0.0, 2) };
    assert_eq!(found(&world, "s", &strong), ["f 150", "f 151"]);
    let without = Query { without: ids[..2].to_vec(), ..near(0.0, 2) };
    assert_eq!(found(&world, "s", &without), ["f 2", "f 3"]);
}

#[test]
fn a_tier_that_is_down_costs_its_own_hits_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = open(dir.path());
    let memory = &world.memory;
    let ids =
        memory.memorize("s", (0..9).map(|n| fact(&format!("f {n}"), &ray(n as f32))).collect());
    let ids = ids.expect("it memorizes");
    memory.move_cold("s", &EVERYTHING, 5, false).expect("a move");
    world.tier.is_down.store(true, Ordering::Relaxed);
    let over = |tiers| memory.retrieve_over("s", &near(0.0, 9), tiers, &[]);
    let partly = over(Tiers::All).expect("what is here");
    assert_eq!((partly.hits.len(), partly.warning.expect("a warning").code), (4, "memory.tier"));
    let asked = world.tier.asked.load(Ordering::Relaxed);
    assert!(over(Tiers::All).expect("hits").warning.is_some());
    assert_eq!(world.tier.asked.load(Ordering::Relaxed), asked, "it rests for a while");
    assert_eq!(code(over(Tiers::Cold)), "memory.tier");
    assert!(over(Tiers::Hot).expect("hits").warning.is_none());
    assert_eq!(code(memory.get(ids[0], None)), "memory.tier");
    assert_eq!(code(memory.move_cold("s", &EVERYTHING, 9, false)), "memory.tier");
    assert_eq!(memory.retrieve("s", &near(0.0, 9)).expect("hits").len(), 4);
    // Forgetting is done at once; the tier hears of it when it can.
    let gone = memory.forget("s", &Forget::Ids(vec![ids[0], ids[8]]), 9).expect("forgotten");
    assert_eq!((gone.ids.len(), memory.count(Some("s")).expect("a count")), (2, 7));
    assert_eq!(code(memory.settle_all()), "memory.tier");
    let stats = memory.cold_stats().expect("stats").expect("a tier");
    assert!(stats.pending >= 1 && stats.errors > 3 && stats.entries == 4, "{stats:?}");
    assert_eq!(world.tier.count("s").expect("a count"), 5);
    world.tier.is_down.store(false, Ordering::Relaxed);
    memory.settle_all().expect("a settling");
    let stats = memory.cold_stats().expect("stats").expect("a tier");
    assert_eq!((stats.pending, world.tier.count("s").expect("a count")), (0, 4));
    assert_eq!(over(Tiers::Cold).expect("hits").hits.len(), 4, "asking it alone wakes it up");
    assert!(over(Tiers::All).expect("hits").warning.is_none());
}

#[test]
fn a_memory_that_was_replaced_on_the_way_stays_here() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = open(dir.path());
    let ids = world.memory.memorize("s", vec![fact("old", &ray(0.0))]).expect("it memorizes");
    let (lines, _) = world.memory.export("s", None, 9).expect("lines");
    let line = lines[0].replace("old", "new");
    let memory = Arc::clone(&world.memory);
    *world.tier.on_put.lock().expect("sound") = Some(Box::new(move || {
        memory.import(std::iter::once(line.as_str()), None).expect("an import");
    }));
    world.memory.move_cold("s", &EVERYTHING, 9, false).expect("a move");
    let it = world.memory.get(ids[0], None).expect("no error").expect("it is there");
    assert_eq!((text(&it), it.entry.away.is_none()), ("new".into(), true));
    assert_eq!(found(&world, "s", &near(0.0, 9)), ["new"]);
    assert_eq!(world.memory.settle_all().expect("a settling"), 1);
    assert_eq!(world.tier.count("s").expect("a count"), 0);
    // And one that lies in the tier is replaced here.
    world.memory.move_cold("s", &EVERYTHING, 9, false).expect("a move");
    let (lines, _) = world.memory.export("s", None, 9).expect("lines");
    world.memory.import(lines.iter().map(String::as_str), None).expect("an import");
    assert_eq!(found(&world, "s", &near(0.0, 9)), ["new"]);
    world.memory.settle_all().expect("a settling");
    assert_eq!(world.tier.count("s").expect("a count"), 0);
}

#[test]
fn without_its_tier_a_memory_is_known_and_not_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = open(dir.path());
    let ids = world.memory.memorize("s", vec![fact("a", &ray(0.0)), fact("b", &ray(9.0))]);
    let ids = ids.expect("it memorizes");
    world.memory.move_cold("s", &EVERYTHING, 1, false).expect("a move");
    drop(world);
    let world = open_as(dir.path(), "other", None);
    let memory = &world.memory;
    let refused = memory.get(ids[0], None).expect_err("a refusal");
    assert!(refused.message.contains("`cold`"), "{}", refused.message);
    let partly = memory.retrieve_over("s", &near(0.0, 9), Tiers::All, &[]).expect("hits");
    assert!(partly.hits.len() == 1 && partly.warning.is_some());
    assert_eq!(code(memory.bring_back("s", &ids)), "memory.tier");
    assert_eq!(memory.settle_all().expect("not its business"), 0);
    memory.forget("s", &Forget::Ids(vec![ids[0]]), 9).expect("forgotten");
    drop(world);
    let world = open(dir.path());
    assert_eq!(world.memory.settle_all().expect("a settling"), 1);
    assert_eq!(world.tier.count("s").expect("a count"), 0);
}

#[test]
fn the_keeper_deletes_and_sweeps_by_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = open_as(dir.path(), "cold", Some(Policy { below: Some(0.9), ..Policy::default() }));
    let next = |wanted: &str| while world.news.recv().expect("it goes on") != wanted {};
    let ids = world.memory.memorize("s", vec![fact("a", &ray(0.0)), fact("b", &ray(9.0))]);
    let ids = ids.expect("it memorizes");
    Memory::start_cold(&world.memory).expect("a thread");
    world.now.fetch_add(60 * DAY, Ordering::Relaxed);
    next("put");
    next("fetch");
    // Comes after the move that is under way.
    world.memory.settle("s").expect("a settling");
    // It is used, and comes back; then its copy goes.
    world.memory.review(&ids[..1], None, Grade::Good).expect("a review");
    next("delete");
    world.memory.delete_session("s").expect("a delete");
    next("delete_session");
    world.memory.stop_cold();
    assert_eq!(world.tier.count("s").expect("a count"), 0);
}
