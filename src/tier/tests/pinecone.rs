//! Pinecone: the suite on an index that refuses what Pinecone refuses.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::conformance::suite;
use super::server::{Answer, Asked, Server, cosine, fields, numbers, text, texts};
use super::*;
use crate::tier::Pinecone;

const DIMENSION: usize = 3;

type Namespaces = BTreeMap<String, BTreeMap<String, (Vec<f32>, Value)>>;
type Said = Result<Value, Answer>;

fn bad(what: impl Into<String>) -> Answer {
    Answer::new(400, json!({"code": 3, "message": what.into(), "details": []}))
}

fn gone() -> Answer {
    Answer::new(404, json!({"code": 5, "message": "Namespace not found", "details": []}))
}

/// A text, a number, a truth or a list of texts.
fn check_metadata(metadata: &Value) -> Result<(), Answer> {
    if metadata.to_string().len() > 40_960 {
        return Err(bad("Metadata size is larger than the limit of 40960 bytes per vector"));
    }
    for (name, value) in metadata.as_object().ok_or_else(|| bad("metadata is no object"))? {
        let plain = value.is_string() || value.is_number() || value.is_boolean();
        if !plain && texts(value).is_err() {
            return Err(bad(format!(
                "Metadata value must be a string, number, boolean or list of strings, got {value} for field '{name}'"
            )));
        }
    }
    Ok(())
}

fn upsert(all: &mut Namespaces, body: &Value) -> Said {
    let body = fields(body, &["vectors", "namespace"], &[]).map_err(bad)?;
    let vectors = body["vectors"].as_array().filter(|it| !it.is_empty() && it.len() <= 1_000);
    let namespace = text(&body["namespace"]).map_err(bad)?;
    if namespace.is_empty() || namespace.len() > 512 || !namespace.is_ascii() {
        return Err(bad("namespace name"));
    }
    let mut count = 0;
    for vector in vectors.ok_or_else(|| bad("1 to 1000 vectors"))? {
        let vector =
            fields(vector, &["id", "values"], &["metadata", "sparseValues"]).map_err(bad)?;
        let (id, values) =
            (text(&vector["id"]).map_err(bad)?, numbers(&vector["values"]).map_err(bad)?);
        if values.len() != DIMENSION {
            return Err(bad(format!(
                "Vector dimension {} does not match the dimension of the index {DIMENSION}",
                values.len()
            )));
        }
        if values.iter().all(|value| *value == 0.0) || id.is_empty() || id.len() > 512 {
            return Err(bad("dense vectors must contain at least one non-zero value"));
        }
        check_metadata(&vector["metadata"])?;
        let own = all.entry(namespace.into()).or_default();
        own.insert(id.into(), (values, vector["metadata"].clone()));
        count += 1;
    }
    Ok(json!({"upsertedCount": count}))
}

fn lets_through(filter: &Value, metadata: &Value) -> Result<bool, Answer> {
    let mut all = true;
    for condition in
        fields(filter, &["$and"], &[]).map_err(bad)?["$and"].as_array().into_iter().flatten()
    {
        let condition = fields(condition, &["tags"], &[]).map_err(bad)?;
        let wanted =
            texts(&fields(&condition["tags"], &["$in"], &[]).map_err(bad)?["$in"]).map_err(bad)?;
        let own = texts(&metadata["tags"]).map_err(bad)?;
        all = all && wanted.iter().any(|tag| own.contains(tag));
    }
    Ok(all)
}

fn query(all: &Namespaces, body: &Value) -> Said {
    let may = ["filter", "includeValues", "includeMetadata"];
    let body = fields(body, &["vector", "topK", "namespace"], &may).map_err(bad)?;
    let vector = numbers(&body["vector"]).map_err(bad)?;
    let top_k = body["topK"].as_u64().filter(|k| (1..=10_000).contains(k));
    let top_k = top_k.ok_or_else(|| bad("topK must be between 1 and 10000"))? as usize;
    if vector.len() != DIMENSION {
        return Err(bad("dimension"));
    }
    let namespace = text(&body["namespace"]).map_err(bad)?;
    let mut found = Vec::new();
    for (id, (values, metadata)) in all.get(namespace).into_iter().flatten() {
        let shows =
            body.get("filter").is_none_or(|filter| lets_through(filter, metadata).unwrap_or(false));
        if let Some(filter) = body.get("filter") {
            lets_through(filter, metadata)?;
        }
        if shows {
            found.push((cosine(&vector, values), id));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.truncate(top_k);
    let matches: Vec<_> =
        found.iter().map(|(score, id)| json!({"id": id, "score": score, "values": []})).collect();
    Ok(json!({"matches": matches, "namespace": namespace, "usage": {"readUnits": 1}}))
}

fn delete(all: &mut Namespaces, body: &Value) -> Said {
    let body = fields(body, &["namespace"], &["ids", "deleteAll", "filter"]).map_err(bad)?;
    let namespace = text(&body["namespace"]).map_err(bad)?;
    let own = all.get_mut(namespace).ok_or_else(gone)?;
    match (body.get("ids"), body.get("deleteAll")) {
        (Some(ids), None) => {
            let ids = texts(ids).map_err(bad)?;
            if ids.is_empty() || ids.len() > 1_000 {
                return Err(bad("1 to 1000 ids"));
            }
            ids.iter().for_each(|id| drop(own.remove(*id)));
        }
        (None, Some(Value::Bool(true))) => own.clear(),
        _ => return Err(bad("exactly one of ids, deleteAll and filter")),
    }
    if own.is_empty() {
        all.remove(namespace);
    }
    Ok(json!({}))
}

fn fetch(all: &Namespaces, asked: &Asked) -> Said {
    let (ids, namespace) = (asked.asks("ids"), asked.asks("namespace"));
    let [namespace] = namespace[..] else { return Err(bad("one namespace")) };
    if ids.is_empty()
        || ids.len() > 1_000
        || asked.query.iter().any(|(name, _)| name != "ids" && name != "namespace")
    {
        return Err(bad("ids"));
    }
    // A namespace that is not there has nothing, and is no error here.
    let own = all.get(namespace);
    let found = ids.iter().filter_map(|id| {
        let (values, metadata) = own?.get(*id)?;
        Some(((*id).to_owned(), json!({"id": id, "values": values, "metadata": metadata})))
    });
    let found: serde_json::Map<_, _> = found.collect();
    Ok(json!({"vectors": found, "namespace": namespace, "usage": {"readUnits": 1}}))
}

fn answer(all: &mut Namespaces, asked: &Asked) -> Said {
    if asked.header("api-key") != Some(KEY) {
        return Err(Answer::new(
            401,
            json!({"code": 16, "message": "Invalid API Key", "details": []}),
        ));
    }
    if asked.header("x-pinecone-api-version") != Some("2025-04") {
        return Err(bad("X-Pinecone-API-Version"));
    }
    if asked.body.len() > 2_000_000 || asked.path.len() > 4_000 {
        return Err(bad("message length too large: limit 2097152 bytes"));
    }
    match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", "/vectors/upsert") => upsert(all, &asked.json()?),
        ("POST", "/query") => query(all, &asked.json()?),
        ("POST", "/vectors/delete") => delete(all, &asked.json()?),
        ("GET", "/vectors/fetch") => fetch(all, asked),
        ("GET", "/namespaces") => Ok(json!({"namespaces": []})),
        ("GET", path) => {
            let name = path.strip_prefix("/namespaces/").ok_or_else(gone)?;
            let own = all.get(name).ok_or_else(gone)?;
            Ok(json!({"name": name, "record_count": own.len().to_string()}))
        }
        _ => Err(gone()),
    }
}

fn server() -> Server {
    let all = Mutex::new(Namespaces::new());
    Server::new(move |asked| match answer(&mut all.lock().expect("sound"), asked) {
        Ok(body) => Answer::ok(body),
        Err(answer) => answer,
    })
}

#[test]
fn pinecone_is_a_tier() {
    let servers = Mutex::new(Vec::new());
    suite(&|| {
        let server = server();
        let made = Pinecone::new("pinecone", remote(&server.url)).expect("a tier");
        servers.lock().expect("sound").push(server);
        Box::new(made)
    });
}

#[test]
fn what_is_too_large_for_pinecone_is_not_taken() {
    let server = server();
    let tier = Pinecone::new("pinecone", remote(&server.url)).expect("a tier");
    let of = |len: usize| Cold { content: Content::Text("a".repeat(len)), ..at(1, 0.0) };
    assert!(tier.takes("s", &of(39_000)) && !tier.takes("s", &of(40_000)));
    tier.put("s", &[of(39_000)]).expect("a put");
    assert!(code(tier.put("s", &[of(41_000)])).contains("Metadata size"));
    let without = Remote { key: None, ..remote(&server.url) };
    assert!(code(Pinecone::new("pinecone", without)).contains("API key"));
}
