//! What every store must do, and what a store on disk must survive.

mod compact;
mod conformance;
mod crashes;
mod faults;
mod golden;
mod measure;
mod memory;
mod oracle;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::{Filter, Options, Store, Summary};
use crate::model::{
    BlobHash, CancelCause, Conduct, Durability, Event, Failure, FailureKind, Growth, Payload,
    Record, RunId, RunState, SkipReason, Span, Submitted, TaskRef, Timestamp, Workflow,
};

/// Small enough that a few records fill a segment, and nothing happens by itself.
fn tiny() -> Options {
    Options {
        segment_bytes: 4096,
        map_bytes: 1 << 20,
        map_bytes_max: 1 << 30,
        idle: Duration::from_secs(3600),
        sealed_segments_max: 4,
        background: false,
    }
}

fn run_id(n: u64) -> RunId {
    RunId::from_u128(u128::from(n) << 64 | 7)
}

fn workflow(name: &str) -> (BlobHash, Arc<Workflow>) {
    let workflow = Workflow {
        name: name.into(),
        constants: vec![Payload::bytes(vec![9; 40])],
        ..Workflow::default()
    };
    let bytes = rmp_serde::to_vec_named(&workflow).expect("a workflow has a form");
    (*blake3::hash(&bytes).as_bytes(), Arc::new(workflow))
}

/// Writes records with the numbers that the engine would give them.
struct Author {
    next_seq: u64,
    clock: u64,
}

impl Author {
    fn new(next_seq: u64) -> Self {
        Self { next_seq, clock: 1_000 }
    }

    fn record(&mut self, run: RunId, events: Vec<Event>) -> Record {
        self.clock += 1;
        let record = Record { run, seq: self.next_seq, at: Timestamp(self.clock), events };
        self.next_seq += record.weight();
        record
    }

    fn submit(&mut self, run: RunId, name: &str, input: Payload) -> Record {
        let (definition, workflow) = workflow(name);
        let submitted = Submitted {
            definition,
            workflow: Some(workflow),
            input,
            priority: 3,
            durability: Durability::Strict,
            tags: vec!["nightly".into(), name.into()],
            session: None,
            weight: 1,
            conduct: Conduct::default(),
            memory: Default::default(),
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
            at: Timestamp(self.clock),
        };
        self.record(run, vec![Event::Submitted(Box::new(submitted))])
    }

    fn end(&mut self, run: RunId, state: RunState) -> Record {
        self.record(run, vec![Event::RunEnded { state, reason: Some("because".into()) }])
    }

    /// A whole life of a run: small, large and odd payloads, records with and without numbers.
    fn life(&mut self, run: RunId, name: &str, salt: u8) -> Vec<Record> {
        let span = Span::new(1, 0, 64);
        let failure = Arc::new(Failure::new(FailureKind::Exception, "task.exception", "no luck"));
        let large = Payload::bytes(vec![salt | 1; 40_000]);
        let zero = Payload::bytes(vec![0, salt]);
        let outputs = vec![large.clone(), zero, Payload::bytes(vec![salt | 1; 20]), large];
        vec![
            self.submit(run, name, Payload::bytes(vec![salt | 1; 100])),
            self.record(run, vec![Event::Resolved { node: 0, key: None }]),
            self.record(run, vec![Event::RunStarted, Event::Resolved { node: 1, key: None }]),
            self.record(
                run,
                vec![
                    Event::Expanded {
                        node: 1,
                        items: Payload::bytes(vec![1, 2]),
                        count: 64,
                        key: None,
                    },
                    Event::Scheduled { span },
                    Event::Started { span, attempt: 1 },
                ],
            ),
            self.record(run, vec![Event::RetryDue { task: TaskRef { node: 0, index: 0 } }]),
            self.record(
                run,
                vec![
                    Event::Completed { span: Span::new(1, 0, 4), attempt: 1, outputs },
                    Event::Memory(vec![oracle::put(
                        "life",
                        u128::from(salt) << 64 | run.as_u128(),
                    )]),
                ],
            ),
            self.record(
                run,
                vec![Event::Failed { task: TaskRef { node: 1, index: 4 }, attempt: 1, failure }],
            ),
            self.record(
                run,
                vec![Event::Grown(Box::new(Growth { tasks: vec![], constants: vec![] }))],
            ),
            self.record(run, vec![Event::Skipped { node: 2, reason: SkipReason::Upstream }]),
            self.record(
                run,
                vec![Event::CancelRequested { cause: CancelCause::Asked, reason: "enough".into() }],
            ),
        ]
    }
}

/// Turns of several runs mixed with each other: what an owner appends, batch by batch.
fn story(author: &mut Author, runs: std::ops::Range<u64>) -> Vec<Vec<Record>> {
    let lives: Vec<RunId> = runs.clone().map(run_id).collect();
    let mut batches = Vec::new();
    for pair in lives.chunks(2) {
        let mut turns = Vec::new();
        for (at, run) in pair.iter().enumerate() {
            let name = if at == 0 { "first" } else { "second" };
            turns.push(author.life(*run, name, at as u8 * 4));
        }
        // Records are numbered in the order in which they are appended.
        let mut mixed = Vec::new();
        let longest = turns.iter().map(Vec::len).max().unwrap_or(0);
        for at in 0..longest {
            mixed.extend(turns.iter().filter_map(|turn| turn.get(at).cloned()));
        }
        author.next_seq = mixed.iter().map(|record| record.seq).min().unwrap_or(author.next_seq);
        for record in &mut mixed {
            record.seq = author.next_seq;
            author.next_seq += record.weight();
        }
        batches.extend(mixed.chunks(3).map(<[Record]>::to_vec));
        batches.push(vec![author.end(pair[0], RunState::Completed)]);
    }
    batches
}

/// What a store must answer after some records, found by looking at nothing but them.
struct Oracle<'a>(&'a [Record]);

impl Oracle<'_> {
    fn runs(&self) -> Vec<RunId> {
        let all = self.0.iter().map(|record| record.run);
        let mut runs: Vec<RunId> = all.filter(|run| *run != crate::model::NO_RUN).collect();
        runs.sort_unstable();
        runs.dedup();
        runs
    }

    fn summary(&self, run: RunId) -> Option<Summary> {
        let mut line = None;
        for record in self.0.iter().filter(|record| record.run == run) {
            for event in &record.events {
                match (event, &mut line) {
                    (Event::Submitted(it), _) => {
                        line = Some(Summary {
                            session: None,
                            run,
                            workflow: it.workflow.as_ref().expect("written so").name.clone(),
                            state: RunState::Pending,
                            tags: it.tags.clone(),
                            submitted: it.at,
                            ended: None,
                        });
                    }
                    (Event::RunStarted, Some(line)) => line.state = RunState::Running,
                    (Event::RunEnded { state, .. }, Some(line)) => {
                        line.state = *state;
                        line.ended = Some(record.at);
                    }
                    _ => {}
                }
            }
        }
        line
    }

    /// Everything that a store answers, as text.
    fn dump(&self) -> String {
        let mut text = String::new();
        let facts: Vec<_> = self.0.iter().flat_map(Record::facts).collect();
        writeln!(text, "{facts:?}").expect("text");
        for run in self.runs().iter().rev() {
            let own: Vec<_> = self.0.iter().filter(|record| record.run == *run).collect();
            let facts: Vec<_> = own.iter().flat_map(|record| record.facts()).collect();
            writeln!(text, "{run} {:?} {facts:?}", self.summary(*run)).expect("text");
            own.iter().for_each(|record| text.push_str(&dump_record(&of_run(record))));
        }
        text.push_str(&oracle::dump(&oracle::fold(self.0)));
        text
    }
}

/// What a store answers of a record: memory is kept elsewhere.
fn of_run(record: &Record) -> Record {
    let mut record = record.clone();
    record.events.retain(|event| !matches!(event, Event::Memory(_)));
    record
}

fn dump_record(record: &Record) -> String {
    let bytes = rmp_serde::to_vec_named(record).expect("a record has a form");
    let flows: Vec<_> = record
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Submitted(it) => it.workflow.as_ref().map(|flow| format!("{flow:?}")),
            _ => None,
        })
        .collect();
    format!("  {} {:?} {flows:?}\n", blake3::hash(&bytes), record)
}

/// Everything that the store answers, as text.
fn dump(store: &dyn Store) -> String {
    let mut text = String::new();
    let facts = store.facts(None, 0, usize::MAX).expect("facts");
    writeln!(text, "{facts:?}").expect("text");
    let all = Filter { limit: usize::MAX, ..Filter::default() };
    for line in store.list(&all, u64::MAX).expect("a listing") {
        let facts = store.facts(Some(line.run), 0, usize::MAX).expect("facts");
        let summary = store.summary(line.run, u64::MAX).expect("a summary");
        assert_eq!(summary.as_ref(), Some(&line), "listing and summary agree");
        writeln!(text, "{} {summary:?} {facts:?}", line.run).expect("text");
        for record in store.load(line.run).expect("records").unwrap_or_default() {
            text.push_str(&dump_record(&record));
        }
    }
    text.push_str(&oracle::dump(&oracle::held(store)));
    text
}

/// How many records the store holds of these runs.
fn count(store: &dyn Store, runs: &[RunId]) -> usize {
    runs.iter().map(|run| store.load(*run).expect("records").map_or(0, |it| it.len())).sum()
}

/// Says where two long texts part.
fn assert_same(found: &str, wanted: &str, what: &str) {
    if found != wanted {
        let at = found.bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count();
        let from = at.saturating_sub(200);
        let show = |text: &str| text.chars().skip(from).take(400).collect::<String>();
        panic!("{what}: at {at}\nfound  …{}\nwanted …{}", show(found), show(wanted));
    }
}

/// Copies a store's directory, but for the files that only mean something to a living process.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name");
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else if name != "LOCK" && name != "lock.mdb" {
            std::fs::copy(&path, to.join(name)).expect("a copy");
        }
    }
}
