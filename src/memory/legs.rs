//! The two ways into a session's memories: by words and by vector. Both exact, both in RAM.
//!
//! The seam behind which better indexes go: slots in, scores of every match out.

use std::collections::HashMap;

use crate::model::Vector;

/// BM25's saturation and length weight, as measured on conversations.
const K1: f32 = 0.9;
const B: f32 = 0.4;

#[derive(Debug, Default)]
pub(super) struct Legs {
    /// Term → (slot, how often).
    postings: HashMap<Box<str>, HashMap<u32, u32>>,
    /// Slot → its terms, and how many it has with repetitions.
    documents: HashMap<u32, (Vec<Box<str>>, u32)>,
    terms: u64,
    vectors: HashMap<u32, Vec<f32>>,
}

impl Legs {
    pub(super) fn insert_text(&mut self, slot: u32, text: &str) {
        let mut counts: HashMap<Box<str>, u32> = HashMap::new();
        for term in terms(text) {
            *counts.entry(term).or_default() += 1;
        }
        let length: u32 = counts.values().sum();
        if length == 0 {
            return;
        }
        for (term, count) in &counts {
            self.postings.entry(term.clone()).or_default().insert(slot, *count);
        }
        self.documents.insert(slot, (counts.into_keys().collect(), length));
        self.terms += u64::from(length);
    }

    pub(super) fn insert_vector(&mut self, slot: u32, vector: &Vector) {
        self.vectors.insert(slot, vector.parts().collect());
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.vectors.remove(&slot);
        let Some((terms, length)) = self.documents.remove(&slot) else { return };
        self.terms -= u64::from(length);
        for term in terms {
            if let Some(posting) = self.postings.get_mut(&term) {
                posting.remove(&slot);
                if posting.is_empty() {
                    self.postings.remove(&term);
                }
            }
        }
    }

    /// BM25 of every document that has a term of the query.
    pub(super) fn by_text(&self, query: &str) -> Vec<(u32, f32)> {
        let mut scores: HashMap<u32, f32> = HashMap::new();
        let n = self.documents.len() as f32;
        let average = self.terms as f32 / n.max(1.0);
        for term in terms(query) {
            let Some(posting) = self.postings.get(&term) else { continue };
            let df = posting.len() as f32;
            let idf = (1.0 + (n - df + 0.5) / (df + 0.5)).ln();
            for (slot, count) in posting {
                let length = self.documents.get(slot).map_or(1, |document| document.1) as f32;
                let tf = *count as f32;
                let score = tf * (K1 + 1.0) / (tf + K1 * (1.0 - B + B * length / average));
                *scores.entry(*slot).or_default() += idf * score;
            }
        }
        scores.into_iter().collect()
    }

    /// Cosine of every vector with the query, which has length 1.
    pub(super) fn by_vector(&self, query: &[f32]) -> Vec<(u32, f32)> {
        let cosine = |parts: &Vec<f32>| parts.iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
        self.vectors.iter().map(|(slot, parts)| (*slot, cosine(parts))).collect()
    }
}

/// Words, lower case; of scripts without spaces, characters and pairs of them.
fn terms(text: &str) -> impl Iterator<Item = Box<str>> {
    let mut found: Vec<Box<str>> = Vec::new();
    let mut word = String::new();
    let mut before: Option<char> = None;
    for c in text.chars().flat_map(char::to_lowercase).chain([' ']) {
        let is_wide = matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}');
        if c.is_alphanumeric() && !is_wide {
            word.push(c);
        } else if !word.is_empty() {
            found.push(std::mem::take(&mut word).into());
        }
        if is_wide {
            found.push(c.to_string().into());
            found.extend(before.map(|before| format!("{before}{c}").into()));
        }
        before = is_wide.then_some(c);
    }
    found.into_iter()
}
