//! How fast it is. Nothing is asserted: `cargo test --release --lib store::tests::measure -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use super::*;
use crate::store::{DiskStore, RamStore};

const RECORDS: usize = 256_000;
const GROUP: usize = 64;

/// Records of about 300 bytes: an outcome with a short result.
fn records(author: &mut Author, n: usize) -> Vec<Record> {
    let output = Payload::bytes(vec![1; 180]);
    let outcome = |at: usize| Event::Completed {
        span: Span::one(1, at as u32),
        attempt: 1,
        outputs: vec![output.clone()],
    };
    (0..n).map(|at| author.record(run_id(1 + at as u64 % 500), vec![outcome(at)])).collect()
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:?}, p99 {:?}, max {:?}", at(0.5), at(0.99), at(1.0))
}

#[test]
#[ignore = "a measurement"]
fn appends_in_groups_with_sync() {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
    let store = DiskStore::open(dir.path(), &Options::default()).expect("a store");
    let mut author = Author::new(store.next_seq());
    for n in 1..=500 {
        store.append(&[author.submit(run_id(n), "flow", Payload::bytes(vec![1]))]).expect("it");
    }
    store.sync().expect("a sync");
    let all = records(&mut author, RECORDS);
    let before = store.journal_bytes();
    let (mut appends, mut times) = (Duration::ZERO, Vec::new());
    let start = Instant::now();
    for group in all.chunks(GROUP) {
        let begin = Instant::now();
        store.append(group).expect("an append");
        appends += begin.elapsed();
        store.sync().expect("a sync");
        times.push(begin.elapsed());
    }
    let total = start.elapsed();
    let bytes = store.journal_bytes() - before;
    println!("record: {} bytes as a frame", bytes / RECORDS as u64);
    println!(
        "append + sync: {:.0} records/s, {}",
        RECORDS as f64 / total.as_secs_f64(),
        spread(times)
    );
    println!("append alone: {:?} a record", appends / RECORDS as u32);
    raw(dir.path(), bytes as usize);
    let begin = Instant::now();
    store.close().expect("a close");
    println!("close with the rest of the checkpoint: {:?}", begin.elapsed());
}

/// The same bytes in the same groups on a zeroed file: what the disk itself allows.
fn raw(dir: &std::path::Path, bytes: usize) {
    use std::io::{Seek as _, Write as _};
    let mut file = std::fs::File::create(dir.join("raw")).expect("a file");
    file.write_all(&vec![0; bytes]).and_then(|()| file.sync_all()).expect("zeros");
    file.rewind().expect("a rewind");
    let group = vec![7; bytes / (RECORDS / GROUP)];
    let mut times = Vec::new();
    let start = Instant::now();
    for _ in 0..RECORDS / GROUP {
        let begin = Instant::now();
        file.write_all(&group).and_then(|()| file.sync_data()).expect("a sync");
        times.push(begin.elapsed());
    }
    let rate = RECORDS as f64 / start.elapsed().as_secs_f64();
    println!("raw write + fdatasync: {rate:.0} records/s, {}", spread(times));
}

#[test]
#[ignore = "a measurement"]
fn checkpoints_and_loads() {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
    let options = Options { background: false, ..Options::default() };
    let store = DiskStore::open(dir.path(), &options).expect("a store");
    let mut author = Author::new(store.next_seq());
    for n in 1..=500 {
        store.append(&[author.submit(run_id(n), "flow", Payload::bytes(vec![1]))]).expect("it");
    }
    for group in records(&mut author, RECORDS).chunks(GROUP) {
        store.append(group).expect("an append");
    }
    let load = |what: &str| {
        let begin = Instant::now();
        let records = store.load(run_id(3)).expect("no error").expect("it").len();
        println!("load of {records} records from {what}: {:?}", begin.elapsed());
    };
    load("the tail");
    let begin = Instant::now();
    store.checkpoint().expect("a checkpoint");
    let took = begin.elapsed();
    println!("checkpoint: {:.0} records/s ({took:?})", RECORDS as f64 / took.as_secs_f64());
    load("LMDB");
    for group in records(&mut author, RECORDS).chunks(GROUP) {
        store.append(group).expect("an append");
    }
    drop(store);
    let begin = Instant::now();
    let store = DiskStore::open(dir.path(), &options).expect("a store");
    println!("recovery of {RECORDS} records: {:?}", begin.elapsed());
    drop(store);
    let begin = Instant::now();
    drop(DiskStore::open(dir.path(), &options).expect("a store"));
    println!("opening with nothing to recover: {:?}", begin.elapsed());
}

#[test]
#[ignore = "a measurement"]
fn appends_in_ram() {
    let store = RamStore::default();
    let mut author = Author::new(store.next_seq());
    let span = Span::new(1, 0, 64);
    let all: Vec<_> = (0..RECORDS)
        .map(|at| author.record(run_id(at as u64 % 500), vec![Event::Started { span, attempt: 1 }]))
        .collect();
    let begin = Instant::now();
    for group in all.chunks(GROUP) {
        store.append(group).expect("an append");
    }
    println!("append in RAM: {:?} a record", begin.elapsed() / RECORDS as u32);
}
