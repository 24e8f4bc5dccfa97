//! Which memories a search may see, by their metadata: equality, sets, ranges, and what is made of them.
//!
//! A filter is a JSON object in the manner of the vector stores (Pinecone, Chroma, MongoDB):
//! `{"kind": "fact", "year": {"$gte": 2020}, "$or": [{"by": "ada"}, {"by": {"$exists": false}}]}`.
//! All of its names must fit. It is read once, before the search; what it does not know it refuses.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::{Error, Result};

/// Longest filter as JSON, in bytes.
const FILTER_MAX: usize = 64 << 10;
const OPERATORS: &str =
    "$eq $ne $in $nin $gt $gte $lt $lte $exists, and $and $or $not over filters";

/// Conditions that a memory's metadata meets or does not. The default lets everything through.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetadataFilter(Vec<Condition>);

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    Field(String, Test),
    All(Vec<MetadataFilter>),
    Any(Vec<MetadataFilter>),
    Not(MetadataFilter),
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    In(Vec<Value>),
    NotIn(Vec<Value>),
    /// In the order to the bound: one of these.
    Ordered(&'static [Ordering], Value),
    Exists(bool),
}

impl MetadataFilter {
    /// Reads a filter from JSON.
    ///
    /// # Errors
    /// `memory.filter`
    pub fn parse(json: &str) -> Result<Self> {
        if json.len() > FILTER_MAX {
            let message =
                format!("the filter has {} bytes, and {FILTER_MAX} are allowed", json.len());
            return Err(refused(message, "filter by a name that is given to all of them"));
        }
        match serde_json::from_str(json) {
            Ok(Value::Object(fields)) => Self::of(fields),
            _ => {
                Err(refused("the filter is no JSON object", "pass a dict of plain values by names"))
            }
        }
    }

    fn of(fields: Map<String, Value>) -> Result<Self> {
        let mut conditions = Vec::new();
        for (name, wanted) in fields {
            match name.as_str() {
                "$and" => conditions.push(Condition::All(filters(&name, wanted)?)),
                "$or" => conditions.push(Condition::Any(filters(&name, wanted)?)),
                "$not" => conditions.push(Condition::Not(filter(&name, wanted)?)),
                _ if name.starts_with('$') => return Err(unknown(&name)),
                _ => {
                    let tests = tests(&name, wanted)?.into_iter();
                    conditions.extend(tests.map(|test| Condition::Field(name.clone(), test)));
                }
            }
        }
        Ok(Self(conditions))
    }

    /// Whether it lets everything through.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values that every metadata it lets through has, or has in a list: a coarse filter for
    /// those who know no other. Large numbers are left out, for they are equal to others nearby.
    pub fn musts(&self) -> Map<String, Value> {
        let mut musts = Map::new();
        for condition in &self.0 {
            match condition {
                Condition::Field(name, Test::In(wanted)) => {
                    let is_sharp = |value: &Value| {
                        value.as_f64().is_none_or(|number| number.abs() < 9_007_199_254_740_992.0)
                    };
                    if let [value] = &wanted[..]
                        && is_sharp(value)
                    {
                        musts.insert(name.clone(), value.clone());
                    }
                }
                Condition::All(filters) => musts.extend(filters.iter().flat_map(Self::musts)),
                _ => {}
            }
        }
        musts
    }

    /// Whether metadata meets every condition; `None` is none at all.
    pub fn shows(&self, metadata: Option<&Map<String, Value>>) -> bool {
        self.0.iter().all(|condition| match condition {
            Condition::Field(name, test) => test.meets(metadata.and_then(|it| it.get(name))),
            Condition::All(filters) => filters.iter().all(|filter| filter.shows(metadata)),
            Condition::Any(filters) => filters.iter().any(|filter| filter.shows(metadata)),
            Condition::Not(filter) => !filter.shows(metadata),
        })
    }
}

/// What follows a name: `{"$gte": 1, "$lt": 9}`, or a value that it must have.
fn tests(name: &str, wanted: Value) -> Result<Vec<Test>> {
    let is_operator = |key: &String| key.starts_with('$');
    match wanted {
        Value::Object(asked) if asked.keys().any(is_operator) => {
            if let Some(plain) = asked.keys().find(|key| !is_operator(key)) {
                let message =
                    format!("the filter of `{name}` mixes operators and the name `{plain}`");
                return Err(refused(
                    message,
                    "an object is a value if no name in it begins with $",
                ));
            }
            asked.into_iter().map(|(operator, value)| test(name, &operator, value)).collect()
        }
        value => Ok(vec![Test::In(vec![value])]),
    }
}

fn test(name: &str, operator: &str, value: Value) -> Result<Test> {
    use Ordering::{Equal, Greater, Less};
    let ordered = |orders: &'static [Ordering], value: Value| {
        if value.is_number() || value.is_string() {
            return Ok(Test::Ordered(orders, value));
        }
        let message = format!("`{operator}` of `{name}` is given {value}");
        Err(refused(message, "numbers and texts have an order; dates do as texts in ISO 8601"))
    };
    match operator {
        "$eq" => Ok(Test::In(vec![value])),
        "$ne" => Ok(Test::NotIn(vec![value])),
        "$in" => Ok(Test::In(list(name, operator, value)?)),
        "$nin" => Ok(Test::NotIn(list(name, operator, value)?)),
        "$gt" => ordered(&[Greater], value),
        "$gte" => ordered(&[Greater, Equal], value),
        "$lt" => ordered(&[Less], value),
        "$lte" => ordered(&[Less, Equal], value),
        "$exists" => match value {
            Value::Bool(wanted) => Ok(Test::Exists(wanted)),
            _ => {
                let message = format!("`$exists` of `{name}` is given {value}");
                Err(refused(message, "write true or false"))
            }
        },
        _ => Err(unknown(operator)),
    }
}

impl Test {
    /// A list has a value where one of its items has it, or where it is that list.
    fn meets(&self, found: Option<&Value>) -> bool {
        let any = |fits: &dyn Fn(&Value) -> bool| match found {
            Some(Value::Array(items)) => items.iter().any(fits) || found.is_some_and(fits),
            Some(value) => fits(value),
            None => false,
        };
        match self {
            Self::In(wanted) => any(&|value| wanted.iter().any(|it| equal(it, value))),
            Self::NotIn(wanted) => !any(&|value| wanted.iter().any(|it| equal(it, value))),
            Self::Ordered(orders, bound) => {
                any(&|value| order(value, bound).is_some_and(|order| orders.contains(&order)))
            }
            Self::Exists(wanted) => found.is_some() == *wanted,
        }
    }
}

/// 1 and 1.0 are the same number.
fn equal(one: &Value, other: &Value) -> bool {
    one == other || (one.is_number() && order(one, other) == Some(Ordering::Equal))
}

/// `None` where they are not of one kind.
fn order(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => match (one.as_u64(), other.as_u64()) {
                (Some(one), Some(other)) => Some(one.cmp(&other)),
                _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
            },
        },
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        _ => None,
    }
}

fn filter(operator: &str, value: Value) -> Result<MetadataFilter> {
    match value {
        Value::Object(fields) => MetadataFilter::of(fields),
        _ => Err(refused(format!("`{operator}` is given {value}"), "give it a filter")),
    }
}

fn filters(operator: &str, value: Value) -> Result<Vec<MetadataFilter>> {
    match value {
        Value::Array(items) if !items.is_empty() => {
            items.into_iter().map(|item| filter(operator, item)).collect()
        }
        _ => Err(refused(format!("`{operator}` is given {value}"), "give it a list of filters")),
    }
}

fn list(name: &str, operator: &str, value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        _ => {
            let message = format!("`{operator}` of `{name}` is given {value}");
            Err(refused(message, "give it a list of values"))
        }
    }
}

fn unknown(operator: &str) -> Error {
    refused(format!("there is no operator `{operator}`"), format!("known are {OPERATORS}"))
}

fn refused(message: impl Into<String>, help: impl Into<String>) -> Error {
    Error::new("memory.filter", message, help)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shows(filter: &Value, metadata: &Value) -> bool {
        let filter = MetadataFilter::parse(&filter.to_string()).expect("a filter");
        filter.shows(metadata.as_object())
    }

    #[test]
    fn every_operator_means_what_it_says() {
        let it = json!({"kind": "fact", "year": 2024, "score": 0.5, "tags": ["a", "b"],
            "who": {"name": "ada"}, "none": null, "day": "2024-05-01"});
        for (filter, wanted) in [
            (json!({}), true),
            (json!({"kind": "fact"}), true),
            (json!({"kind": "fact", "year": 2023}), false),
            (json!({"year": 2024.0}), true),
            (json!({"who": {"name": "ada"}}), true),
            (json!({"who": {}}), false),
            (json!({"none": null}), true),
            (json!({"missing": null}), false),
            (json!({"tags": "a"}), true),
            (json!({"tags": ["a", "b"]}), true),
            (json!({"tags": ["b", "a"]}), false),
            (json!({"kind": {"$eq": "fact"}}), true),
            (json!({"kind": {"$ne": "fact"}}), false),
            (json!({"missing": {"$ne": "fact"}}), true),
            (json!({"kind": {"$in": ["taste", "fact"]}}), true),
            (json!({"kind": {"$in": []}}), false),
            (json!({"kind": {"$nin": ["taste"]}}), true),
            (json!({"tags": {"$in": ["b", "c"]}}), true),
            (json!({"tags": {"$nin": ["b", "c"]}}), false),
            (json!({"year": {"$gt": 2023, "$lt": 2025}}), true),
            (json!({"year": {"$gt": 2024}}), false),
            (json!({"year": {"$gte": 2024, "$lte": 2024.5}}), true),
            (json!({"year": {"$lt": "2025"}}), false),
            (json!({"score": {"$gt": 0}}), true),
            (json!({"day": {"$gte": "2024-04-30"}}), true),
            (json!({"missing": {"$lt": 9}}), false),
            (json!({"kind": {"$exists": true}}), true),
            (json!({"missing": {"$exists": false}}), true),
            (json!({"none": {"$exists": true}}), true),
            (json!({"$or": [{"kind": "taste"}, {"year": {"$gt": 2000}}]}), true),
            (json!({"$and": [{"kind": "taste"}, {"year": {"$gt": 2000}}]}), false),
            (json!({"$not": {"kind": "taste"}}), true),
        ] {
            assert_eq!(shows(&filter, &it), wanted, "{filter}");
        }
        assert!(!shows(&json!({"kind": "fact"}), &Value::Null));
        assert!(shows(&json!({"kind": {"$exists": false}}), &Value::Null));
    }

    #[test]
    fn large_whole_numbers_are_not_rounded() {
        let it = json!({"n": u64::MAX});
        assert!(!shows(&json!({"n": u64::MAX - 1}), &it));
        assert!(shows(&json!({"n": {"$gt": u64::MAX - 1}}), &it));
        assert!(shows(&json!({"n": {"$gt": -1}}), &it));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for filter in [
            json!([1]),
            json!({"$near": 1}),
            json!({"year": {"$regex": "x"}}),
            json!({"year": {"$gt": 1, "low": 2}}),
            json!({"year": {"$gt": [1]}}),
            json!({"year": {"$lt": null}}),
            json!({"year": {"$in": 1}}),
            json!({"year": {"$exists": 1}}),
            json!({"$or": []}),
            json!({"$and": {"a": 1}}),
            json!({"$not": 3}),
            json!({"x": "y".repeat(FILTER_MAX)}),
        ] {
            let error = MetadataFilter::parse(&filter.to_string()).expect_err("a refusal");
            assert_eq!(error.code, "memory.filter", "{filter}");
        }
    }
}
