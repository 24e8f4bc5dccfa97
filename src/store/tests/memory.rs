//! What is memorized: the same in every store, after every crash, in every session apart.

use std::io::{Read as _, Write as _};

use super::oracle::{dump, fold, fold_copies, held, held_copies, put};
use super::*;
use crate::model::{
    Content, EntryId, Forgetting, Grade, MemoryOp, NO_RUN, Result, Vector, VectorModel,
};
use crate::store::disk::Faults;
use crate::store::{DiskStore, RamStore};

#[test]
fn what_an_older_build_remembered_is_outlined_when_the_store_is_opened() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    let mut author = Author::new(store.next_seq());
    let mut all = Vec::new();
    for n in 0..30u128 {
        // More than are outlined at once.
        let ops = (0..100).map(|m| put(["a", "b"][n as usize % 2], n * 100 + m)).collect();
        all.push(author.record(NO_RUN, vec![Event::Memory(ops)]));
        store.append(&all[all.len() - 1..]).expect("an append");
        store.checkpoint().expect("a checkpoint");
    }
    store.drop_outlines().expect("they are gone");
    store.close().expect("a close");
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    assert_same(&dump(&held(&store)), &dump(&fold(&all)), "outlined anew");
}

/// Looking at entries one by one maps the file bit by bit; now and then the map is replaced.
#[test]
fn whoever_looks_for_long_sees_the_same_and_keeps_little_mapped() {
    const ENTRIES: u128 = 400;
    let dir = tempfile::tempdir().expect("a directory");
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    let mut author = Author::new(store.next_seq());
    let ops: Vec<MemoryOp> = (0..ENTRIES).map(|n| put("a", n)).collect();
    let mut append = |ops| {
        let record = author.record(NO_RUN, vec![Event::Memory(ops)]);
        store.append(&[record]).expect("an append");
        store.checkpoint().expect("a checkpoint");
    };
    append(ops);
    let wanted = store.memories("a").expect("a session");
    let look_at_all = || {
        let mut found = Vec::new();
        store
            .view("a", &mut |view| {
                found = wanted.keys().map(|id| view.entry(*id)).collect::<Result<_>>()?;
                Ok(())
            })
            .expect("a view");
        assert!(found.into_iter().eq(wanted.values().cloned().map(Some)));
    };
    std::thread::scope(|scope| {
        // Several come to the bound at once.
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| look_at_all()));
        }
        // Changes of another session, each with a checkpoint, go on meanwhile.
        (0..20).for_each(|n| append(vec![put("b", n)]));
    });
    (0..3).for_each(|_| look_at_all());
    assert_eq!(store.mapped(), 0, "who looked last let go of it");
}

fn kept(store: &DiskStore) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    store.read_index("a").expect("its own").map(|mut it| it.read_to_end(&mut bytes))?.expect("it");
    Some(bytes)
}

fn keep(store: &DiskStore, bytes: &[u8]) -> Result<()> {
    let mut file = store.new_index("a")?.expect("a disk keeps them");
    // What cannot be written cannot be kept either.
    let _ = bytes.chunks(100_000).try_for_each(|part| file.write_all(part));
    file.keep()
}

/// The process dies at every single step of writing an index, and the power fails.
#[test]
fn a_crash_leaves_the_index_of_before_or_the_new_one() {
    let (old, new) = (vec![1; 900_000], vec![2; 900_000]);
    for at in 0.. {
        let dir = tempfile::tempdir().expect("a directory");
        let faults = Arc::new(Faults::default());
        let store = DiskStore::open_faulty(dir.path(), &tiny(), &faults).expect("a store");
        let mut author = Author::new(store.next_seq());
        let event = Event::Memory(vec![put("a", 1)]);
        store.append(&[author.record(NO_RUN, vec![event])]).expect("an append");
        store.checkpoint().expect("a checkpoint");
        assert_eq!(kept(&store), None);
        keep(&store, &old).expect("it is kept");
        faults.crash_at(faults.count() + at);
        let done = keep(&store, &new).is_ok();
        drop(store);
        faults.power_cut(|| false);
        let store = DiskStore::open(dir.path(), &tiny()).expect("it opens after a crash");
        let found = kept(&store).expect("one of both");
        assert!(found == new || (found == old && !done), "dead at operation {at}");
        if done {
            assert!(at > 4, "there were steps to die at: {at}");
            return;
        }
    }
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
}

const SESSIONS: [&str; 6] = ["a", "a:b", "a\0", "ab", "ä", "b"];

/// An operation on one of a few sessions; ids are unique, and often of what is not there.
fn random_op(dice: &mut Dice, made: &mut Vec<(&'static str, u128)>) -> MemoryOp {
    let session = SESSIONS[dice.roll(6) as usize];
    let known = (!made.is_empty()).then(|| made[dice.roll(made.len() as u64) as usize]);
    let (owner, id) = known.unwrap_or((session, 1));
    // Sometimes the session that it does not belong to.
    let of = if dice.roll(4) == 0 { session } else { owner };
    let id = EntryId::from_u128(id);
    match dice.roll(22) {
        0 => MemoryOp::Forget { session: of.into(), ids: vec![id, EntryId::from_u128(9)] },
        1 => MemoryOp::Vector {
            session: of.into(),
            id,
            vector: Vector::new(&[1.0, 2.0, 3.0]),
            generation: 0,
        },
        2 | 3 => MemoryOp::Review {
            session: of.into(),
            id,
            grade: Grade::Good,
            at: Timestamp(2_000 + dice.roll(100)),
            stability: 1.0 + dice.roll(100) as f64,
            difficulty: 4.0,
        },
        4 if dice.roll(4) == 0 => MemoryOp::DeleteSession { session: session.into() },
        5 => put(owner, id.as_u128()),
        6 | 7 => {
            let MemoryOp::Put(it) = put(owner, id.as_u128()) else { unreachable!() };
            let moved = vec![(id, it.fingerprint()), (EntryId::from_u128(9), 1)];
            MemoryOp::Move { session: of.into(), tier: "cold".into(), moved }
        }
        8 => {
            let (content, vector) = (Content::Text("back".into()), Vector::new(&[0.0, 1.0, 0.0]));
            MemoryOp::Back { session: of.into(), id, content, vector, generation: 0 }
        }
        9 => MemoryOp::Copy { session: of.into(), ids: vec![id], tier: "cold".into() },
        10 => MemoryOp::Gone { session: of.into(), ids: vec![id, EntryId::from_u128(9)] },
        _ => {
            let id = made.len() as u128 + 100;
            made.push((session, id));
            put(session, id)
        }
    }
}

/// Batches of records of no run, some with records of a run between them.
pub(super) fn tale(seed: u64, batches: usize) -> Vec<Vec<Record>> {
    let (mut dice, mut made, mut author) = (Dice(seed), Vec::new(), Author::new(1));
    // A store goes over to another model only while nothing of it lies in a cold tier.
    let (mut model, goes_over) = (0, seed.is_multiple_of(2));
    let run = run_id(1);
    let mut all = vec![vec![author.submit(run, "flow", Payload::bytes(vec![1]))]];
    for _ in 0..batches {
        let count = 1 + dice.roll(4);
        let mut ops: Vec<_> = (0..count).map(|_| random_op(&mut dice, &mut made)).collect();
        let is_cold = |op: &MemoryOp| {
            matches!(op, MemoryOp::Move { .. } | MemoryOp::Back { .. } | MemoryOp::Copy { .. })
        };
        ops.retain(|op| !goes_over || !is_cold(op));
        for op in &mut ops {
            // Some were made by the model before.
            let behind = u32::from(dice.roll(4) == 0).min(model);
            match op {
                MemoryOp::Put(it) if it.vector.is_some() => it.generation = model - behind,
                MemoryOp::Vector { generation, .. } => *generation = model - behind,
                _ => {}
            }
        }
        if goes_over && dice.roll(12) == 0 {
            model += 1;
            let model = VectorModel { name: None, dimension: 3, generation: model };
            ops.push(MemoryOp::Model(model));
        }
        let of = if dice.roll(3) == 0 { run } else { NO_RUN };
        let mut batch = vec![author.record(of, vec![Event::Memory(ops)])];
        if dice.roll(3) == 0 {
            batch.push(author.record(run, vec![Event::Resolved { node: 0, key: None }]));
        }
        all.push(batch);
    }
    all
}

#[test]
fn every_store_remembers_the_same() {
    for seed in 1..=12 {
        let batches = tale(seed, 60);
        let (dir, ram) = (tempfile::tempdir().expect("a directory"), RamStore::default());
        let mut disk = DiskStore::open(dir.path(), &tiny()).expect("a store");
        let mut dice = Dice(seed * 77);
        let mut all = Vec::new();
        for (at, batch) in batches.iter().enumerate() {
            ram.append(batch).expect("an append");
            disk.append(batch).expect("an append");
            all.extend(batch.iter().cloned());
            match dice.roll(8) {
                0 => disk.checkpoint().expect("a checkpoint"),
                1 => {
                    drop(disk);
                    disk = DiskStore::open(dir.path(), &tiny()).expect("a store");
                }
                2 => {
                    disk.close().expect("a close");
                    disk = DiskStore::open(dir.path(), &tiny()).expect("a store");
                }
                _ => {}
            }
            let wanted = dump(&fold(&all));
            assert_same(&dump(&held(&ram)), &wanted, &format!("RAM, seed {seed}, batch {at}"));
            assert_same(&dump(&held(&disk)), &wanted, &format!("disk, seed {seed}, batch {at}"));
            assert_eq!(held_copies(&ram), fold_copies(&all), "RAM, seed {seed}, batch {at}");
            assert_eq!(held_copies(&disk), fold_copies(&all), "disk, seed {seed}, batch {at}");
        }
        let whole = held(&disk);
        let first = disk.sessions(None, 2).expect("sessions");
        let rest = disk.sessions(Some(&first[1].0), usize::MAX).expect("sessions");
        let names: Vec<_> = first.iter().chain(&rest).map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, whole.keys().cloned().collect::<Vec<_>>(), "pages fit together");
    }
}

#[test]
fn what_belongs_to_no_run_is_no_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    let mut author = Author::new(store.next_seq());
    for id in 0..40 {
        store
            .append(&[author.record(NO_RUN, vec![Event::Memory(vec![put("a", id)])])])
            .expect("it");
        if id % 10 == 9 {
            store.checkpoint().expect("a checkpoint");
        }
    }
    let all = Filter { limit: usize::MAX, ..Filter::default() };
    assert!(store.list(&all, u64::MAX).expect("a listing").is_empty());
    assert!(store.facts(None, 0, usize::MAX).expect("facts").is_empty());
    assert!(store.load(NO_RUN).expect("no error").is_none());
    assert!(store.summary(NO_RUN, u64::MAX).expect("no error").is_none());
    assert!(store.unfinished().expect("runs").is_empty());
    assert_eq!(store.next_seq(), 1, "it takes no number");
    drop(store);
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    assert_eq!(store.memories("a").expect("memories").len(), 40);
}

#[test]
fn the_model_of_the_vectors_is_kept() {
    let model = |name: &str| VectorModel { name: Some(name.into()), dimension: 3, generation: 0 };
    let dir = tempfile::tempdir().expect("a directory");
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    let mut author = Author::new(store.next_seq());
    assert_eq!(store.vector_model().expect("no error"), None);
    for name in ["one", "two"] {
        let event = Event::Memory(vec![MemoryOp::Model(model(name))]);
        store.append(&[author.record(NO_RUN, vec![event])]).expect("an append");
        assert_eq!(store.vector_model().expect("no error"), Some(model(name)));
        store.checkpoint().expect("a checkpoint");
        assert_eq!(store.vector_model().expect("no error"), Some(model(name)));
    }
}

#[test]
fn how_a_session_forgets_is_kept_and_goes_with_it() {
    let settings =
        |scale| Some(Forgetting { parameters: vec![0.5; 21], time_scale: scale, half_life: None });
    let dir = tempfile::tempdir().expect("a directory");
    let disk = DiskStore::open(dir.path(), &tiny()).expect("a store");
    let ram = RamStore::default();
    let mut author = Author::new(disk.next_seq());
    let ops = [
        (MemoryOp::Forgetting { session: "a".into(), forgetting: settings(2.0) }, settings(2.0)),
        (put("a", 1), settings(2.0)),
        (MemoryOp::Forgetting { session: "a:b".into(), forgetting: settings(9.0) }, settings(2.0)),
        (MemoryOp::Forgetting { session: "a".into(), forgetting: settings(3.0) }, settings(3.0)),
        (MemoryOp::DeleteSession { session: "a".into() }, None),
        (MemoryOp::Forgetting { session: "a".into(), forgetting: settings(4.0) }, settings(4.0)),
        (MemoryOp::Forgetting { session: "a".into(), forgetting: None }, None),
    ];
    for (op, wanted) in ops {
        let record = author.record(NO_RUN, vec![Event::Memory(vec![op])]);
        for store in [&disk as &dyn Store, &ram] {
            store.append(std::slice::from_ref(&record)).expect("an append");
            assert_eq!(store.forgetting("a").expect("no error"), wanted);
        }
        let names = ram.set_apart().expect("names");
        assert_eq!(names.iter().any(|name| **name == *"a"), wanted.is_some());
        assert_eq!(disk.set_apart().expect("names"), names, "of the tail over the tables");
        disk.checkpoint().expect("a checkpoint");
        assert_eq!(disk.forgetting("a").expect("no error"), wanted);
        assert_eq!(disk.set_apart().expect("names"), names);
    }
    assert_eq!(disk.set_apart().expect("names"), ["a:b".into()]);
    assert_eq!(disk.forgetting("a:b").expect("no error"), settings(9.0));
}

/// The process dies at every single operation in turn.
#[test]
fn a_crash_at_any_step_forgets_nothing_that_was_synced() {
    crashes_at_any_step(5);
}

#[test]
fn a_crash_at_any_step_leaves_vectors_of_one_model() {
    crashes_at_any_step(6);
}

fn crashes_at_any_step(seed: u64) {
    let batches = tale(seed, 24);
    for at in 0.. {
        let dir = tempfile::tempdir().expect("a directory");
        let faults = Arc::new(Faults::default());
        faults.crash_at(at);
        let (mut appended, mut synced, mut done) = (0, 0, false);
        if let Ok(store) = DiskStore::open_faulty(dir.path(), &tiny(), &faults) {
            done = (|| {
                for (n, batch) in batches.iter().enumerate() {
                    appended = n + 1;
                    store.append(batch).ok()?;
                    if n % 3 != 2 {
                        store.sync().ok()?;
                        synced = appended;
                    }
                    if n % 7 == 6 {
                        store.checkpoint().ok()?;
                        synced = appended;
                    }
                }
                store.close().ok()
            })()
            .is_some();
        }
        let store = DiskStore::open(dir.path(), &tiny()).expect("it opens after a crash");
        let found = dump(&held(&store));
        let after = |n: usize| dump(&fold(&batches[..n].concat()));
        let kept = (synced..=appended).find(|n| after(*n) == found);
        assert!(kept.is_some(), "dead at operation {at}: no state between {synced} and {appended}");
        if done {
            return;
        }
    }
}
