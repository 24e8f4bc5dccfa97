//! A tier is one store's: what another one is refused, and what a copy of the store may do.

use super::*;

fn open_beside(dir: &Path, store: &str) -> World {
    open_store(dir, store, "cold", None)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a listing") {
        let path = entry.expect("a listing").path();
        let there = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &there);
        } else {
            std::fs::copy(&path, &there).expect("a copy");
        }
    }
}

#[test]
fn a_second_store_is_refused_before_it_touches_anything() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = open_beside(dir.path(), "store");
    first.memory.memorize("s", vec![fact("tea", &ray(0.0))]).expect("it memorizes");
    first.memory.move_cold("s", &EVERYTHING, 9, false).expect("a move");
    drop(first);
    let second = open_beside(dir.path(), "beside");
    let memory = &second.memory;
    memory.memorize("s", vec![fact("milk", &ray(0.0))]).expect("it memorizes");
    let refused = memory.move_cold("s", &EVERYTHING, 9, false).expect_err("a refusal");
    assert_eq!(refused.code, "memory.tier_owner");
    for name in ["store", "beside"] {
        let path = dir.path().join(name).display().to_string();
        assert!(refused.message.contains(&format!("`{path}`")), "{}", refused.message);
    }
    assert_eq!(code(memory.cold_health()), "memory.tier_owner");
    // It has nothing there, so there is nothing that it could delete.
    assert_eq!(memory.delete_session("s").expect("a delete"), 1);
    assert_eq!(memory.settle_all().expect("nothing to do"), 0);
    drop(second);
    let first = open_beside(dir.path(), "store");
    assert_eq!(found(&first, "s", &near(0.0, 9)), ["tea"]);
}

/// A store may have used one directory and be opened with another, which is somebody else's.
#[test]
fn what_lies_in_anothers_tier_is_not_deleted_by_a_store_that_had_one_of_that_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let (own, others) = (dir.path().join("own"), dir.path().join("others"));
    for (root, text) in [(&own, "milk"), (&others, "tea")] {
        let world = open_beside(root, "store");
        world.memory.memorize("s", vec![fact(text, &ray(0.0))]).expect("it memorizes");
        world.memory.move_cold("s", &EVERYTHING, 9, false).expect("a move");
    }
    std::fs::rename(own.join("cold"), own.join("old")).expect("a rename");
    copy(&others.join("cold"), &own.join("cold"));
    let world = open_beside(&own, "store");
    world.memory.delete_session("s").expect("a delete");
    assert_eq!(code(world.memory.settle_all()), "memory.tier_owner");
    assert_eq!(world.tier.count("s").expect("a count"), 1, "it is still there");
}

#[test]
fn of_two_stores_that_claim_a_tier_at_once_none_gets_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = open(dir.path());
    world.memory.memorize("s", vec![fact("tea", &ray(0.0))]).expect("it memorizes");
    // Another one claims it between the look and the claim.
    let tier = Arc::clone(&world.tier);
    let claims = move || {
        let content = Content::Text("elsewhere".into());
        let vector = crate::model::Vector::new(&ray(0.0));
        let claim = tier::Cold { id: EntryId::from_u128(7), content, vector, tags: Vec::new() };
        tier.files.put("", &[claim]).expect("a put");
    };
    *world.tier.on_put.lock().expect("sound") = Some(Box::new(claims));
    assert_eq!(code(world.memory.move_cold("s", &EVERYTHING, 9, false)), "memory.tier_owner");
    assert_eq!(world.tier.count("").expect("a count"), 2, "its own claim is taken back");
    assert_eq!(world.tier.count("s").expect("a count"), 0);
    world.tier.files.delete("", &[EntryId::from_u128(7)]).expect("the other one leaves");
    assert_eq!(world.memory.move_cold("s", &EVERYTHING, 9, false).expect("a move").ids.len(), 1);
}

#[test]
fn a_store_from_a_backup_or_compacted_is_the_same_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = open(dir.path());
    world.memory.memorize("s", vec![fact("tea", &ray(0.0))]).expect("it memorizes");
    world.memory.move_cold("s", &EVERYTHING, 9, false).expect("a move");
    drop(world);
    copy(&dir.path().join("store"), &dir.path().join("backup"));
    // After the backup: more moves there, and what it knows of is forgotten.
    let world = open(dir.path());
    world.memory.memorize("s", vec![fact("milk", &ray(9.0))]).expect("it memorizes");
    world.memory.move_cold("s", &EVERYTHING, 9, false).expect("a move");
    drop(world);
    std::fs::remove_dir_all(dir.path().join("store")).expect("it is lost");
    std::fs::rename(dir.path().join("backup"), dir.path().join("store")).expect("restored");
    crate::store::compact(&dir.path().join("store"), &Options::default()).expect("compacted");
    let world = open(dir.path());
    assert_eq!(found(&world, "s", &near(0.0, 9)), ["tea"], "what it does not know is not shown");
    world.memory.memorize("s", vec![fact("cocoa", &ray(20.0))]).expect("it memorizes");
    assert_eq!(world.memory.move_cold("s", &EVERYTHING, 9, false).expect("a move").ids.len(), 1);
    world.memory.delete_session("s").expect("a delete");
    world.memory.settle_all().expect("a settling");
    assert_eq!(world.tier.count("s").expect("a count"), 0, "nor is it left behind");
}
