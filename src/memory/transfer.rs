//! Memories as JSON Lines, one memory a line: out of one store and into another.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::check;
use super::service::Memory;
use crate::model::{
    Content, Entry, EntryId, Error, Memorized, MemoryOp, Result, Timestamp, Vector,
};

/// A line. Names are the wire's; later versions only add.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    session: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    json: Option<Value>,
    /// Hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    metadata: Map<String, Value>,
    stability: f64,
    difficulty: f64,
    last_review: u64,
    created: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pinned: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector: Option<Vec<f32>>,
}

impl Line {
    fn new(memorized: &Memorized) -> Self {
        let entry = &memorized.entry;
        let (mut text, mut json, mut bytes) = (None, None, None);
        match &entry.content {
            Content::Text(it) => text = Some(it.clone()),
            Content::Json(it) => json = serde_json::from_str(it).ok(),
            Content::Bytes(it) => bytes = Some(it.iter().map(|b| format!("{b:02x}")).collect()),
        }
        let metadata = entry.metadata.as_deref().and_then(|it| serde_json::from_str(it).ok());
        Self {
            id: entry.id.to_string(),
            session: entry.session.to_string(),
            task: entry.task.clone(),
            text,
            json,
            bytes,
            metadata: metadata.unwrap_or_default(),
            stability: entry.stability,
            difficulty: entry.difficulty,
            last_review: entry.last_review.0,
            created: entry.created.0,
            pinned: entry.pinned,
            vector: memorized.vector.as_ref().map(|vector| vector.parts().collect()),
        }
    }

    fn content(&mut self) -> Option<Content> {
        match (self.text.take(), self.json.take(), self.bytes.take()) {
            (Some(text), None, None) => Some(Content::Text(text)),
            (None, Some(json), None) => Some(Content::Json(json.to_string())),
            (None, None, Some(hex)) => unhex(&hex).map(Content::Bytes),
            _ => None,
        }
    }

    fn memorized(mut self) -> Result<Memorized> {
        let id: EntryId =
            self.id.parse().map_err(|_| broken(&format!("`{}` is no id", self.id)))?;
        let content = self.content().ok_or_else(|| {
            broken(&format!("memory `{id}` has not exactly one of text, json and bytes"))
        })?;
        check::session(&self.session)?;
        check::content(&content)?;
        if !(self.stability > 0.0 && (1.0..=10.0).contains(&self.difficulty)) {
            return Err(broken(&format!(
                "memory `{id}` has no stability, or a difficulty beyond 1 to 10"
            )));
        }
        let metadata = Value::Object(self.metadata).to_string();
        check::metadata(Some(&metadata))?;
        if let Some(vector) = &self.vector {
            check::vector(vector)?;
        }
        let entry = Entry {
            id,
            session: self.session.into(),
            task: self.task,
            content,
            metadata: Some(metadata).filter(|text| text != "{}"),
            stability: self.stability,
            difficulty: self.difficulty,
            last_review: Timestamp(self.last_review),
            created: Timestamp(self.created),
            pinned: self.pinned,
            away: None,
        };
        Ok(Memorized {
            entry: Arc::new(entry),
            vector: self.vector.map(|parts| Vector::new(&parts)),
            generation: 0,
        })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| Some(c.to_digit(16)? as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn broken(what: &str) -> Error {
    Error::new("memory.import", what, "import lines that export() wrote")
}

impl Memory {
    /// Up to `limit` memories of a session as lines, from behind `after` on, and the last one's id.
    ///
    /// # Errors
    /// `memory.session`, `engine.closed`, `store.*`.
    pub fn export(
        &self,
        session: &str,
        after: Option<EntryId>,
        limit: usize,
    ) -> Result<(Vec<String>, Option<EntryId>)> {
        let found = self.list(session, after, limit)?;
        let line = |it: &Memorized| {
            serde_json::to_string(&Line::new(it)).expect("plain fields have a form")
        };
        Ok((found.iter().map(line).collect(), found.last().map(|last| last.entry.id)))
    }

    /// Memorizes lines that `export` wrote, under the ids that they had: importing them again changes
    /// nothing. Answers how many.
    ///
    /// # Errors
    /// `memory.import` naming the line, before anything is memorized; `memory.*` (`memory.backlog` too),
    /// `engine.closed`, `store.*`.
    pub fn import<'a>(&self, lines: impl Iterator<Item = &'a str>) -> Result<u64> {
        let mut ops = Vec::new();
        for (number, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let at = |mut error: Error| {
                error.message = format!("line {}: {}", number + 1, error.message);
                error
            };
            let line: Line = serde_json::from_str(line).map_err(|e| at(broken(&format!("{e}"))))?;
            let memorized = line.memorized().map_err(at)?;
            let (id, session) = (memorized.entry.id, &memorized.entry.session);
            if check::unless_closed(self.store.session_of(id))?
                .is_some_and(|owner| owner != *session)
            {
                return Err(at(broken(&format!("memory `{id}` is another session's here"))));
            }
            ops.push((number, memorized));
        }
        for (number, memorized) in &ops {
            if let Some(vector) = &memorized.vector {
                self.settle_model(None, vector.dimension()).map_err(|mut error| {
                    error.message = format!("line {}: {}", number + 1, error.message);
                    error
                })?;
            }
        }
        self.admit(ops.iter().map(|(_, memorized)| memorized))?;
        let (count, current) = (ops.len() as u64, self.generation());
        let put = |(_, memorized): (usize, Memorized)| {
            let generation = if memorized.vector.is_some() { current } else { 0 };
            MemoryOp::Put(Memorized { generation, ..memorized })
        };
        let sessions: BTreeSet<_> =
            ops.iter().map(|(_, memorized)| Arc::clone(&memorized.entry.session)).collect();
        self.commit(ops.into_iter().map(put).collect())?;
        self.replaced(sessions);
        Ok(count)
    }
}
