//! What workflows and tasks say of memory: what is looked up before a task, what is forgotten after a run.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Expr;

/// Most memories that are looked up for one task.
pub const RECALLED_MAX: u32 = 1_000;

/// What a workflow says of the memory of its runs' sessions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryPolicy {
    /// Every task is given so many of the latest memories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieve_last: Option<u32>,
    /// When a run is done, what is weaker than this is forgotten, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_below: Option<f64>,
}

/// What a task says of the memory of its run's session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskMemory {
    /// What is looked up before each attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieve: Option<Retrieve>,
}

/// A search that the engine makes before a task starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retrieve {
    /// A text, searched by words and by vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<Expr>,
    /// A text, or a vector itself, searched by vector alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector_query: Option<Expr>,
    #[serde(default = "five")]
    pub top_k: u32,
    /// Only memories whose metadata has these values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Expr>,
    /// Only memories that are at least this strong, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_strength: Option<f64>,
}

fn five() -> u32 {
    5
}

impl Retrieve {
    /// Its expressions, each under the name that users give it.
    pub fn expressions(&self) -> impl Iterator<Item = (&'static str, &Expr)> {
        let query = self.query.iter().map(|expr| ("query", expr));
        let vector = self.vector_query.iter().map(|expr| ("vector_query", expr));
        query.chain(vector).chain(self.filter.iter().map(|expr| ("filter", expr)))
    }

    /// Stands for a search that somebody else makes.
    pub fn placeholder() -> Self {
        Self {
            query: Some(Expr::Value(serde_json::Value::Null)),
            vector_query: None,
            top_k: five(),
            filter: None,
            min_strength: None,
        }
    }

    pub fn expressions_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        self.query.iter_mut().chain(self.vector_query.iter_mut()).chain(self.filter.iter_mut())
    }
}

/// Sessions beside its own whose memory a run may use. Explicit, and handed on to nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryAccess {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<Arc<str>>,
    /// May be read, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub write: Vec<Arc<str>>,
}

impl MemoryAccess {
    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.write.is_empty()
    }
    pub fn may_write(&self, session: &str) -> bool {
        self.write.iter().any(|granted| **granted == *session)
    }
    pub fn may_read(&self, session: &str) -> bool {
        self.may_write(session) || self.read.iter().any(|granted| **granted == *session)
    }
}
