//! What shapes the order of hits: weights, smoothing, boosts, diversity, turns.

use super::*;

fn hits(world: &World, query: &Query) -> Vec<Hit> {
    world.memory.retrieve("s", query).expect("hits")
}

fn texts(hits: &[Hit]) -> Vec<&str> {
    let text = |hit: &Hit| match &hit.memorized.entry.content {
        Content::Text(text) => text.as_str().to_owned().leak() as &str,
        other => panic!("{other:?} is no text"),
    };
    hits.iter().map(text).collect()
}

pub(super) fn asked(text: &str) -> Query {
    Query { text: Some(text.into()), top_k: 9, ..Query::default() }
}

/// Entries with texts and vectors, each memorized a day after the one before.
fn diary(entries: &[(&str, [f32; 2])]) -> World {
    let world = world();
    for (text, vector) in entries {
        let drafts = vec![draft(text, Some(vector.to_vec()))];
        world.memory.memorize("s", drafts).expect("it memorizes");
        world.now.fetch_add(DAY, Ordering::Relaxed);
    }
    world
}

#[test]
fn weights_decide_which_leg_counts() {
    let world = diary(&[("tea", [0.0, 1.0]), ("milk", [1.0, 0.0])]);
    let with = |vector, text| {
        let weights = Weights { vector, text };
        let query = Query { vector: Some(vec![1.0, 0.1]), weights, ..asked("tea") };
        texts(&hits(&world, &query))[0].to_owned()
    };
    assert_eq!([with(1.0, 0.0), with(0.0, 1.0), with(0.7, 0.3)], ["milk", "tea", "milk"]);
    // A leg that is asked alone orders all the same.
    let weights = Weights { vector: 0.0, text: 1.0 };
    let alone = Query { text: None, vector: Some(vec![1.0, 0.1]), weights, ..asked("") };
    assert_eq!(texts(&hits(&world, &alone)), ["milk", "tea"]);
    for (vector, text) in [(0.0, 0.0), (-1.0, 1.0), (f64::NAN, 1.0), (f64::INFINITY, 1.0)] {
        let query = Query { weights: Weights { vector, text }, ..asked("tea") };
        assert_eq!(code(world.memory.retrieve("s", &query)), "memory.weights");
    }
}

#[test]
fn a_score_is_the_sum_of_its_parts() {
    let world = diary(&[
        ("tea in the morning", [1.0, 0.0]),
        ("milk in the evening", [0.6, 0.8]),
        ("tea with milk", [0.8, 0.6]),
    ]);
    let boost = Boost { strength: 0.5, recency: 0.25, recency_half_life: 2.0 };
    for fusion in [Fusion::Score, Fusion::Rrf] {
        for vector in [None, Some(vec![1.0, 0.2])] {
            for text in [None, Some("tea".to_owned())] {
                if text.is_none() && vector.is_none() {
                    continue;
                }
                let (text, vector) = (text.clone(), vector.clone());
                let query = Query { text, vector, fusion, boost, smoothing: 0.3, ..asked("") };
                let found = hits(&world, &query);
                assert!(!found.is_empty());
                for (hit, place) in found.iter().zip(1..) {
                    let Parts { vector, text, smoothing, strength, recency, .. } = hit.parts;
                    let sum = vector + text + smoothing + strength + recency;
                    assert!((sum - hit.score).abs() < 1e-12, "{hit:?}");
                    assert!(strength > 0.0 && recency > 0.0 && hit.parts.place == place);
                    assert!(query.vector.is_some() || vector == 0.0);
                }
            }
        }
    }
}

#[test]
fn smoothing_lifts_what_stands_beside_the_answer() {
    let world = diary(&[
        ("where is the key", [1.0, 0.0]),
        ("under the flower pot", [0.2, 1.0]),
        ("the key is lost", [1.0, 0.1]),
        ("weather of today", [0.2, 1.0]),
    ]);
    let place = |smoothing| {
        let query = Query { vector: Some(vec![1.0, 0.0]), smoothing, ..asked("key") };
        let found = hits(&world, &query);
        let texts = texts(&found);
        texts.iter().position(|text| text.contains("pot")).expect("it is found")
    };
    assert!(place(0.0) > place(1.0), "{} {}", place(0.0), place(1.0));
    for smoothing in [-0.1, 1.1, f64::NAN] {
        let query = Query { smoothing, ..asked("key") };
        assert_eq!(code(world.memory.retrieve("s", &query)), "memory.option");
    }
}

#[test]
fn the_newer_and_the_stronger_come_first_when_asked_for() {
    let world = diary(&[("tea at noon", [1.0, 0.0]), ("tea at dawn", [1.0, 0.0])]);
    world.now.fetch_add(60 * DAY, Ordering::Relaxed);
    let old = hits(&world, &asked("tea"));
    let oldest = old.iter().map(|hit| hit.memorized.entry.id).min().expect("two");
    world.memory.review(&[oldest], None, Grade::Easy).expect("a review");
    let first = |boost| texts(&hits(&world, &Query { boost, ..asked("tea") }))[0].to_owned();
    let recency = Boost { recency: 1.0, recency_half_life: 1.0, ..Boost::default() };
    assert_eq!(first(recency), "tea at dawn");
    assert_eq!(first(Boost { strength: 1.0, ..Boost::default() }), "tea at noon");
}

#[test]
fn diversity_passes_over_twins() {
    // Twins by vector, and without vectors by words.
    for vectors in [true, false] {
        let world = world();
        for (text, vector) in [
            ("tea tea tea green", [1.0, 0.0]),
            ("green tea tea tea", [1.0, 0.01]),
            ("tea of another kind, from the high mountains", [0.7, 0.7]),
        ] {
            let vector = vectors.then(|| vector.to_vec());
            world.memory.memorize("s", vec![draft(text, vector)]).expect("it memorizes");
        }
        let best = |diversity| {
            let vector = vectors.then(|| vec![1.0, 0.0]);
            let query = Query { top_k: 2, vector, diversity, ..asked("green tea") };
            hits(&world, &query)
        };
        assert!(!texts(&best(0.0)).iter().any(|text| text.contains("mountains")));
        let picked = best(0.7);
        assert!(texts(&picked)[1].contains("mountains"));
        assert_eq!(picked[1].parts.place, 3);
        let many = Query { top_k: 201, diversity: 0.5, ..asked("tea") };
        assert_eq!(code(world.memory.retrieve("s", &many)), "memory.limit");
    }
}

#[test]
fn turns_that_widened_the_query_are_not_answered() {
    let world = diary(&[("tea", [1.0, 0.0]), ("more tea", [1.0, 0.0])]);
    let latest = world.memory.recent("s", 1).expect("an entry")[0].entry.id;
    let found = hits(&world, &Query { without: vec![latest], ..asked("tea") });
    assert_eq!(texts(&found), ["tea"]);
    assert_eq!(found[0].text_rank, Some(1), "what is left out takes nobody's place");
}
