//! What a tier is, as one suite that every tier passes; beside it what is each one's own.
//!
//! The three databases are stood in for by servers inside the test, as strict as the real ones: what
//! those refuse, these refuse.

mod conformance;
mod files;
mod graphql;
mod http;
mod pinecone;
mod qdrant;
mod server;
mod weaviate;

use std::time::Duration;

use super::{Cold, Remote, Secret, Tier};
use crate::model::{Content, EntryId, Vector};

pub(super) const KEY: &str = "k-3f9a-very-secret";

pub(super) fn id(number: u128) -> EntryId {
    EntryId::from_u128(number)
}

/// A memory whose vector points at `angle` degrees in a plane.
pub(super) fn at(number: u128, angle: f32) -> Cold {
    let (sin, cos) = angle.to_radians().sin_cos();
    Cold {
        id: id(number),
        content: Content::Text(format!("fact {number}")),
        vector: Vector::new(&[cos, sin, 0.0]),
        tags: Vec::new(),
    }
}

pub(super) fn ray(angle: f32) -> Vec<f32> {
    let (sin, cos) = angle.to_radians().sin_cos();
    vec![cos, sin, 0.0]
}

/// A server of the test's, asked without pauses.
pub(super) fn remote(url: &str) -> Remote {
    Remote { backoff: Duration::ZERO, ..Remote::new(url, Some(Secret::new(KEY))) }
}

pub(super) fn code<T: std::fmt::Debug>(answer: crate::model::Result<T>) -> String {
    let error = answer.expect_err("a refusal");
    assert_eq!(error.code, "memory.tier");
    assert!(!format!("{error:?}").contains(KEY), "a key shows: {error:?}");
    error.message
}
