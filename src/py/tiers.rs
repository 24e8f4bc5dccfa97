//! Cold tiers as Python describes them (`goclaw.tiers`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use serde::Deserialize;

use super::errors;
use super::plan::parse;
use crate::memory::{Cellar, Policy};
use crate::model::{Millis, Result};
use crate::tier::{Files, Pinecone, Qdrant, Remote, Secret, Tier, Weaviate};

/// Opens the tier that `_to_json` describes.
pub(super) fn open(py: Python<'_>, json: &str) -> PyResult<Cellar> {
    let asked: Asked = parse(py, json)?;
    py.detach(|| asked.open()).map_err(|error| errors::raised(py, &error))
}

/// A tier and what moves there. No `Debug`: it has a key.
#[derive(Deserialize)]
struct Asked {
    name: String,
    place: Place,
    moves: Option<AskedPolicy>,
    every_ms: Millis,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Place {
    Files { path: PathBuf },
    Qdrant { url: String, collection: String, api_key: Option<String>, timeout_ms: Millis },
    Weaviate { url: String, collection: String, api_key: Option<String>, timeout_ms: Millis },
    Pinecone { url: String, api_key: Option<String>, timeout_ms: Millis },
}

#[derive(Deserialize)]
struct AskedPolicy {
    below: Option<f64>,
    unused_ms: Option<Millis>,
    keep_max: Option<usize>,
}

impl Asked {
    fn open(self) -> Result<Cellar> {
        let name = &self.name;
        let tier: Arc<dyn Tier> = match self.place {
            Place::Files { path } => Arc::new(Files::open(&path, name)?),
            Place::Qdrant { url, collection, api_key, timeout_ms } => {
                Arc::new(Qdrant::new(name, remote(url, api_key, timeout_ms), &collection)?)
            }
            Place::Weaviate { url, collection, api_key, timeout_ms } => {
                Arc::new(Weaviate::new(name, remote(url, api_key, timeout_ms), &collection)?)
            }
            Place::Pinecone { url, api_key, timeout_ms } => {
                Arc::new(Pinecone::new(name, remote(url, api_key, timeout_ms))?)
            }
        };
        let policy = self.moves.map(|it| Policy {
            below: it.below,
            unused_for: it.unused_ms,
            keep_max: it.keep_max,
        });
        Ok(Cellar { tier, policy, every: Duration::from_millis(self.every_ms) })
    }
}

fn remote(url: String, key: Option<String>, timeout: Millis) -> Remote {
    let timeout = Duration::from_millis(timeout);
    Remote { timeout, patience: 3 * timeout, ..Remote::new(url, key.map(Secret::new)) }
}
