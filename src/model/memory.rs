//! What agents remember: entries, and the operations that change them.
//!
//! An entry belongs to one session, and so does every operation: no operation can reach into another
//! session. All of them set rather than change (a review carries the state that came of it), so
//! applying a stretch of the history a second time ends where it ended the first time.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{EntryId, RunId, Timestamp, Vector};

/// The run id under which memory is written outside of any run. No run has it.
pub const NO_RUN: RunId = RunId::from_u128(0);

/// What was memorized.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    Text(String),
    /// A JSON document, as text.
    Json(String),
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
}

impl Content {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) | Self::Json(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub id: EntryId,
    pub session: Arc<str>,
    /// The task that memorized it, as users name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    pub content: Content,
    /// A JSON object, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// FSRS-6: days until the strength has fallen to 0.9.
    pub stability: f64,
    /// FSRS-6: 1 (easy) to 10.
    pub difficulty: f64,
    pub last_review: Timestamp,
    pub created: Timestamp,
    /// Never forgotten by threshold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

/// An entry with its vector, if it has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memorized {
    pub entry: Arc<Entry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vector>,
}

/// How a memory proved itself when it was recalled (FSRS grades).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// It was wrong or gone.
    Again = 1,
    Hard = 2,
    /// It was used.
    Good = 3,
    /// It was confirmed without effort.
    Easy = 4,
}

/// Which model makes the vectors of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorModel {
    /// `None`: callers bring their vectors.
    pub name: Option<String>,
    pub dimension: u32,
}

/// How the memories of a session are forgotten, where it is not as usual: parameters of FSRS-6.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forgetting {
    /// `w0 … w20`.
    pub parameters: Vec<f64>,
    /// Days of the model that pass in a real day.
    pub time_scale: f64,
    /// Real days in which a new memory loses half its strength; `None`: as the parameters say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_life: Option<f64>,
}

/// One change of what is remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MemoryOp {
    /// A new entry, or one in place of the old one of the same id.
    Put(Memorized),
    /// The vector of an entry that is there; nothing where it is not.
    Vector {
        session: Arc<str>,
        id: EntryId,
        vector: Vector,
    },
    /// What a review made of an entry that is there; nothing where it is not.
    Review {
        session: Arc<str>,
        id: EntryId,
        grade: Grade,
        at: Timestamp,
        stability: f64,
        difficulty: f64,
    },
    Forget {
        session: Arc<str>,
        ids: Vec<EntryId>,
    },
    DeleteSession {
        session: Arc<str>,
    },
    /// The vectors of the whole store are of this model from now on.
    Model(VectorModel),
    /// The session's memories are forgotten like this from now on; `None`: as usual again.
    Forgetting {
        session: Arc<str>,
        forgetting: Option<Forgetting>,
    },
}

impl MemoryOp {
    /// The session that it is about; `None` for what concerns the whole store.
    pub fn session(&self) -> Option<&Arc<str>> {
        match self {
            Self::Put(memorized) => Some(&memorized.entry.session),
            Self::Vector { session, .. }
            | Self::Review { session, .. }
            | Self::Forget { session, .. }
            | Self::DeleteSession { session }
            | Self::Forgetting { session, .. } => Some(session),
            Self::Model(_) => None,
        }
    }
}
