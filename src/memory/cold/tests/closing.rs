//! What ends when the engine closes, and what a tier no longer stands in the way of.

use super::*;

#[test]
fn a_sweep_ends_between_two_batches_when_the_engine_closes() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = open_as(dir.path(), "cold", Some(EVERYTHING));
    let drafts = (0..600).map(|n| fact(&format!("tea {n}"), &ray(n as f32))).collect();
    world.memory.memorize("a", drafts).expect("it memorizes");
    world.memory.memorize("b", vec![fact("milk", &ray(0.0))]).expect("it memorizes");
    let memory = Arc::downgrade(&world.memory);
    let closes = move || memory.upgrade().expect("it is there").stop_cold();
    *world.tier.on_put.lock().expect("sound") = Some(Box::new(closes));
    let moved = world.memory.sweep_cold().expect("a sweep");
    assert_eq!((moved, world.tier.count("a").expect("a count")), (256, 256));
    assert_eq!(world.tier.count("b").expect("a count"), 0, "the next session is not begun");
    assert_eq!(found(&world, "a", &near(20.0, 700)).len(), 600);
}

#[test]
fn a_store_whose_memories_came_back_can_go_over_to_another_model() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = open(dir.path());
    let memory = &world.memory;
    let ids = memory.memorize("s", vec![fact("tea", &ray(1.0)), fact("milk", &ray(2.0))]);
    let ids = ids.expect("it memorizes");
    memory.move_cold("s", &EVERYTHING, 9, false).expect("a move");
    assert_eq!(code(memory.remodel("other", 3)), "memory.reembed");
    memory.bring_back("s", &ids[..1]).expect("back");
    assert_eq!(code(memory.remodel("other", 3)), "memory.reembed");
    memory.bring_back("s", &ids).expect("back");
    // Their copies may lie there still: nobody's memories any more.
    assert_eq!(memory.remodel("other", 3).expect("another model"), 1);
    assert!(memory.get(ids[0], None).expect("no error").expect("it is there").vector.is_none());
}
