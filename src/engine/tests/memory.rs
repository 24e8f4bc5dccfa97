//! What agents remember, through the owner and both stores.

use std::sync::OnceLock;

use super::*;
use crate::memory::{Draft, Memory, Query};
use crate::model::Content;

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
            batch.memorize(task.index, ops);
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
