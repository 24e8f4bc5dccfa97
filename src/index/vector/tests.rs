//! The index against a model that computes every cosine in f64.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Model = BTreeMap<Key, (&'static str, Vec<f32>)>;

const SESSIONS: [&str; 3] = ["a", "a:b", ""];

/// A direction that follows from a seed.
pub fn direction(seed: u64, dimension: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..dimension).map(|_| draw() + draw() + draw()).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn nearest(model: &Model, sessions: &[&str], vector: &[f32]) -> Vec<(Key, f64)> {
    let mut found: Vec<_> = model
        .iter()
        .filter(|(_, (session, _))| sessions.contains(session))
        .map(|(&key, (_, row))| (key, cosine(vector, row)))
        .collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.0.cmp(&a.0)));
    found
}

fn check(index: &VectorIndex, model: &Model, sessions: &[&str], vector: &[f32], k: usize) {
    let truth = |key: Key, row: &mut [f32]| {
        row.copy_from_slice(&model[&key].1);
        true
    };
    let query = index.query(sessions, vector, &truth).expect("a direction");
    let found = query.top(k, None);
    let expected = nearest(model, sessions, vector);
    assert_eq!(found.len(), k.min(expected.len()));
    for (hit, (_, score)) in found.iter().zip(&expected) {
        // Keys may differ where cosines are equal up to rounding; the cosines may not.
        assert!((f64::from(hit.score) - score).abs() < 1e-5, "{hit:?}, expected {score}");
        assert_eq!(query.score(hit.key), Some(hit.score));
        assert!((cosine(vector, &model[&hit.key].1) - f64::from(hit.score)).abs() < 1e-5);
        assert!(sessions.contains(&model[&hit.key].0));
    }
    let odd = |key: Key| key % 2 == 1;
    let filtered = query.top(k, Some(&odd));
    assert_eq!(filtered.len(), k.min(expected.iter().filter(|(key, _)| odd(*key)).count()));
    assert!(filtered.iter().all(|hit| odd(hit.key)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn every_history_of_changes_is_searched_as_the_model_says(
        dimension in prop::sample::select(vec![1usize, 3, 64, 65, 200]),
        steps in prop::collection::vec((0u8..10, 0usize..3, 0u32..80, 1u64..1_000), 1..150),
        question in 1u64..1_000, k in 0usize..20,
    ) {
        let (mut index, mut model) = (VectorIndex::new(dimension)?, Model::new());
        for (what, session, key, seed) in steps {
            let (session, key) = (SESSIONS[session], Key::from(key));
            match what {
                0 => {
                    let before = model.len();
                    model.retain(|_, (of, _)| *of != session);
                    prop_assert_eq!(index.delete_session(session), before - model.len());
                }
                1 | 2 => prop_assert_eq!(index.delete(key), model.remove(&key).is_some()),
                _ => {
                    let row = direction(seed, dimension);
                    index.add(session, key, &row)?;
                    model.insert(key, (session, row));
                }
            }
        }
        prop_assert_eq!(index.len(), model.len());
        let vector = direction(question, dimension);
        for sessions in [&SESSIONS[..1], &SESSIONS[1..], &SESSIONS[..], &["b", "A"]] {
            check(&index, &model, sessions, &vector, k);
        }
    }
}

#[test]
fn sessions_of_many_blocks_grow_and_shrink() -> Result<(), VectorError> {
    let (mut index, mut model) = (VectorIndex::new(70)?, Model::new());
    for key in 0..3_000u32 {
        let row = direction(u64::from(key) + 1, 70);
        index.add("a", Key::from(key), &row)?;
        model.insert(Key::from(key), ("a", row));
    }
    check(&index, &model, &["a"], &direction(77, 70), 10);
    for key in (0..3_000).filter(|key| key % 7 != 0) {
        assert!(index.delete(key));
        model.remove(&key);
    }
    check(&index, &model, &["a"], &direction(78, 70), 10);
    assert_eq!(index.delete_session("a"), model.len());
    assert!(index.is_empty());
    Ok(())
}

#[test]
fn without_rows_the_scan_alone_is_close() -> Result<(), VectorError> {
    let mut index = VectorIndex::new(384)?;
    index.add("a", 1, &direction(1, 384))?;
    let none = |_: Key, _: &mut [f32]| false;
    let query = index.query(&["a"], &direction(2, 384), &none)?;
    let exact = cosine(&direction(1, 384), &direction(2, 384));
    assert!((f64::from(query.top(1, None)[0].score) - exact).abs() < 0.003);
    assert_eq!(query.score(1), Some(query.top(1, None)[0].score));
    assert_eq!(query.score(2), None);
    Ok(())
}

#[test]
fn a_refused_vector_changes_nothing() -> Result<(), VectorError> {
    let mut index = VectorIndex::new(2)?;
    index.add("a", 1, &[1.0, 0.0])?;
    for bad in [&[f32::NAN, 1.0][..], &[0.0, 0.0], &[1.0], &[1.0, f32::INFINITY]] {
        assert!(index.add("b", 1, bad).is_err());
        assert!(index.query(&["a"], bad, &|_, _| false).is_err());
    }
    assert_eq!((index.len(), index.parts.find("b")), (1, None));
    assert!(VectorIndex::new(0).is_err() && VectorIndex::new(DIMENSION_MAX + 1).is_err());
    Ok(())
}
