//! An engine's lanes as Python sees them.

use std::sync::{PoisonError, RwLock};

use crate::model::LaneSpec;

/// The lanes of an engine as they were declared, for the compiler.
#[derive(Debug, Default)]
pub(super) struct LaneBook(RwLock<Vec<LaneSpec>>);

impl LaneBook {
    pub(super) fn new(specs: Vec<LaneSpec>) -> Self {
        Self(RwLock::new(specs))
    }

    pub(super) fn specs(&self) -> Vec<LaneSpec> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
