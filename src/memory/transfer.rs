//! Memories as JSON Lines, one memory a line: out of one store and into another. Before those of a session that
//! forgets in its own way stands a line that says how.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::check;
use super::review::set_forgetting;
use super::service::Memory;
use crate::model::{
    Content, Entry, EntryId, Error, Forgetting, Memorized, MemoryOp, Result, Timestamp, Vector,
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
    /// Which model made the vector, where that has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
}

/// A line that says how a session forgets.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    session: String,
    forgetting: Forgetting,
}

impl Line {
    fn new(memorized: &Memorized, model: Option<&str>) -> Self {
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
            model: memorized.vector.as_ref().and(model).map(Into::into),
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

const OTHER_MODEL: &str = "import into a store that has no embedder yet and call \
    memory.reembed(embedder), or take `vector` and `model` out of the lines";

fn broken(what: &str) -> Error {
    Error::new("memory.import", what, "import lines that export() wrote")
}

impl Memory {
    /// Up to `limit` memories of a session as lines, from behind `after` on, and the last one's id. Before the
    /// first stands how the session forgets, where that was set.
    ///
    /// # Errors
    /// `memory.session`, `engine.closed`, `store.*`.
    pub fn export(
        &self,
        session: &str,
        after: Option<EntryId>,
        limit: usize,
    ) -> Result<(Vec<String>, Option<EntryId>)> {
        let model = self.vector_model().and_then(|model| model.name);
        let found = self.list(session, after, limit)?;
        let mut lines = Vec::with_capacity(found.len() + 1);
        if after.is_none()
            && let Some(forgetting) = self.forgetting(session)?
        {
            let settings = Settings { session: session.into(), forgetting };
            lines.push(serde_json::to_string(&settings).expect("plain fields have a form"));
        }
        lines.extend(found.iter().map(|it| {
            let line = Line::new(it, model.as_deref());
            serde_json::to_string(&line).expect("plain fields have a form")
        }));
        Ok((lines, found.last().map(|last| last.entry.id)))
    }

    /// Memorizes lines that `export` wrote, under the ids that they had: importing them again changes
    /// nothing. Answers how many. Vectors of another model than the store's, or than `embedder`, are refused.
    ///
    /// # Errors
    /// `memory.import` naming the line, before anything is memorized; `memory.*` (`memory.backlog` too),
    /// `engine.closed`, `store.*`.
    pub fn import<'a>(
        &self,
        lines: impl Iterator<Item = &'a str>,
        embedder: Option<&str>,
    ) -> Result<u64> {
        let (mut ops, mut settings) = (Vec::new(), Vec::new());
        for (number, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let at = |mut error: Error| {
                error.message = format!("line {}: {}", number + 1, error.message);
                error
            };
            let line: Line = match serde_json::from_str(line) {
                Ok(line) => line,
                Err(wrong) => {
                    let other: Settings =
                        serde_json::from_str(line).map_err(|_| at(broken(&format!("{wrong}"))))?;
                    settings
                        .push(set_forgetting(&other.session, Some(other.forgetting)).map_err(at)?);
                    continue;
                }
            };
            let model = line.model.clone();
            let memorized = line.memorized().map_err(at)?;
            let (id, session) = (memorized.entry.id, &memorized.entry.session);
            if check::unless_closed(self.store.session_of(id))?
                .is_some_and(|owner| owner != *session)
            {
                return Err(at(broken(&format!("memory `{id}` is another session's here"))));
            }
            ops.push((number, model, memorized));
        }
        self.admit(ops.iter().map(|(_, _, memorized)| memorized))?;
        for (number, model, memorized) in &ops {
            if let Some(vector) = &memorized.vector {
                let settled = match (embedder, model.as_deref()) {
                    (Some(own), Some(of)) if own != of => Err(check::other_model(own, of)),
                    (_, model) => self.settle_model(model, vector.dimension()),
                };
                settled.map_err(|mut error| {
                    error.message = format!("line {}: {}", number + 1, error.message);
                    if error.code == "memory.model" {
                        error.help = OTHER_MODEL.into();
                    }
                    error
                })?;
            }
        }
        let (count, current) = (ops.len() as u64, self.generation());
        let put = |(_, _, memorized): (usize, _, Memorized)| {
            let generation = if memorized.vector.is_some() { current } else { 0 };
            MemoryOp::Put(Memorized { generation, ..memorized })
        };
        let sessions: BTreeSet<_> =
            ops.iter().map(|(_, _, memorized)| Arc::clone(&memorized.entry.session)).collect();
        self.commit(settings.into_iter().chain(ops.into_iter().map(put)).collect())?;
        self.replaced(sessions);
        Ok(count)
    }
}
