//! The suite: what any tier does.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::tier::tags;

/// Every rule, on a tier that is made anew for each.
pub(super) fn suite(make: &dyn Fn() -> Box<dyn Tier>) {
    for rule in [
        what_is_put_comes_back_whole,
        sessions_are_exact,
        puts_are_idempotent,
        what_is_deleted_leaves_nothing,
        unknown_ids_and_sessions_are_no_fault,
        a_search_is_ordered_and_bounded,
        tags_are_applied_during_the_search,
        many_come_back_in_pieces,
        large_contents_pass,
        many_threads_do_not_mix_sessions,
    ] {
        rule(&*make());
    }
}

fn fetched(tier: &dyn Tier, session: &str, numbers: &[u128]) -> Vec<Cold> {
    let ids: Vec<_> = numbers.iter().map(|number| id(*number)).collect();
    let mut found = tier.fetch(session, &ids).expect("a fetch");
    found.sort_by_key(|cold| cold.id);
    found
}

fn found(tier: &dyn Tier, session: &str, angle: f32, top_k: usize) -> Vec<u128> {
    let found = tier.search(session, &ray(angle), &[], top_k).expect("a search");
    found.iter().map(|found| found.id.as_u128()).collect()
}

fn what_is_put_comes_back_whole(tier: &dyn Tier) {
    let texts = ["tea", "茶と音楽 🍵", "a\"b\\c\u{1}\n", "{{ {Get} }}", " spaces around "];
    let mut batch: Vec<Cold> = texts
        .iter()
        .enumerate()
        .map(|(n, text)| Cold { content: Content::Text((*text).into()), ..at(n as u128, 10.0) })
        .collect();
    let json = json!({"a": [1, null, "ü"]}).to_string();
    batch.push(Cold { content: Content::Json(json), ..at(10, 20.0) });
    batch.push(Cold { content: Content::Bytes(vec![0, 255, 10, 128]), ..at(11, 30.0) });
    let metadata = json!({"kind": "taste", "n": 1.5, "deep": {"b": [1], "a": null}});
    batch[0].tags = tags(metadata.as_object().expect("an object"));
    tier.put("s", &batch).expect("a put");
    let numbers: Vec<u128> = batch.iter().map(|cold| cold.id.as_u128()).collect();
    let back = fetched(tier, "s", &numbers);
    assert_eq!(back.len(), batch.len());
    for (back, cold) in back.iter().zip(&batch) {
        assert_eq!((back.id, &back.content, &back.tags), (cold.id, &cold.content, &cold.tags));
        for (a, b) in back.vector.parts().zip(cold.vector.parts()) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }
    tier.health().expect("it answers");
}

fn sessions_are_exact(tier: &dyn Tier) {
    // The one without a name is where stores claim a tier.
    let sessions = ["a", "a:b", "A", " a", "a ", "a\0", "ä", "a/../b", "a\"b", "*", ""];
    for (n, session) in sessions.iter().enumerate() {
        // The same id in every session, with a content of each one's own.
        let own = Cold { content: Content::Text(format!("of {n}")), ..at(7, 0.0) };
        tier.put(session, &[own, at(100 + n as u128, 5.0)]).expect("a put");
    }
    for (n, session) in sessions.iter().enumerate() {
        assert_eq!(found(tier, session, 0.0, 50), [7, 100 + n as u128], "{session:?}");
        let back = fetched(tier, session, &[7, 100, 101, 102, 103, 104]);
        assert_eq!(back[0].content, Content::Text(format!("of {n}")));
        assert!(back[1..].iter().all(|cold| cold.id == id(100 + n as u128)));
        assert_eq!(tier.count(session).expect("a count"), 2);
    }
    tier.delete("a", &[id(101), id(100)]).expect("a delete");
    tier.delete_session("a:b").expect("a delete");
    for (n, session) in sessions.iter().enumerate() {
        let wanted = [1, 0, 2].get(n).copied().unwrap_or(2);
        assert_eq!(tier.count(session).expect("a count"), wanted, "{session:?}");
    }
}

fn puts_are_idempotent(tier: &dyn Tier) {
    tier.put("s", &[]).expect("nothing is put");
    for _ in 0..3 {
        tier.put("s", &[at(1, 0.0), at(2, 90.0)]).expect("a put");
    }
    assert_eq!(tier.count("s").expect("a count"), 2);
    let changed = Cold { content: Content::Text("new".into()), ..at(1, 90.0) };
    tier.put("s", std::slice::from_ref(&changed)).expect("a put");
    assert_eq!(tier.count("s").expect("a count"), 2);
    assert_eq!(fetched(tier, "s", &[1])[0].content, changed.content);
    let near = tier.search("s", &ray(90.0), &[], 2).expect("a search");
    assert!(near.iter().all(|found| found.cosine > 0.99), "the old vector is gone: {near:?}");
}

fn what_is_deleted_leaves_nothing(tier: &dyn Tier) {
    let batch: Vec<_> = (0..20).map(|n| at(n, n as f32)).collect();
    tier.put("s", &batch).expect("a put");
    tier.delete("s", &[id(3), id(4), id(3), id(999)]).expect("a delete");
    tier.delete("s", &[id(3)]).expect("again");
    assert_eq!(tier.count("s").expect("a count"), 18);
    assert!(fetched(tier, "s", &[3, 4]).is_empty());
    assert!(!found(tier, "s", 3.0, 50).contains(&3));
    tier.put("s", &[at(3, 3.0)]).expect("it may come again");
    assert_eq!(found(tier, "s", 3.0, 1), [3]);
    tier.delete_session("s").expect("a delete");
    tier.delete_session("s").expect("again");
    assert_eq!(tier.count("s").expect("a count"), 0);
    assert!(found(tier, "s", 3.0, 50).is_empty() && fetched(tier, "s", &[1, 5]).is_empty());
    tier.put("s", &[at(5, 0.0)]).expect("a put");
    assert_eq!(found(tier, "s", 0.0, 50), [5]);
}

fn unknown_ids_and_sessions_are_no_fault(tier: &dyn Tier) {
    assert!(fetched(tier, "never", &[1, 2]).is_empty());
    assert!(found(tier, "never", 0.0, 5).is_empty());
    assert_eq!(tier.count("never").expect("a count"), 0);
    tier.delete("never", &[id(1)]).expect("nothing to do");
    tier.delete_session("never").expect("nothing to do");
    tier.put("s", &[at(1, 0.0)]).expect("a put");
    assert!(fetched(tier, "never", &[1]).is_empty());
    assert_eq!(fetched(tier, "s", &[1, 2, 1]).len(), 1);
    assert!(tier.fetch("s", &[]).expect("a fetch").is_empty());
    tier.delete("s", &[]).expect("nothing to do");
    assert_eq!(tier.count("s").expect("a count"), 1);
}

fn a_search_is_ordered_and_bounded(tier: &dyn Tier) {
    let batch: Vec<_> = (0..40).map(|n| at(n, 4.0 * n as f32)).collect();
    tier.put("s", &batch).expect("a put");
    for (angle, k) in [(0.0, 1), (80.0, 7), (156.0, 100)] {
        let hits = tier.search("s", &ray(angle), &[], k).expect("a search");
        assert_eq!(hits.len(), k.min(40));
        assert_eq!(hits[0].id, id((angle / 4.0) as u128));
        assert!(hits.windows(2).all(|pair| pair[0].cosine >= pair[1].cosine - 1e-4));
        for hit in &hits {
            let wanted = (4.0 * hit.id.as_u128() as f32 - angle).to_radians().cos();
            assert!((hit.cosine - wanted).abs() < 2e-3, "{hit:?}: {wanted}");
        }
    }
    let opposite = tier.search("s", &ray(180.0), &[], 40).expect("a search");
    assert!(opposite[39].cosine < -0.99, "cosines go down to -1");
}

fn tags_are_applied_during_the_search(tier: &dyn Tier) {
    let of = |value: Value| tags(value.as_object().expect("an object"));
    let values =
        [json!({"k": 1}), json!({"k": [2, 1.0]}), json!({"k": "1"}), json!({"k": 1, "l": "x "})];
    let batch: Vec<_> = (0..80)
        .map(|n| Cold { tags: of(values[n % 4].clone()), ..at(n as u128, n as f32) })
        .collect();
    tier.put("s", &batch).expect("a put");
    let search = |wanted: Value, k: usize| -> BTreeSet<u128> {
        let hits = tier.search("s", &ray(0.0), &of(wanted), k).expect("a search");
        hits.iter().map(|hit| hit.id.as_u128()).collect()
    };
    assert_eq!(search(json!({"k": 1}), 5), BTreeSet::from([0, 1, 3, 4, 5]));
    assert_eq!(search(json!({"k": 2.0}), 2), BTreeSet::from([1, 5]));
    assert_eq!(search(json!({"k": "1"}), 2), BTreeSet::from([2, 6]));
    assert_eq!(search(json!({"k": 1, "l": "x "}), 2), BTreeSet::from([3, 7]));
    assert!(search(json!({"k": 1, "l": "x"}), 9).is_empty());
    assert!(search(json!({"other": null}), 9).is_empty());
}

fn many_come_back_in_pieces(tier: &dyn Tier) {
    let batch: Vec<_> = (0..1_203).map(|n| at(n, (n % 180) as f32)).collect();
    tier.put("s", &batch).expect("a put");
    assert_eq!(tier.count("s").expect("a count"), 1_203);
    let numbers: Vec<u128> = (0..1_203).collect();
    let back = fetched(tier, "s", &numbers);
    assert_eq!(back.len(), 1_203);
    assert!(back.iter().zip(&batch).all(|(a, b)| a.content == b.content));
    assert_eq!(tier.search("s", &ray(0.0), &[], 1_203).expect("a search").len(), 1_203);
    let most: Vec<_> = (0..1_200).map(id).collect();
    tier.delete("s", &most).expect("a delete");
    assert_eq!(fetched(tier, "s", &numbers).len(), 3);
}

fn large_contents_pass(tier: &dyn Tier) {
    let mut batch = Vec::new();
    for len in [8_000, 1 << 20] {
        let bytes: Vec<u8> = (0..len).map(|n| (n * 31 % 251) as u8).collect();
        // The last one is what JSON makes longest.
        let texts = ["ü".repeat(len / 2), "\u{1}".repeat(len / 2)];
        let contents = texts.map(Content::Text).into_iter().chain([Content::Bytes(bytes)]);
        for content in contents {
            let cold = Cold { content, ..at(1 + batch.len() as u128, 0.0) };
            if tier.takes("s", &cold) {
                batch.push(cold);
            }
        }
    }
    assert!(batch.len() >= 3);
    tier.put("s", &batch).expect("a put");
    let back = fetched(tier, "s", &[1, 2, 3, 4, 5, 6]);
    assert_eq!(back.len(), batch.len());
    assert!(back.iter().zip(&batch).all(|(a, b)| a.content == b.content));
}

fn many_threads_do_not_mix_sessions(tier: &dyn Tier) {
    std::thread::scope(|scope| {
        for worker in 0..4_u128 {
            scope.spawn(move || {
                // Two threads share a session, and each has ids of its own.
                let session = ["x", "x:y"][worker as usize % 2];
                for round in 0..8 {
                    let first = 1_000 * worker + 10 * round;
                    let batch: Vec<_> = (first..first + 10).map(|n| at(n, 1.0)).collect();
                    tier.put(session, &batch).expect("a put");
                    let gone = [id(first), id(first + 1)];
                    tier.delete(session, &gone).expect("a delete");
                    let rest: Vec<u128> = (first..first + 10).collect();
                    assert_eq!(fetched(tier, session, &rest).len(), 8);
                    let near = found(tier, session, 1.0, 1_000);
                    assert!(near.iter().all(|n| (n / 1_000) % 2 == worker % 2), "{session}");
                }
            });
        }
    });
    for session in ["x", "x:y"] {
        assert_eq!(tier.count(session).expect("a count"), 2 * 8 * 8);
    }
}
