//! What a search is asked, what it answers, and what it refuses.

use super::check;
pub use crate::index::adjust::Boost;
pub use crate::index::fuse::{Fusion, Weights};
pub use crate::index::search::Mode;
use crate::model::{EntryId, Error, Memorized, MetadataFilter, Result};

/// Largest weight of a leg.
const WEIGHT_MAX: f64 = 1e6;
/// Largest weight of a boost.
const BOOST_MAX: f64 = 10.0;
/// Most hits that are picked so that they differ: every pick is compared with all that are left.
const DIVERSE_MAX: usize = 200;

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub text: Option<String>,
    pub vector: Option<Vec<f32>>,
    pub top_k: usize,
    pub mode: Mode,
    pub fusion: Fusion,
    /// What each leg counts for. A leg that is asked alone counts 1 where its weight is 0.
    pub weights: Weights,
    /// Only memories whose metadata meets this.
    pub filter: MetadataFilter,
    /// Only memories that are at least this strong.
    pub min_strength: Option<f64>,
    /// Not these, such as the turns that widened the query.
    pub without: Vec<EntryId>,
    /// How much a memory borrows from its neighbours in time, 0 to 1; see `index::adjust::smooth`.
    pub smoothing: f64,
    /// What strength and age add; see `index::adjust::Boost`.
    pub boost: Boost,
    /// How much hits are to differ, 0 to 1; see `index::adjust::diversify`.
    pub diversity: f64,
}

/// A memory that was found.
#[derive(Clone, Debug)]
pub struct Hit {
    pub memorized: Memorized,
    pub score: f64,
    /// Place in the order of each leg, from 1 on; `None` beyond what the leg was asked for.
    pub vector_rank: Option<u32>,
    pub text_rank: Option<u32>,
    pub cosine: Option<f32>,
    pub bm25: Option<f32>,
    pub strength: f64,
    pub parts: Parts,
}

/// What a score is the sum of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    pub vector: f64,
    pub text: f64,
    /// What the neighbours in time gave, or took.
    pub smoothing: f64,
    pub strength: f64,
    pub recency: f64,
    /// Place by score, from 1 on, before hits were picked so that they differ.
    pub place: u32,
}

impl Query {
    /// Refuses what a search of the session refuses, before the text has its vector.
    ///
    /// # Errors
    /// `memory.session`, and those of a search.
    pub fn check_without_vector(mut self, session: &str) -> Result<()> {
        check::session(session)?;
        self.mode = Mode::Hybrid;
        self.check()
    }

    pub(super) fn check(&self) -> Result<()> {
        check::top_k(self.top_k)?;
        if let Some(text) = &self.text {
            check::query(text)?;
        }
        if let Some(vector) = &self.vector {
            check::vector(vector)?;
        }
        if let Some(threshold) = self.min_strength {
            check::threshold(threshold)?;
        }
        match (self.mode, self.text.is_some(), self.vector.is_some()) {
            (_, false, false) => return Err(check::empty_query()),
            (Mode::Vector, true, false) => return Err(check::no_vector()),
            (Mode::Text, false, true) => return Err(check::no_words()),
            _ => {}
        }
        weights(self.weights)?;
        within("smoothing", self.smoothing, 1.0)?;
        within("diversity", self.diversity, 1.0)?;
        within("strength_boost", self.boost.strength, BOOST_MAX)?;
        within("recency_boost", self.boost.recency, BOOST_MAX)?;
        if self.diversity > 0.0 && self.top_k > DIVERSE_MAX {
            let message = format!(
                "top_k is {}, and with diversity 1 to {DIVERSE_MAX} are allowed",
                self.top_k
            );
            return Err(Error::new(
                "memory.limit",
                message,
                "ask for fewer, or leave diversity out",
            ));
        }
        Ok(())
    }

    /// Whether anything changes the order after fusion.
    pub(super) fn adjusts(&self) -> bool {
        let boosts = self.boost.strength != 0.0 || self.boost.recency != 0.0;
        boosts || self.smoothing != 0.0 || self.diversity != 0.0
    }
}

fn weights(weights: Weights) -> Result<()> {
    let Weights { vector, text } = weights;
    let is_sound = |weight: f64| (0.0..=WEIGHT_MAX).contains(&weight);
    if is_sound(vector) && is_sound(text) && vector + text > 0.0 {
        return Ok(());
    }
    let message = format!("the weights are {vector} by vector and {text} by words");
    let help = "give two numbers from 0 to 1,000,000, not both 0: weights=(0.7, 0.3)";
    Err(Error::new("memory.weights", message, help))
}

fn within(name: &str, value: f64, max: f64) -> Result<()> {
    if (0.0..=max).contains(&value) {
        return Ok(());
    }
    let message = format!("`{name}` is {value}, and 0 to {max} are allowed");
    Err(Error::new("memory.option", message, "0 turns it off"))
}
