//! Vectors that follow their entries, and stores that go over to another model.

use std::sync::Arc;

use super::*;

fn ids_of(work: &Work) -> Vec<EntryId> {
    work.entries.iter().map(|entry| entry.id).collect()
}

fn work(memory: &Memory, limit: usize) -> Work {
    let patience = std::time::Duration::ZERO;
    memory.vector_work(limit, usize::MAX, patience).expect("no error").expect("it is open")
}

fn made(work: &Work, vector: &[f32]) -> Vec<(EntryId, Arc<str>, Vec<f32>)> {
    let of =
        |entry: &Arc<crate::model::Entry>| (entry.id, Arc::clone(&entry.session), vector.to_vec());
    work.entries.iter().map(of).collect()
}

fn by_vector(memory: &Memory, vector: &[f32]) -> usize {
    let vector = Some(vector.to_vec());
    let query = Query { vector, top_k: 1_000, mode: Mode::Vector, ..Query::default() };
    memory.retrieve("s", &query).expect("hits").len()
}

#[test]
fn what_was_memorized_without_a_vector_gets_one_later() {
    let world = world();
    let memory = &world.memory;
    let old = memory.memorize("s", vec![draft("before", None)]).expect("it memorizes");
    memory.watch_vectors(u64::MAX);
    let bytes = Draft { content: Content::Bytes(vec![1]), ..draft("", None) };
    let drafts = vec![draft("tea", None), bytes, draft("milk", Some(vec![1.0, 0.0]))];
    let new = memory.memorize("s", drafts).expect("it memorizes");
    assert_eq!(memory.unvectored().expect("a count"), Unvectored { entries: 2, refused: 0 });
    let found = work(memory, 9);
    // What came since is there at once; the store is asked when that is done.
    assert_eq!(ids_of(&found), [new[0]]);
    assert!(!memory.vectorized(std::time::Duration::ZERO).expect("no error"));
    memory.put_vectors(found.generation, made(&found, &[0.0, 1.0])).expect("it puts");
    let found = work(memory, 9);
    assert_eq!(ids_of(&found), old);
    memory.put_vectors(found.generation, made(&found, &[0.0, 1.0])).expect("it puts");
    assert!(memory.vectorized(std::time::Duration::ZERO).expect("no error"));
    assert_eq!(memory.unvectored().expect("a count"), Unvectored::default());
    assert_eq!(by_vector(memory, &[0.0, 1.0]), 3);
    assert!(work(memory, 9).entries.is_empty());
    memory.close_vectors();
    let closed = memory.vector_work(1, 1, std::time::Duration::MAX).expect("no error");
    assert!(closed.is_none());
}

#[test]
fn what_comes_back_waits_again_and_what_is_refused_does_not() {
    let world = world();
    let memory = &world.memory;
    memory.watch_vectors(u64::MAX);
    let ids = memory.memorize("s", vec![draft("a", None), draft("b", None)]).expect("ids");
    let found = work(memory, 9);
    memory.return_work(&ids_of(&found));
    let again = work(memory, 1);
    assert_eq!(ids_of(&again), ids[..1]);
    memory.refuse_work(ids[0], "s");
    let rest = work(memory, 9);
    assert_eq!(ids_of(&rest), ids[1..]);
    *world.journal.fails.lock().expect("sound") = true;
    let put = memory.put_vectors(rest.generation, made(&rest, &[1.0]));
    assert_eq!(code(put), "store.full");
    *world.journal.fails.lock().expect("sound") = false;
    let rest = work(memory, 9);
    assert_eq!(ids_of(&rest), ids[1..], "nothing is lost");
    memory.put_vectors(rest.generation, made(&rest, &[1.0])).expect("it puts");
    assert_eq!(memory.unvectored().expect("a count"), Unvectored { entries: 1, refused: 1 });
    assert!(!memory.vectorized(std::time::Duration::ZERO).expect("no error"), "one is refused");
    memory.forget("s", &Forget::Ids(vec![ids[0]]), 1).expect("it forgets");
    assert!(memory.vectorized(std::time::Duration::ZERO).expect("no error"));
}

#[test]
fn more_than_fits_in_ram_is_fetched_from_the_store() {
    let world = world();
    let memory = &world.memory;
    memory.watch_vectors(u64::MAX);
    let drafts = (0..20_000).map(|n| draft(&format!("w{n}"), None)).collect();
    let ids = memory.memorize("s", drafts).expect("it memorizes");
    let mut seen = Vec::new();
    loop {
        let found = work(memory, 1_000);
        if found.entries.is_empty() {
            break;
        }
        seen.extend(ids_of(&found));
        memory.put_vectors(found.generation, made(&found, &[1.0])).expect("it puts");
    }
    assert_eq!(seen, ids);
    assert!(memory.vectorized(std::time::Duration::ZERO).expect("no error"));
}

/// Beyond what is remembered of refusals, a text is offered once a pass, not again and again.
#[test]
fn refused_texts_beyond_the_bound_do_not_keep_anybody_busy() {
    let world = world();
    let memory = &world.memory;
    memory.watch_vectors(u64::MAX);
    let drafts = (0..10_600).map(|n| draft(&format!("w{n}"), None)).collect();
    memory.memorize("s", drafts).expect("it memorizes");
    let refuse_all = || {
        let mut offered = 0;
        loop {
            let found = work(memory, 500);
            if found.entries.is_empty() {
                return offered;
            }
            offered += found.entries.len();
            ids_of(&found).into_iter().for_each(|id| memory.refuse_work(id, "s"));
        }
    };
    // The first pass meets the 600 for which there is no room once more.
    assert_eq!(refuse_all(), 10_600 + 600);
    assert_eq!(refuse_all(), 0);
    assert_eq!(memory.unvectored().expect("a count").refused, 10_600);
    assert!(!memory.vectorized(std::time::Duration::ZERO).expect("no error"), "some are refused");
    // What comes later gets its vector, and what waited elsewhere is found behind those that are refused.
    let late = memory.memorize("s", vec![draft("late", None)]).expect("it memorizes");
    let found = work(memory, 9);
    assert_eq!(ids_of(&found), late);
    memory.return_work(&late);
    assert_eq!(refuse_all(), 600 + 1, "another pass");
}

#[test]
fn no_more_than_so_many_texts_wait_for_their_vectors() {
    let world = world();
    let memory = &world.memory;
    memory.memorize("s", vec![draft("before", None)]).expect("nobody makes vectors yet");
    memory.watch_vectors(3);
    let two = || vec![draft("a", None), draft("b", None)];
    memory.memorize("s", two()).expect("there is room");
    let refused = memory.memorize("s", two()).expect_err("a refusal");
    assert_eq!(refused.code, "memory.backlog");
    assert!(refused.message.contains("3 texts wait"), "{}", refused.message);
    assert_eq!(code(memory.memorize("t", vec![draft("c", None)])), "memory.backlog");
    let bytes = Draft { content: Content::Bytes(vec![1]), ..draft("", None) };
    let others = vec![bytes, draft("d", Some(vec![1.0]))];
    memory.memorize("s", others).expect("these wait for nothing");
    let (lines, _) = memory.export("s", None, 9).expect("lines");
    assert_eq!(code(memory.import(lines.iter().map(String::as_str), None)), "memory.backlog");
    // Whatever makes room is seen: a vector, a forgetting.
    let found = work(memory, 1);
    memory.put_vectors(found.generation, made(&found, &[1.0])).expect("it puts");
    let late = memory.memorize("s", vec![draft("e", None)]).expect("there is room again");
    assert_eq!(code(memory.memorize("s", vec![draft("f", None)])), "memory.backlog");
    memory.forget("s", &Forget::Ids(late), 1).expect("it forgets");
    memory.memorize("s", vec![draft("g", None)]).expect("there is room again");
    assert_eq!(memory.unvectored().expect("a count").entries, 3);
}

#[test]
fn another_model_voids_every_vector_and_those_on_the_way() {
    let world = world();
    let memory = &world.memory;
    memory.settle_model(Some("one"), 2).expect("the first model");
    memory.watch_vectors(u64::MAX);
    let vector = Some(vec![1.0, 0.0]);
    memory.memorize("s", vec![draft("a", vector.clone()), draft("b", None)]).expect("ids");
    let on_the_way = work(memory, 9);
    let (_, drafted) = memory.draft("s", vec![draft("c", vector.clone())]).expect("a draft");
    assert_eq!(memory.remodel("two", 2).expect("another model"), 1);
    assert_eq!(by_vector(memory, &[1.0, 0.0]), 0, "none is of the new model");
    assert_eq!(code(memory.settle_model(Some("one"), 2)), "memory.model");
    let late = memory.draft_of(Some(0), "s", vec![draft("d", vector)]);
    assert_eq!(code(late), "memory.model");
    // What was made by the old model comes too late, and its entries wait for the new one.
    memory.put_vectors(on_the_way.generation, made(&on_the_way, &[1.0, 0.0])).expect("no error");
    memory.commit(drafted).expect("it commits");
    assert_eq!(by_vector(memory, &[1.0, 0.0]), 0);
    assert_eq!(memory.unvectored().expect("a count").entries, 3);
    loop {
        let found = work(memory, 2);
        if found.entries.is_empty() {
            break;
        }
        assert_eq!(found.generation, 1);
        memory.put_vectors(found.generation, made(&found, &[0.0, 1.0])).expect("it puts");
    }
    assert_eq!(by_vector(memory, &[0.0, 1.0]), 3);
    assert_eq!(memory.unvectored().expect("a count").entries, 0);
    let lines = memory.export("s", None, 9).expect("lines").0;
    memory.import(lines.iter().map(String::as_str), None).expect("it imports");
    assert_eq!(by_vector(memory, &[0.0, 1.0]), 3, "imported vectors are of the model in use");
}

/// Between the embedding of notes and their import the store may go over to another model.
#[test]
fn notes_whose_vectors_are_of_the_old_model_are_not_imported() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("MEMORY.md"), "# Ada\n\nShe prefers tea.\n").expect("a note");
    let world = world();
    let memory = &world.memory;
    memory.settle_model(Some("one"), 2).expect("the first model");
    memory.watch_vectors(u64::MAX);
    let planned = || memory.plan_import("s", dir.path()).expect("a plan");
    let import = planned();
    memory.remodel("two", 2).expect("another model");
    let made = Some((0, vec![vec![1.0, 0.0]]));
    assert_eq!(code(memory.carry_out(import, made)), "memory.model");
    assert_eq!(memory.count(Some("s")).expect("a count"), 0);
    let made = Some((1, vec![vec![0.0, 1.0]]));
    assert_eq!(memory.carry_out(planned(), made).expect("an import").added, 1);
    assert_eq!(by_vector(memory, &[0.0, 1.0]), 1);
    // Without vectors they wait for those of the new one.
    std::fs::write(dir.path().join("MEMORY.md"), "# Bob\n\nHe prefers milk.\n").expect("a note");
    assert_eq!(memory.carry_out(planned(), None).expect("an import").added, 1);
    assert_eq!(work(memory, 9).generation, 1);
}
