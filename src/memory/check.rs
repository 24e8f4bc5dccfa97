//! What is refused, and in which words.

use crate::model::{Content, EntryId, Error, Result, VectorModel};

/// Longest session key, in bytes.
pub(super) const SESSION_MAX: usize = 400;
/// Longest content, in bytes.
pub(super) const CONTENT_MAX: usize = 1 << 20;
/// Longest metadata as JSON, in bytes.
pub(super) const METADATA_MAX: usize = 64 << 10;
/// Longest vector, in parts.
pub(super) const DIMENSION_MAX: usize = 8_192;
/// Longest query, in bytes.
const QUERY_MAX: usize = 64 << 10;
/// Most hits of one search.
const TOP_K_MAX: usize = 10_000;

pub(super) fn session(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::new(
            "memory.session",
            "a memory needs a session, and this one is empty",
            "name whose memory it is: session=\"customer-7\"",
        ));
    }
    if name.len() > SESSION_MAX {
        let message =
            format!("the session has {} bytes, and {SESSION_MAX} are allowed", name.len());
        return Err(Error::new("memory.session", message, "use a shorter key, or a hash of it"));
    }
    Ok(())
}

pub(super) fn content(content: &Content) -> Result<()> {
    if content.is_empty() {
        let help = "memorize a text, JSON or bytes that say something";
        return Err(Error::new("memory.empty", "there is nothing to memorize", help));
    }
    size("the content", content.len(), CONTENT_MAX, "memorize it in parts, or a summary of it")
}

pub(super) fn metadata(metadata: Option<&str>) -> Result<()> {
    let Some(text) = metadata else { return Ok(()) };
    size("the metadata", text.len(), METADATA_MAX, "keep what is large in the content")?;
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(serde_json::Value::Object(_)) => Ok(()),
        _ => Err(Error::new(
            "memory.metadata",
            "the metadata is no JSON object",
            "pass a dict of plain values by names",
        )),
    }
}

fn size(what: &str, len: usize, max: usize, help: &str) -> Result<()> {
    if len <= max {
        return Ok(());
    }
    let message = format!("{what} has {len} bytes, and {max} are allowed");
    Err(Error::new("memory.too_large", message, help))
}

pub(super) fn query(text: &str) -> Result<()> {
    if text.trim().is_empty() {
        return Err(empty_query());
    }
    size("the query", text.len(), QUERY_MAX, "search by a part of it, or by a summary")
}

pub(super) fn empty_query() -> Error {
    Error::new(
        "memory.query",
        "a search needs a query or a vector, and has neither",
        "pass a query; without one, recent(session) answers the latest memories",
    )
}

/// Whoever has an embedder has made a vector of the text before.
pub(super) fn no_vector() -> Error {
    Error::new(
        "memory.query",
        "a search by vector alone has a text and no vector, and no embedder makes one",
        "open the memory with an embedder, pass vector=, or search by words: mode=\"text\"",
    )
}

pub(super) fn no_words() -> Error {
    Error::new(
        "memory.query",
        "a search by words alone has a vector and no query",
        "pass a query, or search by vector: mode=\"vector\"",
    )
}

pub(super) fn top_k(top_k: usize) -> Result<()> {
    if (1..=TOP_K_MAX).contains(&top_k) {
        return Ok(());
    }
    let message = format!("top_k is {top_k}, and 1 to {TOP_K_MAX} are allowed");
    Err(Error::new("memory.limit", message, "ask for fewer; export() streams whole sessions"))
}

/// Refuses what is no vector: none, too many, or no numbers.
pub(super) fn vector(parts: &[f32]) -> Result<()> {
    let bad = |message: String| {
        Err(Error::new("memory.vector", message, "pass the numbers that the embedding model gave"))
    };
    if parts.is_empty() || parts.len() > DIMENSION_MAX {
        let len = parts.len();
        return bad(format!("the vector has {len} parts, and 1 to {DIMENSION_MAX} are allowed"));
    }
    if let Some(at) = parts.iter().position(|part| !part.is_finite()) {
        return bad(format!("part {at} of the vector is {}", parts[at]));
    }
    if parts.iter().all(|part| *part == 0.0) {
        return bad("every part of the vector is 0".into());
    }
    Ok(())
}

pub(super) fn dimension(model: &VectorModel, dimension: usize) -> Result<()> {
    if model.dimension as usize == dimension {
        return Ok(());
    }
    let own = model.dimension;
    let message = format!("the vector has {dimension} parts, but those of this store have {own}");
    Err(Error::new(
        "memory.dimension",
        message,
        "use the model that the store was begun with, or begin a new store",
    ))
}

pub(super) fn other_model(own: &str, given: &str) -> Error {
    Error::new(
        "memory.model",
        format!("the vectors of this store are of model `{own}`, not `{given}`"),
        "open the store with that embedder, or without one and call memory.reembed(embedder)",
    )
}

/// Vectors in a cold tier cannot be made anew from here.
pub(super) fn lies_cold(session: &str) -> Error {
    Error::new(
        "memory.reembed",
        format!(
            "memories of session `{session}` lie in a cold tier, with vectors of the model in use"
        ),
        "bring them back first: memory.bring_back(session, ids)",
    )
}

/// Vectors were made by the model that the store had a moment ago.
pub(super) fn model_changed() -> Error {
    Error::new(
        "memory.model",
        "the store went over to another model while the vector was made",
        "do it again: the vector is made by the new one",
    )
}

/// More texts wait for their vectors than shall.
pub(super) fn backlog(count: u64, max: u64) -> Error {
    Error::new(
        "memory.backlog",
        format!("{count} texts wait for their vectors, and {max} may"),
        "see to the embedder, wait with memory.vectorized(), or raise Embedding(backlog_max=…)",
    )
}

pub(super) fn unknown(id: EntryId) -> Error {
    Error::new(
        "memory.unknown",
        format!("there is no memory `{id}`"),
        "it was forgotten, or is another session's; look it up with list(session)",
    )
}

pub(super) fn threshold(below: f64) -> Result<()> {
    if (0.0..=1.0).contains(&below) {
        return Ok(());
    }
    let message = format!("the threshold is {below}, and strengths lie between 0 and 1");
    Err(Error::new("memory.threshold", message, "forget(below=0.3) forgets what is nearly gone"))
}

pub(super) fn alike(alike: f64) -> Result<()> {
    if (0.0..=1.0).contains(&alike) {
        return Ok(());
    }
    let message = format!("`alike` is {alike}, and cosines of 0 to 1 are allowed");
    Err(Error::new("memory.option", message, "1 takes only what is the same"))
}

/// The store closes with its engine: whoever asks later is told of the engine.
pub(super) fn unless_closed<T>(answer: Result<T>) -> Result<T> {
    answer.map_err(|error| match error.code {
        "store.closed" => Error::new(
            "engine.closed",
            "the engine of this memory is closed",
            "open a new one; what was memorized in an engine with a path is there again",
        ),
        _ => error,
    })
}
