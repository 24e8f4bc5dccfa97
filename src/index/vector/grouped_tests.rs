//! Sessions in cells: what is found is true at any moment, and nearly all of what a full scan finds.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::direction;
use super::*;

type Model = BTreeMap<Key, Vec<f32>>;

const DIMENSION: usize = 40;
const SMALL: Grouping = Grouping { rows_min: 40, rows_per_cell: 16 };

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// About one of so many topics, more or less.
fn topical(seed: u64, topics: u64) -> Vec<f32> {
    let topic = direction(1_000_000 + seed % topics, DIMENSION);
    direction(seed, DIMENSION).iter().zip(topic).map(|(own, topic)| own * 0.4 + topic).collect()
}

fn group(index: &mut VectorIndex, grouping: &Grouping) -> usize {
    let mut steps = 0;
    while let Some(step) = index.step("a", grouping) {
        let done = step.work(&mut || true).expect("nobody stops it");
        index.take("a", done);
        steps += 1;
    }
    steps
}

fn filled(rows: u64, topics: u64) -> (VectorIndex, Model) {
    let (mut index, mut model) = (VectorIndex::new(DIMENSION).expect("fits"), Model::new());
    for key in 0..rows {
        let row = topical(key, topics);
        index.add("a", Key::from(key), &row).expect("a direction");
        model.insert(Key::from(key), row);
    }
    (index, model)
}

/// Share of the ten best that is found, over some questions; and that nothing is found that is not true.
fn recall(index: &VectorIndex, model: &Model, filter: &dyn Fn(Key) -> bool) -> f64 {
    let truth = |key: Key, row: &mut [f32]| {
        row.copy_from_slice(&model[&key]);
        true
    };
    let (mut found, mut all) = (0, 0);
    for question in 0..30 {
        let asked = topical(7_000_000 + question * 3, 32);
        let mut exact: Vec<f64> = model
            .iter()
            .filter(|(key, _)| filter(**key))
            .map(|(_, row)| cosine(&asked, row))
            .collect();
        exact.sort_by(|a, b| b.total_cmp(a));
        exact.truncate(10);
        let hits = index.query(&["a"], &asked, &truth).expect("fits").top(10, Some(&filter));
        assert_eq!(hits.len(), exact.len(), "as many as there are");
        for hit in &hits {
            assert!(filter(hit.key));
            assert!((cosine(&asked, &model[&hit.key]) - f64::from(hit.score)).abs() < 1e-5);
        }
        let Some(worst) = exact.last() else { continue };
        found += hits.iter().filter(|hit| f64::from(hit.score) > worst - 1e-5).count();
        all += exact.len();
    }
    if all == 0 { 1.0 } else { found as f64 / all as f64 }
}

#[test]
fn nearly_all_of_the_ten_best_are_found_with_any_filter_and_few_cells_are_read() {
    let (mut index, mut model) = filled(4_000, 40);
    let grouping = Grouping { rows_min: 1_000, rows_per_cell: 64 };
    group(&mut index, &grouping);
    let part = index.parts.find("a").expect("it is there");
    let cells = index.parts.get(part);
    let probes = cells.to_read().expect("it was measured").needed(10).expect("it was measured");
    let centres = cells.centres().expect("it is in cells").len();
    assert!(probes * 4 < centres, "{probes} of {centres} cells are hardly less than all");
    let filters: [(&str, &dyn Fn(Key) -> bool); 6] = [
        ("all", &|_| true),
        ("one in ten", &|key| (key * 7919) % 1_009 < 101),
        ("one in a hundred", &|key| (key * 7919) % 1_009 < 10),
        ("topics that nobody asks for", &|key| key % 40 >= 32),
        ("three", &|key| [5, 600, 3_000].contains(&key)),
        ("none", &|_| false),
    ];
    for (name, filter) in filters {
        let recall = recall(&index, &model, filter);
        assert!(recall >= 0.95, "{name}: {recall}");
    }
    // Half of it goes, other topics come.
    for key in (0..4_000).filter(|key| key % 2 == 0) {
        assert!(index.delete(key));
        model.remove(&key);
    }
    for key in 20_000..21_000u64 {
        let row = topical(key, 60);
        index.add("a", Key::from(key), &row).expect("a direction");
        model.insert(Key::from(key), row);
    }
    let recall = recall(&index, &model, &|_| true);
    assert!(recall >= 0.95, "after changes: {recall}");
}

#[test]
fn directions_without_any_order_are_read_whole_rather_than_missed() {
    let (mut index, mut model) = (VectorIndex::new(DIMENSION).expect("fits"), Model::new());
    for key in 0..3_000u64 {
        let row = direction(key + 1, DIMENSION);
        index.add("a", Key::from(key), &row).expect("a direction");
        model.insert(Key::from(key), row);
    }
    group(&mut index, &Grouping { rows_min: 1_000, rows_per_cell: 64 });
    assert!(recall(&index, &model, &|_| true) >= 0.95);
    let (cells, read) = index.cells_of("a").expect("it is in cells");
    assert_eq!(cells, read, "most of them would have to be read");
}

#[test]
fn a_session_below_the_threshold_is_read_whole_and_one_that_grew_gets_other_cells() {
    let grouping = Grouping { rows_min: 500, rows_per_cell: 16 };
    let (mut index, _) = filled(499, 20);
    assert_eq!(group(&mut index, &grouping), 0);
    index.add("a", 499, &topical(499, 20)).expect("a direction");
    assert!(index.wants_grouping("a", &grouping) && group(&mut index, &grouping) > 0);
    let centres = |index: &VectorIndex| {
        let cells = index.parts.get(index.parts.find("a").expect("it is there"));
        (cells.centres().map(|it| it.len()).unwrap_or(0), cells.to_read().is_some())
    };
    let before = centres(&index);
    assert!(before.0 > 10 && before.1 && !index.wants_grouping("a", &grouping));
    index.delete(499);
    assert!(!centres(&index).1, "one below the threshold is read whole again");
    for key in 499..1_001 {
        index.add("a", key, &topical(key as u64, 20)).expect("a direction");
    }
    assert!(index.wants_grouping("a", &grouping), "as many came as there were");
    group(&mut index, &grouping);
    assert!(centres(&index).0 > before.0 && centres(&index).1);
}

fn cells(index: &VectorIndex) -> &Cells {
    index.parts.get(index.parts.find("a").expect("it is there"))
}

#[test]
fn cells_are_measured_again_after_a_quarter_of_changes_and_learned_anew_after_all_also_from_a_file()
{
    let grouping = Grouping { rows_min: 1_000, rows_per_cell: 64 };
    let (mut index, mut model) = filled(2_000, 40);
    group(&mut index, &grouping);
    let mark = |index: &VectorIndex| index.mark_of_centres("a").expect("it is in cells");
    let first = mark(&index);
    // Full turnover: one goes, one of another topic comes. Each is a change.
    for (turn, gone) in (0..2_000u64).enumerate() {
        assert!(index.delete(Key::from(gone)));
        model.remove(&Key::from(gone));
        let row = topical(gone + 2_000_000, 37);
        index.add("a", Key::from(gone + 2_000), &row).expect("a direction");
        model.insert(Key::from(gone + 2_000), row);
        match turn + 1 {
            249 => assert!(!index.wants_grouping("a", &grouping), "one pair too few"),
            250 => {
                index = read_back(&index);
                assert!(index.wants_grouping("a", &grouping), "a file keeps count");
                assert_eq!(group(&mut index, &grouping), 100, "questions and nothing else");
                assert_eq!(mark(&index), first);
                index = read_back(&index);
                assert!(!index.wants_grouping("a", &grouping), "a file knows when it was");
            }
            999 => assert!(!cells(&index).wants_centres(), "one pair too few"),
            1_000 => {
                assert!(cells(&read_back(&index)).wants_centres(), "a file keeps count");
                group(&mut index, &grouping);
                assert_ne!(mark(&index), first);
                assert!(!index.wants_grouping("a", &grouping));
            }
            _ => {}
        }
    }
    group(&mut index, &grouping);
    let recall = recall(&index, &model, &|_| true);
    assert!(recall >= 0.95, "of a session in which nothing is as it was: {recall}");
}

#[test]
fn a_session_that_shrinks_to_less_than_half_has_its_centres_learned_anew_while_it_is_large() {
    let grouping = Grouping { rows_min: 500, rows_per_cell: 64 };
    let (mut index, mut model) = filled(4_000, 40);
    group(&mut index, &grouping);
    let before = index.cells_of("a").expect("it is in cells").0;
    let mut forget = |index: &mut VectorIndex, to: usize| {
        let gone: Vec<Key> = model.keys().copied().take(model.len() - to).collect();
        gone.into_iter().for_each(|key| assert!(index.delete(key) && model.remove(&key).is_some()));
    };
    forget(&mut index, 2_000);
    group(&mut index, &grouping);
    assert_eq!(index.cells_of("a").expect("it is in cells").0, before);
    forget(&mut index, 1_999);
    group(&mut index, &grouping);
    assert!(index.cells_of("a").expect("it is in cells").0 < before * 2 / 3);
    forget(&mut index, 499);
    assert!(!index.wants_grouping("a", &grouping), "what is small is read whole");
    assert_eq!(recall(&index, &model, &|_| true), 1.0);
}

#[test]
fn cells_of_former_centres_go_when_centres_are_learned_anew() {
    let (mut index, mut model) = filled(200, 7);
    for key in 200..4_000u64 {
        group(&mut index, &SMALL);
        assert!(index.delete(Key::from(key - 200)));
        model.remove(&Key::from(key - 200));
        let row = topical(key, 7);
        index.add("a", Key::from(key), &row).expect("a direction");
        model.insert(Key::from(key), row);
    }
    let all = cells(&index).all().len();
    assert!(all <= 2 * (200 / SMALL.rows_per_cell), "{all} cells of 200 rows");
    assert_eq!(
        index.keys("a").collect::<std::collections::BTreeSet<_>>(),
        model.keys().copied().collect()
    );
    assert!(recall(&index, &model, &|_| true) >= 0.5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_grouping_may_end_anywhere_and_changes_may_come_between_any_two_steps(
        steps in prop::collection::vec((0u8..8, 0u32..120, 1u64..1_000), 1..200),
        fill in 0u64..150, kept: bool,
    ) {
        let (mut index, mut model) = filled(fill, 7);
        index.add("b", 9_999, &direction(5, DIMENSION))?;
        let mut under_way = None;
        for (what, key, seed) in steps {
            let key = Key::from(key);
            match what {
                0 | 1 => prop_assert_eq!(index.delete(key), model.remove(&key).is_some()),
                2 | 3 => under_way = index.step("a", &SMALL).and_then(|it| it.work(&mut || true)),
                4 | 5 => under_way.take().into_iter().for_each(|step| index.take("a", step)),
                6 => drop(group(&mut index, &SMALL)),
                _ => {
                    let row = topical(seed, 7);
                    index.add("a", key, &row)?;
                    model.insert(key, row);
                }
            }
        }
        if kept {
            index = read_back(&index);
        }
        prop_assert_eq!(index.len() - usize::from(!kept), model.len());
        // Of so few rows in cells, not only the best may be found: but true they are, and as many.
        let found = recall(&index, &model, &|_| true);
        group(&mut index, &SMALL);
        prop_assert!(found >= 0.5 && recall(&index, &model, &|_| true) >= 0.5);
    }
}

#[test]
fn what_was_learned_of_another_session_is_not_taken() -> Result<(), VectorError> {
    let (index, _) = filled(100, 7);
    let learned = |index: &VectorIndex| {
        let step = index.step("a", &SMALL).expect("it is large and in no cell");
        step.work(&mut || true).expect("nobody stops it")
    };
    // Deleted meanwhile, and begun anew with longer vectors.
    let mut other = VectorIndex::new(300)?;
    other.add("a", 1, &direction(1, 300))?;
    other.take("a", learned(&index));
    assert_eq!(other.cells_of("a"), None);
    other.take("b", learned(&index));
    other.add("a", 2, &direction(2, 300))?;
    assert_eq!(other.query(&["a"], &direction(2, 300), &|_, _| false)?.top(5, None).len(), 2);
    Ok(())
}

/// Writes the session and reads it, as a file would be.
fn read_back(index: &VectorIndex) -> VectorIndex {
    let mut read = VectorIndex::new(DIMENSION).expect("fits");
    if let Some(centres) = index.write_centres("a") {
        read.read_centres("a", &centres).expect("they were just written");
        assert_eq!(read.mark_of_centres("a"), index.mark_of_centres("a"));
    }
    let count = index.keys("a").count();
    for from in (0..count).step_by(50) {
        let mut rows = Vec::new();
        index.write_rows("a", from, from + 50, &mut rows);
        let about: Vec<_> = index.centres_of("a", from, from + 50).collect();
        read.read_rows("a", &rows, &about).expect("they were just written");
    }
    read
}

#[test]
fn cells_that_are_read_back_are_as_good_and_want_nothing() {
    let (mut index, model) = filled(1_200, 30);
    let grouping = Grouping { rows_min: 1_000, rows_per_cell: 64 };
    group(&mut index, &grouping);
    let read = read_back(&index);
    assert!(!read.wants_grouping("a", &grouping));
    let no_rows = |_: Key, _: &mut [f32]| false;
    for question in 0..20 {
        let asked = topical(question + 5_000_000, 50);
        let top = |index: &VectorIndex| {
            index.query(&["a"], &asked, &no_rows).expect("fits").top(20, None)
        };
        assert_eq!(top(&read), top(&index));
    }
    assert!(recall(&read, &model, &|_| true) >= 0.95);
    // Rows whose cells are unknown are loose, found all the same, and put in cells again.
    let mut rows = Vec::new();
    index.write_rows("a", 0, 1_200, &mut rows);
    let mut read = VectorIndex::new(DIMENSION).expect("fits");
    read.read_centres("a", &index.write_centres("a").expect("it has some")).expect("just written");
    let wrong: Vec<_> = (0..1_200).map(|at| (at % 3 > 0).then_some(at * 1_000)).collect();
    read.read_rows("a", &rows, &wrong).expect("just written");
    assert!(read.wants_grouping("a", &grouping) && recall(&read, &model, &|_| true) >= 0.95);
    group(&mut read, &grouping);
    assert!(!read.wants_grouping("a", &grouping) && recall(&read, &model, &|_| true) >= 0.95);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_bytes_are_read_as_centres_without_harm(bytes: Vec<u8>, at in 0usize..9_000, bit in 0u8..8) {
        let mut index = VectorIndex::new(DIMENSION)?;
        let _ = index.read_centres("a", &bytes);
        let (mut sound, _) = filled(100, 7);
        group(&mut sound, &SMALL);
        let mut centres = sound.write_centres("a").expect("it has some");
        let at = at % centres.len();
        let mut index = VectorIndex::new(DIMENSION)?;
        prop_assert!(index.read_centres("a", &centres[..at]).is_none());
        centres[at] ^= 1 << bit;
        if index.read_centres("a", &centres).is_some() {
            let (mut rows, about) = (Vec::new(), vec![Some(0); 100]);
            sound.write_rows("a", 0, 100, &mut rows);
            index.read_rows("a", &rows, &about).expect("sound rows");
            let none = |_: Key, _: &mut [f32]| false;
            let found = index.query(&["a"], &direction(9, DIMENSION), &none)?.top(100, None);
            prop_assert_eq!(found.len(), 100);
        }
    }
}
