//! Who has a term, and how often: a sorted list in blocks, cheap to change in the middle.

/// Number of an entry within its session.
pub type Doc = u32;

/// Entries that one session can hold.
pub const DOCS_MAX: u32 = 1 << 24;
/// A term counts at most this often in one entry; BM25 is flat long before.
pub const FREQUENCY_MAX: u32 = 255;
/// Longest block, in postings of four bytes.
const BLOCK_MAX: usize = 512;

/// An entry in the upper 24 bits, a frequency in the lower 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting(u32);

impl Posting {
    pub fn new(doc: Doc, frequency: u32) -> Self {
        debug_assert!(doc < DOCS_MAX);
        Self(doc << 8 | frequency.min(FREQUENCY_MAX))
    }
    pub fn doc(self) -> Doc {
        self.0 >> 8
    }
    pub fn frequency(self) -> u32 {
        self.0 & 0xFF
    }
}

/// Postings in the order of their entries. Most terms are rare, so the first block stands alone.
#[derive(Default)]
pub struct Postings {
    first: Vec<Posting>,
    more: Vec<Vec<Posting>>,
}

impl Postings {
    /// A list of postings that are in order.
    pub fn from_sorted(postings: &[Posting]) -> Self {
        let mut blocks = postings.chunks(BLOCK_MAX).map(<[Posting]>::to_vec);
        Self { first: blocks.next().unwrap_or_default(), more: blocks.collect() }
    }

    pub fn len(&self) -> usize {
        self.blocks().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    pub fn blocks(&self) -> impl Iterator<Item = &Vec<Posting>> {
        std::iter::once(&self.first).chain(&self.more)
    }

    pub fn insert(&mut self, posting: Posting) {
        let last = self.more.last_mut().unwrap_or(&mut self.first);
        if last.len() < BLOCK_MAX && last.last().is_none_or(|last| last.doc() < posting.doc()) {
            last.push(posting);
            return;
        }
        let at = self.block_of(posting.doc());
        let block = self.block(at);
        let within = block.partition_point(|other| other.doc() < posting.doc());
        debug_assert!(block.get(within).is_none_or(|other| other.doc() != posting.doc()));
        if block.len() < BLOCK_MAX {
            block.insert(within, posting);
        } else if within == BLOCK_MAX {
            // At the end of the list, as nearly always: full blocks stay full.
            self.more.insert(at, vec![posting]);
        } else {
            let mut upper = block.split_off(BLOCK_MAX / 2);
            match within.checked_sub(BLOCK_MAX / 2) {
                Some(within) => upper.insert(within, posting),
                None => block.insert(within, posting),
            }
            self.more.insert(at, upper);
        }
    }

    /// Takes an entry out; its space is free at once.
    pub fn remove(&mut self, doc: Doc) {
        let at = self.block_of(doc);
        let block = self.block(at);
        let Ok(within) = block.binary_search_by_key(&doc, |posting| posting.doc()) else {
            debug_assert!(false, "an entry is in the list of each of its terms");
            return;
        };
        block.remove(within);
        if block.len() * 4 < block.capacity() {
            block.shrink_to(block.len() * 2);
        }
        self.join(at);
    }

    fn block(&mut self, at: usize) -> &mut Vec<Posting> {
        if at == 0 { &mut self.first } else { &mut self.more[at - 1] }
    }

    /// The block that has this entry or would take it: 0 is `first`.
    fn block_of(&self, doc: Doc) -> usize {
        self.more.partition_point(|block| block[0].doc() <= doc)
    }

    /// Joins a block that has become small with the one after it (the last: before it), so that none
    /// is ever empty.
    fn join(&mut self, at: usize) {
        if self.more.is_empty() {
            return;
        }
        let left = at.min(self.more.len() - 1);
        let lens = [self.block(left).len(), self.more[left].len()];
        if lens.contains(&0) || lens[0] + lens[1] <= BLOCK_MAX / 2 {
            let right = self.more.remove(left);
            self.block(left).extend(right);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    fn check(postings: &Postings, model: &BTreeMap<Doc, u32>) {
        let found: Vec<_> = postings.blocks().flatten().map(|p| (p.doc(), p.frequency())).collect();
        let expected: Vec<_> = model.iter().map(|(&doc, &frequency)| (doc, frequency)).collect();
        assert_eq!(found, expected);
        assert_eq!(postings.len(), model.len());
        assert!(postings.more.iter().all(|block| (1..=BLOCK_MAX).contains(&block.len())));
        assert!(!postings.first.is_empty() || postings.more.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_list_does_what_a_sorted_map_does(
            steps in prop::collection::vec((0u32..6_000, any::<bool>(), 1u32..300), 1..6_000),
            start in 0u32..5_000,
        ) {
            let (mut postings, mut model) = (Postings::default(), BTreeMap::new());
            for doc in 0..start {
                postings.insert(Posting::new(doc, 1));
                model.insert(doc, 1);
            }
            for (doc, insert, frequency) in steps {
                if model.remove(&doc).is_some() {
                    postings.remove(doc);
                }
                if insert {
                    postings.insert(Posting::new(doc, frequency));
                    model.insert(doc, frequency.min(FREQUENCY_MAX));
                }
            }
            check(&postings, &model);
            for doc in model.keys() {
                postings.remove(*doc);
            }
            check(&postings, &BTreeMap::new());
            prop_assert!(postings.first.capacity() + postings.more.len() <= 8);
        }
    }
}
