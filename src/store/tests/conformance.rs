//! What every store must do.

use std::sync::Arc;

use super::*;
use crate::model::Error;
use crate::store::{DiskStore, RamStore};

/// A store under test.
struct Subject {
    store: Arc<dyn Store>,
    disk: Option<Arc<DiskStore>>,
    /// Whether appends are followed by a checkpoint.
    eager: bool,
    _dir: tempfile::TempDir,
}

impl Subject {
    fn append(&self, records: &[Record]) {
        self.store.append(records).expect("an append");
        self.store.sync().expect("a sync");
        if let (Some(disk), true) = (&self.disk, self.eager) {
            disk.checkpoint().expect("a checkpoint");
        }
    }

    fn author(&self) -> Author {
        Author::new(self.store.next_seq())
    }
}

fn on_each(test: impl Fn(&Subject)) {
    let directory = || tempfile::tempdir().expect("a directory");
    let store = Arc::new(RamStore::default());
    test(&Subject { store, disk: None, eager: false, _dir: directory() });
    let roomy = Options { background: true, map_bytes: 1 << 26, ..Options::default() };
    for (options, eager) in [(tiny(), false), (tiny(), true), (roomy, false)] {
        let dir = directory();
        let disk = Arc::new(DiskStore::open(dir.path(), &options).expect("a store"));
        test(&Subject { store: disk.clone(), disk: Some(disk), eager, _dir: dir });
    }
}

fn refusal<T>(result: Result<T, Error>) -> &'static str {
    result.err().expect("a refusal").code
}

#[test]
fn what_was_appended_is_answered() {
    on_each(|subject| {
        let mut author = subject.author();
        let mut all = Vec::new();
        for batch in story(&mut author, 1..7) {
            subject.append(&batch);
            all.extend(batch);
        }
        assert_eq!(subject.store.next_seq(), author.next_seq);
        let oracle = Oracle(&all);
        if subject.disk.is_some() {
            assert_same(&dump(&*subject.store), &oracle.dump(), "everything");
            return;
        }
        for run in oracle.runs() {
            assert_eq!(subject.store.summary(run, u64::MAX).expect("a line"), oracle.summary(run));
            assert!(subject.store.load(run).expect("no error").is_none(), "RAM keeps no payloads");
        }
    });
}

#[test]
fn facts_begin_where_they_are_asked_to() {
    on_each(|subject| {
        let mut author = subject.author();
        let mut all = Vec::new();
        for batch in story(&mut author, 1..5) {
            subject.append(&batch);
            all.extend(batch);
        }
        // One fact per task, so that a cut anywhere is easily foreseen.
        let tasks = |facts: &[crate::model::Fact]| -> Vec<String> {
            let each = facts.iter().flat_map(|fact| {
                let len = fact.span.map_or(1, |span| span.len);
                (0..len).map(|at| {
                    let lo = fact.span.map(|span| (span.node, span.lo.saturating_add(at)));
                    format!("{} {} {:?} {lo:?}", fact.seq + u64::from(at), fact.run, fact.kind)
                })
            });
            each.collect()
        };
        let facts: Vec<_> = all.iter().flat_map(Record::facts).collect();
        for run in [None, Some(run_id(1)), Some(run_id(4)), Some(run_id(99))] {
            let own: Vec<_> = facts
                .iter()
                .filter(|fact| run.is_none_or(|run| fact.run == run))
                .cloned()
                .collect();
            for from in (0..author.next_seq + 2).step_by(3) {
                let wanted: Vec<_> = tasks(&own)
                    .into_iter()
                    .filter(|task| {
                        let seq: u64 =
                            task.split(' ').next().expect("a number").parse().expect("it");
                        seq >= from
                    })
                    .collect();
                let found = subject.store.facts(run, from, usize::MAX).expect("facts");
                assert_eq!(tasks(&found), wanted, "{run:?} from {from}");
                let few = subject.store.facts(run, from, 3).expect("facts");
                assert!(few.len() <= 3);
                assert_eq!(few.len(), found.len().min(3));
                assert!(wanted.starts_with(&tasks(&few)), "{run:?} from {from}, the first three");
            }
        }
    });
}

#[test]
fn listings_are_filtered_and_paged_newest_first() {
    on_each(|subject| {
        let mut author = subject.author();
        for n in 1..=9 {
            let name = if n % 2 == 0 { "even" } else { "odd" };
            subject.append(&[author.submit(run_id(n), name, Payload::bytes(vec![1]))]);
        }
        for n in [3, 4] {
            subject.append(&[author.end(run_id(n), RunState::Failed)]);
        }
        let list = |filter: Filter| -> Vec<u64> {
            let lines = subject.store.list(&filter, u64::MAX).expect("a listing");
            lines.iter().map(|line| (line.run.as_u128() >> 64) as u64).collect()
        };
        let limit = usize::MAX;
        assert_eq!(list(Filter { limit, ..Filter::default() }), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(list(Filter { limit: 3, ..Filter::default() }), [9, 8, 7]);
        let after = Some(run_id(7));
        assert_eq!(list(Filter { limit: 3, after, ..Filter::default() }), [6, 5, 4]);
        let state = Some(RunState::Failed);
        assert_eq!(list(Filter { limit, state, ..Filter::default() }), [4, 3]);
        let workflow = Some("even".into());
        assert_eq!(list(Filter { limit: 2, workflow, ..Filter::default() }), [8, 6]);
        let tag = Some("odd".into());
        assert_eq!(list(Filter { limit, tag, after, ..Filter::default() }), [5, 3, 1]);
        assert_eq!(list(Filter { limit, tag: Some("none".into()), ..Filter::default() }), [0; 0]);
        assert_eq!(list(Filter::default()), [0; 0]);
    });
}

#[test]
fn a_line_tells_no_more_than_was_there_at_a_sequence_number() {
    on_each(|subject| {
        if subject.eager {
            // What a checkpoint has taken is durable and shows at once.
            return;
        }
        let mut author = subject.author();
        let before = author.next_seq;
        subject.append(&[author.submit(run_id(1), "flow", Payload::bytes(vec![1]))]);
        let submitted = author.next_seq;
        subject.append(&[author.end(run_id(1), RunState::Failed)]);
        let state = |seq| subject.store.summary(run_id(1), seq).expect("a line").map(|l| l.state);
        assert_eq!(state(before), None);
        assert_eq!(state(submitted), Some(RunState::Pending));
        assert_eq!(state(author.next_seq), Some(RunState::Failed));
        let all = Filter { limit: 9, ..Filter::default() };
        let listed = |seq| subject.store.list(&all, seq).expect("a listing").len();
        assert_eq!((listed(before), listed(submitted)), (0, 1));
    });
}

#[test]
fn a_purge_forgets_finished_runs_and_no_others() {
    on_each(|subject| {
        let store = &subject.store;
        let mut author = subject.author();
        let mut all = Vec::new();
        for batch in story(&mut author, 1..9) {
            subject.append(&batch);
            all.extend(batch);
        }
        // Of each pair the first has ended: 1, 3, 5, 7.
        assert_eq!(store.purge(Some(run_id(2)), Timestamp(u64::MAX)).expect("a purge"), 0);
        assert_eq!(store.purge(Some(run_id(99)), Timestamp(u64::MAX)).expect("a purge"), 0);
        assert_eq!(store.purge(Some(run_id(1)), Timestamp(0)).expect("a purge"), 1);
        let ended = store.summary(run_id(5), u64::MAX).expect("a line").and_then(|line| line.ended);
        assert_eq!(store.purge(None, ended.expect("it ended")).expect("a purge"), 1, "run 3");
        all.retain(|record| record.run != run_id(1) && record.run != run_id(3));
        if subject.disk.is_some() {
            assert_same(&dump(&**store), &Oracle(&all).dump(), "what is left");
        }
        assert!(store.summary(run_id(3), u64::MAX).expect("no error").is_none());
        assert!(store.facts(Some(run_id(3)), 0, 10).expect("no error").is_empty());
        let facts = store.facts(None, 0, usize::MAX).expect("facts");
        let wanted: Vec<_> = all.iter().flat_map(Record::facts).collect();
        assert_eq!(format!("{facts:?}"), format!("{wanted:?}"));
        assert_eq!(store.purge(None, Timestamp(u64::MAX)).expect("a purge"), 2);
        // The definition went with its last run; it can come again.
        let again = author.submit(run_id(20), "first", Payload::bytes(vec![1]));
        subject.append(std::slice::from_ref(&again));
        if subject.disk.is_some() {
            let loaded = store.load(run_id(20)).expect("no error").expect("the run");
            assert_eq!(dump_record(&loaded[0]), dump_record(&again));
        }
    });
}

#[test]
fn a_closed_store_refuses_everything() {
    on_each(|subject| {
        let store = &subject.store;
        let mut author = subject.author();
        subject.append(&[author.submit(run_id(1), "flow", Payload::bytes(vec![1]))]);
        store.close().expect("a close");
        store.close().expect("closing again does nothing");
        let record = author.end(run_id(1), RunState::Completed);
        for code in [
            refusal(store.append(&[record])),
            refusal(store.sync()),
            refusal(store.load(run_id(1))),
            refusal(store.facts(None, 0, 1)),
            refusal(store.summary(run_id(1), u64::MAX)),
            refusal(store.list(&Filter::default(), u64::MAX)),
            refusal(store.purge(None, Timestamp(0))),
            refusal(store.unfinished()),
        ] {
            assert_eq!(code, "store.closed");
        }
        assert_eq!(store.next_seq(), author.next_seq - 1);
    });
}

#[test]
fn readers_see_whole_runs_while_segments_move() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { background: true, ..tiny() };
    let store = DiskStore::open(dir.path(), &options).expect("a store");
    let mut author = Author::new(store.next_seq());
    let batches = story(&mut author, 1..41);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut high = 0;
                while !done.load(std::sync::atomic::Ordering::Acquire) {
                    let facts = store.facts(None, 0, usize::MAX).expect("facts");
                    let mut next = 1;
                    for fact in &facts {
                        assert_eq!(fact.seq, next, "no fact is missing or doubled");
                        next += fact.span.map_or(1, |span| u64::from(span.len));
                    }
                    assert!(facts.len() >= high, "nothing goes away");
                    high = facts.len();
                    if let Some(fact) = facts.last() {
                        let records = store.load(fact.run).expect("no error").expect("it is there");
                        assert!(matches!(records[0].events[0], Event::Submitted(_)));
                    }
                }
            });
        }
        let written = batches.iter().try_for_each(|batch| {
            store.append(batch)?;
            store.sync()
        });
        // First of all, so that the readers end whatever happened.
        done.store(true, std::sync::atomic::Ordering::Release);
        written.expect("appends and syncs");
    });
    let all: Vec<_> = batches.into_iter().flatten().collect();
    assert_same(&dump(&store), &Oracle(&all).dump(), "everything");
}
