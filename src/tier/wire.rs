//! A memory as the fields of a JSON object, which all three databases keep beside the vector; and what comes back,
//! which is looked at before it is believed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::cold::{Cold, Found, Tag, failed, session_key};
use crate::model::{Content, EntryId, Result, Vector};

/// `session` is for people who look into the database; `session_key` is what is compared.
pub(super) fn payload(session: &str, cold: &Cold) -> Value {
    let (kind, content) = match &cold.content {
        Content::Text(text) => ("text", text.clone()),
        Content::Json(text) => ("json", text.clone()),
        Content::Bytes(bytes) => ("bytes", STANDARD.encode(bytes)),
    };
    json!({
        "session": session,
        "session_key": session_key(session),
        "entry": cold.id.to_string(),
        "kind": kind,
        "content": content,
        "tags": cold.tags.iter().map(Tag::hex).collect::<Vec<_>>(),
    })
}

/// The id that such fields say, of a memory of this session.
///
/// # Errors
/// `memory.tier` where they are another session's, or nobody's.
pub(super) fn entry(tier: &str, session_key: &str, fields: &Value) -> Result<EntryId> {
    let id = fields["entry"].as_str().and_then(|id| id.parse().ok());
    id.filter(|_| fields["session_key"] == session_key)
        .ok_or_else(|| failed(tier, "what it answers is not of the session that was asked for"))
}

/// The memory of such fields and a list of numbers.
///
/// # Errors
/// `memory.tier` where they are not complete.
pub(super) fn cold(tier: &str, id: EntryId, fields: &Value, vector: &Value) -> Result<Cold> {
    read(id, fields, vector).ok_or_else(|| failed(tier, format!("memory `{id}` is damaged")))
}

/// The nearest, in the order of an answer; `read` finds id and cosine of one.
///
/// # Errors
/// `memory.tier` where one has no cosine; those of `read`.
pub(super) fn nearest<'a>(
    tier: &str,
    answers: impl IntoIterator<Item = &'a Value>,
    read: impl Fn(&Value) -> Result<(EntryId, Option<f64>)>,
) -> Result<Vec<Found>> {
    let found = |answer| {
        let (id, cosine) = read(answer)?;
        let cosine = cosine.ok_or_else(|| failed(tier, format!("`{id}` came without a score")))?;
        Ok(Found { id, cosine: cosine as f32 })
    };
    answers.into_iter().map(found).collect()
}

fn read(id: EntryId, fields: &Value, vector: &Value) -> Option<Cold> {
    let text = fields["content"].as_str()?;
    let content = match fields["kind"].as_str()? {
        "text" => Content::Text(text.to_owned()),
        "json" => Content::Json(text.to_owned()),
        "bytes" => Content::Bytes(STANDARD.decode(text).ok()?),
        _ => return None,
    };
    let parts = vector.as_array()?.iter().map(|part| part.as_f64().map(|part| part as f32));
    let parts: Vec<f32> = parts.collect::<Option<_>>()?;
    let tags = fields["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    let tags = tags.iter().map(|tag| Tag::from_hex(tag.as_str()?)).collect::<Option<_>>()?;
    Some(Cold { id, content, vector: Vector::new(&parts), tags })
}
