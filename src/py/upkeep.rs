//! Work on stores that are closed.

use std::path::PathBuf;

use pyo3::prelude::*;

use super::errors;
use crate::store::{self, Options};

/// Rewrites a closed store without what was deleted; answers its bytes before and after.
#[pyfunction]
pub(super) fn compact_store(py: Python<'_>, path: PathBuf) -> PyResult<(u64, u64)> {
    py.detach(|| store::compact(&path, &Options::default()))
        .map_err(|error| errors::raised(py, &error))
}
