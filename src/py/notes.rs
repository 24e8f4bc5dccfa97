//! Imports of notes as Python sees them: planned, then carried out once their texts have vectors.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use crate::memory::Import;

/// An import that was planned; it can be carried out once.
#[pyclass(frozen, name = "_Import", module = "goclaw._goclaw")]
pub(super) struct PyImport(Mutex<Option<Import>>);

impl PyImport {
    pub(super) fn new(import: Import) -> Self {
        Self(Mutex::new(Some(import)))
    }

    /// The import itself, once.
    pub(super) fn take(&self) -> Option<Import> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Import>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl PyImport {
    /// The texts that are to be memorized, in order.
    fn texts(&self) -> Vec<String> {
        let import = self.lock();
        import.iter().flat_map(Import::texts).map(str::to_owned).collect()
    }
}
