//! What agents remember, through the owner and both stores.

use std::sync::OnceLock;

use super::*;
use crate::memory::{Draft, Memory, Query};
use crate::model::{Content, EntryId, MemoryAccess, MemoryOp, MemoryPolicy};

pub(super) fn fact(text: &str) -> Draft {
    let content = Content::Text(text.into());
    Draft { content, metadata: None, vector: None, task: None, pinned: false }
}

pub(super) fn texts(memory: &Memory, session: &str) -> Vec<String> {
    let found = memory.list(session, None, usize::MAX).expect("a listing");
    let text = |content: &Content| match content {
        Content::Text(text) => text.clone(),
        other => panic!("{other:?} is no text"),
    };
    found.iter().map(|it| text(&it.entry.content)).collect()
}

/// An engine whose agents `ok` and `flaky` memorize; `flaky` fails once after it did.
fn remembering(path: Option<&Path>) -> Engine {
    let local = Local::new();
    let memory = Arc::new(OnceLock::<Arc<Memory>>::new());
    for (name, fails) in [("ok", false), ("flaky", true)] {
        let memory = Arc::clone(&memory);
        local.agent(name, move |batch, task| {
            let memory = memory.get().expect("it is set before the engine starts");
            let text = format!("{name} {} in attempt {}", task.index, batch.attempt);
            let (_, ops) = memory.draft("s", vec![fact(&text)]).expect("a draft");
            assert!(batch.memorize(task.index, ops), "its call is under way");
            assert_eq!(batch.memorized(task.index).len(), 1);
            if fails && batch.attempt == 1 {
                raised("E")
            } else {
                batch.completed(task.index, number(1))
            }
        });
    }
    let options = Options { path: path.map(Into::into), ..Options::default() };
    Engine::open_with(options, |reports, of| {
        memory.set(Arc::clone(of)).ok().expect("once");
        local.connect(reports)
    })
    .expect("the engine opens")
}

#[test]
fn a_completed_task_memorizes_and_a_failed_attempt_does_not() {
    on_both_stores(|path| {
        let engine = remembering(path);
        let mut flaky = task("b", "flaky", &["a"]);
        flaky.retry = quick(2);
        let handle = start(&engine, &plan(vec![task("a", "ok", &[]), flaky]));
        assert_eq!(ended(&handle), RunState::Completed);
        let wanted = ["ok 0 in attempt 1", "flaky 0 in attempt 2"];
        assert_eq!(texts(engine.memory(), "s"), wanted);
        let mut hopeless = task("c", "flaky", &[]);
        hopeless.retry = quick(0);
        assert_eq!(ended(&start(&engine, &plan(vec![hopeless]))), RunState::Failed);
        assert_eq!(texts(engine.memory(), "s"), wanted, "what failed memorizes nothing");
        engine.close(0);
        if path.is_some() {
            let engine = remembering(path);
            assert_eq!(texts(engine.memory(), "s"), wanted);
            let handle = engine.get(handle.id()).expect("the run");
            assert_eq!(handle.inspect(|run| run.state()).expect("it loads"), RunState::Completed);
            engine.close(0);
        }
    });
}

#[test]
fn whoever_memorized_finds_it_whatever_others_do() {
    on_both_stores(|path| {
        let engine = remembering(path);
        std::thread::scope(|scope| {
            for writer in 0..6 {
                let memory = engine.memory();
                scope.spawn(move || {
                    let session = format!("s{}", writer % 2);
                    for n in 0..30 {
                        let word = format!("w{writer}x{n}");
                        let ids = memory.memorize(&session, vec![fact(&format!("tea {word}"))]);
                        let id = ids.expect("it is memorized")[0];
                        let query = Query { text: Some(word), top_k: 3, ..Query::default() };
                        let hits = memory.retrieve(&session, &query).expect("hits");
                        assert_eq!(hits.len(), 1);
                        assert_eq!(hits[0].memorized.entry.id, id);
                        let other = format!("s{}", (writer + 1) % 2);
                        assert!(memory.retrieve(&other, &query).expect("no hits").is_empty());
                    }
                });
            }
        });
        let before: Vec<_> = ["s0", "s1"].map(|name| texts(engine.memory(), name)).into();
        assert_eq!(before.concat().len(), 180);
        assert!(
            engine
                .list(&crate::store::Filter { limit: 9, ..Default::default() })
                .expect("runs")
                .is_empty()
        );
        engine.close(0);
        let closed = engine.memory().memorize("s0", vec![fact("late")]);
        assert_eq!(closed.expect_err("refused").code, "engine.closed");
        let closed = engine.memory().list("never seen", None, 1);
        assert_eq!(closed.expect_err("refused").code, "engine.closed");
        if path.is_some() {
            let engine = remembering(path);
            let after: Vec<_> = ["s0", "s1"].map(|name| texts(engine.memory(), name)).into();
            assert_eq!(after, before);
            engine.close(0);
        }
    });
}

/// A memory that is nearly gone.
fn weak(memory: &Memory, session: &str, text: &str, pinned: bool) -> EntryId {
    let draft = Draft { pinned, ..fact(text) };
    let (ids, ops) = memory.draft(session, vec![draft]).expect("a draft");
    let aged = ops.into_iter().map(|op| match op {
        MemoryOp::Put(mut memorized) => {
            let entry = Arc::make_mut(&mut memorized.entry);
            (entry.last_review, entry.created) = (Timestamp(1), Timestamp(1));
            MemoryOp::Put(memorized)
        }
        other => other,
    });
    memory.commit(aged.collect()).expect("it is memorized");
    ids[0]
}

fn forgetful(agent: &str) -> Arc<Plan> {
    let policy = MemoryPolicy { retrieve_last: None, forget_below: Some(0.3) };
    let tasks = vec![task("a", agent, &[])];
    with(Workflow { name: "w".into(), tasks, memory: Some(policy), ..Workflow::default() })
}

#[test]
fn the_end_of_a_run_sweeps_its_session_and_no_other() {
    on_both_stores(|path| {
        let engine = remembering(path);
        for session in ["s", "t"] {
            weak(engine.memory(), session, "gone", false);
            weak(engine.memory(), session, "pinned", true);
        }
        let mut submit = request(&forgetful("ok"));
        submit.session = Some("s".into());
        let ticket = engine.submit(submit).expect("the inbox is open");
        let handle = ticket.wait(SOON).expect("in time").expect("accepted");
        assert_eq!(ended(&handle), RunState::Completed);
        assert_eq!(texts(engine.memory(), "s"), ["pinned", "ok 0 in attempt 1"]);
        assert_eq!(texts(engine.memory(), "t"), ["gone", "pinned"]);
        let facts = engine.facts(Some(handle.id()), 0, 100, Duration::ZERO).expect("facts");
        let names: Vec<_> = facts.iter().map(|fact| fact.kind.as_str()).collect();
        assert_eq!(names[names.len() - 2..], ["memory.swept", "run.completed"]);
        engine.close(0);
        if path.is_some() {
            let engine = remembering(path);
            assert_eq!(texts(engine.memory(), "s"), ["pinned", "ok 0 in attempt 1"]);
            engine.close(0);
        }
    });
}

#[test]
fn a_run_that_remembers_needs_a_session() {
    let engine = remembering(None);
    let refused = engine.submit(request(&forgetful("ok"))).map(drop).expect_err("no session");
    assert_eq!(refused.code, "memory.no_session");
    assert!(refused.message.contains("workflow `w` has a memory policy"), "{}", refused.message);
    let mut granted = request(&plan(vec![task("a", "ok", &[])]));
    granted.memory = MemoryAccess { read: vec!["team".into()], write: vec![] };
    let refused = engine.submit(granted.clone()).map(drop).expect_err("no session");
    assert_eq!(refused.code, "memory.no_session");
    granted.session = Some("s".into());
    granted.memory.write.push("".into());
    assert_eq!(engine.submit(granted).map(drop).expect_err("no key").code, "memory.session");
    engine.close(0);
}

#[test]
fn a_close_waits_for_a_sweep_as_for_an_agent() {
    on_both_stores(|path| {
        let (began, begins) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let local = Local::new();
        local.agent("slow", move |_, _| {
            began.send(()).expect("the test listens");
            let released = released.lock().expect("nobody panicked");
            released.recv().expect("the test goes on");
            Outcome::Completed(number(1))
        });
        let engine = open(&local, path, vec![]);
        weak(engine.memory(), "s", "gone", false);
        let mut submit = request(&forgetful("slow"));
        submit.session = Some("s".into());
        let ticket = engine.submit(submit).expect("the inbox is open");
        let handle = ticket.wait(SOON).expect("in time").expect("accepted");
        begins.recv().expect("the agent begins");
        let closing = engine.clone();
        let closing = std::thread::spawn(move || closing.close(20_000));
        // It is closing once that is what it says, and the agent is still at work.
        let nowhere = plan(vec![Task { lane: "nowhere".into(), ..task("x", "slow", &[]) }]);
        while engine.submit(request(&nowhere)).is_ok_and(|ticket| {
            let refused = ticket.wait(SOON).expect("in time").map(drop).expect_err("no such lane");
            refused.code != "engine.closed"
        }) {
            std::thread::yield_now();
        }
        release.send(()).expect("the agent waits");
        assert_eq!(closing.join().expect("it closes").unfinished, 0);
        assert_eq!(handle.state(), RunState::Completed);
    });
}
