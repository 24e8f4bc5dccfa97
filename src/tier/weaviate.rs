//! Weaviate over its REST API; searches and look-ups over GraphQL (1.23 or later).
//!
//! The REST interface can write and delete, and has no search by a vector that the caller brings; GraphQL has.
//! Weaviate means to take GraphQL away (Weaviate Cloud makes new clusters without it): such a server
//! refuses with an error that says so. One collection without a vectorizer, made at the first put. Everything
//! that goes into a query is a number, or letters and digits of our own making.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use ureq::http::Method;

use super::cold::{Cold, Found, Tag, Tier, failed, point, session_key};
use super::http::{Http, Remote, Secret, lists};
use super::wire;
use crate::model::{EntryId, Result};

const OBJECTS_MAX: usize = 200;
const BYTES_MAX: usize = 8 << 20;
/// `QUERY_MAXIMUM_RESULTS` of a server that was not told otherwise.
const RESULTS_MAX: usize = 10_000;

/// A collection of a Weaviate server.
#[derive(Debug)]
pub struct Weaviate {
    name: String,
    collection: String,
    http: Http,
    is_ready: AtomicBool,
    making: Mutex<()>,
}

impl Weaviate {
    /// A collection of the server at `remote`; nothing is asked yet.
    ///
    /// # Errors
    /// `memory.tier` where the URL or the collection's name is none.
    pub fn new(name: &str, remote: Remote, collection: &str) -> Result<Self> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let starts = collection.starts_with(|c: char| c.is_ascii_uppercase());
        if !starts || collection.len() > 255 || !collection.chars().all(is_plain) {
            let what = format!("`{collection}` is no name of a collection, such as `Goclaw`");
            return Err(failed(name, what));
        }
        let bearer = |key: &Secret| ("authorization", key.bearer());
        let headers = remote.key.iter().map(bearer).collect();
        Ok(Self {
            name: name.to_owned(),
            collection: collection.to_owned(),
            http: Http::new(name, remote, headers)?,
            is_ready: AtomicBool::new(false),
            making: Mutex::new(()),
        })
    }

    fn schema(&self) -> Value {
        // `field` keeps a text whole; ours are letters and digits, so its trimming changes nothing.
        let text = |name: &str, kind: &str, is_asked: bool| {
            json!({
                "name": name,
                "dataType": [kind],
                "tokenization": "field",
                "indexFilterable": is_asked,
                "indexSearchable": false,
            })
        };
        json!({
            "class": self.collection,
            "vectorizer": "none",
            "vectorIndexType": "hnsw",
            "vectorIndexConfig": {"distance": "cosine"},
            "properties": [
                text("session", "text", false),
                text("session_key", "text", true),
                text("entry", "text", true),
                text("kind", "text", false),
                text("content", "text", false),
                text("tags", "text[]", true),
            ],
        })
    }

    /// Whether the collection is there: before the first put it is not.
    fn exists(&self) -> Result<bool> {
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(true);
        }
        let path = format!("/v1/schema/{}", self.collection);
        Ok(self.http.look(Method::GET, &path, None, &[404])?.status != 404)
    }

    fn prepare(&self) -> Result<()> {
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let _making = self.making.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let path = format!("/v1/schema/{}", self.collection);
        let mut found = self.http.call(Method::GET, &path, None, &[404])?;
        if found.status == 404 {
            let body = self.schema().to_string();
            // 422: somebody else was faster; it is checked below.
            self.http.call(Method::POST, "/v1/schema", Some(&body), &[422])?;
            found = self.http.call(Method::GET, &path, None, &[])?;
        }
        let has = |name: &str| {
            let all = found.json["properties"].as_array();
            all.is_some_and(|all| all.iter().any(|property| property["name"] == name))
        };
        if found.json["vectorIndexConfig"]["distance"] != "cosine"
            || !["session_key", "entry", "kind", "content", "tags"].iter().all(|name| has(name))
        {
            let what = format!("collection `{}` was not made by goclaw", self.collection);
            return Err(failed(&self.name, what));
        }
        self.is_ready.store(true, Ordering::Release);
        Ok(())
    }

    /// What GraphQL answers under `data.<root>.<collection>`.
    fn query(&self, root: &str, rest: &str) -> Result<Vec<Value>> {
        if !self.exists()? {
            return Ok(Vec::new());
        }
        let query = format!("{{ {root} {{ {}{rest} }} }}", self.collection);
        let body = json!({"query": query}).to_string();
        // Where it is switched off, 422 says so.
        let mut reply = self.http.look(Method::POST, "/v1/graphql", Some(&body), &[422])?;
        let of_server = reply.json["error"].as_array();
        if let Some(error) = reply.json["errors"].as_array().or(of_server).and_then(|it| it.first())
        {
            let text = error["message"].as_str().unwrap_or("an error without a message");
            return Err(failed(&self.name, format!("GraphQL: {text}")));
        }
        match reply.json["data"][root][&self.collection].take() {
            Value::Array(found) => Ok(found),
            _ => Err(failed(&self.name, "GraphQL: an answer without data")),
        }
    }

    /// A filter in GraphQL's words. Whatever stands in it is of our own making.
    fn where_(session: &str, tags: &[Tag], ids: &[EntryId]) -> String {
        let session = session_key(session);
        let mut all =
            vec![format!(r#"{{path:["session_key"],operator:Equal,valueText:"{session}"}}"#)];
        let list = |texts: Vec<String>| texts.join(r#"",""#);
        if !tags.is_empty() {
            let tags = list(tags.iter().map(Tag::hex).collect());
            all.push(format!(r#"{{path:["tags"],operator:ContainsAll,valueText:["{tags}"]}}"#));
        }
        if !ids.is_empty() {
            let ids = list(ids.iter().map(ToString::to_string).collect());
            all.push(format!(r#"{{path:["entry"],operator:ContainsAny,valueText:["{ids}"]}}"#));
        }
        format!("where:{{operator:And,operands:[{}]}}", all.join(","))
    }

    /// Deletes what a filter matches, a server's greatest number at a time.
    fn erase(&self, filter: &Value) -> Result<()> {
        if !self.exists()? {
            return Ok(());
        }
        let body = json!({
            "match": {"class": self.collection, "where": filter},
            "output": "minimal",
            "dryRun": false,
        });
        let body = body.to_string();
        loop {
            let reply = self.http.call(Method::DELETE, "/v1/batch/objects", Some(&body), &[])?;
            let results = &reply.json["results"];
            if results["failed"].as_u64().unwrap_or(0) > 0 {
                return Err(failed(&self.name, format!("{} were not deleted", results["failed"])));
            }
            let done = results["successful"].as_u64().unwrap_or(0);
            if done == 0 || results["matches"].as_u64().unwrap_or(0) < RESULTS_MAX as u64 {
                return Ok(());
            }
        }
    }
}

/// A condition in the words of the REST interface.
fn condition(path: &str, operator: &str, kind: &str, value: Value) -> Value {
    json!({"path": [path], "operator": operator, kind: value})
}

impl Tier for Weaviate {
    fn name(&self) -> &str {
        &self.name
    }

    fn put(&self, session: &str, batch: &[Cold]) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.prepare()?;
        let object = |cold: &Cold| {
            let vector: Vec<f32> = cold.vector.parts().collect();
            json!({
                "class": self.collection,
                "id": point(session, cold.id),
                "properties": wire::payload(session, cold),
                "vector": vector,
            })
            .to_string()
        };
        for objects in lists(batch.iter().map(object).collect(), OBJECTS_MAX, BYTES_MAX) {
            let body = format!(r#"{{"objects":[{objects}]}}"#);
            let reply = self.http.call(Method::POST, "/v1/batch/objects", Some(&body), &[])?;
            // 200 says that the batch was read; each object has an answer of its own.
            for object in reply.json.as_array().into_iter().flatten() {
                let result = &object["result"];
                if !result["errors"].is_null() || result["status"] == "FAILED" {
                    self.is_ready.store(false, Ordering::Release);
                    return Err(failed(&self.name, format!("refused: {}", result["errors"])));
                }
            }
        }
        Ok(())
    }

    fn fetch(&self, session: &str, ids: &[EntryId]) -> Result<Vec<Cold>> {
        let (key, mut found) = (session_key(session), Vec::new());
        for ids in ids.chunks(OBJECTS_MAX) {
            let filter = Self::where_(session, &[], ids);
            let fields = "session_key entry kind content tags _additional{vector}";
            let rest = format!("(limit:{},{filter}){{{fields}}}", ids.len());
            for object in self.query("Get", &rest)? {
                let id = wire::entry(&self.name, &key, &object)?;
                let vector = &object["_additional"]["vector"];
                found.push(wire::cold(&self.name, id, &object, vector)?);
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
        let (key, filter) = (session_key(session), Self::where_(session, tags, &[]));
        let (limit, vector) = (top_k.min(RESULTS_MAX), json!(vector));
        let rest = format!(
            "(limit:{limit},nearVector:{{vector:{vector}}},{filter}){{session_key entry _additional{{distance}}}}"
        );
        let found = self.query("Get", &rest)?;
        wire::nearest(&self.name, &found, |object| {
            let distance = object["_additional"]["distance"].as_f64();
            let id = wire::entry(&self.name, &key, object)?;
            Ok((id, distance.map(|distance| 1.0 - distance)))
        })
    }

    fn delete(&self, session: &str, ids: &[EntryId]) -> Result<()> {
        for ids in ids.chunks(OBJECTS_MAX) {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            let operands = [
                condition("session_key", "Equal", "valueText", session_key(session).into()),
                condition("entry", "ContainsAny", "valueTextArray", ids.into()),
            ];
            self.erase(&json!({"operator": "And", "operands": operands}))?;
        }
        Ok(())
    }

    fn delete_session(&self, session: &str) -> Result<()> {
        let key = session_key(session);
        self.erase(&condition("session_key", "Equal", "valueText", key.into()))
    }

    fn count(&self, session: &str) -> Result<u64> {
        let filter = Self::where_(session, &[], &[]);
        let found = self.query("Aggregate", &format!("({filter}){{meta{{count}}}}"))?;
        Ok(found.first().and_then(|it| it["meta"]["count"].as_u64()).unwrap_or(0))
    }

    fn health(&self) -> Result<()> {
        self.http.look(Method::GET, "/v1/.well-known/ready", None, &[]).map(drop)
    }
}
