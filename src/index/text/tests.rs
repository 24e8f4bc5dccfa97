//! The index against a model that reads every text again for every question.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Texts by session and key; knows BM25 and nothing else.
#[derive(Default)]
struct Model {
    texts: BTreeMap<Key, (String, String)>,
}

fn words(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut content, mut stops) = (Vec::new(), Vec::new());
    tokens::tokenize(text, &mut Stems::default(), |token, kind| match kind {
        Kind::Content => content.push(token.to_owned()),
        Kind::Stop => stops.push(token.to_owned()),
    });
    (content, stops)
}

impl Model {
    fn search(&self, sessions: &[&str], question: &str) -> Vec<(Key, f64)> {
        let (content, stops) = words(question);
        let by_stops = content.is_empty();
        let asked = if by_stops { stops } else { content };
        let entries: Vec<_> = self
            .texts
            .iter()
            .filter(|(_, (session, _))| sessions.contains(&session.as_str()))
            .map(|(&key, (_, text))| (key, words(text)))
            .collect();
        let length = |(content, stops): &(Vec<String>, Vec<String>)| {
            if content.is_empty() { stops.len() } else { content.len() }
        };
        let mean = entries.iter().map(|(_, words)| length(words)).sum::<usize>() as f64
            / entries.len() as f64;
        let times = |(content, stops): &(Vec<String>, Vec<String>), term: &String| {
            let of_kind = if by_stops { stops } else { content };
            of_kind.iter().filter(|word| *word == term).count().min(255) as f64
        };
        let mut found = Vec::new();
        for (key, entry) in &entries {
            let mut score = 0.0;
            for term in &asked {
                let having = entries.iter().filter(|(_, e)| times(e, term) > 0.0).count() as f64;
                let idf = (1.0 + (entries.len() as f64 - having + 0.5) / (having + 0.5)).ln();
                let tf = times(entry, term);
                score += idf * tf / (tf + 0.9 * (0.6 + 0.4 * length(entry) as f64 / mean));
            }
            if score > 0.0 {
                found.push((*key, score));
            }
        }
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.0.cmp(&a.0)));
        found
    }
}

/// The same entries with the same scores; the order of near-equals may differ by rounding.
fn assert_same(found: &[super::super::Hit], expected: &[(Key, f64)]) {
    assert_eq!(found.len(), expected.len());
    let expected: BTreeMap<_, _> = expected.iter().copied().collect();
    for hit in found {
        let score = expected[&hit.key];
        assert!((f64::from(hit.score) / score - 1.0).abs() < 1e-4, "{hit:?}, expected {score}");
    }
    assert!(found.is_sorted_by(|a, b| a >= b));
}

fn check(index: &TextIndex, model: &Model, sessions: &[&str], question: &str) {
    let query = index.query(sessions, question);
    let found = query.top(usize::MAX, None);
    assert_same(&found, &model.search(sessions, question));
    for hit in &found {
        assert_eq!(query.score(hit.key), Some(hit.score), "the same bits, however it is asked");
    }
    assert_eq!(query.top(3, None), found[..found.len().min(3)]);
    let odd = |key: Key| key % 2 == 1;
    let expected: Vec<_> = found.into_iter().filter(|hit| odd(hit.key)).take(4).collect();
    assert_eq!(query.top(4, Some(&odd)), expected);
}

const SESSIONS: [&str; 4] = ["a", "a:b", "A", ""];
const WORDS: [&str; 12] = [
    "agent",
    "agents",
    "memory",
    "the",
    "who",
    "to",
    "战国",
    "国无双",
    "flow",
    "flows",
    "boundary",
    "Straße",
];

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&WORDS[..]), 0..12).prop_map(|words| words.join(" "))
}

fn step() -> impl Strategy<Value = (u8, usize, u32, String)> {
    (0u8..10, 0usize..4, 0u32..60, text())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_history_of_changes_is_searched_as_the_model_says(
        steps in prop::collection::vec(step(), 1..120), question in text(),
    ) {
        let (mut index, mut model) = (TextIndex::default(), Model::default());
        for (what, session, key, text) in steps {
            let (session, key) = (SESSIONS[session], Key::from(key));
            match what {
                0 => {
                    let gone = index.delete_session(session);
                    let before = model.texts.len();
                    model.texts.retain(|_, (of, _)| of != session);
                    prop_assert_eq!(gone, before - model.texts.len());
                }
                1 | 2 => prop_assert_eq!(index.delete(key), model.texts.remove(&key).is_some()),
                _ => {
                    index.add(session, key, &text)?;
                    model.texts.insert(key, (session.to_owned(), text));
                }
            }
        }
        prop_assert_eq!(index.len(), model.texts.len());
        let restored = TextIndex::restore(&index.snapshot())?;
        for sessions in [&SESSIONS[..1], &SESSIONS[1..3], &SESSIONS[..], &["b", ":b", "a:", " a"]] {
            check(&index, &model, sessions, &question);
            check(&restored, &model, sessions, &question);
        }
        for key in model.texts.keys() {
            index.delete(*key);
        }
        prop_assert_eq!((index.len(), index.vocabulary()), (0, 0));
    }
}

/// A session that is large enough for lists, and shrinks until it has none.
#[test]
fn a_large_session_is_searched_as_the_model_says() -> Result<(), TextError> {
    let (mut index, mut model) = (TextIndex::default(), Model::default());
    for key in 0..600u32 {
        let text: Vec<_> = (0..8).map(|n| WORDS[(key * 7 + n * n * key) as usize % 12]).collect();
        let text = format!("{} number{}", text.join(" "), key % 50);
        let session = if key % 9 == 0 { "small" } else { "large" };
        index.add(session, Key::from(key), &text)?;
        model.texts.insert(Key::from(key), (session.to_owned(), text));
    }
    let questions = ["agent memory flow", "the who", "战国无双 number7", "nothing of it"];
    let everywhere: [&[&str]; 3] = [&["large"], &["small"], &["large", "small"]];
    for round in 0..3 {
        for sessions in everywhere {
            questions.iter().for_each(|question| check(&index, &model, sessions, question));
        }
        let restored = TextIndex::restore(&index.snapshot()).expect("it was just written");
        check(&restored, &model, &["large"], questions[0]);
        for key in (0..600).filter(|key| key % 3 == round) {
            assert!(index.delete(key));
            model.texts.remove(&key);
        }
    }
    assert!(index.is_empty() && index.vocabulary() == 0);
    Ok(())
}

#[test]
fn stop_words_are_found_by_a_question_of_stop_words_only() -> Result<(), TextError> {
    let mut index = TextIndex::default();
    index.add("s", 1, "The Who played in Leeds")?;
    index.add("s", 2, "to be or not to be")?;
    let keys = |question| {
        let hits = index.query(&["s"], question).top(9, None);
        hits.into_iter().map(|hit| hit.key).collect::<Vec<_>>()
    };
    assert_eq!(keys("who?"), [1]);
    assert_eq!(keys("to be or not to be"), [2]);
    assert_eq!(keys("who was in leeds"), [1]);
    assert!(keys("the flow").is_empty(), "a content word that nobody has is no stop word");
    Ok(())
}

#[test]
fn damage_of_any_byte_is_an_error_and_no_panic() -> Result<(), TextError> {
    let mut index = TextIndex::default();
    index.add("s", 1, "alpha beta")?;
    index.add("t", 2, "beta gamma gamma")?;
    let bytes = index.snapshot();
    for at in 0..bytes.len() {
        let mut broken = bytes.clone();
        broken[at] ^= 0x55;
        assert!(TextIndex::restore(&broken).is_err());
        assert!(TextIndex::restore(&bytes[..at]).is_err());
        // With a sum that fits, only the meaning is left to be checked.
        let sum = crc32fast::hash(&broken[8..]).to_le_bytes();
        broken[4..8].copy_from_slice(&sum);
        if let Ok(mut index) = TextIndex::restore(&broken) {
            index.query(&["s", "t"], "beta gamma").top(9, None);
            (0..3).for_each(|key| _ = index.delete(key));
        }
    }
    assert!(TextIndex::restore(&bytes).is_ok());
    Ok(())
}
