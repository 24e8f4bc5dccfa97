//! What a store on disk must survive: the promise is that what was synced is there, that what is there
//! is a beginning of what was appended, and that damage to what was promised is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::model::Error;
use crate::store::DiskStore;
use crate::store::disk::Faults;

/// Appends the batches, syncing after each but every third; answers (appended, synced) in records.
fn write(store: &DiskStore, batches: &[Vec<Record>], settle_every: usize) -> (usize, usize) {
    let (mut appended, mut synced) = (0, 0);
    for (at, batch) in batches.iter().enumerate() {
        if store.append(batch).is_err() {
            return (appended + batch.len(), synced);
        }
        appended += batch.len();
        if at % 3 != 2 {
            if store.sync().is_err() {
                return (appended, synced);
            }
            synced = appended;
        }
        if at % settle_every == settle_every - 1 {
            if store.checkpoint().is_err() {
                return (appended, synced);
            }
            synced = appended;
        }
    }
    (appended, synced)
}

/// Opens what a crash left and holds it against the promise; answers how many records are there.
fn check(dir: &Path, all: &[Record], appended: usize, synced: usize, what: &str) -> usize {
    let store = DiskStore::open(dir, &tiny()).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    let kept = count(&store, &Oracle(all).runs());
    assert!(kept >= synced, "{what}: {synced} were synced, {kept} are there");
    assert!(kept <= appended, "{what}: {appended} were appended, {kept} are there");
    let oracle = Oracle(&all[..kept]);
    assert_same(&dump(&store), &oracle.dump(), what);
    let wanted = all[..kept].last().map_or(1, |last| last.seq + last.weight());
    assert_eq!(store.next_seq(), wanted, "{what}: next number");
    let live: Vec<_> = oracle
        .runs()
        .into_iter()
        .filter(|run| oracle.summary(*run).is_some_and(|line| line.ended.is_none()))
        .collect();
    assert_eq!(store.unfinished().expect("runs"), live, "{what}: unfinished");
    kept
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn tale() -> (Vec<Vec<Record>>, Vec<Record>) {
    let batches = story(&mut Author::new(1), 1..5);
    let all = batches.iter().flatten().cloned().collect();
    (batches, all)
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

#[test]
fn reopening_and_checkpoints_change_nothing() {
    let (batches, all) = tale();
    let wanted = Oracle(&all).dump();
    let dir = directory();
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    assert_eq!(store.epoch(), 1);
    write(&store, &batches, usize::MAX);
    assert_same(&dump(&store), &wanted, "before anything");
    drop(store);
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    assert_eq!(store.epoch(), 2);
    assert_same(&dump(&store), &wanted, "after a crash");
    store.checkpoint().expect("a checkpoint");
    assert_same(&dump(&store), &wanted, "after a checkpoint");
    store.close().expect("a close");
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    assert_eq!(store.epoch(), 3);
    assert_same(&dump(&store), &wanted, "after a close");
    assert_eq!(store.unfinished().expect("runs"), [run_id(2), run_id(4)]);
}

#[test]
fn a_store_that_was_closed_leaves_no_segment_to_be_read() {
    let (batches, all) = tale();
    let dir = directory();
    let unread = || DiskStore::to_be_read(dir.path()).expect("a store");
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    write(&store, &batches, 3);
    store.close().expect("a close");
    assert_eq!(unread(), 0);
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    store.close().expect("a close");
    assert_eq!(unread(), 0, "nothing was appended");
    drop(DiskStore::open(dir.path(), &tiny()).expect("a store"));
    assert_eq!(unread(), 1, "only a close knows that its segment is empty");
    check(dir.path(), &all, all.len(), all.len(), "after all that");
}

#[test]
fn loaded_runs_of_one_definition_share_it() {
    let (batches, _) = tale();
    let dir = directory();
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    write(&store, &batches, 2);
    drop(store);
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    let flow = |n| match &store.load(run_id(n)).expect("no error").expect("it")[0].events[0] {
        Event::Submitted(it) => it.workflow.clone().expect("resolved"),
        other => panic!("{other:?} comes first"),
    };
    assert!(Arc::ptr_eq(&flow(1), &flow(3)));
    assert!(!Arc::ptr_eq(&flow(1), &flow(2)));
}

/// The process dies at every single operation in turn: writes (half done), syncs, renames, commits.
#[test]
fn a_crash_at_any_step_loses_nothing_that_was_synced() {
    let (batches, all) = tale();
    let mut at = 0;
    loop {
        let dir = directory();
        let faults = Arc::new(Faults::default());
        faults.crash_at(at);
        let (mut appended, mut synced) = (0, 0);
        if let Ok(store) = DiskStore::open_faulty(dir.path(), &tiny(), &faults) {
            (appended, synced) = write(&store, &batches, 4);
            let _ = store.close();
        }
        let what = format!("dead at operation {at}");
        let kept = check(dir.path(), &all, appended, synced, &what);
        // A second opening finds the same, whatever the first had to repair.
        check(dir.path(), &all, kept, kept, &what);
        if faults.count() <= at {
            break;
        }
        at += 1;
    }
    assert!(at > 80, "only {at} operations: the story is too short to tell");
}

/// Opening again after a crash may crash too.
#[test]
fn a_crash_during_recovery_loses_nothing() {
    let (batches, all) = tale();
    let origin = directory();
    let store = DiskStore::open(origin.path(), &tiny()).expect("a store");
    let (appended, synced) = write(&store, &batches, usize::MAX);
    drop(store);
    for at in 0.. {
        let dir = directory();
        copy(origin.path(), dir.path());
        let faults = Arc::new(Faults::default());
        faults.crash_at(at);
        let opened = DiskStore::open_faulty(dir.path(), &tiny(), &faults);
        let survived = opened.is_ok();
        drop(opened);
        check(dir.path(), &all, appended, synced, &format!("dead at operation {at} of opening"));
        if survived {
            assert!(at > 5, "only {at} operations");
            break;
        }
    }
}

/// Of what was not synced, any sectors reach the disk, in any order.
#[test]
fn a_power_cut_leaves_a_beginning() {
    let (batches, all) = tale();
    for seed in 1..=60 {
        let mut dice = Dice(seed);
        let dir = directory();
        let faults = Arc::new(Faults::default());
        let store = DiskStore::open_faulty(dir.path(), &tiny(), &faults).expect("a store");
        let stop = 1 + dice.roll(batches.len() as u64) as usize;
        let (mut appended, mut synced) = (0, 0);
        for batch in &batches[..stop] {
            store.append(batch).expect("an append");
            appended += batch.len();
            if dice.roll(4) == 0 {
                store.sync().expect("a sync");
                synced = appended;
            }
        }
        faults.crash();
        drop(store);
        faults.power_cut(|| dice.roll(2) == 0);
        check(dir.path(), &all, appended, synced, &format!("power cut, seed {seed}"));
    }
}

/// One segment with everything synced after each batch, and where its frames begin.
fn one_segment(batches: &[Vec<Record>]) -> (tempfile::TempDir, PathBuf, Vec<u64>) {
    let dir = directory();
    let options = Options { segment_bytes: 1 << 20, ..tiny() };
    let store = DiskStore::open(dir.path(), &options).expect("a store");
    let mut starts = vec![0];
    for batch in batches {
        store.append(batch).expect("an append");
        store.sync().expect("a sync");
        starts.push(store.journal_bytes());
    }
    drop(store);
    let path = dir.path().join("journal/00000000.seg");
    (dir, path, starts)
}

/// Opens a copy whose journal was changed; the answer says how many records are there.
fn reopen_changed(
    origin: &Path,
    all: &[Record],
    change: impl FnOnce(&mut Vec<u8>),
    what: &str,
) -> Result<usize, Error> {
    let dir = directory();
    copy(origin, dir.path());
    let path = dir.path().join("journal/00000000.seg");
    let mut bytes = fs::read(&path).expect("a segment");
    change(&mut bytes);
    fs::write(&path, bytes).expect("a write");
    if let Err(e) = DiskStore::open(dir.path(), &tiny()) {
        assert_eq!(e.code, "store.corrupt", "{what}: {e}");
        assert!(e.message.contains("00000000.seg"), "{what}: {e}");
        assert!(e.message.contains("at offset"), "{what}: {e}");
        return Err(e);
    }
    Ok(check(dir.path(), all, all.len(), 0, what))
}

#[test]
fn a_truncated_journal_is_a_beginning_or_refused() {
    let (batches, all) = tale();
    let (dir, path, starts) = one_segment(&batches);
    let end = *starts.last().expect("an end");
    let mut cuts: Vec<u64> = starts.clone();
    let mut dice = Dice(11);
    cuts.extend((0..40).map(|_| dice.roll(end)));
    for cut in cuts {
        let what = format!("{} cut at {cut}", path.display());
        let kept = reopen_changed(dir.path(), &all, |bytes| bytes.truncate(cut as usize), &what);
        let whole = starts.iter().filter(|start| **start <= cut).count() - 1;
        let records: usize = batches[..whole].iter().map(Vec::len).sum();
        assert!(kept.expect("a tail that is gone is torn") >= records, "{what}");
    }
}

#[test]
fn damage_before_the_last_batch_is_refused_and_in_it_is_a_torn_tail() {
    let (batches, all) = tale();
    let (dir, _, starts) = one_segment(&batches);
    let [.., last, end] = starts[..] else { panic!("too short") };
    let mut dice = Dice(5);
    let mut offsets: Vec<u64> = starts.iter().flat_map(|start| [*start, start + 21]).collect();
    offsets.extend((0..60).map(|_| dice.roll(end)));
    let before_last = all.len() - batches.last().expect("one").len();
    for offset in offsets {
        let flip = |bytes: &mut Vec<u8>| bytes[offset as usize] ^= 0x10;
        let what = format!("bit flipped at {offset}");
        match reopen_changed(dir.path(), &all, flip, &what) {
            // The padding between frames carries nothing.
            Ok(kept) if kept == all.len() => {}
            Ok(kept) => {
                assert!(offset >= last, "{what}: damage went unseen");
                assert!(kept >= before_last, "{what}: more was cut than the torn batch");
            }
            Err(e) => assert!(offset < last, "{what}: a torn tail was refused: {e}"),
        }
    }
}

#[test]
fn frames_copied_to_other_places_are_no_frames() {
    let (batches, all) = tale();
    let (dir, _, starts) = one_segment(&batches);
    let end = *starts.last().expect("an end") as usize;
    for pair in starts.windows(2) {
        let (from, to) = (pair[0] as usize, pair[1] as usize);
        let double = |bytes: &mut Vec<u8>| bytes.copy_within(from..to, end);
        let kept = reopen_changed(dir.path(), &all, double, "a batch doubled at the end");
        assert_eq!(kept.expect("it is only rubbish after the end"), all.len());
        let shift = |bytes: &mut Vec<u8>| bytes.copy_within(from..end, to);
        let shifted = reopen_changed(dir.path(), &all, shift, "batches shifted");
        if to == end {
            assert_eq!(shifted.expect("rubbish after the end"), all.len());
        } else {
            // Whatever was overwritten had been promised by nothing that is still sound, or is refused.
            assert!(shifted.is_err() || shifted.is_ok_and(|kept| kept < all.len()));
        }
    }
}

#[test]
fn a_lost_segment_is_refused() {
    let (batches, _) = tale();
    let origin = directory();
    let store = DiskStore::open(origin.path(), &tiny()).expect("a store");
    write(&store, &batches, usize::MAX);
    drop(store);
    let segments = fs::read_dir(origin.path().join("journal")).expect("a directory").count();
    assert!(segments > 3, "only {segments} segments");
    for lost in 0..segments - 1 {
        let dir = directory();
        copy(origin.path(), dir.path());
        let name = format!("{lost:08}.seg");
        fs::remove_file(dir.path().join("journal").join(&name)).expect("a file");
        let refusal = DiskStore::open(dir.path(), &tiny()).err().expect("a refusal");
        assert_eq!(refusal.code, "store.corrupt");
        assert!(refusal.message.contains(&name), "{refusal}");
    }
}

/// A recycled file is full of sound frames of its earlier life.
#[test]
fn recycled_segments_never_bring_back_stale_frames() {
    let dir = directory();
    let mut author = Author::new(1);
    let mut all = Vec::new();
    for round in 0..6 {
        let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
        let batches = story(&mut author, round * 2 + 1..round * 2 + 3);
        for batch in &batches {
            store.append(batch).expect("an append");
            store.sync().expect("a sync");
            store.checkpoint().expect("a checkpoint");
            all.extend(batch.iter().cloned());
            let files = fs::read_dir(dir.path().join("journal")).expect("a directory").count();
            assert!(files <= 4, "{files} files: they are not recycled");
        }
        drop(store);
        check(dir.path(), &all, all.len(), all.len(), &format!("round {round}"));
    }
}

/// A failed append leaves sound frames behind; another one is written over their beginning.
#[test]
fn what_a_failed_append_left_never_continues_another() {
    let dir = directory();
    let faults = Arc::new(Faults::default());
    let options = Options { segment_bytes: 1 << 20, ..tiny() };
    let store = DiskStore::open_faulty(dir.path(), &options, &faults).expect("a store");
    let mut author = Author::new(1);
    let first = author.submit(run_id(1), "flow", Payload::bytes(vec![1; 64]));
    store.append(std::slice::from_ref(&first)).expect("an append");
    let seq = author.next_seq;
    let ended = |author: &mut Author, n| author.end(run_id(n), RunState::Failed);
    let abandoned: Vec<_> = (0..8).map(|_| ended(&mut author, 1)).collect();
    faults.fill_disk();
    let refusal = store.append(&abandoned).expect_err("the disk is full");
    assert_eq!(refusal.code, "store.full");
    faults.heal();
    // As long as the first that was abandoned, so that the second would be next.
    author.next_seq = seq;
    let other = ended(&mut author, 2);
    store.append(std::slice::from_ref(&other)).expect("an append");
    store.sync().expect("a sync");
    drop(store);
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    let facts = store.facts(None, 0, usize::MAX).expect("facts");
    let runs: Vec<_> = facts.iter().map(|fact| fact.run).collect();
    assert_eq!(runs, [run_id(1), run_id(2)], "{facts:?}");
}
