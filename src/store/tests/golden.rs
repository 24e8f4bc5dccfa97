//! Stores written by earlier versions open for ever. Golden directories are only added to.

use std::path::{Path, PathBuf};

use super::*;
use crate::store::DiskStore;

fn golden(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/store-v{format}"))
}

/// What the golden stores hold: the first half in LMDB, the second in the journal, not closed.
fn contents() -> (Vec<Vec<Record>>, usize) {
    let mut author = Author::new(1);
    let mut batches = Vec::new();
    for (n, name) in [(1, "first"), (2, "second"), (3, "first")] {
        let run = run_id(n);
        batches.push(vec![author.submit(run, name, Payload::bytes(vec![3; 33_000]))]);
        batches.push(vec![author.record(run, vec![Event::Resolved { node: 0, key: None }])]);
        let span = Span::new(1, 0, 64);
        let outputs = vec![Payload::bytes(vec![5; 30]), Payload::bytes(vec![0, 1])];
        let completed = Event::Completed { span: Span::new(1, 0, 2), attempt: 1, outputs };
        let events = vec![Event::RunStarted, Event::Started { span, attempt: 1 }, completed];
        batches.push(vec![author.record(run, events)]);
    }
    batches.insert(3, vec![author.end(run_id(1), RunState::Completed)]);
    let mut next = 1;
    for record in batches.iter_mut().flatten() {
        record.seq = next;
        next += record.weight();
    }
    let half = 5;
    (batches, half)
}

#[cfg(all(target_pointer_width = "64", target_endian = "little"))]
#[test]
fn a_store_of_format_1_opens() {
    let dir = tempfile::tempdir().expect("a directory");
    copy(&golden(1), dir.path());
    let store = DiskStore::open(dir.path(), &tiny()).expect("an old store");
    let all: Vec<_> = contents().0.into_iter().flatten().collect();
    assert_same(&dump(&store), &Oracle(&all).dump(), "what it held");
    assert_eq!(store.epoch(), 2);
    assert_eq!(store.unfinished().expect("runs"), [run_id(2), run_id(3)]);
    // And it can be written on.
    let mut author = Author::new(store.next_seq());
    store.append(&[author.end(run_id(2), RunState::Failed)]).expect("an append");
}

/// Writes `tests/golden/store-v1`: only ever run for a new format.
#[test]
#[ignore = "writes a golden directory; run by hand for a new format"]
fn write_golden() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = DiskStore::open(dir.path(), &tiny()).expect("a store");
    let (batches, half) = contents();
    for (at, batch) in batches.iter().enumerate() {
        store.append(batch).expect("an append");
        store.sync().expect("a sync");
        if at + 1 == half {
            store.checkpoint().expect("a checkpoint");
        }
    }
    drop(store);
    let format = crate::store::disk::FORMAT;
    assert!(!golden(format).exists(), "golden directories are never written again");
    copy(dir.path(), &golden(format));
}
