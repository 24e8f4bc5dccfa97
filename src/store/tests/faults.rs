//! Refusals of a store on disk: full, failing, locked, too new; and that it heals.

use std::fs;
use std::sync::Arc;

use super::*;
use crate::store::DiskStore;
use crate::store::disk::Faults;

struct Bench {
    dir: tempfile::TempDir,
    faults: Arc<Faults>,
    store: DiskStore,
    author: Author,
}

fn bench(options: &Options) -> Bench {
    let dir = tempfile::tempdir().expect("a directory");
    let faults = Arc::new(Faults::default());
    let store = DiskStore::open_faulty(dir.path(), options, &faults).expect("a store");
    Bench { dir, faults, store, author: Author::new(1) }
}

#[test]
fn a_full_disk_refuses_appends_and_heals() {
    let Bench { dir, faults, store, mut author } = bench(&tiny());
    let mut all = Vec::new();
    let mut refused = 0;
    for (at, batch) in story(&mut author, 1..7).into_iter().enumerate() {
        if at % 2 == 1 {
            faults.fill_disk();
            for _ in 0..2 {
                let refusal = store.append(&batch).expect_err("the disk is full");
                assert_eq!(refusal.code, "store.full");
                assert!(refusal.message.contains("journal"), "{refusal}");
                assert!(refusal.help.contains("free space"));
                refused += 1;
            }
            faults.heal();
        }
        store.append(&batch).expect("the same records again");
        store.sync().expect("a sync");
        all.extend(batch);
        assert_same(&dump(&store), &Oracle(&all).dump(), "after healing");
    }
    assert!(refused > 10);
    drop(store);
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    assert_same(&dump(&store), &Oracle(&all).dump(), "after reopening");
}

#[test]
fn a_checkpoint_that_fails_loses_nothing_and_heals() {
    let Bench { dir: _dir, faults, store, mut author } = bench(&tiny());
    let mut all = Vec::new();
    faults.fail_commits();
    for batch in story(&mut author, 1..5) {
        store.append(&batch).expect("the journal has space");
        store.sync().expect("a sync");
        all.extend(batch);
        assert_eq!(store.checkpoint().expect_err("LMDB has none").code, "store.full");
    }
    assert_same(&dump(&store), &Oracle(&all).dump(), "read from the tail");
    faults.heal();
    store.checkpoint().expect("there is space again");
    assert_same(&dump(&store), &Oracle(&all).dump(), "read from LMDB");
}

/// After a failed sync the system may believe that pages are written which are not.
#[test]
fn a_failed_sync_is_never_taken_for_done() {
    let Bench { dir, faults, store, mut author } = bench(&tiny());
    let first = author.submit(run_id(1), "flow", Payload::bytes(vec![1; 64]));
    store.append(std::slice::from_ref(&first)).expect("an append");
    faults.fail_syncs();
    assert_eq!(store.sync().expect_err("it fails").code, "store.io");
    // The system drops what it could not write and forgets that it was dirty.
    faults.power_cut(|| false);
    faults.heal();
    store.sync().expect("a sync that writes again");
    faults.crash();
    drop(store);
    faults.power_cut(|| false);
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    assert_eq!(count(&store, &[run_id(1)]), 1);
}

#[test]
fn the_map_grows_when_it_is_full_and_refuses_at_its_end() {
    let page = 1 << 16;
    let small = Options { map_bytes: 4 * page, map_bytes_max: 32 * page, ..tiny() };
    let Bench { dir: _dir, faults: _, store, mut author } = bench(&small);
    let mut all = Vec::new();
    let mut refusal = None;
    for n in 1..200 {
        // Every run brings a payload of its own.
        let input =
            Payload::bytes((0..50_000u32).map(|at| (at * n) as u8 | 1).collect::<Vec<u8>>());
        let record = author.submit(run_id(u64::from(n)), "flow", input);
        store.append(std::slice::from_ref(&record)).expect("an append");
        all.push(record);
        if let Err(e) = store.checkpoint() {
            refusal = Some(e);
            break;
        }
    }
    assert_eq!(refusal.expect("2 MiB do not hold 10").code, "store.full");
    assert!(all.len() > 10, "it grew first: {}", all.len());
    assert_same(&dump(&store), &Oracle(&all).dump(), "nothing is lost");
}

#[test]
fn owners_wait_for_checkpoints_and_hear_why_there_are_none() {
    let Bench { dir: _dir, faults, store, mut author } =
        bench(&Options { background: true, ..tiny() });
    faults.fail_commits();
    let batches = story(&mut author, 1..41);
    let refused = batches.iter().find_map(|batch| store.append(batch).err().map(|e| (batch, e)));
    let (batch, refusal) = refused.expect("the tail is bounded");
    assert_eq!(refusal.code, "store.full");
    faults.heal();
    // The thread behind the line tries again when the next append rings for it.
    while store.append(batch).is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn a_second_opener_is_told_who_holds_the_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    let refusal = DiskStore::open(dir.path(), &tiny()).err().expect("a refusal");
    assert_eq!(refusal.code, "store.locked");
    assert!(refusal.message.contains(&format!("pid {}", std::process::id())), "{refusal}");
    assert!(refusal.message.contains("since 20"), "{refusal}");
    store.close().expect("a close");
    DiskStore::open(dir.path(), &tiny()).expect("the closed one has given the lock back");
}

#[test]
fn a_store_where_none_can_be_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    fs::write(&path, "not a directory").expect("a file");
    let refusal = DiskStore::open(&path, &tiny()).err().expect("a refusal");
    assert_eq!(refusal.code, "store.io");
    assert!(refusal.message.contains("file"), "{refusal}");
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    DiskStore::open(dir.path(), &tiny()).expect("a store").set_format(2).expect("a change");
    let data = || fs::read(dir.path().join("lmdb/data.mdb")).expect("a file");
    let before = data();
    let refusal = DiskStore::open(dir.path(), &tiny()).err().expect("a refusal");
    assert_eq!(refusal.code, "store.too_new");
    assert!(refusal.message.contains("format 2"), "{refusal}");
    assert!(before == data(), "nothing was changed");
}

#[test]
fn records_that_cannot_be_written_are_refused_whole() {
    #[derive(Debug)]
    struct Live;
    impl crate::model::Opaque for Live {
        fn as_any(&self) -> &dyn std::any::Any {
            self
        }
    }
    let Bench { dir: _dir, faults: _, store, mut author } = bench(&tiny());
    let good = author.submit(run_id(1), "flow", Payload::bytes(vec![1]));
    let bad = author.submit(run_id(2), "flow", Payload::Object(Arc::new(Live)));
    let refusal = store.append(&[good.clone(), bad]).expect_err("a live object");
    assert_eq!(refusal.code, "store.unwritable");
    assert_eq!(count(&store, &[run_id(1), run_id(2)]), 0);
    store.append(std::slice::from_ref(&good)).expect("an append");
    let refusal = store.append(&[good]).expect_err("a number that was used");
    assert_eq!(refusal.code, "store.unwritable");
    assert_eq!(count(&store, &[run_id(1)]), 1);
}
