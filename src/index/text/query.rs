//! A search for words in some sessions: prepared once, then asked for the best, or for one entry's score.

use std::collections::BTreeMap;

use super::postings::Doc;
use super::session::Session;
use super::terms::TermId;
use super::tokens::{Kind, Stems, tokenize};
use super::{STOP_PREFIX, TextIndex, bm25};
use crate::index::parts::PartId;
use crate::index::top::{Hit, Top};
use crate::index::{Filter, Key};

/// Different words of a question that are looked for; those after are left out.
const TERMS_MAX: usize = 1_024;
/// Least score of an entry that has a word of the question: anything above 0.
const LEAST: f32 = f32::from_bits(1);

/// A question to some sessions of a [`TextIndex`], with its statistics.
pub struct TextQuery<'a> {
    index: &'a TextIndex,
    /// In rising order.
    parts: Vec<PartId>,
    /// In rising order, with what each weighs: how often it is asked for times its IDF.
    terms: Vec<(TermId, f32)>,
    /// 1 / mean length of the sessions' entries, in tokens.
    inverse_mean: f32,
    /// Per small session: which entries have which of the terms, found while counting.
    matches: Vec<Vec<Match>>,
}

struct Match {
    doc: Doc,
    /// Position in `terms`.
    term: u32,
    frequency: u32,
}

impl<'a> TextQuery<'a> {
    pub(super) fn new(index: &'a TextIndex, sessions: &[&str], text: &str) -> Self {
        let parts = index.parts.find_all(sessions);
        let asked = asked(index, text);
        let mut having = vec![0u64; asked.len()];
        let matches =
            parts.iter().map(|&part| count(index.parts.get(part), &asked, &mut having)).collect();
        let all = || parts.iter().map(|&part| index.parts.get(part));
        let entries = all().map(|session| session.len() as u64).sum();
        let tokens: u64 = all().map(Session::tokens).sum();
        let weighted = asked.iter().zip(&having);
        let terms = weighted
            .map(|(&(term, times), &having)| (term, times as f32 * bm25::idf(entries, having)))
            .collect();
        let inverse_mean = entries as f32 / tokens.max(1) as f32;
        Self { index, parts, terms, inverse_mean, matches }
    }

    /// The best `k` entries that `filter` allows, best first. Entries without a word of the question
    /// are never among them.
    pub fn top(&self, k: usize, filter: Option<Filter<'_>>) -> Vec<Hit> {
        let mut top = Top::new(k, filter);
        for (&part, matches) in self.parts.iter().zip(&self.matches) {
            let session = self.index.parts.get(part);
            if session.is_listed() {
                self.read_lists(session, &mut top);
            } else {
                self.read_matches(session, matches, &mut top);
            }
        }
        top.into_sorted()
    }

    /// Score of one entry: 0 if it has no word of the question, `None` if it is in none of the sessions.
    pub fn score(&self, key: Key) -> Option<f32> {
        let place = self.index.parts.place(key)?;
        self.parts.binary_search(&place.part).ok()?;
        let session = self.index.parts.get(place.part);
        let relative = self.relative(session, place.row);
        let mut score = 0.0;
        each_match(session, place.row, &self.terms, |term, frequency| {
            score += bm25::score(self.terms[term].1, frequency, relative);
        });
        Some(score)
    }

    /// Term by term over the whole session: every posting is read once, in order.
    fn read_lists(&self, session: &Session, top: &mut Top<'_>) {
        let lengths = session.lengths();
        let mut scores = vec![0f32; lengths.len()];
        for &(term, weight) in &self.terms {
            let Some(postings) = session.postings(term) else { continue };
            for block in postings.blocks() {
                for posting in block {
                    let doc = posting.doc() as usize;
                    let relative = lengths[doc] as f32 * self.inverse_mean;
                    scores[doc] += bm25::score(weight, posting.frequency(), relative);
                }
            }
        }
        top.offer_all(&scores, LEAST, |doc| session.key(doc as Doc));
    }

    fn read_matches(&self, session: &Session, matches: &[Match], top: &mut Top<'_>) {
        for of_doc in matches.chunk_by(|a, b| a.doc == b.doc) {
            let doc = of_doc[0].doc;
            let relative = self.relative(session, doc);
            let mut score = 0.0;
            for found in of_doc {
                let weight = self.terms[found.term as usize].1;
                score += bm25::score(weight, found.frequency, relative);
            }
            top.offer(Hit { key: session.key(doc), score });
        }
    }

    fn relative(&self, session: &Session, doc: Doc) -> f32 {
        session.length(doc) as f32 * self.inverse_mean
    }
}

/// The known terms of a question, in rising order, and how often each is asked for.
///
/// Stop words only count in a question that is made of nothing else.
fn asked(index: &TextIndex, text: &str) -> Vec<(TermId, u32)> {
    let (mut content, mut stops) = (BTreeMap::new(), BTreeMap::new());
    let mut any_content = false;
    tokenize(text, &mut Stems::default(), |token, kind| {
        let (terms, found) = match kind {
            Kind::Content => {
                any_content = true;
                (&mut content, index.terms.find(token))
            }
            Kind::Stop => (&mut stops, index.terms.find(&format!("{STOP_PREFIX}{token}"))),
        };
        let Some(term) = found else { return };
        if terms.len() < TERMS_MAX || terms.contains_key(&term) {
            *terms.entry(term).or_insert(0) += 1;
        }
    });
    (if any_content { content } else { stops }).into_iter().collect()
}

/// Adds to `having` how many entries of the session have each term, and gives a small session's matches.
fn count(session: &Session, asked: &[(TermId, u32)], having: &mut [u64]) -> Vec<Match> {
    if session.is_listed() {
        for (having, &(term, _)) in having.iter_mut().zip(asked) {
            *having += session.postings(term).map_or(0, |postings| postings.len() as u64);
        }
        return Vec::new();
    }
    let mut matches = Vec::new();
    for doc in 0..session.len() as Doc {
        each_match(session, doc, asked, |term, frequency| {
            having[term] += 1;
            matches.push(Match { doc, term: term as u32, frequency });
        });
    }
    matches
}

/// Calls `each` with the position and frequency of every asked term that the entry has.
fn each_match<T>(
    session: &Session,
    doc: Doc,
    asked: &[(TermId, T)],
    mut each: impl FnMut(usize, u32),
) {
    let mut at = 0;
    for (term, frequency) in session.terms(doc) {
        while asked.get(at).is_some_and(|(asked, _)| *asked < term) {
            at += 1;
        }
        match asked.get(at) {
            None => return,
            Some((asked, _)) if *asked == term => each(at, frequency),
            Some(_) => {}
        }
    }
}
