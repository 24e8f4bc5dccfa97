//! A memory as the fields of a JSON object: what all three databases keep beside the vector.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::cold::{Cold, Tag, session_key};
use crate::model::{Content, EntryId, Vector};

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

/// The memory of such fields and a list of numbers; `None` where they are not complete.
pub(super) fn cold(id: EntryId, fields: &Value, vector: &Value) -> Option<Cold> {
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
