//! What Python asks of the memory, as its values say it (`goclaw._verbs`), and the rows it gets.

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::errors;
use crate::memory::{Boost, Draft, Duplicates, Fusion, Mode, Query, Twins, Weights};
use crate::model::{Content, EntryId, Error, Memorized, MetadataFilter, Result};

/// A vector. What holds 32-bit floats in a row (`array("f")`, a row of numpy) is copied as a whole; anything else
/// is asked for one number after the other.
pub(super) struct Row(pub(super) Vec<f32>);

impl<'py> FromPyObject<'_, 'py> for Row {
    type Error = PyErr;

    fn extract(parts: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match PyBuffer::<f32>::get(&parts) {
            Ok(row) if row.dimensions() == 1 => row.to_vec(parts.py()).map(Self),
            _ => parts.extract().map(Self),
        }
    }
}

/// One thing to memorize (`_recall._Draft`).
#[derive(FromPyObject)]
pub(super) struct AskedDraft<'py> {
    pub(super) content: Bound<'py, PyAny>,
    pub(super) is_json: bool,
    pub(super) metadata: Option<String>,
    pub(super) vector: Option<Row>,
}

/// What is to be memorized, in the core's form.
pub(super) fn drafts(
    asked: Vec<AskedDraft<'_>>,
    task: Option<&str>,
    pinned: bool,
) -> PyResult<Vec<Draft>> {
    let read = |AskedDraft { content, is_json, metadata, vector }| {
        let content = match content.cast::<PyBytes>() {
            Ok(bytes) => Content::Bytes(bytes.as_bytes().to_vec()),
            Err(_) if is_json => Content::Json(content.extract()?),
            Err(_) => Content::Text(content.extract()?),
        };
        let vector = vector.map(|row| row.0);
        Ok(Draft { content, metadata, vector, task: task.map(str::to_owned), pinned })
    };
    asked.into_iter().map(read).collect()
}

/// How to memorize (`_verbs.Memorizing`).
#[derive(FromPyObject)]
pub(super) struct AskedMemorizing {
    pub(super) pinned: bool,
    pub(super) duplicates: String,
    pub(super) alike: f64,
}

/// What to look for (`_verbs.Retrieving`).
#[derive(FromPyObject)]
pub(super) struct AskedSearch {
    pub(super) top_k: usize,
    pub(super) mode: String,
    pub(super) fusion: String,
    pub(super) both_weights: (f64, f64),
    pub(super) filter_json: Option<String>,
    pub(super) min_strength: Option<f64>,
    pub(super) smoothing: f64,
    pub(super) strength_boost: f64,
    pub(super) recency_boost: f64,
    pub(super) half_life_days: f64,
    pub(super) diversity: f64,
    pub(super) tiers: String,
}

/// What is to move (`_verbs.Moving`).
#[derive(FromPyObject)]
pub(super) struct AskedMoving {
    pub(super) below: Option<f64>,
    pub(super) unused_ms: Option<u64>,
    pub(super) keep_max: Option<usize>,
    pub(super) limit: usize,
    pub(super) dry_run: bool,
}

/// What is to go (`_verbs.Dropping`).
#[derive(FromPyObject)]
pub(super) struct AskedDropping {
    pub(super) chosen: Option<Vec<String>>,
    pub(super) below: Option<f64>,
    pub(super) grace_ms: u64,
    pub(super) limit: usize,
    pub(super) dry_run: bool,
}

impl AskedSearch {
    pub(super) fn query(
        self,
        text: Option<String>,
        vector: Option<Vec<f32>>,
        without: Vec<EntryId>,
    ) -> Result<Query> {
        Ok(Query {
            text,
            vector,
            top_k: self.top_k,
            mode: match self.mode.as_str() {
                "vector" => Mode::Vector,
                "text" => Mode::Text,
                _ => Mode::Hybrid,
            },
            fusion: if self.fusion == "rrf" { Fusion::Rrf } else { Fusion::Score },
            weights: Weights { vector: self.both_weights.0, text: self.both_weights.1 },
            filter: match &self.filter_json {
                Some(json) => MetadataFilter::parse(json)?,
                None => MetadataFilter::default(),
            },
            min_strength: self.min_strength,
            without,
            smoothing: self.smoothing,
            boost: Boost {
                strength: self.strength_boost,
                recency: self.recency_boost,
                recency_half_life: self.half_life_days,
            },
            diversity: self.diversity,
        })
    }
}

/// `(id, task, session, content, is JSON, metadata as JSON, vector as halves, strength, stability,
/// difficulty, last review, created, (pinned, tier where it lies))`, times in milliseconds.
pub(super) type EntryRow<'py> = (
    String,
    Option<String>,
    String,
    Bound<'py, PyAny>,
    (bool, Option<String>),
    Option<Bound<'py, PyBytes>>,
    (f64, f64, f64),
    (u64, u64),
    (bool, Option<String>),
);
/// A memory as a row.
pub(super) fn entry_row<'py>(
    py: Python<'py>,
    it: &Memorized,
    strength: f64,
) -> PyResult<EntryRow<'py>> {
    let entry = &it.entry;
    let (content, is_json) = match &entry.content {
        Content::Text(text) => (PyString::new(py, text).into_any(), false),
        Content::Json(text) => (PyString::new(py, text).into_any(), true),
        Content::Bytes(bytes) => (PyBytes::new(py, bytes).into_any(), false),
    };
    Ok((
        entry.id.to_string(),
        entry.task.clone(),
        entry.session.to_string(),
        content,
        (is_json, entry.metadata.clone()),
        it.vector.as_ref().map(|vector| PyBytes::new(py, vector.bytes())),
        (strength, entry.stability, entry.difficulty),
        (entry.last_review.0, entry.created.0),
        (entry.pinned, entry.away.as_ref().map(|away| away.tier.to_string())),
    ))
}

pub(super) type ColdRow = (String, u64, u64, u64, u64, Option<String>);
/// Rank, score.
pub(super) type LegRow = (Option<u32>, Option<f32>);
/// By vector, by words, smoothing, strength, recency; place before variety.
pub(super) type PartsRow = (f64, f64, f64, f64, f64, u32);
pub(super) type StatsRow = (u64, u64, Option<String>, Option<u32>, u64, u64, u64, u64);
pub(super) type HitRow<'py> = (EntryRow<'py>, f64, LegRow, LegRow, PartsRow);

/// What to forget in every session (`_verbs.Sweeping`).
#[derive(FromPyObject)]
pub(super) struct AskedSweep {
    pub(super) below: f64,
    pub(super) grace_ms: u64,
    pub(super) limit: u64,
    pub(super) dry_run: bool,
}

impl AskedMemorizing {
    pub(super) fn twins(&self) -> Twins {
        let duplicates = match self.duplicates.as_str() {
            "review" => Duplicates::Review,
            "refuse" => Duplicates::Refuse,
            _ => Duplicates::Keep,
        };
        Twins { duplicates, alike: self.alike }
    }
}

pub(super) fn entry_of(py: Python<'_>, id: &str) -> PyResult<EntryId> {
    id.parse().map_err(|_| {
        let message = format!("`{id}` is no memory's id");
        let help = "ids are ULIDs: 26 letters and digits";
        errors::raised(py, &Error::new("memory.unknown", message, help))
    })
}
