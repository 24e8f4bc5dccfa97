//! Markdown notes as memories: what is new, what has moved, what is gone; and memories as notes.
//!
//! A chunk's id follows from its session, its file and what it says, so importing again changes nothing,
//! and what a memory has lived through (reviews, its strength) stays with what it says.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::check;
use super::markdown::{Chunk, joined};
use super::service::Memory;
use super::workspace::{self, Notes};
use crate::model::{
    Content, Entry, EntryId, Grade, Memorized, MemoryOp, Result, Timestamp, Vector,
};

/// What the metadata of an imported chunk says.
#[derive(Serialize, Deserialize)]
struct Origin {
    source: String,
    file: String,
    /// Headings above it, outermost first.
    heading: Vec<String>,
    lines: (u32, u32),
    #[serde(default, skip_serializing_if = "is_zero")]
    part: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    date: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

const SOURCE: &str = "markdown";

/// What an import is about to change.
pub struct Import {
    session: Arc<str>,
    /// Memories to be made, which have no vectors yet.
    fresh: Vec<Entry>,
    /// Memories whose place in their file is another now.
    moved: Vec<Memorized>,
    gone: Vec<EntryId>,
    unchanged: u64,
}

/// What an import has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    pub added: u64,
    /// Their text is the same, their lines are others.
    pub moved: u64,
    /// Their files say them no more.
    pub forgotten: u64,
    pub unchanged: u64,
}

impl Import {
    /// The texts that are to be memorized, in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.fresh.iter().map(|entry| match &entry.content {
            Content::Text(text) => text.as_str(),
            Content::Json(_) | Content::Bytes(_) => "",
        })
    }
}

/// An id that says the same for the same text of a file, and sorts by the file's date.
fn id_of(session: &str, file: &str, content: &str, nth: u32, date: Timestamp) -> EntryId {
    let mut hasher = blake3::Hasher::new();
    for part in [session, file, content] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.update(&nth.to_le_bytes());
    let mut low = [0; 16];
    low[6..].copy_from_slice(&hasher.finalize().as_bytes()[..10]);
    EntryId::from_u128((u128::from(date.0) << 80) | u128::from_be_bytes(low))
}

impl Memory {
    /// Reads the notes of a workspace and finds what importing them into a session changes.
    ///
    /// # Errors
    /// `memory.markdown`, `memory.session`, `engine.closed`, `store.*`.
    pub fn plan_import(&self, session: &str, folder: &Path) -> Result<Import> {
        check::session(session)?;
        let notes = workspace::read(folder)?;
        let files: BTreeSet<&str> = notes.iter().map(|notes| notes.file.as_str()).collect();
        let mut known: HashMap<EntryId, Memorized> = HashMap::new();
        for memorized in self.list(session, None, usize::MAX)? {
            if origin(&memorized.entry).is_some_and(|origin| files.contains(origin.file.as_str())) {
                known.insert(memorized.entry.id, memorized);
            }
        }
        let mut import = Import {
            session: session.into(),
            fresh: Vec::new(),
            moved: Vec::new(),
            gone: Vec::new(),
            unchanged: 0,
        };
        let first = self.fsrs_unseen(session)?.review(None, Grade::Good, 0.0);
        let now = self.now();
        for notes in &notes {
            let mut seen: HashMap<String, u32> = HashMap::new();
            for chunk in &notes.chunks {
                let content = chunk.content();
                let nth = seen.entry(content.clone()).or_default();
                let date = notes.date.as_ref().map_or(Timestamp(0), |date| date.begins);
                let id = id_of(session, &notes.file, &content, *nth, date);
                *nth += 1;
                let metadata = metadata(notes, chunk);
                match known.remove(&id) {
                    Some(there) if there.entry.metadata.as_deref() == Some(&metadata) => {
                        import.unchanged += 1;
                    }
                    Some(mut there) => {
                        let entry = Arc::make_mut(&mut there.entry);
                        // What lay in a cold tier was fetched, and is put whole.
                        (entry.metadata, entry.away) = (Some(metadata), None);
                        import.moved.push(there);
                    }
                    None => import.fresh.push(Entry {
                        id,
                        session: session.into(),
                        task: None,
                        content: Content::Text(content),
                        metadata: Some(metadata),
                        stability: first.stability,
                        difficulty: first.difficulty,
                        last_review: now,
                        created: notes.date.as_ref().map_or(now, |date| date.begins.min(now)),
                        pinned: false,
                        away: None,
                    }),
                }
            }
        }
        import.gone = known.into_keys().collect();
        import.gone.sort_unstable();
        Ok(import)
    }

    /// Carries an import out; `made` are the vectors of its texts, in order, and the generation they are of.
    /// Without them they follow.
    ///
    /// # Errors
    /// `memory.vector`, `memory.dimension`, `memory.backlog`, `engine.closed`, `store.*`; `memory.model` where the store has gone
    /// over to another model by now.
    pub fn carry_out(
        &self,
        import: Import,
        made: Option<(u32, Vec<Vec<f32>>)>,
    ) -> Result<Imported> {
        let (generation, vectors) = made.unwrap_or_default();
        if !vectors.is_empty() && generation != self.generation() {
            return Err(check::model_changed());
        }
        vectors.iter().try_for_each(|vector| check::vector(vector))?;
        if let Some(vector) = vectors.first() {
            self.settle_model(None, vector.len())?;
        }
        if let Some(model) = self.vector_model() {
            vectors.iter().try_for_each(|vector| check::dimension(&model, vector.len()))?;
        }
        let done = Imported {
            added: import.fresh.len() as u64,
            moved: import.moved.len() as u64,
            forgotten: import.gone.len() as u64,
            unchanged: import.unchanged,
        };
        let mut ops = Vec::new();
        if !import.gone.is_empty() {
            let session = Arc::clone(&import.session);
            ops.push(MemoryOp::Forget { session, ids: import.gone });
        }
        ops.extend(import.moved.into_iter().map(MemoryOp::Put));
        let mut vectors = vectors.into_iter();
        ops.extend(import.fresh.into_iter().map(|entry| {
            let vector = vectors.next().map(|parts| Vector::new(&parts));
            // Of the model that made it: where that is void by the commit, so is the vector.
            let generation = if vector.is_some() { generation } else { 0 };
            MemoryOp::Put(Memorized { entry: Arc::new(entry), vector, generation })
        }));
        self.admit(ops.iter().filter_map(MemoryOp::put))?;
        let session = Arc::clone(&import.session);
        self.commit(ops)?;
        self.replaced([session]);
        Ok(done)
    }

    /// Writes a session as the notes of a workspace: what came from notes into its files, other texts
    /// and values into the notes of their days. Answers how many memories were written; bytes are not.
    ///
    /// # Errors
    /// `memory.markdown`, `memory.session`, `engine.closed`, `store.*`.
    pub fn export_notes(&self, session: &str, folder: &Path) -> Result<u64> {
        let all = self.list(session, None, usize::MAX)?;
        let mut imported: BTreeMap<String, Vec<(Origin, &str)>> = BTreeMap::new();
        let mut others: BTreeMap<String, String> = BTreeMap::new();
        let mut count = 0;
        for Memorized { entry, .. } in &all {
            let text = match &entry.content {
                Content::Text(text) => text,
                Content::Json(json) => json,
                Content::Bytes(_) => continue,
            };
            count += 1;
            match origin(entry).filter(|origin| workspace::is_note(&origin.file)) {
                Some(origin) => {
                    imported.entry(origin.file.clone()).or_default().push((origin, text))
                }
                None => {
                    let (day, time) = workspace::clock(entry.created);
                    let note = others.entry(format!("memory/{day}.md")).or_default();
                    let is_json = matches!(entry.content, Content::Json(_));
                    let text = if is_json { format!("```json\n{text}\n```") } else { text.clone() };
                    note.push_str(&format!("\n## {time}\n\n{text}\n"));
                }
            }
        }
        let mut files = BTreeMap::new();
        for (file, mut chunks) in imported {
            chunks.sort_by_key(|(origin, _)| (origin.lines, origin.part));
            let parts = chunks.iter().map(|(origin, text)| {
                (origin.heading.as_slice(), origin.lines, origin.part, *text)
            });
            files.insert(file, joined(parts));
        }
        for (file, text) in others {
            let note: &mut String = files.entry(file).or_default();
            note.push_str(if note.is_empty() { text.trim_start() } else { &text });
        }
        workspace::write(folder, &files)?;
        Ok(count)
    }
}

fn origin(entry: &Entry) -> Option<Origin> {
    let origin: Origin = serde_json::from_str(entry.metadata.as_deref()?).ok()?;
    (origin.source == SOURCE).then_some(origin)
}

fn metadata(notes: &Notes, chunk: &Chunk) -> String {
    let origin = Origin {
        source: SOURCE.into(),
        file: notes.file.clone(),
        heading: chunk.heading.clone(),
        lines: chunk.lines,
        part: chunk.part,
        date: notes.date.as_ref().map(|date| date.name.clone()),
    };
    serde_json::to_string(&origin).expect("plain fields have a form")
}
