//! Weaviate: the suite on a server that refuses what Weaviate refuses.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::conformance::suite;
use super::graphql::{self, Field};
use super::server::{Answer, Asked, Server, cosine, fields, numbers, text, texts};
use super::*;
use crate::tier::Weaviate;

/// The most that a server finds at once; small, so that more than one round is needed.
const RESULTS_MAX: usize = 10_000;

struct Object {
    properties: Value,
    vector: Vec<f32>,
}

struct Class {
    schema: Value,
    objects: BTreeMap<String, Object>,
}

type Classes = BTreeMap<String, Class>;
type Said = Result<Value, Answer>;

fn unprocessable(what: impl Into<String>) -> Answer {
    Answer::new(422, json!({"error": [{"message": what.into()}]}))
}

impl Class {
    fn property(&self, name: &str) -> Result<&Value, String> {
        let all = self.schema["properties"].as_array().into_iter().flatten();
        let found = all.clone().find(|property| property["name"] == name);
        found.ok_or_else(|| format!("no such prop with name '{name}' found in class"))
    }

    /// A condition of either interface: a list is `valueText` in GraphQL and `valueTextArray` in REST.
    fn matches(&self, filter: &Value, object: &Object, list: &str) -> Result<bool, String> {
        let operator = text(&filter["operator"])?.trim_start_matches("enum ");
        if operator == "And" {
            let all = fields(filter, &["operator", "operands"], &[])?["operands"].as_array();
            let mut is_true = true;
            for operand in all.ok_or("operands is no list")? {
                is_true = self.matches(operand, object, list)? && is_true;
            }
            return Ok(is_true);
        }
        let kind = if operator == "Equal" { "valueText" } else { list };
        let filter = fields(filter, &["operator", "path", kind], &[])?;
        let path = texts(&filter["path"])?;
        let [name] = path[..] else { return Err("a path of one name".into()) };
        let property = self.property(name)?;
        if property["indexFilterable"] != true {
            return Err(format!("Filtering by property '{name}' requires inverted index"));
        }
        let own = &object.properties[name];
        // `field` trims what it indexes and what it is asked for.
        let trimmed = |text: &str| text.trim().to_owned();
        let own: Vec<String> = match own {
            Value::Array(_) => texts(own)?.into_iter().map(trimmed).collect(),
            one => vec![trimmed(text(one)?)],
        };
        let wanted: Vec<String> = if operator == "Equal" {
            vec![trimmed(text(&filter[kind])?)]
        } else {
            texts(&filter[kind])?.into_iter().map(trimmed).collect()
        };
        match operator {
            "Equal" | "ContainsAny" => Ok(wanted.iter().any(|it| own.contains(it))),
            "ContainsAll" => Ok(wanted.iter().all(|it| own.contains(it))),
            other => Err(format!("unknown operator {other}")),
        }
    }

    fn find(&self, filter: &Value, list: &str) -> Result<Vec<(&String, &Object)>, String> {
        let mut found = Vec::new();
        for (id, object) in &self.objects {
            if self.matches(filter, object, list)? {
                found.push((id, object));
            }
        }
        Ok(found)
    }

    fn get(&self, field: &Field) -> Result<Value, String> {
        let arguments = Value::Object(field.arguments.clone());
        let arguments = fields(&arguments, &["limit", "where"], &["nearVector"])?;
        let limit = arguments["limit"].as_u64().ok_or("limit")? as usize;
        if limit == 0 || limit > RESULTS_MAX {
            return Err("query maximum results exceeded".into());
        }
        let mut found = self.find(&arguments["where"], "valueText")?;
        let near = arguments
            .get("nearVector")
            .map(|near| numbers(&fields(near, &["vector"], &[])?["vector"]));
        let near = near.transpose()?;
        let distance =
            |object: &Object| near.as_ref().map(|near| 1.0 - cosine(near, &object.vector));
        if let Some(near) = &near {
            if found.iter().any(|(_, object)| object.vector.len() != near.len()) {
                return Err("vector lengths don't match".into());
            }
            found.sort_by(|a, b| distance(a.1).partial_cmp(&distance(b.1)).expect("numbers"));
        }
        let mut shown = Vec::new();
        for (id, object) in found.into_iter().take(limit) {
            let mut row = json!({});
            for field in &field.fields {
                row[&field.name] = if field.name == "_additional" {
                    let mut extra = json!({});
                    for field in &field.fields {
                        extra[&field.name] = match field.name.as_str() {
                            "id" => json!(id),
                            "vector" => json!(object.vector),
                            "distance" => json!(distance(object)),
                            other => return Err(format!("Cannot query field \"{other}\"")),
                        };
                    }
                    extra
                } else {
                    self.property(&field.name)?;
                    object.properties[&field.name].clone()
                };
            }
            shown.push(row);
        }
        Ok(shown.into())
    }
}

fn graphql_of(all: &Classes, query: &str) -> Result<Value, String> {
    let roots = graphql::parse(query)?;
    let [root] = &roots[..] else { return Err("one root".into()) };
    let [field] = &root.fields[..] else { return Err("one class".into()) };
    let unknown = || format!("Cannot query field \"{}\" on type \"GetObjectsObj\".", field.name);
    let class = all.get(&field.name).ok_or_else(unknown)?;
    let said = match root.name.as_str() {
        "Get" => class.get(field)?,
        "Aggregate" => {
            let arguments = Value::Object(field.arguments.clone());
            let filter = &fields(&arguments, &["where"], &[])?["where"];
            json!([{"meta": {"count": class.find(filter, "valueText")?.len()}}])
        }
        other => return Err(format!("Cannot query field \"{other}\"")),
    };
    Ok(json!({&root.name: {&field.name: said}}))
}

fn put(all: &mut Classes, body: &Value) -> Said {
    let body = fields(body, &["objects"], &["fields"]).map_err(unprocessable)?;
    let mut said = Vec::new();
    for object in body["objects"].as_array().ok_or_else(|| unprocessable("objects is no list"))? {
        let done = (|| {
            let object = fields(object, &["class", "id", "properties", "vector"], &["tenant"])?;
            let class = all.get_mut(text(&object["class"])?).ok_or("class not found")?;
            let vector = numbers(&object["vector"])?;
            if class.objects.values().any(|other| other.vector.len() != vector.len()) {
                return Err("new node has a vector with another length".to_owned());
            }
            let properties = object["properties"].as_object().ok_or("properties is no object")?;
            for (name, value) in properties {
                match class.property(name)?["dataType"][0].as_str() {
                    Some("text") => drop(text(value)?),
                    Some("text[]") => drop(texts(value)?),
                    other => return Err(format!("unknown type {other:?}")),
                }
            }
            let new = Object { properties: object["properties"].clone(), vector };
            class.objects.insert(text(&object["id"])?.into(), new);
            Ok(())
        })();
        said.push(match done {
            Ok(()) => json!({"id": object["id"], "result": {"status": "SUCCESS"}}),
            Err(what) => {
                let errors = json!({"error": [{"message": what}]});
                json!({"id": object["id"], "result": {"status": "FAILED", "errors": errors}})
            }
        });
    }
    Ok(said.into())
}

fn erase(all: &mut Classes, body: &Value) -> Said {
    let body = fields(body, &["match"], &["output", "dryRun"]).map_err(unprocessable)?;
    let wanted = fields(&body["match"], &["class", "where"], &[]).map_err(unprocessable)?;
    let name = text(&wanted["class"]).map_err(unprocessable)?;
    let class =
        all.get_mut(name).ok_or_else(|| unprocessable(format!("failed to get class: {name}")))?;
    let found = class.find(&wanted["where"], "valueTextArray").map_err(unprocessable)?;
    let gone: Vec<String> = found.iter().map(|(id, _)| (*id).clone()).collect();
    let matches = gone.len().min(RESULTS_MAX);
    gone.iter().take(matches).for_each(|id| drop(class.objects.remove(id)));
    let results =
        json!({"matches": matches, "limit": RESULTS_MAX, "successful": matches, "failed": 0});
    Ok(json!({"match": body["match"], "output": "minimal", "results": results}))
}

fn answer(all: &mut Classes, asked: &Asked) -> Said {
    if asked.header("authorization") != Some(&format!("Bearer {KEY}")) {
        return Err(Answer::new(401, json!({"code": 401, "message": "invalid api key"})));
    }
    match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/v1/.well-known/ready") => Ok(Value::Null),
        ("POST", "/v1/schema") => {
            let body = asked.json()?;
            let must =
                ["class", "vectorizer", "vectorIndexType", "vectorIndexConfig", "properties"];
            let name = text(&fields(&body, &must, &[]).map_err(unprocessable)?["class"])
                .map_err(unprocessable)?;
            for property in body["properties"].as_array().into_iter().flatten() {
                let may = ["tokenization", "indexFilterable", "indexSearchable"];
                fields(property, &["name", "dataType"], &may).map_err(unprocessable)?;
            }
            if all.contains_key(name) {
                return Err(unprocessable(format!("class name {name} already exists")));
            }
            all.insert(name.into(), Class { schema: body.clone(), objects: BTreeMap::new() });
            Ok(body)
        }
        ("GET", path) => {
            let name = path.strip_prefix("/v1/schema/").unwrap_or_default();
            let class = all
                .get(name)
                .ok_or_else(|| Answer { body: String::new(), ..Answer::new(404, Value::Null) })?;
            Ok(class.schema.clone())
        }
        ("POST", "/v1/batch/objects") => put(all, &asked.json()?),
        ("DELETE", "/v1/batch/objects") => erase(all, &asked.json()?),
        ("POST", "/v1/graphql") => {
            let body = asked.json()?;
            let query = text(
                &fields(&body, &["query"], &["variables", "operationName"])
                    .map_err(unprocessable)?["query"],
            )
            .map_err(unprocessable)?;
            // What is wrong with a query is told with 200.
            Ok(match graphql_of(all, query) {
                Ok(data) => json!({"data": data}),
                Err(what) => json!({"data": null, "errors": [{"message": what}]}),
            })
        }
        _ => Err(Answer::new(404, Value::Null)),
    }
}

fn server() -> Server {
    let all = Mutex::new(Classes::new());
    Server::new(move |asked| match answer(&mut all.lock().expect("sound"), asked) {
        Ok(Value::Null) => Answer { body: String::new(), ..Answer::ok(Value::Null) },
        Ok(body) => Answer::ok(body),
        Err(answer) => answer,
    })
}

#[test]
fn weaviate_is_a_tier() {
    let servers = Mutex::new(Vec::new());
    suite(&|| {
        let server = server();
        let made = Weaviate::new("weaviate", remote(&server.url), "Goclaw").expect("a tier");
        servers.lock().expect("sound").push(server);
        Box::new(made)
    });
}

#[test]
fn a_weaviate_without_graphql_says_so() {
    let server = server();
    let tier = Weaviate::new("weaviate", remote(&server.url), "Goclaw").expect("a tier");
    tier.put("s", &[at(1, 0.0)]).expect("a put");
    server.fail([super::server::Fault::Answer(unprocessable("graphql api is disabled"))]);
    let message = code(tier.search("s", &ray(0.0), &[], 1));
    assert!(message.contains("graphql api is disabled"), "{message}");
    let long = Cold { vector: Vector::new(&[1.0; 4]), ..at(2, 0.0) };
    assert!(code(tier.put("s", &[long])).contains("another length"), "objects fail one by one");
    for name in ["goclaw", "", "A-b", "A{"] {
        assert!(Weaviate::new("weaviate", remote(&server.url), name).is_err(), "{name}");
    }
}

#[test]
fn the_reader_of_queries_reads_every_form() {
    let read = graphql::parse(
        r#"{ Get { A(limit:2,where:{path:["x"],operator:And,v:"a\"}"}){b _c{d}} } }"#,
    );
    let read = read.expect("it is one");
    let a = &read[0].fields[0];
    assert_eq!((a.name.as_str(), &a.arguments["limit"]), ("A", &json!(2)));
    assert_eq!(a.arguments["where"], json!({"path": ["x"], "operator": "enum And", "v": "a\"}"}));
    assert_eq!(a.fields[1].fields[0].name, "d");
    assert!(graphql::parse("{ Get { A(").is_err() && graphql::parse("{ }").is_err());
}
