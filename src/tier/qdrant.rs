//! Qdrant over its REST API (1.10 or later).
//!
//! One collection, made at the first put: cosine distance, payload indexes for the session (as the tenant)
//! and the tags. A point's id is made of session and memory, so one session cannot name another's points;
//! searches filter by session, and every point that comes back says whose it is.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use ureq::http::Method;

use super::cold::{Cold, Found, Tag, Tier, failed, point, session_key};
use super::http::{Http, Remote, Reply, lists};
use super::wire;
use crate::model::{EntryId, Result};

/// Points of one request, and its bytes: a server refuses more than 32 MiB.
const POINTS_MAX: usize = 500;
const BYTES_MAX: usize = 8 << 20;

/// A collection of a Qdrant server.
#[derive(Debug)]
pub struct Qdrant {
    name: String,
    collection: String,
    http: Http,
    is_ready: AtomicBool,
    /// Held while the collection is made.
    making: Mutex<()>,
}

impl Qdrant {
    /// A collection of the server at `remote`; nothing is asked yet.
    ///
    /// # Errors
    /// `memory.tier` where the URL or the collection's name is none.
    pub fn new(name: &str, remote: Remote, collection: &str) -> Result<Self> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if collection.is_empty() || collection.len() > 255 || !collection.chars().all(is_plain) {
            return Err(failed(name, format!("`{collection}` is no name of a collection")));
        }
        let headers = remote.key.iter().map(|key| ("api-key", key.clone())).collect();
        Ok(Self {
            name: name.to_owned(),
            collection: collection.to_owned(),
            http: Http::new(name, remote, headers)?,
            is_ready: AtomicBool::new(false),
            making: Mutex::new(()),
        })
    }

    /// Asks something about the collection. 404 is an answer: there is no such collection.
    fn ask(&self, method: Method, below: &str, body: Option<&str>) -> Result<Reply> {
        let path = format!("/collections/{}{below}", self.collection);
        self.http.call(method, &path, body, &[404])
    }

    /// As `ask`, for somebody who waits for the answer.
    fn look(&self, method: Method, below: &str, body: Option<&str>) -> Result<Reply> {
        let path = format!("/collections/{}{below}", self.collection);
        self.http.look(method, &path, body, &[404])
    }

    /// Makes the collection where it is not there, and checks it where it is.
    fn prepare(&self, dimension: usize) -> Result<()> {
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let _making = self.making.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut found = self.ask(Method::GET, "", None)?;
        if found.status == 404 {
            let body = json!({"vectors": {"size": dimension, "distance": "Cosine"}}).to_string();
            let path = format!("/collections/{}", self.collection);
            // 409, or 400 before 1.12: somebody else was faster; it is checked below.
            self.http.call(Method::PUT, &path, Some(&body), &[400, 409])?;
            found = self.ask(Method::GET, "", None)?;
        }
        let vectors = &found.json["result"]["config"]["params"]["vectors"];
        if vectors["size"].as_u64() != Some(dimension as u64) || vectors["distance"] != "Cosine" {
            let what = format!(
                "collection `{}` has vectors {vectors}, and {dimension} parts by Cosine are needed",
                self.collection
            );
            return Err(failed(&self.name, what));
        }
        for (field, schema) in [
            ("session_key", json!({"type": "keyword", "is_tenant": true})),
            ("tags", json!({"type": "keyword"})),
        ] {
            let body = json!({"field_name": field, "field_schema": schema}).to_string();
            self.done(self.ask(Method::PUT, "/index?wait=true", Some(&body))?)?;
        }
        self.is_ready.store(true, Ordering::Release);
        Ok(())
    }

    /// The answer of a call that needs the collection.
    fn done(&self, reply: Reply) -> Result<Value> {
        if reply.status == 404 {
            self.is_ready.store(false, Ordering::Release);
            return Err(failed(&self.name, format!("collection `{}` is gone", self.collection)));
        }
        Ok(reply.json)
    }

    fn of(session: &str, tags: &[Tag]) -> Value {
        let must = |key: &str, value: String| json!({"key": key, "match": {"value": value}});
        let mut all = vec![must("session_key", session_key(session))];
        all.extend(tags.iter().map(|tag| must("tags", tag.hex())));
        json!({"must": all})
    }
}

impl Tier for Qdrant {
    fn name(&self) -> &str {
        &self.name
    }

    fn put(&self, session: &str, batch: &[Cold]) -> Result<()> {
        let Some(first) = batch.first() else { return Ok(()) };
        self.prepare(first.vector.dimension())?;
        let point_of = |cold: &Cold| {
            let vector: Vec<f32> = cold.vector.parts().collect();
            let payload = wire::payload(session, cold);
            json!({"id": point(session, cold.id), "vector": vector, "payload": payload}).to_string()
        };
        for points in lists(batch.iter().map(point_of).collect(), POINTS_MAX, BYTES_MAX) {
            let body = format!(r#"{{"points":[{points}]}}"#);
            self.done(self.ask(Method::PUT, "/points?wait=true", Some(&body))?)?;
        }
        Ok(())
    }

    fn fetch(&self, session: &str, ids: &[EntryId]) -> Result<Vec<Cold>> {
        let (key, mut found) = (session_key(session), Vec::new());
        for ids in ids.chunks(POINTS_MAX) {
            let ids: Vec<_> = ids.iter().map(|id| point(session, *id)).collect();
            let body = json!({"ids": ids, "with_payload": true, "with_vector": true}).to_string();
            let reply = self.look(Method::POST, "/points", Some(&body))?;
            for point in reply.json["result"].as_array().into_iter().flatten() {
                let id = wire::entry(&self.name, &key, &point["payload"])?;
                found.push(wire::cold(&self.name, id, &point["payload"], &point["vector"])?);
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
        let key = session_key(session);
        let body = json!({
            "query": vector,
            "filter": Self::of(session, tags),
            "limit": top_k,
            "with_payload": ["session_key", "entry"],
        });
        let reply = self.look(Method::POST, "/points/query", Some(&body.to_string()))?;
        let points = reply.json["result"]["points"].as_array();
        wire::nearest(&self.name, points.into_iter().flatten(), |point| {
            let id = wire::entry(&self.name, &key, &point["payload"])?;
            Ok((id, point["score"].as_f64()))
        })
    }

    fn delete(&self, session: &str, ids: &[EntryId]) -> Result<()> {
        for ids in ids.chunks(POINTS_MAX) {
            let points: Vec<_> = ids.iter().map(|id| point(session, *id)).collect();
            let body = json!({"points": points}).to_string();
            self.ask(Method::POST, "/points/delete?wait=true", Some(&body))?;
        }
        Ok(())
    }

    fn delete_session(&self, session: &str) -> Result<()> {
        let body = json!({"filter": Self::of(session, &[])}).to_string();
        self.ask(Method::POST, "/points/delete?wait=true", Some(&body)).map(drop)
    }

    fn count(&self, session: &str) -> Result<u64> {
        let body = json!({"filter": Self::of(session, &[]), "exact": true}).to_string();
        let reply = self.look(Method::POST, "/points/count", Some(&body))?;
        Ok(reply.json["result"]["count"].as_u64().unwrap_or(0))
    }

    fn health(&self) -> Result<()> {
        self.look(Method::GET, "", None).map(drop)
    }
}
