//! Pinecone over its REST API, version 2025-04: one index, made by its owner (dense, cosine).
//!
//! A session is a namespace of its own, so nothing has to be filtered. What was written is seen a little
//! later: whoever moves memories here looks whether they have arrived before they let go of them.

use serde_json::{Value, json};
use ureq::http::Method;

use super::cold::{Cold, Found, Tag, Tier, failed, session_key};
use super::http::{Http, Remote, Secret, lists};
use super::wire;
use crate::model::{EntryId, Result};

const API_VERSION: &str = "2025-04";
/// Vectors of an upsert, and its bytes: 1,000 and 2 MB are allowed.
const VECTORS_MAX: usize = 200;
const BYTES_MAX: usize = 1_800_000;
/// Ids of a fetch, which stand in its URL, and of a delete.
const FETCH_MAX: usize = 50;
const DELETE_MAX: usize = 1_000;
/// What a vector may carry beside its numbers, in bytes of JSON.
const METADATA_MAX: usize = 40_000;
const TOP_K_MAX: usize = 10_000;

/// An index of Pinecone.
#[derive(Debug)]
pub struct Pinecone {
    name: String,
    http: Http,
}

impl Pinecone {
    /// The index whose host is `remote`; nothing is asked yet.
    ///
    /// # Errors
    /// `memory.tier` where the URL is none or there is no key.
    pub fn new(name: &str, remote: Remote) -> Result<Self> {
        let Some(key) = remote.key.clone() else {
            return Err(failed(name, "it needs an API key"));
        };
        let version = Secret::new(API_VERSION);
        let headers = vec![("api-key", key), ("x-pinecone-api-version", version)];
        Ok(Self { name: name.to_owned(), http: Http::new(name, remote, headers)? })
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        // 404: the namespace is not there before its first vector and after its last.
        let reply = self.http.call(Method::POST, path, Some(&body.to_string()), &[404])?;
        Ok(if reply.status == 404 { Value::Null } else { reply.json })
    }
}

impl Tier for Pinecone {
    fn name(&self) -> &str {
        &self.name
    }

    fn takes(&self, session: &str, cold: &Cold) -> bool {
        wire::payload(session, cold).to_string().len() <= METADATA_MAX
    }

    fn put(&self, session: &str, batch: &[Cold]) -> Result<()> {
        let key = session_key(session);
        let vector_of = |cold: &Cold| {
            let values: Vec<f32> = cold.vector.parts().collect();
            let metadata = wire::payload(session, cold);
            json!({"id": cold.id.to_string(), "values": values, "metadata": metadata}).to_string()
        };
        for vectors in lists(batch.iter().map(vector_of).collect(), VECTORS_MAX, BYTES_MAX) {
            let body = format!(r#"{{"namespace":"{key}","vectors":[{vectors}]}}"#);
            self.http.call(Method::POST, "/vectors/upsert", Some(&body), &[])?;
        }
        Ok(())
    }

    fn fetch(&self, session: &str, ids: &[EntryId]) -> Result<Vec<Cold>> {
        let (key, mut found) = (session_key(session), Vec::new());
        for ids in ids.chunks(FETCH_MAX) {
            let ids: String = ids.iter().map(|id| format!("&ids={id}")).collect();
            let path = format!("/vectors/fetch?namespace={key}{ids}");
            let reply = self.http.look(Method::GET, &path, None, &[404])?;
            for (id, vector) in reply.json["vectors"].as_object().into_iter().flatten() {
                let fields = &vector["metadata"];
                let entry = wire::entry(&self.name, &key, fields)?;
                if entry.to_string() != *id {
                    return Err(failed(&self.name, format!("`{id}` says that it is `{entry}`")));
                }
                found.push(wire::cold(&self.name, entry, fields, &vector["values"])?);
            }
        }
        Ok(found)
    }

    fn search(
        &self,
        session: &str,
        vector: &[f32],
        tags: &[Tag],
        top_k: usize,
    ) -> Result<Vec<Found>> {
        let mut body = json!({
            "namespace": session_key(session),
            "vector": vector,
            "topK": top_k.min(TOP_K_MAX),
            "includeValues": false,
            "includeMetadata": false,
        });
        if !tags.is_empty() {
            let has = |tag: &Tag| json!({"tags": {"$in": [tag.hex()]}});
            body["filter"] = json!({"$and": tags.iter().map(has).collect::<Vec<_>>()});
        }
        let body = body.to_string();
        let reply = self.http.look(Method::POST, "/query", Some(&body), &[404])?.json;
        let matches = reply["matches"].as_array();
        wire::nearest(&self.name, matches.into_iter().flatten(), |found| {
            let id = found["id"].as_str().and_then(|id| id.parse().ok());
            let id = id.ok_or_else(|| failed(&self.name, "a match without an id of ours"))?;
            Ok((id, found["score"].as_f64()))
        })
    }

    fn delete(&self, session: &str, ids: &[EntryId]) -> Result<()> {
        let key = session_key(session);
        for ids in ids.chunks(DELETE_MAX) {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            self.post("/vectors/delete", &json!({"namespace": key, "ids": ids}))?;
        }
        Ok(())
    }

    fn delete_session(&self, session: &str) -> Result<()> {
        let body = json!({"namespace": session_key(session), "deleteAll": true});
        self.post("/vectors/delete", &body).map(drop)
    }

    fn count(&self, session: &str) -> Result<u64> {
        let path = format!("/namespaces/{}", session_key(session));
        let reply = self.http.look(Method::GET, &path, None, &[404])?;
        let count = &reply.json["record_count"];
        // 64-bit numbers are texts in the JSON of protocol buffers.
        let text = count.as_str().and_then(|text| text.parse().ok());
        Ok(count.as_u64().or(text).unwrap_or(0))
    }

    fn health(&self) -> Result<()> {
        self.http.look(Method::GET, "/namespaces?limit=1", None, &[]).map(drop)
    }
}
