//! Qdrant: the suite on a server that refuses what Qdrant refuses, and what the client makes of faults.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::conformance::suite;
use super::server::{Answer, Asked, Fault, Server, cosine, fields, numbers, text, texts};
use super::*;
use crate::tier::Qdrant;

struct Point {
    vector: Vec<f32>,
    payload: Value,
}

#[derive(Default)]
struct Collection {
    size: usize,
    indexes: Vec<String>,
    points: BTreeMap<String, Point>,
}

type Said = Result<Value, Answer>;

fn bad(what: impl Into<String>) -> Answer {
    Answer::new(
        400,
        json!({"status": {"error": format!("Format error in JSON body: {}", what.into())}}),
    )
}

fn is_uuid(text: &str) -> bool {
    let lens: Vec<_> = text.split('-').map(str::len).collect();
    lens == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

impl Collection {
    fn matches(&self, filter: &Value, point: &Point) -> Result<bool, Answer> {
        let filter = fields(filter, &["must"], &["should", "must_not"]).map_err(bad)?;
        let mut all = true;
        for condition in filter["must"].as_array().ok_or_else(|| bad("must is no list"))? {
            let condition = fields(condition, &["key", "match"], &[]).map_err(bad)?;
            let key = text(&condition["key"]).map_err(bad)?;
            let wanted = &fields(&condition["match"], &["value"], &[]).map_err(bad)?["value"];
            if !self.indexes.iter().any(|index| index == key) {
                return Err(bad(format!("Index required but not found for \"{key}\"")));
            }
            let own = &point.payload[key];
            let is_in = own.as_array().is_some_and(|list| list.contains(wanted));
            all = all && (own == wanted || is_in);
        }
        Ok(all)
    }

    fn put(&mut self, body: &Value) -> Said {
        let body = fields(body, &["points"], &["shard_key"]).map_err(bad)?;
        for point in body["points"].as_array().ok_or_else(|| bad("points is no list"))? {
            let point = fields(point, &["id", "vector"], &["payload"]).map_err(bad)?;
            let id = text(&point["id"]).map_err(bad)?;
            let vector = numbers(&point["vector"]).map_err(bad)?;
            if !is_uuid(id) {
                return Err(bad(format!("value {id} is not a valid point ID")));
            }
            if vector.len() != self.size {
                let what = format!(
                    "Vector dimension error: expected dim: {}, got {}",
                    self.size,
                    vector.len()
                );
                return Err(Answer::new(400, json!({"status": {"error": what}})));
            }
            self.points.insert(id.into(), Point { vector, payload: point["payload"].clone() });
        }
        Ok(json!({"operation_id": 1, "status": "completed"}))
    }

    fn show(id: &str, point: &Point, with: &Value) -> Value {
        let payload = match with {
            Value::Array(names) => {
                let pair = |name: &Value| {
                    let name = name.as_str().expect("a name");
                    (name.to_owned(), point.payload[name].clone())
                };
                Value::Object(names.iter().map(pair).collect())
            }
            Value::Bool(true) => point.payload.clone(),
            _ => Value::Null,
        };
        json!({"id": id, "payload": payload})
    }

    fn retrieve(&self, body: &Value) -> Said {
        let body = fields(body, &["ids"], &["with_payload", "with_vector"]).map_err(bad)?;
        let mut found = Vec::new();
        for id in texts(&body["ids"]).map_err(bad)? {
            if !is_uuid(id) {
                return Err(bad("no point ID"));
            }
            if let Some(point) = self.points.get(id) {
                let mut shown = Self::show(id, point, &body["with_payload"]);
                shown["vector"] = json!(point.vector);
                // Each once, as the real one does.
                if !found.contains(&shown) {
                    found.push(shown);
                }
            }
        }
        Ok(found.into())
    }

    fn query(&self, body: &Value) -> Said {
        let may = ["with_payload", "with_vector", "params", "score_threshold", "offset"];
        let body = fields(body, &["query", "filter", "limit"], &may).map_err(bad)?;
        let query = numbers(&body["query"]).map_err(bad)?;
        let limit = body["limit"].as_u64().filter(|limit| *limit > 0);
        let limit = limit.ok_or_else(|| bad("limit must be 1 or larger"))?;
        if query.len() != self.size {
            return Err(bad("Vector dimension error"));
        }
        let mut found = Vec::new();
        for (id, point) in &self.points {
            if self.matches(&body["filter"], point)? {
                found.push((cosine(&query, &point.vector), id, point));
            }
        }
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        found.truncate(limit as usize);
        let show = |(score, id, point): (f32, &String, &Point)| {
            let mut shown = Self::show(id, point, &body["with_payload"]);
            shown["score"] = json!(score);
            shown["version"] = json!(1);
            shown
        };
        Ok(json!({"points": found.into_iter().map(show).collect::<Vec<_>>()}))
    }

    fn delete(&mut self, body: &Value) -> Said {
        if body.get("points").is_some() {
            for id in texts(&fields(body, &["points"], &[]).map_err(bad)?["points"]).map_err(bad)? {
                self.points.remove(id);
            }
        } else {
            let filter = &fields(body, &["filter"], &[]).map_err(bad)?["filter"];
            let mut gone = Vec::new();
            for (id, point) in &self.points {
                if self.matches(filter, point)? {
                    gone.push(id.clone());
                }
            }
            gone.iter().for_each(|id| drop(self.points.remove(id)));
        }
        Ok(json!({"operation_id": 2, "status": "completed"}))
    }

    fn count(&self, body: &Value) -> Said {
        let body = fields(body, &["filter"], &["exact"]).map_err(bad)?;
        let mut count = 0;
        for point in self.points.values() {
            count += u64::from(self.matches(&body["filter"], point)?);
        }
        Ok(json!({"count": count}))
    }

    fn about(&self) -> Value {
        json!({"status": "green", "config": {"params": {
            "vectors": {"size": self.size, "distance": "Cosine"},
        }}, "points_count": self.points.len()})
    }
}

fn answer(all: &mut BTreeMap<String, Collection>, asked: &Asked) -> Said {
    if asked.header("api-key") != Some(KEY) {
        return Err(Answer::new(
            401,
            json!("Must provide an API key or an Authorization bearer token"),
        ));
    }
    if asked.body.len() > 32 << 20 {
        return Err(Answer::new(413, json!("payload too large")));
    }
    let path =
        asked.path.strip_prefix("/collections/").ok_or_else(|| Answer::new(404, json!(null)))?;
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    if asked.method == "PUT" && rest.is_empty() {
        let body = asked.json()?;
        let vectors = &fields(&body, &["vectors"], &[]).map_err(bad)?["vectors"];
        let vectors = fields(vectors, &["size", "distance"], &[]).map_err(bad)?;
        if vectors["distance"] != "Cosine" {
            return Err(bad("unknown distance"));
        }
        if all.contains_key(name) {
            let what = format!("Wrong input: Collection `{name}` already exists!");
            return Err(Answer::new(409, json!({"status": {"error": what}})));
        }
        let size = vectors["size"].as_u64().expect("a size") as usize;
        all.insert(name.into(), Collection { size, ..Collection::default() });
        return Ok(json!(true));
    }
    let what = format!("Not found: Collection `{name}` doesn't exist!");
    let gone = || Answer::new(404, json!({"status": {"error": what}}));
    let collection = all.get_mut(name).ok_or_else(gone)?;
    let writes = asked.method == "PUT" || rest == "points/delete";
    if writes && asked.asks("wait") != ["true"] {
        return Err(bad("the test wants writes to be waited for"));
    }
    match (asked.method.as_str(), rest) {
        ("GET", "") => Ok(collection.about()),
        ("PUT", "index") => {
            let body = asked.json()?;
            let body = fields(&body, &["field_name", "field_schema"], &[]).map_err(bad)?;
            let schema = fields(&body["field_schema"], &["type"], &["is_tenant"]).map_err(bad)?;
            if schema["type"] != "keyword" {
                return Err(bad("the test knows keywords only"));
            }
            collection.indexes.push(text(&body["field_name"]).map_err(bad)?.into());
            Ok(json!({"status": "completed"}))
        }
        ("PUT", "points") => collection.put(&asked.json()?),
        ("POST", "points") => collection.retrieve(&asked.json()?),
        ("POST", "points/query") => collection.query(&asked.json()?),
        ("POST", "points/delete") => collection.delete(&asked.json()?),
        ("POST", "points/count") => collection.count(&asked.json()?),
        _ => Err(Answer::new(404, json!(null))),
    }
}

pub(super) fn server() -> Server {
    let all = Mutex::new(BTreeMap::new());
    Server::new(move |asked| match answer(&mut all.lock().expect("sound"), asked) {
        Ok(result) => Answer::ok(json!({"result": result, "status": "ok", "time": 0.001})),
        Err(answer) => answer,
    })
}

fn tier(server: &Server) -> Qdrant {
    Qdrant::new("qdrant", remote(&server.url), "goclaw").expect("a tier")
}

#[test]
fn qdrant_is_a_tier() {
    let servers = Mutex::new(Vec::new());
    suite(&|| {
        let server = server();
        let made = Box::new(tier(&server));
        servers.lock().expect("sound").push(server);
        made
    });
}

/// The server inside this test is a likeness; this is the thing itself. Start one, and
/// `GOCLAW_TEST_QDRANT=http://127.0.0.1:6333 cargo test --lib real_qdrant -- --ignored`.
#[test]
#[ignore = "needs a Qdrant server, which GOCLAW_TEST_QDRANT names"]
fn a_real_qdrant_is_a_tier() {
    let url = std::env::var("GOCLAW_TEST_QDRANT").expect("where the server is");
    let made = AtomicUsize::new(0);
    suite(&|| {
        let number = made.fetch_add(1, Ordering::Relaxed);
        let collection = format!("goclaw-test-{}-{number}", std::process::id());
        let tier = Qdrant::new("qdrant", remote(&url), &collection);
        Box::new(tier.expect("a tier"))
    });
}

#[test]
fn a_collection_of_another_shape_is_refused() {
    let server = server();
    tier(&server).put("s", &[at(1, 0.0)]).expect("a put");
    let long = Cold { vector: Vector::new(&[1.0; 4]), ..at(2, 0.0) };
    let message = code(tier(&server).put("s", &[long]));
    assert!(message.contains("4 parts") && message.contains("\"size\":3"), "{message}");
    let wrong = Remote { key: Some(Secret::new("other")), ..remote(&server.url) };
    let wrong = Qdrant::new("qdrant", wrong, "goclaw").expect("a tier");
    assert!(code(wrong.count("s")).contains("401"));
    assert_eq!(
        server.asked().iter().filter(|asked| asked.header("api-key") == Some("other")).count(),
        1
    );
    for name in ["", "a/b", "ä", "../x"] {
        assert!(Qdrant::new("qdrant", remote(&server.url), name).is_err(), "{name}");
    }
}

#[test]
fn a_put_whose_answer_is_lost_is_asked_again() {
    let server = server();
    let tier = tier(&server);
    tier.put("s", &[at(1, 0.0)]).expect("a put");
    server.fail([Fault::Lost, Fault::Answer(Answer::new(500, json!("oh")))]);
    tier.put("s", &[at(2, 0.0)]).expect("it came through");
    assert_eq!((tier.count("s").expect("a count"), server.faults_left()), (2, 0));
}
