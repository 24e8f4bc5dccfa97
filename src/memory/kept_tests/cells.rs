//! Sessions whose vectors lie in cells: kept, read, damaged, interrupted.

use super::*;
use crate::index::vector::Grouping;
use crate::memory::keeper::put_in_cells;
use crate::memory::shelf::HERE;
use crate::model::MetadataFilter;

const GROUPING: Grouping = Grouping { rows_min: 30, rows_per_cell: 8 };
/// Who asks for more than there are has every row read: the answer is exact.
const ALL: usize = 9_999;

/// With these the keeper puts sessions in cells by itself; in other tests they say when.
fn small() -> Habits {
    Habits { grouping: GROUPING, ..habits() }
}

impl World {
    /// Puts vectors in cells until that is done, or for so many looks whether to go on.
    fn group(&self, session: &str, mut looks: usize) -> bool {
        let Some(open) = self.shelves.if_loaded(session) else { return false };
        put_in_cells(&self.shelves, &open, &GROUPING, &mut || {
            looks = looks.saturating_sub(1);
            looks > 0
        })
    }

    fn cells(&self, session: &str) -> Option<(usize, usize)> {
        let open = self.shelves.if_loaded(session)?;
        open.vectors(|index| index.cells_of(HERE)).flatten()
    }
}

/// Every hit is remembered, of this session, and as near as it says.
fn check_true(world: &World, session: &str, own: &Model, asked: &[f32], what: &str) {
    let vector = Some(asked.to_vec());
    let odd = MetadataFilter::parse(r#"{"n":{"$ne":0}}"#).expect("a filter");
    for filter in [MetadataFilter::default(), odd] {
        let query = Query {
            vector: vector.clone(),
            top_k: 5,
            mode: Mode::Vector,
            filter,
            ..Query::default()
        };
        for hit in world.memory.retrieve(session, &query).expect("hits") {
            let (_, vector) = &own[&hit.memorized.entry.id];
            let near = cosine(asked, vector.as_ref().expect("it was found by its vector"));
            let told = f64::from(hit.cosine.expect("by vector"));
            assert!((told - near).abs() < 2e-3, "{what}");
            let is_odd = hit.memorized.entry.metadata.as_deref() != Some("{\"n\":0}");
            assert!(query.filter.is_empty() || is_odd, "{what}");
        }
    }
}

#[test]
fn a_session_in_cells_answers_what_it_remembers_whatever_happened_to_it() {
    let mut grouped = 0;
    for seed in 1..=4 {
        let (dir, mut dice) = (tempfile::tempdir().expect("a directory"), Dice(seed));
        let mut world = open(dir.path());
        let mut models: BTreeMap<&str, Model> = BTreeMap::new();
        for step in 0..120 {
            let session = ["a", "a:b"][dice.roll(2) as usize];
            let own = models.entry(session).or_default();
            change(&world, session, own, &mut dice, step);
            match dice.roll(8) {
                0 => world.keep(session),
                1 => drop(world.group(session, usize::MAX)),
                2 => drop(world.group(session, dice.roll(60) as usize)),
                3 => {
                    // As after a crash, in the middle of it or not: nothing is written any more.
                    world.shelves.abandon();
                    drop(world);
                    world = open(dir.path());
                }
                4 => {
                    world.close();
                    world = open(dir.path());
                }
                _ => {}
            }
            let session = ["a", "a:b"][dice.roll(2) as usize];
            let (asked, own) = (dice.vector(), models.entry(session).or_default());
            let what = format!("seed {seed} step {step}");
            check_top(ALL, &world, session, own, &asked, &what);
            check_true(&world, session, own, &asked, &what);
            grouped += usize::from(world.cells(session).is_some());
        }
    }
    assert!(grouped > 40, "searches met cells {grouped} times");
}

#[test]
fn cells_are_kept_and_not_learned_again_and_what_came_meanwhile_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, mut model) = fill(open(dir.path()), 200);
    world.memory.count(Some("a")).expect("it is loaded");
    world.group("a", usize::MAX);
    let cells = world.cells("a").expect("it is in cells");
    world.keep("a");
    // Written past the loaded session, as before a crash.
    let blind = on(Arc::clone(&world.store), habits());
    let vector = Dice(3).vector();
    let ids = blind.memory.memorize("a", vec![draft("tea late", Some(vector.clone()))]);
    model.insert(ids.expect("it memorizes")[0], ("tea late".into(), Some(vector.clone())));
    drop(blind);
    world.shelves.abandon();
    drop(world);
    let world = open(dir.path());
    check_top(ALL, &world, "a", &model, &vector, "after a restart");
    let query = Query { vector: Some(vector), top_k: 1, mode: Mode::Vector, ..Query::default() };
    let hits = world.memory.retrieve("a", &query).expect("hits");
    assert_eq!(hits[0].memorized.entry.content, Content::Text("tea late".into()));
    assert_eq!(world.cells("a"), Some(cells));
    assert_eq!(
        (world.counts(), world.memory.stats().expect("stats").indexes_grouped),
        ([1, 0, 0], 0)
    );
}

#[test]
fn a_grouping_that_was_interrupted_goes_on_after_the_next_opening() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, model) = fill(open(dir.path()), 200);
    let asked = Dice(3).vector();
    for looks in [3, 40, 60, 90, 150] {
        let fresh = on(Arc::clone(&world.store), habits());
        fresh.memory.count(Some("a")).expect("it is loaded");
        let is_done = fresh.group("a", looks);
        assert!(!is_done || looks > 3);
        check_top(ALL, &fresh, "a", &model, &asked, "half done");
        if !is_done {
            check(&fresh, "a", &model, &asked, "everything is read as long as it is not done");
        }
        fresh.keep("a");
        let next = on(Arc::clone(&world.store), habits());
        check_top(ALL, &next, "a", &model, &asked, "read again");
        next.group("a", usize::MAX);
        assert!(next.cells("a").is_some());
        check_top(ALL, &next, "a", &model, &asked, "done");
    }
}

#[test]
fn a_file_with_cells_that_is_damaged_anywhere_is_built_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, model) = fill(open(dir.path()), 60);
    world.memory.count(Some("a")).expect("it is loaded");
    world.group("a", usize::MAX);
    assert!(world.cells("a").is_some());
    world.keep("a");
    let path = files(dir.path()).pop().expect("a file");
    let sound = fs::read(&path).expect("a file");
    let asked = Dice(3).vector();
    let look = |what: &str| {
        let fresh = on(Arc::clone(&world.store), habits());
        check_top(ALL, &fresh, "a", &model, &asked, what);
        let [loaded, rebuilt, _] = fresh.counts();
        (loaded, rebuilt)
    };
    assert_eq!(look("sound"), (1, 0));
    for at in (0..sound.len()).step_by(41) {
        let mut broken = sound.clone();
        broken[at] ^= 1 << (at % 8);
        fs::write(&path, &broken).expect("a write");
        assert_eq!(look(&format!("a bit of byte {at}")), (0, 1));
        fs::write(&path, &sound[..at]).expect("a write");
        assert_eq!(look(&format!("cut at {at}")), (0, 1));
    }
}

#[test]
fn a_session_that_outgrows_a_scan_is_put_in_cells_by_itself_and_kept_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, model) = fill(open_with(dir.path(), small()), 200);
    check_top(ALL, &world, "a", &model, &Dice(3).vector(), "who asks has it loaded");
    while world.memory.stats().expect("stats").indexes_grouped == 0 {
        std::thread::yield_now();
    }
    check_true(&world, "a", &model, &Dice(3).vector(), "in cells");
    let cells = world.cells("a").expect("it is in cells");
    world.close();
    let world = open_with(dir.path(), small());
    check_true(&world, "a", &model, &Dice(3).vector(), "after a restart");
    assert_eq!(world.cells("a"), Some(cells));
}

#[test]
fn a_deleted_session_is_in_no_cell_and_a_closing_engine_waits_for_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, mut model) = fill(open(dir.path()), 200);
    world.memory.count(Some("a")).expect("it is loaded");
    world.group("a", 100);
    world.memory.delete_session("a").expect("it forgets");
    model.clear();
    check_top(ALL, &world, "a", &model, &Dice(3).vector(), "deleted");
    assert!(!world.group("a", usize::MAX));
    world.close();
    assert!(files(dir.path()).is_empty());
}

#[test]
fn a_session_that_is_deleted_half_way_counts_as_put_in_no_cells() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, _) = fill(open(dir.path()), 200);
    world.memory.count(Some("a")).expect("it is loaded");
    let loaded = world.shelves.if_loaded("a").expect("it is loaded");
    let mut looks = 0;
    let is_done = put_in_cells(&world.shelves, &loaded, &GROUPING, &mut || {
        looks += 1;
        if looks == 60 {
            world.memory.delete_session("a").expect("it forgets");
            assert_eq!(world.memory.count(Some("a")).expect("it is taken up"), 0);
        }
        true
    });
    assert!(looks >= 60 && !is_done);
}

#[test]
fn a_session_that_is_put_in_cells_is_not_let_go_of_and_one_that_was_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, _) = fill(open(dir.path()), 200);
    let load = |session: &str| {
        world.memory.count(Some(session)).expect("it is loaded");
        world.shelves.if_loaded(session).expect("it is loaded")
    };
    let (loaded, _) = (load("a"), load("b"));
    let is_done = put_in_cells(&world.shelves, &loaded, &GROUPING, &mut || {
        world.shelves.trim_to(0);
        true
    });
    assert!(is_done && world.cells("a").is_some());
    world.shelves.trim_to(0);
    assert!(!world.shelves.has(&loaded), "when it is done it may go");
    let (other, _) = (load("a"), load("b"));
    world.shelves.trim_to(0);
    let mut looks = 0;
    let is_done = put_in_cells(&world.shelves, &other, &GROUPING, &mut || {
        looks += 1;
        true
    });
    assert!(!is_done && looks == 0);
    assert_eq!(other.vectors(|index| index.cells_of(HERE)), Some(None));
}
