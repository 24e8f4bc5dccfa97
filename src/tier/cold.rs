//! What a tier is, and what it keeps.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use crate::model::{Content, EntryId, Error, Result, Vector};

/// A memory as a tier keeps it. What ages (strength, reviews) stays with the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Cold {
    pub id: EntryId,
    pub content: Content,
    pub vector: Vector,
    /// What a filter may ask for; see [`tags`].
    pub tags: Vec<Tag>,
}

/// One of the nearest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    pub id: EntryId,
    pub cosine: f32,
}

/// A cold tier. All of it is idempotent, so that everything may be tried again.
///
/// # Errors
/// `memory.tier`, from every call: the tier is down, refuses, or is damaged. Some of a batch may
/// have been done then.
pub trait Tier: Send + Sync + fmt::Debug {
    /// Which tier this is; memories that lie there are marked with it.
    fn name(&self) -> &str;
    /// Whether it is asked without a network: then it is while the engine opens.
    fn is_near(&self) -> bool {
        false
    }
    /// Whether it has room for something as large; what it does not take stays where it is.
    fn takes(&self, session: &str, cold: &Cold) -> bool {
        let _ = (session, cold);
        true
    }
    /// Keeps memories, in place of those of the same id. Returns when they last.
    fn put(&self, session: &str, batch: &[Cold]) -> Result<()>;
    /// Those of these ids that the session has here, in any order.
    fn fetch(&self, session: &str, ids: &[EntryId]) -> Result<Vec<Cold>>;
    /// The nearest of the session that have all these tags, nearest first.
    fn search(
        &self,
        session: &str,
        vector: &[f32],
        tags: &[Tag],
        top_k: usize,
    ) -> Result<Vec<Found>>;
    /// Deletes; ids that are not there change nothing.
    fn delete(&self, session: &str, ids: &[EntryId]) -> Result<()>;
    /// Deletes everything of the session.
    fn delete_session(&self, session: &str) -> Result<()>;
    /// How many memories the session has here.
    fn count(&self, session: &str) -> Result<u64>;
    /// Whether it answers.
    fn health(&self) -> Result<()>;
    /// Lets go of what others may want to use; later calls fail, and change nothing.
    fn close(&self) {}
}

/// A name and its value, hashed: what a metadata filter asks a tier for. Tiers differ in the values
/// that they can filter by; all can tell whether a word is in a list.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag([u8; 16]);

impl Tag {
    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
    pub(super) fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
    pub(super) fn hex(&self) -> String {
        hex(&self.0)
    }
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?;
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

/// The tags of a metadata object: one for each name with its value, and with each item of a list.
pub fn tags(metadata: &Map<String, Value>) -> Vec<Tag> {
    let items = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let values = metadata.iter().flat_map(|(name, value)| {
        let all = items(value).into_iter().chain([value.clone()]);
        all.map(move |value| (name, value))
    });
    let all: BTreeSet<[u8; 16]> = values.map(|(name, value)| tag(name, &value).0).collect();
    all.into_iter().map(Tag).collect()
}

/// The tag that the metadata must have where `name` is `value`, or a list with it.
pub fn tag(name: &str, value: &Value) -> Tag {
    let mut text = Value::String(name.to_owned()).to_string();
    canonical(value, &mut text);
    let hash = blake3::hash(text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    Tag(bytes)
}

/// JSON that is the same for equal values: names in order, whole numbers without a point.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (name, value) in fields {
                out.push_str(&Value::String(name.clone()).to_string());
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Number(number) if number.is_f64() => {
            // 1.0 is 1, and -0.0 is 0.
            let float = number.as_f64().unwrap_or_default();
            let is_whole = float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0;
            out.push_str(&if is_whole { (float as i64).to_string() } else { number.to_string() });
        }
        plain => out.push_str(&plain.to_string()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A session as 64 letters and digits: whatever its key, no tier trims, folds or cuts it.
pub(super) fn session_key(session: &str) -> String {
    blake3::hash(session.as_bytes()).to_hex().to_string()
}

/// The UUID of a memory of a session; the same id in two sessions is two.
pub(super) fn point(session: &str, id: EntryId) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(blake3::hash(session.as_bytes()).as_bytes()).update(&id.to_bytes());
    let text = hex(&hasher.finalize().as_bytes()[..16]);
    let part = |from: usize, to: usize| &text[from..to];
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// Something is wrong with a tier.
pub fn failed(tier: &str, what: impl fmt::Display) -> Error {
    Error::new(
        "memory.tier",
        format!("tier `{tier}`: {what}"),
        "see to the tier; nothing was lost, and what is kept here is still found",
    )
}
