//! No read and no delete ever crosses sessions, whatever they are called.
//!
//! `GOCLAW_ISOLATION=1000000 cargo test --release isolation` asks a million times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::tests::{Dice, draft, world, world_on};
use super::*;
use crate::model::{EntryId, Grade};
use crate::store;

/// Names that are nearly each other: prefixes, separators of all kinds, other forms of one text, bounds.
fn names() -> Vec<String> {
    let long = |last: &str, len: usize| "x".repeat(len - last.len()) + last;
    let mut names: Vec<String> = [
        "a",
        "aa",
        "a:",
        "a:b",
        "a:b:",
        "a\0",
        "a\0b",
        "\0",
        "\0\0",
        "A",
        " a",
        "a ",
        "a*",
        "*",
        "%",
        "a%",
        "_",
        "a/b",
        "../a",
        "/",
        "a\n",
        "forgetting/a",
        "null",
        "0",
        "00",
        "\u{e9}",
        "e\u{301}",
        "\u{c5}",
        "\u{212b}",
        "A\u{30a}",
        "fi",
        "\u{fb01}",
        "\u{feff}a",
        "a\u{200b}",
        "日本",
        "日本語",
        "\u{1}a",
        "\u{7f}",
        "\u{10ffff}",
        "\u{ff41}",
    ]
    .map(Into::into)
    .into();
    names.extend([long("x", 400), long("y", 400), long("x", 399), long("é", 400), long("x", 256)]);
    names
}

struct Model {
    names: Vec<String>,
    owned: BTreeMap<usize, BTreeSet<EntryId>>,
    dice: Dice,
}

impl Model {
    fn name(&mut self) -> usize {
        self.dice.roll(self.names.len() as u64) as usize
    }

    /// An entry of any session, and whose it is.
    fn some(&mut self) -> Option<(usize, EntryId)> {
        let name = self.name();
        let own = self.owned.get(&name)?;
        let at = self.dice.roll(own.len().max(1) as u64) as usize;
        own.iter().nth(at).map(|id| (name, *id))
    }
}

fn query(dice: &mut Dice) -> Query {
    let (text, vector) = (Some("secret".to_owned()), Some(dice.vector()));
    let mode = [Mode::Hybrid, Mode::Vector, Mode::Text][dice.roll(3) as usize];
    Query { text, vector, mode, top_k: 3, smoothing: dice.roll(2) as f64 * 0.3, ..Query::default() }
}

/// Random searches, writes and deletes; every answer is of the session that was asked.
fn play(memory: &Memory, seed: u64, steps: u64) {
    let mut model = Model { names: names(), owned: BTreeMap::new(), dice: Dice(seed) };
    let at = |step: u64| format!("seed {seed}, step {step}");
    for step in 0..steps {
        let asked = model.name();
        let session = model.names[asked].clone();
        match (model.dice.roll(20), model.some()) {
            (0 | 1, _) if model.owned.get(&asked).is_none_or(|own| own.len() < 8) => {
                let text = format!("secret number{step} of {asked}");
                let drafts = vec![draft(&text, Some(model.dice.vector()))];
                let ids = memory.memorize(&session, drafts).expect("it memorizes");
                model.owned.entry(asked).or_default().extend(ids);
            }
            (2, Some((owner, id))) => {
                let gone = memory.forget(&session, &Forget::Ids(vec![id]), 9).expect("it forgets");
                assert_eq!(gone.ids.is_empty(), owner != asked, "{}", at(step));
                if owner == asked {
                    model.owned.entry(owner).or_default().remove(&id);
                }
            }
            (3, Some((owner, id))) => {
                let found = memory.get(id, Some(&session)).expect("no error");
                assert_eq!(found.is_some(), owner == asked, "{}", at(step));
                let reviewed = memory.review(&[id], Some(&session), Grade::Good);
                assert_eq!(reviewed.is_ok(), owner == asked, "{}", at(step));
            }
            (4, _) if model.dice.roll(8) == 0 => {
                let gone = memory.delete_session(&session).expect("it forgets");
                let own = model.owned.remove(&asked).unwrap_or_default();
                assert_eq!(gone as usize, own.len(), "{}", at(step));
            }
            _ => {
                let query = query(&mut model.dice);
                let hits = memory.retrieve(&session, &query).expect("hits");
                let own = model.owned.get(&asked).map_or(0, BTreeSet::len);
                assert_eq!(hits.len(), own.min(3), "{}", at(step));
                for hit in hits {
                    let entry = &hit.memorized.entry;
                    assert_eq!(*entry.session, *session, "{}", at(step));
                    assert!(model.owned[&asked].contains(&entry.id), "{}", at(step));
                }
            }
        }
    }
    let all: BTreeMap<String, u64> = model
        .owned
        .iter()
        .filter(|(_, own)| !own.is_empty())
        .map(|(name, own)| (model.names[*name].clone(), own.len() as u64))
        .collect();
    let found = memory.sessions(None, usize::MAX).expect("sessions").into_iter();
    assert_eq!(found.map(|(name, n)| (name.to_string(), n)).collect::<BTreeMap<_, _>>(), all);
}

#[test]
fn no_answer_is_of_another_session() {
    let steps = std::env::var("GOCLAW_ISOLATION").ok().and_then(|it| it.parse().ok());
    play(&world().memory, 11, steps.unwrap_or(20_000));
}

#[test]
fn no_answer_is_of_another_session_on_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    for seed in 1..=3 {
        let options = store::Options { segment_bytes: 64 << 10, ..store::Options::default() };
        let path = dir.path().join(seed.to_string());
        let store = store::open(Some(&path), &options).expect("a store");
        play(&world_on(Arc::clone(&store)).memory, seed, 1_500);
        store.close().expect("a close");
    }
}
