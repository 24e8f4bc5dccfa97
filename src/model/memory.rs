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
    /// What an embedder can make a vector of; bytes come with one of their own, or have none.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Json(text) => Some(text),
            Self::Bytes(_) => None,
        }
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
    /// Where its content and vector lie, if not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away: Option<Away>,
}

/// What is left here of a memory whose content and vector lie in a cold tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Away {
    /// Name of the tier.
    pub tier: Arc<str>,
    /// Length of the content.
    pub bytes: u64,
    /// It was recalled with success since it went.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub used: bool,
}

/// An entry with its vector, if it has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memorized {
    pub entry: Arc<Entry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vector>,
    /// Generation of the model that made the vector; 0 without one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u32,
}

impl Entry {
    /// Whether a vector can be made of what is here of it.
    pub fn wants_vector(&self) -> bool {
        self.away.is_none() && self.content.text().is_some()
    }
}

impl Memorized {
    /// The vector, if it is of that generation: any other means nothing beside it.
    pub fn vector_of(&self, generation: u32) -> Option<&Vector> {
        self.vector.as_ref().filter(|_| self.generation == generation)
    }
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Memorized {
    /// Tells contents, metadata and vectors apart: a memory that was replaced has another one.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        let (kind, content) = match &self.entry.content {
            Content::Text(text) => (b"t", text.as_bytes()),
            Content::Json(text) => (b"j", text.as_bytes()),
            Content::Bytes(bytes) => (b"b", bytes.as_slice()),
        };
        let metadata = self.entry.metadata.as_deref().unwrap_or_default();
        let vector = self.vector.as_ref().map(Vector::bytes).unwrap_or_default();
        hasher.update(kind);
        for part in [content, metadata.as_bytes(), vector] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }

    /// Follows [`MemoryOp::Move`]: lets go of content and vector, if they are still what was moved.
    pub fn leave(&mut self, tier: &Arc<str>, fingerprint: u64) -> bool {
        if self.entry.away.is_some() || self.fingerprint() != fingerprint {
            return false;
        }
        let entry = Arc::make_mut(&mut self.entry);
        let bytes = entry.content.len() as u64;
        entry.content = match entry.content {
            Content::Text(_) => Content::Text(String::new()),
            Content::Json(_) => Content::Json(String::new()),
            Content::Bytes(_) => Content::Bytes(Vec::new()),
        };
        entry.away = Some(Away { tier: Arc::clone(tier), bytes, used: false });
        (self.vector, self.generation) = (None, 0);
        true
    }

    /// Follows [`MemoryOp::Back`].
    pub fn come_back(&mut self, content: &Content, vector: &Vector, generation: u32) -> bool {
        if self.entry.away.is_none() {
            return false;
        }
        let entry = Arc::make_mut(&mut self.entry);
        (entry.content, entry.away) = (content.clone(), None);
        (self.vector, self.generation) = (Some(vector.clone()), generation);
        true
    }
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
    /// Counts the models that the store has had. Vectors of an earlier one are void.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u32,
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
    /// The vector of an entry that is there; nothing where it is not, or lies in a cold tier.
    Vector {
        session: Arc<str>,
        id: EntryId,
        vector: Vector,
        /// Of the model that made it; nothing where the store has another by now.
        #[serde(default, skip_serializing_if = "is_zero")]
        generation: u32,
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
    /// The vectors of the whole store are of this model from now on. Where its generation is another than
    /// before, all vectors are void.
    Model(VectorModel),
    /// A cold tier may hold copies of these entries from now on, until `Gone`. Comes before they are
    /// put there, so that no copy is ever forgotten.
    Copy {
        session: Arc<str>,
        ids: Vec<EntryId>,
        tier: Arc<str>,
    },
    /// Content and vector of these entries lie in the tier; those that have another fingerprint by now
    /// stay as they are.
    Move {
        session: Arc<str>,
        tier: Arc<str>,
        moved: Vec<(EntryId, u64)>,
    },
    /// An entry that lies in a cold tier is whole here again; nothing where it does not lie there.
    Back {
        session: Arc<str>,
        id: EntryId,
        content: Content,
        vector: Vector,
        /// Of the model that made the vector.
        #[serde(default, skip_serializing_if = "is_zero")]
        generation: u32,
    },
    /// The tier has confirmed that it holds no copies of these any more.
    Gone {
        session: Arc<str>,
        ids: Vec<EntryId>,
    },
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
            | Self::Copy { session, .. }
            | Self::Move { session, .. }
            | Self::Back { session, .. }
            | Self::Gone { session, .. }
            | Self::Forgetting { session, .. } => Some(session),
            Self::Model(_) => None,
        }
    }

    /// What it memorizes, if it does.
    pub fn put(&self) -> Option<&Memorized> {
        match self {
            Self::Put(memorized) => Some(memorized),
            _ => None,
        }
    }
}
