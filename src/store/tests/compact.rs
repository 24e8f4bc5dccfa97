//! Compacting: nothing that counts is lost, nothing that was deleted is left, whatever step is the last.

use std::path::Path;

use super::memory::tale;
use super::oracle::{dump, held, put};
use super::*;
use crate::model::{Content, Entry, EntryId, Memorized, MemoryOp, NO_RUN};
use crate::store::DiskStore;
use crate::store::disk::Faults;

const SECRET: &str = "the gate code is 4711-SECRET";

fn secret(id: u128) -> MemoryOp {
    let MemoryOp::Put(Memorized { entry, vector, generation }) = put("patient zero", id) else {
        unreachable!("it puts")
    };
    let content = Content::Text(SECRET.repeat(1 + id as usize % 40));
    let metadata = Some(format!("{{\"note\":\"{SECRET}\"}}"));
    let entry = Entry { content, metadata, ..(*entry).clone() };
    MemoryOp::Put(Memorized { entry: Arc::new(entry), vector, generation })
}

/// How often a text stands in the files of a directory.
fn times(dir: &Path, needle: &str) -> usize {
    let files = std::fs::read_dir(dir).expect("a directory");
    files
        .map(|entry| {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                return times(&path, needle);
            }
            let bytes = std::fs::read(&path).expect("a file");
            bytes.windows(needle.len()).filter(|it| *it == needle.as_bytes()).count()
        })
        .sum()
}

#[test]
fn what_was_forgotten_is_gone_from_the_disk_after_compacting() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    let mut author = Author::new(store.next_seq());
    let run = run_id(1);
    store.append(&[author.submit(run, "flow", Payload::bytes(vec![1]))]).expect("an append");
    for id in 0..200 {
        let op = if id % 2 == 0 { secret(id) } else { put("kept", id) };
        // Some with a run's own records, as tasks write them.
        let of = if id % 5 == 0 { run } else { NO_RUN };
        store.append(&[author.record(of, vec![Event::Memory(vec![op])])]).expect("an append");
        if id % 20 == 0 {
            store.checkpoint().expect("a checkpoint");
        }
    }
    let ids = (0..100).map(|n| EntryId::from_u128(2 * n)).collect();
    let gone = [
        MemoryOp::Forget { session: "patient zero".into(), ids },
        MemoryOp::DeleteSession { session: "patient zero".into() },
    ];
    store.append(&[author.record(NO_RUN, vec![Event::Memory(gone.into())])]).expect("an append");
    let wanted = dump(&held(&store));
    assert!(wanted.contains("kept") && !wanted.contains(SECRET));
    store.close().expect("a close");
    assert!(times(dir.path(), SECRET) > 100, "deleting alone leaves bytes behind");
    let (before, after) = DiskStore::compact(dir.path(), &tiny()).expect("it compacts");
    assert!(after < before, "{before} {after}");
    assert_eq!(times(dir.path(), SECRET), 0);
    assert_eq!(times(dir.path(), "patient zero"), 0, "the name of the session, too");
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    assert_eq!(dump(&held(&store)), wanted);
    assert!(store.load(run).expect("no error").is_some());
    assert!(store.summary(run, u64::MAX).expect("no error").is_some());
    store
        .append(&[author.record(NO_RUN, vec![Event::Memory(vec![secret(7)])])])
        .expect("an append");
    assert_eq!(store.memories("patient zero").expect("memories").len(), 1, "it goes on");
}

#[test]
fn a_store_that_is_open_or_not_there_is_not_compacted() {
    let dir = tempfile::tempdir().expect("a directory");
    let refused = DiskStore::compact(dir.path(), &tiny()).expect_err("nothing is there");
    assert_eq!(refused.code, "store.missing");
    assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0);
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    let refused = DiskStore::compact(dir.path(), &tiny()).expect_err("it is open");
    assert_eq!(refused.code, "store.locked");
    store.close().expect("a close");
    DiskStore::compact(dir.path(), &tiny()).expect("it compacts");
}

/// The process dies at every single operation in turn.
#[test]
fn a_crash_at_any_step_of_compacting_loses_nothing() {
    let batches = tale(3, 30);
    for at in 0.. {
        let dir = tempfile::tempdir().expect("a directory");
        let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
        for batch in &batches {
            store.append(batch).expect("an append");
        }
        let wanted = dump(&held(&store));
        store.sync().expect("it is durable");
        // Without `close`, as after a crash: part of it is in the journal alone.
        drop(store);
        let faults = Arc::new(Faults::default());
        faults.crash_at(at);
        let done = DiskStore::compact_faulty(dir.path(), &tiny(), &faults).is_ok();
        let store = DiskStore::open(dir.path(), &tiny()).expect("it opens after a crash");
        assert_eq!(dump(&held(&store)), wanted, "dead at operation {at}");
        store.close().expect("a close");
        if done {
            return;
        }
        DiskStore::compact(dir.path(), &tiny()).expect("the next one does the rest");
        let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
        assert_eq!(dump(&held(&store)), wanted, "dead at operation {at}, and again");
    }
}
