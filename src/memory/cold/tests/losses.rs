//! What the tier lost is told, and what was replaced leaves it.

use super::*;

fn moved(dir: &Path, count: u32) -> (World, Vec<EntryId>) {
    let world = open(dir);
    let drafts = (0..count).map(|n| fact(&format!("tea {n}"), &ray(n as f32))).collect();
    let ids = world.memory.memorize("s", drafts).expect("it memorizes");
    world.memory.move_cold("s", &EVERYTHING, 99, false).expect("a move");
    (world, ids)
}

fn over(world: &World, tiers: Tiers, top_k: usize) -> Found {
    world.memory.retrieve_over("s", &near(0.0, top_k), tiers, &[]).expect("hits")
}

#[test]
fn a_search_warns_of_memories_that_the_tier_has_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, ids) = moved(dir.path(), 5);
    assert!(over(&world, Tiers::All, 9).warning.is_none());
    // Counts of a tier behind a network are kept for a while, so this one is opened anew.
    drop(world);
    let world = open(dir.path());
    world.tier.files.delete("s", &ids[1..3]).expect("somebody deletes");
    for (tiers, top_k) in [(Tiers::All, 9), (Tiers::Cold, 9), (Tiers::All, 1)] {
        let found = over(&world, tiers, top_k);
        assert_eq!(found.hits.len(), top_k.min(3), "those that are there are found");
        let warning = found.warning.expect("a warning");
        assert!(warning.message.contains("lacks 2 memories"), "{}", warning.message);
    }
    assert!(over(&world, Tiers::Hot, 9).warning.is_none());
    world.memory.forget("s", &Forget::Ids(ids[1..3].to_vec()), 9).expect("forgotten");
    drop(world);
    assert!(over(&open(dir.path()), Tiers::All, 9).warning.is_none());
}

#[test]
fn a_copy_goes_once_its_memory_is_imported_here() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, ids) = moved(dir.path(), 2);
    let next = |wanted: &str| while world.news.recv().expect("it goes on") != wanted {};
    Memory::start_cold(&world.memory).expect("a thread");
    let (lines, _) = world.memory.export("s", None, 1).expect("lines");
    world.memory.import(lines.iter().map(String::as_str), None).expect("an import");
    next("delete");
    world.memory.stop_cold();
    assert_eq!(world.tier.count("s").expect("a count"), 1);
    assert!(world.memory.get(ids[0], None).expect("no error").expect("it").entry.away.is_none());
}
